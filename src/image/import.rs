//! Import: an archive, a folder or a stream becomes images of the store, or nothing does.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::archive::Streamed;
use super::catalogue::{Catalogue, Guarded, Member, wrong_digest};
use super::commit::{self, ImportedImage};
use super::digest::Digest;
use super::error::{Fault, ImportError, shown};
use super::layer::{self, Budget, Packing};
use super::plan::{Machine, PlannedImage, PlannedLayer};
use super::store::{Store, StoredImage};
use super::transaction::Transaction;
use super::{docker_archive, limits, oci, reference, space};
use crate::spec::types::StorePolicy;

/// Where an archive comes from.
pub enum Source<'s> {
    /// A file (plain, gzip or zstd), a named pipe, or a folder that is an OCI image layout.
    Path(&'s Path),
    /// Bytes that come once, for example standard input.
    Stream {
        /// What messages call it.
        name: &'s str,
        /// The bytes.
        reader: &'s mut dyn Read,
    },
}

/// What an import should do.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Names the image, in place of the names in the archive, which must have just one image.
    pub reference: Option<String>,
    /// Architectures that this machine runs, in Go's words, the best first.
    pub architectures: Vec<String>,
    /// Most bytes that one image may unpack to; of a stream, most bytes in all.
    pub max_image_size: u64,
    /// How layers are kept.
    pub layers: Layers,
}

/// How layers are kept that do not come packed with zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Plain ones are packed, gzip ones stay byte for byte what they are.
    AsTheyCome,
    /// All are packed with zstd, and tighter: one content makes one blob, however it came.
    Zstd,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            reference: None,
            architectures: host_architectures(),
            max_image_size: StorePolicy::default().max_image_size,
            layers: Layers::AsTheyCome,
        }
    }
}

/// The architectures that this machine runs, in Go's words, its own first.
pub fn host_architectures() -> Vec<String> {
    let names: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["amd64", "386"],
        "x86" => &["386"],
        "aarch64" => &["arm64", "arm"],
        "loongarch64" => &["loong64"],
        "powerpc64" => &["ppc64le"],
        other => return vec![other.to_owned()],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// How far an import or a load stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'p> {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
    /// What is being worked on: a member's name or a layer's digest.
    pub what: &'p str,
}

/// A finished import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The images.
    pub images: Vec<ImportedImage>,
    /// Layers that the store did not have before.
    pub layers_added: usize,
    /// Layers that it had already.
    pub layers_known: usize,
    /// Bytes that the added layers take in the store.
    pub bytes_added: u64,
}

/// Imports every image of an archive. All of them are in the store afterwards, or none that was not there before.
pub fn import(
    store: &Store,
    source: Source<'_>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Imported, ImportError> {
    let reference = options
        .reference
        .as_deref()
        .map(reference::normalise)
        .transpose();
    let reference = reference.map_err(|error| ImportError::Usage(error.to_string()))?;
    let (name, opened) = open(source)?;
    let mut transaction = Transaction::begin(store)?;
    transaction.layers = options.layers;
    let worked =
        work(&mut transaction, opened, reference, options, progress).and_then(|(images, known)| {
            let (layers_added, bytes_added) = transaction.added();
            let (index, images) = commit::images(&mut transaction, images)?;
            Ok((
                index,
                Imported {
                    images,
                    layers_added,
                    layers_known: known,
                    bytes_added,
                },
            ))
        });
    let fault = match worked {
        Ok((index, imported)) => {
            transaction.commit(&index)?;
            return Ok(imported);
        }
        Err(fault) => fault,
    };
    let error = match fault {
        // What came through whole is of use to the next try.
        Fault::Medium(source) => {
            return Err(ImportError::Read {
                archive: name,
                source,
            });
        }
        Fault::Store(error) => return Err(error.into()),
        Fault::Refused(None, reason) => ImportError::Refused(format!("refused {name}: {reason}")),
        Fault::Refused(Some(member), reason) => ImportError::Refused(format!(
            "refused {name}: member {}: {reason}",
            shown(&member)
        )),
        Fault::Usage(reason) => ImportError::Usage(format!("{name} {reason}")),
        Fault::Full => space::no_space(store.path(), None),
        Fault::Space(needed) => space::no_space(store.path(), Some(needed)),
    };
    transaction.roll_back();
    Err(error)
}

enum Opened<'s> {
    Folder(PathBuf),
    File(File, u64),
    Stream(Box<dyn Read + 's>),
}

