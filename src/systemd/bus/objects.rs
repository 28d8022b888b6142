//! The objects on the bus: what they show, what they take, what they signal.
//!
//! Everything shown is read from the published status at the moment it is asked
//! for; nothing is kept beside it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, fdo, interface};

use super::guard::{Refusal, only_root};
use super::{PATH, Reply, Request, RequestError};
use crate::core::api::Report;
use crate::daemon::{ContainerStatus, EngineStatus, Status};
use crate::probe::tame;
use crate::spec::types::Role;
use crate::systemd::journal;

/// The interface of a container's object.
pub(super) const CONTAINER: &str = "org.monopod.Container1";

/// Most characters of what is said of a stick.
const MEDIUM_LINE: usize = 200;

/// What a property change is signalled by: the property's name and its value.
type Property<'a> = (&'static str, Variant<'a>);

/// The supervisor's object.
pub(super) struct Supervisor {
    state: watch::Receiver<Arc<Status>>,
    requests: mpsc::Sender<Request>,
}

impl Supervisor {
    pub(super) fn new(
        state: watch::Receiver<Arc<Status>>,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        Self { state, requests }
    }

    fn now(&self) -> Arc<Status> {
        Arc::clone(&self.state.borrow())
    }

    /// Puts a request to the daemon and waits for the answer.
    async fn put<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).await.is_err() {
            return Err(ending().into());
        }
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ending().into()),
        }
    }
}

/// The answer to whoever asks too late.
fn ending() -> RequestError {
    RequestError::Failed("the daemon is ending".to_owned())
}

#[interface(name = "org.monopod.Supervisor1", introspection_docs = false)]
impl Supervisor {
    /// The status as JSON.
    #[zbus(out_args("status_json"))]
    fn get_status(&self) -> String {
        self.now().json()
    }

    /// What a reload would do, as JSON.
    #[zbus(out_args("steps_json"))]
    async fn plan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        only_root(connection, &header).await?;
        self.put(Request::Plan).await
    }

    /// Restarts the container, or all of them if the name is empty.
    async fn restart(
        &self,
        container: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        only_root(connection, &header).await?;
        let name = (!container.is_empty()).then(|| container.to_owned());
        self.put(|reply| Request::Restart(name, reply)).await
    }

    /// Reads the files again.
    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        only_root(connection, &header).await?;
        self.put(Request::Reload).await
    }

    /// Says that the store has new images.
    async fn store_changed(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        only_root(connection, &header).await?;
        match self.requests.send(Request::StoreChanged).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ending().into()),
        }
    }

    /// Says what came of a stick, in one line.
    async fn medium_result(
        &self,
        text: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        only_root(connection, &header).await?;
        let line = tame(text, MEDIUM_LINE);
        match self.requests.send(Request::Medium(line)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ending().into()),
        }
    }

    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    #[expect(clippy::unused_self, reason = "properties are methods")]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The workload's name.
    #[zbus(property)]
    fn workload(&self) -> String {
        self.now().workload.clone()
    }

    /// The release id; empty while an image's ID is not known.
    #[zbus(property)]
    fn release(&self) -> String {
        self.now().release.clone().unwrap_or_default()
    }

    /// The worst of the containers' verdicts.
    #[zbus(property)]
    fn verdict(&self) -> &'static str {
        self.now().verdict.as_str()
    }

    /// Where the ladder stands.
    #[zbus(property)]
    fn rung(&self) -> String {
        self.now().ladder.clone()
    }

    /// How often the watchdog was withheld since the workload was last stable.
    #[zbus(property)]
    fn withheld(&self) -> u32 {
        self.now().withheld
    }

    /// The line that systemd shows.
    #[zbus(property)]
    fn status(&self) -> String {
        self.now().line.clone()
    }

    /// Whether the engine answers.
    #[zbus(property)]
    fn engine_answers(&self) -> bool {
        answers(&self.now())
    }

    /// Why the files as they are now are not in force; empty if they are, as far as is known.
    #[zbus(property)]
    fn reload_error(&self) -> String {
        self.now().reload_error.clone().unwrap_or_default()
    }

    /// The containers, by name, with their objects.
    #[zbus(property)]
    fn containers(&self) -> BTreeMap<String, OwnedObjectPath> {
        paths(&self.now())
    }

    /// The status changed; as JSON.
    // A property `Status` makes a function of the signal's own name.
    #[zbus(signal, name = "StatusChanged")]
    async fn status_json_changed(
        emitter: &SignalEmitter<'_>,
        status_json: &str,
    ) -> zbus::Result<()>;

    /// Something happened that the journal has a line of.
    #[zbus(signal)]
    async fn transition(
        emitter: &SignalEmitter<'_>,
        kind: &str,
        container: &str,
        text: &str,
        message_id: &str,
    ) -> zbus::Result<()>;
}

