//! What is read of a stick, and that nothing is written to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use monopod::release::Releases;
use tempfile::TempDir;

use crate::build::layer;
use crate::forge::{Forge, Parts};
use crate::node::TWO;
use crate::stick::{Node, Stick, bundle, driver, run, small};

#[test]
fn each_file_system_is_read_and_stays_as_it_was() {
    for kind in ["ext4", "vfat", "exfat", "iso9660"] {
        if !driver(kind) {
            continue;
        }
        let (one, two) = (small(7), bundle(8, &[layer(1, 300_000), layer(2, 3000)]));
        let stick = Stick::new(
            kind,
            &[("a gateway.bundle", &one), ("monopod/new.bundle", &two)],
        );
        let before = stick.digest();
        let node = Node::new("");
        let came = node.read(&stick);
        assert_eq!(came.code, Some(0), "{kind}: {came:?}");
        assert_eq!(stick.digest(), before, "{kind} was written to");
        // The newer one of the same key, and only that.
        assert_eq!((node.sequences(), node.images()), (vec![8], 1), "{kind}");
        for words in [
            "monopod/new.bundle taken: release 1.4.2, sequence 8",
            "not newer than",
            "can be removed",
        ] {
            assert!(came.words.contains(words), "{kind}: {words}: {came:?}");
        }
        assert!(!node.path("run/monopod-import").join(&stick.name).exists());
        // The second time nothing of it is read but the manifest.
        let again = node.read(&stick);
        assert!(
            again.words.contains("was taken before"),
            "{kind}: {again:?}"
        );
        assert_eq!(again.code, Some(0), "{kind}");
        // Nor when the daemon has it.
        let adopted = Releases::adopt_here(&node.paths(), &[]).expect("it can be looked at");
        assert_eq!(adopted.taken.len(), 1, "{kind}: {adopted:?}");
        let again = node.read(&stick);
        assert!(
            again.words.contains("was taken before"),
            "{kind}: {again:?}"
        );
        assert!(node.releases().is_empty(), "{kind}");
    }
}

#[test]
fn a_dirty_journal_is_not_replayed() {
    let stick = Stick::new("ext4", &[("a.bundle", &small(7))]);
    // With it, a driver writes at any mount, and the stick is refused.
    run(Command::new("tune2fs")
        .args(["-O", "^orphan_file"])
        .arg(format!("/dev/{}", stick.name)));
    let folder = TempDir::new().expect("a folder");
    let copy = folder.path().join("copy");
    // As it is on the disk while somebody writes to it.
    let script = "mount \"/dev/$1\" /mnt; echo x >/mnt/new; sync -f /mnt; cp --sparse=always \"$2\" \"$3\"; umount /mnt";
    run(Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, "sh", &stick.name])
        .args([&stick.image, &copy]));
    let features = run(Command::new("dumpe2fs").arg("-h").arg(&copy));
    assert!(features.contains("needs_recovery"), "{features}");
    let dirty = Stick::attach(copy, None, folder).known_as("E:ID_FS_LABEL=MONOPOD\n");
    let before = dirty.digest();
    let node = Node::new("[usb]\nresult = true\n");
    let came = node.read(&dirty);
    assert_eq!(
        (came.code, dirty.digest() == before),
        (Some(0), true),
        "{came:?}"
    );
    assert_eq!(node.sequences(), [7]);
    assert!(
        came.words.contains("gets no MONOPOD-RESULT.txt"),
        "{came:?}"
    );
}

#[test]
fn what_is_not_for_us_is_left_alone() {
    let stick = Stick::new("ext4", &[("a.bundle", &small(7))]).known_as("E:ID_FS_LABEL=HOLIDAY\n");
    let node = Node::new("");
    let came = node.read(&stick);
    assert_eq!(
        (came.code, came.words.as_str()),
        (Some(0), ""),
        "without a word"
    );
    assert!(node.releases().is_empty());
    let any = Node::new("[usb]\nany_label = true\n");
    assert_eq!(any.read(&stick).code, Some(0));
    assert_eq!(any.sequences(), [7]);
}

