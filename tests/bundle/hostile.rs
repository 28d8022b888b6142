//! Bundles that must not be taken: what each is told, and that nothing changes.
#![allow(
    clippy::inconsistent_struct_constructor,
    clippy::assigning_clones,
    reason = "a table reads better in its own order"
)]

use std::fmt::Write as _;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use monopod::bundle::{Image, Kind, Member};
use monopod::image::Digest;

use crate::build::{gzip, layer, sha, zst};
use crate::forge::{Forge, LAYER_TYPE, Parts, config, image, sign};
use crate::golden::{matches, story};
use crate::node::{Node, ONE, THREE, THREE_PUB, TWO};

type Case = (&'static str, Vec<u8>);

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x10;
    bytes
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .expect("it is there");
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

/// The front is not what monopod writes.
fn heads() -> Vec<Case> {
    let rest = |head: &str| [head.as_bytes(), &[b'x'; 2000]].concat();
    vec![
        ("half a first line", b"monopod-bundle 1 3".to_vec()),
        ("format 2", rest("monopod-bundle 2 300 900\n")),
        ("format 0", rest("monopod-bundle 0 300 900\n")),
        ("a leading zero", rest("monopod-bundle 1 0300 900\n")),
        ("two spaces", rest("monopod-bundle 1  300 900\n")),
        ("a minus", rest("monopod-bundle 1 -1 900\n")),
        ("a carriage return", rest("monopod-bundle 1 300 900\r\n")),
        ("no numbers", rest("monopod-bundle \n")),
        (
            "a first line without end",
            [&b"monopod-bundle 1 "[..], &[b'1'; 4000]].concat(),
        ),
        ("a huge signature", rest("monopod-bundle 1 5000 900\n")),
        (
            "a huge manifest",
            rest("monopod-bundle 1 300 18446744073709551615\n"),
        ),
        (
            "a number beyond 64 bits",
            rest("monopod-bundle 1 300 18446744073709551616\n"),
        ),
        ("no manifest", rest("monopod-bundle 1 300 0\n")),
    ]
}

/// The signature is not one that counts.
#[allow(clippy::too_many_lines, reason = "a table")]
fn signatures() -> Vec<Case> {
    let good = Forge::good();
    let manifest = good.manifest.bytes();
    let signature = sign(ONE, &manifest);
    let around = |signature: &str| good.around(signature.as_bytes(), &manifest);
    let lines: Vec<&str> = signature.lines().collect();
    let other = Parts::of(&[layer(9, 100)]).forge().manifest.bytes();
    let stranger = sign(TWO, &manifest);
    let theirs: Vec<&str> = stranger.lines().collect();
    let taken_away = sign(THREE, &manifest);
    let revoked: Vec<&str> = taken_away.lines().collect();
    let nonsense: &[u8] = b"{\"release\":";
    let by = |key: &str, bytes: &[u8]| good.around(sign(key, bytes).as_bytes(), bytes);
    vec![
        ("not signed", around("")),
        ("an empty signature", around("\n\n \n")),
        (
            "a signature that is not text",
            good.around(&[0xff; 300], &manifest),
        ),
        ("a signature of nonsense", around("trust me\n")),
        (
            "a signature without its comment",
            around(&lines[..3].join("\n")),
        ),
        (
            "a signature and a line more",
            around(&format!("{signature}and more\n")),
        ),
        (
            "a signature twice",
            around(&format!("{signature}{signature}")),
        ),
        (
            "comments exchanged",
            around(&[lines[2], lines[1], lines[0], lines[3]].join("\n")),
        ),
        (
            "a signature cut short",
            around(&[lines[0], &lines[1][..40], lines[2], lines[3]].join("\n")),
        ),
        (
            "a second signature cut short",
            around(&[lines[0], lines[1], lines[2], &lines[3][..40]].join("\n")),
        ),
        // "Ed" and not "ED".
        (
            "minisign's old kind",
            around(&signature.replacen("\nRU", "\nRW", 1)),
        ),
        ("a key that nobody knows", good.seal_with(TWO)),
        ("a revoked key", good.seal_with(THREE)),
        (
            "a revoked key under a known ID",
            around(
                &[
                    lines[0],
                    &relabelled(lines[1], revoked[1]),
                    lines[2],
                    lines[3],
                ]
                .join("\n"),
            ),
        ),
        (
            "a known key under a revoked ID",
            around(
                &[
                    lines[0],
                    &relabelled(revoked[1], lines[1]),
                    lines[2],
                    lines[3],
                ]
                .join("\n"),
            ),
        ),
        (
            "two signatures, the first of a revoked key",
            around(&format!("{taken_away}{signature}")),
        ),
        // None of these is so much as looked at as a manifest.
        ("nonsense, not signed", good.around(b"", nonsense)),
        ("nonsense by a stranger", by(TWO, nonsense)),
        ("nonsense by a revoked key", by(THREE, nonsense)),
        (
            "brackets by a stranger",
            by(TWO, "[".repeat(100_000).as_bytes()),
        ),
        (
            "nonsense that is not text by a stranger",
            by(TWO, &[0xff; 900]),
        ),
        (
            "nonsense under a signature of the real thing",
            good.around(signature.as_bytes(), nonsense),
        ),
        // The bones of a stranger's signature behind the trusted key's ID.
        (
            "a stranger under a known ID",
            around(
                &[
                    lines[0],
                    &relabelled(lines[1], theirs[1]),
                    lines[2],
                    lines[3],
                ]
                .join("\n"),
            ),
        ),
        (
            "a signature of another manifest",
            around(&sign(ONE, &other)),
        ),
        ("a signature of nothing", around(&sign(ONE, b""))),
        (
            "a signature of a part",
            around(&sign(ONE, &manifest[..manifest.len() - 1])),
        ),
        (
            "a changed signed comment",
            around(&signature.replace("a test", "a joke")),
        ),
        ("a changed signature", around(&flip_in(&signature, 1, 60))),
        (
            "a changed second signature",
            around(&flip_in(&signature, 3, 30)),
        ),
    ]
}

/// The algorithm and the key's ID of one line, the rest of another.
fn relabelled(id: &str, rest: &str) -> String {
    let decode = |line: &str| STANDARD.decode(line).expect("base64");
    STANDARD.encode([&decode(id)[..10], &decode(rest)[10..]].concat())
}

/// Another base64 digit in a line.
fn flip_in(text: &str, line: usize, at: usize) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let old = lines[line].as_bytes()[at];
    let new = if old == b'A' { "B" } else { "A" };
    lines[line].replace_range(at..=at, new);
    lines.join("\n") + "\n"
}

