//! Sticks that are pulled out, at each border of a part and anywhere, and put in again.

use std::fs;
use std::io::{self, Read};

use monopod::bundle::{BundleError, Machine, TakeOptions, Taken, Trust, take};
use monopod::image::Store;
use monopod::paths::Paths;

use crate::build::layer;
use crate::forge::{Forge, Parts};
use crate::node::ONE_PUB;

/// Gives some bytes, and then fails as a stick does that is pulled out.
struct Pulled<'b> {
    bytes: &'b [u8],
    left: usize,
}

impl Read for Pulled<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let count = self.bytes.len().min(buf.len()).min(self.left);
        buf[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        self.left -= count;
        Ok(count)
    }
}

fn take_from(store: &Store, reader: &mut impl Read) -> Result<Taken, BundleError> {
    let trust = Trust::of_text("the test", ONE_PUB).expect("a key");
    let options = TakeOptions {
        accepted: std::collections::BTreeMap::new(),
        machine: Machine::here(&Paths::new("/".as_ref())),
        max_image_size: 64 << 20,
    };
    take(reader, store, &trust, &options, &mut |_| {})
}

fn blobs(store: &Store) -> usize {
    fs::read_dir(store.path().join("blobs/sha256"))
        .expect("a folder")
        .count()
}

fn borders(forge: &Forge, whole: usize) -> Vec<usize> {
    let members: Vec<usize> = forge.bytes.iter().map(Vec::len).collect();
    let front = whole - members.iter().sum::<usize>();
    let manifest = forge.manifest.bytes().len();
    let mut at = front;
    let mut borders = vec![0, 1, 20, front - manifest, front];
    for size in members {
        at += size;
        borders.push(at);
    }
    let near = borders
        .iter()
        .flat_map(|&at| [at.saturating_sub(1), at, at + 1]);
    let mut all: Vec<usize> = near.filter(|&at| at < whole).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn pulled_out_anywhere_and_put_in_again() {
    let forge = Parts::of(&[layer(1, 400_000), layer(2, 3000), layer(3, 60_000)]).forge();
    let bundle = forge.seal();
    let mut places = borders(&forge, bundle.len());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..40 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        places.push(usize::try_from(state % bundle.len() as u64).expect("it is small"));
    }
    assert!(places.len() > 60);
    println!(
        "figure: a stick pulled out at {} places, and taken when it is put in again",
        places.len()
    );
    for left in places {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let mut pulled = Pulled {
            bytes: &bundle,
            left,
        };
        match take_from(&store, &mut pulled) {
            Err(BundleError::Read(error)) => {
                assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{left}");
            }
            other => panic!("{left}: {other:?}"),
        }
        // Nothing half, and nothing that can be seen.
        assert!(store.images().expect("images").is_empty(), "{left}");
        assert_eq!(
            fs::read_dir(store.path().join("tmp"))
                .expect("a folder")
                .count(),
            0,
            "{left}"
        );
        let kept = blobs(&store);
        let taken = take_from(&store, &mut bundle.as_slice()).expect("it is good");
        let id = taken.imported.images[0].config.to_string();
        let image = store.resolve(&id).expect("a store").expect("the image");
        assert!(image.layers_present && taken.imported.images[0].manifest == image.manifest);
        assert_eq!(
            taken.imported.layers_added + taken.imported.layers_known,
            3,
            "{left}"
        );
        // Two documents; whatever layer came through whole is not taken anew.
        assert_eq!(
            taken.imported.layers_known,
            kept.saturating_sub(2),
            "{left}"
        );
        assert_eq!(store.collect_garbage().expect("a store").blobs, 0, "{left}");
    }
}

#[test]
fn a_file_that_ends_early_is_refused_and_leaves_nothing() {
    let forge = Forge::good();
    let bundle = forge.seal();
    for left in borders(&forge, bundle.len()) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("store")).expect("a store");
        let error = take_from(&store, &mut &bundle[..left]).expect_err("it is cut off");
        assert!(matches!(error, BundleError::Refused(_)), "{left}: {error}");
        assert_eq!(blobs(&store), 0, "{left}");
    }
}

#[test]
fn without_names_what_runs_stays_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let old = Parts::of(&[layer(1, 1000)]).forge().seal();
    let new = Parts::of(&[layer(1, 1000), layer(2, 1000)]).forge().seal();
    let mut configs = Vec::new();
    for bundle in [old, new] {
        let taken = take_from(&store, &mut bundle.as_slice()).expect("it is good");
        configs.push(taken.imported.images[0].config);
        let named = store.resolve("example/gateway:1.4.2").expect("a store");
        assert_eq!(named, None, "the name is not a bundle's to give");
    }
    for config in configs {
        let image = store.resolve(&config.to_string()).expect("a store");
        let image = image.expect("it is there, by its ID");
        assert!(image.layers_present && image.references.is_empty());
    }
    assert_eq!(store.collect_garbage().expect("a store").blobs, 0);
}
