//! From text to a calendar: the grammar of systemd.time(7), "Calendar Events".

use super::civil::Civil;
use super::field::{Field, Span, Unit};
use super::{Calendar, Times};

/// What may stand for a whole expression.
const SHORTHANDS: [(&str, &str); 13] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
    // An old slip of systemd's, which it goes on taking.
    ("anually", "*-01-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("biannually", "*-01,07-01 00:00:00"),
    ("bi-annually", "*-01,07-01 00:00:00"),
];

/// From Monday on, the long name before the short one that it begins with.
const WEEKDAYS: [[&str; 2]; 7] = [
    ["monday", "mon"],
    ["tuesday", "tue"],
    ["wednesday", "wed"],
    ["thursday", "thu"],
    ["friday", "fri"],
    ["saturday", "sat"],
    ["sunday", "sun"],
];
const EVERY_DAY: u8 = 0x7f;

/// systemd's: more spans in one field are refused.
const MOST_SPANS: usize = 241;

/// Reads a whole expression.
pub(super) fn calendar(text: &str) -> Result<Calendar, String> {
    let (text, utc) = match text
        .len()
        .checked_sub(4)
        .and_then(|at| text.split_at_checked(at))
    {
        Some((text, zone)) if zone.eq_ignore_ascii_case(" UTC") => (text, true),
        Some(_) | None => (text, false),
    };
    if text.is_empty() {
        return Err("there is no calendar event".to_owned());
    }
    let whole = SHORTHANDS
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name));
    let text = whole.map_or(text, |(_, meaning)| meaning);
    if let Some(zone) = zone(text) {
        return Err(format!(
            "`{zone}` would be a time zone, and only the node's own time and UTC are supported"
        ));
    }
    let (weekdays, rest) = weekdays(text)?;
    let mut calendar = date_and_time(rest)?;
    calendar.weekdays = weekdays;
    calendar.utc |= utc;
    Ok(calendar)
}

/// The name of a time zone at the end, if there is what may be one.
fn zone(text: &str) -> Option<&str> {
    let (_, last) = text.rsplit_once(' ')?;
    let word = last.starts_with(|c: char| c.is_ascii_alphabetic());
    (word && weekday(last).is_none() && !last.eq_ignore_ascii_case("UTC")).then_some(last)
}

/// The weekday that a text begins with, and what is behind it.
fn weekday(text: &str) -> Option<(u8, &str)> {
    (0..).zip(WEEKDAYS).find_map(|(day, names)| {
        names.into_iter().find_map(|name| {
            let (head, rest) = text.split_at_checked(name.len())?;
            head.eq_ignore_ascii_case(name).then_some((day, rest))
        })
    })
}

/// `Mon,Wed..Fri`, one bit for each day, and what is behind it.
fn weekdays(text: &str) -> Result<(u8, &str), String> {
    if weekday(text).is_none() {
        return Ok((EVERY_DAY, text));
    }
    let (spans, rest) = text.split_once(' ').unwrap_or((text, ""));
    // A comma behind the last is nobody's fault.
    let spans = spans.strip_suffix(',').unwrap_or(spans);
    let mut days = 0;
    for span in spans.split(',') {
        let bad = || format!("`{span}` is no weekday, nor a range of them such as `Mon..Fri`");
        let (first, behind) = weekday(span).ok_or_else(bad)?;
        let last = match behind
            .strip_prefix("..")
            .or_else(|| behind.strip_prefix('-'))
        {
            None if behind.is_empty() => first,
            None => return Err(bad()),
            Some(name) => match weekday(name) {
                Some((last, "")) => last,
                Some(_) | None => return Err(bad()),
            },
        };
        if last < first {
            return Err(format!(
                "the weekdays `{span}` go backwards: the week begins on Monday"
            ));
        }
        for day in first..=last {
            days |= 1 << day;
        }
    }
    Ok((days, rest.trim_start_matches(' ')))
}

