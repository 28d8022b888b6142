//! Updates: which release runs, which is to run, and which never again. Pure, as all of the core.
//!
//! ```text
//!  offer ──> Staging ──> Waiting ──> Noting ──┬─> Hooking ──┬─> Emptying ──> Snapshotting ──┬─> Recording ──> Trial
//!            (files,     (window,    (ledger) │   (if any)  │  (if volumes are to be copied)│   (ledger)    (health)
//!             images)     hold, lock)  │      └─────────────┘                               │                  │
//!                                      └─ (if there is neither hook nor volume) ────────────┘                  ├─> committed
//!                                                                                                              v
//!                        the release before runs <── Loading <── (Emptying <─ Restoring) <── Recording: rejected
//! ```
//!
//! Nothing that runs is touched before the release that is to replace it is staged completely, and
//! the ledger says that it is on trial. What comes before and may end the node is on record, too: what
//! kills it each time is given up, in the trial and before. What is under way ends in an event, or in its own deadline.
//! What a release's containers do, the supervisor decides; here is decided which ones there are.

mod answer;
mod ask;
mod book;
mod id;
mod pen;
mod stage;
mod told;
mod trial;
mod view;
mod waiting;

#[cfg(test)]
mod tests;

pub use ask::{Ask, Origin, Refused, Wish};
pub use book::{Book, By, Lying, Next, Rejected, Signed, TrialRecord};
pub use id::ReleaseId;
pub use told::{Gates, NotNow, Staged, TaskId};
pub use view::UpdateView;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::api::{Action, AppNote, Desired, Event, Report, ReportKind};
use crate::core::ledger::{Entry, Part, Volatile};
use crate::core::time::Time;
use crate::spec::types::{Activation, Role, Trial};

use self::pen::Pen;
use self::stage::{Ready, Stage};

/// How a node takes updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How a release proves itself.
    pub trial: Trial,
    /// Whether a staged release is activated by itself.
    pub activation: Activation,
}

/// What must be known of the containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Since when every container is the one that it should be, and Healthy without a break.
    pub well_since: Option<Time>,
    /// Why nothing more can be done for them by restarting or recreating them.
    pub exhausted: Option<String>,
    /// There are none.
    pub empty: bool,
}

/// What is to become of the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// They all go.
    Empty,
    /// From now on there are these, of this release, as that task has read it.
    Switch {
        task: TaskId,
        release: ReleaseId,
        desired: Vec<Desired>,
        on_trial: bool,
    },
    /// The release on trial is in force.
    Committed,
}

/// The whole state.
#[derive(Clone, Debug)]
pub struct Update {
    rules: Rules,
    pen: Pen,
    stage: Stage,
    locks: BTreeSet<Role>,
    /// The release that is on trial, or was when the daemon was told to end, and since when.
    began: Option<(ReleaseId, Time)>,
    now: Time,
    /// What no release needs any more is to go, as soon as the ledger says so, too.
    tidy_due: bool,
    next_task: u64,
    actions: Vec<Action>,
    orders: Vec<Order>,
}

