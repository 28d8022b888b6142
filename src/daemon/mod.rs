//! The daemon: one loop that feeds events to the core and does what it answers.
//!
//! ```text
//!  engine, probes, pidfds, apps ──> events ──┐
//!  bus ──> requests ─────────────────────────┼──> Supervisor::step ──> actions ──> deeds
//!  signals, deadline ────────────────────────┘             └─> status, for the bus
//! ```
//!
//! It decides nothing: what an event means is the core's to say. It never waits for a deed; each
//! one runs by itself and ends in an event.

mod clock;
mod deeds;
mod files;
mod ledger;
mod pages;
mod release;
mod status;
mod workload;

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::core::api::{Action, Desired, Event, Notify, Parting, Report};
use crate::core::supervisor::{Config, Supervisor};
use crate::core::time::Time;
use crate::engine::{self, Docker};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::spec;
use crate::spec::diagnostic::Invalid;
use crate::spec::host::ThisHost;
use crate::spec::types::{Node, Role, Workload};
use crate::systemd::bus::{self, Request, RequestError};
use crate::systemd::journal::{self, Scene};
use crate::systemd::notify::{self, Notifier};
use crate::systemd::{BusAddress, jobs};

pub use status::{AnswerKind, ContainerStatus, EngineStatus, Status};

use status::plan_json;

use deeds::Deeds;
use release::Release;

/// How often files that are invalid at the start are read again, when systemd waits for us:
/// a device or a mount that they name may come late.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// How often they are read before the start fails. systemd starts us again all the same, and its log
/// then has the reason.
const READS: u32 = 12;

/// How long nothing may have changed before the memory that only changes need is given back.
const QUIET: Duration = Duration::from_secs(10);

/// How many transitions may wait for the bus; the journal has those beyond.
const TRANSITIONS: usize = 64;

/// How many ready sockets are looked at in one go.
const IO_EVENTS: usize = 32;

/// Runs the daemon until it is told to end.
pub fn run(paths: &Paths, verbose: bool) -> Exit {
    journal::init(verbose);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Room for the usual 1024 would be 12 KiB that the daemon never needs.
        .max_io_events_per_tick(IO_EVENTS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start: {error}");
            return Exit::Failed;
        }
    };
    let local = tokio::task::LocalSet::new();
    let exit = local.block_on(&runtime, daemon(paths));
    // What still runs is an engine call or a helper that nobody waits for any more.
    runtime.shutdown_background();
    exit
}

async fn daemon(paths: &Paths) -> Exit {
    let mut notifier = Notifier::new();
    let (workload, node) = match first_files(paths, &mut notifier).await {
        Ok(files) => files,
        Err(exit) => return exit,
    };
    let socket = match engine::socket(&node, std::env::var("DOCKER_HOST").ok().as_deref()) {
        Ok(socket) => socket,
        Err(text) => {
            error!("{text}");
            return Exit::Invalid;
        }
    };
    if let Err(error) = std::fs::create_dir_all(paths.run()) {
        error!("cannot make {}: {error}", paths.run().display());
        return Exit::Failed;
    }
    // Without a bus nothing else keeps two daemons off the same containers.
    let _alone = match alone(paths) {
        Ok(lock) => lock,
        Err(text) => {
            error!("{text}");
            return Exit::Failed;
        }
    };
    let durable = match ledger::read(paths) {
        Ok(durable) => durable,
        Err(error) => {
            error!("{error}");
            return Exit::Failed;
        }
    };
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            error!("cannot listen to signals: {error}");
            return Exit::Failed;
        }
    };
    let config = Config {
        escalation: node.escalation.clone(),
        ready: node.ready,
        watchdog: notify::watchdog(),
        seed: clock::seed(),
    };
    let desired = workload::desired(paths, &workload);
    let supervisor = Supervisor::new(
        config,
        desired.clone(),
        durable,
        ledger::read_volatile(paths),
        clock::now(),
    );
    info!(
        "supervising {} with the engine at {}",
        workload.name,
        socket.display()
    );
    let (events, inbox) = mpsc::unbounded_channel();
    let deeds = Deeds::new(
        paths.clone(),
        Docker::connect(&socket),
        Rc::new(workload),
        events,
    );
    let mut release = Release::default();
    let status = status_now(&supervisor, &deeds, &desired, &mut release, None);
    let mut running = Running {
        paths: paths.clone(),
        supervisor,
        desired,
        deeds,
        notifier,
        release,
        reload_error: None,
        published: status.lasting(),
        state: watch::Sender::new(Arc::new(status)),
        transitions: None,
        quiet: None,
    };
    running.serve(inbox, &mut signals).await
}

