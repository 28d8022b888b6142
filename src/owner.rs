//! How root's hand works on what belongs to the daemon's user: as that user, for good.
//!
//! The daemon is no root, so a file of root's in its store would be one that it cannot replace or
//! remove. A process that writes there first becomes the store's owner. It must never go back.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::prctl::{set_dumpable, set_keepcaps, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::paths::Paths;

/// What a process that was root's keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// It may read every file: an archive on a stick is often root's alone. Only where the sandbox
    /// then takes all other files out of reach.
    Reading,
}

/// Becomes the owner of the state folder, or where that is root's, of the store in it. Who is not
/// root, and where root is the owner of both, stays what it is.
///
/// # Errors
///
/// A sentence for people. The process must not go on then.
pub fn become_owner(paths: &Paths, keep: Keep) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = owner(paths)? else {
        return Ok(());
    };
    become_user(uid, gid, keep)
        .map_err(|error| format!("cannot become the store's owner (user {uid}): {error}"))
}

/// Becomes the owner of the state, as [`become_owner`], and nothing besides: no capability, and none of
/// that user's other groups, of which one lets it speak to the engine. Where root is the owner, it is
/// root without its rights.
///
/// # Errors
///
/// A sentence for people. The process must not go on then.
pub fn become_owner_alone(paths: &Paths) -> Result<(), String> {
    let give_up = || -> io::Result<()> {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        Ok(set_capabilities(None, none)?)
    };
    let become_it = |owner: Option<(Uid, Gid)>| -> io::Result<()> {
        if geteuid().is_root() {
            set_keepcaps(false)?;
        }
        // The unit that reads sticks is not root, and may do this. Who may not has no more than its user has.
        if capabilities(None)?
            .effective
            .contains(CapabilitySet::SETGID)
        {
            setgroups(&[])?;
        }
        if let Some((uid, gid)) = owner {
            let user = User::from_uid(uid)?;
            setgid(user.map_or(gid, |user| user.gid))?;
            setuid(uid)?;
        }
        give_up()
    };
    let owner = if geteuid().is_root() {
        owner(paths)?
    } else {
        None
    };
    become_it(owner).map_err(|error| {
        let state = paths.state();
        format!(
            "cannot become nobody but the owner of {}: {error}",
            state.display()
        )
    })
}

/// Refuses to be root where the state is another user's: what root writes there, that user could
/// not replace.
///
/// # Errors
///
/// A sentence for people.
pub fn not_as_root(paths: &Paths) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, _)) = owner(paths)? else {
        return Ok(());
    };
    let state = paths.state();
    let name = match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    };
    Err(format!(
        "{0} belongs to the user {name}, and a daemon that runs as root would leave files there that {name} \
         cannot replace; start it by systemctl start monopod, or give the folder to root for good: chown -R root {0}",
        state.display()
    ))
}

/// Whose the state is, if it is another's than root's.
fn owner(paths: &Paths) -> Result<Option<(Uid, Gid)>, String> {
    let unseen =
        |path: &Path, error: io::Error| format!("cannot look at {}: {error}", path.display());
    // Nobody but root puts something in this place, be it a link. In the folder itself its owner does.
    let state = paths.state();
    let found = match fs::metadata(&state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(|error| unseen(&state, error))?,
    };
    let store = paths.store();
    let below = match fs::symlink_metadata(&store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        below => Some(below.map_err(|error| unseen(&store, error))?),
    };
    if below.as_ref().is_some_and(|below| !below.is_dir()) {
        return Err(format!(
            "{0} is not a folder; move it away, and for a store on another disk mount that disk's folder at {0}",
            store.display()
        ));
    }
    let owners = [Some(found), below].into_iter().flatten();
    Ok(owners
        .map(|found| (Uid::from_raw(found.uid()), Gid::from_raw(found.gid())))
        .find(|(uid, _)| !uid.is_root()))
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

/// Keeps whoever runs as the same user from looking into this process, and so from what it holds or may do: its
/// memory, its files, its sockets. A reader of strangers' archives is such a one. Of programs that this one starts
/// it does not hold.
pub fn shut_out() {
    // Where it cannot be had, the other's own bounds are left.
    let _ = set_dumpable(false);
}

/// Has this process end with the one that started it. To be asked for after [`become_owner`], which
/// undoes it.
pub fn end_with_parent() {
    // Where it cannot be had, the work is done to the end and for nobody.
    let _ = set_pdeathsig(Signal::SIGKILL);
}
