//! How root's hand works on what belongs to the daemon's user: as that user, for good.
//!
//! The daemon is no root, so a file of root's in its store would be one that it cannot replace or
//! remove. A process that writes there first becomes the store's owner. It must never go back.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::sys::prctl::{set_keepcaps, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::paths::Paths;

/// What a process that was root's keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// It may read every file: an archive on a stick is often root's alone.
    Reading,
}

/// Becomes the store's owner: of the store itself, or if there is none yet, of the folder that it
/// will be in. Who is not root, and where root is the owner, stays what it is.
///
/// # Errors
///
/// A sentence for people. The process must not go on then.
pub fn become_owner(paths: &Paths, keep: Keep) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut places = [paths.store(), paths.state()].into_iter();
    let Some((uid, gid)) = places.find_map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((Uid::from_raw(found.uid()), Gid::from_raw(found.gid())))
    }) else {
        return Ok(());
    };
    if uid.is_root() {
        return Ok(());
    }
    become_user(uid, gid, keep)
        .map_err(|error| format!("cannot become the store's owner (user {uid}): {error}"))
}

fn become_user(uid: Uid, gid: Gid, keep: Keep) -> io::Result<()> {
    set_keepcaps(keep == Keep::Reading)?;
    // Its groups let it reach the engine.
    if let Some(user) = User::from_uid(uid)? {
        let name = std::ffi::CString::new(user.name).map_err(io::Error::other)?;
        initgroups(&name, user.gid)?;
        setgid(user.gid)?;
    } else {
        setgroups(&[gid])?;
        setgid(gid)?;
    }
    setuid(uid)?;
    if keep == Keep::Reading {
        let kept = CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(
            None,
            CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            },
        )?;
    }
    Ok(())
}

/// Has this process end with the one that started it. To be asked for after [`become_owner`], which
/// undoes it.
pub fn end_with_parent() {
    // Where it cannot be had, the work is done to the end and for nobody.
    let _ = set_pdeathsig(Signal::SIGKILL);
}
