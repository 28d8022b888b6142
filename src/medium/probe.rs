//! Which file system a device holds, by the bytes that each of the four has at a fixed place.
//!
//! The kernel is never asked to find that out: it would offer the device to every driver that it has.

use std::fmt;
use std::io::{self, Read};

/// The file systems that a stick may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSystem {
    /// FAT12, FAT16 and FAT32, with long names.
    Vfat,
    /// exFAT.
    Exfat,
    /// ext4, not its forebears.
    Ext4,
    /// A CD's, with Rock Ridge and Joliet.
    Iso9660,
}

impl FileSystem {
    /// All of them, as a message names them.
    pub const ALL: &'static str = "FAT, exFAT, ext4 and ISO 9660";

    /// The kernel's word, which is also udev's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Ext4 => "ext4",
            Self::Iso9660 => "iso9660",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file system.
    pub kind: FileSystem,
    /// Whether a file can be written to it without a repair first.
    pub clean: bool,
}

/// Why a device is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Another file system, or none.
    #[error("is formatted with {0}, and only {all} are read", all = FileSystem::ALL)]
    Other(String),
    /// More than one.
    #[error("looks like {0} and like {1} at once; format it anew")]
    Both(FileSystem, FileSystem),
    /// Even a read-only mount would write to it.
    #[error(
        "was not unmounted cleanly, and mounting it would write to it; unmount it cleanly on the \
         machine that wrote it (or e2fsck -p there)"
    )]
    Orphans,
}

/// As far as any of the marks are: btrfs has the last one.
const REACH: u64 = 0x1_0048;

/// Where an ext4 superblock begins.
const EXT: usize = 0x400;

/// Looks at the start of a device. `udev` is what udev calls its file system, where it has a word.
///
/// # Errors
///
/// It is none of the four, or cannot be told.
pub fn probe(device: &mut impl Read, udev: Option<&str>) -> Result<Found, Unfit> {
    let mut start = Vec::new();
    device.take(REACH).read_to_end(&mut start)?;
    let start = Start(&start);
    let mut kinds = Vec::new();
    if start.fat() {
        kinds.push(FileSystem::Vfat);
    }
    if start.has(3, b"EXFAT   ") && start.has(510, &[0x55, 0xAA]) {
        kinds.push(FileSystem::Exfat);
    }
    if start.ext4() {
        kinds.push(FileSystem::Ext4);
    }
    if start.has(0x8001, b"CD001") {
        kinds.push(FileSystem::Iso9660);
    }
    // What was there before may have left a mark; udev looks at more than marks.
    if let Some(word) = udev {
        kinds.retain(|kind| kind.as_str() == word);
    }
    let kind = match (kinds.as_slice(), udev) {
        ([kind], _) => *kind,
        ([], Some(word)) => return Err(Unfit::Other(word.to_owned())),
        ([], None) => return Err(Unfit::Other(start.other().to_owned())),
        ([one, two, ..], _) => return Err(Unfit::Both(*one, *two)),
    };
    let clean = match kind {
        FileSystem::Vfat | FileSystem::Exfat => true,
        FileSystem::Iso9660 => false,
        FileSystem::Ext4 if start.orphans() => return Err(Unfit::Orphans),
        FileSystem::Ext4 => start.clean(),
    };
    Ok(Found { kind, clean })
}

/// The first bytes of a device; what is behind them is all zero.
struct Start<'b>(&'b [u8]);

