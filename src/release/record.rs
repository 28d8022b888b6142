//! `release.json`: what a release is, and where it comes from.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::update::{self, ReleaseId};
use crate::image::normalise;

/// A release, as its folder says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// The workload's name.
    pub workload: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Its images: by reference in familiar form the image's ID, or `None` while only the engine may
    /// know it.
    pub images: BTreeMap<String, Option<String>>,
    /// When it came here, seconds since 1970 by the wall clock; for people only.
    pub made: u64,
}

impl Release {
    /// The ID of the image with this reference, in any spelling.
    pub fn image(&self, reference: &str) -> Option<&str> {
        let familiar = normalise(reference);
        let name = familiar.as_deref().unwrap_or(reference);
        self.images.get(name)?.as_deref()
    }
}

/// Where a release comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The node's own workload file.
    Local,
    /// A bundle whose signature held when it came.
    Bundle {
        /// Its version, as its maker calls it.
        version: String,
        /// Its place in the order of that key's releases.
        sequence: u64,
        /// The ID of the key that signed it.
        key: String,
    },
}

impl From<&Origin> for update::Origin {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Local => Self::Local,
            Origin::Bundle { sequence, key, .. } => Self::Bundle {
                key: key.clone(),
                sequence: *sequence,
            },
        }
    }
}

/// The file's content: the release, and what of its images was not known when it got its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub release: Release,
    /// References whose IDs have become known since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    filled: BTreeSet<String>,
}

impl Record {
    pub fn new(release: Release) -> Self {
        Self {
            release,
            filled: BTreeSet::new(),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map_err(|error| format!("{} is not usable: {error}", super::RECORD))
    }

    pub fn text(&self) -> Vec<u8> {
        // Plain values with string keys always become JSON; if one did not, its release would be damaged.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The id of this content.
    pub fn id(&self, workload: &[u8], hook: Option<&[u8]>) -> ReleaseId {
        let mut images = self.release.images.clone();
        for name in &self.filled {
            images.insert(name.clone(), None);
        }
        ReleaseId::of(workload, &images, hook)
    }

    /// Takes an image's ID if there was none; whether that is so.
    pub fn fill(&mut self, name: &str, image: &str) -> bool {
        match self.release.images.get_mut(name) {
            Some(unknown @ None) => {
                *unknown = Some(image.to_owned());
                self.filled.insert(name.to_owned());
                true
            }
            Some(Some(_)) | None => false,
        }
    }
}
