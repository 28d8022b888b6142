//! From `dpkg --install` to a workload that answers.

use crate::machine::eventually;
use crate::node::{NODE, Node, WORKLOAD};

#[test]
fn an_installed_package_waits_quietly_until_a_workload_file_appears() {
    let node = Node::installed();
    assert_eq!(node.ok("systemctl is-enabled monopod.service"), "enabled");
    assert_eq!(node.ok("systemctl is-enabled monopod.path"), "enabled");
    assert_eq!(node.ok("systemctl is-active monopod.path"), "active");
    assert_eq!(node.show("monopod.service", "ActiveState"), "inactive");
    assert_eq!(node.show("monopod.service", "ConditionResult"), "no");
    assert_eq!(
        node.ok("systemctl list-units --failed --plain --no-legend 'monopod*'"),
        ""
    );
    // Starting it by hand is no error either: its condition is not met.
    node.ok("systemctl start monopod.service");

    node.ok("mkdir -p /srv/state && monopod import /root/app.tar");
    node.configure("node.toml", NODE);
    let mark = node.mark();
    node.configure("workload.toml", WORKLOAD);
    node.await_line(&mark, "monopod.service", "Started ");
    node.ok("monopod status");
    assert_eq!(
        node.ok("curl --silent --fail http://127.0.0.1:8080/"),
        "one"
    );

    // Who stops it means it: the file is still there.
    node.ok("systemctl stop monopod.service");
    node.ok("systemctl restart monopod.path");
    assert_eq!(node.show("monopod.service", "ActiveState"), "inactive");
}

#[test]
fn a_start_ends_when_the_workload_is_healthy() {
    let node = Node::prepared(WORKLOAD, NODE);
    node.sick(true);
    let mark = node.mark();
    let mut start = node.begin("systemctl start monopod.service");
    node.await_line(&mark, "monopod.service", "supervising gateway");
    eventually("the app runs", || !node.app_log().is_empty());
    assert!(start.runs(), "the start ended before the app was healthy");
    assert_eq!(node.show("monopod.service", "ActiveState"), "activating");
    node.sick(false);
    let came = start.end();
    assert_eq!(came.code, 0, "{came:?}");
    node.ok("monopod status");
}

#[test]
fn a_start_that_never_gets_healthy_fails_and_the_status_has_the_reason() {
    let node = Node::prepared(WORKLOAD, NODE);
    node.sick(true);
    node.drop_in(
        "monopod.service",
        "[Service]\nTimeoutStartSec=10\nRestart=no\n",
    );
    let came = node.sh("systemctl start monopod.service");
    assert_ne!(came.code, 0, "{came:?}");
    assert_eq!(node.show("monopod.service", "Result"), "timeout");
    let status = node.sh("systemctl status --no-pager --full monopod.service");
    assert!(status.stdout.contains("500"), "{status:?}");
}
