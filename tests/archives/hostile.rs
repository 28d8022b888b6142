//! Hostile and broken archives: each is refused with one line that says why, and the store is as it was.

#![allow(clippy::too_many_lines, reason = "tables")]

use monopod::image::{ImportError, ImportOptions, Source, import};
use serde_json::{Value, json};

use crate::build::{
    Dialect, Image, Layout, Place, Tar, gzip, header, hex, image, image_for, layer, oci, options,
    pack, sha, zst,
};

/// A hostile archive and a part of the line that must say why it is refused.
struct Case {
    name: &'static str,
    archive: Vec<u8>,
    reason: &'static str,
}

fn case(name: &'static str, archive: Vec<u8>, reason: &'static str) -> Case {
    Case {
        name,
        archive,
        reason,
    }
}

/// The image that hostile archives are made from: no layer in common with what the store has.
fn victim() -> Image {
    image(
        "example/victim:1",
        &[layer(11, 3000), layer(12, 4400 << 10)],
    )
}

/// A good docker archive but for what is added to it.
fn docker(add: impl FnOnce(&mut Tar) -> &mut Tar) -> Vec<u8> {
    let mut archive = pack(Dialect::Docker20, &[victim()]);
    archive.truncate(archive.len() - 1024);
    let mut tar = Tar(archive);
    add(&mut tar);
    tar.finish()
}

/// An archive with one bad member of any header.
fn member(name: &[u8], kind: u8, size: u64, change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    docker(|tar| {
        let mut header = header(name, kind, size);
        change(&mut header);
        header.set_cksum();
        tar.member(&header, &vec![0; usize::try_from(size.min(4096)).unwrap()])
    })
}

/// A docker archive whose manifest.json and config are as given.
fn docker_with(manifest: &str, config: &[u8], layers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Tar::new();
    for (name, bytes) in layers {
        tar.file(name, bytes);
    }
    tar.file("config.json", config);
    tar.file("manifest.json", manifest.as_bytes());
    tar.finish()
}

fn docker_config(config: &str) -> Vec<u8> {
    let manifest = r#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":["1.tar"]}]"#;
    docker_with(manifest, config.as_bytes(), &[("1.tar", &layer(11, 3000))])
}

fn docker_manifest(manifest: &str) -> Vec<u8> {
    let image = image("a:1", &[layer(11, 3000)]);
    docker_with(manifest, &image.config, &[("1.tar", &image.layers[0])])
}

/// A good OCI layout, its manifest changed.
fn changed_manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut layout = Layout::new();
    let mut manifest = layout.manifest(&victim(), |layer| gzip(layer));
    change(&mut manifest);
    let descriptor = layout.document(&manifest);
    layout.name(descriptor, "example/victim:1");
    layout.tar()
}

/// A good OCI layout, changed.
fn changed_layout(change: impl FnOnce(&mut Layout)) -> Vec<u8> {
    let mut layout = oci(&[victim()], |layer| gzip(layer));
    change(&mut layout);
    layout.tar()
}

/// A good OCI layout with another descriptor in its index.
fn changed_entry(key: &str, value: Value) -> Vec<u8> {
    changed_layout(|layout| layout.entries[0][key] = value)
}

