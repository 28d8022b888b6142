//! From a bundle to images of the store, as a stream, in one pass.
//!
//! The signature first, then the manifest, then the members in their order. A layer's bytes go to a
//! temporary file of the store while they are digested; they are unpacked, to check their content,
//! only after they had the listed digest, and from that same file; and only then the file gets its
//! name. The index is replaced last. A refusal takes away all that was added. A medium that fails
//! leaves the whole blobs that came through, which nothing names yet and which the next try reuses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};

use super::boards::Machine;
use super::error::{BundleError, Place, Refusal};
use super::frame;
use super::images::{self, Budgets};
use super::keys::Trust;
use super::manifest::{Kind, Manifest, Member};
use super::minisign::KeyId;
use super::verify::{self, Opened};
use super::workload;
use crate::image::limits::BUFFER;
use crate::image::{Digest, Imported, Intake, IntakeImage, IntakeLayer, Progress, Store};

/// What a store takes.
#[derive(Clone, Debug)]
pub struct TakeOptions {
    /// The machine that the release must be for.
    pub machine: Machine,
    /// Most bytes that one image may unpack to.
    pub max_image_size: u64,
    /// The highest sequence that was accepted of each key, by its ID: what is lower is refused before any
    /// member is read. Empty where the owner allows it, or where somebody else compares.
    pub accepted: BTreeMap<String, u64>,
}

/// A release that is in the store, all of it.
#[derive(Debug)]
pub struct Taken {
    /// The key that signed it. With the sequence, what a node remembers against downgrades.
    pub key: KeyId,
    /// What it says; `manifest.sequence` is none below [`TakeOptions::accepted`].
    pub manifest: Manifest,
    /// The manifest's bytes, to be verified again later.
    pub manifest_bytes: Vec<u8>,
    /// The signature's text, which holds for these bytes.
    pub signature: Vec<u8>,
    /// Digest of the manifest's bytes: the same for the same bundle, whoever signed it.
    pub digest: Digest,
    /// The workload file. It has been checked by its maker only.
    pub workload: Vec<u8>,
    /// The name in it.
    pub workload_name: String,
    /// The pre-switch hook.
    pub pre_switch: Option<Vec<u8>>,
    /// Its images' OCI manifests, byte for byte, by digest. They lead from the manifest to the images' IDs.
    pub image_manifests: BTreeMap<Digest, Vec<u8>>,
    /// Each image's ID, by its name in familiar form.
    pub images: BTreeMap<String, Digest>,
    /// What the store says of the images.
    pub imported: Imported,
}

