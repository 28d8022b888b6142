//! `monopod daemon`: its arguments. What it does is [`crate::daemon`]'s.

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  systemctl start monopod                 the usual way
  monopod daemon                          in a terminal; Ctrl-C stops the containers too
  monopod --root /tmp/try daemon          with every path of monopod's own below /tmp/try

On SIGHUP it reads its files again. Exit codes: 0 ended as told, 1 failed, 3 invalid file,
4 a newer monopod wrote the ledger.";

/// Arguments of `monopod daemon`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Daemon {
    /// Log more than transitions
    #[arg(long)]
    pub verbose: bool,
}
