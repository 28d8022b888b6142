//! What the core says to do about releases, each deed by itself; its end is an event.
//!
//! It decides nothing, as the rest of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::rc::Rc;

use tokio::task::spawn_local;
use tracing::{error, warn};

use super::deeds::{Deeds, Ready, Shared, helper};
use super::in_force::{InForce, LoadError};
use super::{Running, hook, staging, volumes};
use crate::core::api::{Action, Event, NotNow, TaskId};
use crate::core::health::Verdict;
use crate::core::update::ReleaseId;
use crate::release::{ReleaseError, Releases};
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::UpdatePolicy;
use crate::volumes::SnapshotVolume;

impl Shared {
    /// The volumes that either of two releases wants copied: what the one has written is the other's, too.
    pub(super) fn volumes(
        &self,
        tried: &ReleaseId,
        current: Option<&ReleaseId>,
    ) -> Result<Vec<SnapshotVolume>, String> {
        let mut volumes: Vec<SnapshotVolume> = Vec::new();
        for id in [Some(tried), current].into_iter().flatten() {
            let workload = match InForce::load(&self.paths, id) {
                Ok(release) => release.workload,
                Err(error) => {
                    // A device that is gone does not change which volumes there are.
                    let file = Releases::new(&self.paths).workload_file(id);
                    let host = ThisHost::of_environment();
                    let loaded = spec::load_file(&file, &host);
                    Rc::new(loaded.map_err(|_| format!("release {id}: {error}"))?.value)
                }
            };
            for volume in SnapshotVolume::of(&workload) {
                if !volumes.iter().any(|known| known.name == volume.name) {
                    volumes.push(volume);
                }
            }
        }
        Ok(volumes)
    }

    /// A release may be in force soon.
    fn remember(&self, task: TaskId, release: Rc<InForce>, reads: u64) {
        let mut known = self.ready.borrow_mut();
        known.retain(|ready| ready.release.id() != release.id());
        known.push(Ready {
            task,
            release,
            reads,
        });
        // One that is to be tried, and one to go back to.
        let over = known.len().saturating_sub(2);
        known.drain(..over);
    }
}

impl Deeds {
    /// The node's own files were read again: from now on updates may be when this says.
    pub fn follow(&mut self, policy: UpdatePolicy) {
        *self.shared.policy.borrow_mut() = policy;
        self.shared.reads.set(self.shared.reads.get() + 1);
    }

    /// Begins a deed of the update.
    pub(super) fn start_for_update(&mut self, action: Action) {
        let shared = Rc::clone(&self.shared);
        match action {
            Action::Hook(task, id) => {
                spawn_local(async move {
                    let current = shared.in_force().id().clone();
                    let result = hook::ask(&shared, &id, &current).await;
                    shared.tell(Event::Hooked(task, result));
                });
            }
            Action::Load(task, id) => {
                let result = match InForce::load(&shared.paths, &id) {
                    Ok(loaded) => {
                        let desired = loaded.desired(&shared.paths);
                        shared.remember(task, Rc::new(loaded), shared.reads.get());
                        Ok(desired)
                    }
                    // What is damaged stays so; a device that it names may come again.
                    Err(LoadError::Release(
                        error @ (ReleaseError::Damaged(_) | ReleaseError::NotFound(_)),
                    )) => Err(NotNow::Never(error.to_string())),
                    Err(error) => Err(NotNow::Later(error.to_string())),
                };
                shared.tell(Event::Loaded(task, result));
            }
            Action::Enforce(task, id) => self.enforce(task, &id),
            Action::Tidy(kept) => {
                spawn_local(tidy(shared, kept));
            }
            // The rest is the supervisor's, or the loop's own.
            Action::Stage(..)
            | Action::LookAtGates(..)
            | Action::Snapshot(..)
            | Action::Restore(..)
            | Action::Engine(..)
            | Action::Abandon(_)
            | Action::Probe { .. }
            | Action::Watch { .. }
            | Action::Persist(_)
            | Action::Rescue(..)
            | Action::Preload
            | Action::Record(_)
            | Action::Notify(_)
            | Action::Report(_)
            | Action::Exit => {}
        }
    }

