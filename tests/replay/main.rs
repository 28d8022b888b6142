//! Power cuts on paper: what ledger, releases and store do with files is recorded, and every crash of it is
//! replayed and recovered.
//!
//! A command runs once under strace, and its file operations are what [`recorder`] makes of that log.
//! [`crash`] says what a power cut after each of them may leave. Each such state is put into a folder
//! of its own, and the program has to recover from it. Besides, the command is killed after some of
//! its operations and run again, because what one process left unsynced is the next one's to sync.
//!
//! To add a case, write a [`scenario::Scenario`]: a name, what the command finds, the command, and
//! what must hold afterwards. What the command does has to be below the scenario's root.
//!
//! It has a `main` of its own, because it is also the process that is recorded (`replay deed NAME
//! ROOT`) where `monopod` has no verb for a deed, or needs an engine for it.

#[allow(dead_code, reason = "the archives' own tests use the rest")]
#[path = "../archives/build.rs"]
mod build;
mod careless;
mod crash;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/forge.rs"]
mod forge;
mod history;
mod ledger;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/node.rs"]
mod node;
mod recorder;
mod releases;
mod scenario;
mod store;
mod trace;
mod tree;

use std::env::{args, current_exe};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use scenario::{Figures, Scenario};

/// Scenarios at a time.
const THREADS: usize = 2;
/// States that are told of a scenario that fails.
const TOLD: usize = 5;

/// This program, to do one thing and be recorded.
pub fn deed(name: &str, root: &Path) -> Command {
    // Linux always knows it; if not, the recording fails and says so.
    let path = current_exe().unwrap_or_default();
    let mut command = Command::new(path);
    command.args(["deed", name]).arg(root);
    command
}

fn main() -> ExitCode {
    let words: Vec<String> = args().skip(1).collect();
    match words.as_slice() {
        [word, name, root] if word == "deed" => act(name, Path::new(root)),
        words => replay(words),
    }
}

fn act(name: &str, root: &Path) -> ExitCode {
    let done = match name.split_once('-') {
        Some(("ledger", _)) => ledger::act(name, root),
        Some(("release", _)) => releases::act(name, root),
        Some(("store", _)) => store::act(name, root),
        _ => careless::act(name, root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What must come of a scenario.
#[derive(Clone, Copy)]
enum Wanted {
    /// monopod recovers.
    Recovery,
    /// The harness finds nothing in what is right.
    Nothing,
    /// The harness finds what is wrong.
    Faults,
}

/// Runs the scenarios whose names have one of the words in them; without a word, all.
fn replay(words: &[String]) -> ExitCode {
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let monopod = ledger::SCENARIOS
        .iter()
        .chain(releases::SCENARIOS)
        .chain(store::SCENARIOS);
    let right = [&careless::RECORDER, &careless::CAREFUL].into_iter();
    let cases: Vec<(&Scenario, Wanted)> = monopod
        .map(|scenario| (scenario, Wanted::Recovery))
        .chain(right.map(|scenario| (scenario, Wanted::Nothing)))
        .chain(
            careless::CARELESS
                .iter()
                .map(|scenario| (scenario, Wanted::Faults)),
        )
        .filter(|(scenario, _)| {
            let name = scenario.name;
            words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let sum = Mutex::new((Figures::default(), 0, 0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((scenario, wanted)) = cases.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let (figures, failed) = one(scenario, *wanted);
                    let mut sum = sum.lock().expect("nobody panics while it is held");
                    if failed {
                        sum.2 += 1;
                    } else {
                        sum.1 += 1;
                    }
                    if matches!(wanted, Wanted::Recovery) {
                        sum.0 = sum.0.plus(figures);
                    }
                }
            });
        }
    });
    let (figures, passed, failed) = *sum.lock().expect("nobody panics while it is held");
    println!(
        "\nfigure: {} operations recorded; {} crash points, {} of them after a kill and a second run; {} different states recovered",
        figures.operations, figures.points, figures.kills, figures.states
    );
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One scenario; whether it failed.
fn one(scenario: &Scenario, wanted: Wanted) -> (Figures, bool) {
    let began = Instant::now();
    let (figures, faults) = scenario::run(scenario);
    let failed = match wanted {
        Wanted::Recovery | Wanted::Nothing => !faults.is_empty(),
        Wanted::Faults => faults.is_empty() || figures.states == 0,
    };
    let mut lines = vec![format!(
        "{} {}: {} operations, {} crash points, {} states, {:.1} s",
        if failed { "FAILED" } else { "ok" },
        scenario.name,
        figures.operations,
        figures.points,
        figures.states,
        began.elapsed().as_secs_f32()
    )];
    match wanted {
        Wanted::Recovery | Wanted::Nothing => {
            let more = faults.len().saturating_sub(TOLD);
            lines.extend(faults.into_iter().take(TOLD));
            if more > 0 {
                lines.push(format!("and {more} more"));
            }
        }
        Wanted::Faults if failed => lines.push("it was not caught".to_owned()),
        Wanted::Faults => lines.push(format!("caught in {} states", faults.len())),
    }
    println!("{}", lines.join("\n  "));
    (figures, failed)
}
