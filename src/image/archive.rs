//! The rules for reading a tar archive that a stranger made.
//!
//! Headers are taken apart by the `tar` crate, but the walk over the blocks is our own: it must see
//! what comes raw (links, sparse maps, extension headers) and whether the end mark is there. Nothing
//! is ever unpacked to a path that the archive names. Accepted are regular files, folders, and the
//! one kind of link that `docker save` and `podman save` write: `ID/layer.tar -> ../OTHER/layer.tar`
//! or `-> ../HEX.tar`. Extension headers may say nothing that would change a name, a link or a size,
//! but for the size of a file above 8 GiB, which the plain header cannot express.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::digest::Digest;
use super::error::{Fault, shown};
use super::limits;

/// Largest size that a plain header can express.
const OCTAL_MAX: u64 = 0o777_7777_7777;
const BLOCK: u64 = 512;

/// Where an archive's bytes come from.
pub(super) trait Medium: Read {
    /// Goes past `count` bytes; [`io::ErrorKind::UnexpectedEof`] if there are fewer.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// A file that can be sought in.
pub(super) struct Seekable<'f> {
    pub file: &'f File,
    pub len: u64,
    pub at: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Medium for Seekable<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let to = self.at.checked_add(count).filter(|to| *to <= self.len);
        let to = to.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at = self.file.seek(SeekFrom::Start(to))?;
        Ok(())
    }
}

/// Bytes that come once.
pub(super) struct Streamed<R>(pub R);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Medium for Streamed<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        if io::copy(&mut (&mut self.0).take(count), &mut io::sink())? == count {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// One member of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, without `./` before and `/` after; empty for the archive's own top.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where its data begins, bytes from the archive's start.
    pub offset: u64,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A link to the member of this name.
    Link(String),
}

/// Walks over the members. As a reader, it gives the data of the member that it is at.
pub(super) struct Walker<M> {
    medium: M,
    at: u64,
    left: u64,
    members: usize,
}

impl<M: Medium> Walker<M> {
    pub fn new(medium: M) -> Self {
        Self {
            medium,
            at: 0,
            left: 0,
            members: 0,
        }
    }

