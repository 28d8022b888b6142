//! Every way of asking, and what monopod itself puts into a container.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::node::{ASK, Node, SERVE, build, folder};
use crate::support::IMAGE;

/// Says what a file says, word by word, to `$NOTIFY_SOCKET`, again and again.
pub const SPEAKER: &str = r#"
use std::os::unix::net::UnixDatagram;
fn main() {
    let to = std::env::var("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    loop {
        for line in std::fs::read_to_string("/words/say").unwrap_or_default().lines() {
            let _ = socket.send_to(line.as_bytes(), &to);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
"#;

/// Says READY=1 once, at once, and from then on only that it lives.
const HASTY: &str = r#"
use std::os::unix::net::UnixDatagram;
fn main() {
    let to = std::env::var("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    let _ = socket.send_to(b"READY=1", &to);
    loop {
        let _ = socket.send_to(b"WATCHDOG=1", &to);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
"#;

/// Builds a static program in a folder of the node's.
pub fn program(folder: &Path, source: &str) {
    let file = folder.join("speaker.rs");
    std::fs::write(&file, source).expect("the folder can be written");
    let built = Command::new("rustc")
        .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-o"])
        .args([&folder.join("speaker"), &file])
        .status()
        .expect("rustc is beside cargo");
    assert!(built.success());
}

/// An engine's socket whose answers to a start come late. It ends with the test process.
fn late_to_say_started(engine: &Path, socket: &Path) {
    let listener = UnixListener::bind(socket).expect("the path is free");
    let engine = engine.to_owned();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let engine = engine.clone();
            std::thread::spawn(move || pass_on(client, &engine));
        }
    });
}

fn pass_on(mut client: UnixStream, engine: &Path) -> Option<()> {
    let mut engine = UnixStream::connect(engine).ok()?;
    let mut head = vec![0; 65_536];
    let length = client.read(&mut head).ok()?;
    let line = String::from_utf8_lossy(&head[..length]);
    let is_start = line.lines().next()?.contains("/start");
    engine.write_all(&head[..length]).ok()?;
    let (mut asking, mut asked) = (client.try_clone().ok()?, engine.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
    let length = engine.read(&mut head).ok()?;
    if is_start {
        // The container runs, and nobody has been told yet.
        std::thread::sleep(Duration::from_secs(1));
    }
    client.write_all(&head[..length]).ok()?;
    std::io::copy(&mut engine, &mut client).ok()?;
    let _ = client.shutdown(std::net::Shutdown::Both);
    Some(())
}

#[test]
fn an_app_is_ready_before_the_engine_says_that_it_runs() {
    let mut node = Node::new("hasty");
    let words = folder(&node, "words");
    program(&words, HASTY);
    let socket = node.root.with_file_name("late.sock");
    late_to_say_started(&node.engine.socket, &socket);
    node.use_socket(&socket);
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["/words/speaker"]
        stop_signal = "SIGKILL"
        volumes = ["{}:/words:ro"]
        healthcheck = {{ notify = true, interval = "10s", retries = 1, start_period = "10m" }}"#,
        words.display()
    ));
    node.start();
    node.healthy();
}

#[test]
fn the_image_s_own_question() {
    let mut node = Node::new("own");
    let image = build(
        "own",
        "HEALTHCHECK --interval=200ms --timeout=10s --retries=2 --start-period=1s CMD [\"/bin/busybox\", \"test\", \"-e\", \"/ok\"]\n\
         CMD [\"sh\", \"-c\", \"echo >/ok; exec sleep 100000\"]",
    );
    node.describe(&format!(
        "[containers.app]\nimage = \"{image}\"\nstop_signal = \"SIGKILL\""
    ));
    node.start();
    let before = node.healthy();
    let id = node.containers(None).remove(0);
    let inside = node.docker(&[
        "inspect",
        "--format",
        "{{json .Config.Healthcheck.Test}}",
        &id,
    ]);
    assert_eq!(inside, r#"["NONE"]"#);
    node.docker(&["exec", &id, "busybox", "rm", "/ok"]);
    node.until("it was sick, and is healed", |status| {
        let app = &status["containers"]["app"];
        status["verdict"] == "healthy" && app["pid"] != before["containers"]["app"]["pid"]
    });
    // The next daemon knows the question too, though it did not make the container.
    node.crash();
    node.start();
    let again = node.healthy();
    assert!(!again["containers"]["app"]["last"].is_null(), "{again}");
}

#[test]
fn a_published_port() {
    let mut node = Node::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
    let port = taken.local_addr().expect("it is bound").port();
    node.settings("[escalation]\nbackoff_base = \"200ms\"\nbackoff_max = \"1s\"");
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = {SERVE}
        stop_signal = "SIGKILL"
        ports = ["127.0.0.1:{port}:80"]
        healthcheck = {{ http = "http://127.0.0.1:{port}/ok", body = "ok", status = 200, interval = "300ms", timeout = "5s", start_period = "30s" }}"#
    ));
    node.start();
    node.until("it says that the port is taken", |status| {
        let said = status["containers"]["app"]["note"].as_str();
        said.is_some_and(|said| said.contains(&port.to_string()))
    });
    drop(taken);
    node.healthy();
    assert_eq!(node.containers(None).len(), 1);
}

#[test]
fn an_app_that_speaks_for_itself() {
    let mut node = Node::new("notify");
    let words = folder(&node, "words");
    program(&words, SPEAKER);
    let say = |text: &str| {
        let new = words.join("new");
        std::fs::write(&new, text).expect("the folder can be written");
        std::fs::rename(&new, words.join("say")).expect("the folder can be written");
    };
    say("STATUS=warming up\nWATCHDOG=1");
    node.describe(&format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = ["/words/speaker"]
        stop_signal = "SIGKILL"
        volumes = ["{}:/words:ro"]
        healthcheck = {{ notify = true, interval = "2s", retries = 1, start_period = "10m" }}"#,
        words.display()
    ));
    node.start();
    // Alive is not ready.
    let status = node.until("it runs", |status| {
        status["containers"]["app"]["state"] == "running"
    });
    assert_eq!(status["verdict"], "starting");
    say("READY=1\nWATCHDOG=1\nSTATUS=serving");
    let before = node.healthy();
    // The next daemon's socket is found by the app that runs on.
    node.crash();
    node.start();
    let adopted = node.healthy();
    assert_eq!(
        adopted["containers"]["app"]["pid"],
        before["containers"]["app"]["pid"]
    );
    // Silence is sickness.
    say("");
    node.until("it is restarted", |status| {
        status["containers"]["app"]["restarts"].as_u64() >= Some(1)
    });
    say("READY=1\nWATCHDOG=1");
    node.healthy();
}

