//! Where everything is, below `--root`.
//!
//! The only place that spells monopod's own paths, and the kernel's that it reads. It must never touch them.

use std::path::{Path, PathBuf};

/// The paths of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Paths below `root`; `/` for the real ones.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The root itself. Containers carry it as a label, so that two roots on one engine never touch each other's.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `etc/monopod/workload.toml`.
    pub fn workload(&self) -> PathBuf {
        self.root.join("etc/monopod/workload.toml")
    }

    /// `etc/monopod/workload.d`.
    pub fn workload_d(&self) -> PathBuf {
        self.root.join("etc/monopod/workload.d")
    }

    /// `etc/monopod/node.toml`.
    pub fn node(&self) -> PathBuf {
        self.root.join("etc/monopod/node.toml")
    }

    /// `etc/monopod/keys.d`: whom this node trusts.
    pub fn keys(&self) -> PathBuf {
        self.root.join("etc/monopod/keys.d")
    }

    /// `sys/firmware/devicetree/base/compatible`, which is there for who sees of `/proc` only processes: what a board with a device tree calls itself.
    pub fn device_tree(&self) -> PathBuf {
        self.root.join("sys/firmware/devicetree/base/compatible")
    }

    /// `sys/class/dmi/id`: what a board with PC firmware calls itself.
    pub fn dmi(&self) -> PathBuf {
        self.root.join("sys/class/dmi/id")
    }

    /// `var/lib/monopod`: what survives a reboot.
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/monopod")
    }

    /// `var/lib/monopod/store`: an OCI image layout.
    pub fn store(&self) -> PathBuf {
        self.state().join("store")
    }

    /// `var/lib/monopod/preload`: archives and bundles that are imported at start.
    pub fn preload(&self) -> PathBuf {
        self.state().join("preload")
    }

    /// `var/lib/monopod/ledger`: the durable facts.
    pub fn ledger(&self) -> PathBuf {
        self.state().join("ledger")
    }

    /// `var/lib/monopod/releases`: a folder for each release.
    pub fn releases(&self) -> PathBuf {
        self.state().join("releases")
    }

    /// `var/lib/monopod/incoming`: releases of bundles that wait for the daemon to check them.
    pub fn incoming(&self) -> PathBuf {
        self.state().join("incoming")
    }

    /// `var/lib/monopod/snapshots`: copies of volumes, for a rollback. Root's.
    pub fn snapshots(&self) -> PathBuf {
        self.state().join("snapshots")
    }

    /// `etc/hostname`: what the node is called.
    pub fn hostname(&self) -> PathBuf {
        self.root.join("etc/hostname")
    }

    /// `dev`.
    pub fn dev(&self) -> PathBuf {
        self.root.join("dev")
    }

    /// `sys/class/leds`: the machine's LEDs.
    pub fn leds(&self) -> PathBuf {
        self.root.join("sys/class/leds")
    }

    /// `run/udev/data`: what udev knows of each device.
    pub fn udev(&self) -> PathBuf {
        self.root.join("run/udev/data")
    }

    /// `run/monopod-import`: a folder for each stick that is being read, to mount it on. Root's.
    pub fn media(&self) -> PathBuf {
        self.root.join("run/monopod-import")
    }

    /// `run/monopod`: what may be lost with a reboot.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/monopod")
    }

    /// `run/monopod/rescue`: what the daemon asks of the privileged half, a file each.
    pub fn rescue(&self) -> PathBuf {
        self.run().join("rescue")
    }

    /// `run/monopod/rescue-answers`: what came of those that have an answer. Root's.
    pub fn rescue_answers(&self) -> PathBuf {
        self.run().join("rescue-answers")
    }
}
