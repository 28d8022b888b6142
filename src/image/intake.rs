//! Images whose blobs a bundle lists: checked one by one, kept, and named together at the end.
//!
//! Nothing here knows of bundles. What must never happen: that a byte is parsed before it had the
//! digest that the caller names for it.

use std::io::{self, Read, Seek, Write};
use std::rc::Rc;

use super::commit;
use super::digest::{Digest, Hasher};
use super::documents::{
    Config, Descriptor, LAYER_ZSTD, Manifest, OCI_CONFIG, OCI_MANIFEST, Platform,
};
use super::error::{Fault, ImportError, StoreError};
use super::import::Imported;
use super::layer::{self, Packing, Unpack};
use super::plan::{self, Machine, PlannedImage, PlannedLayer};
use super::store::{Store, StoredImage, to_json};
use super::transaction::{LayerRecord, Transaction};
use super::{json, limits, space};

/// An image as its documents describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntakeImage {
    /// Its name in familiar form.
    pub reference: String,
    /// Its OCI manifest's digest.
    pub manifest: Digest,
    /// Its config's digest.
    pub config: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<IntakeLayer>,
    /// What it runs on, where its config says so.
    pub platform: Option<Platform>,
}

/// A layer as an image's documents describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLayer {
    /// Digest of its bytes, packed with zstd.
    pub blob: Digest,
    /// Count of these bytes.
    pub size: u64,
    /// Digest of its content.
    pub diff_id: Digest,
}

/// Why an image's documents are of no use.
#[derive(Debug)]
pub enum ReadImageError<E> {
    /// They are wrong: one line for people.
    Wrong(String),
    /// The config could not be had.
    Config(E),
}

/// Reads an image's OCI manifest and its config, whose digests have been checked. `config` gives the
/// config's bytes by digest and size. Without `architectures` the image may be for any.
pub fn read_image<E>(
    reference: &str,
    digest: Digest,
    manifest: &[u8],
    architectures: Option<&[String]>,
    config: impl FnOnce(&Digest, u64) -> Result<Vec<u8>, E>,
) -> Result<IntakeImage, ReadImageError<E>> {
    let wrong = |reason: String| ReadImageError::Wrong(format!("its image manifest: {reason}"));
    let manifest: Manifest = json::parse(manifest).map_err(wrong)?;
    if manifest.schema_version != 2 || manifest.media_type.as_deref() != Some(OCI_MANIFEST) {
        return Err(wrong("it is no OCI image manifest".to_owned()));
    }
    if manifest.config.media_type != OCI_CONFIG {
        return Err(wrong("its config is no OCI image config".to_owned()));
    }
    let plain = |layer: &Descriptor| layer.media_type == LAYER_ZSTD && layer.urls.is_none();
    if !manifest.layers.iter().all(plain) {
        return Err(wrong(
            "it has a layer that is not packed with zstd".to_owned(),
        ));
    }
    let bytes =
        config(&manifest.config.digest, manifest.config.size).map_err(ReadImageError::Config)?;
    let wrong = |reason: String| ReadImageError::Wrong(format!("its image config: {reason}"));
    let own: Vec<String>;
    let architectures = if let Some(architectures) = architectures {
        architectures
    } else {
        let config: Config = json::parse(&bytes).map_err(wrong)?;
        own = config.architecture.into_iter().collect();
        &own
    };
    let (config, diff_ids) = plan::read_config(&bytes, "config", &Machine { architectures })
        .map_err(|fault| match fault {
            Fault::Refused(_, reason) => ReadImageError::Wrong(reason),
            Fault::Usage(reason) => wrong(reason),
            Fault::Medium(_) | Fault::Full | Fault::Space(_) | Fault::Store(_) => {
                wrong("it cannot be read".to_owned())
            }
        })?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(wrong(format!(
            "it has {} layers, and the manifest has {}",
            diff_ids.len(),
            manifest.layers.len()
        )));
    }
    let layers = manifest.layers.iter().zip(diff_ids);
    Ok(IntakeImage {
        reference: reference.to_owned(),
        manifest: digest,
        config: manifest.config.digest,
        layers: layers
            .map(|(layer, diff_id)| IntakeLayer {
                blob: layer.digest,
                size: layer.size,
                diff_id,
            })
            .collect(),
        platform: plan::platform(&config),
    })
}

