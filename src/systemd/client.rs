//! The command line's side of the bus.
//!
//! It must never start a daemon, and never wait without an end.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::proxy::OwnerChangedStream;
use zbus::{connection, fdo, proxy};

use super::BusAddress;
use super::bus::{self, ERRORS, GREETING, ReleaseAsk};
use crate::core::update::ReleaseId;

/// How long the daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(25);

/// Why there is no answer, or not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// There is no bus, or it does not answer.
    #[error("cannot reach the bus at {0}: {1}")]
    NoBus(BusAddress, String),
    /// There is a bus, and no daemon on it.
    #[error("the monopod daemon does not run")]
    NoDaemon,
    /// The daemon does not answer.
    #[error("the monopod daemon did not answer within {} s", ANSWER.as_secs())]
    NoAnswer,
    /// The daemon's answer is no.
    #[error("{1}")]
    Refused(Refusal, String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A file of the user's is invalid.
    Invalid,
    /// What the request names is not there.
    NotFound,
    /// It may not be: a signature, a downgrade, a release that was rejected.
    Refused,
    /// It was tried.
    Failed,
    /// The caller may not ask this.
    Denied,
}

impl From<zbus::Error> for ClientError {
    fn from(error: zbus::Error) -> Self {
        use fdo::Error as Fdo;
        match error {
            zbus::Error::MethodError(name, text, _) => {
                let text = text.unwrap_or_else(|| name.to_string());
                let kind = name.as_str().strip_prefix(ERRORS);
                match kind.and_then(|kind| kind.strip_prefix('.')) {
                    Some("Invalid") => Self::Refused(Refusal::Invalid, text),
                    Some("NotFound") => Self::Refused(Refusal::NotFound, text),
                    Some("Refused") => Self::Refused(Refusal::Refused, text),
                    Some("Failed") => Self::Refused(Refusal::Failed, text),
                    Some(_) | None => Self::Other(text),
                }
            }
            zbus::Error::FDO(error) => match *error {
                Fdo::ServiceUnknown(_) | Fdo::NameHasNoOwner(_) | Fdo::NoReply(_) => Self::NoDaemon,
                Fdo::AccessDenied(text) => Self::Refused(Refusal::Denied, text),
                error => Self::Other(error.to_string()),
            },
            zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Self::NoAnswer
            }
            error => Self::Other(error.to_string()),
        }
    }
}

#[proxy(
    interface = "org.monopod.Supervisor1",
    default_service = "org.monopod.Supervisor1",
    default_path = "/org/monopod/Supervisor1"
)]
trait Supervisor {
    fn get_status(&self) -> zbus::Result<String>;
    fn plan(&self) -> zbus::Result<String>;
    fn restart(&self, name: &str) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn store_changed(&self) -> zbus::Result<()>;
    fn medium_result(&self, text: &str) -> zbus::Result<()>;
    fn offer_release(&self, id: &str, wish: &str, allow_downgrade: bool) -> zbus::Result<String>;
    fn activate_release(&self, id: &str, force: bool) -> zbus::Result<String>;
    fn roll_back(&self) -> zbus::Result<String>;
    fn retry_release(&self, id: &str) -> zbus::Result<String>;
    fn hold_updates(&self, hold: bool) -> zbus::Result<String>;
    fn pin_release(&self, id: &str, pin: bool) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(signal)]
    fn status_changed(&self, status: &str) -> zbus::Result<()>;
    #[cfg(test)]
    #[zbus(signal)]
    fn transition(
        &self,
        kind: &str,
        container: &str,
        text: &str,
        message_id: &str,
    ) -> zbus::Result<()>;
}

/// A line to the daemon.
#[derive(Clone, Debug)]
pub struct Client {
    proxy: SupervisorProxy<'static>,
}

impl Client {
    /// Connects to the bus. Whether a daemon is there shows with the first question.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoBus`], after 10 s at most.
    pub async fn connect(address: &BusAddress) -> Result<Self, ClientError> {
        let connect = async {
            let connection = connection::Builder::address(address.as_str())
                .method_timeout(ANSWER)
                .build()
                .await?;
            SupervisorProxy::new(&connection).await
        };
        match timeout(GREETING, connect).await {
            Ok(Ok(proxy)) => Ok(Self { proxy }),
            Ok(Err(zbus::Error::Connection(error, _) | zbus::Error::InputOutput(error))) => {
                Err(ClientError::NoBus(address.clone(), error.to_string()))
            }
            Ok(Err(error)) => Err(ClientError::NoBus(address.clone(), error.to_string())),
            Err(_) => {
                let text = format!("no answer within {GREETING:?}");
                Err(ClientError::NoBus(address.clone(), text))
            }
        }
    }