/// What changes of the supervisor's properties. A test holds it against the properties themselves.
fn properties(status: &Status) -> [Property<'_>; 9] {
    let release = status.release.as_deref().unwrap_or_default();
    let reload_error = status.reload_error.as_deref().unwrap_or_default();
    [
        ("Workload", status.workload.as_str().into()),
        ("Release", release.into()),
        ("Verdict", status.verdict.as_str().into()),
        ("Rung", status.ladder.as_str().into()),
        ("Withheld", status.withheld.into()),
        ("Status", status.line.as_str().into()),
        ("EngineAnswers", answers(status).into()),
        ("ReloadError", reload_error.into()),
        ("Containers", paths(status).into()),
    ]
}

fn answers(status: &Status) -> bool {
    match status.engine {
        EngineStatus::Answers => true,
        EngineStatus::Silent => false,
    }
}

fn paths(status: &Status) -> BTreeMap<String, OwnedObjectPath> {
    let roles = status.containers.keys();
    roles
        .map(|role| (role.to_string(), path(role).into()))
        .collect()
}

/// One container's object.
pub(super) struct Container {
    role: Role,
    state: watch::Receiver<Arc<Status>>,
}

impl Container {
    /// What is asked for; nothing of a container that has just gone.
    fn read<T: Default>(&self, of: impl FnOnce(&ContainerStatus) -> T) -> T {
        let status = self.state.borrow();
        status
            .containers
            .get(&self.role)
            .map(of)
            .unwrap_or_default()
    }
}

#[interface(name = "org.monopod.Container1", introspection_docs = false)]
impl Container {
    /// Its name in the workload.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.role.to_string()
    }

    /// `absent`, `created`, `running`, `stopping`, `exited`, `backoff` or `unknown`.
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|container| container.state.clone())
    }

    /// `starting`, `healthy`, `unhealthy` or `unknown`.
    #[zbus(property)]
    fn verdict(&self) -> &'static str {
        self.read(|container| container.verdict.as_str())
    }

    /// Starts after the first.
    #[zbus(property)]
    fn restarts(&self) -> u32 {
        self.read(|container| container.restarts)
    }

    /// The image's reference.
    #[zbus(property)]
    fn image(&self) -> String {
        self.read(|container| container.image.clone())
    }

    /// The image's ID; empty if it is not known.
    #[zbus(property, name = "ImageID")]
    fn image_id(&self) -> String {
        self.read(|container| container.image_id.clone().unwrap_or_default())
    }

    /// The engine's ID of it; empty if there is none.
    #[zbus(property, name = "ContainerID")]
    fn container_id(&self) -> String {
        self.read(|container| container.id.clone().unwrap_or_default())
    }

    /// Its init process on the host; 0 if it does not run.
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.read(|container| container.pid.unwrap_or_default())
    }

    /// What went wrong, or what it waits for; empty if all is well.
    #[zbus(property)]
    fn note(&self) -> String {
        self.read(|container| container.note.clone().unwrap_or_default())
    }

    /// Since when its state stands.
    #[zbus(property(emits_changed_signal = "false"))]
    fn since(&self) -> String {
        self.read(|container| container.since.clone())
    }

    /// The last answer to its health question: when, `pass`, `fail` or `cannot-ask`, and in words.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_answer(&self) -> (String, String, String) {
        self.read(|container| {
            let last = container.last.as_ref();
            last.map(|last| {
                let answer = last.answer.as_str().to_owned();
                (last.time.clone(), answer, last.text.clone())
            })
            .unwrap_or_default()
        })
    }
}

