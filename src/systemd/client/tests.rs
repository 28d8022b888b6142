//! Both sides of the bus, over a real one.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::names::InterfaceName;

use super::super::bus::{self, BusError, ReleaseAsk, Request, RequestError};
use super::super::journal;
use super::super::testbus::{TestBus, run};
use super::*;
use crate::core::api::{Report, ReportKind};
use crate::core::health::Verdict;
use crate::core::update::{ReleaseId, Wish};
use crate::daemon::Status;
use crate::spec::types::Role;

/// A status of two containers, with this line.
fn status(line: &str) -> Status {
    let container = r#"{"id":null,"state":"running","verdict":"healthy","since":"2026-11-22T15:04:05Z",
        "restarts":2,"image":"example/app:1","image_id":"sha256:ab","pid":77,"note":null,"next":null,
        "last":{"time":"2026-11-22T15:05:05Z","answer":"pass","text":"status 200"}}"#;
    let text = format!(
        r#"{{"workload":"gateway","release":"0123456789ab","verdict":"healthy","ladder":"foot","withheld":1,
        "line":"","engine":"answers","deadline":null,"containers":{{"app":{container},"my-broker":{container}}}}}"#
    );
    let mut status: Status = serde_json::from_str(&text).unwrap();
    status.line = line.to_owned();
    status
}

/// The line of a status that came over the bus.
fn line(json: &str) -> String {
    serde_json::from_str::<Status>(json).unwrap().line
}

/// A daemon's loop of a few lines.
struct Daemon {
    state: watch::Sender<Arc<Status>>,
    transitions: mpsc::Sender<Report>,
    asked: mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<BusError>,
}

impl Daemon {
    fn start(address: &BusAddress, line: &str) -> Self {
        let (state, seen) = watch::channel(Arc::new(status(line)));
        let (transitions, told) = mpsc::channel(64);
        let (requests, mut taken) = mpsc::channel(4);
        let (noted, asked) = mpsc::unbounded_channel();
        spawn_local(async move {
            while let Some(request) = taken.recv().await {
                if matches!(request, Request::Heard) {
                    continue;
                }
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
                    Request::StoreChanged | Request::Medium(_) | Request::Heard => {}
                    Request::Release(ReleaseAsk::RollBack, reply) => {
                        let text = "there is no release before".to_owned();
                        drop(reply.send(Err(RequestError::Refused(text))));
                    }
                    Request::Release(ask, reply) => drop(reply.send(Ok(format!("{ask:?}")))),
                }
            }
        });
        let address = address.clone();
        let task = spawn_local(async move { bus::run(&address, seen, told, requests).await });
        Self {
            state,
            transitions,
            asked,
            task,
        }
    }

    /// Publishes a status with this line.
    fn says(&self, line: &str) {
        self.state.send_replace(Arc::new(status(line)));
    }

    /// Reports a transition of a container.
    fn reports(&self, role: Option<&str>, text: &str) {
        let report = Report {
            role: role.map(Role::new),
            kind: ReportKind::WatchdogWithheld,
            text: text.to_owned(),
        };
        self.transitions.try_send(report).unwrap();
    }

    /// Ends it as a killed process ends.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The status's line, once the daemon is there.
async fn status_at_last(client: &Client) -> String {
    let mut changes = client.changes().await.unwrap();
    match client.status().await {
        Err(ClientError::NoDaemon) => next_line(&mut changes).await.expect("it came"),
        other => line(&other.unwrap()),
    }
}

/// The next status's line; `None` if the daemon has gone.
async fn next_line(changes: &mut Changes) -> Option<String> {
    match changes.next().await.expect("the bus is there") {
        Change::Status(status) => Some(line(&status)),
        Change::Gone => None,
    }
}

#[test]
fn questions_and_answers() {
    let bus = TestBus::start();
    run(async {
        let client = Client::connect(bus.address()).await.unwrap();
        assert_eq!(client.status().await, Err(ClientError::NoDaemon));
        assert_eq!(client.restart(None).await, Err(ClientError::NoDaemon));
        let mut daemon = Daemon::start(bus.address(), "one");
        assert_eq!(status_at_last(&client).await, "one");
        daemon.says("two");
        assert_eq!(line(&client.status().await.unwrap()), "two");
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
        client.medium_result("well\u{1b}[2J\nPRIO").await.unwrap();
        for beginning in [
            "Plan(",
            "Restart(None",
            "Restart(Some(\"app\"",
            "Restart(Some(\"apq\"",
            "Reload(",
            "StoreChanged",
            // A stick's words bring no control characters along.
            "Medium(\"well",
        ] {
            let asked = daemon.asked.recv().await.unwrap();
            assert!(asked.starts_with(beginning), "{asked}");
        }
        daemon.end().await;
    });
}

