//! From an offer to the trial: staging, waiting, the hook, copies of volumes, the record.

use std::time::Duration;

use super::trial::{Back, RECORD, Trying};
use super::waiting::{Look, Waiting};
use super::{Book, By, Facts, Next, ReleaseId, Rules, Update};
use crate::core::api::{Action, NotNow, ReportKind, Staged, TaskId};
use crate::core::time::Time;
use crate::core::update::{Order, TrialRecord};

/// How long staging may go without a sign of movement.
const STAGING: Duration = Duration::from_secs(600);

/// When staging is tried again for the first time; it doubles from there.
const STAGE_AGAIN: Duration = Duration::from_secs(30);

/// The longest time between two attempts to stage.
const STAGE_AGAIN_MOST: Duration = Duration::from_secs(3600);

/// How often it is tried to stage a release that somebody wants back.
const BACKS: u32 = 5;

/// As which attempt one counts that only the ledger has stopped: the next one is as late as possible.
const RECORD_AGAIN: u32 = 16;

/// How long the old containers may take to go before their volumes are copied.
pub(super) const EMPTY: Duration = Duration::from_secs(600);

/// How long copying volumes may take: the shell gives up after 30 min.
pub(super) const COPYING: Duration = Duration::from_secs(1860);

/// Where the update stands.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Nothing is to be done.
    Idle,
    /// Its files are checked, and the engine is given its images.
    Staging {
        task: TaskId,
        release: ReleaseId,
        attempt: u32,
        by: Time,
    },
    /// That did not work for this reason, and is tried again.
    Delayed {
        release: ReleaseId,
        attempt: u32,
        at: Time,
        why: String,
    },
    /// It can be tried, and something stands in the way.
    Waiting {
        ready: Ready,
        why: Waiting,
        look: Look,
    },
    /// It is being written down that something begins that may end the node: its hook, or the copying of volumes.
    Noting { ready: Ready, by: Time },
    /// Its hook is asked.
    Hooking {
        task: TaskId,
        ready: Ready,
        by: Time,
    },
    /// The old containers go, so that their volumes do not change while they are copied.
    Emptying { ready: Ready, by: Time },
    /// The volumes are copied.
    Snapshotting {
        task: TaskId,
        ready: Ready,
        by: Time,
    },
    /// It is being written down that it is on trial.
    Recording {
        ready: Ready,
        emptied: bool,
        by: Time,
    },
    /// It runs on trial.
    Trial(Trying),
    /// It has failed, and what was before comes back.
    Back(Back),
    /// The daemon ends.
    Ending,
}

/// A release that can be tried at any moment.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Under which it was staged.
    pub task: TaskId,
    pub release: ReleaseId,
    pub staged: Staged,
    /// Who activates it.
    pub by: By,
    /// How often its hook has said that it is no good moment.
    pub asked: u32,
}

impl Ready {
    /// Its hook has a say.
    pub fn has_hook(&self) -> bool {
        self.staged.hook && self.by != By::Back
    }
}

impl Stage {
    /// Where a daemon begins.
    pub fn at_start(
        book: &Book,
        rules: &Rules,
        began: Option<&(ReleaseId, Time)>,
        now: Time,
    ) -> Self {
        match &book.trial {
            Some(trial) if trial.reverting.is_some() => Self::Back(Back::emptied(trial, now)),
            Some(trial) => {
                let since = began
                    .filter(|(release, _)| *release == trial.release)
                    .map(|(_, since)| *since);
                let trying = Trying::new(trial.release.clone(), rules, now);
                Self::Trial(trying.begun(since, rules))
            }
            None => Self::Idle,
        }
    }