/// The bytes are not those that were signed.
fn bytes() -> Vec<Case> {
    let good = Forge::good();
    let whole = good.seal();
    let members: usize = good.bytes.iter().map(Vec::len).sum();
    let front = whole.len() - members;
    let manifest = front - good.manifest.bytes().len();
    let at = |number: usize| front + good.bytes[..number].iter().map(Vec::len).sum::<usize>();
    let mut cases = vec![
        ("ends in the signature", whole[..100].to_vec()),
        ("ends behind the signature", whole[..manifest].to_vec()),
        ("ends in the manifest", whole[..manifest + 100].to_vec()),
        ("ends behind the manifest", whole[..front].to_vec()),
        ("ends in the workload", whole[..front + 5].to_vec()),
        ("ends behind the workload", whole[..at(1)].to_vec()),
        (
            "ends before the last byte",
            whole[..whole.len() - 1].to_vec(),
        ),
        ("a byte more", [&whole[..], b"\n"].concat()),
        ("a second bundle behind it", [&whole[..], &whole].concat()),
        (
            "an unlisted member",
            [&whole[..], b"#!/bin/sh\nexit 1\n"].concat(),
        ),
        (
            "a byte lost at the front",
            [&whole[..front], &whole[front + 1..]].concat(),
        ),
        (
            "a byte gained in the middle",
            [&whole[..at(4)], b"x", &whole[at(4)..]].concat(),
        ),
        (
            "a bit of the manifest",
            flipped(whole.clone(), manifest + 40),
        ),
        (
            "the sequence raised",
            replaced(&whole, "\"sequence\":7", "\"sequence\":9"),
        ),
        ("the lengths moved by one", {
            let lengths = |signature: usize, size: usize| format!("{signature} {size}\n");
            let size = good.manifest.bytes().len();
            let signature = sign(ONE, &good.manifest.bytes()).len();
            let moved = lengths(signature + 1, size - 1);
            replaced(&whole, &lengths(signature, size), &moved)
        }),
    ];
    for (name, kind) in [
        ("a bit of the workload", Kind::Workload),
        ("a bit of the hook", Kind::Hook),
        ("a bit of the image manifest", Kind::Manifest),
        ("a bit of the image config", Kind::Config),
        ("a bit of a layer", Kind::Layer),
    ] {
        cases.push((name, flipped(whole.clone(), at(good.at(kind)) + 7)));
    }
    cases.push(("the last bit", flipped(whole.clone(), whole.len() - 1)));
    let mut forge = good.clone();
    forge.bytes.swap(4, 5);
    cases.push(("two members exchanged", forge.seal()));
    let mut forge = good.clone();
    forge.bytes.remove(1);
    cases.push(("a member left out", forge.seal()));
    let mut forge = good.clone();
    let again = forge.bytes[0].clone();
    forge.bytes.insert(0, again);
    cases.push(("a member twice", forge.seal()));
    let mut forge = good.clone();
    let size = forge.bytes[5].len();
    forge.bytes[5] = vec![0; size];
    cases.push(("a layer of noughts", forge.seal()));
    cases
}

