//! Answers that a real Docker cannot be made to give: Podman's, and ones cut short.

use std::path::Path;
use std::time::Duration;

use monopod::core::api::{Fault, SeenState};
use monopod::engine::{Docker, Engine, Executed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// Answers each request by the first line of the script whose path is part of the request's.
fn serve(socket: &Path, script: Vec<(&'static str, u16, String)>) {
    let listener = UnixListener::bind(socket).expect("the path is free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read_buf(&mut head).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            if head.is_empty() {
                // Whoever connected thought better of it.
                continue;
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let line = script.iter().find(|(part, _, _)| path.contains(part));
            let (_, status, body) = line.unwrap_or_else(|| panic!("nothing to say to {head}"));
            // A length of one more than there is cuts a body short.
            let length = body.len() + usize::from(body.ends_with('~'));
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            // Whoever asked may have given up.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

fn version() -> (&'static str, u16, String) {
    let text = r#"{"ApiVersion": "1.41", "Version": "4.3.1", "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}]}"#;
    ("/version", 200, text.to_owned())
}

#[tokio::test]
async fn podmans_passing_state_is_an_exit() {
    let dir = tempfile::tempdir().expect("the temporary folder can be written");
    let socket = dir.path().join("sock");
    let bare = "ab".repeat(32);
    let labels = r#"{"org.monopod.node": "/", "org.monopod.role": "app", "org.monopod.spec": "h"}"#;
    let list = format!(
        r#"[{{"Id": "one", "ImageID": "{bare}", "Labels": {labels}, "State": "exited", "Status": "Exited (9) 1 second ago"}},
            {{"Id": "two", "Labels": {labels}}}]"#
    );
    serve(
        &socket,
        vec![
            version(),
            ("/containers/json", 200, list),
            (
                "/containers/one/json",
                200,
                r#"{"Id": "one", "State": {"Status": "stopped"}}"#.to_owned(),
            ),
            (
                "/containers/two/json",
                404,
                r#"{"message": "no such container"}"#.to_owned(),
            ),
        ],
    );
    let docker = Docker::connect(&socket);
    assert_eq!(docker.version().await.as_deref(), Ok("Podman 4.3.1"));
    let seen = docker.containers("/", None).await.expect("it answers");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].id, "one");
    assert_eq!(seen[0].hash, "h");
    assert_eq!(seen[0].image_id, format!("sha256:{bare}"));
    assert_eq!(seen[0].state, SeenState::Exited { code: 9 });
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_none() {
    let dir = tempfile::tempdir().expect("the temporary folder can be written");
    let socket = dir.path().join("sock");
    serve(
        &socket,
        vec![version(), ("/containers/json", 200, "[]~".to_owned())],
    );
    let answer = Docker::connect(&socket).containers("/", None).await;
    assert!(matches!(answer, Err(Fault::NoAnswer(_))), "{answer:?}");
}

#[tokio::test]
async fn containerds_image_store_is_known() {
    for (kind, expected) in [
        (r#"["driver-type", "io.containerd.snapshotter.v1"]"#, true),
        (r#"["Backing Filesystem", "extfs"]"#, false),
    ] {
        let dir = tempfile::tempdir().expect("the temporary folder can be written");
        let socket = dir.path().join("sock");
        let info = format!(r#"{{"DriverStatus": [{kind}]}}"#);
        serve(&socket, vec![version(), ("/info", 200, info)]);
        let answer = Docker::connect(&socket)
            .info()
            .await
            .map(|info| info.containerd_images);
        assert_eq!(answer, Ok(expected));
    }
}

/// A program that nobody may kill, as all of them are for a daemon that is not root.
#[tokio::test]
async fn a_program_that_was_left_alone_has_no_company() {
    let dir = tempfile::tempdir().expect("the temporary folder can be written");
    let socket = dir.path().join("sock");
    let state = |running| {
        let pid = i32::MAX;
        format!(r#"{{"ID": "x", "Running": {running}, "ContainerID": "one", "Pid": {pid}}}"#)
    };
    let inspect = |id| format!(r#"{{"Id": "{id}", "State": {{"Status": "running", "Pid": 1}}}}"#);
    serve(
        &socket,
        vec![
            version(),
            ("/containers/one/exec", 201, r#"{"Id": "x"}"#.to_owned()),
            ("/containers/two/exec", 201, r#"{"Id": "y"}"#.to_owned()),
            ("/exec/x/start", 101, String::new()),
            ("/exec/y/start", 101, String::new()),
            ("/exec/x/json", 200, state(true)),
            (
                "/exec/y/json",
                200,
                state(false).replace('}', r#", "ExitCode": 7}"#),
            ),
            ("/containers/one/json", 200, inspect("one")),
        ],
    );
    let docker = Docker::connect(&socket);
    let run = async |container, limit| {
        let argv = ["true".to_owned()];
        docker.exec(container, &argv, limit).await
    };
    let cut_off = |output: &str| {
        Ok(Executed {
            code: Executed::CUT_OFF,
            output: output.to_owned(),
        })
    };
    // Reached in any case, and not before the program is there.
    let short = Duration::from_secs(3);
    let long = Duration::from_secs(60);
    assert_eq!(run("one", short).await, cut_off(""));
    // With a limit that would not be reached: the answer is there at once.
    let still = "the program of an earlier time still runs";
    assert_eq!(run("one", long).await, cut_off(still));
    assert_eq!(run("two", long).await.map(|ran| ran.code), Ok(7));
}
