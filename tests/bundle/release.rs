//! From a bundle to a release's folder, and whether it is verified again.

use std::fs;
use std::path::PathBuf;

use monopod::bundle::Trust;
use monopod::core::ledger::{Durable, encode};
use monopod::core::update::{Book, ReleaseId};
use monopod::paths::Paths;
use monopod::release::{Origin, Release, ReleaseError, Releases};
use serde_json::Value;

use crate::build::layer;
use crate::forge::{Forge, Parts};
use crate::node::{Node, ONE_PUB, TWO, TWO_PUB};

const KEY: &str = "867D1766D3C62C31";

/// What the node has, with what was brought taken over as a daemon does it.
fn releases(node: &Node) -> Releases {
    let paths = Paths::new(node.root.path());
    let adopted = Releases::adopt_here(&paths, &[]).expect("it can be looked at");
    assert!(adopted.refused.is_empty(), "{adopted:?}");
    Releases::new(&paths)
}

/// The one release that a node has.
fn the_one(node: &Node) -> Release {
    let mut found = releases(node).list().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).expect("it is whole")
}

fn folder(node: &Node) -> PathBuf {
    releases(node).folder(&the_one(node).id)
}

fn trust(node: &Node) -> Trust {
    Trust::of_folder(&node.path("etc/monopod/keys.d")).expect("a folder")
}

fn origin(version: &str, sequence: u64) -> Origin {
    Origin::Bundle {
        version: version.to_owned(),
        sequence,
        key: KEY.to_owned(),
    }
}

#[test]
fn an_import_makes_a_release_that_verifies() {
    let node = Node::new();
    let forge = Forge::good();
    node.write("good.bundle", forge.seal());
    let report: Value =
        serde_json::from_str(&node.must(&["import", "good.bundle", "--json"])).expect("JSON");
    let release = the_one(&node);
    assert_eq!(report["release"]["id"], release.id.as_str());
    assert_eq!(report["next"], Value::Null);
    assert_eq!(release.origin, origin("1.4.2", 7));
    assert_eq!(release.workload, "gateway");
    let image = release.image("docker.io/example/gateway:1.4.2");
    assert_eq!(image, report["images"][0]["id"].as_str());
    let folder = folder(&node);
    let read = |name: &str| fs::read(folder.join(name)).expect("a file");
    assert_eq!(read("manifest"), forge.manifest.bytes());
    assert_eq!(read("workload.toml"), Parts::good().workload);
    assert_eq!(Some(read("pre-switch")), Parts::good().hook);
    let hook = releases(&node).hook(&release.id);
    assert_eq!(hook, Some(folder.join("pre-switch")));
    let verified = releases(&node).verify(&release.id, &trust(&node));
    assert_eq!(verified.expect("it holds"), origin("1.4.2", 7));
    // What runs is not touched: in the store the image has no name yet.
    let index = fs::read_to_string(node.path("var/lib/monopod/store/index.json")).expect("text");
    assert!(!index.contains("example/gateway"), "{index}");
    // Again, nothing is written.
    let before = fs::metadata(folder.join("release.json")).expect("a file");
    node.must(&["import", "good.bundle"]);
    let after = fs::metadata(folder.join("release.json")).expect("a file");
    assert_eq!(before.modified().ok(), after.modified().ok());
}

