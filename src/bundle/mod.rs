//! Bundles: one file that carries a release to nodes, under a signature.
//!
//! ```text
//! monopod-bundle 1 SIGNATURE_BYTES MANIFEST_BYTES\n
//! the signature: minisign's own text, Ed25519 over the prehashed manifest
//! the manifest: JSON in its one canonical form
//! the members' bytes in the manifest's order, nothing between them, nothing after
//! ```
//!
//! It is read as a stream, front to back. Of what comes before the signature has held only the two
//! lengths of the first line are used, and the signature itself; the manifest is parsed after that,
//! and a member's bytes are parsed after they had the digest that the manifest lists. A member has no
//! name and no header: what it is, its size and its place follow from the manifest alone, so a bundle
//! cannot hold anything unlisted, twice, or in another order.
//!
//! The module must never use a byte that it has not checked, make anything visible in a store before
//! all of the release is in it, or reach an engine or a network.

mod boards;
mod create;
mod error;
mod frame;
mod images;
mod keys;
pub mod limits;
mod manifest;
mod minisign;
mod secret;
mod sign;
mod since;
mod take;
mod verify;
mod workload;

pub use boards::Machine;
pub use create::{Created, Recipe, create};
pub use error::{BundleError, Place, Refusal};
pub use frame::{Head, Raw, is_bundle, read_raw};
pub use keys::Trust;
pub use manifest::{Hooks, Image, Kind, Manifest, Member, Version};
pub use minisign::KeyId;
pub use secret::{SecretError, SecretKey};
pub use sign::{attach, resign};
pub use since::{Since, since};
pub use take::{TakeOptions, Taken, take, take_file};
pub use verify::{Opened, Verified, open, verify};
pub use workload::name as workload_name;
