//! `monopod doctor` beside a real engine, and beside one that hangs.

use std::process::Command;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Daemon, IMAGE, PATIENCE, Place};

/// What `doctor --json` finds on a node, with its exit code.
fn doctor(root: &std::path::Path, daemon: &Daemon, checks: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_monopod"))
        .arg("--root")
        .arg(root)
        .args(["doctor", "--json"])
        .args(checks)
        .env("DOCKER_HOST", format!("unix://{}", daemon.socket.display()))
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .output()
        .expect("the binary runs");
    let list = serde_json::from_slice(&output.stdout).expect("a JSON list");
    (list, output.status.code())
}

fn one<'l>(list: &'l [Value], id: &str) -> &'l Value {
    let found = list.iter().find(|report| report["id"] == id);
    found.expect("it was looked at")
}

#[test]
fn a_real_engine() {
    let place = Place::new("doctor");
    let root = tempfile::tempdir().expect("the temporary folder can be written");
    let folder = root.path().join("etc/monopod");
    std::fs::create_dir_all(&folder).expect("a folder");
    let workload = format!(
        "name = \"{}\"\n\n[containers.app]\nimage = \"{IMAGE}\"\n",
        place.workload
    );
    std::fs::write(folder.join("workload.toml"), workload).expect("a file");
    let checks = [
        "engine",
        "engine-version",
        "image-store",
        "live-restore",
        "restart-policy",
        "log-driver",
        "cgroup-driver",
        "images",
    ];
    let (list, code) = doctor(root.path(), place.daemon, &checks);
    assert_eq!(code, Some(0), "{list:#?}");
    let state = |id: &str| one(&list, id)["state"].as_str();
    for id in ["engine", "engine-version", "restart-policy"] {
        assert_eq!(state(id), Some("ok"), "{list:#?}");
    }
    let said = one(&list, "engine")["finding"].as_str().unwrap_or_default();
    assert!(said.starts_with("Docker "), "{said}");
    // Those that depend on how this one is set up are answered, and none is a failure.
    for id in ["image-store", "live-restore", "log-driver", "cgroup-driver"] {
        assert!(matches!(state(id), Some("ok" | "note" | "warning")), "{id}");
    }
    let said = one(&list, "images")["finding"].as_str().unwrap_or_default();
    assert!(said.contains("only in the engine"), "{said}");

    // Somebody has run it the old way, and somebody has taken the name.
    let label = format!("--label=org.monopod.node={}", place.node);
    let old = format!("{}-old", place.workload);
    let name = format!("{}-app", place.workload);
    place
        .daemon
        .docker(&["create", "--restart=always", &label, "--name", &old, IMAGE]);
    place
        .daemon
        .docker(&["create", &label, "--name", &name, IMAGE]);
    let (list, code) = doctor(root.path(), place.daemon, &["restart-policy"]);
    let said = one(&list, "restart-policy")["finding"]
        .as_str()
        .unwrap_or_default();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("has the name {name}")), "{said}");
    assert!(said.contains(&format!("keeps {old} running")), "{said}");
}

#[test]
fn an_engine_that_hangs() {
    let daemon = Daemon::start(false);
    let root = tempfile::tempdir().expect("the temporary folder can be written");
    let pid = Pid::from_raw(daemon.pid());
    kill(pid, Signal::SIGSTOP).expect("it runs");
    let start = Instant::now();
    let (list, code) = doctor(root.path(), &daemon, &[]);
    let took = start.elapsed();
    kill(pid, Signal::SIGCONT).expect("it is only stopped");
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(code, Some(1));
    assert_eq!(one(&list, "engine")["state"], "failure");
    assert_eq!(one(&list, "live-restore")["state"], "skipped");
    assert_eq!(one(&list, "node-file")["state"], "ok");
    assert_eq!(one(&list, "preload")["state"], "ok");
}
