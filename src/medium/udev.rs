//! What udev has found out about a device, from its database.

use std::fs::File;
use std::io::Read;

use crate::paths::Paths;

/// Most bytes of an entry.
const ENTRY: u64 = 64 << 10;

/// What a label for us begins with. FAT keeps no small letters.
const LABEL: &str = "MONOPOD";

/// What matters here of a block device's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The file system's label.
    pub label: Option<String>,
    /// The file system's type, in udev's words.
    pub kind: Option<String>,
}

impl Entry {
    /// The entry of the block device `major:minor`; empty where there is none.
    pub fn of(paths: &Paths, major: u64, minor: u64) -> Self {
        let path = paths.udev().join(format!("b{major}:{minor}"));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(ENTRY).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix("E:")?
                        .strip_prefix(key)?
                        .strip_prefix('=')
                })
                .filter(|value| !value.is_empty())
        };
        Self {
            label: value("ID_FS_LABEL_ENC")
                .map(decoded)
                .or_else(|| value("ID_FS_LABEL").map(str::to_owned)),
            kind: value("ID_FS_TYPE").map(str::to_owned),
        }
    }

    /// Whether the label is one for monopod.
    pub fn is_ours(&self) -> bool {
        let start = self
            .label
            .as_deref()
            .and_then(|label| label.get(..LABEL.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(LABEL))
    }
}

/// A text in which udev wrote some bytes as `\xNN`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let digits = behind.get(..2).unwrap_or_default();
        if let Ok(byte) = u8::from_str_radix(digits, 16) {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.extend_from_slice(b"\\x");
            rest = behind;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for (entry, label, ours) in [
            ("E:ID_FS_LABEL=MONOPOD", Some("MONOPOD"), true),
            (
                "E:ID_FS_LABEL_ENC=MONOPOD\\x20UP\nE:ID_FS_LABEL=MONOPOD_UP",
                Some("MONOPOD UP"),
                true,
            ),
            ("E:ID_FS_LABEL_ENC=monopod-7", Some("monopod-7"), true),
            ("E:ID_FS_LABEL_ENC=MONOPO", Some("MONOPO"), false),
            ("E:ID_FS_LABEL_ENC=MY-MONOPOD", Some("MY-MONOPOD"), false),
            ("E:ID_FS_LABEL_ENC=monopo\\xc3\\xa4", Some("monopoä"), false),
            (
                "E:ID_FS_LABEL_ENC=\\x\\xZZ\\x4",
                Some("\\x\\xZZ\\x4"),
                false,
            ),
            ("E:ID_FS_LABEL=\nE:ID_FS_TYPE=vfat", None, false),
            // Another property that ends alike; a tag.
            ("E:XID_FS_LABEL=MONOPOD\nG:ID_FS_LABEL=MONOPOD", None, false),
            ("", None, false),
        ] {
            let found = Entry::parse(entry);
            assert_eq!(found.label.as_deref(), label, "{entry}");
            assert_eq!(found.is_ours(), ours, "{entry}");
        }
        let kind = Entry::parse("S:disk/by-id/x\nE:ID_FS_TYPE=exfat\n").kind;
        assert_eq!(kind.as_deref(), Some("exfat"));
    }

    #[test]
    fn an_entry_is_read_by_number() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        assert_eq!(Entry::of(&paths, 8, 1), Entry::default());
        std::fs::create_dir_all(paths.udev()).expect("a folder");
        std::fs::write(paths.udev().join("b8:1"), "E:ID_FS_LABEL=MONOPOD\n").expect("a file");
        assert!(Entry::of(&paths, 8, 1).is_ours());
        assert!(!Entry::of(&paths, 8, 17).is_ours());
    }
}
