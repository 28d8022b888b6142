//! What may stand between a staged release and its trial, what the node's own files add to it, and how
//! often the ledger is written on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::Value;

use super::desk::{
    Desk, QUICK, book, committed, mark, rejected, running, setting, take, taken_back, text, trials,
    waits,
};
use crate::node::{ASK, Node, SERVE, folder};
use crate::support::eventually;

/// Most writes of the ledger for one update, from its discovery to its commit.
const WRITES: usize = 28;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is later than 1970").as_secs()
}

/// A window that opens each day at this time.
fn opens(at: u64, length: &str) -> String {
    let (hours, minutes, seconds) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("window = \"{hours:02}:{minutes:02}:{seconds:02} UTC\"\nwindow_length = \"{length}\"")
}

/// What is in `[update]` from now on.
fn update(node: &mut Node, lines: &str) {
    node.settings(&format!("{QUICK}[update]\n{lines}"));
    node.must(&["reload"]);
}

#[test]
fn the_window() {
    let (mut node, desk, archive, _) = running("window", "");
    update(&mut node, &opens(now() + 12 * 3600, "1h"));
    let second = take(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    waits(&node, &second, "update window");
    assert_eq!(mark(&node), "one");
    // A hand does not wait for it.
    node.must(&["release", "activate"]);
    committed(&node, &second);

    let third = take(&node, &desk.bundle(&node, 3, &desk.good("three"), &archive));
    waits(&node, &third, "update window");
    assert_eq!(mark(&node), "two");
    // It opens by itself, as late as that.
    let at = now() + 5;
    update(&mut node, &opens(at, "12h"));
    node.until("it is tried", |status| {
        book(status)["trial"]["release"] == third.as_str()
            || book(status)["current"] == third.as_str()
    });
    assert!(now() >= at, "it was tried before the window was open");
    committed(&node, &third);
    assert_eq!(mark(&node), "three");
    // And while it is open nothing waits for it.
    let fourth = take(&node, &desk.bundle(&node, 4, &desk.good("four"), &archive));
    committed(&node, &fourth);
}

#[test]
fn the_owner_s_file_and_the_owner_s_word() {
    let (mut node, desk, archive, _) = running("owner", "");
    let hold = folder(&node, "gates").join("hold");
    fs::write(&hold, "").expect("the folder can be written");
    let file = format!("hold_file = \"{}\"", hold.display());
    update(&mut node, &file);
    let second = take(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    waits(&node, &second, "hold file");
    assert_eq!(mark(&node), "one");
    fs::remove_file(&hold).expect("it is there");
    // That makes it look again.
    node.must(&["release", "unhold"]);
    committed(&node, &second);

    // By hand only; but the hand goes past file and hold.
    fs::write(&hold, "").expect("the folder can be written");
    update(&mut node, &format!("{file}\nactivation = \"manual\""));
    node.must(&["release", "hold"]);
    let third = take(&node, &desk.bundle(&node, 3, &desk.good("three"), &archive));
    waits(&node, &third, "release activate");
    assert_eq!(mark(&node), "two");
    node.must(&["release", "activate"]);
    committed(&node, &third);
    assert_eq!(mark(&node), "three");
    node.must(&["release", "unhold"]);
}

#[test]
fn a_lock_file_and_the_release_s_own_hook() {
    let (mut node, desk, archive, first) = running("gates", "");
    let gates = folder(&node, "gates");
    let lock = gates.join("lock");
    let answer = gates.join("answer");
    fs::write(&lock, "").expect("the folder can be written");
    fs::write(&answer, "75").expect("the folder can be written");
    let settings = format!("{QUICK}[update]\nlock_file = \"{}\"", lock.display());
    node.settings(&settings);
    node.must(&["reload"]);

    let hook = desk.path("hook");
    let script = format!(
        "#!/bin/sh\necho \"$MONOPOD_RELEASE $MONOPOD_CURRENT\" >{0}/asked\necho the word is $(cat {0}/answer) >&2\n\
         exit $(cat {0}/answer)\n",
        gates.display()
    );
    fs::write(&hook, script).expect("the folder can be written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is there");
    let bundle = |sequence: u64, page: &str| {
        desk.bundle_with(
            &node,
            sequence,
            &desk.good(page),
            &archive,
            &["--hook", &hook],
        )
    };
    let second = take(&node, &bundle(2, "two"));
    waits(&node, &second, "lock file");
    // A hand does not go past the lock.
    node.must(&["release", "activate"]);
    waits(&node, &second, "lock file");
    assert!(!gates.join("asked").exists());
    fs::remove_file(&lock).expect("it is there");
    // That makes it look again.
    node.must(&["release", "unhold"]);
    waits(&node, &second, "the word is 75");
    let asked = fs::read_to_string(gates.join("asked")).expect("it was asked");
    assert_eq!(asked, format!("{second} {first}\n"));
    assert_eq!(mark(&node), "one");
    fs::write(&answer, "0").expect("the folder can be written");
    node.must(&["release", "unhold"]);
    committed(&node, &second);
    assert_eq!(mark(&node), "two");

    fs::write(&answer, "1").expect("the folder can be written");
    let third = take(&node, &bundle(3, "three"));
    let status = taken_back(&node, &third, &second);
    let why = rejected(&status, &third).expect("it is rejected");
    assert!(why.contains("the word is 1"), "{why}");
    assert_eq!(mark(&node), "two");
}

#[test]
fn a_hook_that_ends_the_daemon_each_time_is_given_up() {
    let (mut node, desk, archive, first) = running("deadly", "tries = 2");
    let pid = node.healthy()["containers"]["app"]["pid"].clone();
    let hook = desk.path("hook");
    fs::write(&hook, "#!/bin/sh\nkill -9 $PPID\n").expect("the folder can be written");
    let bundle = desk.bundle_with(&node, 2, &desk.good("two"), &archive, &["--hook", &hook]);
    // The daemon may be gone before it has answered.
    let taken = node.run(&["import", &bundle, "--json"]).json();
    let second = text(&taken["release"]["id"]);
    for death in 1..=2 {
        assert_eq!(node.ended().signal(), Some(9), "{death}: {}", node.log());
        node.start();
    }
    let status = taken_back(&node, &second, &first);
    let why = rejected(&status, &second).expect("it is rejected");
    assert!(why.contains("died 2 times when its hook"), "{why}");
    assert!(node.log().contains("release retry"), "{}", node.log());
    assert_eq!(trials(&node, &second), 0);
    assert_eq!(node.healthy()["containers"]["app"]["pid"], pid);
}

#[test]
fn a_lock_that_the_workload_takes_in_a_mounted_folder() {
    let mut node = Node::new("lock");
    let state = folder(&node, "state");
    let lock = state.join("busy").display().to_string();
    node.settings(&format!("{QUICK}[update]\nlock_file = \"{lock}\""));
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str| {
        desk.app(mark, SERVE, ASK) + &format!("\nvolumes = [\"{}:/state\"]", state.display())
    };
    let in_app = |node: &Node, words: &[&str]| {
        let id = node.containers(None).remove(0);
        node.docker(&[&["exec", &id, "busybox"], words].concat());
    };
    take(&node, &desk.bundle(&node, 1, &lines("one"), &archive));
    node.start();
    node.healthy();
    in_app(&node, &["touch", "/state/busy"]);
    let second = take(&node, &desk.bundle(&node, 2, &lines("two"), &archive));
    waits(&node, &second, "lock file");
    // A hand does not go past it, the next daemon neither.
    node.must(&["release", "activate"]);
    node.crash();
    node.start();
    waits(&node, &second, "lock file");
    assert_eq!(mark(&node), "one");
    in_app(&node, &["rm", "/state/busy"]);
    node.must(&["release", "unhold"]);
    committed(&node, &second);

    // Whoever insists does.
    in_app(&node, &["touch", "/state/busy"]);
    let third = take(&node, &desk.bundle(&node, 3, &lines("three"), &archive));
    waits(&node, &third, "lock file");
    node.must(&["release", "activate", "--now"]);
    committed(&node, &third);
    assert_eq!(mark(&node), "three");
}

#[test]
fn an_app_that_is_busy() {
    let mut node = Node::new("busy");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let words = folder(&node, "words");
    super::probes::program(&words, super::probes::SPEAKER);
    fs::write(words.join("say"), "READY=1\nX_MONOPOD_BUSY=1").expect("the folder can be written");
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str| {
        desk.app(
            mark,
            r#"["/words/speaker"]"#,
            r#"{ notify = true, interval = "10s", start_period = "10m" }"#,
        ) + &format!("\nvolumes = [\"{}:/words:ro\"]", words.display())
    };
    let first = take(&node, &desk.bundle(&node, 1, &lines("one"), &archive));
    node.start();
    node.healthy();
    let second = take(&node, &desk.bundle(&node, 2, &lines("two"), &archive));
    waits(&node, &second, "app says that it is busy");
    assert_eq!(mark(&node), "one");
    fs::write(words.join("say"), "READY=1\nX_MONOPOD_BUSY=0").expect("the folder can be written");
    let status = committed(&node, &second);
    assert_eq!(book(&status)["previous"], first.as_str());

    // Whoever insists goes past it.
    fs::write(words.join("say"), "READY=1\nX_MONOPOD_BUSY=1").expect("the folder can be written");
    let third = take(&node, &desk.bundle(&node, 3, &lines("three"), &archive));
    waits(&node, &third, "app says that it is busy");
    node.must(&["release", "activate", "--now"]);
    committed(&node, &third);
    assert_eq!(mark(&node), "three");
}

#[test]
fn what_the_node_s_own_files_say_is_said_over_each_release() {
    let mut node = Node::new("drop-in");
    node.settings(QUICK);
    let folder = node.root.join("etc/monopod/workload.d");
    let own = |place: &str| {
        fs::create_dir_all(&folder).expect("the root can be written");
        let text = format!("[containers.app]\nenvironment = {{ PLACE = \"{place}\" }}\n");
        fs::write(folder.join("10-place.toml"), text).expect("the root can be written");
    };
    own("hall 4");
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str| {
        let bare = format!("MARK = \"{mark}\"");
        desk.good(mark).replace(
            &bare,
            &format!("{bare}, PLACE = \"nowhere\", KEPT = \"yes\""),
        )
    };
    let bundle = |sequence, mark| desk.bundle(&node, sequence, &lines(mark), &archive);
    let bundles = [bundle(1, "one"), bundle(2, "two")];
    let ends = desk.bundle(&node, 3, &desk.ends("three"), &archive);
    let first = take(&node, &bundles[0]);
    node.start();
    node.healthy();
    let says = |node: &Node, mark: &str, place: &str| {
        for (name, value) in [("MARK", mark), ("PLACE", place), ("KEPT", "yes")] {
            assert_eq!(setting(node, "app", name), value, "{name}");
        }
    };
    says(&node, "one", "hall 4");
    let second = take(&node, &bundles[1]);
    committed(&node, &second);
    says(&node, "two", "hall 4");

    // Moved: that is no release, and what runs is made anew at once.
    own("hall 5");
    let before = node.containers(None);
    node.must(&["reload"]);
    let status = node.until("the file is in force", |status| {
        status["verdict"] == "healthy" && !before.contains(&id_of(status))
    });
    assert_eq!(status["release"], second.as_str());
    says(&node, "two", "hall 5");
    // A release that fails gives way to the one before, and to the file as it is now.
    let bad = take(&node, &ends);
    taken_back(&node, &bad, &second);
    says(&node, "two", "hall 5");
    node.must(&["release", "rollback"]);
    taken_back(&node, &second, &first);
    says(&node, "one", "hall 5");
}

fn id_of(status: &Value) -> String {
    let id = status["containers"]["app"]["id"].as_str();
    id.unwrap_or_default().to_owned()
}

#[test]
fn a_helper_that_is_never_well_takes_both_back() {
    let mut node = Node::new("both");
    node.settings(&format!("{QUICK}deadline = \"5s\""));
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str, asks: &str| {
        let app = desk.good(mark);
        format!(
            "{app}\n[containers.helper]\nimage = \"{}\"\ncommand = [\"sleep\", \"100000\"]\n\
             stop_signal = \"SIGKILL\"\nenvironment = {{ MARK = \"{mark}\" }}\n\
             healthcheck = {{ test = \"{asks}\", interval = \"300ms\", timeout = \"20s\", start_period = \"10m\" }}",
            desk.reference()
        )
    };
    let marks = |node: &Node| ["app", "helper"].map(|role| setting(node, role, "MARK"));
    let first = desk.bundle(&node, 1, &lines("one", "exit 0"), &archive);
    let first = take(&node, &first);
    node.start();
    node.healthy();
    assert_eq!(marks(&node), ["one", "one"]);
    let bad = desk.bundle(&node, 2, &lines("two", "exit 1"), &archive);
    let bad = take(&node, &bad);
    let status = taken_back(&node, &bad, &first);
    let why = rejected(&status, &bad).expect("it is rejected");
    assert!(why.contains("not healthy"), "{why}");
    assert_eq!(marks(&node), ["one", "one"]);
    assert_eq!(trials(&node, &bad), 1, "both were tried");
    // A good pair is taken whole.
    let third = desk.bundle(&node, 3, &lines("three", "exit 0"), &archive);
    node.settings(QUICK);
    node.must(&["reload"]);
    let third = take(&node, &third);
    committed(&node, &third);
    assert_eq!(marks(&node), ["three", "three"]);
}

/// Counts how often a node's ledger is replaced.
struct Counter(Inotify);

impl Counter {
    fn new(node: &Node) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.expect("the kernel has a watch to spare");
        let state = node.root.join("var/lib/monopod");
        // With what it was before: of two events of a kind in a row the kernel tells one.
        let both = AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_MOVED_TO;
        inotify
            .add_watch(&state, both)
            .expect("the folder is there");
        Self(inotify)
    }

    /// How often since it was asked last.
    fn count(&self) -> usize {
        let mut count = 0;
        loop {
            match self.0.read_events() {
                Ok(events) => {
                    let names = events.iter().filter_map(|event| event.name.as_ref());
                    // It is never moved away.
                    count += names.filter(|name| *name == "ledger").count();
                }
                Err(Errno::EAGAIN) => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Waits until the ledger says what the status says that it will.
fn on_disk(node: &Node, status: &Value) {
    eventually("the ledger says so", || {
        let text = fs::read_to_string(node.root.join("var/lib/monopod/ledger"));
        let text = text.unwrap_or_default();
        let line = text.lines().nth(1).unwrap_or_default();
        let ledger: Value = serde_json::from_str(line).unwrap_or_default();
        ["current", "previous", "trial", "next", "rejected"]
            .iter()
            .all(|key| ledger["releases"][key] == book(status)[key])
    });
}

#[test]
fn an_update_writes_the_ledger_a_few_times() {
    let mut node = Node::new("writes");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str| {
        desk.good(mark) + "\nvolumes = [\"data:/data\"]\n[volumes.data]\nsnapshot = true"
    };
    let hook = desk.path("hook");
    fs::write(&hook, "#!/bin/sh\nexit 0\n").expect("the folder can be written");
    let bundle = |sequence, lines: &str| {
        desk.bundle_with(&node, sequence, lines, &archive, &["--hook", &hook])
    };
    let bundles = [
        bundle(1, &lines("one")),
        bundle(2, &lines("two")),
        bundle(3, &desk.ends("three")),
    ];
    let first = take(&node, &bundles[0]);
    node.start();
    node.healthy();
    on_disk(&node, &committed(&node, &first));
    let counter = Counter::new(&node);

    // All that may lie on the way: a hold, a hook, copies of volumes.
    node.must(&["release", "hold"]);
    let second = take(&node, &bundles[1]);
    waits(&node, &second, "on hold");
    node.must(&["release", "unhold"]);
    on_disk(&node, &committed(&node, &second));
    let good = counter.count();
    let bad = take(&node, &bundles[2]);
    on_disk(&node, &taken_back(&node, &bad, &second));
    let back = counter.count();
    println!(
        "figure: {good} writes of the ledger from a release's discovery to its commit (with a hold set \
         and ended), {back} to its rollback"
    );
    // The offer, the trial, its end.
    assert!((3..=WRITES).contains(&good), "{good}");
    assert!((3..=WRITES).contains(&back), "{back}");
    // Then it is quiet, whatever is asked.
    node.must(&["status"]);
    node.must(&["release", "list"]);
    assert_eq!(counter.count(), 0);
}