/// Signed by a trusted key, and still not a manifest.
#[allow(clippy::too_many_lines, reason = "a table")]
fn manifests() -> Vec<Case> {
    let good = Forge::good;
    let member = |kind: Kind, text: &str, size: u64| Member {
        kind,
        digest: Digest::of(text.as_bytes()),
        size,
    };
    let many = || {
        (0..5000)
            .map(|n| member(Kind::Layer, &n.to_string(), 1))
            .collect::<Vec<_>>()
    };
    vec![
        (
            "a manifest that is not JSON",
            good().says(|_| "hello".to_owned()),
        ),
        ("a manifest of nothing", good().says(|_| "{}".to_owned())),
        (
            "a manifest of brackets",
            good().says(|_| "[".repeat(100_000)),
        ),
        (
            "an unknown key",
            good().says(|text| text.replacen("{\"format\":1,", "{\"format\":1,\"extra\":1,", 1)),
        ),
        (
            "a key twice",
            good()
                .says(|text| text.replacen("\"sequence\":7,", "\"sequence\":7,\"sequence\":7,", 1)),
        ),
        (
            "a space",
            good().says(|text| text.replacen("\"format\":1", "\"format\": 1", 1)),
        ),
        (
            "another order",
            good().says(|text| {
                text.replacen(
                    "\"release\":\"1.4.2\",\"sequence\":7",
                    "\"sequence\":7,\"release\":\"1.4.2\"",
                    1,
                )
            }),
        ),
        (
            "an escaped letter",
            good().says(|text| text.replacen("1.4.2", "\\u0031.4.2", 1)),
        ),
        (
            "no line end",
            good().says(|text| text.trim_end().to_owned()),
        ),
        ("a text behind it", good().says(|text| text + "{}\n")),
        (
            "a format of its own",
            good().with(|manifest| manifest.format = 3),
        ),
        (
            "a release with a slash",
            good().with(|manifest| manifest.release = String::from("../../etc")),
        ),
        (
            "a release of two lines",
            good().with(|manifest| manifest.release = String::from("1\nmonopod: all is well")),
        ),
        (
            "a sequence of 0",
            good().with(|manifest| manifest.sequence = 0),
        ),
        (
            "an absurd sequence",
            good().with(|manifest| manifest.sequence = u64::MAX),
        ),
        (
            "a negative sequence",
            good().says(|text| text.replacen("\"sequence\":7", "\"sequence\":-7", 1)),
        ),
        (
            "members in disorder",
            good().with(|manifest| manifest.members.swap(4, 5)),
        ),
        (
            "a member listed twice",
            good().with(|manifest| manifest.members.push(manifest.members[5])),
        ),
        (
            "a digest as two kinds",
            good().with(|manifest| {
                let digest = manifest.members[0].digest;
                manifest.members.push(Member {
                    kind: Kind::Layer,
                    digest,
                    size: 1,
                });
                manifest.members.sort();
            }),
        ),
        (
            "an empty member",
            good().with(|manifest| manifest.members[1].size = 0),
        ),
        (
            "5000 members",
            good().with(|manifest| manifest.members = many()),
        ),
        (
            "5000 members left out",
            good().with(|manifest| {
                manifest.absent = many();
                manifest.absent.sort();
            }),
        ),
        (
            "a layer of an exabyte",
            good().with(|manifest| manifest.members[5].size = 1 << 60),
        ),
        (
            "sizes that add up to more than 64 bits",
            good().with(|manifest| {
                manifest.members[4].size = u64::MAX;
                manifest.members[5].size = u64::MAX;
            }),
        ),
        (
            "a workload of a gigabyte",
            good().with(|manifest| manifest.members[0].size = 1 << 30),
        ),
        (
            "a config of a gigabyte",
            good().with(|manifest| manifest.members[3].size = 1 << 30),
        ),
        (
            "a workload that is left out",
            good().with(|manifest| {
                manifest.absent.push(manifest.members.remove(0));
            }),
        ),
        (
            "a layer that is there and left out",
            good().with(|manifest| manifest.absent.push(manifest.members[5])),
        ),
        (
            "a workload that is no member",
            good().with(|manifest| manifest.workload = Digest::of(b"other")),
        ),
        (
            "a hook that is no member",
            good().with(|manifest| manifest.hooks.pre_switch = Some(Digest::of(b"other"))),
        ),
        (
            "a hook that nothing names",
            good().with(|manifest| manifest.hooks.pre_switch = None),
        ),
        (
            "a layer as the workload",
            good().with(|manifest| manifest.workload = manifest.members[5].digest),
        ),
        (
            "an image that is no member",
            good().with(|manifest| manifest.images[0].manifest = Digest::of(b"other")),
        ),
        ("no image", good().with(|manifest| manifest.images.clear())),
        (
            "a hundred images",
            good().with(|manifest| {
                let digest = manifest.images[0].manifest;
                manifest.images = (100..200)
                    .map(|n| Image {
                        reference: format!("a:{n}"),
                        manifest: digest,
                    })
                    .collect();
            }),
        ),
        (
            "one name for two images",
            good().with(|manifest| manifest.images.push(manifest.images[0].clone())),
        ),
        (
            "a name in a long form",
            good().with(|manifest| {
                manifest.images[0].reference = String::from("docker.io/library/x:1");
            }),
        ),
        (
            "a name that is a path",
            good().with(|manifest| manifest.images[0].reference = String::from("../../etc/passwd")),
        ),
        (
            "another digest algorithm",
            good().says(|text| text.replacen("sha256:", "sha512:", 1)),
        ),
        (
            "another media type",
            good().says(|text| text.replacen("tar+zstd", "tar+gzip", 1)),
        ),
        (
            "a member listed shorter than it is",
            good().with(|manifest| manifest.members[0].size -= 1),
        ),
        (
            "a member listed longer than it is",
            good().with(|manifest| manifest.members[0].size += 1),
        ),
        (
            "a layer listed longer than its image says",
            good().with(|manifest| manifest.members[5].size += 1),
        ),
        (
            "for another architecture",
            good().with(|manifest| manifest.architectures = vec!["s390x".to_owned()]),
        ),
        (
            "for another board",
            good().with(|manifest| manifest.boards = vec!["raspberrypi,4-model-b".to_owned()]),
        ),
        (
            "for a newer monopod",
            good().with(|manifest| manifest.minimum_monopod = "99.0.0".parse().ok()),
        ),
        (
            "for a monopod of two numbers",
            good().says(|text| {
                text.replacen("\"workload\"", "\"minimumMonopod\":\"1.0\",\"workload\"", 1)
            }),
        ),
        (
            "boards in disorder",
            good().with(|manifest| manifest.boards = vec!["b".to_owned(), "a".to_owned()]),
        ),
        (
            "a board that speaks to the terminal",
            good().with(|manifest| manifest.boards = vec!["\u{1b}[2J".to_owned()]),
        ),
    ]
}