    /// The release that it is about.
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Staging { release, .. } | Self::Delayed { release, .. } => Some(release),
            Self::Waiting { ready, .. }
            | Self::Noting { ready, .. }
            | Self::Hooking { ready, .. }
            | Self::Emptying { ready, .. }
            | Self::Snapshotting { ready, .. }
            | Self::Recording { ready, .. } => Some(&ready.release),
            Self::Trial(trying) => Some(&trying.release),
            Self::Back(back) => Some(&back.failed),
            Self::Idle | Self::Ending => None,
        }
    }

    /// Nothing that runs has been touched for it, so another release may take its place.
    fn is_replaceable(&self) -> bool {
        match self {
            Self::Idle | Self::Staging { .. } | Self::Delayed { .. } | Self::Waiting { .. } => true,
            Self::Noting { .. }
            | Self::Hooking { .. }
            | Self::Emptying { .. }
            | Self::Snapshotting { .. }
            | Self::Recording { .. }
            | Self::Trial(_)
            | Self::Back(_)
            | Self::Ending => false,
        }
    }

    pub fn deadline(&self, rules: &Rules, facts: &Facts) -> Option<Time> {
        match self {
            Self::Idle | Self::Ending => None,
            Self::Staging { by, .. }
            | Self::Noting { by, .. }
            | Self::Hooking { by, .. }
            | Self::Emptying { by, .. }
            | Self::Snapshotting { by, .. }
            | Self::Recording { by, .. } => Some(*by),
            Self::Delayed { at, .. } => Some(*at),
            Self::Waiting { look, .. } => match look {
                Look::At(time) | Look::Under(_, time) => Some(*time),
                Look::Never => None,
            },
            Self::Trial(trying) => trying.deadline(rules, facts),
            Self::Back(back) => back.deadline(),
        }
    }
}

impl Update {
    /// Goes one step on, if there is one. Returns whether there may be another.
    pub(super) fn advance(&mut self, facts: &Facts) -> bool {
        let now = self.now;
        // Something else is to be tried by now, or nothing.
        if self.stage.is_replaceable() {
            let next = self.pen.wanted().next.as_ref().map(|next| &next.release);
            if self.stage.release() != next {
                let next = next.cloned();
                self.stage = next.map_or(Stage::Idle, |release| self.begin_staging(release, 1));
                return true;
            }
        }
        match &mut self.stage {
            Stage::Staging {
                release,
                attempt,
                by,
                ..
            } if *by <= now => {
                let (release, attempt) = (release.clone(), *attempt);
                self.delay(release, attempt, "it does not come to an end".to_owned());
                true
            }
            Stage::Delayed {
                release,
                attempt,
                at,
                ..
            } if *at <= now => {
                let (release, attempt) = (release.clone(), *attempt + 1);
                self.stage = self.begin_staging(release, attempt);
                true
            }
            Stage::Waiting { .. } => self.wait(),
            Stage::Noting { ready, .. } if self.pen.is_dry() => {
                let ready = ready.clone();
                self.noted(ready);
                true
            }
            Stage::Hooking { ready, by, .. } if *by <= now => {
                let release = ready.release.clone();
                self.stage = Stage::Idle;
                self.reject(&release, "its hook does not come to an end");
                true
            }
            Stage::Emptying { ready, .. } if facts.empty => {
                let ready = ready.clone();
                let release = ready.release.clone();
                let task = self.begin(|task| Action::Snapshot(task, release));
                let by = now + COPYING;
                self.stage = Stage::Snapshotting { task, ready, by };
                true
            }
            Stage::Emptying { ready, by } if *by <= now => {
                let ready = ready.clone();
                self.call_off(&ready, "the old containers do not end");
                true
            }
            Stage::Snapshotting { task, by, .. } if *by <= now => {
                let task = *task;
                self.snapshotted(task, Err("that does not come to an end".to_owned()));
                true
            }
            Stage::Recording { ready, .. } if self.pen.is_dry() => {
                let ready = ready.clone();
                self.try_out(ready);
                true
            }
            // Not even that it fails is told of a medium that hangs.
            Stage::Noting { by, .. } | Stage::Recording { by, .. } if *by <= now => {
                self.unrecorded();
                true
            }
            Stage::Trial(_) => self.judge(facts),
            Stage::Back(_) => self.go_back(facts),
            Stage::Idle
            | Stage::Staging { .. }
            | Stage::Delayed { .. }
            | Stage::Noting { .. }
            | Stage::Hooking { .. }
            | Stage::Emptying { .. }
            | Stage::Snapshotting { .. }
            | Stage::Recording { .. }
            | Stage::Ending => false,
        }
    }

    fn begin_staging(&mut self, release: ReleaseId, attempt: u32) -> Stage {
        let staged = release.clone();
        let task = self.begin(|task| Action::Stage(task, staged));
        Stage::Staging {
            task,
            release,
            attempt,
            by: self.now + STAGING,
        }
    }

