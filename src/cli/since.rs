//! `--since`: a moment as people write it. It knows what journalctl takes, as far as that makes sense for logs.

use tz::{DateTime, TimeZone, UtcDateTime};

const DAY: i64 = 86_400;

/// What is said of a text that is no moment.
pub const FORMS: &str = "write 10m, 2h30m, today, yesterday, 10:00, 2026-11-22, \"2026-11-22 10:00\" or 2026-11-22T10:00:00Z";

/// Seconds since 1970 of what `text` means `now`; without a zone of its own, a time is the machine's.
pub fn moment(text: &str, now: i64, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    let midnight = |ago: i64| {
        let then = DateTime::from_timespec(now, 0, zone.as_ref()).ok()?;
        let noon =
            UtcDateTime::new(then.year(), then.month(), then.month_day(), 12, 0, 0, 0).ok()?;
        let day = UtcDateTime::from_timespec(noon.unix_time() - ago * DAY, 0).ok()?;
        local(
            [day.year(), day.month().into(), day.month_day().into()],
            [0; 3],
            zone,
        )
    };
    match text {
        "now" => return Some(now),
        "today" => return midnight(0),
        "yesterday" => return midnight(1),
        _ => {}
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok().filter(|seconds| *seconds >= 0);
    }
    if let Some(time) = clock(text) {
        let today = DateTime::from_timespec(midnight(0)?, 0, zone.as_ref()).ok()?;
        let date = [today.year(), today.month().into(), today.month_day().into()];
        return local(date, time, zone);
    }
    if let Some(date) = date(text) {
        return local(date, [0; 3], zone);
    }
    if let Some((day, time)) = text.split_once(['T', ' '])
        && let Some(day) = date(day)
    {
        return at(day, time.trim(), zone);
    }
    let span = text.strip_suffix("ago").unwrap_or(text);
    let span = span.strip_prefix('-').unwrap_or(span);
    Some(now.saturating_sub(duration(span)?).max(0))
}

/// A time of a day, in the zone that it names or in this machine's.
fn at(day: [i32; 3], time: &str, zone: &TimeZone) -> Option<i64> {
    if let Some(time) = time.strip_suffix('Z').or_else(|| time.strip_suffix("UTC")) {
        return local(day, clock(time.trim())?, &TimeZone::utc());
    }
    let Some(sign) = time.rfind(['+', '-']) else {
        return local(day, clock(time)?, zone);
    };
    let (time, offset) = time.split_at(sign);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 14)?, number(minutes, 59)?);
    let ahead = (hours * 60 + minutes) * if offset.starts_with('-') { -60 } else { 60 };
    let fixed = TimeZone::fixed(ahead).ok()?;
    local(day, clock(time.trim())?, &fixed)
}

/// The first moment that a zone calls by this date and time.
fn local(date: [i32; 3], time: [i32; 3], zone: &TimeZone) -> Option<i64> {
    let small = |number: i32| u8::try_from(number).ok();
    let found = DateTime::find(
        date[0],
        small(date[1])?,
        small(date[2])?,
        small(time[0])?,
        small(time[1])?,
        small(time[2])?,
        0,
        zone.as_ref(),
    )
    .ok()?;
    // Where the clocks go forward, the time that is left out means the moment at which they do.
    found
        .earliest()
        .map(|at| at.unix_time())
        .filter(|at| *at >= 0)
}

/// `2026-11-22`.
fn date(text: &str) -> Option<[i32; 3]> {
    let mut parts = text.split('-');
    let date = [
        number(parts.next()?, 9999)?,
        number(parts.next()?, 12)?,
        number(parts.next()?, 31)?,
    ];
    (parts.next().is_none() && date[0] >= 1970).then_some(date)
}

/// `10:00` or `10:00:30`; parts of a second are dropped.
fn clock(text: &str) -> Option<[i32; 3]> {
    let (text, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = text.split(':');
    let time = [
        number(parts.next()?, 23)?,
        number(parts.next()?, 59)?,
        parts.next().map_or(Some(0), |second| number(second, 59))?,
    ];
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    (parts.next().is_none() && digits).then_some(time)
}

fn number(text: &str, most: i32) -> Option<i32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten()?;
    (number <= most).then_some(number)
}

/// Seconds of `10m`, `2h30m`, `1 hour 5 min`.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut sum: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => DAY,
            "w" | "week" | "weeks" => 7 * DAY,
            _ => return None,
        };
        sum = sum.checked_add(count.parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = tail.trim_start();
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        // Two hours ahead in summer and one in winter, as in Berlin.
        let zone = TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // 2026-11-22T15:23:07Z, 16:23:07 there; from date -u -d.
        let now = 1_795_360_987;
        let table = [
            ("now", Some(now)),
            ("10m", Some(now - 600)),
            ("-10m", Some(now - 600)),
            ("10m ago", Some(now - 600)),
            ("10 min ago", Some(now - 600)),
            ("1h30m", Some(now - 5400)),
            ("2 hours 1 second", Some(now - 7201)),
            ("1w2d", Some(now - 9 * DAY)),
            ("today", Some(1_795_302_000)),
            ("yesterday", Some(1_795_215_600)),
            ("@1795360000", Some(1_795_360_000)),
            ("2026-11-22", Some(1_795_302_000)),
            ("2026-11-22 10:00", Some(1_795_338_000)),
            ("2026-11-22T10:00:30", Some(1_795_338_030)),
            ("2026-11-22 10:00:30.25", Some(1_795_338_030)),
            ("10:00", Some(1_795_338_000)),
            ("10:00:30", Some(1_795_338_030)),
            ("2026-11-22T15:23:07Z", Some(now)),
            ("2026-11-22 15:23:07 UTC", Some(now)),
            ("2026-11-22T11:53:07-03:30", Some(now)),
            ("2026-07-01 12:00", Some(1_782_900_000)),
            ("1000000w", Some(0)),
            ("", None),
            ("ago", None),
            ("10", None),
            ("10x", None),
            ("m", None),
            ("ten minutes", None),
            ("25:00", None),
            ("10:60", None),
            ("2026-13-01", None),
            ("2026-02-30", None),
            ("2026-11-22 ", Some(1_795_302_000)),
            ("2026-11-22T", None),
            ("2026-11-22T10:00+25:00", None),
            ("1969-12-31", None),
            ("@-1", None),
            ("99999999999999999999s", None),
            ("9223372036854775807w", None),
            ("\u{e9}", None),
            ("1\u{e9}", None),
        ];
        for (text, expected) in table {
            assert_eq!(moment(text, now, &zone), expected, "{text:?}");
        }
    }
}
