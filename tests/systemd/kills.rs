//! kill -9 of the workload, of the daemon, of dockerd: each heals by itself.

use crate::machine::eventually;
use crate::node::Node;

#[test]
fn a_killed_app_is_started_again_in_the_same_container() {
    let node = Node::healthy();
    let before = node.running("app");
    let mark = node.mark();
    node.ok(&format!("kill -9 {}", before.pid));
    node.await_line(&mark, "monopod.service", "Healthy");
    let after = node.running("app");
    assert_eq!(after.id, before.id);
    assert_ne!(after.pid, before.pid);
    assert_eq!(after.starts, 2);
    assert_eq!(node.show("monopod.service", "NRestarts"), "0");
}

#[test]
fn a_killed_daemon_is_succeeded_by_one_that_adopts_the_container() {
    let node = Node::healthy();
    let before = node.running("app");
    let mark = node.mark();
    node.ok("systemctl kill --signal=KILL --kill-whom=main monopod.service");
    node.await_line(&mark, "monopod.service", "Started ");
    node.ok("monopod status");
    assert_eq!(node.running("app"), before);
    assert_eq!(node.show("monopod.service", "NRestarts"), "1");
}

#[test]
fn a_killed_engine_is_waited_for_and_the_workload_runs_again() {
    let node = Node::healthy();
    let before = node.running("app");
    let mark = node.mark();
    node.ok("systemctl kill --signal=KILL --kill-whom=main docker.service");
    // Without live-restore the next dockerd ends what the last one left behind.
    node.await_line(&mark, "docker.service", "Started ");
    eventually("the app was started again", || {
        node.app_log()
            .iter()
            .filter(|line| *line == "started")
            .count()
            == 2
    });
    node.await_healthy();
    assert_eq!(node.running("app").id, before.id);
    assert_eq!(node.show("monopod.service", "NRestarts"), "0");

    node.write("/etc/docker/daemon.json", "{\"live-restore\": true}\n");
    node.ok("systemctl reload docker.service");
    node.await_healthy();
    let before = node.running("app");
    let mark = node.mark();
    node.ok("systemctl kill --signal=KILL --kill-whom=main docker.service");
    node.await_line(&mark, "docker.service", "Started ");
    node.await_healthy();
    assert_eq!(node.running("app"), before);
}
