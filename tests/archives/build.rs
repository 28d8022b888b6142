//! Makes archives byte by byte, in every dialect, and looks at stores.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use monopod::image::{
    Digest, ImportError, ImportOptions, Imported, Source, Store, import, write_load_stream,
};
use serde_json::{Value, json};

/// An image to be packed.
#[derive(Clone)]
pub struct Image {
    pub tags: Vec<String>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

/// A layer of about `size` bytes that shrinks to about a half.
pub fn layer(seed: u64, size: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(size);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while content.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
        content.extend_from_slice(b"the same");
    }
    let mut tar = Tar::new();
    tar.file(&format!("etc/file-{seed}"), &content);
    tar.finish()
}

pub fn image(tag: &str, layers: &[Vec<u8>]) -> Image {
    image_for(tag, layers, "amd64")
}

/// The architecture that tests say this machine has, whatever it really is.
pub fn options() -> ImportOptions {
    ImportOptions {
        architectures: vec!["amd64".to_owned()],
        ..ImportOptions::default()
    }
}

pub fn image_for(tag: &str, layers: &[Vec<u8>], architecture: &str) -> Image {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha(layer)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/app"], "Labels": {"tag": tag}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    Image {
        tags: vec![tag.to_owned()],
        config: config.to_string().into_bytes(),
        layers: layers.to_vec(),
    }
}

/// Two layers, one of which is too large to be a document.
pub fn sample() -> Image {
    image(
        "example/gateway:1.4.2",
        &[layer(1, 5 << 20), layer(2, 3000)],
    )
}

pub fn sha(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

pub fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()
}

/// A tar archive in the making.
#[derive(Clone)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn file(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        let mut header = header(name.as_bytes(), b'0', bytes.len() as u64);
        header.set_cksum();
        self.member(&header, bytes)
    }

    pub fn folder(&mut self, name: &str) -> &mut Self {
        self.special(name, b'5', "")
    }

    pub fn special(&mut self, name: &str, kind: u8, target: &str) -> &mut Self {
        let mut header = header(name.as_bytes(), kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.member(&header, &[])
    }

    pub fn pax(&mut self, records: &[(&str, &str)]) -> &mut Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(bytes, "{length} {key}={value}\n").unwrap();
        }
        let mut header = header(b"PaxHeaders/x", b'x', bytes.len() as u64);
        header.set_cksum();
        self.member(&header, &bytes)
    }

    pub fn member(&mut self, header: &tar::Header, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// A header with any name at all; its checksum is still to be set.
pub fn header(name: &[u8], kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// The ways in which tools pack images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dialect {
    /// `docker save` until 24.
    Docker20,
    /// `docker save` 25 and 26: blobs, and an index whose manifests are only half true.
    Docker25,
    /// podman and skopeo.
    Podman,
    /// go-containerregistry: gzip layers and `sha256:HEX` for the config.
    Crane,
    OciPlain,
    OciGzip,
    OciZstd,
}

pub const DIALECTS: [Dialect; 7] = [
    Dialect::Docker20,
    Dialect::Docker25,
    Dialect::Podman,
    Dialect::Crane,
    Dialect::OciPlain,
    Dialect::OciGzip,
    Dialect::OciZstd,
];

pub fn pack(dialect: Dialect, images: &[Image]) -> Vec<u8> {
    match dialect {
        Dialect::Docker20 => docker20(images),
        Dialect::Docker25 => docker25(images),
        Dialect::Podman => podman(images),
        Dialect::Crane => crane(images),
        Dialect::OciPlain => oci(images, Vec::clone).tar(),
        Dialect::OciGzip => oci(images, |layer| gzip(layer)).tar(),
        Dialect::OciZstd => oci(images, |layer| zst(layer)).tar(),
    }
}

fn docker20(images: &[Image]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut manifest = Vec::new();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for (number, image) in images.iter().enumerate() {
        let mut names = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            // The old IDs are digests of nothing in the archive.
            let id = hex(format!("{number} {at}").as_bytes());
            tar.folder(&format!("{id}/"));
            tar.file(&format!("{id}/VERSION"), b"1.0");
            tar.file(&format!("{id}/json"), b"{\"id\":\"x\"}");
            let name = format!("{id}/layer.tar");
            match first.get(&sha(layer)) {
                Some(other) => tar.special(&name, b'2', &format!("../{other}")),
                None => {
                    first.insert(sha(layer), name.clone());
                    tar.file(&name, layer)
                }
            };
            names.push(name);
        }
        let config = format!("{}.json", hex(&image.config));
        tar.file(&config, &image.config);
        manifest.push(json!({"Config": config, "RepoTags": image.tags, "Layers": names}));
    }
    tar.file(
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    );
    tar.file("repositories", b"{\"example/gateway\":{\"1\":\"x\"}}\n");
    tar.finish()
}

