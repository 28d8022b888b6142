//! The JSON documents of OCI image layouts and of `docker save`, as far as they are used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// An uncompressed layer.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// A gzip layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A zstd layer.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The layer types that are accepted; what a layer is made of is told by its first bytes.
pub const LAYER_TYPES: [&str; 6] = [
    LAYER_TAR,
    LAYER_GZIP,
    LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Annotation: a reference; a full one in the store, often only a tag elsewhere.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation: the full reference, as Docker and containerd write it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation of the store: sizes of the layers' contents in bytes, with commas.
pub const CONTENT_SIZES: &str = "org.monopod.layers.content";
/// Annotation of the store: the layers were dropped on purpose.
pub const DROPPED: &str = "org.monopod.layers.dropped";

/// Points at a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it could be had: a foreign layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// A bare one.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: None,
            platform: None,
            annotations: None,
        }
    }

    /// One of its annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Sets or, with `None`, removes an annotation.
    pub(super) fn annotate(&mut self, key: &str, value: Option<String>) {
        let notes = self.annotations.get_or_insert_default();
        match value {
            Some(value) => notes.insert(key.to_owned(), value),
            None => notes.remove(key),
        };
        if notes.is_empty() {
            self.annotations = None;
        }
    }
}

/// What an image runs on, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// For example `amd64`.
    pub architecture: String,
    /// For example `linux`.
    pub os: String,
    /// For example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// `index.json`, or a nested index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(rename = "schemaVersion")]
    pub schema_version: u64,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub schema_version: u64,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// The version of a manifest, read ahead of it.
#[derive(Deserialize)]
pub(super) struct Versioned {
    #[serde(rename = "schemaVersion", default)]
    pub schema_version: u64,
}

/// What is needed of an image config.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub architecture: Option<String>,
    #[serde(default)]
    pub os: Option<String>,
    #[serde(default)]
    pub variant: Option<String>,
    #[serde(default)]
    pub created: Option<String>,
    pub rootfs: RootFs,
}

/// The layers of an image config.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub diff_ids: Option<Vec<Digest>>,
}

/// One image of `docker save`'s manifest.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedImage {
    #[serde(rename = "Config")]
    pub config: String,
    #[serde(rename = "RepoTags", default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    pub layers: Option<Vec<String>>,
}

/// `oci-layout`.
#[derive(Serialize, Deserialize)]
pub(super) struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    pub version: String,
}