/// What follows the weekdays: a date, a time, both or nothing.
fn date_and_time(text: &str) -> Result<Calendar, String> {
    if let Some(seconds) = text.strip_prefix('@') {
        return moment(seconds);
    }
    let mut calendar = midnight();
    if text.is_empty() {
        return Ok(calendar);
    }
    let (first, rest) = spans(text, Precision::Whole)?;
    if rest.is_empty() || rest.starts_with(':') {
        return time(calendar, text);
    }
    let (second, rest, from_end) = part(rest)?;
    // Of two parts the year is the one that is left out.
    let (year, month, (day, rest, from_end)) = if rest.is_empty() || rest.starts_with(' ') {
        (Vec::new(), first, (second, rest, from_end))
    } else if from_end {
        return Err(format!("`~` comes before the day, not before `{rest}`"));
    } else {
        (first, second, part(rest)?)
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(format!(
            "`{rest}` comes behind a whole date, without a space"
        ));
    }
    calendar.year = Field::new(year, Unit::Year)?;
    calendar.month = Field::new(month, Unit::Month)?;
    let unit = if from_end {
        Unit::DayFromEnd
    } else {
        Unit::Day
    };
    calendar.day = Field::new(day, unit)?;
    calendar.from_end = from_end && !calendar.day.spans.is_empty();
    match rest.trim_start_matches(' ') {
        "" => Ok(calendar),
        rest => time(calendar, rest),
    }
}

/// `-01` or `~01`: the spans, what is behind them, and whether they count from the month's end.
fn part(text: &str) -> Result<(Vec<Span>, &str, bool), String> {
    let (from_end, rest) = match text.strip_prefix('~') {
        Some(rest) => (true, Some(rest)),
        None => (false, text.strip_prefix('-')),
    };
    let rest = rest.ok_or_else(|| neither(text))?;
    let (spans, rest) = spans(rest, Precision::Whole)?;
    Ok((spans, rest, from_end))
}

/// `HH:MM` or `HH:MM:SS`, and nothing behind it.
fn time(mut calendar: Calendar, text: &str) -> Result<Calendar, String> {
    let (hour, rest) = spans(text, Precision::Whole)?;
    let rest = rest.strip_prefix(':').ok_or_else(|| neither(text))?;
    let (minute, rest) = spans(rest, Precision::Whole)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => spans(rest, Precision::Micro)?,
        None => (vec![Span::one(0)], rest),
    };
    if !rest.is_empty() {
        return Err(format!("`{rest}` comes behind a whole time"));
    }
    calendar.hour = Field::new(hour, Unit::Hour)?;
    calendar.minute = Field::new(minute, Unit::Minute)?;
    calendar.second = Field::new(second, Unit::Second)?;
    calendar.times = Times::new(&calendar.hour, &calendar.minute, &calendar.second);
    Ok(calendar)
}

/// `@SECONDS`: once, so long after 1970 began in UTC.
fn moment(text: &str) -> Result<Calendar, String> {
    let bad = || format!("`@{text}` is no number of seconds since 1970");
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| text.parse::<u64>().ok()).flatten();
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let at = Civil::from_seconds(seconds.ok_or_else(bad)?);
    let year = u32::try_from(at.year).map_err(|_| bad())?;
    let mut calendar = midnight();
    calendar.utc = true;
    // A year that is not in this century or the last is written in full already.
    calendar.year = Field::new(vec![Span::one(year)], Unit::Year)?;
    calendar.month = Field::one(at.month.into());
    calendar.day = Field::one(at.day.into());
    calendar.hour = Field::one(at.hour.into());
    calendar.minute = Field::one(at.minute.into());
    calendar.second = Field::one(u32::from(at.second) * Unit::SECOND.get());
    calendar.times = Times::new(&calendar.hour, &calendar.minute, &calendar.second);
    Ok(calendar)
}

/// Every day at midnight.
fn midnight() -> Calendar {
    let zero = Field::one(0);
    Calendar {
        weekdays: EVERY_DAY,
        year: Field::default(),
        month: Field::default(),
        day: Field::default(),
        from_end: false,
        times: Times::new(&zero, &zero, &zero),
        hour: zero.clone(),
        minute: zero.clone(),
        second: zero,
        utc: false,
    }
}

