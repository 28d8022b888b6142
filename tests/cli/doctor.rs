//! `monopod doctor`, as far as it depends on the node's own folder and not on this machine.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::Monopod;

const GOOD: &str = "name = \"w\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";

#[test]
fn what_there_is_to_look_at() {
    let outcome = Monopod::new(&["doctor", "--list"]).run();
    assert_eq!(outcome.code, Some(0));
    outcome.matches("doctor/list");
}

#[test]
fn a_check_that_is_not_there() {
    let outcome = Monopod::new(&["doctor", "engine", "angine"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    outcome.matches("doctor/unknown");
    let outcome = Monopod::new(&["doctor", "--list", "--json"]).run();
    assert_eq!(outcome.code, Some(2));
}

/// Checks whose findings are the node's own; in another order than they are shown.
const OWN: [&str; 9] = [
    "doctor",
    "live-restore",
    "bus",
    "engine",
    "preload",
    "images",
    "node-file",
    "file-modes",
    "workload-file",
];

#[test]
fn a_node_without_anything() {
    let outcome = Monopod::new(&OWN).run();
    assert_eq!(outcome.code, Some(1));
    outcome.matches("doctor/nothing");
}

#[test]
fn a_node_with_faults() {
    let node = Monopod::new(&OWN)
        .file("etc/monopod/workload.toml", "name = 1\nx = 2\n")
        .file("etc/monopod/node.toml", "[store]\nkeep = false\n")
        .file("etc/monopod/workload.d/50-port.toml", "")
        .file("var/lib/monopod/preload/app.tar", "");
    let open = std::fs::Permissions::from_mode(0o646);
    let drop_in = node.root().join("etc/monopod/workload.d/50-port.toml");
    std::fs::set_permissions(drop_in, open).expect("it is ours");
    node.run().matches("doctor/faults");
}

#[test]
fn no_failure_no_exit_code() {
    let outcome = Monopod::new(&["doctor", "workload-file", "node-file", "images"])
        .file("etc/monopod/workload.toml", GOOD)
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    outcome.matches("doctor/warning");
}

#[test]
fn programs_get_a_list() {
    let outcome = Monopod::new(&["doctor", "--json"])
        .file("etc/monopod/workload.toml", GOOD)
        .run();
    // There is no engine.
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    let list: Vec<Value> = serde_json::from_str(&outcome.stdout).expect("a JSON list");
    let listed = Monopod::new(&["doctor", "--list"]).run();
    assert_eq!(list.len(), listed.stdout.lines().count());
    for report in &list {
        let keys: Vec<_> = report.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["finding", "hints", "id", "state", "title"]);
        let state = report["state"].as_str().expect("a word");
        assert!(["ok", "note", "warning", "failure", "skipped"].contains(&state));
        assert!(report["hints"].is_array());
    }
    let state = |id: &str| {
        &list
            .iter()
            .find(|one| one["id"] == id)
            .expect("it is there")["state"]
    };
    assert_eq!(state("engine"), "failure");
    assert_eq!(state("workload-file"), "ok");
    assert_eq!(state("live-restore"), "skipped");
}

#[test]
fn what_only_root_sees_is_skipped_for_others() {
    let node = Monopod::new(&["doctor", "workload-file", "file-modes"])
        .file("etc/monopod/workload.toml", GOOD)
        .user(65534);
    let shut = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(node.root().join("etc/monopod"), shut).expect("it is ours");
    let outcome = node.run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.matches("doctor/not-root");
}
