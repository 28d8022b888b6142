//! What systemd hears.

use std::time::Duration;

use crate::node::{Node, folder};
use crate::support::IMAGE;

#[test]
fn ready_with_health_and_fed_while_it_lasts() {
    let mut node = Node::new("ready");
    let pages = folder(&node, "pages");
    let systemd = node.systemd(Duration::from_secs(2));
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["httpd", "-f", "-p", "80", "-h", "/www"]
        stop_signal = "SIGKILL"
        volumes = ["{}:/www:ro"]
        healthcheck = {{ http = ":80/ok", interval = "200ms", timeout = "5s", start_period = "10m" }}"#,
        pages.display()
    ));
    node.start();
    node.until("it runs and has been asked", |status| {
        status["containers"]["app"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("404"))
    });
    let heard = systemd.so_far();
    assert!(!heard.iter().any(|line| line == "READY=1"), "{heard:?}");
    assert!(
        heard.iter().any(|line| line.starts_with("STATUS=Starting")),
        "{heard:?}"
    );
    assert!(
        heard
            .iter()
            .any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")),
        "{heard:?}"
    );
    std::fs::write(pages.join("ok"), "ok").expect("the folder can be written");
    let heard = systemd.until("READY=1");
    assert!(
        !heard
            .iter()
            .any(|line| line.starts_with("STATUS=Healthy") && line.contains("404"))
    );
    for _ in 0..3 {
        systemd.until("WATCHDOG=1");
    }
    // A reload says so, and when it is over.
    node.signal(nix::sys::signal::Signal::SIGHUP);
    let heard = systemd.until("RELOADING=1");
    if !heard.iter().any(|line| line == "READY=1") {
        systemd.until("READY=1");
    }
    node.signal(nix::sys::signal::Signal::SIGTERM);
    systemd.until("STOPPING=1");
    assert!(node.ended().success());
}

#[test]
fn ready_when_it_runs_if_the_owner_wants_so() {
    let mut node = Node::new("running");
    let systemd = node.systemd(Duration::from_secs(60));
    node.settings("[systemd]\nready = \"running\"");
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        healthcheck = {{ tcp = ":1", interval = "200ms", timeout = "5s", start_period = "10m" }}"#
    ));
    node.start();
    systemd.until("READY=1");
    let status = node.run(&["status", "--json"]).json();
    assert_eq!(status["verdict"], "starting");
}
