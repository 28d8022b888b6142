//! Imports that end early, and bytes that are nobody's: nothing half is ever to be seen.

use std::fs;
use std::io::{self, Read};

use monopod::image::{ImportError, ImportOptions, Source, import};
use proptest::prelude::*;

use crate::build::{DIALECTS, Dialect, Image, Place, gzip, image, layer, options, pack, zst};

/// Gives some bytes, and then fails as a stick does that is pulled out.
struct Pulled<'b> {
    bytes: &'b [u8],
    left: usize,
}

impl Read for Pulled<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let count = self.bytes.len().min(buf.len()).min(self.left);
        buf[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        self.left -= count;
        Ok(count)
    }
}

fn images() -> [Image; 2] {
    let shared = layer(21, 4300 << 10);
    [
        image("example/one:1", &[shared.clone(), layer(22, 300_000)]),
        image("example/two:1", &[shared, layer(23, 300_000)]),
    ]
}

#[test]
fn pulled_out_at_any_byte() {
    for (dialect, wrap) in [
        (Dialect::Docker20, <[u8]>::to_vec as fn(&[u8]) -> Vec<u8>),
        (Dialect::Docker25, gzip),
        (Dialect::Podman, zst),
    ] {
        let images = images();
        let archive = wrap(&pack(dialect, &images));
        let place = Place::new();
        let old = image("example/old:1", &[layer(5, 100)]);
        place
            .import_file(&pack(Dialect::Podman, std::slice::from_ref(&old)))
            .unwrap();
        let step = (archive.len() / 12).max(1);
        let near_the_end = (1..8).map(|back| archive.len().saturating_sub(back * back * 97));
        for left in (0..archive.len()).step_by(step).chain(near_the_end) {
            let error = place
                .import_reader(&mut Pulled {
                    bytes: &archive,
                    left,
                })
                .unwrap_err();
            assert!(
                matches!(error, ImportError::Read { .. }),
                "{dialect:?} {left}: {error}"
            );
            // What is there is whole, and nothing is said of what is not.
            assert_eq!(place.store.images().unwrap().len(), 1, "{dialect:?} {left}");
            assert_eq!(
                fs::read_dir(place.store.path().join("tmp"))
                    .unwrap()
                    .count(),
                0
            );
            place.assert_has(&old);
        }
        // The layer that came through is used by the next try.
        let imported = place.import_reader(&mut archive.as_slice()).unwrap();
        assert!(imported.layers_known > 0, "{dialect:?}");
        for image in &images {
            place.assert_has(image);
        }
    }
}

#[test]
fn a_killed_import_leaves_only_what_is_whole() {
    let images = images();
    let archive = pack(Dialect::Docker20, &images);
    let place = Place::new();
    // What kill -9 leaves: files in tmp/, a blob with its record, no index entry.
    let error = place.import_reader(&mut Pulled {
        bytes: &archive,
        left: archive.len() - 3000,
    });
    assert!(error.is_err());
    for (name, bytes) in [("blob-1", &b"half a bl"[..]), ("replace", b"{\"sche")] {
        fs::write(place.store.path().join("tmp").join(name), bytes).unwrap();
    }
    // What a power cut can leave of a record, which is not fsynced.
    let records: Vec<_> = fs::read_dir(place.store.path().join("layers"))
        .unwrap()
        .collect();
    assert!(!records.is_empty());
    for record in records {
        fs::write(record.unwrap().path(), b"").unwrap();
    }
    place.import_file(&archive).unwrap();
    assert_eq!(
        fs::read_dir(place.store.path().join("tmp"))
            .unwrap()
            .count(),
        0
    );
    for image in &images {
        place.assert_has(image);
    }
    assert_eq!(place.store.collect_garbage().unwrap().blobs, 0);
}

