//! Feeding the engine from the store: nothing if it has the image, else only the layers that it lacks.
//!
//! What was loaded is compared with what was meant before a name points at it.
//! The module must never let an image that is not the store's get the name.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{Engine, EngineImage};
use crate::core::api::Fault;

/// An image of the store.
pub trait ImageSource {
    /// `sha256:` and the digest of its config.
    fn id(&self) -> &str;

    /// Digests of its layers' contents, lowest first (`sha256:...`).
    fn diff_ids(&self) -> &[String];

    /// Whether every layer is there.
    fn complete(&self) -> bool;

    /// A `docker load` archive of the image without its `skip` lowest layers, and without any name in it.
    fn stream(&self, skip: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static;
}

/// How the engine came to have an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes sent to the engine, refused ones included; 0 if it had the image.
    pub sent: u64,
    /// Layers that were left out of what the engine took.
    pub skipped: usize,
}

/// Makes sure that the engine has the image and that `reference` names it, if that is a name and not its ID.
///
/// `on_progress` is called whenever something has moved, for whoever guards the time.
///
/// # Errors
///
/// [`Fault::ImageMissing`] if the engine lacks it and the store has not all of its layers; [`Fault::Refused`] if the
/// engine takes it in no form, or makes another image of it; and the engine's own faults.
pub async fn feed(
    engine: &impl Engine,
    source: &impl ImageSource,
    reference: &str,
    mut on_progress: impl FnMut(),
) -> Result<Fed, Fault> {
    let named = engine.image(reference).await?;
    if named.is_some_and(|image| image.id == source.id()) {
        return Ok(Fed {
            sent: 0,
            skipped: source.diff_ids().len(),
        });
    }
    if engine.image(source.id()).await?.is_some() {
        name(engine, source, reference).await?;
        return Ok(Fed {
            sent: 0,
            skipped: source.diff_ids().len(),
        });
    }
    if !source.complete() {
        return Err(Fault::ImageMissing(format!(
            "the engine has lost the image {reference}, and the store does not keep its layers; import it again"
        )));
    }
    let before = engine.images().await?;
    let sent = Arc::new(AtomicU64::new(0));
    let mut skipped = shared_layers(source.diff_ids(), &before);
    let mut loaded = send(engine, source, skipped, &sent, &mut on_progress).await;
    // Not every engine takes an archive with layers left out; some only say so at its end.
    if skipped > 0 && matches!(loaded, Err(Fault::Refused(_))) {
        skipped = 0;
        loaded = send(engine, source, skipped, &sent, &mut on_progress).await;
    }
    let fed = Fed {
        sent: sent.load(Ordering::Relaxed),
        skipped,
    };
    let loaded = loaded?;
    if engine.image(source.id()).await?.is_none() {
        return Err(Fault::Refused(
            strange(engine, source, reference, &loaded, &before).await?,
        ));
    }
    name(engine, source, reference).await?;
    Ok(fed)
}

async fn name(
    engine: &impl Engine,
    source: &impl ImageSource,
    reference: &str,
) -> Result<(), Fault> {
    if reference == source.id() {
        return Ok(());
    }
    engine.tag(source.id(), reference).await
}

/// How many of the lowest layers are, in this order, the lowest ones of some image of the engine.
fn shared_layers(diff_ids: &[String], images: &[EngineImage]) -> usize {
    images
        .iter()
        .map(|image| {
            let pairs = diff_ids.iter().zip(&image.diff_ids);
            pairs.take_while(|(ours, theirs)| ours == theirs).count()
        })
        .max()
        .unwrap_or(0)
}

fn send<'a>(
    engine: &'a impl Engine,
    source: &impl ImageSource,
    skip: usize,
    sent: &Arc<AtomicU64>,
    on_progress: &'a mut impl FnMut(),
) -> impl Future<Output = Result<Vec<String>, Fault>> + 'a {
    let sent = sent.clone();
    let counted = source.stream(skip).inspect(move |piece| {
        if let Ok(piece) = piece {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    engine.load(counted, on_progress)
}

/// Clears away what the engine made of the image, as far as it is nobody else's, and says what went wrong.
async fn strange(
    engine: &impl Engine,
    source: &impl ImageSource,
    reference: &str,
    loaded: &[String],
    before: &[EngineImage],
) -> Result<String, Fault> {
    for name in loaded {
        let Some(image) = engine.image(name).await? else {
            continue;
        };
        let known = before.iter().any(|one| one.id == image.id);
        if !known && image.tags.is_empty() {
            engine.remove_image(&image.id, false).await?;
        }
    }
    if engine.info().await?.containerd_images {
        return Ok(format!(
            "the engine keeps images in containerd's image store, which monopod does not support yet, so {reference} \
             cannot be verified; put {{\"features\": {{\"containerd-snapshotter\": false}}}} into \
             /etc/docker/daemon.json and restart the engine"
        ));
    }
    let got = if loaded.is_empty() {
        "nothing".to_owned()
    } else {
        loaded.join(", ")
    };
    Ok(format!(
        "the engine made {got} of the image {reference}, which should be {}; it was not tagged",
        source.id()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_need_not_be_sent() {
        let digests = |names: &str| names.chars().map(String::from).collect::<Vec<_>>();
        let table: [(&str, &[&str], usize); 7] = [
            ("abc", &[], 0),
            ("abc", &["xyz", "bc"], 0),
            ("abc", &["ab", "a"], 2),
            ("abc", &["abx", "axc"], 2),
            ("abc", &["abcd"], 3),
            ("abc", &["abc"], 3),
            ("", &["abc"], 0),
        ];
        for (ours, theirs, expected) in table {
            let images: Vec<_> = theirs
                .iter()
                .map(|layers| EngineImage {
                    id: String::new(),
                    tags: Vec::new(),
                    diff_ids: digests(layers),
                    size: 0,
                })
                .collect();
            assert_eq!(
                shared_layers(&digests(ours), &images),
                expected,
                "{ours} on {theirs:?}"
            );
        }
    }
}
