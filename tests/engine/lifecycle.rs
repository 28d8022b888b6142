//! Start, stop, remove: each may be asked twice.

use std::time::Duration;

use monopod::core::api::{Fault, Running, SeenState};
use monopod::engine::Engine;
use monopod::spec::types::{Container, Role};

use crate::support::{IMAGE, Place, container, eventually_async, words};

#[tokio::test]
async fn the_whole_life() {
    let place = Place::new("life");
    let spec = Container {
        // PID 1 has no default action for SIGTERM; so it is killed at once.
        stop_signal: Some("SIGKILL".to_owned()),
        ..container("app")
    };
    let id = place.made(&spec).await;
    let state = async || {
        let seen = place.docker.containers(&place.node, None).await;
        let mut seen = seen.expect("it answers");
        assert_eq!(seen.len(), 1);
        let one = seen.remove(0);
        assert_eq!(one.role, Role::new("app"));
        assert_eq!(
            (one.id.as_str(), one.hash.as_str()),
            (id.as_str(), "hash-1")
        );
        let image = place.docker.image(IMAGE).await.expect("it answers");
        assert_eq!(Some(one.image_id), image.map(|image| image.id));
        one.state
    };
    assert_eq!(state().await, SeenState::Created);
    let running = place.docker.start(&id).await.expect("it starts");
    assert!(running.pid > 1);
    assert_eq!(place.docker.start(&id).await, Ok(running.clone()));
    assert_eq!(state().await, SeenState::Running(running.clone()));
    place.daemon.docker(&["pause", &id]);
    assert_eq!(state().await, SeenState::Running(running));
    place.daemon.docker(&["unpause", &id]);

    let early = place.docker.remove(&id).await;
    assert!(matches!(early, Err(Fault::Refused(_))), "{early:?}");
    let grace = Duration::from_secs(5);
    for _ in 0..2 {
        assert_eq!(place.docker.stop(&id, grace).await, Ok(()));
        assert_eq!(state().await, SeenState::Exited { code: 137 });
    }
    for _ in 0..2 {
        assert_eq!(place.docker.remove(&id).await, Ok(()));
    }
    assert_eq!(place.docker.stop(&id, grace).await, Ok(()));
    assert_eq!(place.docker.containers(&place.node, None).await, Ok(vec![]));
    let gone = place.docker.start(&id).await;
    assert!(matches!(gone, Err(Fault::NotFound(_))), "{gone:?}");
}

#[tokio::test]
async fn an_end_is_seen_with_its_code() {
    let place = Place::new("end");
    let spec = Container {
        command: Some(words(&["sh", "-c", "exit 42"])),
        ..container("app")
    };
    let id = place.made(&spec).await;
    let started = place.docker.start(&id).await.expect("it starts");
    let ended = Running {
        pid: 0,
        address: None,
    };
    assert!(started == ended || started.pid > 1, "{started:?}");
    let witness = ["inspect", "--format", "{{.State.Status}}", &id];
    eventually_async("it has ended", || place.daemon.docker(&witness) == "exited").await;
    let seen = place.docker.containers(&place.node, None).await;
    let states: Vec<_> = seen
        .expect("it answers")
        .into_iter()
        .map(|one| one.state)
        .collect();
    assert_eq!(states, [SeenState::Exited { code: 42 }]);
}

#[tokio::test]
async fn what_cannot_start_is_refused() {
    let place = Place::new("nostart");
    let spec = Container {
        command: Some(words(&["/no/such/program"])),
        ..container("app")
    };
    let id = place.made(&spec).await;
    let answer = place.docker.start(&id).await;
    let Err(Fault::Refused(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("/no/such/program"), "{why}");
}
