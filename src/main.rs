//! The command line's entry: parse, dispatch, exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use monopod::cli::{self, Args};
#[cfg(target_env = "musl")]
use monopod_unwind as _;

fn main() -> ExitCode {
    cli::run(Args::parse()).into()
}
