//! Sticks, given to the import unit as udev does it: one that is refused, a node's first release, an update.

use crate::desk::{Desk, ILL, workload};
use crate::loops::Loop;
use crate::machine::eventually;
use crate::node::{NODE, Node};

#[test]
fn a_node_without_a_workload_gets_it_by_stick_and_its_updates_too() {
    let desk = Desk::new();
    let node = Node::installed();
    node.ok("mkdir -p /srv/state");
    node.configure(
        "node.toml",
        &format!("{NODE}\n[trial]\nsettle = \"2s\"\ndeadline = \"45s\"\n"),
    );

    // Nobody is trusted.
    let first = Loop::new("MONOPOD", 16, &[("first.bundle", &desk.good("1"))]);
    let mark = node.mark();
    first.plug_into(&node);
    let unit = first.unit();
    node.await_line(&mark, &unit, "first.bundle refused: no key can verify it");
    node.await_line(&mark, &unit, "can be removed");
    // The stick is at fault, and not the node.
    assert_eq!(node.show(&unit, "Result"), "success");
    assert_eq!(node.ok("ls /var/lib/monopod/incoming"), "");
    assert_eq!(node.show("monopod.service", "ActiveState"), "inactive");

    // The node's first release: no file of its own, and nobody starts anything.
    node.trust(&desk);
    let mark = node.mark();
    node.ok(&format!("systemctl start {unit}"));
    node.await_line(&mark, &unit, "first.bundle taken: release 1");
    let free = node.await_line(&mark, &unit, "can be removed");
    assert_eq!(free.field("_UID"), node.ok("id -u monopod"));
    assert_eq!(free.field("MESSAGE_ID"), "17e341c63ea64da3935c5fc03a577c29");
    node.await_line(&mark, "monopod.service", "Started ");
    node.await_committed("1");
    node.ok("test -f /var/lib/monopod/releases/*/manifest.minisig");
    assert_eq!(node.ok("ls -A /var/lib/monopod/incoming"), "");
    node.ok("test ! -e /etc/monopod/workload.toml");
    drop(first);

    // An update. The stick is nowhere mounted once it is tried.
    let second = Loop::new("MONOPOD_2", 16, &[("second.bundle", &desk.good("2"))]);
    let mark = node.mark();
    second.plug_into(&node);
    node.await_line(&mark, &second.unit(), "second.bundle taken: release 2");
    eventually("STATUS tells of the stick", || {
        let status = node.show("monopod.service", "StatusText");
        status.contains("; stick: second.bundle taken")
    });
    let mounts = node.ok("cat /proc/mounts /proc/[0-9]*/mounts 2>/dev/null || true");
    assert!(!mounts.contains(&second.name), "{mounts}");
    node.await_committed("2");
    let shown = node.sh("monopod status").stdout;
    assert!(shown.contains("stick: second.bundle taken"), "{shown}");
    drop(second);

    // The old stick once more is an old release, and one that is ill is taken back.
    let ill = desk.bundle(
        "3",
        &workload("3"),
        &[
            ("www/index.html", b"3\n"),
            ("www/cgi-bin/healthz", ILL.as_bytes()),
        ],
    );
    let third = Loop::new("MONOPOD", 16, &[("third.bundle", &ill)]);
    third.plug_into(&node);
    node.await_rejected("3", "2");

    // What came by stick is there after a boot, and so is its daemon.
    let mut node = node;
    node.ok("systemctl reboot");
    node.await_boot();
    node.await_committed("2");
}

#[test]
fn a_stick_mends_what_is_damaged_in_the_store() {
    let desk = Desk::new();
    let node = Node::installed();
    node.ok("mkdir -p /srv/state");
    node.configure("node.toml", NODE);
    node.trust(&desk);
    let stick = Loop::new("MONOPOD", 16, &[("first.bundle", &desk.good("1"))]);
    stick.plug_into(&node);
    node.await_committed("1");

    // A bit flips in a layer, and the engine has lost its copy.
    node.ok("systemctl stop monopod.service");
    node.ok("docker container prune --force && docker image prune --all --force");
    flip_a_layer(&node);
    let sums = format!(
        "cd {BLOBS} && for blob in *; do echo \"$blob  $blob\"; done | sha256sum --check --quiet"
    );
    assert_ne!(node.sh(&sums).code, 0);
    node.ok("systemctl start --no-block monopod.service");
    let damaged = || node.sh("monopod status --json").stdout;
    eventually("the damage is found", || {
        let status: serde_json::Value = serde_json::from_str(&damaged()).unwrap_or_default();
        let line = status["store_damaged"][0].as_str().unwrap_or_default();
        line.contains("is damaged (blob sha256:") && line.contains("stick")
    });

    // The same stick once more, and nobody does anything else.
    let mark = node.mark();
    stick.plug_into(&node);
    node.await_line(&mark, &stick.unit(), "first.bundle taken: release 1");
    node.await_page("1");
    node.ok(&sums);
    eventually("the daemon says that it is mended", || {
        let status: serde_json::Value = serde_json::from_str(&damaged()).unwrap_or_default();
        status.is_object() && status["store_damaged"].is_null()
    });
}

/// Where the store's blobs are, in the machine.
const BLOBS: &str = "/var/lib/monopod/store/blobs/sha256";

/// Flips a bit in the middle of the store's largest blob, which is a layer, and leaves its size as it is.
fn flip_a_layer(node: &Node) {
    let blobs = std::fs::read_dir(node.path(BLOBS)).expect("there is a store");
    let blobs = blobs.map(|entry| entry.expect("it can be read").path());
    let largest = blobs.max_by_key(|path| path.metadata().map_or(0, |found| found.len()));
    let path = largest.expect("there is one");
    let mut bytes = std::fs::read(&path).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).expect("it can be written");
}
