//! Two containers: order, names, a shared network, and changes to one of them.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node::{Node, SERVE, kill_process};
use crate::support::{IMAGE, eventually};

fn describe(node: &Node, interval: &str, word: &str) {
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["sleep", "100000"]
        stop_signal = "SIGKILL"
        depends_on = {{ broker = "healthy" }}
        healthcheck = {{ test = ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://broker/ok"], interval = "{interval}", timeout = "10s", retries = 100 }}
        [containers.broker]
        image = "{IMAGE}"
        command = {SERVE}
        stop_signal = "SIGKILL"
        environment = {{ WORD = "{word}" }}
        healthcheck = {{ tcp = ":80", interval = "300ms", timeout = "5s" }}"#
    ));
}

fn of<'s>(status: &'s Value, role: &str, key: &str) -> &'s Value {
    &status["containers"][role][key]
}

/// The plan, as a list of (role, step).
fn plan(node: &Node) -> Vec<(String, String)> {
    let steps = node.must(&["plan", "--json"]).json();
    let text = |value: &Value| value.as_str().expect("it is a string").to_owned();
    let steps = steps.as_array().expect("it is a list").iter();
    let mut plan: Vec<_> = steps
        .map(|step| (text(&step["role"]), text(&step["step"])))
        .collect();
    plan.sort();
    plan
}

fn steps(app: &str, broker: &str) -> Vec<(String, String)> {
    vec![
        ("app".to_owned(), app.to_owned()),
        ("broker".to_owned(), broker.to_owned()),
    ]
}

#[test]
fn in_order_by_name_and_changed_one_at_a_time() {
    let mut node = Node::new("pair");
    // The next change waits until this one is committed.
    node.settings("[trial]\nsettle = \"1s\"");
    describe(&node, "300ms", "one");
    node.start();
    let first = node.healthy();
    let log = node.log();
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("{text} is not in the log"))
    };
    assert!(at("broker: Healthy") < at("app: runs as"));
    assert_eq!(plan(&node), steps("keep", "keep"));

    // Another question restarts nothing.
    describe(&node, "250ms", "one");
    assert_eq!(plan(&node), steps("adjust", "keep"));
    node.signal(Signal::SIGHUP);
    // As soon as it is known it is no news to a plan, which is before it is in force.
    let second = node.until("the change is in force", |status| {
        status["verdict"] == "healthy"
            && status["release"] != first["release"]
            && status["update"]["stage"] == "idle"
    });
    assert_eq!(plan(&node), steps("keep", "keep"));
    for role in ["app", "broker"] {
        for key in ["id", "pid", "restarts"] {
            assert_eq!(
                of(&second, role, key),
                of(&first, role, key),
                "{role} {key}"
            );
        }
    }

    // Another helper leaves the main container alone.
    describe(&node, "250ms", "two");
    assert_eq!(plan(&node), steps("keep", "recreate"));
    let shown = node.must(&["plan"]);
    assert!(shown.stdout.contains("broker: would be"), "{shown:?}");
    assert_eq!(
        of(&node.healthy(), "broker", "id"),
        of(&first, "broker", "id")
    );
    node.signal(Signal::SIGHUP);
    let third = node.until("the new helper is healthy", |status| {
        status["verdict"] == "healthy" && of(status, "broker", "id") != of(&first, "broker", "id")
    });
    for key in ["id", "pid", "restarts"] {
        assert_eq!(of(&third, "app", key), of(&first, "app", key), "{key}");
    }
    assert_eq!(node.containers(None).len(), 2);

    // What is wrong changes nothing.
    node.describe("[containers.app]\nimage = 7");
    let ran = node.run(&["plan"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let logged = node.log().len();
    node.signal(Signal::SIGHUP);
    eventually("the reload is refused", || {
        node.log()[logged..].contains("ERROR")
    });
    let fourth = node.healthy();
    for role in ["app", "broker"] {
        assert_eq!(of(&fourth, role, "id"), of(&third, role, "id"));
    }

    // A helper that is gone from the file goes.
    node.describe(&format!(
        "[containers.broker]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nstop_signal = \"SIGKILL\"\n\
         environment = {{ WORD = \"two\" }}\nhealthcheck = {{ tcp = \":80\", interval = \"300ms\", timeout = \"5s\" }}"
    ));
    // Until somebody says so it is not taken, whatever else comes to its end meanwhile.
    node.until("the change before is committed", |status| {
        status["update"]["stage"] == "idle"
    });
    assert_eq!(plan(&node), steps("remove", "keep"));
    node.signal(Signal::SIGHUP);
    eventually("it is removed", || node.containers(None).len() == 1);
    let fifth = node.healthy();
    assert_eq!(of(&fifth, "broker", "id"), of(&third, "broker", "id"));
}

#[test]
fn restarts_that_are_asked_for() {
    let mut node = Node::new("asked");
    describe(&node, "300ms", "one");
    node.start();
    let first = node.healthy();
    node.must(&["restart", "app"]);
    let second = node.until("app is another process, and healthy", |status| {
        status["verdict"] == "healthy" && of(status, "app", "pid") != of(&first, "app", "pid")
    });
    assert_eq!(of(&second, "broker", "pid"), of(&first, "broker", "pid"));
    assert_eq!(of(&second, "app", "id"), of(&first, "app", "id"));
    let ran = node.run(&["restart", "nobody"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("app and broker") || ran.stderr.contains("broker and app"),
        "{ran:?}"
    );
}

#[test]
fn one_network_for_both() {
    let mut node = Node::new("shared");
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["sleep", "100000"]
        stop_signal = "SIGKILL"
        network_mode = "container:broker"
        healthcheck = {{ test = ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/ok"], interval = "300ms", timeout = "10s", retries = 3, start_period = "30s" }}
        [containers.broker]
        image = "{IMAGE}"
        command = {SERVE}
        healthcheck = {{ tcp = ":80", interval = "300ms", timeout = "5s" }}"#
    ));
    node.start();
    let network = |status: &Value, role: &str| {
        let pid = of(status, role, "pid").as_u64().expect("it runs");
        std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("it runs")
    };
    let first = node.healthy();
    let shared = network(&first, "app");
    assert_eq!(shared, network(&first, "broker"));
    kill_process(of(&first, "broker", "pid"));
    let second = node.until("both are healthy again", |status| {
        status["verdict"] == "healthy"
            && ["app", "broker"]
                .iter()
                .all(|role| of(status, role, "pid") != of(&first, role, "pid"))
    });
    assert_eq!(network(&second, "app"), network(&second, "broker"));
    assert_ne!(network(&second, "app"), shared);
    assert_eq!(node.containers(None).len(), 2);
}
