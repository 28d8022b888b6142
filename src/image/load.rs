//! From the store to an engine: a `docker load` stream made on the fly.
//!
//! Layers whose chain the engine has already are named but left out; Docker does not look for them
//! (an engine that refuses gets the full stream). The stream gives no names: the caller tags the
//! image after it has compared the ID. Every layer is unpacked and digested on its way, so a layer
//! that has rotted on disk ends the stream before its end and never becomes an image.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};

use super::digest::{Digest, Hasher};
use super::documents::SavedImage;
use super::error::StoreError;
use super::import::Progress;
use super::layer::{self, Packing};
use super::limits;
use super::store::{Store, StoredImage, to_json};

const BLOCK: u64 = 512;

/// Bytes of the stream that [`write_load_stream`] writes.
pub fn load_stream_size(
    store: &Store,
    image: &StoredImage,
    skip: usize,
) -> Result<u64, StoreError> {
    let member = |size: u64| BLOCK + size.div_ceil(BLOCK) * BLOCK;
    let config = store.config_bytes(image)?.len() as u64;
    let manifest = manifest(store, image)?.len() as u64;
    let layers: u64 = files(image, skip)
        .map(|at| member(image.content_sizes[at]))
        .sum();
    Ok(member(config) + layers + member(manifest) + 2 * BLOCK)
}

/// Writes an image as `docker load` takes it, without the files of its first `skip` layers. Returns the bytes written.
///
/// On an error the stream is cut off in the middle, and an engine that has been told so, or sees no
/// end mark, takes nothing of it. A damaged layer's blob is set aside, so that the next import
/// brings it again.
pub fn write_load_stream(
    store: &Store,
    image: &StoredImage,
    skip: usize,
    out: &mut impl Write,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<u64, StoreError> {
    let total = load_stream_size(store, image, skip)?;
    let mut out = Counted {
        inner: out,
        count: 0,
    };
    let config = store.config_bytes(image)?;
    small(&mut out, &format!("{}.json", image.config.hex()), &config)?;
    for at in files(image, skip) {
        send_layer(store, image, at, &mut out, total, progress)?;
    }
    small(&mut out, "manifest.json", &manifest(store, image)?)?;
    out.write_all(&[0; 2 * 512])
        .and_then(|()| out.flush())
        .map_err(StoreError::Send)?;
    Ok(out.count)
}

/// Reads all of an image, and sets aside whatever of its layers is damaged, not only the first.
///
/// # Errors
///
/// The first that was met.
pub fn verify_image(
    store: &Store,
    image: &StoredImage,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), StoreError> {
    store.config_bytes(image)?;
    let total = load_stream_size(store, image, 0)?;
    let mut out = Counted {
        inner: &mut io::sink(),
        count: 0,
    };
    let mut first = None;
    for at in files(image, 0) {
        match send_layer(store, image, at, &mut out, total, progress) {
            Ok(()) => {}
            Err(error @ (StoreError::LayerDamaged { .. } | StoreError::LayerMissing { .. })) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    first.map_or(Ok(()), Err)
}

/// The layers whose files are sent: each content once, none of the first `skip`.
fn files(image: &StoredImage, skip: usize) -> impl Iterator<Item = usize> {
    let mut sent = BTreeSet::new();
    (skip..image.diff_ids.len()).filter(move |at| sent.insert(image.diff_ids[*at]))
}

fn manifest(store: &Store, image: &StoredImage) -> Result<Vec<u8>, StoreError> {
    let saved = SavedImage {
        config: format!("{}.json", image.config.hex()),
        repo_tags: None,
        layers: Some(image.diff_ids.iter().map(layer_file).collect()),
    };
    to_json(&[saved], store.path())
}

fn layer_file(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn send_layer(
    store: &Store,
    image: &StoredImage,
    at: usize,
    out: &mut Counted<impl Write>,
    total: u64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), StoreError> {
    let (diff_id, size) = (image.diff_ids[at], image.content_sizes[at]);
    let what = diff_id.to_string();
    let path = store.blob_path(&image.layers[at].digest);
    let mut file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::LayerMissing {
            image: image.name(),
            layer: what.clone(),
        },
        _ => StoreError::io("read", &path)(error),
    })?;
    let damaged = |reason: String| {
        store.quarantine(&image.layers[at].digest);
        StoreError::LayerDamaged {
            image: image.name(),
            blob: image.layers[at].digest.to_string(),
            reason,
        }
    };
    let failed = |error: io::Error| {
        // An errno is the disk's; anything else is a decoder's.
        if error.raw_os_error().is_some() {
            StoreError::io("read", &path)(error)
        } else {
            damaged(error.to_string())
        }
    };

    let mut start = [0; 4];
    file.read_exact(&mut start).map_err(failed)?;
    let packed = io::Cursor::new(start).chain(file);
    let mut reader =
        layer::reader(packed, Packing::of(&start), limits::ZSTD_WINDOW_LOG).map_err(failed)?;
    header(out, &layer_file(&diff_id), size)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; limits::BUFFER];
    let mut left = size;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        left = left
            .checked_sub(count as u64)
            .ok_or_else(|| damaged("it is longer than it was".to_owned()))?;
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(StoreError::Send)?;
        progress(Progress {
            done: out.count,
            total: Some(total),
            what: &what,
        });
    }
    if hasher.finish() != (diff_id, size) {
        return Err(damaged("its content has changed".to_owned()));
    }
    pad(out, size)
}

fn small(out: &mut Counted<impl Write>, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    header(out, name, bytes.len() as u64)?;
    out.write_all(bytes).map_err(StoreError::Send)?;
    pad(out, bytes.len() as u64)
}

fn header(out: &mut Counted<impl Write>, name: &str, size: u64) -> Result<(), StoreError> {
    // GNU's form has room for sizes above 8 GiB.
    let mut header = tar::Header::new_gnu();
    header.set_path(name).map_err(StoreError::Send)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    out.write_all(header.as_bytes()).map_err(StoreError::Send)
}

fn pad(out: &mut Counted<impl Write>, size: u64) -> Result<(), StoreError> {
    // Less than a block.
    let count = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default();
    out.write_all(&[0; 512][..count]).map_err(StoreError::Send)
}

struct Counted<'w, W> {
    inner: &'w mut W,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buf)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
