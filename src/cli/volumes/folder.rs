//! The folders of root's own, in places where another user is at home.
//!
//! They are opened once, looked at, and from then on reached through what was opened: whoever owns the
//! folder around them can put something else in their place, and must gain nothing by it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::core::update::ReleaseId;
use crate::paths::Paths;

/// What half a copy, and one that is being removed, are called. No release id begins so.
const NEW: &str = ".new-";
const OLD: &str = ".old-";

/// Opens a folder that is our own and that nobody else writes to, and makes it if it is not there.
pub fn own(path: &Path, mode: u32) -> Result<File, String> {
    let fail = |error: io::Error| format!("{} cannot be opened: {error}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    };
    let parent = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(parent)
        .map_err(fail)?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(mode)) {
        Ok(()) | Err(nix::Error::EEXIST) => {}
        Err(error) => return Err(fail(error.into())),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(&parent, name, flags, Mode::empty());
    let folder = opened.map(File::from).map_err(|error| fail(error.into()))?;
    let found = folder.metadata().map_err(fail)?;
    if found.uid() != geteuid().as_raw() {
        return Err(format!(
            "{} belongs to user {}, and nobody but root must write there; remove it",
            path.display(),
            found.uid()
        ));
    }
    if found.mode() & 0o7777 != mode {
        folder
            .set_permissions(Permissions::from_mode(mode))
            .map_err(fail)?;
    }
    Ok(folder)
}

/// The way to what was opened, whatever has become of its name.
pub fn path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// `var/lib/monopod/snapshots`: a folder for each release, and in that one for each volume. What is there under a
/// release's id is whole.
#[derive(Debug)]
pub struct Snapshots {
    folder: File,
    /// What people call it.
    name: PathBuf,
}

impl Snapshots {
    /// Opens it, and makes it if need be.
    pub fn open(paths: &Paths) -> Result<Self, String> {
        let name = paths.snapshots();
        let folder = own(&name, 0o700)?;
        Ok(Self { folder, name })
    }

    /// The way to it.
    pub fn path(&self) -> PathBuf {
        path(&self.folder)
    }

    /// The way to a release's copies.
    pub fn of(&self, release: &ReleaseId) -> PathBuf {
        self.path().join(release.as_str())
    }

    /// Where a copy is made.
    pub fn new_of(&self, release: &ReleaseId) -> PathBuf {
        self.path().join(format!("{NEW}{release}"))
    }

    /// Gives a new copy its name, once all of it is on disk.
    pub fn keep(&self, release: &ReleaseId) -> io::Result<()> {
        nix::unistd::syncfs(&self.folder)?;
        fs::rename(self.new_of(release), self.of(release))?;
        self.folder.sync_all()
    }

    /// Removes what was begun and not ended.
    pub fn sweep(&self) -> Result<(), String> {
        let sweep = || -> io::Result<()> {
            for entry in fs::read_dir(self.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let begun = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
                if begun(NEW) || begun(OLD) {
                    remove(&entry.path())?;
                }
            }
            Ok(())
        };
        sweep().map_err(|error| self.fail(&error))
    }

    /// Removes a release's copies, if there are any. What is left of them after a power cut is swept up.
    pub fn forget(&self, release: &ReleaseId) -> Result<(), String> {
        let forget = || -> io::Result<()> {
            let old = self.path().join(format!("{OLD}{release}"));
            match fs::rename(self.of(release), &old) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
            self.folder.sync_all()?;
            remove(&old)
        };
        forget().map_err(|error| self.fail(&error))
    }

    /// Removes all copies: one release is on trial at a time, and before it is none of them is needed any more. What
    /// the daemon did not live to have removed goes with them.
    pub fn forget_all(&self) -> Result<(), String> {
        let entries = fs::read_dir(self.path()).map_err(|error| self.fail(&error))?;
        for entry in entries {
            let name = entry.map_err(|error| self.fail(&error))?.file_name();
            if let Some(release) = name.to_str().and_then(ReleaseId::new) {
                self.forget(&release)?;
            }
        }
        Ok(())
    }

    fn fail(&self, error: &io::Error) -> String {
        format!("{} cannot be cleared: {error}", self.name.display())
    }
}

/// Removes whatever is there, if anything is; no link is followed.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => match remove_tree(path) {
            // Of an overlay not every folder can be moved.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::remove_dir_all(path),
            removed => removed,
        },
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a folder with all that is in it, however deep: a container may nest folders until neither a path nor the
/// descriptors or the stack of a recursion reach their end. So what is not empty is moved to the top first.
fn remove_tree(path: &Path) -> io::Result<()> {
    let top = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    let mut moved = 0;
    loop {
        let (mut seen, mut removed) = (false, false);
        for entry in fs::read_dir(self::path(&top))? {
            let entry = entry?;
            let name = entry.file_name();
            seen = true;
            if entry.file_type()?.is_dir() {
                empty(&top, &name, &mut moved)?;
                removed |= rid_of(&top, &name, UnlinkatFlags::RemoveDir)?;
            } else {
                removed |= rid_of(&top, &name, UnlinkatFlags::NoRemoveDir)?;
            }
        }
        if !seen {
            return fs::remove_dir(path);
        }
        if !removed {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
    }
}

/// Empties a folder of `top`: what is itself a folder with something in it becomes another one of `top`.
fn empty(top: &File, name: &OsStr, moved: &mut u64) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = File::from(openat(top, name, flags, Mode::empty())?);
    for entry in fs::read_dir(path(&folder))? {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() {
            rid_of(&folder, &name, UnlinkatFlags::NoRemoveDir)?;
            continue;
        }
        if rid_of(&folder, &name, UnlinkatFlags::RemoveDir)? {
            continue;
        }
        loop {
            *moved += 1;
            match renameat(&folder, &*name, top, format!("{moved}").as_str()) {
                Ok(()) => break,
                // Something has this name, of those that are to go as well.
                Err(nix::Error::EEXIST | nix::Error::ENOTEMPTY | nix::Error::ENOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes one name; whether it is gone, and not a folder with something in it.
fn rid_of(folder: &File, name: &OsStr, what: UnlinkatFlags) -> io::Result<bool> {
    match unlinkat(folder, name, what) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(true),
        Err(nix::Error::ENOTEMPTY | nix::Error::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Folders in folders, so many, each with a file in it.
    fn nest(at: &Path, deep: usize) {
        fs::create_dir(at).expect("made");
        let mut folder = File::open(at).expect("open");
        for _ in 0..deep {
            fs::write(path(&folder).join("file"), "x").expect("written");
            fs::create_dir(path(&folder).join("1")).expect("made");
            folder = File::open(path(&folder).join("1")).expect("open");
        }
    }

    #[test]
    fn all_of_a_tree_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let (tree, kept) = (root.path().join("tree"), root.path().join("kept"));
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("file"), "x").expect("written");
        nest(&tree, 300);
        for name in ["0", "2", "3", "a b"] {
            nest(&tree.join(name), 3);
            symlink(&kept, tree.join(name).join("link")).expect("a link");
        }
        fs::write(tree.join("4"), "x").expect("written");
        symlink(&kept, tree.join("5")).expect("a link");
        remove(&tree).expect("removed");
        assert!(fs::symlink_metadata(&tree).is_err());
        assert!(kept.join("file").exists());
        remove(&tree).expect("it is not there");
        symlink(&kept, &tree).expect("a link");
        remove(&tree).expect("removed");
        fs::write(&tree, "x").expect("written");
        remove(&tree).expect("removed");
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
        assert!(kept.join("file").exists());
    }
}
