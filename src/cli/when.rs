//! Moments as people read them: the time itself, and how far off it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// `2026-11-22T15:04:05Z (3 min ago)`; the text alone if it is no such time.
pub fn past(text: &str, now: u64) -> String {
    match seconds(text) {
        Some(at) => format!("{text} ({} ago)", span(now.saturating_sub(at))),
        None => text.to_owned(),
    }
}

/// `2026-11-22T15:04:05Z (in 3 min)`; the text alone if it is no such time.
pub fn future(text: &str, now: u64) -> String {
    match seconds(text) {
        Some(at) if at > now => format!("{text} (in {})", span(at - now)),
        Some(_) => format!("{text} (now)"),
        None => text.to_owned(),
    }
}

/// How long something has lasted; `-` if it began at no time that is known.
pub fn lasted(text: &str, now: u64) -> String {
    seconds(text).map_or_else(|| "-".to_owned(), |at| span(now.saturating_sub(at)))
}

/// A number of seconds in the unit that suits it, rounded down.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Seconds since 1970 of a time as the daemon writes it: RFC 3339, in UTC, in whole seconds.
///
/// The days are counted as in Howard Hinnant's `days_from_civil`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let sound = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !sound {
        return None;
    }
    // The year begins in March, so that the day that some years lack is its last.
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    // 1970-01-01 is day 719468 of that count; January 1970 belongs to the year before.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // From date -u -d @N.
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-28T23:59:59Z", Some(951_782_399)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2026-11-22T15:23:07Z", Some(1_795_360_987)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-11-22T24:00:00Z", None),
            ("2026-11-22T15:23:07+01:00", None),
            ("2026-11-22T15:23Z", None),
            ("2026-11-22T15:23:07:09Z", None),
            ("+026-11-22T15:23:07Z", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("", None),
        ];
        for (text, want) in table {
            assert_eq!(seconds(text), want, "{text}");
        }
    }

    #[test]
    fn spans() {
        let table = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
        ];
        for (seconds, text) in table {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn distances() {
        let at = "2026-11-22T15:23:07Z";
        let now = 1_795_360_987;
        assert_eq!(past(at, now + 200), format!("{at} (3 min ago)"));
        // The daemon's clock and ours may have been read on two sides of a second.
        assert_eq!(past(at, now - 1), format!("{at} (0 s ago)"));
        assert_eq!(future(at, now - 8), format!("{at} (in 8 s)"));
        assert_eq!(future(at, now), format!("{at} (now)"));
        assert_eq!(future("soon", now), "soon");
        assert_eq!(lasted(at, now + 3), "3 s");
        assert_eq!(lasted("", now), "-");
    }
}
