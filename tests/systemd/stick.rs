//! A stick, given to the import unit as udev does it.

use std::path::PathBuf;
use std::process::Command;

use crate::build::layer;
use crate::forge::Parts;
use crate::node::{NODE, Node, ONE_PUB, WORKLOAD};

/// A formatted image on a loop device of this machine, to be seen in another.
struct Stick {
    name: String,
    _folder: tempfile::TempDir,
}

impl Stick {
    fn new(bundle: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let content = folder.path().join("content");
        std::fs::create_dir(&content).expect("a folder");
        std::fs::write(content.join("update.bundle"), bundle).expect("a file");
        let image: PathBuf = folder.path().join("image");
        printed(Command::new("truncate").arg("--size=16M").arg(&image));
        printed(
            Command::new("mkfs.ext4")
                .args(["-q", "-L", "MONOPOD", "-d"])
                .args([&content, &image]),
        );
        let device = printed(
            Command::new("losetup")
                .args(["--find", "--show"])
                .arg(&image),
        );
        Self {
            name: device.trim_start_matches("/dev/").to_owned(),
            _folder: folder,
        }
    }

    /// Makes it known in a machine, as the kernel and udev do.
    fn plug_into(&self, node: &Node) {
        let number = std::fs::read_to_string(format!("/sys/block/{}/dev", self.name))
            .expect("it is attached");
        let number = number.trim();
        let (name, words) = (&self.name, number.replace(':', " "));
        node.ok(&format!(
            "mknod -m 660 /dev/{name} b {words} && chgrp disk /dev/{name}"
        ));
        node.write(
            &format!("/run/udev/data/b{number}"),
            "E:ID_FS_LABEL=MONOPOD\nE:ID_FS_TYPE=ext4\n",
        );
    }

    fn unit(&self) -> String {
        format!("monopod-import@{}.service", self.name)
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let device = format!("/dev/{}", self.name);
        // Nothing is lost if it stays.
        let _ = Command::new("losetup").args(["--detach", &device]).status();
    }
}

/// A bundle of the workload that runs, as another release.
fn update() -> Vec<u8> {
    let mut parts = Parts::of(&[layer(1, 200_000)]);
    let workload = "name = \"gateway\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";
    parts.workload = workload.into();
    parts.forge().seal()
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_stick_is_read_by_its_unit_and_told_of() {
    let node = Node::healthy_with(WORKLOAD, NODE);
    node.write("/etc/monopod/keys.d/one.pub", ONE_PUB);
    let stick = Stick::new(&update());
    stick.plug_into(&node);
    let before = node.running("app");
    let mark = node.mark();
    node.ok(&format!("systemctl start {}", stick.unit()));
    node.await_line(&mark, &stick.unit(), "update.bundle taken: release 1.4.2");
    let free = node.await_line(&mark, &stick.unit(), "can be removed");
    assert_eq!(free.field("_UID"), node.ok("id -u monopod"));
    assert_eq!(free.field("MESSAGE_ID"), "17e341c63ea64da3935c5fc03a577c29");
    assert_eq!(node.show(&stick.unit(), "Result"), "success");
    let status = node.show("monopod.service", "StatusText");
    assert!(status.contains("; stick: update.bundle taken"), "{status}");
    let shown = node.sh("monopod status").stdout;
    assert!(shown.contains("stick: update.bundle taken"), "{shown}");
    node.ok("test -f /var/lib/monopod/releases/*/manifest.minisig");
    // It is nowhere mounted, and what it brought was not put in force by the importer.
    let mounts = node.ok("cat /proc/mounts");
    assert!(!mounts.contains(&stick.name), "{mounts}");
    assert_eq!(node.running("app").id, before.id);
}

#[test]
fn a_stick_that_is_refused_is_told_of_and_changes_nothing() {
    let node = Node::installed();
    let stick = Stick::new(&update());
    stick.plug_into(&node);
    let mark = node.mark();
    // No key is trusted.
    node.ok(&format!("systemctl start {}", stick.unit()));
    node.await_line(
        &mark,
        &stick.unit(),
        "update.bundle refused: no key can verify it",
    );
    node.await_line(&mark, &stick.unit(), "can be removed");
    // The stick is at fault, and not the node.
    assert_eq!(node.show(&stick.unit(), "Result"), "success");
    assert_eq!(node.ok("ls /var/lib/monopod/releases"), "");
}
