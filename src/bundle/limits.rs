//! The bounds of the format, in one place.
//!
//! Real bundles stay far below each of these; whatever is above is refused, never trimmed. Sizes are
//! bytes. What an image may unpack to is the node's own bound: `[store] max_image_size`.

/// The format that this monopod reads and writes.
pub const FORMAT: u64 = 1;
/// Longest first line, its end included.
pub const HEAD: usize = 64;
/// Largest signature.
pub const SIGNATURE: u64 = 4 << 10;
/// Largest manifest.
pub const MANIFEST: u64 = 1 << 20;
/// Most members, those that are left out included.
pub const MEMBERS: usize = 4096;
/// Most images.
pub const IMAGES: usize = 16;
/// Most boards, and most architectures.
pub const NAMES: usize = 64;
/// Longest name of a board or an architecture.
pub const NAME: usize = 128;
/// Longest release version.
pub const RELEASE: usize = 64;
/// Longest image reference.
pub const REFERENCE: usize = 512;
/// Largest workload file; what `monopod check` reads at most.
pub const WORKLOAD: u64 = 1 << 20;
/// Largest hook.
pub const HOOK: u64 = 1 << 20;
/// Largest image manifest or config.
pub const DOCUMENT: u64 = 4 << 20;
/// Most bytes of all image manifests and configs together.
pub const DOCUMENTS: u64 = 32 << 20;
/// Largest layer, compressed.
pub const LAYER: u64 = 1 << 40;
/// Highest sequence: what every JSON reader takes for a whole number, 2^53 - 1.
pub const SEQUENCE: u64 = (1 << 53) - 1;
/// Largest file with keys.
pub const KEY_FILE: u64 = 64 << 10;
/// Most files with keys in one folder.
pub const KEY_FILES: usize = 256;
