//! Tells systemd how the daemon is, by `sd_notify(3)`.
//!
//! It must never send anything on its own: the watchdog is fed when the core
//! says so and at no other time. Without `NOTIFY_SOCKET` it does nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::core::api::Notify;
use crate::probe::tame;

/// Most characters of a status line.
const STATUS_MAX: usize = 400;

/// What can be said. Of each kind only the newest waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    Status,
    Watchdog,
    Extend,
    Stopping,
    Reloading,
}

/// The line to systemd. It never waits: what systemd's socket has no room for is kept, and said
/// with the next thing or by [`Notifier::say`].
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<OsString>,
    /// What has not been said yet, the oldest first.
    waiting: Vec<(Kind, String)>,
    /// The last thing could not be said: that is logged once.
    deaf: bool,
    /// Whether READY=1 has been told. Before that, the READY=1 that ends a reload would end the start.
    ready: bool,
    /// Whether RELOADING=1 waits for its READY=1.
    reloading: bool,
}

impl Notifier {
    /// The line that `NOTIFY_SOCKET` names, on which nothing was said yet.
    pub fn new() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    fn to(to: Option<OsString>) -> Self {
        Self {
            to,
            ..Self::default()
        }
    }

    /// Says one thing.
    pub fn tell(&mut self, what: &Notify) {
        match what {
            Notify::Ready => {
                self.ready = true;
                self.add(Kind::Ready, "READY=1\n".to_owned());
            }
            Notify::Status(text) => {
                self.add(Kind::Status, format!("STATUS={}\n", tame(text, STATUS_MAX)));
            }
            Notify::Watchdog => self.add(Kind::Watchdog, "WATCHDOG=1\n".to_owned()),
            Notify::Extend(span) => self.add(Kind::Extend, extension(*span)),
            Notify::Stopping => self.add(Kind::Stopping, "STOPPING=1\n".to_owned()),
        }
    }

    /// Says that a reload begins. Nothing is said while the start is not over.
    pub fn reloading(&mut self) {
        if !self.ready {
            return;
        }
        self.reloading = true;
        // systemd 253 and later want the time with it, to tell the reload's READY=1 from an older one.
        // The kernel always has this clock.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let text = format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.as_micros());
        self.add(Kind::Reloading, text);
    }

    /// Says that the reload is over, well or not.
    pub fn reloaded(&mut self) {
        if std::mem::take(&mut self.reloading) {
            self.add(Kind::Ready, "READY=1\n".to_owned());
        }
    }

    /// Whether something waits for room. What waits for systemd itself to come back is said with the
    /// next thing.
    pub fn unsaid(&self) -> bool {
        !self.waiting.is_empty() && !self.deaf
    }

    /// Says what waits, as far as there is room.
    pub fn say(&mut self) {
        let Some(to) = &self.to else {
            self.waiting.clear();
            return;
        };
        let mut said = 0;
        let result = connect(to).and_then(|socket| {
            for (_, text) in &self.waiting {
                socket.send(text.as_bytes())?;
                said += 1;
            }
            Ok(())
        });
        self.waiting.drain(..said);
        match result {
            Ok(()) => self.deaf = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.deaf = false,
            Err(error) => {
                if !self.deaf {
                    warn!("systemd does not hear us: {error}");
                }
                self.deaf = true;
            }
        }
    }

    fn add(&mut self, kind: Kind, text: String) {
        self.waiting.retain(|(other, _)| *other != kind);
        self.waiting.push((kind, text));
        self.say();
    }
}