    /// The next member; `None` after the end mark, when nothing but padding was behind it.
    pub fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let mut pax: Option<Pax> = None;
        loop {
            self.finish_member()?;
            let mut block = [0; 512];
            self.block(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                if pax.is_some() {
                    return Err(Fault::archive("an extension header has no member"));
                }
                self.finish()?;
                return Ok(None);
            }
            self.members += 1;
            if self.members > limits::MEMBERS {
                return Err(Fault::archive(format!(
                    "it has more than {} members",
                    limits::MEMBERS
                )));
            }
            let header = tar::Header::from_byte_slice(&block);
            self.checksum(header)?;
            if header.entry_type() == tar::EntryType::XHeader {
                if pax.is_some() {
                    return Err(Fault::archive("it has two extension headers in a row"));
                }
                pax = Some(self.pax(header)?);
                continue;
            }
            return self.entry(header, &pax.unwrap_or_default()).map(Some);
        }
    }

    fn entry(&mut self, header: &tar::Header, pax: &Pax) -> Result<Entry, Fault> {
        let path = header.path_bytes();
        let lossy = String::from_utf8_lossy(&path);
        let refuse = |reason: &str| Err(Fault::member(&lossy, reason));
        let Ok(name) = std::str::from_utf8(&path) else {
            return refuse("its name is not UTF-8");
        };
        let name = match clean(name) {
            Ok(name) => name,
            Err(reason) => return refuse(reason),
        };
        let Ok(mut size) = header.entry_size() else {
            return refuse("its size is not a number");
        };
        if let Some(real) = pax.size {
            if size != 0 || real <= OCTAL_MAX {
                return refuse("a PAX header gives it another size");
            }
            size = real;
        }
        let kind = header.entry_type();
        if !kind.is_file() && size != 0 {
            return refuse("it is no file and yet has data");
        }
        let kind = match kind {
            tar::EntryType::Regular if name.is_empty() || path.ends_with(b"/") => {
                return refuse("it is a file with the name of a folder");
            }
            tar::EntryType::Regular => Kind::File(size),
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Symlink => {
                let target = header.link_name_bytes().unwrap_or_default();
                let Some(member) = link_target(&name, &target) else {
                    let target = shown(&String::from_utf8_lossy(&target));
                    return refuse(&format!(
                        "it is a link to {target}, and only a layer's link to another layer of the archive is accepted"
                    ));
                };
                Kind::Link(member)
            }
            tar::EntryType::Link => return refuse("it is a hard link"),
            tar::EntryType::Char | tar::EntryType::Block => return refuse("it is a device"),
            tar::EntryType::Fifo => return refuse("it is a named pipe"),
            tar::EntryType::GNUSparse => return refuse("it is a sparse file"),
            tar::EntryType::GNULongName | tar::EntryType::GNULongLink => {
                return refuse(
                    "it has a GNU long-name header, and no image archive needs such names",
                );
            }
            tar::EntryType::XGlobalHeader => return refuse("it is a global PAX header"),
            other => {
                return refuse(&format!(
                    "it is of unknown type {:?}",
                    char::from(other.as_byte())
                ));
            }
        };
        if self
            .at
            .checked_add(size)
            .and_then(|end| end.checked_add(BLOCK))
            .is_none()
        {
            return refuse("its size is absurd");
        }
        self.left = size;
        Ok(Entry {
            name,
            kind,
            offset: self.at,
        })
    }

    fn checksum(&self, header: &tar::Header) -> Result<(), Fault> {
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .fold(8 * 32, |sum, byte| sum + u32::from(*byte));
        if header.cksum().is_ok_and(|stated| stated == sum) {
            Ok(())
        } else if self.members == 1 {
            Err(Fault::archive(
                "it is not a tar archive (plain, gzip or zstd)",
            ))
        } else {
            Err(Fault::archive(format!(
                "the header at byte {} has a wrong checksum",
                self.at - BLOCK
            )))
        }
    }

    fn pax(&mut self, header: &tar::Header) -> Result<Pax, Fault> {
        let size = header.entry_size().unwrap_or(u64::MAX);
        if size > limits::PAX {
            return Err(Fault::archive(format!(
                "it has a PAX header above {} bytes",
                limits::PAX
            )));
        }
        let mut bytes = Vec::new();
        self.left = size;
        // `left` bounds the reading.
        self.read_to_end(&mut bytes).map_err(Fault::read)?;
        Pax::parse(&bytes).map_err(Fault::archive)
    }

    fn block(&mut self, block: &mut [u8; 512]) -> Result<(), Fault> {
        self.medium
            .read_exact(block)
            .map_err(|error| match Fault::read(error) {
                Fault::Refused(..) if self.at == 0 => {
                    Fault::archive("it is too short for a tar archive")
                }
                fault => fault,
            })?;
        self.at += BLOCK;
        Ok(())
    }

    /// Goes past what is left of a member and its padding.
    fn finish_member(&mut self) -> Result<(), Fault> {
        let rest = std::mem::take(&mut self.left);
        let end = (self.at + rest).div_ceil(BLOCK) * BLOCK;
        if end > self.at {
            self.medium.skip(end - self.at).map_err(Fault::read)?;
            self.at = end;
        }
        Ok(())
    }

    /// After the first block of the end mark: the second one, and nothing but padding behind.
    fn finish(&mut self) -> Result<(), Fault> {
        let mut block = [0; 512];
        self.block(&mut block)?;
        let mut padding = 0;
        let mut buffer = vec![0; 64 << 10];
        let mut count = block.len();
        buffer[..count].copy_from_slice(&block);
        loop {
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(Fault::archive("there is data after its end"));
            }
            if padding > limits::PADDING {
                return Err(Fault::archive("there is too much padding after its end"));
            }
            count = match self.medium.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(Fault::read(error)),
            };
            padding += count as u64;
        }
    }
}

impl<M: Medium> Read for Walker<M> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.medium.read(&mut buf[..want])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        self.at += count as u64;
        Ok(count)
    }
}

/// What a PAX extension header may say that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pax {
    size: Option<u64>,
}