    /// Looks what stands in a staged release's way, and whether its signature still holds: its key may have been
    /// revoked while it waited. One that was `committed` before is trusted for that.
    pub(super) fn look_at_gates(&mut self, task: TaskId, id: ReleaseId, committed: bool) {
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            let policy = shared.policy.borrow().clone();
            let mut gates = staging::gates(&policy).await;
            gates.trusted = staging::trusted(&shared.paths, &id, committed);
            shared.tell(Event::Gates(task, gates));
        });
    }

    /// Checks a release's files and gives the engine its images. One that was `committed` before is trusted
    /// for that; of any other the signature must hold now, too.
    /// Whatever was being staged before is not wanted any more.
    pub(super) fn stage(&mut self, task: TaskId, id: ReleaseId, committed: bool) {
        let shared = Rc::clone(&self.shared);
        let staging = spawn_local(async move {
            let reads = shared.reads.get();
            let result = staging::stage(&shared, task, &id, committed).await;
            let result = result.map(|(staged, ready)| {
                shared.remember(task, ready, reads);
                staged
            });
            shared.tell(Event::Staged(task, result));
        });
        let before = self.shared.staging.replace(Some(staging.abort_handle()));
        if let Some(before) = before {
            before.abort();
        }
    }

    /// Has the volumes copied before a release is tried in the place of `current`.
    pub(super) fn snapshot(&mut self, task: TaskId, id: ReleaseId, current: Option<ReleaseId>) {
        let shared = Rc::clone(&self.shared);
        *shared.copied.borrow_mut() = Some(id.clone());
        spawn_local(async move {
            let result = match shared.volumes(&id, current.as_ref()) {
                Ok(volumes) => volumes::snapshot(&shared.paths, &id, &volumes).await,
                Err(text) => Err(text),
            };
            shared.tell(Event::Snapshotted(task, result));
        });
    }

    /// Has them put back.
    pub(super) fn restore(&mut self, task: TaskId, id: ReleaseId, current: Option<ReleaseId>) {
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            let result = match shared.volumes(&id, current.as_ref()) {
                Ok(volumes) => volumes::restore(&shared.paths, &id, &volumes).await,
                Err(text) => Err(text),
            };
            // Copies that could not be put back are not thrown away.
            *shared.copied.borrow_mut() = result.is_ok().then(|| id.clone());
            shared.tell(Event::Restored(task, result));
        });
    }

    /// From now on containers are made as this release says, as that task has staged or loaded it.
    fn enforce(&mut self, task: TaskId, id: &ReleaseId) {
        let ready = std::mem::take(&mut *self.shared.ready.borrow_mut());
        match ready.into_iter().find(|ready| ready.task == task) {
            Some(ready) if ready.reads == self.shared.reads.get() => self.change(ready.release),
            // The node's own files have changed since, when there was no way back to staging it.
            Some(ready) => match InForce::load(&self.shared.paths, id) {
                Ok(loaded) => {
                    let desired = loaded.desired(&self.shared.paths);
                    self.change(Rc::new(loaded));
                    self.shared.tell(Event::Reload {
                        desired,
                        policy: None,
                    });
                }
                Err(error) => {
                    error!("release {id} runs with the node's files as they were: {error}");
                    self.change(ready.release);
                }
            },
            None if self.in_force().id() == id => {}
            None => match InForce::load(&self.shared.paths, id) {
                Ok(loaded) => self.change(Rc::new(loaded)),
                // Its containers cannot be made then, and that is said again by each attempt.
                Err(error) => error!("release {id}: {error}"),
            },
        }
    }

    /// Writes down the images of the release in force that nobody knew when it was made.
    pub fn fill(&self, images: BTreeMap<String, String>) {
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            let in_force = shared.in_force();
            let (releases, id) = (Releases::new(&shared.paths), in_force.id().clone());
            let filled = tokio::task::spawn_blocking(move || releases.fill(&id, &images)).await;
            match filled {
                Ok(Ok(release)) => {
                    let mut place = shared.in_force.borrow_mut();
                    if place.id() == &release.id {
                        let workload = Rc::clone(&place.workload);
                        *place = Rc::new(InForce { release, workload });
                    }
                }
                Ok(Err(error)) => warn!("{error}"),
                Err(error) => warn!("{error}"),
            }
        });
    }
}

impl Running {
    /// Has something done, with what the ledger says of it.
    pub(super) fn start(&mut self, action: Action) {
        match action {
            Action::Stage(task, id) => {
                let committed = self.has_been_committed(&id);
                self.deeds.stage(task, id, committed);
            }
            Action::LookAtGates(task, id) => {
                let committed = self.has_been_committed(&id);
                self.deeds.look_at_gates(task, id, committed);
            }
            Action::Snapshot(task, id) => {
                let current = self.node.update().book.current;
                self.deeds.snapshot(task, id, current);
            }
            Action::Restore(task, id) => {
                let current = self.node.update().book.current;
                self.deeds.restore(task, id, current);
            }
            Action::Tidy(mut kept) => {
                // One that a newer one was tried before may have its turn now.
                self.offer_again();
                kept.extend(self.node.update().book.kept());
                self.deeds.start(Action::Tidy(kept));
            }
            action => self.deeds.start(action),
        }
    }

    fn has_been_committed(&self, id: &ReleaseId) -> bool {
        let book = self.node.update().book;
        [&book.current, &book.previous].contains(&&Some(id.clone()))
    }

    /// The images of a first release are known for certain when they run and are healthy.
    pub(super) fn fill(&mut self) {
        let in_force = self.deeds.in_force();
        let known = self.filled.as_ref() == Some(in_force.id());
        let open = in_force.release.images.values().any(Option::is_none);
        if known || !open || self.published.verdict != Verdict::Healthy {
            return;
        }
        let containers = self.published.containers.values();
        let images = containers
            .filter_map(|container| Some((container.image.clone(), container.image_id.clone()?)))
            .collect();
        self.filled = Some(in_force.id().clone());
        self.deeds.fill(images);
    }
}

/// Removes every release but these, in a process of its own.
async fn tidy(shared: Rc<Shared>, kept: BTreeSet<ReleaseId>) {
    let copied = shared.copied.borrow_mut().take();
    if let Some(id) = copied
        && let Err(error) = volumes::forget(&shared.paths, &id).await
    {
        warn!("the copies of volumes made before release {id} stay: {error}");
    }
    let mut words = vec!["tidy"];
    words.extend(kept.iter().map(ReleaseId::as_str));
    let ended = helper(&shared.paths, &words)
        .stdin(Stdio::null())
        .status()
        .await;
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => warn!("not every old release could be removed ({status})"),
        Err(error) => warn!("cannot remove old releases: {error}"),
    }
}
