//! Archives that other tools write, and what they read of ours.

use std::process::Command;

use crate::build::{Dialect, Place, image, layer, pack};

fn skopeo(arguments: &[&str]) -> bool {
    let command = Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy"])
        .args(arguments)
        .output();
    let Ok(output) = command else {
        eprintln!("skipped: skopeo is not installed");
        return false;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    true
}

#[test]
fn what_skopeo_writes() {
    let image = image(
        "example/gateway:1.4.2",
        &[layer(1, 4300 << 10), layer(2, 3000)],
    );
    let source = Place::new();
    let docker = source.write(
        "docker.tar",
        &pack(Dialect::Podman, std::slice::from_ref(&image)),
    );
    let from = format!("docker-archive:{}", docker.display());
    for (to, more) in [
        ("docker-archive", &[][..]),
        ("oci-archive", &[]),
        ("oci-archive", &["--dest-compress-format", "zstd"]),
        ("oci", &[]),
        ("oci", &["--dest-decompress"]),
    ] {
        let place = Place::new();
        let path = place.path("converted");
        let target = format!("{to}:{}:example/gateway:1.4.2", path.display());
        if !skopeo(&[more, &[&from, &target]].concat()) {
            return;
        }
        let imported = place
            .import_path(&path)
            .unwrap_or_else(|error| panic!("{to} {more:?}: {error}"));
        let stored = place
            .store
            .resolve("example/gateway:1.4.2")
            .unwrap()
            .unwrap();
        assert_eq!(stored.config, imported.images[0].config, "{to} {more:?}");
        // skopeo writes another config with the same layers.
        let contents: Vec<String> = stored.diff_ids.iter().map(ToString::to_string).collect();
        let ours: Vec<String> = image
            .layers
            .iter()
            .map(|layer| crate::build::sha(layer))
            .collect();
        assert_eq!(contents, ours, "{to} {more:?}");
        read_back(&place);
    }
}

/// The store is an OCI layout, and what we send an engine is a docker archive: others read both.
fn read_back(place: &Place) {
    let stored = place
        .store
        .resolve("example/gateway:1.4.2")
        .unwrap()
        .unwrap();
    let mut stream = Vec::new();
    monopod::image::write_load_stream(&place.store, &stored, 0, &mut stream, &mut |_| {}).unwrap();
    let stream = place.write("stream.tar", &stream);
    let from_store = format!("oci:{}:example/gateway:1.4.2", place.store.path().display());
    let from_stream = format!("docker-archive:{}", stream.display());
    for (number, from) in [from_store, from_stream].iter().enumerate() {
        skopeo(&[
            from,
            &format!("dir:{}", place.path(&format!("dir-{number}")).display()),
        ]);
    }
}
