//! `monopod import`, with no engine: what is said of archives, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::{Dialect, Image, Layout, Tar, image_for, layer, oci, pack};
use crate::bus::{Daemon, Script};
use crate::support::{Monopod, Outcome};

/// An image for the machine that the tests run on.
pub fn image(tag: &str) -> Image {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    image_for(tag, &[layer(1, 3000), layer(2, 3000)], architecture)
}

/// The first digits of its ID, which differ from one kind of machine to the next.
pub fn id(image: &Image) -> String {
    crate::build::hex(&image.config)[..12].to_owned()
}

fn archive(image: &Image) -> Vec<u8> {
    pack(Dialect::Docker25, std::slice::from_ref(image))
}

fn import(bytes: &[u8], args: &[&str]) -> Outcome {
    Monopod::new(&[&["import"], args].concat())
        .file("app.tar", bytes)
        .run()
}

#[test]
fn without_an_engine_the_image_is_in_the_store() {
    let image = image("example/gateway:1.4.2");
    let outcome = import(&archive(&image), &["app.tar"]);
    assert_eq!(outcome.code, Some(5));
    outcome
        .with(&id(&image), "[ID]")
        .matches("import/no-engine");
    let outcome = Monopod::new(&["import", "-"]).input(&archive(&image)).run();
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
}

#[test]
fn for_programs() {
    let image = image("example/gateway:1.4.2");
    let outcome = import(&archive(&image), &["app.tar", "--json"]);
    assert_eq!(outcome.code, Some(5));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        report["images"][0]["references"][0],
        "example/gateway:1.4.2"
    );
    assert_eq!(report["layers_added"], 2);
}

#[test]
fn the_daemon_is_told() {
    let daemon = Daemon::start(Script::default());
    let image = image("example/gateway:1.4.2");
    Monopod::new(&["import", "app.tar"])
        .file("app.tar", archive(&image))
        .env("DBUS_SYSTEM_BUS_ADDRESS", &daemon.address())
        .run();
    assert_eq!(daemon.asked(), ["store changed"]);
}

#[test]
fn archives_that_are_not_taken() {
    let image = image("example/gateway:1.4.2");
    let good = archive(&image);
    let mut nameless = image.clone();
    nameless.tags.clear();
    let mut other = Tar::new();
    other.file("hello.txt", b"not an image");
    let mut climbs = Tar::new();
    climbs.file("../../etc/passwd", b"x");
    let mut links = Tar::new();
    links.special("manifest.json", b'2', "/etc/shadow");
    let mut changed = good.clone();
    let at = good
        .windows(8)
        .position(|bytes| bytes == b"the same")
        .expect("a layer's content");
    changed[at] ^= 1;
    let table: [(&str, i32, Vec<u8>); 8] = [
        ("empty", 4, Vec::new()),
        ("no-archive", 4, b"#!/bin/sh\necho no\n".repeat(100)),
        ("no-image", 4, other.finish()),
        ("climbs-out", 4, climbs.finish()),
        ("link", 4, links.finish()),
        ("cut-off", 4, good[..good.len() / 2].to_vec()),
        ("changed", 4, changed),
        (
            "no-full-name",
            2,
            pack(Dialect::Docker20, &[nameless.clone()]),
        ),
    ];
    for (name, code, bytes) in table {
        let outcome = import(&bytes, &["app.tar"])
            .with(&crate::build::hex(&image.layers[0]), "[LAYER 1]")
            .with(&crate::build::hex(&image.layers[1]), "[LAYER 2]");
        assert_eq!(outcome.code, Some(code), "{name}: {}", outcome.stderr);
        outcome.matches(&format!("import/{name}"));
    }
    let other = image_for("example/app:1", &[layer(1, 100)], "s390x");
    let other = import(&archive(&other), &["app.tar"]);
    assert_eq!(other.code, Some(4));
    assert!(
        other.stderr.contains("the image is for s390x"),
        "{}",
        other.stderr
    );
    let nameless = pack(Dialect::Docker20, &[nameless]);
    let named = import(&nameless, &["app.tar", "--as", "example/app:2"]);
    assert_eq!(named.code, Some(5), "{}", named.stderr);
    let nonsense = import(&good, &["app.tar", "--as", "Example App"]);
    assert_eq!(nonsense.code, Some(2));
    nonsense.matches("import/wrong-name");
}

#[test]
fn what_is_not_there() {
    let outcome = Monopod::new(&["import", "none.tar"]).run();
    assert_eq!(outcome.code, Some(1));
    outcome.matches("import/not-there");
    let outcome = Monopod::new(&["import", "layout"])
        .file("layout/index.html", "a web page")
        .run();
    assert_eq!(outcome.code, Some(4));
    outcome.matches("import/no-layout");
}

#[test]
fn a_layout_folder() {
    let image = image("example/gateway:1.4.2");
    let monopod = Monopod::new(&["import", "layout"]);
    let folder = monopod.root().join("layout");
    fs::create_dir(&folder).expect("a folder");
    let layout: Layout = oci(std::slice::from_ref(&image), Vec::clone);
    layout.write(&folder);
    let outcome = monopod.run();
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
}

#[test]
fn a_node_file_that_is_invalid() {
    let outcome = Monopod::new(&["import", "app.tar"])
        .file("app.tar", archive(&image("example/app:1")))
        .file("etc/monopod/node.toml", "[store]\nkepp = true\n")
        .run();
    assert_eq!(outcome.code, Some(3));
    outcome.matches("import/wrong-node-file");
}

