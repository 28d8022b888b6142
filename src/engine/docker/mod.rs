//! Docker Engine, and what speaks its API, over its unix socket.
//!
//! Each call of [`Engine`] becomes one or a few requests under one deadline.
//! The module must never write to anything that lacks this node's label, never
//! retry a request that may have changed something, and never let an engine
//! that hangs hold its caller.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use tokio::time::timeout;

use super::{Engine, EngineImage, EngineInfo, Executed, Identity, LogPiece, LogRange, Made};
use crate::core::api::{Fault, Running, Seen};
use crate::spec::types::Container;

mod answers;
mod body;
mod client;
mod create;
mod exec;
mod fault;
mod images;
mod inspect;
mod lifecycle;
mod load;
mod logs;
mod network;
mod volumes;

pub use inspect::Kin;

use client::Client;
use fault::fault;

/// How long the engine has for each kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Questions and small changes. 10 s.
    pub short: Duration,
    /// Create and start. 60 s.
    pub long: Duration,
    /// The list of images, each of which is looked at. 30 s.
    pub images: Duration,
    /// What stop has beyond the grace period. 20 s.
    pub stop: Duration,
    /// A load may take for ever, as long as something moves each so often. 120 s.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            short: Duration::from_secs(10),
            long: Duration::from_secs(60),
            images: Duration::from_secs(30),
            stop: Duration::from_secs(20),
            idle: Duration::from_secs(120),
        }
    }
}

/// A Docker Engine. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Docker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    deadlines: Deadlines,
    /// The client with the API version that was agreed on; none before the first answer and after a silence.
    client: Mutex<Option<Client>>,
    /// Old engines make two networks of one name if asked twice at once.
    making: tokio::sync::Mutex<()>,
    stragglers: Arc<exec::Stragglers>,
}

impl Docker {
    /// The engine behind a unix socket. Does not connect: the engine need not be there yet.
    pub fn connect(socket: &Path) -> Self {
        Self::with_deadlines(socket, Deadlines::default())
    }

    /// As [`Docker::connect`], with other deadlines than the usual ones.
    pub fn with_deadlines(socket: &Path, deadlines: Deadlines) -> Self {
        Self {
            shared: Arc::new(Shared {
                socket: socket.to_owned(),
                deadlines,
                client: Mutex::new(None),
                making: tokio::sync::Mutex::new(()),
                stragglers: Arc::default(),
            }),
        }
    }

    /// The client, with its API version agreed on. Each request makes a connection of its own.
    async fn client(&self) -> Result<Client, Fault> {
        let known = self.known().clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = Client::connect(&self.shared.socket).await.map_err(fault)?;
        *self.known() = Some(client.clone());
        Ok(client)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.shared
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The containers that `concerns` picks, whoever made them; their restart policies are asked for afterwards.
    pub async fn kin(&self, concerns: impl Fn(&Kin) -> bool) -> Result<Vec<Kin>, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            inspect::kin(&client, concerns).await
        })
        .await
    }

    /// The folder of the host with the data of a volume that the monopod of `node` has made; `None` if the engine has
    /// no such volume.
    ///
    /// # Errors
    ///
    /// [`Fault::Refused`] for a volume of another's, of another driver, with options, anywhere else than among the
    /// engine's volumes, or in use by a container that runs.
    pub async fn volume_folder(&self, node: &str, name: &str) -> Result<Option<PathBuf>, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            volumes::folder(&client, node, name).await
        })
        .await
    }

    /// Names of the containers that are made from an image, other than those of `node`.
    pub async fn others_from(&self, node: &str, image: &str) -> Result<Vec<String>, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            inspect::others_from(&client, node, image).await
        })
        .await
    }

    /// Does `work` within `limit`, connecting included.
    async fn call<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(Client) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let answer = timeout(limit, async { work(self.client().await?).await }).await;
        self.judge(answer.unwrap_or_else(|_| {
            Err(Fault::NoAnswer(format!(
                "no answer within {} s",
                limit.as_secs_f32()
            )))
        }))
    }

    /// After a silence the engine may come back as another version; and a silence is told with the socket's name.
    fn judge<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        match answer {
            Err(Fault::NoAnswer(why)) => {
                *self.known() = None;
                Err(Fault::NoAnswer(format!(
                    "the engine at {} does not answer: {why}",
                    self.shared.socket.display()
                )))
            }
            other => other,
        }
    }
}