fn open(source: Source<'_>) -> Result<(String, Opened<'_>), ImportError> {
    let path = match source {
        Source::Stream { name, reader } => {
            return Ok((name.to_owned(), Opened::Stream(Box::new(reader))));
        }
        Source::Path(path) => path,
    };
    let name = shown(&path.to_string_lossy());
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ImportError::NotFound(path.to_owned()),
        _ => ImportError::Read {
            archive: path.display().to_string(),
            source,
        },
    };
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok((name, Opened::Folder(path.to_owned())));
    }
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let opened = if meta.is_file() {
        Opened::File(file, meta.len())
    } else {
        Opened::Stream(Box::new(file))
    };
    Ok((name, opened))
}

fn work(
    transaction: &mut Transaction<'_>,
    opened: Opened<'_>,
    reference: Option<String>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Vec<PlannedImage>, usize), Fault> {
    let mut streamed = true;
    let catalogue = match opened {
        Opened::Folder(folder) => {
            streamed = false;
            Catalogue::of_folder(folder)?
        }
        Opened::File(file, len) => {
            let mut start = [0; 6];
            let count = file
                .read_at(&mut start, 0)
                .map_err(|error| Fault::Medium(io::Error::other(error)))?;
            if sniff(&start[..count])? == Packing::Plain {
                streamed = false;
                Catalogue::of_file(file, len)?
            } else {
                let store = transaction.store.path();
                if space::free(store).is_some_and(|free| free < len) {
                    return Err(Fault::Space(len));
                }
                stream(transaction, Box::new(file), Some(len), options, progress)?
            }
        }
        Opened::Stream(reader) => stream(transaction, reader, None, options, progress)?,
    };
    let machine = Machine {
        architectures: &options.architectures,
    };
    let mut images = if !catalogue.is_folder() && catalogue.get("manifest.json").is_some() {
        docker_archive::plan(&catalogue, &machine)?
    } else if catalogue.get("index.json").is_some() {
        oci::plan(&catalogue, &machine)?
    } else {
        return Err(Fault::archive(
            "it has neither manifest.json nor index.json, so it is no image archive of docker save or of OCI",
        ));
    };
    name_images(&mut images, reference)?;

    let mut distinct: Vec<&PlannedLayer> = images.iter().flat_map(|image| &image.layers).collect();
    distinct.sort_by_key(|layer| layer.diff_id);
    distinct.dedup_by_key(|layer| layer.diff_id);
    let contents: BTreeSet<Digest> = distinct.iter().map(|layer| layer.diff_id).collect();
    if streamed {
        take_layers(transaction, &catalogue, &images, options, &mut |_, _| {})?;
        transaction.drop_unneeded(&contents);
    } else {
        let total = check_space(transaction, &catalogue, &distinct)?;
        let mut done = 0;
        take_layers(
            transaction,
            &catalogue,
            &images,
            options,
            &mut |bytes, what| {
                done += bytes;
                progress(Progress {
                    done,
                    total: Some(total),
                    what,
                });
            },
        )?;
    }
    let known = contents.len().saturating_sub(transaction.added().0);
    let before = transaction.store.images()?;
    for image in &mut images {
        let whole = |old: &StoredImage| old.config == image.config && old.layers_present;
        if before.iter().any(whole) {
            image.manifest = None;
        }
        keep_documents(transaction, &catalogue, image)?;
    }
    Ok((images, known))
}

/// Checks that the layers that the store lacks will fit; returns their bytes in the archive.
fn check_space(
    transaction: &Transaction<'_>,
    catalogue: &Catalogue,
    layers: &[&PlannedLayer],
) -> Result<u64, Fault> {
    let (mut needed, mut total) = (0u64, 0u64);
    for layer in layers {
        if transaction.layer(&layer.diff_id).is_some() {
            continue;
        }
        let size = catalogue.size(&layer.member).unwrap_or_default();
        total = total.saturating_add(size);
        // Plain layers shrink to a half at least, as a rule; if one does not, writing fails cleanly.
        let plain = catalogue.open(&layer.member)?.packing()? == Packing::Plain;
        needed = needed.saturating_add(if plain { size / 2 } else { size });
    }
    match space::free(transaction.store.path()) {
        Some(free) if free < needed => Err(Fault::Space(needed)),
        _ => Ok(total),
    }
}

