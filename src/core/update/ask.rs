//! What people and importers ask of the update core, and how it may refuse.

use super::ReleaseId;

/// Where a release comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The node's own workload file.
    Local,
    /// A bundle whose signature holds.
    Bundle {
        /// The key that signed it.
        key: String,
        /// Its place in the order of that key's releases.
        sequence: u64,
    },
}

/// What becomes of an offered release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// What the node's policy says.
    Take,
    /// It is staged, and waits until somebody activates it.
    Stage,
    /// It is activated as soon as it is staged, by somebody's hand.
    Activate {
        /// Whatever its workload says of the moment.
        force: bool,
    },
}

/// A request. Each is answered at once, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A release is there, whole.
    Offer {
        /// Which.
        release: ReleaseId,
        /// Where from.
        origin: Origin,
        /// What is to become of it.
        wish: Wish,
        /// The node's owner allows that it is older than what was accepted.
        downgrade: bool,
    },
    /// A release that is staged, or was in force before, is to be tried now.
    Activate {
        /// Which; `None` for the one that waits.
        release: Option<ReleaseId>,
        /// Whatever the workload says of the moment.
        force: bool,
    },
    /// Back to the release before, now.
    RollBack,
    /// A rejected release is to be tried once more.
    Retry(ReleaseId),
    /// Nothing is activated by itself; or it is again.
    Hold(bool),
    /// A release is never pruned; or it may be again.
    Pin(ReleaseId, bool),
}

/// Why a request is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such release, or nothing that it could be done with.
    #[error("{0}")]
    NotFound(String),
    /// It may not be.
    #[error("{0}")]
    Refused(String),
}
