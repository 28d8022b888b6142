//! What an archive holds, by name, wherever the bytes are.
//!
//! A plain tar file is indexed by seeking from header to header. What comes only once (a pipe, a
//! compressed file) is gone through in one pass: small members, which may be documents, are put
//! aside in one file of the store's `tmp/`; large ones can only be layers and go into the store at
//! once. A folder is looked into as needed. The readers of the formats see no difference.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;

use super::archive::{Kind, Medium, Seekable, Walker};
use super::digest::Digest;
use super::error::{Fault, MediumError};
use super::layer::{self, Budget, Packing, Taken};
use super::limits;
use super::transaction::{Temp, Transaction};

/// A member.
#[derive(Clone, Debug)]
pub(super) enum Member {
    Folder,
    /// A link to the member of this name.
    Link(String),
    /// Bytes that can be read, again and again.
    Here {
        size: u64,
        offset: u64,
    },
    /// A large member that has gone by and is a layer of the store.
    Taken {
        size: u64,
        taken: Taken,
    },
}

enum Backing {
    /// The archive itself.
    File(File),
    /// The small members of a stream.
    Spool(Temp),
    /// An OCI layout folder.
    Folder(PathBuf),
}

pub(super) struct Catalogue {
    members: BTreeMap<Rc<str>, Member>,
    backing: Backing,
    documents: Cell<u64>,
}

impl Catalogue {
    /// Indexes a plain tar file.
    pub fn of_file(file: File, len: u64) -> Result<Self, Fault> {
        let mut members = BTreeMap::new();
        let mut walker = Walker::new(Guarded(Seekable {
            file: &file,
            len,
            at: 0,
        }));
        while let Some(entry) = walker.next()? {
            let member = match entry.kind {
                Kind::Folder => Member::Folder,
                Kind::Link(target) => Member::Link(target),
                Kind::File(size) => Member::Here {
                    size,
                    offset: entry.offset,
                },
            };
            add(&mut members, entry.name, member)?;
        }
        Ok(Self::new(members, Backing::File(file)))
    }

    /// Goes through a tar stream once.
    pub fn of_stream(
        transaction: &mut Transaction<'_>,
        medium: impl Medium,
        budget: &mut Budget,
        moved: &mut dyn FnMut(&str),
    ) -> Result<Self, Fault> {
        let mut members = BTreeMap::new();
        let mut spool = transaction.temp()?;
        let mut spooled = 0;
        let mut walker = Walker::new(medium);
        while let Some(entry) = walker.next()? {
            let name = entry.name;
            let mut moved = |_| moved(&name);
            let member = match entry.kind {
                Kind::Folder => Member::Folder,
                Kind::Link(target) => Member::Link(target),
                Kind::File(size) if size <= limits::SMALL => {
                    budget.spend(&name, size)?;
                    put_aside(&mut walker, &mut spool, size)?;
                    moved(size);
                    let offset = spooled;
                    spooled += size;
                    Member::Here { size, offset }
                }
                Kind::File(size) => {
                    let taken = take(transaction, &mut walker, &name, size, budget, &mut moved)?;
                    if blob_name(&name).is_some_and(|digest| digest != taken.raw) {
                        return Err(Fault::member(&name, wrong_digest(&taken.raw)));
                    }
                    Member::Taken { size, taken }
                }
            };
            add(&mut members, name, member)?;
        }
        Ok(Self::new(members, Backing::Spool(spool)))
    }

    /// Looks into an OCI layout folder.
    pub fn of_folder(folder: PathBuf) -> Result<Self, Fault> {
        for part in ["blobs", "blobs/sha256"] {
            let meta = fs::symlink_metadata(folder.join(part));
            if !meta.is_ok_and(|meta| meta.is_dir()) {
                return Err(Fault::archive(format!(
                    "it has no folder {part}, so it is no OCI image layout"
                )));
            }
        }
        Ok(Self::new(BTreeMap::new(), Backing::Folder(folder)))
    }

    fn new(members: BTreeMap<Rc<str>, Member>, backing: Backing) -> Self {
        Self {
            members,
            backing,
            documents: Cell::new(0),
        }
    }

    /// Whether it is a folder, of which only what an index names is looked at.
    pub fn is_folder(&self) -> bool {
        matches!(self.backing, Backing::Folder(_))
    }

