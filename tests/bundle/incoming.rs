//! What lies in the drop folder when the daemon looks there: good, hostile, and without end.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use monopod::bundle::read_raw;
use monopod::core::update::ReleaseId;
use monopod::image::Digest;
use monopod::paths::Paths;
use monopod::release::{Adopted, Origin, Release, Releases};

use crate::build::layer;
use crate::forge::{Forge, Parts};
use crate::node::{Node, ONE, TWO};

const KEY: &str = "867D1766D3C62C31";

fn paths(node: &Node) -> Paths {
    Paths::new(node.root.path())
}

/// A look into the drop folder, as the daemon takes it.
fn look(node: &Node) -> Adopted {
    Releases::adopt_here(&paths(node), &[]).expect("it can be looked at")
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What the process that parses bundles leaves of this one; its folder.
fn dropped(node: &Node, bundle: &[u8]) -> PathBuf {
    let incoming = paths(node).incoming();
    let before = names(&incoming);
    node.write("a.bundle", bundle);
    node.must(&["import", "a.bundle"]);
    let new = names(&incoming)
        .into_iter()
        .find(|name| !before.contains(name));
    incoming.join(new.expect("it is dropped"))
}

/// The same by hand, where that process would refuse it.
fn forged(node: &Node, parts: &Parts, change: impl FnOnce(&mut Forge), key: &str) -> PathBuf {
    let folder = dropped(node, &parts.forge().seal());
    let mut forge = parts.forge();
    change(&mut forge);
    let raw = read_raw(&mut forge.seal_with(key).as_slice()).expect("a bundle");
    fs::write(folder.join("manifest"), raw.manifest).expect("a file");
    fs::write(folder.join("manifest.minisig"), raw.signature).expect("a file");
    folder
}

fn the_one(node: &Node) -> Release {
    let mut found = Releases::new(&paths(node)).list().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).expect("it is whole")
}

fn image_file(folder: &Path) -> PathBuf {
    let name = names(folder)
        .into_iter()
        .find(|name| name.starts_with("image-"));
    folder.join(name.expect("it has an image"))
}

/// Changes the bytes of a file in their middle.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn what_holds_becomes_a_release() {
    let node = Node::new();
    let folder = dropped(&node, &Forge::good().seal());
    let id = folder
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(ReleaseId::new);
    let id = id.expect("its name is its id");
    // Nobody but the daemon makes one of it.
    assert!(names(&paths(&node).releases()).is_empty());
    let listed = node.run(&["release", "list"]);
    assert!(
        listed.stderr.contains(id.as_str()) && listed.stderr.contains("waiting for the daemon"),
        "{}",
        listed.stderr
    );
    let shown = node.run(&["release", "show", id.as_str()]);
    assert_eq!(shown.code, Some(1), "{}", shown.stderr);
    assert!(
        shown.stderr.contains("has not checked it yet"),
        "{}",
        shown.stderr
    );
    // What its record says is nobody's word: neither whose it is, nor what it runs.
    let record = folder.join("release.json");
    let text = fs::read_to_string(&record).expect("text");
    for lie in [
        text.replace("\"sequence\":7", "\"sequence\":70"),
        text.replace("sha256:", "sha256:0"),
        r#"{"origin":"local"}"#.to_owned(),
        "{".repeat(60_000),
        String::new(),
    ] {
        let again = dropped_again(&node, &folder);
        fs::write(again.join("release.json"), lie).expect("a file");
        let came = look(&node);
        assert_eq!(came.taken.len(), 1, "{came:?}");
        assert!(!came.is_unfinished(), "{came:?}");
        let release = the_one(&node);
        assert_eq!(release.id, id);
        assert_eq!(
            release.origin,
            Origin::Bundle {
                version: "1.4.2".to_owned(),
                sequence: 7,
                key: KEY.to_owned()
            }
        );
        assert_eq!(release.workload, "gateway");
        assert_eq!(names(&paths(&node).incoming()), [""; 0]);
        fs::remove_dir_all(paths(&node).releases()).expect("a folder");
    }
}

/// What was dropped once, there once more.
fn dropped_again(node: &Node, folder: &Path) -> PathBuf {
    if !folder.exists() {
        node.must(&["import", "a.bundle"]);
    }
    assert!(folder.exists());
    folder.to_owned()
}

type Deed = fn(&Node, &Path);

