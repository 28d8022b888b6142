//! The manifest: what the signature covers, and all that a bundle says of itself.
//!
//! It has one form only. Reading it makes the value and writes that again: bytes that differ in
//! anything (order, spaces, a key twice, another spelling of a number) are refused, so that no two
//! programs can read two things. It says nothing of when or where it was made: the same input gives
//! the same bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::limits;
use crate::image::{Digest, normalise};

/// What a member is. Members stand in this order, and by digest within it, so that what is small
/// and says what the rest must be comes before the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The workload file.
    #[serde(rename = "application/vnd.monopod.workload.v1+toml")]
    Workload,
    /// A program that the node runs at a step of the update.
    #[serde(rename = "application/vnd.monopod.hook.v1")]
    Hook,
    /// An OCI image manifest.
    #[serde(rename = "application/vnd.oci.image.manifest.v1+json")]
    Manifest,
    /// An OCI image config.
    #[serde(rename = "application/vnd.oci.image.config.v1+json")]
    Config,
    /// A layer, packed with zstd.
    #[serde(rename = "application/vnd.oci.image.layer.v1.tar+zstd")]
    Layer,
}

impl Kind {
    /// What messages call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Hook => "hook",
            Self::Manifest => "image manifest",
            Self::Config => "image config",
            Self::Layer => "layer",
        }
    }

    /// The largest that one may be, bytes.
    fn limit(self) -> u64 {
        match self {
            Self::Workload => limits::WORKLOAD,
            Self::Hook => limits::HOOK,
            Self::Manifest | Self::Config => limits::DOCUMENT,
            Self::Layer => limits::LAYER,
        }
    }
}

/// A member, or one that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub kind: Kind,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An image of the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name in familiar form, as the workload file means it.
    pub reference: String,
    /// Digest of its OCI manifest, which is a member.
    pub manifest: Digest,
}

/// Programs that the node runs at a step of the update, by the digest of the member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before the old release is stopped; the update goes on only if it succeeds.
    #[serde(rename = "preSwitch", default, skip_serializing_if = "Option::is_none")]
    pub pre_switch: Option<Digest>,
}

/// A version of monopod: three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Version {
    /// The one that runs.
    pub fn own() -> Self {
        // Cargo allows no other form; a suffix is cut off below.
        env!("CARGO_PKG_VERSION")
            .split(['-', '+'])
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(Self(0, 0, 0))
    }
}

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a version of monopod is three numbers, for example 1.4.0";
        let numbers: Option<Vec<u32>> = text
            .split('.')
            .map(|part| {
                let plain = part.bytes().all(|byte| byte.is_ascii_digit());
                (plain && (part == "0" || !part.starts_with('0')))
                    .then(|| part.parse().ok())
                    .flatten()
            })
            .collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self(major, minor, patch)),
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format: [`limits::FORMAT`].
    pub format: u64,
    /// The release's version, its maker's own: letters, digits, `.`, `_`, `+` and `-`.
    pub release: String,
    /// Grows with every release of one key; a node refuses a lower one than it has accepted.
    pub sequence: u64,
    /// Boards that it is for, as the machines name themselves; none means any.
    pub boards: Vec<String>,
    /// Architectures that it is for, in Go's words; none means any.
    pub architectures: Vec<String>,
    /// The oldest monopod that can run it.
    #[serde(
        rename = "minimumMonopod",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub minimum_monopod: Option<Version>,
    /// Digest of the workload file, which is a member.
    pub workload: Digest,
    /// Its images, by name.
    pub images: Vec<Image>,
    /// Its hooks.
    pub hooks: Hooks,
    /// What follows the manifest, in this order.
    pub members: Vec<Member>,
    /// Layers that the release needs as well and that a node has from the release before.
    pub absent: Vec<Member>,
}

