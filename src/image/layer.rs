//! Layers: from an archive into the store, and out of it again.
//!
//! A layer that comes uncompressed is compressed while it streams; one that comes as gzip or zstd is
//! kept as it is and unpacked on the side, because its content's digest is what an image's config
//! names. Nothing here looks inside the content: that is the engine's to judge.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::digest::{Digest, Hasher};
use super::documents::{LAYER_GZIP, LAYER_ZSTD};
use super::error::{Fault, window_reason};
use super::import::Layers;
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

/// What may still come: content bytes before the image is too large, and how large a window it may take.
pub(super) struct Budget {
    left: u64,
    limit: u64,
    window_log: u32,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self {
            left: limit,
            limit,
            window_log: limits::ZSTD_WINDOW_LOG,
        }
    }

    /// Of layers inside a zstd archive.
    pub fn inside_zstd(self) -> Self {
        Self {
            window_log: limits::ZSTD_INNER_WINDOW_LOG,
            ..self
        }
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
        let layers = transaction.layers;
        let pledge = match layers {
            Layers::AsTheyCome => Some(size),
            // What was gzip cannot pledge its size, and one content is to make one blob.
            Layers::Zstd => None,
        };
        let pipe = start_pipe(&temp.path, move |incoming| {
            compress(incoming, file, &path, layers, pledge)
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
    } else if let (Packing::Gzip, Layers::Zstd) = (packing, transaction.layers) {
        let (left, window_log) = (budget.left, budget.window_log);
        let path = temp.path.clone();
        let pipe = start_pipe(&temp.path, move |incoming| {
            repack(incoming, file, &path, left, window_log)
        })?;
        let (raw, packed) = feed(pipe, &mut reader, size, None, moved)?;
        let packed = packed.map_err(|reason| match reason {
            Unpack::TooLarge => Fault::member(name, too_large(budget.limit)),
            Unpack::Broken(reason) => Fault::member(name, reason),
        })?;
        let ((diff_id, content_size), (digest, size)) = packed?;
        budget.spend(name, content_size)?;
        let record = LayerRecord {
            diff_id,
            digest,
            size,
            media_type: LAYER_ZSTD.to_owned(),
            content_size,
        };
        (raw, record)
    } else {
        let (left, window_log) = (budget.left, budget.window_log);
        let pipe = start_pipe(&temp.path, move |incoming| {
            unpack(incoming, packing, left, window_log, &mut |_| Ok(()))
        })?;
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
    layers: Layers,
    pledge: Option<u64>,
) -> Result<(Digest, u64), Fault> {
    let sink = Digesting {
        inner: file,
        hasher: Hasher::new(),
    };
    let packed = (|| {
        let mut encoder = encoder(sink, layers)?;
        encoder.set_pledged_src_size(pledge)?;
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

/// Packs to `sink`: the same bytes for the same content in every build.
fn encoder<W: Write>(sink: W, layers: Layers) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(sink, limits::ZSTD_LEVEL)?;
    match layers {
        Layers::AsTheyCome => {}
        Layers::Zstd => {
            encoder.set_parameter(CParameter::WindowLog(limits::ZSTD_TIGHT_WINDOW_LOG))?;
            encoder.set_parameter(CParameter::HashLog(limits::ZSTD_TIGHT_TABLE_LOG))?;
            encoder.set_parameter(CParameter::ChainLog(limits::ZSTD_TIGHT_TABLE_LOG))?;
        }
    }
    Ok(encoder)
}

/// Content digest and size, then the same of the packed bytes.
type Repacked = ((Digest, u64), (Digest, u64));

/// From gzip to zstd. Writing may fail by itself, inside of what came of reading.
fn repack(
    incoming: Incoming,
    file: File,
    path: &Path,
    left: u64,
    window_log: u32,
) -> Result<Result<Repacked, Fault>, Unpack> {
    let sink = Digesting {
        inner: file,
        hasher: Hasher::new(),
    };
    let failed = Fault::write("write", path);
    let mut encoder = match encoder(sink, Layers::Zstd) {
        Ok(encoder) => encoder,
        Err(error) => return Ok(Err(failed(error))),
    };
    let mut written = Ok(());
    let content = unpack(incoming, Packing::Gzip, left, window_log, &mut |bytes| {
        written = encoder.write_all(bytes);
        // Enough for the reader to stop; the reason is kept.
        written.as_ref().map(|&()| ()).map_err(|_| ())
    });
    if let Err(error) = written {
        return Ok(Err(failed(error)));
    }
    let content = content?;
    Ok(match encoder.finish() {
        Ok(sink) => Ok((content, sink.hasher.finish())),
        Err(error) => Err(failed(error)),
    })
}

/// Why packed bytes cannot be unpacked.
pub(super) enum Unpack {
    TooLarge,
    Broken(String),
}

/// Unpacks to `out`, at most `left` bytes; the content's digest and size.
pub(super) fn unpack(
    packed: impl Read,
    packing: Packing,
    left: u64,
    window_log: u32,
    out: &mut dyn FnMut(&[u8]) -> Result<(), ()>,
) -> Result<(Digest, u64), Unpack> {
    let broken = |error: &io::Error| Unpack::Broken(broken(packing, error, window_log));
    let mut reader = reader(packed, packing, window_log).map_err(|error| broken(&error))?;
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
                if out(&buffer[..count]).is_err() {
                    return Err(Unpack::Broken("it cannot be written".to_owned()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn broken(packing: Packing, error: &io::Error, window_log: u32) -> String {
    let text = error.to_string();
    let what = match packing {
        Packing::Plain => "plain",
        Packing::Gzip => "gzip",
        Packing::Zstd => "zstd",
    };
    if text.contains("too much memory") {
        window_reason(window_log)
    } else if error.kind() == io::ErrorKind::UnexpectedEof || text.contains("incomplete frame") {
        format!("its {what} data is truncated")
    } else {
        format!("its {what} data is corrupt ({text})")
    }
}

/// The content of packed bytes. A zstd window above `window_log` is an error when it is met.
pub(super) fn reader<'r, R: Read + 'r>(
    packed: R,
    packing: Packing,
    window_log: u32,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
            io::BufReader::with_capacity(64 << 10, packed),
        )),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(packed)?;
            decoder.window_log_max(window_log)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use zstd::zstd_safe::Strategy;

    use super::*;

    /// Lines with much in common, from numbers that look random.
    fn content(size: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut content = Vec::with_capacity(size + 32);
        while content.len() < size {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let _ = writeln!(content, "usr/lib/{:x}/{:x}", state >> 60, state >> 48);
        }
        content.truncate(size);
        content
    }

    fn packed(
        layers: Layers,
        content: &[u8],
        pledge: Option<u64>,
        strategy: Option<Strategy>,
    ) -> Vec<u8> {
        let mut encoder = encoder(Vec::new(), layers).expect("an encoder");
        if let Some(strategy) = strategy {
            let parameter = CParameter::Strategy(strategy);
            encoder.set_parameter(parameter).expect("a strategy");
        }
        encoder.set_pledged_src_size(pledge).expect("a size");
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    /// The shipped binary has no other strategies, and takes these for them.
    #[test]
    fn packed_the_same_in_every_build() {
        for size in [
            0,
            1000,
            16 << 10,
            20_000,
            128 << 10,
            200_000,
            256 << 10,
            3 << 20,
        ] {
            let content = content(size);
            let size = u64::try_from(size).ok();
            for (layers, pledge) in [(Layers::AsTheyCome, size), (Layers::Zstd, None)] {
                let usual = packed(layers, &content, pledge, None);
                let dfast = packed(layers, &content, pledge, Some(Strategy::ZSTD_dfast));
                assert!(usual == dfast, "{layers:?}, {size:?} bytes");
            }
        }
        let content = content(3 << 20);
        assert!(
            packed(Layers::Zstd, &content, None, None).len()
                <= packed(Layers::AsTheyCome, &content, None, None).len()
        );
    }
}
