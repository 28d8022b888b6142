//! What can be wrong with a release's folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::update::ReleaseId;

/// A folder with a release's name that holds no whole release. It is never used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("release {id} in {path} is damaged: {reason}; import its bundle again, or remove the folder", path = .path.display())]
pub struct Damaged {
    /// Its name.
    pub id: ReleaseId,
    /// The folder.
    pub path: PathBuf,
    /// What is wrong with it, in a few words.
    pub reason: String,
}

/// Why a release is not read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is none with that id.
    #[error("there is no release {0}; `monopod release list` shows those that are there")]
    NotFound(ReleaseId),
    /// There is one, and it is not whole.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// It is the node's own: nobody has signed it.
    #[error("release {0} is not signed: it was made of this node's own workload file")]
    Unsigned(ReleaseId),
    /// Its signature does not hold now, or not for what is in its folder.
    #[error("release {id} in {path} is refused: {reason}", path = .path.display())]
    Refused {
        /// Which.
        id: ReleaseId,
        /// Its folder.
        path: PathBuf,
        /// Why, in one line.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {deed} {path}: {source}{next}", path = .path.display(), next = next(.source))]
    Io {
        /// The operation's name.
        deed: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ReleaseError {
    pub(super) fn io(deed: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { deed, path, source }
    }
}

/// What to do about it, where that can be said.
fn next(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; `monopod images prune` makes room",
        io::ErrorKind::PermissionDenied => "; root and the user monopod may",
        // Everything else is the disk's to say.
        _ => "",
    }
}
