//! How much room the store's file system has, and what people call it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::ImportError;

/// Bytes that are free for use at `path`; `None` if the file system does not say.
pub(super) fn free(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    // The fields' types differ between platforms.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let (blocks, size) = (
        u64::try_from(stat.blocks_available()).ok()?,
        u64::try_from(stat.fragment_size()).ok()?,
    );
    blocks.checked_mul(size)
}

/// The mount point of the file system that `path` is on.
pub(super) fn mount_point(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let device = |path: &Path| fs::metadata(path).ok().map(|meta| meta.dev());
    let home = device(&path);
    path.ancestors()
        .take_while(|ancestor| device(ancestor) == home)
        .last()
        .unwrap_or(&path)
        .to_owned()
}

/// The error for a full file system; `needed` if that was estimated ahead.
pub(super) fn no_space(store: &Path, needed: Option<u64>) -> ImportError {
    ImportError::NoSpace {
        filesystem: mount_point(store),
        needed,
        free: free(store).unwrap_or(0),
    }
}
