//! What a node has that runs an earlier release.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::error::BundleError;
use super::keys::Trust;
use super::manifest::Kind;
use super::verify;
use crate::image::Digest;

/// The layers of an earlier bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Those that it has, and those that it left out itself.
    pub layers: BTreeSet<Digest>,
}

/// Reads the front of an earlier bundle. Its signature must hold: what is left out of a release must
/// be what a node really took, not what some file says.
pub fn since(old: &Path, trust: &Trust) -> Result<Since, BundleError> {
    let file = File::open(old).map_err(BundleError::Read)?;
    let opened = verify::open(&mut BufReader::new(file), trust, None)?;
    let manifest = opened.manifest;
    let members = manifest.members.iter().chain(&manifest.absent);
    Ok(Since {
        layers: members
            .filter(|member| member.kind == Kind::Layer)
            .map(|member| member.digest)
            .collect(),
    })
}
