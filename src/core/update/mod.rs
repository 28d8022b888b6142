//! Updates: which release runs, which is to run, and which never again.

mod ask;
mod id;

pub use ask::{Ask, Origin, Refused, Wish};
pub use id::ReleaseId;
