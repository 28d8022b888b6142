//! A simulated node: an engine, containers, systemd's watchdog, disk, and time that jumps from event to event.
//!
//! It executes the supervisor's actions as the shell does, and answers as a real node may: late, wrongly, or never.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use monopod::core::api::{
    Action, Answer, AppNote, Call, Desired, Event, Fault, Notify, OpId, Outcome, Parting, Policy,
    ReportKind, Rescue, Running, Seen, SeenState, Sharer,
};
use monopod::core::ladder::Rung;
use monopod::core::ledger::{Budgets, Durable, Entry, Volatile};
use monopod::core::node::Node as Core;
use monopod::core::supervisor::{Config, StepKind, Supervisor};
use monopod::core::time::Time;
use monopod::core::update::{ReleaseId, Rules, Wish};
use monopod::spec::types::{
    Condition, Escalation, Health, Healthcheck, Probe, Ready, Role, Target, Timing,
};

use super::releases::{self, Shelf, Turn};

/// systemd's `TimeoutStartSec=` in the simulation.
const START: Duration = Duration::from_secs(90);

/// systemd's `WatchdogSec=` in the simulation.
pub const WATCHDOG: Duration = Duration::from_secs(60);

/// How long a workload that is not well may be without a rung of the ladder. Probes that nobody can ask are no
/// failure, and the longest of that lasts for five minutes; the engine's rung comes after one.
const IDLE: Duration = Duration::from_secs(900);

/// What may befall a node.
#[derive(Clone, Debug)]
pub enum Blow {
    /// `kill -9` of a container's process.
    Kill(usize),
    /// The container's process ends this soon (ms) after each start, for the next so many starts.
    CrashLoop(usize, u64, u32),
    /// Its probe fails for so long (s).
    Sick(usize, u64),
    /// Its probe cannot be asked for so long (s).
    Unaskable(usize, u64),
    /// Its probe never answers (the shell broke its promise), once.
    ProbeLost(usize),
    /// The engine answers nothing for so long (s); what it was told before may or may not take effect.
    EngineHangs(u64, bool),
    /// The engine refuses the next so many calls that change something.
    EngineRefuses(u32),
    /// The engine answers the next so many looks with an error of its own.
    EngineConfused(u32),
    /// The next so many starts and creations say that something they need is not there.
    SomethingLacks(u32),
    /// The answers to the next so many calls are lost; what was asked is done.
    AnswersLost(u32),
    /// The engine does not notice the end of a process for so long (s).
    EngineBlind(u64),
    /// Writing the ledger takes so long (s).
    DiskSlow(u64),
    /// The daemon is told to end with its containers; it is started again later.
    Stop,
    /// Answers take so long (ms) from now on.
    EngineSlow(u64),
    /// The daemon is killed after so many further actions.
    DaemonKilled(usize),
    /// The node loses power and boots again: `/run` is empty, nothing runs.
    PowerCut,
    /// The image disappears from engine and store for so long (s).
    ImageGone(u64),
    /// The disk of the ledger is full for so long (s).
    DiskFull(u64),
    /// The daemon is woken for nothing, with a clock that seems to have gone back so far (ms).
    ClockBack(u64),
    /// Someone stops a container behind monopod's back.
    StoppedByHand(usize),
    /// Someone removes a container behind monopod's back.
    RemovedByHand(usize),
    /// Root asks for a restart of one, or of all.
    RestartAsked(Option<usize>),
    /// The files change: this variant of the workload is loaded.
    Reload(u8),
    /// The daemon is told to leave, and started anew.
    DaemonRestart,
    /// The engine answers nothing until its unit is restarted or the node reboots.
    EngineStuck,
    /// The engine is restarted and takes the containers along: they end this long (ms) before it goes, and it
    /// comes back after so long (s). Who asks meanwhile is refused, or waits until it is back.
    EngineRestarts(u64, u64, bool),
    /// Nobody takes requests for help for so long (s).
    NobodyHelps(u64),
    /// The files are read again, and allow reboots or not.
    Reboots(bool),
    /// There is no pidfd for the processes that start from now on.
    NoPidfd,
    /// From now on nobody says which boot it is.
    NamelessBoots,
    /// From now on probes run in the containers: without the engine nobody can ask.
    ProbesByEngine,
    /// What the engine has of the image is damaged: these containers' processes end this soon (ms) after each
    /// start, until it is fed again. What containers and other images hold of it is not.
    ImageDamaged(bool, bool, u64),
    /// As that, in layers that all images share from now on: a rebuild mends them only if it takes every image of
    /// a container along.
    BaseDamaged(bool, bool, u64),
    /// For so long (s) the store has not the whole image.
    StoreDamaged(u64),
    /// For so long (s) the engine neither does nor answers what would change a container; looks are answered.
    EngineHalfHangs(u64),
    /// The node loses power after so many further actions.
    CutAfter(usize),
    /// Something is done with releases.
    Turn(Turn),
}

/// Where a story is cut off, to see that the node goes on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The node loses power.
    Power,
    /// The daemon is killed.
    Daemon,
}

/// How the engine fails at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// It says no, and has done nothing.
    Refused,
    /// It says nothing, and has done nothing.
    NoAnswer,
    /// It has done it, and nobody hears of it.
    AnswerLost,
}

/// Whose files in an image are damaged, and how soon (ms) they end of it.
type Damage = BTreeMap<Role, u64>;

#[derive(Clone, Debug)]
struct Container {
    id: String,
    name: String,
    role: Role,
    hash: String,
    /// The release that it was made of, if it was in this story.
    made_by: Option<ReleaseId>,
    /// When it was last started.
    started: Duration,
    state: SeenState,
    /// Not made by monopod: it must stay as it is.
    stranger: bool,
    /// Made from an image of this ID, with these roles' files damaged.
    image: (String, Damage),
    /// The container whose network it was made to share, and that one's process when it was started.
    joins: Option<(String, u32)>,
    /// Its last process.
    last_pid: Option<u32>,
}

#[derive(Debug)]
pub(super) enum Due {
    /// A call takes effect in the engine, and its answer goes to the daemon that made it.
    Effect(u64, OpId, Call),
    /// A message reaches the daemon of this generation.
    Deliver(u64, Event),
    /// A process ends.
    End(String, u32),
    /// The next blow of the story.
    Blow(usize),
    /// systemd looks whether the watchdog was fed.
    Watchdog(u64),
    /// systemd starts the daemon.
    Boot,
    /// The next write of the ledger by the daemon of this generation ends.
    Written(u64),
    /// What the daemon of this generation does for an update ends.
    Deed(u64, Action),
    /// The shell of this generation reads the node's drop-ins again.
    ReadAgain(u64),
    /// An app says once more whether it is busy: nobody may have heard it the first time.
    Busy(usize, bool),
    /// An importer has brought a release, and offers it.
    Offer(ReleaseId, Wish, bool),
    /// The engine goes for so long, with the containers.
    EngineGoes(Duration, bool),
    /// The node goes down and comes up again.
    Reboot,
}

