//! The supervisor: every decision of a running monopod, as one pure state machine.
//!
//! ```text
//!  Event ──> take ──> machines ──> settle: verdicts -> strikes -> calls -> ladder -> systemd ──> Actions
//! ```
//!
//! [`Supervisor::step`] may be called at any time with any event; a wake without a
//! reason changes nothing. It never waits, never fails and never looks at a clock.
//! What is under way ends in an event, or in its own deadline if no event comes.

mod asked;
mod engine;
mod follow;
mod outcome;
mod rebuild;
mod rungs;
mod settle;
mod survey;
mod view;

#[cfg(test)]
#[allow(clippy::unnecessary_wraps, reason = "answers are results")]
mod tests;

pub use view::{ContainerView, Step, StepKind, View};

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::api::{Action, Call, Desired, Event, Notify, OpId, Parting, Report, ReportKind};
use crate::core::backoff::Jitter;
use crate::core::container::{Course, Image, Kind, Machine, Pending, Want, Watch, Why, patience};
use crate::core::health::Verdict;
use crate::core::ladder::{Ladder, Spending};
use crate::core::ledger::{Budgets, EngineRecord, Part, Volatile};
use crate::core::time::Time;
use crate::spec::types::{Escalation, Ready, Role};

/// What the supervisor is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The ladder's budgets and delays.
    pub escalation: Escalation,
    /// What READY=1 waits for.
    pub ready: Ready,
    /// The watchdog's period, if systemd watches; without it that rung is stepped over.
    pub watchdog: Option<Duration>,
    /// Where jitter comes from.
    pub seed: u64,
    /// Names this boot of the node ; each boot has another name.
    pub boot: String,
}

/// How the engine has answered lately, and what has been done about it.
#[derive(Clone, Debug)]
struct EngineLine {
    /// Attempts in a row without an answer.
    silent: u32,
    /// When the first of them was made; while it answers, since when it does.
    since: Time,
    /// No call before this time.
    hold: Time,
    /// Restarts of its unit, on record.
    used: EngineRecord,
    rescuing: Rescuing,
}

/// What has become of the last request to restart the engine's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rescuing {
    /// Nothing is asked for, or it was taken.
    Nothing,
    /// Whether it is taken will be known by this time.
    Asked { by: Time },
    /// Nobody took it: until the engine answers again there is no such rung.
    Vain,
}

/// Whether the first look at what the engine has is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survey {
    Due,
    Asked { op: OpId, expires: Time },
    Done,
}

/// What of the budgets is being written to the durable ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    Under {
        budgets: Budgets,
        purpose: Purpose,
        /// When it is given up.
        by: Time,
    },
    /// It was given up and may still come to its end; until then there is no other one.
    Late {
        budgets: Budgets,
    },
}

/// What the durable ledger is being written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// This rung is used next.
    Rung(Spending),
    /// Nothing is spent by it.
    Refill,
}

/// Whether archives of the preload folder may still bring an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preload {
    Running,
    /// They are gone through, and will be once more.
    Again,
    Done,
}

/// The daemon's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    parting: Parting,
    /// It ends at this time at the latest, whatever the engine says.
    by: Time,
}

/// The whole state.
#[derive(Clone, Debug)]
pub struct Supervisor {
    config: Config,
    jitter: Jitter,
    now: Time,
    machines: Vec<Machine>,
    survey: Survey,
    engine: EngineLine,
    ladder: Ladder,
    budgets: Budgets,
    writing: Writing,
    /// No new attempt to write the ledger before this time.
    write_at: Time,
    recorded: Volatile,
    preload: Preload,
    /// What is damaged in the store, a line for each image.
    damaged: Vec<String>,
    /// The damage for which the preload folder was gone through again.
    fetched: BTreeSet<String>,
    parting: Option<End>,
    /// What runs is on trial: instead of the upper rungs there is the way back.
    trial: bool,
    /// Why the files that were read last are not in force.
    refused: Option<String>,
    /// READY=1 has been sent.
    ready: bool,
    fed: Option<Time>,
    extended: Option<Time>,
    status: String,
    next_op: u64,
    next_probe: u64,
    actions: Vec<Action>,
}

