//! Layers: from an archive into the store, and out of it again.
//!
//! A layer that comes uncompressed is compressed while it streams; one that comes as gzip or zstd is
//! kept as it is and unpacked on the side, because its content's digest is what an image's config
//! names. Nothing here looks inside the content: that is the engine's to judge.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hasher};
use super::documents::{LAYER_GZIP, LAYER_ZSTD};
use super::error::{Fault, window_reason};
use super::limits;
use super::pipe::{Incoming, Pipe};
use super::transaction::{LayerRecord, Transaction};

/// How a layer's bytes are packed, by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// What `start`, the first bytes of a file, says.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A layer that has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Digest of the bytes as they came.
    pub raw: Digest,
    /// Digest of its content: its `diff_id`.
    pub diff_id: Digest,
}

/// Content bytes that may still come before the image is too large.
pub(super) struct Budget {
    pub left: u64,
    pub limit: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Takes `bytes` off, or refuses.
    pub fn spend(&mut self, member: &str, bytes: u64) -> Result<(), Fault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::member(member, too_large(self.limit))),
        }
    }
}

fn too_large(limit: u64) -> String {
    format!(
        "it unpacks to more than the {limit} bytes that [store] max_image_size in node.toml allows"
    )
}

/// Reads a layer of `size` bytes and keeps it in the store, if it is not there already.
///
/// `expected` is its content's digest where the caller knows it; nothing is kept if it is another.
pub(super) fn take(
    transaction: &mut Transaction<'_>,
    reader: &mut dyn Read,
    name: &str,
    size: u64,
    expected: Option<&Digest>,
    budget: &mut Budget,
    moved: &mut dyn FnMut(u64),
) -> Result<Taken, Fault> {
    let temp = transaction.temp()?;
    let file = temp
        .file
        .try_clone()
        .map_err(Fault::write("write", &temp.path))?;
    let mut start = vec![0; usize::try_from(size.min(4)).unwrap_or(4)];
    reader.read_exact(&mut start).map_err(Fault::read)?;
    let packing = Packing::of(&start);
    let mut reader = (&start[..]).chain(reader);

    let (raw, record) = if packing == Packing::Plain {
        budget.spend(name, size)?;
        let path = temp.path.clone();
        let pipe = start_pipe(&temp.path, move |incoming| {
            compress(incoming, file, &path, size)
        })?;
        let (raw, packed) = feed(pipe, &mut reader, size, None, moved)?;
        let (digest, packed_size) = packed?;
        let record = LayerRecord {
            diff_id: raw,
            digest,
            size: packed_size,
            media_type: LAYER_ZSTD.to_owned(),
            content_size: size,
        };
        (raw, record)
    } else {
        let left = budget.left;
        let pipe = start_pipe(&temp.path, move |incoming| unpack(incoming, packing, left))?;
        let (raw, unpacked) = feed(
            pipe,
            &mut reader,
            size,
            Some((&temp.file, &temp.path)),
            moved,
        )?;
        let (diff_id, content_size) = unpacked.map_err(|reason| match reason {
            Unpack::TooLarge => Fault::member(name, too_large(budget.limit)),
            Unpack::Broken(reason) => Fault::member(name, reason),
        })?;
        budget.spend(name, content_size)?;
        let media_type = if packing == Packing::Gzip {
            LAYER_GZIP
        } else {
            LAYER_ZSTD
        };
        let record = LayerRecord {
            diff_id,
            digest: raw,
            size,
            media_type: media_type.to_owned(),
            content_size,
        };
        (raw, record)
    };

    let diff_id = record.diff_id;
    if expected.is_none_or(|expected| *expected == diff_id) && transaction.layer(&diff_id).is_none()
    {
        transaction.keep(&temp, &record.digest, record.size)?;
        transaction.record(record)?;
    }
    Ok(Taken { raw, diff_id })
}

