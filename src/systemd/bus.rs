//! The daemon's side of the bus: `org.monopod.Supervisor1`.
//!
//! It carries requests to the daemon's loop and answers back, and sends a
//! signal when the published status changes. It must never answer a request
//! itself, never poll, and never take the daemon down with the bus.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use zbus::message::{Header, Message};
use zbus::names::ErrorName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, connection, fdo, interface};

use super::BusAddress;

/// The name that the daemon owns; the interface has the same.
pub const NAME: &str = "org.monopod.Supervisor1";
/// The one object.
pub const PATH: &str = "/org/monopod/Supervisor1";
/// What our own error names begin with.
pub const ERRORS: &str = "org.monopod.Error";

/// How long a bus may take to let us in.
pub(super) const GREETING: Duration = Duration::from_secs(10);
/// Least time between two signals.
const PACE: Duration = Duration::from_millis(200);
/// Time before a lost or missing bus is tried again; it doubles up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where a request's answer goes. The asker may be gone.
pub type Reply<T> = oneshot::Sender<Result<T, RequestError>>;

/// What someone on the bus asks of the daemon.
#[derive(Debug)]
pub enum Request {
    /// What would a reload do? As JSON.
    Plan(Reply<String>),
    /// Restart one container by name, or all.
    Restart(Option<String>, Reply<()>),
    /// Read the files again.
    Reload(Reply<()>),
    /// The store has new images.
    StoreChanged,
}

/// Why a request is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A file of the user's is invalid: the diagnostics.
    #[error("{0}")]
    Invalid(String),
    /// What the request names is not there.
    #[error("{0}")]
    NotFound(String),
    /// It was tried.
    #[error("{0}")]
    Failed(String),
}

/// Why the bus does not carry us.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The name has an owner.
    #[error("another monopod daemon runs: it owns {NAME} on the bus; stop it first")]
    NameTaken,
    /// There is no bus, or it does not answer.
    #[error("cannot reach the bus at {0}: {1}")]
    NoBus(BusAddress, String),
    /// The bus's policy is against it.
    #[error(
        "the bus does not let this user own {NAME}: run as root, and with org.monopod.Supervisor1.conf in /usr/share/dbus-1/system.d"
    )]
    Forbidden,
    /// Anything else.
    #[error("the bus at {0}: {1}")]
    Other(BusAddress, zbus::Error),
}

