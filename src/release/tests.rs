//! Folders that are whole, half written, damaged, and somebody else's. Releases of bundles are tested
//! where bundles are made: tests/bundle.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const FILE: &[u8] = b"name = \"gateway\"\n";

struct Node {
    root: TempDir,
    releases: Releases,
}

impl Node {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        let releases = Releases::new(&Paths::new(root.path()));
        Self { root, releases }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("var/lib/monopod/releases")
    }

    /// The names in the folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

fn images() -> BTreeMap<String, Option<String>> {
    [
        ("example/app".to_owned(), Some("sha256:aa".to_owned())),
        ("docker.io/library/redis:7".to_owned(), None),
    ]
    .into()
}

#[test]
fn a_local_release_is_kept_and_found_again() {
    let node = Node::new();
    assert!(node.releases.list().expect("nothing").is_empty());
    let release = node
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    assert_eq!(node.names(), [release.id.to_string()]);
    assert_eq!(release.origin, Origin::Local);
    assert_eq!(release.image("example/app:latest"), Some("sha256:aa"));
    assert_eq!(release.image("docker.io/example/app"), Some("sha256:aa"));
    assert_eq!(release.image("redis:7"), None);
    assert!(release.images.contains_key("redis:7"));
    assert_eq!(node.releases.read(&release.id).expect("whole"), release);
    let listed = node.releases.list().expect("a list");
    assert_eq!(listed, [Ok(release.clone())]);
    let file = node.releases.workload_file(&release.id);
    assert_eq!(fs::read(file).expect("a file"), FILE);
    assert_eq!(node.releases.hook(&release.id), None);
    // The same content is the same release, and another is another.
    let again = node.releases.add_local("gateway", FILE, images());
    assert_eq!(again.expect("there"), release);
    let other = node
        .releases
        .add_local("gateway", b"name = \"gateway\"", images())
        .expect("made");
    assert_ne!(other.id, release.id);
    assert_eq!(node.releases.list().expect("a list").len(), 2);
}

#[test]
fn what_is_filled_in_later_changes_no_id() {
    let node = Node::new();
    let release = node
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    let known = |name: &str, id: &str| BTreeMap::from([(name.to_owned(), id.to_owned())]);
    let filled = node
        .releases
        .fill(&release.id, &known("library/redis:7", "sha256:bb"))
        .expect("filled");
    assert_eq!(filled.image("redis:7"), Some("sha256:bb"));
    assert_eq!(filled.id, release.id);
    assert_eq!(node.releases.read(&release.id).expect("whole"), filled);
    // Known is known, and a stranger's image is no part of it.
    let record = node.folder().join(release.id.as_str()).join(RECORD);
    let before = fs::metadata(&record).expect("a file").modified().ok();
    for image in [
        known("redis:7", "sha256:cc"),
        known("example/app", "sha256:cc"),
        known("example/other", "sha256:cc"),
    ] {
        let same = node.releases.fill(&release.id, &image).expect("whole");
        assert_eq!(same, filled);
    }
    assert_eq!(
        fs::metadata(&record).expect("a file").modified().ok(),
        before
    );
    let nobody = ReleaseId::new("0123456789ab").expect("an id");
    let error = node.releases.fill(&nobody, &BTreeMap::new());
    assert!(matches!(error, Err(ReleaseError::NotFound(_))));
}

