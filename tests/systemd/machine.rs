//! A booted Debian 13 with systemd and dockerd, in memory, without a network.
//!
//! What happens in it is waited for by its own signs: systemd's notifications, the journal, commands
//! that end. It ends with this value, and with the test process at the latest.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long something may take that should take a few seconds, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A machine.
pub struct Machine {
    keeper: Child,
    /// What the keeper says: `boot N`, `end CODE`.
    said: Receiver<String>,
    /// What systemd in it says of itself, and nspawn of both.
    notified: Receiver<String>,
    folder: tempfile::TempDir,
    leader: i32,
    boots: u32,
}

/// What a command in the machine came to.
#[derive(Debug)]
pub struct Came {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

/// A place in the machine's journal.
#[derive(Clone)]
pub struct Mark(String);

/// A journal entry's fields.
#[derive(Clone, Debug)]
pub struct Entry(Value);

impl Entry {
    /// A field as text; empty if the entry has none of that name.
    pub fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::String(text) => text.clone(),
            Value::Array(bytes) => {
                let bytes: Vec<u8> = bytes
                    .iter()
                    .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
                    .collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Its message.
    pub fn message(&self) -> String {
        self.field("MESSAGE")
    }

    /// Whether it comes from this unit, or from systemd about it.
    pub fn about(&self, unit: &str) -> bool {
        self.field("_SYSTEMD_UNIT") == unit || self.field("UNIT") == unit
    }
}

impl Machine {
    /// Boots the tree with these files put into it first (path in the machine, path here), and waits
    /// until systemd has started all that it is to start.
    pub fn boot(tree: &Path, files: &[(&str, &Path)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("monopod-{pid}-{count}");
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let notify = UnixDatagram::bind(folder.path().join("notify")).expect("the folder is new");
        let notified = notifications(notify);
        // Who starts the machine puts the files in before it lets it boot.
        let added = folder.path().join("added");
        for (place, file) in files {
            let to = added.join(place.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().expect("a file is in a folder"))
                .expect("the folder is new");
            std::fs::copy(file, to).expect("the file is there");
        }
        let mut keeper = Command::new("tests/lib/machine")
            .arg(folder.path().join("machine"))
            .arg(tree)
            .arg(&name)
            .arg(&added)
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests run in the checkout");
        let said = lines(keeper.stdout.take().expect("it is piped"));
        let mut machine = Self {
            keeper,
            said,
            notified,
            folder,
            leader: 0,
            boots: 0,
        };
        machine.await_boot();
        machine
    }

    /// Waits until the next boot begins, then until systemd is ready.
    pub fn await_boot(&mut self) {
        self.await_boot_start();
        self.await_ready();
    }

    /// Waits until the next boot begins; the journal and commands can be used then.
    pub fn await_boot_start(&mut self) {
        self.boots += 1;
        let line = self.said.recv_timeout(PATIENCE);
        assert_eq!(
            line,
            Ok(format!("boot {}", self.boots)),
            "{}",
            self.console()
        );
        let told = self.told("X_NSPAWN_LEADER_PID=");
        self.leader = told.parse().expect("a process ID");
    }

    /// Waits until systemd has started all that it is to start.
    pub fn await_ready(&mut self) {
        self.told("READY=");
    }

    /// How often the machine has booted.
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// Waits until the machine is off, by its own doing.
    pub fn await_off(&mut self) {
        let line = self.said.recv_timeout(PATIENCE);
        assert_eq!(line, Ok("end 0".to_owned()), "{}", self.console());
    }

    /// The value that systemd's next notification has for a key; those without it are passed over.
    fn told(&self, key: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(text) = self.notified.recv_timeout(left) else {
                panic!("no {key} came; {}", self.console());
            };
            if let Some(value) = text.lines().find_map(|line| line.strip_prefix(key)) {
                return value.to_owned();
            }
        }
    }

    fn console(&self) -> String {
        let text = std::fs::read_to_string(self.outlasting("/../console")).unwrap_or_default();
        format!("the console says:\n{text}")
    }

    /// Where a file of the running machine is to be found from here.
    pub fn path(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path} is not absolute");
        format!("/proc/{}/root{path}", self.leader).into()
    }

