//! The normal form of a calendar, as `systemd-analyze calendar` prints it.

use std::fmt;

use super::Calendar;
use super::field::{Field, Span, Unit};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        weekdays(f, self.weekdays)?;
        field(f, 4, &self.year)?;
        f.write_str("-")?;
        field(f, 2, &self.month)?;
        f.write_str(if self.from_end { "~" } else { "-" })?;
        field(f, 2, &self.day)?;
        f.write_str(" ")?;
        field(f, 2, &self.hour)?;
        f.write_str(":")?;
        field(f, 2, &self.minute)?;
        f.write_str(":")?;
        seconds(f, &self.second)?;
        f.write_str(if self.utc { " UTC" } else { "" })
    }
}

/// `Mon,Wed..Fri `, and nothing for every day: two days in a row are listed, more are a range.
fn weekdays(f: &mut fmt::Formatter<'_>, days: u8) -> fmt::Result {
    let has = |day: usize| days >> day & 1 == 1;
    if (0..7).all(has) {
        return Ok(());
    }
    let mut comma = "";
    let mut day = 0;
    while day < 7 {
        let run = (day..7).take_while(|day| has(*day)).count();
        match run {
            0 => {
                day += 1;
                continue;
            }
            1 => write!(f, "{comma}{}", WEEKDAYS[day])?,
            2 => write!(f, "{comma}{},{}", WEEKDAYS[day], WEEKDAYS[day + 1])?,
            _ => write!(f, "{comma}{}..{}", WEEKDAYS[day], WEEKDAYS[day + run - 1])?,
        }
        comma = ",";
        day += run;
    }
    f.write_str(" ")
}

fn field(f: &mut fmt::Formatter<'_>, width: usize, field: &Field) -> fmt::Result {
    if field.spans.is_empty() {
        return f.write_str("*");
    }
    let mut comma = "";
    for span in &field.spans {
        write!(f, "{comma}{:0width$}", span.start)?;
        if let Some(last) = span.last {
            write!(f, "..{last:0width$}")?;
        }
        if shows_step(span, 1) {
            write!(f, "/{}", span.step)?;
        }
        comma = ",";
    }
    Ok(())
}

fn seconds(f: &mut fmt::Formatter<'_>, field: &Field) -> fmt::Result {
    let one = Unit::SECOND.get();
    let every = Span {
        start: 0,
        last: None,
        step: one,
    };
    if field.spans == [every] {
        return f.write_str("*");
    }
    let number = |f: &mut fmt::Formatter<'_>, micros: u32, width: usize| {
        write!(f, "{:0width$}", micros / one)?;
        match micros % one {
            0 => Ok(()),
            parts => write!(f, ".{parts:06}"),
        }
    };
    let mut comma = "";
    for span in &field.spans {
        f.write_str(comma)?;
        number(f, span.start, 2)?;
        if let Some(last) = span.last {
            f.write_str("..")?;
            number(f, last, 2)?;
        }
        if shows_step(span, one) {
            f.write_str("/")?;
            number(f, span.step, 1)?;
        }
        comma = ",";
    }
    Ok(())
}

/// A range is in steps of one unless it says otherwise.
fn shows_step(span: &Span, one: u32) -> bool {
    span.step > 0 && !(span.last.is_some() && span.step == one)
}
