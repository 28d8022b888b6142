//! The trial and its two ends: the release is committed, or what was before comes back.

use std::time::Duration;

use super::stage::{COPYING, EMPTY, Stage};
use super::{Book, Facts, Order, ReleaseId, Rules, TrialRecord, Update, span};
use crate::core::api::{Action, Desired, NotNow, ReportKind, TaskId};
use crate::core::time::Time;

/// How long reading a release's files may take.
const LOADING: Duration = Duration::from_secs(120);

/// How long after a release's files could not be read the next attempt is made. Once none of those that there are
/// could be, it doubles from round to round.
const LOAD_AGAIN: Duration = Duration::from_secs(5);

/// The longest time between two attempts to read a release's files.
const LOAD_AGAIN_MOST: Duration = Duration::from_secs(600);

/// How long after volumes could not be put back it is tried again, and how often.
const RESTORE_AGAIN: Duration = Duration::from_secs(30);
const RESTORES: u32 = 3;

/// How often what should run again is read before what is less good is taken: a device that it names may be
/// gone for a moment.
const LOADS: u32 = 24;

/// How long the ledger's write is waited for before what was before comes back without it.
pub(super) const RECORD: Duration = Duration::from_secs(70);

/// A release on trial.
#[derive(Clone, Debug)]
pub(super) struct Trying {
    pub release: ReleaseId,
    pub since: Time,
    by: Time,
    /// It has proved itself; that is being written down.
    pub committing: bool,
    /// Somebody wants the release before back meanwhile; the ledger is waited for until then.
    pub leaves: Option<Time>,
    /// Somebody has gone back to it by hand.
    pub back: bool,
}

impl Trying {
    pub fn new(release: ReleaseId, rules: &Rules, now: Time) -> Self {
        Self {
            release,
            since: now,
            by: now + rules.trial.deadline,
            committing: false,
            leaves: None,
            back: false,
        }
    }

    /// It has been on trial before this daemon began, in the same boot. Its time goes on, but for what it needs to
    /// prove itself to somebody who has just come.
    pub fn begun(mut self, since: Option<Time>, rules: &Rules) -> Self {
        if let Some(since) = since.filter(|since| *since <= self.since) {
            let least = self.since + rules.trial.settle.saturating_mul(2);
            self.by = least.max(since + rules.trial.deadline).min(self.by);
            self.since = since;
        }
        self
    }

    /// When it will have proved itself if nothing happens.
    fn good_at(&self, rules: &Rules, facts: &Facts) -> Option<Time> {
        let well = facts.well_since?;
        Some(well.max(self.since) + rules.trial.settle)
    }

    pub fn deadline(&self, rules: &Rules, facts: &Facts) -> Option<Time> {
        if self.committing {
            return self.leaves;
        }
        let good = self.good_at(rules, facts);
        Some(good.map_or(self.by, |good| good.min(self.by)))
    }
}

/// The way back.
#[derive(Clone, Debug)]
pub(super) struct Back {
    /// The release that has failed.
    pub failed: ReleaseId,
    why: String,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// It is being written down.
    Recording { by: Time, volumes: bool },
    /// The containers go, so that nothing writes to the volumes.
    Emptying { by: Time },
    /// The volumes are put back.
    Restoring {
        task: TaskId,
        by: Time,
        attempt: u32,
    },
    /// That did not work, and is tried again.
    RestoreLater { at: Time, attempt: u32 },
    /// That the volumes are as they were is being written down.
    Ended { by: Time },
    /// The files of the first of these are read.
    Loading {
        candidates: Vec<ReleaseId>,
        /// How often the first of them could not be read.
        attempts: u32,
        /// How often another one has had its turn.
        turns: usize,
        state: Load,
    },
}

