//! From layers and configs that are in the store to images that the index names.

use std::path::Path;

use super::digest::Digest;
use super::documents::{
    CONTENT_SIZES, DROPPED, Descriptor, Manifest, OCI_CONFIG, OCI_MANIFEST, REF_NAME,
};
use super::error::{Fault, StoreError};
use super::json;
use super::plan::PlannedImage;
use super::store::{StoredImage, to_json};
use super::transaction::Transaction;

/// An image that an import has brought, or found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// Its names in this import.
    pub references: Vec<String>,
    /// Its ID: the config's digest.
    pub config: Digest,
    /// Its manifest's digest in the store.
    pub manifest: Digest,
    /// Whether the store had it already, layers and all.
    pub known: bool,
    /// Names that stood for another image until now, with that image's ID. It stays, without the name.
    pub replaced: Vec<(String, Digest)>,
}

/// Adds images whose config and layers are kept; returns the index to commit.
pub(super) fn images(
    transaction: &mut Transaction<'_>,
    planned: Vec<PlannedImage>,
) -> Result<(Vec<Descriptor>, Vec<ImportedImage>), Fault> {
    let mut index = transaction.store.read_index()?;
    let before = transaction.store.images()?;
    let mut imported = Vec::with_capacity(planned.len());
    for image in planned {
        let same: Vec<&StoredImage> = before
            .iter()
            .filter(|old| old.config == image.config)
            .collect();
        let whole = same.iter().find(|old| old.layers_present);
        let entry =
            match whole.and_then(|old| index.iter().find(|entry| entry.digest == old.manifest)) {
                Some(entry) => {
                    let mut entry = entry.clone();
                    entry.annotate(REF_NAME, None);
                    entry
                }
                None => new_entry(transaction, &image)?,
            };
        // One manifest for one config: others of it have lost their layers.
        for old in same.iter().filter(|old| old.manifest != entry.digest) {
            for listed in index
                .iter_mut()
                .filter(|listed| listed.digest == old.manifest)
            {
                let name = listed.annotation(REF_NAME).map(str::to_owned);
                listed.clone_from(&entry);
                listed.annotate(REF_NAME, name);
            }
        }
        for listed in index
            .iter_mut()
            .filter(|listed| listed.digest == entry.digest)
        {
            listed.annotate(DROPPED, None);
        }
        let mut replaced = Vec::new();
        for name in &image.references {
            if let Some(other) = point(&mut index, &entry, name) {
                let config = before
                    .iter()
                    .find(|old| old.manifest == other)
                    .map(|old| old.config);
                replaced.extend(config.map(|config| (name.clone(), config)));
            }
        }
        // Without a name it is in the index all the same, or the next clean-up would take it.
        if image.references.is_empty() && index.iter().all(|listed| listed.digest != entry.digest) {
            index.push(entry.clone());
        }
        imported.push(ImportedImage {
            references: image.references,
            config: image.config,
            manifest: entry.digest,
            known: whole.is_some(),
            replaced,
        });
    }
    Ok((index, imported))
}

/// Lets `name` stand for `entry`; returns the manifest that it stood for before, if another.
fn point(index: &mut Vec<Descriptor>, entry: &Descriptor, name: &str) -> Option<Digest> {
    let named = |listed: &Descriptor| listed.annotation(REF_NAME) == Some(name);
    let other = match index.iter().position(named) {
        Some(at) if index[at].digest == entry.digest => return None,
        Some(at) => {
            let other = index[at].digest;
            // The image stays: a release may still need it.
            if index.iter().filter(|listed| listed.digest == other).count() > 1 {
                index.remove(at);
            } else {
                index[at].annotate(REF_NAME, None);
            }
            Some(other)
        }
        None => None,
    };
    index.retain(|listed| listed.digest != entry.digest || listed.annotation(REF_NAME).is_some());
    let mut entry = entry.clone();
    entry.annotate(REF_NAME, Some(name.to_owned()));
    entry.annotate(DROPPED, None);
    index.push(entry);
    other
}

fn new_entry(transaction: &mut Transaction<'_>, image: &PlannedImage) -> Result<Descriptor, Fault> {
    let mut layers = Vec::with_capacity(image.layers.len());
    let mut sizes = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let record = transaction.layer(&layer.diff_id).ok_or_else(|| {
            Fault::Store(StoreError::LayerMissing {
                image: image.config.to_string(),
                layer: layer.diff_id.to_string(),
            })
        })?;
        sizes.push(record.content_size.to_string());
        layers.push(record.descriptor());
    }
    let mut entry = if let Some(digest) = image.manifest {
        // The archive's own, kept before.
        let bytes = transaction.store.blob_bytes(&digest)?;
        let manifest: Manifest = json::parse(&bytes).map_err(Fault::archive)?;
        let media_type = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
        Descriptor::new(media_type, digest, bytes.len() as u64)
    } else {
        let config = transaction.store.blob_bytes(&image.config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Descriptor::new(OCI_CONFIG, image.config, config.len() as u64),
            layers,
        };
        let bytes = to_json(&manifest, Path::new("manifest"))?;
        let digest = transaction.keep_bytes(&bytes)?;
        Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64)
    };
    entry.platform.clone_from(&image.platform);
    entry.annotate(CONTENT_SIZES, Some(sizes.join(",")));
    Ok(entry)
}