/// Reads `size` bytes only to digest them.
pub(super) fn measure(
    reader: &mut dyn Read,
    size: u64,
    moved: &mut dyn FnMut(u64),
) -> Result<Digest, Fault> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; limits::BUFFER];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        reader
            .read_exact(&mut buffer[..want])
            .map_err(Fault::read)?;
        hasher.update(&buffer[..want]);
        left -= want as u64;
        moved(want as u64);
    }
    Ok(hasher.finish().0)
}

fn start_pipe<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(Incoming) -> T + Send + 'static,
) -> Result<Pipe<T>, Fault> {
    Pipe::start(work).map_err(Fault::write("start a thread to write", path))
}

/// Sends `size` bytes of `reader` into the pipe, digesting them and writing them to `copy`.
fn feed<T: Send + 'static>(
    mut pipe: Pipe<T>,
    reader: &mut dyn Read,
    size: u64,
    copy: Option<(&File, &PathBuf)>,
    moved: &mut dyn FnMut(u64),
) -> Result<(Digest, T), Fault> {
    let mut hasher = Hasher::new();
    let mut left = size;
    let mut failed = None;
    while left > 0 {
        let mut buffer = pipe.buffer();
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        buffer.truncate(want);
        if let Err(error) = reader.read_exact(&mut buffer) {
            failed = Some(Fault::read(error));
            break;
        }
        hasher.update(&buffer);
        if let Some((mut file, path)) = copy
            && let Err(error) = file.write_all(&buffer)
        {
            failed = Some(Fault::write("write", path)(error));
            break;
        }
        if !pipe.send(buffer) {
            break;
        }
        left -= want as u64;
        moved(want as u64);
    }
    // The thread is always waited for: nobody may write to the file behind our back.
    let made = pipe.finish();
    match failed {
        Some(fault) => Err(fault),
        None => Ok((hasher.finish().0, made)),
    }
}

/// Digests what is written through it.
struct Digesting<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buf)?;
        self.hasher.update(&buf[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn compress(
    mut incoming: Incoming,
    file: File,
    path: &Path,
    size: u64,
) -> Result<(Digest, u64), Fault> {
    let sink = Digesting {
        inner: file,
        hasher: Hasher::new(),
    };
    let packed = (|| {
        let mut encoder = zstd::stream::write::Encoder::new(sink, limits::ZSTD_LEVEL)?;
        encoder.set_pledged_src_size(Some(size))?;
        loop {
            let chunk = incoming.chunk();
            if chunk.is_empty() {
                return encoder.finish();
            }
            encoder.write_all(chunk)?;
            let count = chunk.len();
            incoming.used(count);
        }
    })();
    packed
        .map(|sink| sink.hasher.finish())
        .map_err(Fault::write("write", path))
}

enum Unpack {
    TooLarge,
    Broken(String),
}

fn unpack(incoming: Incoming, packing: Packing, left: u64) -> Result<(Digest, u64), Unpack> {
    let mut reader =
        reader(incoming, packing).map_err(|error| Unpack::Broken(broken(packing, &error)))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; limits::BUFFER];
    let mut total = 0u64;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => {
                total += count as u64;
                if total > left {
                    return Err(Unpack::TooLarge);
                }
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unpack::Broken(broken(packing, &error))),
        }
    }
}

fn broken(packing: Packing, error: &io::Error) -> String {
    let text = error.to_string();
    let what = match packing {
        Packing::Plain => "plain",
        Packing::Gzip => "gzip",
        Packing::Zstd => "zstd",
    };
    if text.contains("too much memory") {
        window_reason()
    } else if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("incomplete frame") {
        format!("its {what} data is truncated")
    } else {
        format!("its {what} data is corrupt ({text})")
    }
}

/// The content of packed bytes. A zstd window above [`limits::ZSTD_WINDOW_LOG`] is an error when it is met.
pub(super) fn reader<'r, R: Read + 'r>(
    packed: R,
    packing: Packing,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
            io::BufReader::with_capacity(64 << 10, packed),
        )),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(packed)?;
            decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}
