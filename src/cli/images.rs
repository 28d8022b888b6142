//! `monopod images`: the store and the engine side by side, and what may go.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::feed::{engine, node};
use super::{block_on, complain, hint, note, print, table};
use crate::core::api::Fault;
use crate::engine::{Docker, Engine, EngineImage};
use crate::exit::Exit;
use crate::image::{Store, StoredImage, normalise};
use crate::owner::{self, Keep};
use crate::paths::Paths;
use crate::release::{Damaged, Release, Releases};
use crate::spec;
use crate::spec::host::ThisHost;

const EXAMPLES: &str = "\
Examples:
  monopod images               what the store has, what the engine has, what is pinned
  monopod images --json
  monopod images prune         remove what no release, container or workload file uses

Pinned is what a release on this node needs, what the workload file names, and what a container was
made from.
Exit codes: 0 done, 1 failed, 3 node.toml is invalid.";

const PRUNE_EXAMPLES: &str = "\
Examples:
  monopod images               first look at what is not pinned
  monopod images prune         then remove that

Nothing is removed while nobody can say what is in use.
Exit codes: 0 done, 1 failed, 3 a file is invalid, 5 the engine cannot be reached.";

/// Arguments of `monopod images`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Images {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Remove the images that are not in use, from the store and from the engine
    #[command(after_help = PRUNE_EXAMPLES)]
    Prune,
}

/// One image, under one name.
#[derive(Debug, Serialize)]
struct Row {
    reference: String,
    id: String,
    /// Bytes in the store; absent if it is not there.
    store: Option<u64>,
    /// Its layers are in the store, so the engine's copy can be rebuilt.
    layers: bool,
    /// Whether the engine has it; absent if the engine cannot be reached.
    engine: Option<bool>,
    pinned: bool,
}

/// What is in use.
#[derive(Default)]
struct Pins {
    references: BTreeSet<String>,
    ids: BTreeSet<String>,
    /// The names that releases have for images; in the store these may have none.
    names: BTreeMap<String, BTreeSet<String>>,
}

impl Pins {
    /// Adds what every release needs: the one before and the one that waits as well.
    fn add_releases(&mut self, releases: &[Result<Release, Damaged>]) {
        for release in releases.iter().flatten() {
            for (reference, id) in &release.images {
                match id {
                    Some(id) => {
                        self.ids.insert(id.clone());
                        let names = self.names.entry(id.clone()).or_default();
                        names.insert(reference.clone());
                    }
                    None => drop(self.references.insert(reference.clone())),
                }
            }
        }
    }
}

