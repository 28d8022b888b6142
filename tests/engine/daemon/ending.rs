//! The daemon ends as it was told; the engine hangs, ends, or is late.

use std::path::PathBuf;
use std::process::Command;
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

#[test]
fn an_engine_that_is_late() {
    let mut node = Node::new("late-engine");
    let shared = node.engine.socket.clone();
    let late = node.root.with_file_name("engine");
    node.use_socket(&late);
    node.describe(&format!(
        "[containers.app]\nimage = \"{IMAGE}\"\ncommand = {SERVE}\nhealthcheck = {ASK}"
    ));
    node.start();
    let status = node.until("the silence is noticed", |status| {
        status["engine"] == "silent"
    });
    assert_eq!(status["verdict"], "unknown");
    assert_eq!(node.run(&["status"]).code, 6);
    std::os::unix::fs::symlink(shared, late).expect("the name is free");
    let status = node.healthy();
    assert_eq!(status["engine"], "answers");
    assert_eq!(status["containers"]["app"]["restarts"], 0);
}

/// A dockerd that can be started again on the same data.
struct Own(PathBuf);

impl Own {
    fn script(&self, verb: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lib/dockerd");
        let ran = Command::new(script).arg(verb).arg(&self.0).output();
        let ran = ran.expect("there is a bash");
        assert!(ran.status.success(), "{ran:?}");
    }

    fn pid(&self) -> Pid {
        let text = std::fs::read_to_string(self.0.join("docker.pid")).expect("it runs");
        Pid::from_raw(text.trim().parse().expect("a pidfile holds a number"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.script("stop");
    }
}

#[test]
fn an_engine_that_is_started_again() {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let engine = Own(folder.path().join("e"));
    engine.script("second");
    let socket = engine.0.join("docker.sock");
    let mut node = Node::new("engine-again");
    node.use_socket(&socket);
    let (image, file) = crate::node::example_archive(&node, "again");
    node.must(&["import", &file.display().to_string()]);
    node.describe(&format!(
        "[containers.app]\nimage = \"{image}\"\nhealthcheck = {{ http = \":80/\", interval = \"300ms\", timeout = \"5s\", start_period = \"30s\" }}"
    ));
    node.start();
    let before = node.healthy();
    // It takes its containers along.
    let pid = engine.pid();
    kill(pid, Signal::SIGTERM).expect("it runs");
    eventually("the engine has ended", || kill(pid, None).is_err());
    node.until("the end is noticed", |status| {
        status["engine"] == "silent" && status["verdict"] != "healthy"
    });
    engine.script("second");
    let after = node.healthy();
    assert_eq!(
        after["containers"]["app"]["id"],
        before["containers"]["app"]["id"]
    );
    assert_ne!(
        after["containers"]["app"]["pid"],
        before["containers"]["app"]["pid"]
    );
    assert_eq!(node.containers(None).len(), 1);
}