impl Update {
    /// Begins with what the ledger says on disk, and what it is to say after [`Book::at_start`]: that
    /// could perhaps not be written. Whoever makes this has put [`Book::running`] of the latter in force,
    /// or nothing if volumes are still to be put back.
    pub fn new(rules: Rules, disk: Book, book: Book, volatile: &Volatile, now: Time) -> Self {
        let began = volatile.trial.as_ref();
        let stage = Stage::at_start(&book, &rules, began, now);
        Self {
            rules,
            pen: Pen::new(disk, book, now),
            stage,
            locks: volatile.locks.clone(),
            began: began.cloned(),
            now,
            tidy_due: false,
            next_task: 1,
            actions: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// Takes an event.
    pub(crate) fn take(&mut self, now: Time, event: &Event) {
        self.now = self.now.max(now);
        match event {
            Event::Persisted(Part::Book, result) => {
                if let Err(text) = self.pen.written(result.clone(), self.now) {
                    self.not_written(&text);
                }
            }
            Event::StageMoved(task) => self.stage_moved(*task),
            Event::Staged(task, result) => self.staged(*task, result.clone()),
            Event::Gates(task, gates) => self.looked(*task, gates),
            Event::Hooked(task, result) => self.hooked(*task, result.clone()),
            Event::Snapshotted(task, result) => self.snapshotted(*task, result.clone()),
            Event::Restored(task, result) => self.restored(*task, result.clone()),
            Event::Loaded(task, result) => self.loaded(*task, result.clone()),
            Event::StoreChanged | Event::PreloadDone => self.try_now(),
            Event::App(role, AppNote::Busy(true)) => {
                self.locks.insert(role.clone());
            }
            Event::App(role, AppNote::Busy(false)) | Event::Died { role, .. } => {
                if self.locks.remove(role) {
                    self.look_now();
                }
            }
            Event::Reload {
                policy: Some(policy),
                ..
            } => {
                self.rules = Rules {
                    trial: policy.trial.clone(),
                    activation: policy.activation,
                };
                self.stage_anew();
            }
            Event::Terminate(_) => self.stage = Stage::Ending,
            Event::Tick
            | Event::Done(..)
            | Event::Progress(_)
            | Event::Unwatched { .. }
            | Event::Probed { .. }
            | Event::App(..)
            | Event::Persisted(Part::Budgets, _)
            | Event::Reload { policy: None, .. }
            | Event::ReloadRefused(_)
            | Event::Rescued(..)
            | Event::StoreDamaged(_)
            | Event::Restart(_) => {}
        }
    }

    /// What follows from the state. [`Self::actions`] and [`Self::orders`] have it afterwards.
    pub(crate) fn settle(&mut self, now: Time, facts: &Facts) {
        self.now = self.now.max(now);
        if self.pen.overdue(self.now) {
            self.not_written("the medium does not answer");
        }
        // Each round ends a stage or changes nothing; the way from offer to trial is no longer.
        for _ in 0..16 {
            // What is known of the containers is of the past as soon as they are to be others.
            if !self.orders.is_empty() || !self.advance(facts) {
                break;
            }
        }
        if self.tidy_due && self.pen.is_dry() && matches!(self.stage, Stage::Idle) {
            self.tidy_due = false;
            let kept = self.pen.wanted().kept();
            self.actions.push(Action::Tidy(kept));
        }
        if let Stage::Trial(trying) = &self.stage {
            self.began = Some((trying.release.clone(), trying.since));
        } else if !matches!(self.stage, Stage::Ending) {
            self.began = None;
        }
        if let Some(book) = self.pen.next(self.now) {
            self.actions
                .push(Action::Persist(Entry::Book(Box::new(book))));
        }
    }

    /// What is to be done.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What is to become of the containers.
    pub(crate) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// The containers whose apps have said that this is no moment for an update.
    pub(crate) fn locks(&self) -> &BTreeSet<Role> {
        &self.locks
    }

    /// The release on trial, and since when it is.
    pub(crate) fn began(&self) -> Option<&(ReleaseId, Time)> {
        self.began.as_ref()
    }

    /// A container that has ended says nothing any more.
    pub(crate) fn unlock(&mut self, is_down: impl Fn(&Role) -> bool) {
        let before = self.locks.len();
        self.locks.retain(|role| !is_down(role));
        if self.locks.len() != before {
            self.look_now();
        }
    }

    /// What the ledger says, or will say as soon as it can be written.
    pub fn book(&self) -> &Book {
        self.pen.wanted()
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens before.
    pub fn deadline(&self, facts: &Facts) -> Option<Time> {
        [self.pen.deadline(), self.stage.deadline(&self.rules, facts)]
            .into_iter()
            .flatten()
            .filter(|time| *time > self.now)
            .min()
    }

    /// Has the shell do something, under a name of its own.
    fn begin(&mut self, action: impl FnOnce(TaskId) -> Action) -> TaskId {
        let task = TaskId(self.next_task);
        self.next_task += 1;
        self.actions.push(action(task));
        task
    }

    fn report(&mut self, kind: ReportKind, text: String) {
        self.actions.push(Action::Report(Report {
            role: None,
            kind,
            text,
        }));
    }

    /// Changes what the ledger is to say.
    fn write(&mut self, change: impl FnOnce(&mut Book)) {
        let mut book = self.pen.wanted().clone();
        change(&mut book);
        self.pen.want(book);
    }

    fn not_written(&mut self, text: &str) {
        self.report(
            ReportKind::LedgerFailed,
            format!("the ledger cannot be written: {text}"),
        );
        self.unrecorded();
    }

    /// A release is out: it is not taken again by itself.
    fn reject(&mut self, release: &ReleaseId, why: &str) {
        self.write(|book| book.reject(release, why));
        self.report(
            ReportKind::ReleaseRejected,
            format!(
                "release {release} is rejected: {why}; what runs stays. To try it once more: \
                 monopod release retry {release}"
            ),
        );
    }

    /// What is to be tried has nothing in its way any more.
    fn go(&mut self, ready: Ready) {
        let next = self.pen.wanted().next.as_ref();
        if next.is_none_or(|next| next.release != ready.release) {
            // Nothing has been touched for it yet, and something else is wanted by now, or nothing.
            self.stage = Stage::Idle;
            return;
        }
        self.stage = if ready.staged.volumes {
            self.orders.push(Order::Empty);
            Stage::Emptying {
                ready,
                by: self.now + stage::EMPTY,
            }
        } else {
            self.record(ready, false, false)
        };
    }

    /// Nothing is to be tried any more: whoever wanted it wants what runs.
    fn is_withdrawn(&self) -> bool {
        self.pen.wanted().next.is_none()
    }
}

/// A span, for people.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
