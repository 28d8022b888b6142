//! `monopod release`: which releases this node has, what became of them, and which one is to run.
//!
//! Listing reads files and needs nobody; everything else is asked of the daemon, which decides.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::feed::node;
use super::import::{Errand, show_release, unpack_by_helper};
use super::{block_on, complain, control, hint, print};
use crate::core::update::{ReleaseId, Wish};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::systemd::BusAddress;
use crate::systemd::bus::ReleaseAsk;
use crate::systemd::client::{Client, ClientError, Refusal};

mod show;

const EXAMPLES: &str = "\
Examples:
  monopod release list                        what is here, what runs, what failed and why
  monopod release stage gateway-1.4.2.bundle  take it in and keep it waiting
  monopod release activate                    try the one that waits
  monopod release rollback                    back to the one before, now

A release is a workload file with its exact images, under an id of 12 digits. It runs on trial
first: if it stays healthy for as long as node.toml says, it is committed; otherwise the one before
comes back by itself, and the new one is rejected: never taken again but by monopod release retry.

Exit codes: 0 done, 1 failed or no such release, 2 wrong usage, 3 node.toml is invalid, 4 refused (a
signature, a downgrade, nothing to go back to), 5 no daemon.";

const LIST_EXAMPLES: &str = "\
Examples:
  monopod release list
  monopod release list --json

It reads what is on disk and needs no daemon.
Exit codes: 0 done, 1 failed.";

const SHOW_EXAMPLES: &str = "\
Examples:
  monopod release show 3f9a02c7d1e4
  monopod release show 3f9a02c7d1e4 --json

It reads what is on disk and needs no daemon; the signature is checked again.
Exit codes: 0 done, 1 failed or no such release, 2 wrong usage, 4 its folder is damaged, or its
signature does not hold.";

const STAGE_EXAMPLES: &str = "\
Examples:
  monopod release stage gateway-1.4.2.bundle          take it in and keep it waiting
  monopod release stage 3f9a02c7d1e4                  a release that is here already
  monopod release stage gateway-1.4.1.bundle --allow-downgrade
  monopod release activate                            then try it, when the moment is good

Without a daemon nothing is taken in.
Exit codes: 0 staged, 1 failed or no such release, 2 wrong usage, 3 node.toml is invalid, 4 refused:
the store is as it was, 5 no daemon.";

const ACTIVATE_EXAMPLES: &str = "\
Examples:
  monopod release activate                    the one that waits
  monopod release activate 3f9a02c7d1e4       this one
  monopod release activate --now              even if the workload says that it is busy

It does not wait for the window or a hold. It returns when the daemon has taken the request; monopod
status --watch shows the rest.
Exit codes: 0 taken, 1 no such release, 4 refused, 5 no daemon.";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  monopod release rollback

A release on trial is ended and rejected; otherwise the one before the current comes back. It needs
no file and no signature: the release before is kept on disk.
Exit codes: 0 taken, 1 failed, 4 there is none before, 5 no daemon.";

const RETRY_EXAMPLES: &str = "\
Examples:
  monopod release list                        says why it was rejected
  monopod release retry 3f9a02c7d1e4

Exit codes: 0 taken, 1 no such release, 4 refused, 5 no daemon.";

const HOLD_EXAMPLES: &str = "\
Examples:
  monopod release hold         what comes from now on is staged and waits
  monopod release unhold       and goes on

A trial that runs goes on to its end. The hold outlives reboots.
Exit codes: 0 done, 1 failed, 5 no daemon.";

const PIN_EXAMPLES: &str = "\
Examples:
  monopod release pin 3f9a02c7d1e4       never remove it to make room
  monopod release unpin 3f9a02c7d1e4     from now on it may go

The current release and the one before it always stay, pinned or not.
Exit codes: 0 done, 1 no such release, 5 no daemon.";

/// Arguments of `monopod release`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Release {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the releases on this node
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Show one release, and check its signature
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Stage a release: everything is made ready, and it waits until it is activated
    #[command(after_help = STAGE_EXAMPLES)]
    Stage(Stage),
    /// Try a release now
    #[command(after_help = ACTIVATE_EXAMPLES)]
    Activate(Activate),
    /// Go back to the release before, now
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback,
    /// Try a rejected release once more
    #[command(after_help = RETRY_EXAMPLES)]
    Retry(One),
    /// Let nothing be activated by itself
    #[command(after_help = HOLD_EXAMPLES)]
    Hold,
    /// Let releases be activated by themselves again
    #[command(after_help = HOLD_EXAMPLES)]
    Unhold,
    /// Keep a release from being removed
    #[command(after_help = PIN_EXAMPLES)]
    Pin(One),
    /// Let a release be removed again when there is a newer one
    #[command(after_help = PIN_EXAMPLES)]
    Unpin(One),
}

