//! What systemd hears.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node::{Node, SERVE, folder};
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
    node.signal(Signal::SIGHUP);
    let heard = systemd.until("RELOADING=1");
    if !heard.iter().any(|line| line == "READY=1") {
        systemd.until("READY=1");
    }
    node.signal(Signal::SIGTERM);
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

/// The main container is `app`; `side` says what its helper sleeps for.
fn describe(node: &Node, interval: &str, side: u32) {
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = {SERVE}
        stop_signal = "SIGKILL"
        depends_on = {{ side = "started" }}
        healthcheck = {{ http = ":80/ok", interval = "{interval}", timeout = "5s", start_period = "30s" }}
        [containers.side]
        image = "{IMAGE}"
        command = ["sleep", "{side}"]
        stop_signal = "SIGKILL""#
    ));
}

#[test]
fn a_reload_interrupts_no_more_than_it_must() {
    let mut node = Node::new("reload");
    let systemd = node.systemd(Duration::from_secs(60));
    // What comes next waits for the end of the trial before it.
    node.settings("[trial]\nsettle = \"1s\"");
    describe(&node, "300ms", 100_000);
    node.start();
    let first = node.healthy();
    systemd.until("READY=1");
    let pid = |status: &Value, name: &str| status["containers"][name]["pid"].clone();
    let reload = |node: &Node| {
        node.signal(Signal::SIGHUP);
        let mut heard = systemd.until("RELOADING=1");
        heard.extend(systemd.until("READY=1"));
        heard
    };

    describe(&node, "200ms", 100_000);
    node.settings("[trial]\nsettle = \"1s\"\n[escalation]\nrestarts = 7");
    reload(&node);
    let asked = node.healthy();
    for name in ["app", "side"] {
        assert_eq!(pid(&asked, name), pid(&first, name), "{name}");
    }

    describe(&node, "200ms", 200_000);
    reload(&node);
    let helped = node.until("the helper is another one", |status| {
        let side = pid(status, "side");
        !side.is_null() && side != pid(&first, "side") && status["verdict"] == "healthy"
    });
    assert_eq!(pid(&helped, "app"), pid(&first, "app"));

    // Wrong files, and a socket that only a restart can change, leave everything as it is.
    node.describe("[containers.app]\nimag = 1");
    let refused = |why: &str| {
        let heard = reload(&node);
        let said = |line: &String| line.starts_with("STATUS=Healthy") && line.contains(why);
        assert!(heard.iter().any(said), "{why}: {heard:?}");
        let status = node.run(&["status", "--json"]).json();
        let told = status["reload_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(told.contains(why), "{status}");
        assert_eq!(status["verdict"], "healthy");
        for name in ["app", "side"] {
            assert_eq!(pid(&status, name), pid(&helped, name), "{name}");
        }
    };
    refused("has no `image`");
    assert_eq!(node.run(&["check"]).code, 3);
    describe(&node, "200ms", 200_000);
    let settings = node.root.join("etc/monopod/node.toml");
    std::fs::write(&settings, "[engine]\nsocket = \"unix:///run/other.sock\"\n")
        .expect("the root can be written");
    refused("systemctl restart monopod");
    node.settings("");
    reload(&node);
    let well = node.until("the files are in force again", |status| {
        status["reload_error"].is_null()
    });
    assert_eq!(pid(&well, "side"), pid(&helped, "side"));
}
