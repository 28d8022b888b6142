//! Which files of a stick are looked at: those in its top folder and in the folder `monopod`, by their
//! endings, the first [`FILES`] by name. A link is never followed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::probe::tame;

/// Most files that are looked at.
pub const FILES: usize = 64;

/// Most names that are read of a folder; a damaged one may have no end.
const NAMES: usize = 100_000;

/// Most characters of a name in a message.
const SHOWN: usize = 100;

/// The folder that is looked into.
const FOLDER: &str = "monopod";

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `*.bundle`.
    Bundle,
    /// `*.tar`, `*.tar.gz`, `*.tgz`, `*.tar.zst`.
    Archive,
}

/// A file to be looked at.
#[derive(Debug)]
pub struct Candidate {
    /// Its name for people, with the folder's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The file, or why it cannot be opened.
    pub file: io::Result<File>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files, in the order of their names, those of the top folder first.
    pub files: Vec<Candidate>,
    /// How many more there were.
    pub left_out: usize,
    /// A folder that cannot be read to its end: its name for people, and why.
    pub faults: Vec<(String, io::Error)>,
}

/// Looks through a stick; with `archives` not for bundles only.
pub fn list(root: &Path, archives: bool) -> Listing {
    let mut listing = Listing::default();
    listing.add(root, None, archives);
    listing.add(&root.join(FOLDER), Some(FOLDER), archives);
    listing
}

impl Listing {
    fn add(&mut self, path: &Path, shown: Option<&str>, archives: bool) {
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(path);
        let folder = match folder {
            Ok(folder) => folder,
            // Only the top folder has to be there; a file or a link of that name is none.
            Err(_) if shown.is_some() && !is_folder(path) => return,
            Err(error) => {
                self.faults.push((shown.unwrap_or("/").to_owned(), error));
                return;
            }
        };
        let (names, left_out, fault) = names(path, FILES - self.files.len(), archives);
        self.left_out += left_out;
        if let Some(error) = fault {
            self.faults.push((shown.unwrap_or("/").to_owned(), error));
        }
        for name in names {
            let Some(kind) = kind(&name, archives) else {
                continue;
            };
            let whole: PathBuf = shown.into_iter().map(OsStr::new).chain([&*name]).collect();
            self.files.push(Candidate {
                name: tame(&whole.to_string_lossy(), SHOWN),
                kind,
                file: open(&folder, &name),
            });
        }
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The first `most` names that matter, how many more there are, and what kept us from reading on.
fn names(
    path: &Path,
    most: usize,
    archives: bool,
) -> (BTreeSet<OsString>, usize, Option<io::Error>) {
    let (mut names, mut left_out) = (BTreeSet::new(), 0);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return (names, 0, Some(error)),
    };
    for (count, entry) in entries.enumerate() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return (names, left_out, Some(error)),
        };
        if count >= NAMES {
            let text = format!("it has more than {NAMES} files");
            return (names, left_out, Some(io::Error::other(text)));
        }
        let name = entry.file_name();
        if kind(&name, archives).is_some() {
            names.insert(name);
            if names.len() > most {
                names.pop_last();
                left_out += 1;
            }
        }
    }
    (names, left_out, None)
}

/// What a file is by its name; `None` for what is not looked at, hidden files among it.
fn kind(name: &OsStr, archives: bool) -> Option<Kind> {
    let name = name.to_string_lossy().to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if name.starts_with('.') {
        None
    } else if ends(&[".bundle"]) {
        Some(Kind::Bundle)
    } else if archives && ends(&[".tar", ".tar.gz", ".tgz", ".tar.zst"]) {
        Some(Kind::Archive)
    } else {
        None
    }
}

fn open(folder: &File, name: &OsStr) -> io::Result<File> {
    // A pipe must not keep us waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(nix::Error::ELOOP) => {
            return Err(io::Error::other("it is a link, which is not followed"));
        }
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a file"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn stick(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join(FOLDER)).expect("a folder");
        for name in files {
            fs::write(root.path().join(name), name).expect("a file");
        }
        root
    }

    fn shown(listing: &Listing) -> Vec<&str> {
        listing
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect()
    }

    #[test]
    fn files_by_their_endings_in_order() {
        let root = stick(&[
            "b.bundle",
            "A.BUNDLE",
            ".hidden.bundle",
            "._b.bundle",
            "bundle",
            "x.bundle.part",
            "image.tar",
            "image.tar.zst",
            "monopod/a.bundle",
            "monopod/c.tgz",
            "monopod/readme.txt",
        ]);
        let listing = list(root.path(), false);
        assert_eq!(
            shown(&listing),
            ["A.BUNDLE", "b.bundle", "monopod/a.bundle"]
        );
        assert!(listing.files.iter().all(|file| file.file.is_ok()));
        let listing = list(root.path(), true);
        let all = [
            "A.BUNDLE",
            "b.bundle",
            "image.tar",
            "image.tar.zst",
            "monopod/a.bundle",
            "monopod/c.tgz",
        ];
        assert_eq!(shown(&listing), all);
        assert_eq!((listing.left_out, listing.faults.len()), (0, 0));
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let root = stick(&["a.bundle"]);
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("x.bundle"), "x").expect("a file");
        symlink(
            outside.path().join("x.bundle"),
            root.path().join("b.bundle"),
        )
        .expect("a link");
        symlink("a.bundle", root.path().join("c.bundle")).expect("a link");
        fs::create_dir(root.path().join("d.bundle")).expect("a folder");
        nix::unistd::mkfifo(&root.path().join("e.bundle"), Mode::S_IRWXU).expect("a pipe");
        fs::remove_dir(root.path().join(FOLDER)).expect("empty");
        symlink(outside.path(), root.path().join(FOLDER)).expect("a link");
        let listing = list(root.path(), false);
        let told: Vec<_> = listing
            .files
            .iter()
            .map(|file| {
                file.file
                    .as_ref()
                    .err()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            })
            .collect();
        let link = "it is a link, which is not followed";
        let none = "it is not a file";
        assert_eq!(told, ["", link, link, none, none]);
        assert_eq!(listing.faults.len(), 0, "{:?}", listing.faults);
    }

    #[test]
    fn the_first_by_name_of_very_many() {
        let names: Vec<String> = (0..1000)
            .map(|number| format!("{number:04}.bundle"))
            .collect();
        let names: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        let root = stick(&names);
        fs::write(root.path().join("monopod/a.bundle"), "").expect("a file");
        let listing = list(root.path(), false);
        assert_eq!(
            (listing.files.len(), listing.left_out),
            (FILES, 1000 - FILES + 1)
        );
        assert_eq!(listing.files[0].name, "0000.bundle");
        assert_eq!(listing.files[FILES - 1].name, "0063.bundle");
    }

    #[test]
    fn without_a_top_folder_there_is_a_fault() {
        let root = tempfile::tempdir().expect("a folder");
        let listing = list(&root.path().join("none"), false);
        assert_eq!((listing.files.len(), listing.faults.len()), (0, 1));
        let listing = list(root.path(), false);
        assert_eq!((listing.files.len(), listing.faults.len()), (0, 0));
    }
}
