//! A node below a folder of its own, and sticks for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use monopod::image::{Digest, Store};
use monopod::paths::Paths;
use monopod::release::{Release, Releases};
use tempfile::TempDir;

use crate::build::layer;
use crate::forge::Parts;
use crate::node::ONE_PUB;

/// Whose the node's state is.
pub const OWNER: u32 = 12345;

/// Whether the kernel has a driver; says so if not.
pub fn driver(kind: &str) -> bool {
    // Asks the kernel to load it, where it has modules.
    let _ = Command::new("modprobe")
        .arg(kind)
        .stderr(Stdio::null())
        .status();
    let known = fs::read_to_string("/proc/filesystems").expect("the kernel says");
    let here = known.lines().any(|line| line.trim_start() == kind);
    if !here {
        println!("skipped: this machine's kernel has no driver for {kind}");
    }
    here
}

#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A bundle of this sequence by key one, with these layers.
pub fn bundle(sequence: u64, layers: &[Vec<u8>]) -> Vec<u8> {
    Parts::of(layers)
        .forge()
        .with(|manifest| manifest.sequence = sequence)
}

pub fn small(sequence: u64) -> Vec<u8> {
    bundle(sequence, &[layer(sequence, 3000)])
}

/// A node that trusts key one.
pub struct Node {
    root: TempDir,
}

/// What came of a stick.
#[derive(Debug)]
pub struct Came {
    pub code: Option<i32>,
    pub words: String,
}

