//! `monopod import`: an archive into the store, then from the store into the engine.
//!
//! The archive, or the bundle, is read by a process of its own (`monopod unpack`), which has given up every way to
//! reach the engine before it reads the first byte. This process never parses what a stranger wrote.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::feed::{engine, node};
use super::{block_on, complain, hint, note, patience, print, release, table};
use crate::core::api::Fault;
use crate::core::update::{ReleaseId, Wish};
use crate::exit::Exit;
use crate::feed::Line;
use crate::paths::Paths;
use crate::systemd::BusAddress;
use crate::systemd::bus::ReleaseAsk;
use crate::systemd::client::{Client, ClientError};

const EXAMPLES: &str = "\
Examples:
  monopod import gateway.tar.zst              docker save or OCI archive; plain, gzip or zstd
  monopod import /media/usb/layout            an OCI image layout folder
  monopod import gateway-1.4.2.bundle         a signed bundle: the daemon tries its release
  monopod import app.tar --as example/app:2   for an archive with one image and no full name
  docker save example/gateway:1 | monopod import -

What a bundle brings waits in the store while the running release goes on. When it is tried is for
[update] in node.toml to say; monopod release stage FILE keeps it waiting until monopod release
activate. Without a daemon it lies ready: the next one finds it.

Exit codes: 0 done, 1 failed, 2 wrong usage or no name, 3 node.toml is invalid, 4 refused (what does
not hold, a downgrade): the store is as it was, 5 in the store, but the engine cannot be reached
(the daemon feeds it later), or there is no daemon to allow a downgrade.";

/// How long an import of the preload folder may go without reading or writing anything.
const PRELOAD_IDLE: Duration = Duration::from_secs(600);

