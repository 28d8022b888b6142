//! Whether a release of a bundle is what a key signed that counts now.
//!
//! Nothing that an importer once said is taken for granted: the signature is checked over the
//! manifest's bytes, and every file of the folder against the manifest.

use super::{Origin, ReleaseError, Releases};
use crate::bundle::Trust;
use crate::core::update::ReleaseId;

impl Releases {
    /// Verifies a release of a bundle, and says what it is by its manifest.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Unsigned`] for a local one; [`ReleaseError::Refused`] if no key that counts now
    /// has signed its manifest, or a file or an image's ID is not what that says.
    pub fn verify(&self, id: &ReleaseId, trust: &Trust) -> Result<Origin, ReleaseError> {
        let open = self.open(id)?;
        let release = open.record()?.release;
        match release.origin {
            Origin::Local => return Err(ReleaseError::Unsigned(id.clone())),
            Origin::Bundle { .. } => {}
        }
        let signed = open.signed(trust)?;
        if signed.images != release.images {
            let reason = "its images are not those that were signed";
            return Err(open.refused(reason.to_owned()));
        }
        Ok(Origin::Bundle {
            version: signed.manifest.release,
            sequence: signed.manifest.sequence,
            key: signed.key.to_string(),
        })
    }
}
