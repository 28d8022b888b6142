//! `monopod images`, with no engine.

use std::fs;
use std::process::Command;

use crate::build::{Dialect, pack};
use crate::import::{id, image};
use crate::support::Monopod;

const WORKLOAD: &str = "name = \"w\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";

#[test]
fn nothing_yet() {
    Monopod::new(&["images"]).run().matches("images/none");
    let json = Monopod::new(&["images", "--json"]).run();
    assert_eq!((json.code, json.stdout.as_str()), (Some(0), "[]\n"));
}

/// A node whose store has an image that the workload names, and one that nobody does.
fn stocked(args: &[&str]) -> Monopod {
    let node = Monopod::new(args).file("etc/monopod/workload.toml", WORKLOAD);
    for tag in ["example/gateway:1.4.2", "example/other:1"] {
        let archive = node.root().join("app.tar");
        let bytes = pack(Dialect::Docker25, &[image(tag)]);
        fs::write(&archive, bytes).expect("an archive");
        let imported = Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(node.root())
            .arg("import")
            .arg(&archive)
            .env(
                "DOCKER_HOST",
                format!("unix://{}/none", node.root().display()),
            )
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                format!("unix:path={}/none", node.root().display()),
            )
            .output()
            .expect("the binary runs");
        // In the store; there is no engine.
        assert_eq!(imported.status.code(), Some(5));
    }
    node
}

#[test]
fn without_an_engine_the_store_is_shown() {
    stocked(&["images"])
        .run()
        .with(&id(&image("example/gateway:1.4.2")), "[ID1]")
        .with(&id(&image("example/other:1")), "[ID2]")
        .matches("images/no-engine");
    let json = stocked(&["images", "--json"]).run();
    let rows: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let seen: Vec<_> = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            (
                row["reference"].as_str().expect("a name"),
                row["pinned"] == true,
                row["layers"] == true,
                row["engine"].is_null(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("example/gateway:1.4.2", true, true, true),
            ("example/other:1", false, true, true)
        ]
    );
}

#[test]
fn nothing_is_pruned_while_nobody_can_say_what_is_in_use() {
    let outcome = stocked(&["images", "prune"]).run();
    assert_eq!(outcome.code, Some(5));
    outcome.matches("images/prune-no-engine");
    let outcome = stocked(&["images", "prune"])
        .file("etc/monopod/workload.toml", "name = 1\n")
        .run();
    assert_eq!(outcome.code, Some(3));
    outcome.matches("images/prune-invalid");
}

#[test]
fn a_reader_that_is_gone_is_no_fault() {
    let outcome = stocked(&["images", "--json"]).deaf().run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}
