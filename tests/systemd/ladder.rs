//! A workload that answers 500 climbs the ladder, rung by rung.

use crate::node::{NODE, Node, WORKLOAD};

/// The message of systemd that a unit has failed.
const UNIT_FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// Watchdogs that bark within a story's length.
const IMPATIENT: &str = "[Service]\nWatchdogSec=10\nRestartSec=3\n";

#[test]
fn a_sick_workload_climbs_to_the_watchdog_and_ends_in_the_safe_state() {
    let node = Node::prepared(WORKLOAD, NODE);
    node.drop_in("monopod.service", IMPATIENT);
    node.ok("systemctl start monopod.service");
    let first = node.running("app");
    let mark = node.mark();
    node.sick(true);
    node.await_line(&mark, "monopod.service", "restart 1 of 1");
    node.await_line(&mark, "monopod.service", "recreation 1 of 1");
    node.await_line(&mark, "monopod.service", "watchdog is no longer fed");
    let failed = node.await_entry(&mark, "the watchdog has barked", |entry| {
        entry.field("MESSAGE_ID") == UNIT_FAILED && entry.field("UNIT") == "monopod.service"
    });
    assert_eq!(failed.field("UNIT_RESULT"), "watchdog");
    node.await_line(&mark, "monopod.service", "Scheduled restart job");
    let shown = node.ok("systemctl show -p NRestarts monopod.service");
    assert_eq!(shown, "NRestarts=1");
    // Its successor has the rungs below once more, and no watchdog to withhold.
    node.await_line(&mark, "monopod.service", "safe state");
    // It may be between two attempts.
    let id = node.ok("docker inspect --type=container --format '{{.Id}}' gateway-app");
    assert_ne!(id, first.id, "it was never recreated");
    assert_eq!(node.sh("monopod status").code, 6);
    let told = node.ok("monopod status || true");
    assert!(told.contains("safe state"), "{told}");
    assert_eq!(node.show("monopod.service", "NRestarts"), "1");

    // The owner mends it, and says so.
    node.sick(false);
    node.ok("monopod restart");
    node.await_healthy();
}

#[test]
fn a_hopeless_node_is_rebooted_as_often_as_its_owner_allows() {
    let owner = NODE.replace(
        "withholds = 1",
        "withholds = 0\nreboot = true\nreboots_per_day = 1",
    );
    let mut node = Node::prepared(WORKLOAD, &owner);
    node.drop_in("monopod.service", IMPATIENT);
    node.ok("systemctl start monopod.service");
    let mark = node.mark();
    node.sick(true);
    node.await_boot_start();
    assert_eq!(node.boots(), 2);
    // The budget is kept on disk: the next end of the ladder is the safe state.
    node.await_ready();
    node.await_line(&mark, "monopod.service", "safe state");
    assert_eq!(node.boots(), 2);
    node.sick(false);
    node.ok("monopod restart");
    node.await_healthy();
}