/// Whatever a killed writer may leave: each file of the folder in the making, cut off anywhere, with
/// those before it whole and those behind it missing.
#[test]
fn every_prefix_of_a_write_is_nothing_at_all() {
    let whole = Node::new();
    let release = whole
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    let record = fs::read(whole.releases.folder(&release.id).join(RECORD)).expect("a file");
    let writes = [(WORKLOAD, FILE), (RECORD, record.as_slice())];
    let mut tried = 0;
    for (at, (name, bytes)) in writes.iter().enumerate() {
        for cut in 0..=bytes.len() {
            let node = Node::new();
            let new = node.folder().join(format!(".new-{}", release.id));
            fs::create_dir_all(&new).expect("a folder");
            for (name, bytes) in &writes[..at] {
                fs::write(new.join(name), bytes).expect("a file");
            }
            fs::write(new.join(name), &bytes[..cut]).expect("a file");
            assert!(node.releases.list().expect("a list").is_empty());
            if cut % 2 == 0 {
                node.releases.sweep().expect("swept");
                assert!(node.names().is_empty());
            }
            let made = node
                .releases
                .add_local("gateway", FILE, images())
                .expect("made");
            assert_eq!(made.id, release.id);
            assert_eq!(node.names(), [release.id.to_string()]);
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
}

/// The same in the place of a release, where no writer of ours leaves it: reported, never used, and
/// mended by whoever brings the content again.
#[test]
fn what_is_damaged_is_reported_and_can_be_mended() {
    let node = Node::new();
    let release = node
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    let folder = node.releases.folder(&release.id);
    let record = fs::read(folder.join(RECORD)).expect("a file");
    let mut damages: Vec<(String, &str, Option<Vec<u8>>)> = vec![
        ("no workload".to_owned(), WORKLOAD, None),
        ("no record".to_owned(), RECORD, None),
        ("a hook".to_owned(), HOOK, Some(b"#!/bin/sh".to_vec())),
        ("too large".to_owned(), RECORD, Some(vec![b' '; 70_000])),
        (
            "a bundle's, without a manifest".to_owned(),
            RECORD,
            Some(
                String::from_utf8(record.clone())
                    .expect("text")
                    .replace(
                        "\"local\"",
                        r#"{"bundle":{"version":"1","sequence":1,"key":"k"}}"#,
                    )
                    .into_bytes(),
            ),
        ),
        (
            "another's".to_owned(),
            RECORD,
            Some(
                String::from_utf8(record.clone())
                    .expect("text")
                    .replace(release.id.as_str(), "0123456789ab")
                    .into_bytes(),
            ),
        ),
    ];
    for (name, bytes) in [(WORKLOAD, FILE), (RECORD, record.as_slice())] {
        // The record's last byte is the end of its line.
        for cut in 0..bytes.len() - 1 {
            damages.push((format!("{name} {cut}"), name, Some(bytes[..cut].to_vec())));
        }
    }
    for (what, name, bytes) in damages {
        match bytes {
            Some(bytes) => fs::write(folder.join(name), bytes).expect("a file"),
            None => fs::remove_file(folder.join(name)).expect("it was there"),
        }
        let listed = node.releases.list().expect("a list");
        let [Err(found)] = listed.as_slice() else {
            panic!("{what}: {listed:?}");
        };
        assert_eq!((&found.id, &found.path), (&release.id, &folder), "{what}");
        assert!(found.to_string().contains("import its bundle again"));
        let read = node.releases.read(&release.id);
        assert!(matches!(read, Err(ReleaseError::Damaged(_))), "{what}");
        let trust = crate::bundle::Trust::of_folder(&folder).expect("nobody");
        assert!(node.releases.verify(&release.id, &trust).is_err(), "{what}");
        let made = node.releases.add_local("gateway", FILE, images());
        assert_eq!(made.expect("mended").id, release.id, "{what}");
        assert_eq!(node.names(), [release.id.to_string()], "{what}");
        assert_eq!(node.releases.list().expect("a list").len(), 1);
        assert!(node.releases.read(&release.id).is_ok(), "{what}");
    }
}

#[test]
fn what_stands_in_a_releases_place_is_no_release() {
    let node = Node::new();
    let id = ReleaseId::of(
        FILE,
        &[
            (
                "example/app:latest".to_owned(),
                Some("sha256:aa".to_owned()),
            ),
            ("redis:7".to_owned(), None),
        ]
        .into(),
        None,
    );
    let place = node.releases.folder(&id);
    let other = node.root.path().join("elsewhere");
    fs::create_dir_all(node.folder()).expect("a folder");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("precious"), "x").expect("a file");
    for link in [true, false] {
        if link {
            std::os::unix::fs::symlink(&other, &place).expect("a link");
        } else {
            fs::write(&place, "x").expect("a file");
        }
        let read = node.releases.read(&id);
        assert!(matches!(read, Err(ReleaseError::Damaged(_))), "{link}");
        let made = node.releases.add_local("gateway", FILE, images());
        assert_eq!(made.expect("made").id, id);
        assert!(node.releases.read(&id).is_ok());
        node.releases.remove(&id).expect("removed");
        assert!(node.names().is_empty());
        assert!(other.join("precious").exists());
    }
}

#[test]
fn what_is_nobodys_is_left_alone() {
    let node = Node::new();
    let release = node
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    let strangers = ["lost+found", ".new-x", ".gone-", "0123456789AB", "notes"];
    for name in strangers {
        fs::create_dir(node.folder().join(name)).expect("a folder");
    }
    fs::write(node.folder().join("README"), "x").expect("a file");
    for name in [".new-0123456789ab", ".gone-0123456789ab"] {
        fs::create_dir(node.folder().join(name)).expect("a folder");
        fs::write(node.folder().join(name).join(WORKLOAD), "x").expect("a file");
    }
    assert_eq!(node.releases.list().expect("a list"), [Ok(release.clone())]);
    node.releases.sweep().expect("swept");
    let names = node.names();
    assert_eq!(names.len(), strangers.len() + 2, "{names:?}");
    assert!(
        strangers
            .iter()
            .all(|name| names.contains(&(*name).to_owned()))
    );
}

#[test]
fn what_is_removed_is_gone_before_its_first_file() {
    let node = Node::new();
    let release = node
        .releases
        .add_local("gateway", FILE, images())
        .expect("made");
    node.releases.remove(&release.id).expect("removed");
    assert!(node.names().is_empty());
    let read = node.releases.read(&release.id);
    assert!(matches!(read, Err(ReleaseError::NotFound(_))));
    node.releases.remove(&release.id).expect("no error");
    node.releases.sweep().expect("no error");
    // A folder without its first file, under the name of what is being removed.
    let gone = node.folder().join(format!(".gone-{}", release.id));
    fs::create_dir(&gone).expect("a folder");
    fs::write(gone.join(RECORD), "x").expect("a file");
    assert!(node.releases.list().expect("a list").is_empty());
    let made = node.releases.add_local("gateway", FILE, images());
    node.releases
        .remove(&made.expect("made").id)
        .expect("removed");
    assert!(node.names().is_empty());
}

#[test]
fn errors_name_the_path_and_what_to_do() {
    let node = Node::new();
    fs::create_dir_all(node.folder().parent().expect("a parent")).expect("a folder");
    fs::write(node.folder(), "in the way").expect("a file");
    let error = node
        .releases
        .add_local("gateway", FILE, images())
        .expect_err("no folder");
    let path = node.folder().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
    assert!(node.releases.list().is_err());
    let source = io::Error::from(io::ErrorKind::StorageFull);
    let error = ReleaseError::io("write", &node.folder())(source).to_string();
    assert!(error.contains("makes room"), "{error}");
}

#[test]
fn only_its_hook_is_a_program() {
    let node = Node::new();
    let folder = node.root.path().join("new");
    let contents = [
        (WORKLOAD.to_owned(), FILE),
        (HOOK.to_owned(), b"#!/bin/sh".as_slice()),
    ];
    files::write_folder(&folder, &contents, (RECORD, b"{}"), HOOK).expect("written");
    for (name, mode) in [(WORKLOAD, 0o644), (HOOK, 0o755), (RECORD, 0o644)] {
        let found = fs::metadata(folder.join(name)).expect("a file");
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
}
