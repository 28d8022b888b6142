//! A volume with all that makes a copy hard, and all that can be told of a tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

/// Size of the file that is nearly all hole, bytes.
const SPARSE: u64 = 8 << 20;

/// Whether the file system takes attributes of the user's, which tmpfs does on newer kernels only.
pub fn takes_attributes(folder: &Path) -> bool {
    let probe = folder.join("probe");
    fs::write(&probe, "").expect("written");
    let taken = lsetxattr(&probe, "user.probe", b"1", XattrFlags::empty()).is_ok();
    fs::remove_file(probe).expect("it is there");
    taken
}

/// Fills a folder with one of each.
pub fn fill(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let mode = |name: &str, mode| {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("a mode");
    };
    for name in ["empty", "deep", "deep/er", "shared", "-rf"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    for (name, content) in [
        ("plain", "a page of settings"),
        ("nothing", ""),
        ("deep/er/linked", "one of three names"),
        ("program", "setuid"),
        ("-rf/--", "an option?"),
        (" a\nb\t", "a strange name"),
    ] {
        fs::write(at(name), content).expect("a file");
    }
    fs::write(folder.join(OsStr::from_bytes(b"not \xff utf-8")), "bytes").expect("a file");
    fs::hard_link(at("deep/er/linked"), at("deep/again")).expect("a link");
    fs::hard_link(at("deep/er/linked"), at("shared/third")).expect("a link");
    symlink("/etc/passwd", at("outside")).expect("a link");
    symlink("nowhere", at("dangling")).expect("a link");
    symlink("deep/er", at("inside")).expect("a link");
    nix::unistd::mkfifo(&at("pipe"), Mode::from_bits_truncate(0o620)).expect("a pipe");
    // Its file stays when it is closed, as a server's does that was killed.
    drop(std::os::unix::net::UnixListener::bind(at("deep/socket")).expect("a socket"));
    let mut sparse = File::create(at("sparse")).expect("a file");
    sparse.set_len(SPARSE).expect("a size");
    sparse.seek(SeekFrom::Start(SPARSE / 2)).expect("a place");
    sparse.write_all(b"an island").expect("written");
    for (name, user, group) in [
        ("plain", 1234, 5678),
        ("shared", 0, 5678),
        ("deep/er", 4_000_000, 4_000_001),
        ("program", 1234, 0),
    ] {
        chown(at(name), Some(user), Some(group)).expect("root may");
    }
    std::os::unix::fs::lchown(at("outside"), Some(77), Some(88)).expect("root may");
    // After the owner, which takes these bits away.
    for (name, bits) in [
        ("plain", 0o640),
        ("nothing", 0o000),
        ("shared", 0o2775),
        ("program", 0o4711),
        ("deep", 0o1777),
    ] {
        mode(name, bits);
    }
    let set = |name: &str, key: &str, value: &[u8]| {
        lsetxattr(at(name), key, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    };
    if takes_attributes(folder) {
        set("plain", "user.note", b"kept\0whole");
        set("deep", "user.folder", b"too");
    }
    // cap_net_bind_service+ep, as the kernel writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("-rf/--", "security.capability", &capability);
    let when = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let times = FileTimes::new().set_modified(when).set_accessed(when);
    for name in ["plain", "deep/er"] {
        let file = File::open(at(name)).expect("open");
        file.set_times(times).expect("dated");
    }
    fs::set_permissions(folder, Permissions::from_mode(0o2750)).expect("a mode");
    chown(folder, Some(1000), Some(1001)).expect("root may");
    fs::set_permissions(folder, Permissions::from_mode(0o2750)).expect("a mode");
}

/// What a release that is tried does to it.
pub fn spoil(folder: &Path) {
    fs::write(folder.join("plain"), "other settings").expect("written");
    fs::remove_file(folder.join("deep/again")).expect("it is there");
    fs::remove_dir(folder.join("empty")).expect("it is there");
    fs::write(folder.join("new"), "of the trial").expect("written");
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("a mode");
    let mut grown = OpenOptions::new()
        .append(true)
        .open(folder.join("shared/third"))
        .expect("open");
    grown.write_all(b", and more").expect("written");
}

/// All that can be told of a tree, a line for each name, but its size on disk and its place.
pub fn told(folder: &Path) -> String {
    let mut lines = BTreeMap::new();
    let mut names = BTreeMap::new();
    tell(folder, folder, &mut lines, &mut names);
    lines.into_values().collect()
}

fn tell(
    top: &Path,
    path: &Path,
    lines: &mut BTreeMap<Vec<u8>, String>,
    names: &mut BTreeMap<u64, Vec<u8>>,
) {
    let found = fs::symlink_metadata(path).expect("it is there");
    let name = path
        .strip_prefix(top)
        .expect("below")
        .as_os_str()
        .as_bytes()
        .to_vec();
    let mut line = format!(
        "{} {:o} {}:{} ",
        name.escape_ascii(),
        found.mode(),
        found.uid(),
        found.gid()
    );
    let time = (found.mtime(), found.mtime_nsec());
    let _ = write!(line, "{time:?} ");
    if found.is_file() {
        let bytes = fs::read(path).expect("root may read");
        let _ = write!(line, "{} {:x} ", bytes.len(), sum(&bytes));
        let first = names.entry(found.ino()).or_insert_with(|| name.clone());
        let _ = write!(line, "{}x{} ", found.nlink(), first.escape_ascii());
    } else if found.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        let _ = write!(line, "{} ", target.display());
    }
    if !found.is_symlink() {
        let mut list = vec![0; 4096];
        let length = llistxattr(path, &mut list).expect("a list");
        let mut keys: Vec<_> = list[..length].split(|byte| *byte == 0).collect();
        keys.sort_unstable();
        for key in keys.into_iter().filter(|key| !key.is_empty()) {
            let mut value = vec![0; 4096];
            let length = lgetxattr(path, OsStr::from_bytes(key), &mut value).expect("a value");
            let (key, value) = (key.escape_ascii(), value[..length].escape_ascii());
            let _ = write!(line, "{key}={value} ");
        }
    }
    line.push('\n');
    lines.insert(name, line);
    if found.is_dir() {
        let mut below: Vec<_> = fs::read_dir(path)
            .expect("root may read")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        below.sort_unstable();
        for path in below {
            tell(top, &path, lines, names);
        }
    }
}

/// FNV-1a: enough to tell what a test wrote from what it did not.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
