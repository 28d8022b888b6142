//! The rungs above the containers' own, and what is written before one of them is used.

use std::time::Duration;

use super::{Purpose, Supervisor, Writing, calm_for};
use crate::core::api::{Action, ReportKind, Rescue};
use crate::core::container::{Machine, Want};
use crate::core::health::Verdict;
use crate::core::ladder::{Answered, Ladder, Spending, answer};
use crate::core::ledger::{Budgets, Entry};
use crate::core::time::Time;

/// How long after a failed write of the ledger the next one is tried.
const WRITE_AGAIN: Duration = Duration::from_secs(600);

/// How long a write of the ledger may take. A medium that takes longer is failing.
const WRITE_BY: Duration = Duration::from_secs(60);

/// How long a node has to go down once its reboot was asked for; other units may need their time.
pub(super) const REBOOTS: Duration = Duration::from_secs(300);

impl Supervisor {
    pub(super) fn climb(&mut self) {
        if self.parting.is_some() {
            return;
        }
        let now = self.now;
        match (&self.ladder, self.spent()) {
            // The way back comes first, and it is bounded.
            (Ladder::Climbing, Some(_)) if self.trial => {}
            // So does the engine's own rung.
            (Ladder::Climbing, Some(why)) if !self.engine_in_hand() => match self.writing {
                Writing::Nothing => self.next_rung(&why),
                Writing::Under { .. } => {}
                Writing::Late { .. } => self.enter_safe_state(&why),
            },
            (Ladder::Recording(_) | Ladder::Withholding { .. }, _) if self.relieved() => {
                self.ladder = Ladder::Climbing;
                self.recovered();
            }
            (Ladder::Withholding { since }, why) => {
                let patience = self.config.watchdog.unwrap_or_default().saturating_mul(3);
                if now - *since >= patience {
                    let why = why.unwrap_or_else(|| "the workload is not well".to_owned());
                    self.enter_safe_state(&format!("{why}, and systemd has not acted"));
                }
            }
            (Ladder::Rebooting { since }, _) if now - *since >= REBOOTS => {
                self.reboot_failed("the node is still up");
            }
            (Ladder::Safe { .. }, None) if self.at_foot() => {
                self.ladder = Ladder::Climbing;
                self.recovered();
            }
            (
                Ladder::Climbing
                | Ladder::Recording(_)
                | Ladder::Rebooting { .. }
                | Ladder::Safe { .. },
                _,
            ) => {}
        }
    }

    /// The containers' rungs and the engine's are used up.
    fn next_rung(&mut self, why: &str) {
        let policy = &self.config.escalation;
        let mut budgets = self.budgets.clone();
        let spending = if self.config.watchdog.is_some() && budgets.withheld < policy.withholds {
            budgets.withheld = budgets.withheld.saturating_add(1);
            Spending::Withholding
        } else if policy.reboot && budgets.reboots.count() < policy.reboots_per_day {
            budgets.reboots = budgets.reboots.one_more(&self.config.boot, self.now);
            Spending::Reboot
        } else {
            self.enter_safe_state(why);
            return;
        };
        self.ladder = Ladder::Recording(spending);
        self.write(budgets, Purpose::Rung(spending));
    }

    fn write(&mut self, budgets: Budgets, purpose: Purpose) {
        self.actions
            .push(Action::Persist(Entry::Budgets(budgets.clone())));
        self.writing = Writing::Under {
            budgets,
            purpose,
            by: self.now + WRITE_BY,
        };
    }

