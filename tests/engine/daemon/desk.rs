//! The builder's desk beside a node: a key that the node trusts, images, and bundles; and what is
//! read of a node while it takes them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::node::{ASK, Node, SERVE, folder};
use crate::support::eventually;

/// A ladder that is soon used up, and a trial that is soon over.
pub const QUICK: &str = r#"[escalation]
restarts = 1
recreates = 1
backoff_base = "100ms"
backoff_max = "300ms"
[trial]
settle = "1s"
"#;

/// A desk.
pub struct Desk {
    folder: PathBuf,
    reference: String,
}

impl Desk {
    /// A new key, which the node trusts from now on.
    pub fn new(node: &Node) -> Self {
        let desk = Self {
            folder: folder(node, "desk"),
            reference: format!("monopod.test/{}:1", node.workload()),
        };
        let keys = node.root.join("etc/monopod/keys.d");
        fs::create_dir_all(&keys).expect("the root can be written");
        let public = keys.join("desk.pub").display().to_string();
        node.must(&[
            "bundle",
            "keygen",
            "--no-password",
            "--key",
            &desk.path("key"),
            "--public",
            &public,
        ]);
        desk
    }

    /// A file on the desk.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The name that all images of this desk have.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// An archive of an image with this page, and the image's ID. No engine has it afterwards.
    pub fn archive(&self, node: &Node, page: &str) -> (String, String) {
        node.engine.build(
            &self.reference,
            "COPY page /page",
            &[("page", page.as_bytes())],
        );
        let archive = self.path(&format!("{page}.tar"));
        let id = node.docker(&["inspect", "--format", "{{.Id}}", &self.reference]);
        node.docker(&["save", "--output", &archive, &self.reference]);
        // While other images are built, Docker may not find one that it has just listed.
        eventually("the engine lets the image go", || {
            let _ = node.engine.command(&["rmi", &self.reference]).output();
            node.engine.inspect("image", &self.reference).is_none()
        });
        (archive, id)
    }

    /// A bundle of an archive and these lines, with this sequence; a name of its own each time.
    pub fn bundle(&self, node: &Node, sequence: u64, lines: &str, archive: &str) -> String {
        self.bundle_with(node, sequence, lines, archive, &[])
    }

    /// The same, with more words for `bundle create`.
    pub fn bundle_with(
        &self,
        node: &Node,
        sequence: u64,
        lines: &str,
        archive: &str,
        more: &[&str],
    ) -> String {
        let workload = self.path(&format!("{sequence}.toml"));
        fs::write(&workload, node.text(lines)).expect("the folder can be written");
        let bundle = self.path(&format!("{sequence}.bundle"));
        let (key, version) = (self.path("key"), format!("1.{sequence}.0"));
        let number = sequence.to_string();
        let mut words = vec![
            "bundle",
            "create",
            "--workload",
            &workload,
            "--image",
            archive,
            "--release",
            &version,
            "--sequence",
            &number,
            "--key",
            &key,
            "--output",
            &bundle,
        ];
        words.extend(more);
        node.must(&words);
        bundle
    }

    /// A workload that is soon healthy. The mark tells it from others.
    pub fn good(&self, mark: &str) -> String {
        self.app(mark, SERVE, ASK)
    }

    /// A workload whose process ends at once.
    pub fn ends(&self, mark: &str) -> String {
        self.app(mark, r#"["sh", "-c", "exit 3"]"#, ASK)
    }

    /// A workload that runs and is never healthy.
    pub fn sick(&self, mark: &str) -> String {
        let ask =
            r#"{ test = "exit 1", interval = "300ms", timeout = "5s", start_period = "10m" }"#;
        self.app(mark, r#"["sleep", "100000"]"#, ask)
    }

    /// A workload of one container.
    pub fn app(&self, mark: &str, command: &str, healthcheck: &str) -> String {
        format!(
            "[containers.app]\nimage = \"{}\"\ncommand = {command}\nstop_signal = \"SIGKILL\"\n\
             environment = {{ MARK = \"{mark}\" }}\nhealthcheck = {healthcheck}",
            self.reference
        )
    }
}

/// Takes a bundle that is good; returns its release's id.
pub fn take(node: &Node, bundle: &str) -> String {
    let report = node.must(&["import", bundle, "--json"]).json();
    text(&report["release"]["id"])
}

/// A JSON string.
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no string"))
        .to_owned()
}

/// What the ledger says of releases, in a status.
pub fn book(status: &Value) -> &Value {
    &status["update"]["book"]
}

/// Why a release is rejected, in a status.
pub fn rejected(status: &Value, release: &str) -> Option<String> {
    let rejected = book(status)["rejected"].as_array()?;
    let found = rejected.iter().find(|one| one["release"] == release)?;
    found["why"].as_str().map(str::to_owned)
}

/// Waits until a release is committed and well; returns that status.
pub fn committed(node: &Node, release: &str) -> Value {
    node.until(&format!("release {release} is committed"), |status| {
        status["release"] == release
            && book(status)["current"] == release
            && status["update"]["stage"] == "idle"
            && status["verdict"] == "healthy"
    })
}

/// Waits until a release is rejected, and another one runs and is well; returns that status.
pub fn taken_back(node: &Node, bad: &str, good: &str) -> Value {
    node.until(&format!("{bad} is taken back, and {good} runs"), |status| {
        rejected(status, bad).is_some()
            && status["release"] == good
            && book(status)["current"] == good
            && book(status)["trial"].is_null()
            && status["update"]["stage"] == "idle"
            && status["verdict"] == "healthy"
    })
}

/// The mark of the one container, which must be the only one.
pub fn mark(node: &Node) -> String {
    let all = node.containers(None);
    assert_eq!(all.len(), 1, "{all:?}");
    let list = node.docker(&[
        "inspect",
        "--format",
        "{{range .Config.Env}}{{println .}}{{end}}",
        &all[0],
    ]);
    let mark = list.lines().find_map(|line| line.strip_prefix("MARK="));
    mark.unwrap_or_else(|| panic!("no mark: {list}")).to_owned()
}

/// The ids of the releases on disk, by `monopod release list`; none may be damaged.
pub fn listed(node: &Node) -> Vec<String> {
    let rows = node.must(&["release", "list", "--json"]).json();
    let rows = rows.as_array().expect("it is a list");
    rows.iter()
        .map(|row| {
            assert!(row["damaged"].is_null(), "{row}");
            text(&row["id"])
        })
        .collect()
}
