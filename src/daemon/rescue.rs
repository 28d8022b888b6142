//! Asks for what only root may do: a restart of the engine's unit, a reboot of the node.
//!
//! A request is a file of one line below `run/monopod/rescue`, which says why. A path unit starts
//! `monopod rescue` when there is one, and that takes the file away before it acts. This module never
//! acts itself, and leaves no request behind that nobody waits for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use crate::core::api::Rescue;
use crate::paths::Paths;

/// How long a request may lie.
const TAKEN_BY: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(250);

const ALL: [Rescue; 2] = [Rescue::Engine, Rescue::Reboot];

/// Where a request is put. Under that name it is whole from the beginning.
pub fn request(paths: &Paths, rescue: Rescue) -> PathBuf {
    paths.rescue().join(match rescue {
        Rescue::Engine => "engine",
        Rescue::Reboot => "reboot",
    })
}

/// Takes back what an earlier daemon asked for and nobody has taken: its reasons are not today's.
pub fn clear(paths: &Paths) {
    for rescue in ALL {
        let path = request(paths, rescue);
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
    let path = request(paths, rescue);
    write(paths, &path, why)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let deadline = tokio::time::Instant::now() + patience;
    while path.exists() {
        if tokio::time::Instant::now() >= deadline {
            return match fs::remove_file(&path) {
                Ok(()) => Err(format!(
                    "nobody has taken {} in {} s; is monopod-rescue.path active?",
                    path.display(),
                    patience.as_secs()
                )),
                // It was taken at the last moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(format!("cannot take {} back: {error}", path.display())),
            };
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn write(paths: &Paths, path: &Path, why: &str) -> io::Result<()> {
    fs::create_dir_all(paths.rescue())?;
    // Not in the folder that is watched.
    let new = paths.run().join("rescue.new");
    fs::write(&new, format!("{}\n", why.replace('\n', " ")))?;
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
            let path = request(&paths, rescue);
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
        assert!(!request(&paths, Rescue::Reboot).exists());
    }

    #[test]
    fn what_an_earlier_daemon_asked_for_is_taken_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(folder.path());
        let path = request(&paths, Rescue::Reboot);
        write(&paths, &path, "long ago").expect("written");
        assert!(path.exists());
        clear(&paths);
        assert!(!path.exists());
        clear(&paths);
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
