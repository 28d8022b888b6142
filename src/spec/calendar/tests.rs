//! Refusals and their words, windows second by second, and clocks that are far off.

use std::iter::successors;
use std::time::Duration;

use super::civil::DAY;
use super::{Calendar, Civil, Window};

/// `2026-11-22 15:04:05`.
pub(super) fn civil(text: &str) -> Civil {
    let mut numbers = text.split(['-', ' ', ':']).map(|number| {
        let number: i32 = number.parse().expect("a number");
        number
    });
    let year = numbers.next().expect("a year");
    let mut small = || u8::try_from(numbers.next().expect("six parts")).expect("small");
    Civil {
        year,
        month: small(),
        day: small(),
        hour: small(),
        minute: small(),
        second: small(),
    }
}

fn calendar(text: &str) -> Calendar {
    Calendar::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn window(text: &str, seconds: u64) -> Window {
    Window::new(calendar(text), Duration::from_secs(seconds)).expect("a good length")
}

#[test]
fn refusals_say_what_is_wrong() {
    let table = [
        ("", "there is no calendar event"),
        ("sometimes", "`sometimes` is no part of a date or a time"),
        ("10", "`10` is no part of a date or a time"),
        ("25:00", "the hour 25 is not within 0 to 23"),
        ("10:60", "the minute 60 is not within 0 to 59"),
        ("10:00:60", "the second 60 is not within 0 to 59.999999"),
        ("*-13-01", "the month 13 is not within 1 to 12"),
        ("*-*-32", "the day 32 is not within 1 to 31"),
        ("*-*~29", "the day from the end 29 is not within 1 to 28"),
        ("2200-1-1", "the year 2200 is not within 1970 to 2199"),
        ("5..3:00", "the hours 5..3 go backwards"),
        (
            "Sat..Mon 2:00",
            "the weekdays `Sat..Mon` go backwards: the week begins on Monday",
        ),
        (
            "Sat.Sun 2:00",
            "`Sat.Sun` is no weekday, nor a range of them such as `Mon..Fri`",
        ),
        ("0/24:00", "no hour is 24 after 0"),
        ("0/0:00", "the step of `0/0:00` is 0"),
        ("0:0:2..2", "the seconds of `2..2` go nowhere"),
        ("0:0:5.", "digits are missing behind the point of `5.`"),
        ("10:", "a number is missing at the end"),
        ("99999999999:00", "the number 99999999999 is too large"),
        ("10:00 ", "` ` comes behind a whole time"),
        ("1-1-1-1", "`-1` comes behind a whole date, without a space"),
        ("2024~1-1", "`~` comes before the day, not before `-1`"),
        ("@soon", "`@soon` is no number of seconds since 1970"),
        (
            "Sat 02:00 Europe/Berlin",
            "`Europe/Berlin` would be a time zone, and only the node's own time and UTC are supported",
        ),
        (
            "daily CET",
            "`CET` would be a time zone, and only the node's own time and UTC are supported",
        ),
    ];
    for (text, want) in table {
        assert_eq!(Calendar::parse(text), Err(want.to_owned()), "{text:?}");
    }
    let most = vec!["1"; 241].join(",");
    assert!(Calendar::parse(&format!("{most}:00")).is_ok());
    let error = Calendar::parse(&format!("{most},1:00")).expect_err("too many");
    assert_eq!(error, "a list has more than 241 parts");
}

#[test]
fn utc_is_told_apart() {
    for (text, utc) in [
        ("daily", false),
        ("daily UTC", true),
        ("Sat 02:00 utc", true),
        ("@1700000000", true),
    ] {
        assert_eq!(calendar(text).is_utc(), utc, "{text}");
    }
}

#[test]
fn times_are_counted_as_date_does() {
    // From date -u -d @N.
    let table = [
        (-86_401, "1969-12-30 23:59:59"),
        (0, "1970-01-01 00:00:00"),
        (951_782_399, "2000-02-28 23:59:59"),
        (951_782_400, "2000-02-29 00:00:00"),
        (1_709_164_800, "2024-02-29 00:00:00"),
        (1_795_360_987, "2026-11-22 15:23:07"),
        (4_107_542_400, "2100-03-01 00:00:00"),
        (-62_135_596_800, "0001-01-01 00:00:00"),
    ];
    for (seconds, text) in table {
        let at = Civil::from_seconds(seconds);
        assert_eq!(at.to_string(), text);
        assert_eq!(at.seconds(), seconds, "{text}");
        assert_eq!(at, civil(text));
    }
    let mut before = Civil::from_seconds(-800_000 * DAY);
    for day in -799_999..800_000 {
        let at = Civil::from_seconds(day * DAY);
        assert!(before < at && at.seconds() == day * DAY, "{at}");
        before = at;
    }
    // A leap second is the one after it.
    let leap = Civil {
        second: 60,
        ..civil("2016-12-31 23:59:59")
    };
    assert_eq!(leap.plus(0), civil("2017-01-01 00:00:00"));
}

#[test]
fn windows_are_open_when_they_should_be() {
    let table = [
        ("Sat *-*-* 02:00", 7200, "2026-11-21 01:59:59", false),
        ("Sat *-*-* 02:00", 7200, "2026-11-21 02:00:00", true),
        ("Sat *-*-* 02:00", 7200, "2026-11-21 03:59:59", true),
        ("Sat *-*-* 02:00", 7200, "2026-11-21 04:00:00", false),
        ("Sat *-*-* 02:00", 7200, "2026-11-22 02:30:00", false),
        // Over midnight, into another month, and into another year.
        ("*-*~1 23:30", 3600, "2024-03-01 00:29:59", true),
        ("*-*~1 23:30", 3600, "2024-03-01 00:30:00", false),
        ("yearly", 604_800, "2027-01-07 23:59:59", true),
        ("12-31 23:00", 7200, "2027-01-01 00:59:59", true),
        // A clock that was never set, and one that is far ahead.
        ("daily", 3600, "1970-01-01 00:00:00", true),
        ("daily", 3600, "1970-01-01 01:00:00", false),
        ("*-*-* 19:00", 3600, "1969-12-31 19:59:59", true),
        ("*-*-* 23:00", 7200, "1970-01-01 00:59:59", true),
        ("2-29", 3600, "2100-03-01 00:00:00", false),
        ("2100-03-01", 3600, "2100-03-01 00:30:00", true),
        // Nothing opens from 2200 on, but what is open is not shut.
        ("*-*-* 23:30", 3600, "2200-01-01 00:29:59", true),
        ("*-*-* 23:30", 3600, "2200-01-01 00:30:00", false),
        ("daily", 3600, "2200-01-01 00:00:00", false),
    ];
    for (text, seconds, now, open) in table {
        let now = civil(now);
        assert_eq!(window(text, seconds).is_open(now), open, "{text} at {now}");
    }
}

#[test]
fn windows_say_when_they_change() {
    let table = [
        (
            "Sat 02:00",
            7200,
            "2026-11-20 00:00:00",
            Some("2026-11-21 02:00:00"),
        ),
        (
            "Sat 02:00",
            7200,
            "2026-11-21 02:00:00",
            Some("2026-11-21 04:00:00"),
        ),
        (
            "Sat 02:00",
            7200,
            "2026-11-21 04:00:00",
            Some("2026-11-28 02:00:00"),
        ),
        // Openings that touch, and that overlap.
        (
            "1..3:00",
            3600,
            "2026-11-21 01:30:00",
            Some("2026-11-21 04:00:00"),
        ),
        (
            "1..3:0/7",
            3600,
            "2026-11-21 01:30:00",
            Some("2026-11-21 04:56:00"),
        ),
        (
            "Mon..Fri",
            86_400,
            "2026-11-16 12:00:00",
            Some("2026-11-21 00:00:00"),
        ),
        (
            "Mon..Fri *:*",
            60,
            "2026-11-16 12:00:00",
            Some("2026-11-21 00:00:00"),
        ),
        (
            "Mon..Fri *:*:*",
            7200,
            "2026-11-16 12:00:00",
            Some("2026-11-21 01:59:59"),
        ),
        (
            "Sat,Mon",
            172_800,
            "2026-11-21 12:00:00",
            Some("2026-11-25 00:00:00"),
        ),
        (
            "2026-*-* *:*",
            60,
            "2026-11-16 12:00:00",
            Some("2027-01-01 00:00:00"),
        ),
        // Never shut: as long as systemd's calendar goes on.
        (
            "*:*:*",
            60,
            "1970-01-01 00:00:00",
            Some("2200-01-01 00:00:59"),
        ),
        (
            "daily",
            86_400,
            "1970-01-01 00:00:00",
            Some("2200-01-01 00:00:00"),
        ),
        (
            "*-*-1/2 *:*:0/3",
            604_800,
            "2026-11-16 12:00:00",
            Some("2200-01-07 23:59:57"),
        ),
        // Never open again.
        ("2024-1-1", 3600, "2024-01-01 01:00:00", None),
        ("2-30", 3600, "2024-01-01 00:00:00", None),
        ("daily", 3600, "2199-12-31 02:00:00", None),
        (
            "daily",
            3600,
            "1900-01-01 00:00:00",
            Some("1969-01-01 00:00:00"),
        ),
    ];
    for (text, seconds, now, change) in table {
        let now = civil(now);
        let found = window(text, seconds).changes_at(now);
        assert_eq!(found, change.map(civil), "{text} at {now}");
    }
}

/// Against a plain list of what is open in each second of ten days.
#[test]
fn windows_agree_with_a_look_at_every_second() {
    const SECONDS: i64 = 10 * DAY;
    let begin = civil("2024-02-24 00:00:00");
    let expressions = [
        "Sat *-*-* 02:00",
        "Mon..Wed,Sat *-*-* 22:10:13",
        "*-*~2/1 0/5:0/7:*",
        "*-*-* 8..17:*:30",
        "*-*-1/2 *:50..59:0..50",
        "*-2-* *:0/2",
        "Tue..Sun *:*",
        "0..22:*:59",
    ];
    for text in expressions {
        let opens = calendar(text);
        // What opened up to a week before may be open still.
        let first = opens.next_at_or_after(begin.plus(-7 * DAY));
        let elapses: Vec<_> = successors(first, |at| opens.next_at_or_after(at.plus(1)))
            .map(|at| at.seconds() - begin.seconds())
            .take_while(|at| *at < SECONDS)
            .collect();
        for length in [60, 61, 3599, 7200, 90_000, 604_800] {
            let window = Window::new(opens.clone(), Duration::from_secs(length)).expect("good");
            let length = i64::try_from(length).expect("a week at most");
            // The last elapse that is not later, for each second.
            let mut before = elapses.iter().peekable();
            let mut last = None;
            let open: Vec<_> = (0..SECONDS)
                .map(|second| {
                    while let Some(at) = before.next_if(|at| **at <= second) {
                        last = Some(*at);
                    }
                    last.is_some_and(|at| second < at + length)
                })
                .collect();
            let open = |second: i64| open[usize::try_from(second).expect("in the list")];
            let mut change: Option<Civil> = None;
            for second in (1..SECONDS).rev() {
                let edge = open(second) != open(second - 1);
                let now = begin.plus(second);
                if edge || second % 4999 == 0 {
                    assert_eq!(window.is_open(now), open(second), "{text} {length} {now}");
                    if change.is_some() {
                        let found = window.changes_at(now);
                        assert_eq!(found, change, "{text} {length} {now}");
                    }
                }
                if edge {
                    change = Some(now);
                }
            }
        }
    }
}

#[test]
fn lengths_have_bounds() {
    for (seconds, good) in [
        (0.0, false),
        (59.9, false),
        (60.0, true),
        (604_800.0, true),
        (604_800.1, false),
    ] {
        let made = Window::new(calendar("daily"), Duration::from_secs_f64(seconds));
        assert_eq!(made.is_some(), good, "{seconds}");
    }
    assert!(Window::LENGTHS.contains(&Window::DEFAULT_LENGTH));
    // Half a second is open while it lasts.
    let window = Window::new(calendar("daily"), Duration::from_millis(60_500)).expect("good");
    assert!(window.is_open(civil("2024-01-01 00:01:00")));
    assert!(!window.is_open(civil("2024-01-01 00:01:01")));
}

#[test]
fn no_clock_is_too_far_off() {
    let years = [
        i32::MIN,
        i32::MIN + 1,
        -400,
        -1,
        0,
        1,
        1968,
        1969,
        1970,
        2100,
        2199,
        2200,
        9999,
        i32::MAX - 1,
        i32::MAX,
    ];
    let texts = [
        "daily",
        "*:*:*",
        "2-30",
        "Mon *-*~1 2:0",
        "2199-12-31 23:59:59",
        "1970-1-1",
    ];
    for text in texts {
        for seconds in [60, 604_800] {
            let window = window(text, seconds);
            for year in years {
                for part in [0, 1, 12, 24, 31, 60, 64, 255] {
                    let now = Civil {
                        year,
                        month: part,
                        day: part,
                        hour: part,
                        minute: part,
                        second: part,
                    };
                    let next = window.opens().next_at_or_after(now);
                    assert!(next.is_none_or(|next| next >= now.plus(0)), "{text} {now}");
                    let open = window.is_open(now);
                    let change = window.changes_at(now);
                    assert!(!open || change.is_some(), "{text} {now}");
                    assert!(change.is_none_or(|change| change > now.plus(-1)));
                }
            }
        }
    }
    for seconds in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        let at = Civil::from_seconds(seconds);
        assert!(at.plus(i64::MAX) >= at && at.plus(i64::MIN) <= at);
    }
}
