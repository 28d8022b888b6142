//! One change of the store: all of it, or nothing that anyone can see.
//!
//! A transaction holds the store's lock. Blobs and layer records that it adds are complete the
//! moment they have their names; only the index, replaced last, makes them part of an image. Rolled
//! back, it takes away what it added and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::documents::Descriptor;
use super::error::{Fault, StoreError};
use super::import::Layers;
use super::store::{Store, StoreLock, read_small, to_json};

/// Which blob holds a layer's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub diff_id: Digest,
    pub digest: Digest,
    pub size: u64,
    #[serde(rename = "mediaType")]
    pub media_type: String,
    #[serde(rename = "contentSize")]
    pub content_size: u64,
}

impl LayerRecord {
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.size)
    }
}

/// A file that is gone again unless it is kept.
pub(super) struct Temp {
    pub file: File,
    pub path: PathBuf,
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Kept files have moved; for the others there is nobody to tell, and the next writer clears tmp/.
        let _ = fs::remove_file(&self.path);
    }
}

pub(super) struct Transaction<'s> {
    pub store: &'s Store,
    /// How layers are kept.
    pub layers: Layers,
    _lock: StoreLock,
    records: BTreeMap<Digest, LayerRecord>,
    by_blob: BTreeMap<Digest, Digest>,
    added_blobs: BTreeSet<Digest>,
    added_records: BTreeSet<Digest>,
    temps: u64,
}

impl<'s> Transaction<'s> {
    /// Takes the lock, clears what an interrupted writer left in `tmp/`, and learns which layers are there.
    pub fn begin(store: &'s Store) -> Result<Self, StoreError> {
        let lock = store.lock()?;
        clear(&store.temps())?;
        let mut transaction = Self {
            store,
            layers: Layers::AsTheyCome,
            _lock: lock,
            records: BTreeMap::new(),
            by_blob: BTreeMap::new(),
            added_blobs: BTreeSet::new(),
            added_records: BTreeSet::new(),
            temps: 0,
        };
        for record in load_records(store)? {
            transaction.by_blob.insert(record.digest, record.diff_id);
            transaction.records.insert(record.diff_id, record);
        }
        transaction.learn_from_images()?;
        Ok(transaction)
    }

