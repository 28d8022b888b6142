//! Does what the core says, each deed by itself, and reports its end as an event.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, spawn_local};
use tracing::warn;

use super::in_force::InForce;
use super::{files, image, ledger, rebuild, rescue};
use crate::core::api::{
    Action, Answer, AppNote, Call, Event, Fault, OpId, Outcome, SeenState, TaskId,
};
use crate::core::ledger::{Durable, Entry};
use crate::core::update::ReleaseId;
use crate::engine::{Docker, Engine, Identity};
use crate::paths::Paths;
use crate::pidfd;
use crate::probe::notify::AppSocket;
use crate::probe::{self, ProbeTarget};
use crate::spec::spec_hash;
use crate::spec::types::{Container, Role, UpdatePolicy};

/// Where the host's journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Most notes of an app that wait for the end of its container's start; the first ones count.
const EARLY: usize = 16;

/// Least time between two notes of one app.
const BREATH: Duration = Duration::from_millis(20);

/// The daemon's hands.
pub struct Deeds {
    pub(super) shared: Rc<Shared>,
    calls: Rc<RefCell<BTreeMap<OpId, AbortHandle>>>,
    apps: BTreeMap<Role, AbortHandle>,
    writer: UnboundedSender<Entry>,
}

/// A release that may be in force soon.
pub(super) struct Ready {
    /// What has read it.
    pub task: TaskId,
    pub release: Rc<InForce>,
    /// With which of the node's own files, by how often they had been read.
    pub reads: u64,
}

pub(super) struct Shared {
    pub(super) paths: Paths,
    pub(super) engine: Docker,
    /// What containers are made by.
    pub(super) in_force: RefCell<Rc<InForce>>,
    /// The releases that were staged or loaded last, by which task, until one of them is in force.
    pub(super) ready: RefCell<Vec<Ready>>,
    /// How often the node's own files were read again.
    pub(super) reads: Cell<u64>,
    /// The staging under way.
    pub(super) staging: RefCell<Option<AbortHandle>>,
    /// The release before which volumes were copied, until the copies are removed.
    pub(super) copied: RefCell<Option<ReleaseId>>,
    /// By ID, the names of images that were taken from the engine and have not come again yet.
    pub(super) taken: RefCell<BTreeMap<String, Vec<String>>>,
    /// When updates may be.
    pub(super) policy: RefCell<UpdatePolicy>,
    events: UnboundedSender<Event>,
    /// What apps said while the engine was starting their containers.
    early: RefCell<BTreeMap<Role, Vec<AppNote>>>,
}

impl Shared {
    pub(super) fn tell(&self, event: Event) {
        // The loop is gone only when the daemon ends.
        let _ = self.events.send(event);
    }

    /// An app spoke. While its start is under way it waits: an app says READY=1 before the engine
    /// has told that it runs, and the core has nobody yet whom it could be from.
    fn heard(&self, role: &Role, note: AppNote) {
        if let Some(early) = self.early.borrow_mut().get_mut(role) {
            if early.len() < EARLY {
                early.push(note);
            }
        } else {
            self.tell(Event::App(role.clone(), note));
        }
    }

    pub fn node(&self) -> String {
        self.paths.root().display().to_string()
    }

    pub(super) fn in_force(&self) -> Rc<InForce> {
        Rc::clone(&self.in_force.borrow())
    }

    pub fn container(&self, role: &Role) -> Result<Container, Fault> {
        self.in_force()
            .workload
            .containers
            .iter()
            .find(|container| container.name == *role)
            .cloned()
            .ok_or_else(|| Fault::Refused(format!("the workload no longer has {role}")))
    }
}

/// A start under way. At its end, also if it is given up, what the app said meanwhile is told.
struct Starting {
    shared: Rc<Shared>,
    role: Role,
}

impl Starting {
    fn new(shared: &Rc<Shared>, role: &Role) -> Self {
        shared.early.borrow_mut().insert(role.clone(), Vec::new());
        Self {
            shared: Rc::clone(shared),
            role: role.clone(),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let early = self.shared.early.borrow_mut().remove(&self.role);
        for note in early.into_iter().flatten() {
            self.shared.tell(Event::App(self.role.clone(), note));
        }
    }
}

impl Deeds {
    /// Hands for this workload.
    pub fn new(
        paths: Paths,
        engine: Docker,
        in_force: Rc<InForce>,
        policy: UpdatePolicy,
        durable: Durable,
        events: UnboundedSender<Event>,
    ) -> Self {
        let shared = Rc::new(Shared {
            paths,
            engine,
            in_force: RefCell::new(in_force),
            ready: RefCell::default(),
            reads: Cell::default(),
            staging: RefCell::default(),
            copied: RefCell::new(
                durable
                    .book
                    .trial
                    .as_ref()
                    .map(|trial| trial.release.clone()),
            ),
            taken: RefCell::default(),
            policy: RefCell::new(policy),
            events,
            early: RefCell::default(),
        });
        let (writer, entries) = mpsc::unbounded_channel();
        spawn_local(write(Rc::clone(&shared), durable, entries));
        let mut deeds = Self {
            shared,
            calls: Rc::default(),
            apps: BTreeMap::new(),
            writer,
        };
        deeds.listen();
        deeds
    }

