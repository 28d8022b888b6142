//! Why a bundle is not taken: one line for each reason.

use std::fmt;
use std::io;

use super::limits;
use super::minisign::KeyId;
use crate::image::{Digest, ImportError};

/// Where in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first line.
    Head,
    /// The signature.
    Signature,
    /// The manifest.
    Manifest,
    /// A member, counted from 1, of so many.
    Member(usize, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("its first line"),
            Self::Signature => f.write_str("its signature"),
            Self::Manifest => f.write_str("its manifest"),
            Self::Member(number, count) => write!(f, "member {number} of {count}"),
        }
    }
}

/// Why a bundle is refused. Each is one line, to stand behind "refused FILE: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else.
    #[error("it is no bundle")]
    NotABundle,
    /// From the future.
    #[error("it has format {0} and this monopod reads format {known}; update monopod first", known = limits::FORMAT)]
    Format(u64),
    /// The first line is none that monopod writes.
    #[error("its first line is malformed: {0}")]
    Head(&'static str),
    /// No signature at all.
    #[error("it is not signed; `monopod bundle sign` does that")]
    Unsigned,
    /// Room for a signature, and nothing in it.
    #[error("its signature is empty")]
    EmptySignature,
    /// Not minisign's form.
    #[error("its signature is malformed: {0}")]
    Signature(&'static str),
    /// Nothing to verify with.
    #[error("no key can verify it: {0}")]
    NoKey(String),
    /// Another's signature.
    #[error("it is signed by key {id}, which is unknown here: {place} holds {held}")]
    UnknownKey {
        /// The key that the signature names.
        id: KeyId,
        /// Where the trusted keys are.
        place: String,
        /// Which these are.
        held: String,
    },
    /// A key that is not to be trusted any more.
    #[error("it is signed by key {0}, which is revoked")]
    Revoked(KeyId),
    /// The signature does not belong to this manifest.
    #[error(
        "its signature by key {0} does not hold: it was made over other bytes, or changed since"
    )]
    OtherBytes(KeyId),
    /// Signed, and still not usable.
    #[error("its manifest is not usable: {0}")]
    Manifest(String),
    /// Its workload file is none.
    #[error("its workload file is not usable: {0}")]
    Workload(String),
    /// For other machines.
    #[error("it is for {wanted}, this machine is {found}")]
    Architecture {
        /// What the bundle is for.
        wanted: String,
        /// What this machine is.
        found: String,
    },
    /// For other boards.
    #[error("it is for board {wanted}, this machine is {found}")]
    Board {
        /// What the bundle is for.
        wanted: String,
        /// What this machine is.
        found: String,
    },
    /// For a newer monopod.
    #[error("it needs monopod {wanted}, this is {found}; update monopod first")]
    Version {
        /// The least that it needs.
        wanted: String,
        /// What runs here.
        found: String,
    },
    /// The node has had a newer one.
    #[error(
        "it is older than what this node has accepted: sequence {sequence}, and key {key} has signed {accepted}; --allow-downgrade takes it all the same"
    )]
    Downgrade {
        /// The key that signed both.
        key: KeyId,
        /// The bundle's sequence.
        sequence: u64,
        /// The highest accepted one.
        accepted: u64,
    },
    /// It ends too early.
    #[error("it is truncated in {0}")]
    Truncated(Place),
    /// It goes on.
    #[error("it goes on after its last member")]
    Trailing,
    /// A member's bytes are other bytes.
    #[error("{place} should have the digest {wanted} and has {found}")]
    Digest {
        /// Which.
        place: Place,
        /// What the manifest lists.
        wanted: Digest,
        /// What its bytes have.
        found: Digest,
    },
    /// A member's bytes are as listed, and still not usable.
    #[error("{place} ({digest}): {reason}")]
    Member {
        /// Which.
        place: Place,
        /// The same, by digest.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// An image does not fit together.
    #[error("image {reference}: {reason}")]
    Image {
        /// Which.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It builds on another release that this store lacks.
    #[error(
        "it leaves out layer {0}, which the store does not have; import the bundle that it was made to follow, or a full one"
    )]
    Absent(Digest),
}

/// A bundle that was not taken, made or verified.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bundle is at fault. The store is as it was.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The medium is at fault. Blobs that came through whole stay in the store, and the next try uses them.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// Writing a bundle failed.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Write {
        /// What was written.
        path: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The request does not fit.
    #[error("{0}")]
    Usage(String),
    /// The store, or an archive that a bundle is made of, is at fault.
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl BundleError {
    /// A failed read at `place`: the end came too early, or the medium failed.
    pub(super) fn read(place: Place) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Refusal::Truncated(place).into(),
            _ => Self::Read(error),
        }
    }
}
