//! The ledgers' files. What is in them is the core's to say.
//!
//! The durable one is replaced by a temporary file in the same folder, fsync, rename, fsync of the
//! folder; the one before stays beside it as `ledger.old`. It is written when the core says so and at
//! no other time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::{error, warn};

use crate::core::ledger::{self, Durable, LedgerError, Volatile};
use crate::exit::Exit;
use crate::paths::Paths;

/// Reads the durable ledger. One that does not exist yet is empty.
///
/// A damaged one is put aside under its own name and reported, and the one before it counts; if that
/// is damaged too, every budget counts as spent, because nobody knows how much of it was.
///
/// # Errors
///
/// [`Exit::Refused`] if a newer monopod wrote it, [`Exit::Failed`] if it cannot be read, each with a
/// sentence for people. Nothing has been touched then.
pub fn read(paths: &Paths) -> Result<Durable, (Exit, String)> {
    let path = paths.ledger();
    let told = |path: &Path, error: &dyn std::fmt::Display| {
        format!("the ledger {} cannot be used: {error}", path.display())
    };
    match one(&path) {
        Ok(Some(durable)) => Ok(durable),
        Ok(None) => Ok(Durable::default()),
        Err(ReadError::Ledger(error @ LedgerError::Newer { .. })) => {
            Err((Exit::Refused, told(&path, &error)))
        }
        Err(ReadError::Io(error)) => Err((Exit::Failed, told(&path, &error))),
        Err(ReadError::Ledger(error @ LedgerError::Damaged(_))) => {
            let aside = path.with_extension("damaged");
            let kept = fs::rename(&path, &aside);
            error!(
                "{}; {}",
                told(&path, &error),
                match kept {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("it cannot be put aside either: {error}"),
                }
            );
            if let Ok(Some(durable)) = one(&old(&path)) {
                warn!("the ledger before it counts in its place");
                return Ok(durable);
            }
            warn!("the budgets that it held count as spent until the workload has been stable");
            Ok(Durable::spent())
        }
    }
}

/// Writes the durable ledger.
///
/// # Errors
///
/// A file operation's. The ledger on disk is the old one then, or the new one, and never half.
pub fn write(paths: &Paths, durable: &Durable) -> io::Result<()> {
    let path = paths.ledger();
    let folder = paths.state();
    fs::create_dir_all(&folder)?;
    let new = path.with_extension("new");
    {
        let mut file = File::create(&new)?;
        file.write_all(ledger::encode(durable).as_bytes())?;
        file.sync_all()?;
    }
    if path.exists() {
        let before = old(&path);
        match fs::remove_file(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::hard_link(&path, &before)?;
    }
    fs::rename(&new, &path)?;
    File::open(&folder)?.sync_all()
}

/// Reads the volatile ledger. Its loss is harmless, so whatever cannot be read is empty.
pub fn read_volatile(paths: &Paths) -> Volatile {
    fs::read(volatile(paths))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes the volatile ledger. A failure is logged and otherwise harmless.
pub fn record(paths: &Paths, record: &Volatile) {
    let path = volatile(paths);
    let new = path.with_extension("new");
    let written = serde_json::to_vec(record)
        .map_err(io::Error::other)
        .and_then(|bytes| fs::write(&new, bytes))
        .and_then(|()| fs::rename(&new, &path));
    if let Err(error) = written {
        warn!("cannot write {}: {error}", path.display());
    }
}

fn volatile(paths: &Paths) -> PathBuf {
    paths.run().join("volatile.json")
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("old")
}

enum ReadError {
    Io(io::Error),
    Ledger(LedgerError),
}

fn one(path: &Path) -> Result<Option<Durable>, ReadError> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes)
                .map_err(|_| ReadError::Ledger(LedgerError::Damaged("not text")))?;
            ledger::decode(&text).map(Some).map_err(ReadError::Ledger)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReadError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(count: u32) -> Durable {
        Durable {
            withheld: count,
            ..Durable::default()
        }
    }

    #[test]
    fn a_damaged_ledger_is_put_aside_and_the_one_before_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        assert_eq!(read(&paths), Ok(withheld(0)));
        write(&paths, &withheld(1)).expect("written");
        write(&paths, &withheld(2)).expect("written");
        assert_eq!(read(&paths), Ok(withheld(2)));
        fs::write(paths.ledger(), "monopod-led").expect("torn");
        assert_eq!(read(&paths), Ok(withheld(1)));
        let damaged = paths.ledger().with_extension("damaged");
        assert_eq!(fs::read(damaged).expect("kept"), b"monopod-led");
    }

    #[test]
    fn with_nothing_left_to_read_every_budget_is_spent() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        write(&paths, &withheld(1)).expect("written");
        fs::write(paths.ledger(), [0xff, 0xfe]).expect("torn");
        assert_eq!(read(&paths), Ok(Durable::spent()));
    }

    #[test]
    fn a_newer_ledger_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        write(&paths, &withheld(1)).expect("written");
        let newer = ledger::encode(&withheld(1)).replacen("ledger 1", "ledger 9", 1);
        fs::write(paths.ledger(), &newer).expect("written");
        let (exit, error) = read(&paths).expect_err("refused");
        assert_eq!(exit, Exit::Refused);
        assert!(error.contains("newer monopod"), "{error}");
        assert_eq!(fs::read_to_string(paths.ledger()).expect("there"), newer);
    }
}