#[test]
fn what_is_asked_about_releases_arrives_as_it_was_asked() {
    let bus = TestBus::start();
    run(async {
        let client = Client::connect(bus.address()).await.unwrap();
        let daemon = Daemon::start(bus.address(), "one");
        status_at_last(&client).await;
        let id = || ReleaseId::new("0123456789ab").unwrap();
        let offer = |wish, downgrade| ReleaseAsk::Offer {
            id: id(),
            wish,
            downgrade,
        };
        let activate = |id, force| ReleaseAsk::Activate { id, force };
        for ask in [
            offer(Wish::Take, false),
            offer(Wish::Take, true),
            offer(Wish::Stage, false),
            offer(Wish::Activate { force: false }, true),
            offer(Wish::Activate { force: true }, false),
            activate(None, false),
            activate(Some(id()), false),
            activate(Some(id()), true),
            ReleaseAsk::Retry(id()),
            ReleaseAsk::Hold(true),
            ReleaseAsk::Hold(false),
            ReleaseAsk::Pin(id(), true),
            ReleaseAsk::Pin(id(), false),
        ] {
            assert_eq!(client.release(&ask).await, Ok(format!("{ask:?}")));
        }
        assert_eq!(
            client.release(&ReleaseAsk::RollBack).await,
            Err(ClientError::Refused(
                Refusal::Refused,
                "there is no release before".to_owned()
            ))
        );
        // What is no id, or no wish, never gets to the daemon.
        for id in ["", "0123456789AB", "../456789abc"] {
            let answer = client.proxy.retry_release(id).await;
            let error = ClientError::from(answer.unwrap_err());
            assert!(
                matches!(error, ClientError::Refused(Refusal::NotFound, _)),
                "{error}"
            );
        }
        let answer = client
            .proxy
            .offer_release("0123456789ab", "later", false)
            .await;
        let error = ClientError::from(answer.unwrap_err()).to_string();
        assert!(
            error.contains("take, stage, activate, activate-now"),
            "{error}"
        );
        daemon.end().await;
    });
}

