//! The store: what was there stays, what comes is there whole or not at all, and the next try ends well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use monopod::bundle::{Machine, TakeOptions, Trust, take};
use monopod::image::{
    Digest, ImportOptions, PreloadState, Source, Store, host_architectures, import, preload,
    preload_survey,
};
use monopod::paths::Paths;

use crate::build::{Dialect, Image, gzip, image_for, layer, pack};
use crate::deed;
use crate::forge::Parts;
use crate::node::ONE_PUB;
use crate::scenario::{Ends, Judge, Place, Scenario};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "store: the first import makes it",
        setup: |place| {
            make(place, &[]);
            put(place, &pack(Dialect::Docker20, &[old()]));
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
    Scenario {
        name: "store: a newer image takes a name, another comes with it",
        setup: |place| {
            make(place, &[old()]);
            put(place, &pack(Dialect::Docker20, &[new(), other()]));
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
    Scenario {
        name: "store: a packed archive is read once",
        setup: |place| {
            make(place, &[old()]);
            put(place, &gzip(&pack(Dialect::Docker25, &[new()])));
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
    Scenario {
        name: "store: an OCI archive keeps its own manifest",
        setup: |place| {
            make(place, &[old()]);
            put(place, &pack(Dialect::OciZstd, &[new()]));
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
    Scenario {
        name: "store: the first bundle makes it",
        setup: |place| {
            make(place, &[]);
            put(place, &bundle());
        },
        command: unpack,
        judge: |ends| judge(ends, again_bundle),
    },
    Scenario {
        name: "store: a bundle takes a name",
        setup: |place| {
            make(place, &[old(), other()]);
            put(place, &bundle());
        },
        command: unpack,
        judge: |ends| judge(ends, again_bundle),
    },
    Scenario {
        name: "store: a preload folder",
        setup: |place| {
            make(place, &[old()]);
            let folder = Paths::new(&place.root).preload();
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("new.tar"), pack(Dialect::Podman, &[new()])).expect("written");
        },
        command: |place| monopod(place, &[]),
        judge: |ends| judge(ends, again_preload),
    },
    Scenario {
        name: "store: what an interrupted import left is used",
        setup: |place| {
            make(place, &[old()]);
            let archive = pack(Dialect::Docker20, &[new()]);
            // Cut off behind the layers.
            let cut = archive.len() - 3000;
            let mut reader = Pulled(Cursor::new(archive[..cut].to_vec()));
            let source = Source::Stream {
                name: "a stick that is pulled out",
                reader: &mut reader,
            };
            let store = open(&place.root).expect("a store");
            import(&store, source, &ImportOptions::default(), &mut |_| {}).expect_err("cut off");
            fs::write(store.path().join("tmp/blob-7"), "half a bl").expect("written");
            put(place, &archive);
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
    Scenario {
        name: "store: prune",
        setup: |place| make(place, &[old(), other(), new()]),
        command: |place| deed("store-prune", &place.root),
        judge: |ends| judge(ends, |root, _| act("store-prune", root)),
    },
    Scenario {
        name: "store: layers that only the engine keeps",
        setup: |place| make(place, &[other(), new()]),
        command: |place| deed("store-drop", &place.root),
        judge: |ends| judge(ends, |root, _| act("store-drop", root)),
    },
    Scenario {
        name: "store: dropped layers come again",
        setup: |place| {
            make(place, &[other(), new()]);
            act("store-drop", &place.root).expect("dropped");
            put(place, &pack(Dialect::Docker20, &[new()]));
        },
        command: unpack,
        judge: |ends| judge(ends, again_archive),
    },
];

const NAME: &str = "example/gateway:1.4.2";

fn of(tag: &str, layers: &[Vec<u8>]) -> Image {
    image_for(tag, layers, &host_architectures()[0])
}

fn old() -> Image {
    of(NAME, &[layer(1, 40_000), layer(2, 3000)])
}

fn new() -> Image {
    of(NAME, &[layer(1, 40_000), layer(3, 150_000)])
}

fn other() -> Image {
    of("example/broker:2", &[layer(4, 2000)])
}

/// Another image under the same name, whose lowest layer the store may have, packed otherwise.
fn bundle() -> Vec<u8> {
    Parts::of(&[layer(1, 40_000), layer(5, 90_000)])
        .forge()
        .seal()
}

/// A node as its package leaves it, with these images in its store.
fn make(place: &Place, images: &[Image]) {
    let paths = Paths::new(&place.root);
    fs::create_dir_all(paths.state()).expect("a folder");
    fs::create_dir_all(paths.keys()).expect("a folder");
    fs::write(paths.keys().join("one.pub"), ONE_PUB).expect("a key");
    for image in images {
        let archive = place.desk.join("before.tar");
        fs::write(
            &archive,
            pack(Dialect::Docker20, std::slice::from_ref(image)),
        )
        .expect("written");
        take_archive(&place.root, &archive).expect("imported");
    }
}

fn put(place: &Place, archive: &[u8]) {
    fs::write(place.desk.join("new"), archive).expect("written");
}

/// `monopod unpack`: the process that `monopod import` has do all of it.
fn monopod(place: &Place, source: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
    command
        .arg("--root")
        .arg(&place.root)
        .args(["unpack", "--max-image-size", "100000000", "--"])
        .args(source);
    command
}

fn unpack(place: &Place) -> Command {
    monopod(place, &[&place.desk.join("new")])
}

/// Gives what there is, and then fails as a stick does that is pulled out.
struct Pulled(Cursor<Vec<u8>>);

impl std::io::Read for Pulled {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(std::io::Error::from_raw_os_error(nix::libc::EIO)),
            count => Ok(count),
        }
    }
}

fn open(root: &Path) -> Result<Store, String> {
    Store::open(&Paths::new(root).store()).map_err(|error| error.to_string())
}

/// What the recorded process does, where `monopod` needs an engine for it.
pub fn act(name: &str, root: &Path) -> Result<(), String> {
    let store = open(root)?;
    match name {
        "store-prune" => {
            let keep = BTreeSet::from([NAME.to_owned()]);
            store
                .prune(&keep)
                .map(drop)
                .map_err(|error| error.to_string())
        }
        "store-drop" => {
            let image = store.resolve(NAME).map_err(|error| error.to_string())?;
            let image = image.ok_or("the image is gone")?;
            store
                .drop_layers(&image)
                .map(drop)
                .map_err(|error| error.to_string())
        }
        _ => Err(format!("no deed is called {name}")),
    }
}

fn take_archive(root: &Path, archive: &Path) -> Result<(), String> {
    let options = ImportOptions::default();
    import(&open(root)?, Source::Path(archive), &options, &mut |_| {})
        .map(drop)
        .map_err(|error| error.to_string())
}

fn again_archive(root: &Path, desk: &Path) -> Result<(), String> {
    take_archive(root, &desk.join("new"))
}

fn again_bundle(root: &Path, desk: &Path) -> Result<(), String> {
    let bytes = fs::read(desk.join("new")).map_err(|error| error.to_string())?;
    let options = TakeOptions {
        machine: Machine::here(&Paths::new(root)),
        max_image_size: 100_000_000,
        accepted: BTreeMap::new(),
    };
    let trust = Trust::of_folder(&Paths::new(root).keys()).map_err(|error| error.to_string())?;
    take(
        &mut bytes.as_slice(),
        &open(root)?,
        &trust,
        &options,
        &mut |_| {},
    )
    .map(drop)
    .map_err(|error| error.to_string())
}

fn again_preload(root: &Path, _desk: &Path) -> Result<(), String> {
    let store = open(root)?;
    let folder = Paths::new(root).preload();
    let record = store.preload_record();
    let done = preload(
        &store,
        &folder,
        &record,
        &ImportOptions::default(),
        &mut |_| {},
        &mut |_, _| Ok(()),
    );
    let done = done.map_err(|error| error.to_string())?;
    if !done.failed.is_empty() || !done.refused.is_empty() || !done.still_refused.is_empty() {
        return Err(format!("not taken: {done:?}"));
    }
    let survey = preload_survey(&folder, &record).map_err(|error| error.to_string())?;
    if survey
        .iter()
        .all(|(_, state)| *state == PreloadState::Imported)
    {
        Ok(())
    } else {
        Err(format!("not remembered: {survey:?}"))
    }
}

/// What a store says it has: each image's ID, its names, and whether its layers were dropped.
type Images = BTreeMap<String, (BTreeSet<String>, bool)>;

/// The images of a store, every blob of which is there and is what its name says.
fn whole(store: &Store) -> Result<Images, String> {
    let failed = |error: monopod::image::StoreError| error.to_string();
    if let Some(line) = store.damaged().map_err(failed)?.first() {
        return Err(line.clone());
    }
    let folder = store.path().join("blobs/sha256");
    let mut blobs = BTreeSet::new();
    for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let digest = Digest::of(&fs::read(&path).map_err(|error| error.to_string())?);
        if path != store.blob_path(&digest) {
            return Err(format!("{} has the digest {digest}", path.display()));
        }
        blobs.insert(digest);
    }
    let mut images = Images::new();
    for image in store.images().map_err(failed)? {
        if !image.dropped {
            for layer in &image.layers {
                if !blobs.contains(&layer.digest) {
                    return Err(format!("image {} lacks layer {}", image.id(), layer.digest));
                }
            }
        }
        let names = image.references.iter().cloned().collect();
        images.insert(image.id(), (names, image.dropped));
    }
    Ok(images)
}

/// What two stores that are the same have in common. `layers/` is a cache, `tmp/` is cleared by the
/// next writer, the lock is nobody's, and the preload's record has the times of the archives.
fn content(store: &Store) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    for folder in [".", "blobs/sha256"] {
        for entry in fs::read_dir(store.path().join(folder)).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let name = format!("{folder}/{}", entry.file_name().display());
            if entry.path().is_file() && !["./lock", "./preload.json"].contains(&name.as_str()) {
                let bytes = fs::read(entry.path()).map_err(|error| error.to_string())?;
                found.insert(name, bytes);
            }
        }
    }
    Ok(found)
}

/// What is left when what nobody needs has gone; all of `tmp/` has.
fn cleaned(store: &Store) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let swept = store.collect_garbage();
    swept.map_err(|error| format!("no clean-up: {error}"))?;
    let temps = fs::read_dir(store.path().join("tmp")).map_err(|error| error.to_string())?;
    match temps.count() {
        0 => content(store),
        left => Err(format!("{left} files stay in tmp/")),
    }
}

fn judge(ends: &Ends<'_>, again: fn(&Path, &Path) -> Result<(), String>) -> Judge {
    let desk = ends.desk.to_owned();
    let old = open(ends.before).and_then(|store| whole(&store));
    let after = open(ends.after).and_then(|store| {
        let new = (whole(&store)?, content(&store)?);
        Ok((new, cleaned(&store)?))
    });
    Box::new(move |root, done| {
        let old = old.clone()?;
        let ((new, reference), clean) = after.as_ref().map_err(Clone::clone)?;
        let store = open(root)?;
        let now = whole(&store)?;
        if now != *new && (done || now != old) {
            return Err(format!("found {now:?}, where {old:?} became {new:?}"));
        }
        again(root, &desk).map_err(|error| format!("the next try fails: {error}"))?;
        let then = whole(&store).map_err(|error| format!("after the next try: {error}"))?;
        if then != *new {
            return Err(format!("the next try ends with {then:?}, not {new:?}"));
        }
        let found = content(&store)?;
        let differs = |name: &&String| found.get(*name) != reference.get(*name);
        let other: BTreeSet<&String> = found
            .keys()
            .chain(reference.keys())
            .filter(differs)
            .collect();
        if !other.is_empty() {
            return Err(format!("the next try ends with another store: {other:?}"));
        }
        if cleaned(&store)? == *clean {
            Ok(())
        } else {
            Err("a clean-up ends with another store".to_owned())
        }
    })
}
