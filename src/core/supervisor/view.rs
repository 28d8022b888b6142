//! What people and programs are shown of the state, and what a reload would do.

use serde::{Deserialize, Serialize};

use super::{Preload, Supervisor, Survey};
use crate::core::api::{Answer, Desired, Parting};
use crate::core::container::{Course, Image, Kind, Machine, Phase, Why};
use crate::core::health::Verdict;
use crate::core::ladder::{Answered, Ladder, Rung, answer};
use crate::core::time::Time;
use crate::spec::types::{Condition, Role};

/// The state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The worst of the containers'.
    pub verdict: Verdict,
    /// Where the ladder stands.
    pub rung: Rung,
    /// One line for a technician: the same that systemd shows.
    pub line: String,
    /// The engine has not answered lately.
    pub engine_silent: bool,
    /// How often the watchdog was withheld since the workload was last stable.
    pub withheld: u32,
    /// How often the engine's unit was restarted since the engine was last well for long enough.
    pub engine_restarts: u32,
    /// How many reboots that were asked for still count.
    pub reboots: u32,
    /// Why the files that were read last are not in force.
    pub refused: Option<String>,
    /// What is damaged in the store, a line for each image.
    pub store_damaged: Vec<String>,
    /// When something is due next.
    pub deadline: Option<Time>,
    /// Every container, in the order of the workload file's dependencies.
    pub containers: Vec<ContainerView>,
}

/// One container at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub role: Role,
    /// The engine's ID.
    pub id: Option<String>,
    /// `absent`, `created`, `running`, `stopping`, `exited`, `backoff`, or `unknown` before the engine has answered.
    pub state: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
    /// Since when its state stands.
    pub since: Time,
    /// Starts after the first.
    pub restarts: u32,
    /// The image's reference.
    pub image: String,
    /// The image that the container was made from; before that, the one that the store has.
    pub image_id: Option<String>,
    /// Its init process.
    pub pid: Option<u32>,
    /// The last answer to its health question.
    pub last: Option<(Time, Answer)>,
    /// What went wrong last, or what it waits for.
    pub note: Option<String>,
    /// When something is due next: a question, an attempt, the end of patience.
    pub next: Option<Time>,
}

/// What a reload would do to one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which container.
    pub role: Role,
    /// What would happen to it.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// The kinds of [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step", content = "why")]
pub enum StepKind {
    /// Nothing.
    Keep,
    /// Another health question, grace period or order; the container runs on.
    Adjust,
    /// It would be made.
    Create,
    /// It would be removed and made again, because of this.
    Recreate(String),
    /// It would be stopped and removed.
    Remove,
}

impl Desired {
    /// Whether it depends on `role`.
    pub(crate) fn needs(&self, role: &Role) -> bool {
        self.depends_on.contains_key(role) || self.network_of.as_ref() == Some(role)
    }
}

impl Machine {
    /// The text of the last answer.
    pub(super) fn last_answer(&self) -> Option<&str> {
        match &self.alive()?.tracker.last()?.1 {
            Answer::Pass(text) | Answer::Fail(text) | Answer::CannotAsk(text) => Some(text),
        }
    }

    fn state(&self, now: Time) -> &'static str {
        if self
            .pending
            .is_some_and(|pending| pending.kind == Kind::Stop)
        {
            return "stopping";
        }
        match &self.phase {
            Phase::Running(_) => "running",
            Phase::Unseen if self.record.started => "backoff",
            Phase::Unseen => "unknown",
            Phase::Absent | Phase::Created(_) | Phase::Exited { .. } | Phase::Dead { .. }
                if self.record.hold > now =>
            {
                "backoff"
            }
            Phase::Absent => "absent",
            Phase::Created(_) => "created",
            Phase::Exited { .. } | Phase::Dead { .. } => "exited",
        }
    }
}

