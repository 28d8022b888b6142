//! Bundles made by the command line, and what a node makes of them.

use std::fs;

use crate::build::{DIALECTS, Dialect, image_for, layer, pack};
use crate::node::{Node, ONE, TWO, TWO_PUB, WORKLOAD};

/// The desk: a workload file, an archive and keys, in a node's folder for shortness.
fn desk() -> Node {
    let node = Node::new();
    node.write("one.key", ONE);
    node.write("two.key", TWO);
    node.write("two.pub", TWO_PUB);
    node.write("workload.toml", WORKLOAD);
    node.write("hook", "#!/bin/sh\nexit 0\n");
    node.write(
        "app.tar",
        archive(Dialect::Docker20, &[layer(1, 200_000), layer(2, 3000)]),
    );
    node
}

fn archive(dialect: Dialect, layers: &[Vec<u8>]) -> Vec<u8> {
    let arch = &monopod::image::host_architectures()[0];
    pack(dialect, &[image_for("example/gateway:1.4.2", layers, arch)])
}

const CREATE: [&str; 9] = [
    "bundle",
    "create",
    "--workload",
    "workload.toml",
    "--release",
    "1.4.2",
    "--sequence",
    "7",
    "--output",
];

fn create<'a>(output: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&CREATE, &[output][..], rest].concat()
}

