//! `monopod release`: what it shows of a node's files, and what it asks of a daemon.

use std::fs;
use std::process::Command;

use monopod::core::ledger::{Durable, encode};
use monopod::core::update::{Book, By, Next, ReleaseId};
use monopod::paths::Paths;
use monopod::release::{Release, Releases};

use crate::build::{Dialect, pack};
use crate::bus::{Daemon, No, Script};
use crate::import::image;
use crate::support::Monopod;

const KEY: &str = include_str!("../bundle/keys/one.key");
const PUB: &str = include_str!("../bundle/keys/one.pub");
const WORKLOAD: &str = "name = \"w\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";

/// A signed bundle.
fn bundle() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.bundle");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let archive = pack(Dialect::Docker25, &[image("example/gateway:1.4.2")]);
    let made = Command::new(env!("CARGO_BIN_EXE_monopod"))
        .args(["bundle", "create", "--release", "1.4.2", "--sequence", "7"])
        .arg("--workload")
        .arg(write("workload.toml", WORKLOAD.as_bytes()))
        .arg("--image")
        .arg(write("app.tar", &archive))
        .arg("--key")
        .arg(write("one.key", KEY.as_bytes()))
        .arg("--output")
        .arg(&path)
        .output()
        .expect("the binary runs");
    assert!(made.status.success(), "{made:?}");
    fs::read(path).expect("a bundle")
}

/// Gives a node a release of its own, made at a moment that is always the same.
fn local(node: &Monopod, number: u64) -> Release {
    let releases = Releases::new(&Paths::new(node.root()));
    let file = format!("name = \"w\"\n# {number}\n");
    let images = [("example/app:1".to_owned(), None)].into();
    let release = releases
        .add_local("w", file.as_bytes(), images)
        .expect("made");
    let record = releases.folder(&release.id).join("release.json");
    let text = fs::read_to_string(&record).expect("text");
    let made = format!("\"made\":{}", release.made);
    let fixed = format!("\"made\":{}", 1_795_360_987 + number);
    fs::write(record, text.replace(&made, &fixed)).expect("a file");
    release
}

fn keep(node: &Monopod, book: Book) {
    let durable = Durable {
        book,
        ..Durable::default()
    };
    fs::write(node.root().join("var/lib/monopod/ledger"), encode(&durable)).expect("a file");
}

/// Five releases: one that runs, one before, one that waits, one that failed, one that is damaged.
fn stocked(args: &[&str]) -> (Monopod, Vec<ReleaseId>) {
    let node = Monopod::new(args);
    let ids: Vec<ReleaseId> = (0..5).map(|number| local(&node, number).id).collect();
    let mut book = Book {
        current: Some(ids[1].clone()),
        previous: Some(ids[0].clone()),
        next: Some(Next::new(ids[2].clone(), By::Manual, None)),
        held: true,
        pinned: [ids[0].clone()].into(),
        ..Book::default()
    };
    book.reject(&ids[3], "app was unhealthy in its trial");
    keep(&node, book);
    let releases = Releases::new(&Paths::new(node.root()));
    fs::write(releases.workload_file(&ids[4]), "name = ").expect("a file");
    (node, ids)
}

#[test]
fn nothing_yet() {
    Monopod::new(&["release", "list"])
        .run()
        .matches("release/none");
    let json = Monopod::new(&["release", "list", "--json"]).run();
    assert_eq!((json.code, json.stdout.as_str()), (Some(0), "[]\n"));
}

