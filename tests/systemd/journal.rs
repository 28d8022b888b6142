//! The journal explains itself, and the verbs that look read it right.

use crate::node::Node;

#[test]
fn the_journal_explains_a_failure_and_the_apps_words_are_found() {
    let node = Node::healthy();
    let mark = node.mark();
    node.sick(true);
    let entry = node.await_line(&mark, "monopod.service", "Unhealthy");
    assert_eq!(entry.field("MONOPOD_CONTAINER"), "app");
    assert_eq!(entry.field("MONOPOD_RELEASE").len(), 12, "{entry:?}");
    let id = entry.field("MESSAGE_ID");
    let told = node.ok(&format!(
        "journalctl --quiet --catalog --lines=1 MESSAGE_ID={id}"
    ));
    assert!(told.lines().any(|line| line.starts_with("░░")), "{told}");
    assert!(told.contains("monopod "), "{told}");
    node.sick(false);
    node.await_healthy();

    let logs = node.ok("monopod logs app -n 5");
    assert!(logs.contains("httpd is up"), "{logs}");
    let doctor = node.sh("monopod doctor");
    assert!(doctor.stdout.contains("engine"), "{doctor:?}");
    let json = node.sh("monopod doctor --json");
    assert!(
        serde_json::from_str::<serde_json::Value>(&json.stdout).is_ok(),
        "{json:?}"
    );
}
