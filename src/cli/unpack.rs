//! `monopod unpack`: the half of `monopod import` that reads, shut in.
//!
//! It has given up every way to reach the engine, the network and the files of others before it
//! reads the first byte of what a stranger wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, stdin};
use std::path::{Path, PathBuf};

use clap::Args;

use super::bundle::{import_exit, release_line, told};
use super::import::{Unpacked, UnpackedImage, UnpackedRelease};
use super::progress::Bar;
use super::{complain, print, table};
use crate::bundle::{Machine, TakeOptions, Taken, Trust, is_bundle, take};
use crate::core::update::ReleaseId;
use crate::daemon;
use crate::exit::Exit;
use crate::image::{ImportOptions, Imported, Source, Store, import};
use crate::owner::{self, Keep};
use crate::paths::Paths;
use crate::release::Releases;
use crate::sandbox;

mod preload;

/// Arguments of `monopod unpack`.
#[derive(Debug, Args)]
pub struct Unpack {
    source: Option<PathBuf>,
    #[arg(long = "as")]
    reference: Option<String>,
    #[arg(long)]
    max_image_size: u64,
    /// Nothing but a bundle is taken.
    #[arg(long)]
    bundle: bool,
    /// One may be older than what was accepted.
    #[arg(long)]
    allow_downgrade: bool,
}

/// Reads what there is into the store.
pub fn run(paths: &Paths, arguments: &Unpack) -> Exit {
    // Read now: the store's owner may not be let at the keys, and once shut in, this process gets
    // neither at them nor at what the machine says of itself.
    let trust = Trust::of_folder(&paths.keys());
    let machine = Machine::here(paths);
    let accepted = if arguments.allow_downgrade {
        BTreeMap::new()
    } else {
        accepted(paths)
    };
    // What the preload folder holds has to be readable by the daemon as well.
    let named = arguments
        .source
        .as_deref()
        .filter(|source| *source != Path::new("-"));
    // Without Landlock, who may read every file could be made to. Then root only opens the file;
    // a layout folder has to be readable by the store's owner.
    let (keep, opened) = match named {
        Some(_) if sandbox::landlock() => (Keep::Reading, None),
        Some(source) => (Keep::Nothing, open_file(source)),
        None => (Keep::Nothing, None),
    };
    if let Err(text) = owner::become_owner(paths, keep) {
        complain(text);
        return Exit::Failed;
    }
    // Without whoever asked for it, the work is for nobody.
    owner::end_with_parent();
    let store = match Store::open(&paths.store()) {
        Ok(store) => store,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let incoming = Releases::incoming(paths);
    if let Err(error) = incoming.prepare() {
        complain(error);
        return Exit::Failed;
    }
    let preload = paths.preload();
    let archive = match arguments.source.as_deref() {
        None => Some(preload.as_path()),
        Some(source) if source == Path::new("-") => None,
        Some(source) => Some(source),
    };
    let options = ImportOptions {
        reference: arguments.reference.clone(),
        max_image_size: arguments.max_image_size,
        ..ImportOptions::default()
    };
    let door = Door {
        store: &store,
        incoming,
        trust,
        machine,
        accepted,
        options,
        only_bundles: arguments.bundle,
    };
    let ours = [&*paths.store(), &paths.incoming()];
    let read: Vec<&Path> = archive.into_iter().collect();
    if let Err(text) = sandbox::enter(&ours, &read) {
        complain(format_args!("archives are not read without it: {text}"));
        return Exit::Failed;
    }
    let done = match arguments.source.as_deref() {
        None => door
            .preload(&preload)
            .map_err(|error| (import_exit(&error), error.to_string())),
        Some(source) => door.unpack(source, opened),
    };
    match done {
        Ok(unpacked) => {
            if let Ok(text) = serde_json::to_string(&unpacked) {
                print(text);
            }
            Exit::Done
        }
        Err((exit, text)) => {
            complain(text);
            exit
        }
    }
}

/// What the node has accepted so far. Where that cannot be known, the daemon compares, which does so in any case.
fn accepted(paths: &Paths) -> BTreeMap<String, u64> {
    match daemon::peek(paths) {
        Ok(Some(durable)) => durable.book.sequences,
        Ok(None) | Err(_) => BTreeMap::new(),
    }
}

/// A file; what is none, or cannot be opened, is looked at later, by who reads it.
fn open_file(path: &Path) -> Option<File> {
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    File::open(path).ok().filter(|_| is_file)
}

/// What comes in by hand, and what it is judged by.
struct Door<'d> {
    store: &'d Store,
    options: ImportOptions,
    only_bundles: bool,
    // What follows is of no matter to an archive.
    incoming: Releases,
    trust: io::Result<Trust>,
    machine: Machine,
    /// The highest accepted sequence of each key.
    accepted: BTreeMap<String, u64>,
}

type Judged = Result<Unpacked, (Exit, String)>;