#[test]
fn from_a_desk_to_a_node() {
    let node = desk();
    let made = node.must(&create(
        "a.bundle",
        &[
            "--image",
            "app.tar",
            "--key",
            "one.key",
            "--hook",
            "hook",
            "--minimum-monopod",
            "0.0.1",
        ],
    ));
    assert!(
        made.starts_with("a.bundle: release 1.4.2, sequence 7, "),
        "{made}"
    );
    assert!(made.ends_with("signed by 867D1766D3C62C31\n"), "{made}");
    for args in [
        &["bundle", "verify", "a.bundle"][..],
        &[
            "bundle",
            "verify",
            "a.bundle",
            "--key",
            "etc/monopod/keys.d/one.pub",
        ],
    ] {
        let verified = node.must(args);
        assert!(
            verified.contains("verified: signed by 867D1766D3C62C31"),
            "{verified}"
        );
    }
    let shown: serde_json::Value =
        serde_json::from_str(&node.must(&["bundle", "inspect", "a.bundle", "--json"]))
            .expect("JSON");
    assert_eq!(shown["key"], "867D1766D3C62C31");
    assert_eq!(shown["manifest"]["minimumMonopod"], "0.0.1");
    assert_eq!(
        shown["manifest"]["members"].as_array().map(Vec::len),
        Some(6)
    );
    let refused = node.refused(&["bundle", "verify", "a.bundle", "--key", "two.pub"]);
    assert!(
        refused.contains("signed by key 867D1766D3C62C31, which is unknown here"),
        "{refused}"
    );

    let taken = node.must(&["import", "a.bundle", "--json"]);
    let taken: serde_json::Value = serde_json::from_str(&taken).expect("JSON");
    assert_eq!(
        (&taken["release"]["version"], &taken["release"]["sequence"]),
        (&"1.4.2".into(), &7.into())
    );
    assert_eq!(taken["layers_added"], 2);
    let before = node.store();
    node.must(&["import", "a.bundle"]);
    assert_eq!(node.store(), before, "the second time nothing is written");
    let wrong = node.run(&["import", "a.bundle", "--as", "x:1"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    // No temporary file of any kind is left on the desk.
    let hidden = fs::read_dir(node.root.path())
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    let node = desk();
    let layers = [layer(1, 200_000), layer(2, 3000)];
    node.must(&create(
        "first.bundle",
        &[
            "--image", "app.tar", "--key", "one.key", "--board", "b", "--board", "a",
        ],
    ));
    let first = fs::read(node.path("first.bundle")).expect("a file");
    for dialect in DIALECTS {
        // zstd layers stay as they came; all else is packed once, in one way.
        if dialect == Dialect::OciZstd {
            continue;
        }
        let name = format!("{dialect:?}.tar");
        node.write(&name, archive(dialect, &layers));
        let board = ["--board", "a", "--board", "b", "--board", "a"];
        node.must(&create(
            "again.bundle",
            &[&["--image", &name, "--key", "one.key"][..], &board].concat(),
        ));
        let again = fs::read(node.path("again.bundle")).expect("a file");
        assert_eq!(again.len(), first.len(), "{dialect:?}");
        assert!(again == first, "{dialect:?}");
    }
    // Unsigned first, and signed later, is the same too.
    node.must(&create(
        "later.bundle",
        &["--image", "app.tar", "--board", "b", "--board", "a"],
    ));
    assert!(
        node.refused(&["bundle", "verify", "later.bundle"])
            .contains("not signed")
    );
    node.must(&["bundle", "sign", "later.bundle", "--key", "one.key"]);
    assert!(fs::read(node.path("later.bundle")).expect("a file") == first);
}

#[test]
fn what_the_old_bundle_had_is_left_out() {
    let node = desk();
    node.must(&create(
        "old.bundle",
        &["--image", "app.tar", "--key", "one.key"],
    ));
    node.write(
        "new.tar",
        archive(Dialect::OciGzip, &[layer(1, 200_000), layer(3, 3000)]),
    );
    let new = ["--image", "new.tar", "--key", "one.key"];
    node.must(&create("full.bundle", &new));
    node.must(&create(
        "new.bundle",
        &[&new[..], &["--since", "old.bundle"]].concat(),
    ));
    let size = |name| fs::metadata(node.path(name)).expect("a file").len();
    let (new, full) = (size("new.bundle"), size("full.bundle"));
    println!("figure: one small layer changed: a bundle of {new} bytes, of {full} without --since");
    assert!(new < 20_000 && full > 90_000);
    node.must(&["bundle", "verify", "new.bundle"]);

    let before = node.store();
    let refused = node.refused(&["import", "new.bundle"]);
    assert!(refused.contains("it leaves out layer sha256:"), "{refused}");
    assert_eq!(
        node.store().len(),
        before.len().max(2),
        "only an empty store was made"
    );
    node.must(&["import", "old.bundle"]);
    node.must(&["import", "new.bundle"]);
    // A node that got the old release in another way has the content, and that is what counts.
    let other = desk();
    let bytes = fs::read(node.path("new.bundle")).expect("a file");
    other.write("new.bundle", bytes);
    assert_eq!(
        other.run(&["import", "app.tar"]).code,
        Some(5),
        "no engine here"
    );
    other.must(&["import", "new.bundle"]);

    // An old bundle that does not verify is no measure of anything.
    for wrong in [
        &[
            "--image",
            "new.tar",
            "--key",
            "two.key",
            "--since",
            "old.bundle",
        ][..],
        &[
            "--image",
            "new.tar",
            "--key",
            "one.key",
            "--since",
            "old.bundle",
            "--since-key",
            "two.pub",
        ],
    ] {
        node.refused(&create("x.bundle", wrong));
    }
    let usage = node.run(&create(
        "x.bundle",
        &["--image", "new.tar", "--since", "old.bundle"],
    ));
    assert_eq!(usage.code, Some(2));
    assert!(!node.path("x.bundle").exists());
}

#[test]
fn what_is_no_release() {
    let node = desk();
    let broker = "[containers.broker]\nimage = \"example/broker:2\"\n";
    node.write("other.toml", format!("{WORKLOAD}\n{broker}"));
    node.write("wrong.toml", "name = 1\n");
    node.write("extra.tar", {
        let arch = &monopod::image::host_architectures()[0];
        pack(
            Dialect::Podman,
            &[image_for("example/extra:1", &[layer(4, 100)], arch)],
        )
    });
    let base = |workload: &'static str, rest: &[&'static str]| {
        let head = [
            "bundle",
            "create",
            "--workload",
            workload,
            "--output",
            "x.bundle",
            "--key",
            "one.key",
        ];
        [&head[..], rest].concat()
    };
    let numbers = ["--release", "1", "--sequence", "1"];
    let table: [(i32, &str, Vec<&str>, &[&str]); 9] = [
        (
            2,
            "no archive has the image example/broker:2",
            base("other.toml", &numbers),
            &["--image", "app.tar"],
        ),
        (
            2,
            "which no container of the workload runs",
            base("workload.toml", &numbers),
            &["--image", "app.tar", "--image", "extra.tar"],
        ),
        (
            3,
            "name",
            base("wrong.toml", &numbers),
            &["--image", "app.tar"],
        ),
        (
            1,
            "does not exist",
            base("workload.toml", &numbers),
            &["--image", "none.tar"],
        ),
        (
            4,
            "refused",
            base("workload.toml", &numbers),
            &["--image", "hook"],
        ),
        (
            2,
            "a release's version is",
            base("workload.toml", &["--release", "1/2", "--sequence", "1"]),
            &["--image", "app.tar"],
        ),
        (
            2,
            "its sequence is 0",
            base("workload.toml", &["--release", "1", "--sequence", "0"]),
            &["--image", "app.tar"],
        ),
        (
            2,
            "three numbers",
            base("workload.toml", &numbers),
            &["--image", "app.tar", "--minimum-monopod", "1"],
        ),
        (
            4,
            "this machine is s390x",
            base("workload.toml", &numbers),
            &["--image", "app.tar", "--arch", "s390x"],
        ),
    ];
    for (code, text, args, more) in table {
        let outcome = node.run(&[&args[..], more].concat());
        assert_eq!(outcome.code, Some(code), "{text}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(text), "{text}: {}", outcome.stderr);
        assert!(!node.path("x.bundle").exists());
    }
}