impl Supervisor {
    /// The state as it is shown.
    pub fn view(&self) -> View {
        View {
            verdict: self.verdict(),
            rung: self.rung(),
            line: self.status_line(),
            engine_silent: self.engine.silent > 0,
            withheld: self.budgets.withheld,
            engine_restarts: self.engine.used.restarts,
            reboots: self.budgets.reboots.count(),
            refused: self.refused.clone(),
            store_damaged: self.damaged.clone(),
            deadline: self.deadline(),
            containers: self
                .all_wanted()
                .filter_map(|machine| {
                    let desired = machine.desired()?;
                    let found = machine.found();
                    Some(ContainerView {
                        role: machine.role.clone(),
                        id: found.map(|found| found.id.clone()),
                        state: machine.state(self.now),
                        verdict: machine.verdict(),
                        since: machine.since,
                        restarts: machine.record.restarts,
                        image: desired.image.clone(),
                        image_id: found
                            .map(|found| found.image_id.clone())
                            .or_else(|| desired.image_id.clone()),
                        pid: machine.alive().map(|alive| alive.pid),
                        last: machine
                            .alive()
                            .and_then(|alive| alive.tracker.last().cloned()),
                        note: self.note(machine).or_else(|| {
                            let said = machine.alive()?.tracker.said()?;
                            Some(format!("the app says: {said}"))
                        }),
                        next: machine.deadline(self.now),
                    })
                })
                .collect(),
        }
    }

    /// What [`crate::core::api::Event::Reload`] with this would do. Changes nothing.
    pub fn plan(&self, desired: &[Desired]) -> Vec<Step> {
        let mut steps: Vec<Step> = desired
            .iter()
            .map(|desired| {
                let kind = match self.wanted(&desired.role) {
                    None => StepKind::Create,
                    Some(machine) => match machine.found() {
                        None => StepKind::Create,
                        Some(found) if found.hash != desired.hash => {
                            StepKind::Recreate("its description changed".to_owned())
                        }
                        Some(found)
                            if desired
                                .image_id
                                .as_ref()
                                .is_some_and(|id| *id != found.image_id) =>
                        {
                            StepKind::Recreate(format!("{} is another image now", desired.image))
                        }
                        Some(_) if same(machine.desired(), desired) => StepKind::Keep,
                        Some(_) => StepKind::Adjust,
                    },
                };
                Step {
                    role: desired.role.clone(),
                    kind,
                }
            })
            .collect();
        steps.extend(
            self.machines
                .iter()
                .filter(|machine| !desired.iter().any(|desired| desired.role == machine.role))
                .map(|machine| Step {
                    role: machine.role.clone(),
                    kind: StepKind::Remove,
                }),
        );
        steps
    }

