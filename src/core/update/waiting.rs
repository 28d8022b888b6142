//! What may stand between a staged release and its switch: windows, holds, a busy workload, its own hook.

use std::time::Duration;

use super::stage::{Ready, Stage};
use super::{By, Update};
use crate::core::api::{Action, Gates, NotNow, ReportKind, TaskId};
use crate::core::time::Time;
use crate::spec::types::Activation;

/// How often is looked whether what stands in the way has gone. It costs two looks at files.
const LOOK: Duration = Duration::from_secs(30);

/// The longest time between two looks at a closed window: the clock may be set meanwhile.
const LOOK_MOST: Duration = Duration::from_secs(900);

/// How long a look may take.
const LOOK_BY: Duration = Duration::from_secs(60);

/// How long after a hook has said that it is no good moment it is asked again for the first time; it doubles from
/// there. Each time is written down before.
const HOOK_AGAIN: Duration = Duration::from_secs(300);

/// The longest time between two times that it is asked.
const HOOK_AGAIN_MOST: Duration = Duration::from_secs(3600);

/// How long a hook may take: the shell ends it after 5 min.
const HOOKING: Duration = Duration::from_secs(360);

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nobody has looked yet.
    Unknown,
    Manual,
    Held,
    HoldFile,
    Window,
    Busy(String),
    LockFile,
    Unproven(String),
    Hook(String),
}

impl Waiting {
    pub fn say(&self) -> String {
        match self {
            Self::Unknown => "it is looked whether it may be activated".to_owned(),
            Self::Manual => "it waits for `monopod release activate`".to_owned(),
            Self::Held => "updates are on hold; `monopod release unhold` ends that".to_owned(),
            Self::HoldFile => "the node's hold file exists".to_owned(),
            Self::Window => "it waits for the update window".to_owned(),
            Self::Busy(role) => format!("{role} says that it is busy"),
            Self::LockFile => "the workload's lock file exists".to_owned(),
            Self::Unproven(why) => format!("nobody can tell whether it is trusted: {why}"),
            Self::Hook(why) => why.clone(),
        }
    }
}

/// When it is looked next whether something still stands in the way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    /// At this time.
    At(Time),
    /// It is being looked, until this time.
    Under(TaskId, Time),
    /// When something changes.
    Never,
}

impl Update {
    /// Looks whether a waiting release may go.
    pub(super) fn look_now(&mut self) {
        if let Stage::Waiting { look, .. } = &mut self.stage
            && !matches!(look, Look::Under(..))
        {
            *look = Look::At(self.now);
        }
    }

    /// What stands in the way, as far as that is known without a look.
    pub(super) fn known(&self, by: By) -> Option<Waiting> {
        match by {
            By::Manual => Some(Waiting::Manual),
            By::Policy if self.rules.activation == Activation::Manual => Some(Waiting::Manual),
            By::Policy if self.pen.wanted().held => Some(Waiting::Held),
            By::Policy | By::Hand => self
                .locks
                .iter()
                .next()
                .map(|role| Waiting::Busy(role.to_string())),
            By::Force | By::Back => None,
        }
    }

    pub(super) fn wait(&mut self) -> bool {
        let now = self.now;
        let Some(by) = self.pen.wanted().next.as_ref().map(|next| next.by) else {
            return false;
        };
        let known = self.known(by);
        let Stage::Waiting { ready, why, look } = &mut self.stage else {
            return false;
        };
        ready.by = by;
        if let Some(known) = known {
            let other = *why != known;
            *why = known;
            *look = Look::Never;
            if other {
                self.tell_waiting();
            }
            return false;
        }
        match (by, *look) {
            (By::Back, _) => {
                let ready = ready.clone();
                self.touch(ready);
                true
            }
            (_, Look::Under(_, time)) if time > now => false,
            (_, Look::At(time)) if time > now => false,
            (
                By::Policy | By::Hand | By::Manual | By::Force,
                Look::At(_) | Look::Under(..) | Look::Never,
            ) => {
                let release = ready.release.clone();
                let task = self.begin(|task| Action::LookAtGates(task, release));
                if let Stage::Waiting { look, .. } = &mut self.stage {
                    *look = Look::Under(task, now + LOOK_BY);
                }
                false
            }
        }
    }

    pub(super) fn looked(&mut self, which: TaskId, gates: &Gates) {
        let now = self.now;
        let Stage::Waiting { ready, why, look } = &mut self.stage else {
            return;
        };
        if !matches!(look, Look::Under(task, _) if *task == which) {
            // Since then something has come in the way that is known without a look.
            return;
        }
        let policy = ready.by == By::Policy;
        if let Err(NotNow::Never(why)) = &gates.trusted {
            let (release, why) = (ready.release.clone(), why.clone());
            self.stage = Stage::Idle;
            self.reject(&release, &why);
            return;
        }
        let found = match gates {
            Gates {
                trusted: Err(NotNow::Later(why)),
                ..
            } => Some((Waiting::Unproven(why.clone()), LOOK)),
            Gates {
                lock_file: true, ..
            } if ready.by != By::Force => Some((Waiting::LockFile, LOOK)),
            Gates {
                hold_file: true, ..
            } if policy => Some((Waiting::HoldFile, LOOK)),
            Gates {
                window: Some(opens),
                ..
            } if policy => Some((Waiting::Window, (*opens).clamp(LOOK, LOOK_MOST))),
            Gates { .. } => None,
        };
        if let Some((found, wait)) = found {
            let other = *why != found;
            *why = found;
            *look = Look::At(now + wait);
            if other {
                self.tell_waiting();
            }
        } else {
            let ready = ready.clone();
            self.touch(ready);
        }
    }

    /// What could have ended the node has not, or has not begun after all; it waits once more.
    pub(super) fn put_off(&mut self, ready: Ready, why: Waiting, look: Look) {
        self.untouched(&ready.release);
        self.stage = Stage::Waiting { ready, why, look };
        self.tell_waiting();
    }

    fn tell_waiting(&mut self) {
        if let Stage::Waiting { ready, why, .. } = &self.stage {
            let text = format!(
                "release {} is staged and waits: {}",
                ready.release,
                why.say()
            );
            self.report(ReportKind::ReleaseDelayed, text);
        }
    }

    /// Asks its hook.
    pub(super) fn ask_hook(&mut self, ready: Ready) {
        let release = ready.release.clone();
        let task = self.begin(|task| Action::Hook(task, release));
        let by = self.now + HOOKING;
        self.stage = Stage::Hooking { task, ready, by };
    }

    pub(super) fn hooked(&mut self, which: TaskId, result: Result<(), NotNow>) {
        let Stage::Hooking { task, ready, .. } = &self.stage else {
            return;
        };
        if *task != which {
            return;
        }
        let mut ready = ready.clone();
        match result {
            Ok(()) => {
                // A hook takes its time, and a word that was said meanwhile counts.
                let next = self.pen.wanted().next.as_ref();
                let by = next.map_or(ready.by, |next| next.by);
                let Some(why) = self.known(by) else {
                    self.go(ready);
                    return;
                };
                self.put_off(ready, why, Look::Never);
            }
            Err(NotNow::Later(why)) => {
                let wait = HOOK_AGAIN
                    .saturating_mul(1 << ready.asked.min(16))
                    .min(HOOK_AGAIN_MOST);
                ready.asked = ready.asked.saturating_add(1);
                let look = Look::At(self.now + wait);
                self.put_off(ready, Waiting::Hook(why), look);
            }
            Err(NotNow::Never(why)) => {
                self.stage = Stage::Idle;
                self.reject(&ready.release, &why);
            }
        }
    }
}