/// The right to be this root's one daemon, for as long as the file is open.
fn alone(paths: &Paths) -> Result<File, String> {
    let path = paths.run().join("lock");
    let file =
        File::create(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another monopod daemon runs: it holds {}; stop it first",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(format!("cannot lock {}: {error}", path.display())),
    }
}

/// Reads the files; waits for them to become valid where systemd would only start us again.
async fn first_files(paths: &Paths, notifier: &mut Notifier) -> Result<(Workload, Node), Exit> {
    let mut told = String::new();
    for _ in 0..READS {
        let invalid = match (load(paths), spec::load_node(paths, &host())) {
            (Ok(workload), Ok(node)) => return Ok((workload, node.value)),
            (Err(invalid), _) | (_, Err(invalid)) => invalid,
        };
        let text = invalid.to_string();
        if text != told {
            error!("{text}; `monopod check` shows it in full");
            told = text;
        }
        if !notify::listened_to() {
            return Err(Exit::Invalid);
        }
        let status = format!("Waiting for valid files: {told}");
        // Without systemd's ear nothing is lost.
        let _ = notifier.tell(&Notify::Status(status));
        tokio::time::sleep(READ_AGAIN).await;
    }
    Err(Exit::Invalid)
}

fn host() -> ThisHost {
    ThisHost {
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
    }
}

