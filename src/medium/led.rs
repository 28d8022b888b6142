//! An LED that says what becomes of a stick, by the kernel's own triggers.
//!
//! It is a courtesy: an LED that is not there or does not obey is told once and changes nothing else.

use std::fs;
use std::io;
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

    /// Shows it from now on.
    pub fn show(&mut self, what: Show) {
        if let Some(folder) = &self.folder
            && let Err((path, error)) = set(folder, what)
        {
            warn!("the LED of node.toml shows nothing: {}: {error}", path.display());
            self.folder = None;
        }
    }
}

fn set(folder: &Path, what: Show) -> Result<(), (PathBuf, io::Error)> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        // None is made that the kernel has not.
        let opened = fs::OpenOptions::new().write(true).truncate(true).open(&path);
        opened
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|error| (path, error))
    };
    let blink = |half: &str| {
        write("trigger", "timer")?;
        write("delay_on", half)?;
        write("delay_off", half)
    };
    match what {
        Show::Reading => blink("500"),
        Show::Bad => blink("100"),
        Show::Good => {
            write("trigger", "none")?;
            let most = fs::read_to_string(folder.join("max_brightness")).unwrap_or_default();
            let most = most.trim();
            write("brightness", if most.is_empty() { "1" } else { most })
        }
    }
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
        for (name, text) in [
            ("trigger", "[none] timer"),
            ("brightness", "0"),
            ("max_brightness", "255\n"),
            ("delay_on", ""),
            ("delay_off", ""),
        ] {
            fs::write(folder.join(name), text).expect("a file");
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
        let mut led = Led::new(&paths, Some("green:usb"));
        for (what, trigger, delay, brightness) in [
            (Show::Reading, "timer", "500", "0"),
            (Show::Good, "none", "500", "255"),
            (Show::Bad, "timer", "100", "255"),
        ] {
            led.show(what);
            assert_eq!(read("trigger"), trigger, "{what:?}");
            assert_eq!((read("delay_on"), read("delay_off")), (delay.to_owned(), delay.to_owned()));
            assert_eq!(read("brightness"), brightness, "{what:?}");
        }
        // Nothing is made where nothing is.
        Led::new(&paths, Some("red")).show(Show::Bad);
        Led::new(&paths, None).show(Show::Bad);
        let count = fs::read_dir(paths.leds()).expect("a folder").count();
        assert_eq!(count, 1);
    }
}
