//! Asks for what only root may do: a restart of the engine's unit, a reboot of the node; and how that is
//! asked for, for [`super::volumes`] too.
//!
//! A request is a file below `run/monopod/rescue`; here it has one line, which says why. A path unit
//! starts root's half when there is one, and that takes the file away before it acts. This module never
//! acts itself, and leaves no request behind that nobody waits for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::core::api::Rescue;
use crate::paths::Paths;
use crate::volumes::Deed;

/// How long a request may lie.
pub(super) const TAKEN_BY: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
pub(super) const LOOK: Duration = Duration::from_millis(250);

const ALL: [Rescue; 2] = [Rescue::Engine, Rescue::Reboot];

/// The unit that looks for these requests.
const UNIT: &str = "monopod-rescue.path";

fn name(rescue: Rescue) -> &'static str {
    match rescue {
        Rescue::Engine => "engine",
        Rescue::Reboot => "reboot",
    }
}

/// A request that was put where root's half looks.
#[derive(Debug)]
pub(super) struct Lying {
    path: PathBuf,
    /// What is to look for it.
    unit: &'static str,
}

impl Lying {
    /// Puts a request there. Under its name it is whole from the beginning.
    pub(super) fn put(
        paths: &Paths,
        name: &str,
        text: &str,
        unit: &'static str,
    ) -> Result<Self, String> {
        let path = paths.rescue().join(name);
        match write(paths, &path, text) {
            Ok(()) => Ok(Self { path, unit }),
            Err(error) => Err(format!("cannot write {}: {error}", path.display())),
        }
    }

    /// Whether somebody has taken it.
    pub(super) fn is_taken(&self) -> bool {
        !self.path.exists()
    }

    /// Says that somebody waits for it still: root's half leaves aside what is old.
    pub(super) fn keep_young(&self) {
        // If it is taken at this moment, it need not be young.
        let _ = fs::File::open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Takes it back because nobody came.
    ///
    /// # Errors
    ///
    /// It lay there to the end, or lies there still; `Ok` if it was taken at the last moment.
    pub(super) fn take_back(&self, waited: Duration) -> Result<(), String> {
        match fs::remove_file(&self.path) {
            Ok(()) => Err(format!(
                "nobody has taken {} in {} s; is {} active?",
                self.path.display(),
                waited.as_secs(),
                self.unit
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!("cannot take {} back: {error}", self.path.display())),
        }
    }
}

/// Takes back what an earlier daemon asked for and nobody has taken: its reasons are not today's.
pub fn clear(paths: &Paths) {
    let names = ALL.map(name).into_iter().chain(Deed::ALL.map(Deed::file));
    for path in names.map(|name| paths.rescue().join(name)) {
        match fs::remove_file(&path) {
            Ok(()) => warn!("{} was asked for and not taken", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("cannot remove {}: {error}", path.display()),
        }
    }
}

/// Asks, and waits until the request is taken.
///
/// # Errors
///
/// Nobody has taken it in time, or it could not be written; it is gone then.
pub async fn ask(paths: &Paths, rescue: Rescue, why: &str) -> Result<(), String> {
    ask_within(paths, rescue, why, TAKEN_BY).await
}

async fn ask_within(
    paths: &Paths,
    rescue: Rescue,
    why: &str,
    patience: Duration,
) -> Result<(), String> {
    let line = format!("{}\n", why.replace('\n', " "));
    let request = Lying::put(paths, name(rescue), &line, UNIT)?;
    let deadline = tokio::time::Instant::now() + patience;
    while !request.is_taken() {
        if tokio::time::Instant::now() >= deadline {
            return request.take_back(patience);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn write(paths: &Paths, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(paths.rescue())?;
    // Not in the folder that is watched.
    let new = paths.run().join("rescue.new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    #[test]
    fn a_request_is_whole_and_its_taking_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        for rescue in ALL {
            let path = paths.rescue().join(name(rescue));
            let taker = {
                let path = path.clone();
                std::thread::spawn(move || {
                    loop {
                        if let Ok(text) = fs::read_to_string(&path) {
                            fs::remove_file(&path).expect("it is there");
                            return text;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                })
            };
            assert_eq!(wait(ask(&paths, rescue, "it is\nsilent")), Ok(()));
            assert_eq!(taker.join().expect("it ends"), "it is silent\n");
        }
    }

    #[test]
    fn what_nobody_takes_is_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        let error = wait(ask_within(
            &paths,
            Rescue::Reboot,
            "why",
            Duration::from_millis(10),
        ))
        .expect_err("nobody is there");
        assert!(error.contains("monopod-rescue.path"), "{error}");
        assert!(!paths.rescue().join("reboot").exists());
    }

    #[test]
    fn what_an_earlier_daemon_asked_for_is_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        for name in ["reboot", "restore"] {
            let path = paths.rescue().join(name);
            write(&paths, &path, "long ago").expect("written");
            assert!(path.exists());
            clear(&paths);
            assert!(!path.exists(), "{name}");
            clear(&paths);
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        fs::create_dir_all(folder.path().join("run")).expect("made");
        fs::write(paths.run(), "no folder").expect("written");
        let error = wait(ask(&paths, Rescue::Engine, "why")).expect_err("it cannot");
        assert!(error.contains("cannot write"), "{error}");
    }
}
