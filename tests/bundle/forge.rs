//! Bundles byte by byte, right and wrong.

use monopod::bundle::{Hooks, Image, Kind, Manifest, Member, SecretKey};
use monopod::image::{Digest, host_architectures};
use serde_json::json;

use crate::build::{layer, sha, zst};
use crate::node::{ONE, WORKLOAD};

pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A bundle taken apart.
#[derive(Clone)]
pub struct Forge {
    pub manifest: Manifest,
    /// What stands behind the manifest, member by member.
    pub bytes: Vec<Vec<u8>>,
}

/// What one is made of.
#[derive(Clone)]
pub struct Parts {
    pub workload: Vec<u8>,
    pub hook: Option<Vec<u8>>,
    pub config: Vec<u8>,
    pub image: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

pub fn config(diff_ids: &[String], architecture: &str) -> Vec<u8> {
    json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/app"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

pub fn image(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": LAYER_TYPE, "digest": sha(layer), "size": layer.len()}))
        .collect();
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha(config), "size": config.len()},
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

impl Parts {
    pub fn good() -> Self {
        Self::of(&[layer(1, 90_000), layer(2, 3000)])
    }

    /// Right for these contents of layers.
    pub fn of(contents: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<String> = contents.iter().map(|content| sha(content)).collect();
        let layers: Vec<Vec<u8>> = contents.iter().map(|content| zst(content)).collect();
        let config = config(&diff_ids, &host_architectures()[0]);
        Self {
            workload: WORKLOAD.as_bytes().to_vec(),
            hook: Some(b"#!/bin/sh\nexit 0\n".to_vec()),
            image: image(&config, &layers),
            config,
            layers,
        }
    }

    pub fn forge(&self) -> Forge {
        let mut all: Vec<(Member, Vec<u8>)> = Vec::new();
        let mut put = |kind: Kind, bytes: &Vec<u8>| {
            let digest = Digest::of(bytes);
            let member = Member {
                kind,
                digest,
                size: bytes.len() as u64,
            };
            all.push((member, bytes.clone()));
            digest
        };
        let workload = put(Kind::Workload, &self.workload);
        let pre_switch = self.hook.as_ref().map(|hook| put(Kind::Hook, hook));
        let manifest = put(Kind::Manifest, &self.image);
        put(Kind::Config, &self.config);
        for layer in &self.layers {
            put(Kind::Layer, layer);
        }
        all.sort();
        all.dedup();
        let (members, bytes) = all.into_iter().unzip();
        Forge {
            manifest: Manifest {
                format: 1,
                release: "1.4.2".to_owned(),
                sequence: 7,
                boards: Vec::new(),
                architectures: vec![host_architectures()[0].clone()],
                minimum_monopod: None,
                workload,
                images: vec![Image {
                    reference: "example/gateway:1.4.2".to_owned(),
                    manifest,
                }],
                hooks: Hooks { pre_switch },
                members,
                absent: Vec::new(),
            },
            bytes,
        }
    }
}

impl Forge {
    pub fn good() -> Self {
        Parts::good().forge()
    }

    /// Where a kind of member stands first.
    pub fn at(&self, kind: Kind) -> usize {
        let found = self
            .manifest
            .members
            .iter()
            .position(|member| member.kind == kind);
        found.expect("there is one")
    }

    /// The file, signed by key one.
    pub fn seal(&self) -> Vec<u8> {
        self.seal_with(ONE)
    }

    pub fn seal_with(&self, key: &str) -> Vec<u8> {
        let manifest = self.manifest.bytes();
        self.around(sign(key, &manifest).as_bytes(), &manifest)
    }

    /// Any signature and any manifest.
    pub fn around(&self, signature: &[u8], manifest: &[u8]) -> Vec<u8> {
        let head = format!("monopod-bundle 1 {} {}\n", signature.len(), manifest.len());
        [head.as_bytes(), signature, manifest, &self.bytes.concat()].concat()
    }

    /// Its manifest as another text, properly signed.
    pub fn says(&self, change: impl FnOnce(String) -> String) -> Vec<u8> {
        let text = String::from_utf8(self.manifest.bytes()).expect("text");
        let manifest = change(text).into_bytes();
        self.around(sign(ONE, &manifest).as_bytes(), &manifest)
    }

    /// Changed and properly signed.
    pub fn with(mut self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        change(&mut self.manifest);
        self.seal()
    }
}

pub fn sign(key: &str, bytes: &[u8]) -> String {
    let key = SecretKey::parse(key, "").expect("a key");
    key.sign(bytes, "a test")
}
