//! What the process that reads a stick may still do.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
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

#[test]
fn who_reads_has_no_rights() {
    let node = Node::new("");
    let store = Store::open(&node.paths().store()).expect("a store");
    let chowned = std::process::Command::new("chown")
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
        let found = fs::metadata(node.paths().releases().join(release.id.as_str()));
        assert_eq!(found.expect("it is there").uid(), OWNER);
    }
}
