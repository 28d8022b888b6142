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

mod child;
pub mod civil;
mod clock;
mod deeds;
mod files;
mod hook;
mod image;
mod in_force;
mod incoming;
pub mod ledger;
mod local;
mod medium;
mod pages;
mod rebuild;
mod reload;
mod rescue;
mod staging;
mod start;
mod status;
mod sync;
mod updates;
pub mod volumes;

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::core::api::{Action, Event, Parting, Report, ReportKind};
use crate::core::ledger::Volatile;
use crate::core::node::Node;
use crate::core::supervisor::Config;
use crate::core::time::Time;
use crate::core::update::{Ask, Refused, ReleaseId, Rules};
use crate::engine::{self, Docker};
use crate::exit::Exit;
use crate::owner;
use crate::paths::Paths;
use crate::release::{Adopted, Releases};
use crate::spec::types::Role;
use crate::systemd::bus::{self, Request, RequestError};
use crate::systemd::journal::{self, Scene};
use crate::systemd::notify::{self, Notifier};
use crate::systemd::{BusAddress, jobs};

pub use clock::rfc3339;
pub use ledger::peek;
pub use status::{AnswerKind, ContainerStatus, EngineStatus, Status};

use status::{UpdateStatus, plan_json};

use deeds::Deeds;
use incoming::{Incoming, Then};
use medium::Medium;
use start::Signals;

/// How long nothing may have changed before the memory that only changes need is given back.
const QUIET: Duration = Duration::from_secs(10);

/// How many transitions may wait for the bus; the journal has those beyond.
const TRANSITIONS: usize = 64;
/// How often what systemd could not take is said again.
const SAY_AGAIN: Duration = Duration::from_millis(250);

/// How many ready sockets are looked at in one go.
const IO_EVENTS: usize = 32;