    /// As [`Self::path`], for a file that is to be read once the machine is off.
    pub fn outlasting(&self, path: &str) -> PathBuf {
        let (keeper, folder) = (self.keeper.id(), self.folder.path().display());
        format!("/proc/{keeper}/root{folder}/machine/root{path}").into()
    }

    /// Writes a file in the machine, with the folders above it, in one step for who watches.
    pub fn write(&self, path: &str, text: &str) {
        let to = self.path(path);
        let folder = to.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("the machine's files can be written");
        let new = folder.join(".being-written");
        std::fs::write(&new, text).expect("the machine's files can be written");
        std::fs::rename(&new, &to).expect("the machine's files can be written");
    }

    /// Reads a file in the machine; empty if it is not there.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// The process ID, seen from here, of the machine's first process.
    pub fn leader(&self) -> i32 {
        self.leader
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &self.leader.to_string(),
                "--all",
                "--wdns=/",
                "--",
            ])
            // Who reads its output is gone with its parent.
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", "/root")
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script in the machine, as root, to its end.
    pub fn sh(&self, script: &str) -> Came {
        let limit = (2 * PATIENCE).as_secs().to_string();
        let output = self
            .command(&["timeout", &limit, "sh", "-euc", script])
            .output();
        came(&output.expect("nsenter is installed"))
    }

    /// Runs a shell script in the machine that has to succeed; what it printed.
    pub fn ok(&self, script: &str) -> String {
        let came = self.sh(script);
        assert_eq!(came.code, 0, "`{script}` came to {came:#?}");
        came.stdout.trim_end().to_owned()
    }

    /// Starts a shell script in the machine, and does not wait for its end.
    pub fn begin(&self, script: &str) -> Begun {
        let mut command = self.command(&["sh", "-euc", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Begun(command.spawn().expect("nsenter is installed"))
    }

    /// The end of the journal as it is now.
    pub fn mark(&self) -> Mark {
        let line = self.ok("journalctl --quiet --lines=1 --output=json --output-fields=MESSAGE");
        let entry: Value = serde_json::from_str(&line).expect("journalctl prints JSON");
        Mark(entry["__CURSOR"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a journal entry after the mark; the journal is followed, not asked again and again.
    pub fn await_entry(&self, mark: &Mark, what: &str, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let mut journal = self
            .command(&[
                "journalctl",
                "--quiet",
                "--follow",
                "--no-tail",
                "--output=json",
                &format!("--after-cursor={}", mark.0),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter is installed");
        let lines = lines(journal.stdout.take().expect("it is piped"));
        let end = Instant::now() + PATIENCE;
        let found = loop {
            let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                break None;
            };
            let entry = Entry(serde_json::from_str(&line).expect("journalctl prints JSON"));
            if wanted(&entry) {
                break Some(entry);
            }
        };
        // It may have ended with the machine.
        let _ = journal.kill();
        let _ = journal.wait();
        let Some(found) = found else {
            panic!("the journal never said that {what}")
        };
        found
    }

    /// Waits for an entry of the unit, or of systemd about it, that has these words.
    pub fn await_line(&self, mark: &Mark, unit: &str, words: &str) -> Entry {
        self.await_entry(mark, &format!("{unit}: {words}"), |entry| {
            entry.about(unit) && entry.message().contains(words)
        })
    }

    /// Properties of a unit, as `systemctl show` says them.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show --value -p {property} {unit}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.sh("journalctl --quiet --no-hostname -o short-monotonic -u 'monopod*' -u docker.service --lines=60; systemctl --no-pager --failed; docker ps -a || true");
            eprintln!("{}{}", journal.stdout, journal.stderr);
        }
        drop(self.keeper.stdin.take());
        // It has been told; that it cannot be waited for changes nothing.
        let _ = self.keeper.wait();
    }
}

/// Waits until something holds that gives no sign of its own.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came to be that {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A script that runs in a machine.
pub struct Begun(Child);

impl Begun {
    /// Waits for its end.
    pub fn end(self) -> Came {
        came(&self.0.wait_with_output().expect("it is our child"))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

fn came(output: &Output) -> Came {
    Came {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The lines that come out of a pipe, read by a thread that ends with it.
fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// What comes by a notification socket, read by a thread that ends with who listens to it. Somebody
/// has to read: systemd waits for room in the socket, and does nothing else meanwhile.
fn notifications(socket: UnixDatagram) -> Receiver<String> {
    let (sender, texts) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(size) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    texts
}
