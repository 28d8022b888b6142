//! What the update is told of its deeds: plain data, as all that goes into the core.

use std::time::Duration;

use crate::core::api::Desired;

/// Names one thing that the shell does for an update, so that a late answer is known for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// A release that can be tried at any moment: its files are good, and the engine has its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// What should run.
    pub desired: Vec<Desired>,
    /// Volumes are to be copied before it is tried.
    pub volumes: bool,
    /// It has a hook that is to be asked before the switch.
    pub hook: bool,
}

/// Why something about a release cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// It may be possible later.
    Later(String),
    /// It never will be.
    Never(String),
}

/// What may stand between a staged release and its switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// The window is closed, and opens after this time; `None` while it is open.
    pub window: Option<Duration>,
    /// The owner's hold file exists.
    pub hold_file: bool,
    /// The workload's lock file exists.
    pub lock_file: bool,
    /// A key that counts now has signed it, or it needs none.
    pub trusted: Result<(), NotNow>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            window: None,
            hold_file: false,
            lock_file: false,
            trusted: Ok(()),
        }
    }
}