impl Step {
    fn loading(candidates: Vec<ReleaseId>) -> Self {
        Self::Loading {
            candidates,
            attempts: 0,
            turns: 0,
            state: Load::Due,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Load {
    Due,
    Under { task: TaskId, by: Time },
    Later { at: Time },
}

impl Back {
    /// After a restart of the daemon: there are no containers, and the volumes are to be put back.
    pub fn emptied(trial: &TrialRecord, now: Time) -> Self {
        Self {
            failed: trial.release.clone(),
            why: trial.reverting.clone().unwrap_or_default(),
            step: Step::Emptying { by: now + EMPTY },
        }
    }

    /// There are no containers, and nothing to be put back.
    pub fn loading(failed: ReleaseId, book: &Book, why: &str) -> Self {
        let candidates = candidates(book, &failed);
        Self {
            failed,
            why: why.to_owned(),
            step: Step::loading(candidates),
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        match &self.step {
            Step::Recording { by, .. }
            | Step::Emptying { by }
            | Step::Restoring { by, .. }
            | Step::Ended { by } => Some(*by),
            Step::RestoreLater { at, .. } => Some(*at),
            Step::Loading { state, .. } => match state {
                Load::Due => None,
                Load::Under { by, .. } => Some(*by),
                Load::Later { at } => Some(*at),
            },
        }
    }

    /// For people: what is being done.
    pub fn say(&self) -> String {
        format!("release {} is taken back: {}", self.failed, self.why)
    }
}

/// What may run again, the best first. The failed one itself is better than nothing.
fn candidates(book: &Book, failed: &ReleaseId) -> Vec<ReleaseId> {
    let mut candidates: Vec<ReleaseId> = Vec::new();
    for release in [book.current.as_ref(), book.previous.as_ref(), Some(failed)]
        .into_iter()
        .flatten()
    {
        if !candidates.contains(release) {
            candidates.push(release.clone());
        }
    }
    candidates
}

impl Update {
    /// Whether the release on trial has proved itself, or failed.
    pub(super) fn judge(&mut self, facts: &Facts) -> bool {
        let now = self.now;
        let dry = self.pen.is_dry();
        let Stage::Trial(trying) = &mut self.stage else {
            return false;
        };
        if trying.committing {
            let leaves = trying.leaves.is_some_and(|by| by <= now);
            if !dry && !leaves {
                return false;
            }
            let release = trying.release.clone();
            self.stage = Stage::Idle;
            if !dry {
                return true;
            }
            self.report(
                ReportKind::Committed,
                format!("release {release} has proved itself and is committed"),
            );
            self.tidy_due = true;
            return true;
        }
        if trying
            .good_at(&self.rules, facts)
            .is_some_and(|good| good <= now)
        {
            trying.committing = true;
            // What fails from now on is the ladder's, whether the ledger can be written or not.
            self.orders.push(Order::Committed);
            let book = self.pen.wanted().committed();
            self.pen.want(book);
            return true;
        }
        if let Some(why) = &facts.exhausted {
            self.take_back(&why.clone());
            return true;
        }
        if trying.by <= now {
            let why = format!(
                "it was not healthy for {} without a break within {}",
                span(self.rules.trial.settle),
                span(self.rules.trial.deadline)
            );
            self.take_back(&why);
            return true;
        }
        false
    }

    /// The release on trial has failed.
    pub(super) fn take_back(&mut self, why: &str) {
        let Stage::Trial(trying) = &self.stage else {
            return;
        };
        let failed = trying.release.clone();
        let volumes = (self.pen.wanted().trial.as_ref()).is_some_and(|trial| trial.snapshot);
        let book = self.pen.wanted().taken_back(why);
        self.pen.want(book);
        self.report(
            ReportKind::ReleaseRejected,
            format!("release {failed} has failed its trial: {why}; the release before comes back"),
        );
        self.stage = Stage::Back(Back {
            failed,
            why: why.to_owned(),
            step: Step::Recording {
                by: self.now + RECORD,
                volumes,
            },
        });
    }

    /// Goes one step back, if that is possible.
    pub(super) fn go_back(&mut self, facts: &Facts) -> bool {
        let now = self.now;
        let dry = self.pen.is_dry();
        let Stage::Back(back) = &self.stage else {
            return false;
        };
        let failed = back.failed.clone();
        let step = match back.step.clone() {
            // A node whose ledger cannot be written goes back all the same.
            Step::Recording { by, volumes } if dry || by <= now => {
                if volumes {
                    self.orders.push(Order::Empty);
                    Step::Emptying { by: now + EMPTY }
                } else {
                    Step::loading(candidates(self.pen.wanted(), &failed))
                }
            }
            Step::Emptying { by } if facts.empty || by <= now => self.restore(failed, 1),
            Step::Restoring { task, by, .. } if by <= now => {
                self.restored(task, Err("it does not come to an end".to_owned()));
                return true;
            }
            Step::RestoreLater { at, attempt } if at <= now => self.restore(failed, attempt + 1),
            Step::Ended { by } if dry || by <= now => {
                Step::loading(candidates(self.pen.wanted(), &failed))
            }
            Step::Loading {
                candidates,
                attempts,
                turns,
                state,
            } => {
                let due = match state {
                    Load::Due => true,
                    Load::Under { by, .. } if by <= now => {
                        // It is tried once more, and then the next one is read.
                        self.not_loaded("reading it does not come to an end", LOADS / 2);
                        return true;
                    }
                    Load::Under { .. } => false,
                    Load::Later { at } => at <= now,
                };
                let Some(first) = candidates.first().filter(|_| due).cloned() else {
                    return false;
                };
                let task = self.begin(|task| Action::Load(task, first));
                let by = now + LOADING;
                Step::Loading {
                    candidates,
                    attempts,
                    turns,
                    state: Load::Under { task, by },
                }
            }
            Step::Recording { .. }
            | Step::Emptying { .. }
            | Step::Restoring { .. }
            | Step::RestoreLater { .. }
            | Step::Ended { .. } => return false,
        };
        if let Stage::Back(back) = &mut self.stage {
            back.step = step;
        }
        true
    }

    fn restore(&mut self, failed: ReleaseId, attempt: u32) -> Step {
        let task = self.begin(|task| Action::Restore(task, failed));
        Step::Restoring {
            task,
            by: self.now + COPYING,
            attempt,
        }
    }

    pub(super) fn restored(&mut self, which: TaskId, result: Result<(), String>) {
        let now = self.now;
        let Stage::Back(back) = &mut self.stage else {
            return;
        };
        let Step::Restoring { task, attempt, .. } = back.step else {
            return;
        };
        if task != which {
            return;
        }
        let (failed, why) = (back.failed.clone(), back.why.clone());
        match result {
            Err(text) if attempt < RESTORES => {
                back.step = Step::RestoreLater {
                    at: now + RESTORE_AGAIN,
                    attempt,
                };
                self.report(
                    ReportKind::ReleaseDelayed,
                    format!("the volumes cannot be put back yet: {text}; it is tried again"),
                );
                return;
            }
            // An application with newer data is better than none.
            Err(text) => self.report(
                ReportKind::RescueFailed,
                format!("the volumes stay as release {failed} has left them: {text}"),
            ),
            Ok(()) => {}
        }
        let book = self.pen.wanted().ended(&why);
        self.pen.want(book);
        if let Stage::Back(back) = &mut self.stage {
            back.step = Step::Ended { by: now + RECORD };
        }
    }

    pub(super) fn loaded(&mut self, which: TaskId, result: Result<Vec<Desired>, NotNow>) {
        let Stage::Back(back) = &self.stage else {
            return;
        };
        let Step::Loading {
            candidates, state, ..
        } = &back.step
        else {
            return;
        };
        if !matches!(state, Load::Under { task, .. } if *task == which) {
            return;
        }
        let Some(release) = candidates.first().cloned() else {
            return;
        };
        match result {
            Ok(desired) => self.back_again(which, &release, desired),
            Err(NotNow::Later(why)) => self.not_loaded(&why, 1),
            Err(NotNow::Never(why)) => self.not_loaded(&why, LOADS),
        }
    }

    /// The first of the candidates could not be read, which counts for so many attempts.
    fn not_loaded(&mut self, why: &str, weight: u32) {
        let now = self.now;
        let Stage::Back(back) = &mut self.stage else {
            return;
        };
        let Step::Loading {
            candidates,
            attempts,
            turns,
            state,
        } = &mut back.step
        else {
            return;
        };
        let Some(release) = candidates.first().cloned() else {
            return;
        };
        let rounds = u32::try_from(*turns / candidates.len()).unwrap_or(u32::MAX);
        let wait = LOAD_AGAIN.saturating_mul(1 << rounds.min(16));
        *state = Load::Later {
            at: now + wait.min(LOAD_AGAIN_MOST),
        };
        let first = *attempts == 0 && rounds == 0;
        // Whoever could not be read for long is only looked at.
        *attempts += if rounds == 0 { weight } else { LOADS };
        if *attempts >= LOADS {
            *attempts = 0;
            *turns += 1;
            // In turn, and never to an end: what cannot be read now may be readable the next time.
            candidates.rotate_left(1);
        }
        if first {
            self.report(
                ReportKind::ReleaseDelayed,
                format!("release {release} cannot be put in force: {why}"),
            );
        }
    }

    /// What could not be read may have been brought again.
    pub(super) fn load_now(&mut self) {
        if let Stage::Back(back) = &mut self.stage
            && let Step::Loading {
                state: Load::Later { at },
                ..
            } = &mut back.step
        {
            *at = self.now;
        }
    }

    /// What is to run again can be read.
    fn back_again(&mut self, task: TaskId, which: &ReleaseId, desired: Vec<Desired>) {
        let Stage::Back(back) = &self.stage else {
            return;
        };
        let (failed, why) = (back.failed.clone(), back.why.clone());
        self.orders.push(Order::Switch {
            task,
            release: which.clone(),
            desired,
            on_trial: false,
        });
        self.stage = Stage::Idle;
        self.write(|book| book.settle_for(which));
        if *which == failed {
            self.report(
                ReportKind::GivenUp,
                format!("no release before {failed} can be put in force: it stays, although {why}"),
            );
        } else {
            self.report(
                ReportKind::RolledBack,
                format!("release {which} runs again; {failed} was taken back: {why}"),
            );
        }
        self.tidy_due = true;
    }
}