#[test]
fn the_list_says_what_became_of_each() {
    let (node, _) = stocked(&["release", "list"]);
    node.run().matches("release/list");
    let (node, ids) = stocked(&["release", "list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&node.run().stdout).expect("JSON");
    let row = |id: &ReleaseId| {
        let mut rows = rows.as_array().expect("a list").iter();
        rows.find(|row| row["id"] == id.as_str()).expect("listed")
    };
    assert_eq!(
        row(&ids[0])["states"],
        serde_json::json!(["previous", "pinned"])
    );
    assert_eq!(row(&ids[2])["states"], serde_json::json!(["staged"]));
    assert_eq!(row(&ids[3])["rejected"], "app was unhealthy in its trial");
    assert!(row(&ids[4])["damaged"].is_string());
}

#[test]
fn a_ledger_that_cannot_be_read_hides_no_release() {
    let (node, _) = stocked(&["release", "list"]);
    fs::write(node.root().join("var/lib/monopod/ledger"), "torn").expect("a file");
    let outcome = node.run();
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.stdout.lines().count(), 6, "{}", outcome.stdout);
    assert!(
        outcome.stderr.contains("cannot read the ledger"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn one_release() {
    let node = Monopod::new(&["release", "show", "0123456789ab"]);
    node.run().matches("release/unknown");
    let id = local(&Monopod::new(&[]), 1).id;
    let node = Monopod::new(&["release", "show", id.as_str(), "--json"]);
    local(&node, 1);
    let outcome = node.run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let shown: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(shown["verified"], serde_json::Value::Null);
    assert_eq!(shown["images"]["example/app:1"], serde_json::Value::Null);
    let node = Monopod::new(&["release", "show", "zz"]);
    node.run().matches("release/no-id");
}

#[test]
fn the_daemon_is_asked() {
    let id = "0123456789ab";
    let table: [(&[&str], &str); 10] = [
        (&["stage", id], "offer 0123456789ab stage false"),
        (
            &["stage", id, "--allow-downgrade"],
            "offer 0123456789ab stage true",
        ),
        (&["activate"], "activate  false"),
        (&["activate", id, "--now"], "activate 0123456789ab true"),
        (&["rollback"], "roll back"),
        (&["retry", id], "retry 0123456789ab"),
        (&["hold"], "hold true"),
        (&["unhold"], "hold false"),
        (&["pin", id], "pin 0123456789ab true"),
        (&["unpin", id], "pin 0123456789ab false"),
    ];
    let daemon = Daemon::start(Script::default());
    for (args, _) in table {
        let outcome = Monopod::new(&[&["release"], args].concat())
            .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
            .run();
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "as you say\n", "{args:?}");
    }
    assert_eq!(daemon.asked(), table.map(|(_, asked)| asked));
    for (no, code, name) in [
        (No::Refused("there is none before".to_owned()), 4, "refused"),
        (
            No::NotFound("there is no such release".to_owned()),
            1,
            "not-found",
        ),
    ] {
        let daemon = Daemon::start(Script {
            release: Err(no),
            ..Script::default()
        });
        let outcome = Monopod::new(&["release", "rollback"])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
            .run();
        assert_eq!(outcome.code, Some(code), "{name}");
        outcome.matches(&format!("release/{name}"));
    }
    let outcome = Monopod::new(&["release", "rollback"]).run();
    assert_eq!(outcome.code, Some(5));
}

#[test]
fn a_bundle_is_taken_or_staged() {
    let bundle = bundle();
    for (args, wish) in [
        (&["import", "a.bundle"][..], "take false"),
        (&["import", "--allow-downgrade", "a.bundle"], "take true"),
        (&["release", "stage", "a.bundle"], "stage false"),
    ] {
        let daemon = Daemon::start(Script::default());
        let node = Monopod::new(args)
            .file("a.bundle", &bundle)
            .file("etc/monopod/keys.d/one.pub", PUB)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address());
        let releases = Releases::new(&Paths::new(node.root()));
        let root = node.root().to_owned();
        let outcome = node.run();
        assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.stderr);
        assert!(
            outcome.stdout.ends_with("\nas you say\n"),
            "{}",
            outcome.stdout
        );
        // The node is gone with its run; what was made there was told.
        assert!(!root.exists() && releases.list().expect("nothing").is_empty());
        let asked = daemon.asked();
        let offer = asked.last().expect("asked");
        assert!(
            offer.starts_with("offer ") && offer.ends_with(wish),
            "{offer}"
        );
        let id = offer.split(' ').nth(1).and_then(ReleaseId::new);
        assert!(outcome.stdout.contains(id.expect("an id").as_str()));
    }
    // An archive is no bundle.
    let daemon = Daemon::start(Script::default());
    let archive = pack(Dialect::Docker25, &[image("example/gateway:1.4.2")]);
    let outcome = Monopod::new(&["release", "stage", "app.tar"])
        .file("app.tar", archive)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
        .run();
    outcome.matches("release/no-bundle");
    assert!(daemon.asked().is_empty());
}
