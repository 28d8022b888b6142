//! What goes in comes out: every dialect, plain and packed, from files, pipes and folders.

use std::fs;
use std::io::Write;

use monopod::image::{ImportError, ImportOptions, Source, import};
use serde_json::json;

use crate::build::{
    DIALECTS, Dialect, Layout, Place, Tar, gzip, header, image, image_for, layer, oci, options,
    pack, sample, sha, zst,
};

#[test]
fn every_dialect_from_file_and_pipe() {
    let shared = layer(1, 5 << 20);
    let twice = layer(3, 700);
    let images = [
        image(
            "example/gateway:1.4.2",
            &[shared.clone(), layer(2, 3000), twice.clone(), twice],
        ),
        image("example/broker:2", &[shared, layer(4, 6 << 20)]),
    ];
    for dialect in DIALECTS {
        let archive = pack(dialect, &images);
        for packed in [archive.clone(), gzip(&archive), zst(&archive)] {
            for from_file in [true, false] {
                let place = Place::new();
                let import = |bytes: &[u8]| {
                    if from_file {
                        place.import_file(bytes)
                    } else {
                        place.import_stream(bytes)
                    }
                };
                let imported =
                    import(&packed).unwrap_or_else(|error| panic!("{dialect:?}: {error}"));
                assert_eq!(
                    (imported.layers_added, imported.layers_known),
                    (4, 0),
                    "{dialect:?}"
                );
                assert!(imported.images.iter().all(|image| !image.known));
                for image in &images {
                    place.assert_has(image);
                }
                // Again: nothing is new, and not a byte is written.
                let before = place.snapshot();
                let again = import(&packed).unwrap();
                assert_eq!(
                    (again.layers_added, again.layers_known),
                    (0, 4),
                    "{dialect:?}"
                );
                assert!(again.images.iter().all(|image| image.known));
                assert_eq!(place.snapshot(), before, "{dialect:?}");
            }
        }
    }
}

#[test]
fn a_dialect_finds_what_another_brought() {
    for first in DIALECTS {
        for second in DIALECTS {
            let place = Place::new();
            let image = image("example/gateway:1.4.2", &[layer(1, 9000), layer(2, 3000)]);
            place
                .import_file(&pack(first, std::slice::from_ref(&image)))
                .unwrap();
            let before = place.snapshot();
            let imported = place
                .import_file(&pack(second, std::slice::from_ref(&image)))
                .unwrap();
            assert_eq!(imported.layers_added, 0, "{first:?} {second:?}");
            assert_eq!(place.snapshot(), before, "{first:?} {second:?}");
        }
    }
}

#[test]
fn packed_layers_and_their_manifest_stay_as_they_are() {
    for (pack, dialect) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zst, "zstd")] {
        let image = sample();
        let mut layout = Layout::new();
        let manifest = layout.manifest(&image, |layer| pack(layer));
        let descriptor = layout.document(&manifest);
        layout.name(descriptor.clone(), &image.tags[0]);
        let place = Place::new();
        place.import_file(&layout.tar()).unwrap();
        let digest = descriptor["digest"].as_str().unwrap();
        let by_digest = format!("example/gateway@{digest}");
        let stored = place.store.resolve(&by_digest).unwrap().expect(dialect);
        assert_eq!(stored.manifest.to_string(), digest);
        for layer in &stored.layers {
            assert!(layout.blobs.contains_key(&layer.digest.hex()));
        }
    }
}

#[test]
fn an_oci_folder() {
    let image = sample();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zst, <[u8]>::to_vec] {
        let place = Place::new();
        let folder = place.path("layout");
        oci(std::slice::from_ref(&image), |layer| pack(layer)).write(&folder);
        // What else is on the stick is no concern.
        fs::write(folder.join("README"), "x").unwrap();
        place.import_path(&folder).unwrap();
        place.assert_has(&image);
    }
}

#[test]
fn a_named_pipe() {
    let image = sample();
    let archive = pack(Dialect::Docker20, std::slice::from_ref(&image));
    let place = Place::new();
    let pipe = place.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            fs::File::options()
                .write(true)
                .open(pipe)
                .unwrap()
                .write_all(&archive)
                .unwrap()
        }
    });
    place.import_path(&pipe).unwrap();
    writer.join().unwrap();
    place.assert_has(&image);
}

#[test]
fn the_right_platform_of_an_index() {
    let ours = image_for("example/gateway:1", &[layer(1, 2000)], "amd64");
    let other = image_for("example/gateway:1", &[layer(2, 5 << 20)], "arm64");
    let mut layout = Layout::new();
    let mut descriptors = Vec::new();
    for image in [&other, &ours] {
        let manifest = layout.manifest(image, |layer| gzip(layer));
        let mut descriptor = layout.document(&manifest);
        let architecture = if std::ptr::eq(image, &ours) {
            "amd64"
        } else {
            "arm64"
        };
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        descriptors.push(descriptor);
    }
    let attestation = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": layout.blob(b"{}"), "size": 2},
        "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": layout.blob(b"{\"a\":1}"), "size": 7}],
    });
    let mut attestation = layout.document(&attestation);
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    descriptors.push(attestation);
    let flat = {
        let mut layout = layout.clone();
        for descriptor in &descriptors {
            layout.name(descriptor.clone(), "docker.io/example/gateway:1");
        }
        layout
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors,
    });
    let nested = layout.document(&index);
    layout.name(nested, "example/gateway:1");
    let sparse = {
        // Other platforms may be left out of the archive.
        let mut layout = layout.clone();
        layout.blobs.remove(
            descriptors[0]["digest"]
                .as_str()
                .unwrap()
                .strip_prefix("sha256:")
                .unwrap(),
        );
        for layer in &other.layers {
            layout.blobs.remove(&crate::build::hex(&gzip(layer)));
        }
        layout.blobs.remove(&crate::build::hex(&other.config));
        layout
    };
    for layout in [flat, layout, sparse] {
        for from_file in [true, false] {
            let place = Place::new();
            let archive = layout.tar();
            let imported = if from_file {
                place.import_file(&archive)
            } else {
                place.import_stream(&archive)
            };
            let imported = imported.unwrap();
            assert_eq!(
                imported.layers_added, 1,
                "the other platform's layer does not stay"
            );
            place.assert_has(&ours);
            assert_eq!(
                fs::read_dir(place.store.path().join("blobs/sha256"))
                    .unwrap()
                    .count(),
                3
            );
        }
    }
}

