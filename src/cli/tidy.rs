//! `monopod tidy`: removes the releases that nobody needs any more, and their images from the store and
//! the engine. The helper of the daemon.
//!
//! Only images of the releases that go are touched: what was imported for a release to come stays.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::feed::{engine, node};
use super::{block_on, complain};
use crate::core::api::Fault;
use crate::core::update::{Book, ReleaseId};
use crate::daemon::peek;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::image::{Store, StoreError};
use crate::owner::{self, Keep};
use crate::paths::Paths;
use crate::release::{Damaged, Origin, Release, Releases};

/// Arguments of `monopod tidy`.
#[derive(Debug, Args)]
pub struct Tidy {
    /// The releases that stay
    #[arg(value_name = "ID", value_parser = id)]
    keep: Vec<ReleaseId>,
}

fn id(text: &str) -> Result<ReleaseId, String> {
    ReleaseId::try_from(text.to_owned())
}

/// Removes every other release, but none that the ledger has not heard of yet. What cannot be removed is
/// told, and the rest goes all the same.
pub fn run(paths: &Paths, arguments: &Tidy) -> Exit {
    if let Err(text) = owner::become_owner(paths, Keep::Nothing) {
        complain(text);
        return Exit::Failed;
    }
    // What was brought and is not taken over yet needs its images, too.
    let unknown = match Releases::adopt_here(paths, &[]) {
        Ok(adopted) => {
            adopted.complaints().for_each(complain);
            adopted.is_unfinished()
        }
        Err(text) => {
            complain(text);
            true
        }
    };
    let releases = Releases::new(paths);
    let found = match releases.list() {
        Ok(found) => found,
        Err(error) => {
            complain(format_args!(
                "cannot read {}: {error}",
                paths.releases().display()
            ));
            return Exit::Failed;
        }
    };
    // What the ledger says by now may be more than what the daemon meant when it asked.
    let (book, mut keep) = match peek(paths) {
        Ok(durable) => {
            let book = durable.unwrap_or_default().book;
            let keep = book.kept();
            (book, keep)
        }
        Err(text) => {
            complain(text);
            return Exit::Failed;
        }
    };
    keep.extend(arguments.keep.iter().cloned());
    // Nobody knows which images a damaged one needs.
    let damaged = |release: &Result<Release, Damaged>| {
        release
            .as_ref()
            .is_err_and(|damaged| keep.contains(&damaged.id))
    };
    let images_too = !unknown && !found.iter().any(damaged);
    let mut exit = Exit::Done;
    let mut fail = |text: String| {
        complain(text);
        exit = Exit::Failed;
    };
    let (mut needed, mut unneeded) = (BTreeSet::new(), BTreeMap::new());
    for release in found {
        let (id, images) = match release {
            Ok(release) if is_news(&release, &book) => {
                needed.extend(release.images.into_values().flatten());
                continue;
            }
            Ok(release) => (
                release.id,
                release
                    .images
                    .into_iter()
                    .filter_map(|(name, id)| Some((id?, name)))
                    .collect::<Vec<_>>(),
            ),
            Err(damaged) => (damaged.id, Vec::new()),
        };
        if keep.contains(&id) {
            needed.extend(images.into_iter().map(|(id, _)| id));
        } else {
            unneeded.extend(images);
            if let Err(error) = releases.remove(&id) {
                fail(error.to_string());
            }
        }
    }
    unneeded.retain(|id, _| !needed.contains(id));
    if images_too && !unneeded.is_empty() {
        if let Err(error) = from_store(paths, unneeded.keys()) {
            fail(error.to_string());
        }
        if let Err(text) = from_engine(paths, &unneeded) {
            fail(text);
        }
    }
    exit
}

/// A release is being brought, and the daemon will be told of it in a moment.
fn is_news(release: &Release, book: &Book) -> bool {
    match &release.origin {
        Origin::Bundle { key, sequence, .. } => {
            let accepted = book.sequences.get(key);
            book.rejected(&release.id).is_none()
                && accepted.is_none_or(|accepted| sequence > accepted)
        }
        Origin::Local => false,
    }
}

fn from_store<'i>(
    paths: &Paths,
    images: impl Iterator<Item = &'i String>,
) -> Result<(), StoreError> {
    if !paths.store().exists() {
        return Ok(());
    }
    let store = Store::open(&paths.store())?;
    for id in images {
        match store.remove(id) {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    store.collect_garbage().map(|_| ())
}

/// Removes images by ID, each with the name that its release has for it. One that a container or another name
/// still has stays there: it is somebody else's, too.
fn from_engine(paths: &Paths, images: &BTreeMap<String, String>) -> Result<(), String> {
    let engine = node(paths)
        .and_then(|node| engine(&node))
        .map_err(|(_, text)| text)?;
    let mut result = Ok(());
    block_on(async {
        for (id, name) in images {
            let removed = match engine.image(id).await {
                Ok(Some(image)) if image.tags.is_empty() => engine.remove_image(id, false).await,
                Ok(Some(image)) if image.tags.contains(name) => {
                    engine.remove_image(name, false).await
                }
                Ok(Some(_) | None) => Ok(()),
                Err(fault) => Err(fault),
            };
            // One that the engine refuses to remove is somebody else's, too.
            if let Err(Fault::NoAnswer(text)) = removed {
                result = Err(format!(
                    "image {name} ({id}) stays in the engine, which does not answer: {text}"
                ));
            }
        }
        Exit::Done
    });
    result
}
