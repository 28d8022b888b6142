//! The clocks, and the only place that reads them for the core.

use std::future::pending;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tracing::warn;

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

/// What this boot of the node is called: 32 hex digits.
///
/// The unit says it in `MONOPOD_BOOT`, because its sandbox hides the kernel's own word. Without either, one is
/// made up and kept in `run`, which lasts for one boot. Empty if that fails too, which is logged and only
/// makes spent budgets come back later.
pub fn boot(run: &Path) -> String {
    let told = std::env::var("MONOPOD_BOOT").ok();
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    if let Some(id) = told.as_deref().and_then(boot_id) {
        return id;
    }
    if let Some(id) = kernel().as_deref().and_then(boot_id) {
        return id;
    }
    made_up(&run.join("boot")).unwrap_or_else(|error| {
        warn!(
            "nobody says which boot this is, and none can be noted in {}: {error}; reboots count for longer",
            run.display()
        );
        String::new()
    })
}

/// A boot's name without the dashes that the kernel writes and systemd does not.
fn boot_id(text: &str) -> Option<String> {
    let id: String = text.trim().chars().filter(|digit| *digit != '-').collect();
    (id.len() == 32 && id.chars().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| id.to_ascii_lowercase())
}

/// The name that this boot was given by the first daemon that needed one.
fn made_up(path: &Path) -> std::io::Result<String> {
    if let Ok(Some(id)) = std::fs::read_to_string(path).map(|text| boot_id(&text)) {
        return Ok(id);
    }
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let id = format!("{:032x}", u128::from_le_bytes(bytes));
    std::fs::write(path, &id)?;
    Ok(id)
}

/// Seconds since 1970, as far as this node knows. Only windows of people's calendars ask for it.
pub fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is as good as one at 1970: nobody has set it.
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
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
pub fn rfc3339(seconds: u64) -> String {
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
    fn one_boot_has_one_name() {
        let systemd = "8d1a5b7a3c0e4c53a8a1f6a9b1c2d3e4";
        let table = [
            ("8d1a5b7a-3c0e-4c53-a8a1-f6a9b1c2d3e4\n", Some(systemd)),
            (systemd, Some(systemd)),
            ("", None),
            ("%b", None),
            ("8d1a5b7a3c0e4c53a8a1f6a9b1c2d3eg", None),
        ];
        for (text, id) in table {
            assert_eq!(boot_id(text).as_deref(), id, "{text:?}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("boot");
        let id = made_up(&path).expect("made up");
        assert_eq!(boot_id(&id), Some(id.clone()));
        assert_eq!(made_up(&path).expect("kept"), id);
        std::fs::remove_file(&path).expect("the next boot");
        assert_ne!(made_up(&path).expect("made up"), id);
        assert!(made_up(&folder.path().join("no/boot")).is_err());
    }

    /// The sandbox hides the kernel's own word, so each unit that shuts it out has to say it.
    #[test]
    fn the_unit_says_which_boot_it_is() {
        let unit = include_str!("../../units/monopod.service");
        assert!(unit.lines().any(|line| line == "ProcSubset=pid"));
        assert!(
            unit.lines()
                .any(|line| line == "Environment=MONOPOD_BOOT=%b")
        );
        // A drop-in that begins the list anew would lose it.
        let root = include_str!("../../units/examples/run-as-root.conf");
        assert!(!root.lines().any(|line| line.trim() == "Environment="));
    }

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