/// What changes of a container's properties and is signalled: not what changes at every probe.
fn container_properties(container: &ContainerStatus) -> [Property<'_>; 8] {
    fn text(text: Option<&String>) -> Variant<'_> {
        text.map(String::as_str).unwrap_or_default().into()
    }
    [
        ("State", container.state.as_str().into()),
        ("Verdict", container.verdict.as_str().into()),
        ("Restarts", container.restarts.into()),
        ("Image", container.image.as_str().into()),
        ("ImageID", text(container.image_id.as_ref())),
        ("ContainerID", text(container.id.as_ref())),
        ("MainPID", container.pid.unwrap_or_default().into()),
        ("Note", text(container.note.as_ref())),
    ]
}

/// The containers' objects, as they are at the start.
pub(super) fn containers(
    state: &watch::Receiver<Arc<Status>>,
) -> Vec<(ObjectPath<'static>, Container)> {
    let status = state.borrow();
    let roles = status.containers.keys();
    roles
        .map(|role| {
            let container = Container {
                role: role.clone(),
                state: state.clone(),
            };
            (path(role), container)
        })
        .collect()
}

/// Which containers have objects.
pub(super) struct Containers(Vec<Role>);

impl Containers {
    /// Those of this status.
    pub(super) fn new(status: &Status) -> Self {
        Self(status.containers.keys().cloned().collect())
    }

    /// Adds and removes objects as containers come and go, and signals what changed of the others.
    pub(super) async fn follow(
        &mut self,
        connection: &Connection,
        state: &watch::Receiver<Arc<Status>>,
        old: &Status,
        new: &Status,
    ) -> zbus::Result<()> {
        let server = connection.object_server();
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|role| new.containers.contains_key(role));
        self.0 = stay;
        for role in gone {
            server.remove::<Container, _>(path(&role)).await?;
        }
        for (role, container) in &new.containers {
            if !self.0.contains(role) {
                let object = Container {
                    role: role.clone(),
                    state: state.clone(),
                };
                self.0.push(role.clone());
                server.at(path(role), object).await?;
            } else if let Some(before) = old.containers.get(role) {
                let changes = changes(
                    container_properties(before),
                    container_properties(container),
                );
                tell(connection, path(role), CONTAINER, changes).await?;
            }
        }
        Ok(())
    }
}

/// Signals what changed of the supervisor.
pub(super) async fn changed(
    connection: &Connection,
    old: &Status,
    new: &Status,
) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, PATH)?;
    Supervisor::status_json_changed(&emitter, &new.json()).await?;
    let changes = changes(properties(old), properties(new));
    tell(connection, emitter.path().to_owned(), super::NAME, changes).await
}

/// Signals a transition.
pub(super) async fn transition(emitter: &SignalEmitter<'_>, report: &Report) -> zbus::Result<()> {
    let container = report.role.as_ref().map_or("", Role::as_str);
    Supervisor::transition(
        emitter,
        journal::kind(report.kind),
        container,
        &report.text,
        journal::message_id(report.kind),
    )
    .await
}

/// The properties whose values differ.
fn changes<'a, const N: usize>(
    old: [Property<'_>; N],
    new: [Property<'a>; N],
) -> HashMap<&'static str, Variant<'a>> {
    old.into_iter()
        .zip(new)
        .filter(|(old, new)| old != new)
        .map(|(_, new)| new)
        .collect()
}

async fn tell(
    connection: &Connection,
    path: ObjectPath<'_>,
    interface: &'static str,
    changes: HashMap<&'static str, Variant<'_>>,
) -> zbus::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let emitter = SignalEmitter::new(connection, path)?;
    let interface = InterfaceName::from_static_str(interface)?;
    fdo::Properties::properties_changed(&emitter, interface, changes, Cow::default()).await
}

/// The path of a container's object: the name as systemd writes a unit's, `_xx` for what a path cannot have.
fn path(role: &Role) -> ObjectPath<'static> {
    let mut path = format!("{PATH}/container/");
    for byte in role.as_str().bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    // Only letters, digits and underscores, and no name is empty.
    ObjectPath::from_string_unchecked(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_names() {
        let table = [
            ("app", "app"),
            ("my-app", "my_2dapp"),
            ("a_b.c", "a_5fb_2ec"),
            ("9", "9"),
        ];
        for (name, expected) in table {
            let path = path(&Role::new(name));
            assert_eq!(path.as_str(), format!("{PATH}/container/{expected}"));
            assert!(ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
        }
    }
}