#[derive(Debug, Args)]
struct List {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// The release's id
    #[arg(value_parser = id)]
    id: ReleaseId,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Stage {
    /// A bundle, - for one on standard input, or the id of a release that is here
    #[arg(value_name = "FILE|ID")]
    what: PathBuf,
    /// Take it though a newer one of the same key was accepted before
    #[arg(long)]
    allow_downgrade: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Activate {
    /// The release's id; without it the one that waits
    #[arg(value_parser = id)]
    id: Option<ReleaseId>,
    /// Whatever the workload says of the moment
    #[arg(long)]
    now: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The release's id
    #[arg(value_parser = id)]
    id: ReleaseId,
}

fn id(text: &str) -> Result<ReleaseId, String> {
    ReleaseId::new(text).ok_or_else(|| {
        format!(
            "a release's id has {} lower-case hexadecimal digits; monopod release list shows them",
            ReleaseId::DIGITS
        )
    })
}

/// Does what the arguments say.
pub fn run(paths: &Paths, arguments: &Release) -> Exit {
    match &arguments.verb {
        Verb::List(list) => show::list(paths, list.json),
        Verb::Show(show) => show::one(paths, &show.id, show.json),
        Verb::Stage(stage) => self::stage(paths, stage),
        Verb::Activate(Activate { id, now }) => request(&ReleaseAsk::Activate {
            id: id.clone(),
            force: *now,
        }),
        Verb::Rollback => request(&ReleaseAsk::RollBack),
        Verb::Retry(One { id }) => request(&ReleaseAsk::Retry(id.clone())),
        Verb::Hold => request(&ReleaseAsk::Hold(true)),
        Verb::Unhold => request(&ReleaseAsk::Hold(false)),
        Verb::Pin(One { id }) => request(&ReleaseAsk::Pin(id.clone(), true)),
        Verb::Unpin(One { id }) => request(&ReleaseAsk::Pin(id.clone(), false)),
    }
}

/// Asks the daemon, and prints its word.
fn request(ask: &ReleaseAsk) -> Exit {
    block_on(async {
        match put(ask).await {
            Ok(next) => {
                print(next);
                Exit::Done
            }
            Err(error) => told(&error),
        }
    })
}

/// Asks the daemon.
pub(super) async fn put(ask: &ReleaseAsk) -> Result<String, ClientError> {
    let client = Client::connect(&BusAddress::system()).await?;
    client.release(ask).await
}

/// Says what went wrong on the way to the daemon, and what to do next.
pub(super) fn told(error: &ClientError) -> Exit {
    match error {
        ClientError::Refused(Refusal::NotFound, _) => {
            complain(error);
            hint("monopod release list shows those that are there");
            Exit::Failed
        }
        ClientError::NoBus(..)
        | ClientError::NoDaemon
        | ClientError::NoAnswer
        | ClientError::Refused(
            Refusal::Invalid | Refusal::Refused | Refusal::Failed | Refusal::Denied,
            _,
        )
        | ClientError::Other(_) => control::told(error),
    }
}

/// Stages a release that is here, or in a bundle.
fn stage(paths: &Paths, arguments: &Stage) -> Exit {
    // A file with such a name can be given as ./NAME.
    let here = arguments.what.to_str().and_then(ReleaseId::new);
    let offer = |id: &ReleaseId| ReleaseAsk::Offer {
        id: id.clone(),
        wish: Wish::Stage,
        downgrade: arguments.allow_downgrade,
    };
    if let Some(id) = here {
        return request(&offer(&id));
    }
    // Only a daemon remembers that it is to wait: the next one would take what it finds.
    if let Err(exit) = daemon_answers() {
        return exit;
    }
    let unpacked = match unpack_bundle(paths, &arguments.what, arguments.allow_downgrade) {
        Ok(unpacked) => unpacked,
        Err(exit) => return exit,
    };
    let Some(release) = &unpacked.release else {
        complain("the helper process says nothing of a release; is it of another version?");
        return Exit::Failed;
    };
    block_on(async {
        let (exit, next) = match put(&offer(&release.id)).await {
            Ok(next) => (Exit::Done, Some(next)),
            Err(error) => (told(&error), None),
        };
        show_release(arguments.json, &unpacked, release, next.as_deref());
        exit
    })
}

/// Whether a daemon answers.
fn daemon_answers() -> Result<(), Exit> {
    let answer = block_on(async {
        match control::ask(async |client| client.version().await).await {
            Ok(_) => Exit::Done,
            Err(exit) => exit,
        }
    });
    match answer {
        Exit::Done => Ok(()),
        exit => Err(exit),
    }
}

fn unpack_bundle(
    paths: &Paths,
    source: &Path,
    allow_downgrade: bool,
) -> Result<super::import::Unpacked, Exit> {
    let node = node(paths).map_err(|(exit, text)| {
        complain(text);
        exit
    })?;
    let errand = Errand {
        source: Some(source),
        reference: None,
        only_bundles: true,
        allow_downgrade,
    };
    unpack_by_helper(paths, &errand, node.store.max_image_size)
}
