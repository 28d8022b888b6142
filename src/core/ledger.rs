//! What is remembered: the records, and their text form. Reading and writing the files is the shell's.
//!
//! The durable ledger is two lines of text, so that a technician can read it and `cat` can copy it:
//!
//! ```text
//! monopod-ledger 1 8b1a9953c4611296a827abf8c47804d7...
//! {"withheld":1}
//! ```
//!
//! The first names the format's version and the SHA-256 of the second, newline included. It is the
//! lowest version that can say what is said, so that an older program can be gone back to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::core::reboots::Reboots;
use crate::core::time::Time;
use crate::core::update::{Book, ReleaseId};
use crate::spec::types::Role;

/// The highest version that this program writes. A higher one is refused, never guessed at.
///
/// Since version 2 there are reboots, since version 3 releases.
pub const VERSION: u32 = 3;

const MAGIC: &str = "monopod-ledger";

/// What must survive a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// The ladder's budgets.
    pub budgets: Budgets,
    /// The releases.
    pub book: Book,
}

/// A part of the durable ledger. Each has one writer, and is written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The ladder's.
    Budgets(Budgets),
    /// The releases'.
    Book(Box<Book>),
}

/// Names an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ladder's.
    Budgets,
    /// The releases'.
    Book,
}

impl Entry {
    /// Which part it is.
    pub fn part(&self) -> Part {
        match self {
            Self::Budgets(_) => Part::Budgets,
            Self::Book(_) => Part::Book,
        }
    }
}

impl Durable {
    /// It stands for a ledger that nobody can read any more: every budget counts as spent, since nobody
    /// knows how much of it was, and no release is known.
    pub fn unreadable() -> Self {
        Self {
            budgets: Budgets::spent(),
            book: Book::default(),
        }
    }

    /// The whole with this part as it is now.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        match entry {
            Entry::Budgets(budgets) => self.budgets = budgets,
            Entry::Book(book) => self.book = *book,
        }
        self
    }
}

/// The ladder's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// How often the watchdog has been withheld since the workload was last stable.
    pub withheld: u32,
    /// The reboots that were asked for, as long as they count.
    pub reboots: Reboots,
}

/// The ledger's second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    withheld: u32,
    #[serde(default, skip_serializing_if = "Reboots::is_empty")]
    reboots: Reboots,
    #[serde(default, skip_serializing_if = "Book::is_empty")]
    releases: Book,
}

impl Body {
    /// The lowest version that can say it.
    fn version(&self) -> u32 {
        match (self.releases.is_empty(), self.reboots.is_empty()) {
            (false, _) => VERSION,
            (true, false) => 2,
            (true, true) => 1,
        }
    }
}

impl Budgets {
    /// Every budget is spent.
    pub fn spent() -> Self {
        Self {
            withheld: u32::MAX,
            reboots: Reboots::all_spent(),
        }
    }
}

/// What may be lost with a reboot, and should not be lost with the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volatile {
    /// Each container's record.
    pub containers: BTreeMap<Role, Record>,
    /// The daemon that wrote this had withheld the watchdog: its successor is the ladder's next try.
    pub withholding: bool,
    /// What the engine's rung has used.
    #[serde(default)]
    pub engine: EngineRecord,
    /// The daemon that wrote this was told to end, and did.
    #[serde(default)]
    pub orderly: bool,
    /// The containers whose apps have said that this is no moment for an update.
    #[serde(default)]
    pub locks: BTreeSet<Role>,
    /// The release that was on trial, and since when: a daemon that is started anew does not begin its time anew.
    #[serde(default)]
    pub trial: Option<(ReleaseId, Time)>,
}

/// The restarts of the engine's unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// How many since the engine was last well for long enough.
    pub restarts: u32,
    /// The last one has until this time.
    pub hold: Time,
}

/// One container's failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Failures since it was last stable: they choose the rung.
    pub strikes: u32,
    /// Failures in quick succession: they choose the delay.
    pub quick: u32,
    /// Starts after the first.
    pub restarts: u32,
    /// It has run once.
    pub started: bool,
    /// Failures since it was last stable that were the engine's and not its own.
    #[serde(default)]
    pub excused: u32,
    /// The rebuild of its image has left layers as they were, because another container's image has them, too: it
    /// has one more, for which that one stops.
    #[serde(default)]
    pub spared: bool,
    /// No attempt before this time.
    pub hold: Time,
    /// The container whose network it shares: that one's ID, and its process when this one was started (0 before).
    pub joined: Option<(String, u32)>,
}

