use std::path::Path;
use std::time::Instant;

use super::*;
use crate::paths::Paths;
use crate::systemd::BusAddress;

/// A machine and a node with these files and no others; no bus, no engine.
pub(super) fn machine(files: &[(&str, &str)]) -> Held {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let socket = dir.path().join("docker.sock");
    Held {
        machine: at(dir.path(), &socket),
        _dir: dir,
    }
}

/// A machine whose folder goes with it.
pub(super) struct Held {
    machine: Machine,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Held {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.machine
    }
}

fn at(base: &Path, socket: &Path) -> Machine {
    let bus = BusAddress::new(&format!("unix:path={}/bus", base.display()));
    let host = format!("unix://{}", socket.display());
    Machine::new(&Paths::new(base), base, bus, Some(host))
}

fn all(machine: Machine) -> Vec<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, run(&Arc::new(machine), &CHECKS))
}

#[test]
fn ids_are_words_and_unlike() {
    let mut ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
    for check in CHECKS {
        assert!(
            check
                .id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{}",
            check.id
        );
        assert!(!check.title.is_empty() && !check.title.ends_with('.'));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CHECKS.len());
}

#[test]
fn the_worst_counts_and_no_hint_comes_twice() {
    let one = || Finding::note("a").hint("x");
    let two = Finding::warning("b").hint("x").hint("y");
    let sum = Finding::all(vec![one(), two, one()], "good");
    assert_eq!(
        (sum.state, sum.finding.as_str()),
        (State::Warning, "a; b; a")
    );
    assert_eq!(sum.hints, ["x", "y"]);
    assert_eq!(Finding::all(vec![], "good"), Finding::ok("good"));
}

#[test]
fn an_empty_machine_is_looked_at_and_left_empty() {
    let dir = tempfile::tempdir().unwrap();
    let reports = all(at(dir.path(), &dir.path().join("docker.sock")));
    let state = |id: &str| {
        reports
            .iter()
            .find(|report| report.id == id)
            .unwrap()
            .finding
            .state
    };
    assert_eq!(reports.len(), CHECKS.len());
    assert_eq!(state("engine"), State::Failure);
    for id in [
        "engine-version",
        "image-store",
        "live-restore",
        "log-driver",
        "cgroup-driver",
        "unit",
        "watchdog",
    ] {
        assert_eq!(state(id), State::Skipped, "{id}");
    }
    assert_eq!(state("bus"), State::Warning);
    assert_eq!(state("workload-file"), State::Note);
    assert_eq!(state("preload"), State::Ok);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing was made"
    );
    // Whatever is wrong, there is something to do.
    for report in reports {
        let bad = [State::Warning, State::Failure].contains(&report.finding.state);
        assert!(!bad || !report.finding.hints.is_empty(), "{report:?}");
    }
}

#[test]
fn an_engine_and_a_bus_that_hang_cost_their_own_checks_only() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    // Listening, and never accepting.
    let _engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let _bus = std::os::unix::net::UnixListener::bind(dir.path().join("bus")).unwrap();
    std::fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
    let start = Instant::now();
    let reports = all(at(dir.path(), &socket));
    // Side by side they take one deadline; one after the other they would take many.
    assert!(start.elapsed() < 3 * LIMIT, "{:?}", start.elapsed());
    let found = |id: &str| {
        &reports
            .iter()
            .find(|report| report.id == id)
            .unwrap()
            .finding
    };
    assert_eq!(found("engine").state, State::Failure);
    assert!(
        found("engine").finding.contains("does not answer"),
        "{:?}",
        found("engine")
    );
    assert_eq!(found("live-restore").state, State::Skipped);
    assert_eq!(found("unit").state, State::Skipped);
    assert_eq!(found("bus").state, State::Warning);
    assert_eq!(found("node-file").state, State::Ok);
}
