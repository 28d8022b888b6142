//! Debian's minisign and monopod, each with the other's keys and signatures.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::forge::{Forge, sign};
use crate::node::{Node, ONE, ONE_PUB};

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