#[test]
fn what_is_refused_leaves_no_release() {
    let node = Node::new();
    let mut bytes = Forge::good().seal();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut workload = Parts::good();
    workload.workload = b"[containers.app]\n".to_vec();
    for (what, bytes) in [
        ("another key's", Forge::good().seal_with(TWO)),
        ("a flipped bit", bytes),
        ("cut off", Forge::good().seal()[..3000].to_vec()),
        ("no name", workload.forge().seal()),
    ] {
        node.write("bad.bundle", bytes);
        let text = node.refused(&["import", "bad.bundle"]);
        assert_eq!(text.lines().count(), 1, "{what}: {text}");
        assert!(releases(&node).list().expect("a list").is_empty(), "{what}");
        let folder = fs::read_dir(node.path("var/lib/monopod/incoming")).expect("a folder");
        assert_eq!(folder.count(), 0, "{what}");
    }
    // What is left of a writer that was killed is in nobody's way.
    node.write("good.bundle", Forge::good().seal());
    node.must(&["import", "good.bundle"]);
    let id = the_one(&node).id;
    fs::remove_dir_all(node.path("var/lib/monopod/releases")).expect("a folder");
    let half = format!("var/lib/monopod/incoming/.new-{id}");
    node.write(&format!("{half}/workload.toml"), "name = ");
    node.write(&format!("{half}/release.json"), "");
    node.must(&["import", "good.bundle"]);
    assert!(!node.path(&half).exists());
    node.write(&format!("{half}/workload.toml"), "name = ");
    assert_eq!(the_one(&node).id, id);
    assert!(!node.path(&half).exists());
}