#[test]
fn a_daemon_that_drops_a_request_has_said_no() {
    let bus = TestBus::start();
    run(async {
        let (_state, seen) = watch::channel(Arc::new(status("")));
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
        assert_eq!(next_line(&mut changes).await.as_deref(), Some("1"));
        for text in ["2", "3", "4"] {
            daemon.says(text);
        }
        assert_eq!(next_line(&mut changes).await.as_deref(), Some("4"));
        // The same again is no change.
        daemon.says("4");
        daemon.says("5");
        assert_eq!(next_line(&mut changes).await.as_deref(), Some("5"));
        daemon.end().await;
        assert_eq!(next_line(&mut changes).await, None);
        let next = Daemon::start(bus.address(), "6");
        assert_eq!(next_line(&mut changes).await.as_deref(), Some("6"));
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
        assert_eq!(line(&client.status().await.unwrap()), "first");
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

/// The properties that say that their changes are signalled, by interface, from the introspection.
fn signalled(xml: &str, interface: &str) -> Vec<String> {
    let (_, rest) = xml
        .split_once(&format!("<interface name=\"{interface}\">"))
        .unwrap();
    let (body, _) = rest.split_once("</interface>").unwrap();
    let mut names = Vec::new();
    for property in body.split("<property ").skip(1) {
        let name = property.split('"').nth(1).unwrap();
        let quiet = property
            .split("</property>")
            .next()
            .is_some_and(|inner| inner.contains("EmitsChangedSignal"));
        if !quiet {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names
}

async fn introspected(client: &Client, path: &str) -> String {
    let connection = client.proxy.inner().connection();
    let proxy = fdo::IntrospectableProxy::builder(connection)
        .destination(bus::NAME)
        .path(path)
        .build()
        .await
        .unwrap();
    proxy.introspect().await.unwrap()
}

async fn properties(client: &Client, path: &'static str) -> PropertiesProxy<'static> {
    PropertiesProxy::builder(client.proxy.inner().connection())
        .destination(bus::NAME)
        .path(path)
        .build()
        .await
        .unwrap()
}

const APP: &str = "/org/monopod/Supervisor1/container/app";
const BROKER: &str = "/org/monopod/Supervisor1/container/my_2dbroker";

#[test]
fn introspection_explains_itself() {
    let bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        for (path, interface, members) in [
            (bus::PATH, bus::NAME, 9),
            (APP, "org.monopod.Container1", 8),
        ] {
            let xml = introspected(&client, path).await;
            let (_, ours) = xml
                .split_once(&format!("<interface name=\"{interface}\">"))
                .unwrap();
            let (ours, _) = ours.split_once("</interface>").unwrap();
            for argument in ours.split("<arg ").skip(1) {
                assert!(argument.starts_with("name=\""), "{argument}");
            }
            assert_eq!(signalled(&xml, interface).len(), members, "{xml}");
        }
        let xml = introspected(&client, bus::PATH).await;
        for text in [
            "name=\"container\" type=\"s\"",
            "name=\"status_json\"",
            "name=\"steps_json\"",
            "name=\"message_id\"",
            "<interface name=\"org.freedesktop.DBus.ObjectManager\">",
            "<node name=\"container\"",
        ] {
            assert!(xml.contains(text), "{text}: {xml}");
        }
        daemon.end().await;
    });
}

/// What is signalled as changed is what a question then brings, for every property.
#[test]
fn every_property_tells_of_its_change_and_of_nothing_else() {
    let bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let mut all = status("another");
        all.workload = "other".to_owned();
        all.release = None;
        all.verdict = Verdict::Unhealthy;
        all.ladder = "safe-state".to_owned();
        all.withheld = 3;
        all.engine = crate::daemon::EngineStatus::Silent;
        all.reload_error = Some("no".to_owned());
        all.containers.remove(&Role::new("my-broker"));
        let app = all.containers.get_mut(&Role::new("app")).unwrap();
        app.id = Some("ff".to_owned());
        app.state = "exited".to_owned();
        app.verdict = Verdict::Unknown;
        app.restarts = 3;
        app.image = "example/app:2".to_owned();
        app.image_id = None;
        app.pid = None;
        app.note = Some("why".to_owned());
        // Changes at every probe, and is not signalled.
        app.last = None;
        let objects = [(bus::PATH, bus::NAME), (APP, "org.monopod.Container1")];
        let mut streams = Vec::new();
        for (path, interface) in objects {
            let proxy = properties(&client, path).await;
            let stream = proxy.receive_properties_changed().await.unwrap();
            streams.push((path, interface, proxy, stream));
        }
        daemon.state.send_replace(Arc::new(all.clone()));
        for (path, interface, proxy, stream) in &mut streams {
            let signal = stream.next().await.unwrap();
            let args = signal.args().unwrap();
            assert_eq!(args.interface_name.as_str(), *interface);
            let mut names: Vec<_> = args
                .changed_properties
                .keys()
                .map(ToString::to_string)
                .collect();
            names.sort();
            let xml = introspected(&client, path).await;
            assert_eq!(
                names,
                signalled(&xml, interface),
                "all of them, and no other"
            );
            let name = InterfaceName::from_static_str(interface).unwrap();
            let asked = proxy.get_all(name).await.unwrap();
            for (name, value) in &args.changed_properties {
                assert_eq!(*asked[*name], *value, "{name}");
            }
        }
        // One alone comes alone.
        all.withheld = 4;
        daemon.state.send_replace(Arc::new(all.clone()));
        let signal = streams[0].3.next().await.unwrap();
        let args = signal.args().unwrap();
        let names: Vec<_> = args.changed_properties.keys().copied().collect();
        assert_eq!(names, ["Withheld"]);
        // A probe's answer alone is no change of a property; what comes next is the next one's.
        all.containers.get_mut(&Role::new("app")).unwrap().since = "later".to_owned();
        daemon.state.send_replace(Arc::new(all.clone()));
        all.containers.get_mut(&Role::new("app")).unwrap().restarts = 4;
        daemon.state.send_replace(Arc::new(all));
        let signal = streams[1].3.next().await.unwrap();
        let args = signal.args().unwrap();
        let names: Vec<_> = args.changed_properties.keys().copied().collect();
        assert_eq!(names, ["Restarts"]);
        daemon.end().await;
    });
}

#[test]
fn containers_come_and_go_as_objects() {
    let bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let manager = ObjectManagerProxy::builder(client.proxy.inner().connection())
            .destination(bus::NAME)
            .path(bus::PATH)
            .build()
            .await
            .unwrap();
        let objects = manager.get_managed_objects().await.unwrap();
        // The folder above them is listed too, with nothing in it.
        let mut paths: Vec<_> = objects
            .iter()
            .filter(|(_, interfaces)| !interfaces.is_empty())
            .map(|(path, _)| path.as_str())
            .collect();
        paths.sort_unstable();
        assert_eq!(paths, [APP, BROKER]);
        let mut added = manager.receive_interfaces_added().await.unwrap();
        let mut removed = manager.receive_interfaces_removed().await.unwrap();
        let mut one = status("");
        one.containers.remove(&Role::new("my-broker"));
        daemon.state.send_replace(Arc::new(one));
        let signal = removed.next().await.unwrap();
        assert_eq!(signal.args().unwrap().object_path().as_str(), BROKER);
        daemon.says("");
        let signal = added.next().await.unwrap();
        assert_eq!(signal.args().unwrap().object_path().as_str(), BROKER);
        let broker = properties(&client, BROKER).await;
        let name = InterfaceName::from_static_str("org.monopod.Container1").unwrap();
        let all = broker.get_all(name).await.unwrap();
        assert_eq!(*all["Name"], zbus::Variant::from("my-broker"));
        daemon.end().await;
    });
}

