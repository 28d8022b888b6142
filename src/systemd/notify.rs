//! Tells systemd how the daemon is, by `sd_notify(3)`.
//!
//! It must never send anything on its own: the watchdog is fed when the core
//! says so and at no other time. Without `NOTIFY_SOCKET` it does nothing.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::api::Notify;
use crate::probe::tame;

/// Most characters of a status line.
const STATUS_MAX: usize = 400;

/// The line to systemd.
#[derive(Debug, Default)]
pub struct Notifier {
    /// Whether READY=1 has been sent. Before that, the READY=1 that ends a reload would end the start.
    ready: bool,
    /// Whether RELOADING=1 waits for its READY=1.
    reloading: bool,
}

impl Notifier {
    /// A line on which nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says one thing.
    ///
    /// # Errors
    ///
    /// systemd's socket does not take it. Without `NOTIFY_SOCKET` there is no error.
    pub fn tell(&mut self, what: &Notify) -> io::Result<()> {
        match what {
            Notify::Ready => {
                self.ready = true;
                sd_notify::notify(&[NotifyState::Ready])
            }
            Notify::Status(text) => {
                sd_notify::notify(&[NotifyState::Status(&tame(text, STATUS_MAX))])
            }
            Notify::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
            Notify::Extend(span) => sd_notify::notify(&[extension(*span)]),
            Notify::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        }
    }

    /// Says that a reload begins. Nothing is said while the start is not over.
    ///
    /// # Errors
    ///
    /// As [`Notifier::tell`].
    pub fn reloading(&mut self) -> io::Result<()> {
        if !self.ready {
            return Ok(());
        }
        self.reloading = true;
        // systemd 253 and later want the time with it, to tell the reload's READY=1 from an older one.
        sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
    }

    /// Says that the reload is over, well or not.
    ///
    /// # Errors
    ///
    /// As [`Notifier::tell`].
    pub fn reloaded(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.reloading) {
            return Ok(());
        }
        sd_notify::notify(&[NotifyState::Ready])
    }
}

/// `EXTEND_TIMEOUT_USEC=`, which goes up to 71 minutes.
fn extension(span: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(span.as_micros()).unwrap_or(u32::MAX))
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
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

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
            (Duration::from_secs(30), "EXTEND_TIMEOUT_USEC=30000000"),
            (
                Duration::from_secs(1 << 40),
                "EXTEND_TIMEOUT_USEC=4294967295",
            ),
        ] {
            assert_eq!(extension(span).to_string(), text);
        }
    }

    /// The environment of a test's own process cannot be changed safely: this test runs itself
    /// again as another process, which has `NOTIFY_SOCKET`.
    #[test]
    fn systemd_hears_what_is_said() {
        const AGAIN: &str = "MONOPOD_TEST_NOTIFY";
        if std::env::var_os(AGAIN).is_some() {
            let mut line = Notifier::new();
            // Not ready: a reload is not said.
            line.reloading().unwrap();
            line.reloaded().unwrap();
            for what in [
                Notify::Extend(Duration::from_secs(30)),
                Notify::Status("app: starting\nREADY=1".to_owned()),
                Notify::Ready,
                Notify::Watchdog,
            ] {
                line.tell(&what).unwrap();
            }
            line.reloading().unwrap();
            line.reloaded().unwrap();
            line.reloaded().unwrap();
            line.tell(&Notify::Stopping).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "systemd::notify::tests::systemd_hears_what_is_said",
            ])
            .env(AGAIN, "1")
            .env("NOTIFY_SOCKET", &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        // The other process has ended: all that it said is here.
        let mut buffer = [0; 1024];
        let mut heard = Vec::new();
        while let Ok(length) = systemd.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
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

    #[test]
    fn nothing_is_said_without_systemd() {
        if !listened_to() {
            let mut line = Notifier::new();
            line.tell(&Notify::Ready).unwrap();
            line.reloading().unwrap();
        }
    }
}