impl Supervisor {
    /// Begins with what the ledgers remember. Nothing happens before the first [`Supervisor::step`].
    pub fn new(
        config: Config,
        desired: Vec<Desired>,
        budgets: Budgets,
        volatile: Volatile,
        now: Time,
    ) -> Self {
        let machines = desired
            .into_iter()
            .map(|desired| {
                let mut record = volatile
                    .containers
                    .get(&desired.role)
                    .cloned()
                    .unwrap_or_default();
                if volatile.withholding {
                    // Being started anew was the ladder's last answer: its first rungs are tried again.
                    record.clear();
                    record.hold = now;
                }
                // A record of another boot counts from another zero.
                record.hold = record.hold.min(now + config.escalation.backoff_max);
                Machine::new(desired.role.clone(), Want::Run(desired), record, now)
            })
            .collect();
        let mut used = volatile.engine.clone();
        used.hold = used.hold.min(now + engine::ENGINE_STARTS);
        // Whoever asked for it has died since; it is not asked for again.
        let ladder = match budgets.reboots.under_way(&config.boot, now, rungs::REBOOTS) {
            Some(since) => Ladder::Rebooting { since },
            None => Ladder::Climbing,
        };
        let budgets = Budgets {
            reboots: budgets.reboots.in_boot(&config.boot),
            ..budgets
        };
        Self {
            jitter: Jitter::new(config.seed),
            config,
            now,
            machines,
            survey: Survey::Due,
            engine: EngineLine {
                silent: 0,
                since: now,
                hold: now,
                used,
                rescuing: Rescuing::Nothing,
            },
            ladder,
            budgets,
            writing: Writing::Nothing,
            write_at: now,
            recorded: volatile,
            preload: Preload::Running,
            damaged: Vec::new(),
            fetched: BTreeSet::new(),
            parting: None,
            trial: false,
            refused: None,
            ready: false,
            fed: None,
            extended: None,
            status: String::new(),
            next_op: 1,
            next_probe: 1,
            actions: Vec::new(),
        }
    }

