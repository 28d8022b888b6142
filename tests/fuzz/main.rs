//! Changed bundles and archives, seeded and repeatable: `MONOPOD_FUZZ_SECONDS` for each target
//! (2 by default), `MONOPOD_FUZZ_SEED` for another walk.
//!
//! This is a mutation fuzzer of our own, since libFuzzer needs a nightly compiler: it knows the
//! formats, but it is not guided by coverage. What it has found before is in `corpus/`, which every
//! run begins with; an input that fails is written below cargo's target folder, to a file with the
//! name of its target, and the failure says where.

#[allow(dead_code, reason = "the archives' own tests use the rest")]
#[path = "../archives/build.rs"]
mod build;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/forge.rs"]
mod forge;
mod mutate;
#[allow(dead_code, reason = "the bundles' own tests use the rest")]
#[path = "../bundle/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use monopod::bundle::{
    BundleError, Machine, Manifest, TakeOptions, Trust, open, read_raw, take, verify,
};
use monopod::image::{ImportError, ImportOptions, Source, Store, import};
use monopod::paths::Paths;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use build::{DIALECTS, gzip, image, layer, options, pack, zst};
use forge::{Forge, Parts, sign};
use mutate::Random;
use node::{ONE, ONE_PUB, TWO};

/// Memory that the process may ask for beyond what it has at the start, bytes.
const MEMORY: u64 = 512 << 20;
/// Most bytes that it may really have used in the end, KiB.
const RESIDENT_KIB: u64 = 192 << 10;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// A line of /proc/self/status, KiB.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("a file");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .expect("a line");
    line.trim_matches([':', ' ', '\t', 'k', 'B'])
        .parse()
        .expect("a number")
}

/// Where an input that fails a target is put: nobody's temporary folder loses it.
fn kept(target: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"))
}

/// Goes through a corpus, then through changed seeds until the time is over.
fn run(
    target: &str,
    corpus: &str,
    seeds: &[Vec<u8>],
    change: fn(&mut Random, &[Vec<u8>]) -> Vec<u8>,
    judge: &dyn Fn(&[u8]),
) {
    let (_, hard) = getrlimit(Resource::RLIMIT_AS).expect("a limit");
    let bound = (status("VmSize") << 10) + MEMORY;
    setrlimit(Resource::RLIMIT_AS, bound.min(hard), hard).expect("a limit");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(corpus);
    let mut all = seeds.to_vec();
    let entries: BTreeSet<PathBuf> = fs::read_dir(&corpus)
        .expect("a corpus")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(!entries.is_empty(), "the corpus is empty");
    let try_one = |bytes: &[u8], what: &str| {
        if catch_unwind(AssertUnwindSafe(|| judge(bytes))).is_err() {
            let file = kept(target);
            fs::create_dir_all(file.parent().expect("it is below another")).expect("a folder");
            fs::write(&file, bytes).expect("a file");
            panic!("target {target}: {what} fails; it is in {}", file.display());
        }
    };
    for path in entries {
        let bytes = fs::read(&path).expect("a file");
        try_one(&bytes, &path.display().to_string());
        all.push(bytes);
    }
    let seed = variable("MONOPOD_FUZZ_SEED", 1);
    let mut random = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(variable("MONOPOD_FUZZ_SECONDS", 2));
    let mut count = 0u64;
    while Instant::now() < end {
        let bytes = change(&mut random, &all);
        try_one(&bytes, &format!("input {count} of seed {seed}"));
        count += 1;
    }
    println!(
        "figure: target {target}: {count} inputs of seed {seed}, {} KiB resident at most",
        status("VmHWM")
    );
    assert!(count > 0 && status("VmHWM") < RESIDENT_KIB);
}

/// How many of the bundles below the trusted key has signed: all that may ever be accepted here.
const SIGNED: usize = 3;

/// Bundles; the last two are signed by a stranger, and by nobody.
fn bundles() -> Vec<Vec<u8>> {
    let plain = Forge::good();
    let mut small = Parts::of(&[layer(4, 300)]);
    small.hook = None;
    vec![
        plain.seal(),
        include_bytes!("corpus/bundle/small").to_vec(),
        small.forge().seal(),
        plain.seal_with(TWO),
        plain.around(b"", &plain.manifest.bytes()),
    ]
}

#[test]
fn bundle() {
    let seeds = bundles();
    let signed: BTreeSet<Vec<u8>> = seeds[..SIGNED]
        .iter()
        .map(|seed| read_raw(&mut seed.as_slice()).expect("a bundle").manifest)
        .collect();
    let whole: BTreeSet<&[u8]> = seeds[..SIGNED].iter().map(Vec::as_slice).collect();
    let members: BTreeSet<&[u8]> = whole.iter().map(|seed| &seed[front(seed)..]).collect();
    let trust = Trust::of_text("the test", ONE_PUB).expect("a key");
    let machine = Machine::here(&Paths::new("/".as_ref()));
    let folder = memory_folder();
    let judge = |bytes: &[u8]| {
        // What stands behind the signature must never be reached by what nobody signed.
        if let Ok(opened) = open(&mut &bytes[..], &trust, None) {
            assert!(
                signed.contains(&opened.manifest.bytes()),
                "accepted what nobody signed"
            );
        }
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let options = TakeOptions {
            accepted: std::collections::BTreeMap::new(),
            machine: machine.clone(),
            max_image_size: 1 << 20,
        };
        match take(&mut &bytes[..], &store, &trust, &options, &mut |_| {}) {
            // The untrusted comment and line ends of a signature are free; nothing else is.
            Ok(_) => assert!(
                members.contains(&bytes[front(bytes)..]),
                "took other members"
            ),
            Err(BundleError::Refused(refusal)) => {
                let line = refusal.to_string();
                assert!(!line.contains(['\n', '\u{1b}']), "{line}");
                assert!(store.images().expect("images").is_empty());
                let blobs = fs::read_dir(store.path().join("blobs/sha256"))
                    .expect("a folder")
                    .count();
                assert_eq!(blobs, 0, "a refusal left something");
            }
            Err(error) => panic!("{error}"),
        }
        fs::remove_dir_all(store.path()).expect("a store");
        // The manifest's reader by itself, as if the signature had held.
        if let Ok(raw) = read_raw(&mut &bytes[..])
            && let Ok(manifest) = Manifest::parse(&raw.manifest)
        {
            assert_eq!(manifest.bytes(), raw.manifest, "two forms of one manifest");
        }
    };
    run("bundle", "bundle", &seeds, mutate::bundle, &judge);
}

