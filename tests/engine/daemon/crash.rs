//! The daemon is killed, and nobody but its successor notices.

use std::time::Duration;

use crate::node::{ASK, Node, SERVE, build, example_archive};
use crate::support::IMAGE;

#[test]
fn its_successor_adopts() {
    let mut node = Node::new("adopt");
    node.describe(&format!(
        "[containers.app]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nhealthcheck = {ASK}"
    ));
    node.start();
    let before = node.healthy();
    node.crash();
    assert_eq!(node.run(&["status"]).code, 5);
    node.start();
    let after = node.healthy();
    for key in ["id", "pid", "restarts", "image_id"] {
        assert_eq!(
            after["containers"]["app"][key], before["containers"]["app"][key],
            "{key}"
        );
    }
    // While nobody looks it dies; the next one finds it so.
    node.crash();
    crate::node::kill_process(&after["containers"]["app"]["pid"]);
    node.start();
    let healed = node.healthy();
    assert_eq!(
        healed["containers"]["app"]["id"],
        before["containers"]["app"]["id"]
    );
    assert_ne!(
        healed["containers"]["app"]["pid"],
        before["containers"]["app"]["pid"]
    );
}

#[test]
fn killed_at_any_moment() {
    let mut node = Node::new("moments");
    let (fed, archive) = example_archive(&node, "moments");
    let built = build("moments-built", "");
    node.describe(&format!(
        r#"[containers.app]
        image = "{fed}"
        depends_on = ["helper"]
        healthcheck = {{ http = ":80/", interval = "300ms", timeout = "5s", start_period = "30s" }}
        [containers.helper]
        image = "{built}"
        command = {SERVE}
        healthcheck = {ASK}"#
    ));
    node.must(&["import", &archive.display().to_string()]);
    // Primes, so that no two rounds meet the same moment.
    for delay in [7, 41, 83, 149, 211, 307, 401, 599] {
        for id in node.containers(None) {
            node.docker(&["rm", "--force", &id]);
        }
        node.docker(&["rmi", "--force", &fed]);
        for delay in [delay, delay * 2] {
            node.start();
            // It chooses the moment of the kill, and waits for nothing.
            std::thread::sleep(Duration::from_millis(delay));
            node.crash();
        }
        for role in ["app", "helper"] {
            let there = node.containers(Some(role));
            assert!(there.len() <= 1, "after {delay} ms: {there:?}");
        }
    }
    node.start();
    node.healthy();
    for role in ["app", "helper"] {
        assert_eq!(node.containers(Some(role)).len(), 1, "{role}");
    }
}
