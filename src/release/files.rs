//! The file operations under a release, each durable when it returns.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::ReleaseError;

/// The right to write below a folder; it ends when dropped, or with the process.
pub(super) struct Lock(#[allow(dead_code, reason = "held, not used")] Flock<File>);

impl Lock {
    /// Waits for it. Not to be asked for twice in one thread.
    pub fn take(folder: &Path) -> Result<Self, ReleaseError> {
        let mut file = File::open(folder).map_err(ReleaseError::io("open", folder))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Self(lock)),
                Err((again, nix::errno::Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(ReleaseError::io("lock", folder)(errno.into())),
            }
        }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] for what is no plain file, or larger; the text then follows the
/// file's name.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let wrong = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
    // Before it is opened: whoever opens a pipe waits for its other end.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(wrong("is no plain file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(wrong("is too large"));
    }
    Ok(bytes)
}

/// Makes a folder and its name durable; it may be there, made by one who was killed before the second.
pub(super) fn make_folder(folder: &Path) -> Result<(), ReleaseError> {
    fs::create_dir_all(folder).map_err(ReleaseError::io("create", folder))?;
    match folder.parent() {
        Some(parent) => sync(parent),
        None => Ok(()),
    }
}

/// Writes a folder that is not there: the `contents`, the one named `program` executable, and the
/// `last` file after all others.
pub(super) fn write_folder(
    folder: &Path,
    contents: &[(String, &[u8])],
    last: (&str, &[u8]),
    program: &str,
) -> Result<(), ReleaseError> {
    fs::create_dir(folder).map_err(ReleaseError::io("create", folder))?;
    for (name, bytes) in contents {
        let mode = if name == program { 0o755 } else { 0o644 };
        write(&folder.join(name), bytes, mode)?;
    }
    write(&folder.join(last.0), last.1, 0o644)?;
    sync(folder)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ReleaseError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    });
    written.map_err(ReleaseError::io("write", path))
}

/// Replaces one file of a folder in one step.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ReleaseError> {
    let new = folder.join(format!(".{name}.new"));
    write(&new, bytes, 0o644)?;
    rename(&new, &folder.join(name))?;
    sync(folder)
}

/// Gives a file or folder another name in the same place; durable only after [`sync`] of that place.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), ReleaseError> {
    fs::rename(from, to).map_err(ReleaseError::io("rename", from))
}

/// Lets two folders change their names, in one step.
pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), ReleaseError> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|errno| ReleaseError::io("replace", other)(errno.into()))
}

/// Has a folder's names on disk.
pub(super) fn sync(folder: &Path) -> Result<(), ReleaseError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(ReleaseError::io("sync", folder))
}

/// Removes whatever has this name, if anything has.
pub(super) fn remove(path: &Path) -> Result<(), ReleaseError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(ReleaseError::io("remove", path))
}
