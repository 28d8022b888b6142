//! The journal: in memory or on disk, how large it may grow, and how much it writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Check, Finding, Machine, Run, conf, mounts, space};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "journal",
    title: "where journald keeps the journal, how large it may grow, how much it writes",
    run: Run::Files(|machine| {
        if !machine.at("/run/systemd/journal").exists() {
            return Finding::skipped("journald does not run here");
        }
        judge(&gather(machine))
    }),
};

/// Where the journal is, as journald.conf(5) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Disk,
    Memory,
    Nowhere,
}

struct Facts {
    kept: Kept,
    /// Whether there is a limit of somebody's own (`SystemMaxUse=`).
    limited: bool,
    flash: bool,
    /// Bytes on disk.
    used: u64,
    /// Bytes in files that are full, and how long ago the oldest of them was begun.
    archived: Option<(u64, Duration)>,
}

fn gather(machine: &Machine) -> Facts {
    let conf = conf::read(machine, "journald.conf");
    let folder = machine.at("/var/log/journal");
    let kept = match conf.get("Storage").map(String::as_str) {
        Some("volatile") => Kept::Memory,
        Some("none") => Kept::Nowhere,
        Some("persistent") => Kept::Disk,
        _ if folder.exists() => Kept::Disk,
        Some(_) | None => Kept::Memory,
    };
    let (used, archived) = usage(&folder, SystemTime::now());
    Facts {
        kept,
        limited: conf.contains_key("SystemMaxUse"),
        flash: mounts::of(machine, &folder).is_some_and(|mount| mount.flash),
        used,
        archived,
    }
}

/// `/var/log/journal/MACHINE-ID/system@SEQID-SEQ-TIME.journal`: full, and begun at TIME (hex, microseconds).
fn usage(folder: &Path, now: SystemTime) -> (u64, Option<(u64, Duration)>) {
    let (mut used, mut full, mut oldest) = (0, 0, None);
    for machine in fs::read_dir(folder).into_iter().flatten().flatten() {
        for file in fs::read_dir(machine.path()).into_iter().flatten().flatten() {
            let Ok(meta) = file.metadata() else { continue };
            // What is written, not what is set aside.
            let bytes = meta.blocks() * 512;
            used += bytes;
            let name = file.file_name().to_string_lossy().into_owned();
            let begun = name
                .strip_suffix(".journal")
                .and_then(|name| name.split_once('@')?.1.rsplit_once('-'))
                .and_then(|(_, time)| u64::from_str_radix(time, 16).ok())
                .map(|time| SystemTime::UNIX_EPOCH + Duration::from_micros(time));
            if let Some(begun) = begun {
                full += bytes;
                oldest = Some(oldest.map_or(begun, |oldest: SystemTime| oldest.min(begun)));
            }
        }
    }
    let age = oldest.and_then(|oldest| now.duration_since(oldest).ok());
    (used, age.map(|age| (full, age)))
}

/// More than this on flash in a day is much: 100 MB.
const MUCH: u64 = 100_000_000;

const DAY: u64 = 86_400;

