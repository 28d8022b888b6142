//! `monopod doctor`: renders what [`crate::doctor`] found.

use std::sync::Arc;

use clap::Args;

use super::{complain, hint, print, table};
use crate::doctor::{self, CHECKS, Check, Machine, Report, State};
use crate::exit::Exit;
use crate::paths::Paths;

const EXAMPLES: &str = "\
Examples:
  monopod doctor                      look at everything; as root, to see it all
  monopod doctor engine images        look at these only
  monopod doctor --list               what there is to look at
  monopod doctor --json | jq '.[] | select(.state == \"failure\")'

ok: as it should be. note: worth knowing. warning: will hurt one day. failure: does not work.
skipped: could not be looked at.
Exit codes: 0 no failure, 1 a failure, 2 no such check.";

/// Arguments of `monopod doctor`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// Checks to run; all of them without any
    #[arg(value_name = "CHECK-ID")]
    checks: Vec<String>,
    /// Print the findings as a JSON list
    #[arg(long)]
    json: bool,
    /// List the checks and what they look at, and look at nothing
    #[arg(long, conflicts_with_all = ["json", "checks"])]
    list: bool,
}

/// Looks, and tells.
pub fn run(paths: &Paths, arguments: &Doctor) -> Exit {
    if arguments.list {
        let rows: Vec<_> = CHECKS
            .iter()
            .map(|check| vec![check.id.to_owned(), check.title.to_owned()])
            .collect();
        for line in table::lines(&rows) {
            print(line);
        }
        return Exit::Done;
    }
    let checks = match chosen(&arguments.checks) {
        Ok(checks) => checks,
        Err(unknown) => {
            complain(format_args!("there is no check {unknown}"));
            hint("monopod doctor --list shows them all");
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let machine = Arc::new(Machine::this(paths));
    let reports = tokio::task::LocalSet::new().block_on(&runtime, doctor::run(&machine, &checks));
    // Not waiting for a file system that hangs.
    runtime.shutdown_background();
    if arguments.json {
        if let Ok(text) = serde_json::to_string_pretty(&reports) {
            print(text);
        }
    } else {
        show(&reports);
    }
    if reports
        .iter()
        .any(|report| report.finding.state == State::Failure)
    {
        Exit::Failed
    } else {
        Exit::Done
    }
}

/// The checks of these names, in the usual order; an unknown name otherwise.
fn chosen(names: &[String]) -> Result<Vec<&'static Check>, &String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !CHECKS.iter().any(|check| check.id == **name))
    {
        return Err(unknown);
    }
    let wanted =
        |check: &&&'static Check| names.is_empty() || names.iter().any(|name| name == check.id);
    Ok(CHECKS.iter().filter(wanted).copied().collect())
}

/// A line for each check, what to do below it, and how many came to what.
fn show(reports: &[Report]) {
    let rows: Vec<_> = reports
        .iter()
        .map(|report| {
            let word = report.finding.state.word();
            vec![
                word.to_owned(),
                report.id.to_owned(),
                report.finding.finding.clone(),
            ]
        })
        .collect();
    for (line, report) in table::lines(&rows).into_iter().zip(reports) {
        print(line);
        for hint in &report.finding.hints {
            print(format_args!("         hint: {hint}"));
        }
    }
    let states = [
        State::Failure,
        State::Warning,
        State::Note,
        State::Skipped,
        State::Ok,
    ];
    let counts: Vec<String> = states
        .iter()
        .map(|state| {
            (
                *state,
                reports
                    .iter()
                    .filter(|report| report.finding.state == *state)
                    .count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {}", plural(state, count)))
        .collect();
    print(counts.join(", "));
}

fn plural(state: State, count: usize) -> &'static str {
    match (state, count) {
        (State::Failure, 2..) => "failures",
        (State::Warning, 2..) => "warnings",
        (State::Note, 2..) => "notes",
        (state, _) => state.word(),
    }
}