    pub(super) fn stage_moved(&mut self, moved: TaskId) {
        if let Stage::Staging { task, by, .. } = &mut self.stage
            && *task == moved
        {
            *by = self.now + STAGING;
        }
    }

    /// What is waited for may have come: a blob, an image, room, a release's folder.
    pub(super) fn try_now(&mut self) {
        if let Stage::Delayed { at, .. } = &mut self.stage {
            *at = self.now;
        }
        self.load_now();
    }

    /// The node's own files have changed, which count for a release that is not tried yet, too.
    pub(super) fn stage_anew(&mut self) {
        if let Stage::Staging { release, .. } | Stage::Delayed { release, .. } = &self.stage {
            let release = release.clone();
            self.stage = self.begin_staging(release, 1);
        } else if let Stage::Waiting { ready, .. } = &self.stage {
            let release = ready.release.clone();
            self.stage = self.begin_staging(release, 1);
        }
    }

    pub(super) fn staged(&mut self, which: TaskId, result: Result<Staged, NotNow>) {
        let Stage::Staging {
            task,
            release,
            attempt,
            ..
        } = &self.stage
        else {
            return;
        };
        // The answer to an earlier attempt is of other files, perhaps.
        if *task != which {
            return;
        }
        let (release, attempt) = (release.clone(), *attempt);
        match result {
            Ok(staged) => {
                self.report(
                    ReportKind::ReleaseStaged,
                    format!("release {release} is staged: the engine has its images"),
                );
                let by = By::Policy;
                self.stage = Stage::Waiting {
                    ready: Ready {
                        task: which,
                        release,
                        staged,
                        by,
                        asked: 0,
                    },
                    why: Waiting::Unknown,
                    look: Look::At(self.now),
                };
            }
            Err(NotNow::Later(why)) => self.delay(release, attempt, why),
            Err(NotNow::Never(why)) => self.reject(&release, &why),
        }
    }

    fn delay(&mut self, release: ReleaseId, attempt: u32, why: String) {
        let next = self.pen.wanted().next.as_ref();
        let back = next.is_some_and(|next| next.by == By::Back && next.release == release);
        if back && attempt >= BACKS {
            self.stage = Stage::Idle;
            self.write(Book::stay);
            let text = format!("release {release} cannot come back: {why}; what runs stays");
            self.report(ReportKind::GivenUp, text);
            return;
        }
        let wait = STAGE_AGAIN
            .saturating_mul(1 << attempt.saturating_sub(1).min(16))
            .min(STAGE_AGAIN_MOST);
        // The status line has the reasons of later attempts.
        if attempt == 1 {
            self.report(
                ReportKind::ReleaseDelayed,
                format!("release {release} cannot be staged yet: {why}; it is tried again"),
            );
        }
        self.stage = Stage::Delayed {
            release,
            attempt,
            at: self.now + wait,
            why,
        };
    }

    pub(super) fn snapshotted(&mut self, which: TaskId, result: Result<(), String>) {
        let Stage::Snapshotting { task, ready, .. } = &self.stage else {
            return;
        };
        if *task != which {
            return;
        }
        let ready = ready.clone();
        match result {
            Ok(()) if self.is_withdrawn() => {
                let back = Back::loading(ready.release, self.pen.wanted(), "it was withdrawn");
                self.stage = Stage::Back(back);
            }
            Ok(()) => self.stage = self.record(ready, true, true),
            // The way back is not barred by a volume that has grown.
            Err(_) if ready.by == By::Back => self.stage = self.record(ready, true, false),
            Err(why) => self.call_off(&ready, &format!("its volumes cannot be copied: {why}")),
        }
    }

    /// Writes down that it is on trial. Nothing is touched before that is on disk.
    pub(super) fn record(&mut self, ready: Ready, emptied: bool, snapshot: bool) -> Stage {
        let release = ready.release.clone();
        self.write(|book| {
            let signed = book.signed(&release).cloned();
            // Another one may have been offered in the meantime.
            if book
                .next
                .as_ref()
                .is_some_and(|next| next.release == release)
            {
                book.next = None;
            }
            book.trial = Some(TrialRecord {
                release,
                signed,
                deaths: 0,
                snapshot,
                reverting: None,
            });
        });
        let by = self.now + RECORD;
        Stage::Recording { ready, emptied, by }
    }

