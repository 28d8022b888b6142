//! An engine that is silent has its unit restarted, by who may do that.

use crate::machine::eventually;
use crate::node::{NODE, Node, WORKLOAD};

fn owner() -> String {
    format!("{NODE}engine_after = \"10s\"\nengine_restarts = 1\n")
}

#[test]
fn a_silent_engine_is_restarted_by_the_privileged_half() {
    let node = Node::healthy_with(WORKLOAD, &owner());
    let engine = node.show("docker.service", "MainPID");
    let mark = node.mark();
    node.sick(true);
    node.ok(&format!("kill -STOP {engine}"));
    // A stopped dockerd heeds no SIGTERM: systemd has to lose its patience first.
    node.drop_in("docker.service", "[Service]\nTimeoutStopSec=3\n");
    node.await_line(&mark, "monopod-rescue.service", "docker.service");
    node.await_line(&mark, "docker.service", "Started ");
    node.sick(false);
    node.await_healthy();
    assert_ne!(node.show("docker.service", "MainPID"), engine);
    assert_eq!(node.show("monopod-rescue.service", "Result"), "success");
}

#[test]
fn without_the_privileged_half_that_rung_is_stepped_over() {
    let node = Node::prepared(WORKLOAD, &owner());
    node.ok("systemctl mask --now monopod-rescue.path");
    node.ok("systemctl start monopod.service");
    let engine = node.show("docker.service", "MainPID");
    let mark = node.mark();
    node.sick(true);
    node.ok(&format!("kill -STOP {engine}"));
    // Nobody takes the request; the watchdog is the next rung.
    node.await_line(&mark, "monopod.service", "watchdog is no longer fed");
    assert_eq!(node.show("docker.service", "MainPID"), engine);
    assert_eq!(node.read("/run/monopod/rescue/engine"), "");
    node.ok(&format!("kill -CONT {engine}"));
    node.sick(false);
    node.await_healthy();
}

/// Neither what is no request nor what cannot be done leaves a failed unit behind, and however often that was asked,
/// the next request is heard: it may be the one that puts volumes back.
#[test]
fn refused_requests_leave_the_privileged_half_as_it_was() {
    let node = Node::healthy();
    // More than any start limit that the units have had.
    node.ok("mkdir -p /run/monopod/rescue && cd /run/monopod/rescue
        for request in $(seq 32); do
            echo nonsense >snapshot
            while [ -e snapshot ]; do sleep 0.1; done
        done");
    node.ok(r#"echo '{"number":7,"release":"0123456789ab","volumes":[{"name":"none","limit":1}]}' >/run/monopod/new
        mv /run/monopod/new /run/monopod/rescue/restore"#);
    let answer = "/run/monopod/rescue-answers/restore-0123456789ab";
    eventually("it is answered", || node.read(answer).contains("error"));
    assert!(
        node.read(answer).contains("no copy of it"),
        "{}",
        node.read(answer)
    );
    eventually("the path unit waits for the next one", || {
        node.show("monopod-volumes.path", "SubState") == "waiting"
    });
    // The machine has failed units of its own.
    let failed = node.ok("systemctl --failed --no-legend --plain");
    assert!(!failed.contains("monopod"), "{failed}");
}
