//! Do the containers outlive a restart of the engine?

use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "live-restore",
    title: "whether containers outlive a restart or an upgrade of the engine",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            match (machine.version().await, machine.info().await) {
                (Ok(version), Ok(info)) => judge(version, info.live_restore),
                (Err(silence), _) | (_, Err(silence)) => silence.skipped(),
            }
        })
    }),
};

fn judge(version: &str, live_restore: bool) -> Finding {
    if version.starts_with("Podman") {
        return Finding::ok("Podman's containers do not hang on its service");
    }
    if live_restore {
        return Finding::ok("on: the containers run on while dockerd restarts");
    }
    Finding::note(
        "off: a restart or an upgrade of dockerd stops the workload, and monopod starts it again",
    )
    .hint("in /etc/docker/daemon.json: { \"live-restore\": true }; then: systemctl reload docker")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            ("Docker 26.1.5", true, State::Ok),
            ("Docker 26.1.5", false, State::Note),
            ("Podman 4.3.1", false, State::Ok),
        ];
        for (version, on, state) in table {
            assert_eq!(judge(version, on).state, state, "{version} {on}");
        }
    }
}
