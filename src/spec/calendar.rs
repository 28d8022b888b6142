//! When a calendar event elapses, in systemd's notation (systemd.time(7), "Calendar Events").
//!
//! It works on civil time, which is what a clock on the wall shows, and knows neither time zones nor
//! the present: whoever asks says what time it is, in UTC if the expression says so
//! ([`Calendar::is_utc`]), else in the node's own zone. It must never panic or search without end,
//! whatever the text or the clock says.
//!
//! What systemd 252 and 257 take is taken, what they refuse is refused, and the normal form and the
//! elapses are theirs, as a test against `systemd-analyze calendar` holds. Two things are left out: a
//! named time zone, which would need its tables, and parts of a second, which are dropped from an
//! elapse (two elapses of one second are one).

use std::num::NonZeroU32;

mod civil;
mod field;
mod parse;
mod show;
mod window;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

pub use civil::Civil;
pub use window::Window;

use field::{Field, Unit};

/// What to write instead of an expression that is refused.
pub const HINT: &str = "for example \"Sat *-*-* 02:00\", \"Mon..Fri 22:30\" or \"daily\"; `systemd-analyze calendar` shows what it means";

/// The year in which a clock that was never set begins, west of Greenwich.
const FIRST_YEAR: i32 = 1969;
/// systemd's: nothing elapses after it.
const LAST_YEAR: i32 = 2199;

/// A calendar event expression, such as `Sat *-*-* 02:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Bit 0 is Monday.
    weekdays: u8,
    year: Field,
    month: Field,
    day: Field,
    /// Whether `day` counts from the month's last day, which is 1.
    from_end: bool,
    hour: Field,
    minute: Field,
    /// In microseconds.
    second: Field,
    utc: bool,
    /// The times of day that the last three mean.
    times: Times,
}

/// Times of day: each hour with each minute with each second. None of the sets is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    hours: u64,
    minutes: u64,
    seconds: u64,
}

impl Calendar {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to be put behind it; [`HINT`] goes with that.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::calendar(text)
    }

    /// Whether it is meant in UTC; else it is meant in the time of the node.
    pub fn is_utc(&self) -> bool {
        self.utc
    }

    /// The first elapse that is not before `from`; `None` if there is none up to the end of 2199.
    pub fn next_at_or_after(&self, from: Civil) -> Option<Civil> {
        let from = from.normal().max(Civil::first_of(FIRST_YEAR));
        if self.elapses_on(from)
            && let Some(time) = self.times.next(from)
        {
            return Some(from.at(time));
        }
        self.next_day(from).map(|day| day.at(self.times.first()))
    }

    /// The first day after this one on which it elapses.
    fn next_day(&self, after: Civil) -> Option<Civil> {
        for year in after.year..=LAST_YEAR {
            if !self.year.has_year(year) {
                continue;
            }
            for month in 1..=12 {
                // An impossible date must not be looked for day by day.
                if (year, month) < (after.year, after.month) || !self.month.has(month.into()) {
                    continue;
                }
                let found = (1..=civil::days_in(year, month))
                    .map(|day| Civil::date(year, month, day))
                    .find(|date| date.days() > after.days() && self.elapses_on(*date));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Whether it elapses at any time of this day.
    fn elapses_on(&self, date: Civil) -> bool {
        let day = u32::from(date.day);
        let days = u32::from(civil::days_in(date.year, date.month));
        (FIRST_YEAR..=LAST_YEAR).contains(&date.year)
            && self.year.has_year(date.year)
            && self.month.has(date.month.into())
            && self.weekdays & (1 << date.weekday()) != 0
            && if self.from_end {
                self.day.has_from_end(days + 1 - day)
            } else {
                self.day.has(day)
            }
    }

    /// The last elapse that is reached from the elapse `at` in steps of `longest` seconds or less, or one on
    /// the way there that is at least a minute's last. `longest` is 60 or more.
    ///
    /// It is what keeps the search for the end of years of openings, one each second, short.
    fn last_in_steps_of(&self, longest: i64, at: Civil) -> Civil {
        if self.times.longest_gap() > longest {
            return Civil {
                second: last(self.times.seconds),
                ..at
            };
        }
        let mut day = at;
        while let next = day.plus(civil::DAY)
            && self.elapses_on(next)
        {
            day = next;
        }
        day.at(self.times.last())
    }
}

impl Times {
    fn new(hour: &Field, minute: &Field, second: &Field) -> Self {
        Self {
            hours: hour.set(NonZeroU32::MIN, 24),
            minutes: minute.set(NonZeroU32::MIN, 60),
            seconds: second.set(Unit::SECOND, 60),
        }
    }

    fn first(self) -> [u8; 3] {
        [self.hours, self.minutes, self.seconds].map(first)
    }

    fn last(self) -> [u8; 3] {
        [self.hours, self.minutes, self.seconds].map(last)
    }

    /// The first that is not before that of `from`.
    fn next(self, from: Civil) -> Option<[u8; 3]> {
        let [_, minute, second] = self.first();
        if has(self.hours, from.hour) {
            if has(self.minutes, from.minute)
                && let Some(second) = next(self.seconds, from.second)
            {
                return Some([from.hour, from.minute, second]);
            }
            if let Some(minute) = next(self.minutes, from.minute + 1) {
                return Some([from.hour, minute, second]);
            }
        }
        next(self.hours, from.hour + 1).map(|hour| [hour, minute, second])
    }

    /// The longest time from one to the next, seconds, were there one day after the other.
    fn longest_gap(self) -> i64 {
        let [first_hour, first_minute, first_second] = self.first().map(i64::from);
        let [last_hour, last_minute, last_second] = self.last().map(i64::from);
        let within_hour = first_second - last_second;
        let within_day = (first_minute - last_minute) * 60 + within_hour;
        let overnight = (24 + first_hour - last_hour) * 3600 + within_day;
        let gaps = [
            widest(self.seconds),
            widest(self.minutes) * 60 + within_hour,
            widest(self.hours) * 3600 + within_day,
        ];
        gaps.into_iter().fold(overnight, i64::max)
    }
}

/// Whether a set of small numbers has this one.
fn has(set: u64, number: u8) -> bool {
    next(set, number) == Some(number)
}

/// The first of a set that is not below `least`.
fn next(set: u64, least: u8) -> Option<u8> {
    (least..64).find(|number| set >> number & 1 == 1)
}

/// The first of a set that is not empty.
fn first(set: u64) -> u8 {
    next(set, 0).unwrap_or_default()
}

/// The last of a set that is not empty.
fn last(set: u64) -> u8 {
    (0..64)
        .rev()
        .find(|number| set >> number & 1 == 1)
        .unwrap_or_default()
}

/// The longest step from one of a set to the next; 0 if there is but one.
fn widest(set: u64) -> i64 {
    let mut widest = 0;
    let mut at = first(set);
    while let Some(after) = next(set, at + 1) {
        widest = widest.max(i64::from(after - at));
        at = after;
    }
    widest
}
