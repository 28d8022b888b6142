//! `monopod logs` where there is no log to be had.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::support::Monopod;

const WORKLOAD: &str =
    "name = \"gateway\"\n[containers.app]\nimage = \"a:1\"\n[containers.broker]\nimage = \"b:1\"\n";

#[test]
fn no_logs() {
    let with_files = |args: &[&str]| Monopod::new(args).file("etc/monopod/workload.toml", WORKLOAD);
    let table = [
        ("no-engine", with_files(&["logs"]), 5),
        ("no-such-container", with_files(&["logs", "apq"]), 1),
        (
            "no-such-time",
            with_files(&["logs", "--since", "teatime"]),
            2,
        ),
        ("no-number", with_files(&["logs", "-n", "many"]), 2),
        (
            "bad-node-file",
            with_files(&["logs"]).file("etc/monopod/node.toml", "[engine]\nsocket = 3\n"),
            3,
        ),
    ];
    for (name, monopod, code) in table {
        let outcome = monopod.run();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(code), ""),
            "{name}"
        );
        outcome.matches(&format!("logs/{name}"));
    }
}

/// Neither the engine nor monopod's own files are for everybody.
#[test]
fn not_for_everybody() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another user needs root");
        return;
    }
    let monopod = Monopod::new(&["logs"])
        .file("etc/monopod/workload.toml", WORKLOAD)
        .file("etc/monopod/node.toml", "")
        .user(65534);
    let shut = Permissions::from_mode(0o700);
    std::fs::set_permissions(monopod.root().join("etc/monopod"), shut).expect("the folder is shut");
    let socket = monopod.root().join("docker.sock");
    let _engine = UnixListener::bind(&socket).expect("the path is free");
    std::fs::set_permissions(&socket, Permissions::from_mode(0o600)).expect("the socket is shut");
    let outcome = monopod.run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(5), ""));
    outcome.matches("logs/not-for-everybody");
}