/// A socket that sends there and never waits.
fn connect(to: &OsStr) -> io::Result<UnixDatagram> {
    let bytes = to.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(to)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// `EXTEND_TIMEOUT_USEC=`; more than 71 minutes at once are never needed.
fn extension(span: Duration) -> String {
    let usec = u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
    format!("EXTEND_TIMEOUT_USEC={usec}\n")
}

/// How long systemd waits for WATCHDOG=1, from the process's environment; `None` if it does not.
///
/// It is the whole period: whoever feeds does so at half of it, as `sd_watchdog_enabled(3)` advises.
pub fn watchdog() -> Option<Duration> {
    let (usec, pid) = (
        std::env::var("WATCHDOG_USEC").ok(),
        std::env::var("WATCHDOG_PID").ok(),
    );
    watchdog_period(usec.as_deref(), pid.as_deref(), std::process::id())
}

/// [`watchdog`] for given values of `WATCHDOG_USEC` and `WATCHDOG_PID`, in the process `me`.
pub fn watchdog_period(usec: Option<&str>, pid: Option<&str>, me: u32) -> Option<Duration> {
    if let Some(pid) = pid
        && pid.parse() != Ok(me)
    {
        return None;
    }
    match usec?.parse() {
        Ok(0) | Err(_) => None,
        Ok(usec) => Some(Duration::from_micros(usec)),
    }
}

/// Whether systemd listens: `NOTIFY_SOCKET` is set.
pub fn listened_to() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_periods() {
        let table = [
            (Some("60000000"), None, Some(60)),
            (Some("60000000"), Some("7"), Some(60)),
            (Some("60000000"), Some("8"), None),
            (Some("60000000"), Some(""), None),
            (Some("60000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
            (Some(""), Some("7"), None),
            (None, Some("7"), None),
            (None, None, None),
        ];
        for (usec, pid, seconds) in table {
            assert_eq!(
                watchdog_period(usec, pid, 7),
                seconds.map(Duration::from_secs),
                "{usec:?} {pid:?}"
            );
        }
    }

    #[test]
    fn extensions_stop_at_what_systemd_can_hold() {
        for (span, text) in [
            (Duration::from_secs(30), "EXTEND_TIMEOUT_USEC=30000000\n"),
            (
                Duration::from_secs(1 << 40),
                "EXTEND_TIMEOUT_USEC=4294967295\n",
            ),
        ] {
            assert_eq!(extension(span), text);
        }
    }

    fn heard(systemd: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1024];
        let mut heard = Vec::new();
        while let Ok(length) = systemd.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        heard
    }

    #[test]
    fn systemd_hears_what_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let hidden = format!("monopod-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).unwrap();
        for (name, systemd) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path)),
            (
                format!("@{hidden}").into(),
                UnixDatagram::bind_addr(&address),
            ),
        ] {
            let systemd = systemd.unwrap();
            systemd.set_nonblocking(true).unwrap();
            let mut line = Notifier::to(Some(name));
            // Not ready: a reload is not said.
            line.reloading();
            line.reloaded();
            for what in [
                Notify::Extend(Duration::from_secs(30)),
                Notify::Status("app: starting\nREADY=1".to_owned()),
                Notify::Ready,
                Notify::Watchdog,
            ] {
                line.tell(&what);
            }
            line.reloading();
            line.reloaded();
            line.reloaded();
            line.tell(&Notify::Stopping);
            assert!(!line.unsaid());
            let mut heard = heard(&systemd);
            let (reloading, usec) = heard[4].split_once("MONOTONIC_USEC=").unwrap();
            assert_eq!(reloading, "RELOADING=1\n");
            assert!(usec.trim_end().parse::<u64>().unwrap() > 0);
            heard.remove(4);
            assert_eq!(
                heard,
                [
                    "EXTEND_TIMEOUT_USEC=30000000\n",
                    "STATUS=app: starting READY=1\n",
                    "READY=1\n",
                    "WATCHDOG=1\n",
                    "READY=1\n",
                    "STOPPING=1\n"
                ]
            );
        }
    }

    /// A systemd that is busy holds nobody up, and misses only what has become old.
    #[test]
    fn what_finds_no_room_is_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let mut line = Notifier::to(Some(path.into_os_string()));
        // The kernel's limit of datagrams (net.unix.max_dgram_qlen) comes first.
        for _ in 0..100_000 {
            line.tell(&Notify::Watchdog);
            if line.unsaid() {
                break;
            }
        }
        assert!(line.unsaid(), "it is full at some time");
        for what in [
            Notify::Status("old".to_owned()),
            Notify::Ready,
            Notify::Watchdog,
            Notify::Status("new".to_owned()),
        ] {
            line.tell(&what);
        }
        heard(&systemd);
        line.say();
        assert!(!line.unsaid());
        assert_eq!(
            heard(&systemd),
            ["READY=1\n", "WATCHDOG=1\n", "STATUS=new\n"]
        );
    }

    #[test]
    fn a_line_that_was_dead_for_a_while_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let mut line = Notifier::to(Some(path.clone().into_os_string()));
        line.tell(&Notify::Ready);
        assert!(!line.unsaid(), "nobody is to be woken for it");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        line.tell(&Notify::Watchdog);
        assert_eq!(heard(&systemd), ["READY=1\n", "WATCHDOG=1\n"]);
    }

    #[test]
    fn nothing_is_said_without_systemd() {
        let mut line = Notifier::to(None);
        line.tell(&Notify::Ready);
        line.reloading();
        assert!(!line.unsaid());
    }
}
