//! The node's own workload file as a release.
//!
//! What runs is never read from that file: when it has changed, a release is made of it, which is tried
//! as any other. It must never decide whether.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use tracing::warn;

use crate::core::update::ReleaseId;
use crate::image::Store;
use crate::paths::Paths;
use crate::release::{Release, ReleaseError, Releases};
use crate::spec;
use crate::spec::diagnostic::Invalid;
use crate::spec::host::ThisHost;
use crate::spec::types::Workload;

/// Why no release can be made of it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The files are not valid.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// It cannot be written down.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Io(String, io::Error),
}

/// The release that the file makes now; `known` if it is still that one. `None` without a file: then this
/// node has its releases from elsewhere.
pub fn release(paths: &Paths, known: Option<&ReleaseId>) -> Result<Option<Release>, LocalError> {
    let path = paths.workload();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LocalError::Io(path.display().to_string(), error)),
    };
    let loaded = spec::load(paths, &ThisHost::of_environment())?;
    for warning in &loaded.warnings {
        warn!("{}", warning.message());
    }
    let images = images(paths, &loaded.value);
    let releases = Releases::new(paths);
    if let Some(known) = known
        && let Ok(release) = releases.read(known)
        && fs::read(releases.workload_file(known)).is_ok_and(|old| old == bytes)
        && same(&release, &images)
    {
        return Ok(Some(release));
    }
    Ok(Some(releases.add_local(
        &loaded.value.name,
        &bytes,
        images,
    )?))
}

/// What the store has under the names that a workload uses.
fn images(paths: &Paths, workload: &Workload) -> BTreeMap<String, Option<String>> {
    let store = match paths.store().exists().then(|| Store::open(&paths.store())) {
        Some(Ok(store)) => Some(store),
        Some(Err(error)) => {
            warn!("{error}");
            None
        }
        None => None,
    };
    let containers = workload.containers.iter();
    containers
        .map(|container| {
            let found = store.as_ref().and_then(|store| {
                store.resolve(&container.image).unwrap_or_else(|error| {
                    warn!("{}: {error}", container.name);
                    None
                })
            });
            (container.image.clone(), found.map(|image| image.id()))
        })
        .collect()
}

/// Whether a release has these images. One that only one side knows makes no difference: it became
/// known, or left the store.
fn same(release: &Release, images: &BTreeMap<String, Option<String>>) -> bool {
    images
        .iter()
        .all(|(name, now)| match (release.image(name), now.as_deref()) {
            (Some(then), Some(now)) => then == now,
            (None, _) | (_, None) => true,
        })
}
