//! The file operations under a release, each durable when it returns.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::ReleaseError;

/// How a folder is opened: not by a link.
const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Names that are read of a folder at a time while it is cleared, and how often at most.
const BATCH: usize = 256;
const BATCHES: usize = 1024;

/// How often a lock is asked for that another one may keep.
const ASK_AGAIN: Duration = Duration::from_millis(20);

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

    /// Waits for it no longer than this: another one may mean to keep it.
    pub fn take_within(folder: &Path, patience: Duration) -> Result<Self, ReleaseError> {
        let mut file = File::open(folder).map_err(ReleaseError::io("open", folder))?;
        let end = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                Err((again, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR))
                    if Instant::now() < end =>
                {
                    file = again;
                    std::thread::sleep(ASK_AGAIN);
                }
                Err((_, errno)) => return Err(ReleaseError::io("lock", folder)(errno.into())),
            }
        }
    }
}

/// A folder that is read from. Whatever gets its name meanwhile, it stays this one.
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens it; what is no folder, a link to one too, is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, FOLDER, Mode::empty())?))
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] for what is no plain file, or larger; the text then follows the
    /// file's name.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let wrong = |text: &'static str| io::Error::new(io::ErrorKind::InvalidData, text);
        // Whoever opens a pipe the other way waits for its other end.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::RDONLY;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // A link, and a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(wrong("is no plain file")),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(wrong("is no plain file"));
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(wrong("is too large"));
        }
        Ok(bytes)
    }

    /// The names in it, at most so many.
    pub fn names(&self, most: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            if names.len() == most {
                break;
            }
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes what has this name in it, if anything has. It goes one level down and no deeper, whatever
    /// somebody has piled up: a folder below that is lifted up into this one, to be removed another time.
    pub fn clear(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.make_ours(name);
        let inner = Self(openat(&self.0, name, FOLDER, Mode::empty())?);
        for _ in 0..BATCHES {
            let names = inner.names(BATCH)?;
            if names.is_empty() {
                return Ok(unlinkat(&self.0, name, AtFlags::REMOVEDIR)?);
            }
            for below in names {
                match unlinkat(&inner.0, &below, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR) => inner.lift(&below, self)?,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Err(io::ErrorKind::DirectoryNotEmpty.into())
    }

    /// Moves a folder in it up into `above`, under a name that nobody uses.
    fn lift(&self, name: &OsStr, above: &Self) -> io::Result<()> {
        static LIFTED: AtomicU64 = AtomicU64::new(0);
        self.make_ours(name);
        let number = LIFTED.fetch_add(1, Ordering::Relaxed);
        let new = format!(".lifted-{}-{number}", std::process::id());
        Ok(renameat_with(
            &self.0,
            name,
            &above.0,
            new,
            RenameFlags::NOREPLACE,
        )?)
    }

    /// Lets its owner do what he likes with a folder in it, if it can. Who is shut in may not, and has made its
    /// folders so that it need not.
    fn make_ours(&self, name: &OsStr) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = openat(&self.0, name, flags, Mode::empty()) {
            // By the descriptor: what has the name a moment later is not to be changed.
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        }
    }
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
