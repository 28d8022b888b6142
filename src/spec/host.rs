//! What the checks ask of the machine they run on.
//!
//! The only door of `spec` to the file system; a test hands in a plain table
//! instead. It must never change anything and never read without a limit.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most bytes that a text file of the author's may have: 1 MiB.
pub const MAX_TEXT: u64 = 1 << 20;

/// What a path leads to, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
}

/// The kinds of thing that a path can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A character or block device.
    Device,
    /// A socket or a pipe.
    Other,
}

/// A machine, as far as the checks look at it.
pub trait Host {
    /// What the path leads to.
    fn look(&self, path: &Path) -> io::Result<Fact>;

    /// A file's bytes; more than [`MAX_TEXT`] is an error.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, in name order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether systemd handed over a credential of this name; `None` where it hands over none at all.
    fn credential(&self, name: &str) -> Option<bool>;
}

/// The machine itself.
#[derive(Clone, Debug, Default)]
pub struct ThisHost {
    /// systemd's `CREDENTIALS_DIRECTORY`, where it is set.
    pub credentials: Option<PathBuf>,
}

impl ThisHost {
    /// The machine as systemd shows it to this process.
    pub fn of_environment() -> Self {
        Self {
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

impl Host for ThisHost {
    fn look(&self, path: &Path) -> io::Result<Fact> {
        let metadata = fs::metadata(path)?;
        let file_type = metadata.file_type();
        let kind = if file_type.is_file() {
            Kind::File
        } else if file_type.is_dir() {
            Kind::Folder
        } else if file_type.is_char_device() || file_type.is_block_device() {
            Kind::Device
        } else {
            Kind::Other
        };
        Ok(Fact {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe would block for ever, a device would never end.
        if self.look(path)?.kind != Kind::File {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(MAX_TEXT + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        Ok(bytes)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn credential(&self, name: &str) -> Option<bool> {
        let folder = self.credentials.as_ref()?;
        Some(folder.join(name).is_file())
    }
}

/// An I/O error in words, without the `(os error 2)`.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "a part of its path is not a folder".to_owned(),
        _ => {
            let text = error.to_string();
            match text.split_once(" (os error") {
                Some((words, _)) => words.to_lowercase(),
                None => text,
            }
        }
    }
}
