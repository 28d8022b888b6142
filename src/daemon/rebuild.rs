//! The rung that rebuilds an image: it goes from the engine, and comes again from the store.
//!
//! The engine keeps a layer as long as any image has it, damaged as it is. So the images that share layers go and
//! come together, as far as the core says. What this module must never do is take away an image that a stranger's
//! container is made from, or one that the core has not named.
//!
//! Whatever ends it halfway, what is missing then is fed from the store as soon as a container needs it.

use tracing::warn;

use super::deeds::Shared;
use super::image::{by_helper, feed, found, named, stored};
use crate::core::api::{Event, Fault, OpId, Sharer};
use crate::engine::Engine;
use crate::image::StoredImage;
use crate::spec::types::Role;

/// Makes sure that the store has a container's whole image, and returns its ID; with the other images of the
/// engine that have layers of it.
pub(super) async fn verify(
    shared: &Shared,
    op: OpId,
    role: &Role,
) -> Result<(String, Vec<Sharer>), Fault> {
    let (reference, pinned) = named(shared, role)?;
    // Asked first: whatever else is wrong, the engine has then answered.
    shared.engine.image(&reference).await?;
    let image = stored(shared, pinned.as_deref().unwrap_or(&reference))?;
    let id = image.id();
    let others = shared.engine.others_from(&shared.node(), &id).await?;
    if !others.is_empty() {
        return Err(Fault::Refused(format!(
            "{} made from it, and not monopod's",
            match others.as_slice() {
                [one] => format!("the container {one} is"),
                several => format!("the containers {} are", several.join(", ")),
            }
        )));
    }
    is_whole(shared, op, &reference, &id).await?;
    let sharers = sharers(shared, op, &image).await?;
    Ok((id, sharers))
}

/// Reads all of an image in the store.
async fn is_whole(shared: &Shared, op: OpId, reference: &str, id: &str) -> Result<(), Fault> {
    let words = ["feed", "--verify", reference, "--id", id];
    by_helper(shared, &words, || shared.tell(Event::Progress(op))).await?;
    Ok(())
}

/// The other images of the engine that have layers of this one: those with its lowest layer.
async fn sharers(shared: &Shared, op: OpId, image: &StoredImage) -> Result<Vec<Sharer>, Fault> {
    let id = image.id();
    let lowest = image.diff_ids.first().map(ToString::to_string);
    let mut sharers = Vec::new();
    for other in shared.engine.images().await? {
        if other.id == id || other.diff_ids.first() != lowest.as_ref() {
            continue;
        }
        let users = shared.engine.others_from(&shared.node(), &other.id).await?;
        let foreign = !users.is_empty();
        let kept = found(shared, &other.id)?.is_some_and(|kept| kept.id() == other.id);
        let stored = !foreign && kept && is_whole(shared, op, &other.id, &other.id).await.is_ok();
        sharers.push(Sharer {
            id: other.id,
            stored,
            foreign,
        });
    }
    Ok(sharers)
}

/// Removes a container's image from the engine and those `along`, has them fed again from the store, and returns
/// its ID.
pub(super) async fn rebuild(
    shared: &Shared,
    op: OpId,
    role: &Role,
    along: &[String],
) -> Result<String, Fault> {
    let (reference, pinned) = named(shared, role)?;
    let id = stored(shared, pinned.as_deref().unwrap_or(&reference))?.id();
    let engine = &shared.engine;
    let mut taken = Vec::new();
    for other in along {
        // Somebody may have made a container from it since it was looked for.
        if engine.others_from(&shared.node(), other).await?.is_empty() {
            let names = names(shared, other).await?;
            taken.push((other, names));
        }
    }
    let names = names(shared, &id).await?;
    for (other, _) in &taken {
        // By its ID, with every name: as long as one is left, the layers stay.
        if let Err(fault) = engine.remove_image(other, true).await {
            warn!("{other}, which shares layers with {reference}, stays in the engine: {fault:?}");
        }
    }
    let result = anew(shared, op, &reference, &id, &names).await;
    // They come back whatever became of it. Where not even that can be done, it is when they are needed.
    for (other, names) in taken {
        let moved = || shared.tell(Event::Progress(op));
        match feed(shared, other, other, moved).await {
            Ok(_) => name_again(shared, other, &names).await,
            Err(fault) => {
                let name = names.first().unwrap_or(other);
                warn!("{name}, which shares layers with {reference}, is missing: {fault:?}");
            }
        }
    }
    result.map(|()| id)
}

/// Removes an image from the engine and has it fed again, with these names.
async fn anew(
    shared: &Shared,
    op: OpId,
    reference: &str,
    id: &str,
    names: &[String],
) -> Result<(), Fault> {
    shared.engine.remove_image(id, true).await?;
    let moved = || shared.tell(Event::Progress(op));
    let skipped = feed(shared, reference, id, moved).await?;
    if skipped > 0 {
        warn!(
            "{reference}: its {skipped} lowest layers are other images' in the engine, too, and were left as they are"
        );
    }
    name_again(shared, id, names).await;
    Ok(())
}

/// The names of an image that is to be taken; also those that it had before an attempt that got no answer.
async fn names(shared: &Shared, id: &str) -> Result<Vec<String>, Fault> {
    let image = shared.engine.image(id).await?;
    let mut taken = shared.taken.borrow_mut();
    let names = taken.entry(id.to_owned()).or_default();
    for name in image.into_iter().flat_map(|image| image.tags) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names.clone())
}

/// Gives an image its names again, as far as no other image has got them meanwhile.
async fn name_again(shared: &Shared, id: &str, names: &[String]) {
    shared.taken.borrow_mut().remove(id);
    for name in names {
        let done = match shared.engine.image(name).await {
            Ok(None) => shared.engine.tag(id, name).await,
            Ok(Some(_)) => Ok(()),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = done {
            warn!("{name} does not name the image {id} in the engine any more: {fault:?}");
        }
    }
}
