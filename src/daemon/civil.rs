//! What the node's clock on the wall shows, and whether a window is open by it.
//!
//! The only place that knows the node's time zone, for what [`crate::spec::calendar`] decides without one.
//! A zone that cannot be read is UTC, as it is for systemd; it must never keep the daemon from its work.

use std::io;
use std::path::Path;

use tracing::warn;
use tz::{DateTime, TimeZone};

use crate::spec::calendar::{Civil, Window};

/// The node's zone; the C library and systemd read the same file.
const LOCALTIME: &str = "/etc/localtime";

/// How a window stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether it is open.
    pub open: bool,
    /// When it closes, or opens if it is closed, seconds since 1970; `None` if it never opens again.
    pub changes_at: Option<i64>,
}

/// How a window stands `now`, in seconds since 1970.
///
/// It reads the node's zone each time, so that it follows `timedatectl set-timezone`. Whoever waits for the
/// change should ask again now and then, as the clock may be set meanwhile.
pub fn opening(window: &Window, now: i64) -> Opening {
    let zone = if window.opens().is_utc() {
        Zone::utc()
    } else {
        Zone::local()
    };
    zone.opening(window, now)
}

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub fn utc() -> Self {
        Self(TimeZone::utc())
    }

    /// The node's own: that of `/etc/localtime`, and UTC without it.
    pub fn local() -> Self {
        Self::of(Path::new(LOCALTIME))
    }

    /// The zone that a file in the format of tzfile(5) describes.
    fn of(path: &Path) -> Self {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(
                        "{} cannot be read, so the time is taken as UTC: {error}",
                        path.display()
                    );
                }
                return Self::utc();
            }
        };
        TimeZone::from_tz_data(&bytes).map_or_else(
            |error| {
                warn!(
                    "{} is no time zone, so the time is taken as UTC: {error}",
                    path.display()
                );
                Self::utc()
            },
            Self,
        )
    }

    /// What a clock in this zone shows at `unix`, seconds since 1970.
    pub fn civil(&self, unix: i64) -> Civil {
        // Where a zone's file says nothing of a time, UTC is as good as any.
        let ahead = self
            .0
            .find_local_time_type(unix)
            .map_or(0, |kind| i64::from(kind.ut_offset()));
        Civil::from_seconds(unix.saturating_add(ahead))
    }

    /// The first moment at which a clock in this zone shows `civil`, seconds since 1970; for a time that is
    /// left out in spring, the moment at which the clock is put forward.
    pub fn unix(&self, civil: Civil) -> i64 {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = civil;
        DateTime::find(year, month, day, hour, minute, second, 0, self.0.as_ref())
            .ok()
            .and_then(|found| found.earliest())
            .map_or_else(|| civil.seconds(), |at| at.unix_time())
    }

    fn opening(&self, window: &Window, now: i64) -> Opening {
        let civil = self.civil(now);
        Opening {
            open: window.is_open(civil),
            changes_at: window.changes_at(civil).map(|at| self.unix(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::calendar::Calendar;

    /// Two hours ahead in summer and one in winter, as in Berlin.
    fn berlin() -> Zone {
        Zone(TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"))
    }

    fn window(text: &str, minutes: u64) -> Window {
        let opens = Calendar::parse(text).expect(text);
        Window::new(opens, Duration::from_secs(minutes * 60)).expect("a good length")
    }

    #[test]
    fn the_clock_on_the_wall() {
        // From TZ=Europe/Berlin date -d @N.
        let table = [
            (1_795_360_987, "2026-11-22 16:23:07"),
            (1_782_900_000, "2026-07-01 12:00:00"),
            (1_774_745_999, "2026-03-29 01:59:59"),
            (1_774_746_000, "2026-03-29 03:00:00"),
            (4_107_542_400, "2100-03-01 01:00:00"),
        ];
        let zone = berlin();
        for (unix, text) in table {
            let civil = zone.civil(unix);
            assert_eq!(civil.to_string(), text);
            assert_eq!(zone.unix(civil), unix, "{text}");
        }
        // The hour that comes twice is its first, the one that is left out is when it would begin.
        let autumn = zone.civil(1_792_888_200);
        assert_eq!(autumn.to_string(), "2026-10-25 02:30:00");
        assert_eq!(zone.civil(1_792_888_200 + 3600), autumn);
        assert_eq!(zone.unix(autumn), 1_792_888_200);
        let spring = Civil {
            hour: 2,
            minute: 30,
            ..zone.civil(1_774_746_000)
        };
        assert_eq!(zone.unix(spring), 1_774_746_000);
    }

    #[test]
    fn no_moment_is_too_far_off() {
        let west = Zone(TimeZone::from_posix_tz("EST5").expect("a zone"));
        assert_eq!(west.civil(0).to_string(), "1969-12-31 19:00:00");
        let daily = window("*-*-* 19:00", 60);
        let expected = Opening {
            open: true,
            changes_at: Some(3600),
        };
        assert_eq!(west.opening(&daily, 0), expected);
        for zone in [Zone::utc(), west, berlin()] {
            for unix in [i64::MIN, -1, 0, 1 << 40, 1 << 56, i64::MAX] {
                let civil = zone.civil(unix);
                zone.unix(civil);
                zone.opening(&daily, unix);
            }
        }
    }

    #[test]
    fn windows_go_by_the_clock() {
        // Zone, window, now, and what is expected of it.
        let table = [
            // 2026-11-22 16:23:07 in Berlin, 15:23:07 in UTC.
            (berlin(), "16:00", 1_795_360_987, true, Some(1_795_363_200)),
            (
                Zone::utc(),
                "16:00",
                1_795_360_987,
                false,
                Some(1_795_363_200),
            ),
            // The night in which 02:30 is left out: it opens at 03:00, for the half hour that is left.
            (berlin(), "2:30", 1_774_745_999, false, Some(1_774_746_000)),
            (berlin(), "2:30", 1_774_746_000, true, Some(1_774_747_800)),
            // The night in which it comes twice.
            (berlin(), "2:30", 1_792_888_200, true, Some(1_792_895_400)),
            (berlin(), "2:30", 1_792_891_800, true, Some(1_792_895_400)),
            (Zone::utc(), "2024-1-1", 1_795_360_987, false, None),
        ];
        for (zone, text, now, open, changes_at) in table {
            let found = zone.opening(&window(text, 60), now);
            assert_eq!(found, Opening { open, changes_at }, "{text} at {now}");
        }
        // Its own word on UTC counts more than the node's zone.
        let found = opening(&window("15:00 UTC", 60), 1_795_360_987);
        assert!(
            found.open && found.changes_at == Some(1_795_363_200),
            "{found:?}"
        );
    }

    #[test]
    fn a_zone_that_cannot_be_read_is_utc() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("localtime");
        let noon = 1_782_900_000;
        let utc = Zone::utc().civil(noon);
        assert_eq!(Zone::of(&path).civil(noon), utc);
        std::fs::write(&path, b"TZif?").expect("written");
        assert_eq!(Zone::of(&path).civil(noon), utc);
        assert_eq!(Zone::of(folder.path()).civil(noon), utc);
        // A file of the second version says the rule for all later years at its end.
        let mut header = b"TZif2".to_vec();
        header.extend([0; 15]);
        // No leap seconds or transitions, one kind of time, its name of four bytes.
        for count in [0_u32, 0, 0, 0, 1, 4] {
            header.extend(count.to_be_bytes());
        }
        let kind = [&3600_i32.to_be_bytes()[..], &[0, 0], b"CET\0"].concat();
        let rule = b"\nCET-1CEST,M3.5.0,M10.5.0/3\n".to_vec();
        let file = [header.clone(), kind.clone(), header, kind, rule].concat();
        std::fs::write(&path, file).expect("written");
        assert_eq!(Zone::of(&path).civil(noon), berlin().civil(noon));
    }
}
