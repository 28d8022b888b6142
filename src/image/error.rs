//! How work on images fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::limits::ZSTD_WINDOW_LOG;

/// The store itself could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the store is not what monopod wrote. Nothing overwrites it.
    #[error("{path} is damaged: {reason}; move the store away and import the archives again", path = path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing in the store has this name.
    #[error("no image {0} in the store")]
    NotFound(String),
    /// A layer's blob is not there.
    #[error("layer {layer} of {image} is not in the store; import the image's archive again")]
    LayerMissing {
        /// The image's ID.
        image: String,
        /// The layer's content digest.
        layer: String,
    },
    /// A layer's blob is not what it was. It is set aside, so that the next import brings it again.
    #[error(
        "image {image} in the store is damaged (blob {blob}: {reason}); import its archive again"
    )]
    LayerDamaged {
        /// A name of the image, or its ID.
        image: String,
        /// The blob's digest.
        blob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Whoever takes the load stream does not take it any more.
    #[error("cannot send the image: {0}")]
    Send(io::Error),
}

impl StoreError {
    /// What is wrong, without what to do about it.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Corrupt { path, reason } => match path.file_name() {
                Some(name) => format!("blob sha256:{}: {reason}", name.to_string_lossy()),
                None => reason.clone(),
            },
            other => other.to_string(),
        }
    }

    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// An import that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive is hostile or broken: one line that names the archive, the member and the reason.
    /// The store is as it was.
    #[error("{0}")]
    Refused(String),
    /// The store's file system is too small. The store is as it was.
    #[error("{}", lack(filesystem, *needed, *free))]
    NoSpace {
        /// Its mount point.
        filesystem: PathBuf,
        /// Bytes that the import needs, as estimated ahead; `None` if writing failed all the same.
        needed: Option<u64>,
        /// Bytes that were free.
        free: u64,
    },
    /// There is no such archive.
    #[error("{path} does not exist", path = .0.display())]
    NotFound(PathBuf),
    /// The request does not fit the archive: a name is missing or ambiguous. The store is as it was.
    #[error("{0}")]
    Usage(String),
    /// The archive's medium failed. Layers that came through whole stay, and the next try uses them.
    #[error("cannot read {archive}: {source}")]
    Read {
        /// The archive.
        archive: String,
        /// Why not.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn lack(filesystem: &Path, needed: Option<u64>, free: u64) -> String {
    let filesystem = filesystem.display();
    let hint = "free some, for example with `monopod images prune`";
    match needed {
        Some(needed) => format!(
            "not enough space on {filesystem}: about {needed} bytes are needed, {free} are free, {} are lacking; {hint}",
            needed.saturating_sub(free)
        ),
        None => format!(
            "no space left on {filesystem}; what was written has been removed again; {hint}"
        ),
    }
}

/// An error of the archive's medium, told apart from what a decoder makes of the bytes that did come.
#[derive(Debug)]
pub(super) struct MediumError(pub io::Error);

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for MediumError {}

/// How a step of an import fails, before the archive's name is put to it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The archive is at fault; the member if one is.
    Refused(Option<String>, String),
    /// The request is at fault.
    Usage(String),
    /// The medium is at fault.
    Medium(io::Error),
    /// The store's file system is full.
    Full,
    /// Full ahead of time: so much is needed.
    Space(u64),
    /// The store is at fault.
    Store(StoreError),
}

impl Fault {
    /// The archive as a whole is refused.
    pub fn archive(reason: impl Into<String>) -> Self {
        Self::Refused(None, reason.into())
    }

    /// A member is refused.
    pub fn member(name: &str, reason: impl Into<String>) -> Self {
        Self::Refused(Some(name.to_owned()), reason.into())
    }

    /// Reading the archive failed: by its medium, or because the bytes make no sense.
    pub fn read(error: io::Error) -> Self {
        if error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<MediumError>)
        {
            return Self::Medium(error);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::archive("it is truncated"),
            _ if error.to_string().contains("too much memory") => {
                Self::archive(window_reason(ZSTD_WINDOW_LOG))
            }
            _ if error.to_string().contains("incomplete frame") => Self::archive("it is truncated"),
            _ => Self::archive(format!("its compressed data is corrupt ({error})")),
        }
    }

    /// Writing to the store failed.
    pub fn write(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Store(StoreError::io(what, path)(source)),
        }
    }
}

/// Why a zstd stream with a large window is refused.
pub(super) fn window_reason(window_log: u32) -> String {
    format!(
        "its zstd window is above {} MiB; compress it again without --long and --ultra",
        (1u64 << window_log) >> 20
    )
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { ref source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::Full
            }
            other => Self::Store(other),
        }
    }
}

/// A name for a message: one line, no control characters, not too long.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name
        .chars()
        .take(120)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(120).is_some() {
        text.push_str("...");
    }
    text
}
