//! A release that is in force, or may be: its files as this node reads them.
//!
//! What it was made of is on disk and never changes; the node's drop-ins are merged over it each time.

use std::rc::Rc;

use tracing::warn;

use crate::core::api::Desired;
use crate::core::update::ReleaseId;
use crate::image::Store;
use crate::paths::Paths;
use crate::release::{Release, ReleaseError, Releases};
use crate::spec;
use crate::spec::diagnostic::Invalid;
use crate::spec::host::ThisHost;
use crate::spec::spec_hash;
use crate::spec::types::{Container, Network, Workload};

/// A release with its workload.
#[derive(Clone, Debug)]
pub struct InForce {
    /// What it is.
    pub release: Release,
    /// What it says, with the node's drop-ins.
    pub workload: Rc<Workload>,
}

/// Why a release cannot be in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its folder is not whole.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// Its files are not valid here, with the node's drop-ins.
    #[error("{0}; `monopod check` shows it in full")]
    Invalid(#[from] Invalid),
}

impl InForce {
    /// Reads a release.
    pub fn load(paths: &Paths, id: &ReleaseId) -> Result<Self, LoadError> {
        let releases = Releases::new(paths);
        let release = releases.read(id)?;
        let file = releases.workload_file(id);
        let loaded = spec::load_release(paths, &file, &ThisHost::of_environment())?;
        for warning in &loaded.warnings {
            warn!("{}", warning.message());
        }
        Ok(Self {
            release,
            workload: Rc::new(loaded.value),
        })
    }

    /// Its id.
    pub fn id(&self) -> &ReleaseId {
        &self.release.id
    }

    /// The ID of a container's image, if the release says it.
    pub fn image(&self, container: &Container) -> Option<&str> {
        self.release.image(&container.image)
    }

    /// The containers that should run. An image that the release does not pin is the one that the store
    /// has under its name.
    pub fn desired(&self, paths: &Paths) -> Vec<Desired> {
        let store = paths.store().exists().then(|| open(paths)).flatten();
        let containers = self.workload.containers.iter();
        containers
            .map(|container| {
                let stored = || {
                    let found = store.as_ref()?.resolve(&container.image);
                    let found = found.unwrap_or_else(|error| {
                        warn!("{}: {error}", container.name);
                        None
                    });
                    found.map(|image| image.id())
                };
                Desired {
                    role: container.name.clone(),
                    hash: spec_hash(container, &self.workload.name),
                    image: container.image.clone(),
                    image_id: self.image(container).map(str::to_owned).or_else(stored),
                    healthcheck: container.healthcheck.clone(),
                    grace: container.stop_grace_period,
                    depends_on: container.depends_on.clone(),
                    network_of: match &container.network {
                        Network::Container(role) => Some(role.clone()),
                        Network::Private | Network::Host | Network::None => None,
                    },
                }
            })
            .collect()
    }
}

fn open(paths: &Paths) -> Option<Store> {
    Store::open(&paths.store())
        .map_err(|error| warn!("{error}"))
        .ok()
}