impl Pax {
    /// Parses records of the form `LENGTH KEY=VALUE\n`.
    fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let malformed = || "it has a malformed PAX header".to_owned();
        let mut found = Self::default();
        while !bytes.is_empty() {
            let space = bytes
                .iter()
                .take(20)
                .position(|byte| *byte == b' ')
                .ok_or_else(malformed)?;
            let length: usize = std::str::from_utf8(&bytes[..space])
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|length| *length > space + 1 && *length <= bytes.len())
                .ok_or_else(malformed)?;
            let (record, rest) = bytes.split_at(length);
            bytes = rest;
            let record = record[space + 1..]
                .strip_suffix(b"\n")
                .ok_or_else(malformed)?;
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(malformed)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| malformed())?;
            let value = &record[equals + 1..];
            match key {
                "size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
                        .and_then(|digits| digits.parse().ok())
                        .ok_or_else(malformed)?;
                    if found.size.replace(size).is_some() {
                        return Err("a PAX header gives two sizes".to_owned());
                    }
                }
                "mtime"
                | "atime"
                | "ctime"
                | "uid"
                | "gid"
                | "uname"
                | "gname"
                | "comment"
                | "SCHILY.dev"
                | "SCHILY.ino"
                | "SCHILY.nlink"
                | "LIBARCHIVE.creationtime" => {}
                _ if key.starts_with("SCHILY.xattr.") || key.starts_with("LIBARCHIVE.xattr.") => {}
                _ if key.starts_with("GNU.sparse.") || key == "SCHILY.realsize" => {
                    return Err(format!("it has a sparse file (PAX key {})", shown(key)));
                }
                _ => {
                    return Err(format!(
                        "it has a PAX header with key {}, which is not accepted",
                        shown(key)
                    ));
                }
            }
        }
        Ok(found)
    }
}

/// A member's name in its one form, or why it is refused. Empty for the archive's own top (`./`).
pub(super) fn clean(name: &str) -> Result<String, &'static str> {
    if name.len() > limits::NAME {
        return Err("its name is too long");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err("its name has control characters or a backslash");
    }
    if name.starts_with('/') {
        return Err("its name is an absolute path");
    }
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix("./") {
        rest = shorter;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest == "." || (rest.is_empty() && !name.is_empty()) {
        return Ok(String::new());
    }
    for part in rest.split('/') {
        match part {
            ".." => return Err("its name leads out of the archive (..)"),
            "" | "." => return Err("its name has an empty part"),
            _ => {}
        }
    }
    Ok(rest.to_owned())
}

/// The member that a legal link stands for.
fn link_target(name: &str, target: &[u8]) -> Option<String> {
    let legacy = |path: &str| {
        path.strip_suffix("/layer.tar")
            .is_some_and(|id| Digest::from_hex(id).is_some())
    };
    let target = std::str::from_utf8(target).ok()?.strip_prefix("../")?;
    let podman = || {
        target
            .strip_suffix(".tar")
            .is_some_and(|hex| Digest::from_hex(hex).is_some())
    };
    (legacy(name) && name != target && (legacy(target) || podman())).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (name, form) in [
            ("a/b", "a/b"),
            ("./a", "a"),
            ("././a/", "a"),
            ("./", ""),
            (".", ""),
            ("a.b/..c", "a.b/..c"),
        ] {
            assert_eq!(clean(name).as_deref(), Ok(form), "{name}");
        }
        for name in [
            "", "/a", "../a", "a/../b", "a/..", "..", "a//b", "a/./b", "a\\b", "a\nb", ".//a",
        ] {
            assert!(clean(name).is_err(), "{name}");
        }
    }

    #[test]
    fn pax_says_little() {
        assert_eq!(Pax::parse(b"20 mtime=1234567890\n"), Ok(Pax { size: None }));
        assert_eq!(
            Pax::parse(b"20 size=99999999999\n"),
            Ok(Pax {
                size: Some(99_999_999_999)
            })
        );
        for bytes in [
            &b"10 path=a\n"[..],
            b"20 mtime=1234567890",
            b"99 mtime=1\n",
            b"0 a=b\n",
            b"5 a=b\n",
            b"+8 uid=1\n",
            b"\n",
            b"22 GNU.sparse.major=1\n",
            b"9 size=1\n9 size=2\n",
        ] {
            assert!(Pax::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
