//! Who makes the containers' cgroups: the engine by itself, or systemd.

use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "cgroup-driver",
    title: "the engine's cgroup driver: systemd, so that monopod.slice holds the containers",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match machine.info().await {
                Ok(info) => judge(&info.cgroup_driver, machine.booted_by_systemd()),
                Err(silence) => silence.skipped(),
            }
        })
    }),
};

fn judge(driver: &str, systemd: bool) -> Finding {
    match driver {
        "systemd" => Finding::ok("systemd: the containers are in monopod.slice"),
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
            ("systemd", true, State::Ok),
            ("cgroupfs", true, State::Note),
            ("cgroupfs", false, State::Ok),
            ("none", true, State::Warning),
            ("", true, State::Note),
            ("new", true, State::Note),
        ];
        for (driver, systemd, state) in table {
            assert_eq!(judge(driver, systemd).state, state, "{driver} {systemd}");
        }
    }
}
