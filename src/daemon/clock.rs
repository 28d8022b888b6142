//! The clocks, and the only place that reads them for the core.

use std::future::pending;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::core::time::Time;

/// Time since boot, suspended time included.
pub fn now() -> Time {
    // The kernel has this clock since 2.6.39; zero would only make timers start over.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(Time::default(), |spec| Time(Duration::from(spec)))
}

/// Sleeps until `deadline`; for ever if there is none.
pub async fn sleep_until(deadline: Option<Time>) {
    match deadline {
        // A timer may fire a little early; being woken twice is worse than being late.
        Some(deadline) => {
            tokio::time::sleep((deadline - now()) + Duration::from_millis(1)).await;
        }
        None => pending().await,
    }
}

/// A seed for jitter: different on each node and at each start is all that it must be.
pub fn seed() -> u64 {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    machine.iter().fold(
        u64::from(wall.subsec_nanos()) ^ wall.as_secs(),
        |seed, byte| seed.rotate_left(5) ^ u64::from(*byte),
    )
}

/// What this boot of the node is called; nothing if the kernel does not say, which only makes spent
/// budgets come back later.
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// A moment since boot as people write it, in UTC: `2026-11-22T15:04:05Z`.
pub fn wall(time: Time) -> String {
    let ago = now() - time;
    let ahead = time - now();
    let at = SystemTime::now()
        .checked_sub(ago)
        .and_then(|at| at.checked_add(ahead))
        .unwrap_or(UNIX_EPOCH);
    rfc3339(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Seconds since 1970 as RFC 3339. The days are counted as in Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // From date -u -d @N.
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_360_987, "2026-11-22T15:23:07Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
