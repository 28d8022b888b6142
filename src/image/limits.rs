//! The bounds that keep memory constant and stop an absurd archive early.
//!
//! Real images stay far below each of these; whatever is above is refused, never trimmed.

/// Largest JSON document that is read: manifest, index, config. Bytes.
pub const DOCUMENT: u64 = 4 << 20;
/// Most bytes of JSON that one archive may make us read, all its documents together.
pub const DOCUMENTS: u64 = 64 << 20;
/// Most keys and items in one JSON document.
pub const VALUES: usize = 100_000;
/// Most members of one archive, folders and extension headers included.
pub const MEMBERS: usize = 20_000;
/// Most images of one archive.
pub const IMAGES: usize = 1_000;
/// Most layers of one image; Docker's own limit is 125, containerd's 127.
pub const LAYERS: usize = 127;
/// Longest name of a member, bytes. The longest that any tool writes is 78.
pub const NAME: usize = 255;
/// Largest PAX extension header, bytes.
pub const PAX: u64 = 64 << 10;
/// Most bytes of padding after the archive's end mark.
pub const PADDING: u64 = 1 << 20;
/// Largest zstd window, as a power of two: 16 MiB, since the whole importer has 32 MiB.
pub const ZSTD_WINDOW_LOG: u32 = 24;
/// The same for a layer inside a zstd archive, where two windows are open at once: 8 MiB, which `zstd -19` uses.
pub const ZSTD_INNER_WINDOW_LOG: u32 = 23;
/// A streamed member up to this size may be a document and is put aside; a larger one can only be a layer.
pub const SMALL: u64 = DOCUMENT;
/// Size of the buffers that bytes move in.
pub const BUFFER: usize = 256 << 10;
/// zstd's level for layers that come uncompressed: its default, the best bytes for the time.
///
/// Its strategy is DFAST, the only one beside FAST that is in the shipped binary (packaging/build): another
/// level would be taken there for what is left of it, and make other bytes than another build.
pub const ZSTD_LEVEL: i32 = 3;
/// For layers that are packed once and read by many, the same strategy looks further back: 4 MiB,
/// which a reader has to keep in memory.
pub const ZSTD_TIGHT_WINDOW_LOG: u32 = 22;
/// And it remembers more: two tables of 4 MiB each. With both, a Debian image of 135 MB has 36.8 MB, where
/// levels 3 and 12 make 38.3 and 33.4 MB of it, and the latter's strategy takes 83 KB of the binary.
pub const ZSTD_TIGHT_TABLE_LOG: u32 = 20;
/// Indexes may nest so deep; one level is what multi-platform images use.
pub const INDEX_DEPTH: usize = 4;