/// What somebody does to a good release in the drop folder, and why it is refused then.
const HOSTILE: &[(&str, Deed, &str)] = &[
    (
        "a link to a folder",
        |node, folder| {
            fs::rename(folder, node.path("elsewhere")).expect("moved");
            symlink(node.path("elsewhere"), folder).expect("a link");
        },
        "it is no folder",
    ),
    (
        "a file",
        |_, folder| {
            fs::remove_dir_all(folder).expect("a folder");
            fs::write(folder, "x").expect("a file");
        },
        "it is no folder",
    ),
    (
        "a link to a file",
        |node, folder| {
            let away = node.path("elsewhere");
            fs::create_dir(&away).expect("a folder");
            fs::rename(folder.join("manifest"), away.join("manifest")).expect("moved");
            symlink(away.join("manifest"), folder.join("manifest")).expect("a link");
        },
        "manifest is no plain file",
    ),
    (
        "a link to a file of the system",
        |_, folder| {
            fs::remove_file(folder.join("workload.toml")).expect("a file");
            symlink("/etc/hostname", folder.join("workload.toml")).expect("a link");
        },
        "workload.toml is no plain file",
    ),
    (
        "a pipe",
        |_, folder| {
            let pipe = folder.join("manifest.minisig");
            fs::remove_file(&pipe).expect("a file");
            let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo");
            assert!(made.success());
        },
        "manifest.minisig is no plain file",
    ),
    (
        "a socket",
        |_, folder| {
            fs::remove_file(folder.join("manifest")).expect("a file");
            UnixListener::bind(folder.join("manifest")).expect("a socket");
        },
        "manifest is no plain file",
    ),
    (
        "a folder for a file",
        |_, folder| {
            fs::remove_file(folder.join("pre-switch")).expect("a file");
            fs::create_dir_all(folder.join("pre-switch/a/b/c")).expect("folders");
            fs::write(folder.join("pre-switch/a/b/c/d"), "x").expect("a file");
        },
        "pre-switch is no plain file",
    ),
    (
        "a file without end",
        |_, folder| {
            let file = File::create(folder.join("manifest")).expect("a file");
            file.set_len(1 << 40).expect("with holes");
        },
        "manifest is too large",
    ),
    (
        "a huge workload",
        |_, folder| {
            let file = File::create(folder.join("workload.toml")).expect("a file");
            file.set_len((1 << 20) + 1).expect("with holes");
        },
        "workload.toml is too large",
    ),
    (
        "nothing in the signature",
        |_, folder| {
            fs::write(folder.join("manifest.minisig"), "").expect("a file");
        },
        "manifest.minisig is empty",
    ),
    (
        "another file",
        |_, folder| {
            fs::write(folder.join("extra"), "x").expect("a file");
        },
        "extra is no file that was signed",
    ),
    (
        "many other files",
        |_, folder| {
            for number in 0..500 {
                fs::write(folder.join(format!(".{number}")), "x").expect("a file");
            }
        },
        "is no file that was signed",
    ),
    (
        "another image",
        |_, folder| {
            let name = format!("image-{}", Digest::of(b"x").hex());
            fs::write(folder.join(name), "x").expect("a file");
        },
        "is no file that was signed",
    ),
    (
        "another release's id",
        |_, folder| {
            let other = folder.with_file_name("0123456789ab");
            fs::rename(folder, other).expect("moved");
        },
        "its content is not what its id says",
    ),
    (
        "a changed workload",
        |_, folder| flip(&folder.join("workload.toml")),
        "workload.toml is not the one that was signed",
    ),
    (
        "a changed hook",
        |_, folder| flip(&folder.join("pre-switch")),
        "pre-switch is not the one that was signed",
    ),
    (
        "no hook any more",
        |_, folder| fs::remove_file(folder.join("pre-switch")).expect("a file"),
        "pre-switch is not the one that was signed",
    ),
    (
        "a changed image",
        |_, folder| flip(&image_file(folder)),
        "is not the one that was signed",
    ),
    (
        "no image any more",
        |_, folder| fs::remove_file(image_file(folder)).expect("a file"),
        "is missing",
    ),
    (
        "a changed manifest",
        |_, folder| flip(&folder.join("manifest")),
        "does not hold",
    ),
    (
        "a release of the node's own",
        |node, folder| {
            fs::remove_dir_all(folder).expect("a folder");
            Releases::incoming(&paths(node))
                .add_local("gateway", b"name = \"gateway\"\n", [].into())
                .expect("made");
        },
        "manifest is missing",
    ),
    (
        "a revoked key",
        |node, _| drop(node.write("etc/monopod/keys.d/revoked", format!("{KEY}\n"))),
        "which is revoked",
    ),
    (
        "a key that is gone",
        |node, _| fs::remove_file(node.path("etc/monopod/keys.d/one.pub")).expect("a file"),
        "no key can verify it",
    ),
];

