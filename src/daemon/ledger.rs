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

/// Reads the durable ledger. One that does not exist yet, nor ever did, is empty.
///
/// One that is damaged or cannot be read is put aside and reported, and the one before it counts; if that
/// is no better, every budget counts as spent, because nobody knows how much of it was. What counts is
/// written in its place, so that the next daemon reads the same.
///
/// # Errors
///
/// [`Exit::Refused`] if a newer monopod wrote it, with a sentence for people. Nothing has been touched
/// then.
pub fn read(paths: &Paths) -> Result<Durable, (Exit, String)> {
    let path = paths.ledger();
    let told = |path: &Path, error: &dyn std::fmt::Display| {
        format!("the ledger {} cannot be used: {error}", path.display())
    };
    match one(&path) {
        Ok(Some(durable)) => Ok(durable),
        // It is replaced and never removed: what was put aside has had no successor.
        Ok(None) if old(&path).exists() || damaged(&path).exists() => {
            error!(
                "the ledger {} is gone, and what is beside it says that there was one",
                path.display()
            );
            Ok(in_its_place(paths))
        }
        Ok(None) => Ok(Durable::default()),
        Err(ReadError::Ledger(error @ LedgerError::Newer { .. })) => {
            Err((Exit::Refused, told(&path, &error)))
        }
        Err(error @ (ReadError::Io(_) | ReadError::Ledger(LedgerError::Damaged(_)))) => {
            let aside = damaged(&path);
            let kept = fs::rename(&path, &aside);
            error!(
                "{}; {}",
                told(&path, &error),
                match kept {
                    Ok(()) => format!("it is kept as {}", aside.display()),
                    Err(error) => format!("it cannot be put aside either: {error}"),
                }
            );
            Ok(in_its_place(paths))
        }
    }
}

/// Looks at the durable ledger and changes nothing; `None` where none has been written yet.
///
/// # Errors
///
/// A sentence for people: it cannot be read, or is damaged (the next daemon puts it aside).
pub fn peek(paths: &Paths) -> Result<Option<Durable>, String> {
    let path = paths.ledger();
    one(&path).map_err(|error| format!("cannot read the ledger {}: {error}", path.display()))
}

/// What counts where there is no ledger to be read: the one before it, or that every budget is spent.
fn in_its_place(paths: &Paths) -> Durable {
    let durable = if let Ok(Some(durable)) = one(&old(&paths.ledger())) {
        warn!("the ledger before it counts in its place");
        durable
    } else {
        warn!("the budgets that it held count as spent until the workload has been stable");
        Durable::unreadable()
    };
    if let Err(error) = write(paths, &durable) {
        // It counts for this daemon, and what is there leads the next one here again.
        warn!("that cannot be written: {error}");
    }
    durable
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

fn damaged(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
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
    use crate::core::ledger::Budgets;

    fn withheld(count: u32) -> Durable {
        Durable {
            budgets: Budgets {
                withheld: count,
                ..Budgets::default()
            },
            ..Durable::default()
        }
    }

    #[test]
    fn a_damaged_ledger_is_put_aside_and_the_one_before_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        assert_eq!(peek(&paths), Ok(None));
        assert_eq!(read(&paths), Ok(withheld(0)));
        write(&paths, &withheld(1)).expect("written");
        write(&paths, &withheld(2)).expect("written");
        assert_eq!(read(&paths), Ok(withheld(2)));
        assert_eq!(peek(&paths), Ok(Some(withheld(2))));
        fs::write(paths.ledger(), "monopod-led").expect("torn");
        assert!(peek(&paths).is_err() && paths.ledger().exists());
        // The second one reads what the first one made of it.
        for reader in ["first", "second"] {
            assert_eq!(read(&paths), Ok(withheld(1)), "{reader}");
        }
        let damaged = paths.ledger().with_extension("damaged");
        assert_eq!(fs::read(damaged).expect("kept"), b"monopod-led");
    }

    #[test]
    fn with_nothing_left_to_read_every_budget_is_spent() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        write(&paths, &withheld(1)).expect("written");
        fs::write(paths.ledger(), [0xff, 0xfe]).expect("torn");
        for reader in ["first", "second"] {
            assert_eq!(read(&paths), Ok(Durable::unreadable()), "{reader}");
        }
    }

    #[test]
    fn a_ledger_that_is_gone_brings_nothing_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        write(&paths, &withheld(1)).expect("written");
        write(&paths, &withheld(2)).expect("written");
        fs::remove_file(paths.ledger()).expect("gone");
        assert_eq!(read(&paths), Ok(withheld(1)));
        fs::remove_file(paths.ledger()).expect("gone");
        fs::remove_file(old(&paths.ledger())).expect("gone");
        fs::write(damaged(&paths.ledger()), "").expect("put aside");
        assert_eq!(read(&paths), Ok(Durable::unreadable()));
    }

    #[test]
    fn a_ledger_that_cannot_be_read_ends_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        // A folder is what root cannot read either.
        fs::create_dir_all(paths.ledger()).expect("a folder");
        for reader in ["first", "second"] {
            assert_eq!(read(&paths), Ok(Durable::unreadable()), "{reader}");
        }
        assert!(damaged(&paths.ledger()).is_dir());
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
