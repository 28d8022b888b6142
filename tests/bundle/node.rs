//! A node below a folder of its own, and the builder's desk beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Keys that are nobody's, and no secret.
pub const ONE: &str = include_str!("keys/one.key");
pub const ONE_PUB: &str = include_str!("keys/one.pub");
pub const TWO: &str = include_str!("keys/two.key");
pub const TWO_PUB: &str = include_str!("keys/two.pub");
pub const THREE: &str = include_str!("keys/three.key");
pub const THREE_PUB: &str = include_str!("keys/three.pub");

pub const WORKLOAD: &str =
    "name = \"gateway\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";

pub struct Node {
    pub root: TempDir,
}

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Node {
    /// One that trusts key one.
    pub fn new() -> Self {
        let node = Self {
            root: TempDir::new().expect("a folder"),
        };
        node.write("etc/monopod/keys.d/one.pub", ONE_PUB);
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// `monopod --root ROOT ARGS...`, in the root, with no terminal, bus or engine.
    pub fn run(&self, args: &[&str]) -> Outcome {
        let root = self.root.path().display().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(&root)
            .args(args)
            .current_dir(self.root.path())
            .stdin(Stdio::null())
            .env_remove("MONOPOD_KEY_PASSWORD")
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={root}/bus"))
            .env("DOCKER_HOST", format!("unix://{root}/docker.sock"))
            .output()
            .expect("the binary runs");
        Outcome {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).replace(&root, "[ROOT]"),
        }
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn must(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.stderr);
        String::from_utf8_lossy(&outcome.stdout).into_owned()
    }

    /// The same, which must be refused with one line.
    #[track_caller]
    pub fn refused(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert_eq!(outcome.code, Some(4), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, b"", "{args:?}");
        outcome.stderr
    }

    /// Every file of the store with its content; the lock and what is half done apart.
    pub fn store(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        list(&self.path("var/lib/monopod/store"), &mut files);
        files.retain(|(path, _)| !path.ends_with("lock"));
        files.sort();
        files
    }
}

fn list(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
}
