//! Too much, and too little room: refused, and nothing is left.

use std::fs;

use monopod::volumes::Deed;
use tempfile::TempDir;

use super::tree::told;
use super::{Bench, LIMIT, VOLUME, in_own_mounts, mount_new, names};

const ASKED: [(&str, u64); 1] = [(VOLUME, LIMIT)];

fn megabytes(count: usize) -> Vec<u8> {
    vec![7; count << 20]
}

#[test]
fn above_its_limit_a_volume_is_not_copied() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fs::write(data.join("a"), megabytes(3)).expect("written");
    fs::write(bench.volume("w-small").join("a"), "1").expect("written");
    // Blocks that are not decided on yet may not be counted.
    nix::unistd::sync();
    let asked = [("w-small", LIMIT), (VOLUME, 2 << 20)];
    let error = bench.ask(Deed::Snapshot, &asked).expect_err("too much");
    assert!(
        error.contains(VOLUME) && error.contains("snapshot_limit"),
        "{error}"
    );
    assert_eq!(bench.kept(), [""; 0]);
    let asked = [("w-small", LIMIT), (VOLUME, 4 << 20)];
    assert_eq!(bench.ask(Deed::Snapshot, &asked), Ok(()));
    // What is refused also takes the former copy: it is not of now.
    let asked = [(VOLUME, 2 << 20)];
    bench.ask(Deed::Snapshot, &asked).expect_err("too much");
    assert_eq!(bench.kept(), [""; 0]);
}

#[test]
fn a_disk_without_room_is_known_before_anything_is_copied() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let (small, large) = (folder.path().join("small"), folder.path().join("large"));
        mount_new(&["tmpfs"], 4, &small).expect("every kernel has it");
        let bench = Bench::on(folder, &small, &large);
        let data = bench.volume(VOLUME);
        fs::write(data.join("a"), megabytes(6)).expect("written");
        nix::unistd::sync();
        let error = bench.ask(Deed::Snapshot, &ASKED).expect_err("no room");
        assert!(error.contains("bytes, and"), "{error}");
        assert_eq!(bench.kept(), [""; 0]);
    });
}

/// Small files take more on the one file system than on the other, so that it comes to light only in the middle.
#[test]
fn a_disk_that_is_full_in_the_middle_is_left_as_it_was() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let (small, large) = (folder.path().join("small"), folder.path().join("large"));
        mount_new(&["tmpfs"], 4, &small).expect("every kernel has it");
        let fine = ["mkfs.ext4", "-q", "-b", "1024", "-N", "8000"];
        mount_new(&fine, 32, &large).expect("every kernel has it");
        let bench = Bench::on(folder, &small, &large);
        let data = bench.volume(VOLUME);
        for name in 0..2000 {
            fs::write(data.join(name.to_string()), "1").expect("written");
        }
        nix::unistd::sync();
        let error = bench.ask(Deed::Snapshot, &ASKED).expect_err("no room");
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(bench.kept(), [""; 0]);
        let stat = nix::sys::statvfs::statvfs(&small).expect("it says");
        assert!(
            stat.blocks() - stat.blocks_free() < 100,
            "the room is free again"
        );
        assert_eq!(names(&data).len(), 2000);
    });
}

/// A release that fills the disk must not stay because of it.
#[test]
fn a_volume_is_put_back_where_it_has_filled_the_disk() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let (large, small) = (folder.path().join("large"), folder.path().join("small"));
        mount_new(&["tmpfs"], 16, &small).expect("every kernel has it");
        let bench = Bench::on(folder, &large, &small);
        let data = bench.volume(VOLUME);
        fs::write(data.join("a"), megabytes(6)).expect("written");
        let before = told(&data);
        assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
        let fill = || {
            let file = fs::File::create(data.join("b")).expect("a file");
            let filled = std::io::copy(&mut std::io::repeat(7), &mut &file);
            filled.expect_err("the disk has an end");
        };
        fill();
        assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()));
        assert_eq!(told(&data), before);
        assert_eq!(names(data.parent().expect("it has one")), ["_data"]);
        // Somebody else has filled it: then nothing would help, and nothing is touched.
        fs::write(data.join("a"), "of the trial").expect("written");
        let other = fs::File::create(small.join("other")).expect("a file");
        let filled = std::io::copy(&mut std::io::repeat(7), &mut &other);
        filled.expect_err("the disk has an end");
        drop(other);
        let spoilt = told(&data);
        let error = bench.ask(Deed::Restore, &ASKED).expect_err("no room");
        assert!(error.contains("are free"), "{error}");
        assert_eq!(told(&data), spoilt);
        // Whoever clears up has it at the next try.
        fs::remove_file(small.join("other")).expect("it is there");
        assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()));
        assert_eq!(told(&data), before);
    });
}

#[test]
fn what_is_no_data_of_the_volumes_own_is_refused() {
    in_own_mounts(|| {
        let bench = Bench::new();
        let data = bench.volume(VOLUME);
        fs::create_dir(data.join("a")).expect("a folder");
        mount_new(&["tmpfs"], 4, &data.join("a/mounted")).expect("every kernel has it");
        let error = bench.ask(Deed::Snapshot, &ASKED).expect_err("a mount");
        assert!(
            error.contains("a/mounted is another file system"),
            "{error}"
        );
        nix::mount::umount(&data.join("a/mounted")).expect("it is mounted");
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::sys::stat::mknod(
            &data.join("null"),
            kind,
            mode,
            nix::sys::stat::makedev(1, 3),
        )
        .expect("root may");
        let error = bench.ask(Deed::Snapshot, &ASKED).expect_err("a device");
        assert!(error.contains("null is a device"), "{error}");
        assert_eq!(bench.kept(), [""; 0]);
    });
}