fn docker25(images: &[Image]) -> Vec<u8> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut blob = |bytes: &[u8]| {
        let name = format!("blobs/sha256/{}", hex(bytes));
        blobs.insert(name.clone(), bytes.to_vec());
        name
    };
    let (mut manifest, mut index) = (Vec::new(), Vec::new());
    for image in images {
        let mut names = Vec::new();
        for layer in &image.layers {
            names.push(blob(layer));
            blob(format!("{{\"id\":\"{}\",\"os\":\"linux\"}}", hex(layer)).as_bytes());
        }
        let config = blob(&image.config);
        // As 25.0 does it: the layers as a registry had them, which are not in the archive.
        let oci = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha(&image.config), "size": image.config.len()},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": sha(b"elsewhere"), "size": 9}],
        })
        .to_string();
        blob(oci.as_bytes());
        for tag in &image.tags {
            index.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha(oci.as_bytes()), "size": oci.len(),
                "annotations": {"io.containerd.image.name": format!("docker.io/{tag}"), "org.opencontainers.image.ref.name": "1"},
                "platform": {"architecture": "amd64", "os": "linux"},
            }));
        }
        manifest.push(
            json!({"Config": config, "RepoTags": image.tags, "Layers": names, "LayerSources": {}}),
        );
    }
    let mut tar = Tar::new();
    tar.folder("blobs/").folder("blobs/sha256/");
    for (name, bytes) in &blobs {
        tar.file(name, bytes);
    }
    tar.file(
        "index.json",
        json!({"schemaVersion": 2, "manifests": index})
            .to_string()
            .as_bytes(),
    );
    tar.file(
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    );
    tar.file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    tar.file("repositories", b"{}");
    tar.finish()
}

fn podman(images: &[Image]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut manifest = Vec::new();
    let mut written = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let mut names = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let name = format!("{}.tar", hex(layer));
            if !written.contains(&name) {
                tar.file(&name, layer);
                written.push(name.clone());
            }
            let id = hex(format!("{number} {at}").as_bytes());
            tar.special(&format!("{id}/layer.tar"), b'2', &format!("../{name}"));
            tar.file(&format!("{id}/VERSION"), b"1.0");
            tar.file(&format!("{id}/json"), b"{}");
            names.push(name);
        }
        let config = format!("{}.json", hex(&image.config));
        tar.file(&config, &image.config);
        manifest.push(json!({"Config": config, "RepoTags": image.tags, "Layers": names}));
    }
    tar.file("repositories", b"{}");
    tar.file(
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    );
    tar.finish()
}

fn crane(images: &[Image]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut manifest = Vec::new();
    let mut written = Vec::new();
    for image in images {
        let mut names = Vec::new();
        for layer in &image.layers {
            let packed = gzip(layer);
            let name = format!("{}.tar.gz", hex(&packed));
            if !written.contains(&name) {
                tar.file(&name, &packed);
                written.push(name.clone());
            }
            names.push(name);
        }
        let config = sha(&image.config);
        tar.file(&config, &image.config);
        manifest.push(json!({"Config": config, "RepoTags": image.tags, "Layers": names}));
    }
    tar.file(
        "manifest.json",
        Value::from(manifest).to_string().as_bytes(),
    );
    tar.finish()
}

/// An OCI layout in the making.
#[derive(Clone)]
pub struct Layout {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub entries: Vec<Value>,
}

impl Layout {
    pub fn new() -> Self {
        Self {
            blobs: BTreeMap::new(),
            entries: Vec::new(),
        }
    }

    pub fn blob(&mut self, bytes: &[u8]) -> String {
        self.blobs.insert(hex(bytes), bytes.to_vec());
        sha(bytes)
    }

    /// Adds a manifest or index and returns its descriptor.
    pub fn document(&mut self, value: &Value) -> Value {
        let bytes = value.to_string();
        let media_type = value["mediaType"].clone();
        json!({"mediaType": media_type, "digest": self.blob(bytes.as_bytes()), "size": bytes.len()})
    }

