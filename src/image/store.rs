//! The store on disk: an OCI image layout with monopod's own few files beside it.
//!
//! ```text
//! oci-layout            {"imageLayoutVersion":"1.0.0"}
//! index.json            one descriptor for each reference; the only file that is ever replaced
//! blobs/sha256/HEX      manifests, configs, layers (zstd, or gzip as they came)
//! layers/HEX            by content digest (diff_id): which blob holds that content (a cache)
//! tmp/                  what is being written
//! damaged/HEX           blobs that were found not to be what their names say
//! lock                  flock: one writer at a time
//! preload.json          what the preload folder's archives came to
//! ```
//!
//! What holds, also through a power cut: a blob is written to `tmp/`, fsynced, and only then renamed,
//! so a name under `blobs/` means the whole, verified content is on disk; `index.json` is replaced
//! last, by rename, after the blobs' folder is fsynced, so nothing that it names can be missing.
//! Files under `layers/` are not fsynced: they are a cache that says nothing unless it parses whole,
//! names the file that it is in, and its blob is there in the right size.
//!
//! Readers take no lock: `index.json` is replaced in one step, and a blob that goes away under a
//! reader (by a prune) is an error that the next try does not meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;

use super::digest::Digest;
use super::documents::{
    CONTENT_SIZES, Config, DROPPED, Descriptor, Index, Layout, Manifest, OCI_INDEX, REF_NAME,
};
use super::error::StoreError;
use super::{json, limits, reference};

/// The store of verified images.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The right to write to the store; it ends when dropped.
#[derive(Debug)]
pub struct StoreLock(#[allow(dead_code, reason = "held, not used")] Flock<File>);

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// Every reference that names it; none once newer images have taken them all.
    pub references: Vec<String>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config: its ID with Docker's graph drivers.
    pub config: Digest,
    /// Digests of its layers' contents, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Its layers as they are stored, lowest first.
    pub layers: Vec<Descriptor>,
    /// Sizes of its layers' contents in bytes, lowest first.
    pub content_sizes: Vec<u64>,
    /// All layers' contents together, bytes: about what it takes in an engine.
    pub content_size: u64,
    /// Those of its blobs that are there together, bytes. Other images may share some.
    pub stored_size: u64,
    /// Whether every layer's blob is there.
    pub layers_present: bool,
    /// Whether the layers were dropped on purpose (`[store] keep = false`).
    pub dropped: bool,
    /// When it was made, as its config says it (RFC 3339).
    pub created: Option<String>,
    /// What it runs on, for example `linux/arm64`; empty if its config does not say.
    pub platform: String,
}

impl StoredImage {
    /// The image ID that an engine with a graph driver gives it: `sha256:` and the config's digest.
    pub fn id(&self) -> String {
        self.config.to_string()
    }

    /// What messages call it: its first name, or its ID.
    pub fn name(&self) -> String {
        self.references
            .first()
            .cloned()
            .unwrap_or_else(|| self.id())
    }
}

