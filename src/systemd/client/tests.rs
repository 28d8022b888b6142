//! Both sides of the bus, over a real one.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::super::bus::{self, BusError, Request, RequestError};
use super::super::testbus::{TestBus, run};
use super::*;

/// A daemon's loop of a few lines.
struct Daemon {
    state: watch::Sender<Arc<str>>,
    asked: mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<BusError>,
}

impl Daemon {
    fn start(address: &BusAddress, status: &str) -> Self {
        let (state, seen) = watch::channel(Arc::from(status));
        let (requests, mut taken) = mpsc::channel(4);
        let (noted, asked) = mpsc::unbounded_channel();
        spawn_local(async move {
            while let Some(request) = taken.recv().await {
                let _ = noted.send(format!("{request:?}").chars().take(18).collect());
                match request {
                    Request::Plan(reply) => drop(reply.send(Ok("{\"plan\":1}".to_owned()))),
                    Request::Restart(Some(name), reply) if name != "app" => {
                        let text = format!("no container {name}");
                        drop(reply.send(Err(RequestError::NotFound(text))));
                    }
                    Request::Restart(_, reply) => drop(reply.send(Ok(()))),
                    Request::Reload(reply) => {
                        let text = "workload.toml:3:1: no\n  hint: yes".to_owned();
                        drop(reply.send(Err(RequestError::Invalid(text))));
                    }
                    Request::StoreChanged => {}
                }
            }
        });
        let address = address.clone();
        let task = spawn_local(async move { bus::run(&address, seen, requests).await });
        Self { state, asked, task }
    }

    /// Publishes a status.
    fn says(&self, status: &str) {
        self.state.send_replace(Arc::from(status));
    }

    /// Ends it as a killed process ends.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The status, once the daemon is there.
async fn status_at_last(client: &Client) -> String {
    let mut changes = client.changes().await.unwrap();
    match client.status().await {
        Err(ClientError::NoDaemon) => match changes.next().await.unwrap() {
            Change::Status(status) => status,
            Change::Gone => panic!("it went before it came"),
        },
        other => other.unwrap(),
    }
}

#[test]
fn questions_and_answers() {
    let bus = TestBus::start();
    run(async {
        let client = Client::connect(bus.address()).await.unwrap();
        assert_eq!(client.status().await, Err(ClientError::NoDaemon));
        assert_eq!(client.restart(None).await, Err(ClientError::NoDaemon));
        let mut daemon = Daemon::start(bus.address(), "{\"n\":1}");
        assert_eq!(status_at_last(&client).await, "{\"n\":1}");
        daemon.says("{\"n\":2}");
        assert_eq!(client.status().await.unwrap(), "{\"n\":2}");
        assert_eq!(
            client.version().await.unwrap(),
            env!("CARGO_PKG_VERSION").to_owned()
        );
        assert_eq!(client.plan().await.unwrap(), "{\"plan\":1}");
        client.restart(None).await.unwrap();
        client.restart(Some("app")).await.unwrap();
        assert_eq!(
            client.restart(Some("apq")).await,
            Err(ClientError::Refused(
                Refusal::NotFound,
                "no container apq".to_owned()
            ))
        );
        assert_eq!(
            client.reload().await,
            Err(ClientError::Refused(
                Refusal::Invalid,
                "workload.toml:3:1: no\n  hint: yes".to_owned()
            ))
        );
        client.store_changed().await.unwrap();
        for beginning in [
            "Plan(",
            "Restart(None",
            "Restart(Some(\"app\"",
            "Restart(Some(\"apq\"",
            "Reload(",
            "StoreChanged",
        ] {
            let asked = daemon.asked.recv().await.unwrap();
            assert!(asked.starts_with(beginning), "{asked}");
        }
        daemon.end().await;
    });
}

#[test]
fn a_daemon_that_drops_a_request_has_said_no() {
    let bus = TestBus::start();
    run(async {
        let (_state, seen) = watch::channel(Arc::from("{}"));
        let (requests, mut taken) = mpsc::channel(1);
        let _connection = bus::serve(bus.address(), seen, requests).await.unwrap();
        let client = Client::connect(bus.address()).await.unwrap();
        let ending = Err(ClientError::Refused(
            Refusal::Failed,
            "the daemon is ending".to_owned(),
        ));
        let (answer, ()) = tokio::join!(client.reload(), async { drop(taken.recv().await) });
        assert_eq!(answer, ending);
        drop(taken);
        assert_eq!(client.reload().await, ending);
        assert_eq!(client.store_changed().await, ending);
    });
}

#[test]
fn changes_are_signalled_once_each_and_the_last_always() {
    let bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "0");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let mut changes = client.changes().await.unwrap();
        // The first goes out at once; what follows within the pace is one signal, of the last.
        daemon.says("1");
        assert_eq!(changes.next().await, Some(Change::Status("1".to_owned())));
        for text in ["2", "3", "4"] {
            daemon.says(text);
        }
        assert_eq!(changes.next().await, Some(Change::Status("4".to_owned())));
        // The same again is no change.
        daemon.says("4");
        daemon.says("5");
        assert_eq!(changes.next().await, Some(Change::Status("5".to_owned())));
        daemon.end().await;
        assert_eq!(changes.next().await, Some(Change::Gone));
        let next = Daemon::start(bus.address(), "6");
        assert_eq!(changes.next().await, Some(Change::Status("6".to_owned())));
        next.end().await;
    });
}

