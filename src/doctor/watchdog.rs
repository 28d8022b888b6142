//! The chain of watchdogs: the hardware watches systemd, systemd watches monopod, monopod the workload.

use super::systemd::UnitFacts;
use super::{Check, Finding, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "watchdog",
    title: "the chain from the hardware's watchdog by systemd to monopod's own",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let unit = match machine.unit().await {
                Ok(unit) => unit,
                Err(finding) => return finding,
            };
            let device = ["/dev/watchdog0", "/dev/watchdog"]
                .iter()
                .any(|path| machine.at(path).exists());
            judge(unit, device)
        })
    }),
};

/// Seconds of a watchdog; `None` if there is none (systemd writes none as 0 or as infinity).
fn seconds(microseconds: u64) -> Option<u64> {
    (microseconds != 0 && microseconds != u64::MAX).then(|| microseconds.div_ceil(1_000_000))
}

fn judge(unit: &UnitFacts, device: bool) -> Finding {
    let mut found = Vec::new();
    let own = seconds(unit.watchdog);
    if own.is_none() && unit.load == "loaded" {
        found.push(
            Finding::warning(
                "monopod.service has no WatchdogSec: nobody notices a daemon that hangs",
            )
            .hint("systemctl edit monopod, and write [Service] and WatchdogSec=60"),
        );
    }
    let runtime = seconds(unit.runtime_watchdog);
    match (device, runtime) {
        (true, Some(_)) => {}
        (true, None) => found.push(
            Finding::warning("the hardware's watchdog is not used: a kernel or a systemd that hangs, hangs for ever")
                .hint("in /etc/systemd/system.conf.d/watchdog.conf: [Manager] and RuntimeWatchdogSec=30")
                .hint("then: systemctl daemon-reexec"),
        ),
        (false, Some(_)) => found.push(
            Finding::warning("RuntimeWatchdogSec is set, and there is no /dev/watchdog")
                .hint("load the driver of the board's watchdog at boot: /etc/modules-load.d/; lsmod shows what is loaded"),
        ),
        (false, None) => found.push(
            Finding::note("there is no /dev/watchdog: nothing resets a machine that hangs")
                .hint("if the board has one, load its driver: /etc/modules-load.d/"),
        ),
    }
    let span = |seconds: Option<u64>| {
        seconds.map_or_else(|| "none".to_owned(), |span| format!("{span} s"))
    };
    Finding::all(
        found,
        format!("hardware {}, monopod {}", span(runtime), span(own)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::unit::tests::good;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            (
                "loaded",
                60_000_000,
                30_000_000,
                true,
                State::Ok,
                "hardware 30 s, monopod 60 s",
            ),
            (
                "loaded",
                0,
                30_000_000,
                true,
                State::Warning,
                "no WatchdogSec",
            ),
            (
                "loaded",
                u64::MAX,
                30_000_000,
                true,
                State::Warning,
                "no WatchdogSec",
            ),
            ("not-found", 0, 30_000_000, true, State::Ok, "monopod none"),
            ("loaded", 60_000_000, 0, true, State::Warning, "is not used"),
            (
                "loaded",
                60_000_000,
                u64::MAX,
                true,
                State::Warning,
                "is not used",
            ),
            (
                "loaded",
                60_000_000,
                1,
                false,
                State::Warning,
                "there is no /dev/watchdog",
            ),
            (
                "loaded",
                60_000_000,
                0,
                false,
                State::Note,
                "nothing resets",
            ),
        ];
        for (load, watchdog, runtime_watchdog, device, state, text) in table {
            let unit = UnitFacts {
                load: load.to_owned(),
                watchdog,
                runtime_watchdog,
                ..good()
            };
            let found = judge(&unit, device);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }
}
