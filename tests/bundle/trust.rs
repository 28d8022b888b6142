//! Keys: made, rotated, revoked, broken.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};

use crate::forge::Forge;
use crate::node::{Node, ONE, ONE_PUB, TWO, TWO_PUB};

fn line(node: &Node, file: &str) -> String {
    let text = node.refused(&["bundle", "verify", file]);
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix(&format!("monopod: refused {file}: "))
        .unwrap_or(last)
        .to_owned()
}

#[test]
fn rotation_and_revocation() {
    let node = Node::new();
    node.write("one.bundle", Forge::good().seal_with(ONE));
    node.write("two.bundle", Forge::good().seal_with(TWO));
    let verify = |file: &str| node.run(&["bundle", "verify", file]).code;
    assert_eq!(
        (verify("one.bundle"), verify("two.bundle")),
        (Some(0), Some(4))
    );
    // Both for a while, then the old one goes.
    node.write("etc/monopod/keys.d/two.pub", TWO_PUB);
    assert_eq!(
        (verify("one.bundle"), verify("two.bundle")),
        (Some(0), Some(0))
    );
    node.write(
        "etc/monopod/keys.d/revoked",
        "# left in a taxi\n867d1766d3c62c31\n",
    );
    assert_eq!(
        (verify("one.bundle"), verify("two.bundle")),
        (Some(4), Some(0))
    );
    assert_eq!(
        line(&node, "one.bundle"),
        "it is signed by key 867D1766D3C62C31, which is revoked"
    );
    // Its .pub may go or stay.
    fs::remove_file(node.path("etc/monopod/keys.d/one.pub")).expect("a file");
    assert_eq!(
        line(&node, "one.bundle"),
        "it is signed by key 867D1766D3C62C31, which is revoked"
    );
    // Revoked by its own file, renamed; that it is there again changes nothing.
    fs::remove_file(node.path("etc/monopod/keys.d/revoked")).expect("a file");
    node.write("etc/monopod/keys.d/one.revoked", ONE_PUB);
    node.write("etc/monopod/keys.d/one.pub", ONE_PUB);
    assert_eq!(
        line(&node, "one.bundle"),
        "it is signed by key 867D1766D3C62C31, which is revoked"
    );
    node.refused(&["import", "one.bundle"]);
    node.must(&["import", "two.bundle"]);
}

#[test]
fn keys_that_are_broken() {
    let node = Node::new();
    node.write("one.bundle", Forge::good().seal());
    // One that nobody can read does not take the others with it, and is named.
    for text in [
        "",
        "nonsense\n",
        "untrusted comment: x\nAAAA\n",
        ONE,
        &ONE_PUB.replacen("RW", "RX", 1),
    ] {
        node.write("etc/monopod/keys.d/bad.pub", text);
        let outcome = node.run(&["bundle", "verify", "one.bundle"]);
        assert_eq!(outcome.code, Some(0), "{text:?}: {}", outcome.stderr);
        assert!(
            outcome
                .stderr
                .contains("keys.d/bad.pub: it is not a minisign public key"),
            "{}",
            outcome.stderr
        );
    }
    // Files of other names are nobody's business.
    node.write("etc/monopod/keys.d/two.pub.old", TWO_PUB);
    node.write("etc/monopod/keys.d/.two.pub", TWO_PUB);
    node.write("two.bundle", Forge::good().seal_with(TWO));
    assert!(
        line(&node, "two.bundle")
            .contains("unknown here: [ROOT]/etc/monopod/keys.d holds 867D1766D3C62C31")
    );
    fs::remove_file(node.path("etc/monopod/keys.d/one.pub")).expect("a file");
    assert!(
        line(&node, "one.bundle")
            .starts_with("no key can verify it: [ROOT]/etc/monopod/keys.d holds no usable key")
    );
    fs::remove_file(node.path("etc/monopod/keys.d/bad.pub")).expect("a file");
    assert_eq!(
        line(&node, "one.bundle"),
        "no key can verify it: [ROOT]/etc/monopod/keys.d holds no key"
    );
    node.write("etc/monopod/keys.d/one.pub", ONE_PUB);
    // Whom a broken revocation was meant for, nobody knows.
    node.write("etc/monopod/keys.d/revoked", "the one from the taxi\n");
    assert!(
        line(&node, "one.bundle")
            .starts_with("no key can verify it: [ROOT]/etc/monopod/keys.d/revoked: line 1 ")
    );
    fs::remove_dir_all(node.path("etc/monopod/keys.d")).expect("a folder");
    assert_eq!(
        line(&node, "one.bundle"),
        "no key can verify it: [ROOT]/etc/monopod/keys.d holds no key"
    );
}

#[test]
fn new_keys() {
    let node = Node::new();
    let made = node.must(&["bundle", "keygen", "--no-password"]);
    assert!(made.starts_with("key "), "{made}");
    let secret = fs::metadata(node.path("monopod.key")).expect("a file");
    assert_eq!(secret.mode() & 0o777, 0o600);
    let before = fs::read(node.path("monopod.key")).expect("a file");
    let again = node.run(&["bundle", "keygen", "--no-password"]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert_eq!(fs::read(node.path("monopod.key")).expect("a file"), before);
    // With a password, and then without it, with a wrong one, and with it.
    node.write("password", "correct horse\n");
    node.write("wrong", "battery staple\n");
    node.must(&[
        "bundle",
        "keygen",
        "--key",
        "k",
        "--public",
        "k.pub",
        "--password-file",
        "password",
    ]);
    node.write("one.bundle", Forge::good().seal());
    let sign = [
        "bundle",
        "sign",
        "one.bundle",
        "--key",
        "k",
        "--password-file",
    ];
    let wrong = node.run(&[&sign[..], &["wrong"]].concat());
    assert_eq!(wrong.code, Some(3), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("the password is wrong"),
        "{}",
        wrong.stderr
    );
    node.must(&["bundle", "verify", "one.bundle"]);
    node.must(&[&sign[..], &["password"]].concat());
    node.refused(&["bundle", "verify", "one.bundle"]);
    node.must(&["bundle", "verify", "one.bundle", "--key", "k.pub"]);
}

/// Root's import into the store of a daemon that is not root: by keys, and of a file, that only root
/// can read, and what it writes is the owner's.
#[test]
fn roots_keys_count_in_the_owners_store() {
    const OWNER: u32 = 64242;
    for from_stdin in [false, true] {
        let node = Node::new();
        let bundle = node.write("good.bundle", Forge::good().seal());
        fs::create_dir_all(node.path("var/lib/monopod")).expect("a folder");
        chown(node.path("var/lib/monopod"), Some(OWNER), Some(OWNER))
            .expect("this is root's to try");
        for (name, mode) in [
            ("", 0o755),
            ("etc/monopod", 0o700),
            ("etc/monopod/keys.d/one.pub", 0o600),
            ("good.bundle", 0o600),
        ] {
            fs::set_permissions(node.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let mut import = Command::new(env!("CARGO_BIN_EXE_monopod"));
        import.arg("--root").arg(node.root.path()).arg("import");
        if from_stdin {
            let file = fs::File::open(&bundle).expect("a file");
            import.arg("-").stdin(file);
        } else {
            import.arg(&bundle).stdin(Stdio::null());
        }
        let output = import
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
            .output()
            .expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{from_stdin}: {stderr}");
        let files = node.store();
        assert!(files.len() > 3, "{}", files.len());
        for (file, _) in files {
            let owner = fs::metadata(&file).expect("a file").uid();
            assert_eq!(owner, OWNER, "{}", file.display());
        }
    }
}
