//! The preload folder: archives and bundles that are imported when the daemon starts, each of them once.
//!
//! A small record remembers what each file came to. A file is known again by size and time
//! of change, and if only the time differs, by the digest of the whole file; a known one is not
//! read. A refused one is not tried again until it changes. The record belongs inside the store
//! ([`Store::preload_record`]): who loses the store has nothing to remember either. A known archive
//! whose image has since been replaced or pruned stays known: a start must never bring back an
//! older image under a name that has moved on. But one whose image the store still has under its
//! name, damaged or without a layer that it should have, is read once more: it mends it. So does a
//! bundle, which moves no name.
//!
//! Which bundles are read, and how, is for somebody else to say: a bundle is not parsed here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::documents::REF_NAME;
use super::error::{ImportError, StoreError};
use super::import::{ImportOptions, Imported, Progress, Source, import};
use super::limits;
use super::store::{Store, StoredImage, to_json};

/// What going through the preload folder came to.
#[derive(Debug, Default)]
pub struct Preloaded {
    /// Files that were imported now.
    pub imported: Vec<(PathBuf, Imported)>,
    /// Files that were refused now, with the one line that says why.
    pub refused: Vec<(PathBuf, String)>,
    /// Files that could not be imported for another reason; they are tried again next time.
    pub failed: Vec<(PathBuf, ImportError)>,
    /// Files that were known and not read.
    pub known: usize,
    /// Of those, the ones that were refused before, with the reason.
    pub still_refused: Vec<(PathBuf, String)>,
}

#[derive(Serialize, Deserialize, Default)]
struct Record {
    version: u32,
    archives: BTreeMap<String, Known>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    /// Time of change: seconds and nanoseconds.
    changed: (i64, i64),
    /// Of the whole file; of `index.json` for a folder.
    digest: Digest,
    /// Why it was refused, if it was.
    refused: Option<String>,
    /// The names that it brought, and what each stood for then: a manifest's digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: BTreeMap<String, Digest>,
    /// The manifests of images that it brought without a name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    nameless: BTreeSet<Digest>,
}

const VERSION: u32 = 1;

/// What a bundle's name ends with.
const BUNDLE: &str = ".bundle";

/// What takes the bundles of a folder, and remembers what came of them.
pub type TakeBundles<'t> = dyn FnMut(&mut Memory<'_>, Vec<Preload>) -> Result<(), StoreError> + 't;

/// Imports every archive of `folder` that is not known yet, and hands its bundles, in the order of their
/// names, to `bundles`. A folder that does not exist is empty.
///
/// A file that fails does not stop the others. `record` is replaced only if something changed.
pub fn preload(
    store: &Store,
    folder: &Path,
    record: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
    bundles: &mut TakeBundles<'_>,
) -> Result<Preloaded, StoreError> {
    let mut memory = Memory {
        store,
        remembered: read(record),
        seen: BTreeMap::new(),
        result: Preloaded::default(),
    };
    let (found, archives): (Vec<_>, Vec<_>) = files(folder)?.into_iter().partition(is_bundle);
    for archive in archives {
        memory.take(archive, &mut |path| {
            import(store, Source::Path(path), options, progress)
        })?;
    }
    bundles(&mut memory, found)?;
    let fresh = Record {
        version: VERSION,
        archives: memory.seen,
    };
    let bytes = to_json(&fresh, record)?;
    if !fs::read(record).is_ok_and(|old| old == bytes) {
        let _lock = store.lock()?;
        store.replace(record, &bytes)?;
    }
    Ok(memory.result)
}

/// A file, or a layout folder, of the preload folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Preload {
    name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What is remembered of the preload folder's files while they are gone through.
pub struct Memory<'s> {
    store: &'s Store,
    remembered: Record,
    seen: BTreeMap<String, Known>,
    result: Preloaded,
}

impl Memory<'_> {
    /// Reads one, unless it is known; what came of it is remembered. Whether it was taken, now or before.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub fn take(
        &mut self,
        file: Preload,
        read: &mut dyn FnMut(&Path) -> Result<Imported, ImportError>,
    ) -> Result<bool, StoreError> {
        let Preload { name, path } = file;
        // Each file may mend what the next one would be read for.
        let wanting = Wanting::of(self.store)?;
        let known = self.remembered.archives.remove(&name);
        let others = &self.remembered.archives;
        let (known, good) = match one(&path, known.as_ref(), others, &wanting, read) {
            Ok(Outcome::Known(known)) => {
                self.result.known += 1;
                if let Some(reason) = &known.refused {
                    self.result.still_refused.push((path, reason.clone()));
                }
                let good = known.refused.is_none();
                (known, good)
            }
            Ok(Outcome::New(known, Ok(imported))) => {
                self.result.imported.push((path, imported));
                (known, true)
            }
            Ok(Outcome::New(known, Err(reason))) => {
                self.result.refused.push((path, reason));
                (known, false)
            }
            Err(error) => {
                self.result.failed.push((path, error));
                return Ok(false);
            }
        };
        self.seen.insert(name, known);
        Ok(good)
    }

    /// Whether it was taken before, as it is.
    pub fn was_taken(&self, file: &Preload) -> bool {
        let known = self.remembered.archives.get(&file.name);
        let meta = fs::metadata(&file.path).ok();
        known.is_some_and(|known| {
            known.refused.is_none() && meta.is_some_and(|meta| known.is_this(&meta))
        })
    }

    /// Remembers of one that is not read what was known of it.
    pub fn keep(&mut self, file: Preload) {
        if let Some(known) = self.remembered.archives.remove(&file.name) {
            self.seen.insert(file.name, known);
        }
    }

    /// One that cannot be read.
    pub fn fail(&mut self, file: Preload, error: ImportError) {
        self.result.failed.push((file.path, error));
    }
}

