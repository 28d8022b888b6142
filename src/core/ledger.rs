//! What is remembered: the records, and their text form. Reading and writing files is the shell's.

use serde::{Deserialize, Serialize};

/// What must survive a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// How often the watchdog has been withheld since the workload was last stable.
    pub withheld: u32,
}

/// What may be lost with a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volatile {}
