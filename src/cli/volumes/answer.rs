//! How root's half answers: a file for each request, in a folder that only root writes to.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::folder;
use crate::paths::Paths;
use crate::volumes::{Answer, Deed, Request, State};

/// How often the daemon is told that something moves.
pub const SAY: Duration = Duration::from_secs(1);

/// When nobody will read an answer any more.
const STALE: Duration = Duration::from_secs(3600);

/// Where an answer is written before it has its name.
const NEW: &str = ".new";

/// The folder of the answers. Whoever has it is alone with it.
#[derive(Debug)]
pub struct Desk {
    folder: File,
}

impl Desk {
    /// Opens the folder, makes it if need be, and waits until nobody else has it.
    pub fn open(paths: &Paths) -> Result<Self, String> {
        let path = paths.rescue_answers();
        let folder = folder::own(&path, 0o755)?;
        folder
            .lock()
            .map_err(|error| format!("{} cannot be locked: {error}", path.display()))?;
        let desk = Self { folder };
        desk.tidy();
        Ok(desk)
    }

    /// Removes what nobody will read; what stays is small and goes with a reboot.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(folder::path(&self.folder)) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if age.is_some_and(|age| age > STALE) {
                let _ = unlinkat(
                    &self.folder,
                    entry.file_name().as_os_str(),
                    UnlinkatFlags::NoRemoveDir,
                );
            }
        }
    }

    /// The sign of life of one request.
    pub fn sign(&self, deed: Deed, request: &Request) -> Sign<'_> {
        let sign = Sign {
            desk: self,
            file: deed.answer(&request.release),
            number: request.number,
            moved: Cell::new(0),
        };
        sign.moved();
        sign
    }

    fn write(&self, file: &str, answer: &Answer) -> io::Result<()> {
        let text = serde_json::to_string(answer)?;
        match unlinkat(&self.folder, NEW, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut new = File::from(openat(
            &self.folder,
            NEW,
            flags,
            Mode::from_bits_truncate(0o644),
        )?);
        // Whatever the mask: the daemon is to read it.
        new.set_permissions(Permissions::from_mode(0o644))?;
        new.write_all(text.as_bytes())?;
        renameat(&self.folder, NEW, &self.folder, file)?;
        Ok(())
    }
}

/// What is told of one request while it is done, and at its end.
#[derive(Debug)]
pub struct Sign<'a> {
    desk: &'a Desk,
    file: String,
    number: u64,
    moved: Cell<u64>,
}

impl Sign<'_> {
    /// Tells that something has moved.
    pub fn moved(&self) {
        self.moved.set(self.moved.get().wrapping_add(1));
        // A sign that cannot be given is missed by the daemon, which says so.
        let _ = self.write(State::Moved(self.moved.get()));
    }

    /// Does work in which nothing can be seen to move, and says all the while that it is being done.
    pub fn while_at<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (end, ended) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                // Dropped at the end, however that comes.
                let _end = end;
                work()
            });
            while ended.recv_timeout(SAY) == Err(RecvTimeoutError::Timeout) {
                self.moved();
            }
            match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The last word. The journal has the whole text of what failed.
    pub fn end(&self, done: Result<(), String>) -> io::Result<()> {
        self.write(match done {
            Ok(()) => State::Ok,
            Err(text) => State::Error(text),
        })
    }

    fn write(&self, state: State) -> io::Result<()> {
        let number = self.number;
        self.desk.write(&self.file, &Answer { number, state })
    }
}
