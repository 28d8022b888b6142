//! The command line: one file per verb. It renders and decides nothing.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::paths::Paths;

pub mod check;

/// Keeps one containerised workload alive on one node.
#[derive(Debug, Parser)]
#[command(name = "monopod", version, arg_required_else_help = true)]
pub struct Args {
    /// Look for every path of monopod's own below this folder
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check the workload file, without a daemon and without an engine
    Check(check::Check),
}

/// Does what the arguments say.
pub fn run(args: Args) -> Exit {
    let paths = Paths::new(&args.root);
    match args.verb {
        Verb::Check(check) => check::run(&paths, &check),
    }
}