    /// Brings what is on disk up to date: budgets are refilled once the workload is stable, and time goes
    /// on for the reboots that count. Nothing is written if nothing is spent.
    pub(super) fn refill(&mut self) {
        if self.writing != Writing::Nothing || self.now < self.write_at {
            return;
        }
        let stable = self.config.escalation.stable;
        let stable = self.all_wanted().next().is_some()
            && self.all_wanted().all(|machine| {
                machine.record.strikes == 0
                    && calm_for(machine, self.now).is_some_and(|span| span >= stable)
            });
        let mut budgets = self.budgets.clone();
        let per_day = self.config.escalation.reboots_per_day;
        if (budgets.reboots.due(per_day)).is_some_and(|due| due <= self.now) {
            budgets.reboots = budgets.reboots.at(self.now);
        }
        if stable {
            budgets.withheld = 0;
            budgets.reboots = budgets.reboots.without_past();
        }
        if budgets != self.budgets {
            self.write(budgets, Purpose::Refill);
        }
    }

    /// The ledger is on disk, or is not.
    pub(super) fn persisted(&mut self, result: Result<(), String>) {
        let writing = std::mem::replace(&mut self.writing, Writing::Nothing);
        let (budgets, purpose) = match writing {
            Writing::Nothing => return,
            Writing::Under {
                budgets, purpose, ..
            } => (budgets, purpose),
            Writing::Late { budgets } => {
                // What it was for is past; what is on disk counts.
                if result.is_ok() {
                    self.budgets = budgets;
                }
                return;
            }
        };
        match result {
            Ok(()) => {
                self.budgets = budgets;
                match purpose {
                    // Who is told to end while it writes climbs no further.
                    Purpose::Rung(spending)
                        if self.ladder == Ladder::Recording(spending) && self.parting.is_none() =>
                    {
                        match spending {
                            Spending::Withholding => self.withhold(),
                            Spending::Reboot => self.reboot(),
                        }
                    }
                    Purpose::Rung(_) | Purpose::Refill => {}
                }
            }
            Err(text) => self.not_written(&text),
        }
    }

    /// A write takes too long. Its end will be told all the same, and is not another one's.
    pub(super) fn write_late(&mut self) {
        if let Writing::Under { budgets, .. } = &self.writing {
            self.writing = Writing::Late {
                budgets: budgets.clone(),
            };
            self.not_written("the medium does not answer");
        }
    }

    fn not_written(&mut self, text: &str) {
        self.write_at = self.now + WRITE_AGAIN;
        let text = format!("the ledger cannot be written: {text}");
        self.report(None, ReportKind::LedgerFailed, text);
        if matches!(self.ladder, Ladder::Recording(_)) {
            // A rung whose budget cannot be kept would have none.
            self.enter_safe_state("the ledger cannot be written");
        }
    }

    fn withhold(&mut self) {
        self.ladder = Ladder::Withholding { since: self.now };
        let text = format!(
            "the watchdog is no longer fed ({} of {}): systemd will restart monopod",
            self.budgets.withheld, self.config.escalation.withholds
        );
        self.report(None, ReportKind::WatchdogWithheld, text);
    }

    fn reboot(&mut self) {
        let why = self
            .spent()
            .unwrap_or_else(|| "the workload is not well".to_owned());
        if !self.config.escalation.reboot {
            // The files have changed while the ledger was written.
            self.enter_safe_state(&why);
            return;
        }
        self.ladder = Ladder::Rebooting { since: self.now };
        let text = format!(
            "{why}: the node is rebooted ({} of {} within 24 hours of uptime)",
            self.budgets.reboots.count(),
            self.config.escalation.reboots_per_day
        );
        self.report(None, ReportKind::RebootAsked, text.clone());
        self.actions.push(Action::Rescue(Rescue::Reboot, text));
    }

    /// What came of a request for help.
    pub(super) fn rescued(&mut self, rescue: Rescue, result: Result<(), String>) {
        match (rescue, result) {
            (Rescue::Engine, result) => self.engine_rescued(result),
            // Whoever took it may still be refused by systemd: that shows in time.
            (Rescue::Reboot, Ok(())) => {}
            (Rescue::Reboot, Err(text)) => self.reboot_failed(&text),
        }
    }

