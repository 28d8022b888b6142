//! The folder of the daemon's requests, as root reads it: nothing in it is believed, neither its links
//! nor any name, and a request is taken away before anything is done.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A request that is older is nobody's wish any more: the daemon takes its own back, or keeps it young.
pub const FRESH: Duration = Duration::from_secs(60);

/// Nobody waits for what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld;

/// The folder, itself and nothing that it may point to.
pub fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(folder)
}

/// Removes a request and returns what it was, or that it is too old; `None` if there is none.
pub fn take(folder: &File, name: &str) -> io::Result<Option<Result<Taken, TooOld>>> {
    // A pipe must not keep us waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty());
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => {}
        Err(nix::Error::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let taken = Taken(opened.map(File::from).ok());
    if taken.age().is_some_and(|age| age > FRESH) {
        return Ok(Some(Err(TooOld)));
    }
    Ok(Some(Ok(taken)))
}

/// A request that lies in the folder no longer.
#[derive(Debug)]
pub struct Taken(Option<File>);

impl Taken {
    /// How old it is; `None` where that cannot be told, or lies ahead.
    fn age(&self) -> Option<Duration> {
        let metadata = self.0.as_ref()?.metadata().ok()?;
        metadata.modified().ok()?.elapsed().ok()
    }

    /// Its first bytes, so many at most; `None` if it is no plain file, or cannot be read.
    pub fn bytes(self, most: u64) -> Option<Vec<u8>> {
        let file = self.0?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_request_is_taken_while_it_is_fresh() {
        let folder = tempfile::tempdir().expect("a folder");
        let inbox = open(folder.path()).expect("open");
        assert!(take(&inbox, "reboot").expect("nothing").is_none());
        let second = Duration::from_secs(1);
        let now = SystemTime::now();
        let table = [
            (now - 30 * second, Ok("spent")),
            (now - 90 * second, Err(TooOld)),
            // The clock was set: nobody knows how old it is.
            (now + 3600 * second, Ok("spent")),
        ];
        for (modified, expected) in table {
            let path = folder.path().join("reboot");
            std::fs::write(&path, "spent\n").expect("asked for");
            let file = OpenOptions::new().append(true).open(&path).expect("open");
            file.set_modified(modified).expect("dated");
            let taken = take(&inbox, "reboot").expect("taken").expect("it is there");
            let words = taken.map(|taken| taken.bytes(5).expect("a file"));
            assert_eq!(words, expected.map(|words| words.as_bytes().to_vec()));
            assert!(!path.exists(), "it is taken away all the same");
        }
    }
}
