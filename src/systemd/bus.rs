//! The daemon's side of the bus: `org.monopod.Supervisor1`, and an object for each container.
//!
//! It carries requests to the daemon's loop and answers back, tells of each
//! transition, and sends signals when the published status changes. It must
//! never answer a request itself, never poll, and never take the daemon down
//! with the bus.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use zbus::fdo::ObjectManager;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, connection, fdo};

use super::BusAddress;
use crate::core::api::Report;
use crate::core::update::{ReleaseId, Wish};
use crate::daemon::Status;

mod containers;
mod guard;
mod objects;
mod releases;

use containers::Containers;
use objects::Supervisor;

/// The name that the daemon owns; the interface has the same.
pub const NAME: &str = "org.monopod.Supervisor1";
/// The supervisor's object; those of the containers are below it.
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
    /// A stick was read: what came of it, in one line.
    Medium(String),
    /// From now on requests are heard: whoever came before was told that no daemon runs.
    Heard,
    /// Something about releases. The answer is one sentence: what comes next.
    Release(ReleaseAsk, Reply<String>),
}

/// What is asked about releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseAsk {
    /// A release's folder is there, whole. Whether its signature holds is yet to be seen.
    Offer {
        /// Which.
        id: ReleaseId,
        /// What is to become of it.
        wish: Wish,
        /// The node's owner allows that it is older than what was accepted.
        downgrade: bool,
    },
    /// A release is to be tried now.
    Activate {
        /// Which; `None` for the one that waits.
        id: Option<ReleaseId>,
        /// Whatever its workload says of the moment.
        force: bool,
    },
    /// Back to the release before, now.
    RollBack,
    /// A rejected release is to be tried once more.
    Retry(ReleaseId),
    /// Nothing is activated by itself; or it is again.
    Hold(bool),
    /// A release is never pruned; or it may be again.
    Pin(ReleaseId, bool),
}

impl ReleaseAsk {
    /// The release that it names.
    pub fn release(&self) -> Option<&ReleaseId> {
        match self {
            Self::Offer { id, .. } | Self::Retry(id) | Self::Pin(id, _) => Some(id),
            Self::Activate { id, .. } => id.as_ref(),
            Self::RollBack | Self::Hold(_) => None,
        }
    }
}

/// What a wish is called on the bus.
pub(super) fn wish_word(wish: Wish) -> &'static str {
    match wish {
        Wish::Take => "take",
        Wish::Stage => "stage",
        Wish::Activate { force: false } => "activate",
        Wish::Activate { force: true } => "activate-now",
    }
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
    /// It may not be: a signature, a downgrade, a release that was rejected.
    #[error("{0}")]
    Refused(String),
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
        "the bus does not let this user own {NAME}: that is for the user monopod and for root, \
         by org.monopod.Supervisor1.conf in /usr/share/dbus-1/system.d (or /etc/dbus-1/system.d)"
    )]
    Forbidden,
    /// Anything else.
    #[error("the bus at {0}: {1}")]
    Other(BusAddress, zbus::Error),
}

/// Serves on the bus for as long as the daemon lives, across the bus's own restarts.
///
/// Drop the future to leave the bus. While there is a bus, it sleeps until something is asked, the
/// status changes or a transition is reported; without one it looks again after 5 s, and less and
/// less often, down to once a minute. A change of `state` is signalled at most each 200 ms, each of
/// the `transitions` at once; those from a time without a bus are not told later.
///
/// Returns only if the name is taken: then this daemon must not run.
pub async fn run(
    address: &BusAddress,
    state: watch::Receiver<Arc<Status>>,
    mut transitions: mpsc::Receiver<Report>,
    requests: mpsc::Sender<Request>,
) -> BusError {
    let mut wait = RETRY;
    let mut told = false;
    loop {
        while transitions.try_recv().is_ok() {}
        // Taken before anyone can ask, so that whoever was told this hears of the next.
        let told_first = Arc::clone(&state.borrow());
        match serve(address, state.clone(), requests.clone()).await {
            Ok(connection) => {
                if told {
                    info!("the bus is back");
                }
                // Only a daemon that ends takes no requests any more.
                let _ = requests.send(Request::Heard).await;
                publish(&connection, state.clone(), told_first, &mut transitions).await;
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

/// Connects, serves the objects and owns the name, once. They are served until the connection is dropped.
///
/// # Errors
///
/// [`BusError::NameTaken`] tells that another daemon runs; the rest may pass.
pub async fn serve(
    address: &BusAddress,
    state: watch::Receiver<Arc<Status>>,
    requests: mpsc::Sender<Request>,
) -> Result<Connection, BusError> {
    let mut builder = connection::Builder::address(address.as_str());
    for (path, container) in containers::containers(&state) {
        builder = builder.serve_at(path, container);
    }
    let attempt = builder
        .serve_at(PATH, Supervisor::new(state, requests))
        .serve_at(PATH, ObjectManager)
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

/// Signals the transitions, and the status's changes since `sent`, until the connection ends.
async fn publish(
    connection: &Connection,
    mut state: watch::Receiver<Arc<Status>>,
    mut sent: Arc<Status>,
    transitions: &mut mpsc::Receiver<Report>,
) {
    let mut containers = Containers::new(&sent);
    let mut changed = true;
    let mut next = Instant::now();
    loop {
        if changed && Instant::now() >= next {
            changed = false;
            let now = Arc::clone(&state.borrow_and_update());
            if now != sent {
                // A signal that cannot be sent tells of the connection's end, which the select sees.
                let _ = containers.follow(connection, &state, &sent, &now).await;
                let _ = objects::changed(connection, &sent, &now).await;
                sent = now;
                next = Instant::now() + PACE;
            }
        }
        tokio::select! {
            () = connection.closed() => return,
            Some(report) = transitions.recv() => {
                if let Ok(emitter) = SignalEmitter::new(connection, PATH) {
                    let _ = objects::transition(&emitter, &report).await;
                }
            }
            news = state.changed(), if !changed => {
                if news.is_err() {
                    // The daemon is about to end and drops this future.
                    return connection.closed().await;
                }
                changed = true;
            }
            () = sleep_until(next), if changed => {}
        }
    }
}
