//! Another signature for a bundle that is there: a new key, or one that is kept on another machine.
//!
//! The manifest and the members stay what they are, byte for byte.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::create::Draft;
use super::error::{BundleError, Place};
use super::frame::{self, Raw};
use super::keys::{self, Trust};
use super::limits;
use super::manifest::Manifest;
use super::minisign::KeyId;
use super::secret::SecretKey;
use super::verify;

/// What our signatures say in the comment that is signed with them.
pub(super) fn comment(manifest: &Manifest) -> String {
    format!(
        "monopod bundle release:{} sequence:{}",
        manifest.release, manifest.sequence
    )
}

/// Signs a bundle, in place of the signature that it has; every member is checked on the way.
///
/// `output` may be the bundle itself.
pub fn resign(bundle: &Path, key: &SecretKey, output: &Path) -> Result<KeyId, BundleError> {
    let (mut reader, raw) = read(bundle)?;
    // Whoever signs says that it is good; at least it must be a manifest.
    let manifest = Manifest::parse(&raw.manifest)?;
    let signature = key.sign(&raw.manifest, &comment(&manifest)).into_bytes();
    key.trust().check(&signature, &raw.manifest)?;
    let raw = Raw { signature, ..raw };
    write(&mut reader, &raw, Some(&manifest), output)?;
    Ok(key.id())
}

/// Puts a signature that was made elsewhere (`minisign -S`) into a bundle. With `trust`, it must hold,
/// and every member is checked on the way; without, it must only have minisign's form.
pub fn attach(
    bundle: &Path,
    signature: &[u8],
    trust: Option<&Trust>,
    output: &Path,
) -> Result<KeyId, BundleError> {
    let id = keys::read_signature(signature)?.id;
    if signature.len() as u64 > limits::SIGNATURE {
        return Err(BundleError::Usage(format!(
            "the signature has more than {} bytes",
            limits::SIGNATURE
        )));
    }
    let (mut reader, raw) = read(bundle)?;
    let manifest = match trust {
        Some(trust) => {
            trust.check(signature, &raw.manifest)?;
            Some(Manifest::parse(&raw.manifest)?)
        }
        None => None,
    };
    let raw = Raw {
        signature: signature.to_vec(),
        ..raw
    };
    write(&mut reader, &raw, manifest.as_ref(), output)?;
    Ok(id)
}

fn read(bundle: &Path) -> Result<(BufReader<File>, Raw), BundleError> {
    let file = File::open(bundle).map_err(BundleError::Read)?;
    let mut reader = BufReader::new(file);
    let raw = frame::read_raw(&mut reader)?;
    Ok((reader, raw))
}

fn write(
    reader: &mut impl Read,
    raw: &Raw,
    manifest: Option<&Manifest>,
    output: &Path,
) -> Result<(), BundleError> {
    let mut draft = Draft::beside(output)?;
    draft.write(|out| raw.write(out))?;
    let Some(manifest) = manifest else {
        draft.write(|out| io::copy(reader, out).map(drop))?;
        return draft.publish();
    };
    let count = manifest.members.len();
    for (number, member) in manifest.members.iter().enumerate() {
        let place = Place::Member(number + 1, count);
        verify::copy(reader, member, place, &mut |bytes| {
            draft.write(|out| out.write_all(bytes))
        })?;
    }
    frame::read_end(reader)?;
    draft.publish()
}
