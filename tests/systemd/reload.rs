//! `systemctl reload` applies what has changed, with as little interruption as the change allows.

use crate::machine::eventually;
use crate::node::{NODE, Node, WORKLOAD};

fn with_helper(seconds: u32) -> String {
    format!(
        "{WORKLOAD}\n[containers.helper]\nimage = \"monopod.test/app:1\"\ncommand = [\"sleep\", \"{seconds}\"]\nstop_signal = \"SIGKILL\"\n"
    )
}

#[test]
fn a_reload_touches_what_has_changed_and_nothing_else() {
    let node = Node::healthy_with(&with_helper(100_000), NODE);
    let (app, helper) = (node.running("app"), node.running("helper"));
    let daemon = node.show("monopod.service", "MainPID");

    // A probe's interval restarts nothing.
    let changed = with_helper(100_000).replace("500ms", "700ms");
    node.configure("workload.toml", &changed);
    node.ok("systemctl reload monopod.service");
    assert_eq!(node.running("app"), app);
    assert_eq!(node.running("helper"), helper);

    // systemd is told, whoever asks for it.
    let mark = node.mark();
    node.ok(
        "systemctl log-level debug && systemctl kill --signal=HUP --kill-whom=main monopod.service",
    );
    let told = node.await_line(&mark, "monopod.service", "RELOADING=1");
    assert!(told.message().contains("MONOTONIC_USEC="), "{told:?}");
    node.ok("systemctl log-level info");
    assert_eq!(node.running("app"), app);

    // A changed helper leaves the main container alone.
    let changed = with_helper(99_999).replace("500ms", "700ms");
    node.configure("workload.toml", &changed);
    node.ok("systemctl reload monopod.service");
    eventually("the helper runs as it is written now", || {
        let words = node
            .sh("docker inspect --format '{{.State.Running}} {{.Args}} {{.Path}}' gateway-helper");
        words.stdout.starts_with("true") && words.stdout.contains("99999")
    });
    assert_ne!(node.running("helper").id, helper.id);
    node.await_healthy();
    assert_eq!(node.running("app"), app);

    // A wrong file changes nothing, and everybody is told.
    let helper = node.running("helper");
    node.configure("workload.toml", &changed.replace("ports", "prots"));
    let came = node.sh("systemctl reload monopod.service");
    assert_ne!(came.code, 0, "{came:?}");
    assert_eq!(node.show("monopod.service", "ActiveState"), "active");
    assert_eq!(node.running("app"), app);
    assert_eq!(node.running("helper"), helper);
    eventually("STATUS says so", || {
        node.show("monopod.service", "StatusText")
            .contains("new files are refused")
    });

    // And the right one again takes the word back.
    node.configure("workload.toml", &changed);
    node.ok("systemctl reload monopod.service");
    eventually("STATUS is the workload's again", || {
        !node
            .show("monopod.service", "StatusText")
            .contains("new files are refused")
    });
    assert_eq!(node.running("app"), app);
    assert_eq!(node.show("monopod.service", "MainPID"), daemon);
    assert_eq!(node.app_log(), ["started"]);
}