    /// What containers are made by.
    pub fn in_force(&self) -> Rc<InForce> {
        self.shared.in_force()
    }

    /// From now on containers are made as this says.
    pub fn change(&mut self, in_force: Rc<InForce>) {
        *self.shared.in_force.borrow_mut() = in_force;
        self.listen();
    }

    /// Listens to the apps that speak for themselves.
    fn listen(&mut self) {
        let in_force = self.in_force();
        let speaking: Vec<&Container> = in_force
            .workload
            .containers
            .iter()
            .filter(|container| files::speaks(container))
            .collect();
        self.apps.retain(|role, task| {
            let keep = speaking.iter().any(|container| container.name == *role);
            if !keep {
                task.abort();
            }
            keep
        });
        for container in speaking {
            if self.apps.contains_key(&container.name) {
                continue;
            }
            let folder = files::notify_folder(&self.shared.paths, container);
            let bound = std::fs::create_dir_all(folder.parent().unwrap_or(Path::new("/")))
                .and_then(|()| AppSocket::bind(&folder));
            match bound {
                Ok(mut socket) => {
                    let (role, shared) = (container.name.clone(), Rc::clone(&self.shared));
                    let task = spawn_local(async move {
                        loop {
                            let note = socket.recv().await;
                            shared.heard(&role, note);
                            // An app that never stops talking waits, and does not fill our memory.
                            tokio::time::sleep(BREATH).await;
                        }
                    });
                    self.apps
                        .insert(container.name.clone(), task.abort_handle());
                }
                Err(error) => {
                    warn!(
                        "{}: cannot listen in {}: {error}",
                        container.name,
                        folder.display()
                    );
                }
            }
        }
    }

    /// Goes through the preload folder, in a process of its own.
    pub fn preload(&self) {
        let shared = Rc::clone(&self.shared);
        spawn_local(async move {
            preload(&shared.paths).await;
            shared.tell(Event::PreloadDone);
        });
    }

    /// Begins a deed. Reports, notes to systemd and the like are not deeds: the loop does them itself.
    pub fn start(&mut self, action: Action) {
        let shared = Rc::clone(&self.shared);
        match action {
            Action::Engine(op, call) => {
                let calls = Rc::clone(&self.calls);
                let starting = match &call {
                    Call::Start { role, .. } => Some(Starting::new(&shared, role)),
                    _ => None,
                };
                let task = spawn_local(async move {
                    let result = make(&shared, op, call).await;
                    calls.borrow_mut().remove(&op);
                    shared.tell(Event::Done(op, result));
                    drop(starting);
                });
                self.calls.borrow_mut().insert(op, task.abort_handle());
            }
            Action::Abandon(op) => {
                if let Some(task) = self.calls.borrow_mut().remove(&op) {
                    task.abort();
                }
            }
            Action::Probe {
                role,
                probe,
                id,
                address,
                health,
            } => {
                spawn_local(async move {
                    let target = ProbeTarget { id, address };
                    let answer: Answer = probe::ask(&health, &target, &shared.engine).await;
                    shared.tell(Event::Probed {
                        role,
                        probe,
                        answer,
                    });
                });
            }
            Action::Watch { role, id, pid } => {
                spawn_local(watch(shared, role, id, pid));
            }
            Action::Persist(entry) => {
                // The writer ends with the daemon only.
                let _ = self.writer.send(entry);
            }
            Action::Rescue(what, why) => {
                spawn_local(async move {
                    let result = rescue::ask(&shared.paths, what, &why).await;
                    shared.tell(Event::Rescued(what, result));
                });
            }
            Action::Preload => self.preload(),
            action => self.start_for_update(action),
        }
    }
}

/// Goes through the preload folder, in a process of its own.
pub(super) async fn preload(paths: &Paths) {
    let folder = paths.preload();
    if std::fs::read_dir(&folder).map_or(true, |mut names| names.next().is_none()) {
        return;
    }
    let ended = helper(paths, &["import", "--preload"])
        .stdin(Stdio::null())
        .status()
        .await;
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => warn!(
            "not all that is in {} was taken ({status})",
            folder.display()
        ),
        Err(error) => warn!("cannot import from {}: {error}", folder.display()),
    }
}