#[test]
fn what_does_not_hold_is_removed() {
    for (what, deed, words) in HOSTILE {
        let node = Node::new();
        let folder = dropped(&node, &Forge::good().seal());
        deed(&node, &folder);
        let elsewhere = names(&node.path("elsewhere"));
        let mut came = look(&node);
        assert!(came.taken.is_empty(), "{what}: {came:?}");
        let [(_, reason)] = came.refused.as_slice() else {
            panic!("{what}: {came:?}");
        };
        assert!(reason.contains(words), "{what}: {reason}");
        // What lay deeper than a release's files comes up step by step.
        for _ in 0..10 {
            assert!(came.left.is_empty(), "{what}: {came:?}");
            if !came.more {
                break;
            }
            came = look(&node);
            assert!(came.refused.is_empty(), "{what}: {came:?}");
        }
        assert!(!came.more, "{what}: {came:?}");
        assert_eq!(names(&paths(&node).incoming()), [""; 0], "{what}");
        assert_eq!(names(&paths(&node).releases()), [""; 0], "{what}");
        assert_eq!(names(&node.path("elsewhere")), elsewhere, "{what}");
    }
}

/// What a key has signed, and is still not for this node.
#[test]
fn what_is_signed_is_judged_too() {
    let good = Parts::good();
    let mut nameless = good.clone();
    nameless.workload = b"[containers.app]\n".to_vec();
    let node = Node::new();
    forged(&node, &good, |_| (), TWO);
    let came = look(&node);
    assert!(
        came.refused[0].1.contains("which is unknown here"),
        "a stranger's: {came:?}"
    );
    forged(
        &node,
        &good,
        |forge| forge.manifest.boards = vec!["another,board".to_owned()],
        ONE,
    );
    let came = look(&node);
    assert!(came.refused[0].1.contains("it is for board"), "{came:?}");
    let folder = forged(&node, &good, |forge| *forge = nameless.forge(), ONE);
    fs::write(folder.join("workload.toml"), &nameless.workload).expect("a file");
    let came = look(&node);
    assert!(
        came.refused[0].1.contains("workload.toml is not usable"),
        "{came:?}"
    );
    assert_eq!(names(&paths(&node).releases()), [""; 0]);
}