#[test]
fn names() {
    let image = sample();
    let nameless = crate::build::Image {
        tags: Vec::new(),
        ..image.clone()
    };
    for (archive, what) in [
        (
            pack(Dialect::Docker20, std::slice::from_ref(&nameless)),
            "saved by ID",
        ),
        (
            oci(
                &[crate::build::Image {
                    tags: vec!["latest".into()],
                    ..image.clone()
                }],
                Vec::clone,
            )
            .tar(),
            "a tag alone",
        ),
    ] {
        let place = Place::new();
        let before = place.snapshot();
        let error = place.import_file(&archive).unwrap_err();
        assert!(
            matches!(&error, ImportError::Usage(text) if text.contains("--as")),
            "{what}: {error}"
        );
        assert_eq!(place.snapshot(), before, "{what}");
        let path = place.write("archive.tar", &archive);
        let named = ImportOptions {
            reference: Some("docker.io/example/gateway:1.4.2".to_owned()),
            ..options()
        };
        import(&place.store, Source::Path(&path), &named, &mut |_| {}).unwrap();
        place.assert_has(&image);
    }

    let place = Place::new();
    let familiar = crate::build::Image {
        tags: vec!["docker.io/library/busybox:latest".into()],
        ..image
    };
    place
        .import_file(&pack(Dialect::OciGzip, std::slice::from_ref(&familiar)))
        .unwrap();
    for name in [
        "busybox",
        "library/busybox:latest",
        "docker.io/library/busybox",
        &sha(&familiar.config),
    ] {
        let stored = place.store.resolve(name).unwrap().expect(name);
        assert_eq!(stored.references, ["busybox:latest"]);
        assert_eq!(stored.platform, "linux/amd64");
        assert_eq!(stored.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    }
    assert!(place.store.resolve("busybox:1").unwrap().is_none());

    let several = pack(
        Dialect::Docker20,
        &[sample(), crate::build::image("b:1", &[layer(9, 100)])],
    );
    let path = place.write("archive.tar", &several);
    let named = ImportOptions {
        reference: Some("c:1".to_owned()),
        ..options()
    };
    let error = import(&place.store, Source::Path(&path), &named, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ImportError::Usage(text) if text.contains("2 images")));
}

#[test]
fn a_name_moves_on_and_the_old_image_stays() {
    let place = Place::new();
    let old = image("example/gateway:latest", &[layer(1, 3000)]);
    let new = image("example/gateway:latest", &[layer(1, 3000), layer(2, 100)]);
    place
        .import_file(&pack(Dialect::Docker25, std::slice::from_ref(&old)))
        .unwrap();
    let imported = place
        .import_file(&pack(Dialect::Docker25, std::slice::from_ref(&new)))
        .unwrap();
    assert_eq!(imported.images[0].replaced.len(), 1);
    assert_eq!(
        imported.images[0].replaced[0].1.to_string(),
        sha(&old.config)
    );
    place.assert_has(&new);
    let kept = place.store.resolve(&sha(&old.config)).unwrap().unwrap();
    assert!(kept.references.is_empty() && kept.layers_present);
}

#[test]
fn harmless_peculiarities() {
    let image = sample();
    let manifest = json!([{
        "Config": "./config.json", "RepoTags": ["example/gateway:1.4.2"], "Layers": ["a/1.tar", "./a/2.tar"],
        "Parent": "sha256:x",
    }]);
    let mut tar = Tar::new();
    tar.folder("./").folder("a/").folder("./a");
    tar.pax(&[("mtime", "1.5"), ("SCHILY.xattr.user.x", "a=b\nc")]);
    tar.file("./a/1.tar", &image.layers[0]);
    let mut old = header(b"a/2.tar", 0, image.layers[1].len() as u64);
    old.set_cksum();
    tar.member(&old, &image.layers[1]);
    tar.file("config.json", &image.config);
    tar.file("./manifest.json", manifest.to_string().as_bytes());
    let mut archive = tar.finish();
    archive.resize(archive.len().next_multiple_of(10_240), 0);
    for from_file in [true, false] {
        let place = Place::new();
        let imported = if from_file {
            place.import_file(&archive)
        } else {
            place.import_stream(&archive)
        };
        imported.unwrap();
        place.assert_has(&image);
    }
}

#[test]
fn progress_ends_at_its_total() {
    let image = sample();
    let archive = pack(Dialect::Docker20, std::slice::from_ref(&image));
    for packed in [archive.clone(), gzip(&archive)] {
        let place = Place::new();
        let path = place.write("archive.tar", &packed);
        let mut last = (0, None);
        import(
            &place.store,
            Source::Path(&path),
            &options(),
            &mut |progress| {
                assert!(
                    progress.done >= last.0
                        && progress.total.is_none_or(|total| progress.done <= total)
                );
                last = (progress.done, progress.total);
            },
        )
        .unwrap();
        assert!(last.1.is_some_and(|total| last.0 > total / 2), "{last:?}");
    }
}
