//! The words in which the daemon asks root's half for copies of volumes, and in which that answers.
//!
//! A request is a file below `run/monopod/rescue`, the answer one below `run/monopod/rescue-answers`.
//! The two are written by different users, and neither believes the other more than these types say.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::update::ReleaseId;
use crate::engine::volume_name;
use crate::paths::Paths;
use crate::spec::types::Workload;

/// Most bytes of a request or an answer.
pub const LONGEST: u64 = 64 << 10;

/// Most volumes of a request.
pub const MOST: usize = 64;

/// A name that the engine may give a volume: nothing that leads anywhere in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// From its text; `None` if no engine would call a volume so.
    pub fn new(text: &str) -> Option<Self> {
        let good = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 255
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        good.then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or_else(|| "there is a volume's name that no engine gives".to_owned())
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

/// Whether systemd's units take the requests: they look at the root `/`. Elsewhere, and on a machine without systemd, a
/// daemon that is root starts root's half itself.
pub fn units_watch(paths: &Paths) -> bool {
    paths.root() == Path::new("/") && Path::new("/run/systemd/system").is_dir()
}

/// A volume that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotVolume {
    /// The engine's name for it.
    pub name: VolumeName,
    /// Most bytes that it may have on disk.
    pub limit: u64,
}

impl SnapshotVolume {
    /// Those that a workload wants copied.
    pub fn of(workload: &Workload) -> Vec<Self> {
        let volumes = workload.volumes.iter();
        volumes
            .filter_map(|(name, volume)| {
                // Both parts have been checked: the name is always a good one.
                let name = VolumeName::new(&volume_name(&workload.name, name))?;
                let limit = volume.snapshot?;
                Some(Self { name, limit })
            })
            .collect()
    }
}

/// What is asked for: the request's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Copy the volumes, in place of an earlier copy for the same release.
    Snapshot,
    /// Put them back as they were copied. May be asked for again at any time, until it is forgotten.
    Restore,
    /// Remove the copy.
    Forget,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Snapshot, Self::Restore, Self::Forget];

    /// Its file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Forget => "forget",
        }
    }

    /// The name of the answer's file.
    pub fn answer(self, release: &ReleaseId) -> String {
        format!("{}-{release}", self.file())
    }
}

/// A request's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Tells this request's answer from an earlier one's.
    pub number: u64,
    /// The release that is to be tried: what the copy is for.
    pub release: ReleaseId,
    /// The volumes; none to forget.
    pub volumes: Vec<SnapshotVolume>,
}

/// An answer's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// That of the request.
    pub number: u64,
    /// What came of it.
    pub state: State,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being done; the number changes while something moves.
    Moved(u64),
    /// Done, and on disk.
    Ok,
    /// Not done, for this reason.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_anywhere_is_no_name() {
        for name in ["w-data", "a", "A.b_c-9", &"x".repeat(255)] {
            assert!(VolumeName::new(name).is_some(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "-a",
            ".a",
            "_a",
            "a/b",
            "/a",
            "a\0",
            "a b",
            "a\n",
            "\u{e4}",
            &"x".repeat(256),
        ] {
            assert_eq!(VolumeName::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_request_says_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Request>(text).ok();
        let good =
            r#"{"number":7,"release":"0123456789ab","volumes":[{"name":"w-data","limit":1}]}"#;
        let request = read(good).expect("good");
        assert_eq!(serde_json::to_string(&request).expect("text"), good);
        for (from, to) in [
            ("w-data", "../data"),
            ("w-data", "a/b"),
            ("w-data", ""),
            ("0123456789ab", "0123456789AB"),
            ("0123456789ab", "../456789ab"),
            ("0123456789ab", "0123456789"),
            ("\"limit\":1", "\"limit\":-1"),
            ("\"limit\":1", "\"limit\":1,\"path\":\"/etc\""),
            ("\"number\":7,", ""),
            ("\"number\":7", "\"number\":7,\"root\":\"/\""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
