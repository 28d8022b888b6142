//! What is done for a release before it is in force, and after it was: its files, its images, what
//! stands in its way, and what is left of others.
//!
//! It must never touch a container, and never decide.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::deeds::Shared;
use super::in_force::{InForce, LoadError};
use super::{civil, clock, image, sync};
use crate::bundle::Trust;
use crate::core::api::{Event, Fault, Gates, NotNow, Staged, TaskId};
use crate::core::update::ReleaseId;
use crate::paths::Paths;
use crate::release::{Origin, ReleaseError, Releases};
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::UpdatePolicy;

/// Checks a release's files and gives the engine its images.
pub(super) async fn stage(
    shared: &Shared,
    task: TaskId,
    id: &ReleaseId,
    committed: bool,
) -> Result<(Staged, Rc<InForce>), NotNow> {
    let mut kept = load(shared, id)?;
    let signed = matches!(kept.release.origin, Origin::Bundle { .. });
    trusted(&shared.paths, id, committed)?;
    let mut known = BTreeMap::new();
    for container in &Rc::clone(&kept.workload).containers {
        let reference = &container.image;
        let pinned = kept.image(container).map(str::to_owned);
        let moved = || shared.tell(Event::StageMoved(task));
        // The way back is not barred by what only another repair would need.
        if !committed {
            let whole = image::is_kept(shared, reference, pinned.as_deref(), signed, moved).await;
            whole.map_err(later)?;
        }
        let image = image::give(shared, reference, pinned.as_deref(), moved).await;
        let image = image.map_err(later)?;
        known.insert(reference.clone(), image);
    }
    // What the engine has written must outlast a power cut before anything depends on it.
    shared.tell(Event::StageMoved(task));
    sync::to_disk(shared).await?;
    if kept.release.images.values().any(Option::is_none) {
        // From now on a newer image under the same name is another release.
        let releases = Releases::new(&shared.paths);
        let filled = releases.fill(id, &known);
        kept.release = filled.map_err(|error| NotNow::Later(error.to_string()))?;
    }
    let staged = Staged {
        desired: kept.desired(&shared.paths),
        volumes: !shared
            .volumes(id, Some(shared.in_force().id()))
            .map_err(NotNow::Later)?
            .is_empty(),
        hook: Releases::new(&shared.paths).hook(id).is_some(),
    };
    Ok((staged, Rc::new(kept)))
}

/// Whether a release may be tried: a bundle's signature must hold now, since its key may have been revoked since it
/// was offered. One that was `committed` before is trusted for that.
pub(super) fn trusted(paths: &Paths, id: &ReleaseId, committed: bool) -> Result<(), NotNow> {
    if committed {
        return Ok(());
    }
    let keys = paths.keys();
    let trust = Trust::of_folder(&keys)
        .map_err(|error| NotNow::Later(format!("cannot read {}: {error}", keys.display())))?;
    match Releases::new(paths).verify(id, &trust) {
        Ok(_) | Err(ReleaseError::Unsigned(_)) => Ok(()),
        Err(error @ ReleaseError::Refused { .. }) => Err(NotNow::Never(error.to_string())),
        Err(
            error
            @ (ReleaseError::NotFound(_) | ReleaseError::Damaged(_) | ReleaseError::Io { .. }),
        ) => Err(NotNow::Later(error.to_string())),
    }
}

fn load(shared: &Shared, id: &ReleaseId) -> Result<InForce, NotNow> {
    InForce::load(&shared.paths, id).map_err(|error| match error {
        // One that is damaged, or was tidied away, may be brought again.
        LoadError::Release(
            ReleaseError::Io { .. } | ReleaseError::NotFound(_) | ReleaseError::Damaged(_),
        ) => NotNow::Later(error.to_string()),
        LoadError::Release(ReleaseError::Refused { .. } | ReleaseError::Unsigned(_)) => {
            NotNow::Never(error.to_string())
        }
        LoadError::Invalid(_) => {
            // What is wrong on any node never becomes right; a device may still come.
            let file = Releases::new(&shared.paths).workload_file(id);
            if spec::load_file(&file, &ThisHost::of_environment()).is_err() {
                NotNow::Never(error.to_string())
            } else {
                NotNow::Later(error.to_string())
            }
        }
    })
}

/// The engine's answer about a release that nobody waits for: there is always another time.
pub(super) fn later(fault: Fault) -> NotNow {
    match fault {
        Fault::NoAnswer(text) => NotNow::Later(format!("the engine does not answer: {text}")),
        Fault::NotFound(text)
        | Fault::Conflict(text)
        | Fault::ImageMissing(text)
        | Fault::Refused(text) => NotNow::Later(text),
    }
}

/// What stands between a staged release and its switch.
pub(super) async fn gates(policy: &UpdatePolicy) -> Gates {
    let (hold, lock) = (policy.hold_file.clone(), policy.lock_file.clone());
    // A folder of a medium that hangs must not hold the daemon.
    let looked = spawn_blocking(move || {
        let there = |path: PathBuf| fs::symlink_metadata(path).is_ok();
        (hold.is_some_and(there), lock.is_some_and(there))
    });
    let (hold_file, lock_file) = looked.await.unwrap_or((true, true));
    let window = policy.window.as_ref().and_then(|window| {
        let now = clock::unix();
        let opening = civil::opening(window, now);
        let until = opening
            .changes_at
            .map_or(i64::MAX, |at| at.saturating_sub(now));
        (!opening.open).then(|| Duration::from_secs(until.try_into().unwrap_or(0)))
    });
    Gates {
        window,
        hold_file,
        lock_file,
        ..Gates::default()
    }
}
