//! `[volumes.NAME]`: what becomes of a named volume at an update.
//!
//! A volume needs no such table to be there; the engine makes it for the
//! container that names it. Nothing said here is told to the engine, so no
//! container is made anew because of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::container::Draft;
use super::cx::Cx;
use super::names;
use super::read;
use super::tree::{At, Item, Key, Table};
use super::types::{MountSource, Volume};

/// Most bytes of a volume that is copied where the file does not say.
const LIMIT: u64 = 1 << 30;

/// Least that can be said, bytes: one block of most file systems.
const LEAST: u64 = 4096;

const EXAMPLE: &str = "[volumes.data] and below it snapshot = true";

/// Reads `volumes` of the workload, each with the place of its name.
pub fn read(cx: &mut Cx, item: &Item) -> Vec<(String, Volume, At)> {
    let Some(table) = read::table(cx, item, "volumes", EXAMPLE) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, item) in &table.entries {
        if let Some(table) = read::table(cx, item, &key.name, EXAMPLE) {
            found.push((key.name.clone(), volume(cx, table), key.at.clone()));
        }
    }
    found
}

fn volume(cx: &mut Cx, table: &Table) -> Volume {
    let (mut snapshot, mut limit) = (false, None);
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "snapshot" => snapshot = read::boolean(cx, item, "snapshot").unwrap_or_default(),
            "snapshot_limit" => {
                limit = read::size(cx, item, "snapshot_limit", LEAST).map(|limit| (limit, key));
            }
            _ => unknown(cx, key),
        }
    }
    if let (false, Some((_, key))) = (snapshot, &limit) {
        cx.warning(&key.at, "`snapshot_limit` without a snapshot says nothing")
            .hint("write snapshot = true, or remove the line");
    }
    Volume {
        snapshot: snapshot.then(|| limit.map_or(LIMIT, |(limit, _)| limit)),
    }
}

fn unknown(cx: &mut Cx, key: &Key) {
    let hint = match key.name.as_str() {
        "driver" | "driver_opts" | "external" => {
            "volumes are the engine's local ones; mount a host folder for anything else"
        }
        "name" => "the engine's name for it is WORKLOAD-VOLUME; remove this line",
        "labels" => "a volume has the labels of monopod's only; remove this line",
        _ => return read::unknown_key(cx, key, "a volume", &names::VOLUME_KEYS),
    };
    cx.error(&key.at, format!("unknown key `{}` in a volume", key.name))
        .hint(hint);
}

/// What is said of volumes that some container has; of others it is a mistake.
pub fn of_containers(
    cx: &mut Cx,
    said: Vec<(String, Volume, At)>,
    drafts: &[Draft],
) -> BTreeMap<String, Volume> {
    let mounts = drafts.iter().flat_map(|draft| &draft.container.volumes);
    let named: BTreeSet<&str> = mounts
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name.as_str()),
            MountSource::Bind(_) => None,
        })
        .collect();
    let mut volumes = BTreeMap::new();
    for (name, volume, at) in said {
        if named.contains(name.as_str()) {
            volumes.insert(name, volume);
        } else if name.starts_with(['/', '.', '~']) {
            cx.error(&at, format!("`{name}` is a path of the host, not a volume"))
                .hint("only named volumes are copied: \"data:/var/lib/app\" has one");
        } else {
            let hint = names::nearest(&name, named.iter().copied()).map_or_else(
                || format!("name it in a container: volumes = [\"{name}:/path\"]"),
                |near| format!("did you mean `{near}`?"),
            );
            cx.absent(&at, format!("no container has a volume `{name}`"), hint);
        }
    }
    volumes
}