/// Lists, or prunes.
pub fn run(paths: &Paths, arguments: &Images) -> Exit {
    if let Err(text) = owner::become_owner(paths, Keep::Nothing) {
        complain(text);
        return Exit::Failed;
    }
    let engine = match node(paths).and_then(|node| engine(&node)) {
        Ok(engine) => engine,
        Err((exit, text)) => {
            complain(text);
            return exit;
        }
    };
    let store = match Store::open(&paths.store()) {
        Ok(store) => store,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    block_on(async {
        match arguments.verb {
            None => list(paths, &store, &engine, arguments.json).await,
            Some(Verb::Prune) => prune(paths, &store, &engine).await,
        }
    })
}

/// What the workload file names. `Err`: the file is there, and is not valid.
fn named(paths: &Paths) -> Result<BTreeSet<String>, String> {
    if !paths.workload().exists() {
        return Ok(BTreeSet::new());
    }
    spec::load(paths, &ThisHost::default())
        .map(|loaded| {
            let images = loaded
                .value
                .containers
                .into_iter()
                .map(|container| container.image);
            images
                .map(|image| normalise(&image).unwrap_or(image))
                .collect()
        })
        .map_err(|invalid| format!("{invalid}; `monopod check` shows it in full"))
}

/// Adds what containers were made from.
async fn add_containers(pins: &mut Pins, paths: &Paths, engine: &Docker) -> Result<(), Fault> {
    let node = paths.root().display().to_string();
    let seen = engine.containers(&node, None).await?;
    pins.ids.extend(seen.into_iter().map(|seen| seen.image_id));
    Ok(())
}

fn releases(paths: &Paths) -> Result<Vec<Result<Release, Damaged>>, String> {
    Releases::new(paths)
        .list()
        .map_err(|error| format!("cannot read {}: {error}", paths.releases().display()))
}

async fn list(paths: &Paths, store: &Store, engine: &Docker, json: bool) -> Exit {
    let references = named(paths).unwrap_or_else(|text| {
        complain(format_args!("{text}; what it names is not shown as pinned"));
        BTreeSet::new()
    });
    let mut pins = Pins {
        references,
        ..Pins::default()
    };
    match releases(paths) {
        Ok(releases) => {
            pins.add_releases(&releases);
            for damaged in releases.iter().filter_map(|found| found.as_ref().err()) {
                complain(format_args!(
                    "{damaged}; what it needs is not shown as pinned"
                ));
            }
        }
        Err(text) => complain(format_args!(
            "{text}; what releases need is not shown as pinned"
        )),
    }
    let stored = match store.images() {
        Ok(stored) => stored,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let asked = match add_containers(&mut pins, paths, engine).await {
        Ok(()) => engine.images().await.map(Some),
        Err(fault) => Err(fault),
    };
    let images = asked.unwrap_or_else(|fault| {
        complain(format_args!(
            "the engine's images are not shown: {}",
            text(&fault)
        ));
        None
    });
    let rows = rows(&stored, images.as_deref(), &pins);
    if json {
        if let Ok(text) = serde_json::to_string(&rows) {
            print(text);
        }
        return Exit::Done;
    }
    if rows.is_empty() {
        hint("no images yet; import one: monopod import ARCHIVE");
        return Exit::Done;
    }
    let mut lines = vec![
        ["IMAGE", "ID", "STORE", "ENGINE", "PINNED"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(rows.iter().map(|row| {
        let store = match (row.store, row.layers) {
            (Some(size), true) => table::bytes(size),
            (Some(_), false) => "no layers".to_owned(),
            (None, _) => "-".to_owned(),
        };
        let engine = match row.engine {
            Some(true) => "yes",
            Some(false) => "-",
            None => "?",
        };
        let pinned = if row.pinned { "yes" } else { "-" };
        vec![
            row.reference.clone(),
            table::short(&row.id),
            store,
            engine.to_owned(),
            pinned.to_owned(),
        ]
    }));
    for line in table::lines(&lines) {
        print(line);
    }
    Exit::Done
}

/// The store's images, then those that only the engine has and that monopod has to do with.
fn rows(stored: &[StoredImage], images: Option<&[EngineImage]>, pins: &Pins) -> Vec<Row> {
    let has = |id: &str| images.map(|images| images.iter().any(|image| image.id == id));
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for image in stored {
        let id = image.id();
        // A bundle's image has no name of its own until its release is tried.
        let pinned = pins.names.get(&id).into_iter().flatten();
        let names: BTreeSet<&String> = image.references.iter().chain(pinned).collect();
        for reference in names {
            let row = Row {
                reference: reference.clone(),
                id: id.clone(),
                store: Some(image.stored_size),
                layers: image.layers_present,
                engine: has(&id),
                pinned: pins.references.contains(reference) || pins.ids.contains(&id),
            };
            rows.insert((reference.clone(), id.clone()), row);
        }
    }
    for image in images.unwrap_or_default() {
        for tag in &image.tags {
            let reference = normalise(tag).unwrap_or_else(|_| tag.clone());
            let pinned = pins.references.contains(&reference) || pins.ids.contains(&image.id);
            let key = (reference.clone(), image.id.clone());
            if pinned && !rows.contains_key(&key) {
                let id = image.id.clone();
                rows.insert(
                    key,
                    Row {
                        reference,
                        id,
                        store: None,
                        layers: false,
                        engine: Some(true),
                        pinned,
                    },
                );
            }
        }
    }
    rows.into_values().collect()
}

async fn prune(paths: &Paths, store: &Store, engine: &Docker) -> Exit {
    let references = match named(paths) {
        Ok(references) => references,
        Err(text) => {
            complain(format_args!(
                "{text}; nobody can say what is in use, so nothing is removed"
            ));
            return Exit::Invalid;
        }
    };
    let mut pins = Pins {
        references,
        ..Pins::default()
    };
    // What was brought and is not taken over yet needs its images, too.
    let brought = Releases::adopt_here(paths, &[]).and_then(|adopted| {
        adopted.complaints().for_each(complain);
        let folder = paths.incoming();
        let unfinished = format!("something waits in {}", folder.display());
        (!adopted.is_unfinished()).then_some(()).ok_or(unfinished)
    });
    let unknown = match brought.and_then(|()| releases(paths)) {
        Ok(releases) => {
            pins.add_releases(&releases);
            let mut damaged = releases.into_iter().filter_map(Result::err);
            damaged.next().map(|damaged| damaged.to_string())
        }
        Err(text) => Some(text),
    };
    if let Some(text) = unknown {
        complain(format_args!(
            "nobody can say what is in use, so nothing is removed: {text}"
        ));
        return Exit::Failed;
    }
    if let Err(fault) = add_containers(&mut pins, paths, engine).await {
        complain(format_args!(
            "nobody can say what is in use, so nothing is removed: {}",
            text(&fault)
        ));
        return Exit::Unreachable;
    }
    let stored = match store.images() {
        Ok(stored) => stored,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let mut keep = pins.references.clone();
    keep.extend(pins.ids.iter().cloned());
    for image in stored.iter().filter(|image| pins.ids.contains(&image.id())) {
        keep.extend(image.references.iter().cloned());
    }
    let pruned = match store.prune(&keep) {
        Ok(pruned) => pruned,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let mut exit = Exit::Done;
    for reference in &pruned.images {
        let id = stored
            .iter()
            .find(|image| image.references.contains(reference) || image.id() == *reference)
            .map(StoredImage::id);
        match in_engine(engine, reference, id.as_deref()).await {
            Ok(true) => print(format_args!(
                "{reference}  removed from the store and the engine"
            )),
            Ok(false) => print(format_args!("{reference}  removed from the store")),
            Err(fault) => {
                print(format_args!("{reference}  removed from the store"));
                complain(format_args!(
                    "{reference} stays in the engine: {}",
                    text(&fault)
                ));
                exit = Exit::Failed;
            }
        }
    }
    note(format_args!(
        "{} freed in the store",
        table::bytes(pruned.bytes)
    ));
    exit
}

/// Removes the name from the engine if it still means the store's image. The engine itself keeps what a container uses.
async fn in_engine(engine: &Docker, reference: &str, id: Option<&str>) -> Result<bool, Fault> {
    match engine.image(reference).await? {
        Some(image) if Some(image.id.as_str()) == id => {
            engine.remove_image(reference, false).await.map(|()| true)
        }
        Some(_) | None => Ok(false),
    }
}

pub(super) fn text(fault: &Fault) -> &str {
    match fault {
        Fault::NoAnswer(text)
        | Fault::NotFound(text)
        | Fault::Conflict(text)
        | Fault::ImageMissing(text)
        | Fault::Refused(text) => text,
    }
}
