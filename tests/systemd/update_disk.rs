//! Updates and disks: what one writes, a full one, and volumes that go back with the release.

use std::path::Path;

use crate::desk::{Desk, ILL, workload};
use crate::loops::Loop;
use crate::machine::eventually;
use crate::node::{NODE, Node};

/// What the data of the app is, in the machine.
const DATA: &str = "cat $(docker volume inspect --format '{{.Mountpoint}}' gateway-data)/log";

fn with_data(version: &str) -> String {
    let with = workload(version).replace(
        "\"/srv/state:/state\"",
        "\"/srv/state:/state\", \"data:/data\"",
    );
    format!("{with}\n[volumes.data]\nsnapshot = true\n")
}

/// Bytes that no compression makes fewer.
fn noise(mebibytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(mebibytes << 17).flatten().collect()
}

/// A node whose state is on a disk of its own, as are the engine's images; both are small.
fn node(disk: &Loop) -> Node {
    let node = Node::installed();
    disk.appear_in(&node);
    node.ok("systemctl stop monopod.path docker.socket docker.service");
    node.ok("mount -t tmpfs -o size=96m,mode=711 tmpfs /var/lib/docker");
    node.ok(&format!("mount /dev/{} /var/lib/monopod", disk.name));
    node.ok("chown monopod:monopod /var/lib/monopod && rmdir /var/lib/monopod/lost+found");
    node.ok("systemd-tmpfiles --create monopod.conf && systemctl start docker.service");
    node.ok("mkdir -p /srv/state && monopod import /root/app.tar");
    node.configure(
        "node.toml",
        &format!("{NODE}\n[trial]\nsettle = \"2s\"\ndeadline = \"45s\"\n"),
    );
    node.configure("workload.toml", &with_data("1"));
    node.ok("systemctl start monopod.service && monopod status");
    node
}

/// The KiB that are free of the file system with this folder.
fn free(node: &Node, folder: &str) -> u64 {
    let free = node.ok(&format!("df --output=avail -k {folder} | tail -1"));
    free.trim().parse().expect("a number")
}

/// Leaves so many KiB free of the file system with this folder.
fn fill(node: &Node, folder: &str, left: u64) {
    let size = free(node, folder) - left;
    node.ok(&format!("fallocate -l {size}K {folder}/filler"));
}

/// Takes that back. A file system may give the room of a file that is gone some time after it.
fn clear(node: &Node, folder: &str) {
    let full = free(node, folder);
    let size = node.ok(&format!("stat --format %s {folder}/filler"));
    let size: u64 = size.trim().parse().expect("a number");
    node.ok(&format!(
        "rm {folder}/filler && sync --file-system {folder}"
    ));
    eventually("there is room again", || {
        free(node, folder) >= full + size / 1024 / 4 * 3
    });
}

fn data(node: &Node) -> String {
    node.ok(DATA)
}

#[test]
fn an_update_writes_little_waits_for_room_and_takes_its_data_back_when_it_fails() {
    let desk = Desk::new();
    let state = Loop::new("state", 96, &[]);
    let node = node(&state);
    node.trust(&desk);
    assert_eq!(data(&node), "one");

    // A good one, with what it writes.
    let small = desk.bundle("2", &with_data("2"), &[("www/index.html", b"2\n")]);
    node.ok("sync --file-system /var/lib/monopod");
    let before = state.written();
    node.take(&small);
    node.await_committed("2");
    node.ok("sync --file-system /var/lib/monopod");
    let after = state.written();
    println!(
        "figure: update: a bundle of {} bytes, one layer new, volumes copied: {} writes of {} bytes to the disk of /var/lib/monopod",
        std::fs::metadata(&small).map_or(0, |found| found.len()),
        after.0 - before.0,
        after.1 - before.1
    );
    assert_eq!(data(&node), "one\n2");
    let mark = node.mark();

    // The store's disk is full: nothing is taken, and nothing half.
    let large = desk.bundle(
        "3",
        &with_data("3"),
        &[("www/index.html", b"3\n"), ("www/noise", &noise(12))],
    );
    let app = node.running("app");
    let listed = |node: &Node| node.ok("cd /var/lib/monopod/releases && ls -A");
    let releases = listed(&node);
    fill(&node, "/var/lib/monopod", 4096);
    let came = node.bring(&large);
    assert_eq!(came.code, 1, "{came:#?}");
    assert!(
        came.stderr.contains("space") || came.stderr.contains("room"),
        "{came:#?}"
    );
    assert_eq!(listed(&node), releases);
    clear(&node, "/var/lib/monopod");

    // The engine's disk is full: the release waits, and what runs is not touched.
    fill(&node, "/var/lib/docker", 6144);
    node.take(&large);
    node.await_line(&mark, "monopod.service", "cannot be staged yet");
    assert!(node.is("3", "next"), "{}", node.release("3"));
    assert_eq!(node.running("app"), app);
    assert_eq!(node.page(), "2");
    clear(&node, "/var/lib/docker");
    // Brought again, it need not wait for the next time that the node tries by itself.
    node.take(&large);
    node.await_committed("3");

    goes_back(&desk, &node);
    let peak = "grep VmHWM /proc/$(systemctl show --value -p MainPID monopod.service)/status";
    println!(
        "figure: update: the daemon's memory at most: {}",
        node.ok(peak)
    );
    drop(node);
}

/// A release that spoils its data is taken back, data and all.
fn goes_back(desk: &Desk, node: &Node) {
    let was = data(node);
    assert_eq!(was, "one\n2\n3");
    let starts = node
        .app_log()
        .iter()
        .filter(|line| *line == "started")
        .count();
    let ill = desk.bundle(
        "4",
        &with_data("4"),
        &[
            ("www/index.html", b"spoilt\n"),
            ("www/cgi-bin/healthz", ILL.as_bytes()),
        ],
    );
    let mark = node.mark();
    node.take(&ill);
    node.await_line(&mark, "monopod.service", "runs on trial");
    node.ok(&format!("test -d {}", copies(node, "4").display()));
    node.await_rejected("4", "3");
    let now = node
        .app_log()
        .iter()
        .filter(|line| *line == "started")
        .count();
    assert!(now > starts + 1, "the bad one has never run");
    // The one before has been started anew, and has written of it.
    assert_eq!(data(node), format!("{was}\n3"));
    let copies = copies(node, "4");
    eventually("the copies are gone", || {
        node.sh(&format!("test ! -e {}", copies.display())).code == 0
    });
}

/// Where a release's copies of volumes are.
fn copies(node: &Node, version: &str) -> std::path::PathBuf {
    let id = node.release(version)["id"].clone();
    Path::new("/var/lib/monopod/snapshots").join(id.as_str().expect("an id"))
}
