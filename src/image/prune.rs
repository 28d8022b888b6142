//! What leaves the store: names, images, layers that the engine has anyway, and garbage.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::digest::Digest;
use super::documents::{DROPPED, REF_NAME};
use super::error::StoreError;
use super::reference;
use super::store::{Store, StoreLock, StoredImage, sync_folder};
use super::transaction::{clear, list};

/// What a clean-up has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of images that are gone; the image's ID for one without a name.
    pub images: Vec<String>,
    /// Blobs that are gone.
    pub blobs: usize,
    /// Bytes that they took.
    pub bytes: u64,
}

impl Store {
    /// Removes every image of which neither a name nor the ID is in `keep`, and all garbage.
    ///
    /// An image that is kept keeps all its names. What must be kept (what runs, what the workload
    /// names, what a rollback needs) is the caller's to say.
    pub fn prune(&self, keep: &BTreeSet<String>) -> Result<Pruned, StoreError> {
        let lock = self.lock()?;
        let keep: BTreeSet<String> = keep
            .iter()
            .map(|name| reference::normalise(name).unwrap_or_else(|_| name.clone()))
            .chain(keep.iter().cloned())
            .collect();
        let gone: Vec<StoredImage> = self
            .images()?
            .into_iter()
            .filter(|image| {
                !keep.contains(&image.id())
                    && !keep.contains(&image.manifest.to_string())
                    && !image.references.iter().any(|name| keep.contains(name))
            })
            .collect();
        let mut index = self.read_index()?;
        index.retain(|entry| !gone.iter().any(|image| image.manifest == entry.digest));
        self.write_index(&index)?;
        let mut pruned = self.sweep(&lock)?;
        for image in gone {
            if image.references.is_empty() {
                pruned.images.push(image.id());
            }
            pruned.images.extend(image.references);
        }
        Ok(pruned)
    }

    /// Takes one name away from its image, and the image out of the index if it has no other.
    /// By its ID, an image goes with all its names. Blobs stay until [`Store::collect_garbage`].
    pub fn remove(&self, reference: &str) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let not_found = || StoreError::NotFound(reference.to_owned());
        let mut index = self.read_index()?;
        let before = index.len();
        if let Ok(id) = reference.parse::<Digest>() {
            let images = self.images()?;
            let image = images
                .iter()
                .find(|image| image.config == id || image.manifest == id);
            let manifest = image.ok_or_else(not_found)?.manifest;
            index.retain(|entry| entry.digest != manifest);
        } else {
            let name = reference::normalise(reference).map_err(|_| not_found())?;
            index.retain(|entry| entry.annotation(REF_NAME) != Some(&name));
        }
        if index.len() == before {
            return Err(not_found());
        }
        self.write_index(&index)
    }

    /// Drops the layers of an image that no other image with layers needs; its names, manifest and
    /// config stay, and so do the layers that were not dropped. Returns the bytes that are free again.
    ///
    /// For `[store] keep = false`: the engine has the layers. What is given up is mending the
    /// engine's copy without the archive.
    pub fn drop_layers(&self, image: &StoredImage) -> Result<u64, StoreError> {
        let lock = self.lock()?;
        let mut index = self.read_index()?;
        for entry in index
            .iter_mut()
            .filter(|entry| entry.digest == image.manifest)
        {
            entry.annotate(DROPPED, Some("true".to_owned()));
        }
        self.write_index(&index)?;
        Ok(self.sweep(&lock)?.bytes)
    }

    /// Removes what no image needs: blobs, layer records, what an interrupted writer left.
    pub fn collect_garbage(&self) -> Result<Pruned, StoreError> {
        let lock = self.lock()?;
        self.sweep(&lock)
    }

    fn sweep(&self, _lock: &StoreLock) -> Result<Pruned, StoreError> {
        clear(&self.temps())?;
        let (mut blobs, mut contents) = (BTreeSet::new(), BTreeSet::new());
        // A damaged image's manifest and config stay: they say what is damaged.
        blobs.extend(self.read_index()?.iter().map(|entry| entry.digest));
        for image in self.images()? {
            blobs.extend([image.manifest, image.config]);
            if !image.dropped {
                blobs.extend(image.layers.iter().map(|layer| layer.digest));
                contents.extend(image.diff_ids);
            }
        }
        let mut pruned = Pruned::default();
        if self.quarantined().exists() {
            for (name, path) in list(&self.quarantined())? {
                let wanted = Digest::from_hex(&name).is_some_and(|digest| {
                    blobs.contains(&digest) && !self.blob_path(&digest).exists()
                });
                if !wanted {
                    fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                }
            }
        }
        for (name, path) in list(&self.records())? {
            if !Digest::from_hex(&name).is_some_and(|digest| contents.contains(&digest)) {
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        for (name, path) in list(&self.blobs())? {
            if Digest::from_hex(&name).is_some_and(|digest| blobs.contains(&digest)) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            pruned.blobs += 1;
            pruned.bytes += meta.size();
        }
        if pruned.blobs > 0 {
            sync_folder(&self.blobs())?;
        }
        Ok(pruned)
    }
}
