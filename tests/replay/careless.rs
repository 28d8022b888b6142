//! The harness itself: that it records all there is, and that it catches every one of the mistakes
//! that programs make with files.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::deed;
use crate::scenario::{Ends, Judge, Place, Scenario};

/// A program that makes every call that the recorder knows and the others here do not make.
pub const RECORDER: Scenario = Scenario {
    name: "the recorder follows every call",
    setup,
    command: |place| deed("every-call", &place.root),
    judge: |_| Box::new(|_, _| Ok(())),
};

/// A program that does it right.
pub const CAREFUL: Scenario = Scenario {
    name: "a careful program is not blamed",
    setup,
    command: |place| deed("careful", &place.root),
    judge,
};

/// Programs each of which must be caught.
pub const CARELESS: &[Scenario] = &[
    Scenario {
        name: "no fsync of the file",
        setup,
        command: |place| deed("no-file-sync", &place.root),
        judge,
    },
    Scenario {
        name: "no fsync of the folder",
        setup,
        command: |place| deed("no-folder-sync", &place.root),
        judge,
    },
    Scenario {
        name: "the rename before the fsync",
        setup,
        command: |place| deed("rename-first", &place.root),
        judge,
    },
    Scenario {
        name: "written in place",
        setup,
        command: |place| deed("in-place", &place.root),
        judge,
    },
    Scenario {
        name: "removed before its successor is there",
        setup,
        command: |place| deed("remove-first", &place.root),
        judge,
    },
    Scenario {
        name: "a folder whose name is nowhere",
        setup,
        command: |place| deed("new-folder", &place.root),
        judge,
    },
];

const OLD: &[u8] = b"what was there";
const NEW: &[u8] = b"what is to be there";

fn setup(place: &Place) {
    fs::write(place.root.join("fact"), OLD).expect("written");
}

/// The old fact or the new one; the new one in the end.
fn judge(_: &Ends<'_>) -> Judge {
    Box::new(|root, done| {
        let moved = root.join("folder/fact");
        let fact = if moved.exists() {
            moved
        } else {
            root.join("fact")
        };
        match fs::read(fact) {
            Ok(found) if found == NEW || found == OLD && !done => Ok(()),
            Ok(found) => Err(format!("found {:?}", String::from_utf8_lossy(&found))),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// What the recorded process does.
pub fn act(name: &str, root: &Path) -> Result<(), String> {
    let done = match name {
        "every-call" => every_call(root),
        _ => replace(name, root),
    };
    done.map_err(|error| error.to_string())
}

fn replace(how: &str, root: &Path) -> io::Result<()> {
    let fact = root.join("fact");
    let temp = root.join("fact.new");
    let write = |path: &Path, sync: bool| {
        let mut file = File::create(path)?;
        file.write_all(NEW)?;
        if sync { file.sync_all() } else { Ok(()) }
    };
    let folder = || File::open(root)?.sync_all();
    match how {
        "careful" => {
            write(&temp, true)?;
            fs::rename(&temp, &fact)?;
            folder()
        }
        "no-file-sync" => {
            write(&temp, false)?;
            fs::rename(&temp, &fact)?;
            folder()
        }
        "no-folder-sync" => {
            write(&temp, true)?;
            fs::rename(&temp, &fact)
        }
        "rename-first" => {
            write(&temp, false)?;
            fs::rename(&temp, &fact)?;
            File::open(&fact)?.sync_all()?;
            folder()
        }
        "in-place" => {
            write(&fact, true)?;
            folder()
        }
        "remove-first" => {
            write(&temp, true)?;
            fs::remove_file(&fact)?;
            fs::rename(&temp, &fact)?;
            folder()
        }
        "new-folder" => {
            let moved = root.join("folder");
            fs::create_dir(&moved)?;
            write(&moved.join("fact"), true)?;
            File::open(&moved)?.sync_all()
        }
        _ => Err(io::Error::other(format!("no deed is called {how}"))),
    }
}

fn every_call(root: &Path) -> io::Result<()> {
    let path = |name: &str| root.join(name);
    // Begun anew, it begins from nothing.
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path("one"))?;
    file.write_all(b"0123456789")?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"abc")?;
    // A second descriptor has the same position.
    file.try_clone()?.write_all(b"def")?;
    file.write_at(b"far", 20)?;
    let parts = [io::IoSlice::new(b"vec"), io::IoSlice::new(b"tor")];
    if file.write_vectored(&parts)? != 6 {
        return Err(io::Error::other("fewer bytes were written"));
    }
    file.set_len(22)?;
    File::options()
        .append(true)
        .open(path("one"))?
        .write_all(b"the end")?;
    // The bytes of these two never pass through the process.
    fs::copy(path("one"), path("two"))?;
    let mut from = File::open(path("one"))?;
    nix::sys::sendfile::sendfile(File::create(path("three"))?, &mut from, None, 9)?;
    fs::hard_link(path("one"), path("linked"))?;
    fs::rename(path("linked"), path("one"))?;
    fs::create_dir_all(path("a/b/c"))?;
    fs::hard_link(path("one"), path("a/b/four"))?;
    fs::rename(path("two"), path("a/two"))?;
    fs::rename(path("a/b"), path("b"))?;
    let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    nix::fcntl::renameat2(
        nix::fcntl::AT_FDCWD,
        &path("b"),
        nix::fcntl::AT_FDCWD,
        &path("a/two"),
        exchange,
    )?;
    fs::rename(path("a/two"), path("c"))?;
    fs::create_dir_all(path("gone/deeper"))?;
    fs::write(path("gone/deeper/file"), "content")?;
    fs::remove_dir_all(path("gone"))?;
    fs::remove_dir(path("c/c"))?;
    std::thread::spawn(move || file.write_all(b"of a thread"))
        .join()
        .map_err(|_| io::Error::other("it panicked"))??;
    let file = File::create(path("a/five"))?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 64)?;
    nix::unistd::syncfs(&file)?;
    file.sync_data()?;
    nix::unistd::truncate(&path("a/five"), 3)?;
    File::open(path("a"))?.sync_all()
}
