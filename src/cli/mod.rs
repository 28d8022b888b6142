//! The command line: one file per verb. It renders and decides nothing.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::owner;
use crate::paths::Paths;

mod bundle;
pub mod check;
mod control;
mod daemon;
mod doctor;
mod feed;
mod images;
mod import;
mod logs;
mod medium;
mod password;
mod patience;
mod progress;
mod release;
mod rescue;
mod since;
mod slice;
mod status;
mod sync;
mod table;
mod tidy;
mod unpack;
mod volumes;
mod when;

/// Keeps one containerised workload alive on one node.
#[derive(Debug, Parser)]
#[command(name = "monopod", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Args {
    /// Look for every path of monopod's own below this folder
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  monopod check                       is the workload file valid?
  monopod import /media/usb/app.tar   take an image archive into the store and the engine
  systemctl start monopod             run the workload
  monopod status                      how is it?
  monopod doctor                      what will hurt?
  monopod logs -f                     what does it say?

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid file, 4 refused, 5 the daemon or the engine
cannot be reached, 6 not healthy.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check the workload file, without a daemon and without an engine
    Check(check::Check),
    /// Show what a reload would do, changing nothing
    Plan(control::Plan),
    /// Show how the workload is
    Status(status::Show),
    /// Show what the containers have said
    Logs(logs::Logs),
    /// Read the files again and put in force what changed
    Reload(control::Reload),
    /// Restart one container, or all of them
    Restart(control::Restart),
    /// Take an image archive or a bundle into the store, and have the daemon use it
    Import(import::Import),
    /// List the images of the store and the engine, or remove what is not in use
    Images(images::Images),
    /// Make, look at, verify and sign bundles: releases in one file
    Bundle(bundle::Bundle),
    /// List the releases on this node, put one in force, or go back
    Release(release::Release),
    /// Look at the machine around the workload, and say what will hurt
    Doctor(doctor::Doctor),
    /// Supervise the workload; this is what the systemd unit runs
    Daemon(daemon::Daemon),
    /// Give the engine an image of the store; the daemon's helper
    #[command(hide = true)]
    Feed(feed::Feed),
    /// Read an archive into the store, shut in; the helper of `import`
    #[command(hide = true)]
    Unpack(unpack::Unpack),
    /// Restart the engine or the node if the daemon asks and node.toml allows; runs as root
    #[command(hide = true)]
    Rescue,
    /// Remove the releases that nobody needs any more; the daemon's helper
    #[command(hide = true)]
    Tidy(tidy::Tidy),
    /// Put on disk what the engine has written; the daemon's helper
    #[command(hide = true)]
    Sync(sync::Sync),
    /// Copy volumes before an update and put them back if the daemon asks; runs as root
    #[command(hide = true)]
    Volumes(volumes::Volumes),
    /// Read a stick; `monopod-import@.service` runs it as root
    #[command(hide = true)]
    ImportMedium(medium::Medium),
    /// Put the limits of node.toml on monopod.slice; runs as root
    #[command(hide = true)]
    Slice,
}

/// Does what the arguments say.
pub fn run(args: Args) -> Exit {
    // The containers' labels carry the root, so it must have one spelling.
    let root = std::fs::canonicalize(&args.root).unwrap_or(args.root);
    let paths = Paths::new(&root);
    match args.verb {
        // It holds nothing, and is watched by who has started it.
        Verb::Unpack(_) => {}
        _ => owner::shut_out(),
    }
    match args.verb {
        Verb::Check(check) => check::run(&paths, &check),
        Verb::Plan(plan) => control::plan(&plan),
        Verb::Status(show) => status::run(&show),
        Verb::Logs(logs) => logs::run(&paths, &logs),
        Verb::Reload(_) => control::reload(&paths),
        Verb::Restart(restart) => control::restart(&restart),
        Verb::Import(import) => import::run(&paths, &import),
        Verb::Images(images) => images::run(&paths, &images),
        Verb::Bundle(bundle) => bundle::run(&paths, &bundle),
        Verb::Release(release) => release::run(&paths, &release),
        Verb::Doctor(doctor) => doctor::run(&paths, &doctor),
        Verb::Daemon(daemon) => crate::daemon::run(&paths, daemon.verbose),
        Verb::Feed(feed) => feed::run(&paths, &feed),
        Verb::Unpack(unpack) => unpack::run(&paths, &unpack),
        Verb::Tidy(tidy) => tidy::run(&paths, &tidy),
        Verb::Sync(sync) => sync::run(&paths, &sync),
        Verb::Rescue => rescue::run(&paths),
        Verb::Volumes(volumes) => volumes::run(&paths, &volumes),
        Verb::ImportMedium(medium) => medium::run(&paths, &medium),
        Verb::Slice => slice::run(&paths),
    }
}

/// Says what went wrong on stderr.
fn complain(text: impl Display) {
    aside("monopod", text);
}

/// Says on stderr what to do next.
fn hint(text: impl Display) {
    aside("hint", text);
}

/// Says on stderr what is worth knowing.
fn note(text: impl Display) {
    aside("note", text);
}

/// A line for people. Nobody may listen any more, and that is no fault of the work.
fn aside(head: &str, text: impl Display) {
    let _ = writeln!(io::stderr(), "{head}: {text}");
}

/// A line of what was asked for. Whoever reads may have had enough (`| head`), which is no fault either.
fn print(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Whether to use colour where a terminal is, or none, on the other end: `NO_COLOR` says no to all.
fn colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Runs a little asynchronous work; the verbs that need it are short-lived.
fn block_on(work: impl Future<Output = Exit>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, work),
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            Exit::Failed
        }
    }
}
