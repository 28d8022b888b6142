//! What the store keeps and what it lets go: prune, dropped layers, rot, the preload folder.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use monopod::image::{
    PreloadState, Preloaded, StoreError, preload, preload_survey, verify_image, write_load_stream,
};

use crate::build::{Dialect, Image, Place, gzip, image, layer, oci, options, pack, sha};

fn two() -> [Image; 2] {
    [
        image("example/one:1", &[layer(41, 3000), layer(42, 500)]),
        image("example/two:1", &[layer(41, 3000), layer(43, 700)]),
    ]
}

fn blobs(place: &Place) -> usize {
    fs::read_dir(place.store.path().join("blobs/sha256"))
        .unwrap()
        .count()
}

fn damage(place: &Place, name: &str, at: usize) -> std::path::PathBuf {
    let stored = place.store.resolve(name).unwrap().unwrap();
    let path = place.store.blob_path(&stored.layers[0].digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 0x55;
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn prune_keeps_what_it_is_told_and_nothing_else() {
    let [one, other] = two();
    for (keep, kept) in [
        (vec!["docker.io/example/one:1".to_owned()], vec![&one]),
        (vec![sha(&other.config)], vec![&other]),
        (
            vec!["example/one:1".to_owned(), "example/two:1".to_owned()],
            vec![&one, &other],
        ),
        (vec!["example/none:1".to_owned()], vec![]),
    ] {
        let place = Place::new();
        place
            .import_file(&pack(Dialect::Docker20, &[one.clone(), other.clone()]))
            .unwrap();
        let all = blobs(&place);
        // Garbage of an interrupted writer.
        fs::write(place.store.path().join("tmp/blob-7"), "x").unwrap();
        let pruned = place
            .store
            .prune(&keep.into_iter().collect::<BTreeSet<_>>())
            .unwrap();
        assert_eq!(pruned.images.len(), 2 - kept.len());
        assert_eq!(pruned.blobs, all - blobs(&place));
        assert_eq!(pruned.blobs == 0, kept.len() == 2);
        assert_eq!(place.store.images().unwrap().len(), kept.len());
        for image in kept {
            place.assert_has(image);
        }
        assert_eq!(
            fs::read_dir(place.store.path().join("tmp"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn names_can_be_removed() {
    let [one, _] = two();
    let place = Place::new();
    let named = Image {
        tags: vec!["example/one:1".into(), "example/one:stable".into()],
        ..one.clone()
    };
    place.import_file(&pack(Dialect::Podman, &[named])).unwrap();
    place.store.remove("docker.io/example/one:stable").unwrap();
    place.assert_has(&one);
    place.store.remove(&sha(&one.config)).unwrap();
    assert!(place.store.images().unwrap().is_empty());
    assert!(matches!(
        place.store.remove("example/one:1"),
        Err(StoreError::NotFound(_))
    ));
    assert_eq!(place.store.collect_garbage().unwrap().blobs, 4);
    assert_eq!(blobs(&place), 0);
}

#[test]
fn dropped_layers_come_back_with_the_archive() {
    let [one, other] = two();
    let place = Place::new();
    let archive = pack(Dialect::Docker25, &[one.clone(), other.clone()]);
    place.import_file(&archive).unwrap();
    let stored = place.store.resolve("example/one:1").unwrap().unwrap();
    assert!(place.store.drop_layers(&stored).unwrap() > 0);
    let dropped = place.store.resolve("example/one:1").unwrap().unwrap();
    assert!(dropped.dropped && !dropped.layers_present);
    assert_eq!(place.store.config_bytes(&dropped).unwrap(), one.config);
    // The layer that both have stays for the other.
    place.assert_has(&other);
    let error =
        write_load_stream(&place.store, &dropped, 0, &mut Vec::new(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::LayerMissing { .. }), "{error}");

    for archive in [archive, pack(Dialect::OciGzip, std::slice::from_ref(&one))] {
        place.import_file(&archive).unwrap();
        let back = place.store.resolve("example/one:1").unwrap().unwrap();
        assert!(!back.dropped && back.layers_present && back.references == ["example/one:1"]);
        place.assert_has(&one);
        place.assert_has(&other);
        place.store.drop_layers(&back).unwrap();
    }
}

fn archive_of(image: &Image) -> Vec<u8> {
    pack(Dialect::Docker20, std::slice::from_ref(image))
}

#[test]
fn rot_is_noticed_and_mended() {
    let [one, _] = two();
    for at in [3, 40] {
        let place = Place::new();
        let archive = pack(Dialect::Docker20, std::slice::from_ref(&one));
        place.import_file(&archive).unwrap();
        let path = damage(&place, "example/one:1", at);
        let stored = place.store.resolve("example/one:1").unwrap().unwrap();
        let error =
            write_load_stream(&place.store, &stored, 0, &mut Vec::new(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, StoreError::LayerDamaged { .. }), "{error}");
        // It is out of the way, and both are named.
        assert!(!path.exists());
        let blob = stored.layers[0].digest;
        let aside = place.store.path().join("damaged").join(blob.hex());
        assert!(aside.exists());
        let damaged = place.store.damaged().unwrap();
        assert_eq!(damaged.len(), 1);
        for text in [damaged[0].clone(), error.to_string()] {
            assert!(text.contains("image example/one:1 "), "{text}");
            assert!(text.contains(&blob.to_string()), "{text}");
        }
        place.import_file(&archive).unwrap();
        place.assert_has(&one);
        assert!(!aside.exists());
        assert_eq!(place.store.damaged().unwrap(), Vec::<String>::new());
    }

    // Whoever reads all of it finds all of it.
    let place = Place::new();
    place.import_file(&archive_of(&one)).unwrap();
    let stored = place.store.resolve("example/one:1").unwrap().unwrap();
    verify_image(&place.store, &stored, &mut |_| {}).unwrap();
    for layer in &stored.layers {
        let path = place.store.blob_path(&layer.digest);
        let size = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        fs::write(&path, vec![0; size]).unwrap();
    }
    let error = verify_image(&place.store, &stored, &mut |_| {}).unwrap_err();
    let first = stored.layers[0].digest.to_string();
    assert!(error.to_string().contains(&first), "{error}");
    let damaged = place.store.damaged().unwrap();
    for layer in &stored.layers {
        assert!(
            damaged[0].contains(&layer.digest.to_string()),
            "{damaged:?}"
        );
    }
    place.import_file(&archive_of(&one)).unwrap();
    place.assert_has(&one);

    // What is set aside stays as long as it says something.
    let place = Place::new();
    let archive = pack(Dialect::Docker20, std::slice::from_ref(&one));
    place.import_file(&archive).unwrap();
    let path = damage(&place, "example/one:1", 40);
    let stored = place.store.resolve("example/one:1").unwrap().unwrap();
    write_load_stream(&place.store, &stored, 0, &mut Vec::new(), &mut |_| {}).unwrap_err();
    place.store.collect_garbage().unwrap();
    assert_eq!(place.store.damaged().unwrap().len(), 1);
    place.store.remove("example/one:1").unwrap();
    place.store.collect_garbage().unwrap();
    let aside = place.store.path().join("damaged");
    assert_eq!(fs::read_dir(aside).unwrap().count(), 0);
    assert!(!path.exists());

    // A damaged document: the image is out of use, the others are not, and its archive mends it.
    let place = Place::new();
    let archive = pack(Dialect::Docker20, &two());
    place.import_file(&archive).unwrap();
    let stored = place.store.resolve("example/one:1").unwrap().unwrap();
    fs::write(place.store.blob_path(&stored.manifest), "{}").unwrap();
    assert_eq!(place.store.images().unwrap().len(), 1);
    assert_eq!(place.store.damaged().unwrap().len(), 1);
    place.import_file(&archive).unwrap();
    for image in two() {
        place.assert_has(&image);
    }

    // Damage of the same size, as a power cut or a worn medium leaves it.
    for document in [stored.manifest, stored.config] {
        let path = place.store.blob_path(&document);
        let size = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        fs::write(&path, vec![0; size]).unwrap();
        assert_eq!(place.store.damaged().unwrap().len(), 1);
        place.import_file(&archive).unwrap();
        for image in two() {
            place.assert_has(&image);
        }
    }
}

#[test]
fn a_damaged_index_is_not_overwritten() {
    let place = Place::new();
    let index = place.store.path().join("index.json");
    fs::write(&index, "{\"schemaV").unwrap();
    let archive = pack(Dialect::Docker20, &two());
    let error = place.import_file(&archive).unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
    assert_eq!(fs::read(&index).unwrap(), b"{\"schemaV");
}

#[test]
fn two_writers_take_turns() {
    let place = Place::new();
    let [one, other] = two();
    std::thread::scope(|scope| {
        for image in [&one, &other] {
            let place = &place;
            scope.spawn(move || {
                let archive = pack(Dialect::OciPlain, std::slice::from_ref(image));
                place.import_stream(&archive).unwrap();
            });
        }
    });
    place.assert_has(&one);
    place.assert_has(&other);
    let held = place.store.lock().unwrap();
    assert!(place.store.try_lock().unwrap().is_none());
    drop(held);
    assert!(place.store.try_lock().unwrap().is_some());
}

fn run(place: &Place) -> Preloaded {
    preload(
        &place.store,
        &place.path("preload"),
        &place.store.preload_record(),
        &options(),
        &mut |_| {},
        &mut |_, _| Ok(()),
    )
    .unwrap()
}

#[test]
fn each_preloaded_archive_is_read_once() {
    let place = Place::new();
    assert_eq!(run(&place).known, 0, "no folder, nothing to do");
    let folder = place.path("preload");
    fs::create_dir(&folder).unwrap();
    let [one, other] = two();
    let third = image("example/three:1", &[layer(44, 300)]);
    fs::write(
        folder.join("1.tar"),
        pack(Dialect::Docker20, std::slice::from_ref(&one)),
    )
    .unwrap();
    fs::write(
        folder.join("2.tgz"),
        gzip(&pack(Dialect::Podman, std::slice::from_ref(&other))),
    )
    .unwrap();
    fs::write(folder.join("3.tar.zst"), "not at all").unwrap();
    fs::write(folder.join("README"), "not an archive").unwrap();
    oci(std::slice::from_ref(&third), |layer| gzip(layer)).write(&folder.join("layout"));

    let first = run(&place);
    assert_eq!(
        (
            first.imported.len(),
            first.refused.len(),
            first.failed.len(),
            first.known
        ),
        (3, 1, 0, 0)
    );
    for image in [&one, &other, &third] {
        place.assert_has(image);
    }

    // Known again, even when they are no longer what they were, as long as size and time are.
    let before = place.snapshot();
    let time = fs::metadata(folder.join("1.tar"))
        .unwrap()
        .modified()
        .unwrap();
    let size = fs::metadata(folder.join("1.tar")).unwrap().len();
    fs::write(
        folder.join("1.tar"),
        vec![0; usize::try_from(size).unwrap()],
    )
    .unwrap();
    let touch = |name: &str, time: SystemTime| {
        fs::File::options()
            .append(true)
            .open(folder.join(name))
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    touch("1.tar", time);
    let second = run(&place);
    assert_eq!(
        (second.imported.len(), second.refused.len(), second.known),
        (0, 0, 4)
    );
    assert_eq!(second.still_refused.len(), 1);
    assert_eq!(
        place.snapshot(),
        before,
        "nothing is written while nothing changes"
    );

    // Another time and the same bytes: known by digest, under another name, too.
    touch("2.tgz", time + Duration::from_secs(5));
    touch("3.tar.zst", time + Duration::from_secs(5));
    fs::rename(folder.join("2.tgz"), folder.join("0.tgz")).unwrap();
    let third_run = run(&place);
    assert_eq!(
        (
            third_run.imported.len(),
            third_run.refused.len(),
            third_run.known
        ),
        (0, 0, 4)
    );

    // A changed one is tried again; one that is mended is imported.
    touch("1.tar", time + Duration::from_secs(9));
    fs::write(
        folder.join("3.tar.zst"),
        pack(Dialect::OciZstd, std::slice::from_ref(&one)),
    )
    .unwrap();
    let fourth = run(&place);
    assert_eq!(
        (fourth.imported.len(), fourth.refused.len(), fourth.known),
        (1, 1, 2)
    );

    // A damaged record costs reading, no more.
    fs::write(place.store.preload_record(), "{").unwrap();
    let fifth = run(&place);
    assert_eq!((fifth.imported.len(), fifth.refused.len()), (3, 1));
    assert!(
        fifth
            .imported
            .iter()
            .all(|(_, imported)| imported.layers_added == 0)
    );
}

/// Has the damage in an image's lowest layer found.
fn find_damage(place: &Place, name: &str) {
    damage(place, name, 40);
    let stored = place.store.resolve(name).unwrap().unwrap();
    write_load_stream(&place.store, &stored, 0, &mut Vec::new(), &mut |_| {}).unwrap_err();
}

#[test]
fn a_known_archive_is_read_again_for_what_it_mends() {
    let place = Place::new();
    let folder = place.path("preload");
    fs::create_dir(&folder).unwrap();
    let [one, other] = two();
    for (name, image) in [("1.tar", &one), ("2.tar", &other)] {
        let bytes = pack(Dialect::Docker20, std::slice::from_ref(image));
        fs::write(folder.join(name), bytes).unwrap();
    }
    assert_eq!(run(&place).imported.len(), 2);
    assert_eq!(run(&place).known, 2);

    // The damaged layer is in both images; the first archive mends it for both.
    find_damage(&place, "example/two:1");
    assert_eq!(place.store.damaged().unwrap().len(), 2);
    let again = run(&place);
    assert_eq!((again.imported.len(), again.known), (1, 1));
    place.assert_has(&one);
    place.assert_has(&other);
    assert_eq!(run(&place).known, 2);

    // So it is with a damaged document.
    let stored = place.store.resolve("example/two:1").unwrap().unwrap();
    fs::write(place.store.blob_path(&stored.config), "{").unwrap();
    assert_eq!(run(&place).imported.len(), 1);
    place.assert_has(&other);

    // What was dropped on purpose stays dropped.
    let stored = place.store.resolve("example/two:1").unwrap().unwrap();
    place.store.drop_layers(&stored).unwrap();
    assert_eq!(run(&place).known, 2);

    // A name that has moved on stays where it is, damage or not.
    let newer = image("example/one:1", &[layer(51, 3000)]);
    let bytes = pack(Dialect::Docker20, std::slice::from_ref(&newer));
    place.import_file(&bytes).unwrap();
    let old = place.store.resolve(&sha(&one.config)).unwrap().unwrap();
    fs::remove_file(place.store.blob_path(&old.layers[1].digest)).unwrap();
    assert_eq!(run(&place).known, 2);
    place.assert_has(&newer);
}

#[test]
fn a_survey_says_what_the_next_run_would_read() {
    let place = Place::new();
    let folder = place.path("preload");
    let survey = || {
        let found = preload_survey(&folder, &place.store.preload_record()).unwrap();
        let states: Vec<_> = found
            .into_iter()
            .map(|(path, state)| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let state = match state {
                    PreloadState::New => "new",
                    PreloadState::Imported => "imported",
                    PreloadState::Refused(_) => "refused",
                };
                (name, state)
            })
            .collect();
        states
    };
    assert_eq!(survey(), []);
    fs::create_dir(&folder).unwrap();
    let [one, other] = two();
    let bytes = pack(Dialect::Docker20, std::slice::from_ref(&one));
    fs::write(folder.join("1.tar"), bytes).unwrap();
    fs::write(folder.join("2.tar"), "not at all").unwrap();
    oci(std::slice::from_ref(&other), |layer| gzip(layer)).write(&folder.join("layout"));
    let named = |states: [&'static str; 3]| {
        let names = ["1.tar", "2.tar", "layout"].map(str::to_owned);
        names.into_iter().zip(states).collect::<Vec<_>>()
    };
    let before = place.snapshot();
    assert_eq!(survey(), named(["new", "new", "new"]));
    assert_eq!(place.snapshot(), before, "nothing is written");
    run(&place);
    assert_eq!(survey(), named(["imported", "refused", "imported"]));
    fs::write(folder.join("2.tar"), "not yet").unwrap();
    assert_eq!(survey(), named(["imported", "new", "imported"]));
}