/// Arguments of `monopod import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// An image archive, an OCI image layout folder, a bundle, or - for standard input
    #[arg(required_unless_present = "preload", value_name = "FILE|DIR|-")]
    source: Option<PathBuf>,
    /// Name for the archive's one image
    #[arg(long = "as", value_name = "REFERENCE")]
    reference: Option<String>,
    /// Take a bundle though a newer one of the same key was accepted before; root only
    #[arg(long, conflicts_with = "preload")]
    allow_downgrade: bool,
    /// Import what is new in the preload folder; the daemon does this at its start
    #[arg(long, conflicts_with_all = ["source", "reference"])]
    preload: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What the shut-in process reports.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Unpacked {
    pub images: Vec<UnpackedImage>,
    pub layers_added: usize,
    pub layers_known: usize,
    pub bytes_added: u64,
    /// Files of the preload folder that were not taken.
    #[serde(default)]
    pub lacking: usize,
    /// The releases that the preload folder's bundles have brought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<UnpackedRelease>,
    /// The release, if it was a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<UnpackedRelease>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnpackedRelease {
    pub id: ReleaseId,
    pub version: String,
    pub sequence: u64,
    /// The key that signed it.
    pub key: String,
    /// One line for people.
    pub line: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnpackedImage {
    pub references: Vec<String>,
    pub id: String,
    pub known: bool,
    pub replaced: Vec<String>,
}

/// What was done, for `--json`.
#[derive(Debug, Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    unpacked: &'r Unpacked,
    /// What each name took: `null` where the engine could not be fed.
    engine: Vec<(&'r str, Option<Sent>)>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Sent {
    sent: u64,
    skipped: usize,
}

/// Imports.
pub fn run(paths: &Paths, arguments: &Import) -> Exit {
    let node = match node(paths) {
        Ok(node) => node,
        Err((exit, text)) => {
            complain(text);
            return exit;
        }
    };
    let errand = Errand {
        source: arguments.source.as_deref(),
        reference: arguments.reference.as_deref(),
        only_bundles: false,
        allow_downgrade: arguments.allow_downgrade,
    };
    let unpacked = match unpack_by_helper(paths, &errand, node.store.max_image_size) {
        Ok(unpacked) => unpacked,
        Err(exit) => return exit,
    };
    if let Some(release) = &unpacked.release {
        return take_release(arguments, &unpacked, release);
    }
    if arguments.allow_downgrade {
        note("only a bundle has a sequence; --allow-downgrade means nothing here");
    }
    // What is wrong with the engine's address is told once, and not by each helper.
    if let Err((exit, text)) = engine(&node) {
        complain(text);
        return exit;
    }
    block_on(async {
        let mut exit = Exit::Done;
        let mut fed = Vec::new();
        let names = unpacked.images.iter().flat_map(|image| &image.references);
        for reference in names {
            match feed_by_helper(paths, reference) {
                Ok(sent) => fed.push((reference.as_str(), Some(sent))),
                Err(Fault::NoAnswer(text)) => {
                    complain(format_args!(
                        "{reference} is in the store; the engine cannot be reached: {text}"
                    ));
                    hint("the daemon gives it the image as soon as the engine answers");
                    exit = Exit::Unreachable;
                    fed.push((reference, None));
                }
                Err(
                    Fault::NotFound(text)
                    | Fault::Conflict(text)
                    | Fault::ImageMissing(text)
                    | Fault::Refused(text),
                ) => {
                    complain(format_args!(
                        "{reference} is in the store; the engine does not take it: {text}"
                    ));
                    exit = Exit::Failed;
                    fed.push((reference, None));
                }
            }
        }
        if !node.store.keep && fed.iter().any(|(_, sent)| sent.is_some()) {
            note(
                "node.toml says keep = false: the layers are now only in the engine, so a damaged image \
                 cannot be rebuilt without its archive",
            );
        }
        tell_daemon().await;
        show(arguments, &unpacked, &fed);
        for release in &unpacked.releases {
            let offered = offer_preloaded(release, arguments.json).await;
            if exit == Exit::Done {
                exit = offered;
            }
        }
        if exit == Exit::Done && unpacked.lacking > 0 {
            Exit::Failed
        } else {
            exit
        }
    })
}

/// The daemon may wait for what has come. Without one, or without a bus, nothing is lost.
async fn tell_daemon() {
    if let Ok(client) = Client::connect(&BusAddress::system()).await {
        let _ = client.store_changed().await;
    }
}

/// As of a stick, the daemon is told of each release that the preload folder has brought.
async fn offer_preloaded(release: &UnpackedRelease, json: bool) -> Exit {
    if !json {
        print(format_args!(
            "{}, signed by {}: {}",
            release.line, release.key, release.id
        ));
    }
    let ask = ReleaseAsk::Offer {
        id: release.id.clone(),
        wish: Wish::Take,
        downgrade: false,
    };
    match release::put(&ask).await {
        Ok(next) => {
            if !json {
                print(next);
            }
            Exit::Done
        }
        // The one that starts just now asks for this folder itself, and then looks what has come of it.
        Err(ClientError::NoBus(..) | ClientError::NoDaemon) => {
            note("no daemon runs; the next one finds the release");
            Exit::Done
        }
        Err(error) => release::told(&error),
    }
}

/// A bundle's images wait in the store: what runs is not touched. The daemon is told of the release.
fn take_release(arguments: &Import, unpacked: &Unpacked, release: &UnpackedRelease) -> Exit {
    let ask = ReleaseAsk::Offer {
        id: release.id.clone(),
        wish: Wish::Take,
        downgrade: arguments.allow_downgrade,
    };
    block_on(async {
        tell_daemon().await;
        let (exit, next) = match release::put(&ask).await {
            Ok(next) => (Exit::Done, Some(next)),
            Err(ClientError::NoBus(..) | ClientError::NoDaemon) => {
                (no_daemon(arguments, release), None)
            }
            Err(error) => (release::told(&error), None),
        };
        show_release(arguments.json, unpacked, release, next.as_deref());
        exit
    })
}

/// The release lies ready. Whether it may be older is for a daemon's ears only.
fn no_daemon(arguments: &Import, release: &UnpackedRelease) -> Exit {
    if !arguments.allow_downgrade {
        note("no daemon runs; the next one finds the release");
        return Exit::Done;
    }
    complain("no daemon runs that could be told that the release may be older than the last");
    hint(format_args!(
        "systemctl start monopod, then monopod release stage {} --allow-downgrade",
        release.id
    ));
    Exit::Unreachable
}

/// What a bundle has brought, for `--json`.
#[derive(Debug, Serialize)]
struct ReleaseReport<'r> {
    #[serde(flatten)]
    unpacked: &'r Unpacked,
    /// The daemon's word on what comes next; `null` if there is none.
    next: Option<&'r str>,
}

/// Shows what a bundle has brought, and what becomes of it.
pub(super) fn show_release(
    json: bool,
    unpacked: &Unpacked,
    release: &UnpackedRelease,
    next: Option<&str>,
) {
    if json {
        if let Ok(text) = serde_json::to_string(&ReleaseReport { unpacked, next }) {
            print(text);
        }
        return;
    }
    print(format_args!(
        "{}, signed by {}: {}",
        release.line, release.key, release.id
    ));
    for image in &unpacked.images {
        for reference in &image.references {
            let store = if image.known {
                "was in the store"
            } else {
                "in the store"
            };
            let id = table::short(&image.id);
            print(format_args!("{reference}  {id}  {store}"));
        }
    }
    show_added(unpacked);
    if let Some(next) = next {
        print(next);
    }
}

