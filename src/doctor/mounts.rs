//! Which file system a path is on, and how it is mounted: from `/proc/self/mountinfo` (proc(5)).

use std::path::{Path, PathBuf};

use super::Machine;

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub point: String,
    /// `MAJOR:MINOR`.
    pub device: String,
    /// `ext4`, `tmpfs`, ...
    pub kind: String,
    /// What is mounted, such as `/dev/mmcblk0p2`.
    pub source: String,
    /// The mount's options and the file system's.
    pub options: Vec<String>,
    /// On flash without moving parts.
    pub flash: bool,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }
}

/// The mount that a path is on. The path itself need not be there yet.
pub(super) fn of(machine: &Machine, path: &Path) -> Option<Mount> {
    let real = existing(path);
    let real = std::fs::canonicalize(&real).unwrap_or(real);
    let mut mount = find(&machine.text("/proc/self/mountinfo"), &real)?;
    mount.flash = flash(machine, &mount.device, &mount.source);
    Some(mount)
}

/// The path, or the nearest folder above it that is there.
pub(super) fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// The last mount at the longest point above `path`: what is mounted later covers what was there.
fn find(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for mount in mountinfo.lines().filter_map(parse) {
        let longer = best
            .as_ref()
            .is_none_or(|best| mount.point.len() >= best.point.len());
        if longer && path.starts_with(&mount.point) {
            best = Some(mount);
        }
    }
    best
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let device = mount.next()?;
    let point = mount.nth(1)?;
    let options = mount.next()?;
    let mut system = system.split(' ');
    let (kind, source) = (system.next()?, system.next()?);
    let further = system.next().unwrap_or_default();
    Some(Mount {
        point: unescape(point),
        device: device.to_owned(),
        kind: kind.to_owned(),
        source: unescape(source),
        options: options
            .split(',')
            .chain(further.split(','))
            .map(str::to_owned)
            .collect(),
        flash: false,
    })
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Whether a block device is flash: an SD card or eMMC by its name, or a disk that does not rotate.
pub(super) fn flash(machine: &Machine, device: &str, source: &str) -> bool {
    if source.starts_with("/dev/mmcblk")
        || source.starts_with("/dev/mtd")
        || source.starts_with("ubi")
    {
        return true;
    }
    // A virtual machine's disk says nothing about what it is made of.
    if source.starts_with("/dev/vd") {
        return false;
    }
    ["queue", "../queue"].iter().any(|queue| {
        machine
            .text(&format!("/sys/dev/block/{device}/{queue}/rotational"))
            .trim()
            == "0"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw,data=writeback
28 27 8:1 / /var rw,relatime - ext4 /dev/sda1 rw
29 27 8:2 / /var/lib/mono\\040pod rw - xfs /dev/sda2 rw
30 27 0:50 / /var rw - tmpfs tmpfs rw,size=4k
nonsense
";

    #[test]
    fn the_nearest_mount_counts() {
        let table = [
            ("/etc/monopod", "/", "ext4"),
            ("/variety", "/", "ext4"),
            // What came later covers.
            ("/var/lib", "/var", "tmpfs"),
            ("/var/lib/mono pod/store", "/var/lib/mono pod", "xfs"),
        ];
        for (path, point, kind) in table {
            let mount = find(INFO, Path::new(path)).unwrap();
            assert_eq!(
                (mount.point.as_str(), mount.kind.as_str()),
                (point, kind),
                "{path}"
            );
        }
        let root = find(INFO, Path::new("/etc")).unwrap();
        assert_eq!(root.source, "/dev/mmcblk0p2");
        assert!(root.has("noatime") && root.has("data=writeback") && !root.has("ro"));
        assert_eq!(find("", Path::new("/")), None);
    }
}