#[test]
fn files_and_secrets() {
    let mut node = Node::in_folder("secrets", Path::new("/dev/shm"));
    let secret = node.root.with_file_name("secret");
    std::fs::write(&secret, "open sesame").expect("the folder can be written");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("it is this test's");
    let lines = format!(
        r#"[containers.app]
        image = "{IMAGE}"
        command = {SERVE}
        stop_signal = "SIGKILL"
        healthcheck = {ASK}
        [containers.app.secrets]
        password = {{ file = "{}" }}
        [containers.app.files."/etc/app/app.conf"]
        content = "a line\n"
        mode = "0640""#,
        secret.display()
    );
    node.describe(&lines);
    node.start();
    node.healthy();
    let id = node.containers(None).remove(0);
    let inside = |path: &str| node.docker(&["exec", &id, "cat", path]);
    assert_eq!(inside("/run/secrets/password"), "open sesame");
    assert_eq!(inside("/etc/app/app.conf"), "a line");
    let mode = node.docker(&[
        "exec",
        &id,
        "busybox",
        "stat",
        "-c",
        "%a",
        "/etc/app/app.conf",
    ]);
    assert_eq!(mode, "640");
    let written = node.docker_fails(&["exec", &id, "sh", "-c", "echo x >/run/secrets/password"]);
    assert!(written.contains("Read-only"), "{written}");
    // It is nowhere in what the engine tells.
    assert!(!node.docker(&["inspect", &id]).contains("sesame"));
    assert!(!node.log().contains("sesame"));

    // On a disk no secret is written.
    let mut disk = Node::new("disk");
    disk.describe(&lines);
    disk.start();
    disk.until("it says why", |status| {
        status["containers"]["app"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("tmpfs"))
    });
    let found = disk.root.join("run/monopod/secrets/app/password");
    assert!(!found.exists());
}