fn show(arguments: &Import, unpacked: &Unpacked, fed: &[(&str, Option<Sent>)]) {
    if arguments.json {
        let report = Report {
            unpacked,
            engine: fed.to_vec(),
        };
        if let Ok(text) = serde_json::to_string(&report) {
            print(text);
        }
        return;
    }
    for image in &unpacked.images {
        for reference in &image.references {
            let sent = fed
                .iter()
                .find(|(name, _)| name == reference)
                .and_then(|(_, sent)| *sent);
            let engine = match sent {
                Some(Sent { sent: 0, .. }) => "the engine has it".to_owned(),
                Some(Sent { sent, skipped: 0 }) => {
                    format!("{} sent to the engine", table::bytes(sent))
                }
                Some(Sent { sent, skipped }) => {
                    format!(
                        "{} sent to the engine, which had {skipped} of its layers",
                        table::bytes(sent)
                    )
                }
                None => "not in the engine yet".to_owned(),
            };
            let store = if image.known {
                "was in the store"
            } else {
                "imported"
            };
            print(format_args!(
                "{reference}  {}  {store}, {engine}",
                table::short(&image.id)
            ));
        }
        for replaced in &image.replaced {
            note(format_args!(
                "{replaced}; systemctl reload monopod puts the new one in force"
            ));
        }
    }
    show_added(unpacked);
}

fn show_added(unpacked: &Unpacked) {
    if unpacked.layers_added > 0 {
        note(format_args!(
            "{} new layers in {} in the store, {} were there",
            unpacked.layers_added,
            table::bytes(unpacked.bytes_added),
            unpacked.layers_known
        ));
    }
}

/// What the shut-in process is to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'e> {
    /// A file, a folder or `-`; `None` for the preload folder.
    pub source: Option<&'e Path>,
    /// The name for an archive's one image.
    pub reference: Option<&'e str>,
    /// Nothing but a bundle is taken.
    pub only_bundles: bool,
    /// A bundle may be older than what was accepted.
    pub allow_downgrade: bool,
}

/// Has it read by the helper; what went wrong has been told.
pub(super) fn unpack_by_helper(
    paths: &Paths,
    errand: &Errand<'_>,
    max_image_size: u64,
) -> Result<Unpacked, Exit> {
    let failed = |error: std::io::Error| {
        complain(format_args!("cannot run the helper process: {error}"));
        Exit::Failed
    };
    let mut command = helper(paths);
    command.arg("unpack");
    command
        .arg("--max-image-size")
        .arg(max_image_size.to_string());
    if let Some(reference) = errand.reference {
        command.arg("--as").arg(reference);
    }
    if errand.only_bundles {
        command.arg("--bundle");
    }
    if errand.allow_downgrade {
        command.arg("--allow-downgrade");
    }
    if let Some(source) = errand.source {
        command.arg("--").arg(source);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        // Whoever types may take a pause; at the daemon's start nobody is there to end what hangs.
        text = if errand.source.is_none() {
            match patience::read_all(&child, &mut out, PRELOAD_IDLE) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    complain(format_args!(
                        "the preload folder was given up: nothing has moved for {} minutes; the store is whole",
                        PRELOAD_IDLE.as_secs() / 60
                    ));
                    return Err(Exit::Failed);
                }
                read => read.map_err(failed)?,
            }
        } else {
            out.read_to_string(&mut text).map_err(failed)?;
            text
        };
    }
    let status = child.wait().map_err(failed)?;
    match status.code() {
        Some(0) => serde_json::from_str(&text).map_err(|error| {
            complain(format_args!(
                "the helper process is not understood: {error}"
            ));
            Exit::Failed
        }),
        // It has said why.
        Some(code) if code == Exit::Usage as i32 => Err(Exit::Usage),
        Some(code) if code == Exit::Refused as i32 => Err(Exit::Refused),
        Some(_) => Err(Exit::Failed),
        None => {
            complain(format_args!(
                "the helper process was ended ({status}); the store is whole, try again"
            ));
            Err(Exit::Failed)
        }
    }
}

/// Has the engine given an image by a process that is the store's owner.
fn feed_by_helper(paths: &Paths, reference: &str) -> Result<Sent, Fault> {
    let failed = |text: String| Fault::Refused(format!("the helper process {text}"));
    let mut child = helper(paths)
        .args(["feed", "--", reference])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let mut said = None;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Line::Moved) => {}
                Ok(Line::Done { sent, skipped }) => said = Some(Ok(Sent { sent, skipped })),
                Ok(Line::Failed(fault)) => said = Some(Err(fault)),
                Err(error) => return Err(failed(format!("is not understood: {error}"))),
            }
        }
    }
    let ended = child.wait();
    said.unwrap_or_else(|| {
        Err(failed(match ended {
            Ok(status) => format!("ended with {status}"),
            Err(error) => format!("cannot be waited for: {error}"),
        }))
    })
}

/// A process of this very version, so not by its path.
fn helper(paths: &Paths) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("monopod").arg("--root").arg(paths.root());
    command
}
