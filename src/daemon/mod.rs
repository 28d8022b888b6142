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
mod image;
mod ledger;
mod pages;
mod release;
mod rescue;
mod start;
mod status;
mod workload;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::core::api::{Action, Desired, Event, Parting, Policy, Report};
use crate::core::supervisor::{Config, Supervisor};
use crate::core::time::Time;
use crate::engine::{self, Docker};
use crate::exit::Exit;
use crate::owner;
use crate::paths::Paths;
use crate::spec;
use crate::spec::diagnostic::Invalid;
use crate::spec::host::ThisHost;
use crate::spec::types::{Role, Workload};
use crate::systemd::bus::{self, Request, RequestError};
use crate::systemd::journal::{self, Scene};
use crate::systemd::notify::{self, Notifier};
use crate::systemd::{BusAddress, jobs};

pub use status::{AnswerKind, ContainerStatus, EngineStatus, Status};

use status::plan_json;

use deeds::Deeds;
use release::Release;
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
        error!("{text}");
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
    let (workload, node) = match start::first_files(paths, &mut notifier).await {
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
    let _alone = match start::alone(paths) {
        Ok(lock) => lock,
        Err(text) => {
            error!("{text}");
            return Exit::Failed;
        }
    };
    let durable = match ledger::read(paths) {
        Ok(durable) => durable,
        Err((exit, error)) => {
            error!("{error}");
            return exit;
        }
    };
    rescue::clear(paths);
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
        boot: clock::boot(&paths.run()),
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
    let status = status_now(&supervisor, &deeds, &desired, &mut release);
    let mut running = Running {
        paths: paths.clone(),
        supervisor,
        desired,
        socket,
        deeds,
        notifier,
        release,
        exit: None,
        published: status.lasting(),
        state: watch::Sender::new(Arc::new(status)),
        transitions: None,
        quiet: None,
    };
    running.serve(inbox, &mut signals).await
}

fn load(paths: &Paths) -> Result<Workload, Invalid> {
    let loaded = spec::load(paths, &ThisHost::of_environment())?;
    for warning in &loaded.warnings {
        warn!("{}", warning.message());
    }
    Ok(loaded.value)
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
}

/// A daemon at work.
struct Running {
    paths: Paths,
    supervisor: Supervisor,
    /// What the core was last told to keep running.
    desired: Vec<Desired>,
    /// The engine's.
    socket: PathBuf,
    deeds: Deeds,
    notifier: Notifier,
    release: Release,
    state: watch::Sender<Arc<Status>>,
    /// The core has said that the daemon may end.
    exit: Option<Exit>,
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
) -> Status {
    let workload = deeds.workload();
    let mut status = Status::new(&workload, &supervisor.view());
    status.release = release.id(&workload, desired, &status);
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
        loop {
            if let Some(exit) = self.exit {
                return exit;
            }
            let unsaid = self.notifier.unsaid();
            let deadline = self.supervisor.deadline();
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
            };
            let event = match wake {
                Wake::Event(Event::PreloadDone) => {
                    self.step(Event::StoreDamaged(image::damage(&self.paths)));
                    self.preloaded();
                    Some(Event::PreloadDone)
                }
                Wake::Event(event) => Some(event),
                Wake::Request(request) => self.request(request),
                Wake::Reload => {
                    if let Err(error) = self.reload() {
                        error!(
                            "not reloaded, what was in force stays so: {error}; `monopod check` shows it in full"
                        );
                    }
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
        let actions = self.supervisor.step(clock::now(), event);
        // Whoever is told of a transition finds its outcome in the status.
        self.publish();
        for action in actions {
            match action {
                Action::Notify(notify) => self.notifier.tell(&notify),
                Action::Report(report) => self.report(report),
                Action::Record(volatile) => ledger::record(&self.paths, &volatile),
                Action::Exit => self.exit = Some(Exit::Done),
                action => self.deeds.start(action),
            }
        }
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
            Request::StoreChanged => {
                self.step(Event::StoreDamaged(image::damage(&self.paths)));
                Some(Event::StoreChanged)
            }
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
                let _ = reply.send(self.reload());
                None
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

    /// Reads the files again and puts them in force. If they are wrong, those in force stay so, and the
    /// status says why until a reload goes well.
    ///
    /// # Errors
    ///
    /// Why they are not in force.
    fn reload(&mut self) -> Result<(), RequestError> {
        self.notifier.reloading();
        let result = match self.read_again() {
            Ok((workload, policy)) => {
                self.desired = workload::desired(&self.paths, &workload);
                self.deeds.change(Rc::new(workload));
                self.step(Event::Reload {
                    desired: self.desired.clone(),
                    policy: Some(policy),
                });
                Ok(())
            }
            Err(error) => {
                self.step(Event::ReloadRefused(error.to_string()));
                Err(error)
            }
        };
        self.notifier.reloaded();
        result
    }

    /// The files, if they can be put in force while the daemon runs.
    fn read_again(&self) -> Result<(Workload, Policy), RequestError> {
        let workload = self.read()?;
        let node = spec::load_node(&self.paths, &ThisHost::of_environment())
            .map_err(|invalid| RequestError::Invalid(invalid.to_string()))?
            .value;
        let running = self.deeds.workload();
        if workload.name != running.name {
            return Err(RequestError::Failed(format!(
                "the workload's name changed from {} to {}: `systemctl restart monopod` puts that in force",
                running.name, workload.name
            )));
        }
        let socket = engine::socket(&node, std::env::var("DOCKER_HOST").ok().as_deref())
            .map_err(RequestError::Failed)?;
        if socket != self.socket {
            return Err(RequestError::Failed(format!(
                "the engine's socket changed from {} to {}: `systemctl restart monopod` puts that in force",
                self.socket.display(),
                socket.display()
            )));
        }
        let policy = Policy {
            escalation: node.escalation,
            ready: node.ready,
        };
        Ok((workload, policy))
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
            self.step(Event::Reload {
                desired,
                policy: None,
            });
        }
    }
}