/// Everything below a folder, the folder included.
fn tree(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    if folder.is_dir() {
        for entry in fs::read_dir(folder).expect("a folder") {
            tree(&entry.expect("an entry").path(), found);
        }
    }
}

/// Root's import into the store of a daemon that is not root.
#[test]
fn the_store_stays_its_owners() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const OWNER: u32 = 64242;

    assert!(nix::unistd::geteuid().is_root(), "this is root's to try");
    let root = tempfile::tempdir().expect("a folder");
    let path = |name: &str| root.path().join(name);
    let mode = |name: &str, mode| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("", 0o755);
    fs::create_dir_all(path("var/lib/monopod/preload")).expect("folders");
    chown(path("var/lib/monopod"), Some(OWNER), Some(OWNER)).expect("an owner");
    mode("var/lib/monopod", 0o750);
    // A stick that only root can read, with an archive and with a folder.
    fs::create_dir(path("stick")).expect("a folder");
    mode("stick", 0o700);
    let first = image("example/first:1");
    fs::write(path("stick/app.tar"), archive(&first)).expect("an archive");
    mode("stick/app.tar", 0o600);
    fs::create_dir(path("stick/layout")).expect("a folder");
    let layout: Layout = oci(std::slice::from_ref(&first), Vec::clone);
    layout.write(&path("stick/layout"));
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(root.path())
            .args(args)
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
            .env("DOCKER_HOST", "unix:///nonexistent")
            .output()
            .expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    let stick = path("stick/app.tar");
    let layout = path("stick/layout");
    let preloaded = path("var/lib/monopod/preload/late.tar");
    fs::copy(&stick, &preloaded).expect("an archive");
    mode("var/lib/monopod/preload/late.tar", 0o600);
    let denied = format!("chmod -R a+rX {}", preloaded.display());
    // The engine is not there, so that a good import ends with 5.
    let table: [(&[&str], i32, &str); 5] = [
        (
            &["import", stick.to_str().expect("text")],
            5,
            "is in the store",
        ),
        (
            &["import", layout.to_str().expect("text")],
            5,
            "is in the store",
        ),
        (&["import", "--preload"], 1, &denied),
        (&["images"], 0, ""),
        (&["images", "prune"], 5, ""),
    ];
    for (args, code, said) in table {
        let (found, stderr) = run(args);
        assert_eq!(found, Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        let mut files = Vec::new();
        tree(&path("var/lib/monopod/store"), &mut files);
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let found = fs::symlink_metadata(&file).expect("it is there");
            let owner = (found.uid(), found.gid());
            assert_eq!(owner, (OWNER, OWNER), "{args:?}: {}", file.display());
        }
    }
}

/// An older kernel has no Landlock: then nobody keeps the right to read every file, and root opens
/// what only root can.
#[test]
fn without_landlock_root_only_opens_the_archive() {
    use std::os::unix::fs::{PermissionsExt, chown};

    assert!(nix::unistd::geteuid().is_root(), "this is root's to try");
    let root = tempfile::tempdir().expect("a folder");
    let path = |name: &str| root.path().join(name);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::create_dir_all(path("var/lib/monopod")).expect("folders");
    chown(path("var/lib/monopod"), Some(64242), Some(64242)).expect("an owner");
    fs::create_dir(path("stick")).expect("a folder");
    fs::set_permissions(path("stick"), fs::Permissions::from_mode(0o700)).expect("a mode");
    let first = image("example/first:1");
    fs::write(path("stick/app.tar"), archive(&first)).expect("an archive");
    oci(std::slice::from_ref(&first), Vec::clone).write(&path("stick/layout"));
    let table = [
        ("stick/app.tar", 5, "is in the store"),
        ("stick/layout", 1, "ermission denied"),
        ("stick/none", 1, "ermission denied"),
    ];
    // A filter is a thread's and its children's, and stays.
    std::thread::spawn(move || {
        let rules = [(nix::libc::SYS_landlock_create_ruleset, Vec::new())];
        let filter = seccompiler::SeccompFilter::new(
            rules.into_iter().collect(),
            seccompiler::SeccompAction::Allow,
            seccompiler::SeccompAction::Errno(nix::libc::ENOSYS.unsigned_abs()),
            std::env::consts::ARCH.try_into().expect("it is known"),
        )
        .expect("a filter");
        let filter: seccompiler::BpfProgram = filter.try_into().expect("a program");
        seccompiler::apply_filter(&filter).expect("the kernel takes it");
        for (name, code, said) in table {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_monopod"))
                .arg("--root")
                .arg(root.path())
                .args([Path::new("import"), &root.path().join(name)])
                .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
                .env("DOCKER_HOST", "unix:///nonexistent")
                .output()
                .expect("the binary runs");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{name}: {stderr}");
            assert!(stderr.contains(said), "{name}: {stderr}");
        }
    })
    .join()
    .expect("it holds");
}

/// The daemon's user can put a link in the store's place; root does not go where it leads.
#[test]
fn a_store_that_is_a_link_is_not_followed() {
    use std::os::unix::fs::{chown, symlink};

    assert!(nix::unistd::geteuid().is_root(), "this is root's to try");
    let import = Monopod::new(&["import", "-"]).input(&archive(&image("example/first:1")));
    let state = import.root().join("var/lib/monopod");
    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(&state).expect("folders");
    chown(&state, Some(64242), Some(64242)).expect("an owner");
    symlink(elsewhere.path(), state.join("store")).expect("a link");
    let outcome = import.run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("store is not a folder"),
        "{}",
        outcome.stderr
    );
    let mut found = fs::read_dir(elsewhere.path()).expect("a folder");
    assert!(found.next().is_none(), "root wrote there");
}
