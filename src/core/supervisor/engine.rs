//! The line to the engine: how it has answered lately, what its silence excuses, and the rung that
//! restarts its unit.
//!
//! Silence is never read as anything about a container. A container that ends because the engine
//! stops (a Docker Engine without live-restore takes its containers along) has not failed.

use std::time::Duration;

use super::{Rescuing, Supervisor, Survey};
use crate::core::api::{Action, ReportKind, Rescue};
use crate::core::container::{Kind, Lately, Machine, Phase};
use crate::core::health::Verdict;
use crate::core::ladder::Ladder;
use crate::core::time::Time;

/// Longest delay between two attempts to reach an engine that does not answer.
const ASK_ENGINE: Duration = Duration::from_secs(10);

/// How long before the engine's silence a container's failure is taken for a part of it.
const ENGINE_STOPS: Duration = Duration::from_secs(5);

/// An engine that takes longer to confirm an end has most likely been started anew in between: behind a
/// socket of systemd's nobody is refused, one only waits.
const SLOW: Duration = Duration::from_secs(1);

/// Most failures that are excused before a container must have been stable: a workload that takes
/// the engine down each time is not the engine's fault.
const EXCUSES: u32 = 5;

/// How long the shell may take to say whether a request was taken. It promises 30 s.
const ANSWER_BY: Duration = Duration::from_secs(60);

/// How long an engine has from the request to its first answer: 90 s to stop, 90 s to start, which are
/// systemd's defaults, and a minute on top.
pub(super) const ENGINE_STARTS: Duration = Duration::from_secs(240);

impl Supervisor {
    pub(super) fn engine_answers(&mut self) {
        if self.engine.silent == 0 {
            return;
        }
        let now = self.now;
        self.engine.silent = 0;
        self.engine.since = now;
        self.engine.hold = now;
        self.engine.used.hold = Time::default();
        if self.engine.rescuing == Rescuing::Vain {
            self.engine.rescuing = Rescuing::Nothing;
        }
        for machine in &mut self.machines {
            // What nobody could tell of is asked at once; what it told wrongly is not asked faster.
            if let Phase::Unseen | Phase::Dead { looks: 0, .. } = machine.phase {
                machine.look_at = machine.look_at.min(now);
            }
        }
        self.report(
            None,
            ReportKind::EngineBack,
            "the engine answers again".to_owned(),
        );
    }

