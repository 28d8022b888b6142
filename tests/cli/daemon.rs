//! `monopod plan` and `monopod restart`; and what `monopod daemon` says when it cannot begin.

use std::fs::File;

use serde_json::json;

use crate::bus::{Bus, Daemon, No, Script};
use crate::support::{Monopod, Outcome};

fn plan(plan: Result<String, No>, args: &[&str]) -> Outcome {
    let daemon = Daemon::start(Script {
        plan,
        ..Script::default()
    });
    Monopod::new(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
        .run()
}

fn restart(restart: Result<(), No>, args: &[&str]) -> (Outcome, Vec<String>) {
    let daemon = Daemon::start(Script {
        restart,
        ..Script::default()
    });
    let outcome = Monopod::new(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
        .run();
    (outcome, daemon.asked())
}

#[test]
fn a_plan_of_every_kind_of_step() {
    let keep = json!([{"role": "app", "step": "keep"}]).to_string();
    plan(Ok(keep), &["plan"]).matches("plan/keep");
    let all = json!([
        {"role": "a", "step": "keep"},
        {"role": "b", "step": "adjust"},
        {"role": "c", "step": "create"},
        {"role": "d", "step": "recreate", "why": "its description changed"},
        {"role": "e", "step": "recreate", "why": "example/app:1 is another image now"},
        {"role": "f", "step": "remove"},
    ])
    .to_string();
    plan(Ok(all.clone()), &["plan"]).matches("plan/all");
    let outcome = plan(Ok(all.clone()), &["plan", "--json"]);
    assert_eq!(
        (
            outcome.code,
            outcome.stdout.trim_end(),
            outcome.stderr.as_str()
        ),
        (Some(0), all.as_str(), "")
    );
}

#[test]
fn a_plan_that_cannot_be_made() {
    let invalid = "2 errors, the first: /etc/monopod/workload.toml:4:1: unknown key `imge`";
    plan(Err(No::Invalid(invalid.to_owned())), &["plan"]).matches("plan/invalid");
    plan(
        Err(No::Failed("the daemon is ending".to_owned())),
        &["plan"],
    )
    .matches("plan/ending");
    let outcome = plan(
        Ok("[{\"role\": \"a\", \"step\": \"fly\"}]".to_owned()),
        &["plan"],
    );
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains("of another version"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn restarts() {
    let (outcome, asked) = restart(Ok(()), &["restart"]);
    outcome.matches("restart/all");
    assert_eq!(asked, ["restart \"\""]);
    let (outcome, asked) = restart(Ok(()), &["restart", "app"]);
    outcome.matches("restart/one");
    assert_eq!(asked, ["restart \"app\""]);
    let none = "the workload has no container named ap; it has app and broker";
    let (outcome, _) = restart(Err(No::NotFound(none.to_owned())), &["restart", "ap"]);
    outcome.matches("restart/unknown-name");
}

#[test]
fn without_a_bus_or_a_daemon() {
    Monopod::new(&["plan"]).run().matches("plan/no-bus");
    Monopod::new(&["restart"]).run().matches("restart/no-bus");
    let bus = Bus::start();
    for verb in ["plan", "restart"] {
        Monopod::new(&[verb])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())
            .run()
            .matches(&format!("{verb}/no-daemon"));
    }
}

#[test]
fn others_than_root_may_look_and_not_touch() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let daemon = Daemon::start(Script::default());
    let nobody = |verb: &str| {
        Monopod::new(&[verb])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
            .user(65_534)
            .run()
    };
    nobody("restart").matches("restart/denied");
    nobody("plan").matches("plan/denied");
    assert_eq!(daemon.asked(), [""; 0]);
    // The answer of this daemon says nothing, but it comes.
    let looked = nobody("status");
    assert!(
        looked.stderr.contains("of another version"),
        "{}",
        looked.stderr
    );
}

#[test]
fn a_daemon_does_not_begin_with_wrong_files() {
    let none = Monopod::new(&["daemon"]).run();
    assert_eq!(none.code, Some(3), "{}", none.stderr);
    assert!(none.stderr.contains("workload.toml"), "{}", none.stderr);
    let wrong = Monopod::new(&["daemon"])
        .file("etc/monopod/workload.toml", "name = 1\n")
        .run();
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("monopod check"), "{}", wrong.stderr);
}

#[test]
fn a_daemon_leaves_a_newer_ledger_alone() {
    let newer = "monopod-ledger 1000 0000\n{}\n";
    let outcome = Monopod::new(&["daemon"])
        .file(
            "etc/monopod/workload.toml",
            "name = \"w\"\n[containers.app]\nimage = \"example/app:1\"\n",
        )
        .file("var/lib/monopod/ledger", newer)
        .run();
    // The unit does not start it again for that.
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("a newer monopod wrote it"),
        "{}",
        outcome.stderr
    );
    assert!(
        !outcome.stderr.contains("supervising"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_root_has_one_daemon() {
    let second = Monopod::new(&["daemon"]).file(
        "etc/monopod/workload.toml",
        "name = \"w\"\n[containers.app]\nimage = \"example/app:1\"\n",
    );
    let second = second.file("run/monopod/lock", "");
    let first = File::open(second.root().join("run/monopod/lock")).expect("the lock");
    first.try_lock().expect("nobody else has it");
    let outcome = second.run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("another monopod daemon runs"),
        "{}",
        outcome.stderr
    );
}

/// What root writes into a state folder that is the daemon's user's, that user could not replace.
#[test]
fn root_is_no_daemon_where_the_state_is_anothers() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let daemon = Monopod::new(&["daemon"])
        .file(
            "etc/monopod/workload.toml",
            "name = \"w\"\n[containers.app]\nimage = \"example/app:1\"\n",
        )
        // It ends at this one, should it get so far.
        .file("var/lib/monopod/ledger", "monopod-ledger 1000 0000\n{}\n");
    let state = daemon.root().join("var/lib/monopod");
    std::os::unix::fs::chown(&state, Some(64242), Some(64242)).expect("an owner");
    let outcome = daemon.run();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let said = "[ROOT]/var/lib/monopod belongs to the user 64242";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
}
