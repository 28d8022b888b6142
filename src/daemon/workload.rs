//! From the validated workload to what the core must know of it.

use tracing::warn;

use crate::core::api::Desired;
use crate::image::Store;
use crate::paths::Paths;
use crate::spec::spec_hash;
use crate::spec::types::{Network, Workload};

/// The containers that should run, with the images that the store has for them.
pub fn desired(paths: &Paths, workload: &Workload) -> Vec<Desired> {
    let store = if paths.store().exists() {
        open(paths)
    } else {
        None
    };
    workload
        .containers
        .iter()
        .map(|container| {
            let stored = store.as_ref().and_then(|store| {
                store.resolve(&container.image).unwrap_or_else(|error| {
                    warn!("{}: {error}", container.name);
                    None
                })
            });
            Desired {
                role: container.name.clone(),
                hash: spec_hash(container, &workload.name),
                image: container.image.clone(),
                image_id: stored.map(|stored| stored.id()),
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

fn open(paths: &Paths) -> Option<Store> {
    Store::open(&paths.store())
        .map_err(|error| warn!("{error}"))
        .ok()
}