impl Engine for Docker {
    async fn version(&self) -> Result<String, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            inspect::version(&client).await
        })
        .await
    }

    async fn info(&self) -> Result<EngineInfo, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            inspect::info(&client).await
        })
        .await
    }

    async fn containers(&self, node: &str, role: Option<&str>) -> Result<Vec<Seen>, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            inspect::containers(&client, node, role).await
        })
        .await
    }

    async fn create(
        &self,
        container: &Container,
        image_id: &str,
        identity: &Identity,
    ) -> Result<Made, Fault> {
        self.call(self.shared.deadlines.long, async |client| {
            let _one_at_a_time = self.shared.making.lock().await;
            create::create(&client, container, image_id, identity).await
        })
        .await
    }

    async fn start(&self, id: &str) -> Result<Running, Fault> {
        self.call(self.shared.deadlines.long, async |client| {
            lifecycle::start(&client, id).await
        })
        .await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), Fault> {
        let limit = grace.saturating_add(self.shared.deadlines.stop);
        self.call(limit, async |client| {
            lifecycle::stop(&client, id, grace).await
        })
        .await
    }

    async fn remove(&self, id: &str) -> Result<(), Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            lifecycle::remove(&client, id).await
        })
        .await
    }

    async fn exec(&self, id: &str, argv: &[String], limit: Duration) -> Result<Executed, Fault> {
        // Has deadlines within: its own one may be the program's fault, and is then an answer.
        let limit = tokio::time::Instant::now() + limit;
        let executed = async {
            let client = tokio::time::timeout_at(limit, self.client())
                .await
                .unwrap_or_else(|_| Err(fault::late()))?;
            exec::exec(&client, &self.shared.stragglers, id, argv, limit).await
        };
        self.judge(executed.await)
    }

    fn logs(
        &self,
        id: &str,
        range: LogRange,
    ) -> impl Stream<Item = Result<LogPiece, Fault>> + use<> {
        let (docker, id) = (self.clone(), id.to_owned());
        let opened = async move {
            let Deadlines { short, idle, .. } = docker.shared.deadlines;
            docker
                .call(short, async |client| {
                    logs::open(&client, &id, range, idle).await
                })
                .await
        };
        stream::once(opened).try_flatten()
    }

    async fn image(&self, reference: &str) -> Result<Option<EngineImage>, Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            images::image(&client, reference).await
        })
        .await
    }

    async fn images(&self) -> Result<Vec<EngineImage>, Fault> {
        self.call(self.shared.deadlines.images, async |client| {
            images::images(&client).await
        })
        .await
    }

    async fn tag(&self, id: &str, reference: &str) -> Result<(), Fault> {
        self.call(self.shared.deadlines.short, async |client| {
            images::tag(&client, id, reference).await
        })
        .await
    }

    async fn remove_image(&self, reference: &str, force: bool) -> Result<(), Fault> {
        // Deleting layers from a slow disk is no small change.
        self.call(self.shared.deadlines.long, async |client| {
            images::remove(&client, reference, force).await
        })
        .await
    }

    async fn load<B, P>(&self, archive: B, on_progress: P) -> Result<Vec<String>, Fault>
    where
        B: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        P: FnMut(),
    {
        let client = self
            .call(self.shared.deadlines.short, async |client| Ok(client))
            .await?;
        let loaded = load::load(&client, archive, self.shared.deadlines.idle, on_progress);
        self.judge(loaded.await)
    }
}
