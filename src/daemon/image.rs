//! Images for containers: from the store into the engine, also in place of what the engine has.
//!
//! Nothing here reads a layer; that is a helper process's. It must never take an image from the engine unless it
//! was told to rebuild it.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tracing::warn;

use super::deeds::{Shared, helper};
use crate::core::api::{Event, Fault, OpId};
use crate::engine::Engine;
use crate::feed;
use crate::image::{Store, StoredImage};
use crate::paths::Paths;
use crate::spec::types::Role;

/// Makes sure that the engine has a container's image, and returns its ID.
pub(super) async fn image(shared: &Shared, op: OpId, role: &Role) -> Result<String, Fault> {
    let reference = shared.container(role)?.image;
    let Some(stored) = found(shared, &reference)? else {
        let found = shared.engine.image(&reference).await?;
        return found.map(|image| image.id).ok_or_else(|| {
            Fault::ImageMissing(format!(
                "image {reference} is neither in the store nor in the engine; import it: monopod import ARCHIVE"
            ))
        });
    };
    if let Some(image) = shared.engine.image(&reference).await?
        && image.id == stored.id()
    {
        return Ok(image.id);
    }
    by_helper(shared, op, &["feed", &reference]).await?;
    Ok(stored.id())
}

/// Makes sure that the store has a container's whole image, and returns its ID.
pub(super) async fn verify(shared: &Shared, op: OpId, role: &Role) -> Result<String, Fault> {
    let reference = shared.container(role)?.image;
    // Asked first: whatever else is wrong, the engine has then answered.
    shared.engine.image(&reference).await?;
    let stored = stored(shared, &reference)?;
    let others = shared
        .engine
        .others_from(&shared.node(), &stored.id())
        .await?;
    if !others.is_empty() {
        return Err(Fault::Refused(format!(
            "{} made from it, and not monopod's",
            match others.as_slice() {
                [one] => format!("the container {one} is"),
                several => format!("the containers {} are", several.join(", ")),
            }
        )));
    }
    by_helper(shared, op, &["feed", "--verify", &reference]).await?;
    Ok(stored.id())
}

/// Removes a container's image from the engine, has it fed again from the store, and returns its ID.
pub(super) async fn rebuild(shared: &Shared, op: OpId, role: &Role) -> Result<String, Fault> {
    let reference = shared.container(role)?.image;
    let id = stored(shared, &reference)?.id();
    let engine = &shared.engine;
    let names = engine.image(&id).await?.map(|image| image.tags);
    // By its ID, with every name: as long as one is left, the layers stay.
    engine.remove_image(&id, true).await?;
    let skipped = by_helper(shared, op, &["feed", &reference]).await?;
    if skipped > 0 {
        warn!(
            "{reference}: its {skipped} lowest layers are other images' in the engine, too, and were left as they are"
        );
    }
    for name in names.into_iter().flatten() {
        if let Err(fault) = engine.tag(&id, &name).await {
            warn!("{name} does not name the image {reference} in the engine any more: {fault:?}");
        }
    }
    Ok(id)
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
            .map(|line| feed::mended_by_hand(line, &preload))
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// The image that the store has under a name.
fn found(shared: &Shared, reference: &str) -> Result<Option<StoredImage>, Fault> {
    let store = shared.paths.store();
    if !store.exists() {
        return Ok(None);
    }
    Store::open(&store)
        .and_then(|store| store.resolve(reference))
        .map_err(|error| Fault::Refused(error.to_string()))
}

/// The same, if there must be one.
fn stored(shared: &Shared, reference: &str) -> Result<StoredImage, Fault> {
    found(shared, reference)?
        .ok_or_else(|| Fault::ImageMissing(format!("the store has no image {reference}")))
}

/// Reading layers and packing the stream leaves memory behind: a process of its own takes it along.
/// Returns how many layers the engine had already.
async fn by_helper(shared: &Shared, op: OpId, words: &[&str]) -> Result<usize, Fault> {
    let said = listen_to_helper(shared, op, words).await;
    if let Err(Fault::ImageMissing(_)) = said {
        // It may have found damage that nobody knew of.
        shared.tell(Event::StoreDamaged(damage(&shared.paths)));
    }
    said
}

async fn listen_to_helper(shared: &Shared, op: OpId, words: &[&str]) -> Result<usize, Fault> {
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
            Ok(feed::Line::Moved) => shared.tell(Event::Progress(op)),
            Ok(feed::Line::Done { skipped, .. }) => said = Some(Ok(skipped)),
            Ok(feed::Line::Failed(fault)) => said = Some(Err(fault)),
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
