//! A message bus of the test's own, and on it a daemon that says what it was told to say.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;
use zbus::{DBusError, connection, interface};

/// A `dbus-daemon` with the policy that monopod is installed with; it ends with this value.
pub struct Bus {
    daemon: Child,
    dir: TempDir,
}

impl Bus {
    /// Starts it, and waits until it listens.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("others get in");
        let policy = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/units/org.monopod.Supervisor1.conf"
        );
        let config = dir.path().join("bus.conf");
        // As restrictive as a system bus: what the policy does not allow is not allowed. Whoever runs
        // the tests stands in for root.
        let text = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{policy}</include>
  <policy user="{me}">
    <allow own="org.monopod.Supervisor1"/>
    <allow send_destination="org.monopod.Supervisor1"/>
    <allow own="org.freedesktop.systemd1"/>
    <allow send_destination="org.freedesktop.systemd1"/>
  </policy>
</busconfig>
"#,
            address = address(&dir),
            me = nix::unistd::geteuid(),
        );
        fs::write(&config, text).expect("the bus's configuration");
        let mut daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"])
            .arg(format!("--config-file={}", config.display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the package dbus is installed");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("its first line");
        assert!(line.starts_with("unix:"), "the bus did not start: {line}");
        Self { daemon, dir }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        address(&self.dir)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn address(dir: &TempDir) -> String {
    format!("unix:path={}", dir.path().join("bus").display())
}

/// What the daemon says no with.
#[derive(Clone, Debug, DBusError)]
#[zbus(prefix = "org.monopod.Error")]
pub enum No {
    /// A file is invalid.
    Invalid(String),
    /// There is no such thing.
    NotFound(String),
    /// It may not be.
    Refused(String),
    /// It was tried.
    Failed(String),
}

/// What the daemon says.
#[derive(Clone, Debug)]
pub struct Script {
    /// To a question for the status.
    pub status: String,
    /// To a question for the plan.
    pub plan: Result<String, No>,
    /// To a request for a restart.
    pub restart: Result<(), No>,
    /// To whatever is asked about releases.
    pub release: Result<String, No>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: "{}".to_owned(),
            plan: Ok("[]".to_owned()),
            restart: Ok(()),
            release: Ok("as you say".to_owned()),
        }
    }
}

struct Object {
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Object {
    fn release(&self, asked: String) -> Result<String, No> {
        let mut all = self.asked.lock().expect("nobody panics with it");
        all.push(asked);
        self.script.release.clone()
    }
}

#[interface(name = "org.monopod.Supervisor1")]
impl Object {
    fn offer_release(&self, id: &str, wish: &str, downgrade: bool) -> Result<String, No> {
        self.release(format!("offer {id} {wish} {downgrade}"))
    }

    fn activate_release(&self, id: &str, force: bool) -> Result<String, No> {
        self.release(format!("activate {id} {force}"))
    }

    fn roll_back(&self) -> Result<String, No> {
        self.release("roll back".to_owned())
    }

    fn retry_release(&self, id: &str) -> Result<String, No> {
        self.release(format!("retry {id}"))
    }

    fn hold_updates(&self, hold: bool) -> Result<String, No> {
        self.release(format!("hold {hold}"))
    }

    fn pin_release(&self, id: &str, pin: bool) -> Result<String, No> {
        self.release(format!("pin {id} {pin}"))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    #[expect(clippy::unused_self, reason = "properties are methods")]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn get_status(&self) -> String {
        self.script.status.clone()
    }

    fn plan(&self) -> Result<String, No> {
        self.script.plan.clone()
    }

    fn restart(&self, name: &str) -> Result<(), No> {
        self.asked
            .lock()
            .expect("nobody panics with it")
            .push(format!("restart {name:?}"));
        self.script.restart.clone()
    }

    fn store_changed(&self) {
        self.asked
            .lock()
            .expect("nobody panics with it")
            .push("store changed".to_owned());
    }
}

/// A daemon on a bus; both end with this value.
pub struct Daemon {
    bus: Bus,
    asked: Arc<Mutex<Vec<String>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts both, and waits until the daemon has its name.
    pub fn start(script: Script) -> Self {
        let bus = Bus::start();
        let asked = Arc::default();
        let object = Object {
            script,
            asked: Arc::clone(&asked),
        };
        let address = bus.address();
        let (end, ended) = oneshot::channel::<()>();
        let (up, is_up) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let _connection = connection::Builder::address(address.as_str())
                    .serve_at("/org/monopod/Supervisor1", object)
                    .name("org.monopod.Supervisor1")
                    .build()
                    .await
                    .expect("the bus lets it in");
                up.send(()).expect("the test waits");
                let _ = ended.await;
            });
        });
        is_up.recv().expect("the daemon comes up");
        Self {
            bus,
            asked,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Where its bus listens.
    pub fn address(&self) -> String {
        self.bus.address()
    }

    /// What was asked of it so far, beside questions.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
