//! What cannot be healed climbs the ladder, and no further than it goes.

use std::time::Duration;

use serde_json::Value;

use crate::node::{Node, folder};
use crate::support::IMAGE;

/// Serves a folder of the host, so that no restart mends what is not in it.
fn describe(node: &Node, pages: &std::path::Path) {
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["httpd", "-f", "-p", "80", "-h", "/www"]
        stop_signal = "SIGKILL"
        volumes = ["{}:/www:ro"]
        healthcheck = {{ http = ":80/ok", interval = "200ms", timeout = "5s", retries = 2 }}"#,
        pages.display()
    ));
}

const SMALL: &str = r#"[escalation]
restarts = 1
recreates = 1
withholds = 1
backoff_base = "100ms"
backoff_max = "300ms"
stable = "1s""#;

fn id(status: &Value) -> &Value {
    &status["containers"]["app"]["id"]
}

#[test]
fn to_the_safe_state_and_back() {
    let mut node = Node::new("ladder");
    let pages = folder(&node, "pages");
    std::fs::write(pages.join("ok"), "ok").expect("the folder can be written");
    describe(&node, &pages);
    node.settings(SMALL);
    node.start();
    let first = node.healthy();
    std::fs::remove_file(pages.join("ok")).expect("it is there");
    let restarted = node.until("it is restarted", |status| {
        status["containers"]["app"]["restarts"].as_u64() >= Some(1)
    });
    assert_eq!(id(&restarted), id(&first));
    let other =
        |status: &Value| status["containers"]["app"]["id"].is_string() && id(status) != id(&first);
    node.until("it is recreated", other);
    let safe = node.until("the safe state is reached", |status| {
        status["ladder"] == "safe-state"
    });
    assert_ne!(safe["verdict"], "healthy");
    let shown = node.run(&["status"]);
    assert_eq!(shown.code, 6);
    assert!(shown.stdout.contains("safe state"), "{shown:?}");
    // Mended, it comes back when it is asked to.
    std::fs::write(pages.join("ok"), "ok").expect("the folder can be written");
    node.must(&["restart"]);
    node.until("all is well, and was for long enough", |status| {
        status["verdict"] == "healthy" && status["ladder"] == "foot"
    });
    assert_eq!(node.containers(None).len(), 1);
}

#[test]
fn up_to_the_watchdog() {
    let mut node = Node::new("withheld");
    let period = Duration::from_secs(2);
    let systemd = node.systemd(period);
    let pages = folder(&node, "pages");
    describe(&node, &pages);
    node.settings(SMALL);
    node.start();
    let status = node.until("the watchdog is withheld", |status| {
        status["ladder"] == "withhold"
    });
    assert_eq!(status["withheld"], 1);
    systemd.so_far();
    let heard = systemd.during(period * 2);
    assert!(!heard.iter().any(|line| line == "WATCHDOG=1"), "{heard:?}");
    let ledger = std::fs::read_to_string(node.root.join("var/lib/monopod/ledger"));
    let ledger = ledger.expect("it has been written");
    assert!(ledger.contains("\"withheld\":1"), "{ledger}");
    // What systemd does then.
    node.crash();
    systemd.so_far();
    node.start();
    let heard = systemd.until("WATCHDOG=1");
    assert!(!heard.is_empty());
    node.until("the budget is spent", |status| {
        status["ladder"] == "safe-state" && status["withheld"] == 1
    });
    systemd.so_far();
    systemd.until("WATCHDOG=1");
    std::fs::write(pages.join("ok"), "ok").expect("the folder can be written");
    node.until("all is well, and was for long enough", |status| {
        status["verdict"] == "healthy" && status["ladder"] == "foot" && status["withheld"] == 0
    });
}

#[test]
fn what_cannot_start_says_why_and_starts_once_it_is_mended() {
    let mut node = Node::new("nosuch");
    let describe = |node: &Node, program: &str| {
        node.describe(&format!(
            "[containers.app]\nimage = \"{IMAGE}\"\ncommand = [\"{program}\", \"100000\"]\nstop_signal = \"SIGKILL\""
        ));
    };
    describe(&node, "nosuchprogram");
    node.settings(SMALL);
    node.start();
    node.until("it says why", |status| {
        let said = status["containers"]["app"]["note"].as_str();
        said.is_some_and(|said| said.contains("nosuchprogram"))
    });
    node.until("the ladder is used up", |status| {
        status["ladder"] == "safe-state"
    });
    describe(&node, "sleep");
    node.signal(nix::sys::signal::Signal::SIGHUP);
    node.until("all is well, and was for long enough", |status| {
        status["verdict"] == "healthy" && status["ladder"] == "foot"
    });
    assert_eq!(node.containers(None).len(), 1);
}
