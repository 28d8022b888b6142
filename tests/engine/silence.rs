//! An engine that is not there, or does not answer.

use std::time::{Duration, Instant};

use futures_util::stream;
use monopod::core::api::Fault;
use monopod::engine::docker::Deadlines;
use monopod::engine::{Docker, Engine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Daemon, PATIENCE, container, words};

/// Far below the usual ones, so that the test is short; and far below what it is held against.
const SHORT: Deadlines = Deadlines {
    short: Duration::from_millis(500),
    long: Duration::from_millis(500),
    images: Duration::from_millis(500),
    stop: Duration::from_millis(500),
    idle: Duration::from_millis(500),
};

#[tokio::test]
async fn not_there() {
    let dir = tempfile::tempdir().expect("the temporary folder can be written");
    let socket = dir.path().join("sock");
    let docker = Docker::connect(&socket);
    let answer = docker.containers("/", None).await;
    let Err(Fault::NoAnswer(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("no such socket"), "{why}");
    // A socket file that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the path is free"));
    let answer = docker.containers("/", None).await;
    let Err(Fault::NoAnswer(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn hung_and_back() {
    let daemon = Daemon::start(false);
    let patient = Docker::connect(&daemon.socket);
    let docker = Docker::with_deadlines(&daemon.socket, SHORT);
    assert!(
        patient
            .version()
            .await
            .is_ok_and(|name| name.starts_with("Docker "))
    );
    let pid = Pid::from_raw(daemon.pid());
    kill(pid, Signal::SIGSTOP).expect("it runs");
    let identity = monopod::engine::Identity {
        node: "/hung".to_owned(),
        workload: "hung".to_owned(),
        hash: String::new(),
        mounts: Vec::new(),
        journal: false,
    };
    let argv = words(&["true"]);
    let spec = container("app");
    let start = Instant::now();
    let faults = [
        docker.version().await.err(),
        docker.containers("/hung", None).await.err(),
        docker.create(&spec, "x", &identity).await.err(),
        docker.start("x").await.err(),
        docker.stop("x", Duration::ZERO).await.err(),
        docker.remove("x").await.err(),
        docker.exec("x", &argv, SHORT.short).await.err(),
        docker.image("x").await.err(),
        docker.images().await.err(),
        docker.tag("x", "y:1").await.err(),
        docker.remove_image("x", false).await.err(),
        docker.load(stream::pending(), || ()).await.err(),
    ];
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    kill(pid, Signal::SIGCONT).expect("it is only stopped");
    for (number, fault) in faults.iter().enumerate() {
        assert!(
            matches!(fault, Some(Fault::NoAnswer(_))),
            "{number}: {fault:?}"
        );
    }
    assert_eq!(patient.containers("/hung", None).await, Ok(vec![]));
    // The load's silence is also noticed behind a connection that was made in time.
    let loading = Docker::with_deadlines(
        &daemon.socket,
        Deadlines {
            idle: SHORT.idle,
            ..Deadlines::default()
        },
    );
    loading.version().await.expect("it is back");
    let answer = loading.load(stream::pending(), || ()).await;
    let Err(Fault::NoAnswer(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("taken nothing"), "{why}");
}
