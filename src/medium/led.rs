//! An LED that says what becomes of a stick, by the kernel's own triggers.
//!
//! It is a courtesy: an LED that is not there or does not obey is told once and changes nothing else.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::paths::Paths;

/// What it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Blinks each second: leave the stick in.
    Reading,
    /// On: all is well, the stick can be removed.
    Good,
    /// Blinks five times a second: something is wrong; the stick can be removed.
    Bad,
}

/// The timer's files: how long on and how long off, milliseconds.
const HALVES: [&str; 2] = ["delay_on", "delay_off"];

/// An LED, or none.
#[derive(Debug)]
pub struct Led {
    folder: Option<PathBuf>,
}

impl Led {
    /// The LED of this name.
    pub fn new(paths: &Paths, name: Option<&str>) -> Self {
        Self {
            folder: name.map(|name| paths.leds().join(name)),
        }
    }

    /// Has the kernel blink it from now on, and lets `group` say how. For root.
    pub fn prepare(&mut self, group: Option<u32>) {
        self.told(|folder| {
            write(folder, "trigger", "timer")?;
            for name in HALVES {
                let path = folder.join(name);
                let given = chown(&path, None, group)
                    .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o664)));
                given.map_err(|error| (path, error))?;
            }
            Ok(())
        });
    }

    /// Shows it from now on; the LED has been prepared.
    pub fn show(&mut self, what: Show) {
        // Never off is on.
        let halves = match what {
            Show::Reading => ["500", "500"],
            Show::Good => ["500", "0"],
            Show::Bad => ["100", "100"],
        };
        self.told(|folder| {
            let mut halves = HALVES.into_iter().zip(halves);
            halves.try_for_each(|(name, half)| write(folder, name, half))
        });
    }

    fn told(&mut self, deed: impl FnOnce(&Path) -> Result<(), (PathBuf, io::Error)>) {
        if let Some(folder) = &self.folder
            && let Err((path, error)) = deed(folder)
        {
            warn!(
                "the LED of node.toml shows nothing: {}: {error}",
                path.display()
            );
            self.folder = None;
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), (PathBuf, io::Error)> {
    let path = folder.join(name);
    // None is made that the kernel has not.
    let opened = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| (path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_is_told() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let folder = paths.leds().join("green:usb");
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["trigger", "delay_on", "delay_off"] {
            fs::write(folder.join(name), "").expect("a file");
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
        let mut led = Led::new(&paths, Some("green:usb"));
        led.prepare(None);
        assert_eq!(read("trigger"), "timer");
        for (what, on, off) in [
            (Show::Reading, "500", "500"),
            (Show::Good, "500", "0"),
            (Show::Bad, "100", "100"),
        ] {
            led.show(what);
            assert_eq!(
                (read("delay_on").as_str(), read("delay_off").as_str()),
                (on, off)
            );
        }
        // Nothing is made where nothing is.
        Led::new(&paths, Some("red")).show(Show::Bad);
        Led::new(&paths, None).show(Show::Bad);
        let count = fs::read_dir(paths.leds()).expect("a folder").count();
        assert_eq!(count, 1);
    }
}
