//! From the first line to a manifest that holds, and on to the end of the bundle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::boards::Machine;
use super::error::{BundleError, Place, Refusal};
use super::frame;
use super::images::{self, Budgets};
use super::keys::Trust;
use super::manifest::{Kind, Manifest, Member};
use super::minisign::KeyId;
use super::workload;
use crate::image::limits::BUFFER;
use crate::image::{Digest, Hasher, LayerFault, Progress, layer_content};

/// A bundle whose signature has held; its reader stands at the first member.
#[derive(Debug)]
pub struct Opened {
    /// The key that signed it.
    pub key: KeyId,
    /// What it says.
    pub manifest: Manifest,
    /// Digest of the manifest's bytes.
    pub digest: Digest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The signature's text, which holds for these bytes.
    pub signature: Vec<u8>,
    /// Bytes before the first member.
    pub front: u64,
}

/// Reads up to the first member and checks the signature before anything else; with a `machine`,
/// also that the release is for it.
pub fn open(
    reader: &mut impl Read,
    trust: &Trust,
    machine: Option<&Machine>,
) -> Result<Opened, BundleError> {
    let raw = frame::read_raw(reader)?;
    let key = trust.check(&raw.signature, &raw.manifest)?;
    let manifest = Manifest::parse(&raw.manifest)?;
    if let Some(machine) = machine {
        machine.check(&manifest)?;
    }
    Ok(Opened {
        key,
        digest: Digest::of(&raw.manifest),
        front: raw.size(),
        manifest,
        manifest_bytes: raw.manifest,
        signature: raw.signature,
    })
}

/// A bundle that holds, every byte of it.
#[derive(Debug)]
pub struct Verified {
    /// The key that signed it.
    pub key: KeyId,
    /// What it says.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: u64,
}

/// Verifies a whole bundle and changes nothing. The file is gone through twice: only after every
/// member had its digest are the layers unpacked, to nowhere, to see that they are what the images say.
///
/// `max_image_size` is the most that an image may unpack to, bytes.
pub fn verify(
    file: &File,
    trust: &Trust,
    machine: Option<&Machine>,
    max_image_size: u64,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Verified, BundleError> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let opened = open(&mut reader, trust, machine)?;
    let manifest = &opened.manifest;
    let count = manifest.members.len();
    let total: u64 = opened.front + members_size(manifest);
    let mut documents = BTreeMap::new();
    let mut done = opened.front;
    for (number, member) in manifest.members.iter().enumerate() {
        let place = Place::Member(number + 1, count);
        match member.kind {
            Kind::Manifest | Kind::Config => {
                documents.insert(member.digest, document(&mut reader, member, place)?);
            }
            Kind::Workload => {
                let bytes = document(&mut reader, member, place)?;
                workload::name(&bytes).map_err(Refusal::Workload)?;
            }
            Kind::Hook => drop(document(&mut reader, member, place)?),
            Kind::Layer => skim(&mut reader, member, place)?,
        }
        done += member.size;
        progress(Progress {
            done,
            total: Some(total),
            what: member.kind.word(),
        });
    }
    frame::read_end(&mut reader)?;

    let provide = |digest: &Digest| {
        documents
            .get(digest)
            .cloned()
            .ok_or_else(|| Refusal::Manifest(format!("{digest} is not a document")).into())
    };
    let architectures = machine.map(|machine| machine.architectures.as_slice());
    let plan = images::plan(manifest, &provide, architectures)?;
    let mut budgets = Budgets::new(&plan, max_image_size);
    let mut at = opened.front;
    for (number, member) in manifest.members.iter().enumerate() {
        if member.kind == Kind::Layer {
            let place = Place::Member(number + 1, count);
            reader
                .seek(SeekFrom::Start(at))
                .map_err(BundleError::Read)?;
            check_layer(&mut reader, member, place, &mut budgets)?;
        }
        at += member.size;
    }
    let Opened { key, manifest, .. } = opened;
    Ok(Verified {
        key,
        manifest,
        size: total,
    })
}

/// Bytes of all members together.
pub(super) fn members_size(manifest: &Manifest) -> u64 {
    // At most MEMBERS of at most LAYER bytes.
    manifest.members.iter().map(|member| member.size).sum()
}

fn check_layer(
    reader: &mut impl Read,
    member: &Member,
    place: Place,
    budgets: &mut Budgets<'_>,
) -> Result<(), BundleError> {
    let refuse = |reason: String| Refusal::Member {
        place,
        digest: member.digest,
        reason,
    };
    let (left, diff_id) = budgets
        .of(&member.digest)
        .ok_or_else(|| refuse("no image of the release has it".to_owned()))?;
    let mut part = reader.take(member.size);
    let size = layer_content(&mut part, &diff_id, left)
        .map_err(|fault| layer_fault(member, place, fault))?;
    budgets.spend(&member.digest, size).map_err(refuse)?;
    Ok(())
}

/// What is wrong with a layer, in terms of its bundle.
pub(super) fn layer_fault(member: &Member, place: Place, fault: LayerFault) -> BundleError {
    let reason = match fault {
        LayerFault::Read(error) => return BundleError::read(place)(error),
        LayerFault::Import(error) => return error.into(),
        LayerFault::Digest(found) => {
            return Refusal::Digest {
                place,
                wanted: member.digest,
                found,
            }
            .into();
        }
        LayerFault::TooLarge => images::too_large(),
        LayerFault::Content(reason) => reason,
    };
    Refusal::Member {
        place,
        digest: member.digest,
        reason,
    }
    .into()
}

/// Reads a small member whole and checks its digest.
pub(super) fn document(
    reader: &mut impl Read,
    member: &Member,
    place: Place,
) -> Result<Vec<u8>, BundleError> {
    // Its size has been bounded with the manifest.
    let bytes = frame::read_part(reader, member.size, place)?;
    let found = Digest::of(&bytes);
    if found == member.digest {
        return Ok(bytes);
    }
    Err(Refusal::Digest {
        place,
        wanted: member.digest,
        found,
    }
    .into())
}

/// Reads a member only to check its digest.
pub(super) fn skim(
    reader: &mut impl Read,
    member: &Member,
    place: Place,
) -> Result<(), BundleError> {
    copy(reader, member, place, &mut |_| Ok(()))
}

/// Reads a member, hands it on in pieces, and checks its digest at the end.
pub(super) fn copy(
    reader: &mut impl Read,
    member: &Member,
    place: Place,
    out: &mut dyn FnMut(&[u8]) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut left = member.size;
    while left > 0 {
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        reader
            .read_exact(&mut buffer[..want])
            .map_err(BundleError::read(place))?;
        hasher.update(&buffer[..want]);
        out(&buffer[..want])?;
        left -= want as u64;
    }
    let (found, _) = hasher.finish();
    if found == member.digest {
        return Ok(());
    }
    Err(Refusal::Digest {
        place,
        wanted: member.digest,
        found,
    }
    .into())
}