/// Serves on the bus for as long as the daemon lives, across the bus's own restarts.
///
/// Drop the future to leave the bus. While there is a bus, it sleeps until something is asked or
/// the status changes; without one it looks again after 5 s, and less and less often, down to once
/// a minute. `state` is the status as JSON; a change is signalled at most each 200 ms.
///
/// Returns only if the name is taken: then this daemon must not run.
pub async fn run(
    address: &BusAddress,
    state: watch::Receiver<Arc<str>>,
    requests: mpsc::Sender<Request>,
) -> BusError {
    let mut wait = RETRY;
    let mut told = false;
    loop {
        // Taken before anyone can ask, so that whoever was told this hears of the next.
        let told_first = Arc::clone(&state.borrow());
        match serve(address, state.clone(), requests.clone()).await {
            Ok(connection) => {
                if told {
                    info!("the bus is back");
                }
                publish(&connection, state.clone(), told_first).await;
                warn!("the bus is gone; the containers are supervised without it");
                (wait, told) = (RETRY, true);
            }
            Err(error @ BusError::NameTaken) => return error,
            Err(error) => {
                if !told {
                    warn!("{error}; the containers are supervised without the bus");
                    told = true;
                }
            }
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Connects, serves the object and owns the name, once. It is served until the connection is dropped.
///
/// # Errors
///
/// [`BusError::NameTaken`] tells that another daemon runs; the rest may pass.
pub async fn serve(
    address: &BusAddress,
    state: watch::Receiver<Arc<str>>,
    requests: mpsc::Sender<Request>,
) -> Result<Connection, BusError> {
    let attempt = connection::Builder::address(address.as_str())
        .serve_at(PATH, Supervisor { state, requests })
        .name(NAME)
        // Two daemons on one node: neither may push the other out.
        .allow_name_replacements(false)
        .replace_existing_names(false)
        .build();
    let Ok(built) = timeout(GREETING, attempt).await else {
        let text = format!("no answer within {GREETING:?}");
        return Err(BusError::NoBus(address.clone(), text));
    };
    built.map_err(|error| match error {
        zbus::Error::NameTaken => BusError::NameTaken,
        zbus::Error::Connection(error, _) | zbus::Error::InputOutput(error) => {
            BusError::NoBus(address.clone(), error.to_string())
        }
        zbus::Error::FDO(error) if matches!(*error, fdo::Error::AccessDenied(_)) => {
            BusError::Forbidden
        }
        error => BusError::Other(address.clone(), error),
    })
}

/// Signals the status's changes since `sent` until the connection ends.
async fn publish(
    connection: &Connection,
    mut state: watch::Receiver<Arc<str>>,
    mut sent: Arc<str>,
) {
    loop {
        let now = Arc::clone(&state.borrow_and_update());
        if now != sent {
            // A signal that cannot be sent tells of the connection's end, which the select sees.
            if let Ok(emitter) = SignalEmitter::new(connection, PATH) {
                let _ = Supervisor::status_changed(&emitter, &now).await;
            }
            sent = now;
            tokio::select! {
                () = connection.closed() => return,
                () = sleep(PACE) => continue,
            }
        }
        tokio::select! {
            () = connection.closed() => return,
            changed = state.changed() => if changed.is_err() {
                // The daemon is about to end and drops this future.
                return connection.closed().await;
            }
        }
    }
}

/// The object on the bus.
struct Supervisor {
    state: watch::Receiver<Arc<str>>,
    requests: mpsc::Sender<Request>,
}

impl Supervisor {
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

#[interface(name = "org.monopod.Supervisor1", introspection_docs = false)]
impl Supervisor {
    /// The status as JSON.
    fn get_status(&self) -> String {
        self.state.borrow().to_string()
    }

    /// What a reload would do, as JSON.
    async fn plan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Refusal> {
        only_root(connection, &header).await?;
        self.put(Request::Plan).await
    }

    /// Restarts the container `name`, or all of them if it is empty.
    async fn restart(
        &self,
        name: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Refusal> {
        only_root(connection, &header).await?;
        let name = (!name.is_empty()).then(|| name.to_owned());
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

    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    #[expect(clippy::unused_self, reason = "properties are methods")]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The status changed; as JSON.
    #[zbus(signal)]
    async fn status_changed(emitter: &SignalEmitter<'_>, status: &str) -> zbus::Result<()>;
}

/// The answer to whoever asks too late.
fn ending() -> RequestError {
    RequestError::Failed("the daemon is ending".to_owned())
}

/// Lets root and the daemon's own user through.
///
/// The bus's policy says the same; this holds where the policy was not installed.
async fn only_root(connection: &Connection, header: &Header<'_>) -> Result<(), Refusal> {
    const BUS: &str = "org.freedesktop.DBus";
    let denied = |text: &str| Refusal {
        name: "org.freedesktop.DBus.Error.AccessDenied",
        text: text.to_owned(),
    };
    let Some(sender) = header.sender() else {
        return Err(denied("the caller has no name on the bus"));
    };
    let user = connection
        .call_method(
            Some(BUS),
            "/org/freedesktop/DBus",
            Some(BUS),
            "GetConnectionUnixUser",
            &sender.as_str(),
        )
        .await
        .and_then(|reply| reply.body().deserialize::<u32>());
    match user {
        Ok(0) => Ok(()),
        Ok(uid) if uid == nix::unistd::geteuid().as_raw() => Ok(()),
        Ok(_) => Err(denied("only root may ask this")),
        Err(_) => Err(denied("the bus does not say who asks")),
    }
}

/// A refusal as the bus has it: a name and a text.
#[derive(Debug)]
struct Refusal {
    name: &'static str,
    text: String,
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let (name, text) = match error {
            RequestError::Invalid(text) => ("org.monopod.Error.Invalid", text),
            RequestError::NotFound(text) => ("org.monopod.Error.NotFound", text),
            RequestError::Failed(text) => ("org.monopod.Error.Failed", text),
        };
        Self { name, text }
    }
}

impl DBusError for Refusal {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&self.text)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.text)
    }
}
