//! Whether a release of a bundle is what a key signed that counts now.
//!
//! Nothing that an importer once said is taken for granted: the signature is checked over the
//! manifest's bytes, and every file of the folder against the manifest.

use std::collections::BTreeMap;

use super::{HOOK, IMAGE, MANIFEST, Origin, ReleaseError, Releases, SIGNATURE, WORKLOAD};
use crate::bundle::{Manifest, Trust, limits};
use crate::core::update::ReleaseId;
use crate::image::{Digest, image_id};

impl Releases {
    /// Verifies a release of a bundle, and says what it is by its manifest.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Unsigned`] for a local one; [`ReleaseError::Refused`] if no key that counts now
    /// has signed its manifest, or a file or an image's ID is not what that says.
    pub fn verify(&self, id: &ReleaseId, trust: &Trust) -> Result<Origin, ReleaseError> {
        let release = self.read(id)?;
        match release.origin {
            Origin::Local => return Err(ReleaseError::Unsigned(id.clone())),
            Origin::Bundle { .. } => {}
        }
        let refused = |reason: String| ReleaseError::Refused {
            id: id.clone(),
            path: self.folder(id),
            reason,
        };
        let bytes = self.must_file(id, MANIFEST, limits::MANIFEST)?;
        let signature = self.must_file(id, SIGNATURE, limits::SIGNATURE)?;
        let key = trust
            .check(&signature, &bytes)
            .map_err(|refusal| refused(refusal.to_string()))?;
        let manifest = Manifest::parse(&bytes).map_err(|refusal| refused(refusal.to_string()))?;

        let workload = self.must_file(id, WORKLOAD, limits::WORKLOAD)?;
        let hook = self.file(id, HOOK, limits::HOOK)?;
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
                return Err(refused(format!("{name} is not the one that was signed")));
            }
        }
        let mut images = BTreeMap::new();
        for image in &manifest.images {
            let name = format!("{IMAGE}{}", image.manifest.hex());
            let bytes = self.must_file(id, &name, limits::DOCUMENT)?;
            if Digest::of(&bytes) != image.manifest {
                return Err(refused(format!("{name} is not the one that was signed")));
            }
            let image_id = image_id(&bytes)
                .map_err(|reason| refused(format!("image {}: {reason}", image.reference)))?;
            images.insert(image.reference.clone(), Some(image_id.to_string()));
        }
        if images != release.images {
            let reason = "its images are not those that were signed";
            return Err(refused(reason.to_owned()));
        }
        Ok(Origin::Bundle {
            version: manifest.release,
            sequence: manifest.sequence,
            key: key.to_string(),
        })
    }
}
