//! What people and programs are shown of updates.

use super::stage::Stage;
use super::{Book, ReleaseId, Update};
use crate::core::time::Time;

/// The update at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateView {
    /// What the ledger says, or will say as soon as it is written.
    pub book: Book,
    /// Where it stands: `idle`, `staging`, `waiting`, `hook`, `snapshot`, `trial`, `rollback` or `ending`.
    pub stage: &'static str,
    /// The release that it is about.
    pub release: Option<ReleaseId>,
    /// One line for a technician; `None` while nothing is to be said.
    pub line: Option<String>,
    /// Since when the trial runs.
    pub trial_since: Option<Time>,
}

impl Update {
    /// The state as it is shown.
    pub fn view(&self) -> UpdateView {
        UpdateView {
            book: self.pen.wanted().clone(),
            stage: match &self.stage {
                Stage::Idle => "idle",
                Stage::Staging { .. } | Stage::Delayed { .. } => "staging",
                Stage::Waiting { .. } => "waiting",
                Stage::Noting { ready, .. } if ready.has_hook() => "hook",
                Stage::Hooking { .. } => "hook",
                Stage::Noting { .. } | Stage::Emptying { .. } | Stage::Snapshotting { .. } => {
                    "snapshot"
                }
                Stage::Recording { .. } | Stage::Trial(_) => "trial",
                Stage::Back(_) => "rollback",
                Stage::Ending => "ending",
            },
            release: self.stage.release().cloned(),
            line: self.line(),
            trial_since: match &self.stage {
                Stage::Trial(trying) => Some(trying.since),
                _ => None,
            },
        }
    }

    /// One line, without running numbers, so that it changes only when something did.
    pub(crate) fn line(&self) -> Option<String> {
        match &self.stage {
            Stage::Idle | Stage::Ending => None,
            Stage::Staging { release, .. } => Some(format!("release {release} is being staged")),
            Stage::Delayed { release, why, .. } => {
                Some(format!("release {release} cannot be staged yet: {why}"))
            }
            Stage::Waiting { ready, why, .. } => {
                Some(format!("release {}: {}", ready.release, why.say()))
            }
            Stage::Noting { ready, .. } | Stage::Hooking { ready, .. } if ready.has_hook() => {
                Some(format!("the hook of release {} is asked", ready.release))
            }
            Stage::Noting { ready, .. }
            | Stage::Hooking { ready, .. }
            | Stage::Emptying { ready, .. }
            | Stage::Snapshotting { ready, .. } => Some(format!(
                "volumes are copied before release {} is tried",
                ready.release
            )),
            Stage::Recording { ready, .. } => Some(format!("release {} on trial", ready.release)),
            Stage::Trial(trying) => Some(format!("release {} on trial", trying.release)),
            Stage::Back(back) => Some(back.say()),
        }
    }
}
