//! An engine that is silent has its unit restarted, by who may do that.

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
