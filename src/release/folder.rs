//! A release's folder, read: whether it is whole, and what of it a key has signed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::files::Folder;
use super::record::Record;
use super::{
    Damaged, HOOK, IMAGE, MANIFEST, Origin, RECORD, RECORD_SIZE, ReleaseError, Releases, SIGNATURE,
    WORKLOAD,
};
use crate::bundle::{KeyId, Manifest, Trust, limits};
use crate::core::update::ReleaseId;
use crate::image::{Digest, image_id};

/// What a bundle's release is made of, all of it verified.
pub(super) struct Content<'c> {
    pub key: KeyId,
    pub manifest: &'c Manifest,
    pub manifest_bytes: &'c [u8],
    pub signature: &'c [u8],
    /// The workload's name.
    pub name: &'c str,
    pub workload: &'c [u8],
    pub hook: Option<&'c [u8]>,
    pub image_manifests: &'c BTreeMap<Digest, Vec<u8>>,
    pub images: BTreeMap<String, Option<String>>,
}

impl Content<'_> {
    /// The id that this makes.
    pub fn id(&self) -> ReleaseId {
        ReleaseId::of(self.workload, &self.images, self.hook)
    }
}

/// What of a folder a key that counts has signed; each file was read once.
pub(super) struct Signed {
    pub key: KeyId,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub signature: Vec<u8>,
    pub workload: Vec<u8>,
    pub hook: Option<Vec<u8>>,
    pub image_manifests: BTreeMap<Digest, Vec<u8>>,
    /// The images' IDs, by their names in familiar form.
    pub images: BTreeMap<String, Option<String>>,
}

/// A release's folder that is there; read as this one, whatever gets its name meanwhile.
pub(super) struct Open<'r> {
    id: &'r ReleaseId,
    path: PathBuf,
    pub folder: Folder,
}

impl Releases {
    /// Opens a release's folder.
    pub(super) fn open<'r>(&self, id: &'r ReleaseId) -> Result<Open<'r>, ReleaseError> {
        let path = self.folder(id);
        match Folder::open(&path) {
            Ok(folder) => Ok(Open { id, path, folder }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ReleaseError::NotFound(id.clone()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Damaged {
                id: id.clone(),
                path,
                reason: "it is no folder".to_owned(),
            }
            .into()),
            Err(error) => Err(ReleaseError::io("open", &path)(error)),
        }
    }
}

impl Open<'_> {
    /// What the folder says that it is, if it is whole.
    pub fn record(&self) -> Result<Record, ReleaseError> {
        let record = self.must_file(RECORD, RECORD_SIZE)?;
        let record = Record::parse(&record).map_err(|reason| self.damaged(reason))?;
        let workload = self.must_file(WORKLOAD, limits::WORKLOAD)?;
        let hook = self.file(HOOK, limits::HOOK)?;
        if record.release.id != *self.id || record.id(&workload, hook.as_deref()) != *self.id {
            return Err(self.damaged("its content is not what its id says"));
        }
        match record.release.origin {
            Origin::Local => {}
            Origin::Bundle { .. } => {
                self.must_file(MANIFEST, limits::MANIFEST)?;
                self.must_file(SIGNATURE, limits::SIGNATURE)?;
            }
        }
        Ok(record)
    }

    /// What a key that counts has signed, and each file is what was signed. The record is not asked.
    pub fn signed(&self, trust: &Trust) -> Result<Signed, ReleaseError> {
        let manifest_bytes = self.must_file(MANIFEST, limits::MANIFEST)?;
        let signature = self.must_file(SIGNATURE, limits::SIGNATURE)?;
        let key = trust
            .check(&signature, &manifest_bytes)
            .map_err(|refusal| self.refused(refusal.to_string()))?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|refusal| self.refused(refusal.to_string()))?;
        let workload = self.must_file(WORKLOAD, limits::WORKLOAD)?;
        let hook = self.file(HOOK, limits::HOOK)?;
        for (name, found, signed) in [
            (
                WORKLOAD,
                Some(Digest::of(&workload)),
                Some(manifest.workload),
            ),
            (
                HOOK,
                hook.as_deref().map(Digest::of),
                manifest.hooks.pre_switch,
            ),
        ] {
            if found != signed {
                return Err(self.refused(format!("{name} is not the one that was signed")));
            }
        }
        let mut images = BTreeMap::new();
        let mut image_manifests = BTreeMap::new();
        for image in &manifest.images {
            let name = format!("{IMAGE}{}", image.manifest.hex());
            let bytes = self.must_file(&name, limits::DOCUMENT)?;
            if Digest::of(&bytes) != image.manifest {
                return Err(self.refused(format!("{name} is not the one that was signed")));
            }
            let image_id = image_id(&bytes)
                .map_err(|reason| self.refused(format!("image {}: {reason}", image.reference)))?;
            images.insert(image.reference.clone(), Some(image_id.to_string()));
            image_manifests.insert(image.manifest, bytes);
        }
        Ok(Signed {
            key,
            manifest,
            manifest_bytes,
            signature,
            workload,
            hook,
            image_manifests,
            images,
        })
    }

    /// A file that has to be there, with something in it.
    fn must_file(&self, name: &str, limit: u64) -> Result<Vec<u8>, ReleaseError> {
        match self.file(name, limit)? {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            Some(_) => Err(self.damaged(format!("{name} is empty"))),
            None => Err(self.damaged(format!("{name} is missing"))),
        }
    }

    /// A file of at most so many bytes.
    fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ReleaseError> {
        match self.folder.read(name, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.damaged(format!("{name} {error}")))
            }
            Err(error) => Err(ReleaseError::io("read", &self.path.join(name))(error)),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> ReleaseError {
        Damaged {
            id: self.id.clone(),
            path: self.path.clone(),
            reason: reason.into(),
        }
        .into()
    }

    /// Not what was signed, or not by whom it should be.
    pub fn refused(&self, reason: String) -> ReleaseError {
        ReleaseError::Refused {
            id: self.id.clone(),
            path: self.path.clone(),
            reason,
        }
    }
}
