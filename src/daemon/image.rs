//! Images for containers: from the store into the engine.
//!
//! Nothing here reads a layer; that is a helper process's. It must never take an image from the engine.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tracing::warn;

use super::deeds::{Shared, helper};
use crate::core::api::{Event, Fault, OpId};
use crate::engine::Engine;
use crate::feed::{self as feeding, Line};
use crate::image::{Store, StoreError, StoredImage};
use crate::paths::Paths;
use crate::spec::types::Role;

/// Makes sure that the engine has a container's image under its name, and returns its ID.
pub(super) async fn image(shared: &Shared, op: OpId, role: &Role) -> Result<String, Fault> {
    let (reference, pinned) = named(shared, role)?;
    let moved = || shared.tell(Event::Progress(op));
    give(shared, &reference, pinned.as_deref(), moved).await
}

/// Makes sure that the engine has an image under this name, and returns its ID: the one with the ID `pinned`;
/// without that the one that the store has under the name, or else the engine's own.
pub(super) async fn give(
    shared: &Shared,
    reference: &str,
    pinned: Option<&str>,
    moved: impl Fn(),
) -> Result<String, Fault> {
    let stored = found(shared, pinned.unwrap_or(reference))?;
    let known = shared.engine.image(reference).await?;
    let missing = || {
        Fault::ImageMissing(format!(
            "image {reference} is neither in the store nor in the engine; import it: monopod import ARCHIVE"
        ))
    };
    let Some(stored) = stored else {
        return match (pinned, known) {
            (None, Some(image)) => Ok(image.id),
            (Some(id), Some(image)) if image.id == id => Ok(image.id),
            (None, None) => Err(missing()),
            (Some(id), _) => {
                // Another image has its name by now; it may still be there without one.
                let image = shared.engine.image(id).await?.ok_or_else(missing)?;
                shared.engine.tag(&image.id, reference).await?;
                Ok(image.id)
            }
        };
    };
    let id = stored.id();
    if known.is_none_or(|image| image.id != id) {
        feed(shared, reference, &id, moved).await?;
    }
    Ok(id)
}

/// Refuses an image that the store should have and has not whole, whatever the engine has: that may be damaged
/// any day, and is then rebuilt from the store. An image that only the engine ever had is none of these.
///
/// All of it is read, unless the release in force has it, too. With `bundled` it must have come to the store.
pub(super) async fn is_kept(
    shared: &Shared,
    reference: &str,
    pinned: Option<&str>,
    bundled: bool,
    moved: impl Fn(),
) -> Result<(), Fault> {
    let lacking = |line: &str| {
        shared.tell(Event::StoreDamaged(damage(&shared.paths)));
        Fault::ImageMissing(feeding::mended_by_hand(line, &shared.paths.preload()))
    };
    let unread = |error: StoreError| Fault::Refused(error.to_string());
    let Some(stored) = found(shared, pinned.unwrap_or(reference))? else {
        if bundled {
            return Err(lacking(&format!("the store has no image {reference}")));
        }
        if !shared.paths.store().exists() {
            return Ok(());
        }
        let store = Store::open(&shared.paths.store()).map_err(unread)?;
        let line = store.unreadable(reference).map_err(unread)?;
        return line.map_or(Ok(()), |line| Err(lacking(&line)));
    };
    if stored.dropped {
        // As node.toml says: the engine's copy is all that there is.
        return Ok(());
    }
    let store = Store::open(&shared.paths.store()).map_err(unread)?;
    if let Some(line) = store.lack(&stored) {
        return Err(lacking(&line));
    }
    let id = stored.id();
    let images = &shared.in_force().release.images;
    if images.values().flatten().any(|known| *known == id) {
        return Ok(());
    }
    let words = ["feed", "--verify", reference, "--id", &id];
    by_helper(shared, &words, moved).await?;
    Ok(())
}

/// Has the store's image of this ID fed to the engine, under this name. Returns how many layers the engine had already.
pub(super) async fn feed(
    shared: &Shared,
    reference: &str,
    id: &str,
    moved: impl Fn(),
) -> Result<usize, Fault> {
    by_helper(shared, &["feed", reference, "--id", id], moved).await
}

/// The name of a container's image, and its ID if the release in force says it.
pub(super) fn named(shared: &Shared, role: &Role) -> Result<(String, Option<String>), Fault> {
    let container = shared.container(role)?;
    let pinned = shared.in_force().image(&container).map(str::to_owned);
    Ok((container.image, pinned))
}

/// What is damaged in the store, a line for people for each image.
pub fn damage(paths: &Paths) -> Vec<String> {
    let store = paths.store();
    if !store.exists() {
        return Vec::new();
    }
    let damaged = Store::open(&store).and_then(|store| store.damaged());
    let preload = paths.preload();
    match damaged {
        Ok(lines) => lines
            .iter()
            .map(|line| feeding::mended_by_hand(line, &preload))
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The image that the store has under a name.
pub(super) fn found(shared: &Shared, reference: &str) -> Result<Option<StoredImage>, Fault> {
    let store = shared.paths.store();
    if !store.exists() {
        return Ok(None);
    }
    Store::open(&store)
        .and_then(|store| store.resolve(reference))
        .map_err(|error| Fault::Refused(error.to_string()))
}

/// The same, if there must be one.
pub(super) fn stored(shared: &Shared, reference: &str) -> Result<StoredImage, Fault> {
    found(shared, reference)?
        .ok_or_else(|| Fault::ImageMissing(format!("the store has no image {reference}")))
}

/// Reading layers and packing the stream leaves memory behind: a process of its own takes it along.
/// Returns how many layers the engine had already.
pub(super) async fn by_helper(
    shared: &Shared,
    words: &[&str],
    moved: impl Fn(),
) -> Result<usize, Fault> {
    let said = listen_to_helper(shared, words, moved).await;
    if let Err(Fault::ImageMissing(_)) = said {
        // It may have found damage that nobody knew of.
        shared.tell(Event::StoreDamaged(damage(&shared.paths)));
    }
    said
}

async fn listen_to_helper(
    shared: &Shared,
    words: &[&str],
    moved: impl Fn(),
) -> Result<usize, Fault> {
    let failed =
        |error: std::io::Error| Fault::Refused(format!("cannot run the helper process: {error}"));
    let mut child = helper(&shared.paths, words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Fault::Refused(
            "the helper process has no output".to_owned(),
        ));
    };
    let mut lines = BufReader::new(stdout).lines();
    let mut said = None;
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        match serde_json::from_str(&line) {
            Ok(Line::Moved) => moved(),
            Ok(Line::Done { skipped, .. }) => said = Some(Ok(skipped)),
            Ok(Line::Failed(fault)) => said = Some(Err(fault)),
            Err(error) => warn!("the helper process says {line:?}: {error}"),
        }
    }
    let status = child.wait().await.map_err(failed)?;
    said.unwrap_or_else(|| {
        Err(Fault::Refused(format!(
            "the helper process ended with {status}"
        )))
    })
}