    /// The worst of the containers' verdicts.
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| {
            self.all_wanted()
                .any(|machine| machine.verdict() == verdict)
        };
        [Verdict::Unhealthy, Verdict::Unknown, Verdict::Starting]
            .into_iter()
            .find(|verdict| has(*verdict))
            .unwrap_or(if self.all_wanted().next().is_some() {
                Verdict::Healthy
            } else {
                // They come as soon as what they need is as it should be.
                Verdict::Starting
            })
    }

    /// Since when every container is the one that it should be, and Healthy without a break.
    pub(crate) fn well_since(&self) -> Option<Time> {
        let mut since = None;
        for machine in &self.machines {
            let alive = machine.alive()?;
            if machine.desired().is_none()
                || machine.outdated()
                || machine.course != Course::Keep
                || alive.tracker.verdict() != Verdict::Healthy
            {
                return None;
            }
            since = since.max(Some(alive.tracker.since().max(machine.since)));
        }
        since
    }

    /// Nothing runs, and nothing of it is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.survey == Survey::Done && self.machines.is_empty()
    }

    /// It is known that no process of this container runs.
    pub(crate) fn is_down(&self, role: &Role) -> bool {
        match self.wanted(role).map(|machine| &machine.phase) {
            Some(Phase::Unseen | Phase::Running(_)) => false,
            Some(Phase::Absent | Phase::Created(_) | Phase::Dead { .. } | Phase::Exited { .. }) => {
                true
            }
            None => self.survey == Survey::Done,
        }
    }

    /// Where the ladder stands.
    pub fn rung(&self) -> Rung {
        match self.ladder {
            Ladder::Safe { .. } => Rung::SafeState,
            Ladder::Withholding { .. } => Rung::Withhold,
            Ladder::Rebooting { .. } => Rung::Reboot,
            Ladder::Climbing | Ladder::Recording(_) if self.engine_restarts() => {
                Rung::EngineRestart
            }
            Ladder::Climbing | Ladder::Recording(_) => self
                .all_wanted()
                .filter(|machine| machine.record.strikes > 0)
                .map(|machine| {
                    let record = &machine.record;
                    match answer(record.strikes, record.spared, &self.config.escalation) {
                        Answered::Restart(..) => Rung::Restart,
                        Answered::Rebuild(..) => Rung::Rebuild,
                        Answered::Recreate(..) | Answered::Spent => Rung::Recreate,
                    }
                })
                .max()
                .unwrap_or(Rung::Foot),
        }
    }

    /// What a technician must know of a container, beside its verdict.
    fn note(&self, machine: &Machine) -> Option<String> {
        if matches!(machine.image, Image::Missing { .. }) {
            return Some(match self.preload {
                Preload::Running | Preload::Again => "waits for the preload folder".to_owned(),
                Preload::Done => machine
                    .trouble
                    .clone()
                    .unwrap_or_else(|| "its image is missing".to_owned()),
            });
        }
        let doing = match machine.pending.map(|pending| pending.kind) {
            Some(Kind::Image) => Some("its image goes to the engine"),
            Some(Kind::Verify) => Some("its image in the store is checked"),
            Some(Kind::Rebuild) => Some("its image is rebuilt from the store"),
            Some(Kind::Create) => Some("is being made"),
            Some(Kind::Start) => Some("is being started"),
            Some(Kind::Look | Kind::Stop | Kind::Remove) | None => None,
        };
        if let Some(doing) = doing {
            return Some(doing.to_owned());
        }
        if let Some(alive) = machine.alive() {
            return match (alive.tracker.verdict(), machine.course) {
                (Verdict::Healthy, Course::Keep) => None,
                (_, Course::Restart(Why::Asked)) => Some("a restart was asked for".to_owned()),
                _ => machine.last_answer().map(str::to_owned),
            };
        }
        if machine.trouble.is_some() {
            return machine.trouble.clone();
        }
        match &machine.phase {
            Phase::Unseen => Some("the engine has not said yet".to_owned()),
            Phase::Exited { code, .. } if self.stopping() => {
                Some(format!("ended with exit code {code}"))
            }
            _ => self.waits_for(machine).map(|role| {
                let condition = machine
                    .desired()
                    .and_then(|desired| desired.depends_on.get(&role).copied());
                match condition {
                    Some(Condition::Healthy) => format!("waits for {role} to be healthy"),
                    Some(Condition::Started) | None => format!("waits for {role}"),
                }
            }),
        }
    }

    /// One line for a technician. Without running numbers, so that it changes only when something did.
    pub(super) fn status_line(&self) -> String {
        if let Some(end) = self.parting {
            return match end.parting {
                Parting::Leave => "Ending; the containers run on".to_owned(),
                Parting::Stop => "Stopping the containers".to_owned(),
            };
        }
        let parts: Vec<String> = self
            .all_wanted()
            .map(|machine| {
                let verdict = match machine.verdict() {
                    Verdict::Starting => "starting",
                    Verdict::Healthy => "healthy",
                    Verdict::Unhealthy => "unhealthy",
                    Verdict::Unknown => "unknown",
                };
                match self.note(machine) {
                    Some(note) => format!("{} {verdict} ({note})", machine.role),
                    None => format!("{} {verdict}", machine.role),
                }
            })
            .collect();
        let head = match (&self.ladder, self.verdict()) {
            (Ladder::Safe { .. }, _) => "Safe state, see `monopod status`",
            (Ladder::Withholding { .. }, _) => "Watchdog withheld",
            (Ladder::Rebooting { .. }, _) => "The node is being rebooted",
            (_, Verdict::Starting) => "Starting",
            (_, Verdict::Healthy) => "Healthy",
            (_, Verdict::Unhealthy) => "Unhealthy",
            (_, Verdict::Unknown) => "Unknown",
        };
        let engine = if self.engine_restarts() {
            "; the engine is being restarted"
        } else if self.engine.silent > 0 {
            "; the engine does not answer"
        } else {
            ""
        };
        let files = self.refused.as_ref().map_or(String::new(), |why| {
            format!("; new files are refused: {why}")
        });
        let store = match self.damaged.as_slice() {
            [] => String::new(),
            [one] => format!("; {one}"),
            [first, others @ ..] => format!("; {first} ({} more)", others.len()),
        };
        format!("{head}: {}{engine}{files}{store}", parts.join(", "))
    }
}

/// Whether a reload would change nothing for a container whose hash and image fit.
fn same(now: Option<&Desired>, then: &Desired) -> bool {
    now.is_some_and(|now| {
        // That the store has learnt the image's ID in the meantime is no change.
        let image_id = now.image_id.clone();
        *now == Desired {
            image_id,
            ..then.clone()
        }
    })
}
