//! From the store to the engine: the store's image as a load stream, and the words in which the
//! process that sends it reports to the daemon.
//!
//! What the stream may leave out, and whether what came of it is right, is [`crate::engine::feed`]'s.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::core::api::Fault;
use crate::engine::{self, Engine, Fed, ImageSource};
use crate::image::{Store, StoreError, StoredImage, verify_image, write_load_stream};
use crate::spec::types::StorePolicy;

/// Bytes of one piece of the stream, and pieces that may wait for the engine.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// What `monopod feed` prints, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Something has moved.
    Moved,
    /// The engine has the image.
    Done {
        /// Bytes sent to it.
        sent: u64,
        /// Layers that it had already.
        skipped: usize,
    },
    /// It has not.
    Failed(Fault),
}

/// Makes sure that the engine has the store's image of this ID, or without one of this name, under this name.
///
/// Where `node.toml` says `keep = false`, the store gives its layers up afterwards.
///
/// # Errors
///
/// As [`engine::feed`]; [`Fault::ImageMissing`] also if the store has no such image.
pub async fn feed(
    store: &Store,
    policy: &StorePolicy,
    engine: &impl Engine,
    reference: &str,
    id: Option<&str>,
    mut on_progress: impl FnMut(),
) -> Result<Fed, Fault> {
    // A bundle's images have no name in the store.
    let wanted = id.unwrap_or(reference);
    let stored = store
        .resolve(wanted)
        .map_err(refused)?
        .ok_or_else(|| Fault::ImageMissing(format!("the store has no image {reference}")))?;
    let source = Stored::new(store.path(), stored.clone());
    let fed = match engine::feed(engine, &source, reference, &mut on_progress).await {
        Ok(fed) => fed,
        Err(fault @ (Fault::Refused(_) | Fault::ImageMissing(_))) => {
            if damage(store, wanted).map_err(refused)?.is_none() {
                return Err(fault);
            }
            // What was found damaged on the way is as good as not there. Whatever else is damaged is found
            // now, so that whoever brings the image once more mends all of it.
            let _ = verify_image(store, &stored, &mut |_| on_progress());
            let damage = damage(store, wanted).map_err(refused)?;
            return Err(damage.map_or(fault, Fault::ImageMissing));
        }
        Err(fault) => return Err(fault),
    };
    if !policy.keep && stored.layers_present {
        store.drop_layers(&stored).map_err(refused)?;
    }
    Ok(fed)
}

/// Makes sure that the store has the whole image of this name: every byte is read, and must be right.
///
/// # Errors
///
/// [`Fault::ImageMissing`] if it has not, or no longer; [`Fault::Refused`] if it cannot be read.
pub fn verify(store: &Store, reference: &str, mut on_progress: impl FnMut()) -> Result<(), Fault> {
    let stored = store
        .resolve(reference)
        .map_err(refused)?
        .ok_or_else(|| Fault::ImageMissing(format!("the store has no image {reference}")))?;
    if let Some(line) = store.damage(&stored) {
        return Err(Fault::ImageMissing(line));
    }
    if !stored.layers_present {
        return Err(Fault::ImageMissing(format!(
            "the store does not have the layers of {reference}"
        )));
    }
    let mut progress = |_: crate::image::Progress<'_>| on_progress();
    match verify_image(store, &stored, &mut progress) {
        Ok(()) => Ok(()),
        Err(error @ (StoreError::LayerDamaged { .. } | StoreError::LayerMissing { .. })) => {
            Err(Fault::ImageMissing(error.to_string()))
        }
        Err(error) => Err(refused(error)),
    }
}

/// What is damaged of the store's image of this name or ID.
fn damage(store: &Store, reference: &str) -> Result<Option<String>, StoreError> {
    let stored = store.resolve(reference)?;
    Ok(stored.and_then(|stored| store.damage(&stored)))
}

/// In one line for people, what is damaged in the store and what mends it.
pub fn mended_by_hand(damage: &str, preload: &Path) -> String {
    format!(
        "{damage}: import it again: monopod import ARCHIVE, or put the archive into {}, or plug in its stick",
        preload.display()
    )
}

// By value, because that is how map_err hands it over.
#[allow(clippy::needless_pass_by_value)]
fn refused(error: StoreError) -> Fault {
    Fault::Refused(error.to_string())
}

/// An image of the store, for the engine.
struct Stored {
    store: std::path::PathBuf,
    image: StoredImage,
    id: String,
    diff_ids: Vec<String>,
}

impl Stored {
    fn new(store: &Path, image: StoredImage) -> Self {
        Self {
            store: store.to_owned(),
            id: image.id(),
            diff_ids: image.diff_ids.iter().map(ToString::to_string).collect(),
            image,
        }
    }
}

impl ImageSource for Stored {
    fn id(&self) -> &str {
        &self.id
    }

    fn diff_ids(&self) -> &[String] {
        &self.diff_ids
    }

    fn complete(&self) -> bool {
        self.image.layers_present
    }

    fn stream(&self, skip: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (pieces, arriving) = mpsc::channel(PIECES);
        let (path, image) = (self.store.clone(), self.image.clone());
        // The store is read on a thread of its own, which ends when nobody takes its pieces any more.
        tokio::task::spawn_blocking(move || {
            let mut out = BufWriter::with_capacity(PIECE, Pipe(pieces.clone()));
            let written = Store::open(&path)
                .and_then(|store| write_load_stream(&store, &image, skip, &mut out, &mut |_| {}));
            if let Err(error) = written {
                // What is in the buffer does not matter any more, and must not follow the error.
                let _ = out.into_parts();
                let _ = pieces.blocking_send(Err(io::Error::other(error.to_string())));
            }
        });
        stream::unfold(arriving, |mut arriving| async move {
            arriving.recv().await.map(|piece| (piece, arriving))
        })
    }
}

/// The writing end of the stream.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
