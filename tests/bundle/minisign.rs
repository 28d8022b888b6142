//! Debian's minisign and monopod, each with the other's keys and signatures.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::build::{Dialect, layer, pack};
use crate::forge::{Forge, sign};
use crate::node::{Node, ONE, ONE_PUB, WORKLOAD};

/// Whether minisign is content. What it is asked is answered with `input`.
fn minisign(folder: &Path, args: &[&str], input: &str) -> bool {
    let mut child = Command::new("minisign")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("apt-get install minisign");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may not ask at all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait().expect("it ends").success()
}

fn manifest(node: &Node) {
    node.write("one.bundle", Forge::good().seal());
    for (option, file) in [
        ("--manifest", "manifest"),
        ("--signature", "manifest.minisig"),
    ] {
        let outcome = node.run(&["bundle", "inspect", "one.bundle", option]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        node.write(file, outcome.stdout);
    }
}

#[test]
fn minisign_verifies_what_monopod_signs() {
    let node = Node::new();
    manifest(&node);
    node.write("one.pub", ONE_PUB);
    let verify = ["-V", "-p", "one.pub", "-m", "manifest"];
    assert!(minisign(node.root.path(), &verify, ""));
    let mut bytes = fs::read(node.path("manifest")).expect("a file");
    bytes.pop();
    node.write("manifest", bytes);
    assert!(!minisign(node.root.path(), &verify, ""));
}

#[test]
fn monopod_takes_what_minisign_signs() {
    let node = Node::new();
    manifest(&node);
    fs::remove_file(node.path("manifest.minisig")).expect("a file");
    let folder = node.root.path();
    assert!(minisign(
        folder,
        &["-G", "-W", "-p", "ms.pub", "-s", "ms.key"],
        ""
    ));
    assert!(minisign(
        folder,
        &["-S", "-s", "ms.key", "-m", "manifest"],
        ""
    ));
    let attach = [
        "bundle",
        "sign",
        "one.bundle",
        "--signature",
        "manifest.minisig",
    ];
    // First with a wrong key at hand, which changes nothing.
    node.write("one.pub", ONE_PUB);
    node.refused(&[&attach[..], &["--public", "one.pub"]].concat());
    node.must(&["bundle", "verify", "one.bundle"]);
    node.must(&[&attach[..], &["--public", "ms.pub"]].concat());
    node.must(&["bundle", "verify", "one.bundle", "--key", "ms.pub"]);
    node.refused(&["bundle", "verify", "one.bundle"]);
    // Its secret key signs here as well.
    node.write("one.bundle", Forge::good().seal());
    node.must(&["bundle", "sign", "one.bundle", "--key", "ms.key"]);
    node.must(&["bundle", "verify", "one.bundle", "--key", "ms.pub"]);
    // The old kind of signature is not taken.
    assert!(minisign(
        folder,
        &["-S", "-l", "-s", "ms.key", "-m", "manifest"],
        ""
    ));
    assert!(node.refused(&attach).contains("old kind"));
}

/// A key as `minisign -G` makes it: with a password, and the gibibyte that its scheme asks for.
#[test]
fn monopod_opens_an_encrypted_key_of_minisign() {
    let node = Node::new();
    manifest(&node);
    let folder = node.root.path();
    let words = "correct horse\n".repeat(2);
    assert!(minisign(
        folder,
        &["-G", "-p", "ms.pub", "-s", "ms.key"],
        &words
    ));
    let key = fs::read_to_string(node.path("ms.key")).expect("a file");
    assert!(key.contains("encrypted"), "{key}");
    node.write("password", "correct horse\n");
    node.write("wrong", "battery staple\n");
    let sign = [
        "bundle",
        "sign",
        "one.bundle",
        "--key",
        "ms.key",
        "--password-file",
    ];
    let refused = node.run(&[&sign[..], &["wrong"]].concat());
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("the password is wrong"),
        "{}",
        refused.stderr
    );
    node.must(&["bundle", "verify", "one.bundle"]);
    node.must(&[&sign[..], &["password"]].concat());
    node.must(&["bundle", "verify", "one.bundle", "--key", "ms.pub"]);
    node.refused(&["bundle", "verify", "one.bundle"]);

    // It makes one as well, and minisign finds it good.
    let arch = &monopod::image::host_architectures()[0];
    let image = crate::build::image_for("example/gateway:1.4.2", &[layer(1, 3000)], arch);
    node.write("app.tar", pack(Dialect::Docker20, &[image]));
    node.write("workload.toml", WORKLOAD);
    node.must(&[
        "bundle",
        "create",
        "--workload",
        "workload.toml",
        "--image",
        "app.tar",
        "--release",
        "1.4.2",
        "--sequence",
        "7",
        "--key",
        "ms.key",
        "--password-file",
        "password",
        "--output",
        "made.bundle",
    ]);
    node.must(&["bundle", "verify", "made.bundle", "--key", "ms.pub"]);
    for (option, file) in [("--manifest", "made"), ("--signature", "made.minisig")] {
        let shown = node.run(&["bundle", "inspect", "made.bundle", option]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        node.write(file, shown.stdout);
    }
    assert!(minisign(folder, &["-V", "-p", "ms.pub", "-m", "made"], ""));
    // And the other way: signed with the same key by its own program.
    fs::remove_file(node.path("made.minisig")).expect("a file");
    assert!(minisign(
        folder,
        &["-S", "-s", "ms.key", "-m", "made"],
        "correct horse\n"
    ));
    node.must(&[
        "bundle",
        "sign",
        "made.bundle",
        "--signature",
        "made.minisig",
        "--public",
        "ms.pub",
    ]);
    node.must(&["bundle", "verify", "made.bundle", "--key", "ms.pub"]);
}

#[test]
fn the_two_make_the_same_signature() {
    let node = Node::new();
    manifest(&node);
    node.write("one.key", ONE);
    let comment = ["-t", "a test"];
    let args = [
        &["-S", "-s", "one.key", "-m", "manifest", "-x", "theirs"][..],
        &comment,
    ]
    .concat();
    assert!(minisign(node.root.path(), &args, ""));
    let theirs = fs::read_to_string(node.path("theirs")).expect("a file");
    let ours = sign(ONE, &fs::read(node.path("manifest")).expect("a file"));
    // All but the comment that is not signed.
    let signed = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(signed(&ours), signed(&theirs));
}

#[test]
fn minisign_opens_an_encrypted_key_of_monopod() {
    let node = Node::new();
    manifest(&node);
    node.write("password", "correct horse\n");
    node.must(&["bundle", "keygen", "--password-file", "password"]);
    let folder = node.root.path();
    let sign = ["-S", "-s", "monopod.key", "-m", "manifest"];
    assert!(!minisign(folder, &sign, "battery staple\n"));
    assert!(minisign(folder, &sign, "correct horse\n"));
    assert!(minisign(
        folder,
        &["-V", "-p", "monopod.pub", "-m", "manifest"],
        ""
    ));
}
