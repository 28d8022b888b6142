//! `monopod import`: an archive into the store, then from the store into the engine.
//!
//! The archive is read by a process of its own (`monopod unpack`), which has given up every way to
//! reach the engine before it reads the first byte. This process never parses what a stranger wrote.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, stdin};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::feed::{engine, node};
use super::progress::Bar;
use super::{block_on, complain, hint, note, patience, print, table};
use crate::core::api::Fault;
use crate::exit::Exit;
use crate::feed::Line;
use crate::image::{ImportError, ImportOptions, Imported, Source, Store, import, preload};
use crate::owner::{self, Keep};
use crate::paths::Paths;
use crate::sandbox;
use crate::systemd::BusAddress;
use crate::systemd::client::Client;

const EXAMPLES: &str = "\
Examples:
  monopod import gateway.tar.zst              docker save or OCI archive; plain, gzip or zstd
  monopod import /media/usb/layout            an OCI image layout folder
  monopod import app.tar --as example/app:2   for an archive with one image and no full name
  docker save example/gateway:1 | monopod import -

Exit codes: 0 done, 1 failed, 2 wrong usage or no name, 3 node.toml is invalid, 4 refused: the store
is as it was, 5 in the store, but the engine cannot be reached (the daemon feeds it later).";

/// How long an import of the preload folder may go without reading or writing anything.
const PRELOAD_IDLE: Duration = Duration::from_secs(600);

/// Arguments of `monopod import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// An image archive, an OCI image layout folder, or - for standard input
    #[arg(required_unless_present = "preload", value_name = "FILE|DIR|-")]
    source: Option<PathBuf>,
    /// Name for the archive's one image
    #[arg(long = "as", value_name = "REFERENCE")]
    reference: Option<String>,
    /// Import what is new in the preload folder; the daemon does this at its start
    #[arg(long, conflicts_with_all = ["source", "reference"])]
    preload: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `monopod unpack`.
#[derive(Debug, Args)]
pub struct Unpack {
    source: Option<PathBuf>,
    #[arg(long = "as")]
    reference: Option<String>,
    #[arg(long)]
    max_image_size: u64,
}

/// What the shut-in process reports.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Unpacked {
    images: Vec<UnpackedImage>,
    layers_added: usize,
    layers_known: usize,
    bytes_added: u64,
    /// Archives of the preload folder that were not taken.
    #[serde(default)]
    lacking: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct UnpackedImage {
    references: Vec<String>,
    id: String,
    known: bool,
    replaced: Vec<String>,
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
    let unpacked = match unpack_by_helper(paths, arguments, node.store.max_image_size) {
        Ok(unpacked) => unpacked,
        Err(exit) => return exit,
    };
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
    if unpacked.layers_added > 0 {
        note(format_args!(
            "{} new layers in {} in the store, {} were there",
            unpacked.layers_added,
            table::bytes(unpacked.bytes_added),
            unpacked.layers_known
        ));
    }
}