/// With a key that signs anything: what stands behind the signature.
#[test]
fn signed() {
    let seeds: Vec<Vec<u8>> = bundles().into_iter().take(SIGNED).collect();
    let trust = Trust::of_text("the test", ONE_PUB).expect("a key");
    let folder = memory_folder();
    let machine = Machine::here(&Paths::new("/".as_ref()));
    let judge = |bytes: &[u8]| {
        let Ok(raw) = read_raw(&mut &bytes[..]) else {
            return;
        };
        let signature = sign(ONE, &raw.manifest);
        let head = format!(
            "monopod-bundle 1 {} {}\n",
            signature.len(),
            raw.manifest.len()
        );
        let rest = bytes
            .len()
            .min(usize::try_from(raw.size()).expect("it is small"));
        let bytes = [
            head.as_bytes(),
            signature.as_bytes(),
            &raw.manifest,
            &bytes[rest..],
        ]
        .concat();
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let options = TakeOptions {
            accepted: std::collections::BTreeMap::new(),
            machine: machine.clone(),
            max_image_size: 1 << 20,
        };
        let taken = take(&mut &bytes[..], &store, &trust, &options, &mut |_| {});
        let path = folder.path().join("bundle");
        fs::write(&path, &bytes).expect("a file");
        let file = fs::File::open(&path).expect("a file");
        let verified = verify(&file, &trust, Some(&machine), 1 << 20, &mut |_| {});
        match taken {
            Ok(taken) => {
                let image = store.resolve(&taken.imported.images[0].config.to_string());
                let image = image.expect("a store").expect("the image");
                let mut out = Vec::new();
                monopod::image::write_load_stream(&store, &image, 0, &mut out, &mut |_| {})
                    .expect("it is whole");
                verified.expect("verify says what take says");
            }
            Err(BundleError::Refused(refusal)) => {
                assert!(!refusal.to_string().contains(['\n', '\u{1b}']), "{refusal}");
                assert!(store.images().expect("images").is_empty());
            }
            Err(error) => panic!("{error}"),
        }
        fs::remove_dir_all(store.path()).expect("a store");
    };
    run("signed", "bundle", &seeds, mutate::bundle, &judge);
}

/// A failure leaves what caused it, and says where.
#[test]
fn what_fails_is_kept() {
    let target = "that-fails";
    let _ = fs::remove_file(kept(target));
    let failing = |bytes: &[u8]| assert!(!bytes.is_empty() && bytes[0] != b'm', "it fails");
    let seeds = bundles();
    let ran = catch_unwind(|| run(target, "bundle", &seeds, mutate::bundle, &failing));
    let said = ran.expect_err("the first of the corpus fails");
    let said = said.downcast_ref::<String>().expect("a text");
    let file = kept(target);
    assert!(said.contains(&file.display().to_string()), "{said}");
    assert_eq!(fs::read(&file).expect("it is kept")[0], b'm');
    fs::remove_file(file).expect("it is there");
}

#[test]
fn archive() {
    let images = [
        image("example/one:1", &[layer(21, 600), layer(22, 2000)]),
        image("example/two:1", &[layer(21, 600)]),
    ];
    let mut seeds = Vec::new();
    for dialect in DIALECTS {
        let archive = pack(dialect, &images);
        seeds.extend([gzip(&archive), zst(&archive), archive]);
    }
    let folder = memory_folder();
    let judge = |bytes: &[u8]| {
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let limits = ImportOptions {
            max_image_size: 1 << 20,
            ..options()
        };
        let path = folder.path().join("archive");
        fs::write(&path, bytes).expect("a file");
        let mut reader = bytes;
        // Both ways to read one, by turns.
        let source = match bytes.len() % 2 {
            0 => Source::Path(&path),
            _ => Source::Stream {
                name: "stream",
                reader: &mut reader,
            },
        };
        match import(&store, source, &limits, &mut |_| {}) {
            Ok(imported) => {
                for image in imported.images {
                    let stored = store
                        .resolve(&image.config.to_string())
                        .expect("a store")
                        .expect("it");
                    let mut out = Vec::new();
                    monopod::image::write_load_stream(&store, &stored, 0, &mut out, &mut |_| {})
                        .expect("it is whole");
                }
            }
            Err(ImportError::Refused(line)) => {
                assert!(!line.contains(['\n', '\u{1b}']), "{line}");
                assert!(store.images().expect("images").is_empty());
            }
            Err(ImportError::Usage(_)) => {}
            Err(error) => panic!("{error}"),
        }
        fs::remove_dir_all(store.path()).expect("a store");
    };
    run("archive", "archive", &seeds, mutate::archive, &judge);
}

/// A folder in memory, where there is one: a fuzzer that waits for a disk tries little.
fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}

/// Where the members begin, by the two lengths.
fn front(bytes: &[u8]) -> usize {
    let raw = read_raw(&mut &bytes[..]).expect("it has a front");
    usize::try_from(raw.size()).expect("it is small")
}