/// Runs the daemon until it is told to end.
pub fn run(paths: &Paths, verbose: bool) -> Exit {
    journal::init(verbose);
    if let Err(text) = owner::not_as_root(paths) {
        journal::last_words(&text);
        return Exit::Refused;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Room for the usual 1024 would be 12 KiB that the daemon never needs.
        .max_io_events_per_tick(IO_EVENTS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            journal::last_words(&format!("cannot start: {error}"));
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
    match begin(paths).await {
        Ok((mut running, inbox, mut signals)) => running.serve(inbox, &mut signals).await,
        Err(exit) => exit,
    }
}

type Begun = (Running, mpsc::UnboundedReceiver<Event>, Signals);

/// Everything up to the first look at the engine. What goes wrong here is said.
async fn begin(paths: &Paths) -> Result<Begun, Exit> {
    let told = |exit: Exit| {
        move |text: String| {
            journal::last_words(&text);
            exit
        }
    };
    let mut notifier = Notifier::new();
    let files = start::node_file(paths, &mut notifier).await?;
    let socket = engine::socket(&files, std::env::var("DOCKER_HOST").ok().as_deref())
        .map_err(told(Exit::Invalid))?;
    std::fs::create_dir_all(paths.run())
        .map_err(|error| format!("cannot make {}: {error}", paths.run().display()))
        .map_err(told(Exit::Failed))?;
    // Without a bus nothing else keeps two daemons off the same containers.
    let alone = start::alone(paths).map_err(told(Exit::Failed))?;
    let mut durable = ledger::read(paths).map_err(|(exit, text)| told(exit)(text))?;
    let volatile = ledger::read_volatile(paths);
    // From here on an end is an orderly one only if somebody asks for it.
    ledger::record(
        paths,
        &Volatile {
            orderly: false,
            ..volatile.clone()
        },
    );
    rescue::clear(paths);
    let mut signals = Signals::new()
        .map_err(|error| format!("cannot listen to signals: {error}"))
        .map_err(told(Exit::Failed))?;
    if let Err(error) = Releases::new(paths).sweep() {
        warn!("{error}");
    }
    let engine = Docker::connect(&socket);
    let how = start::How {
        orderly: volatile.orderly,
        tries: files.trial.tries,
        engine: &engine,
        signals: &mut signals,
    };
    let first = start::first_release(paths, &mut notifier, &mut durable, how);
    let (in_force, book) = first.await?;
    let config = Config {
        escalation: files.escalation.clone(),
        ready: files.ready,
        watchdog: notify::watchdog(),
        seed: clock::seed(),
        boot: clock::boot(&paths.run()),
    };
    let rules = Rules {
        trial: files.trial.clone(),
        activation: files.update.activation,
    };
    let desired = in_force.desired(paths);
    let node = Node::new(
        config,
        rules,
        desired,
        durable.clone(),
        book,
        volatile,
        clock::now(),
    );
    info!(
        "supervising {}, release {}, with the engine at {}",
        in_force.workload.name,
        in_force.id(),
        socket.display()
    );
    let (events, inbox) = mpsc::unbounded_channel();
    let deeds = Deeds::new(
        paths.clone(),
        engine,
        in_force,
        files.update,
        durable,
        events,
    );
    let medium = Medium::default();
    let status = status_now(&node, &deeds, &medium);
    let running = Running {
        paths: paths.clone(),
        node,
        socket,
        deeds,
        notifier,
        medium,
        incoming: Incoming::default(),
        exit: None,
        published: status.lasting(),
        state: watch::Sender::new(Arc::new(status)),
        transitions: None,
        quiet: None,
        filled: None,
        file_waits: false,
        _alone: alone,
    };
    Ok((running, inbox, signals))
}

/// What wakes the loop.
enum Wake {
    Event(Event),
    Request(Request),
    Reload,
    Terminate,
    SayAgain,
    OtherDaemon(bus::BusError),
    Quiet,
    MediumOld,
    /// What lay in the drop folder was looked at.
    Adopted(Option<Adopted>),
}

/// A daemon at work.
struct Running {
    paths: Paths,
    node: Node,
    /// The engine's.
    socket: PathBuf,
    deeds: Deeds,
    notifier: Notifier,
    medium: Medium,
    incoming: Incoming,
    state: watch::Sender<Arc<Status>>,
    /// The core has said that the daemon may end.
    exit: Option<Exit>,
    /// What the bus was last told of, without what changes at every probe.
    published: Status,
    /// When all will have been quiet for long enough, unless it is so already.
    quiet: Option<Time>,
    /// Where the bus takes transitions from.
    transitions: Option<mpsc::Sender<Report>>,
    /// The release whose images were last written down once they were known.
    filled: Option<ReleaseId>,
    /// The node's own file was read again at a moment when it could not be considered.
    file_waits: bool,
    /// The right to be this root's one daemon.
    _alone: File,
}

/// The status with what only the daemon knows.
fn status_now(node: &Node, deeds: &Deeds, medium: &Medium) -> Status {
    let in_force = deeds.in_force();
    let mut status = Status::new(&in_force.workload, &node.view());
    status.release = Some(in_force.id().to_string());
    status.update = Some(UpdateStatus::new(&node.update()));
    status.medium = medium.text().map(str::to_owned);
    status.line = medium.line(&status.line);
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
        self.step(Event::Tick);
        self.look_around();
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            let unsaid = self.notifier.unsaid();
            let deadline = self.node.deadline();
            let wake = tokio::select! {
                Some(event) = inbox.recv() => Wake::Event(event),
                Some(request) = asked.recv() => Wake::Request(request),
                _ = signals.terminate.recv() => Wake::Terminate,
                _ = signals.interrupt.recv() => Wake::Terminate,
                _ = signals.hangup.recv() => Wake::Reload,
                () = clock::sleep_until(deadline) => Wake::Event(Event::Tick),
                () = tokio::time::sleep(SAY_AGAIN), if unsaid => Wake::SayAgain,
                error = &mut bus => Wake::OtherDaemon(error),
                () = clock::sleep_until(self.quiet) => Wake::Quiet,
                () = clock::sleep_until(self.medium.deadline()) => Wake::MediumOld,
                ended = self.incoming.ended() => Wake::Adopted(ended),
            };
            let event = match wake {
                Wake::Event(Event::PreloadDone) => {
                    self.step(Event::StoreDamaged(image::damage(&self.paths)));
                    self.step(Event::PreloadDone);
                    // It may have brought newer images under the names in use, and releases.
                    self.after_incoming(Then::Look);
                    None
                }
                Wake::Event(event) => Some(event),
                Wake::Request(request) => self.request(request),
                Wake::Reload => {
                    self.after_incoming(Then::Reload(None));
                    None
                }
                Wake::Adopted(ended) => {
                    self.looked(ended.as_ref());
                    None
                }
                Wake::SayAgain => {
                    self.notifier.say();
                    None
                }
                Wake::Terminate => Some(Event::Terminate(
                    jobs::parting(&address, notify::listened_to()).await,
                )),
                Wake::Quiet => {
                    self.quiet = None;
                    pages::give_back();
                    None
                }
                Wake::MediumOld => {
                    self.medium.forget();
                    self.say_medium();
                    None
                }
                Wake::OtherDaemon(error) => {
                    error!("{error}");
                    // The other one has the containers; they are not ours to stop.
                    self.step(Event::Terminate(Parting::Leave));
                    return Exit::Failed;
                }
            };
            if let Some(event) = event {
                self.step(event);
            }
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.node.step(clock::now(), event);
        self.act(actions);
    }

    /// Answers a request about releases, and does what follows from it.
    fn ask(&mut self, ask: Ask) -> Result<String, Refused> {
        let (answer, actions) = self.node.ask(clock::now(), ask);
        self.act(actions);
        answer
    }

    fn act(&mut self, actions: Vec<Action>) {
        // Whoever is told of a transition finds its outcome in the status.
        self.publish();
        for action in actions {
            match action {
                Action::Notify(notify) => self.notifier.tell(&self.medium.over(notify)),
                Action::Report(report) => self.report(report),
                Action::Record(volatile) => ledger::record(&self.paths, &volatile),
                Action::Exit => self.exit = Some(Exit::Done),
                action => self.start(action),
            }
        }
        self.fill();
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
        let status = status_now(&self.node, &self.deeds, &self.medium);
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

    /// Makes known what came of a stick, or that it is an old story.
    fn say_medium(&mut self) {
        if let Some(notify) = self.medium.again() {
            self.notifier.tell(&notify);
        }
        self.publish();
    }

    /// Answers a request. Some of them are events for the core.
    fn request(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::StoreChanged => {
                self.after_incoming(Then::StoreChanged);
                None
            }
            Request::Medium(text) => {
                self.medium.hear(text.clone(), clock::now());
                self.say_medium();
                self.report(Report {
                    role: None,
                    kind: ReportKind::Medium,
                    text: format!("stick: {text}"),
                });
                // Who tells may be gone before it offers what there is.
                self.after_incoming(Then::Offer);
                None
            }
            Request::Heard => {
                // What was brought since the last look had nobody to tell.
                self.after_incoming(Then::Look);
                None
            }
            Request::Plan(reply) => {
                let plan = self
                    .planned()
                    .map(|planned| plan_json(&self.node.plan(&planned)));
                // Who asked may be gone.
                let _ = reply.send(plan);
                None
            }
            Request::Reload(reply) => {
                self.after_incoming(Then::Reload(Some(reply)));
                None
            }
            Request::Release(ask, reply) => {
                self.after_incoming(Then::Release(ask, reply));
                None
            }
            Request::Restart(None, reply) => {
                let _ = reply.send(Ok(()));
                Some(Event::Restart(None))
            }
            Request::Restart(Some(name), reply) => {
                let workload = Rc::clone(&self.deeds.in_force().workload);
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
}
