//! The file systems under monopod's state and the engine's data: do they keep what is written, through a power
//! cut too, and do they write more to flash than they must?

use std::path::Path;

use super::mounts::{self, Mount};
use super::{Check, Finding, Machine, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "filesystem",
    title: "the file systems of monopod's state and the engine's data: lasting, and safe in a power cut",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let data = machine.info().await.ok().map(|info| info.data_root.clone());
            let facts =
                tokio::task::spawn_blocking(move || gather(&machine, data.as_deref())).await;
            match facts {
                Ok(facts) => judge(&facts),
                Err(error) => Finding::failure(format!("the check itself failed: {error}")),
            }
        })
    }),
};

struct Facts {
    /// Where the state is, or will be.
    state: Option<Mount>,
    /// `None` too if the engine does not say, or is elsewhere.
    engine: Option<Mount>,
}

fn gather(machine: &Machine, data: Option<&str>) -> Facts {
    let data = data.map(Path::new).filter(|path| path.exists());
    Facts {
        state: mounts::of(machine, &machine.paths.state()),
        engine: data.and_then(|data| mounts::of(machine, data)),
    }
}

/// What is gone after a reboot.
const FLEETING: [&str; 4] = ["tmpfs", "ramfs", "overlay", "aufs"];
/// What knows neither owners nor a rename that replaces.
const SIMPLE: [&str; 4] = ["vfat", "exfat", "msdos", "ntfs"];
/// What is somewhere else.
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"];

fn judge(facts: &Facts) -> Finding {
    let Some(state) = &facts.state else {
        return Finding::skipped("/proc/self/mountinfo cannot be read");
    };
    let mut found = Vec::new();
    let Mount { point, kind, .. } = state;
    if FLEETING.contains(&kind.as_str()) {
        found.push(
            Finding::failure(format!(
                "monopod's state is on {kind} ({point}), which a reboot takes away"
            ))
            .hint("mount a partition of its own at /var/lib/monopod"),
        );
    } else if SIMPLE.contains(&kind.as_str()) {
        found.push(
            Finding::failure(format!(
                "monopod's state is on {kind} ({point}), which knows no owners"
            ))
            .hint("use ext4, xfs, btrfs or f2fs for it"),
        );
    } else if REMOTE.contains(&kind.as_str()) {
        found.push(
            Finding::warning(format!(
                "monopod's state is on {kind} ({point}), behind a network"
            ))
            .hint("keep it on a disk of the machine"),
        );
    }
    if state.has("ro") {
        found.push(
            Finding::failure(format!(
                "{point}, with monopod's state, is mounted read-only"
            ))
            .hint("after an error the kernel does that: journalctl -k; otherwise mount it rw"),
        );
    }
    let engine = facts
        .engine
        .as_ref()
        .filter(|engine| engine.point != *point);
    for mount in [Some(state), engine].into_iter().flatten() {
        found.extend(power_cut(mount));
        if mount.source.starts_with("/dev/mmcblk") && !mount.has("noatime") {
            found.push(
                Finding::note(format!(
                    "{} is flash and notes when a file was read",
                    mount.point
                ))
                .hint(format!(
                    "add noatime to the options of {} in /etc/fstab",
                    mount.point
                )),
            );
        }
    }
    let flash = if state.flash { ", flash" } else { "" };
    Finding::all(found, format!("{kind} at {point}{flash}"))
}

/// Options that give up what a power cut must not take.
fn power_cut(mount: &Mount) -> Option<Finding> {
    let risky = [
        "data=writeback",
        "barrier=0",
        "nobarrier",
        "fsync_mode=nobarrier",
    ];
    let option = risky.into_iter().find(|option| mount.has(option))?;
    let point = &mount.point;
    Some(
        Finding::warning(format!(
            "{point} is mounted with {option}: a power cut leaves files that are empty or old"
        ))
        .hint(format!(
            "take {option} out of the options of {point} in /etc/fstab"
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn mount(point: &str, kind: &str, source: &str, options: &str) -> Mount {
        Mount {
            point: point.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn judgements() {
        let table = [
            (
                "ext4",
                "/dev/sda1",
                "rw,relatime",
                State::Ok,
                "ext4 at /var",
            ),
            ("ext4", "/dev/mmcblk0p2", "rw,noatime", State::Ok, ""),
            (
                "ext4",
                "/dev/mmcblk0p2",
                "rw,relatime",
                State::Note,
                "notes when",
            ),
            (
                "ext4",
                "/dev/sda1",
                "rw,data=writeback",
                State::Warning,
                "data=writeback",
            ),
            (
                "ext4",
                "/dev/sda1",
                "rw,barrier=0",
                State::Warning,
                "barrier=0",
            ),
            ("ext4", "/dev/sda1", "ro", State::Failure, "read-only"),
            (
                "tmpfs",
                "tmpfs",
                "rw",
                State::Failure,
                "a reboot takes away",
            ),
            (
                "overlay",
                "overlay",
                "rw",
                State::Failure,
                "a reboot takes away",
            ),
            ("vfat", "/dev/sda1", "rw", State::Failure, "no owners"),
            ("nfs4", "far:/x", "rw", State::Warning, "behind a network"),
        ];
        for (kind, source, options, state, text) in table {
            let facts = Facts {
                state: Some(mount("/var", kind, source, options)),
                engine: None,
            };
            let found = judge(&facts);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
        let state = || Some(mount("/var", "ext4", "/dev/sda1", "rw"));
        let engine = |point| Some(mount(point, "ext4", "/dev/sda2", "rw,nobarrier"));
        assert_eq!(
            judge(&Facts {
                state: state(),
                engine: engine("/data")
            })
            .state,
            State::Warning
        );
        assert_eq!(
            judge(&Facts {
                state: None,
                engine: None
            })
            .state,
            State::Skipped
        );
    }
}
