//! What the documents of a bundle's images say, against what its manifest lists.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{BundleError, Place, Refusal};
use super::manifest::{Kind, Manifest, Member};
use crate::image::{Digest, IntakeImage, read_image};

/// The images as their documents describe them, every layer of which is listed with this size, and
/// every listed document and layer of which is some image's.
///
/// `document` gives the bytes of a member, checked. `architectures` are the machine's; without it any fit.
pub(super) fn plan(
    manifest: &Manifest,
    document: &dyn Fn(&Digest) -> Result<Vec<u8>, BundleError>,
    architectures: Option<&[String]>,
) -> Result<Vec<IntakeImage>, BundleError> {
    // One after the other: what collects them sorts first, and is 3 KB of code for each kind of map.
    let mut listed: BTreeMap<Digest, Member> = BTreeMap::new();
    for member in manifest.members.iter().chain(&manifest.absent) {
        listed.insert(member.digest, *member);
    }
    let mut used = BTreeSet::new();
    let mut images = Vec::new();
    for image in &manifest.images {
        let refuse = |reason: String| Refusal::Image {
            reference: image.reference.clone(),
            reason,
        };
        let listed_as = |kind: Kind, digest: &Digest, size: u64| match listed.get(digest) {
            Some(member) if member.kind != kind => Err(refuse(format!(
                "its {} {digest} is listed as a {}",
                kind.word(),
                member.kind.word()
            ))),
            Some(member) if member.size != size => Err(refuse(format!(
                "its {} {digest} is listed with {} bytes, and its image manifest says {size}",
                kind.word(),
                member.size
            ))),
            Some(_) => Ok(()),
            None => Err(refuse(format!(
                "its {} {digest} is not a member",
                kind.word()
            ))),
        };
        let bytes = document(&image.manifest)?;
        let config = |digest: &Digest, size: u64| {
            listed_as(Kind::Config, digest, size)?;
            document(digest)
        };
        let plan = read_image(
            &image.reference,
            image.manifest,
            &bytes,
            architectures,
            config,
        )
        .map_err(|error| match error {
            crate::image::ReadImageError::Wrong(reason) => refuse(reason).into(),
            crate::image::ReadImageError::Config(error) => error,
        })?;
        used.insert(image.manifest);
        used.insert(plan.config);
        for layer in &plan.layers {
            listed_as(Kind::Layer, &layer.blob, layer.size)?;
            used.insert(layer.blob);
        }
        images.push(plan);
    }
    let all = manifest.members.iter().chain(&manifest.absent);
    for (number, member) in all.enumerate() {
        let counts = matches!(member.kind, Kind::Manifest | Kind::Config | Kind::Layer);
        if counts && !used.contains(&member.digest) {
            return Err(Refusal::Member {
                place: Place::Member(number + 1, listed.len()),
                digest: member.digest,
                reason: "no image of the release has it".to_owned(),
            }
            .into());
        }
    }
    Ok(images)
}

/// What each image may still unpack to, layer by layer.
pub(super) struct Budgets<'p> {
    images: &'p [IntakeImage],
    left: Vec<u64>,
}

impl<'p> Budgets<'p> {
    /// The same `limit` for each.
    pub fn new(images: &'p [IntakeImage], limit: u64) -> Self {
        Self {
            images,
            left: vec![limit; images.len()],
        }
    }

    /// The least that an image with this layer has left, and the digest of its content.
    pub fn of(&self, layer: &Digest) -> Option<(u64, Digest)> {
        self.users(layer)
            .map(|(at, diff_id, count)| (self.left[at] / count, diff_id))
            .min()
    }

    /// Takes a layer's content off every image that has it.
    pub fn spend(&mut self, layer: &Digest, bytes: u64) -> Result<(), String> {
        let users: Vec<(usize, u64)> = self
            .users(layer)
            .map(|(at, _, count)| (at, count))
            .collect();
        for (at, count) in users {
            let left = bytes
                .checked_mul(count)
                .and_then(|bytes| self.left[at].checked_sub(bytes));
            self.left[at] = left.ok_or_else(too_large)?;
        }
        Ok(())
    }

    /// The images with a layer, its content's digest, and how often they have it.
    fn users(&self, layer: &Digest) -> impl Iterator<Item = (usize, Digest, u64)> {
        self.images
            .iter()
            .enumerate()
            .filter_map(move |(at, image)| {
                let mut places = image.layers.iter().filter(|own| own.blob == *layer);
                let first = places.next()?;
                Some((at, first.diff_id, 1 + places.count() as u64))
            })
    }
}

/// Why a layer is refused that an image has no room for.
pub(super) fn too_large() -> String {
    "it unpacks to more than [store] max_image_size in node.toml allows".to_owned()
}
