//! Recording a command, and going through every crash of it.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::crash::{Dice, Disk};
use crate::history::{History, Op};
use crate::trace;
use crate::tree::Tree;

/// Most states that are looked at for one crash point.
const STATES: usize = 64;
/// The same after the end of a command that had to begin anew after `kill -9`.
const STATES_OF_THE_SECOND: usize = 12;
/// Most steps after which a command is killed and begins anew.
const KILLS: usize = 12;
/// Any number: the same states in each run.
const SEED: u64 = 0x6d6f_6e6f_706f_6421;

/// What is to be recorded, and what must hold after a crash of it.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Makes what the command finds. All of it counts as durable.
    pub setup: fn(&Place),
    /// What is recorded: one process, which ends by itself and well.
    pub command: fn(&Place) -> Command,
    /// What judges what is found after a crash.
    pub judge: fn(&Ends<'_>) -> Judge,
}

/// Where a scenario happens.
pub struct Place {
    /// The node: what is recorded, and what a power cut changes.
    pub root: PathBuf,
    /// What the node has no part in, for example an archive to be imported.
    pub desk: PathBuf,
}

/// What a judge compares with.
pub struct Ends<'e> {
    /// The node as the command found it.
    pub before: &'e Path,
    /// The node as the command left it.
    pub after: &'e Path,
    /// The same for all.
    pub desk: &'e Path,
}

/// Recovers a node, which it may change, and says what is wrong. The second argument says whether
/// the command had ended, so that what it did must be there.
pub type Judge = Box<dyn Fn(&Path, bool) -> Result<(), String>>;

/// What was gone through.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// Operations recorded.
    pub operations: usize,
    /// Moments at which the power was cut.
    pub points: usize,
    /// Different states recovered.
    pub states: usize,
    /// Moments at which the process was killed, and the command run again.
    pub kills: usize,
}

impl Figures {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            points: self.points + other.points,
            states: self.states + other.states,
            kills: self.kills + other.kills,
        }
    }
}

/// A scenario under way.
struct Run<'s> {
    scenario: &'s Scenario,
    work: TempDir,
    place: Place,
    judge: Judge,
    dice: Dice,
    seen: BTreeSet<(u64, bool)>,
    figures: Figures,
    faults: Vec<String>,
}

/// Goes through a scenario; returns what is wrong, one text for each state, the first few.
pub fn run(scenario: &Scenario) -> (Figures, Vec<String>) {
    match begin(scenario) {
        Ok((run, history)) => run.all(&history),
        Err(error) => (Figures::default(), vec![error]),
    }
}

fn begin(scenario: &Scenario) -> Result<(Run<'_>, History), String> {
    let work = folder()?;
    let path = |name: &str| -> Result<PathBuf, String> {
        let path = work.path().join(name);
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        fs::canonicalize(path).map_err(|error| error.to_string())
    };
    let (before, after) = (path("before")?, path("after")?);
    let place = Place {
        root: path("root")?,
        desk: path("desk")?,
    };
    (scenario.setup)(&place);
    let written = |tree: &Tree, to: &Path| tree.write(to).map_err(|error| error.to_string());
    let mut history = History::new(&place.root)?;
    written(&history.now, &before)?;
    record(scenario, &place, &mut history)?;
    written(&history.now, &after)?;
    let judge = (scenario.judge)(&Ends {
        before: &before,
        after: &after,
        desk: &place.desk,
    });
    let run = Run {
        scenario,
        place,
        judge,
        work,
        dice: Dice::new(SEED),
        seen: BTreeSet::new(),
        figures: Figures::default(),
        faults: Vec::new(),
    };
    Ok((run, history))
}

/// In memory if there is a place: an fsync there costs nothing, and the disk that counts is the model.
fn folder() -> Result<TempDir, String> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())
    } else {
        tempfile::tempdir()
    };
    folder.map_err(|error| error.to_string())
}

fn record(scenario: &Scenario, place: &Place, history: &mut History) -> Result<(), String> {
    let calls = trace::run(&(scenario.command)(place), &place.desk.join("trace"))?;
    history.record(&calls, &place.root)
}

impl Run<'_> {
    fn all(mut self, history: &History) -> (Figures, Vec<String>) {
        self.figures.operations = history.steps.len();
        for steps in 0..=history.steps.len() {
            self.cut(history, steps, STATES, "");
        }
        let changes: Vec<usize> = (1..=history.steps.len())
            .filter(|&steps| {
                let ops = &history.steps[steps - 1].ops;
                ops.iter()
                    .any(|op| !matches!(op, Op::Sync(_) | Op::SyncAll))
            })
            .collect();
        // The last ones are those that make it visible.
        let skip = changes.len().saturating_sub(KILLS / 2);
        let step = (skip / (KILLS / 2)).max(1);
        for &steps in changes[..skip].iter().step_by(step).chain(&changes[skip..]) {
            if let Err(error) = self.kill(history, steps) {
                self.faults.push(format!(
                    "{}: killed after step {steps}: {error}",
                    self.scenario.name
                ));
            }
        }
        (self.figures, self.faults)
    }

    /// The power is cut after so many steps.
    fn cut(&mut self, history: &History, steps: usize, bound: usize, told: &str) {
        self.figures.points += 1;
        let done = steps == history.steps.len();
        for found in Disk::after(history, steps).states(bound, &mut self.dice, history) {
            if !self.seen.insert((found.tree.fingerprint(), done)) {
                continue;
            }
            self.figures.states += 1;
            if let Err(error) = self.recover(&found.tree, done) {
                let last: Vec<&str> = history.steps[..steps]
                    .iter()
                    .rev()
                    .take(4)
                    .map(|step| &*step.text)
                    .collect();
                self.faults.push(format!(
                    "{}: power cut after step {steps} of {}{told} ({}): lost: {}: {error}",
                    self.scenario.name,
                    history.steps.len(),
                    last.join(" <- "),
                    found.lost
                ));
            }
        }
    }

    /// The process is killed after so many steps, runs again to its end, and then the power is cut.
    fn kill(&mut self, history: &History, steps: usize) -> Result<(), String> {
        self.figures.kills += 1;
        let mut history = history.until(steps);
        fs::remove_dir_all(&self.place.root)
            .and_then(|()| fs::create_dir(&self.place.root))
            .and_then(|()| history.now.write(&self.place.root))
            .map_err(|error| error.to_string())?;
        record(self.scenario, &self.place, &mut history)?;
        let told = format!(", killed after {steps} and run again");
        let end = history.steps.len();
        self.cut(&history, end, STATES_OF_THE_SECOND, &told);
        Ok(())
    }

    fn recover(&self, tree: &Tree, done: bool) -> Result<(), String> {
        let root = self.work.path().join("found");
        fs::create_dir(&root)
            .and_then(|()| tree.write(&root))
            .map_err(|error| error.to_string())?;
        let judged = catch_unwind(AssertUnwindSafe(|| (self.judge)(&root, done)));
        fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
        judged.unwrap_or_else(|_| Err("it panicked".to_owned()))
    }
}
