//! From an archive to a healthy container, and back to health.

use serde_json::Value;

use crate::node::{ASK, Node, SERVE, build, folder, kill_process};
use crate::support::{IMAGE, eventually};

#[test]
fn from_an_archive_to_health() {
    let mut node = Node::new("archive");
    let image = build(
        "archive",
        r#"CMD ["sh", "-c", "while :; do sleep 1; done"]"#,
    );
    let file = node.root.with_file_name("archive.tar");
    let path = file.display().to_string();
    node.docker(&["save", "--output", &path, &image]);
    node.docker(&["rmi", &image]);
    let ready = folder(&node, "ready");
    node.describe(&format!(
        r#"[containers.app]
        image = "{image}"
        command = {SERVE}
        volumes = ["{}:/ready:ro"]
        healthcheck = {{ test = "test -e /ready/yes", interval = "200ms", timeout = "10s", start_period = "10m" }}"#,
        ready.display()
    ));
    let ran = node.run(&["status"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("does not run"), "{ran:?}");

    let ran = node.must(&["import", &path, "--json"]);
    let report = ran.json();
    assert_eq!(report["images"][0]["references"][0], image.as_str());
    assert_eq!(report["images"][0]["known"], false);
    assert!(
        report["engine"][0][1]["sent"].as_u64() > Some(0),
        "{report}"
    );
    let again = node.must(&["import", &path, "--json"]).json();
    assert_eq!(again["images"][0]["known"], true);
    assert_eq!(again["engine"][0][1]["sent"], 0, "{again}");

    node.start();
    node.until("it runs and has been asked", |status| {
        let app = &status["containers"]["app"];
        app["state"] == "running" && status["verdict"] == "starting"
    });
    assert_eq!(node.run(&["status"]).code, 6);
    std::fs::write(ready.join("yes"), "").expect("the folder can be written");
    let status = node.healthy();
    assert_eq!(status["ladder"], "foot");
    assert!(
        status["workload"]
            .as_str()
            .is_some_and(|name| name.ends_with("-archive"))
    );
    let app = &status["containers"]["app"];
    assert_eq!(app["state"], "running");
    assert_eq!(app["verdict"], "healthy");
    assert_eq!(app["restarts"], 0);
    assert_eq!(app["image"], image.as_str());
    assert_eq!(app["image_id"], report["images"][0]["id"]);
    assert!(
        app["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z'))
    );
    let listed = node.containers(None);
    assert_eq!(app["id"], listed[0].as_str());
    assert_eq!(listed.len(), 1);
    let served = node.docker(&[
        "exec",
        &listed[0],
        "busybox",
        "wget",
        "-qO-",
        "http://127.0.0.1/ok",
    ]);
    assert_eq!(served, "ok");
    let policy = node.docker(&[
        "inspect",
        "--format",
        "{{.HostConfig.RestartPolicy.Name}}",
        &listed[0],
    ]);
    assert_eq!(policy, "no");

    let ran = node.must(&["status"]);
    for word in ["Healthy", "running", &image] {
        assert!(ran.stdout.contains(word), "{word}: {ran:?}");
    }
    node.without_bus();
    let ran = node.run(&["status"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("hint: "), "{ran:?}");
}

fn server(node: &Node) {
    node.describe(&format!(
        "[containers.app]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nhealthcheck = {ASK}"
    ));
}

#[test]
fn a_killed_process_is_started_again() {
    let mut node = Node::new("killed");
    server(&node);
    node.start();
    let before = node.healthy();
    kill_process(&before["containers"]["app"]["pid"]);
    let after = node.until("it is healthy again", |status| {
        status["verdict"] == "healthy" && status["containers"]["app"]["restarts"] == 1
    });
    let id = |status: &Value| status["containers"]["app"]["id"].clone();
    assert_eq!(id(&after), id(&before));
    assert_ne!(
        after["containers"]["app"]["pid"],
        before["containers"]["app"]["pid"]
    );
    assert_eq!(node.containers(None).len(), 1);
}

#[test]
fn a_sick_process_is_started_again() {
    let mut node = Node::new("sick");
    server(&node);
    node.start();
    let before = node.healthy();
    let id = node.containers(None).remove(0);
    node.docker(&["exec", &id, "busybox", "rm", "/www/ok"]);
    let after = node.until("it is healthy again", |status| {
        status["verdict"] == "healthy" && status["containers"]["app"]["restarts"] == 1
    });
    assert_eq!(
        after["containers"]["app"]["id"],
        before["containers"]["app"]["id"]
    );
    assert!(node.log().contains("404"), "the reason is in the log");
}

#[test]
fn without_a_bus_it_supervises_all_the_same() {
    let mut node = Node::new("no-bus");
    server(&node);
    node.without_bus();
    node.start();
    eventually("it is well", || node.log().contains("app: Healthy"));
    let id = node.containers(None).remove(0);
    let pid = || node.docker(&["inspect", "--format", "{{.State.Pid}}", &id]);
    let first = pid();
    kill_process(&first.parse::<u32>().expect("a number").into());
    eventually("it runs again", || {
        let now = pid();
        now != first && now != "0"
    });
    assert_eq!(node.run(&["restart"]).code, 5);
    assert_eq!(node.run(&["plan"]).code, 5);
}

#[test]
fn what_people_do_to_a_container_is_mended() {
    let mut node = Node::new("hands");
    server(&node);
    node.start();
    let first = node.healthy();
    let id = node.containers(None).remove(0);
    let other = |key: &'static str, than: &Value| {
        let than = than["containers"]["app"][key].clone();
        move |status: &Value| {
            let now = &status["containers"]["app"][key];
            status["verdict"] == "healthy" && !now.is_null() && *now != than
        }
    };
    node.docker(&["stop", "--time", "0", &id]);
    let second = node.until("it runs again", other("pid", &first));
    assert_eq!(second["containers"]["app"]["id"], id.as_str());
    node.docker(&["rm", "--force", &id]);
    let third = node.until("it is made again", other("id", &second));
    assert_ne!(third["containers"]["app"]["id"], id.as_str());
    assert_eq!(node.containers(None).len(), 1);
}

#[test]
fn a_second_daemon_gives_way() {
    let mut node = Node::new("second");
    server(&node);
    node.start();
    let before = node.healthy();
    let ran = node.run(&["daemon"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let after = node.healthy();
    for key in ["id", "pid", "restarts"] {
        let of = |status: &Value| status["containers"]["app"][key].clone();
        assert_eq!(of(&after), of(&before), "{key}");
    }
    assert_eq!(node.containers(None).len(), 1);
}