/// Keeps an image's config, and its manifest if that is right for how the layers are stored.
fn keep_documents(
    transaction: &mut Transaction<'_>,
    catalogue: &Catalogue,
    image: &mut PlannedImage,
) -> Result<(), Fault> {
    let bytes = catalogue.document(&image.config_member)?;
    // Read again, so checked again: a file may change under us.
    if transaction.keep_bytes(&bytes)? != image.config {
        return Err(Fault::member(
            &image.config_member,
            "it changed while it was read",
        ));
    }
    let as_they_came = |layer: &PlannedLayer| {
        let stored = transaction
            .layer(&layer.diff_id)
            .map(|stored| stored.digest);
        layer.raw.is_some() && layer.raw == stored
    };
    let manifest = image.manifest.take();
    if let Some(manifest) = manifest.filter(|_| image.layers.iter().all(as_they_came)) {
        transaction.keep_bytes(&catalogue.blob(&manifest)?)?;
        image.manifest = Some(manifest);
    }
    Ok(())
}

/// What the first bytes say.
fn sniff(start: &[u8]) -> Result<Packing, Fault> {
    let other = match start {
        [] => return Err(Fault::archive("it is empty")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [b'P', b'K', 3, 4, ..] => "zip",
        _ => return Ok(Packing::of(start)),
    };
    Err(Fault::archive(format!(
        "it is packed with {other}; plain tar, gzip and zstd are accepted"
    )))
}

/// Goes through what comes once.
fn stream(
    transaction: &mut Transaction<'_>,
    reader: Box<dyn Read + '_>,
    total: Option<u64>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Catalogue, Fault> {
    let count = Rc::new(Cell::new(0));
    let mut reader = Guarded(Counted {
        inner: reader,
        count: Rc::clone(&count),
    });
    let mut start = Vec::new();
    (&mut reader)
        .take(6)
        .read_to_end(&mut start)
        .map_err(Fault::read)?;
    let packing = sniff(&start)?;
    let whole = io::BufReader::with_capacity(limits::BUFFER, io::Cursor::new(start).chain(reader));
    let unpacked = layer::reader(whole, packing, limits::ZSTD_WINDOW_LOG).map_err(Fault::read)?;
    let mut budget = Budget::new(options.max_image_size);
    if packing == Packing::Zstd {
        budget = budget.inside_zstd();
    }
    Catalogue::of_stream(transaction, Streamed(unpacked), &mut budget, &mut |what| {
        progress(Progress {
            done: count.get(),
            total,
            what,
        });
    })
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

fn name_images(images: &mut [PlannedImage], reference: Option<String>) -> Result<(), Fault> {
    match (reference, &mut *images) {
        (Some(reference), [image]) => image.references = vec![reference],
        (Some(_), several) => {
            return Err(Fault::Usage(format!(
                "has {} images; a name can be given only to an archive with one",
                several.len()
            )));
        }
        (None, _) => {}
    }
    if images.iter().any(|image| image.references.is_empty()) {
        return Err(Fault::Usage(
            "has an image without a full name (only an ID or a tag); give it one with --as NAME:TAG".to_owned(),
        ));
    }
    Ok(())
}

/// Brings every layer into the store that is not there, and checks all that is read.
fn take_layers(
    transaction: &mut Transaction<'_>,
    catalogue: &Catalogue,
    images: &[PlannedImage],
    options: &ImportOptions,
    moved: &mut dyn FnMut(u64, &str),
) -> Result<(), Fault> {
    for image in images {
        let mut budget = Budget::new(options.max_image_size);
        for layer in &image.layers {
            let name = &*layer.member;
            let wrong = |found: &Digest| {
                let wanted = layer.diff_id;
                Fault::member(
                    name,
                    format!(
                        "its content has the digest {found}, and the image's config says {wanted}"
                    ),
                )
            };
            let member = catalogue.get(name);
            if let Some(Member::Taken { taken, .. }) = &member
                && taken.diff_id != layer.diff_id
            {
                return Err(wrong(&taken.diff_id));
            }
            if let Some(known) = transaction.layer(&layer.diff_id) {
                budget.spend(name, known.content_size)?;
                continue;
            }
            let size = catalogue.size(name).unwrap_or_default();
            let mut reader = catalogue.open(name)?;
            let taken = layer::take(
                transaction,
                &mut reader,
                name,
                size,
                Some(&layer.diff_id),
                &mut budget,
                &mut |bytes| moved(bytes, name),
            )?;
            if layer.raw.is_some_and(|raw| raw != taken.raw) {
                return Err(Fault::member(name, wrong_digest(&taken.raw)));
            }
            if taken.diff_id != layer.diff_id {
                return Err(wrong(&taken.diff_id));
            }
        }
    }
    Ok(())
}