#[test]
fn a_full_disk_is_named_and_nothing_stays() {
    // A small file system of its own, which only this thread sees and which ends with it.
    let works = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let folder = tempfile::tempdir().unwrap();
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=3m"),
        )?;
        let store = monopod::image::Store::open(&folder.path().join("deep/store")).unwrap();
        let place = Place { folder, store };
        let outside = tempfile::tempdir().unwrap();
        let before = place.snapshot();
        let images = [image("a:1", &[layer(31, 1 << 20), layer(32, 5 << 20)])];
        let plain = pack(Dialect::Docker20, &images);
        // Ahead for the plain file (half of 6 MiB) and the packed one; when writing fails for the pipe.
        for (packed, ahead) in [
            (
                gzip(&pack(
                    Dialect::Docker20,
                    &[images[0].clone(), image("b:1", &[layer(33, 3 << 20)])],
                )),
                true,
            ),
            (plain.clone(), true),
            (plain, false),
        ] {
            let path = outside.path().join("archive.tar");
            fs::write(&path, &packed).unwrap();
            let mut reader = packed.as_slice();
            let source = if ahead {
                Source::Path(&path)
            } else {
                Source::Stream {
                    name: "pipe",
                    reader: &mut reader,
                }
            };
            let error = import(&place.store, source, &options(), &mut |_| {}).unwrap_err();
            let ImportError::NoSpace {
                filesystem, needed, ..
            } = &error
            else {
                panic!("{error}");
            };
            assert_eq!(*filesystem, place.folder.path().canonicalize().unwrap());
            assert_eq!(needed.is_some(), ahead);
            assert!(
                error
                    .to_string()
                    .contains(&filesystem.display().to_string())
            );
            assert_eq!(place.snapshot(), before);
        }
        nix::mount::umount(place.folder.path())
    })
    .join()
    .unwrap();
    match works {
        Ok(()) => {}
        Err(nix::errno::Errno::EPERM) => eprintln!("skipped: mounting needs root"),
        Err(error) => panic!("{error}"),
    }
}

/// A small archive that is worth changing.
fn seed(dialect: usize, wrap: usize) -> Vec<u8> {
    let images = [
        image("example/one:1", &[layer(21, 600), layer(22, 2000)]),
        image("example/two:1", &[layer(21, 600)]),
    ];
    let archive = pack(DIALECTS[dialect % DIALECTS.len()], &images);
    match wrap % 3 {
        0 => archive,
        1 => gzip(&archive),
        _ => zst(&archive),
    }
}

/// Whatever comes of it, the store is whole; and as it was, if nothing came of it.
fn survives(place: &Place, bytes: &[u8], from_file: bool) {
    let before = place.snapshot();
    let limits = ImportOptions {
        max_image_size: 64 << 20,
        ..options()
    };
    let path = place.write("archive.tar", bytes);
    let mut reader = bytes;
    let source = if from_file {
        Source::Path(&path)
    } else {
        Source::Stream {
            name: "stream",
            reader: &mut reader,
        }
    };
    match import(&place.store, source, &limits, &mut |_| {}) {
        Ok(imported) => {
            for image in imported.images {
                let stored = place
                    .store
                    .resolve(&image.config.to_string())
                    .unwrap()
                    .unwrap();
                let mut out = Vec::new();
                monopod::image::write_load_stream(&place.store, &stored, 0, &mut out, &mut |_| {})
                    .unwrap();
            }
        }
        Err(ImportError::Refused(line)) => assert!(!line.contains('\n'), "{line}"),
        Err(ImportError::Usage(_)) => {}
        Err(error) => panic!("{error}"),
    }
    if place.store.images().unwrap().is_empty() {
        assert_eq!(place.snapshot(), before);
    }
    assert_eq!(place.store.damaged().unwrap(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes(
        dialect in 0..DIALECTS.len(),
        wrap in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        from_file: bool,
    ) {
        let mut archive = seed(dialect, wrap);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        if let Some(cut) = cut {
            archive.truncate(cut.index(archive.len()));
        }
        survives(&Place::new(), &archive, from_file);
    }

    #[test]
    fn changed_headers(
        dialect in 0..DIALECTS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..512usize, any::<u8>()), 1..4),
        from_file: bool,
    ) {
        // With a right checksum, so that the change is looked at.
        let mut archive = seed(dialect, 0);
        for (block, at, byte) in changes {
            let start = block.index(archive.len() / 512) * 512;
            archive[start + at] = byte;
            let header: &mut [u8] = &mut archive[start..start + 512];
            let sum: u32 = header.iter().enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                .sum();
            if header[257..262] == *b"ustar" {
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        survives(&Place::new(), &archive, from_file);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000), magic in 0..4usize, from_file: bool) {
        let start: &[u8] = [&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK"][magic];
        let bytes = [start, &bytes].concat();
        survives(&Place::new(), &bytes, from_file);
    }
}
