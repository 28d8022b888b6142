//! Copying volumes and putting them back, so that a power cut at any moment leaves what the same
//! request, asked again, brings to its end.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::answer::Sign;
use super::copy::{shares, tree};
use super::folder::{Snapshots, remove};
use super::measure::{Measure, NAMES, measure, room, room_in_place_of};
use crate::volumes::{Request, SnapshotVolume};

/// What lies beside a volume's data while that is put back.
const NEW: &str = "_data.monopod-new";
const OLD: &str = "_data.monopod-old";

/// The file by which it is tried whether blocks can be shared.
const TRIAL: &str = ".shared";

/// Copies the volumes whose data is in these folders. What was copied before, for this release or another one, goes
/// first: nobody needs it any more, and its room may be needed.
pub fn snapshot(
    snapshots: &Snapshots,
    sign: &Sign<'_>,
    request: &Request,
    folders: &[Option<PathBuf>],
) -> Result<(), String> {
    let release = &request.release;
    sign.while_at(|| snapshots.forget_all())?;
    let new = snapshots.new_of(release);
    let copied = make_folder(&new, 0o700)
        .and_then(|()| {
            let mut volumes = request.volumes.iter().zip(folders);
            volumes.try_for_each(|(volume, data)| {
                copy_one(snapshots, sign, &new, volume, data.as_deref())
                    .map_err(|text| format!("the volume {} is not copied: {text}", volume.name))
            })
        })
        .and_then(|()| {
            let kept = sign.while_at(|| snapshots.keep(release));
            kept.map_err(|error| format!("the copy cannot be kept: {error}"))
        });
    if copied.is_err() {
        // What cannot be removed now is swept up the next time.
        let _ = sign.while_at(|| remove(&new));
    }
    copied
}

fn copy_one(
    snapshots: &Snapshots,
    sign: &Sign<'_>,
    new: &Path,
    volume: &SnapshotVolume,
    data: Option<&Path>,
) -> Result<(), String> {
    let to = new.join(volume.name.as_str());
    let Some(data) = data else {
        // What the engine would make of it: an empty one.
        return make_folder(&to, 0o755);
    };
    let size = sign.while_at(|| measure(data, volume.limit, NAMES))?;
    has_room(sign, &size, &snapshots.path(), new)?;
    tree(data, &to, &snapshots.path(), false, sign)
}

/// Whether what was measured has room below `at`, of the blocks that cannot be shared; `place` is where copies start.
fn has_room(sign: &Sign<'_>, size: &Measure, place: &Path, at: &Path) -> Result<(), String> {
    let without = room(at, size.bytes, size.entries);
    match &size.sample {
        Some(sample) if without.is_err() && shares(sample, &at.join(TRIAL), place, sign) => {
            room(at, 0, size.entries)
        }
        Some(_) | None => without,
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), String> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| format!("a folder cannot be made among the copies: {error}"))
}

/// Puts the volumes back whose data is in these folders. The copy stays what it is, so what is cut off is done again.
pub fn restore(
    snapshots: &Snapshots,
    sign: &Sign<'_>,
    request: &Request,
    folders: &[Option<PathBuf>],
) -> Result<(), String> {
    let mut work = Vec::new();
    // All that can be known is known before anything is touched.
    for (volume, data) in request.volumes.iter().zip(folders) {
        let copy = snapshots.of(&request.release).join(volume.name.as_str());
        let fail = |text: String| format!("the volume {} is not put back: {text}", volume.name);
        if !copy.is_dir() {
            let release = &request.release;
            return Err(fail(format!(
                "there is no copy of it for release {release}"
            )));
        }
        let size = sign
            .while_at(|| measure(&copy, u64::MAX, u64::MAX))
            .map_err(|text| fail(format!("its copy is of no use: {text}")))?;
        match data {
            Some(data) => work.push((volume, data, copy, size)),
            // It was not there, or empty, and the engine will make it so.
            None if size.entries == 0 => {}
            None => return Err(fail("the engine does not have it any more".to_owned())),
        }
    }
    for (volume, data, copy, size) in work {
        put_back(snapshots, sign, &copy, &size, data)
            .map_err(|text| format!("the volume {} is not put back: {text}", volume.name))?;
    }
    Ok(())
}

fn put_back(
    snapshots: &Snapshots,
    sign: &Sign<'_>,
    copy: &Path,
    size: &Measure,
    data: &Path,
) -> Result<(), String> {
    let fail = |error: io::Error| format!("{}: {error}", data.display());
    let home = data.parent().unwrap_or(data);
    if fs::canonicalize(home).map_err(fail)? != home {
        return Err(format!("{} leads elsewhere", home.display()));
    }
    let opened = File::open(home).map_err(fail)?;
    let (new, old) = (home.join(NEW), home.join(OLD));
    // Of an earlier try. Whichever state it was in, all of it is in the copy.
    sign.while_at(|| remove(&new).and_then(|()| remove(&old)))
        .map_err(fail)?;
    if let Err(text) = has_room(sign, size, &snapshots.path(), home) {
        // A release that has filled the disk must not stay for that reason: its data goes first.
        make_room(sign, size, data, &old)
            .map_err(|why| format!("{text}; and without what is there now, {why}"))?;
    }
    let done = tree(copy, &new, &snapshots.path(), false, sign).and_then(|()| {
        sign.while_at(|| nix::unistd::syncfs(&opened))
            .map_err(|error| fail(error.into()))?;
        exchange(&new, data, &old).map_err(fail)?;
        opened.sync_all().map_err(fail)
    });
    // After the exchange, one of them is what was there before.
    let removed = sign.while_at(|| remove(&new).and_then(|()| remove(&old)));
    done.and_then(|()| removed.map_err(fail))
}

/// Removes what is to be replaced, if that gives room enough.
fn make_room(sign: &Sign<'_>, size: &Measure, data: &Path, old: &Path) -> Result<(), String> {
    let present = match sign.while_at(|| measure(data, u64::MAX, u64::MAX)) {
        Ok(present) => present,
        Err(_) if !data.exists() => Measure::default(),
        Err(text) => return Err(text),
    };
    let home = data.parent().unwrap_or(data);
    room_in_place_of(home, &present, size)?;
    let removed = match fs::rename(data, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sign.while_at(|| remove(old)),
    };
    removed.map_err(|error| format!("{}: {error}", data.display()))
}

/// Puts `new` in the place of `data`, which may be missing; what was there is then `new` or `old`.
fn exchange(new: &Path, data: &Path, old: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, data, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => fs::rename(new, data),
        // A file system, or a kernel, that cannot. Between the two steps there is no data; the next try begins anew.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(data, old)?;
            fs::rename(new, data)
        }
        Err(error) => Err(error.into()),
    }
}