/// Whoever writes there may write without end: what is good gets through all the same.
#[test]
fn a_flood_holds_nothing_up() {
    let node = Node::new();
    let folder = dropped(&node, &Forge::good().seal());
    let id = folder.file_name().and_then(|name| name.to_str());
    let id = ReleaseId::new(id.expect("text")).expect("an id");
    let incoming = paths(&node).incoming();
    for number in 0..300u64 {
        // Folders and files, with names of releases and without.
        match number % 3 {
            0 => fs::write(incoming.join(format!("{number:012x}")), "x").expect("a file"),
            1 => fs::create_dir(incoming.join(format!("{number:012x}"))).expect("a folder"),
            _ => fs::write(incoming.join(format!("FLOOD-{number}")), "x").expect("a file"),
        }
    }
    // One that is asked for comes first.
    let came = Releases::adopt_here(&paths(&node), &[id]).expect("looked at");
    assert_eq!(came.taken.len(), 1, "{came:?}");
    assert_eq!((came.refused.len(), came.more), (63, true), "{came:?}");
    node.must(&["import", "a.bundle"]);
    let mut taken = 0;
    for _ in 0..4 {
        let came = look(&node);
        assert!(came.refused.len() <= 64, "{came:?}");
        taken += came.taken.len();
        if !came.more {
            break;
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(names(&incoming), [""; 0]);
}

/// A folder in a folder in a folder, further down than a process has descriptors.
#[test]
fn what_is_deep_is_not_gone_down_into() {
    let node = Node::new();
    let mut path = paths(&node).incoming();
    fs::create_dir_all(&path).expect("a folder");
    for _ in 0..150 {
        path.push("deep");
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("file"), "x").expect("a file");
    }
    let mut rounds = 0;
    while look(&node).more {
        rounds += 1;
        assert!(rounds < 200);
    }
    assert!(rounds > 100, "{rounds}");
    assert_eq!(names(&paths(&node).incoming()), [""; 0]);
}

/// What cannot be done just now is done later, and nothing is lost meanwhile.
#[test]
fn what_cannot_be_read_or_written_stays() {
    let node = Node::new();
    let folder = dropped(&node, &Forge::good().seal());
    let keys = node.path("etc/monopod/keys.d");
    fs::rename(&keys, node.path("keys")).expect("moved");
    fs::write(&keys, "in the way").expect("a file");
    let text = Releases::adopt_here(&paths(&node), &[]).expect_err("who is trusted?");
    assert!(text.contains("keys.d"), "{text}");
    fs::remove_file(&keys).expect("a file");
    fs::rename(node.path("keys"), &keys).expect("moved");
    // Nor is the drop folder itself gone through by a link.
    let incoming = paths(&node).incoming();
    fs::rename(&incoming, node.path("elsewhere")).expect("moved");
    symlink(node.path("elsewhere"), &incoming).expect("a link");
    let text = Releases::adopt_here(&paths(&node), &[]).expect_err("it is a link");
    assert!(text.contains("incoming"), "{text}");
    fs::remove_file(&incoming).expect("a link");
    fs::rename(node.path("elsewhere"), &incoming).expect("moved");
    // Nor is a disk without room, or anything else that keeps a release from being written.
    fs::write(paths(&node).releases(), "in the way").expect("a file");
    let came = look(&node);
    assert!(came.is_unfinished() && !came.more, "{came:?}");
    assert_eq!((came.left.len(), came.refused.len()), (1, 0), "{came:?}");
    assert!(folder.join("manifest").exists());
    fs::remove_file(paths(&node).releases()).expect("a file");
    assert_eq!(look(&node).taken.len(), 1);
    assert!(!folder.exists());
    the_one(&node);
}

/// Whoever brings a damaged release again mends it, and no other is touched.
#[test]
fn what_is_dropped_mends_what_is_damaged() {
    let node = Node::new();
    let folder = dropped(&node, &Forge::good().seal());
    look(&node);
    let release = the_one(&node);
    let releases = Releases::new(&paths(&node));
    let local = releases.add_local("gateway", b"name = \"gateway\"\n", [].into());
    let local = local.expect("made");
    flip(&releases.workload_file(&release.id));
    assert!(releases.read(&release.id).is_err());
    let again = dropped_again(&node, &folder);
    // Not by what is damaged itself.
    flip(&again.join("workload.toml"));
    assert_eq!(look(&node).refused.len(), 1);
    assert!(releases.read(&release.id).is_err());
    dropped_again(&node, &folder);
    assert_eq!(look(&node).taken.len(), 1);
    let mended = releases.read(&release.id).expect("mended");
    assert_eq!(mended.origin, release.origin);
    assert_eq!(mended.images, release.images);
    assert_eq!(releases.read(&local.id).expect("whole"), local);
    // A copy of the node's own release under its very id is no way to change it.
    let forged = paths(&node).incoming().join(local.id.as_str());
    fs::create_dir(&forged).expect("a folder");
    let record = releases.folder(&local.id).join("release.json");
    fs::copy(record, forged.join("release.json")).expect("a file");
    fs::write(forged.join("workload.toml"), "name = \"other\"\n").expect("a file");
    assert_eq!(look(&node).refused.len(), 1);
    assert_eq!(releases.read(&local.id).expect("whole"), local);
}

/// Somebody takes it away and puts it back while it is read.
#[test]
fn what_vanishes_meanwhile_is_no_fault() {
    let node = Node::new();
    let folder = dropped(&node, &Parts::of(&[layer(1, 3000)]).forge().seal());
    let (incoming, away) = (paths(&node).incoming(), node.path("away"));
    let copy = |to: &Path| {
        fs::create_dir(to).expect("a folder");
        for name in names(&node.path("copy")) {
            fs::copy(node.path("copy").join(&name), to.join(&name)).expect("a file");
        }
    };
    fs::rename(&folder, node.path("copy")).expect("moved");
    let (mut taken, mut rounds) = (0, 0);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for _ in 0..200 {
                if !away.exists() {
                    copy(&away);
                }
                fs::rename(&away, &folder).expect("put there");
                // Unless it was taken over by then.
                let _ = fs::rename(&folder, &away);
                let _ = fs::remove_file(away.join("manifest"));
                let _ = fs::remove_dir_all(&away);
            }
        });
        while !mover.is_finished() {
            let came = look(&node);
            rounds += 1;
            taken += came.taken.len();
        }
        mover.join().expect("it ends well");
    });
    println!("{rounds} rounds, {taken} times taken");
    for found in Releases::new(&paths(&node)).list().expect("a list") {
        found.expect("whole");
    }
    copy(&folder);
    assert_eq!(look(&node).taken.len(), 1);
    assert_eq!(names(&incoming), [""; 0]);
    the_one(&node);
}
