//! Mounting a stick so that it can do no harm, and is done none.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

use super::probe::FileSystem;

/// What holds for every mount. The last bit, 256, is `MS_NOSYMFOLLOW` of Linux 5.10; older kernels pass
/// over it, and no link is followed without it either.
fn flags() -> MsFlags {
    MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NOATIME
        | MsFlags::from_bits_retain(256)
}

/// The driver's own options.
fn options(kind: FileSystem) -> String {
    // Everyone may read; we alone could write, if the mount allowed it.
    let ours = format!("uid={},fmask=0133,dmask=0022,errors=remount-ro", geteuid());
    match kind {
        FileSystem::Vfat => format!("{ours},utf8,shortname=mixed"),
        FileSystem::Exfat => ours,
        // A journal that was left dirty is not replayed: that would write.
        FileSystem::Ext4 => "noload,errors=remount-ro".to_owned(),
        FileSystem::Iso9660 => "mode=0444,dmode=0555,overriderockperm,utf8".to_owned(),
    }
}

/// A mounted stick; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
    kind: FileSystem,
    there: bool,
}

impl Mounted {
    /// Mounts the device read-only on a folder, in this process's mount namespace.
    pub fn new(device: &Path, kind: FileSystem, folder: &Path) -> io::Result<Self> {
        mount(
            Some(device),
            folder,
            Some(kind.as_str()),
            flags() | MsFlags::MS_RDONLY,
            Some(options(kind).as_str()),
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            kind,
            there: true,
        })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets root write to it, through to the device.
    pub fn make_writable(&self) -> io::Result<()> {
        mount(
            None::<&Path>,
            self.folder.as_path(),
            None::<&str>,
            flags() | MsFlags::MS_REMOUNT | MsFlags::MS_SYNCHRONOUS,
            Some(options(self.kind).as_str()),
        )?;
        Ok(())
    }

    /// Unmounts it. What is still in use goes away with who uses it.
    ///
    /// # Errors
    ///
    /// It is in use: the stick is not free yet.
    pub fn unmount(mut self) -> io::Result<()> {
        self.there = false;
        let result = umount2(self.folder.as_path(), MntFlags::UMOUNT_NOFOLLOW);
        if result.is_err() {
            self.detach();
        }
        Ok(result?)
    }

    fn detach(&self) {
        // Of no matter if it fails: the namespace ends with the unit.
        let _ = umount2(
            self.folder.as_path(),
            MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
        );
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            self.detach();
        }
    }
}
