//! Memory: what is left of it, whether the workload's limits fit, and whether swap wears out flash.

use super::{Check, Finding, Machine, Run, mounts, space};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "memory",
    title: "memory left, the workload's limits beside it, and swap on flash",
    run: Run::Files(|machine| judge(&gather(machine))),
};

#[derive(Default)]
struct Facts {
    /// Bytes; 0 if the kernel does not say.
    total: u64,
    available: u64,
    /// The workload's `mem_limit`s together, bytes.
    limits: u64,
    /// Swap that is on flash.
    flash_swap: Vec<String>,
}

fn gather(machine: &Machine) -> Facts {
    let meminfo = machine.text("/proc/meminfo");
    let value = |key: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.unwrap_or(0) * 1024
    };
    let limits = machine.workload().map_or(0, |workload| {
        workload
            .containers
            .iter()
            .filter_map(|one| one.mem_limit)
            .sum()
    });
    // A file is on the file system's device, and most devices have a name that says enough.
    let flash_swap = machine
        .text("/proc/swaps")
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            if name.starts_with("/dev/") {
                mounts::flash(machine, &number(machine, name), name)
            } else {
                mounts::of(machine, std::path::Path::new(name)).is_some_and(|mount| mount.flash)
            }
        })
        .filter(|name| !name.starts_with("/dev/zram"))
        .map(str::to_owned)
        .collect();
    Facts {
        total: value("MemTotal"),
        available: value("MemAvailable"),
        limits,
        flash_swap,
    }
}

/// `MAJOR:MINOR` of a block device, from sysfs; empty if it does not say.
fn number(machine: &Machine, device: &str) -> String {
    let name = device.trim_start_matches("/dev/");
    machine
        .text(&format!("/sys/class/block/{name}/dev"))
        .trim()
        .to_owned()
}

fn judge(facts: &Facts) -> Finding {
    if facts.total == 0 {
        return Finding::skipped("the kernel does not say how much there is");
    }
    let (total, left) = (space::bytes(facts.total), space::bytes(facts.available));
    let mut found = Vec::new();
    if facts.available < facts.total / 10 {
        found.push(
            Finding::warning(format!("{left} of {total} are left"))
                .hint("what uses it: systemd-cgtop -m; mem_limit in the workload file keeps a container in bounds"),
        );
    }
    if facts.limits > facts.total {
        found.push(
            Finding::warning(format!(
                "the workload's limits come to {}, and the machine has {total}: the kernel kills before they hold",
                space::bytes(facts.limits)
            ))
            .hint("lower mem_limit in the workload file"),
        );
    }
    for name in &facts.flash_swap {
        found.push(
            Finding::warning(format!("swap on {name} wears out the flash")).hint(format!(
                "swapoff {name}, and take it out of /etc/fstab; zram swaps in memory"
            )),
        );
    }
    Finding::all(found, format!("{left} of {total} left"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn judgements() {
        const G: u64 = 1_000_000_000;
        let swap = || vec!["/dev/mmcblk0p3".to_owned()];
        let table = [
            (2 * G, G, G, vec![], State::Ok),
            (2 * G, G / 10, 0, vec![], State::Warning),
            (2 * G, G, 3 * G, vec![], State::Warning),
            (2 * G, G, 0, swap(), State::Warning),
            (0, 0, 0, vec![], State::Skipped),
        ];
        for (total, available, limits, flash_swap, state) in table {
            let found = judge(&Facts {
                total,
                available,
                limits,
                flash_swap,
            });
            assert_eq!(found.state, state, "{found:?}");
        }
    }

    #[test]
    fn the_kernels_files_are_read() {
        let facts = gather(&machine(&[
            (
                "proc/meminfo",
                "MemTotal:        2000 kB\nMemFree: 1 kB\nMemAvailable:     1000 kB\n",
            ),
            (
                "proc/swaps",
                "Filename Type Size Used Priority\n/dev/mmcblk0p3 partition 9 0 -2\n/dev/zram0 partition 9 0 -2\n\
                 /dev/sda2 partition 9 0 -2\n/dev/sdb2 partition 9 0 -2\n",
            ),
            ("sys/class/block/zram0/dev", "252:0\n"),
            ("sys/dev/block/252:0/queue/rotational", "0\n"),
            ("sys/class/block/sda2/dev", "8:2\n"),
            ("sys/dev/block/8:2/queue/rotational", "0\n"),
            ("sys/class/block/sdb2/dev", "8:18\n"),
            ("sys/dev/block/8:18/queue/rotational", "1\n"),
        ]));
        assert_eq!((facts.total, facts.available), (2_048_000, 1_024_000));
        assert_eq!(facts.flash_swap, ["/dev/mmcblk0p3", "/dev/sda2"]);
    }
}
