//! What people ask for: other files, a restart, the end.

use std::time::Duration;

use super::{End, Supervisor};
use crate::core::api::{Action, Desired, Notify, Parting, Policy, ReportKind};
use crate::core::container::{Course, Image, Kind, Machine, Want, Why};
use crate::core::ladder::Ladder;
use crate::core::ledger::Record;
use crate::core::time::Time;
use crate::spec::types::Role;

/// How long the end may take beyond the containers' grace periods.
const LAST_PATIENCE: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Takes over a policy; returns whether the ladder has another one now.
    fn configured(&mut self, policy: Policy) -> bool {
        let other = self.config.escalation != policy.escalation;
        self.config.escalation = policy.escalation;
        self.config.ready = policy.ready;
        self.refused = None;
        other
    }

    /// Files are in force. Whatever they leave as it was keeps its failures, and the ladder its rung: to read
    /// the same files again mends nothing.
    pub(super) fn reload(&mut self, desired: Vec<Desired>, policy: Option<Policy>) {
        let other_ladder = policy.is_some_and(|policy| self.configured(policy));
        let changed = self.put_in_force(desired);
        if other_ladder || (changed && !self.hopeless()) {
            self.begin_anew();
        }
        self.report(
            None,
            ReportKind::Reloaded,
            "the files were read again and are in force".to_owned(),
        );
    }

    /// Takes over what should run; returns whether anything is another one.
    fn put_in_force(&mut self, desired: Vec<Desired>) -> bool {
        let now = self.now;
        let mut changed = false;
        for machine in &mut self.machines {
            if !desired.iter().any(|desired| desired.role == machine.role) {
                if machine.desired().is_some() {
                    // What it did as a part of the workload says nothing of its removal.
                    machine.forgive(now);
                    changed = true;
                }
                machine.want = Want::Gone;
                machine.record.hold = now;
            }
        }
        for desired in desired {
            match self
                .machines
                .iter()
                .position(|machine| machine.role == desired.role && machine.desired().is_some())
            {
                Some(index) if self.machines[index].desired() == Some(&desired) => {}
                Some(index) => {
                    changed = true;
                    // The image that is on its way may be another one than is needed now.
                    self.abandon(index, &[Kind::Image, Kind::Verify, Kind::Rebuild]);
                    self.machines[index].change(desired, now);
                }
                None => {
                    changed = true;
                    self.machines.push(Machine::new(
                        desired.role.clone(),
                        Want::Run(desired),
                        Record::default(),
                        now,
                    ));
                }
            }
        }
        changed
    }

    /// Another release is in force, or none for the moment: whatever failed before was not its doing.
    ///
    /// On trial there are no upper rungs: whoever has put it on trial takes it back.
    pub(crate) fn switch(
        &mut self,
        now: Time,
        desired: Vec<Desired>,
        on_trial: bool,
    ) -> Vec<Action> {
        self.now = self.now.max(now);
        self.trial = on_trial;
        for machine in &mut self.machines {
            // What could not be removed before is not its doing either.
            machine.forgive(self.now);
        }
        self.put_in_force(desired);
        self.begin_anew();
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// What runs from the beginning is on trial.
    pub(crate) fn trial_begun(&mut self) {
        self.trial = true;
    }

    /// The release on trial has proved itself.
    pub(crate) fn trial_over(&mut self) {
        self.trial = false;
    }

    pub(super) fn restart_asked(&mut self, role: Option<&Role>) {
        let now = self.now;
        let mut asked = Vec::new();
        for machine in &mut self.machines {
            if machine.desired().is_some() && role.is_none_or(|role| *role == machine.role) {
                machine.course = Course::Restart(Why::Asked);
                // Root's hand is a new beginning.
                machine.forgive(now);
                asked.push(machine.role.clone());
            }
        }
        // The hope is for those that were asked for only: whoever else is spent stays so.
        if !asked.is_empty() && !self.hopeless() {
            self.begin_anew();
        }
        for role in asked {
            self.report(
                Some(&role),
                ReportKind::RestartAsked,
                format!("{role}: a restart was asked for"),
            );
        }
    }

    /// The ladder is climbed from its foot again. A reboot that was asked for comes all the same.
    fn begin_anew(&mut self) {
        if !matches!(self.ladder, Ladder::Rebooting { .. }) {
            self.ladder = Ladder::Climbing;
        }
    }

    pub(super) fn terminate(&mut self, parting: Parting) {
        if self.stopping() {
            return;
        }
        let graces: Duration = self
            .all_wanted()
            .filter_map(Machine::desired)
            .map(|desired| desired.grace)
            .sum();
        let by = self.now + graces + LAST_PATIENCE;
        self.parting = Some(End { parting, by });
        self.notify(Notify::Stopping);
        let text = match parting {
            Parting::Leave => "monopod ends; the containers run on",
            Parting::Stop => "monopod ends and stops the containers",
        };
        self.report(None, ReportKind::Stopping, text.to_owned());
        // Whatever delays or occupies an attempt does not delay the end.
        for index in 0..self.machines.len() {
            self.machines[index].record.hold = self.now;
            let kinds = [Kind::Image, Kind::Verify, Kind::Rebuild, Kind::Look];
            self.abandon(index, &kinds);
        }
        self.engine.silent = 0;
        self.engine.since = self.now;
        self.engine.hold = self.now;
    }
}

impl Machine {
    /// Takes over another spec; what it means for the container follows from its hash.
    fn change(&mut self, desired: Desired, now: Time) {
        self.want = Want::Run(desired);
        self.image = Image::Unchecked;
        if self.course == Course::Rebuild {
            // Another image, perhaps; and what failed is forgotten.
            self.course = Course::Keep;
        }
        self.forgive(now);
        self.trouble = None;
        let question = self.found().cloned().map(|found| self.question(&found));
        if let (Some(question), Some(alive)) = (question, self.alive_mut()) {
            alive.tracker.ask_differently(question, now);
        }
    }

    /// Forgets what failed before: the next attempt is a first one.
    pub(super) fn forgive(&mut self, now: Time) {
        self.record.clear();
        self.record.hold = now;
        self.lately = None;
    }
}
