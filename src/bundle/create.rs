//! From a workload file and image archives to a bundle.
//!
//! The archives go through the importer into a store of their own beside the output, which is gone
//! again at the end. Everything that could differ from run to run is left out, so the same input and
//! the same key make the same bundle, byte for byte, whatever tool packed the images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{BundleError, Place, Refusal};
use super::frame::Raw;
use super::manifest::{Hooks, Image, Kind, Manifest, Member, Version};
use super::minisign::KeyId;
use super::secret::SecretKey;
use super::since::Since;
use super::{limits, sign, verify};
use crate::image::{
    Digest, ImportError, ImportOptions, Layers, Progress, Source, Store, StoreError, StoredImage,
    host_architectures, image_manifest, import, normalise,
};

/// What a bundle is made of, besides the images' archives.
#[derive(Debug)]
pub struct Recipe {
    /// The release's version.
    pub release: String,
    /// Its sequence.
    pub sequence: u64,
    /// Boards that it is for; none means any.
    pub boards: Vec<String>,
    /// Architectures that it is for, in Go's words; with none, those that the images are for.
    pub architectures: Vec<String>,
    /// The oldest monopod that can run it.
    pub minimum_monopod: Option<Version>,
    /// The workload file's text.
    pub workload: Vec<u8>,
    /// The images that it names.
    pub references: Vec<String>,
    /// The pre-switch hook.
    pub pre_switch: Option<Vec<u8>>,
    /// What is left out.
    pub since: Since,
}

/// A bundle that was made.
#[derive(Debug)]
pub struct Created {
    /// What it says.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: u64,
    /// The key that signed it.
    pub key: Option<KeyId>,
}

enum Bytes {
    Here(Vec<u8>),
    Blob,
}

/// Makes a bundle of `recipe` and the images of `archives`, which must be just those that the workload
/// names. Nothing is at `output` before it is complete.
pub fn create(
    recipe: Recipe,
    archives: Vec<Source<'_>>,
    key: Option<&SecretKey>,
    output: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Created, BundleError> {
    let mut draft = Draft::beside(output)?;
    let store = Store::open(&draft.folder.join("store")).map_err(ImportError::from)?;
    let images = gather(&store, &recipe, archives, progress)?;

    let mut contents: BTreeMap<(Kind, Digest), (u64, Bytes)> = BTreeMap::new();
    let mut put = |kind: Kind, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        contents.insert((kind, digest), (bytes.len() as u64, Bytes::Here(bytes)));
        digest
    };
    let workload = put(Kind::Workload, recipe.workload);
    let pre_switch = recipe.pre_switch.map(|hook| put(Kind::Hook, hook));
    let mut listed = Vec::new();
    for (reference, image) in &images {
        let read = |error: StoreError| ImportError::from(error);
        put(Kind::Config, store.config_bytes(image).map_err(read)?);
        let manifest = image_manifest(&store, image).map_err(read)?;
        listed.push(Image {
            reference: reference.clone(),
            manifest: put(Kind::Manifest, manifest),
        });
    }
    for layer in images.values().flat_map(|image| &image.layers) {
        contents.insert((Kind::Layer, layer.digest), (layer.size, Bytes::Blob));
    }
    let member = |(&(kind, digest), (size, _)): (&(Kind, Digest), &(u64, Bytes))| Member {
        kind,
        digest,
        size: *size,
    };
    let (absent, members): (Vec<Member>, Vec<Member>) =
        contents.iter().map(member).partition(|member| {
            member.kind == Kind::Layer && recipe.since.layers.contains(&member.digest)
        });
    let manifest = Manifest {
        format: limits::FORMAT,
        release: recipe.release,
        sequence: recipe.sequence,
        boards: in_order(recipe.boards),
        architectures: match recipe.architectures.as_slice() {
            [] => in_order(images.values().filter_map(architecture).collect()),
            _ => in_order(recipe.architectures),
        },
        minimum_monopod: recipe.minimum_monopod,
        workload,
        images: listed,
        hooks: Hooks { pre_switch },
        members,
        absent,
    };
    manifest.check().map_err(BundleError::Usage)?;
    let raw = sealed(&manifest, key)?;

    draft.write(|out| raw.write(out))?;
    let total = raw.size() + verify::members_size(&manifest);
    let mut done = raw.size();
    let count = manifest.members.len();
    for (number, member) in manifest.members.iter().enumerate() {
        let content = contents.get(&(member.kind, member.digest));
        if let Some((_, Bytes::Here(bytes))) = content {
            draft.write(|out| out.write_all(bytes))?;
        } else {
            let path = store.blob_path(&member.digest);
            let mut file = File::open(&path).map_err(BundleError::Read)?;
            // What is signed is what is written, or nothing is.
            let place = Place::Member(number + 1, count);
            verify::copy(&mut file, member, place, &mut |bytes| {
                draft.write(|out| out.write_all(bytes))
            })?;
        }
        done += member.size;
        progress(Progress {
            done,
            total: Some(total),
            what: member.kind.word(),
        });
    }
    draft.publish()?;
    Ok(Created {
        manifest,
        size: total,
        key: key.map(SecretKey::id),
    })
}

