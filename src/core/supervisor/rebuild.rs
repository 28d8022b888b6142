//! The rung that rebuilds a container's image from the store, and what is known of damage in the store.
//!
//! ```text
//!  strike ─> Verify ─> stop, remove ─> others make room ─> Rebuild ─> create, start
//!              └─ the store has it not whole: stepped over, nothing was removed
//! ```
//!
//! Layers that another image has, too, are fed anew only if that one goes and comes with it. It does if the store
//! has it as well and it is nobody else's; if another container of ours is made from it, only for a second attempt,
//! which that container makes room for.
//!
//! What the engine has is never given up before the store's copy has been read whole and found right. And
//! whatever goes wrong on the way, the next attempt is made with what is there, as if there were no such rung.

use super::{Preload, Supervisor};
use crate::core::api::{Action, ReportKind, Sharer};
use crate::core::container::{Course, Image, Kind, Machine, Phase, Stored, Want, Why};

impl Supervisor {
    /// The store has a machine's image whole: what the engine has may go.
    pub(super) fn verified(&mut self, index: usize, id: String, sharers: Vec<Sharer>) {
        let machine = &mut self.machines[index];
        if machine.course == Course::Rebuild {
            let along = sharers
                .into_iter()
                .filter(|sharer| sharer.stored && !sharer.foreign)
                .map(|sharer| sharer.id)
                .collect();
            machine.image = Image::Stored(Stored {
                along,
                ..Stored::alone(id)
            });
        }
    }

    /// The store has a machine's image not, or not whole; or it is not ours alone to remove.
    pub(super) fn not_verified(&mut self, index: usize, why: &str) {
        if self.preload == Preload::Done {
            self.step_over(index, why);
        } else if self.machines[index].course == Course::Rebuild {
            // The archive may be on its way.
            self.machines[index].image = Image::missing(self.now);
        }
    }

    /// The engine has a machine's image anew; `before` is what was known of it.
    pub(super) fn rebuilt(&mut self, index: usize, before: &Image) {
        let machine = &mut self.machines[index];
        machine.spare();
        let role = machine.role.clone();
        let more = match before {
            Image::Stored(stored) if stored.spares => {
                machine.record.spared = true;
                "; layers that another container's image has, too, were left as they are"
            }
            Image::Stored(stored) if !stored.along.is_empty() => {
                ", together with those that share layers with it"
            }
            Image::Stored(_) | Image::Unchecked | Image::Ready(_) | Image::Missing { .. } => "",
        };
        let text = format!(
            "{role}: its image was removed from the engine and fed again from the store{more}"
        );
        self.report(Some(&role), ReportKind::Rebuilt, text);
    }

    /// The rung is not to be had: in its place the container is made anew of what there is.
    pub(super) fn step_over(&mut self, index: usize, why: &str) {
        let machine = &mut self.machines[index];
        if machine.course != Course::Rebuild {
            return;
        }
        machine.course = if machine.found().is_some() {
            Course::Recreate(Why::Sick)
        } else {
            Course::Keep
        };
        machine.image = Image::Unchecked;
        let role = machine.role.clone();
        let text = format!("{role}: its image is not rebuilt: {why}; a further recreation");
        self.report(Some(&role), ReportKind::Recreating, text);
    }

    /// One machine at a time rebuilds an image. The others that are made from it make room: the engine
    /// keeps what a container uses, damaged as it is.
    pub(super) fn make_room(&mut self) {
        self.spare_others();
        for index in 0..self.machines.len() {
            let stored = self.rebuilt_from(&self.machines[index]);
            let now = self.now;
            let machine = &mut self.machines[index];
            match stored {
                Some(id) if machine.found().is_some() && machine.want != Want::Gone => {
                    if machine.course != Course::Recreate(Why::Shared) {
                        machine.course = Course::Recreate(Why::Shared);
                        machine.record.hold = now;
                    }
                    machine.image = Image::Stored(Stored::alone(id));
                }
                Some(_) => machine.spare(),
                None if machine.course == Course::Recreate(Why::Shared)
                    && machine.alive().is_some()
                    && machine.pending.is_none() =>
                {
                    machine.course = Course::Keep;
                }
                None => {}
            }
        }
    }

    /// Leaves out of a first attempt what other containers are made from.
    fn spare_others(&mut self) {
        for index in 0..self.machines.len() {
            let machine = &self.machines[index];
            let Some(stored) = machine.rebuilds().filter(|_| !machine.record.spared) else {
                continue;
            };
            let others = self.machines.iter();
            let others: Vec<&Machine> = others.filter(|other| !is_same(other, machine)).collect();
            let used = |id: &String| others.iter().any(|other| other.holds(id));
            let mut stored = stored.clone();
            let spared: Vec<String> = stored.along.extract_if(.., |id| used(id)).collect();
            if !spared.is_empty() {
                stored.spares = true;
                self.machines[index].image = Image::Stored(stored);
            }
        }
    }

