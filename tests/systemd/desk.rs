//! The desk: a key pair, and the bundles that are made with it, by the program as it is.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::image;
use crate::machine::{Came, eventually};
use crate::node::{Node, WORKLOAD};

/// A `healthz` that is never well.
pub const ILL: &str = "#!/bin/sh\nprintf 'Status: 500 Ill\\r\\n\\r\\nill\\n'\n";

/// A folder with the keys, and with the bundles until it goes.
pub struct Desk {
    folder: tempfile::TempDir,
    sequence: Cell<u64>,
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let desk = Self {
            folder,
            sequence: Cell::new(0),
        };
        desk.monopod(&["keygen", "--no-password"]);
        desk
    }

    /// The public key's file.
    pub fn public(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("monopod.pub")).expect("it was made")
    }

    /// A bundle with the next sequence: this workload, and the app with these files as `monopod.test/app:VERSION`.
    pub fn bundle(&self, version: &str, workload: &str, files: &[(&str, &[u8])]) -> PathBuf {
        self.create(version, workload, files, &[])
    }

    /// A good one that has a hook, a shell script.
    pub fn hooked(&self, version: &str, hook: &str) -> PathBuf {
        std::fs::write(self.folder.path().join("hook"), hook).expect("it is ours");
        let page = format!("{version}\n");
        let files: [(&str, &[u8]); 1] = [("www/index.html", page.as_bytes())];
        self.create(version, &workload(version), &files, &["--hook=hook"])
    }

    fn create(
        &self,
        version: &str,
        workload: &str,
        files: &[(&str, &[u8])],
        more: &[&str],
    ) -> PathBuf {
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        let tag = format!("monopod.test/app:{version}");
        image::write_with(&self.folder.path().join("image.tar"), &tag, files);
        std::fs::write(self.folder.path().join("workload.toml"), workload).expect("it is ours");
        let name = format!("{version}.bundle");
        let (release, sequence) = (
            format!("--release={version}"),
            format!("--sequence={sequence}"),
        );
        let output = format!("--output={name}");
        let words = [
            "create",
            "--workload=workload.toml",
            "--image=image.tar",
            "--key=monopod.key",
            &release,
            &sequence,
            &output,
        ];
        self.monopod(&[&words, more].concat());
        self.folder.path().join(name)
    }

    /// A good one: a page that says its version.
    pub fn good(&self, version: &str) -> PathBuf {
        let page = format!("{version}\n");
        self.bundle(
            version,
            &workload(version),
            &[("www/index.html", page.as_bytes())],
        )
    }

    fn monopod(&self, words: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("bundle")
            .args(words)
            .current_dir(self.folder.path())
            .output()
            .expect("it is built");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// The workload with that version's image.
pub fn workload(version: &str) -> String {
    WORKLOAD.replace("app:1", &format!("app:{version}"))
}

impl Node {
    /// Lets the node take what that desk signs.
    pub fn trust(&self, desk: &Desk) {
        self.write("/etc/monopod/keys.d/desk.pub", &desk.public());
    }

    /// Imports a bundle.
    pub fn bring(&self, bundle: &std::path::Path) -> Came {
        std::fs::copy(bundle, self.path("/root/update.bundle"))
            .expect("the machine's files can be written");
        self.sh("monopod import /root/update.bundle")
    }

    /// Imports a bundle, which has to be taken.
    pub fn take(&self, bundle: &std::path::Path) {
        let came = self.bring(bundle);
        assert_eq!(came.code, 0, "{came:#?}");
    }

    /// What `monopod release list` says of a version.
    pub fn release(&self, version: &str) -> Value {
        let list: Value =
            serde_json::from_str(&self.ok("monopod release list --json")).expect("it prints JSON");
        let rows = list.as_array().expect("a list");
        let row = rows.iter().find(|row| row["version"] == version);
        row.cloned().unwrap_or_default()
    }

    /// Whether a version is in this state.
    pub fn is(&self, version: &str, state: &str) -> bool {
        let states = &self.release(version)["states"];
        states
            .as_array()
            .is_some_and(|states| states.iter().any(|one| one == state))
    }

    /// Waits until a version is committed; then it runs and is well.
    pub fn await_committed(&self, version: &str) {
        eventually(&format!("release {version} is committed"), || {
            self.is(version, "current") && !self.is(version, "trial")
        });
        self.await_page(version);
    }

    /// Waits until a version is rejected, and the one before it runs again; the reason.
    pub fn await_rejected(&self, version: &str, before: &str) -> String {
        eventually(&format!("release {version} is rejected"), || {
            self.is(version, "rejected") && !self.is(version, "trial")
        });
        assert!(self.is(before, "current"), "{before} is not current");
        self.await_page(before);
        let why = self.release(version)["rejected"].clone();
        why.as_str().expect("a reason").to_owned()
    }

    /// Waits until the app of this version answers, and all is well.
    pub fn await_page(&self, version: &str) {
        eventually(&format!("the app of {version} answers"), || {
            self.page() == version
        });
        self.await_healthy();
    }

    /// What the app shows, without the end of the line; empty if it does not answer.
    pub fn page(&self) -> String {
        let came = self.sh("curl --silent --fail --max-time 5 http://127.0.0.1:8080/ || true");
        came.stdout.trim().to_owned()
    }
}
