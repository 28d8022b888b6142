//! `monopod logs`: history, following, and what cannot be read.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::node::Node;
use crate::support::{IMAGE, PATIENCE, eventually};

const WORKLOAD: &str = r#"
[containers.app]
image = "monopod-test/busybox:1"
[containers.broker]
image = "monopod-test/busybox:1"
"#;

/// Says what it reads from a pipe; what begins with an exclamation mark on standard error.
const REPEAT: &str = r#"while :; do while read -r line; do case $line in !*) echo "$line" >&2 ;; *) echo "$line" ;; esac; done </box/in; done"#;

/// A container that says what it is told to.
struct Talker<'a> {
    node: &'a Node,
    id: String,
    pipe: PathBuf,
}

/// Never silent for long.
const CHATTER: &str = "while :; do echo tick; usleep 200000; done";

impl<'a> Talker<'a> {
    fn new(node: &'a Node, role: &str, driver: &str) -> Self {
        Self::with(node, role, driver, REPEAT)
    }

    fn with(node: &'a Node, role: &str, driver: &str, script: &str) -> Self {
        let folder = node.root.join(format!("box-{role}"));
        let pipe = folder.join("in");
        if !pipe.exists() {
            fs::create_dir(&folder).expect("the root can be written");
            mkfifo(&pipe, Mode::S_IRWXU).expect("the path is free");
        }
        let id = node.docker(&[
            "run",
            "--detach",
            "--network=none",
            "--stop-timeout=0",
            &format!("--label=org.monopod.node={}", node.root.display()),
            &format!("--label=org.monopod.role={role}"),
            &format!("--volume={}:/box", folder.display()),
            &format!("--log-driver={driver}"),
            IMAGE,
            "sh",
            "-c",
            script,
        ]);
        Self { node, id, pipe }
    }

    /// Has it say a line, and waits until the engine has it.
    fn says(&self, line: &str) {
        fs::write(&self.pipe, format!("{line}\n")).expect("it reads");
        eventually("the engine has the line", || {
            let mut command = self.node.engine.command(&["logs", &self.id]);
            let output = command.output().expect("docker is installed");
            let all = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&all).lines().any(|one| one == line)
        });
    }
}

#[test]
fn history() {
    for driver in ["json-file", "local"] {
        let node = Node::new(&format!("history-{driver}"));
        node.describe(WORKLOAD);
        let empty = node.run(&["logs"]);
        assert_eq!((empty.code, empty.stdout.as_str()), (1, ""), "{empty:?}");
        let app = Talker::new(&node, "app", driver);
        let broker = Talker::new(&node, "broker", driver);
        app.says("one");
        broker.says("two");
        app.says("!three");
        broker.says("four");
        app.says("five");
        let all = node.must(&["logs"]);
        assert_eq!(
            all.stdout,
            "app    | one\nbroker | two\napp    | !three\nbroker | four\napp    | five\n"
        );
        let last = node.must(&["logs", "-n", "1"]);
        assert_eq!(last.stdout, "broker | four\napp    | five\n");
        let broker = node.must(&["logs", "broker"]);
        assert_eq!(broker.stdout, "two\nfour\n");
        let json = node.must(&["logs", "app", "--json", "-n", "2"]).stdout;
        let entries: Vec<Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let field = |index: usize, name: &str| entries[index][name].as_str().unwrap_or_default();
        assert_eq!(
            (field(0, "container"), field(0, "stream"), field(0, "text")),
            ("app", "stderr", "!three")
        );
        assert_eq!((field(1, "stream"), field(1, "text")), ("stdout", "five"));
        assert!(field(0, "time") < field(1, "time"), "{json}");
        let stamped = node.must(&["logs", "app", "-n1", "--timestamps"]).stdout;
        assert_eq!(stamped, format!("{} five\n", field(1, "time")));
        // From a second on that is later than what was said, and from an earlier one.
        let line = node.must(&["logs", "app", "--since", field(1, "time")]);
        assert!(line.stdout.ends_with("five\n"), "{line:?}");
        let all = node.must(&["logs", "app", "--since", "1h"]).stdout;
        assert_eq!(all, "one\n!three\nfive\n");
        let never = node.must(&["logs", "--since", "2099-01-01"]).stdout;
        let later = node.must(&["logs", "--since", "2037-01-01"]).stdout;
        assert_eq!((never.as_str(), later.as_str()), ("", ""));
    }
}

