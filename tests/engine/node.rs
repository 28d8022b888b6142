//! A whole node of a test's own: a root folder, a message bus, and the real program in them.
//!
//! The engine is the one that all tests share, unless a test brings another. What the program says
//! of itself is read as a person would: from `monopod status --watch --json`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Daemon as Engine, PATIENCE, engine, eventually};

/// Serves the folder `/www` on port 80, with a first page in it.
pub const SERVE: &str =
    r#"["sh", "-c", "busybox mkdir -p /www; echo ok >/www/ok; exec httpd -f -p 80 -h /www"]"#;

/// Asks for that page often, and is patient with a busy machine.
pub const ASK: &str = r#"{ http = ":80/ok", interval = "300ms", timeout = "5s", retries = 3, start_period = "30s", start_interval = "200ms" }"#;

/// What a verb came to.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

impl Ran {
    /// Its data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("this is no JSON ({error}): {self:?}"))
    }
}

/// A node under test. What it made ends with it.
pub struct Node {
    /// Its root folder.
    pub root: PathBuf,
    /// Its engine.
    pub engine: &'static Engine,
    socket: PathBuf,
    workload: String,
    bus: Option<Child>,
    daemon: Option<Child>,
    environment: Vec<(&'static str, String)>,
    _folder: TempDir,
}

impl Node {
    /// A node with nothing on it; the name is the workload's and its own.
    pub fn new(name: &str) -> Self {
        Self::in_folder(name, &std::env::temp_dir())
    }

    /// A node whose root is below `folder`.
    pub fn in_folder(name: &str, folder: &Path) -> Self {
        let engine = engine();
        let folder = tempfile::Builder::new()
            .prefix("mp-")
            .tempdir_in(folder)
            .expect("the folder can be written");
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc/monopod")).expect("the folder can be written");
        let root = fs::canonicalize(root).expect("it is there");
        let mut node = Self {
            socket: engine.socket.clone(),
            workload: format!("e{:x}-{name}", std::process::id()),
            bus: Some(start_bus(folder.path())),
            daemon: None,
            environment: Vec::new(),
            root,
            engine,
            _folder: folder,
        };
        node.settings("");
        node
    }

    /// Takes another engine than the shared one, or one that is not there.
    pub fn use_socket(&mut self, socket: &Path) {
        self.socket = socket.into();
        self.settings("");
    }

    /// Takes the bus away.
    pub fn without_bus(&mut self) {
        if let Some(mut bus) = self.bus.take() {
            end(&mut bus);
        }
    }

    /// Writes node.toml: the engine, and these lines.
    pub fn settings(&mut self, lines: &str) {
        let socket = self.socket.display();
        let text = format!("[engine]\nsocket = \"unix://{socket}\"\n{lines}\n");
        fs::write(self.root.join("etc/monopod/node.toml"), text).expect("the root can be written");
    }

    /// Writes workload.toml: the name, and these lines.
    pub fn describe(&self, lines: &str) {
        fs::write(
            self.root.join("etc/monopod/workload.toml"),
            self.text(lines),
        )
        .expect("the root can be written");
    }

    /// The workload's name, which no other test has.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// A workload file of these lines.
    pub fn text(&self, lines: &str) -> String {
        format!("name = \"{}\"\n{lines}\n", self.workload)
    }

    /// Adds to the daemon's environment.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// A socket that takes systemd's place, and tells the daemon of it.
    pub fn systemd(&mut self, watchdog: Duration) -> Systemd {
        let path = self.root.with_file_name("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        self.set("NOTIFY_SOCKET", &path.display().to_string());
        self.set("WATCHDOG_USEC", &watchdog.as_micros().to_string());
        Systemd::listen(socket)
    }

    /// The program with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let bus = self.root.with_file_name("bus");
        let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
        command
            .arg("--root")
            .arg(&self.root)
            .args(words)
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                format!("unix:path={}", bus.display()),
            )
            .stdin(Stdio::null());
        for name in [
            "DOCKER_HOST",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "CREDENTIALS_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a verb to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output().expect("the program is there");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a verb that must succeed.
    pub fn must(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "monopod {words:?}: {ran:?}");
        ran
    }

    /// Starts the daemon.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "one is enough");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the folder can be written");
        let mut command = self.command(&["daemon"]);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        let daemon = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program is there");
        self.daemon = Some(daemon);
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().expect("the daemon runs");
        let pid = i32::try_from(daemon.id()).expect("process IDs are small");
        kill(Pid::from_raw(pid), signal).expect("it is not reaped yet");
    }

    /// Kills the daemon, as a crash does.
    pub fn crash(&mut self) {
        end(self.daemon.as_mut().expect("the daemon runs"));
        self.daemon = None;
    }

    /// Waits until the daemon has ended.
    pub fn ended(&mut self) -> ExitStatus {
        let daemon = self.daemon.as_mut().expect("the daemon runs");
        let mut status = None;
        eventually("the daemon ends", || {
            status = daemon.try_wait().expect("it is this process's child");
            status.is_some()
        });
        self.daemon = None;
        status.expect("it has ended")
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.root.with_file_name("log")
    }

