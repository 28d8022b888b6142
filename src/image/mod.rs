//! Images: archives in, a store of verified blobs, load streams for an engine out.
//!
//! Everything here is synchronous file work for short-lived processes. It parses what strangers made,
//! so it must never trust a name, a size or a digest that it has not checked on the bytes that it
//! uses, never keep more in memory than a few buffers, and never touch an engine or a network.

mod archive;
mod catalogue;
mod commit;
mod digest;
mod docker_archive;
mod documents;
mod error;
mod import;
mod intake;
mod json;
mod layer;
pub mod limits;
mod load;
mod oci;
mod pipe;
mod plan;
mod preload;
mod prune;
mod reference;
mod space;
mod store;
mod transaction;

pub use commit::ImportedImage;
pub use digest::{Digest, DigestError, Hasher};
pub use documents::{Descriptor, Platform};
pub use error::{ImportError, StoreError};
pub use import::{ImportOptions, Imported, Layers, Progress, Source, host_architectures, import};
pub use intake::{
    Intake, IntakeImage, IntakeLayer, LayerFault, ReadImageError, image_id, image_manifest,
    layer_content, read_image,
};
pub use load::{load_stream_size, verify_image, write_load_stream};
pub use preload::{Memory, Preload, PreloadState, Preloaded, preload, preload_survey};
pub use prune::Pruned;
pub use reference::{ReferenceError, normalise};
pub use store::{Store, StoreLock, StoredImage};