/// The image ID that an OCI manifest leads to: its config's digest.
///
/// # Errors
///
/// It is no image manifest: one line for people.
pub fn image_id(manifest: &[u8]) -> Result<Digest, String> {
    let manifest: Manifest = json::parse(manifest)?;
    Ok(manifest.config.digest)
}

/// The OCI manifest of a stored image whose layers are all packed with zstd: the one that
/// [`read_image`] reads, the same bytes for the same config and layers.
pub fn image_manifest(store: &Store, image: &StoredImage) -> Result<Vec<u8>, StoreError> {
    let config = store.config_bytes(image)?.len() as u64;
    let layer = |layer: &Descriptor| Descriptor::new(LAYER_ZSTD, layer.digest, layer.size);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(OCI_CONFIG, image.config, config),
        layers: image.layers.iter().map(layer).collect(),
    };
    to_json(&manifest, store.path())
}

/// How a layer fails.
#[derive(Debug)]
pub enum LayerFault {
    /// It could not be read, or ended too early (`UnexpectedEof`).
    Read(io::Error),
    /// Its bytes have this digest, and not the one that was named. They have not been looked at.
    Digest(Digest),
    /// It unpacks to more than there is room for.
    TooLarge,
    /// It is not what its image says, or no zstd data at all: one line for people.
    Content(String),
    /// The store failed, or is full.
    Import(ImportError),
}

/// Unpacks a layer to nowhere, whose bytes have been checked; returns its content's size in bytes.
///
/// # Errors
///
/// It is more than `left` bytes, or is not what `diff_id` says.
pub fn layer_content(
    packed: &mut dyn Read,
    diff_id: &Digest,
    left: u64,
) -> Result<u64, LayerFault> {
    let mut start = Vec::new();
    (&mut *packed)
        .take(4)
        .read_to_end(&mut start)
        .map_err(LayerFault::Read)?;
    if Packing::of(&start) != Packing::Zstd {
        return Err(LayerFault::Content("it is not packed with zstd".to_owned()));
    }
    let packed = start.chain(packed);
    let window = limits::ZSTD_WINDOW_LOG;
    let (found, size) = layer::unpack(packed, Packing::Zstd, left, window, &mut |_| Ok(()))
        .map_err(|fault| match fault {
            Unpack::TooLarge => LayerFault::TooLarge,
            Unpack::Broken(reason) => LayerFault::Content(reason),
        })?;
    if found == *diff_id {
        return Ok(size);
    }
    Err(LayerFault::Content(format!(
        "its content has the digest {found}, and the image's config says {diff_id}"
    )))
}

/// A change of the store in the making; the store's lock is held. Dropped without an end, it leaves
/// whole blobs that nothing names and that the next one finds.
pub struct Intake<'s> {
    transaction: Transaction<'s>,
    known: usize,
}

impl<'s> Intake<'s> {
    /// Waits for the lock.
    pub fn begin(store: &'s Store) -> Result<Self, ImportError> {
        Ok(Self {
            transaction: Transaction::begin(store)?,
            known: 0,
        })
    }

    /// Content size in bytes of a layer that the store has, by its content's digest.
    pub fn content_size(&self, diff_id: &Digest) -> Option<u64> {
        Some(self.transaction.layer(diff_id)?.content_size)
    }

    /// Refuses if `needed` bytes more do not fit.
    pub fn check_room(&self, needed: u64) -> Result<(), ImportError> {
        let store = self.transaction.store.path();
        match space::free(store) {
            Some(free) if free < needed => Err(space::no_space(store, Some(needed))),
            _ => Ok(()),
        }
    }

    /// Keeps a document, whose digest has been checked.
    pub fn document(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let kept = self.transaction.keep_bytes(bytes);
        kept.map(drop).map_err(|fault| self.failed(fault))
    }

    /// Reads a document back.
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, ImportError> {
        Ok(self.transaction.store.blob_bytes(digest)?)
    }