#[test]
fn other_file_systems_are_refused() {
    for (kind, words) in [
        ("xfs", "formatted with xfs"),
        ("btrfs", "formatted with btrfs"),
    ] {
        let folder = TempDir::new().expect("a folder");
        let content = folder.path().join("content");
        fs::create_dir(&content).expect("a folder");
        let stick = Stick::of(kind, &content, folder);
        // Whatever udev says, or does not.
        for entry in [
            format!("E:ID_FS_LABEL=MONOPOD\nE:ID_FS_TYPE={kind}\n"),
            "E:ID_FS_LABEL=MONOPOD\n".to_owned(),
        ] {
            let stick = Stick::attach(
                stick.image.clone(),
                Some(&entry),
                TempDir::new().expect("a folder"),
            );
            let came = Node::new("").read(&stick);
            assert_eq!(came.code, Some(1), "{came:?}");
            assert!(came.words.contains(words), "{came:?}");
        }
    }
}

#[test]
fn one_refusal_does_not_keep_the_others_away() {
    let mut flipped = small(9);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let elsewhere =
        Forge::good().with(|manifest| manifest.boards = vec!["another,board".to_owned()]);
    let stranger = Parts::good().forge().seal_with(TWO);
    let stick = Stick::new(
        "ext4",
        &[
            ("a-flipped.bundle", &flipped),
            ("b-good.bundle", &small(8)),
            ("c-elsewhere.bundle", &elsewhere),
            ("d-stranger.bundle", &stranger),
            ("e-nothing.bundle", b"PK\x03\x04"),
            ("f.tar", b"not looked at"),
        ],
    );
    let node = Node::new("[usb]\nled = \"usb\"\n");
    let led = node.path("sys/class/leds/usb");
    fs::create_dir_all(&led).expect("a folder");
    for name in ["trigger", "delay_on", "delay_off"] {
        fs::write(led.join(name), "").expect("a file");
    }
    let came = node.read(&stick);
    assert_eq!(came.code, Some(4), "{came:?}");
    assert_eq!((node.sequences(), node.images()), (vec![8], 1));
    for words in [
        "a-flipped.bundle refused: member",
        "b-good.bundle taken",
        "c-elsewhere.bundle passed over: it is for board another,board",
        "d-stranger.bundle refused: it is signed by key",
        "e-nothing.bundle refused: it is no bundle",
    ] {
        assert!(came.words.contains(words), "{words}: {}", came.words);
    }
    assert!(!came.words.contains("f.tar"), "{}", came.words);
    assert_eq!(
        fs::read_to_string(led.join("delay_off")).expect("a file"),
        "100"
    );
}

#[test]
fn a_stick_pulled_out_is_gone_on_with() {
    let layers = [layer(1, 20 << 20), layer(2, 20 << 20), layer(3, 3000)];
    let bytes = bundle(7, &layers);
    let whole = Stick::new("ext4", &[("a.bundle", &bytes)]);
    // The second layer's bytes are where the medium ends: it is found by what is in it.
    let parts = Parts::of(&layers);
    let image = fs::read(&whole.image).expect("the image");
    let mut large = parts.layers.clone();
    large.retain(|layer| layer.len() > 1 << 20);
    // In the bundle they are in the order of their digests.
    large.sort_by_key(|layer| monopod::image::Digest::of(layer));
    let mark = &large[1][5 << 20..(5 << 20) + 64];
    let at = image
        .windows(64)
        .position(|window| window == mark)
        .expect("it is there");
    let folder = TempDir::new().expect("a folder");
    let cut = folder.path().join("cut");
    fs::copy(&whole.image, &cut).expect("a copy");
    let pulled = Stick::attach(cut.clone(), Some("E:ID_FS_LABEL=MONOPOD\n"), folder);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&cut)
        .expect("the image");
    file.set_len(at as u64 & !4095).expect("cut off");
    let node = Node::new("");
    let came = node.read(&pulled);
    assert_eq!(came.code, Some(1), "{came:?}");
    assert!(
        came.words.contains("a.bundle not taken: cannot be read"),
        "{came:?}"
    );
    assert!(came.words.contains("can be removed"), "{came:?}");
    assert_eq!(
        (node.releases().len(), node.images()),
        (0, 0),
        "nothing half"
    );
    // The next time, only what was not there yet is read.
    let before = whole.bytes_read();
    let came = node.read(&whole);
    assert_eq!(came.code, Some(0), "{came:?}");
    assert_eq!((node.sequences(), node.images()), (vec![7], 1));
    let read = whole.bytes_read() - before;
    let rest = bytes.len() as u64 - large[0].len() as u64;
    assert!(
        read < rest + (2 << 20),
        "{read} bytes were read of {}, {rest} were new",
        bytes.len()
    );
    assert!(
        read > large[1].len() as u64,
        "{read}: it was read from somewhere else"
    );
}