/// `monopod logs -f`, and its lines as they come.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(node: &Node, words: &[&str]) -> Self {
        let mut child = node
            .command(&[&["logs", "-f"], words].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program is there");
        let out = child.stdout.take().expect("it is piped");
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self, expected: &str) {
        let line = self.lines.recv_timeout(PATIENCE);
        assert_eq!(line.as_deref(), Ok(expected));
    }

    /// Waits for a line, whatever comes before it.
    #[track_caller]
    fn until(&self, expected: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the line comes");
            if line == expected {
                return;
            }
        }
    }

    /// Interrupts it, whatever it has still to say.
    fn ended(mut self) -> mpsc::Receiver<String> {
        let pid = i32::try_from(self.child.id()).expect("process IDs are small");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is not reaped yet");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
        self.lines
    }

    fn interrupted(self) {
        let lines = self.ended();
        assert_eq!(lines.recv_timeout(PATIENCE).ok(), None, "nothing more");
    }
}

#[test]
fn following() {
    let node = Node::new("follow");
    node.describe(WORKLOAD);
    let app = Talker::new(&node, "app", "json-file");
    app.says("one");
    app.says("two");
    let last = Follower::start(&node, &["-n", "1"]);
    last.next("app | two");
    let named = Follower::start(&node, &["app", "--since", "1h"]);
    named.next("one");
    named.next("two");
    app.says("three");
    // The same container once more.
    node.docker(&["restart", "--time=0", &app.id]);
    app.says("four");
    app.says("!five");
    for line in ["three", "four", "!five"] {
        last.next(&format!("app | {line}"));
        named.next(line);
    }
    // Another one in its place; and one that was not there at all.
    node.docker(&["rm", "--force", &app.id]);
    let app = Talker::new(&node, "app", "local");
    app.says("six");
    named.next("six");
    last.next("app | six");
    let broker = Talker::new(&node, "broker", "json-file");
    broker.says("seven");
    last.next("broker | seven");
    app.says("eight");
    named.next("eight");
    last.next("app    | eight");
    last.interrupted();
    named.interrupted();
}

#[test]
fn a_talkative_one_does_not_hide_a_new_one() {
    let node = Node::new("chatter");
    node.describe(WORKLOAD);
    let _app = Talker::with(&node, "app", "json-file", CHATTER);
    let all = Follower::start(&node, &[]);
    all.until("app | tick");
    let broker = Talker::new(&node, "broker", "json-file");
    broker.says("seven");
    all.until("broker | seven");
    all.ended();
}

#[test]
fn nobody_reads() {
    let node = Node::new("unread");
    node.describe(WORKLOAD);
    let app = Talker::new(&node, "app", "json-file");
    app.says("one");
    let mut child = node
        .command(&["logs", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program is there");
    let mut line = String::new();
    // The reader is dropped after the first line; the container says nothing more.
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "app | one\n");
    let status = child.wait().expect("it ends by itself");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_driver_that_keeps_nothing() {
    let node = Node::new("driver");
    node.describe(WORKLOAD);
    let app = Talker::new(&node, "app", "json-file");
    app.says("one");
    let _broker = Talker::new(&node, "broker", "none");
    for words in [&["logs", "broker"][..], &["logs", "broker", "-f"]] {
        let ran = node.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        let told = "monopod: broker: its log driver is `none`, which keeps nothing";
        assert!(ran.stderr.starts_with(told), "{ran:?}");
    }
    // The other one is shown all the same.
    let ran = node.run(&["logs"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "app    | one\n"));
}
