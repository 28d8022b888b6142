//! File systems on loop devices of this machine, to be seen in another.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::Node;

/// A formatted image on a loop device; gone with this value.
pub struct Loop {
    /// The device's name: `loop7`.
    pub name: String,
    /// Its number: `7:7`.
    pub number: String,
    label: String,
    _folder: tempfile::TempDir,
}

impl Loop {
    /// An ext4 of so many MiB with this label, and these files on it.
    pub fn new(label: &str, mebibytes: u32, files: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let content = folder.path().join("content");
        std::fs::create_dir(&content).expect("a folder");
        for (name, file) in files {
            std::fs::copy(file, content.join(name)).expect("a file");
        }
        let image: PathBuf = folder.path().join("image");
        printed(
            Command::new("truncate")
                .arg(format!("--size={mebibytes}M"))
                .arg(&image),
        );
        printed(
            Command::new("mkfs.ext4")
                .args(["-q", "-m", "0", "-L", label, "-d"])
                .args([&content, &image]),
        );
        let device = printed(
            Command::new("losetup")
                .args(["--find", "--show"])
                .arg(&image),
        );
        let name = device.trim_start_matches("/dev/").to_owned();
        let number = std::fs::read_to_string(format!("/sys/block/{name}/dev"));
        Self {
            name,
            number: number.expect("it is attached").trim().to_owned(),
            label: label.to_owned(),
            _folder: folder,
        }
    }

    /// Makes its device file in a machine, as the kernel does.
    pub fn appear_in(&self, node: &Node) {
        let (name, words) = (&self.name, self.number.replace(':', " "));
        node.ok(&format!(
            "rm -f /dev/{name} && mknod -m 660 /dev/{name} b {words} && chgrp disk /dev/{name}"
        ));
    }

    /// Plugs it in, as the kernel and udev do it with a stick, and waits until it has been read.
    pub fn plug_into(&self, node: &Node) {
        self.appear_in(node);
        let (number, label) = (&self.number, &self.label);
        node.write(
            &format!("/run/udev/data/b{number}"),
            &format!("E:ID_FS_LABEL={label}\nE:ID_FS_TYPE=ext4\n"),
        );
        node.ok(&format!("systemctl start {}", self.unit()));
    }

    /// The unit that reads it as a stick.
    pub fn unit(&self) -> String {
        format!("monopod-import@{}.service", self.name)
    }

    /// How many writes it has had, and how many bytes.
    pub fn written(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/sys/block/{}/stat", self.name));
        let text = text.expect("it is attached");
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // Documentation/block/stat.rst: writes, and sectors of 512 bytes.
        (numbers[4], numbers[6] * 512)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let device = format!("/dev/{}", self.name);
        // Nothing is lost if it stays.
        let _ = Command::new("losetup").args(["--detach", &device]).status();
    }
}

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
