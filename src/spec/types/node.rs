//! The validated `node.toml`: what its owner says about the node, with every default.
//!
//! As for all types here: nothing in a value can still be wrong. It must never do I/O.

use std::path::PathBuf;
use std::time::Duration;

use crate::spec::calendar::Window;

/// `node.toml`: what belongs to the node's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `[engine] socket`, without its `unix://`.
    pub engine_socket: Option<PathBuf>,
    /// `[engine] unit`: the systemd unit of the engine, where its socket's name does not tell it.
    pub engine_unit: Option<String>,
    /// `[store]`.
    pub store: StorePolicy,
    /// `[escalation]`.
    pub escalation: Escalation,
    /// `[systemd] ready`.
    pub ready: Ready,
    /// `[slice]`.
    pub slice: Slice,
    /// `[usb]`.
    pub usb: UsbPolicy,
    /// `[update]`.
    pub update: UpdatePolicy,
    /// `[trial]`.
    pub trial: Trial,
}

/// `[usb]` of `node.toml`: which sticks are read, and who is told of it. As it is without the table, only what
/// is labelled for monopod, and only what is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsbPolicy {
    /// Read every stick, not only those labelled `MONOPOD*`.
    pub any_label: bool,
    /// Take image archives, which nobody has signed, besides bundles.
    pub unsigned: bool,
    /// The LED that shows what became of a stick: a name in `/sys/class/leds`.
    pub led: Option<String>,
    /// A program that is run after a stick was read, absolute.
    pub hook: Option<PathBuf>,
    /// Whether a file with the result may be written to the stick.
    pub result: bool,
}

/// `[update]` of `node.toml`: when a staged release is activated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// Whether it is activated by itself.
    pub activation: Activation,
    /// When it may be; at any time without one.
    pub window: Option<Window>,
    /// As long as there is such a file, nothing is activated by itself.
    pub hold_file: Option<PathBuf>,
    /// As long as there is such a file, the workload is busy: nothing is activated unless somebody insists.
    pub lock_file: Option<PathBuf>,
}

/// Whether a staged release is activated by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// It is.
    #[default]
    Automatic,
    /// It waits for `monopod release activate`.
    Manual,
}

/// `[trial]` of `node.toml`: how a release proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Healthy without a break for so long, it is good. 60 s.
    pub settle: Duration,
    /// It has so long for that, or it is taken back. 10 min.
    pub deadline: Duration,
    /// After so many deaths of the daemon or the node it is taken back. 3.
    pub tries: u32,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(60),
            deadline: Duration::from_secs(600),
            tries: 3,
        }
    }
}

/// `[slice]` of `node.toml`: limits of `monopod.slice`, thus on all containers together. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Memory beyond which processes are killed, bytes.
    pub memory_max: Option<u64>,
    /// Memory beyond which they are slowed down, bytes.
    pub memory_high: Option<u64>,
    /// CPU time, percent of one core.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub tasks_max: Option<u32>,
    /// Share of the disks when they are busy, 1 to 10000; other slices have 100.
    pub io_weight: Option<u32>,
    /// Share of the CPUs when they are busy, 1 to 10000; other slices have 100.
    pub cpu_weight: Option<u32>,
}

/// `[store]` of `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePolicy {
    /// Keep the layers once the engine has them.
    pub keep: bool,
    /// Most bytes that one image may unpack to. 16 GiB.
    pub max_image_size: u64,
}

impl Default for StorePolicy {
    fn default() -> Self {
        Self {
            keep: true,
            max_image_size: 16 << 30,
        }
    }
}

/// `[escalation]` of `node.toml`: how far each rung of the ladder goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Restarts of a container in a row before it is recreated. 5.
    pub restarts: u32,
    /// Recreations in a row before its image is rebuilt. 3.
    pub recreates: u32,
    /// Rebuilds of its image from the store in a row before the watchdog is withheld. 1.
    pub rebuilds: u32,
    /// Times that the watchdog is withheld, reboots included, before the safe state. 3.
    pub withholds: u32,
    /// Second attempt's delay; it doubles from there. 1 s. The first attempt has none.
    pub backoff_base: Duration,
    /// Longest delay. 5 min.
    pub backoff_max: Duration,
    /// Healthy for so long refills every budget. 10 min.
    pub stable: Duration,
    /// Silence of an engine that is needed, before its unit is restarted. 2 min, as a slow node's engine
    /// takes up to 90 s to start.
    pub engine_after: Duration,
    /// Restarts of the engine's unit before the next rung; an engine that was well for `stable` has all of
    /// them again. 3.
    pub engine_restarts: u32,
    /// Whether the node may be rebooted when all else failed. No.
    pub reboot: bool,
    /// Reboots within 24 hours of uptime before the safe state. 3, at most [`Escalation::MOST_REBOOTS`].
    pub reboots_per_day: u32,
}

impl Escalation {
    /// Most reboots a day that a node file may allow.
    pub const MOST_REBOOTS: u32 = 24;
}

impl Default for Escalation {
    fn default() -> Self {
        Self {
            restarts: 5,
            recreates: 3,
            rebuilds: 1,
            withholds: 3,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            stable: Duration::from_secs(600),
            engine_after: Duration::from_secs(120),
            engine_restarts: 3,
            reboot: false,
            reboots_per_day: 3,
        }
    }
}

/// What READY=1 waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// The first Healthy of every container.
    #[default]
    Healthy,
    /// Every container's process.
    Running,
}