    /// Every member of an archive by name; none of a folder's.
    pub fn members(&self) -> &BTreeMap<Rc<str>, Member> {
        &self.members
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<Member> {
        if let Backing::Folder(folder) = &self.backing {
            let meta = fs::symlink_metadata(folder.join(name)).ok()?;
            return meta.is_file().then(|| Member::Here {
                size: meta.size(),
                offset: 0,
            });
        }
        self.members.get(name).cloned()
    }

    /// Size of a regular member; `None` if it is not there or is not one.
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Member::Here { size, .. } | Member::Taken { size, .. } => Some(size),
            Member::Folder | Member::Link(_) => None,
        }
    }

    /// Opens a member that can be read.
    pub fn open(&self, name: &str) -> Result<Extent<'_>, Fault> {
        let missing = || Fault::member(name, "it is missing");
        match (self.get(name).ok_or_else(missing)?, &self.backing) {
            (
                Member::Here { size, offset },
                Backing::File(file) | Backing::Spool(Temp { file, .. }),
            ) => Ok(Extent::new(Bytes::Borrowed(file), offset, size)),
            (Member::Here { size, .. }, Backing::Folder(folder)) => {
                let file = File::options()
                    .read(true)
                    .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
                    .open(folder.join(name))
                    .map_err(|error| Fault::Medium(io::Error::other(MediumError(error))))?;
                Ok(Extent::new(Bytes::Owned(file), 0, size))
            }
            (Member::Taken { .. }, _) => Err(Fault::member(name, too_large_document())),
            (Member::Folder | Member::Link(_), _) => Err(missing()),
        }
    }

    /// Reads a document whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let size = self
            .size(name)
            .ok_or_else(|| Fault::member(name, "it is missing"))?;
        if size > limits::DOCUMENT {
            return Err(Fault::member(name, too_large_document()));
        }
        let total = self.documents.get() + size;
        self.documents.set(total);
        if total > limits::DOCUMENTS {
            return Err(Fault::archive("its JSON documents are absurdly large"));
        }
        // The size is bounded above.
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.open(name)?
            .read_exact(&mut bytes)
            .map_err(Fault::read)?;
        Ok(bytes)
    }

    /// Reads a document among the blobs; its digest is checked.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Fault> {
        let name = blob_path(digest);
        let bytes = self.document(&name)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(Fault::member(&name, wrong_digest(&found)))
        }
    }
}

/// Where a blob is in an OCI layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that a blob's name states.
pub(super) fn blob_name(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix("blobs/sha256/")?)
}

/// Why a blob is refused whose content is something else.
pub(super) fn wrong_digest(found: &Digest) -> String {
    format!("its content has the digest {found}")
}

fn too_large_document() -> String {
    format!(
        "it should be a JSON document and is larger than {} bytes",
        limits::DOCUMENT
    )
}

fn add(members: &mut BTreeMap<Rc<str>, Member>, name: String, member: Member) -> Result<(), Fault> {
    if name.is_empty() {
        return Ok(());
    }
    let folder = matches!(member, Member::Folder);
    let name: Rc<str> = name.into();
    match members.insert(Rc::clone(&name), member) {
        // A folder carries nothing, so that it comes twice is nobody's trick.
        Some(Member::Folder) if folder => Ok(()),
        Some(_) => Err(Fault::member(&name, "it comes twice")),
        None => Ok(()),
    }
}

fn put_aside(reader: &mut impl Read, spool: &mut Temp, size: u64) -> Result<(), Fault> {
    let mut buffer = vec![0; limits::BUFFER];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        reader
            .read_exact(&mut buffer[..want])
            .map_err(Fault::read)?;
        spool
            .file
            .write_all(&buffer[..want])
            .map_err(Fault::write("write", &spool.path))?;
        left -= want as u64;
    }
    Ok(())
}

/// A large member of a stream: digested only, if its name says that the store has it.
fn take(
    transaction: &mut Transaction<'_>,
    reader: &mut impl Read,
    name: &str,
    size: u64,
    budget: &mut Budget,
    moved: &mut dyn FnMut(u64),
) -> Result<Taken, Fault> {
    let stated = blob_name(name).or_else(|| Digest::from_hex(name.strip_suffix(".tar")?));
    let known = stated.and_then(|digest| {
        let plain = transaction
            .layer(&digest)
            .filter(|layer| layer.content_size == size);
        let packed = || {
            transaction
                .layer_by_blob(&digest)
                .filter(|layer| layer.size == size)
        };
        plain.or_else(packed).map(|layer| (digest, layer.clone()))
    });
    let Some((stated, known)) = known else {
        return layer::take(transaction, reader, name, size, None, budget, moved);
    };
    budget.spend(name, known.content_size)?;
    let raw = layer::measure(reader, size, moved)?;
    if raw == stated {
        Ok(Taken {
            raw,
            diff_id: known.diff_id,
        })
    } else {
        Err(Fault::member(name, wrong_digest(&raw)))
    }
}

enum Bytes<'c> {
    Borrowed(&'c File),
    Owned(File),
}

/// A reader of one member.
pub(super) struct Extent<'c> {
    bytes: Bytes<'c>,
    at: u64,
    left: u64,
}

impl<'c> Extent<'c> {
    fn new(bytes: Bytes<'c>, at: u64, left: u64) -> Self {
        Self { bytes, at, left }
    }

    /// How the member's bytes are packed.
    pub fn packing(&self) -> Result<Packing, Fault> {
        let mut start = [0; 4];
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(start.len());
        let file = self.file();
        file.read_exact_at(&mut start[..want], self.at)
            .map_err(|error| Fault::read(guard(error)))?;
        Ok(Packing::of(&start[..want]))
    }

    fn file(&self) -> &File {
        match &self.bytes {
            Bytes::Borrowed(file) => file,
            Bytes::Owned(file) => file,
        }
    }
}

impl Read for Extent<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let count = self
            .file()
            .read_at(&mut buf[..want], self.at)
            .map_err(guard)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Marks a medium's own errors, so that no decoder above it can be blamed for them.
pub(super) struct Guarded<R>(pub R);

fn guard(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => error,
        kind => io::Error::new(kind, MediumError(error)),
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(guard)
    }
}

impl<M: Medium> Medium for Guarded<M> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.0.skip(count).map_err(guard)
    }
}
