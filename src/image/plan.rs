//! What an archive's documents say should be imported; nothing is read or written for it yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use super::catalogue::{Catalogue, Member};
use super::digest::Digest;
use super::documents::{Config, Platform};
use super::error::{Fault, shown};
use super::{json, limits, reference};

/// One image to import.
#[derive(Debug)]
pub(super) struct PlannedImage {
    /// Its names in familiar form.
    pub references: Vec<String>,
    /// The member that is its config.
    pub config_member: String,
    /// The config's digest.
    pub config: Digest,
    /// Lowest first.
    pub layers: Vec<PlannedLayer>,
    /// Its manifest in the archive: kept byte for byte if every layer is stored as it came.
    pub manifest: Option<Digest>,
    /// What it runs on.
    pub platform: Option<Platform>,
}

/// One layer to import.
#[derive(Clone, Debug)]
pub(super) struct PlannedLayer {
    /// The member that holds it.
    pub member: Rc<str>,
    /// The content's digest as the config says it.
    pub diff_id: Digest,
    /// The digest of its bytes, where the archive says one.
    pub raw: Option<Digest>,
}

/// What this machine runs.
pub(super) struct Machine<'o> {
    /// Go's names of architectures, the best first.
    pub architectures: &'o [String],
}

impl Machine<'_> {
    /// How well a platform fits; lower is better, `None` does not.
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        if platform.os != "linux" {
            return None;
        }
        let architecture = platform.architecture.as_str();
        let place = self
            .architectures
            .iter()
            .position(|known| known == architecture)?;
        let variant = match (
            architecture,
            platform.variant.as_deref().unwrap_or_default(),
        ) {
            ("arm", "" | "v7") | ("arm64", "" | "v8") | ("amd64", "" | "v1") => 0,
            ("arm", "v6") => 1,
            ("arm", "v5") => 2,
            _ => 3,
        };
        Some(place * 4 + variant)
    }

    /// Refuses an image for another machine. A config that does not say is taken at its word.
    fn check(&self, config: &Config, member: &str) -> Result<(), Fault> {
        let os = config.os.as_deref().unwrap_or_default();
        if !matches!(os, "" | "linux") {
            return Err(Fault::member(
                member,
                format!("the image is for {}, this machine runs linux", shown(os)),
            ));
        }
        let architecture = config.architecture.as_deref().unwrap_or_default();
        if architecture.is_empty() || self.architectures.iter().any(|known| known == architecture) {
            return Ok(());
        }
        Err(Fault::member(
            member,
            format!(
                "the image is for {}, this machine is {}",
                shown(architecture),
                self.architectures.join(" or ")
            ),
        ))
    }
}

/// A config that fits this machine, and its layers' content digests.
pub(super) fn read_config(
    bytes: &[u8],
    member: &str,
    machine: &Machine<'_>,
) -> Result<(Config, Vec<Digest>), Fault> {
    let mut config: Config = json::parse(bytes).map_err(|reason| Fault::member(member, reason))?;
    machine.check(&config, member)?;
    let diff_ids = config.rootfs.diff_ids.take().unwrap_or_default();
    if diff_ids.is_empty() {
        return Err(Fault::member(member, "the image has no layers"));
    }
    if diff_ids.len() > limits::LAYERS {
        return Err(Fault::member(
            member,
            format!(
                "the image has {} layers, more than {}",
                diff_ids.len(),
                limits::LAYERS
            ),
        ));
    }
    Ok((config, diff_ids))
}

/// A config's own words on its platform.
pub(super) fn platform(config: &Config) -> Option<Platform> {
    Some(Platform {
        architecture: config
            .architecture
            .clone()
            .filter(|text| !text.is_empty())?,
        os: config.os.clone().filter(|text| !text.is_empty())?,
        variant: config.variant.clone().filter(|text| !text.is_empty()),
    })
}

/// A reference of an archive in familiar form.
pub(super) fn name(text: &str, member: &str) -> Result<String, Fault> {
    reference::normalise(text).map_err(|error| Fault::member(member, error.to_string()))
}

/// Refuses an archive in which one name stands for two images, and merges what is the same image twice.
pub(super) fn merge(images: Vec<PlannedImage>) -> Result<Vec<PlannedImage>, Fault> {
    let mut names: BTreeMap<String, Digest> = BTreeMap::new();
    let mut merged: Vec<PlannedImage> = Vec::new();
    for image in images {
        for name in &image.references {
            if names
                .insert(name.clone(), image.config)
                .is_some_and(|other| other != image.config)
            {
                return Err(Fault::archive(format!(
                    "it gives the name {name} to two images"
                )));
            }
        }
        match merged.iter_mut().find(|other| other.config == image.config) {
            Some(other) => {
                for name in image.references {
                    if !other.references.contains(&name) {
                        other.references.push(name);
                    }
                }
            }
            None => merged.push(image),
        }
    }
    if merged.is_empty() {
        return Err(Fault::archive("it has no image for this machine"));
    }
    Ok(merged)
}

/// Refuses an archive with a member that nothing accounts for. A folder needs no more than to hold something.
pub(super) fn check_members(
    catalogue: &Catalogue,
    accounted: impl Fn(&str, &Member) -> bool,
) -> Result<(), Fault> {
    for (name, member) in catalogue.members() {
        let fine = match member {
            Member::Folder => {
                let inside = format!("{name}/");
                catalogue
                    .members()
                    .range::<str, _>((Bound::Included(inside.as_str()), Bound::Unbounded))
                    .next()
                    .is_some_and(|(next, _)| next.starts_with(&inside))
            }
            _ => accounted(name, member),
        };
        if !fine {
            return Err(Fault::member(name, "no manifest of the archive names it"));
        }
    }
    Ok(())
}
