//! Who makes the containers' cgroups: the engine by itself, or systemd.

use std::path::Path;

use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "cgroup-driver",
    title: "the engine's cgroup driver: systemd, so that monopod.slice holds the containers",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match machine.info().await {
                Ok(info) => judge(
                    &info.cgroup_driver,
                    machine.booted_by_systemd(),
                    machine.paths.root() == Path::new("/"),
                ),
                Err(silence) => silence.skipped(),
            }
        })
    }),
};

/// `real`: whether this is the node itself, and nothing below a root of its own.
fn judge(driver: &str, systemd: bool, real: bool) -> Finding {
    match driver {
        "systemd" if real => Finding::ok("systemd: containers are made in monopod.slice"),
        "systemd" => Finding::ok("systemd; monopod.slice is for the containers of the root / only"),
        "cgroupfs" if systemd => Finding::note("cgroupfs: limits of monopod.slice do not reach the containers")
            .hint("in /etc/docker/daemon.json: { \"exec-opts\": [\"native.cgroupdriver=systemd\"] }")
            .hint("then: systemctl restart docker; monopod makes the containers anew at: systemctl restart monopod"),
        "cgroupfs" => Finding::ok("cgroupfs, as is right without systemd"),
        "none" => Finding::warning("none: no limit of any container has an effect")
            .hint("a rootless engine needs its cgroups delegated by systemd"),
        "" => Finding::note("the engine does not say which it uses"),
        driver => Finding::note(format!("{driver}: not one that monopod knows")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            ("systemd", true, true, State::Ok, "made in monopod.slice"),
            ("systemd", true, false, State::Ok, "of the root / only"),
            ("cgroupfs", true, true, State::Note, "do not reach"),
            ("cgroupfs", false, true, State::Ok, "without systemd"),
            ("none", true, true, State::Warning, "no limit"),
            ("", true, true, State::Note, "does not say"),
            ("new", true, true, State::Note, "new"),
        ];
        for (driver, systemd, real, state, text) in table {
            let found = judge(driver, systemd, real);
            assert_eq!(found.state, state, "{driver} {systemd}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }
}
