//! The exit codes, in one table.

/// What a verb's end means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Tried and failed.
    Failed = 1,
    /// The command line is wrong (clap's own code for it).
    Usage = 2,
    /// A file of the user's is invalid.
    Invalid = 3,
    /// Refused: an archive, a signature, a downgrade (of a bundle, or of monopod itself below its ledger).
    Refused = 4,
    /// The daemon or the engine cannot be reached.
    Unreachable = 5,
    /// Reached, and not healthy.
    Unhealthy = 6,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
