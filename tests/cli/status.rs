//! `monopod status`: every state, every rung, every verdict.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bus::{Bus, Daemon, Script};
use crate::support::{Monopod, Outcome};

const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Moments by their distance from now in seconds, such that a slow test does not change how they read.
const MOMENTS: [(&str, i64); 5] = [
    ("long-ago", -3 * 86_400 - 3600),
    ("hours-ago", -5 * 3600 - 1800),
    ("minutes-ago", -230),
    ("soon", 290),
    ("later", 1000),
];

fn rfc3339(distance: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let at = i64::try_from(now.as_secs()).expect("before the year 292e9") + distance;
    // The tests' own calendar: day by day.
    let (mut day, rest) = (at / 86_400, at % 86_400);
    let mut year = 1970;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while day >= 365 + i64::from(leap(year)) {
        day -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let february = 28 + i64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        day + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A container that is well; the cases change what they are about.
fn container() -> Value {
    json!({
        "id": "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00",
        "state": "running", "verdict": "healthy", "since": "@hours-ago", "restarts": 0,
        "image": "example/gateway:1.4.2", "image_id": ID, "pid": 4711,
        "last": {"time": "@minutes-ago", "answer": "pass", "text": "status 200"},
        "note": null, "next": "@soon",
    })
}

/// A workload that is well, of this one container.
fn status(app: &Value) -> Value {
    let verdict = app["verdict"].clone();
    json!({
        "workload": "gateway", "verdict": verdict, "ladder": "foot", "withheld": 0,
        "line": "", "engine": "answers", "deadline": "@soon", "containers": {"app": app},
    })
}

/// `base` with these fields in place of its own.
fn with(mut base: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else {
        panic!("fields are an object");
    };
    for (name, value) in fields {
        base[name] = value;
    }
    base
}

fn show(status: &Value, args: &[&str]) -> Outcome {
    let mut text = status.to_string();
    let times: Vec<(String, String)> = MOMENTS
        .iter()
        .map(|(name, distance)| (format!("@{name}"), rfc3339(*distance)))
        .collect();
    for (name, time) in &times {
        text = text.replace(name, time);
    }
    let daemon = Daemon::start(Script {
        status: text,
        ..Script::default()
    });
    let mut outcome = Monopod::new(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
        .run();
    for (name, time) in &times {
        outcome = outcome.with(time, name);
    }
    outcome
}

#[test]
fn every_state() {
    let made = json!({"id": null, "pid": null, "last": null});
    let waits = "waits for broker to be healthy";
    let missing = "image example/gateway:1.4.2 is neither in the store nor in the engine; import it: monopod import ARCHIVE";
    let refused = json!({"time": "@minutes-ago", "answer": "fail", "text": "connection refused"});
    let table = [
        ("healthy", json!({})),
        (
            "no-question",
            json!({"last": null, "next": null, "image_id": null}),
        ),
        (
            "starting",
            json!({"verdict": "starting", "last": refused, "note": "connection refused", "since": "@minutes-ago"}),
        ),
        (
            "waiting",
            with(
                made.clone(),
                json!({"state": "absent", "verdict": "starting", "note": waits, "next": null}),
            ),
        ),
        (
            "created",
            with(
                made.clone(),
                json!({"id": "c0ffee", "state": "created", "verdict": "starting", "note": "is being started"}),
            ),
        ),
        (
            "unhealthy",
            json!({"verdict": "unhealthy", "last": refused, "note": "connection refused", "restarts": 1}),
        ),
        (
            "backoff",
            json!({"state": "backoff", "verdict": "unhealthy", "pid": null, "last": null, "since": "@minutes-ago",
                "restarts": 7, "note": "ended with exit code 137"}),
        ),
        (
            "exited",
            json!({"state": "exited", "verdict": "unhealthy", "pid": null, "last": null, "note": "ended with exit code 1"}),
        ),
        (
            "stopping",
            json!({"state": "stopping", "verdict": "unhealthy", "note": "a restart was asked for"}),
        ),
        (
            "image-missing",
            with(
                made.clone(),
                json!({"state": "absent", "verdict": "unhealthy", "image_id": null, "note": missing, "next": null}),
            ),
        ),
        (
            "nobody-could-ask",
            json!({"verdict": "unknown", "last": {"time": "@minutes-ago", "answer": "cannot-ask", "text": "the engine does not answer"},
                "note": "the engine does not answer"}),
        ),
        (
            "not-seen-yet",
            with(
                made,
                json!({"state": "unknown", "verdict": "unknown", "image_id": null, "note": "the engine has not said yet", "next": null}),
            ),
        ),
    ];
    for (name, fields) in table {
        let status = status(&with(container(), fields));
        show(&status, &["status"]).matches(&format!("status/{name}"));
    }
}

#[test]
fn every_rung() {
    let sick = with(
        container(),
        json!({"state": "backoff", "verdict": "unhealthy", "last": null, "note": "ended with exit code 1", "restarts": 5}),
    );
    let table = [
        ("restart", 0),
        ("recreate", 0),
        ("rebuild", 0),
        ("engine-restart", 0),
        ("withhold", 1),
        ("reboot", 3),
        ("safe-state", 3),
    ];
    for (ladder, withheld) in table {
        let status = with(
            status(&sick),
            json!({"ladder": ladder, "withheld": withheld}),
        );
        show(&status, &["status"]).matches(&format!("status/ladder-{ladder}"));
    }
    let damaged = with(
        status(&container()),
        json!({"withheld": u32::MAX, "deadline": "@later"}),
    );
    show(&damaged, &["status"]).matches("status/ledger-damaged");
}

#[test]
fn files_that_are_refused() {
    let why = "/etc/monopod/workload.toml:4:1: unknown key `imge`";
    let status = with(status(&container()), json!({"reload_error": why}));
    show(&status, &["status"]).matches("status/files-refused");
}

#[test]
fn an_engine_that_is_silent() {
    let unknown = with(
        container(),
        json!({"verdict": "unknown", "note": "the engine does not answer", "since": "@long-ago"}),
    );
    let status = with(
        status(&unknown),
        json!({"engine": "silent", "deadline": null}),
    );
    show(&status, &["status"]).matches("status/engine-silent");
}

fn two() -> Value {
    let broker = with(
        container(),
        json!({"image": "example/mosquitto:2", "since": "@long-ago", "last": {"time": "@minutes-ago", "answer": "pass", "text": "connected"}}),
    );
    let app = with(
        container(),
        json!({"verdict": "unhealthy", "last": {"time": "@minutes-ago", "answer": "fail", "text": "status 503"}, "note": "status 503", "restarts": 2}),
    );
    with(
        status(&app),
        json!({"containers": {"app": app, "broker": broker}, "ladder": "restart"}),
    )
}

#[test]
fn two_containers() {
    show(&two(), &["status"]).matches("status/two");
}

#[test]
fn for_programs() {
    let outcome = show(&two(), &["status", "--json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(6), ""));
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(found, two());
    let outcome = show(&status(&container()), &["status", "--json"]);
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn an_answer_of_another_version() {
    for args in [&["status"][..], &["status", "--json"]] {
        let outcome = show(&json!({"workload": "gateway"}), args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
        assert!(
            outcome.stderr.contains("of another version"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn no_bus() {
    Monopod::new(&["status"]).run().matches("status/no-bus");
    let watching = Monopod::new(&["status", "--watch"]).run();
    assert_eq!(watching.code, Some(5), "{}", watching.stderr);
}

#[test]
fn a_bus_without_a_daemon() {
    let bus = Bus::start();
    Monopod::new(&["status"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())
        .run()
        .matches("status/no-daemon");
}

#[test]
fn a_reader_that_is_gone_is_no_fault() {
    let daemon = Daemon::start(Script {
        status: status(&container()).to_string(),
        ..Script::default()
    });
    for args in [&["status"][..], &["status", "--json"]] {
        let outcome = Monopod::new(args)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
            .deaf()
            .run();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    }
}