/// The manifest's bytes, signed if there is a key.
fn sealed(manifest: &Manifest, key: Option<&SecretKey>) -> Result<Raw, BundleError> {
    let bytes = manifest.bytes();
    if bytes.len() as u64 > limits::MANIFEST {
        return Err(BundleError::Usage(format!(
            "the manifest would have more than {} bytes",
            limits::MANIFEST
        )));
    }
    let mut signature = Vec::new();
    if let Some(key) = key {
        signature = key.sign(&bytes, &sign::comment(manifest)).into_bytes();
        key.trust().check(&signature, &bytes)?;
    }
    // It is to be read by others, with the reader that they have.
    match Manifest::parse(&bytes) {
        Ok(_) => Ok(Raw {
            signature,
            manifest: bytes,
        }),
        Err(refusal) => Err(BundleError::Usage(refusal.to_string())),
    }
}

/// Imports the archives; their images by name, which are just those that the workload names.
fn gather(
    store: &Store,
    recipe: &Recipe,
    archives: Vec<Source<'_>>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<BTreeMap<String, StoredImage>, BundleError> {
    let usage = |text: String| BundleError::Usage(text);
    let mut wanted = BTreeSet::new();
    for reference in &recipe.references {
        let name = normalise(reference).map_err(|error| usage(error.to_string()))?;
        wanted.insert(name);
    }
    let options = ImportOptions {
        architectures: match recipe.architectures.as_slice() {
            [] => host_architectures(),
            named => named.to_vec(),
        },
        layers: Layers::Zstd,
        ..ImportOptions::default()
    };
    for archive in archives {
        let imported = import(store, archive, &options, progress)?;
        let twice = imported
            .images
            .iter()
            .find_map(|image| image.replaced.first());
        if let Some((name, _)) = twice {
            return Err(usage(format!("two archives have different images {name}")));
        }
    }
    let mut images = BTreeMap::new();
    for image in store.images().map_err(ImportError::from)? {
        for name in &image.references {
            if !wanted.contains(name) {
                return Err(usage(format!(
                    "an archive has the image {name}, which no container of the workload runs"
                )));
            }
            images.insert(name.clone(), image.clone());
        }
    }
    match wanted.iter().find(|name| !images.contains_key(*name)) {
        Some(name) => Err(usage(format!(
            "no archive has the image {name}, which the workload runs"
        ))),
        None => Ok(images),
    }
}

/// `linux/arm64/v8` has it in the middle.
fn architecture(image: &StoredImage) -> Option<String> {
    image.platform.split('/').nth(1).map(str::to_owned)
}

fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

/// A file in the making, in a folder of its own beside where it will be. Dropped, all is gone.
pub(super) struct Draft {
    folder: PathBuf,
    output: PathBuf,
    file: BufWriter<File>,
}

impl Draft {
    /// Begins one.
    pub fn beside(output: &Path) -> Result<Self, BundleError> {
        let name = output.file_name().ok_or_else(|| {
            BundleError::Usage(format!("{} is not the name of a file", output.display()))
        })?;
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let hidden = format!(".{}.{}", name.to_string_lossy(), std::process::id());
        let folder = parent.join(hidden);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| BundleError::Write { path, source }
        };
        fs::create_dir(&folder).map_err(failed(output))?;
        let file = File::create(folder.join("bundle"));
        match file {
            Ok(file) => Ok(Self {
                folder,
                output: output.to_owned(),
                file: BufWriter::with_capacity(crate::image::limits::BUFFER, file),
            }),
            Err(error) => {
                // Nobody else knows of it.
                let _ = fs::remove_dir_all(&folder);
                Err(failed(output)(error))
            }
        }
    }

    /// Writes on.
    pub fn write(
        &mut self,
        work: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), BundleError> {
        work(&mut self.file).map_err(|source| BundleError::Write {
            path: self.output.clone(),
            source,
        })
    }

    /// Makes it the output: on disk first, and in one step.
    pub fn publish(mut self) -> Result<(), BundleError> {
        let from = self.folder.join("bundle");
        let to = self.output.clone();
        let parent = self.folder.parent().map(Path::to_owned);
        self.write(|out| {
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(from, to)?;
            parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What is left of it bears its process's number, and harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl From<StoreError> for BundleError {
    fn from(error: StoreError) -> Self {
        ImportError::from(error).into()
    }
}

impl BundleError {
    /// Whether it is the bundle that is at fault.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Read(_) | Self::Write { .. } | Self::Usage(_) | Self::Import(_) => None,
        }
    }
}