/// An image whose layers are packed like this.
fn packed(pack: impl Fn(&Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    oci(&[victim()], pack).tar()
}

fn names_and_types() -> Vec<Case> {
    let id = hex(b"id");
    let layer_link = format!("{id}/layer.tar");
    let link = |target: &str| docker(|tar| tar.special(&layer_link, b'2', target));
    vec![
        case(
            "absolute path",
            member(b"/etc/passwd", b'0', 0, |_| {}),
            "absolute path",
        ),
        case(
            "dot-dot",
            member(b"../x", b'0', 0, |_| {}),
            "leads out of the archive",
        ),
        case(
            "dot-dot inside",
            member(b"a/../../x", b'0', 0, |_| {}),
            "leads out of the archive",
        ),
        case(
            "backslash",
            member(b"..\\x", b'0', 0, |_| {}),
            "control characters or a backslash",
        ),
        case(
            "newline",
            member(b"a\nrefused", b'0', 0, |_| {}),
            "control characters",
        ),
        case("empty part", member(b"a//b", b'0', 0, |_| {}), "empty part"),
        case("empty name", member(b"", b'0', 0, |_| {}), "member"),
        case("not UTF-8", member(b"a\xff", b'0', 0, |_| {}), "not UTF-8"),
        case(
            "hard link",
            docker(|tar| tar.special("x", b'1', "manifest.json")),
            "hard link",
        ),
        case(
            "link to the outside",
            link("/etc/shadow"),
            "it is a link to /etc/shadow",
        ),
        case(
            "link above",
            link(&format!("../../{id}.tar")),
            "it is a link",
        ),
        case(
            "link to itself",
            link(&format!("../{layer_link}")),
            "it is a link",
        ),
        case(
            "link to what is not there",
            link(&format!("../{id}.tar")),
            "no manifest of the archive names it",
        ),
        case(
            "link elsewhere",
            docker(|tar| tar.special("manifest", b'2', "manifest.json")),
            "it is a link",
        ),
        case(
            "character device",
            docker(|tar| tar.special("null", b'3', "")),
            "device",
        ),
        case(
            "block device",
            docker(|tar| tar.special("sda", b'4', "")),
            "device",
        ),
        case(
            "fifo",
            docker(|tar| tar.special("pipe", b'6', "")),
            "named pipe",
        ),
        case(
            "unknown type",
            docker(|tar| tar.special("x", b'V', "")),
            "unknown type",
        ),
        case(
            "file named as a folder",
            member(b"a/", b'0', 4, |_| {}),
            "name of a folder",
        ),
        case(
            "folder with data",
            member(b"a", b'5', 512, |_| {}),
            "no file and yet has data",
        ),
        case(
            "GNU long name",
            member(b"././@LongLink", b'L', 0, |_| {}),
            "long-name",
        ),
        case("GNU sparse", member(b"x", b'S', 0, |_| {}), "sparse"),
        case(
            "a member twice",
            docker(|tar| tar.file("manifest.json", b"[]")),
            "member manifest.json: it comes twice",
        ),
        case(
            "a member twice, spelled otherwise",
            docker(|tar| tar.file("./manifest.json", b"[]")),
            "member manifest.json: it comes twice",
        ),
        case(
            "a file that nothing names",
            docker(|tar| tar.file("payload", b"x")),
            "member payload: no manifest",
        ),
        case(
            "a layer that nothing names",
            docker(|tar| tar.file(&layer_link, b"x")),
            "no manifest",
        ),
        case(
            "a large file that nothing names",
            docker(|tar| tar.file("payload", &vec![b'{'; 4400 << 10])),
            "member payload: no manifest",
        ),
        case(
            "an empty folder",
            docker(|tar| tar.folder("empty/")),
            "no manifest",
        ),
        case(
            "a size that is no number",
            member(b"x", b'0', 0, |header| header.as_old_mut().size.fill(b'9')),
            "not a number",
        ),
        case(
            "an absurd size",
            member(b"x", b'0', 0, |header| {
                header.as_old_mut().size = [
                    0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ];
            }),
            "",
        ),
        case("a name that is too long", docker(long_name), "too long"),
        case(
            "too many members",
            docker(many_members),
            "more than 20000 members",
        ),
    ]
}

fn long_name(tar: &mut Tar) -> &mut Tar {
    let mut header = header(&[b'a'; 100], b'0', 0);
    header.as_ustar_mut().unwrap().prefix = [b'b'; 155];
    header.set_cksum();
    tar.member(&header, &[])
}

fn many_members(tar: &mut Tar) -> &mut Tar {
    for number in 0..20_001 {
        tar.file(&format!("f{number}"), b"");
    }
    tar
}

fn extension_headers() -> Vec<Case> {
    let pax = |records: &[(&str, &str)]| docker(|tar| tar.pax(records).file("x", b""));
    vec![
        case(
            "PAX sparse",
            pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]),
            "sparse",
        ),
        case(
            "PAX sparse of star",
            pax(&[("SCHILY.realsize", "9")]),
            "sparse",
        ),
        case("PAX path", pax(&[("path", "../../etc/passwd")]), "key path"),
        case("PAX link path", pax(&[("linkpath", "/")]), "key linkpath"),
        case("PAX size", pax(&[("size", "512")]), "another size"),
        case(
            "PAX size of a file with one",
            docker(|tar| tar.pax(&[("size", "99999999999")]).file("x", b"x")),
            "another size",
        ),
        case(
            "PAX size, huge",
            pax(&[("size", "18446744073709551615")]),
            "absurd",
        ),
        case(
            "PAX size that is none",
            pax(&[("size", "-1")]),
            "malformed PAX",
        ),
        case(
            "PAX character set",
            pax(&[("hdrcharset", "BINARY")]),
            "key hdrcharset",
        ),
        case("PAX unknown key", pax(&[("X.y", "z")]), "key X.y"),
        case("PAX garbage", docker(pax_garbage), "malformed PAX"),
        case(
            "PAX, huge",
            pax(&[("comment", &"x".repeat(70_000))]),
            "PAX header above",
        ),
        case(
            "PAX twice",
            docker(|tar| tar.pax(&[]).pax(&[]).file("x", b"")),
            "two extension headers",
        ),
        case(
            "PAX without a member",
            docker(|tar| tar.pax(&[("uid", "1")])),
            "no member",
        ),
        case(
            "PAX for all",
            docker(|tar| tar.special("g", b'g', "")),
            "global PAX",
        ),
    ]
}