    /// An attempt went without an answer. Calls that were under way at the same time count as one.
    pub(super) fn engine_silent(&mut self, text: &str) {
        if self.engine.silent == 0 {
            self.engine.since = self.now;
            let text =
                format!("the engine does not answer ({text}); nothing is concluded from that");
            self.report(None, ReportKind::EngineSilent, text);
            for machine in &mut self.machines {
                machine.excuse(self.now);
            }
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

    /// Whether a process that ended now, unasked, ended with the engine.
    pub(super) fn ends_with_engine(&mut self, index: usize) -> bool {
        let record = &mut self.machines[index].record;
        let excused = self.engine.silent > 0 && record.excused < EXCUSES;
        if excused {
            record.excused += 1;
            record.hold = self.now;
        }
        excused
    }

    /// A call that changes something has had no answer. That is the engine's affair, and looks that are
    /// answered show it to be well: so if it comes to that again and again, the ladder has to answer.
    pub(super) fn unanswered(&mut self, index: usize) {
        let record = &mut self.machines[index].record;
        if record.excused < EXCUSES {
            record.excused += 1;
        } else {
            self.strike(index, None);
        }
    }

    /// The engine is needed and has been silent for longer than it takes to start.
    fn engine_overdue(&self) -> bool {
        self.engine.silent > 0
            && self.now - self.engine.since >= self.config.escalation.engine_after
            && self
                .all_wanted()
                .any(|machine| machine.verdict() != Verdict::Healthy)
    }

    /// The engine is needed, and all that could bring it back has been tried.
    pub(super) fn engine_lost(&self) -> bool {
        self.engine_overdue()
            && match self.engine.rescuing {
                Rescuing::Asked { .. } => false,
                Rescuing::Vain => true,
                Rescuing::Nothing => {
                    self.engine.used.restarts >= self.config.escalation.engine_restarts
                        && self.now >= self.engine.used.hold
                }
            }
    }

    /// The engine is silent, and its own rung comes before those above it.
    pub(super) fn engine_in_hand(&self) -> bool {
        self.engine.silent > 0 && !self.engine_lost()
    }

    /// Its unit is being restarted.
    pub(super) fn engine_restarts(&self) -> bool {
        self.engine.silent > 0
            && (matches!(self.engine.rescuing, Rescuing::Asked { .. })
                || self.now < self.engine.used.hold)
    }

    /// Asks for a restart of the engine's unit if it is time for that, and forgets old ones.
    pub(super) fn help_engine(&mut self) {
        let now = self.now;
        if let Rescuing::Asked { by } = self.engine.rescuing
            && by <= now
        {
            self.engine_rescued(Err("nobody said whether it was taken".to_owned()));
        }
        if self.engine_calm().is_some_and(|calm| calm <= now) {
            self.engine.used.restarts = 0;
        }
        let budget = self.config.escalation.engine_restarts;
        if self.parting.is_some()
            || !matches!(self.ladder, Ladder::Climbing | Ladder::Safe { .. })
            || self.engine.rescuing != Rescuing::Nothing
            || self.engine.used.restarts >= budget
            || now < self.engine.used.hold
            || !self.engine_overdue()
        {
            return;
        }
        self.engine.used.restarts += 1;
        self.engine.used.hold = now + ENGINE_STARTS;
        self.engine.rescuing = Rescuing::Asked {
            by: now + ANSWER_BY,
        };
        let text = format!(
            "the engine has not answered for {} s: its unit is restarted ({} of {budget})",
            (now - self.engine.since).as_secs(),
            self.engine.used.restarts,
        );
        self.report(None, ReportKind::EngineRestart, text.clone());
        // A daemon that ends here has used it all the same.
        self.record();
        self.actions.push(Action::Rescue(Rescue::Engine, text));
    }

    /// Whether the request was taken.
    pub(super) fn engine_rescued(&mut self, result: Result<(), String>) {
        if !matches!(self.engine.rescuing, Rescuing::Asked { .. }) {
            return;
        }
        match result {
            Ok(()) => self.engine.rescuing = Rescuing::Nothing,
            Err(text) => {
                // What was not done costs nothing, and is not waited for.
                self.engine.used.restarts = self.engine.used.restarts.saturating_sub(1);
                self.engine.used.hold = Time::default();
                self.engine.rescuing = if self.engine.silent > 0 {
                    Rescuing::Vain
                } else {
                    Rescuing::Nothing
                };
                let text = format!("the engine's unit is not restarted: {text}");
                self.report(None, ReportKind::RescueFailed, text);
            }
        }
    }

    /// When an engine that goes on answering has all restarts again.
    fn engine_calm(&self) -> Option<Time> {
        let answers = self.engine.silent == 0 && self.survey == Survey::Done;
        (answers && self.engine.used.restarts > 0)
            .then(|| self.engine.since + self.config.escalation.stable)
    }

    /// Failures that nothing has excused in time are the containers' own. As long as the engine owes a word
    /// on one end, nothing is settled.
    pub(super) fn settle_failures(&mut self) {
        let owes = |machine: &Machine| {
            matches!(machine.phase, Phase::Dead { looks: 0, .. }) && machine.pending.is_some()
        };
        if self.machines.iter().any(owes) {
            return;
        }
        for machine in &mut self.machines {
            if machine.settled_at().is_some_and(|at| at <= self.now) {
                machine.lately = None;
            }
        }
    }

    /// When something about the engine is due.
    pub(super) fn engine_deadline(&self) -> Option<Time> {
        let asked = match self.engine.rescuing {
            Rescuing::Asked { by } => Some(by),
            Rescuing::Nothing | Rescuing::Vain => None,
        };
        let overdue = (self.engine.silent > 0)
            .then(|| self.engine.since + self.config.escalation.engine_after);
        [
            asked,
            overdue,
            self.engine_calm(),
            Some(self.engine.hold),
            Some(self.engine.used.hold),
        ]
        .into_iter()
        .flatten()
        .filter(|time| *time > self.now)
        .min()
    }
}

impl Machine {
    /// Remembers what it was before a failure, for as long as that may turn out to be the engine's.
    pub(super) fn before_failure(&mut self, now: Time) {
        if self
            .lately
            .is_none_or(|lately| now - lately.since >= ENGINE_STOPS)
        {
            self.lately = Some(Lately {
                since: now,
                strikes: self.record.strikes,
                quick: self.record.quick,
            });
        }
    }

    /// When a failure will be its own.
    pub(super) fn settled_at(&self) -> Option<Time> {
        self.lately.map(|lately| lately.since + ENGINE_STOPS)
    }

    /// Its failures, without those that may still turn out to be the engine's.
    pub(super) fn own_strikes(&self) -> u32 {
        self.lately
            .map_or(self.record.strikes, |lately| lately.strikes)
    }

    /// What failed lately was the engine's end, not its own: it is started again at once.
    pub(super) fn excuse(&mut self, now: Time) {
        let Some(lately) = self.lately.take() else {
            return;
        };
        if self.record.excused >= EXCUSES {
            return;
        }
        self.record.excused += 1;
        self.record.strikes = lately.strikes;
        self.record.quick = lately.quick;
        self.record.hold = now;
        self.spare();
    }

    /// Whether the answer that comes now, to a look at a process that has ended, was long in coming.
    pub(super) fn confirmed_late(&self, kind: Kind, now: Time) -> bool {
        kind == Kind::Look
            && matches!(self.phase, Phase::Dead { looks: 0, .. })
            && now - self.since >= SLOW
    }
}
