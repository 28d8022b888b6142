//! `monopod sync`: has the file systems of the engine and of monopod's state put on disk. The helper of the
//! daemon, which must not hang with a medium.
//!
//! Only those two: a network mount that hangs, or a slow stick that is being written, is nothing to wait for.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::syncfs;

use super::complain;
use crate::exit::Exit;
use crate::owner::{self, Keep};
use crate::paths::Paths;

/// Arguments of `monopod sync`.
#[derive(Debug, Args)]
pub struct Sync {
    /// The folder with the engine's data, if the engine says it
    engine: Option<PathBuf>,
}

/// Comes back once all is on disk.
pub fn run(paths: &Paths, arguments: &Sync) -> Exit {
    if let Err(text) = owner::become_owner(paths, Keep::Nothing) {
        complain(text);
        return Exit::Failed;
    }
    owner::end_with_parent();
    if arguments.engine.is_none() {
        nix::unistd::sync();
    }
    for folder in [arguments.engine.as_ref(), Some(&paths.state())]
        .into_iter()
        .flatten()
    {
        if let Err(error) = put_on_disk(folder) {
            complain(format_args!("cannot sync {}: {error}", folder.display()));
            return Exit::Failed;
        }
    }
    Exit::Done
}

fn put_on_disk(folder: &Path) -> io::Result<()> {
    if let Some(opened) = on_the_file_system_of(folder) {
        return Ok(syncfs(opened)?);
    }
    // Nothing of that file system is for us to open: then every one of them.
    nix::unistd::sync();
    Ok(())
}

/// A folder that we may open on the file system of this one: itself, or one above it. An engine's own is
/// root's alone.
fn on_the_file_system_of(folder: &Path) -> Option<File> {
    let folder = fs::canonicalize(folder).ok()?;
    let device = fs::metadata(&folder).ok()?.dev();
    folder.ancestors().find_map(|above| {
        let opened = File::open(above).ok()?;
        (opened.metadata().ok()?.dev() == device).then_some(opened)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_file_system_and_for_no_other() {
        let dir = tempfile::tempdir().expect("the temporary folder can be written");
        let device = |opened: Option<File>| {
            let meta = opened.map(|opened| opened.metadata().expect("it is open"));
            meta.map(|meta| meta.dev())
        };
        let own = fs::metadata(dir.path()).expect("it is there").dev();
        assert_eq!(device(on_the_file_system_of(dir.path())), Some(own));
        let kernel = fs::metadata("/proc").expect("it is mounted").dev();
        let here = Path::new("/proc/self");
        assert_eq!(device(on_the_file_system_of(here)), Some(kernel));
        assert!(on_the_file_system_of(&dir.path().join("not-there")).is_none());
        put_on_disk(dir.path()).expect("it can be synced");
        put_on_disk(&dir.path().join("not-there")).expect("then all are");
    }
}