#[test]
fn what_was_accepted_is_not_gone_back_behind() {
    let node = Node::new();
    let sequences = [(KEY.to_owned(), 8)].into();
    let book = Book {
        sequences,
        ..Book::default()
    };
    let durable = Durable {
        book,
        ..Durable::default()
    };
    node.write("var/lib/monopod/ledger", encode(&durable));
    node.write("old.bundle", Forge::good().seal());
    let text = node.refused(&["import", "old.bundle"]);
    assert!(
        text.contains("sequence 7, and key 867D1766D3C62C31 has signed 8"),
        "{text}"
    );
    assert!(releases(&node).list().expect("a list").is_empty());
    assert!(node.store().len() <= 2, "no member of it was read");
    // The same sequence is none lower, and another key has an order of its own.
    node.write("same.bundle", Forge::good().with(|it| it.sequence = 8));
    node.must(&["import", "same.bundle"]);
    node.write("etc/monopod/keys.d/two.pub", TWO_PUB);
    node.write("two.bundle", Forge::good().seal_with(TWO));
    node.must(&["import", "two.bundle"]);
    // The owner may; but only a daemon can be told so.
    let outcome = node.run(&["import", "old.bundle", "--allow-downgrade"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("release stage"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_newest_bundle_with_the_same_content_counts() {
    let node = Node::new();
    let import = |sequence: u64, key: Option<&str>| {
        let mut forge = Forge::good();
        forge.manifest.sequence = sequence;
        forge.manifest.release = format!("1.{sequence}");
        let bytes = match key {
            Some(key) => forge.seal_with(key),
            None => forge.seal(),
        };
        node.write("a.bundle", bytes);
        node.must(&["import", "a.bundle"]);
        the_one(&node)
    };
    let first = import(7, None);
    let second = import(8, None);
    assert_eq!(second.id, first.id);
    assert_eq!(second.origin, origin("1.8", 8));
    assert_eq!(second.made, first.made);
    assert_eq!(import(7, None).origin, origin("1.8", 8));
    let verified = releases(&node).verify(&first.id, &trust(&node));
    assert_eq!(verified.expect("it holds"), origin("1.8", 8));
    // A key that is revoked, and the next one signs the same.
    node.write("etc/monopod/keys.d/revoked", format!("{KEY}\n"));
    let refused = releases(&node).verify(&first.id, &trust(&node));
    let error = refused.expect_err("revoked");
    assert!(error.to_string().contains("which is revoked"), "{error}");
    node.write("etc/monopod/keys.d/two.pub", TWO_PUB);
    let third = import(3, Some(TWO));
    assert_eq!(third.id, first.id);
    assert!(releases(&node).verify(&third.id, &trust(&node)).is_ok());
    // The node's own file with this content is this release, and stays the bundle's.
    let local = releases(&node).add_local("gateway", b"name = \"gateway\"\n", third.images.clone());
    let local = local.expect("made");
    assert_ne!(local.id, third.id, "it has no hook");
    assert!(matches!(
        releases(&node).verify(&local.id, &trust(&node)),
        Err(ReleaseError::Unsigned(_))
    ));
}

/// Nothing that stands in the folder is believed because it stands there.
#[test]
fn every_file_is_verified_again() {
    let node = Node::new();
    node.write("good.bundle", Forge::good().seal());
    node.must(&["import", "good.bundle"]);
    let release = the_one(&node);
    let folder = folder(&node);
    let verify = || releases(&node).verify(&release.id, &trust(&node));
    let mut names: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("release.json"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 5, "{names:?}");
    for path in names {
        let bytes = fs::read(&path).expect("a file");
        // The last byte of a text may be missing.
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 2] {
            fs::write(&path, &bytes[..cut]).expect("a file");
            assert!(verify().is_err(), "{} cut at {cut}", path.display());
        }
        let mut other = bytes.clone();
        other[bytes.len() / 2] ^= 1;
        fs::write(&path, &other).expect("a file");
        assert!(verify().is_err(), "{} changed", path.display());
        fs::remove_file(&path).expect("a file");
        assert!(verify().is_err(), "{} removed", path.display());
        // Whoever brings the bundle again mends it.
        node.must(&["import", "good.bundle"]);
        assert!(verify().is_ok(), "{} mended", path.display());
    }
    // Another release of the same key in its place: its id is not of that content.
    node.write("other.bundle", Parts::of(&[layer(9, 5000)]).forge().seal());
    node.must(&["import", "other.bundle"]);
    let all = releases(&node).list().expect("a list");
    let other = all
        .into_iter()
        .flatten()
        .find(|other| other.id != release.id)
        .expect("two");
    fs::remove_dir_all(&folder).expect("a folder");
    fs::rename(releases(&node).folder(&other.id), &folder).expect("moved");
    assert!(matches!(verify(), Err(ReleaseError::Damaged(_))));
    // Whose record names another origin than its manifest: the manifest counts.
    let _ = fs::remove_dir_all(&folder);
    node.must(&["import", "good.bundle"]);
    assert!(verify().is_ok());
    let record = folder.join("release.json");
    let text = fs::read_to_string(&record).expect("text");
    fs::write(&record, text.replace("\"sequence\":7", "\"sequence\":9")).expect("a file");
    assert_eq!(verify().expect("it holds"), origin("1.4.2", 7));
    // And no other image for the signed one, whatever id that would have.
    let forged = releases(&node).read(&release.id).expect("whole");
    let mut images = forged.images.clone();
    for id in images.values_mut() {
        *id = Some(format!("sha256:{}", "0".repeat(64)));
    }
    let id = ReleaseId::of(
        &Parts::good().workload,
        &images,
        Parts::good().hook.as_deref(),
    );
    let place = releases(&node).folder(&id);
    fs::rename(&folder, &place).expect("moved");
    let image = forged.image("example/gateway:1.4.2").expect("known");
    let text = text
        .replace(release.id.as_str(), id.as_str())
        .replace(image, &format!("sha256:{}", "0".repeat(64)));
    fs::write(place.join("release.json"), text).expect("a file");
    assert!(releases(&node).read(&id).is_ok(), "it looks whole");
    let error = releases(&node)
        .verify(&id, &trust(&node))
        .expect_err("it is not signed");
    assert!(error.to_string().contains("its images are not"), "{error}");
}

#[test]
fn only_a_bundle_is_staged_and_only_with_a_daemon() {
    let node = Node::new();
    node.write("good.bundle", Forge::good().seal());
    node.write("etc/monopod/keys.d/one.pub", ONE_PUB);
    let outcome = node.run(&["release", "stage", "good.bundle"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(!node.path("var/lib/monopod").exists(), "nothing was taken");
}
