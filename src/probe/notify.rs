//! The socket on which a container's app says how it is, in the words of `sd_notify(3)`.
//!
//! The socket's folder is mounted into the container, not the socket: so the
//! next daemon's socket takes the old one's place under a running container.
//! What comes from it is a stranger's: it must never be believed to be short,
//! well-formed or in good faith, and no descriptor that it carries is kept.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::net::UnixDatagram;

use super::tame;
use crate::core::api::AppNote;

/// Most bytes of one message; systemd's own limit. A longer one is ignored.
const MESSAGE_MAX: usize = 4096;

/// Most characters of a status text.
const STATUS_MAX: usize = 200;

/// One container's notify socket.
#[derive(Debug)]
pub struct AppSocket {
    socket: UnixDatagram,
    path: PathBuf,
    buffer: Box<[u8]>,
    notes: VecDeque<AppNote>,
}

impl AppSocket {
    /// The socket's name in its folder.
    pub const NAME: &'static str = "notify.sock";

    /// Makes the socket in the folder `dir`, in the place of an earlier daemon's.
    ///
    /// The folder is made if it is not there and is never replaced, since a running container may
    /// have it mounted; its parent must exist. Anyone may send: who that can be is decided by
    /// whom the folder is mounted for. Mount it read-only, which still lets an app send.
    ///
    /// # Errors
    ///
    /// The folder or the socket cannot be made; the error names it.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(Self::NAME);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        match DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(error)),
            Ok(()) | Err(_) => {}
        }
        let folder = open_folder(dir).map_err(named)?;
        let socket = bind_in(&folder).map_err(named)?;
        Ok(Self {
            socket,
            path,
            buffer: vec![0; MESSAGE_MAX + 1].into_boxed_slice(),
            notes: VecDeque::new(),
        })
    }

    /// Where the socket is on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next thing that the app says. Cancel-safe: nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> AppNote {
        loop {
            if let Some(note) = self.notes.pop_front() {
                return note;
            }
            match self.socket.recv(&mut self.buffer).await {
                Ok(length) if length <= MESSAGE_MAX => {
                    self.notes.extend(parse(&self.buffer[..length]));
                }
                Ok(_) => {}
                // Only a node out of memory gets here; asking again at once would not help it.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

fn open_folder(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(dir)
}

/// Binds under a passing name, opens it to all, and renames it over the old socket, so that there
/// is no moment without a socket.
///
/// The address goes through the folder's descriptor: `sun_path` has 108 bytes, and a node's root
/// may be deeper than that.
fn bind_in(folder: &File) -> io::Result<UnixDatagram> {
    const PASSING: &str = "notify.sock.new";
    let base = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    // The umask may have taken bits away.
    std::fs::set_permissions(&base, Permissions::from_mode(0o755))?;
    // Left over from a daemon that was killed here.
    match unlinkat(folder, PASSING, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = UnixDatagram::bind(base.join(PASSING))?;
    fchmodat(
        folder,
        PASSING,
        Mode::from_bits_truncate(0o666),
        FchmodatFlags::NoFollowSymlink,
    )?;
    std::fs::rename(base.join(PASSING), base.join(AppSocket::NAME))?;
    Ok(socket)
}

/// What one message says: each kind of note at most once, the last status, and trouble above life.
fn parse(message: &[u8]) -> impl Iterator<Item = AppNote> + use<> {
    let (mut ready, mut status, mut watchdog, mut busy) = (None, None, None, None);
    for line in message.split(|&byte| byte == b'\n') {
        match line {
            b"READY=1" => ready = Some(AppNote::Ready),
            b"WATCHDOG=1" if watchdog.is_none() => watchdog = Some(AppNote::Alive),
            b"WATCHDOG=trigger" => watchdog = Some(AppNote::Sick),
            b"X_MONOPOD_BUSY=1" => busy = Some(AppNote::Busy(true)),
            b"X_MONOPOD_BUSY=0" => busy = Some(AppNote::Busy(false)),
            _ => {
                if let Some(text) = line.strip_prefix(b"STATUS=") {
                    let text = tame(&String::from_utf8_lossy(text), STATUS_MAX);
                    status = Some(AppNote::Status(text));
                }
            }
        }
    }
    [ready, status, watchdog, busy].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram as Sender;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn status(text: &str) -> AppNote {
        AppNote::Status(text.to_owned())
    }

    #[test]
    fn messages() {
        use AppNote::{Alive, Ready, Sick};
        let long = format!("STATUS={}", "é".repeat(300));
        let cut = format!("{}…", "é".repeat(199));
        let table: &[(&[u8], &[AppNote])] = &[
            (b"READY=1", &[Ready]),
            (b"READY=1\n", &[Ready]),
            (b"WATCHDOG=1", &[Alive]),
            (b"WATCHDOG=trigger", &[Sick]),
            (b"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG=1", &[Sick]),
            (b"WATCHDOG=1\nWATCHDOG=1\nREADY=1\nREADY=1", &[Ready, Alive]),
            (b"STATUS=one\nREADY=1\nSTATUS=two", &[Ready, status("two")]),
            (b"STATUS=", &[status("")]),
            (b"STATUS= \x1b[31mred\x07\r ", &[status("[31mred")]),
            (
                b"STATUS=a\x00b\xffc \xe2\x80\xaed",
                &[status("a b\u{fffd}c  d")],
            ),
            (long.as_bytes(), &[status(&cut)]),
            // Rubbish, near misses, and what is systemd's alone.
            (b"", &[]),
            (b"\n\n\n", &[]),
            (b"READY=0\nREADY=1 \n READY=1\nready=1\nREADY=11", &[]),
            (b"WATCHDOG=2\nWATCHDOG\nWATCHDOG=", &[]),
            (b"MAINPID=1\nFDSTORE=1\nSTOPPING=1\nERRNO=2", &[]),
            (b"\xff\xfe\x00\x80", &[]),
        ];
        for (message, notes) in table {
            let got: Vec<_> = parse(message).collect();
            assert_eq!(got, *notes, "{:?}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn an_app_is_heard_and_an_overlong_message_is_not() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let mut socket = AppSocket::bind(&dir.path().join("app")).unwrap();
            let app = Sender::unbound().unwrap();
            let mut overlong = b"READY=1\nSTATUS=".to_vec();
            overlong.resize(MESSAGE_MAX + 1, b'x');
            for message in [
                &overlong[..],
                &overlong[..MESSAGE_MAX],
                b"WATCHDOG=1",
                b"rubbish",
                b"READY=1",
            ] {
                app.send_to(message, socket.path()).unwrap();
            }
            let text = format!("{}…", "x".repeat(STATUS_MAX - 1));
            for note in [
                AppNote::Ready,
                status(&text),
                AppNote::Alive,
                AppNote::Ready,
            ] {
                assert_eq!(socket.recv().await, note);
            }
        });
    }

    #[test]
    fn modes_let_every_user_send() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let app = dir.path().join("app");
            let socket = AppSocket::bind(&app).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&app), 0o755);
            assert_eq!(mode(socket.path()), 0o666);
            assert_eq!(std::fs::read_dir(&app).unwrap().count(), 1);
        });
    }

    #[test]
    fn the_next_daemon_takes_over_in_the_same_folder() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let app = dir.path().join("app");
            let first = AppSocket::bind(&app).unwrap();
            // As the container sees the folder, across the daemon's restart.
            let mounted = open_folder(&app).unwrap();
            drop(first);
            // What a daemon that was killed between bind and rename leaves behind.
            drop(Sender::bind(app.join("notify.sock.new")).unwrap());
            let mut second = AppSocket::bind(&app).unwrap();
            let path = format!("/proc/self/fd/{}/notify.sock", mounted.as_raw_fd());
            Sender::unbound()
                .unwrap()
                .send_to(b"READY=1", path)
                .unwrap();
            assert_eq!(second.recv().await, AppNote::Ready);
        });
    }

    #[test]
    fn a_folder_deeper_than_an_address_will_do() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("d".repeat(150));
            std::fs::create_dir(&deep).unwrap();
            let mut socket = AppSocket::bind(&deep.join("app")).unwrap();
            let folder = open_folder(&deep.join("app")).unwrap();
            let path = format!("/proc/self/fd/{}/notify.sock", folder.as_raw_fd());
            Sender::unbound()
                .unwrap()
                .send_to(b"WATCHDOG=1", path)
                .unwrap();
            assert_eq!(socket.recv().await, AppNote::Alive);
        });
    }

    #[test]
    fn errors_name_the_socket() {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("file");
            std::fs::write(&file, "").unwrap();
            std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
            for bad in ["file", "link", "missing/app"] {
                let error = AppSocket::bind(&dir.path().join(bad)).unwrap_err();
                let text = error.to_string();
                assert!(text.contains(&format!("{bad}/notify.sock")), "{text}");
            }
        });
    }
}