fn pax_garbage(tar: &mut Tar) -> &mut Tar {
    let mut header = header(b"pax", b'x', 8);
    header.set_cksum();
    tar.member(&header, b"9999 a=b").file("x", b"")
}

fn broken_files() -> Vec<Case> {
    let good = pack(Dialect::Docker20, &[victim()]);
    let cut = |bytes: &[u8], at: usize| bytes[..at].to_vec();
    let mut flipped = good.clone();
    flipped[257] ^= 1;
    let mut later = good.clone();
    later[512 + 100] ^= 1;
    let mut behind = good.clone();
    behind.extend_from_slice(b"more");
    let mut padded = good.clone();
    padded.resize(padded.len() + (3 << 20), 0);
    let (gz, zs) = (gzip(&good), zst(&good));
    let mut corrupt = gz.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 8].fill(0);
    let mut trailing = gz.clone();
    trailing.extend_from_slice(b"nothing of ours, and no gzip either");
    vec![
        case("empty", Vec::new(), "it is empty"),
        case("text", b"hello, this is no archive\n".to_vec(), "too short"),
        case("no archive", vec![b'x'; 4096], "not a tar archive"),
        case("xz", b"\xfd7zXZ\0 and so on".to_vec(), "packed with xz"),
        case("zip", b"PK\x03\x04 and so on".to_vec(), "packed with zip"),
        case("first header changed", flipped, "not a tar archive"),
        case("later header changed", later, "checksum"),
        case("cut in the first header", cut(&good, 100), "too short"),
        case("cut in a header", cut(&good, 1000), "truncated"),
        case("cut in the data", cut(&good, good.len() / 2), "truncated"),
        case(
            "cut before the end mark",
            cut(&good, good.len() - 1024),
            "truncated",
        ),
        case(
            "cut in the end mark",
            cut(&good, good.len() - 512),
            "truncated",
        ),
        case("data behind the end", behind, "data after its end"),
        case("padding without end", padded, "too much padding"),
        case("gzip cut", cut(&gz, gz.len() / 2), "truncated"),
        case(
            "gzip cut in its checksum",
            cut(&gz, gz.len() - 3),
            "truncated",
        ),
        case("gzip corrupt", corrupt, "corrupt"),
        case("gzip with garbage behind", trailing, "corrupt"),
        case("zstd cut", cut(&zs, zs.len() / 2), "truncated"),
        case("zstd with a large window", large_window(&good), "window"),
        case(
            "an end mark and no member",
            Tar::new().finish(),
            "neither manifest.json nor index.json",
        ),
        case(
            "a root file system",
            layer(1, 1000),
            "neither manifest.json nor index.json",
        ),
    ]
}