    /// Adds an image's blobs and returns its manifest.
    pub fn manifest(&mut self, image: &Image, pack: impl Fn(&Vec<u8>) -> Vec<u8>) -> Value {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let packed = pack(layer);
            let ending = match packed[0] {
                0x1f => "+gzip",
                0x28 => "+zstd",
                _ => "",
            };
            layers.push(json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{ending}"),
                "digest": self.blob(&packed), "size": packed.len(),
            }));
        }
        json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(&image.config), "size": image.config.len(),
            },
            "layers": layers,
        })
    }

    pub fn name(&mut self, mut descriptor: Value, name: &str) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.entries.push(descriptor);
    }

    pub fn index(&self) -> String {
        json!({"schemaVersion": 2, "manifests": self.entries}).to_string()
    }

    pub fn open_tar(&self) -> Tar {
        let mut tar = Tar::new();
        tar.folder("./").folder("./blobs/").folder("blobs/sha256");
        for (name, bytes) in &self.blobs {
            tar.file(&format!("blobs/sha256/{name}"), bytes);
        }
        tar.file("./index.json", self.index().as_bytes());
        tar.file("oci-layout", b"{\"imageLayoutVersion\": \"1.0.0\"}");
        tar
    }

    pub fn tar(&self) -> Vec<u8> {
        self.open_tar().finish()
    }

    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        for (name, bytes) in &self.blobs {
            fs::write(folder.join("blobs/sha256").join(name), bytes).unwrap();
        }
        fs::write(folder.join("index.json"), self.index()).unwrap();
        fs::write(
            folder.join("oci-layout"),
            "{\"imageLayoutVersion\": \"1.0.0\"}",
        )
        .unwrap();
    }
}

pub fn oci(images: &[Image], pack: impl Fn(&Vec<u8>) -> Vec<u8>) -> Layout {
    let mut layout = Layout::new();
    for image in images {
        let manifest = layout.manifest(image, &pack);
        let descriptor = layout.document(&manifest);
        for tag in &image.tags {
            layout.name(descriptor.clone(), tag);
        }
    }
    layout
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A store in a folder of its own.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn import_file(&self, bytes: &[u8]) -> Result<Imported, ImportError> {
        self.import_path(&self.write("archive.tar", bytes))
    }

    pub fn import_path(&self, path: &Path) -> Result<Imported, ImportError> {
        import(&self.store, Source::Path(path), &options(), &mut |_| {})
    }

    pub fn import_stream(&self, bytes: &[u8]) -> Result<Imported, ImportError> {
        self.import_reader(&mut Cursor::new(bytes))
    }

    pub fn import_reader(&self, reader: &mut dyn Read) -> Result<Imported, ImportError> {
        let source = Source::Stream {
            name: "standard input",
            reader,
        };
        import(&self.store, source, &options(), &mut |_| {})
    }

    /// Every file of the store with its content's digest.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.store.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    files.insert(path.clone(), "folder".to_owned());
                    folders.push(path);
                } else {
                    let digest = sha(&fs::read(&path).unwrap());
                    files.insert(path, digest);
                }
            }
        }
        files
    }

    /// Asserts that the store has exactly this image under its first tag, and gives it out whole.
    pub fn assert_has(&self, image: &Image) {
        for tag in &image.tags {
            let stored = self
                .store
                .resolve(tag)
                .unwrap()
                .unwrap_or_else(|| panic!("no {tag}"));
            assert_eq!(stored.id(), sha(&image.config));
            assert!(stored.layers_present);
            assert_eq!(self.store.config_bytes(&stored).unwrap(), image.config);
            assert_eq!(
                stored.content_size,
                image
                    .layers
                    .iter()
                    .map(|layer| layer.len() as u64)
                    .sum::<u64>()
            );
            for skip in 0..=image.layers.len() {
                let mut out = Vec::new();
                let count =
                    write_load_stream(&self.store, &stored, skip, &mut out, &mut |_| {}).unwrap();
                assert_eq!(count, out.len() as u64);
                assert_eq!(
                    count,
                    monopod::image::load_stream_size(&self.store, &stored, skip).unwrap()
                );
                assert_load_stream(&out, image, skip);
            }
        }
        assert_eq!(self.store.damaged().unwrap(), Vec::<String>::new());
    }
}

fn assert_load_stream(stream: &[u8], image: &Image, skip: usize) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(stream).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        assert!(files.insert(name, bytes).is_none());
    }
    let manifest: Value = serde_json::from_slice(&files.remove("manifest.json").unwrap()).unwrap();
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
    let config = manifest[0]["Config"].as_str().unwrap();
    assert_eq!(files.remove(config).unwrap(), image.config);
    let layers = manifest[0]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), image.layers.len());
    for (name, layer) in layers.iter().zip(&image.layers).skip(skip) {
        assert!(files[name.as_str().unwrap()] == *layer, "another layer");
    }
    let mut sent: Vec<String> = image.layers[skip..]
        .iter()
        .map(|layer| sha(layer))
        .collect();
    sent.sort();
    sent.dedup();
    assert_eq!(files.len(), sent.len(), "no layer more than needed");
}