/// A node, and the record of what happened on it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Node {
    pub(super) now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    due: BTreeMap<u64, Due>,
    sequence: u64,
    pub(super) daemon: Option<Core>,
    pub(super) generation: u64,
    seed: u64,
    pub(super) variant: u8,
    containers: Vec<Container>,
    next_id: u32,
    loops: BTreeMap<Role, (u64, u32)>,
    /// What is damaged of the engine's images.
    damage: BTreeMap<String, Damage>,
    /// All images have layers in common, and whether those are damaged.
    base: Option<bool>,
    store_damaged_until: Duration,
    /// The image of this role was found whole in the store.
    verified: BTreeSet<Role>,
    sick: BTreeMap<Role, Duration>,
    unaskable: BTreeMap<Role, Duration>,
    probes_lost: BTreeMap<Role, u32>,
    /// Processes that have said that they are busy.
    busy: BTreeMap<Role, u32>,
    hangs_until: Duration,
    hang_takes_effect: bool,
    half_hangs_until: Duration,
    stuck: bool,
    /// The engine's socket takes calls, and they are answered from then on.
    waits_until: Duration,
    unhelped_until: Duration,
    /// Nobody takes the last request to restart the engine.
    unhelped: bool,
    /// Containers that a reload has taken out of the workload, whatever a later one says.
    leaving: Vec<String>,
    reboot_allowed: bool,
    /// When the node booted, and for the how manyth time.
    booted: (Duration, u32),
    refusals: u32,
    confused: u32,
    lacks: u32,
    answers_lost: u32,
    blind_until: Duration,
    pub(super) disk_slow: Duration,
    /// When the engine last failed to do what it was told.
    troubled: Duration,
    /// The daemon has been told to end by this time.
    ends_by: Option<Duration>,
    /// Calls and reports of the present minute, and how many may be in one.
    minute: (u64, u32),
    latency: u64,
    pub(super) image_gone_until: Duration,
    pub(super) disk_full_until: Duration,
    pub(super) disk_hangs_until: Duration,
    pidfds: bool,
    probes_by_engine: bool,
    /// Processes whose end this daemon's pidfds tell.
    watched: BTreeSet<u32>,
    kill_after: Option<usize>,
    power_after: Option<usize>,
    pub(super) disk: Option<String>,
    /// What it says.
    pub(super) recorded: Durable,
    /// Something has happened but a probe.
    pub(super) news: bool,
    /// The ledger before that one.
    pub(super) disk_before: Option<String>,
    /// What the daemon's writer has written last, and is to write.
    pub(super) writer: Durable,
    pub(super) to_write: VecDeque<Entry>,
    /// When the writer will have done that.
    writer_free: Duration,
    /// How many reboots counted on disk before it was written last.
    pub(super) reboots_before_write: u32,
    pub(super) shelf: Shelf,
    /// What was found not to hold, apart from an event.
    pub(super) broken: Option<String>,
    /// Points at which the story can be cut off so far, if they are counted, and where it is to be.
    pub points: Option<usize>,
    pub cut: Option<(usize, Cut)>,
    /// Calls of the engine so far, while points are counted, and at which it fails.
    pub calls_made: usize,
    pub fails: Option<(usize, Fails)>,
    boot_has_a_name: bool,
    /// Since when the workload is not well and nothing is done about it.
    idle_since: Option<Duration>,
    pub(super) run: Volatile,
    ready: bool,
    fed: Duration,
    start_by: Duration,
    /// The daemon of this generation knows for certain that a role has no container.
    known_absent: BTreeMap<Role, bool>,
    calls: BTreeMap<OpId, Call>,
    answered_failures: u32,
    blows: Vec<(Duration, Blow)>,
    /// What happened, line by line, if it is told.
    pub story: Vec<String>,
    /// Whether it is told.
    pub telling: bool,
    /// Durable writes of the ladder's budgets.
    pub writes: u32,
    /// Durable writes of the releases' book.
    pub book_writes: u32,
    /// When reboots were asked for and done.
    pub reboots: Vec<Duration>,
    /// How often the engine's unit was restarted for us.
    pub engine_restarts: u32,
    /// How often an image was removed and fed again.
    pub rebuilds: u32,
    /// How often the daemon took an event.
    pub steps: u64,
}

pub(super) fn roles() -> [Role; 2] {
    [Role::new("broker"), Role::new("app")]
}

fn escalation() -> Escalation {
    Escalation {
        restarts: 3,
        recreates: 2,
        rebuilds: 1,
        withholds: 2,
        stable: Duration::from_secs(300),
        engine_after: Duration::from_secs(60),
        engine_restarts: 2,
        reboots_per_day: 2,
        ..Escalation::default()
    }
}

/// The workload in its variants: 0 as it was first, 1 with another spec and probe, 2 without the broker,
/// 3 with the app in the broker's network.
pub fn workload(variant: u8) -> Vec<Desired> {
    let [broker, app] = roles();
    let timing = Timing {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        retries: if variant == 1 { 2 } else { 3 },
        ..Timing::default()
    };
    let health = Healthcheck::Own(Health {
        probe: Probe::Tcp(Target::Own(80)),
        timing,
    });
    let one = |role: &Role, depends_on| Desired {
        role: role.clone(),
        hash: match (variant, role.as_str()) {
            (1, _) => format!("{role}-1"),
            (3, "app") => "app-3".to_owned(),
            _ => format!("{role}-0"),
        },
        image: "example/image:1".to_owned(),
        // Elsewhere one image serves both.
        image_id: Some(match (variant, role.as_str()) {
            (1, "app") => "sha256:2".to_owned(),
            _ => "sha256:1".to_owned(),
        }),
        healthcheck: health.clone(),
        grace: Duration::from_secs(5),
        depends_on,
        network_of: None,
    };
    let after = |condition| BTreeMap::from([(broker.clone(), condition)]);
    match variant {
        2 => vec![one(&app, BTreeMap::new())],
        3 => {
            let mut follower = one(&app, after(Condition::Started));
            follower.network_of = Some(broker.clone());
            follower.healthcheck = Healthcheck::Off;
            vec![one(&broker, BTreeMap::new()), follower]
        }
        _ => vec![
            one(&broker, BTreeMap::new()),
            one(&app, after(Condition::Healthy)),
        ],
    }
}

impl Node {
    /// A node on which `blows` will fall, each so long after the one before. `remains` are containers from earlier days.
    #[expect(clippy::too_many_lines, reason = "a list of facts")]
    pub fn new(seed: u64, remains: &[(bool, bool, bool)], blows: &[(u64, Blow)]) -> Self {
        let mut node = Self {
            now: Duration::from_secs(30),
            queue: BinaryHeap::new(),
            due: BTreeMap::new(),
            sequence: 0,
            daemon: None,
            generation: 0,
            seed,
            variant: 0,
            containers: Vec::new(),
            next_id: 1,
            loops: BTreeMap::new(),
            damage: BTreeMap::new(),
            base: None,
            store_damaged_until: Duration::ZERO,
            verified: BTreeSet::new(),
            sick: BTreeMap::new(),
            unaskable: BTreeMap::new(),
            probes_lost: BTreeMap::new(),
            busy: BTreeMap::new(),
            hangs_until: Duration::ZERO,
            hang_takes_effect: false,
            half_hangs_until: Duration::ZERO,
            stuck: false,
            waits_until: Duration::ZERO,
            unhelped_until: Duration::ZERO,
            unhelped: false,
            leaving: Vec::new(),
            reboot_allowed: seed.is_multiple_of(2),
            booted: (Duration::ZERO, 1),
            refusals: 0,
            confused: 0,
            lacks: 0,
            answers_lost: 0,
            blind_until: Duration::ZERO,
            disk_slow: Duration::ZERO,
            troubled: Duration::ZERO,
            ends_by: None,
            minute: (0, 0),
            latency: 20,
            image_gone_until: Duration::ZERO,
            disk_full_until: Duration::ZERO,
            disk_hangs_until: Duration::ZERO,
            pidfds: true,
            probes_by_engine: false,
            watched: BTreeSet::new(),
            kill_after: None,
            power_after: None,
            disk: None,
            recorded: Durable::default(),
            news: true,
            disk_before: None,
            writer: Durable::default(),
            to_write: VecDeque::new(),
            writer_free: Duration::ZERO,
            reboots_before_write: 0,
            shelf: Shelf::new(),
            broken: None,
            points: None,
            cut: None,
            calls_made: 0,
            fails: None,
            boot_has_a_name: true,
            idle_since: None,
            run: Volatile::default(),
            ready: false,
            fed: Duration::ZERO,
            start_by: Duration::ZERO,
            known_absent: BTreeMap::new(),
            calls: BTreeMap::new(),
            answered_failures: 0,
            blows: Vec::new(),
            story: Vec::new(),
            telling: false,
            writes: 0,
            book_writes: 0,
            reboots: Vec::new(),
            engine_restarts: 0,
            rebuilds: 0,
            steps: 0,
        };
        node.containers.push(Container {
            id: "stranger".to_owned(),
            name: "stranger".to_owned(),
            role: Role::new("app"),
            hash: "app-0".to_owned(),
            made_by: None,
            started: Duration::ZERO,
            state: SeenState::Running(Running {
                pid: 7,
                address: None,
            }),
            stranger: true,
            image: ("sha256:9".to_owned(), Damage::new()),
            joins: None,
            last_pid: None,
        });
        for (index, (runs, fits, renamed)) in remains.iter().enumerate() {
            let role = roles()[index % 2].clone();
            let prefix = if *renamed { "oldname" } else { "work" };
            let name = format!("{prefix}-{role}");
            if node
                .containers
                .iter()
                .any(|other| other.name == name || (other.role == role && !other.stranger && *runs))
            {
                continue;
            }
            let id = node.fresh_id();
            let state = if *runs {
                SeenState::Running(Running {
                    pid: 1000 + node.next_id,
                    address: None,
                })
            } else {
                SeenState::Exited { code: 0 }
            };
            let hash = if *fits {
                format!("{role}-0")
            } else {
                "other".to_owned()
            };
            node.containers.push(Container {
                id,
                name,
                role,
                hash,
                made_by: None,
                started: Duration::ZERO,
                state,
                stranger: false,
                image: ("sha256:1".to_owned(), Damage::new()),
                joins: None,
                last_pid: None,
            });
        }
        let mut at = node.now;
        for (index, (gap, blow)) in blows.iter().enumerate() {
            at += Duration::from_millis(*gap);
            node.blows.push((at, blow.clone()));
            node.at(at, Due::Blow(index));
        }
        node.at(node.now, Due::Boot);
        node
    }

