//! A copy has all that the volume has, on each kind of file system, and puts all of it back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use monopod::volumes::Deed;
use tempfile::TempDir;

use super::tree::{fill, spoil, takes_attributes, told};
use super::{Bench, LIMIT, RELEASE, VOLUME, in_own_mounts, mount_new, names, skipped};

const ASKED: [(&str, u64); 1] = [(VOLUME, LIMIT)];

/// Copies a volume with one of each, has it spoilt, and puts it back, twice.
fn there_and_back(bench: &Bench) {
    let data = bench.volume(VOLUME);
    fill(&data);
    let before = told(&data);
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    assert_eq!(told(&data), before, "the volume is as it was");
    assert_eq!(told(&bench.copy_of(VOLUME)), before, "the copy is the same");
    assert_eq!(bench.kept(), [RELEASE]);
    let snapshots = fs::metadata(bench.snapshots()).expect("it is there");
    assert_eq!((snapshots.mode() & 0o7777, snapshots.uid()), (0o700, 0));
    let sparse = fs::metadata(bench.copy_of(VOLUME).join("sparse")).expect("it is there");
    assert!(
        sparse.blocks() * 512 < 1 << 20,
        "the hole is a hole: {sparse:?}"
    );
    for round in 0..2 {
        spoil(&data);
        assert_ne!(told(&data), before);
        assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()), "{round}");
        assert_eq!(told(&data), before, "{round}");
        let home = data.parent().expect("it has one");
        assert_eq!(names(home), ["_data"], "{round}: nothing is left beside it");
        // What was put back is not what is kept.
        fs::create_dir_all(data.join("deep/again.d")).expect("a folder");
        assert_eq!(told(&bench.copy_of(VOLUME)), before, "{round}");
        fs::remove_dir(data.join("deep/again.d")).expect("it is there");
    }
    assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()));
    assert_eq!(told(&data), before);
    for _ in 0..2 {
        assert_eq!(bench.ask(Deed::Forget, &[]), Ok(()));
        assert_eq!(bench.kept(), [""; 0]);
    }
    let error = bench
        .ask(Deed::Restore, &ASKED)
        .expect_err("it is forgotten");
    assert!(error.contains("there is no copy of it"), "{error}");
    assert_eq!(told(&data), before);
}

#[test]
fn a_volume_is_copied_and_put_back_whole() {
    let bench = Bench::new();
    let folder = TempDir::new().expect("a folder");
    assert!(takes_attributes(folder.path()), "or the half is not tested");
    there_and_back(&bench);
}

/// Copies where neither the room nor the time would do for a copy byte by byte.
fn shared_blocks(make: &'static [&'static str], megabytes: u64) {
    in_own_mounts(move || {
        let folder = TempDir::new().expect("a folder");
        let place = folder.path().join("disk");
        if let Err(why) = mount_new(make, megabytes, &place) {
            return skipped(make[0], &why);
        }
        let bench = Bench::on(folder, &place.join("state"), &place.join("data"));
        there_and_back(&bench);
        let data = bench.data(VOLUME);
        let large = data.join("large");
        let free = || {
            let stat = nix::sys::statvfs::statvfs(&place).expect("it says");
            stat.blocks_available() * stat.fragment_size()
        };
        let size = free() / 3 * 2;
        let content: Vec<u8> = (0..1 << 20)
            .map(|at: u32| at.to_le_bytes()[at as usize % 3])
            .collect();
        let mut file = fs::File::create(&large).expect("a file");
        for _ in 0..size >> 20 {
            std::io::Write::write_all(&mut file, &content).expect("there is room");
        }
        file.sync_all().expect("synced");
        drop(file);
        let before = free();
        assert!(before < size, "else nothing is shown: {before} {size}");
        assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
        fs::remove_file(&large).expect("it is there");
        assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()));
        let (data, copy) = (told(&data), told(&bench.copy_of(VOLUME)));
        assert!(data.contains("large ") && data == copy);
    });
}