fn judge(facts: &Facts) -> Finding {
    const MEMORY: &str = "in memory instead: copy /usr/share/doc/monopod/examples/volatile-journal.conf into /etc/systemd/journald.conf.d/";
    const THEN: &str = "then: systemctl restart systemd-journald";
    match facts.kept {
        Kept::Nowhere => {
            return Finding::warning("Storage=none: nobody can find out later what happened")
                .hint(MEMORY)
                .hint(THEN);
        }
        Kept::Memory => {
            return Finding::ok("in memory: it writes nothing, and is gone with a reboot");
        }
        Kept::Disk => {}
    }
    let mut found = Vec::new();
    let used = space::bytes(facts.used);
    if facts.flash {
        found.push(
            Finding::note(format!("on flash ({used}): each line is written there"))
                .hint(MEMORY)
                .hint(THEN),
        );
    }
    if let Some((bytes, age)) = facts.archived {
        // Of less than a day nobody can tell a rate.
        let rate = bytes.saturating_mul(DAY) / age.as_secs().max(DAY);
        if rate > MUCH {
            let rate = space::bytes(rate);
            let text = format!("it has grown by {rate} a day");
            let finding = if facts.flash {
                Finding::warning(text)
            } else {
                Finding::note(text)
            };
            found.push(finding.hint(
                "who writes so much: journalctl -o cat -F _SYSTEMD_UNIT, journalctl -u UNIT",
            ));
        }
    }
    if !facts.limited && facts.used > 10 * MUCH {
        found.push(
            Finding::note(format!(
                "{used} on disk, and no limit but journald's own (10 % of the disk, 4 GB)"
            ))
            .hint("in /etc/systemd/journald.conf.d/size.conf: [Journal] and SystemMaxUse=100M")
            .hint(THEN),
        );
    }
    Finding::all(found, format!("on disk ({used})"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn judgements() {
        const M: u64 = 1_000_000;
        let days = |count: u64| Duration::from_secs(count * DAY);
        let table = [
            (Kept::Memory, false, true, 0, None, State::Ok, "in memory"),
            (
                Kept::Nowhere,
                false,
                false,
                0,
                None,
                State::Warning,
                "Storage=none",
            ),
            (
                Kept::Disk,
                false,
                false,
                50 * M,
                None,
                State::Ok,
                "on disk (50 MB)",
            ),
            (
                Kept::Disk,
                false,
                true,
                50 * M,
                None,
                State::Note,
                "on flash (50 MB)",
            ),
            (
                Kept::Disk,
                false,
                true,
                500 * M,
                Some((500 * M, days(2))),
                State::Warning,
                "250 MB a day",
            ),
            (
                Kept::Disk,
                false,
                false,
                500 * M,
                Some((500 * M, days(2))),
                State::Note,
                "250 MB a day",
            ),
            (
                Kept::Disk,
                false,
                false,
                500 * M,
                Some((500 * M, days(20))),
                State::Ok,
                "on disk",
            ),
            (
                Kept::Disk,
                false,
                false,
                50 * M,
                Some((50 * M, days(0))),
                State::Ok,
                "on disk",
            ),
            (
                Kept::Disk,
                false,
                false,
                2000 * M,
                None,
                State::Note,
                "no limit",
            ),
            (
                Kept::Disk,
                true,
                false,
                2000 * M,
                None,
                State::Ok,
                "on disk",
            ),
        ];
        for (kept, limited, flash, used, archived, state, text) in table {
            let found = judge(&Facts {
                kept,
                limited,
                flash,
                used,
                archived,
            });
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }

    #[test]
    fn where_it_is_kept() {
        let file = ("var/log/journal/abc/system.journal", "");
        let conf = |text| ("etc/systemd/journald.conf", text);
        let table = [
            (vec![], Kept::Memory),
            (vec![file], Kept::Disk),
            (vec![file, conf("Storage=auto")], Kept::Disk),
            (vec![file, conf("Storage=volatile")], Kept::Memory),
            (vec![conf("Storage=persistent")], Kept::Disk),
            (vec![conf("Storage=none")], Kept::Nowhere),
        ];
        for (files, kept) in table {
            assert_eq!(gather(&machine(&files)).kept, kept, "{files:?}");
        }
    }

    #[test]
    fn full_files_say_since_when() {
        let text = "x".repeat(8192);
        // 1 000 000 s and 2 000 000 s after 1970.
        let machine = machine(&[
            (
                "var/log/journal/abc/system@00-01-000000e8d4a51000.journal",
                &text,
            ),
            (
                "var/log/journal/abc/system@00-02-000001d1a94a2000.journal",
                &text,
            ),
            ("var/log/journal/abc/system.journal", &text),
            ("var/log/journal/abc/user@zz.journal~", &text),
        ]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3_000_000);
        let (used, archived) = usage(&machine.at("/var/log/journal"), now);
        assert_eq!(
            (used, archived),
            (4 * 8192, Some((2 * 8192, Duration::from_secs(2_000_000))))
        );
    }
}