    /// Follows the status until it is as it should be, and returns it.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let mut watcher = self
            .command(&["status", "--watch", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is there");
        let out = watcher.stdout.take().expect("it is piped");
        let (lines, arriving) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        let found = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = arriving.recv_timeout(left) else {
                break None;
            };
            let status: Value = serde_json::from_str(&line).expect("the status is JSON");
            if holds(&status) {
                break Some(status);
            }
            let _ = writeln!(seen, "  {line}");
        };
        end(&mut watcher);
        drop(arriving);
        let _ = reader.join();
        found.unwrap_or_else(|| panic!("it never came to be that {what}; seen:\n{seen}"))
    }

    /// Waits until all is well.
    pub fn healthy(&self) -> Value {
        self.until("the workload is healthy", |status| {
            status["verdict"] == "healthy"
        })
    }

    /// The IDs of this node's containers, running or not, as the engine lists them.
    pub fn containers(&self, role: Option<&str>) -> Vec<String> {
        let role = role.map(|role| format!("label=org.monopod.role={role}"));
        let mut args = vec!["ps", "--all", "--no-trunc"];
        if let Some(role) = &role {
            args.extend(["--filter", role]);
        }
        self.labelled(&args)
    }

    /// Docker's command line on this node's engine; it must succeed.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.docker_command(args).output();
        let output = output.expect("docker is installed");
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What Docker's command line complains of; it must fail.
    pub fn docker_fails(&self, args: &[&str]) -> String {
        let output = self.docker_command(args).output();
        let output = output.expect("docker is installed");
        assert!(!output.status.success(), "docker {args:?} has succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["--host", &format!("unix://{}", self.socket.display())])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn labelled(&self, args: &[&str]) -> Vec<String> {
        let label = format!("label=org.monopod.node={}", self.root.display());
        let mut args = args.to_vec();
        args.extend(["--quiet", "--filter", &label]);
        let output = self.docker_command(&args).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            end(&mut daemon);
        }
        self.without_bus();
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.workload, self.log());
        }
        let kinds: [(&[&str], &[&str]); 3] = [
            (&["ps", "--all"], &["rm", "--force", "--volumes"]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm"]),
        ];
        for (list, remove) in kinds {
            for id in self.labelled(list) {
                let mut args = remove.to_vec();
                args.push(&id);
                // What cannot be cleared away goes with the engine.
                let _ = self.docker_command(&args).output();
            }
        }
    }
}

/// systemd's ear. It takes all at once, as systemd does, and remembers it until somebody wants it.
pub struct Systemd {
    lines: mpsc::Receiver<String>,
}

impl Systemd {
    fn listen(socket: UnixDatagram) -> Self {
        let (ear, lines) = mpsc::channel();
        // It ends with the test process, which has nobody else to hear.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.lines().any(|line| ear.send(line.to_owned()).is_err()) {
                    break;
                }
            }
        });
        Self { lines }
    }

    /// Listens until this line comes; returns all lines until then.
    pub fn until(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while !heard.iter().any(|one| one == line) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(one) => heard.push(one),
                Err(error) => panic!("never heard {line} ({error}), but {heard:?}"),
            }
        }
        heard
    }

    /// All lines of the time to come.
    pub fn during(&self, time: Duration) -> Vec<String> {
        let deadline = Instant::now() + time;
        let left = || deadline.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| self.lines.recv_timeout(left()).ok()).collect()
    }

    /// All lines that have been said and not asked for yet.
    pub fn so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }
}

/// Makes an archive of an image of that name alone, in a way of its own (an OCI layout that Docker reads too).
pub fn example_archive(node: &Node, name: &str) -> (String, PathBuf) {
    let reference = format!("monopod.test/{:x}-{name}:1", std::process::id());
    let file = node.root.with_file_name(format!("{name}.tar"));
    let made = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/packaging/example/make-image"
    ))
    .arg(&file)
    .arg(&reference)
    .status()
    .expect("there is a bash");
    assert!(made.success());
    (reference, file)
}

/// Builds an image in the shared engine.
pub fn build(name: &str, lines: &str) -> String {
    let reference = format!("monopod.test/{:x}-{name}:1", std::process::id());
    engine().build(&reference, lines, &[("name", name.as_bytes())]);
    reference
}

/// Sends a container's process SIGKILL.
pub fn kill_process(pid: &Value) {
    let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = Pid::from_raw(pid.expect("the status names the process"));
    kill(pid, Signal::SIGKILL).expect("it runs");
}

/// A folder of the node's for the test's own use.
pub fn folder(node: &Node, name: &str) -> PathBuf {
    let path = node.root.with_file_name(name);
    fs::create_dir(&path).expect("it is new");
    path
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn start_bus(folder: &Path) -> Child {
    let (config, address) = (folder.join("bus.conf"), folder.join("bus"));
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow own=\"*\"/><allow user=\"*\"/>\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>\n",
        address.display()
    );
    fs::write(&config, text).expect("the folder can be written");
    let mut bus = Command::new("dbus-daemon")
        .args(["--nofork", "--nopidfile", "--print-address=1"])
        .arg(format!("--config-file={}", config.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join("bus.log")).expect("the folder can be written"))
        .spawn()
        .expect("the package dbus is installed");
    let mut line = String::new();
    // It prints its address once it listens.
    BufReader::new(bus.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("a pipe can be read");
    assert!(
        line.starts_with("unix:"),
        "dbus-daemon did not start: {line}"
    );
    bus
}
