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
    /// Its key's name, here and on the node.
    key: &'static str,
}

impl Desk {
    /// A new key, which the node trusts from now on.
    pub fn new(node: &Node) -> Self {
        let desk = Self {
            folder: folder(node, "desk"),
            reference: format!("monopod.test/{}:1", node.workload()),
            key: "desk",
        };
        desk.make_key(node);
        desk
    }

    /// The same desk with a key of another name, which the node trusts as well.
    pub fn with_key(&self, node: &Node, key: &'static str) -> Self {
        let desk = Self {
            folder: self.folder.clone(),
            reference: self.reference.clone(),
            key,
        };
        desk.make_key(node);
        desk
    }

    fn make_key(&self, node: &Node) {
        let public = self.on_node(node, "pub");
        fs::create_dir_all(public.parent().expect("it is in a folder"))
            .expect("the root can be written");
        node.must(&[
            "bundle",
            "keygen",
            "--no-password",
            "--key",
            &self.key(),
            "--public",
            &public.display().to_string(),
        ]);
    }

    fn on_node(&self, node: &Node, kind: &str) -> PathBuf {
        let keys = node.root.join("etc/monopod/keys.d");
        keys.join(self.key).with_extension(kind)
    }

    /// The node trusts this desk's key no more.
    pub fn revoke(&self, node: &Node) {
        fs::rename(self.on_node(node, "pub"), self.on_node(node, "revoked"))
            .expect("the node trusts it");
    }

    /// Its secret key.
    pub fn key(&self) -> String {
        self.path(self.key)
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
        let bundle = self.path(&format!("{}-{sequence}.bundle", self.key));
        let (key, version) = (self.path(self.key), format!("1.{sequence}.0"));
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
    setting_of(node, &all[0], "MARK")
}

/// What a role's one container has in its environment under a name.
pub fn setting(node: &Node, role: &str, name: &str) -> String {
    let all = node.containers(Some(role));
    assert_eq!(all.len(), 1, "{role}: {all:?}");
    setting_of(node, &all[0], name)
}

fn setting_of(node: &Node, id: &str, name: &str) -> String {
    let list = node.docker(&[
        "inspect",
        "--format",
        "{{range .Config.Env}}{{println .}}{{end}}",
        id,
    ]);
    let value = list
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("no {name}: {list}"))
        .to_owned()
}

/// A node that runs the bundle 1 of a desk, whose mark is `one`; with that bundle's archive and release.
pub fn running(name: &str, settings: &str) -> (Node, Desk, String, String) {
    let mut node = Node::new(name);
    node.settings(&format!("{QUICK}{settings}"));
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let first = desk.bundle(&node, 1, &desk.good("one"), &archive);
    let first = take(&node, &first);
    node.start();
    node.healthy();
    (node, desk, archive, first)
}

/// Waits until a release waits, and the line has these words.
pub fn waits(node: &Node, release: &str, words: &str) -> Value {
    node.until(&format!("{release} waits: {words}"), |status| {
        status["update"]["stage"] == "waiting"
            && status["update"]["release"] == release
            && status["update"]["line"]
                .as_str()
                .is_some_and(|line| line.contains(words))
    })
}

/// The image of the one container, in a status.
pub fn image_id(status: &Value) -> String {
    text(&status["containers"]["app"]["image_id"])
}

/// How often a release has been on trial, by the log.
pub fn trials(node: &Node, release: &str) -> usize {
    let line = format!("release {release} runs on trial");
    node.log().matches(&line).count()
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