    fn reboot_failed(&mut self, why: &str) {
        if matches!(self.ladder, Ladder::Rebooting { .. }) {
            let text = format!("the node is not rebooted: {why}");
            self.report(None, ReportKind::RescueFailed, text.clone());
            self.enter_safe_state(&text);
        }
    }

    fn enter_safe_state(&mut self, why: &str) {
        self.ladder = Ladder::Safe { since: self.now };
        let text = format!(
            "safe state: {why}; monopod stays up and keeps asking. Look at `monopod status`, mend the cause, \
             then `monopod restart`"
        );
        self.report(None, ReportKind::SafeState, text);
    }

    fn recovered(&mut self) {
        self.report(
            None,
            ReportKind::Recovered,
            "the workload is well again; the watchdog is fed".to_owned(),
        );
    }

    /// The containers' own rungs, or the engine's, are used up somewhere, and that hurts.
    fn spent(&self) -> Option<String> {
        let container = self
            .machines
            .iter()
            .filter(|machine| self.is_spent(machine))
            .find_map(|machine| match machine.want {
                Want::Gone => Some(format!(
                    "the old container of {} cannot be removed",
                    machine.role
                )),
                Want::Run(_) if machine.verdict() == Verdict::Unhealthy => {
                    Some(format!("{} does not become healthy", machine.role))
                }
                Want::Run(_) => None,
            });
        container.or_else(|| {
            self.engine_lost()
                .then(|| "the engine does not answer".to_owned())
        })
    }

    /// Why nothing more can be done for the containers by restarting or recreating them.
    pub(crate) fn exhausted(&self) -> Option<String> {
        let why = self.spent().filter(|_| !self.engine_lost())?;
        let mut spent = self
            .machines
            .iter()
            .filter(|machine| self.is_spent(machine));
        let trouble = spent.find_map(|machine| machine.trouble.as_deref());
        Some(trouble.map_or(why.clone(), |trouble| format!("{why}: {trouble}")))
    }

    /// Nothing hurts any more. To be starting, or not to know, is not that.
    fn relieved(&self) -> bool {
        let hurts = |machine: &Machine| {
            self.is_spent(machine)
                && (machine.want == Want::Gone || machine.verdict() != Verdict::Healthy)
        };
        !self.machines.iter().any(hurts) && !self.engine_lost()
    }

    /// The lower rungs are used up somewhere, whether that hurts just now or not.
    pub(super) fn hopeless(&self) -> bool {
        self.machines.iter().any(|machine| self.is_spent(machine)) || self.engine_lost()
    }

    fn at_foot(&self) -> bool {
        self.engine.silent == 0
            && self
                .all_wanted()
                .all(|machine| machine.record.strikes == 0 && machine.verdict() == Verdict::Healthy)
    }

    fn is_spent(&self, machine: &Machine) -> bool {
        let strikes = machine.own_strikes();
        let answered = answer(strikes, machine.record.spared, &self.config.escalation);
        strikes > 0 && answered == Answered::Spent
    }

    /// When a rung's patience ends, or something is to be written.
    pub(super) fn rung_deadline(&self) -> Option<Time> {
        let rung = match self.ladder {
            Ladder::Rebooting { since } => Some(since + REBOOTS),
            Ladder::Climbing
            | Ladder::Recording(_)
            | Ladder::Withholding { .. }
            | Ladder::Safe { .. } => None,
        };
        let writing = match self.writing {
            Writing::Nothing => (self.budgets.reboots)
                .due(self.config.escalation.reboots_per_day)
                .map(|due| due.max(self.write_at)),
            Writing::Under { by, .. } => Some(by),
            Writing::Late { .. } => None,
        };
        let settled = self.machines.iter().filter_map(Machine::settled_at);
        [rung, writing, Some(self.write_at)]
            .into_iter()
            .flatten()
            .chain(settled)
            .filter(|time| *time > self.now)
            .min()
    }
}
