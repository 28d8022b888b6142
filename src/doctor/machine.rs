//! The machine as the checks look at it: where things are, and the questions that several checks share.
//!
//! `--root` moves monopod's own files only. What belongs to the machine (`/proc`, `/sys`, `/etc/docker`, ...) is
//! looked for below a base of its own, which is `/` but for tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::Finding;
use super::systemd::{Systemd, UnitFacts};
use crate::core::api::Fault;
use crate::engine::docker::Deadlines;
use crate::engine::{self, Docker, Engine, EngineInfo};
use crate::image::Store;
use crate::paths::Paths;
use crate::spec;
use crate::spec::host::{self, ThisHost};
use crate::spec::types::{Node, Workload};
use crate::systemd::BusAddress;

/// What the engine has for each question; less than a check has altogether.
const ENGINE: Deadlines = Deadlines {
    short: Duration::from_secs(5),
    long: Duration::from_secs(5),
    images: Duration::from_secs(5),
    stop: Duration::from_secs(5),
    idle: Duration::from_secs(5),
};

/// Why the engine was not asked, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// This user may not open the socket.
    pub denied: bool,
    pub why: String,
}

impl Silence {
    /// For a check that is not about this.
    pub fn skipped(&self) -> Finding {
        if self.denied {
            Finding::skipped("this user may not ask the engine: run as root")
        } else {
            Finding::skipped("the engine does not answer")
        }
    }
}

/// A machine under examination.
pub struct Machine {
    pub(super) paths: Paths,
    pub(super) bus: BusAddress,
    base: PathBuf,
    docker_host: Option<String>,
    version: OnceCell<Result<String, Silence>>,
    info: OnceCell<Result<EngineInfo, Silence>>,
    unit: OnceCell<Result<UnitFacts, String>>,
}

impl Machine {
    /// This machine, with monopod's own files where `paths` says.
    pub fn this(paths: &Paths) -> Self {
        let docker_host = std::env::var("DOCKER_HOST").ok();
        Self::new(paths, Path::new("/"), BusAddress::system(), docker_host)
    }

    /// A machine whose `/proc`, `/sys`, `/etc` and so on are below `base`.
    pub(super) fn new(
        paths: &Paths,
        base: &Path,
        bus: BusAddress,
        docker_host: Option<String>,
    ) -> Self {
        Self {
            paths: paths.clone(),
            bus,
            base: base.to_owned(),
            docker_host,
            version: OnceCell::new(),
            info: OnceCell::new(),
            unit: OnceCell::new(),
        }
    }

    /// A path of the machine's.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.base.join(path.trim_start_matches('/'))
    }

    /// The text of one of the machine's files; empty if it cannot be read.
    pub(super) fn text(&self, path: &str) -> String {
        std::fs::read(self.at(path))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The node file; defaults where it cannot be read, which is a finding of its own.
    pub(super) fn node(&self) -> Node {
        spec::load_node(&self.paths, &ThisHost::default())
            .map(|loaded| loaded.value)
            .unwrap_or_default()
    }

    /// The workload; `None` where it cannot be read, which is a finding of its own.
    pub(super) fn workload(&self) -> Option<Workload> {
        spec::load(&self.paths, &ThisHost::default())
            .map(|loaded| loaded.value)
            .ok()
    }

    /// The store; `None` where there is none. Never makes one, nor what is missing of it.
    pub(super) fn store(&self) -> Result<Option<Store>, String> {
        let path = self.paths.store();
        match path.join("oci-layout").try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(host::reason(&error)),
        }
        if let Some(lost) = ["blobs/sha256", "layers", "tmp"]
            .iter()
            .find(|part| !path.join(part).is_dir())
        {
            return Err(format!("there is no {lost} in it"));
        }
        Store::open(&path)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// Where the engine listens.
    pub(super) fn socket(&self) -> Result<PathBuf, String> {
        engine::socket(&self.node(), self.docker_host.as_deref())
    }

    /// The engine, not asked anything yet.
    pub(super) fn docker(&self) -> Result<Docker, Silence> {
        let socket = self
            .socket()
            .map_err(|why| Silence { denied: false, why })?;
        match nix::unistd::access(&socket, nix::unistd::AccessFlags::W_OK) {
            Err(nix::errno::Errno::EACCES) => Err(Silence {
                denied: true,
                why: format!("this user may not open {}", socket.display()),
            }),
            // Whatever else is the matter, the engine's own client says it better.
            Ok(()) | Err(_) => Ok(Docker::with_deadlines(&socket, ENGINE)),
        }
    }

    /// The engine's name and version.
    pub(super) async fn version(&self) -> Result<&String, Silence> {
        let answer = self
            .version
            .get_or_init(|| async { self.docker()?.version().await.map_err(silence) });
        answer.await.as_ref().map_err(Clone::clone)
    }

    /// What the engine is set up to do.
    pub(super) async fn info(&self) -> Result<&EngineInfo, Silence> {
        let answer = self
            .info
            .get_or_init(|| async { self.docker()?.info().await.map_err(silence) });
        answer.await.as_ref().map_err(Clone::clone)
    }

    /// What systemd says of itself and of monopod's unit; otherwise why it does not.
    pub(super) async fn unit(&self) -> Result<&UnitFacts, Finding> {
        let answer = self.unit.get_or_init(|| async {
            if !self.booted_by_systemd() {
                return Err("systemd does not run this machine".to_owned());
            }
            Systemd::connect(&self.bus)
                .await
                .map_err(|why| format!("systemd cannot be asked: {why}"))?
                .unit()
                .await
                .map_err(|why| format!("systemd does not say: {why}"))
        });
        answer.await.as_ref().map_err(Finding::skipped)
    }

    /// Whether systemd is the init, as `sd_booted(3)` has it.
    pub(super) fn booted_by_systemd(&self) -> bool {
        self.at("/run/systemd/system").is_dir()
    }
}

/// An engine that answers with a refusal has not answered the question either.
pub(super) fn silence(fault: Fault) -> Silence {
    let (Fault::NoAnswer(why)
    | Fault::NotFound(why)
    | Fault::Conflict(why)
    | Fault::ImageMissing(why)
    | Fault::Refused(why)) = fault;
    Silence { denied: false, why }
}
