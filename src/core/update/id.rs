//! A release's name: the first digits of a hash over its content.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a release by its content: 12 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

impl ReleaseId {
    /// How many digits it has.
    pub const DIGITS: usize = 12;

    /// From its digits; `None` if `text` is anything else.
    pub fn new(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == Self::DIGITS && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// The id of a content: the workload file's bytes, its images (by reference the image's ID, or `None`
    /// where only the engine knows it) and the pre-switch hook's bytes.
    ///
    /// The first digits of a SHA-256 over one line of JSON, in which the two files are digests. Whoever
    /// brings the same content names it the same.
    pub fn of(
        workload: &[u8],
        images: &BTreeMap<String, Option<String>>,
        hook: Option<&[u8]>,
    ) -> Self {
        #[derive(Serialize)]
        struct Content<'c> {
            format: u32,
            workload: String,
            images: &'c BTreeMap<String, Option<String>>,
            hook: Option<String>,
        }
        let content = Content {
            format: 1,
            workload: hex(workload),
            images,
            hook: hook.map(hex),
        };
        // Plain values with string keys always become JSON.
        let mut digits = hex(&serde_json::to_vec(&content).unwrap_or_default());
        digits.truncate(Self::DIGITS);
        Self(digits)
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or_else(|| format!("{text:?} is no release id"))
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> Self {
        id.0
    }
}

/// The SHA-256 of some bytes, in lower-case digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twelve_lower_case_digits() {
        assert_eq!(
            ReleaseId::new("0123456789ab").map(String::from),
            Some("0123456789ab".to_owned())
        );
        for text in [
            "",
            "0123456789a",
            "0123456789abc",
            "0123456789AB",
            "0123456789ag",
            "../456789abc",
            "01234 6789ab",
            "é123456789a",
        ] {
            assert_eq!(ReleaseId::new(text), None, "{text}");
            assert!(serde_json::from_value::<ReleaseId>(text.into()).is_err());
        }
    }

    #[test]
    fn the_id_follows_from_all_of_the_content_and_from_nothing_else() {
        let images = |images: &[(&str, Option<&str>)]| -> BTreeMap<String, Option<String>> {
            images
                .iter()
                .map(|(name, id)| ((*name).to_owned(), id.map(str::to_owned)))
                .collect()
        };
        let one = images(&[("a:1", Some("sha256:00")), ("b:1", None)]);
        let id = ReleaseId::of(b"name = \"x\"", &one, None);
        // For ever: a node's ledger and the fleet's records hold such ids. The digits are those of
        // printf '{"format":1,"workload":"...","images":{...},"hook":null}' | sha256sum.
        assert_eq!(id.as_str(), "f21c5d47f657");
        let again = images(&[("b:1", None), ("a:1", Some("sha256:00"))]);
        assert_eq!(ReleaseId::of(b"name = \"x\"", &again, None), id);
        let others = [
            ReleaseId::of(b"name = \"y\"", &one, None),
            ReleaseId::of(b"name = \"x\"", &one, Some(b"")),
            ReleaseId::of(b"name = \"x\"", &one, Some(b"#!/bin/sh")),
            ReleaseId::of(
                b"name = \"x\"",
                &images(&[("a:1", Some("sha256:00"))]),
                None,
            ),
            ReleaseId::of(
                b"name = \"x\"",
                &images(&[("a:1", Some("sha256:01")), ("b:1", None)]),
                None,
            ),
            ReleaseId::of(
                b"name = \"x\"",
                &images(&[("a:1", Some("sha256:00")), ("b:1", Some("sha256:00"))]),
                None,
            ),
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(*other, id);
            assert!(!others[..number].contains(other));
        }
    }
}
