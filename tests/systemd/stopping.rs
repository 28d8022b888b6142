//! `restart` leaves the containers alone; `stop` and shutdown end them, and in time.

use std::time::{Duration, Instant};

use crate::node::{NODE, Node, WORKLOAD};

/// The app's own grace period: what heeds the signal ends long before, however busy the machine is.
const GRACE: Duration = Duration::from_secs(80);

fn healthy() -> Node {
    Node::healthy_with(&WORKLOAD.replace("\"20s\"", "\"80s\""), NODE)
}

#[test]
fn a_restart_keeps_the_container_and_a_stop_ends_it_within_its_grace() {
    let node = healthy();
    let before = node.running("app");
    node.ok("systemctl restart monopod.service");
    assert_eq!(node.running("app"), before);
    node.ok("systemctl try-restart monopod.service");
    assert_eq!(node.running("app"), before);
    assert_eq!(node.app_log(), ["started"]);

    let begin = Instant::now();
    node.ok("systemctl stop monopod.service");
    assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
    assert_eq!(node.app_log(), ["started", "stopped"]);
    assert_eq!(node.ok("docker ps --quiet"), "");
    assert_eq!(node.show("monopod.service", "Result"), "success");

    node.ok("systemctl start monopod.service");
    assert_eq!(node.app_log(), ["started", "stopped", "started"]);
}

#[test]
fn a_shutdown_ends_the_app_with_its_signal_and_within_its_grace() {
    let mut node = healthy();
    // Survives the power-off: the engine's part of the disk would be gone with it.
    let log = node.outlasting("/srv/state/log");
    let begin = Instant::now();
    node.ok("systemctl poweroff");
    node.await_off();
    assert!(
        begin.elapsed() < GRACE + Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    let text = std::fs::read_to_string(log).expect("the machine's files are still there");
    assert_eq!(text, "started\nstopped\n");
}
