//! Releases on disk: a folder for each, with all that says what runs.
//!
//! ```text
//! releases/ID/workload.toml      the workload file, byte for byte
//! releases/ID/release.json       what it is and where it comes from
//! releases/ID/pre-switch         a bundle's hook, if it has one
//! releases/ID/manifest           a bundle's signed manifest, byte for byte
//! releases/ID/manifest.minisig   its signature
//! releases/ID/image-HEX          a bundle's OCI image manifests: from the manifest to the image IDs
//! releases/.new-ID               what is being written
//! releases/.gone-ID              what is being removed
//! incoming/ID/...                the same, of a bundle, as the process that parses it has left it
//! ```
//!
//! Whoever parses a bundle writes to `incoming` only, so that nobody who takes it over reaches a release.
//! What lies there is another's word: [`Releases::adopt`] verifies it and writes it anew.
//!
//! What holds, also through a power cut: a folder gets its id for a name only after every file in it
//! is on disk, and loses it before the first file is removed. So what has an id for a name is whole,
//! or was changed by other hands, and then it is reported and never used. Writers take turns by a
//! lock on the folder; readers take none.
//!
//! The module must never decide what runs, and never reach an engine or a network.

mod adopt;
mod error;
mod files;
mod folder;
mod record;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bundle::Taken;
use crate::core::update::ReleaseId;
use crate::image::normalise;
use crate::paths::Paths;

pub use adopt::Adopted;
pub use error::{Damaged, ReleaseError};
pub use record::{Origin, Release};

use files::{Folder, Lock};
use folder::Content;
use record::Record;

/// The workload file.
const WORKLOAD: &str = "workload.toml";
/// What the release is.
const RECORD: &str = "release.json";
/// The hook.
const HOOK: &str = "pre-switch";
/// The signed manifest.
const MANIFEST: &str = "manifest";
/// Its signature.
const SIGNATURE: &str = "manifest.minisig";
/// What an OCI image manifest's name begins with; the digest's digits follow.
const IMAGE: &str = "image-";
/// What the name of a folder begins with that is being written.
const NEW: &str = ".new-";
/// What the name of a folder begins with that is being removed.
const GONE: &str = ".gone-";
/// Largest record in bytes; one with as many images as a bundle may have is far below.
const RECORD_SIZE: u64 = 64 << 10;

/// The releases of a node.
#[derive(Clone, Debug)]
pub struct Releases {
    folder: PathBuf,
    /// The folder is there, and its name is durable.
    prepared: OnceLock<()>,
}

impl Releases {
    /// Those of the node with these paths. Nothing is touched.
    pub fn new(paths: &Paths) -> Self {
        Self {
            folder: paths.releases(),
            prepared: OnceLock::new(),
        }
    }

    /// Those that lie in the drop folder, where whoever parses a bundle may write: the same folders, written
    /// in the same way, and nothing of them is believed before [`Releases::adopt`] has looked at it.
    pub fn incoming(paths: &Paths) -> Self {
        Self {
            folder: paths.incoming(),
            prepared: OnceLock::new(),
        }
    }

    /// Makes the folder for them all, durably, if it is not there. Once is enough: whoever shuts itself in
    /// afterwards cannot open the folder above any more.
    pub fn prepare(&self) -> Result<(), ReleaseError> {
        if self.prepared.get().is_none() {
            files::make_folder(&self.folder)?;
            self.prepared.get_or_init(|| ());
        }
        Ok(())
    }