/// Writes the durable ledger, one entry after the other. An entry that could not be written is in no later
/// write either: whoever wants it asks again.
async fn write(shared: Rc<Shared>, mut durable: Durable, mut entries: UnboundedReceiver<Entry>) {
    while let Some(entry) = entries.recv().await {
        let part = entry.part();
        let new = durable.clone().with(entry);
        let (paths, content) = (shared.paths.clone(), new.clone());
        let written = tokio::task::spawn_blocking(move || ledger::write(&paths, &content)).await;
        let result = match written {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if result.is_ok() {
            durable = new;
        }
        shared.tell(Event::Persisted(part, result));
    }
}

/// A process of this program, which ends with the daemon.
pub(super) fn helper(paths: &Paths, words: &[&str]) -> Command {
    // Not by its path: an update may have put another version there under a running daemon.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("monopod")
        .arg("--root")
        .arg(paths.root())
        .args(words)
        .kill_on_drop(true);
    command
}

/// Makes a call of the engine.
async fn make(shared: &Shared, op: OpId, call: Call) -> Result<Outcome, Fault> {
    let engine = &shared.engine;
    match call {
        Call::Survey => engine
            .containers(&shared.node(), None)
            .await
            .map(Outcome::Seen),
        Call::Look { role } => engine
            .containers(&shared.node(), Some(role.as_str()))
            .await
            .map(Outcome::Seen),
        Call::Image { role } => image::image(shared, op, &role)
            .await
            .map(|id| Outcome::Image { id }),
        Call::Verify { role } => rebuild::verify(shared, op, &role)
            .await
            .map(|(id, sharers)| Outcome::Whole { id, sharers }),
        Call::Rebuild { role, along } => rebuild::rebuild(shared, op, &role, &along)
            .await
            .map(|id| Outcome::Image { id }),
        Call::Create { role, image } => {
            let container = shared.container(&role)?;
            let mounts = files::write(&shared.paths, &container).map_err(Fault::Refused)?;
            let workload = shared.in_force().workload.name.clone();
            let identity = Identity {
                node: shared.node(),
                hash: spec_hash(&container, &workload),
                workload,
                mounts,
                journal: Path::new(JOURNAL).exists(),
            };
            let made = engine
                .create(&files::with_notify(&container), &image, &identity)
                .await?;
            Ok(Outcome::Created {
                id: made.id,
                hash: identity.hash,
                image_id: made.image_id,
                image_health: made.image_health,
            })
        }
        Call::Start { role, id } => {
            // A reboot has taken the files away; an image that went is the start's own error.
            files::write(&shared.paths, &shared.container(&role)?).map_err(Fault::Refused)?;
            engine.start(&id).await.map(Outcome::Started)
        }
        Call::Stop { id, grace } => engine.stop(&id, grace).await.map(|()| Outcome::Ended),
        Call::Remove { id } => engine.remove(&id).await.map(|()| Outcome::Ended),
    }
}

/// Reports the end of a container's process.
async fn watch(shared: Rc<Shared>, role: Role, id: String, pid: u32) {
    let mut ended = pin!(pidfd::ended(pid));
    let node = shared.node();
    // Boxed, so that its memory is given back while the process is waited for.
    let mut still = Box::pin(async {
        // Between the engine's word and the pidfd the number may have gone to another process: the
        // engine's word after it settles that. No word leaves things as they are.
        let Ok(seen) = shared.engine.containers(&node, Some(role.as_str())).await else {
            return true;
        };
        seen.iter().any(|seen| {
            seen.id == id
                && matches!(&seen.state, SeenState::Running(running) if running.pid == pid)
        })
    });
    let early = tokio::select! {
        biased;
        result = &mut ended => Some(result),
        still = &mut still => (!still).then_some(Ok(())),
    };
    drop(still);
    let result = match early {
        Some(result) => result,
        None => ended.await,
    };
    shared.tell(match result {
        Ok(()) => Event::Died { role, pid },
        Err(error) => {
            warn!("{role}: process {pid} cannot be watched ({error}); the engine is asked now and then");
            Event::Unwatched { role, pid }
        }
    });
}
