//! An engine that is silent has its unit restarted, by who may do that.

use crate::node::{NODE, Node, WORKLOAD};

fn owner() -> String {
    format!("{NODE}engine_after = \"5s\"\nengine_restarts = 1\n")
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
