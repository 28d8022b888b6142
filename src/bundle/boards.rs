//! What this machine is, as far as a bundle may ask for it.
//!
//! Boards are what the machine itself says: each entry of the device tree's `compatible`
//! (`raspberrypi,4-model-b`), or the product's and the board's name of the firmware's DMI tables.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::Refusal;
use super::manifest::{Manifest, Version};
use crate::image::host_architectures;
use crate::paths::Paths;

/// A machine that a release should run on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Architectures that it runs, in Go's words, its own first.
    pub architectures: Vec<String>,
    /// Its names for itself.
    pub boards: Vec<String>,
    /// The monopod on it.
    pub version: Version,
}

impl Machine {
    /// This one.
    pub fn here(paths: &Paths) -> Self {
        let mut boards: Vec<String> = read(&paths.device_tree())
            .split('\0')
            .map(|name| name.trim().to_owned())
            .collect();
        for name in ["product_name", "board_name"] {
            boards.push(read(&paths.dmi().join(name)).trim().to_owned());
        }
        boards.retain(|name| !name.is_empty());
        Self {
            architectures: host_architectures(),
            boards,
            version: Version::own(),
        }
    }

    /// Whether a release is for this machine.
    pub fn check(&self, manifest: &Manifest) -> Result<(), Refusal> {
        if let Some(wanted) = manifest.minimum_monopod
            && wanted > self.version
        {
            return Err(Refusal::Version {
                wanted: wanted.to_string(),
                found: self.version.to_string(),
            });
        }
        let fits = |wanted: &[String], found: &[String]| {
            wanted.is_empty() || wanted.iter().any(|name| found.contains(name))
        };
        if !fits(&manifest.architectures, &self.architectures) {
            return Err(Refusal::Architecture {
                wanted: list(&manifest.architectures),
                found: list(&self.architectures),
            });
        }
        if !fits(&manifest.boards, &self.boards) {
            return Err(Refusal::Board {
                wanted: list(&manifest.boards),
                found: list(&self.boards),
            });
        }
        Ok(())
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none that has a name".to_owned(),
        names => names
            .iter()
            .take(8)
            .map(|name| name.escape_debug().to_string())
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// A small file of the kernel's; nothing if it is not there.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}
