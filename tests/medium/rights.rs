//! What the process that reads a stick may still do.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use monopod::image::Store;
use nix::fcntl::{Flock, FlockArg};

use crate::stick::{Node, OWNER, Stick, end, small};

/// The process that reads for this node, once it is shut in.
fn reader(node: &Node) -> (String, String) {
    let root = node.path("").display().to_string();
    let root = root.trim_end_matches('/');
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let words = read("cmdline");
            if words.contains(root) && words.contains("--half\0take\0") {
                let status = read("status");
                // In its filter, and waiting for the store.
                if status.contains("Seccomp:\t2") && read("wchan").contains("lock") {
                    return (entry.file_name().to_string_lossy().into_owned(), status);
                }
            }
        }
        assert!(Instant::now() < patience, "nobody reads");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command as the node's user, with nothing besides.
fn as_owner(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &OWNER.to_string(), "--regid", &OWNER.to_string()])
        .args(["--clear-groups", "--inh-caps=-all", "--", program]);
    command
}

/// The half that may speak to the bus runs as the same user, without rights of its own.
#[test]
fn who_reads_cannot_look_into_who_tells() {
    let node = Node::new("");
    let listed = |pid: u32| {
        let folder = format!("/proc/{pid}/fd");
        let listed = as_owner("ls")
            .arg(folder)
            .output()
            .expect("setpriv is there");
        listed.status.success()
    };
    let mut tells = as_owner(env!("CARGO_BIN_EXE_monopod"))
        .arg("--root")
        .arg(node.path(""))
        .args(["import-medium", "--half", "tell", "sda1"])
        // It waits for its story.
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv is there");
    let mut other = as_owner("sleep").arg("600").spawn().expect("setpriv");
    let patience = Instant::now() + Duration::from_secs(60);
    // Both are still setpriv at first, which nobody may look into.
    while !listed(other.id()) || !waits_for_its_story(tells.id()) {
        assert!(Instant::now() < patience, "nobody is there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!listed(tells.id()), "its files are open to its user");
    for child in [&mut tells, &mut other] {
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}

fn waits_for_its_story(pid: u32) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    read("cmdline").starts_with(env!("CARGO_BIN_EXE_monopod")) && read("wchan").contains("pipe")
}

#[test]
fn who_reads_has_no_rights() {
    let node = Node::new("");
    let store = Store::open(&node.paths().store()).expect("a store");
    let chowned = Command::new("chown")
        .args(["-R", &format!("{OWNER}:{OWNER}")])
        .arg(store.path())
        .status();
    assert!(chowned.expect("chown").success());
    // Who reads waits for it.
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(store.path().join("lock"))
        .expect("the lock");
    chown(store.path().join("lock"), Some(OWNER), Some(OWNER)).expect("root may");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody has it");
    let stick = Stick::new("ext4", &[("a.bundle", &small(7))]);
    let child = node.begin(&stick);
    let (pid, status) = reader(&node);
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("the kernel says").trim().to_owned()
    };
    let owner = [OWNER.to_string().as_str(); 4].join("\t");
    assert_eq!((field("Uid"), field("Gid")), (owner.clone(), owner));
    assert_eq!(field("Groups"), "", "no group, the engine's least of all");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set).trim_start_matches('0'), "", "{set}");
    }
    // Its complaints may go to the journal; it holds no other way to anyone.
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs") {
        let entry = entry.expect("an entry");
        let held = fs::read_link(entry.path()).unwrap_or_default();
        let socket = held.to_string_lossy().starts_with("socket:");
        assert!(!socket || entry.file_name() == "2", "{entry:?} is {held:?}");
    }
    // The stick: read-only, and for it alone.
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("it runs");
    let line = mounts
        .lines()
        .find(|line| line.contains(&stick.name))
        .expect("it is mounted");
    let options: Vec<&str> = line
        .split(' ')
        .nth(3)
        .expect("options")
        .split(',')
        .collect();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains(&option), "{line}");
    }
    let ours = fs::read_to_string("/proc/mounts").expect("ours");
    assert!(!ours.contains(&format!("/{} ", stick.name)), "{ours}");
    drop(lock);
    let came = end(child);
    assert_eq!(came.code, Some(0), "{came:?}");
    for release in node.releases() {
        let found = fs::metadata(node.paths().incoming().join(release.id.as_str()));
        assert_eq!(found.expect("it is there").uid(), OWNER);
    }
}
