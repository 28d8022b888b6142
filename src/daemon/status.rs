//! The status as JSON: what the bus carries, and what `monopod status` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::wall;
use crate::core::api::Answer;
use crate::core::health::Verdict;
use crate::core::supervisor::{Step, View};
use crate::core::time::Time;
use crate::core::update::{Book, ReleaseId, UpdateView};
use crate::spec::types::{Role, Workload};

/// The state of a node, at one moment. Times are RFC 3339, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The workload's name.
    pub workload: String,
    /// The id of the release in force.
    #[serde(default)]
    pub release: Option<String>,
    /// The worst of the containers' verdicts.
    pub verdict: Verdict,
    /// Where the ladder stands: `foot`, `restart`, `recreate`, `engine-restart`, `withhold`, `reboot` or
    /// `safe-state`.
    pub ladder: String,
    /// How often the watchdog was withheld since the workload was last stable.
    pub withheld: u32,
    /// How often the engine's unit was restarted since the engine was last well for long enough.
    #[serde(default)]
    pub engine_restarts: u32,
    /// How many reboots that were asked for still count.
    #[serde(default)]
    pub reboots: u32,
    /// One line for a technician.
    pub line: String,
    /// Whether the engine answers.
    pub engine: EngineStatus,
    /// Why the files that were read last are not in force; those before them are.
    #[serde(default)]
    pub reload_error: Option<String>,
    /// The releases.
    #[serde(default)]
    pub update: Option<UpdateStatus>,
    /// What came of the last stick, for an hour.
    #[serde(default)]
    pub medium: Option<String>,
    /// What is damaged in the store, a line for each image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub store_damaged: Vec<String>,
    /// When the daemon will act next if nothing happens.
    pub deadline: Option<String>,
    /// Each container, by name.
    pub containers: BTreeMap<Role, ContainerStatus>,
}

/// What is known of releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// Where the update stands: `idle`, `staging`, `waiting`, `hook`, `snapshot`, `trial`, `rollback` or
    /// `ending`.
    pub stage: String,
    /// The release that it is about.
    pub release: Option<ReleaseId>,
    /// One line for a technician.
    pub line: Option<String>,
    /// Since when the trial runs.
    pub trial_since: Option<String>,
    /// What the ledger says.
    pub book: Book,
}

impl UpdateStatus {
    /// From the core's view.
    pub fn new(view: &UpdateView) -> Self {
        Self {
            stage: view.stage.to_owned(),
            release: view.release.clone(),
            line: view.line.clone(),
            trial_since: view.trial_since.map(wall),
            book: view.book.clone(),
        }
    }
}

/// Whether the engine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineStatus {
    /// As far as is known.
    Answers,
    /// Not lately.
    Silent,
}

/// One container's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The engine's ID.
    pub id: Option<String>,
    /// `absent`, `created`, `running`, `stopping`, `exited`, `backoff` or `unknown`.
    pub state: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Since when the state stands.
    pub since: String,
    /// Starts after the first.
    pub restarts: u32,
    /// The image's reference.
    pub image: String,
    /// The image's ID.
    pub image_id: Option<String>,
    /// Its init process on the host.
    pub pid: Option<u32>,
    /// The last answer to its health question.
    pub last: Option<LastAnswer>,
    /// What went wrong, or what it waits for.
    pub note: Option<String>,
    /// When something is due next.
    pub next: Option<String>,
}

/// An answer to a health question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswer {
    /// When it came.
    pub time: String,
    /// Good, bad, or nobody could ask.
    pub answer: AnswerKind,
    /// In words.
    pub text: String,
}

/// The kinds of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// Well.
    Pass,
    /// Not well.
    Fail,
    /// Nobody could ask.
    CannotAsk,
}

impl AnswerKind {
    /// Its word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::CannotAsk => "cannot-ask",
        }
    }
}

impl Status {
    /// From the core's view; the release and the files' state are the daemon's to add.
    pub fn new(workload: &Workload, view: &View) -> Self {
        let containers = view
            .containers
            .iter()
            .map(|container| {
                let status = ContainerStatus {
                    id: container.id.clone(),
                    state: container.state.to_owned(),
                    verdict: container.verdict,
                    since: wall(container.since),
                    restarts: container.restarts,
                    image: container.image.clone(),
                    image_id: container.image_id.clone(),
                    pid: container.pid,
                    last: container.last.as_ref().map(last),
                    note: container.note.clone(),
                    next: container.next.map(wall),
                };
                (container.role.clone(), status)
            })
            .collect();
        Self {
            workload: workload.name.clone(),
            release: None,
            update: None,
            verdict: view.verdict,
            ladder: view.rung.as_str().to_owned(),
            withheld: view.withheld,
            engine_restarts: view.engine_restarts,
            reboots: view.reboots,
            line: view.line.clone(),
            engine: if view.engine_silent {
                EngineStatus::Silent
            } else {
                EngineStatus::Answers
            },
            reload_error: view.refused.clone(),
            medium: None,
            store_damaged: view.store_damaged.clone(),
            deadline: view.deadline.map(wall),
            containers,
        }
    }

    /// Without what changes at every probe, and without the rounding of clocks.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        lasting.deadline = None;
        if let Some(update) = &mut lasting.update {
            update.trial_since = None;
        }
        for container in lasting.containers.values_mut() {
            container.last = None;
            container.next = None;
            container.since.clear();
        }
        lasting
    }

    /// As one line of JSON.
    pub fn json(&self) -> String {
        // Strings, numbers and maps with string keys always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A plan as JSON.
pub fn plan_json(plan: &[Step]) -> String {
    serde_json::to_string(plan).unwrap_or_default()
}

fn last((time, answer): &(Time, Answer)) -> LastAnswer {
    let (answer, text) = match answer {
        Answer::Pass(text) => (AnswerKind::Pass, text),
        Answer::Fail(text) => (AnswerKind::Fail, text),
        Answer::CannotAsk(text) => (AnswerKind::CannotAsk, text),
    };
    LastAnswer {
        time: wall(*time),
        answer,
        text: text.clone(),
    }
}