#[test]
fn btrfs_shares_the_blocks() {
    shared_blocks(&["mkfs.btrfs", "--quiet"], 256);
}

#[test]
fn xfs_shares_the_blocks() {
    shared_blocks(&["mkfs.xfs", "-q", "-m", "reflink=1"], 320);
}

/// The volumes on one file system and the copies on another.
#[test]
fn two_file_systems_will_do() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for place in [&one, &other] {
            mount_new(&["mkfs.ext4", "-q"], 64, place).expect("every kernel has it");
        }
        there_and_back(&Bench::on(folder, &one.join("state"), &other.join("data")));
    });
}

/// A node whose root is an overlay: its files bear another device number than its folders.
#[test]
fn an_overlay_will_do() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["lower", "overlay"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        mount_new(&["tmpfs"], 64, &at("disk")).expect("every kernel has it");
        for name in ["disk/upper", "disk/work"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("lower").display(),
            at("disk/upper").display(),
            at("disk/work").display()
        );
        let (kind, flags) = (Some("overlay"), nix::mount::MsFlags::empty());
        nix::mount::mount(kind, &at("overlay"), kind, flags, Some(options.as_str()))
            .expect("Docker needs it too");
        let (state, data) = (at("overlay/state"), at("overlay/data"));
        there_and_back(&Bench::on(folder, &state, &data));
    });
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[test]
fn several_volumes_are_one_copy() {
    let bench = Bench::new();
    let (one, two) = (bench.volume("w-one"), bench.volume("w-two"));
    let asked = [("w-one", LIMIT), ("w-none", LIMIT), ("w-two", LIMIT)];
    write(&one.join("a"), "1");
    assert_eq!(bench.ask(Deed::Snapshot, &asked), Ok(()));
    let copies = bench.snapshots().join(RELEASE);
    assert_eq!(names(&copies), ["w-none", "w-one", "w-two"]);
    // One was not there, and is; one was empty.
    let none = bench.volume("w-none");
    for data in [&one, &two, &none] {
        write(&data.join("a"), "2");
        write(&data.join("b"), "2");
    }
    assert_eq!(bench.ask(Deed::Restore, &asked), Ok(()));
    assert_eq!(names(&one), ["a"]);
    assert_eq!(fs::read_to_string(one.join("a")).expect("a file"), "1");
    assert_eq!([names(&two), names(&none)], [[""; 0], [""; 0]]);
    // A copy that was not made of all of them puts back none.
    write(&one.join("a"), "3");
    let more = [("w-one", LIMIT), ("w-more", LIMIT)];
    let error = bench
        .ask(Deed::Restore, &more)
        .expect_err("there is no copy of one");
    assert!(error.contains("w-more"), "{error}");
    assert_eq!(fs::read_to_string(one.join("a")).expect("a file"), "3");
    // The next one takes the former's place, and that of one that nobody has lived to forget.
    let other = bench.snapshots().join("ba9876543210");
    fs::create_dir_all(other.join("w-one")).expect("root may");
    assert_eq!(bench.ask(Deed::Snapshot, &[("w-one", LIMIT)]), Ok(()));
    assert_eq!(bench.kept(), [RELEASE]);
    assert_eq!(names(&copies), ["w-one"]);
    let kept = fs::read_to_string(copies.join("w-one/a")).expect("a file");
    assert_eq!(kept, "3");
}

#[test]
fn the_daemon_may_read_the_answer() {
    let bench = Bench::new();
    bench.volume(VOLUME);
    bench.put(Deed::Snapshot, &ASKED, 7);
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_monopod"))
        .arg("--root")
        .arg(&bench.root)
        .arg("volumes")
        .output();
    assert!(output.expect("it runs").status.success());
    let folder = bench.root.join("run/monopod/rescue-answers");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!(mode(&folder), 0o755);
    assert_eq!(mode(&folder.join(format!("snapshot-{RELEASE}"))), 0o644);
    assert_eq!(mode(&bench.snapshots().join(RELEASE)), 0o700);
}
