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

/// Most names that a volume may have to be copied. They need not take room, and looking at them takes memory.
pub const NAMES: u64 = 1 << 20;

/// Measures a tree.
///
/// # Errors
///
/// It has more than `limit` bytes or `names` names, another file system in it, or a device; or cannot be read.
pub fn measure(root: &Path, limit: u64, names: u64) -> Result<Measure, String> {
    let fail =
        |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let top = fs::symlink_metadata(root).map_err(|error| fail(root, error))?;
    if !top.is_dir() {
        return Err(format!("{} is not a folder", root.display()));
    }
    let device = top.dev();
    let mut found = Measure::default();
    let mut linked = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| fail(&folder, error))? {
            let entry = entry.map_err(|error| fail(&folder, error))?;
            let path = entry.path();
            let metadata = entry.metadata().map_err(|error| fail(&path, error))?;
            let kind = metadata.file_type();
            // An overlay gives files a device number of their own, folders its one.
            if kind.is_dir() && metadata.dev() != device {
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
            if found.entries > names {
                return Err(format!(
                    "it has more than {names} files, which are too many to be copied"
                ));
            }
            // POSIX leaves the unit open; on Linux it is this.
            found.bytes = found
                .bytes
                .saturating_add(metadata.blocks().saturating_mul(512));
            if found.bytes > limit {
                return Err(format!(
                    "it has more than {limit} bytes on disk, and that is its snapshot_limit"
                ));
            }
        }
    }
    Ok(found)
}

/// Whether a file system has room for so much more, and keeps what it is to keep free.
///
/// # Errors
///
/// A sentence that says what is missing.
pub fn room(place: &Path, bytes: u64, entries: u64) -> Result<(), String> {
    let free = Free::at(place)?;
    let kept = KEPT_FREE.min(free.all / KEPT_PART);
    free.suffices(bytes.saturating_add(kept), entries)
}

/// Whether a file system has room for one tree in place of another: to the last byte, since it had that before.
///
/// # Errors
///
/// A sentence that says what is missing.
pub fn room_in_place_of(place: &Path, removed: &Measure, size: &Measure) -> Result<(), String> {
    let mut free = Free::at(place)?;
    free.bytes = free.bytes.saturating_add(removed.bytes);
    free.nodes = free
        .nodes
        .map(|nodes| nodes.saturating_add(removed.entries));
    free.suffices(size.bytes, size.entries)
}

/// What a file system has.
struct Free {
    /// Bytes in all.
    all: u64,
    /// Bytes that are free.
    bytes: u64,
    /// Inodes that are free; `None` where they are made as they are needed.
    nodes: Option<u64>,
}

impl Free {
    fn at(place: &Path) -> Result<Self, String> {
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
        Ok(Self {
            all: all.saturating_mul(size),
            bytes: free.saturating_mul(size),
            nodes: (nodes > 0).then_some(free_nodes),
        })
    }

    fn suffices(&self, bytes: u64, entries: u64) -> Result<(), String> {
        if self.bytes < bytes {
            let free = self.bytes;
            return Err(format!(
                "the copy needs room for {bytes} bytes, and {free} are free"
            ));
        }
        match self.nodes {
            Some(free) if free < entries => Err(format!(
                "the copy needs {entries} inodes, and {free} are free"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let found = measure(folder.path(), 0, 0).expect("an empty folder has nothing");
        assert_eq!(found, Measure::default());
        fs::create_dir(at("a")).expect("made");
        fs::write(at("a/one"), vec![1; 100_000]).expect("written");
        fs::hard_link(at("a/one"), at("two")).expect("linked");
        symlink("/", at("root")).expect("linked");
        fs::File::create(at("hole"))
            .and_then(|file| file.set_len(1 << 40))
            .expect("made");
        // Blocks that are not decided on yet may not be counted.
        nix::unistd::sync();
        let found = measure(folder.path(), 1 << 20, 4).expect("it is below the limit");
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(found.entries, 4, "{found:?}");
        assert!(found.sample.is_some());
        let error = measure(folder.path(), 50_000, NAMES).expect_err("above the limit");
        assert!(error.contains("snapshot_limit"), "{error}");
        let error = measure(folder.path(), 1 << 20, 3).expect_err("one too many");
        assert!(error.contains("more than 3 files"), "{error}");
        for (path, said) in [
            ("none", "cannot be read"),
            ("root", "is not a folder"),
            ("two", "is not a folder"),
        ] {
            let error = measure(&at(path), 1 << 20, NAMES).expect_err("no tree");
            assert!(error.contains(said), "{path}: {error}");
        }
        let error = measure(Path::new("/dev"), u64::MAX, NAMES).expect_err("no volume");
        assert!(
            error.contains("another file system") || error.contains("device"),
            "{error}"
        );
    }

    #[test]
    fn room_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(room(folder.path(), 0, 0), Ok(()));
        let error = room(folder.path(), u64::MAX, 0).expect_err("nobody has that");
        assert!(error.contains("are free"), "{error}");
    }
}
