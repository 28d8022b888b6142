//! Room on the disks: bytes and inodes, and whether another release of the workload fits beside this one.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{Check, Finding, Machine, Run, mounts};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "space",
    title: "bytes and inodes free for the store and the engine, and room for the next release",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let data = machine.info().await.ok().map(|info| info.data_root.clone());
            let disks =
                tokio::task::spawn_blocking(move || gather(&machine, data.as_deref())).await;
            match disks {
                Ok(disks) => judge(&disks),
                Err(error) => Finding::failure(format!("the check itself failed: {error}")),
            }
        })
    }),
};

/// A file system, with what is on it.
#[derive(Clone, Debug, Default)]
struct Disk {
    device: u64,
    /// What it is for: `the store`, `the engine`.
    holds: Vec<&'static str>,
    point: String,
    free: u64,
    total: u64,
    free_inodes: u64,
    /// 0 where the file system makes them as it goes.
    inodes: u64,
    /// What the next release needs on it, if it is as large as this one.
    next: u64,
}

fn gather(machine: &Machine, data: Option<&str>) -> Vec<Disk> {
    let (stored, unpacked) = sizes(machine);
    let state = machine.paths.state();
    let places = [
        Some(("the store", state.as_path(), stored)),
        data.map(Path::new)
            .filter(|path| path.exists())
            .map(|path| ("the engine", path, unpacked)),
    ];
    let mut disks: Vec<Disk> = Vec::new();
    for (holds, path, next) in places.into_iter().flatten() {
        let path = mounts::existing(path);
        let (Ok(meta), Ok(stat)) = (std::fs::metadata(&path), statvfs(&path)) else {
            continue;
        };
        if let Some(disk) = disks.iter_mut().find(|disk| disk.device == meta.dev()) {
            disk.holds.push(holds);
            disk.next += next;
            continue;
        }
        // The fields' types differ between platforms.
        #[allow(clippy::useless_conversion)]
        let (size, all, free, inodes, free_inodes): (u64, u64, u64, u64, u64) = (
            stat.fragment_size().into(),
            stat.blocks().into(),
            stat.blocks_available().into(),
            stat.files().into(),
            stat.files_available().into(),
        );
        disks.push(Disk {
            device: meta.dev(),
            holds: vec![holds],
            point: mounts::of(machine, &path)
                .map_or_else(|| path.display().to_string(), |mount| mount.point),
            free: free.saturating_mul(size),
            total: all.saturating_mul(size),
            free_inodes,
            inodes,
            next,
        });
    }
    disks
}

/// Bytes of the workload's images, in the store and unpacked; 0 where nobody can say.
fn sizes(machine: &Machine) -> (u64, u64) {
    let (Some(workload), Ok(Some(store))) = (machine.workload(), machine.store()) else {
        return (0, 0);
    };
    let found = workload
        .containers
        .iter()
        .filter_map(|one| store.resolve(&one.image).ok().flatten());
    found.fold((0, 0), |(stored, unpacked), image| {
        (stored + image.stored_size, unpacked + image.content_size)
    })
}

/// Less than this is full for all practical purposes: 64 MB.
const FULL: u64 = 64_000_000;

fn judge(disks: &[Disk]) -> Finding {
    let mut found = Vec::new();
    let mut good = Vec::new();
    for disk in disks {
        let (point, free) = (&disk.point, bytes(disk.free));
        let holds = disk.holds.join(" and ");
        if disk.free == 0 {
            found.push(Finding::failure(format!("{point}, with {holds}, is full")).hint(ROOM));
        } else if disk.free < FULL || disk.free < disk.total / 20 {
            found.push(
                Finding::warning(format!("{point}, with {holds}, has {free} left")).hint(ROOM),
            );
        } else if disk.free < disk.next {
            found.push(
                Finding::warning(format!(
                    "{point}, with {holds}, has {free} left; a new release as large as this one needs {}",
                    bytes(disk.next)
                ))
                .hint(ROOM),
            );
        }
        if disk.inodes > 0 && disk.free_inodes < disk.inodes / 20 {
            found.push(
                Finding::warning(format!(
                    "{point}, with {holds}, has {} inodes left",
                    disk.free_inodes
                ))
                .hint(ROOM),
            );
        }
        good.push(format!("{free} free for {holds}"));
    }
    if disks.is_empty() {
        return Finding::skipped("the file systems do not say");
    }
    Finding::all(found, good.join(", "))
}

const ROOM: &str =
    "monopod images prune removes what is not in use; docker system df shows the rest";

/// Bytes as people read them; powers of ten, as disks and Docker count.
pub(super) fn bytes(count: u64) -> String {
    let units = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1000, "kB"),
    ];
    match units.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) if count / size < 10 => {
            format!("{}.{} {unit}", count / size, count % size * 10 / size)
        }
        Some((size, unit)) => format!("{} {unit}", count / size),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        const G: u64 = 1_000_000_000;
        let table = [
            (
                4 * G,
                8 * G,
                100,
                100,
                G,
                State::Ok,
                "4.0 GB free for the store",
            ),
            (4 * G, 8 * G, 0, 0, G, State::Ok, ""),
            (0, 8 * G, 100, 100, 0, State::Failure, "is full"),
            (G / 4, 8 * G, 100, 100, 0, State::Warning, "250 MB left"),
            (
                10_000_000,
                G / 10,
                100,
                100,
                0,
                State::Warning,
                "10 MB left",
            ),
            (
                2 * G,
                8 * G,
                100,
                100,
                3 * G,
                State::Warning,
                "needs 3.0 GB",
            ),
            (4 * G, 8 * G, 4, 100, 0, State::Warning, "4 inodes left"),
        ];
        for (free, total, free_inodes, inodes, next, state, text) in table {
            let disk = Disk {
                holds: vec!["the store"],
                point: "/var".to_owned(),
                free,
                total,
                free_inodes,
                inodes,
                next,
                ..Disk::default()
            };
            let found = judge(&[disk]);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
        assert_eq!(judge(&[]).state, State::Skipped);
    }

    #[test]
    fn one_disk_for_both_is_counted_once() {
        let machine = super::super::tests::machine(&[("var/lib/monopod/x", "")]);
        let data = machine.paths.state();
        let disks = gather(&machine, data.to_str());
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].holds, ["the store", "the engine"]);
        assert!(disks[0].total > 0);
    }
}