/// Only what every format has.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl Manifest {
    /// Reads one whose signature has held.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let unusable = |reason: String| Refusal::Manifest(reason);
        let wrong = |error: serde_json::Error| {
            let text: String = error.to_string().chars().take(200).collect();
            unusable(text.escape_debug().to_string())
        };
        let Format { format } = serde_json::from_slice(bytes).map_err(wrong)?;
        if format != limits::FORMAT {
            return Err(Refusal::Format(format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        if manifest.bytes() != bytes {
            return Err(unusable("it is not in its canonical form".to_owned()));
        }
        manifest.check().map_err(unusable)?;
        Ok(manifest)
    }

    /// Its one form.
    pub fn bytes(&self) -> Vec<u8> {
        // Plain values with string keys into memory: it cannot fail. If it did, nothing would equal it.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Checks all that can be told from the manifest alone.
    pub fn check(&self) -> Result<(), String> {
        check_release(&self.release)?;
        if !(1..=limits::SEQUENCE).contains(&self.sequence) {
            return Err(format!(
                "its sequence is {}; one is from 1 to {}",
                self.sequence,
                limits::SEQUENCE
            ));
        }
        check_names("board", &self.boards)?;
        check_names("architecture", &self.architectures)?;
        self.check_members()?;
        self.check_images()
    }

    fn check_members(&self) -> Result<(), String> {
        if self.members.len() + self.absent.len() > limits::MEMBERS {
            return Err(format!("it lists more than {} members", limits::MEMBERS));
        }
        let key = |member: &Member| (member.kind, member.digest);
        for list in [&self.members, &self.absent] {
            if !list.is_sorted_by(|one, next| key(one) < key(next)) {
                return Err("its members are not in order, or one comes twice".to_owned());
            }
        }
        let mut digests = BTreeSet::new();
        let mut documents = 0u64;
        for member in self.members.iter().chain(&self.absent) {
            let Member { kind, digest, size } = *member;
            if !digests.insert(digest) {
                return Err(format!("it lists {digest} twice"));
            }
            if size == 0 {
                return Err(format!("its {} {digest} is empty", kind.word()));
            }
            if size > kind.limit() {
                return Err(format!(
                    "its {} {digest} has {size} bytes, more than {}",
                    kind.word(),
                    kind.limit()
                ));
            }
            match kind {
                Kind::Manifest | Kind::Config => documents += size,
                Kind::Workload | Kind::Hook | Kind::Layer => {}
            }
        }
        if documents > limits::DOCUMENTS {
            return Err(format!(
                "its image manifests and configs have more than {} bytes",
                limits::DOCUMENTS
            ));
        }
        match self.absent.iter().find(|member| member.kind != Kind::Layer) {
            Some(member) => Err(format!(
                "it leaves out the {} {}; only layers can be left out",
                member.kind.word(),
                member.digest
            )),
            None => Ok(()),
        }
    }

    fn check_images(&self) -> Result<(), String> {
        if self.images.is_empty() {
            return Err("it has no image".to_owned());
        }
        if self.images.len() > limits::IMAGES {
            return Err(format!("it has more than {} images", limits::IMAGES));
        }
        if !self
            .images
            .is_sorted_by(|one, next| one.reference < next.reference)
        {
            return Err("its images are not in order, or one name comes twice".to_owned());
        }
        for image in &self.images {
            let reference = &image.reference;
            if reference.len() > limits::REFERENCE
                || normalise(reference).ok().as_ref() != Some(reference)
            {
                return Err("an image's name is not in its familiar form".to_owned());
            }
        }
        let has = |kind: Kind, digest: &Digest| {
            let found = self
                .members
                .iter()
                .any(|member| member.kind == kind && member.digest == *digest);
            if found {
                return Ok(());
            }
            Err(format!("its {} {digest} is not a member", kind.word()))
        };
        has(Kind::Workload, &self.workload)?;
        if let Some(digest) = &self.hooks.pre_switch {
            has(Kind::Hook, digest)?;
        }
        for image in &self.images {
            has(Kind::Manifest, &image.manifest)?;
        }
        let needed = |member: &&Member| match member.kind {
            Kind::Workload => member.digest != self.workload,
            Kind::Hook => self.hooks.pre_switch != Some(member.digest),
            Kind::Manifest => self
                .images
                .iter()
                .all(|image| image.manifest != member.digest),
            // The images' documents say which they are.
            Kind::Config | Kind::Layer => false,
        };
        match self.members.iter().find(needed) {
            Some(member) => Err(format!(
                "nothing names its {} {}",
                member.kind.word(),
                member.digest
            )),
            None => Ok(()),
        }
    }
}

/// Checks a release's version.
pub(super) fn check_release(text: &str) -> Result<(), String> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
    let fine = text.len() <= limits::RELEASE
        && text.bytes().all(plain)
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if fine {
        return Ok(());
    }
    Err(format!(
        "a release's version is 1 to {} letters, digits, `.`, `_`, `+` and `-`, and begins with a letter or digit",
        limits::RELEASE
    ))
}

/// Names in order, each once.
fn check_names(what: &str, names: &[String]) -> Result<(), String> {
    if names.len() > limits::NAMES {
        return Err(format!("it names more than {} of {what}", limits::NAMES));
    }
    if !names.is_sorted_by(|one, next| one < next) {
        return Err(format!("each {what} is named once, in order"));
    }
    let plain = |name: &String| {
        (1..=limits::NAME).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && !name.contains(['"', '\\'])
            && name.trim() == name
    };
    if names.iter().all(plain) {
        return Ok(());
    }
    Err(format!(
        "the name of a {what} is 1 to {} printable ASCII characters without `\"` and `\\`",
        limits::NAME
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for text in [
            "", "1", "1.2", "1.2.3.4", "1.02.3", "1.2.x", "+1.2.3", "1.2.-3",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let version = |text: &str| text.parse::<Version>().expect("a version");
        assert!(version("1.10.0") > version("1.9.9"));
        assert_eq!(version("0.1.0").to_string(), "0.1.0");
        assert_eq!(Version::own().to_string(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn release_versions() {
        for text in ["1.4.2", "2026-11", "v1_0+build.7"] {
            assert_eq!(check_release(text), Ok(()), "{text}");
        }
        let long = "1".repeat(limits::RELEASE + 1);
        for text in ["", "-1", ".1", "1 2", "1/2", "1\n", "é", &long] {
            assert!(check_release(text).is_err(), "{text}");
        }
    }
}