/// A frame that asks for a window of 32 MiB.
fn large_window(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(25).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn docker_documents() -> Vec<Case> {
    let victim = victim();
    let diff_id = sha(&layer(11, 3000));
    let good = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        docker_config(&good.replace(from, to))
    };
    let renamed = docker_with(
        &format!(
            r#"[{{"Config":"{}.json","RepoTags":["a:1"],"Layers":["1.tar"]}}]"#,
            hex(b"other")
        ),
        b"x",
        &[
            (&format!("{}.json", hex(b"other")), good.as_bytes()),
            ("1.tar", &layer(11, 3000)),
        ],
    );
    let entry = |names: &str, layers: &str| {
        docker_manifest(&format!(
            r#"[{{"Config":"config.json","RepoTags":{names},"Layers":{layers}}}]"#
        ))
    };
    let many = format!("[{}]", vec!["\"1.tar\""; 128].join(","));
    let many_ids = good.replace(
        &format!("\"{diff_id}\""),
        &vec![format!("\"{diff_id}\""); 128].join(","),
    );
    let many = docker_with(
        &format!(r#"[{{"Config":"config.json","RepoTags":["a:1"],"Layers":{many}}}]"#),
        many_ids.as_bytes(),
        &[("1.tar", &layer(11, 3000))],
    );
    let two = |second: &str| {
        let (one, other) = (
            image("a:1", &[layer(11, 3000)]),
            image(second, &[layer(12, 3000)]),
        );
        pack(Dialect::Docker20, &[one, other])
    };
    vec![
        case(
            "layer with other content",
            docker_wrong_layer(&victim),
            "its content has the digest",
        ),
        case(
            "layer missing",
            entry(r#"["a:1"]"#, r#"["2.tar"]"#),
            "member 2.tar: manifest.json names this layer and it is missing",
        ),
        case(
            "config missing",
            docker_manifest(r#"[{"Config":"no.json","RepoTags":["a:1"],"Layers":["1.tar"]}]"#),
            "member no.json: it is missing",
        ),
        case(
            "config path out of the archive",
            docker_manifest(r#"[{"Config":"../../etc/shadow","Layers":[]}]"#),
            "leads out of the archive",
        ),
        case(
            "config path empty",
            docker_manifest(r#"[{"Config":"","Layers":[]}]"#),
            "manifest.json",
        ),
        case(
            "layer path absolute",
            entry(r#"["a:1"]"#, r#"["/etc/shadow"]"#),
            "absolute path",
        ),
        case(
            "fewer layers than the config",
            entry(r#"["a:1"]"#, "[]"),
            "gives an image 0 layers",
        ),
        case(
            "more layers than the config",
            entry(r#"["a:1"]"#, r#"["1.tar","1.tar"]"#),
            "gives an image 2 layers",
        ),
        case("no image", docker_manifest("[]"), "names no image"),
        case(
            "manifest null",
            docker_manifest("null"),
            "JSON is not usable",
        ),
        case(
            "manifest of the wrong type",
            docker_manifest(r#"{"Config":3}"#),
            "JSON is not usable",
        ),
        case(
            "layers of the wrong type",
            entry("[1]", "{}"),
            "JSON is not usable",
        ),
        case(
            "deep JSON",
            docker_manifest(&"[".repeat(1 << 20)),
            "recursion limit",
        ),
        case(
            "trailing JSON",
            docker_manifest(r#"[{"Config":"config.json","Layers":["1.tar"]}] []"#),
            "trailing",
        ),
        case("broken JSON", docker_manifest("[{"), "JSON is not usable"),
        case(
            "a key twice",
            docker_manifest(r#"[{"Config":"config.json","Config":"b","Layers":["1.tar"]}]"#),
            "comes twice",
        ),
        case(
            "a key twice, in other case",
            docker_manifest(r#"[{"Config":"config.json","config":"b","Layers":["1.tar"]}]"#),
            "comes twice",
        ),
        case(
            "a huge manifest",
            docker_manifest(&format!("[{}]", " ".repeat(5 << 20))),
            "larger than 4194304 bytes",
        ),
        case(
            "a bad name",
            entry(r#"["UPPER:1"]"#, r#"["1.tar"]"#),
            "is not an image reference",
        ),
        case(
            "a name with a path trick",
            entry(r#"["../x:1"]"#, r#"["1.tar"]"#),
            "is not an image reference",
        ),
        case(
            "one name for two images",
            two("a:1"),
            "gives the name a:1 to two images",
        ),
        case(
            "config with another digest than its name",
            renamed,
            "not what its name says",
        ),
        case(
            "config for another architecture",
            with("amd64", "s390x"),
            "the image is for s390x, this machine is amd64",
        ),
        case(
            "config for another system",
            with("linux", "windows"),
            "the image is for windows",
        ),
        case(
            "config without layers",
            with(&format!("\"{diff_id}\""), ""),
            "no layers",
        ),
        case("config without rootfs", with("rootfs", "root"), "rootfs"),
        case(
            "two readings of a config",
            with("\"os\"", "\"RootFS\":{\"diff_ids\":[]},\"os\""),
            "comes twice",
        ),
        case(
            "diff_id of another algorithm",
            with("sha256:", "sha512:"),
            "sha512",
        ),
        case(
            "diff_id with a path trick",
            with(&diff_id, "sha256:../../x"),
            "is not a digest",
        ),
        case(
            "diff_id of the wrong type",
            with(&format!("\"{diff_id}\""), "7"),
            "JSON is not usable",
        ),
        case(
            "config is no JSON",
            docker_config("\u{1}"),
            "JSON is not usable",
        ),
        case("too many layers", many, "more than 127"),
        case(
            "index.json says otherwise",
            disagreeing(),
            "two different images",
        ),
        case(
            "a blob that is no legacy JSON",
            unnamed_blob(b"{\"id\":\"short\"}"),
            "no manifest",
        ),
        case("a blob that is no JSON", unnamed_blob(b"x"), "no manifest"),
        case(
            "a large blob that nothing names",
            unnamed_blob(&vec![7; 4400 << 10]),
            "no manifest",
        ),
    ]
}

fn docker_wrong_layer(victim: &Image) -> Vec<u8> {
    let mut wrong = victim.clone();
    wrong.layers[1] = layer(13, 4400 << 10);
    pack(Dialect::Docker20, &[wrong])
}

/// manifest.json and index.json give one name to two images.
fn disagreeing() -> Vec<u8> {
    let mut other = oci(&[image("example/victim:1", &[layer(14, 500)])], Vec::clone);
    let victim = victim();
    let mut names = Vec::new();
    for layer in &victim.layers {
        other.blob(layer);
        names.push(format!("blobs/sha256/{}", hex(layer)));
    }
    other.blob(&victim.config);
    let manifest = json!([{
        "Config": format!("blobs/sha256/{}", hex(&victim.config)), "RepoTags": victim.tags, "Layers": names,
    }]);
    let mut tar = other.open_tar();
    tar.file("manifest.json", manifest.to_string().as_bytes());
    tar.finish()
}

fn unnamed_blob(bytes: &[u8]) -> Vec<u8> {
    let mut archive = pack(Dialect::Docker25, &[victim()]);
    archive.truncate(archive.len() - 1024);
    Tar(archive)
        .file(&format!("blobs/sha256/{}", hex(bytes)), bytes)
        .finish()
}

fn oci_documents() -> Vec<Case> {
    let victim = victim();
    let manifest_v1 = |layout: &mut Layout| {
        let document = json!({"schemaVersion": 1, "name": "x", "fsLayers": [], "mediaType": "application/vnd.oci.image.manifest.v1+json"});
        let descriptor = layout.document(&document);
        layout.entries.clear();
        layout
            .blobs
            .retain(|name, _| descriptor["digest"] == format!("sha256:{name}"));
        layout.name(descriptor, "a:1");
    };
    let layer_type =
        |text: &str| changed_manifest(|manifest| manifest["layers"][0]["mediaType"] = json!(text));
    let missing = |what: &str| changed_layout(|layout| drop(layout.blobs.remove(what).unwrap()));
    let replaced = |what: &[u8], by: &[u8]| {
        changed_layout(|layout| drop(layout.blobs.insert(hex(what), by.to_vec()).unwrap()))
    };
    let mut no_layout = Tar::new();
    no_layout.file("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}");
    let mut no_image = no_layout.clone();
    no_image.file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    let mut old_layout = Tar::new();
    old_layout
        .file("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}")
        .file("oci-layout", b"{\"imageLayoutVersion\":\"2.0.0\"}");
    let manifest_hex = {
        let layout = oci(std::slice::from_ref(&victim), |layer| gzip(layer));
        layout.entries[0]["digest"].as_str().unwrap()[7..].to_owned()
    };
    let first = gzip(&victim.layers[0]);
    let large = gzip(&victim.layers[1]);
    let mut changed = large.clone();
    let at = changed.len() - 5;
    changed[at] ^= 1;
    vec![
        case(
            "no oci-layout",
            no_layout.finish(),
            "member oci-layout: it is missing",
        ),
        case(
            "another layout version",
            old_layout.finish(),
            "layout version 2.0.0",
        ),
        case("no image", no_image.finish(), "no image for this machine"),
        case(
            "blob that nothing names",
            changed_layout(|layout| drop(layout.blob(b"payload"))),
            "no manifest",
        ),
        case(
            "large blob that nothing names",
            changed_layout(|layout| drop(layout.blob(&vec![1; 4400 << 10]))),
            "no manifest",
        ),
        case("manifest missing", missing(&manifest_hex), "it is missing"),
        case(
            "config missing",
            missing(&hex(&victim.config)),
            "it is missing",
        ),
        case(
            "layer missing",
            missing(&hex(&first)),
            "names this layer and it is missing",
        ),
        case(
            "layer of another size",
            replaced(&first, &gzip(&layer(15, 4000))),
            "it should have",
        ),
        case("layer of another digest", replaced(&large, &changed), ""),
        case(
            "plain layer of another digest",
            wrong_plain_blob(&victim),
            "its content has the digest",
        ),
        case(
            "config of another digest",
            replaced(&victim.config, &vec![b' '; victim.config.len()]),
            "its content has the digest",
        ),
        case(
            "manifest of another digest",
            changed_layout(|layout| {
                let bytes = layout.blobs.get_mut(&manifest_hex).unwrap();
                let at = bytes.len() - 2;
                bytes[at] ^= 1;
            }),
            "its content has the digest",
        ),
        case(
            "diff_id of another content",
            wrong_diff_id(),
            "the image's config says",
        ),
        case(
            "descriptor of another size",
            changed_entry("size", json!(7)),
            "it should have 7 bytes",
        ),
        case(
            "negative size",
            changed_entry("size", json!(-1)),
            "JSON is not usable",
        ),
        case(
            "sha512",
            changed_entry("digest", json!(format!("sha512:{}", "0".repeat(128)))),
            "sha512",
        ),
        case(
            "digest with a path trick",
            changed_entry("digest", json!("sha256:../../../etc/passwd")),
            "is not a digest",
        ),
        case(
            "digest in capitals",
            changed_entry("digest", json!(sha(b"").to_uppercase())),
            "digest",
        ),
        case(
            "entry of an unknown type",
            changed_entry("mediaType", json!("text/plain")),
            "media type text/plain",
        ),
        case(
            "schema 1 by type",
            changed_entry(
                "mediaType",
                json!("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            ),
            "schema version 1",
        ),
        case(
            "schema 1 by content",
            changed_layout(manifest_v1),
            "schema version 1",
        ),
        case(
            "index type for a manifest",
            changed_entry(
                "mediaType",
                json!("application/vnd.oci.image.index.v1+json"),
            ),
            "",
        ),
        case(
            "Docker type for an OCI manifest",
            changed_entry(
                "mediaType",
                json!("application/vnd.docker.distribution.manifest.v2+json"),
            ),
            "its media type is not",
        ),
        case(
            "a bad name",
            changed_entry("annotations", json!({"io.containerd.image.name": "a b"})),
            "is not an image reference",
        ),
        case(
            "encrypted layer",
            layer_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            "is encrypted",
        ),
        case(
            "foreign layer by type",
            layer_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "foreign",
        ),
        case(
            "foreign layer by URL",
            changed_manifest(|manifest| manifest["layers"][0]["urls"] = json!(["http://x/"])),
            "foreign",
        ),
        case(
            "unknown layer type",
            layer_type("application/vnd.erofs"),
            "not supported",
        ),
        case(
            "no container image",
            changed_manifest(|manifest| {
                manifest["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
            }),
            "no container image",
        ),
        case(
            "one layer more than the config",
            changed_manifest(|manifest| {
                let layer = manifest["layers"][0].clone();
                manifest["layers"].as_array_mut().unwrap().push(layer);
            }),
            "its config has 2",
        ),
        case(
            "another architecture",
            oci(&[image_for("a:1", &[layer(1, 10)], "arm64")], Vec::clone).tar(),
            "the image is for arm64, this machine is amd64",
        ),
        case(
            "no platform that fits",
            index_of_others(),
            "for arm64, s390x, this machine is amd64",
        ),
        case("an index in itself", circle(), ""),
        case("indexes too deep", deep(), "nest too deep"),
        case(
            "one name for two images",
            changed_layout(|layout| {
                let manifest = layout.manifest(&image("b:1", &[layer(16, 100)]), Vec::clone);
                let descriptor = layout.document(&manifest);
                layout.name(descriptor, "example/victim:1");
            }),
            "to two images",
        ),
        case(
            "layer's gzip cut",
            packed(|layer| {
                let bytes = gzip(layer);
                bytes[..bytes.len() - 4].to_vec()
            }),
            "gzip data is truncated",
        ),
        case(
            "layer's gzip corrupt",
            packed(|layer| corrupt_gzip(layer)),
            "corrupt",
        ),
        case(
            "layer's zstd cut",
            packed(|layer| {
                let bytes = zst(layer);
                bytes[..bytes.len() - 4].to_vec()
            }),
            "zstd data is truncated",
        ),
        case(
            "layer's zstd window",
            packed(|layer| large_window(layer)),
            "window",
        ),
    ]
}

fn corrupt_gzip(layer: &[u8]) -> Vec<u8> {
    let mut bytes = gzip(layer);
    let at = bytes.len() - 6;
    bytes[at] ^= 0xff;
    bytes
}

fn wrong_plain_blob(victim: &Image) -> Vec<u8> {
    let mut layout = oci(std::slice::from_ref(victim), Vec::clone);
    let blob = layout.blobs.get_mut(&hex(&victim.layers[1])).unwrap();
    blob[1000] ^= 1;
    layout.tar()
}

/// Every blob is what it says, and yet the content is not what the config names.
fn wrong_diff_id() -> Vec<u8> {
    let mut victim = victim();
    victim.layers[0] = layer(17, 3000);
    oci(&[victim], |layer| gzip(layer)).tar()
}

fn index_of_others() -> Vec<u8> {
    let mut layout = Layout::new();
    let mut descriptors = Vec::new();
    for architecture in ["arm64", "s390x"] {
        let manifest =
            layout.manifest(&image_for("a:1", &[layer(1, 10)], architecture), Vec::clone);
        let mut descriptor = layout.document(&manifest);
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        descriptors.push(descriptor);
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors});
    let index = layout.document(&index);
    layout.name(index, "a:1");
    layout.tar()
}

/// No index can name itself by digest, but one can claim to.
fn circle() -> Vec<u8> {
    let mut layout = Layout::new();
    let inner = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": sha(b"circle"), "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [inner]});
    layout
        .blobs
        .insert(hex(b"circle"), index.to_string().into_bytes());
    let size = index.to_string().len();
    layout.name(
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": sha(b"circle"), "size": size}),
        "a:1",
    );
    layout.tar()
}

fn deep() -> Vec<u8> {
    let mut layout = Layout::new();
    let manifest = layout.manifest(&victim(), |layer| gzip(layer));
    let mut descriptor = layout.document(&manifest);
    for _ in 0..6 {
        descriptor = layout.document(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor],
        }));
    }
    layout.name(descriptor, "a:1");
    layout.tar()
}

/// Imports from a file and from a stream; both are refused for this reason, and nothing stays.
fn refused(place: &Place, case: &Case, options: &ImportOptions) {
    let before = place.snapshot();
    let path = place.write("hostile.tar", &case.archive);
    let mut reader = case.archive.as_slice();
    let stream = Source::Stream {
        name: "hostile.tar",
        reader: &mut reader,
    };
    for source in [Source::Path(&path), stream] {
        let result = import(&place.store, source, options, &mut |_| {});
        let Err(ImportError::Refused(line)) = result else {
            panic!("{}: {result:?}", case.name);
        };
        assert!(
            line.contains("hostile.tar") && line.contains(case.reason),
            "{}: {line}",
            case.name
        );
        assert!(
            !line.contains('\n') && line.len() < 700,
            "{}: {line}",
            case.name
        );
        assert_eq!(place.snapshot(), before, "{}: {line}", case.name);
    }
}

fn all(cases: &[Case]) {
    let place = Place::new();
    place
        .import_file(&pack(
            Dialect::OciGzip,
            &[image("example/good:1", &[layer(5, 2000)])],
        ))
        .unwrap();
    for case in cases {
        refused(&place, case, &options());
    }
    // What they were made from is fine.
    place
        .import_file(&pack(Dialect::Docker20, &[victim()]))
        .unwrap();
    place.assert_has(&victim());
}

#[test]
fn members() {
    all(&names_and_types());
}

#[test]
fn extensions() {
    all(&extension_headers());
}

#[test]
fn files() {
    all(&broken_files());
}

#[test]
fn docker_archives() {
    all(&docker_documents());
}

#[test]
fn oci_archives() {
    all(&oci_documents());
}

#[test]
fn bombs() {
    let place = Place::new();
    let small = ImportOptions {
        max_image_size: 8 << 20,
        ..options()
    };
    let zeros = {
        let mut tar = Tar::new();
        tar.file("zeros", &vec![0; 20 << 20]);
        tar.finish()
    };
    let bomb = image("a:1", &[zeros]);
    let one = std::slice::from_ref(&bomb);
    let mut outer = Tar::new();
    outer.file("x", &[0; 100]);
    let mut endless = outer.finish();
    endless.resize(40 << 20, 0);
    for case in [
        case(
            "plain layer",
            pack(Dialect::Docker20, one),
            "unpacks to more than",
        ),
        case(
            "gzip layer",
            pack(Dialect::OciGzip, one),
            "unpacks to more than",
        ),
        case(
            "zstd layer",
            pack(Dialect::OciZstd, one),
            "unpacks to more than",
        ),
        case(
            "outer gzip",
            gzip(&pack(Dialect::Docker20, one)),
            "unpacks to more than",
        ),
        case(
            "outer zstd",
            zst(&pack(Dialect::Podman, one)),
            "unpacks to more than",
        ),
        case("endless padding", zst(&endless), "too much padding"),
    ] {
        refused(&place, &case, &small);
    }
}

type Change = fn(&std::path::Path, &str);

#[test]
fn hostile_folders() {
    let good = oci(&[victim()], |layer| gzip(layer));
    let config = hex(&victim().config);
    let changes: [(&str, Change, &str); 4] = [
        (
            "a blob is a link",
            |folder, config| {
                let blob = folder.join("blobs/sha256").join(config);
                std::fs::rename(&blob, folder.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("../../elsewhere", blob).unwrap();
            },
            "it is missing",
        ),
        (
            "the blobs are a link",
            |folder, _| {
                std::fs::rename(folder.join("blobs"), folder.join("other")).unwrap();
                std::os::unix::fs::symlink("other", folder.join("blobs")).unwrap();
            },
            "no folder blobs",
        ),
        (
            "no layout",
            |folder, _| std::fs::remove_file(folder.join("oci-layout")).unwrap(),
            "oci-layout",
        ),
        (
            "no index",
            |folder, _| std::fs::remove_file(folder.join("index.json")).unwrap(),
            "neither",
        ),
    ];
    let place = Place::new();
    let before = place.snapshot();
    for (name, change, reason) in changes {
        let folder = tempfile::tempdir().unwrap();
        good.write(folder.path());
        change(folder.path(), &config);
        match place.import_path(folder.path()) {
            Err(ImportError::Refused(line)) => assert!(line.contains(reason), "{name}: {line}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(place.snapshot(), before, "{name}");
    }
    assert!(matches!(
        place.import_path(&place.path("nowhere")),
        Err(ImportError::NotFound(_))
    ));
}