    /// The status as JSON.
    ///
    /// # Errors
    ///
    /// Nobody answers within 25 s; as for every question here.
    pub async fn status(&self) -> Result<String, ClientError> {
        Ok(self.proxy.get_status().await?)
    }

    /// What a reload would do, as JSON.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] with the diagnostics of the files; [`Refusal::Denied`] unless root asks.
    pub async fn plan(&self) -> Result<String, ClientError> {
        Ok(self.proxy.plan().await?)
    }

    /// Asks for a restart of one container, or of all.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] if there is no such container; [`Refusal::Denied`] unless root asks.
    pub async fn restart(&self, name: Option<&str>) -> Result<(), ClientError> {
        Ok(self.proxy.restart(name.unwrap_or_default()).await?)
    }

    /// Has the files read again.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] with the diagnostics of the files; [`Refusal::Denied`] unless root asks.
    pub async fn reload(&self) -> Result<(), ClientError> {
        Ok(self.proxy.reload().await?)
    }

    /// Tells the daemon that the store has new images.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoDaemon`] is no trouble for an importer: the next daemon looks by itself.
    pub async fn store_changed(&self) -> Result<(), ClientError> {
        Ok(self.proxy.store_changed().await?)
    }

    /// Tells the daemon what came of a stick, in one line.
    ///
    /// # Errors
    ///
    /// As for [`Client::store_changed`].
    pub async fn medium_result(&self, text: &str) -> Result<(), ClientError> {
        Ok(self.proxy.medium_result(text).await?)
    }

    /// Asks something about releases. The answer is one sentence: what comes next.
    ///
    /// # Errors
    ///
    /// [`Refusal::Refused`] if it may not be; [`Refusal::NotFound`] if there is no such release;
    /// [`Refusal::Denied`] unless root asks, or the daemon's own user offers a release to be taken.
    pub async fn release(&self, ask: &ReleaseAsk) -> Result<String, ClientError> {
        let answer = match ask {
            ReleaseAsk::Offer {
                id,
                wish,
                downgrade,
            } => {
                self.proxy
                    .offer_release(id.as_str(), bus::wish_word(*wish), *downgrade)
                    .await
            }
            ReleaseAsk::Activate { id, force } => {
                let id = id.as_ref().map(ReleaseId::as_str).unwrap_or_default();
                self.proxy.activate_release(id, *force).await
            }
            ReleaseAsk::RollBack => self.proxy.roll_back().await,
            ReleaseAsk::Retry(id) => self.proxy.retry_release(id.as_str()).await,
            ReleaseAsk::Hold(hold) => self.proxy.hold_updates(*hold).await,
            ReleaseAsk::Pin(id, pin) => self.proxy.pin_release(id.as_str(), *pin).await,
        };
        Ok(answer?)
    }

    /// The daemon's version.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub async fn version(&self) -> Result<String, ClientError> {
        Ok(self.proxy.version().await?)
    }

    /// Follows the status from here on. Ask for the first one after this call, so that none is missed.
    ///
    /// # Errors
    ///
    /// The bus does not let us listen.
    pub async fn changes(&self) -> Result<Changes, ClientError> {
        Ok(Changes {
            signals: self.proxy.receive_status_changed().await?,
            owners: self.proxy.inner().receive_owner_changed().await?,
            client: self.clone(),
        })
    }
}

/// What became of the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The status, as JSON.
    Status(String),
    /// The daemon has left the bus; the next one's status will follow.
    Gone,
}

/// The status as it changes, across restarts of the daemon.
pub struct Changes {
    signals: StatusChangedStream,
    owners: OwnerChangedStream<'static>,
    client: Client,
}

impl Changes {
    /// The next change; `None` when the bus itself has gone. Not cancel-safe: after a new daemon
    /// came, its first status may be lost.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            tokio::select! {
                signal = self.signals.next() => {
                    if let Ok(args) = signal?.args() {
                        return Some(Change::Status(args.status.to_owned()));
                    }
                }
                owner = self.owners.next() => {
                    if owner?.is_none() {
                        return Some(Change::Gone);
                    }
                    if let Ok(status) = self.client.status().await {
                        return Some(Change::Status(status));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
