//! What a tree takes on disk, and whether there is room for it. Looks, and follows no links.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is left free in any case: the smaller of these bytes and this part of the file system.
const KEPT_FREE: u64 = 64 << 20;
const KEPT_PART: u64 = 20;

/// A tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Bytes that its files have on disk; holes have none, and what has several names counts once.
    pub bytes: u64,
    /// Files, folders and whatever else has a name.
    pub entries: u64,
    /// A file with something in it.
    pub sample: Option<PathBuf>,
}

/// Measures a tree.
///
/// # Errors
///
/// It has more than `limit` bytes, another file system in it, or a device; or cannot be read.
pub fn measure(root: &Path, limit: u64) -> Result<Measure, String> {
    let fail = |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let device = fs::symlink_metadata(root)
        .map_err(|error| fail(root, error))?
        .dev();
    let mut found = Measure::default();
    let mut linked = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| fail(&folder, error))? {
            let entry = entry.map_err(|error| fail(&folder, error))?;
            let path = entry.path();
            let metadata = entry.metadata().map_err(|error| fail(&path, error))?;
            let kind = metadata.file_type();
            if metadata.dev() != device {
                return Err(format!("{} is another file system", path.display()));
            }
            if kind.is_block_device() || kind.is_char_device() {
                return Err(format!("{} is a device", path.display()));
            }
            if kind.is_dir() {
                folders.push(path);
            } else {
                if found.sample.is_none() && kind.is_file() && metadata.blocks() > 0 {
                    found.sample = Some(path);
                }
                if metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
                    continue;
                }
            }
            found.entries += 1;
            // POSIX leaves the unit open; on Linux it is this.
            found.bytes = found.bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if found.bytes > limit {
                return Err(format!(
                    "it has more than {limit} bytes on disk, and that is its snapshot_limit"
                ));
            }
        }
    }
    Ok(found)
}

/// Whether a file system has room for so much more.
///
/// # Errors
///
/// A sentence that says what is missing.
pub fn room(place: &Path, bytes: u64, entries: u64) -> Result<(), String> {
    let stat = nix::sys::statvfs::statvfs(place)
        .map_err(|error| format!("{} does not say what is free: {error}", place.display()))?;
    // The fields' types differ between platforms.
    #[allow(clippy::useless_conversion)]
    let (size, all, free, nodes, free_nodes) = (
        u64::from(stat.fragment_size()),
        u64::from(stat.blocks()),
        u64::from(stat.blocks_available()),
        u64::from(stat.files()),
        u64::from(stat.files_available()),
    );
    let kept = KEPT_FREE.min(all.saturating_mul(size) / KEPT_PART);
    let free = free.saturating_mul(size);
    if free < bytes.saturating_add(kept) {
        return Err(format!(
            "the copy needs {bytes} bytes, and {free} are free, of which {kept} are not for use"
        ));
    }
    // Some file systems make them as they are needed, and say 0.
    if nodes > 0 && free_nodes < entries {
        return Err(format!(
            "the copy needs {entries} inodes, and {free_nodes} are free"
        ));
    }
    Ok(())
}