#[test]
fn no_transition_is_lost_to_the_pace() {
    let bus = TestBus::start();
    run(async {
        let daemon = Daemon::start(bus.address(), "0");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let mut transitions = client.proxy.receive_transition().await.unwrap();
        for number in 0..20 {
            daemon.says(&number.to_string());
            daemon.reports(
                (number % 2 == 0).then_some("app"),
                &format!("text {number}"),
            );
        }
        for number in 0..20 {
            let signal = transitions.next().await.unwrap();
            let args = signal.args().unwrap();
            assert_eq!(*args.kind(), "watchdog-withheld");
            assert_eq!(*args.container(), if number % 2 == 0 { "app" } else { "" });
            assert_eq!(*args.text(), format!("text {number}"));
            let id = journal::message_id(ReportKind::WatchdogWithheld);
            assert_eq!(*args.message_id(), id);
        }
        daemon.end().await;
    });
}

const NOBODY: u32 = 65534;

/// `dbus-send` to `dest`, as the user `uid`.
fn send_as(uid: u32, address: &BusAddress, dest: &str, rest: &[&str]) -> Output {
    Command::new("dbus-send")
        .arg(format!("--bus={address}"))
        .args(["--print-reply=literal", &format!("--dest={dest}")])
        .args(rest)
        .uid(uid)
        .output()
        .expect("the package dbus-bin is installed")
}