#[test]
fn a_second_daemon_is_turned_away() {
    let bus = TestBus::start();
    run(async {
        let first = Daemon::start(bus.address(), "first");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let second = Daemon::start(bus.address(), "second");
        let error = second.task.await.unwrap();
        assert!(matches!(error, BusError::NameTaken), "{error}");
        assert!(error.to_string().contains("another monopod daemon runs"));
        assert_eq!(client.status().await.unwrap(), "first");
        first.end().await;
    });
}

#[test]
fn the_daemon_outlives_the_bus_and_comes_back() {
    let mut bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "here");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let mut changes = client.changes().await.unwrap();
        bus.stop();
        assert_eq!(changes.next().await, None);
        assert!(matches!(
            client.status().await.unwrap_err(),
            ClientError::Other(_) | ClientError::NoDaemon
        ));
        assert!(matches!(
            Client::connect(bus.address()).await.unwrap_err(),
            ClientError::NoBus(..)
        ));
        bus.start_again();
        let client = Client::connect(bus.address()).await.unwrap();
        assert_eq!(status_at_last(&client).await, "here");
        daemon.end().await;
    });
}

#[test]
fn a_bus_that_comes_late_is_found() {
    let mut bus = TestBus::start();
    bus.stop();
    run(async {
        let daemon = Daemon::start(bus.address(), "late");
        // The first attempt, which fails.
        tokio::task::yield_now().await;
        bus.start_again();
        let client = Client::connect(bus.address()).await.unwrap();
        assert_eq!(status_at_last(&client).await, "late");
        daemon.end().await;
    });
}

/// `dbus-send` to the daemon, as the user `uid`.
fn send_as(uid: u32, address: &BusAddress, rest: &[&str]) -> Output {
    Command::new("dbus-send")
        .arg(format!("--bus={address}"))
        .args(["--print-reply=literal", "--dest=org.monopod.Supervisor1"])
        .arg("/org/monopod/Supervisor1")
        .args(rest)
        .uid(uid)
        .output()
        .expect("the package dbus-bin is installed")
}

/// Every user may look; only root may act. `bus` may or may not have the policy.
fn guarded(bus: &TestBus) {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another user needs root");
        return;
    }
    run(async {
        let mut daemon = Daemon::start(bus.address(), "{\"n\":1}");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let table: &[(&[&str], Result<&str, &str>)] = &[
            (&["org.monopod.Supervisor1.GetStatus"], Ok("{\"n\":1}")),
            (
                &[
                    "org.freedesktop.DBus.Properties.Get",
                    "string:org.monopod.Supervisor1",
                    "string:Version",
                ],
                Ok(env!("CARGO_PKG_VERSION")),
            ),
            (
                &["org.freedesktop.DBus.Introspectable.Introspect"],
                Ok("StatusChanged"),
            ),
            (&["org.monopod.Supervisor1.Plan"], Err("AccessDenied")),
            (&["org.monopod.Supervisor1.Reload"], Err("AccessDenied")),
            (
                &["org.monopod.Supervisor1.StoreChanged"],
                Err("AccessDenied"),
            ),
            (
                &["org.monopod.Supervisor1.Restart", "string:"],
                Err("AccessDenied"),
            ),
        ];
        for (call, expected) in table {
            let address = bus.address().clone();
            let call: Vec<_> = call.to_vec();
            let output = tokio::task::spawn_blocking(move || send_as(NOBODY, &address, &call))
                .await
                .unwrap();
            let (text, expected) = match expected {
                Ok(text) => (&output.stdout, text),
                Err(text) => (&output.stderr, text),
            };
            let text = String::from_utf8_lossy(text);
            assert!(text.contains(expected), "{output:?}");
        }
        assert!(daemon.asked.try_recv().is_err());
        // Root may.
        client.restart(None).await.unwrap();
        daemon.end().await;
    });
}

#[test]
fn only_root_acts_on_a_bus_without_a_policy() {
    guarded(&TestBus::start());
}

/// What the system's bus allows before any policy file: to be there, to answer, to signal.
const CLOSED: &str = "<policy context=\"default\"><allow user=\"*\"/><deny own=\"*\"/>\
    <deny send_type=\"method_call\"/><allow send_type=\"signal\"/>\
    <allow send_requested_reply=\"true\" send_type=\"method_return\"/>\
    <allow send_requested_reply=\"true\" send_type=\"error\"/>\
    <allow receive_type=\"method_call\"/><allow receive_type=\"method_return\"/>\
    <allow receive_type=\"error\"/><allow receive_type=\"signal\"/>\
    <allow send_destination=\"org.freedesktop.DBus\"/></policy>";

/// The policy file that is installed, on a bus that is as closed as the system's.
#[test]
fn the_policy_lets_all_read_and_root_act() {
    let policy = include_str!("../../../units/org.monopod.Supervisor1.conf");
    let inner = policy
        .split_once("<busconfig>")
        .and_then(|(_, rest)| rest.split_once("</busconfig>"))
        .unwrap()
        .0;
    guarded(&TestBus::with_policy(&format!("{CLOSED}{inner}")));
    // Without it, nobody owns the name.
    run(async {
        let (_state, seen) = watch::channel(Arc::from("{}"));
        let (requests, _taken) = mpsc::channel(1);
        let closed = TestBus::with_policy(CLOSED);
        let error = bus::serve(closed.address(), seen, requests)
            .await
            .unwrap_err();
        assert!(matches!(error, BusError::Forbidden), "{error}");
        assert!(error.to_string().contains("org.monopod.Supervisor1.conf"));
    });
}