    /// A release's folder, whether it is there or not.
    pub fn folder(&self, id: &ReleaseId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// A release's workload file, whether it is there or not.
    pub fn workload_file(&self, id: &ReleaseId) -> PathBuf {
        self.folder(id).join(WORKLOAD)
    }

    /// A release's pre-switch hook, if it has one.
    pub fn hook(&self, id: &ReleaseId) -> Option<PathBuf> {
        let path = self.folder(id).join(HOOK);
        let found = fs::symlink_metadata(&path);
        found.is_ok_and(|found| found.is_file()).then_some(path)
    }

    /// Every release, by id, and every folder with a release's name that holds none. What has no such
    /// name is nobody's and left out.
    ///
    /// # Errors
    ///
    /// The folder is there and cannot be read.
    pub fn list(&self) -> io::Result<Vec<Result<Release, Damaged>>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry?.file_name().to_str().and_then(ReleaseId::new));
        }
        ids.sort_unstable();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self.read(&id) {
                Ok(release) => found.push(Ok(release)),
                // Removed in the meantime.
                Err(ReleaseError::NotFound(_)) => {}
                Err(ReleaseError::Damaged(damaged)) => found.push(Err(damaged)),
                Err(error) => found.push(Err(Damaged {
                    path: self.folder(&id),
                    id,
                    reason: error.to_string(),
                })),
            }
        }
        Ok(found)
    }

    /// A release that is whole: every file is there, and the content is what the id says. Whether a
    /// signature holds is another question: [`Releases::verify`].
    pub fn read(&self, id: &ReleaseId) -> Result<Release, ReleaseError> {
        Ok(self.record(id)?.release)
    }

    fn record(&self, id: &ReleaseId) -> Result<Record, ReleaseError> {
        self.open(id)?.record()
    }

    /// Makes a release of the node's own workload file: `bytes`, with the images that it names, by
    /// reference (in any spelling) the image's ID, or `None` where only the engine may know it. One
    /// that is there already, of whatever origin, is returned as it is.
    pub fn add_local(
        &self,
        name: &str,
        bytes: &[u8],
        images: BTreeMap<String, Option<String>>,
    ) -> Result<Release, ReleaseError> {
        self.prepare()?;
        let mut named = BTreeMap::new();
        for (name, id) in images {
            named.insert(normalise(&name).unwrap_or(name), id);
        }
        let images = named;
        let release = Release {
            id: ReleaseId::of(bytes, &images, None),
            workload: name.to_owned(),
            origin: Origin::Local,
            images,
            made: now(),
        };
        self.put(release, &[(WORKLOAD.to_owned(), bytes)])
    }

    /// Makes a release of a bundle that has been verified, and whose images are in the store. One that
    /// is there with the same content becomes this bundle's, unless the same key has signed it again
    /// since, with a higher sequence: then it is returned as it is.
    ///
    /// An importer is shut in by now, and what is above the folder for them all is out of its reach: it
    /// has called [`Releases::prepare`] before.
    pub fn add_bundle(&self, taken: &Taken) -> Result<Release, ReleaseError> {
        if !self.folder.is_dir() {
            self.prepare()?;
        }
        let mut images = BTreeMap::new();
        for (name, id) in &taken.images {
            images.insert(name.clone(), Some(id.to_string()));
        }
        self.put_bundle(&Content {
            key: taken.key,
            manifest: &taken.manifest,
            manifest_bytes: &taken.manifest_bytes,
            signature: &taken.signature,
            name: &taken.workload_name,
            workload: &taken.workload,
            hook: taken.pre_switch.as_deref(),
            image_manifests: &taken.image_manifests,
            images,
        })
    }

    fn put_bundle(&self, content: &Content<'_>) -> Result<Release, ReleaseError> {
        let release = Release {
            id: content.id(),
            workload: content.name.to_owned(),
            origin: Origin::Bundle {
                version: content.manifest.release.clone(),
                sequence: content.manifest.sequence,
                key: content.key.to_string(),
            },
            images: content.images.clone(),
            made: now(),
        };
        let mut files = vec![
            (WORKLOAD.to_owned(), content.workload),
            (MANIFEST.to_owned(), content.manifest_bytes),
            (SIGNATURE.to_owned(), content.signature),
        ];
        files.extend(content.hook.map(|bytes| (HOOK.to_owned(), bytes)));
        for (digest, bytes) in content.image_manifests {
            files.push((format!("{IMAGE}{}", digest.hex()), bytes.as_slice()));
        }
        self.put(release, &files)
    }

    fn put(
        &self,
        mut release: Release,
        contents: &[(String, &[u8])],
    ) -> Result<Release, ReleaseError> {
        let _lock = Lock::take(&self.folder)?;
        let id = release.id.clone();
        let place = self.folder(&id);
        let there = match self.record(&id) {
            Ok(there) if self.stands_for(&there.release, &release, contents) => {
                // Who put it there may have been killed before this.
                files::sync(&self.folder)?;
                return Ok(there.release);
            }
            Ok(there) => {
                release.made = there.release.made;
                There::Whole
            }
            Err(ReleaseError::NotFound(_)) => There::Nothing,
            Err(ReleaseError::Damaged(_)) => There::Damaged,
            Err(error) => return Err(error),
        };
        let record = Record::new(release);
        let text = record.text();
        let new = self.aside(NEW, &id);
        files::remove(&new)?;
        let written = files::write_folder(&new, contents, (RECORD, &text), HOOK)
            .and_then(|()| self.swap(&id, &new, &place, there));
        if let Err(error) = written {
            // What is left of it is in nobody's way, and the next writer clears it.
            let _ = files::remove(&new);
            return Err(error);
        }
        Ok(record.release)
    }

    /// Whether the one that is there need not be replaced.
    fn stands_for(&self, there: &Release, new: &Release, contents: &[(String, &[u8])]) -> bool {
        let newer = match (&there.origin, &new.origin) {
            (_, Origin::Local) => return true,
            (Origin::Local, Origin::Bundle { .. }) => return false,
            (
                Origin::Bundle { sequence, key, .. },
                Origin::Bundle {
                    sequence: new_sequence,
                    key: new_key,
                    ..
                },
            ) => key == new_key && sequence > new_sequence,
        };
        let folder = Folder::open(&self.folder(&new.id));
        let same = |(name, bytes): &(String, &[u8])| {
            let folder = folder.as_ref().ok();
            folder
                .and_then(|folder| folder.read(name, bytes.len() as u64).ok())
                .is_some_and(|found| found == *bytes)
        };
        newer || contents.iter().all(same)
    }

    /// Gives a folder that is all on disk its name.
    fn swap(
        &self,
        id: &ReleaseId,
        new: &Path,
        place: &Path,
        there: There,
    ) -> Result<(), ReleaseError> {
        let old = match there {
            There::Nothing => {
                files::rename(new, place)?;
                None
            }
            There::Whole => {
                files::exchange(new, place)?;
                Some(new.to_owned())
            }
            There::Damaged => {
                let gone = self.aside(GONE, id);
                files::remove(&gone)?;
                files::rename(place, &gone)?;
                files::rename(new, place)?;
                Some(gone)
            }
        };
        files::sync(&self.folder)?;
        match old {
            Some(old) => files::remove(&old),
            None => Ok(()),
        }
    }

    fn aside(&self, mark: &str, id: &ReleaseId) -> PathBuf {
        self.folder.join(format!("{mark}{id}"))
    }

    /// Writes down image IDs that have become known, by reference (in any spelling): only where there
    /// was none. The id stays, since it was made without them. Returns the release as it is then;
    /// nothing is written if nothing is new.
    pub fn fill(
        &self,
        id: &ReleaseId,
        images: &BTreeMap<String, String>,
    ) -> Result<Release, ReleaseError> {
        // Without it there may be no folder to lock either.
        self.read(id)?;
        let _lock = Lock::take(&self.folder)?;
        let mut record = self.record(id)?;
        let mut changed = false;
        for (name, image) in images {
            let name = normalise(name).unwrap_or_else(|_| name.clone());
            changed |= record.fill(&name, image);
        }
        if changed {
            files::replace(&self.folder(id), RECORD, &record.text())?;
        } else {
            // Who wrote it down may have been killed before this.
            files::sync(&self.folder(id))?;
        }
        Ok(record.release)
    }

    /// Removes a release; what is named by its images stays in the store. One that is not there, or is
    /// damaged, is no error.
    pub fn remove(&self, id: &ReleaseId) -> Result<(), ReleaseError> {
        let place = self.folder(id);
        if fs::symlink_metadata(&place).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // Who removed it may have been killed before this.
            return match files::sync(&self.folder) {
                Err(_) if !self.folder.exists() => Ok(()),
                synced => synced,
            };
        }
        let _lock = Lock::take(&self.folder)?;
        let gone = self.aside(GONE, id);
        files::remove(&gone)?;
        files::rename(&place, &gone)?;
        files::sync(&self.folder)?;
        files::remove(&gone)
    }

    /// Clears away what an interrupted writer has left.
    pub fn sweep(&self) -> Result<(), ReleaseError> {
        let unread = |error| ReleaseError::io("read", &self.folder)(error);
        if !self.folder.exists() {
            return Ok(());
        }
        let _lock = Lock::take(&self.folder)?;
        for entry in fs::read_dir(&self.folder).map_err(unread)? {
            let name = entry.map_err(unread)?.file_name();
            let ours = name.to_str().is_some_and(|name| {
                let id = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE));
                id.and_then(ReleaseId::new).is_some()
            });
            if ours {
                files::remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// What is in a release's place.
#[derive(Clone, Copy)]
enum There {
    Nothing,
    Whole,
    Damaged,
}

/// The wall clock, seconds since 1970; for people only.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