/// All is as it is listed, and the images are not what they should be.
#[allow(clippy::too_many_lines, reason = "a table")]
fn images() -> Vec<Case> {
    let good = Parts::good();
    let contents = [layer(1, 90_000), layer(2, 3000)];
    let ids: Vec<String> = contents.iter().map(|content| sha(content)).collect();
    let arch = &monopod::image::host_architectures()[0];
    let with_image = |text: String| {
        Parts {
            image: text.into_bytes(),
            ..good.clone()
        }
        .forge()
        .seal()
    };
    let with_config = |config: Vec<u8>| {
        let image = image(&config, &good.layers);
        Parts {
            image,
            config,
            ..good.clone()
        }
        .forge()
        .seal()
    };
    let with_layer = |layer: Vec<u8>, id: &str| {
        let layers = vec![layer];
        let config = config(&[id.to_owned()], arch);
        let image = image(&config, &layers);
        Parts {
            image,
            config,
            layers,
            ..good.clone()
        }
        .forge()
        .seal()
    };
    let text = || String::from_utf8(good.image.clone()).expect("text");
    let bomb = vec![0; 64 << 20];
    let random = layer(5, 20 << 20);
    let windowed = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(27).expect("a window");
        std::io::Write::write_all(&mut encoder, &layer(6, 3000)).expect("written");
        encoder.finish().expect("finished")
    };
    let unused = {
        let mut forge = good.forge();
        let bytes = zst(b"nobody's");
        forge.manifest.members.push(Member {
            kind: Kind::Layer,
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        });
        forge.manifest.members.sort();
        let at = forge
            .manifest
            .members
            .iter()
            .position(|m| m.digest == Digest::of(&bytes))
            .expect("there");
        forge.bytes.insert(at, bytes);
        forge.seal()
    };
    let left_out = {
        let mut forge = good.forge();
        forge.manifest.absent.push(forge.manifest.members.remove(5));
        forge.bytes.remove(5);
        forge.seal()
    };
    vec![
        (
            "an image manifest of nonsense",
            with_image("nonsense".to_owned()),
        ),
        (
            "an image manifest with a key twice",
            with_image(text().replacen('{', "{\"schemaVersion\":2,", 1)),
        ),
        (
            "an image manifest of Docker's",
            with_image(text().replacen(
                "oci.image.manifest.v1",
                "docker.distribution.manifest.v2",
                1,
            )),
        ),
        (
            "an image manifest with a gzip layer",
            with_image(text().replacen("tar+zstd", "tar+gzip", 1)),
        ),
        (
            "an image manifest with a foreign layer",
            with_image(text().replacen(
                LAYER_TYPE,
                &format!("{LAYER_TYPE}\",\"urls\":[\"http://x\"],\"x\":\""),
                1,
            )),
        ),
        (
            "an image with an unlisted layer",
            with_image(text().replacen(&sha(&good.layers[0]), &sha(b"other"), 1)),
        ),
        (
            "an image with an unlisted config",
            with_image(text().replacen(&sha(&good.config), &sha(b"other"), 1)),
        ),
        (
            "an image whose config is a layer",
            with_image(text().replacen(&sha(&good.config), &sha(&good.layers[0]), 1)),
        ),
        (
            "a layer of another size",
            with_image(text().replacen(
                &format!("\"size\":{}", good.layers[0].len()),
                "\"size\":1",
                1,
            )),
        ),
        ("a config of nonsense", with_config(b"nonsense".to_vec())),
        (
            "a config with a layer less",
            with_config(config(&ids[..1], arch)),
        ),
        (
            "a config with other layers",
            with_config(config(&[ids[1].clone(), ids[0].clone()], arch)),
        ),
        (
            "a config for another machine",
            with_config(config(&ids, "s390x")),
        ),
        ("a layer that no image has", unused),
        ("a layer that nobody has", left_out),
        ("a layer of gzip", with_layer(gzip(&contents[0]), &ids[0])),
        ("a plain layer", with_layer(contents[0].clone(), &ids[0])),
        (
            "a layer of other content",
            with_layer(zst(&contents[1]), &ids[0]),
        ),
        (
            "half a layer",
            with_layer(zst(&contents[0])[..900].to_vec(), &ids[0]),
        ),
        (
            "a layer with a broken middle",
            with_layer(flipped(zst(&contents[0]), 2000), &ids[0]),
        ),
        (
            "a layer with a huge window",
            with_layer(windowed, &sha(&layer(6, 3000))),
        ),
        ("a decompression bomb", with_layer(zst(&bomb), &sha(&bomb))),
        (
            "a layer that is too large",
            with_layer(zst(&random), &sha(&random)),
        ),
    ]
}

