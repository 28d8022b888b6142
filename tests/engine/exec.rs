//! Programs in a container: their answers, and their ends.

use std::time::Duration;

use monopod::core::api::Fault;
use monopod::engine::{Engine, Executed};

use crate::support::{PATIENCE, Place, container, eventually_async, processes_with, words};

async fn running(place: &Place) -> String {
    let id = place.made(&container("app")).await;
    place.docker.start(&id).await.expect("it starts");
    id
}

#[tokio::test]
async fn answers() {
    let place = Place::new("exec");
    let id = running(&place).await;
    let table: [(&[&str], i64, &str); 3] = [
        (&["true"], 0, ""),
        (&["sh", "-c", "echo good; exit 0"], 0, "good\n"),
        (&["sh", "-c", "echo bad >&2; exit 3"], 3, "bad\n"),
    ];
    for (argv, code, output) in table {
        let answer = place.docker.exec(&id, &words(argv), PATIENCE).await;
        let output = output.to_owned();
        assert_eq!(answer, Ok(Executed { code, output }), "{argv:?}");
    }
    let much = words(&["head", "-c", "100000", "/dev/zero"]);
    let answer = place.docker.exec(&id, &much, PATIENCE).await;
    let answer = answer.expect("it ends");
    assert_eq!((answer.code, answer.output.len()), (0, 4096));
    let absent = words(&["/no/such/program"]);
    let answer = place.docker.exec(&id, &absent, PATIENCE).await;
    let failed = match &answer {
        Ok(executed) => executed.code != 0 && executed.code != Executed::CUT_OFF,
        Err(fault) => matches!(fault, Fault::Refused(_)),
    };
    assert!(failed, "{answer:?}");

    place.daemon.docker(&["kill", &id]);
    for id in [id.as_str(), "no-such-container"] {
        let answer = place.docker.exec(id, &words(&["true"]), PATIENCE).await;
        assert!(matches!(answer, Err(Fault::NotFound(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn the_time_is_up() {
    let place = Place::new("cutoff");
    let id = running(&place).await;
    let seconds = format!("{}", 1_000_000 + std::process::id());
    // The children too: a shell's are what usually hangs.
    let line = format!("echo so far; sleep {seconds} & sleep {seconds}; sleep {seconds}");
    let argv = words(&["sh", "-c", &line]);
    // Enough for the engine to begin with it beside all the others.
    let limit = Duration::from_secs(15);
    let answer = place.docker.exec(&id, &argv, limit).await;
    let expected = Executed {
        code: Executed::CUT_OFF,
        output: "so far\n".to_owned(),
    };
    assert_eq!(answer, Ok(expected));
    eventually_async("none is left", || processes_with(&seconds) == 0).await;
    // The container itself has not been hurt.
    let answer = place.docker.exec(&id, &words(&["true"]), PATIENCE).await;
    assert_eq!(answer.map(|answer| answer.code), Ok(0));
}

#[tokio::test]
async fn nobody_waits_any_more() {
    let place = Place::new("dropped");
    let id = running(&place).await;
    let seconds = format!("{}", 2_000_000 + std::process::id());
    let argv = words(&["sleep", &seconds]);
    {
        let exec = place.docker.exec(&id, &argv, PATIENCE);
        let started = eventually_async("it runs", || processes_with(&seconds) > 0);
        tokio::select! {
            answer = exec => panic!("{answer:?}"),
            () = started => {}
        }
    }
    eventually_async("none is left", || processes_with(&seconds) == 0).await;
}
