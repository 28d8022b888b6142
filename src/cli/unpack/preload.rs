//! The preload folder: archives as they come, and of each key's bundles the newest that can be taken, as
//! from a stick.
//!
//! What a bundle's front says is judged each time: the keys may be others by now, and so may what was
//! accepted. What is wrong further in is remembered until the file changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;

use super::super::bundle::release_line;
use super::super::import::{Unpacked, UnpackedRelease};
use super::super::{complain, hint};
use super::Door;
use crate::bundle::{BundleError, KeyId, Opened, Refusal, Trust, open, take_file};
use crate::image::{ImportError, Imported, Memory, Preload, StoreError, preload};

/// A bundle of which the manifest has held.
struct Front {
    file: Preload,
    opened: Opened,
}

/// What came of the bundles, beside what is remembered.
#[derive(Default)]
struct Bundles {
    releases: Vec<UnpackedRelease>,
    /// Those that are refused for now.
    refused: usize,
}

impl Door<'_> {
    pub(super) fn preload(&self, folder: &Path) -> Result<Unpacked, ImportError> {
        let mut bundles = Bundles::default();
        let preloaded = preload(
            self.store,
            folder,
            &self.store.preload_record(),
            &self.options,
            &mut |_| {},
            &mut |memory, found| self.bundles(memory, found, &mut bundles),
        )?;
        let mut unpacked = Unpacked::default();
        for (path, imported) in preloaded.imported {
            complain(format_args!("{} imported", path.display()));
            unpacked.add(imported);
        }
        for (path, reason) in &preloaded.refused {
            complain(format_args!(
                "{}: {reason}; it is not read again until it changes",
                path.display()
            ));
        }
        for (path, reason) in &preloaded.still_refused {
            complain(format_args!(
                "{} is still refused: {reason}",
                path.display()
            ));
        }
        for (path, error) in &preloaded.failed {
            complain(format_args!("{}: {error}", path.display()));
            if let ImportError::Read { source, .. } = error
                && source.kind() == ErrorKind::PermissionDenied
            {
                hint(format_args!(
                    "monopod reads it as its own user: chmod -R a+rX {}",
                    path.display()
                ));
            }
        }
        unpacked.lacking = preloaded.refused.len()
            + preloaded.still_refused.len()
            + preloaded.failed.len()
            + bundles.refused;
        unpacked.releases = bundles.releases;
        Ok(unpacked)
    }

    fn bundles(
        &self,
        memory: &mut Memory<'_>,
        found: Vec<Preload>,
        came: &mut Bundles,
    ) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let trust = match &self.trust {
            Ok(trust) => trust,
            Err(error) => {
                complain(format_args!("cannot read the keys in keys.d: {error}"));
                came.refused += found.len();
                for file in found {
                    memory.keep(file);
                }
                return Ok(());
            }
        };
        for fault in trust.faults() {
            complain(format_args!("key not used: {fault}"));
        }
        let mut fronts = Vec::new();
        for file in found {
            match self.front(&file.path, trust) {
                Ok(opened) => fronts.push(Front { file, opened }),
                // What was taken when it held is nobody's concern any more.
                Err(BundleError::Refused(_)) if memory.was_taken(&file) => memory.keep(file),
                Err(BundleError::Refused(refusal)) => {
                    complain(format_args!("refused {}: {refusal}", file.path.display()));
                    // One folder may serve different machines.
                    came.refused += usize::from(!matches!(
                        refusal,
                        Refusal::Architecture { .. } | Refusal::Board { .. }
                    ));
                }
                Err(error) => {
                    let error = failed(&file.path, error);
                    memory.fail(file, error);
                }
            }
        }
        // The sort keeps the order of their names otherwise.
        fronts.sort_by_key(|front| std::cmp::Reverse(front.opened.manifest.sequence));
        let mut done: BTreeMap<KeyId, String> = BTreeMap::new();
        for Front { file, opened } in fronts {
            let newer = done.get(&opened.key);
            if let Some(newer) = newer.filter(|_| !memory.was_taken(&file)) {
                complain(format_args!(
                    "{} is left out: {}, is not newer than {newer}",
                    file.path.display(),
                    release_line(&opened.manifest)
                ));
                memory.keep(file);
                continue;
            }
            let name = file.path.display().to_string();
            let taken = memory.take(file, &mut |path| {
                let (imported, release) = self.take(path, &opened, trust)?;
                came.releases.push(release);
                Ok(imported)
            })?;
            if taken {
                done.entry(opened.key).or_insert(name);
            }
        }
        Ok(())
    }

    /// What a bundle says of itself, if that holds here and now.
    fn front(&self, path: &Path, trust: &Trust) -> Result<Opened, BundleError> {
        let file = File::open(path).map_err(BundleError::Read)?;
        let opened = open(&mut BufReader::new(file), trust, Some(&self.machine))?;
        let sequence = opened.manifest.sequence;
        match self.accepted.get(&opened.key.to_string()) {
            Some(&accepted) if sequence < accepted => Err(Refusal::Downgrade {
                key: opened.key,
                sequence,
                accepted,
            }
            .into()),
            Some(_) | None => Ok(opened),
        }
    }

    fn take(
        &self,
        path: &Path,
        opened: &Opened,
        trust: &Trust,
    ) -> Result<(Imported, UnpackedRelease), ImportError> {
        let file = File::open(path).map_err(|error| failed(path, BundleError::Read(error)))?;
        let options = self.take_options();
        let taken = take_file(&file, self.store, trust, &options, &mut |_| {})
            .map_err(|error| failed(path, error))?;
        if taken.digest != opened.digest {
            let error = io::Error::other("it changed while it was read");
            return Err(failed(path, BundleError::Read(error)));
        }
        let release = self
            .incoming
            .add_bundle(&taken)
            .map_err(|error| failed(path, BundleError::Read(io::Error::other(error))))?;
        let release = UnpackedRelease::new(release.id, &taken);
        Ok((taken.imported, release))
    }
}

/// In the words of an archive's import; what is refused is remembered.
fn failed(path: &Path, error: BundleError) -> ImportError {
    let unread = |source| ImportError::Read {
        archive: path.display().to_string(),
        source,
    };
    match error {
        // The one that it follows may come yet.
        BundleError::Refused(refusal @ Refusal::Absent(_)) => {
            unread(io::Error::other(refusal.to_string()))
        }
        BundleError::Refused(refusal) => ImportError::Refused(refusal.to_string()),
        BundleError::Read(error) => unread(error),
        BundleError::Import(error) => error,
        error @ (BundleError::Write { .. } | BundleError::Usage(_)) => {
            ImportError::Refused(error.to_string())
        }
    }
}