#[test]
fn none_is_taken() {
    let node = Node::new();
    node.write(
        "etc/monopod/node.toml",
        "[store]\nmax_image_size = \"16m\"\n",
    );
    // A key that was trusted once.
    node.write("etc/monopod/keys.d/three.revoked", THREE_PUB);
    // The node has something already.
    let old = node.write("old.bundle", Parts::of(&[layer(3, 500)]).forge().seal());
    node.must(&["import", "old.bundle"]);
    fs::remove_file(old).expect("a file");
    let before = node.store();

    let mut found = String::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for (group, cases) in [
        ("the first line", heads()),
        ("the signature", signatures()),
        ("the bytes", bytes()),
        ("the manifest", manifests()),
        ("the images", images()),
    ] {
        let _ = writeln!(found, "# {group}\n");
        for (name, bytes) in cases {
            count += 1;
            node.write("hostile.bundle", bytes);
            let taken = node.run(&["import", "hostile.bundle"]);
            if taken.code != Some(4)
                || taken.stderr.lines().count() != 1
                || !taken.stdout.is_empty()
            {
                wrong.push(format!("{name}: {:?} {}", taken.code, taken.stderr));
            }
            if node.store() != before {
                wrong.push(format!("{name}: the store has changed"));
            }
            let _ = write!(found, "{name}\n  {}", story(&taken.stderr));
            // Whoever only verifies hears the same, where a store is not needed to tell.
            let verified = node.run(&["bundle", "verify", "hostile.bundle"]);
            if verified.stderr != taken.stderr {
                let _ = write!(
                    found,
                    "  verify, {:?}: {}",
                    verified.code,
                    story(&verified.stderr)
                );
            }
        }
        found.push('\n');
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count >= 100, "{count}");
    println!("figure: {count} hostile bundles refused, and nothing changed");
    matches("hostile", &(found.trim_end().to_owned() + "\n"));
}

/// The table above means something only if what it changes is good.
#[test]
fn what_they_are_made_of_is_good() {
    let node = Node::new();
    node.write("good.bundle", Forge::good().seal());
    node.must(&["bundle", "verify", "good.bundle"]);
    node.must(&["import", "good.bundle"]);
    let boards = Forge::good().with(|manifest| {
        manifest.boards = vec!["raspberrypi,4-model-b".to_owned()];
        manifest.minimum_monopod = "0.0.1".parse().ok();
    });
    node.write("board.bundle", boards);
    node.refused(&["bundle", "verify", "board.bundle"]);
    node.write(
        "sys/firmware/devicetree/base/compatible",
        "raspberrypi,4-model-b\0brcm,bcm2711\0",
    );
    node.must(&["bundle", "verify", "board.bundle"]);
}