fn unpack_by_helper(
    paths: &Paths,
    arguments: &Import,
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
    if let Some(reference) = &arguments.reference {
        command.arg("--as").arg(reference);
    }
    if let Some(source) = &arguments.source {
        command.arg("--").arg(source);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        // Whoever types may take a pause; at the daemon's start nobody is there to end what hangs.
        text = if arguments.preload {
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

/// The shut-in half.
pub fn unpack(paths: &Paths, arguments: &Unpack) -> Exit {
    // What the preload folder holds has to be readable by the daemon as well.
    let named = arguments
        .source
        .as_deref()
        .filter(|source| *source != Path::new("-"));
    // Without Landlock, who may read every file could be made to. Then root only opens the archive;
    // a layout folder has to be readable by the store's owner.
    let (keep, mut opened) = match named {
        Some(_) if sandbox::landlock() => (Keep::Reading, None),
        Some(source) => (Keep::Nothing, open_file(source)),
        None => (Keep::Nothing, None),
    };
    if let Err(text) = owner::become_owner(paths, keep) {
        complain(text);
        return Exit::Failed;
    }
    // Without whoever asked for it, the work is for nobody.
    owner::end_with_parent();
    let store = match Store::open(&paths.store()) {
        Ok(store) => store,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let preload = paths.preload();
    let archive = match arguments.source.as_deref() {
        None => Some(preload.as_path()),
        Some(source) if source == Path::new("-") => None,
        Some(source) => Some(source),
    };
    if let Err(text) = sandbox::enter(&paths.store(), archive) {
        complain(format_args!("archives are not read without it: {text}"));
        return Exit::Failed;
    }
    let options = ImportOptions {
        reference: arguments.reference.clone(),
        max_image_size: arguments.max_image_size,
        ..ImportOptions::default()
    };
    let done = match arguments.source.as_deref() {
        None => unpack_preload(paths, &store, &options),
        Some(source) => unpack_one(&store, source, opened.as_mut(), &options),
    };
    match done {
        Ok(unpacked) => {
            if let Ok(text) = serde_json::to_string(&unpacked) {
                print(text);
            }
            Exit::Done
        }
        Err(error) => {
            complain(&error);
            match error {
                ImportError::Refused(_) => Exit::Refused,
                ImportError::Usage(_) => Exit::Usage,
                ImportError::NoSpace { .. }
                | ImportError::NotFound(_)
                | ImportError::Read { .. }
                | ImportError::Store(_) => Exit::Failed,
            }
        }
    }
}

/// A file; what is none, or cannot be opened, is looked at later, by who reads it.
fn open_file(path: &Path) -> Option<File> {
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    File::open(path).ok().filter(|_| is_file)
}

fn unpack_one(
    store: &Store,
    source: &Path,
    opened: Option<&mut File>,
    options: &ImportOptions,
) -> Result<Unpacked, ImportError> {
    let bar = Bar::new();
    let mut progress = |progress: crate::image::Progress<'_>| bar.show(progress);
    let imported = if source == Path::new("-") {
        let mut stdin = stdin().lock();
        let stream = Source::Stream {
            name: "standard input",
            reader: &mut stdin,
        };
        import(store, stream, options, &mut progress)?
    } else if let Some(reader) = opened {
        let name = &source.display().to_string();
        import(
            store,
            Source::Stream { name, reader },
            options,
            &mut progress,
        )?
    } else {
        import(store, Source::Path(source), options, &mut progress)?
    };
    let mut unpacked = Unpacked::default();
    unpacked.add(imported);
    Ok(unpacked)
}

fn unpack_preload(
    paths: &Paths,
    store: &Store,
    options: &ImportOptions,
) -> Result<Unpacked, ImportError> {
    let preloaded = preload(
        store,
        &paths.preload(),
        &store.preload_record(),
        options,
        &mut |_| {},
    )?;
    let mut unpacked = Unpacked::default();
    for (path, imported) in preloaded.imported {
        complain(format_args!("{} imported", path.display()));
        unpacked.add(imported);
    }
    for (path, reason) in &preloaded.refused {
        complain(format_args!(
            "{}: {reason}; it is not read again until it changes",
            path.display()
        ));
    }
    for (path, reason) in &preloaded.still_refused {
        complain(format_args!(
            "{} is still refused: {reason}",
            path.display()
        ));
    }
    for (path, error) in &preloaded.failed {
        complain(format_args!("{}: {error}", path.display()));
        if let ImportError::Read { source, .. } = error
            && source.kind() == ErrorKind::PermissionDenied
        {
            hint(format_args!(
                "monopod reads it as its own user: chmod -R a+rX {}",
                path.display()
            ));
        }
    }
    unpacked.lacking =
        preloaded.refused.len() + preloaded.still_refused.len() + preloaded.failed.len();
    Ok(unpacked)
}

impl Unpacked {
    fn add(&mut self, imported: Imported) {
        self.layers_added += imported.layers_added;
        self.layers_known += imported.layers_known;
        self.bytes_added += imported.bytes_added;
        self.images.extend(imported.images.into_iter().map(|image| {
            UnpackedImage {
                references: image.references,
                id: format!("sha256:{}", image.config.hex()),
                known: image.known,
                replaced: image
                    .replaced
                    .iter()
                    .map(|(name, old)| format!("{name} was {} until now", table::short(&old.hex())))
                    .collect(),
            }
        }));
    }
}