/// Verifies a bundle and takes its images into the store.
pub fn take(
    reader: &mut impl Read,
    store: &Store,
    trust: &Trust,
    options: &TakeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Taken, BundleError> {
    // Not used, and still not allowed to be anything else.
    let mut known = verify::skim;
    take_by(reader, &mut known, store, trust, options, progress)
}

/// As [`take`], from a file: layers that the store has are passed over without being read, so that
/// after an interruption only the rest is. Their bytes in the file are then neither used nor checked.
pub fn take_file(
    file: &File,
    store: &Store,
    trust: &Trust,
    options: &TakeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Taken, BundleError> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    take_by(&mut reader, &mut pass_over, store, trust, options, progress)
}

/// Goes to the end of a member, which has to be there.
fn pass_over(
    reader: &mut BufReader<&File>,
    member: &Member,
    place: Place,
) -> Result<(), BundleError> {
    let size = i64::try_from(member.size).map_err(|_| Refusal::Truncated(place))?;
    reader.seek_relative(size).map_err(BundleError::Read)?;
    let end = reader.stream_position().map_err(BundleError::Read)?;
    let length = reader
        .get_ref()
        .metadata()
        .map_err(BundleError::Read)?
        .len();
    if end <= length {
        Ok(())
    } else {
        Err(Refusal::Truncated(place).into())
    }
}

/// What is done with a layer that the store has.
type Known<'k, R> = &'k mut dyn FnMut(&mut R, &Member, Place) -> Result<(), BundleError>;

fn take_by<R: Read>(
    reader: &mut R,
    known: Known<'_, R>,
    store: &Store,
    trust: &Trust,
    options: &TakeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Taken, BundleError> {
    let opened = verify::open(reader, trust, Some(&options.machine))?;
    let sequence = opened.manifest.sequence;
    if let Some(&accepted) = options.accepted.get(&opened.key.to_string())
        && sequence < accepted
    {
        return Err(Refusal::Downgrade {
            key: opened.key,
            sequence,
            accepted,
        }
        .into());
    }
    let mut intake = Intake::begin(store)?;
    match members(reader, known, &mut intake, &opened, options, progress) {
        Ok(contents) => Ok(Taken {
            key: opened.key,
            digest: opened.digest,
            manifest_bytes: opened.manifest_bytes,
            signature: opened.signature,
            workload: contents.workload,
            workload_name: contents.workload_name,
            pre_switch: contents.pre_switch,
            image_manifests: contents.image_manifests,
            images: contents
                .images
                .iter()
                .map(|image| (image.reference.clone(), image.config))
                .collect(),
            imported: intake.finish(contents.images)?,
            manifest: opened.manifest,
        }),
        Err(error @ BundleError::Read(_)) => Err(error),
        Err(error) => {
            intake.roll_back();
            Err(error)
        }
    }
}

/// What the members hold, layers apart.
#[derive(Default)]
struct Contents {
    workload: Vec<u8>,
    workload_name: String,
    pre_switch: Option<Vec<u8>>,
    image_manifests: BTreeMap<Digest, Vec<u8>>,
    images: Vec<IntakeImage>,
}

fn members<R: Read>(
    reader: &mut R,
    known: Known<'_, R>,
    intake: &mut Intake<'_>,
    opened: &Opened,
    options: &TakeOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Contents, BundleError> {
    let manifest = &opened.manifest;
    let total = opened.front + verify::members_size(manifest);
    let count = manifest.members.len();
    let mut done = opened.front;
    let mut contents = Contents::default();
    let first_layer = manifest
        .members
        .partition_point(|member| member.kind < Kind::Layer);
    let (small, layers) = manifest.members.split_at(first_layer);
    for (number, member) in small.iter().enumerate() {
        let bytes = verify::document(reader, member, Place::Member(number + 1, count))?;
        done += member.size;
        match member.kind {
            Kind::Workload => {
                contents.workload_name = workload::name(&bytes).map_err(Refusal::Workload)?;
                contents.workload = bytes;
            }
            Kind::Hook => contents.pre_switch = Some(bytes),
            Kind::Manifest => {
                intake.document(&bytes)?;
                contents.image_manifests.insert(member.digest, bytes);
            }
            Kind::Config => intake.document(&bytes)?,
            // None is before `first_layer`.
            Kind::Layer => {}
        }
    }
    let plan = {
        let document = |digest: &Digest| Ok(intake.read_document(digest)?);
        images::plan(manifest, &document, Some(&options.machine.architectures))?
    };
    let mut budgets = Budgets::new(&plan, options.max_image_size);
    for member in &manifest.absent {
        let known = budgets
            .of(&member.digest)
            .and_then(|(_, diff_id)| intake.content_size(&diff_id));
        let size = known.ok_or(Refusal::Absent(member.digest))?;
        spend(&mut budgets, member, Place::Manifest, size)?;
    }
    let new: u64 = layers
        .iter()
        .filter(|member| {
            let layer = budgets.of(&member.digest);
            layer.is_none_or(|(_, diff_id)| intake.content_size(&diff_id).is_none())
        })
        .map(|member| member.size)
        .sum();
    intake.check_room(new)?;

    for (number, member) in layers.iter().enumerate() {
        let place = Place::Member(first_layer + number + 1, count);
        let (left, diff_id) = budgets.of(&member.digest).ok_or(Refusal::Member {
            place,
            digest: member.digest,
            reason: "no image of the release has it".to_owned(),
        })?;
        let size = if let Some(size) = intake.content_size(&diff_id) {
            known(reader, member, place)?;
            size
        } else {
            let layer = IntakeLayer {
                blob: member.digest,
                size: member.size,
                diff_id,
            };
            intake
                .layer(reader, &layer, left)
                .map_err(|fault| verify::layer_fault(member, place, fault))?
        };
        spend(&mut budgets, member, place, size)?;
        done += member.size;
        progress(Progress {
            done,
            total: Some(total),
            what: member.kind.word(),
        });
    }
    frame::read_end(reader)?;
    contents.images = plan;
    Ok(contents)
}

fn spend(
    budgets: &mut Budgets<'_>,
    member: &Member,
    place: Place,
    size: u64,
) -> Result<(), Refusal> {
    budgets
        .spend(&member.digest, size)
        .map_err(|reason| Refusal::Member {
            place,
            digest: member.digest,
            reason,
        })
}
