//! The supervisor's object on the bus: what it shows, what it takes, what it signals.
//!
//! Everything shown is read from the published status at the moment it is asked
//! for; nothing is kept beside it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, fdo, interface};

use super::containers::path;
use super::guard::{Refusal, caller, root_or_ourselves};
use super::{PATH, ReleaseAsk, Reply, Request, RequestError, releases};
use crate::core::api::Report;
use crate::daemon::{EngineStatus, Status};
use crate::probe::tame;
use crate::spec::types::Role;
use crate::systemd::journal;

/// Most characters of what is said of a stick.
const MEDIUM_LINE: usize = 200;

/// What a property change is signalled by: the property's name and its value.
pub(super) type Property<'a> = (&'static str, Variant<'a>);

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

    /// Asks something about releases; the answer is one sentence.
    async fn ask(&self, ask: ReleaseAsk) -> Result<String, Refusal> {
        self.put(|reply| Request::Release(ask, reply)).await
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
        caller(connection, &header).await?.root()?;
        self.put(Request::Plan).await
    }

    /// Restarts the container, or all of them if the name is empty.
    async fn restart(
        &self,
        container: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        caller(connection, &header).await?.root()?;
        let name = (!container.is_empty()).then(|| container.to_owned());
        self.put(|reply| Request::Restart(name, reply)).await
    }

    /// Reads the files again.
    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        root_or_ourselves(connection, &header).await?;
        self.put(Request::Reload).await
    }

    /// Says that the store has new images.
    async fn store_changed(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        root_or_ourselves(connection, &header).await?;
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
        root_or_ourselves(connection, &header).await?;
        let line = tame(text, MEDIUM_LINE);
        match self.requests.send(Request::Medium(line)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ending().into()),
        }
    }

    /// Says that a release is there, whole; `wish`: `take` (node.toml decides), `stage`, `activate` or
    /// `activate-now`.
    #[zbus(out_args("next"))]
    async fn offer_release(
        &self,
        id: &str,
        wish: &str,
        allow_downgrade: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        let caller = caller(connection, &header).await?;
        self.ask(releases::offer(caller, id, wish, allow_downgrade)?)
            .await
    }

    /// Has a release tried now: this one, or the one that waits if the id is empty.
    #[zbus(out_args("next"))]
    async fn activate_release(
        &self,
        id: &str,
        force: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        caller(connection, &header).await?.root()?;
        self.ask(releases::activate(id, force)?).await
    }

    /// Goes back to the release before.
    #[zbus(out_args("next"))]
    async fn roll_back(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        caller(connection, &header).await?.root()?;
        self.ask(ReleaseAsk::RollBack).await
    }

    /// Has a rejected release tried once more.
    #[zbus(out_args("next"))]
    async fn retry_release(
        &self,
        id: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        caller(connection, &header).await?.root()?;
        self.ask(ReleaseAsk::Retry(releases::id(id)?)).await
    }

    /// Lets nothing be activated by itself, or lets it again.
    #[zbus(out_args("next"))]
    async fn hold_updates(
        &self,
        hold: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        caller(connection, &header).await?.root()?;
        self.ask(ReleaseAsk::Hold(hold)).await
    }

    /// Keeps a release from being pruned, or no longer.
    #[zbus(out_args("next"))]
    async fn pin_release(
        &self,
        id: &str,
        pin: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        caller(connection, &header).await?.root()?;
        self.ask(ReleaseAsk::Pin(releases::id(id)?, pin)).await
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
pub(super) fn changes<'a, const N: usize>(
    old: [Property<'_>; N],
    new: [Property<'a>; N],
) -> HashMap<&'static str, Variant<'a>> {
    old.into_iter()
        .zip(new)
        .filter(|(old, new)| old != new)
        .map(|(_, new)| new)
        .collect()
}

pub(super) async fn tell(
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