    /// The ledger could not be written: a trial that is not on record does not begin, nor does what comes before it.
    pub(super) fn unrecorded(&mut self) {
        const WHY: &str = "the ledger cannot be written";
        let (ready, emptied, on_trial) = match &self.stage {
            Stage::Noting { ready, .. } => (ready.clone(), false, false),
            Stage::Recording { ready, emptied, .. } => (ready.clone(), *emptied, true),
            Stage::Idle
            | Stage::Staging { .. }
            | Stage::Delayed { .. }
            | Stage::Waiting { .. }
            | Stage::Hooking { .. }
            | Stage::Emptying { .. }
            | Stage::Snapshotting { .. }
            | Stage::Trial(_)
            | Stage::Back(_)
            | Stage::Ending => return,
        };
        if ready.by == By::Back {
            // What one goes back to has proved itself once. Whoever dies on the way runs what ran before.
            if on_trial {
                self.try_out(ready);
            } else {
                self.noted(ready);
            }
            return;
        }
        if emptied {
            // Not again and again: each time the containers were stopped for it.
            self.call_off(&ready, WHY);
            return;
        }
        let (release, by) = (ready.release, ready.by);
        self.untouched(&release);
        if on_trial {
            self.write(|book| {
                let signed = book.signed(&release).cloned();
                book.trial = None;
                if book.next.is_none() {
                    book.next = Some(Next::new(release.clone(), by, signed));
                }
            });
        }
        self.stage = Stage::Delayed {
            release,
            attempt: RECORD_AGAIN,
            at: self.now + STAGE_AGAIN_MOST,
            why: WHY.to_owned(),
        };
    }

    /// Nothing is in the way of a release any more. What may end the node is written down before it begins.
    pub(super) fn touch(&mut self, ready: Ready) {
        if !ready.has_hook() && !ready.staged.volumes {
            self.go(ready);
            return;
        }
        self.write(|book| {
            if let Some(next) = &mut book.next
                && next.release == ready.release
            {
                next.begun = true;
            }
        });
        let by = self.now + RECORD;
        self.stage = Stage::Noting { ready, by };
    }

    /// It may begin, unless something was said meanwhile.
    fn noted(&mut self, ready: Ready) {
        let next = self.pen.wanted().next.as_ref();
        let Some(by) = next
            .filter(|next| next.release == ready.release)
            .map(|next| next.by)
        else {
            self.stage = Stage::Idle;
            return;
        };
        if let Some(why) = self.known(by) {
            self.put_off(ready, why, Look::Never);
        } else if ready.has_hook() {
            self.ask_hook(ready);
        } else {
            self.go(ready);
        }
    }

    /// Nothing that could end the node is done for a release any more.
    pub(super) fn untouched(&mut self, release: &ReleaseId) {
        self.write(|book| {
            if let Some(next) = &mut book.next
                && next.release == *release
            {
                next.begun = false;
            }
        });
    }

    /// It is not tried after all. If its predecessor's containers are gone already, they come back.
    pub(super) fn call_off(&mut self, ready: &Ready, why: &str) {
        self.write(|book| book.trial = None);
        if ready.by == By::Back {
            // Not its fault, and it may be wanted once more.
            let release = &ready.release;
            self.write(|book| {
                book.next.take_if(|next| next.release == *release);
            });
        } else {
            self.reject(&ready.release, why);
        }
        let back = Back::loading(ready.release.clone(), self.pen.wanted(), why);
        self.stage = Stage::Back(back);
    }

    fn try_out(&mut self, ready: Ready) {
        let release = ready.release.clone();
        self.report(
            ReportKind::TrialBegun,
            format!(
                "release {release} runs on trial: it is good once it has been healthy for {}, and taken \
                 back after {}",
                super::span(self.rules.trial.settle),
                super::span(self.rules.trial.deadline)
            ),
        );
        self.orders.push(Order::Switch {
            task: ready.task,
            release: release.clone(),
            desired: ready.staged.desired,
            on_trial: true,
        });
        let mut trying = Trying::new(release, &self.rules, self.now);
        trying.back = ready.by == By::Back;
        self.stage = Stage::Trial(trying);
    }
}