    /// Takes one event at `now` and says what to do, in this order.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.take(event);
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens before.
    pub fn deadline(&self) -> Option<Time> {
        let machines = self
            .machines
            .iter()
            .filter_map(|machine| machine.deadline(self.now));
        let survey = match self.survey {
            Survey::Due | Survey::Done => None,
            Survey::Asked { expires, .. } => Some(expires),
        };
        let end = self.parting.map(|end| end.by);
        [
            survey,
            end,
            self.engine_deadline(),
            self.rung_deadline(),
            self.notify_deadline(),
            self.stable_deadline(),
        ]
        .into_iter()
        .flatten()
        .chain(machines)
        .filter(|time| *time > self.now)
        .min()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Done(op, result) => self.done(op, result),
            Event::Progress(op) => self.progressed(op),
            Event::Died { role, pid } => self.died(&role, pid),
            Event::Unwatched { role, pid } => self.unwatched(&role, pid),
            Event::Probed {
                role,
                probe,
                answer,
            } => {
                let now = self.now;
                if let Some(alive) = self.wanted_mut(&role).and_then(Machine::alive_mut) {
                    alive.tracker.answered(now, probe, answer);
                }
            }
            Event::App(role, note) => {
                let now = self.now;
                if let Some(alive) = self.wanted_mut(&role).and_then(Machine::alive_mut) {
                    alive.tracker.app(now, &note);
                }
            }
            Event::Persisted(Part::Budgets, result) => self.persisted(result),
            Event::StoreChanged => self.look_for_images(),
            Event::PreloadDone => self.preload_done(),
            Event::StoreDamaged(lines) => self.store_damaged(lines),
            Event::Reload { desired, policy } => self.reload(desired, policy),
            Event::ReloadRefused(why) => self.refused = Some(why),
            Event::Rescued(rescue, result) => self.rescued(rescue, result),
            Event::Restart(role) => self.restart_asked(role.as_ref()),
            Event::Terminate(parting) => self.terminate(parting),
            // The rest is the update's, if anybody's.
            Event::Tick
            | Event::Persisted(Part::Book, _)
            | Event::StageMoved(_)
            | Event::Staged(..)
            | Event::Gates(..)
            | Event::Hooked(..)
            | Event::Snapshotted(..)
            | Event::Restored(..)
            | Event::Loaded(..) => {}
        }
    }

    /// The machine of a role that should run.
    fn wanted_mut(&mut self, role: &Role) -> Option<&mut Machine> {
        self.machines
            .iter_mut()
            .find(|machine| machine.role == *role && machine.desired().is_some())
    }

    fn wanted(&self, role: &Role) -> Option<&Machine> {
        self.machines
            .iter()
            .find(|machine| machine.role == *role && machine.desired().is_some())
    }

    fn all_wanted(&self) -> impl Iterator<Item = &Machine> {
        self.machines
            .iter()
            .filter(|machine| machine.desired().is_some())
    }

    fn report(&mut self, role: Option<&Role>, kind: ReportKind, text: String) {
        self.actions.push(Action::Report(Report {
            role: role.cloned(),
            kind,
            text,
        }));
    }

    fn notify(&mut self, notify: Notify) {
        self.actions.push(Action::Notify(notify));
    }

    fn call(&mut self, call: Call) -> (OpId, Time) {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let expires = self.now + patience(&call);
        self.actions.push(Action::Engine(op, call));
        (op, expires)
    }

    fn begin(&mut self, index: usize, call: Call) {
        let kind = match &call {
            // A survey is never a machine's own.
            Call::Survey | Call::Look { .. } => Kind::Look,
            Call::Image { .. } => Kind::Image,
            Call::Verify { .. } => Kind::Verify,
            Call::Rebuild { .. } => Kind::Rebuild,
            Call::Create { .. } => Kind::Create,
            Call::Start { .. } => Kind::Start,
            Call::Stop { .. } => Kind::Stop,
            Call::Remove { .. } => Kind::Remove,
        };
        let leader = self.leader_of(&self.machines[index]);
        let machine = &mut self.machines[index];
        match kind {
            Kind::Create => machine.record.joined = leader.map(|(id, _)| (id, 0)),
            Kind::Start => machine.record.joined = leader,
            Kind::Stop if machine.course == Course::Keep && machine.outdated() => {
                machine.course = Course::Recreate(Why::Outdated);
            }
            Kind::Stop | Kind::Look | Kind::Image | Kind::Verify | Kind::Rebuild | Kind::Remove => {
            }
        }
        let (op, expires) = self.call(call);
        self.machines[index].pending = Some(Pending { op, kind, expires });
    }

    fn died(&mut self, role: &Role, pid: u32) {
        let Some(index) = self.machines.iter().position(|machine| {
            machine.role == *role && machine.alive().is_some_and(|alive| alive.pid == pid)
        }) else {
            return;
        };
        self.process_ended(index);
    }

    fn unwatched(&mut self, role: &Role, pid: u32) {
        let now = self.now;
        for machine in &mut self.machines {
            if machine.role == *role && machine.alive().is_some_and(|alive| alive.pid == pid) {
                if let Some(alive) = machine.alive_mut() {
                    alive.watch = Watch::Polled;
                }
                machine.poll_later(now);
            }
        }
    }

    fn look_for_images(&mut self) {
        for machine in &mut self.machines {
            if matches!(machine.image, Image::Missing { .. }) {
                machine.image = Image::Unchecked;
                machine.record.hold = self.now;
            }
        }
    }

    /// The daemon ends and takes the containers with it.
    fn stopping(&self) -> bool {
        self.parting.is_some_and(|end| end.parting == Parting::Stop)
    }

    /// Drops a machine's call if it is of these kinds.
    fn abandon(&mut self, index: usize, kinds: &[Kind]) {
        let machine = &mut self.machines[index];
        if let Some(pending) = machine.pending
            && kinds.contains(&pending.kind)
        {
            machine.pending = None;
            self.actions.push(Action::Abandon(pending.op));
        }
    }
}

/// For how long a machine's verdict has been Healthy.
fn healthy_for(machine: &Machine, now: Time) -> Option<Duration> {
    let tracker = &machine.alive()?.tracker;
    (tracker.verdict() == Verdict::Healthy).then(|| now - tracker.since())
}

/// For how long a machine has been Healthy without anything having failed.
fn calm_for(machine: &Machine, now: Time) -> Option<Duration> {
    healthy_for(machine, now).map(|span| span.min(now - machine.record.hold))
}
