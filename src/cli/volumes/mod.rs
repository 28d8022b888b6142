//! `monopod volumes`: copies volumes of the engine before an update, and puts them back, as the daemon
//! asks. `monopod-volumes.service` runs it as root.
//!
//! A request says which volumes, by name, and for which release. Where they are is asked of the
//! engine, and the copies are kept where nobody but root comes to. It must never touch a volume that
//! is not this node's or that is in use, and never leave half a copy under a name that counts.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::block_on;
use super::feed;
use super::images;
use super::rescue::inbox::{self, FRESH, TooOld};
use super::rescue::{engine, refuse};
use crate::engine::Docker;
use crate::exit::Exit;
use crate::owner;
use crate::paths::Paths;
use crate::probe::tame;
use crate::systemd::BusAddress;
use crate::systemd::journal::{self, Rescued};
use crate::volumes::{Deed, LONGEST, MOST, Request, VolumeName, units_watch};

mod answer;
mod copy;
mod deeds;
mod folder;
mod measure;

use answer::{Desk, Sign};
use folder::Snapshots;

/// What helps where the engine's socket cannot be told.
const NAME_IT: &str = "name its socket in node.toml: [engine] socket = \"unix:///...\"";

/// Most characters of what the daemon is told.
const SAID: usize = 600;

/// Arguments of `monopod volumes`.
#[derive(Debug, Args)]
pub struct Volumes {
    #[command(subcommand)]
    part: Option<Part>,
}

/// What it has a process of its own for.
#[derive(Debug, Subcommand)]
enum Part {
    /// Copy one tree, shut in
    Copy(copy::Copy),
}

/// Takes the requests and does them, one after another; or the part of it that is asked for.
pub fn run(paths: &Paths, volumes: &Volumes) -> Exit {
    match &volumes.part {
        Some(Part::Copy(copy)) => copy::run(copy),
        None => take_all(paths),
    }
}

fn take_all(paths: &Paths) -> Exit {
    journal::init(false);
    // Started by systemd that means nothing. Started by a daemon: the next one asks again.
    owner::end_with_parent();
    let folder = paths.rescue();
    let inbox = match inbox::open(&folder) {
        Ok(inbox) => inbox,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Exit::Done,
        Err(error) => {
            refuse(format_args!("cannot open {}: {error}", folder.display()));
            return Exit::Failed;
        }
    };
    // Held to the end: an earlier daemon's request may still be under way.
    let desk = Desk::open(paths);
    let mut exit = Exit::Done;
    for deed in Deed::ALL {
        let done = match request(&inbox, deed) {
            Ok(None) => continue,
            Ok(Some(request)) => match &desk {
                Ok(desk) => answered(paths, desk, deed, &request),
                Err(text) => {
                    refuse(format_args!("{} was asked for, but {text}", deed.file()));
                    Exit::Failed
                }
            },
            Err((exit, text)) => {
                refuse(format_args!("{text}"));
                exit
            }
        };
        if done != Exit::Done {
            exit = done;
        }
    }
    exit
}

/// Takes a request away; `None` if there is none.
fn request(inbox: &File, deed: Deed) -> Result<Option<Request>, (Exit, String)> {
    let name = deed.file();
    let refused = |text: String| (Exit::Refused, text);
    let taken = inbox::take(inbox, name)
        .map_err(|error| (Exit::Failed, format!("cannot take {name} away: {error}")))?;
    let taken = match taken {
        None => return Ok(None),
        Some(Err(TooOld)) => {
            return Err(refused(format!(
                "{name} was asked for more than {} s ago, and nobody waits for it any more",
                FRESH.as_secs()
            )));
        }
        Some(Ok(taken)) => taken,
    };
    let bytes = taken
        .bytes(LONGEST + 1)
        .ok_or_else(|| refused(format!("the request {name} is not a file")))?;
    if bytes.len() as u64 > LONGEST {
        return Err(refused(format!(
            "the request {name} has more than {LONGEST} bytes"
        )));
    }
    // What is wrong is not repeated: it is a stranger's text if the daemon was taken over.
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| {
        refused(format!(
            "the request {name} is not what a daemon of this version writes (column {})",
            error.column()
        ))
    })?;
    if request.volumes.len() > MOST {
        return Err(refused(format!(
            "the request {name} is for more than {MOST} volumes"
        )));
    }
    Ok(Some(request))
}

/// Does what was asked for and answers. What is not done and answered is no failure of this half's: the daemon says
/// more of it, and asks again.
fn answered(paths: &Paths, desk: &Desk, deed: Deed, request: &Request) -> Exit {
    let sign = desk.sign(deed, request);
    // A file's name is a container's choice.
    let done = done(paths, &sign, deed, request).map_err(|text| tame(&text, SAID));
    let release = &request.release;
    match &done {
        Ok(()) => {
            let said = match deed {
                Deed::Snapshot => "the volumes are copied before release",
                Deed::Restore => "the volumes are as they were before release",
                Deed::Forget => "no copy of volumes is kept any more for release",
            };
            journal::rescue(Rescued::Volumes, &format!("{said} {release}"));
        }
        Err(text) => refuse(format_args!(
            "{} for release {release}: {text}",
            deed.file()
        )),
    }
    match sign.end(done) {
        Ok(()) => Exit::Done,
        Err(error) => {
            refuse(format_args!("the daemon cannot be answered: {error}"));
            Exit::Failed
        }
    }
}

fn done(paths: &Paths, sign: &Sign<'_>, deed: Deed, request: &Request) -> Result<(), String> {
    let snapshots = Snapshots::open(paths)?;
    sign.while_at(|| snapshots.sweep())?;
    match deed {
        Deed::Snapshot => {
            let folders = data_folders(paths, request)?;
            deeds::snapshot(&snapshots, sign, request, &folders)
        }
        Deed::Restore => {
            let folders = data_folders(paths, request)?;
            deeds::restore(&snapshots, sign, request, &folders)
        }
        Deed::Forget => sign.while_at(|| snapshots.forget(&request.release)),
    }
}

/// Where the data of the requested volumes is, in their order; `None` for one that the engine does not have.
fn data_folders(paths: &Paths, request: &Request) -> Result<Vec<Option<PathBuf>>, String> {
    let node = feed::node(paths).map_err(|(_, text)| text)?;
    let mut found = Err(String::new());
    // The exit code is of no use here: what failed is answered in words.
    block_on(async {
        found = async {
            let socket = if units_watch(paths) {
                let address = BusAddress::system();
                let socket = engine::socket(&node, &address, NAME_IT).await;
                socket.map_err(|(_, text)| text)?
            } else {
                // Then the daemon itself has started this, and has the same environment.
                let host = std::env::var("DOCKER_HOST").ok();
                crate::engine::socket(&node, host.as_deref())?
            };
            let engine = Docker::connect(&socket);
            let mut folders = Vec::new();
            for volume in &request.volumes {
                folders.push(folder(&engine, paths, &volume.name).await?);
            }
            Ok(folders)
        }
        .await;
        Exit::Done
    });
    found
}

async fn folder(
    engine: &Docker,
    paths: &Paths,
    name: &VolumeName,
) -> Result<Option<PathBuf>, String> {
    let node = paths.root().display().to_string();
    let folder = engine.volume_folder(&node, name.as_str()).await;
    folder.map_err(|fault| images::text(&fault).to_owned())
}