    /// The image that a machine is made from and another one rebuilds. Of several that would, the first does.
    fn rebuilt_from(&self, machine: &Machine) -> Option<String> {
        let same = |other: &Machine| is_same(other, machine);
        let first = self.machines.iter().find(|other| {
            let rebuilds = other.rebuilds();
            rebuilds.is_some_and(|stored| same(other) || machine.has_any(stored))
        })?;
        let stored = first.rebuilds().filter(|_| !same(first))?;
        stored.ids().find(|id| machine.has(id)).cloned()
    }

    /// Whether a machine has to wait with its next container for a rebuild of its image.
    pub(super) fn is_reserved(&self, machine: &Machine) -> bool {
        self.rebuilt_from(machine).is_some()
    }

    /// Whether no container but a machine's own is, or may be, made from the image that it rebuilds.
    pub(super) fn has_room(&self, machine: &Machine) -> bool {
        let Some(stored) = machine.rebuilds() else {
            return true;
        };
        let others = self.machines.iter();
        !others
            .filter(|other| !is_same(other, machine))
            .any(|other| {
                // What it is made from nobody knows before it is seen.
                let unseen = matches!(other.phase, Phase::Unseen);
                unseen || stored.ids().any(|id| other.holds(id))
            })
    }

    /// A container that should have made room does not: the rebuild is given up.
    pub(super) fn no_room(&mut self, index: usize) {
        let machine = &self.machines[index];
        if machine.course != Course::Recreate(Why::Shared) && machine.want != Want::Gone {
            return;
        }
        let role = machine.role.clone();
        let waiting: Vec<usize> = (0..self.machines.len())
            .filter(|other| {
                self.machines[*other]
                    .rebuilds()
                    .is_some_and(|stored| self.machines[index].has_any(stored))
            })
            .collect();
        for other in waiting {
            self.step_over(
                other,
                &format!("{role} is made from it, too, and does not end"),
            );
        }
    }

    /// What is damaged in the store. For what was not known yet the preload folder is gone through again,
    /// once: a medium that loses what it is given is not to be worn out.
    pub(super) fn store_damaged(&mut self, lines: Vec<String>) {
        let mut fetch = false;
        for line in &lines {
            if !self.damaged.contains(line) {
                self.report(None, ReportKind::StoreDamaged, line.clone());
            }
            fetch |= self.fetched.insert(line.clone());
        }
        self.damaged = lines;
        if !fetch || self.parting.is_some() {
            return;
        }
        match self.preload {
            // The archive may have been passed already.
            Preload::Running | Preload::Again => self.preload = Preload::Again,
            Preload::Done => {
                self.preload = Preload::Running;
                self.actions.push(Action::Preload);
            }
        }
    }

    /// The preload folder has been gone through.
    pub(super) fn preload_done(&mut self) {
        if self.preload == Preload::Again {
            self.preload = Preload::Running;
            self.actions.push(Action::Preload);
        } else {
            self.preload = Preload::Done;
        }
        self.look_for_images();
    }
}

impl Machine {
    /// The image that it rebuilds, once the store is known to have it.
    fn rebuilds(&self) -> Option<&Stored> {
        match (&self.image, self.course, &self.want) {
            (Image::Stored(stored), Course::Rebuild, Want::Run(_)) => Some(stored),
            _ => None,
        }
    }

    /// Whether the engine may need this image for a container of its.
    fn holds(&self, id: &str) -> bool {
        let creates = (self.pending).is_some_and(|pending| pending.kind == Kind::Create);
        self.has(id) && (self.found().is_some() || creates)
    }

    /// Whether its container is made from one of these images, or its next one would be.
    fn has_any(&self, stored: &Stored) -> bool {
        stored.ids().any(|id| self.has(id))
    }

    /// Whether its container is made from this image, or its next one would be.
    fn has(&self, id: &str) -> bool {
        match (self.found(), self.desired()) {
            // One that nobody can tell may be this one: files changed while it was made.
            (Some(found), _) => found.image_id == id || found.image_id.is_empty(),
            (None, Some(desired)) => match &self.image {
                Image::Stored(Stored { id: other, .. }) | Image::Ready(other) => other == id,
                Image::Unchecked | Image::Missing { .. } => desired.image_id.as_deref() == Some(id),
            },
            (None, None) => false,
        }
    }
}

/// Whether it is one machine. Two of one role are told apart by their containers.
fn is_same(one: &Machine, other: &Machine) -> bool {
    one.role == other.role && one.want == other.want && one.last_id == other.last_id
}