impl Door<'_> {
    /// Bundle or archive: the first bytes tell.
    fn unpack(&self, source: &Path, opened: Option<File>) -> Judged {
        if source == Path::new("-") {
            return self.stream(Path::new("standard input"), &mut stdin().lock());
        }
        if let Some(mut file) = opened {
            return self.stream(source, &mut file);
        }
        let Some(mut file) = File::open(source).ok().filter(|file| {
            let meta = file.metadata();
            meta.is_ok_and(|meta| !meta.is_dir())
        }) else {
            return self.archive(source, Source::Path(source));
        };
        if file.metadata().is_ok_and(|meta| meta.is_file()) {
            return match start(&mut file) {
                Ok(start) if is_bundle(&start) => {
                    self.bundle(source, &mut BufReader::new(start.chain(file)))
                }
                // Of any other, or one that cannot be read, the importer says what it is.
                Ok(_) | Err(_) => self.archive(source, Source::Path(source)),
            };
        }
        self.stream(source, &mut file)
    }

    /// What comes only once.
    fn stream(&self, name: &Path, reader: &mut dyn Read) -> Judged {
        let start = start(reader).map_err(|error| {
            let text = format!("cannot read {}: {error}", name.display());
            (Exit::Failed, text)
        })?;
        let bundle = is_bundle(&start);
        let mut reader = start.chain(reader);
        if bundle {
            return self.bundle(name, &mut BufReader::new(reader));
        }
        self.archive(
            name,
            Source::Stream {
                name: &name.to_string_lossy(),
                reader: &mut reader,
            },
        )
    }

    fn archive(&self, name: &Path, source: Source<'_>) -> Judged {
        // Of what cannot be read at all, the importer says so.
        if self.only_bundles && name.try_exists().unwrap_or(true) {
            let text = format!("refused {}: it is no bundle", name.display());
            return Err((Exit::Refused, text));
        }
        let mut bar = Bar::new();
        let imported = import(self.store, source, &self.options, &mut |progress| {
            bar.show(progress);
        });
        drop(bar);
        match imported {
            Ok(imported) => {
                let mut unpacked = Unpacked::default();
                unpacked.add(imported);
                Ok(unpacked)
            }
            Err(error) => Err((import_exit(&error), error.to_string())),
        }
    }

    fn take_options(&self) -> TakeOptions {
        TakeOptions {
            machine: self.machine.clone(),
            max_image_size: self.options.max_image_size,
            accepted: self.accepted.clone(),
        }
    }

    fn bundle(&self, name: &Path, reader: &mut impl Read) -> Judged {
        if self.options.reference.is_some() {
            let text = "a bundle names its images itself, so --as does not go with it";
            return Err((Exit::Usage, text.to_owned()));
        }
        let trust = self.trust.as_ref().map_err(|error| {
            let text = format!("cannot read the keys in keys.d: {error}");
            (Exit::Failed, text)
        })?;
        for fault in trust.faults() {
            complain(format_args!("key not used: {fault}"));
        }
        let options = self.take_options();
        let mut bar = Bar::new();
        let taken = take(reader, self.store, trust, &options, &mut |progress| {
            bar.show(progress);
        });
        drop(bar);
        let taken = taken.map_err(|error| told(name, &error))?;
        let release = self
            .incoming
            .add_bundle(&taken)
            .map_err(|error| (Exit::Failed, error.to_string()))?;
        let mut unpacked = Unpacked {
            release: Some(UnpackedRelease::new(release.id, &taken)),
            ..Unpacked::default()
        };
        unpacked.add(taken.imported);
        // In the store they have no names: these are the release's own.
        for image in &mut unpacked.images {
            let named = taken.images.iter();
            image.references = named
                .filter(|(_, id)| id.to_string() == image.id)
                .map(|(name, _)| name.clone())
                .collect();
        }
        Ok(unpacked)
    }
}

/// The first bytes, enough to tell a bundle by.
fn start(reader: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    Read::take(reader, 16).read_to_end(&mut start)?;
    Ok(start)
}

impl UnpackedRelease {
    fn new(id: ReleaseId, taken: &Taken) -> Self {
        Self {
            id,
            version: taken.manifest.release.clone(),
            sequence: taken.manifest.sequence,
            key: taken.key.to_string(),
            line: release_line(&taken.manifest),
        }
    }
}

impl Unpacked {
    fn add(&mut self, imported: Imported) {
        self.layers_added += imported.layers_added;
        self.layers_known += imported.layers_known;
        self.bytes_added += imported.bytes_added;
        self.images.extend(imported.images.into_iter().map(|image| {
            UnpackedImage {
                references: image.references,
                id: format!("sha256:{}", image.config.hex()),
                known: image.known,
                replaced: image
                    .replaced
                    .iter()
                    .map(|(name, old)| format!("{name} was {} until now", table::short(&old.hex())))
                    .collect(),
            }
        }));
    }
}
