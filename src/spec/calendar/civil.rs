//! A date and time as a clock on the wall shows it.
//!
//! The days are counted as Howard Hinnant does it (<https://howardhinnant.github.io/date_algorithms.html>),
//! in the Gregorian calendar for all times. No value of any field may panic here.

use std::fmt;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// Days from the first of March of the year 0 to 1970.
const TO_1970: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

/// A date and time of no time zone in particular. It sorts by time if each field is within its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// Of the common era.
    pub year: i32,
    /// 1 is January.
    pub month: u8,
    /// Of the month, from 1.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Civil {
    /// What a clock that showed 1970-01-01 00:00:00 shows so many seconds later, if nobody sets it.
    pub fn from_seconds(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let shifted = days + TO_1970;
        let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // The year begins in March, so that the day that some years lack is its last.
        let from_march = (5 * of_year + 2) / 153;
        let month = (from_march + 2) % 12 + 1;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self {
            year: saturated(year),
            month: small(month),
            day: small(of_year - (153 * from_march + 2) / 5 + 1),
            hour: small(rest / 3600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
        }
    }

    /// Seconds from 1970-01-01 00:00:00 on the same clock, if nobody sets it; negative before that.
    pub fn seconds(self) -> i64 {
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute);
        self.days() * DAY + minutes * 60 + i64::from(self.second)
    }

    /// What the clock shows so many seconds later.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self::from_seconds(self.seconds().saturating_add(seconds))
    }

    /// Midnight at which a day begins.
    pub(super) fn date(year: i32, month: u8, day: u8) -> Self {
        Self {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    /// Midnight at which a year begins.
    pub(super) fn first_of(year: i32) -> Self {
        Self::date(year, 1, 1)
    }

    /// The same time, with each field within its bounds: a leap second is the second after it.
    pub(super) fn normal(self) -> Self {
        self.plus(0)
    }

    /// The same day at another time.
    pub(super) fn at(self, [hour, minute, second]: [u8; 3]) -> Self {
        Self {
            hour,
            minute,
            second,
            ..self
        }
    }

    /// Days since 1970-01-01.
    pub(super) fn days(self) -> i64 {
        // A month beyond the twelfth is of a later year; the clock's own never are.
        let months = i64::from(self.year) * 12 + i64::from(self.month) - 3;
        let (year, from_march) = (months.div_euclid(12), months.rem_euclid(12));
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * from_march + 2) / 5 + i64::from(self.day) - 1;
        era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_1970
    }

    /// 0 is Monday.
    pub(super) fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        small((self.days() + 3).rem_euclid(7))
    }
}

/// `2026-11-22 15:04:05`.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// How many days a month has.
pub(super) fn days_in(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A number that is known to fit.
fn small(number: i64) -> u8 {
    u8::try_from(number).unwrap_or_default()
}

/// A year that no clock shows is as late, or as early, as any.
fn saturated(year: i64) -> i32 {
    let most = if year < 0 { i32::MIN } else { i32::MAX };
    i32::try_from(year).unwrap_or(most)
}