    /// What the images say of their layers is durable, unlike the records.
    fn learn_from_images(&mut self) -> Result<(), StoreError> {
        for image in self.store.images()? {
            let layers = image.layers.into_iter().zip(image.content_sizes);
            for (diff_id, (layer, content_size)) in image.diff_ids.into_iter().zip(layers) {
                if !self.records.contains_key(&diff_id)
                    && self.store.has_blob(&layer.digest, layer.size)
                {
                    self.by_blob.insert(layer.digest, diff_id);
                    self.records.insert(
                        diff_id,
                        LayerRecord {
                            diff_id,
                            digest: layer.digest,
                            size: layer.size,
                            media_type: layer.media_type,
                            content_size,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// The stored layer with this content.
    pub fn layer(&self, diff_id: &Digest) -> Option<&LayerRecord> {
        self.records.get(diff_id)
    }

    /// The stored layer that is this blob.
    pub fn layer_by_blob(&self, blob: &Digest) -> Option<&LayerRecord> {
        self.records.get(self.by_blob.get(blob)?)
    }

    /// An empty file in `tmp/`.
    pub fn temp(&mut self) -> Result<Temp, Fault> {
        self.temps += 1;
        let path = self.store.temps().join(format!("blob-{}", self.temps));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Fault::write("create", &path))?;
        Ok(Temp { file, path })
    }

    /// Gives a written file its name among the blobs. Its digest and size are those of its bytes.
    pub fn keep(&mut self, temp: &Temp, digest: &Digest, size: u64) -> Result<(), Fault> {
        if self.store.has_blob(digest, size) {
            return Ok(());
        }
        let path = self.store.blob_path(digest);
        temp.file
            .sync_data()
            .and_then(|()| fs::rename(&temp.path, &path))
            .map_err(Fault::write("write", &path))?;
        // If it stays there it only takes space, until the next clean-up.
        let _ = fs::remove_file(self.store.set_aside(digest));
        self.added_blobs.insert(*digest);
        Ok(())
    }

    /// Keeps a document.
    pub fn keep_bytes(&mut self, bytes: &[u8]) -> Result<Digest, Fault> {
        let digest = Digest::of(bytes);
        // Of a document not only the size is looked at: it is small, and damage shows.
        if self.store.blob_bytes(&digest).is_err() {
            let _ = fs::remove_file(self.store.blob_path(&digest));
            let mut temp = self.temp()?;
            let written = temp.file.write_all(bytes);
            written.map_err(Fault::write("write", &temp.path))?;
            self.keep(&temp, &digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Remembers a layer whose blob is kept.
    pub fn record(&mut self, record: LayerRecord) -> Result<(), Fault> {
        let path = self.store.records().join(record.diff_id.hex());
        let mut temp = self.temp()?;
        let bytes = to_json(&record, &path)?;
        temp.file
            .write_all(&bytes)
            .and_then(|()| fs::rename(&temp.path, &path))
            .map_err(Fault::write("write", &path))?;
        self.added_records.insert(record.diff_id);
        self.by_blob.insert(record.digest, record.diff_id);
        self.records.insert(record.diff_id, record);
        Ok(())
    }

    /// How many layers and how many bytes this transaction has added so far.
    pub fn added(&self) -> (usize, u64) {
        let layers = self
            .added_records
            .iter()
            .filter_map(|diff_id| self.records.get(diff_id));
        (
            self.added_records.len(),
            layers.map(|record| record.size).sum(),
        )
    }

    /// Takes away added layers that no image turned out to need.
    pub fn drop_unneeded(&mut self, needed: &BTreeSet<Digest>) {
        let unneeded: Vec<Digest> = self.added_records.difference(needed).copied().collect();
        for diff_id in unneeded {
            self.added_records.remove(&diff_id);
            // Leftovers are garbage that a prune takes; they harm nobody.
            let _ = fs::remove_file(self.store.records().join(diff_id.hex()));
            if let Some(record) = self.records.remove(&diff_id)
                && self.added_blobs.remove(&record.digest)
            {
                let _ = fs::remove_file(self.store.blob_path(&record.digest));
            }
        }
    }

    /// Makes it so: the images of `index` are what the store has.
    pub fn commit(self, index: &[Descriptor]) -> Result<(), StoreError> {
        self.store.write_index(index)
    }

    /// Takes away everything that was added.
    pub fn roll_back(self) {
        for diff_id in &self.added_records {
            let _ = fs::remove_file(self.store.records().join(diff_id.hex()));
        }
        for digest in &self.added_blobs {
            let _ = fs::remove_file(self.store.blob_path(digest));
        }
    }
}

/// The records that can be trusted: whole, where they belong, with their blob there.
pub(super) fn load_records(store: &Store) -> Result<Vec<LayerRecord>, StoreError> {
    let mut records = Vec::new();
    for (name, path) in list(&store.records())? {
        let Ok(bytes) = read_small(&path) else {
            continue;
        };
        let Ok(record) = serde_json::from_slice::<LayerRecord>(&bytes) else {
            continue;
        };
        if record.diff_id.hex() == name && store.has_blob(&record.digest, record.size) {
            records.push(record);
        }
    }
    Ok(records)
}

/// Removes every file of a folder.
pub(super) fn clear(folder: &Path) -> Result<(), StoreError> {
    for (_, path) in list(folder)? {
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
    }
    Ok(())
}

/// The names and paths in a folder; names that are not UTF-8 are nobody's.
pub(super) fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let entry = entry.map_err(StoreError::io("read", folder))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
