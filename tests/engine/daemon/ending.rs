//! The daemon ends as it was told; the engine hangs.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{ASK, Node, SERVE, kill_process};
use crate::support::{Daemon as Engine, IMAGE, eventually};

#[test]
fn told_to_end_it_stops_the_containers() {
    let mut node = Node::new("term");
    node.describe(&format!(
        r#"[containers.polite]
        image = "{IMAGE}"
        command = ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"]
        stop_grace_period = "10m"
        depends_on = ["stubborn"]
        [containers.stubborn]
        image = "{IMAGE}"
        command = ["sleep", "100000"]
        stop_grace_period = "1s""#
    ));
    node.start();
    node.healthy();
    let began = Instant::now();
    node.signal(Signal::SIGTERM);
    assert!(node.ended().success());
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the grace period was not kept"
    );
    for (role, code) in [("polite", "5"), ("stubborn", "137")] {
        let ids = node.containers(Some(role));
        assert_eq!(ids.len(), 1);
        let state = node.docker(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            &ids[0],
        ]);
        assert_eq!(state, format!("exited {code}"), "{role}");
    }
    // The next one starts them again.
    let before = node.containers(None);
    node.start();
    node.healthy();
    assert_eq!(node.containers(None), before);
}

#[test]
fn a_hanging_engine_hides_no_death() {
    let engine = Engine::start(true);
    engine.build(IMAGE, r#"CMD ["sleep", "100000"]"#, &[]);
    let mut node = Node::new("hang");
    node.use_socket(&engine.socket);
    node.describe(&format!(
        "[containers.app]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nhealthcheck = {ASK}"
    ));
    node.start();
    let before = node.healthy();
    let dockerd = Pid::from_raw(engine.pid());
    kill(dockerd, Signal::SIGSTOP).expect("it runs");
    kill_process(&before["containers"]["app"]["pid"]);
    let hung = node.until("the death is noticed without the engine", |status| {
        status["verdict"] == "unhealthy"
    });
    assert_eq!(
        hung["containers"]["app"]["id"],
        before["containers"]["app"]["id"]
    );
    node.until("the silence is noticed", |status| {
        status["engine"] == "silent"
    });
    let shown = node.run(&["status"]);
    assert!(
        shown.stdout.contains("engine: does not answer"),
        "{shown:?}"
    );
    assert_eq!(node.run(&["images", "prune"]).code, 5);
    kill(dockerd, Signal::SIGCONT).expect("it is only stopped");
    let after = node.healthy();
    assert_eq!(
        after["containers"]["app"]["id"],
        before["containers"]["app"]["id"]
    );
    assert_eq!(after["engine"], "answers");
    eventually("there is one container", || {
        node.containers(None).len() == 1
    });
}

#[test]
fn what_is_not_its_own_stays() {
    let mut node = Node::new("stranger");
    node.describe(&format!(
        "[containers.app]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nhealthcheck = {ASK}"
    ));
    node.start();
    node.healthy();
    let name = node.docker(&[
        "inspect",
        "--format",
        "{{.Name}}",
        &node.containers(None)[0],
    ]);
    node.signal(Signal::SIGTERM);
    assert!(node.ended().success());
    node.docker(&["rm", "--force", name.trim_start_matches('/')]);
    // Somebody has taken the name.
    let stranger = node.docker(&["create", "--name", name.trim_start_matches('/'), IMAGE]);
    node.start();
    let status = node.until("the name is found taken", |status| {
        let app = &status["containers"]["app"];
        app["note"]
            .as_str()
            .is_some_and(|note| note.contains(name.trim_start_matches('/')))
    });
    assert_ne!(status["verdict"], "healthy");
    assert!(node.containers(None).is_empty());
    node.docker(&["rm", &stranger]);
    node.healthy();
}