impl Record {
    /// Forgets every failure.
    pub(crate) fn clear(&mut self) {
        self.strikes = 0;
        self.quick = 0;
        self.excused = 0;
        self.spared = false;
    }
}

/// Why a ledger cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Not a ledger, cut off, or changed by other hands than ours.
    #[error("it is damaged ({0})")]
    Damaged(&'static str),
    /// A newer monopod wrote it.
    #[error(
        "a newer monopod wrote it (version {found}; this one knows {VERSION}): install that one again"
    )]
    Newer {
        /// The version it names.
        found: u32,
    },
}

/// The ledger's text.
pub fn encode(durable: &Durable) -> String {
    // Numbers and strings always become JSON.
    let content = Body {
        withheld: durable.budgets.withheld,
        reboots: durable.budgets.reboots.clone(),
        releases: durable.book.clone(),
    };
    let body = serde_json::to_string(&content).unwrap_or_default() + "\n";
    let version = content.version();
    format!("{MAGIC} {version} {}\n{body}", checksum(&body))
}

/// Reads a ledger's text.
///
/// # Errors
/// [`LedgerError`] says what is wrong with it; there is no default in its place.
pub fn decode(text: &str) -> Result<Durable, LedgerError> {
    let (head, body) = text
        .split_once('\n')
        .ok_or(LedgerError::Damaged("cut off"))?;
    let mut words = head.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(LedgerError::Damaged("not a ledger"));
    }
    let found: u32 = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or(LedgerError::Damaged("no version"))?;
    if found > VERSION {
        return Err(LedgerError::Newer { found });
    }
    if found == 0 {
        return Err(LedgerError::Damaged("no such version"));
    }
    if words.next() != Some(checksum(body).as_str()) || words.next().is_some() {
        return Err(LedgerError::Damaged("wrong checksum"));
    }
    let content: Body =
        serde_json::from_str(body).map_err(|_| LedgerError::Damaged("unknown content"))?;
    if found < content.version() {
        return Err(LedgerError::Damaged(
            "another version than its content is of",
        ));
    }
    Ok(Durable {
        budgets: Budgets {
            withheld: content.withheld,
            reboots: content.reboots,
        },
        book: content.releases,
    })
}

fn checksum(body: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(body.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn a_book() -> Book {
        Book {
            held: true,
            ..Book::default()
        }
    }

    #[test]
    fn releases_are_of_a_version_of_their_own() {
        let durable = Durable {
            budgets: Budgets::default(),
            book: a_book(),
        };
        let text = encode(&durable);
        assert!(text.starts_with("monopod-ledger 3 "), "{text}");
        assert_eq!(decode(&text), Ok(durable));
    }

    #[test]
    fn what_was_written_is_read() {
        let once = Reboots::default().one_more("a-boot", Time(Duration::from_secs(60)));
        for (withheld, reboots, version) in [
            (0, Reboots::default(), 1),
            (1, Reboots::default(), 1),
            (7, once, 2),
            (u32::MAX, Reboots::all_spent(), 2),
        ] {
            let durable = Durable {
                budgets: Budgets { withheld, reboots },
                book: Book::default(),
            };
            let text = encode(&durable);
            assert!(text.starts_with(&format!("monopod-ledger {version} ")));
            assert_eq!(decode(&text), Ok(durable));
        }
    }

    #[test]
    fn every_prefix_and_every_flipped_bit_is_noticed() {
        let whole = encode(&Durable {
            budgets: Budgets {
                withheld: 2,
                reboots: Reboots::default().one_more("a-boot", Time::default()),
            },
            book: a_book(),
        });
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for byte in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone().into_bytes();
                bytes[byte] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(decode(&text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn a_newer_one_is_refused_by_name() {
        let newer = encode(&Durable::default()).replacen("ledger 1", "ledger 4", 1);
        assert_eq!(decode(&newer), Err(LedgerError::Newer { found: 4 }));
    }
}