    /// When the last blow falls.
    pub fn last_blow(&self) -> Duration {
        let long = self.blows.iter().map(|(at, blow)| {
            *at + match blow {
                Blow::Sick(_, span)
                | Blow::Unaskable(_, span)
                | Blow::EngineHangs(span, _)
                | Blow::EngineHalfHangs(span)
                | Blow::EngineBlind(span)
                | Blow::EngineRestarts(_, span, _)
                | Blow::NobodyHelps(span)
                | Blow::ImageGone(span)
                | Blow::StoreDamaged(span)
                | Blow::DiskFull(span)
                | Blow::Turn(Turn::DiskHangs(span)) => Duration::from_secs(*span),
                _ => Duration::ZERO,
            }
        });
        long.max().unwrap_or(self.now)
    }

    /// Runs until `end`, checking what must always hold after each event.
    pub fn run_until(&mut self, end: Duration) -> Result<(), String> {
        loop {
            let next_due = self.queue.peek().map(|Reverse((at, _))| *at);
            let deadline = self
                .daemon
                .as_ref()
                .and_then(Core::deadline)
                .map(|time| self.booted.0 + time.0);
            let next = match (next_due, deadline) {
                (Some(due), Some(deadline)) => due.min(deadline),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => end,
            };
            if next > end {
                self.now = end;
                return Ok(());
            }
            self.now = self.now.max(next);
            if next_due == Some(next) {
                let Some(Reverse((_, key))) = self.queue.pop() else {
                    continue;
                };
                if let Some(due) = self.due.remove(&key) {
                    self.happen(due)?;
                }
            } else {
                self.deliver(self.generation, Event::Tick)?;
            }
            self.check()?;
            if self.steps > 200_000 {
                return Err("the daemon is awake without end".to_owned());
            }
        }
    }

    /// Whatever was wrong with the engine and the containers is over.
    pub fn mend(&mut self) {
        self.loops.clear();
        self.damage.clear();
        self.base = None;
        for container in &mut self.containers {
            container.image.1.clear();
        }
        self.stuck = false;
        self.refusals = 0;
        self.confused = 0;
        self.lacks = 0;
        self.answers_lost = 0;
        self.disk_slow = Duration::ZERO;
        self.disk_hangs_until = Duration::ZERO;
        self.latency = 20;
        self.shelf.mend();
    }

    /// Where the ladder stands.
    pub fn rung(&self) -> Option<Rung> {
        self.supervisor().map(Supervisor::rung)
    }

    fn supervisor(&self) -> Option<&Supervisor> {
        self.daemon.as_ref().map(Core::supervisor)
    }

    /// The containers' failures that count.
    pub fn strikes(&self) -> u32 {
        let records = self.run.containers.values();
        records.map(|record| record.strikes).sum()
    }

    /// Everything that should run runs and is healthy, and the ladder is not used up.
    pub fn well(&self) -> Result<(), String> {
        let Some(daemon) = &self.daemon else {
            return Err("no daemon runs".to_owned());
        };
        self.settled()?;
        let wanted = self.wanted();
        for desired in &wanted {
            let mine = self.containers.iter().find(|container| {
                !container.stranger
                    && container.role == desired.role
                    && container.hash == desired.hash
                    && Some(&container.image.0) == desired.image_id.as_ref()
                    && matches!(container.state, SeenState::Running(_))
            });
            if mine.is_none() {
                return Err(format!(
                    "{} does not run as it should: {:?}",
                    desired.role,
                    daemon.view()
                ));
            }
        }
        for container in self
            .containers
            .iter()
            .filter(|container| !container.stranger)
        {
            if let Some((leader, pid)) = &container.joins
                && self.process(leader) != Some(*pid)
            {
                return Err(format!("{} is in a network that is gone", container.role));
            }
        }
        let plan = daemon.plan(&wanted);
        if plan.iter().any(|step| step.kind != StepKind::Keep) {
            return Err(format!("something is still to do: {plan:?}"));
        }
        if daemon.supervisor().verdict() != monopod::core::health::Verdict::Healthy {
            return Err(format!("not healthy: {:?}", daemon.view()));
        }
        if daemon.view().rung != Rung::Foot {
            return Err(format!(
                "the ladder does not come down: {:?}",
                daemon.view()
            ));
        }
        if self
            .containers
            .iter()
            .filter(|container| !container.stranger)
            .count()
            != wanted.len()
        {
            return Err(format!("containers are left over: {:?}", self.containers));
        }
        Ok(())
    }

