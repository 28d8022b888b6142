//! `monopod doctor`: looks at the machine around monopod and says what will hurt.
//!
//! Each check is a file of its own: it gathers plain facts, and a pure function judges them. What is asked of
//! the engine and of systemd is asked once, by [`Machine`], however many checks want to know. Checks run side by
//! side, each under a deadline, so that an engine that hangs costs its own checks only.
//!
//! Nothing here may change anything, not even make a missing folder, and nothing of it runs in the daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all};
use serde::Serialize;
use tokio::time::timeout;

mod access;
mod bus;
mod cgroup_controllers;
mod cgroup_driver;
mod clock;
mod conf;
mod engine;
mod engine_access;
mod engine_version;
mod file_modes;
mod files;
mod filesystem;
mod image_store;
mod images;
mod journal;
mod kernel;
mod live_restore;
mod log_driver;
mod machine;
mod memory;
mod mounts;
mod preload;
mod restart_policy;
mod space;
mod systemd;
mod unit;
mod watchdog;

pub use machine::Machine;

/// How long one check may take, all its questions together. Above what a single question may take.
const LIMIT: Duration = Duration::from_secs(12);

/// Every check, in the order in which they are shown: files, engine, systemd, machine.
pub const CHECKS: [&Check; 23] = [
    &files::WORKLOAD,
    &files::NODE,
    &file_modes::CHECK,
    &preload::CHECK,
    &images::CHECK,
    &engine::CHECK,
    &engine_version::CHECK,
    &engine_access::CHECK,
    &image_store::CHECK,
    &live_restore::CHECK,
    &restart_policy::CHECK,
    &log_driver::CHECK,
    &cgroup_driver::CHECK,
    &cgroup_controllers::CHECK,
    &unit::CHECK,
    &watchdog::CHECK,
    &bus::CHECK,
    &journal::CHECK,
    &clock::CHECK,
    &filesystem::CHECK,
    &space::CHECK,
    &memory::CHECK,
    &kernel::CHECK,
];

/// One thing to look at.
#[derive(Debug)]
pub struct Check {
    /// What it is called on the command line and in JSON; stays the same from version to version.
    pub id: &'static str,
    /// What it looks at, for `--list`.
    pub title: &'static str,
    run: Run,
}

/// How a check finds out.
#[derive(Debug)]
enum Run {
    /// From files alone. A file system may hang, so this runs on a thread of its own.
    Files(fn(&Machine) -> Finding),
    /// By asking the engine or the bus.
    Asks(fn(Arc<Machine>) -> LocalBoxFuture<'static, Finding>),
}

/// How bad a finding is; later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// Worth knowing.
    Note,
    /// It will hurt one day.
    Warning,
    /// It does not work.
    Failure,
}

impl State {
    /// The word for it, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub state: State,
    /// What was found, in one line.
    pub finding: String,
    /// What to do, a line each; none if there is nothing to do.
    pub hints: Vec<String>,
}

impl Finding {
    fn new(state: State, finding: impl Into<String>) -> Self {
        Self {
            state,
            finding: finding.into(),
            hints: Vec::new(),
        }
    }

    fn ok(finding: impl Into<String>) -> Self {
        Self::new(State::Ok, finding)
    }

    fn skipped(finding: impl Into<String>) -> Self {
        Self::new(State::Skipped, finding)
    }

    fn note(finding: impl Into<String>) -> Self {
        Self::new(State::Note, finding)
    }

    fn warning(finding: impl Into<String>) -> Self {
        Self::new(State::Warning, finding)
    }

    fn failure(finding: impl Into<String>) -> Self {
        Self::new(State::Failure, finding)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Several findings as one, as bad as the worst; `good` if there is none.
    fn all(found: Vec<Self>, good: impl Into<String>) -> Self {
        let Some(state) = found.iter().map(|one| one.state).max() else {
            return Self::ok(good);
        };
        let mut texts: Vec<String> = Vec::new();
        let mut hints: Vec<String> = Vec::new();
        for one in found {
            texts.push(one.finding);
            for hint in one.hints {
                if !hints.contains(&hint) {
                    hints.push(hint);
                }
            }
        }
        Self {
            state,
            finding: texts.join("; "),
            hints,
        }
    }
}

/// A check with its finding, as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The check's [`Check::id`].
    pub id: &'static str,
    /// Its [`Check::title`].
    pub title: &'static str,
    /// What it came to.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Runs checks side by side; the reports come in the order of `checks`.
///
/// Needs a runtime with time and I/O. A file system that hangs leaves a thread behind: the caller must not wait
/// for the runtime's end (`Runtime::shutdown_background`).
pub async fn run(machine: &Arc<Machine>, checks: &[&'static Check]) -> Vec<Report> {
    join_all(checks.iter().map(|check| async {
        let work = async {
            match check.run {
                Run::Files(look) => {
                    let machine = Arc::clone(machine);
                    tokio::task::spawn_blocking(move || look(&machine))
                        .await
                        .unwrap_or_else(|error| Finding::failure(format!("the check itself failed: {error}")))
                }
                Run::Asks(ask) => ask(Arc::clone(machine)).await,
            }
        };
        let finding = timeout(LIMIT, work).await.unwrap_or_else(|_| {
            Finding::failure(format!("no result within {} s", LIMIT.as_secs()))
                .hint("a disk, a bus or an engine that hangs: look at journalctl -k and journalctl -u docker")
        });
        Report {
            id: check.id,
            title: check.title,
            finding,
        }
    }))
    .await
}

#[cfg(test)]
mod tests;