impl Store {
    /// Opens the store at `path` and makes what is missing of it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self {
            root: path.to_owned(),
        };
        for folder in [store.blobs(), store.temps(), store.records()] {
            fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        }
        let layout = store.root.join("oci-layout");
        if layout
            .try_exists()
            .map_err(StoreError::io("read", &layout))?
        {
            let found: Layout = document(&layout)?;
            if !found.version.starts_with("1.") {
                return Err(StoreError::Corrupt {
                    path: layout,
                    reason: format!("layout version {:?} is not known", found.version),
                });
            }
        } else {
            let _lock = store.lock()?;
            // The folders' own names: what is in them would be lost with those.
            sync_folder(&store.root.join("blobs"))?;
            sync_folder(&store.root)?;
            if let Some(above) = store.root.parent() {
                sync_folder(above)?;
            }
            if !store.index_path().exists() {
                store.write_index(&[])?;
            }
            // Last: who finds it finds the rest.
            store.replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The record that [`super::preload`] keeps. It is inside the store so that both are lost together.
    pub fn preload_record(&self) -> PathBuf {
        self.root.join("preload.json")
    }

    /// Waits for the right to write. Not to be asked for twice in one thread.
    pub fn lock(&self) -> Result<StoreLock, StoreError> {
        self.flock(FlockArg::LockExclusive)?.ok_or_else(|| {
            StoreError::io("lock", &self.root.join("lock"))(io::ErrorKind::WouldBlock.into())
        })
    }

    /// The right to write, or `None` if another process has it now.
    pub fn try_lock(&self) -> Result<Option<StoreLock>, StoreError> {
        self.flock(FlockArg::LockExclusiveNonblock)
    }

    fn flock(&self, how: FlockArg) -> Result<Option<StoreLock>, StoreError> {
        let path = self.root.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        loop {
            match Flock::lock(file, how) {
                Ok(lock) => return Ok(Some(StoreLock(lock))),
                Err((again, nix::errno::Errno::EINTR)) => file = again,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(StoreError::io("lock", &path)(errno.into())),
            }
        }
    }

    /// Every image, in the order in which they came. Images whose documents are damaged are left out;
    /// [`Store::damaged`] names them.
    pub fn images(&self) -> Result<Vec<StoredImage>, StoreError> {
        Ok(self.survey()?.0)
    }

    /// One line for each image that is damaged: one of its documents, or a layer's blob that was set aside.
    /// What the lines name is not used before its archive has come again.
    pub fn damaged(&self) -> Result<Vec<String>, StoreError> {
        let (images, mut damaged) = self.survey()?;
        damaged.extend(images.iter().filter_map(|image| self.damage(image)));
        Ok(damaged)
    }

    /// In one line, what of an image's layers was found damaged and has not come again.
    pub fn damage(&self, image: &StoredImage) -> Option<String> {
        let blobs: BTreeSet<String> = image
            .layers
            .iter()
            .filter(|layer| !image.dropped && !self.has_blob(&layer.digest, layer.size))
            .filter(|layer| self.set_aside(&layer.digest).exists())
            .map(|layer| layer.digest.to_string())
            .collect();
        let blobs: Vec<String> = blobs.into_iter().collect();
        (!blobs.is_empty()).then(|| {
            format!(
                "image {} in the store is damaged (blob {})",
                image.name(),
                blobs.join(", ")
            )
        })
    }

    /// In one line, what the store has not of an image although it should: damage, or a layer's blob that is gone.
    pub fn lack(&self, image: &StoredImage) -> Option<String> {
        let gone = || {
            let gone = !image.dropped && !image.layers_present;
            gone.then(|| format!("image {} in the store has lost layers", image.name()))
        };
        self.damage(image).or_else(gone)
    }

    /// In one line, what keeps an image of this name from being read, if the store has one.
    pub fn unreadable(&self, reference: &str) -> Result<Option<String>, StoreError> {
        let name = reference::normalise(reference).ok();
        let (_, damaged) = self.survey()?;
        Ok(name.and_then(|name| {
            let start = format!("image {name} in the store is damaged");
            damaged.into_iter().find(|line| line.starts_with(&start))
        }))
    }

    /// Moves a blob whose content is not what its name says out of the way, so that the next import brings
    /// it again. Does nothing while another process writes to the store: the next reader finds it again.
    pub(super) fn quarantine(&self, digest: &Digest) {
        let aside = self.set_aside(digest);
        let folder = self.quarantined();
        let Ok(Some(_lock)) = self.try_lock() else {
            return;
        };
        let moved =
            fs::create_dir_all(&folder).and_then(|()| fs::rename(self.blob_path(digest), aside));
        if moved.is_err() {
            // No room for a name: then it goes.
            let _ = fs::remove_file(self.blob_path(digest));
        }
    }

    fn survey(&self) -> Result<(Vec<StoredImage>, Vec<String>), StoreError> {
        let mut images: Vec<StoredImage> = Vec::new();
        let mut damaged = Vec::new();
        let mut place: BTreeMap<Digest, Option<usize>> = BTreeMap::new();
        for entry in self.read_index()? {
            let name = entry.annotation(REF_NAME).map(str::to_owned);
            if let Some(&known) = place.get(&entry.digest) {
                match (known, name) {
                    (Some(at), Some(name)) => images[at].references.push(name),
                    (None, Some(name)) => {
                        damaged.push(format!("image {name} in the store is damaged, too"));
                    }
                    (_, None) => {}
                }
                continue;
            }
            match self.image(&entry) {
                Ok(mut image) => {
                    image.references.extend(name);
                    place.insert(entry.digest, Some(images.len()));
                    images.push(image);
                }
                Err(error) => {
                    place.insert(entry.digest, None);
                    let name = name.unwrap_or_else(|| entry.digest.to_string());
                    damaged.push(format!(
                        "image {name} in the store is damaged ({})",
                        error.what()
                    ));
                }
            }
        }
        Ok((images, damaged))
    }

    /// The image that `reference` names: a name in any spelling, an image ID, or a manifest's digest
    /// (also behind a name and `@`).
    pub fn resolve(&self, reference: &str) -> Result<Option<StoredImage>, StoreError> {
        let digest = reference
            .rsplit_once('@')
            .map_or(reference, |(_, digest)| digest);
        let digest: Option<Digest> = digest.parse().ok();
        let name = reference::normalise(reference).ok();
        Ok(self.images()?.into_iter().find(|image| match digest {
            Some(digest) => image.config == digest || image.manifest == digest,
            None => name
                .as_ref()
                .is_some_and(|name| image.references.contains(name)),
        }))
    }

    /// An image's config, byte for byte as it came; the digest is checked.
    pub fn config_bytes(&self, image: &StoredImage) -> Result<Vec<u8>, StoreError> {
        self.blob_bytes(&image.config)
    }

    /// Where a blob is, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn temps(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn quarantined(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// Where a blob is that was set aside.
    pub(super) fn set_aside(&self, digest: &Digest) -> PathBuf {
        self.quarantined().join(digest.hex())
    }

    pub(super) fn records(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// Whether a blob is there in this size. Durability is what its name says; content was checked on its way in.
    pub(super) fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest))
            .is_ok_and(|meta| meta.is_file() && meta.size() == size)
    }

    /// A document among the blobs, its digest checked.
    pub(super) fn blob_bytes(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = read_small(&path)?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(StoreError::Corrupt {
                path,
                reason: "its content is not what its name says".to_owned(),
            })
        }
    }

    fn blob_document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, StoreError> {
        json::parse(&self.blob_bytes(digest)?).map_err(|reason| StoreError::Corrupt {
            path: self.blob_path(digest),
            reason,
        })
    }

    pub(super) fn read_index(&self) -> Result<Vec<Descriptor>, StoreError> {
        Ok(document::<Index>(&self.index_path())?.manifests)
    }

    /// Replaces `index.json`, durably. If nothing changes it is not written, and durable all the same.
    pub(super) fn write_index(&self, manifests: &[Descriptor]) -> Result<(), StoreError> {
        let path = self.index_path();
        let index = Index {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests: manifests.to_vec(),
        };
        let bytes = to_json(&index, &path)?;
        sync_folder(&self.blobs())?;
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            // Who wrote it may have been killed before this, and a sweep may be what comes next.
            return sync_folder(&self.root);
        }
        if bytes.len() as u64 > limits::DOCUMENT {
            return Err(StoreError::io("write", &path)(io::Error::other(
                "the store has too many images; prune it",
            )));
        }
        self.replace(&path, &bytes)
    }

    /// Replaces a small file: temp file, fsync, rename, fsync of the folder. The lock is held.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temp = self.temps().join("replace");
        // After a power cut it may be a second name of what it has replaced, which is not to be emptied.
        match fs::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &temp)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut file = File::create_new(&temp).map_err(StoreError::io("create", &temp))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temp, path))
            .map_err(|error| {
                // What is left of it is in nobody's way, and the next writer's first deed is to clear tmp/.
                let _ = fs::remove_file(&temp);
                StoreError::io("write", path)(error)
            })?;
        sync_folder(path.parent().unwrap_or(&self.root))
    }

    /// The image that an entry of the index stands for.
    pub(super) fn image(&self, entry: &Descriptor) -> Result<StoredImage, StoreError> {
        let path = self.blob_path(&entry.digest);
        let corrupt = |reason: &str| StoreError::Corrupt {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let manifest: Manifest = self.blob_document(&entry.digest)?;
        let config: Config = self.blob_document(&manifest.config.digest)?;
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        let content_sizes = entry
            .annotation(CONTENT_SIZES)
            .map(|text| {
                text.split(',')
                    .filter(|size| !size.is_empty())
                    .map(str::parse)
                    .collect::<Result<Vec<u64>, _>>()
            })
            .transpose()
            .ok()
            .flatten()
            .ok_or_else(|| corrupt("index.json does not say its layers' sizes"))?;
        if diff_ids.len() != manifest.layers.len() || content_sizes.len() != diff_ids.len() {
            return Err(corrupt(
                "its manifest, its config and index.json differ in the number of layers",
            ));
        }
        let stored: Vec<u64> = manifest
            .layers
            .iter()
            .filter(|layer| self.has_blob(&layer.digest, layer.size))
            .map(|layer| layer.size)
            .collect();
        Ok(StoredImage {
            references: Vec::new(),
            manifest: entry.digest,
            config: manifest.config.digest,
            content_size: content_sizes.iter().sum(),
            content_sizes,
            stored_size: entry.size + manifest.config.size + stored.iter().sum::<u64>(),
            layers_present: stored.len() == manifest.layers.len(),
            dropped: entry.annotation(DROPPED).is_some(),
            created: config.created,
            platform: [config.os, config.architecture, config.variant]
                .into_iter()
                .flatten()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("/"),
            layers: manifest.layers,
            diff_ids,
        })
    }
}

fn document<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    json::parse(&read_small(path)?).map_err(|reason| StoreError::Corrupt {
        path: path.to_owned(),
        reason,
    })
}

/// Serialises a value of our own.
pub(super) fn to_json<T: serde::Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::io("write", path)(error.into()))
}

/// Reads a whole file, which must be a small one.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(limits::DOCUMENT + 1).read_to_end(&mut bytes));
    read.map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > limits::DOCUMENT {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            reason: "it is too large".to_owned(),
        });
    }
    Ok(bytes)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", path))
}