    /// How many actions the daemon takes in `span`, by kind, with nothing happening.
    pub fn idle_actions(&mut self, span: Duration) -> Result<BTreeMap<&'static str, u32>, String> {
        let from = self.story.len();
        self.run_until(self.now + span)?;
        let mut counts = BTreeMap::new();
        for line in &self.story[from..] {
            for word in [
                "Persist", "Record", "Status", "Report", "Engine(", "Watchdog", "Probe",
            ] {
                if line.contains("-> ") && line.contains(word) {
                    *counts.entry(word).or_insert(0) += 1;
                }
            }
        }
        Ok(counts)
    }

    fn fresh_id(&mut self) -> String {
        self.next_id += 1;
        format!("id{}", self.next_id)
    }

    pub(super) fn at(&mut self, time: Duration, due: Due) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence)));
        self.due.insert(self.sequence, due);
    }

    /// Adds a line to the story, if anybody wants to hear it: telling costs more than happening.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.telling {
            let now = self.now.as_secs_f64();
            self.story.push(format!("{now:>10.3} {}", line()));
        }
    }

    fn happen(&mut self, due: Due) -> Result<(), String> {
        let dull = matches!(
            due,
            Due::Watchdog(_) | Due::Deliver(_, Event::Probed { .. }) | Due::Boot | Due::Blow(_)
        );
        // Without power nothing else happens either.
        if !dull && self.is_cut_off() == Some(Cut::Power) {
            return Ok(());
        }
        match due {
            Due::Effect(generation, op, call) => {
                self.effect(generation, op, &call);
                Ok(())
            }
            Due::Deliver(generation, event) => {
                // What the daemon is told of the last request holds, though the engine answered meanwhile.
                if generation == self.generation
                    && matches!(event, Event::Rescued(Rescue::Engine, Err(_)))
                {
                    self.unhelped = true;
                }
                self.deliver(generation, event)
            }
            Due::End(id, pid) => {
                self.end(&id, pid, 137);
                Ok(())
            }
            Due::Blow(index) => {
                let blow = self.blows[index].1.clone();
                self.tell(|| format!("BLOW {blow:?}"));
                self.fall(&blow)
            }
            Due::Watchdog(generation) => {
                self.watchdog(generation);
                Ok(())
            }
            Due::Boot => self.boot(),
            Due::Written(generation) => self.written(generation),
            Due::Deed(generation, action) => self.deed(generation, action),
            Due::ReadAgain(generation) => {
                if generation == self.generation {
                    let event = self.reload();
                    return self.deliver(generation, event);
                }
                Ok(())
            }
            Due::Busy(which, busy) if self.is_busy(which) == busy => self.say_busy(which, busy),
            Due::Busy(..) => Ok(()),
            Due::Offer(release, wish, downgrade) => self.offer(&release, wish, downgrade),
            Due::EngineGoes(span, waits) => {
                self.engine_goes(span, waits);
                Ok(())
            }
            Due::Reboot => {
                self.reboot();
                Ok(())
            }
        }
    }

    fn boot(&mut self) -> Result<(), String> {
        self.generation += 1;
        self.kill_after = None;
        self.power_after = None;
        self.ends_by = None;
        self.ready = false;
        self.fed = self.now;
        self.start_by = self.now + START;
        self.known_absent.clear();
        self.watched.clear();
        self.calls.clear();
        self.verified.clear();
        self.unhelped = false;
        if self.run.withholding || self.run == Volatile::default() {
            self.answered_failures = 0;
        }
        let (durable, book) = self.first_release();
        self.writer = durable.clone();
        self.to_write.clear();
        self.writer_free = self.now;
        let config = Config {
            escalation: self.policy().escalation,
            ready: Ready::Healthy,
            watchdog: Some(WATCHDOG),
            seed: self.seed.wrapping_add(self.generation),
            boot: if self.boot_has_a_name {
                self.booted.1.to_string()
            } else {
                String::new()
            },
        };
        let generation = self.generation;
        self.tell(|| format!("daemon {generation} starts; ledger {durable:?}"));
        let rules = Rules {
            trial: releases::trial(),
            activation: self.activation(),
        };
        let daemon = Core::new(
            config,
            rules,
            self.wanted(),
            durable,
            book,
            self.run.clone(),
            self.uptime(),
        );
        self.daemon = Some(daemon);
        self.at(
            self.now + Duration::from_secs(5),
            Due::Watchdog(self.generation),
        );
        self.deliver(generation, Event::PreloadDone)?;
        if generation == self.generation {
            self.look_around()?;
        }
        Ok(())
    }

    fn crash(&mut self, again: Duration) {
        self.tell(|| "daemon is gone".to_owned());
        // Who dies while it writes may have written.
        let lands = (self.sequence ^ self.seed).is_multiple_of(3);
        if let Some(entry) = self.to_write.pop_front()
            && lands
            && self.now >= self.disk_full_until
        {
            let part = entry.part();
            let durable = self.writer.clone().with(entry);
            self.on_medium(&durable, part);
        }
        self.to_write.clear();
        self.daemon = None;
        self.generation += 1;
        self.at(self.now + again, Due::Boot);
    }

    fn watchdog(&mut self, generation: u64) {
        if generation != self.generation || self.daemon.is_none() {
            return;
        }
        let late = if self.ready {
            self.now.saturating_sub(self.fed) > WATCHDOG
        } else {
            self.now > self.start_by
        };
        if late {
            self.tell(|| "systemd: watchdog or start timeout".to_owned());
            self.crash(Duration::from_secs(2));
        } else {
            self.at(self.now + Duration::from_secs(5), Due::Watchdog(generation));
        }
    }

    pub(super) fn deliver(&mut self, generation: u64, event: Event) -> Result<(), String> {
        if generation != self.generation {
            return Ok(());
        }
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        if event != Event::Tick {
            self.tell(|| format!("  <- {event:?}"));
        }
        self.steps += 1;
        self.news |= !matches!(event, Event::Tick | Event::Probed { .. });
        self.learn(&event);
        let actions = daemon.step(self.uptime(), event);
        self.daemon = Some(daemon);
        self.perform(actions)
    }

    /// Counts a point at which the story can be cut off, and does so if it is the one.
    fn is_cut_off(&mut self) -> Option<Cut> {
        let points = self.points.as_mut()?;
        *points += 1;
        let (_, cut) = self.cut.filter(|(at, _)| at == points)?;
        self.tell(|| format!("CUT {cut:?}"));
        match cut {
            Cut::Power => self.reboot(),
            Cut::Daemon => self.crash(Duration::from_secs(2)),
        }
        Some(cut)
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>) -> Result<(), String> {
        let generation = self.generation;
        for action in actions {
            if self.generation != generation {
                // What was done last has ended the daemon.
                return Ok(());
            }
            let dull = matches!(
                action,
                Action::Probe { .. } | Action::Notify(Notify::Watchdog | Notify::Extend(_))
            );
            if !dull && self.is_cut_off().is_some() {
                return Ok(());
            }
            self.tell(|| format!("  -> {action:?}"));
            self.news |= !dull;
            if let Some(left) = &mut self.power_after {
                if *left == 0 {
                    self.power_after = None;
                    self.reboot();
                    return Ok(());
                }
                *left -= 1;
            }
            if let Some(left) = &mut self.kill_after {
                if *left == 0 {
                    self.kill_after = None;
                    self.crash(Duration::from_secs(2));
                    return Ok(());
                }
                *left -= 1;
            }
            self.execute(action)?;
        }
        Ok(())
    }

    /// What the daemon may conclude from an answer: only a look that shows nothing, or a removal, means absent.
    fn learn(&mut self, event: &Event) {
        match event {
            Event::Done(_, Ok(Outcome::Seen(seen))) => {
                for role in roles() {
                    // Of an older workload's containers the name does not stand in the way.
                    let mine = |seen: &&Seen| seen.role == role && self.named(&seen.id, &role);
                    let absent = !seen.iter().any(|seen| mine(&seen));
                    self.known_absent.insert(role, absent);
                }
            }
            Event::Done(op, result)
                if !matches!(result, Err(Fault::NoAnswer(_)))
                    && matches!(self.calls.get(op), Some(Call::Rebuild { .. })) =>
            {
                if let Some(Call::Rebuild { role, .. }) = self.calls.get(op) {
                    self.verified.remove(role);
                }
            }
            Event::Done(op, Err(Fault::NoAnswer(_))) => {
                if let Some(Call::Create { role, .. } | Call::Start { role, .. }) =
                    self.calls.get(op)
                {
                    self.known_absent.remove(role);
                }
            }
            _ => {}
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn execute(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Engine(op, call) => {
                self.count_towards_the_minute()?;
                if let Call::Create { role, .. } = &call
                    && self.known_absent.get(role) != Some(&true)
                {
                    return Err(format!(
                        "{role} is created although nobody knows that it is absent"
                    ));
                }
                if let Call::Rebuild { role, .. } = &call
                    && !self.verified.contains(role)
                {
                    return Err(format!("{role} is rebuilt, and nobody knows from what"));
                }
                self.calls.insert(op, call.clone());
                let slow = match call {
                    Call::Image { .. } | Call::Verify { .. } | Call::Rebuild { .. } => 10,
                    _ => 1,
                };
                let at = self.now + Duration::from_millis(self.latency * slow);
                for minute in 1..=4 {
                    let moves = self.now + Duration::from_secs(60 * minute);
                    if moves < at {
                        self.at(moves, Due::Deliver(self.generation, Event::Progress(op)));
                    }
                }
                self.at(at, Due::Effect(self.generation, op, call));
            }
            Action::Probe {
                role,
                probe,
                health,
                ..
            } => self.probe(role, probe, &health),
            Action::Watch { role, id, pid } => {
                if !self.pidfds {
                    self.at(
                        self.now,
                        Due::Deliver(self.generation, Event::Unwatched { role, pid }),
                    );
                } else if !self.runs(&id, pid) {
                    self.at(
                        self.now,
                        Due::Deliver(self.generation, Event::Died { role, pid }),
                    );
                } else {
                    self.watched.insert(pid);
                }
            }
            Action::Persist(entry) => {
                if let Entry::Budgets(budgets) = &entry {
                    self.spending(budgets)?;
                }
                self.to_write.push_back(entry);
                // Such a write is not waited for.
                self.shelf.forgetful |= self.disk_slow >= Duration::from_secs(60);
                let at = self.now + Duration::from_millis(5) + self.disk_slow;
                self.writer_free = self.writer_free.max(at);
                self.at(self.writer_free, Due::Written(self.generation));
            }
            Action::Record(volatile) => {
                self.run = volatile;
                let wanted = self.wanted();
                let left_over = self.containers.iter().any(|container| {
                    !container.stranger
                        && (self.leaving.contains(&container.id)
                            || !wanted.iter().any(|desired| desired.role == container.role))
                });
                if self.strikes() == 0 && !left_over {
                    self.answered_failures = 0;
                }
            }
            Action::Preload => {
                let at = self.now + Duration::from_secs(1);
                self.at(at, Due::Deliver(self.generation, Event::PreloadDone));
            }
            Action::Rescue(rescue, _) => self.help(rescue)?,
            Action::Notify(Notify::Ready) => {
                self.ready = true;
                self.fed = self.now;
            }
            Action::Notify(Notify::Watchdog) => {
                let rung = self.supervisor().map(Supervisor::rung);
                if rung == Some(Rung::Withhold) {
                    return Err("the watchdog is fed while it is withheld".to_owned());
                }
                self.fed = self.now;
            }
            Action::Notify(Notify::Extend(span)) => {
                self.start_by = self.start_by.max(self.now + span);
            }
            Action::Abandon(_) | Action::Notify(_) => {}
            Action::Report(report) => {
                self.count_towards_the_minute()?;
                self.reported(report.kind)?;
            }
            Action::Stage(..)
            | Action::LookAtGates(..)
            | Action::Hook(..)
            | Action::Snapshot(..)
            | Action::Restore(..)
            | Action::Load(..)
            | Action::Tidy(_) => {
                self.count_towards_the_minute()?;
                self.begin_deed(action);
            }
            Action::Enforce(task, id) => self.enforce(task, id)?,
            Action::Exit => self.exit()?,
        }
        Ok(())
    }

    fn policy(&self) -> Policy {
        Policy {
            escalation: Escalation {
                reboot: self.reboot_allowed,
                ..escalation()
            },
            ready: Ready::Healthy,
            trial: releases::trial(),
            activation: self.activation(),
        }
    }

    pub(super) fn reload(&mut self) -> Event {
        self.read_again();
        Event::Reload {
            desired: self.wanted(),
            policy: Some(self.policy()),
        }
    }

    pub(super) fn uptime(&self) -> Time {
        Time(self.now.saturating_sub(self.booted.0))
    }

    /// The ledger on disk, as it was written.
    pub fn on_disk(&self) -> &Durable {
        &self.recorded
    }

    /// The upper rungs are used only when the engine's own has been.
    fn spending(&self, durable: &Budgets) -> Result<(), String> {
        let before = self.on_disk().budgets.clone();
        let more =
            durable.withheld > before.withheld || durable.reboots.count() > before.reboots.count();
        let Some(view) = self.supervisor().map(Supervisor::view) else {
            return Ok(());
        };
        let tried = view.engine_restarts >= escalation().engine_restarts || self.unhelped;
        if more && view.engine_silent && !tried {
            return Err("an upper rung is used before the engine was restarted".to_owned());
        }
        if durable.reboots.count() > before.reboots.count()
            && durable.withheld < escalation().withholds
        {
            return Err("a reboot comes before the watchdog was withheld".to_owned());
        }
        Ok(())
    }

    /// What root's units do with a request.
    fn help(&mut self, rescue: Rescue) -> Result<(), String> {
        let taken = self.now >= self.unhelped_until;
        let result = if taken {
            Ok(())
        } else {
            Err("nobody has taken it".to_owned())
        };
        let at = self.now + Duration::from_secs(if taken { 1 } else { 30 });
        self.at(
            at,
            Due::Deliver(self.generation, Event::Rescued(rescue, result)),
        );
        match rescue {
            Rescue::Engine => {
                if !self
                    .supervisor()
                    .is_some_and(|supervisor| supervisor.view().engine_silent)
                {
                    return Err("the engine is restarted although it answers".to_owned());
                }
                self.unhelped = !taken;
                if taken {
                    self.engine_restarts += 1;
                    self.at(at, Due::EngineGoes(Duration::from_secs(20), false));
                }
            }
            Rescue::Reboot => {
                if !self.reboot_allowed {
                    return Err("a reboot is asked for, and none is allowed".to_owned());
                }
                self.no_upper_rung_on_trial()?;
                if self.on_disk().budgets.reboots.count() <= self.reboots_before_write {
                    return Err("a reboot is asked for before it is in the ledger".to_owned());
                }
                self.reboots.push(self.now);
                let day = self.now.saturating_sub(Duration::from_secs(86_400));
                let lately = self.reboots.iter().filter(|at| **at >= day).count();
                // The ledger before the damaged one knows of one less.
                if lately > escalation().reboots_per_day as usize + self.shelf.torn {
                    return Err(format!("{lately} reboots in a day: {:?}", self.reboots));
                }
                if taken {
                    self.at(self.now + Duration::from_secs(10), Due::Reboot);
                }
            }
        }
        Ok(())
    }

    fn end_all(&mut self) {
        for which in 0..roles().len() {
            if let Some((id, pid)) = self.process_of(which) {
                self.end(&id, pid, 137);
            }
        }
    }

    fn engine_goes(&mut self, span: Duration, waits: bool) {
        self.stuck = false;
        self.end_all();
        if waits {
            self.waits_until = self.now + span;
        } else {
            self.hangs_until = self.now + span;
            self.hang_takes_effect = false;
        }
    }

    pub(super) fn reboot(&mut self) {
        for container in &mut self.containers {
            if !container.stranger && matches!(container.state, SeenState::Running(_)) {
                container.state = SeenState::Exited { code: 255 };
            }
        }
        self.run = Volatile::default();
        self.stuck = false;
        self.due.retain(|_, due| matches!(due, Due::Blow(_)));
        self.booted = (self.now, self.booted.1 + 1);
        self.crash(Duration::from_secs(20));
    }

    /// Whatever is broken, a daemon that turns in circles wears out journal and flash.
    fn count_towards_the_minute(&mut self) -> Result<(), String> {
        let minute = self.now.as_secs() / 60;
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        self.minute.1 += 1;
        if self.minute.1 > 400 {
            return Err("the daemon turns in circles".to_owned());
        }
        Ok(())
    }

    fn exit(&mut self) -> Result<(), String> {
        let lately = self.now < self.troubled.max(self.blind_until) + Duration::from_secs(60);
        let in_vain = self.latency > 1000 || (lately && self.troubled > Duration::ZERO);
        if self.ends_by.is_some() && !in_vain {
            for role in roles() {
                let of_role =
                    |container: &&Container| container.role == role && !container.stranger;
                if self
                    .containers
                    .iter()
                    .filter(of_role)
                    .any(|container| matches!(container.state, SeenState::Running(_)))
                {
                    return Err(format!("the daemon is told to stop, ends, and {role} runs"));
                }
            }
        }
        self.crash(Duration::from_secs(30));
        Ok(())
    }

    fn reported(&mut self, kind: ReportKind) -> Result<(), String> {
        match kind {
            ReportKind::Restarting
            | ReportKind::Recreating
            | ReportKind::Rebuilding
            | ReportKind::EngineRefused
            | ReportKind::EngineSilent => {
                self.answered_failures += 1;
            }
            // Only an engine that answers again can be helped again.
            ReportKind::EngineBack => self.unhelped = false,
            ReportKind::Committed => self.shelf.ends[0] += 1,
            ReportKind::RolledBack => self.shelf.ends[1] += 1,
            ReportKind::GivenUp => self.shelf.ends[2] += 1,
            ReportKind::WatchdogWithheld => {
                self.no_upper_rung_on_trial()?;
                let Some(view) = self.supervisor().map(Supervisor::view) else {
                    return Ok(());
                };
                if view.withheld > escalation().withholds {
                    return Err(format!(
                        "the watchdog is withheld for the {}th time",
                        view.withheld
                    ));
                }
                let limit = escalation().restarts + escalation().recreates + escalation().rebuilds;
                if self.answered_failures < limit && !view.engine_silent {
                    return Err(format!(
                        "the watchdog is withheld after {} failures",
                        self.answered_failures
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn probe(&mut self, role: Role, probe: u64, health: &Health) {
        if let Some(left) = self.probes_lost.get_mut(&role)
            && *left > 0
        {
            *left -= 1;
            return;
        }
        let past = |until: Option<&Duration>| until.is_none_or(|until| self.now >= *until);
        let engine_hangs = self.stuck || self.now < self.hangs_until || self.now < self.waits_until;
        let answer = if !past(self.unaskable.get(&role)) || (self.probes_by_engine && engine_hangs)
        {
            Answer::CannotAsk("nobody could ask".to_owned())
        } else if !past(self.sick.get(&role)) || self.is_sick_by_nature(&role) {
            Answer::Fail("503".to_owned())
        } else if self.container_of(&role).is_some_and(|container| {
            let connected = match &container.joins {
                None => true,
                Some((leader, pid)) => self.process(leader) == Some(*pid),
            };
            connected && matches!(container.state, SeenState::Running(_))
        }) {
            Answer::Pass("200".to_owned())
        } else {
            Answer::Fail("connection refused".to_owned())
        };
        let span = if answer == Answer::Fail("503".to_owned()) {
            health.timing.timeout
        } else {
            Duration::from_millis(3)
        };
        self.at(
            self.now + span,
            Due::Deliver(
                self.generation,
                Event::Probed {
                    role,
                    probe,
                    answer,
                },
            ),
        );
    }

    fn container_of(&self, role: &Role) -> Option<&Container> {
        let name = format!("work-{role}");
        self.containers
            .iter()
            .find(|container| container.name == name)
    }

    fn is_sick_by_nature(&self, role: &Role) -> bool {
        let app = self
            .container_of(role)
            .filter(|_| role.as_str() == "app")
            .filter(|app| matches!(app.state, SeenState::Running(_)));
        app.is_some_and(|app| {
            let ran = self.now.saturating_sub(app.started);
            self.shelf.is_sick(app.made_by.as_ref(), ran)
        })
    }

    /// Containers that are not in the workload any more.
    pub(super) fn leave_out(&mut self) {
        let wanted = self.wanted();
        for container in &self.containers {
            if !wanted.iter().any(|desired| desired.role == container.role) {
                self.leaving.push(container.id.clone());
            }
        }
    }

    /// Containers of all of this are there.
    pub(super) fn is_made(&self, desired: &[Desired]) -> bool {
        desired.iter().all(|desired| {
            let mut ours = self.containers.iter().filter(|one| !one.stranger);
            ours.any(|one| one.role == desired.role && one.hash == desired.hash)
        })
    }

    pub(super) fn process_of_role(&self, role: &Role) -> bool {
        self.containers.iter().any(|container| {
            container.role == *role
                && !container.stranger
                && matches!(container.state, SeenState::Running(_))
        })
    }

    /// Nobody gets an answer from the engine just now.
    pub(super) fn engine_is_away(&self) -> bool {
        self.stuck || self.now < self.hangs_until || self.now < self.waits_until
    }

    pub(super) fn say_busy(&mut self, which: usize, busy: bool) -> Result<(), String> {
        let role = roles()[which % 2].clone();
        let Some((_, pid)) = self.process_of(which) else {
            return Ok(());
        };
        if busy {
            self.busy.insert(role.clone(), pid);
        } else {
            self.busy.remove(&role);
        }
        let note = Event::App(role, AppNote::Busy(busy));
        self.deliver(self.generation, note)
    }

    /// A process runs that has said that it is busy.
    pub(super) fn is_busy(&self, which: usize) -> bool {
        let said = self.busy.get(&roles()[which % 2]);
        self.process_of(which).map(|(_, pid)| pid).as_ref() == said && said.is_some()
    }

    fn process(&self, id: &str) -> Option<u32> {
        self.containers
            .iter()
            .find_map(|container| match &container.state {
                SeenState::Running(running) if container.id == id => Some(running.pid),
                _ => None,
            })
    }

    fn runs(&self, id: &str, pid: u32) -> bool {
        self.containers.iter().any(|container| {
            container.id == id
                && matches!(&container.state, SeenState::Running(running) if running.pid == pid)
        })
    }

    fn end(&mut self, id: &str, pid: u32, code: i64) {
        let Some(container) = self
            .containers
            .iter_mut()
            .find(|container| container.id == id)
        else {
            return;
        };
        if !matches!(&container.state, SeenState::Running(running) if running.pid == pid) {
            return;
        }
        container.state = SeenState::Exited { code };
        let role = container.role.clone();
        self.tell(|| format!("process {pid} of {role} ends"));
        if self.watched.contains(&pid) {
            let at = self.now + Duration::from_millis(1);
            self.at(at, Due::Deliver(self.generation, Event::Died { role, pid }));
        }
    }

    /// Counts a call, if points are counted, and says whether the engine fails at it.
    fn fails_now(&mut self, generation: u64, op: OpId) -> Option<Fails> {
        self.points?;
        if generation != self.generation || op == OpId(u64::MAX) {
            return None;
        }
        self.calls_made += 1;
        let (_, fails) = self.fails.filter(|(at, _)| *at == self.calls_made)?;
        Some(fails)
    }

    fn effect(&mut self, generation: u64, op: OpId, call: &Call) {
        if self.now < self.waits_until && !self.stuck {
            self.troubled = self.waits_until;
            let at = self.waits_until + Duration::from_millis(1);
            self.at(at, Due::Effect(generation, op, call.clone()));
            return;
        }
        let fails = self.fails_now(generation, op);
        let result = if let Some(fails) = fails {
            self.tell(|| format!("FAILS {fails:?}: {call:?}"));
            if fails == Fails::AnswerLost {
                let _ = self.obey(call);
            }
            Err(match fails {
                Fails::Refused => Fault::Refused("server error".to_owned()),
                Fails::NoAnswer | Fails::AnswerLost => Fault::NoAnswer("timed out".to_owned()),
            })
        } else if self.stuck {
            Err(Fault::NoAnswer("timed out".to_owned()))
        } else if self.now < self.hangs_until {
            // Nobody hears the answer; whether the engine does it all the same is its own affair.
            if self.hang_takes_effect {
                let at = self.hangs_until;
                self.hang_takes_effect = false;
                self.at(at, Due::Effect(generation, OpId(u64::MAX), call.clone()));
            }
            Err(Fault::NoAnswer("timed out".to_owned()))
        } else {
            let changes = !matches!(call, Call::Survey | Call::Look { .. } | Call::Verify { .. });
            if changes && !matches!(call, Call::Image { .. }) && self.now < self.half_hangs_until {
                Err(Fault::NoAnswer("timed out".to_owned()))
            } else if !changes && self.confused > 0 {
                self.confused -= 1;
                Err(Fault::Refused("internal error".to_owned()))
            } else if matches!(call, Call::Create { .. } | Call::Start { .. }) && self.lacks > 0 {
                self.lacks -= 1;
                Err(Fault::NotFound("network not found".to_owned()))
            } else if self.answers_lost > 0 {
                self.answers_lost -= 1;
                let _ = self.obey(call);
                Err(Fault::NoAnswer("connection reset".to_owned()))
            } else if changes && self.refusals > 0 {
                self.refusals -= 1;
                Err(Fault::Refused("server error".to_owned()))
            } else {
                self.obey(call)
            }
        };
        if result.is_err() || self.now < self.blind_until {
            self.troubled = self.now;
        }
        if op != OpId(u64::MAX) {
            let at = self.now + Duration::from_millis(1);
            self.at(at, Due::Deliver(generation, Event::Done(op, result)));
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn obey(&mut self, call: &Call) -> Result<Outcome, Fault> {
        match call {
            Call::Survey => Ok(Outcome::Seen(self.seen(None))),
            Call::Look { role } => Ok(Outcome::Seen(self.seen(Some(role)))),
            Call::Image { .. } if self.now < self.image_gone_until => Err(Fault::ImageMissing(
                "neither the store nor the engine has it".to_owned(),
            )),
            Call::Image { role } => Ok(Outcome::Image {
                id: self.image_of(role),
            }),
            Call::Verify { .. }
                if self.now < self.store_damaged_until.max(self.image_gone_until) =>
            {
                Err(Fault::ImageMissing("the store has it not".to_owned()))
            }
            Call::Verify { role } => {
                self.verified.insert(role.clone());
                let id = self.image_of(role);
                Ok(Outcome::Whole {
                    sharers: self.sharers(&id),
                    id,
                })
            }
            Call::Rebuild { role, along } => {
                let id = self.image_of(role);
                let goes = |image: &String| *image == id || along.contains(image);
                if let Some(user) = self.containers.iter().find(|one| goes(&one.image.0)) {
                    let text = format!("{} is rebuilt under {}", user.image.0, user.name);
                    self.broken.get_or_insert(text);
                }
                // They are removed first; whether they come again is another matter.
                let keeps = (self.sharers(&id).into_iter())
                    .any(|sharer| !sharer.foreign && !along.contains(&sharer.id));
                if self.base != Some(true) {
                    self.damage.retain(|image, _| !goes(image));
                } else if !keeps {
                    self.damage.clear();
                    self.base = Some(false);
                }
                self.rebuilds += 1;
                if self.now < self.image_gone_until {
                    return Err(Fault::ImageMissing("the store has it not".to_owned()));
                }
                Ok(Outcome::Image { id })
            }
            Call::Create { role, image } => {
                let name = format!("work-{role}");
                if self
                    .containers
                    .iter()
                    .any(|container| container.name == name)
                {
                    return Err(Fault::Conflict(format!("{name} is taken")));
                }
                let desired = self
                    .in_force()
                    .into_iter()
                    .find(|desired| desired.role == *role);
                let Some(desired) = desired else {
                    return Err(Fault::Refused("no such role".to_owned()));
                };
                let joins = match &desired.network_of {
                    None => None,
                    Some(leader) => match self.container_of(leader) {
                        Some(leader) => Some((leader.id.clone(), 0)),
                        None => return Err(Fault::Refused("no container to join".to_owned())),
                    },
                };
                let id = self.fresh_id();
                let damage = self.damage.get(image).cloned().unwrap_or_default();
                self.known_absent.insert(role.clone(), false);
                self.containers.push(Container {
                    id: id.clone(),
                    name,
                    role: role.clone(),
                    hash: desired.hash.clone(),
                    made_by: self.shelf.enforced.clone(),
                    started: self.now,
                    state: SeenState::Created,
                    stranger: false,
                    image: (image.clone(), damage),
                    joins,
                    last_pid: None,
                });
                Ok(Outcome::Created {
                    id,
                    hash: desired.hash,
                    image_id: image.clone(),
                    image_health: None,
                })
            }
            Call::Start { id, .. } => self.start(id),
            Call::Stop { id, .. } => {
                let Some(container) = self.containers.iter().find(|container| container.id == *id)
                else {
                    return Err(Fault::NotFound("no such container".to_owned()));
                };
                if let SeenState::Running(running) = &container.state {
                    let pid = running.pid;
                    self.end(id, pid, 0);
                }
                Ok(Outcome::Ended)
            }
            Call::Remove { id } => {
                let running =
                    |container: &Container| matches!(container.state, SeenState::Running(_));
                if self
                    .containers
                    .iter()
                    .any(|container| container.id == *id && running(container))
                {
                    return Err(Fault::Refused("it is running".to_owned()));
                }
                if let Some(container) =
                    self.containers.iter().find(|container| container.id == *id)
                {
                    self.known_absent.insert(container.role.clone(), true);
                }
                self.containers.retain(|container| container.id != *id);
                Ok(Outcome::Ended)
            }
        }
    }

    fn start(&mut self, id: &str) -> Result<Outcome, Fault> {
        let next = self.next_id + 1;
        let joins = self
            .containers
            .iter()
            .find(|container| container.id == id)
            .and_then(|container| container.joins.clone());
        let joined = match &joins {
            None => None,
            Some((leader, _)) => match self.process(leader) {
                Some(pid) => Some((leader.clone(), pid)),
                None => return Err(Fault::Refused("what it joins does not run".to_owned())),
            },
        };
        let Some(container) = self
            .containers
            .iter_mut()
            .find(|container| container.id == id)
        else {
            return Err(Fault::NotFound("no such container".to_owned()));
        };
        if let SeenState::Running(running) = &container.state {
            return Ok(Outcome::Started(running.clone()));
        }
        container.joins = joined;
        container.last_pid = Some(1000 + next);
        self.next_id = next;
        let running = Running {
            pid: 1000 + next,
            address: None,
        };
        container.state = SeenState::Running(running.clone());
        container.started = self.now;
        let role = container.role.clone();
        let damaged = container.image.1.get(&role).copied();
        let by_nature = if role.as_str() == "app" {
            self.shelf.written();
            self.shelf.exits(container.made_by.as_ref())
        } else {
            None
        };
        let after = match self.loops.get_mut(&role) {
            _ if damaged.is_some() => damaged.map(Duration::from_millis),
            Some((after, left)) if *left > 0 => {
                *left -= 1;
                Some(Duration::from_millis(*after))
            }
            _ => by_nature,
        };
        if let Some(after) = after {
            self.at(self.now + after, Due::End(id.to_owned(), running.pid));
        }
        Ok(Outcome::Started(running))
    }

    fn seen(&self, role: Option<&Role>) -> Vec<Seen> {
        self.containers
            .iter()
            .filter(|container| {
                !container.stranger && role.is_none_or(|role| container.role == *role)
            })
            .map(|container| Seen {
                role: container.role.clone(),
                id: container.id.clone(),
                hash: container.hash.clone(),
                image_id: container.image.0.clone(),
                image_health: None,
                state: match (&container.state, container.last_pid) {
                    (SeenState::Exited { .. }, Some(pid)) if self.now < self.blind_until => {
                        SeenState::Running(Running { pid, address: None })
                    }
                    (state, _) => state.clone(),
                },
            })
            .collect()
    }

    /// The other images that have layers of this one.
    fn sharers(&self, id: &str) -> Vec<Sharer> {
        if self.base.is_none() {
            return Vec::new();
        }
        let strangers = |image: &String| {
            let mut all = self.containers.iter();
            all.any(|one| one.stranger && one.image.0 == *image)
        };
        let used = self.containers.iter().map(|one| one.image.0.clone());
        let pinned = self.in_force().into_iter().filter_map(|one| one.image_id);
        let all: BTreeSet<String> = used.chain(pinned).filter(|image| image != id).collect();
        all.into_iter()
            .map(|id| Sharer {
                stored: true,
                foreign: strangers(&id),
                id,
            })
            .collect()
    }

    /// The ID of the image that a role's next container is made from.
    fn image_of(&self, role: &Role) -> String {
        self.in_force()
            .into_iter()
            .find(|desired| desired.role == *role)
            .and_then(|desired| desired.image_id)
            .unwrap_or_default()
    }

    fn named(&self, id: &str, role: &Role) -> bool {
        let name = format!("work-{role}");
        self.containers
            .iter()
            .any(|container| container.id == id && container.name == name)
    }

    fn process_of(&self, which: usize) -> Option<(String, u32)> {
        let role = &roles()[which % 2];
        self.containers
            .iter()
            .find_map(|container| match &container.state {
                SeenState::Running(running) if container.role == *role && !container.stranger => {
                    Some((container.id.clone(), running.pid))
                }
                _ => None,
            })
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn fall(&mut self, blow: &Blow) -> Result<(), String> {
        let until = |span: u64| self.now + Duration::from_secs(span);
        let role = |which: usize| roles()[which % 2].clone();
        match *blow {
            Blow::Turn(ref turn) => return self.turn(turn),
            Blow::CutAfter(after) => self.power_after = Some(after),
            Blow::Kill(which) | Blow::StoppedByHand(which) => {
                if let Some((id, pid)) = self.process_of(which) {
                    self.end(&id, pid, 137);
                }
            }
            Blow::RemovedByHand(which) => {
                if let Some((id, pid)) = self.process_of(which) {
                    self.end(&id, pid, 137);
                    self.containers.retain(|container| container.id != id);
                }
            }
            Blow::CrashLoop(which, after, times) => {
                self.loops.insert(role(which), (after, times));
                if let Some((id, pid)) = self.process_of(which) {
                    self.end(&id, pid, 1);
                }
            }
            Blow::Sick(which, span) => {
                let until = until(span);
                self.sick.insert(role(which), until);
            }
            Blow::Unaskable(which, span) => {
                let until = until(span);
                self.unaskable.insert(role(which), until);
            }
            Blow::ProbeLost(which) => *self.probes_lost.entry(role(which)).or_insert(0) += 1,
            Blow::EngineHangs(span, takes_effect) => {
                self.hangs_until = until(span);
                self.hang_takes_effect = takes_effect;
            }
            Blow::EngineRefuses(times) => self.refusals += times,
            Blow::EngineConfused(times) => self.confused += times,
            Blow::SomethingLacks(times) => self.lacks += times,
            Blow::AnswersLost(times) => self.answers_lost += times,
            Blow::EngineBlind(span) => self.blind_until = until(span),
            Blow::DiskSlow(span) => self.disk_slow = Duration::from_secs(span),
            Blow::Stop => {
                if self.daemon.is_some() {
                    self.ends_by
                        .get_or_insert(self.now + Duration::from_secs(90));
                }
                return self.deliver(self.generation, Event::Terminate(Parting::Stop));
            }
            Blow::EngineSlow(latency) => self.latency = latency,
            Blow::DaemonKilled(after) => self.kill_after = Some(after),
            Blow::PowerCut => self.reboot(),
            Blow::EngineStuck => self.stuck = true,
            Blow::EngineRestarts(early, span, waits) => {
                self.end_all();
                let goes = Due::EngineGoes(Duration::from_secs(span), waits);
                self.at(self.now + Duration::from_millis(early), goes);
            }
            Blow::NobodyHelps(span) => self.unhelped_until = until(span),
            Blow::Reboots(allowed) => {
                self.reboot_allowed = allowed;
                let event = self.reload();
                return self.deliver(self.generation, event);
            }
            Blow::ImageGone(span) => {
                self.image_gone_until = until(span);
                self.at(
                    self.image_gone_until,
                    Due::Deliver(self.generation, Event::StoreChanged),
                );
            }
            Blow::ImageDamaged(broker, app, after) | Blow::BaseDamaged(broker, app, after) => {
                if matches!(blow, Blow::BaseDamaged(..)) {
                    self.base = Some(true);
                }
                let of = |role: &Role| match role.as_str() {
                    "broker" => broker,
                    _ => app,
                };
                let damage: Damage = roles()
                    .into_iter()
                    .filter(of)
                    .map(|role| (role, after))
                    .collect();
                for id in ["sha256:1", "sha256:2"] {
                    self.damage.insert(id.to_owned(), damage.clone());
                }
                for container in &mut self.containers {
                    container.image.1.clone_from(&damage);
                }
                for (which, role) in roles().iter().enumerate() {
                    if let Some((id, pid)) = self.process_of(which).filter(|_| of(role)) {
                        self.end(&id, pid, 1);
                    }
                }
            }
            Blow::StoreDamaged(span) => self.store_damaged_until = until(span),
            Blow::DiskFull(span) => self.disk_full_until = until(span),
            Blow::ClockBack(millis) => {
                let real = self.now;
                self.now = self.now.saturating_sub(Duration::from_millis(millis));
                let told = self.deliver(self.generation, Event::Tick);
                self.now = real;
                return told;
            }
            Blow::RestartAsked(which) => {
                let event = Event::Restart(which.map(role));
                return self.deliver(self.generation, event);
            }
            Blow::Reload(variant) => {
                self.variant = variant % 4;
                self.leave_out();
                let event = self.reload();
                return self.deliver(self.generation, event);
            }
            Blow::DaemonRestart => {
                return self.deliver(self.generation, Event::Terminate(Parting::Leave));
            }
            Blow::NoPidfd => self.pidfds = false,
            Blow::NamelessBoots => self.boot_has_a_name = false,
            Blow::ProbesByEngine => self.probes_by_engine = true,
            Blow::EngineHalfHangs(span) => self.half_hangs_until = until(span),
        }
        Ok(())
    }

    /// A workload that is not well has the ladder's attention, unless its image is what it waits for.
    fn check_that_something_is_done(&mut self) -> Result<(), String> {
        let Some(daemon) = &self.daemon else {
            return Ok(());
        };
        // An update has deadlines of its own.
        let updating = matches!(self.shelf.stage.0, "trial" | "snapshot" | "rollback");
        let supervisor = daemon.supervisor();
        let idle = supervisor.rung() == Rung::Foot
            && supervisor.verdict() != monopod::core::health::Verdict::Healthy
            && !updating
            && self.now >= self.image_gone_until;
        if !idle {
            self.idle_since = None;
        } else if self
            .now
            .saturating_sub(*self.idle_since.get_or_insert(self.now))
            > IDLE
        {
            return Err(format!(
                "the workload is not well, and nothing is done: {:?}",
                daemon.view()
            ));
        }
        Ok(())
    }

    /// What must hold after every event.
    fn check(&mut self) -> Result<(), String> {
        if let Some(why) = self.broken.take() {
            return Err(why);
        }
        self.check_releases()?;
        self.check_that_something_is_done()?;
        for role in roles() {
            let running = self.containers.iter().filter(|container| {
                container.role == role
                    && !container.stranger
                    && matches!(container.state, SeenState::Running(_))
            });
            if running.count() > 1 {
                return Err(format!("two containers of {role} run"));
            }
        }
        let stranger = self.containers.iter().find(|container| container.stranger);
        if !stranger.is_some_and(|stranger| matches!(stranger.state, SeenState::Running(_))) {
            return Err("a stranger's container was touched".to_owned());
        }
        if self.ends_by.is_some_and(|by| self.now > by) && self.daemon.is_some() {
            return Err("the daemon was told to stop and does not".to_owned());
        }
        if let Some(daemon) = &self.daemon {
            let withheld = daemon.supervisor().rung() == Rung::Withhold;
            if !withheld
                && self.now.saturating_sub(self.fed) > WATCHDOG / 2 + Duration::from_secs(1)
            {
                return Err("the watchdog is not fed, and nothing says why".to_owned());
            }
        }
        Ok(())
    }
}