    /// Reads a layer from `reader` into the store; returns its content's size, of which there may be
    /// `left` bytes. It is unpacked, to be checked, from the store's own file, and only after its
    /// bytes had the digest named for them.
    pub fn layer(
        &mut self,
        reader: &mut dyn Read,
        layer: &IntakeLayer,
        left: u64,
    ) -> Result<u64, LayerFault> {
        let store = |fault| LayerFault::Import(failed(self.transaction.store, fault));
        let mut temp = self.transaction.temp().map_err(store)?;
        let store = |fault| LayerFault::Import(failed(self.transaction.store, fault));
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; limits::BUFFER];
        let mut rest = layer.size;
        while rest > 0 {
            let want = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            reader
                .read_exact(&mut buffer[..want])
                .map_err(LayerFault::Read)?;
            hasher.update(&buffer[..want]);
            temp.file
                .write_all(&buffer[..want])
                .map_err(Fault::write("write", &temp.path))
                .map_err(store)?;
            rest -= want as u64;
        }
        drop(buffer);
        let (found, _) = hasher.finish();
        if found != layer.blob {
            return Err(LayerFault::Digest(found));
        }
        let again = |error| store(Fault::Store(StoreError::io("read", &temp.path)(error)));
        temp.file.rewind().map_err(again)?;
        let content_size = layer_content(&mut temp.file, &layer.diff_id, left)?;
        let record = LayerRecord {
            diff_id: layer.diff_id,
            digest: layer.blob,
            size: layer.size,
            media_type: LAYER_ZSTD.to_owned(),
            content_size,
        };
        let kept = self
            .transaction
            .keep(&temp, &layer.blob, layer.size)
            .and_then(|()| self.transaction.record(record));
        kept.map_err(|fault| LayerFault::Import(self.failed(fault)))?;
        Ok(content_size)
    }

    /// Makes the images part of the store, without a name: what the names stand for now (and runs) stays. They
    /// are found by their IDs.
    pub fn finish(mut self, images: Vec<IntakeImage>) -> Result<Imported, ImportError> {
        let (added, bytes_added) = self.transaction.added();
        let mut contents: Vec<Digest> = images
            .iter()
            .flat_map(|image| image.layers.iter().map(|layer| layer.diff_id))
            .collect();
        contents.sort_unstable();
        contents.dedup();
        self.known = contents.len().saturating_sub(added);
        match self
            .plan(images)
            .and_then(|images| commit::images(&mut self.transaction, images))
        {
            Ok((index, images)) => {
                self.transaction.commit(&index)?;
                Ok(Imported {
                    images,
                    layers_added: added,
                    layers_known: self.known,
                    bytes_added,
                })
            }
            Err(fault) => {
                let error = self.failed(fault);
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Takes away all that was added.
    pub fn roll_back(self) {
        self.transaction.roll_back();
    }

    fn plan(&self, images: Vec<IntakeImage>) -> Result<Vec<PlannedImage>, Fault> {
        let before = self.transaction.store.images()?;
        let mut planned: Vec<PlannedImage> = Vec::new();
        for image in images {
            // Two names of one image.
            if planned.iter().any(|same| same.config == image.config) {
                continue;
            }
            let whole = |old: &StoredImage| old.config == image.config && old.layers_present;
            let as_listed = |layer: &IntakeLayer| {
                let stored = self.transaction.layer(&layer.diff_id);
                stored.is_some_and(|stored| stored.digest == layer.blob)
            };
            // Otherwise the store makes one of its own, for the layers as it has them.
            let keep = !before.iter().any(whole) && image.layers.iter().all(as_listed);
            planned.push(PlannedImage {
                references: Vec::new(),
                config_member: image.config.to_string(),
                config: image.config,
                layers: image
                    .layers
                    .iter()
                    .map(|layer| PlannedLayer {
                        member: Rc::from(layer.blob.to_string()),
                        diff_id: layer.diff_id,
                        raw: Some(layer.blob),
                    })
                    .collect(),
                manifest: keep.then_some(image.manifest),
                platform: image.platform,
            });
        }
        Ok(planned)
    }

    fn failed(&self, fault: Fault) -> ImportError {
        failed(self.transaction.store, fault)
    }
}

/// Nothing here is an archive's fault.
fn failed(store: &Store, fault: Fault) -> ImportError {
    match fault {
        Fault::Store(error) => error.into(),
        Fault::Full => space::no_space(store.path(), None),
        Fault::Space(needed) => space::no_space(store.path(), Some(needed)),
        Fault::Refused(_, reason) => ImportError::Refused(reason),
        Fault::Usage(reason) => ImportError::Usage(reason),
        Fault::Medium(source) => ImportError::Read {
            archive: "the store".to_owned(),
            source,
        },
    }
}
