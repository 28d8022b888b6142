//! What is done for a release before it is in force, and after it was: its files, its images, its hook,
//! what stands in its way, and what is left of others.
//!
//! It must never touch a container, and never decide.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use super::deeds::Shared;
use super::in_force::{InForce, LoadError};
use super::{civil, clock, image};
use crate::bundle::Trust;
use crate::core::api::{Event, Fault, Gates, NotNow, Staged};
use crate::core::update::ReleaseId;
use crate::release::{Origin, ReleaseError, Releases};
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::UpdatePolicy;

/// How long a hook may run.
const HOOK: Duration = Duration::from_secs(300);

/// What a hook's exit code says: no good moment (`EX_TEMPFAIL` of sysexits.h).
const NOT_NOW: i32 = 75;

/// Checks a release's files and gives the engine its images.
pub(super) async fn stage(
    shared: &Shared,
    id: &ReleaseId,
    committed: bool,
) -> Result<(Staged, Rc<InForce>), NotNow> {
    let mut kept = load(shared, id)?;
    if !committed && let Origin::Bundle { .. } = kept.release.origin {
        // Its key may have been revoked since it was offered.
        let keys = shared.paths.keys();
        let trust = Trust::of_folder(&keys)
            .map_err(|error| NotNow::Later(format!("cannot read {}: {error}", keys.display())))?;
        let verified = Releases::new(&shared.paths).verify(id, &trust);
        verified.map_err(|error| match error {
            ReleaseError::Io { .. } => NotNow::Later(error.to_string()),
            _ => NotNow::Never(error.to_string()),
        })?;
    }
    let mut known = BTreeMap::new();
    for container in &Rc::clone(&kept.workload).containers {
        let reference = &container.image;
        let pinned = kept.image(container).map(str::to_owned);
        let moved = || shared.tell(Event::StageMoved(id.clone()));
        let image = image::give(shared, reference, pinned.as_deref(), moved).await;
        let image = image.map_err(later)?;
        known.insert(reference.clone(), image);
    }
    // What the engine has written must outlast a power cut before anything depends on it.
    let _ = spawn_blocking(nix::unistd::sync).await;
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

fn load(shared: &Shared, id: &ReleaseId) -> Result<InForce, NotNow> {
    InForce::load(&shared.paths, id).map_err(|error| match error {
        // One that is not there was tidied away, and may be brought again.
        LoadError::Release(ReleaseError::Io { .. } | ReleaseError::NotFound(_)) => {
            NotNow::Later(error.to_string())
        }
        LoadError::Release(_) => NotNow::Never(error.to_string()),
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
fn later(fault: Fault) -> NotNow {
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
    }
}

/// Asks a release's hook. It says yes with exit code 0, not now with 75, and no with any other.
pub(super) async fn hook(
    shared: &Shared,
    id: &ReleaseId,
    current: &ReleaseId,
) -> Result<(), NotNow> {
    let releases = Releases::new(&shared.paths);
    let path = own_copy(shared, &releases, id)?;
    let mut command = Command::new(&path);
    command
        .current_dir(releases.folder(id))
        .env("MONOPOD_RELEASE", id.as_str())
        .env("MONOPOD_CURRENT", current.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| NotNow::Never(format!("it cannot be run: {error}")))?;
    let said = child.stderr.take().map(last_line);
    let ended = tokio::time::timeout(HOOK, async {
        let said = match said {
            Some(said) => said.await,
            None => String::new(),
        };
        (child.wait().await, said)
    });
    let Ok((status, said)) = ended.await else {
        return Err(NotNow::Never(format!(
            "it did not end within {} min",
            HOOK.as_secs() / 60
        )));
    };
    let status = status.map_err(|error| NotNow::Never(error.to_string()))?;
    let why = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        _ if !said.is_empty() => said,
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    if status.code() == Some(NOT_NOW) {
        Err(NotNow::Later(why))
    } else {
        Err(NotNow::Never(why))
    }
}

/// The hook, where nobody but the daemon writes, with the content that the release's id stands for: whoever
/// brings releases may write to their folders, and must not decide what runs here.
fn own_copy(shared: &Shared, releases: &Releases, id: &ReleaseId) -> Result<PathBuf, NotNow> {
    let never = |error: io::Error| NotNow::Never(format!("its hook cannot be read: {error}"));
    let Some(path) = releases.hook(id) else {
        return Err(NotNow::Never("it is not there any more".to_owned()));
    };
    let release = releases
        .read(id)
        .map_err(|error| NotNow::Later(error.to_string()))?;
    let hook = fs::read(path).map_err(never)?;
    let workload = fs::read(releases.workload_file(id)).map_err(never)?;
    // A bundle's images are all known from the beginning.
    if ReleaseId::of(&workload, &release.images, Some(&hook)) != *id {
        return Err(NotNow::Never("its files were changed".to_owned()));
    }
    let own = shared.paths.state().join("pre-switch");
    let new = own.with_extension("new");
    fs::write(&new, hook)
        .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o700)))
        .and_then(|()| fs::rename(&new, &own))
        .map_err(|error| NotNow::Later(format!("cannot write {}: {error}", own.display())))?;
    Ok(own)
}

/// The last line that is not empty, tamed for a status line.
async fn last_line(stream: tokio::process::ChildStderr) -> String {
    const MOST: usize = 200;
    const BYTES: u64 = 64 << 10;
    let mut bytes = Vec::new();
    // What comes beyond is left to a closed pipe.
    let _ = stream.take(BYTES).read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST)
        .collect()
}