impl Node {
    pub fn new(owner: &str) -> Self {
        let root = TempDir::new().expect("a folder");
        let node = Self { root };
        // Not only root gets in.
        fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
        for folder in [
            "dev",
            "run/udev/data",
            "var/lib/monopod/store",
            "etc/monopod/keys.d",
        ] {
            fs::create_dir_all(node.path(folder)).expect("a folder");
        }
        for folder in ["var/lib/monopod", "var/lib/monopod/store"] {
            chown(node.path(folder), Some(OWNER), Some(OWNER)).expect("root may");
        }
        fs::write(node.path("etc/monopod/keys.d/one.pub"), ONE_PUB).expect("a file");
        fs::write(node.path("etc/monopod/node.toml"), owner).expect("a file");
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn paths(&self) -> Paths {
        Paths::new(self.root.path())
    }

    /// The releases that were brought, and wait for the daemon.
    pub fn releases(&self) -> Vec<Release> {
        let list = Releases::incoming(&self.paths()).list().expect("a folder");
        list.into_iter()
            .map(|release| release.expect("whole"))
            .collect()
    }

    /// The sequences of the releases that are there.
    pub fn sequences(&self) -> Vec<u64> {
        let mut sequences: Vec<u64> = self
            .releases()
            .into_iter()
            .filter_map(|release| match release.origin {
                monopod::release::Origin::Local => None,
                monopod::release::Origin::Bundle { sequence, .. } => Some(sequence),
            })
            .collect();
        sequences.sort_unstable();
        sequences
    }

    /// How many images are in the store, all of which must be whole.
    pub fn images(&self) -> usize {
        let store = Store::open(&self.paths().store()).expect("a store");
        let images = store.images().expect("images");
        assert!(images.iter().all(|image| image.layers_present));
        images.len()
    }

    /// Has the verb started with this stick.
    pub fn begin(&self, stick: &Stick) -> Child {
        let device = self.path("dev").join(&stick.name);
        let _ = fs::remove_file(&device);
        run(Command::new("cp")
            .args(["-a", &format!("/dev/{}", stick.name)])
            .arg(&device));
        if let Some(entry) = &stick.entry {
            let number = fs::read_to_string(format!("/sys/block/{}/dev", stick.name))
                .expect("the kernel says");
            let file = self
                .path("run/udev/data")
                .join(format!("b{}", number.trim()));
            fs::write(file, entry).expect("a file");
        }
        let bus = format!("unix:path={}/bus", self.root.path().display());
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(self.root.path())
            .args(["import-medium", &stick.name])
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare is installed")
    }

    /// Reads this stick.
    pub fn read(&self, stick: &Stick) -> Came {
        end(self.begin(stick))
    }
}

pub fn end(child: Child) -> Came {
    let output = child.wait_with_output().expect("it is ours");
    Came {
        code: output.status.code(),
        words: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// An image file on a loop device; detached when dropped.
pub struct Stick {
    pub image: PathBuf,
    /// The device's name.
    pub name: String,
    /// What udev knows of it.
    entry: Option<String>,
    _folder: TempDir,
}

impl Stick {
    /// Formats one, with these files on it, labelled `MONOPOD-TEST`.
    pub fn new(kind: &str, files: &[(&str, &[u8])]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let content = folder.path().join("content");
        fs::create_dir(&content).expect("a folder");
        for (name, bytes) in files {
            let path = content.join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        Self::of(kind, &content, folder)
    }

    /// Formats one with what is in a folder.
    pub fn of(kind: &str, content: &Path, folder: TempDir) -> Self {
        let image = folder.path().join("image");
        let size = if kind == "xfs" || kind == "btrfs" {
            400
        } else {
            64
        };
        run(Command::new("truncate")
            .arg(format!("--size={size}M"))
            .arg(&image));
        match kind {
            "vfat" => {
                run(Command::new("mkfs.vfat")
                    .args(["-n", "MONOPOD"])
                    .arg(&image));
                let entries = fs::read_dir(content).expect("a folder");
                let mut copy = Command::new("mcopy");
                copy.arg("-s").arg("-i").arg(&image);
                copy.args(entries.map(|entry| entry.expect("an entry").path()));
                run(copy.arg("::"));
            }
            "exfat" => {
                run(Command::new("mkfs.exfat")
                    .args(["-L", "MONOPOD"])
                    .arg(&image));
                let place = folder.path().join("mounted");
                fs::create_dir(&place).expect("a folder");
                let script =
                    "mount -o loop \"$1\" \"$2\" && cp -r \"$3\"/. \"$2\" && umount \"$2\"";
                run(Command::new("unshare")
                    .args(["--mount", "sh", "-ec", script, "sh"])
                    .args([&image, &place, content]));
            }
            "ext4" => {
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-L", "MONOPOD", "-d"])
                    .args([content, &image]));
            }
            "iso9660" => {
                run(Command::new("xorriso")
                    .args([
                        "-as", "mkisofs", "-quiet", "-V", "MONOPOD", "-J", "-R", "-o",
                    ])
                    .args([&image, content]));
            }
            other => {
                run(Command::new(format!("mkfs.{other}"))
                    .arg("-q")
                    .args(["-L", "MONOPOD"])
                    .arg(&image));
            }
        }
        Self::attach(
            image,
            Some(&format!(
                "E:ID_FS_LABEL_ENC=MONOPOD-TEST\nE:ID_FS_TYPE={kind}\n"
            )),
            folder,
        )
    }

    pub fn attach(image: PathBuf, entry: Option<&str>, folder: TempDir) -> Self {
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image));
        let name = device.strip_prefix("/dev/").expect("a device").to_owned();
        Self {
            image,
            name,
            entry: entry.map(str::to_owned),
            _folder: folder,
        }
    }

    /// What udev is to say of it instead.
    pub fn known_as(mut self, entry: &str) -> Self {
        self.entry = Some(entry.to_owned());
        self
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&fs::read(&self.image).expect("the image"))
    }

    /// Bytes that the kernel has read from the device so far.
    pub fn bytes_read(&self) -> u64 {
        let stat =
            fs::read_to_string(format!("/sys/block/{}/stat", self.name)).expect("it is there");
        let sectors: u64 = stat
            .split_whitespace()
            .nth(2)
            .and_then(|word| word.parse().ok())
            .expect("a number");
        sectors * 512
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        // Nothing is lost if it stays until the next boot.
        let _ = Command::new("losetup")
            .args(["--detach", &format!("/dev/{}", self.name)])
            .status();
    }
}
