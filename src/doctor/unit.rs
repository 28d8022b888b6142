//! The unit: there, enabled, running, and running this version.

use super::systemd::UnitFacts;
use super::{Check, Finding, Run};
use crate::systemd::client::Client;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "unit",
    title: "monopod.service: installed, enabled, running, of this version, and its drop-ins",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let unit = match machine.unit().await {
                Ok(unit) => unit,
                Err(finding) => return finding,
            };
            let running = match Client::connect(&machine.bus).await {
                Ok(client) => client.version().await.ok(),
                Err(_) => None,
            };
            // The folder is shut to others, who see neither that the file is there nor that it is not.
            let workload = machine.paths.workload().try_exists().unwrap_or(true);
            judge(
                unit,
                running.as_deref(),
                env!("CARGO_PKG_VERSION"),
                workload,
            )
        })
    }),
};

/// `running`: the daemon's version; `None` if it does not say. `workload`: whether there is a workload file, as far
/// as can be seen.
fn judge(unit: &UnitFacts, running: Option<&str>, own: &str, workload: bool) -> Finding {
    const STATUS: &str = "why: systemctl status monopod, journalctl -u monopod";
    match unit.load.as_str() {
        "loaded" => {}
        "not-found" => {
            return Finding::failure("monopod.service is not installed")
                .hint("install the package, or units/monopod.service of the source");
        }
        "masked" => {
            return Finding::failure("monopod.service is masked: nobody can start it")
                .hint("systemctl unmask monopod");
        }
        _ => {
            return Finding::failure(format!(
                "systemd cannot read monopod.service ({})",
                unit.load
            ))
            .hint(
                "systemd-analyze verify monopod.service; systemctl cat monopod shows its drop-ins",
            );
        }
    }
    let mut found = Vec::new();
    match unit.active.as_str() {
        "active" | "reloading" => {}
        "activating" => found.push(
            Finding::note("it is starting: READY waits for the workload").hint("monopod status"),
        ),
        "failed" => {
            found.push(Finding::failure(format!("it has failed ({})", unit.result)).hint(STATUS));
        }
        _ if !workload => found.push(Finding::note("it waits for a workload file")),
        other => found.push(
            Finding::warning(format!("it is {other}"))
                .hint("systemctl start monopod")
                .hint(STATUS),
        ),
    }
    if !unit.file.starts_with("enabled") {
        let file = if unit.file.is_empty() {
            "not enabled"
        } else {
            &unit.file
        };
        found.push(
            Finding::warning(format!("it is {file}: it does not start at boot"))
                .hint("systemctl enable monopod"),
        );
    }
    if let Some(running) = running.filter(|running| *running != own) {
        found.push(
            Finding::warning(format!(
                "restart pending: {running} runs, {own} is installed"
            ))
            .hint("systemctl restart monopod; the containers run on meanwhile"),
        );
    }
    if unit.reload_needed {
        found.push(
            Finding::note("its unit file has changed since systemd read it")
                .hint("systemctl daemon-reload"),
        );
    }
    if unit.restarts > 0 {
        found.push(
            Finding::note(format!(
                "systemd has restarted it {} times ({})",
                unit.restarts, unit.result
            ))
            .hint(STATUS),
        );
    }
    let good = match unit.drop_ins.as_slice() {
        [] => "enabled and running, without drop-ins".to_owned(),
        drop_ins => format!("enabled and running, with {}", drop_ins.join(", ")),
    };
    Finding::all(found, good)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::State;
    use super::*;

    /// A unit that is as it should be.
    pub fn good() -> UnitFacts {
        UnitFacts {
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            file: "enabled".to_owned(),
            drop_ins: vec![],
            reload_needed: false,
            result: "success".to_owned(),
            restarts: 0,
            watchdog: 60_000_000,
            user: "monopod".to_owned(),
            groups: vec![],
            bounding: 0,
            ambient: 0,
            runtime_watchdog: 30_000_000,
        }
    }

    fn with(change: fn(&mut UnitFacts)) -> UnitFacts {
        let mut unit = good();
        change(&mut unit);
        unit
    }

    fn held(unit: &UnitFacts, running: Option<&str>, workload: bool, state: State, text: &str) {
        let found = judge(unit, running, "1", workload);
        assert_eq!(found.state, state, "{found:?}");
        assert!(found.finding.contains(text), "{found:?}");
    }

    #[test]
    fn units_that_run() {
        let table = [
            (
                good(),
                Some("1"),
                State::Ok,
                "enabled and running, without drop-ins",
            ),
            (
                with(|u| u.drop_ins.push("/etc/x.conf".to_owned())),
                Some("1"),
                State::Ok,
                "with /etc/x.conf",
            ),
            (good(), None, State::Ok, "running"),
            (
                good(),
                Some("0.9"),
                State::Warning,
                "restart pending: 0.9 runs, 1 is installed",
            ),
            (
                with(|u| u.file = "enabled-runtime".to_owned()),
                None,
                State::Ok,
                "running",
            ),
            (
                with(|u| u.file = "disabled".to_owned()),
                None,
                State::Warning,
                "it is disabled",
            ),
            (
                with(|u| u.file.clear()),
                None,
                State::Warning,
                "it is not enabled",
            ),
            (
                with(|u| u.reload_needed = true),
                None,
                State::Note,
                "has changed",
            ),
            (with(|u| u.restarts = 2), None, State::Note, "2 times"),
        ];
        for (unit, running, state, text) in table {
            held(&unit, running, true, state, text);
        }
    }

    #[test]
    fn units_that_do_not() {
        let table = [
            (
                with(|u| u.load = "not-found".to_owned()),
                true,
                State::Failure,
                "not installed",
            ),
            (
                with(|u| u.load = "masked".to_owned()),
                true,
                State::Failure,
                "masked",
            ),
            (
                with(|u| u.load = "bad-setting".to_owned()),
                true,
                State::Failure,
                "bad-setting",
            ),
            (
                with(|u| u.active = "failed".to_owned()),
                true,
                State::Failure,
                "it has failed",
            ),
            (
                with(|u| u.active = "inactive".to_owned()),
                true,
                State::Warning,
                "it is inactive",
            ),
            (
                with(|u| u.active = "inactive".to_owned()),
                false,
                State::Note,
                "waits for a workload",
            ),
            (
                with(|u| u.active = "activating".to_owned()),
                true,
                State::Note,
                "starting",
            ),
        ];
        for (unit, workload, state, text) in table {
            held(&unit, None, workload, state, text);
        }
    }
}
