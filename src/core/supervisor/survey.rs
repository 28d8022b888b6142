//! The first look at what the engine has, and whose each container is.

use super::outcome::Ended;
use super::{Supervisor, Survey};
use crate::core::api::{Action, Fault, Outcome, Seen, SeenState};
use crate::core::container::{Machine, Want};
use crate::core::ledger::Record;

impl Supervisor {
    /// The survey's answer. Nothing is made or started before one has come.
    pub(super) fn surveyed(&mut self, result: Result<Outcome, Fault>) {
        self.survey = Survey::Due;
        match result {
            Ok(Outcome::Seen(seen)) => {
                self.engine_answers();
                self.survey = Survey::Done;
                for index in 0..self.machines.len() {
                    let mine = self.choose(index, &seen);
                    let sight = self.machines[index].see(mine.as_ref(), self.now);
                    let machine = &mut self.machines[index];
                    if machine.outdated() {
                        // What failed before was another container.
                        machine.forgive(self.now);
                    }
                    self.sighted(index, sight, Ended::AsAsked);
                }
                self.take_orphans(&seen);
            }
            Ok(_) => self.engine_silent("it gave another answer than was asked for"),
            Err(
                Fault::NoAnswer(text)
                | Fault::NotFound(text)
                | Fault::Conflict(text)
                | Fault::ImageMissing(text)
                | Fault::Refused(text),
            ) => self.engine_silent(&text),
        }
    }

    /// Which of the containers seen belongs to a machine. Further ones of its role become machines that go.
    pub(super) fn choose(&mut self, index: usize, seen: &[Seen]) -> Option<Seen> {
        let machine = &self.machines[index];
        if machine.want == Want::Gone {
            let role = &machine.role;
            return match &machine.last_id {
                Some(id) => seen.iter().find(|seen| seen.id == *id).cloned(),
                // It may have been made by a call that nobody heard of again.
                None => seen
                    .iter()
                    .find(|seen| seen.role == *role && !self.is_claimed(&seen.id))
                    .cloned(),
            };
        }
        let fits = |seen: &Seen| {
            (machine.desired()).is_some_and(|desired| desired.is_made(&seen.hash, &seen.image_id))
        };
        let role = machine.role.clone();
        let mut mine: Vec<&Seen> = seen
            .iter()
            .filter(|seen| seen.role == role && !self.is_leaving(&seen.id))
            .collect();
        // The one that runs, then the one that fits; two can only be there after a renamed workload.
        mine.sort_by_key(|seen| (!matches!(seen.state, SeenState::Running(_)), !fits(seen)));
        let (first, others) = mine.split_first()?;
        let others: Vec<Seen> = others.iter().map(|seen| (*seen).clone()).collect();
        let first = (*first).clone();
        self.leave(&others);
        Some(first)
    }

    /// Another machine that goes has this container.
    fn is_leaving(&self, id: &str) -> bool {
        self.machines
            .iter()
            .any(|machine| machine.want == Want::Gone && machine.last_id.as_deref() == Some(id))
    }

    fn is_claimed(&self, id: &str) -> bool {
        self.machines
            .iter()
            .any(|machine| machine.last_id.as_deref() == Some(id))
    }

    /// Containers of ours that the workload does not name.
    fn take_orphans(&mut self, seen: &[Seen]) {
        let orphans: Vec<Seen> = seen
            .iter()
            .filter(|seen| self.wanted(&seen.role).is_none())
            .cloned()
            .collect();
        self.leave(&orphans);
    }

    fn leave(&mut self, seen: &[Seen]) {
        for seen in seen {
            if self.is_leaving(&seen.id) {
                continue;
            }
            let mut machine =
                Machine::new(seen.role.clone(), Want::Gone, Record::default(), self.now);
            machine.see(Some(seen), self.now);
            self.machines.push(machine);
            self.watch(self.machines.len() - 1);
        }
    }

    /// Has the end of a machine's process watched.
    pub(super) fn watch(&mut self, index: usize) {
        let machine = &self.machines[index];
        if let Some(alive) = machine.alive() {
            let (role, id, pid) = (machine.role.clone(), alive.found.id.clone(), alive.pid);
            self.actions.push(Action::Watch { role, id, pid });
        }
    }
}