impl Known {
    /// By size and time of change.
    fn is_this(&self, meta: &fs::Metadata) -> bool {
        (self.size, self.changed) == (meta.size(), (meta.mtime(), meta.mtime_nsec()))
    }
}

/// What a file of the preload folder has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreloadState {
    /// New or changed: the next start reads it.
    New,
    /// Imported, as it is.
    Imported,
    /// Refused, as it is, for this reason.
    Refused(String),
}

/// What [`preload`] would find, by the files' sizes and times alone. Changes nothing.
pub fn preload_survey(
    folder: &Path,
    record: &Path,
) -> Result<Vec<(PathBuf, PreloadState)>, StoreError> {
    let remembered = read(record);
    let found = files(folder)?;
    Ok(found
        .into_iter()
        .map(|Preload { name, path }| {
            let meta = fs::metadata(witness(&path)).ok();
            let known = remembered
                .archives
                .get(&name)
                .filter(|known| meta.is_some_and(|meta| known.is_this(&meta)));
            let state = match known {
                None => PreloadState::New,
                Some(Known { refused: None, .. }) => PreloadState::Imported,
                Some(Known {
                    refused: Some(why), ..
                }) => PreloadState::Refused(why.clone()),
            };
            (path, state)
        })
        .collect())
}

/// What an archive is known by: a layout's index names everything else by digest.
fn witness(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("index.json")
    } else {
        path.to_owned()
    }
}

enum Outcome {
    Known(Known),
    New(Known, Result<Imported, String>),
}

fn one(
    path: &Path,
    known: Option<&Known>,
    others: &BTreeMap<String, Known>,
    wanting: &Wanting,
    read: &mut dyn FnMut(&Path) -> Result<Imported, ImportError>,
) -> Result<Outcome, ImportError> {
    let failed = |source: io::Error| ImportError::Read {
        archive: path.display().to_string(),
        source,
    };
    let mut file = File::open(witness(path)).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let of_use = |known: &&Known| wanting.mended_by(known);
    if let Some(known) = known.filter(|known| known.is_this(&meta))
        && !of_use(&known)
    {
        return Ok(Outcome::Known(known.clone()));
    }
    let (size, changed) = (meta.size(), (meta.mtime(), meta.mtime_nsec()));
    let (digest, _) = digest(&mut file).map_err(failed)?;
    let same = |known: &&Known| known.size == size && known.digest == digest && !of_use(known);
    if let Some(known) = known.filter(same).or_else(|| others.values().find(same)) {
        return Ok(Outcome::Known(Known {
            changed,
            ..known.clone()
        }));
    }
    let mut now = Known {
        size,
        changed,
        digest,
        refused: None,
        names: BTreeMap::new(),
        nameless: BTreeSet::new(),
    };
    match read(path) {
        Ok(imported) => {
            for image in &imported.images {
                let names = image.references.iter().cloned();
                now.names.extend(names.map(|name| (name, image.manifest)));
                if image.references.is_empty() {
                    now.nameless.insert(image.manifest);
                }
            }
            Ok(Outcome::New(now, Ok(imported)))
        }
        Err(ImportError::Refused(reason) | ImportError::Usage(reason)) => {
            now.refused = Some(reason.clone());
            Ok(Outcome::New(now, Err(reason)))
        }
        Err(error) => Err(error),
    }
}

/// What the store lacks of its images.
struct Wanting {
    /// What each name stands for: a manifest's digest.
    names: BTreeMap<String, Digest>,
    /// The manifests of images that are damaged, or lack a layer that was not dropped on purpose.
    manifests: BTreeSet<Digest>,
}

impl Wanting {
    fn of(store: &Store) -> Result<Self, StoreError> {
        let index = store.read_index()?;
        let whole = |image: StoredImage| image.layers_present || image.dropped;
        Ok(Self {
            manifests: index
                .iter()
                .filter(|entry| !store.image(entry).is_ok_and(whole))
                .map(|entry| entry.digest)
                .collect(),
            names: index
                .iter()
                .filter_map(|entry| Some((entry.annotation(REF_NAME)?.to_owned(), entry.digest)))
                .collect(),
        })
    }

    /// Whether a file brings something of it again, and moves no name by that.
    fn mended_by(&self, known: &Known) -> bool {
        let mut brought = known.names.iter();
        let mut images = known.names.values().chain(&known.nameless);
        images.any(|one| self.manifests.contains(one))
            && brought.all(|(name, manifest)| self.names.get(name) == Some(manifest))
    }
}

fn digest(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; limits::BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Forgotten rather than failed: without a record each archive is read once more, and most layers are known.
fn read(path: &Path) -> Record {
    fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
        .filter(|record| record.version == VERSION)
        .unwrap_or_default()
}

/// Whether its name is a bundle's.
fn is_bundle(file: &Preload) -> bool {
    file.name.ends_with(BUNDLE) && file.path.is_file()
}

/// The archives and bundles in a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<Preload>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let file = [".tar", ".tar.gz", ".tgz", ".tar.zst", BUNDLE]
            .iter()
            .any(|ending| name.ends_with(ending));
        if file && path.is_file() || path.join("index.json").is_file() {
            let name = name.to_owned();
            found.push(Preload { name, path });
        }
    }
    found.sort_unstable();
    Ok(found)
}