fn load(paths: &Paths) -> Result<Workload, Invalid> {
    let loaded = spec::load(paths, &host())?;
    for warning in &loaded.warnings {
        warn!("{}", warning.message());
    }
    Ok(loaded.value)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// What wakes the loop.
enum Wake {
    Event(Event),
    Request(Request),
    Reload,
    Terminate,
    OtherDaemon(bus::BusError),
    Quiet,
}

/// A daemon at work.
struct Running {
    paths: Paths,
    supervisor: Supervisor,
    /// What the core was last told to keep running.
    desired: Vec<Desired>,
    deeds: Deeds,
    notifier: Notifier,
    release: Release,
    /// Why the last reload was refused.
    reload_error: Option<String>,
    state: watch::Sender<Arc<Status>>,
    /// What the bus was last told of, without what changes at every probe.
    published: Status,
    /// When all will have been quiet for long enough, unless it is so already.
    quiet: Option<Time>,
    /// Where the bus takes transitions from.
    transitions: Option<mpsc::Sender<Report>>,
}

/// The status with what only the daemon knows.
fn status_now(
    supervisor: &Supervisor,
    deeds: &Deeds,
    desired: &[Desired],
    release: &mut Release,
    reload_error: Option<&str>,
) -> Status {
    let workload = deeds.workload();
    let mut status = Status::new(&workload, &supervisor.view());
    status.release = release.id(&workload, desired, &status);
    status.reload_error = reload_error.map(str::to_owned);
    status
}

impl Running {
    async fn serve(
        &mut self,
        mut inbox: mpsc::UnboundedReceiver<Event>,
        signals: &mut Signals,
    ) -> Exit {
        let address = BusAddress::system();
        let (asks, mut asked) = mpsc::channel(4);
        let (told, transitions) = mpsc::channel(TRANSITIONS);
        self.transitions = Some(told);
        let bus = bus::run(&address, self.state.subscribe(), transitions, asks);
        tokio::pin!(bus);
        self.deeds.preload();
        if let Some(exit) = self.step(Event::Tick) {
            return exit;
        }
        loop {
            let deadline = self.supervisor.deadline();
            let wake = tokio::select! {
                Some(event) = inbox.recv() => Wake::Event(event),
                Some(request) = asked.recv() => Wake::Request(request),
                _ = signals.terminate.recv() => Wake::Terminate,
                _ = signals.interrupt.recv() => Wake::Terminate,
                _ = signals.hangup.recv() => Wake::Reload,
                () = clock::sleep_until(deadline) => Wake::Event(Event::Tick),
                error = &mut bus => Wake::OtherDaemon(error),
                () = clock::sleep_until(self.quiet) => Wake::Quiet,
            };
            let event = match wake {
                Wake::Event(Event::PreloadDone) => {
                    self.preloaded();
                    Some(Event::PreloadDone)
                }
                Wake::Event(event) => Some(event),
                Wake::Request(request) => self.request(request),
                Wake::Reload => self
                    .reload()
                    .map_err(|error| {
                        error!("not reloaded, what was in force stays so: {error}; `monopod check` shows it in full");
                    })
                    .ok(),
                Wake::Terminate => Some(Event::Terminate(
                    jobs::parting(&address, notify::listened_to()).await,
                )),
                Wake::Quiet => {
                    self.quiet = None;
                    pages::give_back();
                    None
                }
                Wake::OtherDaemon(error) => {
                    error!("{error}");
                    // The other one has the containers; they are not ours to stop.
                    let _ = self.step(Event::Terminate(Parting::Leave));
                    return Exit::Failed;
                }
            };
            if let Some(event) = event
                && let Some(exit) = self.step(event)
            {
                return exit;
            }
        }
    }

    fn step(&mut self, event: Event) -> Option<Exit> {
        let actions = self.supervisor.step(clock::now(), event);
        self.publish();
        let mut exit = None;
        for action in actions {
            match action {
                Action::Notify(notify) => {
                    if let Err(error) = self.notifier.tell(&notify) {
                        warn!("systemd does not hear us: {error}");
                    }
                }
                Action::Report(report) => self.report(report),
                Action::Record(volatile) => ledger::record(&self.paths, &volatile),
                Action::Exit => exit = Some(Exit::Done),
                action => self.deeds.start(action),
            }
        }
        exit
    }

    /// Tells the journal and the bus of a transition.
    fn report(&self, report: Report) {
        let status = self.state.borrow();
        let scene = Scene {
            workload: &status.workload,
            release: status.release.as_deref(),
        };
        journal::report(&report, scene);
        if let Some(transitions) = &self.transitions {
            // Full only while there is no bus; the journal has it.
            let _ = transitions.try_send(report);
        }
    }

    /// Makes the state known; wakes those who watch it only if something changed that matters to them.
    fn publish(&mut self) {
        let status = status_now(
            &self.supervisor,
            &self.deeds,
            &self.desired,
            &mut self.release,
            self.reload_error.as_deref(),
        );
        let lasting = status.lasting();
        let changed = self.published != lasting;
        self.published = lasting;
        let status = Arc::new(status);
        self.state.send_if_modified(|state| {
            *state = status;
            changed
        });
        if changed {
            self.quiet = Some(clock::now() + QUIET);
        }
    }

    /// Answers a request. Some of them are events for the core.
    fn request(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::StoreChanged => Some(Event::StoreChanged),
            Request::Plan(reply) => {
                let plan = self.read().map(|workload| {
                    plan_json(
                        &self
                            .supervisor
                            .plan(&workload::desired(&self.paths, &workload)),
                    )
                });
                // Who asked may be gone.
                let _ = reply.send(plan);
                None
            }
            Request::Reload(reply) => {
                let (event, answer) = match self.reload() {
                    Ok(event) => (Some(event), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = reply.send(answer);
                event
            }
            Request::Restart(None, reply) => {
                let _ = reply.send(Ok(()));
                Some(Event::Restart(None))
            }
            Request::Restart(Some(name), reply) => {
                let workload = self.deeds.workload();
                let known = workload
                    .containers
                    .iter()
                    .any(|container| container.name.as_str() == name);
                let answer = if known {
                    Ok(())
                } else {
                    let names: Vec<&str> = workload
                        .containers
                        .iter()
                        .map(|container| container.name.as_str())
                        .collect();
                    Err(RequestError::NotFound(format!(
                        "the workload has no container named {name}; it has {}",
                        names.join(" and ")
                    )))
                };
                let _ = reply.send(answer);
                known.then(|| Event::Restart(Some(Role::new(&name))))
            }
        }
    }

    fn read(&self) -> Result<Workload, RequestError> {
        load(&self.paths).map_err(|invalid| RequestError::Invalid(invalid.to_string()))
    }

    /// Reads the files again. If they are wrong, those in force stay in force, and the status says so.
    fn reload(&mut self) -> Result<Event, RequestError> {
        let taken = self.take_files();
        self.reload_error = taken.as_ref().err().map(ToString::to_string);
        if taken.is_err() {
            self.publish();
        }
        taken
    }

    fn take_files(&mut self) -> Result<Event, RequestError> {
        let _ = self.notifier.reloading();
        let read = self.read();
        let _ = self.notifier.reloaded();
        let workload = read?;
        if workload.name != self.deeds.workload().name {
            return Err(RequestError::Failed(format!(
                "the workload's name changed from {} to {}: restart monopod for that",
                self.deeds.workload().name,
                workload.name
            )));
        }
        let desired = workload::desired(&self.paths, &workload);
        self.desired.clone_from(&desired);
        self.deeds.change(Rc::new(workload));
        Ok(Event::Reload(desired))
    }

    /// The preload folder may have brought newer images under the names in use.
    fn preloaded(&mut self) {
        let desired = workload::desired(&self.paths, &self.deeds.workload());
        // A container that is outdated for another reason is the core's already.
        let newer = desired
            .iter()
            .zip(&self.desired)
            .any(|(new, old)| old.image_id.is_some() && new.image_id != old.image_id);
        if newer {
            self.desired.clone_from(&desired);
            self.step(Event::Reload(desired));
        }
    }
}
