//! A message bus of the test's own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::task::LocalSet;

use super::BusAddress;

/// A `dbus-daemon` in a folder of its own, which ends with this value.
pub(crate) struct TestBus {
    daemon: Child,
    address: BusAddress,
    dir: tempfile::TempDir,
}

impl TestBus {
    /// A bus that lets everybody do everything.
    pub(crate) fn start() -> Self {
        Self::with_policy(
            "<policy context=\"default\"><allow own=\"*\"/><allow user=\"*\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy>",
        )
    }

    /// A bus with the given `<policy>` elements (or others).
    pub(crate) fn with_policy(policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users shall reach it.
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let address = BusAddress::new(&format!("unix:path={}", dir.path().join("bus").display()));
        std::fs::write(
            dir.path().join("bus.conf"),
            format!(
                "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
                 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
                 <busconfig><listen>{address}</listen><auth>EXTERNAL</auth>{policy}</busconfig>\n"
            ),
        )
        .unwrap();
        let daemon = launch(&dir.path().join("bus.conf"));
        Self {
            daemon,
            address,
            dir,
        }
    }

    pub(crate) fn address(&self) -> &BusAddress {
        &self.address
    }

    /// Ends the bus.
    pub(crate) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// A new bus at the old address.
    pub(crate) fn start_again(&mut self) {
        self.daemon = launch(&self.dir.path().join("bus.conf"));
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Starts it, and waits until it listens: then it prints its address.
fn launch(config: &Path) -> Child {
    let mut daemon = Command::new("dbus-daemon")
        .args(["--nofork", "--nopidfile", "--print-address=1"])
        .arg(format!("--config-file={}", config.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the package dbus is installed");
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(
        line.starts_with("unix:"),
        "dbus-daemon did not start: {line}"
    );
    daemon
}

/// Runs a test's future as the daemon runs its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, future)
}