/// Every user may look; only root may act. `bus` may or may not have the policy.
fn guarded(bus: &TestBus) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another user needs root");
        return;
    }
    run(async {
        const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
        let mut daemon = Daemon::start(bus.address(), "the line");
        let client = Client::connect(bus.address()).await.unwrap();
        status_at_last(&client).await;
        let get = format!("{PROPERTIES}.Get");
        let get_all = format!("{PROPERTIES}.GetAll");
        let set = format!("{PROPERTIES}.Set");
        let ours = format!("string:{}", bus::NAME);
        let main = bus::PATH;
        let denied = Err("AccessDenied");
        let id = "string:0123456789ab";
        let offer = format!("{}.OfferRelease", bus::NAME);
        let activate = format!("{}.ActivateRelease", bus::NAME);
        let table: &[(&[&str], Result<&str, &str>)] = &[
            (&[main, "org.monopod.Supervisor1.GetStatus"], Ok("the line")),
            (
                &[main, &get, &ours, "string:Version"],
                Ok(env!("CARGO_PKG_VERSION")),
            ),
            (&[main, &get, &ours, "string:Status"], Ok("the line")),
            (&[main, &get_all, &ours], Ok("0123456789ab")),
            (
                &[APP, &get_all, "string:org.monopod.Container1"],
                Ok("example/app:1"),
            ),
            (
                &[main, "org.freedesktop.DBus.Introspectable.Introspect"],
                Ok("StatusChanged"),
            ),
            (
                &[main, "org.freedesktop.DBus.ObjectManager.GetManagedObjects"],
                Ok("my_2dbroker"),
            ),
            (&[main, "org.freedesktop.DBus.Peer.Ping"], Ok("")),
            (&[main, "org.monopod.Supervisor1.Plan"], denied),
            (&[main, "org.monopod.Supervisor1.Reload"], denied),
            (&[main, "org.monopod.Supervisor1.StoreChanged"], denied),
            (
                &[main, "org.monopod.Supervisor1.Restart", "string:"],
                denied,
            ),
            (&[main, &offer, id, "string:take", "boolean:false"], denied),
            (&[main, &activate, id, "boolean:true"], denied),
            (&[main, "org.monopod.Supervisor1.RollBack"], denied),
            (&[main, "org.monopod.Supervisor1.RetryRelease", id], denied),
            (
                &[main, "org.monopod.Supervisor1.HoldUpdates", "boolean:true"],
                denied,
            ),
            (
                &[
                    main,
                    "org.monopod.Supervisor1.PinRelease",
                    id,
                    "boolean:true",
                ],
                denied,
            ),
            // Nothing can be set; that it is denied or unknown is the bus's choice.
            (
                &[main, &set, &ours, "string:Withheld", "variant:uint32:0"],
                Err("Error"),
            ),
        ];
        for (call, expected) in table {
            let address = bus.address().clone();
            let call: Vec<String> = call.iter().map(ToString::to_string).collect();
            let output = tokio::task::spawn_blocking(move || {
                let call: Vec<_> = call.iter().map(String::as_str).collect();
                send_as(NOBODY, &address, bus::NAME, &call)
            })
            .await
            .unwrap();
            assert_eq!(output.status.success(), expected.is_ok(), "{output:?}");
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

/// A bus that is as closed as the system's, and reads a policy file.
fn closed_bus(policy: &std::path::Path) -> TestBus {
    TestBus::with_policy(&format!("{CLOSED}<include>{}</include>", policy.display()))
}

fn policy() -> &'static std::path::Path {
    std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/units/org.monopod.Supervisor1.conf"
    ))
}

/// The policy file that is installed, as it is.
#[test]
fn the_policy_lets_all_read_and_root_act() {
    guarded(&closed_bus(policy()));
    // Without it, nobody owns the name.
    run(async {
        let (_state, seen) = watch::channel(Arc::new(status("")));
        let (requests, _taken) = mpsc::channel(1);
        let closed = TestBus::with_policy(CLOSED);
        let error = bus::serve(closed.address(), seen, requests)
            .await
            .unwrap_err();
        assert!(matches!(error, BusError::Forbidden), "{error}");
        assert!(error.to_string().contains("org.monopod.Supervisor1.conf"));
    });
}

/// Root and the daemon's own user may own the name, and nobody else.
#[test]
fn who_may_own_the_name() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another user needs root");
        return;
    }
    let own = |bus: &TestBus, uid| {
        let dest = "org.freedesktop.DBus";
        let request = [
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.RequestName",
            "string:org.monopod.Supervisor1",
            "uint32:4",
        ];
        let output = send_as(uid, bus.address(), dest, &request);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), text.is_empty(), "{output:?}");
        assert!(text.is_empty() || text.contains("AccessDenied"), "{text}");
        output.status.success()
    };
    let bus = closed_bus(policy());
    assert!(own(&bus, 0), "root");
    assert!(!own(&bus, NOBODY), "nobody");
    // This machine need not have the user: another one's name stands for it.
    let text = std::fs::read_to_string(policy()).unwrap();
    let renamed = text.replace("user=\"monopod\"", "user=\"nobody\"");
    assert_ne!(renamed, text);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), renamed).unwrap();
    let bus = closed_bus(file.path());
    assert!(own(&bus, NOBODY), "the daemon's user");
    assert!(!own(&bus, 1), "another one");
}
