//! Bundles in the preload folder: the same door as a stick's.

use std::fs;
use std::path::PathBuf;

use monopod::image::Store;
use monopod::paths::Paths;
use monopod::release::{Origin, Releases};

use crate::build::layer;
use crate::forge::{Forge, Parts};
use crate::node::{Node, Outcome, TWO, TWO_PUB};

fn put(node: &Node, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    node.write(&format!("var/lib/monopod/preload/{name}"), bytes)
}

fn run(node: &Node) -> Outcome {
    node.run(&["import", "--preload"])
}

/// The sequences that wait for the daemon.
fn waiting(node: &Node) -> Vec<u64> {
    let found = Releases::incoming(&Paths::new(node.root.path())).list();
    let origins = found.expect("a list").into_iter().map(|release| {
        let release = release.expect("whole");
        match release.origin {
            Origin::Bundle { sequence, .. } => sequence,
            Origin::Local => panic!("{release:?}"),
        }
    });
    let mut sequences: Vec<u64> = origins.collect();
    sequences.sort_unstable();
    sequences
}

fn bundle(sequence: u64) -> Forge {
    let mut forge = Parts::of(&[layer(sequence, 3000)]).forge();
    forge.manifest.sequence = sequence;
    forge
}

#[test]
fn of_each_key_the_newest_is_taken_once() {
    let node = Node::new();
    node.write("etc/monopod/keys.d/two.pub", TWO_PUB);
    put(&node, "a.bundle", bundle(8).seal());
    put(&node, "b.bundle", bundle(7).seal());
    put(&node, "c.bundle", bundle(3).seal_with(TWO));
    put(
        &node,
        "d.bundle",
        bundle(9).with(|manifest| manifest.boards = vec!["another,board".to_owned()]),
    );
    let came = run(&node);
    assert_eq!(came.code, Some(0), "{}", came.stderr);
    assert_eq!(waiting(&node), [3, 8]);
    for words in [
        "a.bundle imported",
        "b.bundle is left out: release 1.4.2, sequence 7, is not newer than",
        "d.bundle: it is for board",
        "no daemon runs",
    ] {
        assert!(came.stderr.contains(words), "{words}: {}", came.stderr);
    }
    let out = String::from_utf8_lossy(&came.stdout);
    assert!(
        out.contains("sequence 8, signed by 867D1766D3C62C31"),
        "{out}"
    );
    // What runs is not touched.
    let index = fs::read_to_string(node.path("var/lib/monopod/store/index.json")).expect("text");
    assert!(!index.contains("example/gateway"), "{index}");
    // A daemon has taken them over; nothing is brought again, and a key's end is no news.
    fs::remove_dir_all(node.path("var/lib/monopod/incoming")).expect("a folder");
    node.write("etc/monopod/keys.d/one.revoked", "867D1766D3C62C31\n");
    for name in ["b.bundle", "d.bundle"] {
        fs::remove_file(node.path("var/lib/monopod/preload").join(name)).expect("a file");
    }
    let again = run(&node);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(!again.stderr.contains("a.bundle"), "{}", again.stderr);
    assert_eq!(waiting(&node), [0u64; 0]);
    fs::remove_file(node.path("etc/monopod/keys.d/one.revoked")).expect("a file");
    // A newer one beside it.
    put(&node, "e.bundle", bundle(10).seal());
    assert_eq!(run(&node).code, Some(0));
    assert_eq!(waiting(&node), [10]);
}

#[test]
fn a_refused_one_is_read_again_when_it_can_be_another_answer() {
    let node = Node::new();
    let mut bytes = bundle(7).seal();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    put(&node, "flipped.bundle", &bytes);
    put(&node, "stranger.bundle", bundle(3).seal_with(TWO));
    let came = run(&node);
    assert_eq!(came.code, Some(1), "{}", came.stderr);
    for words in [
        "flipped.bundle: member",
        "it is not read again until it changes",
        "refused [ROOT]/var/lib/monopod/preload/stranger.bundle: it is signed by key",
    ] {
        assert!(came.stderr.contains(words), "{words}: {}", came.stderr);
    }
    assert_eq!(waiting(&node), [0u64; 0]);
    // The file is the same; the key is here now.
    node.write("etc/monopod/keys.d/two.pub", TWO_PUB);
    let came = run(&node);
    assert_eq!(came.code, Some(1), "{}", came.stderr);
    assert!(
        came.stderr.contains("flipped.bundle is still refused"),
        "{}",
        came.stderr
    );
    assert_eq!(waiting(&node), [3]);
    // A refused one keeps no older one away.
    put(&node, "older.bundle", bundle(5).seal());
    assert_eq!(run(&node).code, Some(1));
    assert_eq!(waiting(&node), [3, 5]);
    put(&node, "flipped.bundle", bundle(7).seal());
    let came = run(&node);
    assert_eq!(came.code, Some(0), "{}", came.stderr);
    assert_eq!(waiting(&node), [3, 5, 7]);
    // What a node has accepted is not gone back behind.
    let sequences = [("867D1766D3C62C31".to_owned(), 20)].into();
    let durable = monopod::core::ledger::Durable {
        book: monopod::core::update::Book {
            sequences,
            ..Default::default()
        },
        ..Default::default()
    };
    node.write(
        "var/lib/monopod/ledger",
        monopod::core::ledger::encode(&durable),
    );
    put(&node, "old.bundle", bundle(19).seal());
    let came = run(&node);
    assert_eq!(came.code, Some(1), "{}", came.stderr);
    assert!(
        came.stderr.contains("old.bundle: it is older than"),
        "{}",
        came.stderr
    );
    assert_eq!(waiting(&node), [3, 5, 7]);
}

#[test]
fn one_that_was_taken_mends_the_store() {
    let node = Node::new();
    put(&node, "a.bundle", bundle(8).seal());
    assert_eq!(run(&node).code, Some(0));
    let store = Store::open(&Paths::new(node.root.path()).store()).expect("a store");
    let image = store.images().expect("images").remove(0);
    let blob = image.layers[0].digest;
    let blob = node.path(&format!(
        "var/lib/monopod/store/blobs/sha256/{}",
        blob.hex()
    ));
    fs::remove_file(&blob).expect("a blob");
    let came = run(&node);
    assert_eq!(came.code, Some(0), "{}", came.stderr);
    assert!(came.stderr.contains("a.bundle imported"), "{}", came.stderr);
    assert!(blob.exists());
    let came = run(&node);
    assert_eq!(came.stderr, "", "it is known again");
}
