//! The line to the engine, and the rungs above the containers' own: what is written before they are used.

use std::time::Duration;

use super::{EngineLine, Supervisor, Writing};
use crate::core::api::ReportKind;
use crate::core::ladder::Ladder;
use crate::core::ledger::Durable;

/// Longest delay between two attempts to reach an engine that does not answer.
const ASK_ENGINE: Duration = Duration::from_secs(10);

/// How long after a failed write of the ledger the next one is tried.
const WRITE_AGAIN: Duration = Duration::from_secs(600);

impl Supervisor {
    pub(super) fn engine_answers(&mut self) {
        if self.engine.silent > 0 {
            self.engine = EngineLine {
                silent: 0,
                since: self.now,
                hold: self.now,
            };
            self.report(
                None,
                ReportKind::EngineBack,
                "the engine answers again".to_owned(),
            );
        }
    }

    /// An attempt went without an answer. Calls that were under way at the same time count as one.
    pub(super) fn engine_silent(&mut self, text: &str) {
        if self.engine.silent == 0 {
            self.engine.since = self.now;
            let text =
                format!("the engine does not answer ({text}); nothing is concluded from that");
            self.report(None, ReportKind::EngineSilent, text);
        } else if self.now < self.engine.hold {
            return;
        }
        self.engine.silent = self.engine.silent.saturating_add(1);
        let base = self.config.escalation.backoff_base;
        // To ask costs little, and a workload may wait for the answer.
        let delay = self
            .jitter
            .delay(self.engine.silent.saturating_add(1), base, ASK_ENGINE);
        self.engine.hold = self.now + delay;
    }

    /// The ledger is on disk, or is not.
    pub(super) fn persisted(&mut self, result: Result<(), String>) {
        let writing = std::mem::replace(&mut self.writing, Writing::Nothing);
        let now = self.now;
        match (writing, result) {
            (Writing::Nothing, _) => {}
            (Writing::Withhold { .. }, Ok(())) => {
                self.durable = Durable {
                    withheld: self.durable.withheld.saturating_add(1),
                };
                if self.ladder == Ladder::Recording {
                    self.withhold();
                }
            }
            (Writing::Reset { .. }, Ok(())) => self.durable = Durable::default(),
            (writing, Err(text)) => {
                self.write_at = now + WRITE_AGAIN;
                self.report(
                    None,
                    ReportKind::LedgerFailed,
                    format!("the ledger cannot be written: {text}"),
                );
                if matches!(writing, Writing::Withhold { .. }) && self.ladder == Ladder::Recording {
                    // A rung whose budget cannot be kept would have none.
                    self.enter_safe_state("the ledger cannot be written");
                }
            }
        }
    }

    fn withhold(&mut self) {
        self.ladder = Ladder::Withholding { since: self.now };
        let text = format!(
            "the watchdog is no longer fed ({} of {}): systemd will restart monopod",
            self.durable.withheld, self.config.escalation.withholds
        );
        self.report(None, ReportKind::WatchdogWithheld, text);
    }

    pub(super) fn enter_safe_state(&mut self, why: &str) {
        self.ladder = Ladder::Safe { since: self.now };
        let text = format!(
            "safe state: {why}; monopod stays up and keeps asking. Look at `monopod status`, mend the cause, \
             then `monopod restart`"
        );
        self.report(None, ReportKind::SafeState, text);
    }
}
