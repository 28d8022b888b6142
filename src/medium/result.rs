//! The file that tells, on the stick itself, what came of it.
//!
//! Root writes it into a folder that a stranger has filled, so no name in there is believed: nothing is
//! followed, and nothing that is there is opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The file's name.
pub const NAME: &str = "MONOPOD-RESULT.txt";

/// Its name while it is written.
const NEW: &str = "MONOPOD-RESULT.new";

/// Writes it, whole or not at all.
pub fn write(folder: &Path, text: &str) -> io::Result<()> {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(folder)?;
    match unlinkat(&open, NEW, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let named = new(&open, text).and_then(|()| Ok(renameat(&open, NEW, &open, NAME)?));
    if named.is_err() {
        // A full stick keeps no half of it.
        let _ = unlinkat(&open, NEW, UnlinkatFlags::NoRemoveDir);
    }
    named.and_then(|()| open.sync_all())
}

fn new(folder: &File, text: &str) -> io::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
    let mut file = File::from(openat(folder, NEW, flags, mode)?);
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_followed_on_the_way() {
        let root = tempfile::tempdir().expect("a folder");
        let (stick, other) = (root.path().join("stick"), root.path().join("shadow"));
        fs::create_dir(&stick).expect("a folder");
        fs::write(&other, "secret").expect("a file");
        for name in [NAME, NEW] {
            symlink(&other, stick.join(name)).expect("a link");
        }
        write(&stick, "ok\n").expect("written");
        assert_eq!(fs::read_to_string(&other).expect("read"), "secret");
        let result = stick.join(NAME);
        assert!(fs::symlink_metadata(&result).expect("there").is_file());
        assert_eq!(fs::read_to_string(&result).expect("read"), "ok\n");
        write(&stick, "again\n").expect("written");
        assert_eq!(fs::read_to_string(&result).expect("read"), "again\n");
        assert_eq!(fs::read_dir(&stick).expect("a folder").count(), 1);
        // What cannot be replaced is left, and nothing beside it.
        fs::remove_file(&result).expect("it is there");
        fs::create_dir(&result).expect("made");
        assert!(write(&stick, "no").is_err());
        assert_eq!(fs::read_dir(&stick).expect("a folder").count(), 1);
        // Nor is the folder itself a link.
        symlink(&stick, root.path().join("link")).expect("a link");
        assert!(write(&root.path().join("link"), "no").is_err());
    }
}
