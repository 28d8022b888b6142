//! One field of a date or time: the numbers that it may be.

use std::num::NonZeroU32;

/// What a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// From 1970 to 2199, or its last two digits.
    Year,
    /// Of the year.
    Month,
    /// Of the month.
    Day,
    /// Of the month, backwards from its last.
    DayFromEnd,
    /// Of the day.
    Hour,
    /// Of the hour.
    Minute,
    /// Of the minute, in microseconds.
    Second,
}

impl Unit {
    /// A second in a field's microseconds.
    pub(super) const SECOND: NonZeroU32 = NonZeroU32::new(1_000_000).expect("it is not zero");

    /// Its name, and the least and the greatest that it may be.
    fn bounds(self) -> (&'static str, u32, u32) {
        match self {
            Unit::Year => ("year", 1970, 2199),
            Unit::Month => ("month", 1, 12),
            Unit::Day => ("day", 1, 31),
            // Every month has the last 28.
            Unit::DayFromEnd => ("day from the end", 1, 28),
            Unit::Hour => ("hour", 0, 23),
            Unit::Minute => ("minute", 0, 59),
            Unit::Second => ("second", 0, 59_999_999),
        }
    }

    /// A number of it as it is written.
    fn show(self, number: u32) -> String {
        match self {
            Unit::Second => {
                let (whole, parts) = (number / Self::SECOND, number % Self::SECOND);
                let text = format!("{whole}.{parts:06}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Unit::Year | Unit::Month | Unit::Day | Unit::DayFromEnd | Unit::Hour | Unit::Minute => {
                number.to_string()
            }
        }
    }
}

/// Some numbers at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// The first; of days that count from the end, the greatest if there is no last.
    pub start: u32,
    /// Where it ends; without one and with a step, at the field's greatest number.
    pub last: Option<u32>,
    /// From each to the next; 0 is the first number alone.
    pub step: u32,
}

impl Span {
    /// One number.
    pub(super) fn one(number: u32) -> Self {
        Self {
            start: number,
            last: None,
            step: 0,
        }
    }

    /// The first number that is not below `least`, whatever the field's greatest is.
    fn next(&self, least: u32) -> Option<u32> {
        let number = if least <= self.start {
            self.start
        } else if self.step == 0 {
            return None;
        } else {
            self.start + (least - self.start).div_ceil(self.step) * self.step
        };
        self.last
            .is_none_or(|last| number <= last)
            .then_some(number)
    }

    /// As systemd makes it: the end is a number of the span, and a span of one number is that number.
    fn normal(self, unit: Unit) -> Self {
        let mut span = self;
        if unit == Unit::Year {
            span.start = century(span.start);
            span.last = span.last.map(century);
        }
        let Some(last) = span.last else {
            return span;
        };
        if last < span.start {
            return span;
        }
        let last = last - (last - span.start) % span.step.max(1);
        if last == span.start {
            return Self::one(span.start);
        }
        span.last = Some(last);
        span
    }

    /// What is wrong with it in a field of `unit`.
    fn check(&self, unit: Unit) -> Result<(), String> {
        let (name, least, most) = unit.bounds();
        let show = |number| unit.show(number);
        for number in [Some(self.start), self.last].into_iter().flatten() {
            if !(least..=most).contains(&number) {
                let (least, most) = (show(least), show(most));
                return Err(format!(
                    "the {name} {} is not within {least} to {most}",
                    show(number)
                ));
            }
        }
        if let Some(last) = self.last
            && last < self.start
        {
            return Err(format!(
                "the {name}s {}..{} go backwards",
                show(self.start),
                show(last)
            ));
        }
        // The first step must lead somewhere.
        let room = match unit {
            Unit::DayFromEnd => self.start - least,
            Unit::Year | Unit::Month | Unit::Day | Unit::Hour | Unit::Minute | Unit::Second => {
                most - self.start
            }
        };
        if self.last.is_none() && self.step > room {
            return Err(format!(
                "no {name} is {} after {}",
                show(self.step),
                show(self.start)
            ));
        }
        Ok(())
    }

    /// Whether it has this day, counted from the month's end.
    fn has_from_end(&self, day: u32) -> bool {
        match self.last {
            Some(last) => (self.start..=last).contains(&day) && self.steps_to(day - self.start),
            // The steps go forward, to the month's end.
            None => day <= self.start && self.steps_to(self.start - day),
        }
    }

    fn steps_to(&self, distance: u32) -> bool {
        distance.checked_rem(self.step).unwrap_or(distance) == 0
    }
}

/// The numbers that a field may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// In order, each once; none means any number.
    pub spans: Vec<Span>,
}

impl Field {
    /// One number.
    pub(super) fn one(number: u32) -> Self {
        Self {
            spans: vec![Span::one(number)],
        }
    }

    /// Puts what was written in order.
    ///
    /// # Errors
    ///
    /// What is wrong for a field of `unit`.
    pub(super) fn new(spans: Vec<Span>, unit: Unit) -> Result<Self, String> {
        let mut spans: Vec<_> = spans.into_iter().map(|span| span.normal(unit)).collect();
        for span in &spans {
            span.check(unit)?;
        }
        spans.sort_unstable();
        spans.dedup();
        Ok(Self { spans })
    }

    /// Whether it may be this number.
    pub(super) fn has(&self, number: u32) -> bool {
        self.spans.is_empty() || self.spans.iter().any(|s| s.next(number) == Some(number))
    }

    /// Whether it may be this year.
    pub(super) fn has_year(&self, year: i32) -> bool {
        self.spans.is_empty() || u32::try_from(year).is_ok_and(|year| self.has(year))
    }

    /// Whether it may be this day, counted from the month's end.
    pub(super) fn has_from_end(&self, day: u32) -> bool {
        self.spans.is_empty() || self.spans.iter().any(|span| span.has_from_end(day))
    }

    /// Those of the first `count` multiples of `unit` that it has a number in, one bit each.
    pub(super) fn set(&self, unit: NonZeroU32, count: u8) -> u64 {
        let within = |number: u8| {
            let begin = u32::from(number) * unit.get();
            let has = |span: &Span| span.next(begin).is_some_and(|n| n - begin < unit.get());
            self.spans.is_empty() || self.spans.iter().any(has)
        };
        (0..count)
            .filter(|number| within(*number))
            .fold(0, |set, number| set | 1 << number)
    }
}

/// The whole of a year of which the last two digits are written.
fn century(year: u32) -> u32 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}