impl Start<'_> {
    fn has(&self, at: usize, mark: &[u8]) -> bool {
        self.0.get(at..at + mark.len()) == Some(mark)
    }

    fn u16(&self, at: usize) -> u16 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn fat(&self) -> bool {
        let kind = self.has(82, b"FAT32   ")
            || [&b"FAT12   "[..], b"FAT16   ", b"FAT     "]
                .iter()
                .any(|mark| self.has(54, mark));
        let jump = self.has(0, &[0xEB]) || self.has(0, &[0xE9]);
        kind && jump && self.has(510, &[0x55, 0xAA])
    }

    fn ext(&self) -> bool {
        self.u16(EXT + 0x38) == 0xEF53
    }

    /// The features that a driver has to know: extents, 64-bit sizes, flexible groups are ext4's. A
    /// journal for other devices has no files.
    fn ext4(&self) -> bool {
        let features = self.u32(EXT + 0x60);
        self.ext() && features & 0x2C0 != 0 && features & 0x8 == 0
    }

    /// Files that were deleted while they were open, which the driver clears away at any mount: a list
    /// in the superblock, or the mark of the file that holds them.
    fn orphans(&self) -> bool {
        self.u32(EXT + 0xE8) != 0 || self.u32(EXT + 0x64) & 0x1_0000 != 0
    }

    /// No journal to be replayed, and the mark of a clean unmount.
    fn clean(&self) -> bool {
        self.u32(EXT + 0x60) & 0x4 == 0 && self.u16(EXT + 0x3A) & 0x3 == 1
    }

    fn other(&self) -> &'static str {
        if self.has(0, b"XFSB") {
            "xfs"
        } else if self.has(3, b"NTFS    ") {
            "ntfs"
        } else if self.has(0x1_0040, b"_BHRfS_M") {
            "btrfs"
        } else if self.ext() {
            "ext2 or ext3"
        } else {
            "nothing that is known here"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with these bytes at these places.
    fn device(marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 0x1_1000];
        for (at, mark) in marks {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        bytes
    }

    const BOOT: (usize, &[u8]) = (510, &[0x55, 0xAA]);
    const JUMP: (usize, &[u8]) = (0, &[0xEB, 0x58, 0x90]);
    const FAT32: (usize, &[u8]) = (82, b"FAT32   ");
    const EXT_MARK: (usize, &[u8]) = (EXT + 0x38, &[0x53, 0xEF, 1, 0]);
    const EXTENTS: (usize, &[u8]) = (EXT + 0x60, &[0xC2, 0x02, 0, 0]);
    const CD: (usize, &[u8]) = (0x8001, b"CD001");

    #[test]
    fn marks() {
        type Row<'r> = (
            &'r [(usize, &'r [u8])],
            Option<&'r str>,
            Result<Found, &'r str>,
        );
        let table: [Row; 19] = [
            (&[JUMP, FAT32, BOOT], None, found(FileSystem::Vfat, true)),
            (
                &[JUMP, (54, b"FAT16   "), BOOT],
                Some("vfat"),
                found(FileSystem::Vfat, true),
            ),
            (&[FAT32, BOOT], None, Err("nothing that is known")),
            (&[JUMP, FAT32], None, Err("nothing that is known")),
            (
                &[JUMP, (3, b"EXFAT   "), BOOT],
                None,
                found(FileSystem::Exfat, true),
            ),
            (&[EXT_MARK, EXTENTS], None, found(FileSystem::Ext4, true)),
            (&[EXT_MARK], None, Err("formatted with ext2 or ext3")),
            // A journal to be replayed; not marked as clean.
            (
                &[EXT_MARK, (EXT + 0x60, &[0xC6, 0x02])],
                None,
                found(FileSystem::Ext4, false),
            ),
            (
                &[EXT_MARK, EXTENTS, (EXT + 0x3A, &[0])],
                None,
                found(FileSystem::Ext4, false),
            ),
            (
                &[EXT_MARK, EXTENTS, (EXT + 0xE8, &[12])],
                None,
                Err("not unmounted cleanly"),
            ),
            (
                &[EXT_MARK, EXTENTS, (EXT + 0x66, &[1])],
                None,
                Err("not unmounted cleanly"),
            ),
            // A journal device.
            (
                &[EXT_MARK, (EXT + 0x60, &[0x48])],
                None,
                Err("ext2 or ext3"),
            ),
            (&[CD], None, found(FileSystem::Iso9660, false)),
            (&[CD], Some("udf"), Err("formatted with udf, and only FAT")),
            (
                &[JUMP, FAT32, BOOT, CD],
                None,
                Err("like vfat and like iso9660"),
            ),
            (
                &[JUMP, FAT32, BOOT, CD],
                Some("iso9660"),
                found(FileSystem::Iso9660, false),
            ),
            // udev's word alone is not enough.
            (&[CD], Some("vfat"), Err("formatted with vfat")),
            (&[(0, b"XFSB")], None, Err("formatted with xfs")),
            (
                &[(0x1_0040, b"_BHRfS_M")],
                None,
                Err("formatted with btrfs"),
            ),
        ];
        for (marks, udev, expected) in table {
            let result = probe(&mut device(marks).as_slice(), udev);
            match (result, expected) {
                (Ok(result), Ok(expected)) => assert_eq!(result, expected, "{marks:?}"),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{marks:?}: {error}");
                }
                (result, expected) => panic!("{marks:?}: {result:?}, not {expected:?}"),
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "a table's row")]
    fn found(kind: FileSystem, clean: bool) -> Result<Found, &'static str> {
        Ok(Found { kind, clean })
    }

    #[test]
    fn a_device_may_be_tiny() {
        for size in [0, 3, 511, 0x43A, 0x8003] {
            let short = &device(&[JUMP, EXT_MARK, CD])[..size];
            let error = probe(&mut &*short, None).expect_err("nothing");
            assert!(matches!(error, Unfit::Other(_)), "{size}: {error}");
        }
    }
}