#[test]
fn links_lead_nowhere_and_many_files_take_no_time() {
    let folder = TempDir::new().expect("a folder");
    let content = folder.path().join("content");
    fs::create_dir(&content).expect("a folder");
    for number in 0..10_000 {
        fs::write(content.join(format!("picture-{number}.jpg")), "").expect("a file");
    }
    let outside = TempDir::new().expect("a folder");
    let target = outside.path().join("x.bundle");
    fs::write(&target, small(9)).expect("a file");
    symlink(&target, content.join("link.bundle")).expect("a link");
    symlink(outside.path(), content.join("monopod")).expect("a link");
    fs::write(content.join("z.bundle"), small(7)).expect("a file");
    let stick = Stick::of("ext4", &content, folder);
    let node = Node::new("");
    let came = node.read(&stick);
    assert_eq!(came.code, Some(1), "{came:?}");
    assert_eq!(
        node.sequences(),
        [7],
        "and not what the links lead to: {came:?}"
    );
    assert!(came.words.contains("link.bundle not taken"), "{came:?}");
}

#[test]
fn the_result_is_written_if_it_may_be() {
    let node = Node::new("[usb]\nresult = true\n");
    let stick = Stick::new("ext4", &[("a.bundle", &small(7))]);
    let came = node.read(&stick);
    assert_eq!(came.code, Some(0), "{came:?}");
    let text = run(Command::new("debugfs")
        .args(["-R", "cat /MONOPOD-RESULT.txt"])
        .arg(&stick.image));
    assert!(
        text.contains(": ok") && text.contains("a.bundle taken: release 1.4.2"),
        "{text}"
    );
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(&stick.image));
}

#[test]
fn archives_are_for_who_allows_them() {
    let image = crate::build::image_for(
        "example/tool:1",
        &[layer(5, 3000)],
        &monopod::image::host_architectures()[0],
    );
    let archive = crate::build::pack(crate::build::Dialect::Docker25, &[image]);
    let stick = Stick::new("ext4", &[("tool.tar", &archive)]);
    let strict = Node::new("");
    let came = strict.read(&stick);
    assert!(came.words.contains("no bundle is on it"), "{came:?}");
    assert_eq!(strict.images(), 0);
    let open = Node::new("[usb]\nunsigned = true\n");
    let came = open.read(&stick);
    assert_eq!((came.code, open.images()), (Some(0), 1), "{came:?}");
    assert!(
        came.words.contains("tool.tar taken, unsigned: "),
        "{came:?}"
    );
}

#[test]
fn what_was_taken_is_verified_again_by_the_daemon() {
    let node = Node::new("");
    let stick = Stick::new("ext4", &[("a.bundle", &small(7))]);
    node.read(&stick);
    let release = &node.releases()[0];
    let adopted = Releases::adopt_here(&node.paths(), &[]).expect("it can be looked at");
    assert_eq!(adopted.taken.len(), 1, "{adopted:?}");
    let trust = monopod::bundle::Trust::of_folder(&node.paths().keys()).expect("keys");
    let releases = Releases::new(&node.paths());
    assert_eq!(
        releases.verify(&release.id, &trust).expect("it holds"),
        release.origin
    );
}