/// What a field's numbers are written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    Whole,
    /// Seconds with up to six digits behind the point, read as microseconds.
    Micro,
}

impl Precision {
    /// One, as it is read.
    fn one(self) -> u32 {
        match self {
            Precision::Whole => 1,
            Precision::Micro => Unit::SECOND.get(),
        }
    }
}

/// `*` or `1,3..5,10/2`, and what is behind it.
fn spans(text: &str, precision: Precision) -> Result<(Vec<Span>, &str), String> {
    if let Some(rest) = text.strip_prefix('*') {
        let every = match precision {
            Precision::Whole => Vec::new(),
            Precision::Micro => vec![Span {
                start: 0,
                last: None,
                step: precision.one(),
            }],
        };
        return Ok((every, rest));
    }
    let mut spans = Vec::new();
    let mut rest = text;
    loop {
        let (span, behind) = span(rest, precision)?;
        if spans.len() == MOST_SPANS {
            return Err(format!("a list has more than {MOST_SPANS} parts"));
        }
        spans.push(span);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return Ok((spans, behind)),
        }
    }
}

/// `1`, `1..5`, `1/2` or `1..5/2`, and what is behind it.
fn span(text: &str, precision: Precision) -> Result<(Span, &str), String> {
    let (start, rest) = number(text, precision)?;
    let mut span = Span::one(start);
    let (last, rest) = match rest.strip_prefix("..") {
        Some(rest) => {
            let (last, rest) = number(rest, precision)?;
            (Some(last), rest)
        }
        None => (None, rest),
    };
    span.last = last;
    let rest = if let Some(rest) = rest.strip_prefix('/') {
        let (step, rest) = number(rest, precision)?;
        if step == 0 {
            return Err(format!("the step of `{text}` is 0"));
        }
        span.step = step;
        rest
    } else {
        if let Some(last) = last {
            span.step = precision.one();
            // systemd takes 2..2 for an hour, but for a second only with a step that is written.
            if precision == Precision::Micro && last.saturating_sub(start) < span.step {
                return Err(format!("the seconds of `{text}` go nowhere"));
            }
        }
        rest
    };
    if rest.is_empty() || rest.starts_with([' ', ',', '-', '~', ':']) {
        Ok((span, rest))
    } else {
        Err(neither(text))
    }
}

/// Digits, and what is behind them; of seconds with a point and digits if there are.
fn number(text: &str, precision: Precision) -> Result<(u32, &str), String> {
    let (whole, rest) = digits(text);
    if whole.is_empty() {
        return Err(if text.is_empty() {
            "a number is missing at the end".to_owned()
        } else {
            neither(text)
        });
    }
    let too_large = || format!("the number {whole} is too large");
    let whole_number: u32 = whole.parse().map_err(|_| too_large())?;
    let number = whole_number
        .checked_mul(precision.one())
        .ok_or_else(too_large)?;
    let point = rest
        .strip_prefix('.')
        .filter(|behind| !behind.starts_with('.'));
    let (Precision::Micro, Some(behind)) = (precision, point) else {
        return Ok((number, rest));
    };
    let (fraction, rest) = digits(behind);
    if fraction.is_empty() {
        return Err(format!("digits are missing behind the point of `{text}`"));
    }
    // Six digits count, and the seventh rounds.
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + digit(fraction, place);
    }
    micros += u32::from(digit(fraction, 6) >= 5);
    let number = number.checked_add(micros).ok_or_else(too_large)?;
    Ok((number, rest))
}

/// Splits off the digits that a text begins with.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// The digit at this place, or 0 behind the end.
fn digit(digits: &str, place: usize) -> u32 {
    let byte = digits.as_bytes().get(place);
    byte.map_or(0, |byte| u32::from(byte - b'0'))
}

fn neither(text: &str) -> String {
    format!("`{text}` is no part of a date or a time")
}
