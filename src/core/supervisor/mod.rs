//! The supervisor: every decision of a running monopod, as one pure state machine.
//!
//! ```text
//!  Event ──> take ──> machines ──> settle: verdicts -> strikes -> calls -> ladder -> systemd ──> Actions
//! ```
//!
//! [`Supervisor::step`] may be called at any time with any event; a wake without a
//! reason changes nothing. It never waits, never fails and never looks at a clock.
//! What is under way ends in an event, or in its own deadline if no event comes.

mod follow;
mod outcome;
mod rungs;
mod settle;
mod survey;
mod view;

#[cfg(test)]
#[allow(clippy::unnecessary_wraps, reason = "answers are results")]
mod tests;

pub use view::{ContainerView, Step, StepKind, View};

use std::time::Duration;

use crate::core::api::{Action, Call, Desired, Event, Notify, OpId, Parting, Report, ReportKind};
use crate::core::backoff::Jitter;
use crate::core::container::{Course, Image, Kind, Machine, Pending, Want, Watch, Why, patience};
use crate::core::health::Verdict;
use crate::core::ladder::Ladder;
use crate::core::ledger::{Durable, Record, Volatile};
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
}

/// How the engine has answered lately.
#[derive(Clone, Debug, Default)]
struct EngineLine {
    /// Attempts in a row without an answer.
    silent: u32,
    /// When the first of them was made.
    since: Time,
    /// No call before this time.
    hold: Time,
}

/// Whether the first look at what the engine has is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survey {
    Due,
    Asked { op: OpId, expires: Time },
    Done,
}

/// What the durable ledger is being written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    /// One more withholding; given up at this time.
    Withhold {
        by: Time,
    },
    /// A full budget; given up at this time.
    Reset {
        by: Time,
    },
}

/// Whether archives of the preload folder may still bring an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preload {
    Running,
    Done,
}

/// How long the end may take beyond the containers' grace periods.
const LAST_PATIENCE: Duration = Duration::from_secs(60);

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
    durable: Durable,
    writing: Writing,
    /// No new attempt to write the ledger before this time.
    write_at: Time,
    recorded: Volatile,
    preload: Preload,
    parting: Option<End>,
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
        durable: Durable,
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
                    record.strikes = 0;
                    record.quick = 0;
                    record.hold = now;
                }
                // A record of another boot counts from another zero.
                record.hold = record.hold.min(now + config.escalation.backoff_max);
                Machine::new(desired.role.clone(), Want::Run(desired), record, now)
            })
            .collect();
        Self {
            jitter: Jitter::new(config.seed),
            config,
            now,
            machines,
            survey: Survey::Due,
            engine: EngineLine::default(),
            ladder: Ladder::Climbing,
            durable,
            writing: Writing::Nothing,
            write_at: now,
            recorded: volatile,
            preload: Preload::Running,
            parting: None,
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
        let writing = match self.writing {
            Writing::Nothing => None,
            Writing::Withhold { by } | Writing::Reset { by } => Some(by),
        };
        let end = self.parting.map(|end| end.by);
        [
            survey,
            writing,
            end,
            Some(self.engine.hold),
            Some(self.write_at),
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
            Event::Tick => {}
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
            Event::Persisted(result) => self.persisted(result),
            Event::StoreChanged => self.look_for_images(),
            Event::PreloadDone => {
                self.preload = Preload::Done;
                self.look_for_images();
            }
            Event::Reload(desired) => self.reload(desired),
            Event::Restart(role) => self.restart_asked(role.as_ref()),
            Event::Terminate(parting) => self.terminate(parting),
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
            Kind::Stop | Kind::Look | Kind::Image | Kind::Remove => {}
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
                machine.poll_later(now);
                if let Some(alive) = machine.alive_mut() {
                    alive.watch = Watch::Polled;
                }
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

    fn reload(&mut self, desired: Vec<Desired>) {
        let now = self.now;
        for machine in &mut self.machines {
            if !desired.iter().any(|desired| desired.role == machine.role) {
                machine.want = Want::Gone;
                machine.record.hold = now;
            }
        }
        for desired in desired {
            match self
                .machines
                .iter()
                .position(|machine| machine.role == desired.role && machine.desired().is_some())
            {
                Some(index) => {
                    // The image that is on its way may be another one than is needed now.
                    self.abandon(index, &[Kind::Image]);
                    self.machines[index].change(desired, now);
                }
                None => self.machines.push(Machine::new(
                    desired.role.clone(),
                    Want::Run(desired),
                    Record::default(),
                    now,
                )),
            }
        }
        self.ladder = Ladder::Climbing;
        self.report(
            None,
            ReportKind::Reloaded,
            "the files were read again and are in force".to_owned(),
        );
    }

    fn restart_asked(&mut self, role: Option<&Role>) {
        let now = self.now;
        let mut asked = Vec::new();
        for machine in &mut self.machines {
            if machine.desired().is_some() && role.is_none_or(|role| *role == machine.role) {
                machine.course = Course::Restart(Why::Asked);
                // Root's hand is a new beginning.
                machine.record.strikes = 0;
                machine.record.quick = 0;
                machine.record.hold = now;
                asked.push(machine.role.clone());
            }
        }
        if !asked.is_empty() {
            self.ladder = Ladder::Climbing;
        }
        for role in asked {
            self.report(
                Some(&role),
                ReportKind::RestartAsked,
                format!("{role}: a restart was asked for"),
            );
        }
    }

    fn terminate(&mut self, parting: Parting) {
        if self.stopping() {
            return;
        }
        let graces: Duration = self
            .all_wanted()
            .filter_map(Machine::desired)
            .map(|desired| desired.grace)
            .sum();
        let by = self.now + graces + LAST_PATIENCE;
        self.parting = Some(End { parting, by });
        self.notify(Notify::Stopping);
        let text = match parting {
            Parting::Leave => "monopod ends; the containers run on",
            Parting::Stop => "monopod ends and stops the containers",
        };
        self.report(None, ReportKind::Stopping, text.to_owned());
        // Whatever delays or occupies an attempt does not delay the end.
        for index in 0..self.machines.len() {
            self.machines[index].record.hold = self.now;
            self.abandon(index, &[Kind::Image, Kind::Look]);
        }
        self.engine = EngineLine {
            silent: 0,
            since: self.now,
            hold: self.now,
        };
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

impl Machine {
    /// Takes over another spec; what it means for the container follows from its hash.
    fn change(&mut self, desired: Desired, now: Time) {
        self.want = Want::Run(desired);
        self.image = Image::Unchecked;
        self.record.strikes = 0;
        self.record.quick = 0;
        self.record.hold = now;
        self.trouble = None;
        let question = self.found().cloned().map(|found| self.question(&found));
        if let (Some(question), Some(alive)) = (question, self.alive_mut()) {
            alive.tracker.ask_differently(question, now);
        }
    }
}

/// For how long a machine's verdict has been Healthy.
fn healthy_for(machine: &Machine, now: Time) -> Option<Duration> {
    let tracker = &machine.alive()?.tracker;
    (tracker.verdict() == Verdict::Healthy).then(|| now - tracker.since())
}
