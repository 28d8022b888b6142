//! From text to a [`types::Workload`] and a [`types::Node`].
//!
//! In stages, each with a module of its own:
//!
//! ```text
//! text ──> tree ──> merge ──> container, node ──> checks ──> types
//!          TOML,    one form  each value by       what        what the rest
//!          with     of each,  itself (health,     contradicts of monopod
//!          places   drop-ins  mounts, ports, ...) what        works with
//! ```
//!
//! No stage stops at the first error: everything that is wrong in any file is
//! reported in one go, each with its place and a hint. Only the validated types
//! leave this module. What the checks want to know of the machine they ask
//! through [`host::Host`]; nothing here writes, and nothing needs a daemon or
//! an engine.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::paths::Paths;

use cx::{Cx, Scope};
use diagnostic::{Diagnostic, Invalid};
use host::Host;
use tree::{Key, Source, Table, Value};
use types::{Node, Workload};

pub mod calendar;
mod checks;
mod container;
mod cx;
pub mod diagnostic;
mod envfile;
pub mod hash;
mod health;
pub mod host;
mod image;
mod inline;
mod limits;
mod merge;
mod mounts;
mod names;
mod net;
mod node;
mod ports;
mod process;
mod read;
mod slice;
mod tree;
pub mod types;
mod units;
mod update;
mod url;
mod usb;
mod volumes;

#[cfg(test)]
mod tests;

pub use hash::spec_hash;

/// A valid file, and what its author should hear all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// What it describes.
    pub value: T,
    /// In the order of the files and their lines.
    pub warnings: Vec<Diagnostic>,
}

/// Loads this node's workload: `workload.toml` and the drop-ins over it.
///
/// What the files name must be on this machine.
///
/// # Errors
///
/// Every error of every file, with the warnings between them.
pub fn load(paths: &Paths, host: &dyn Host) -> Result<Loaded<Workload>, Invalid> {
    load_release(paths, &paths.workload(), host)
}

/// Loads a release's workload file, with this node's drop-ins over it. What it names beside it is in the
/// node's own folder, wherever the file itself is.
///
/// # Errors
///
/// As [`load`].
pub fn load_release(
    paths: &Paths,
    base: &Path,
    host: &dyn Host,
) -> Result<Loaded<Workload>, Invalid> {
    let mut cx = new_cx(host, Scope::ThisNode, &paths.workload());
    let mut merged = Table::default();
    if let Some(table) = read_workload(&mut cx, base) {
        merged = table;
    }
    let folder = paths.workload_d();
    match host.list(&folder) {
        Ok(names) => {
            for name in names.iter().filter(|name| is_drop_in(name)) {
                if let Some(table) = read_workload(&mut cx, &folder.join(name)) {
                    merge::merge(&mut merged, table);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let reason = host::reason(&error);
            let name = folder.display().to_string();
            cx.unreadable([Diagnostic::file_error(
                name,
                format!("the file cannot be read: {reason}"),
            )]);
        }
    }
    let workload = workload(&mut cx, base, &merged);
    finish(cx, workload)
}

/// Loads one workload file by itself, which may be meant for another node.
///
/// What is missing on this machine is a warning; without an `env_file` its
/// variables are missing too, so the result is for looking at only.
///
/// # Errors
///
/// Every error of the file, with the warnings between them.
pub fn load_file(path: &Path, host: &dyn Host) -> Result<Loaded<Workload>, Invalid> {
    let mut cx = new_cx(host, Scope::AnyNode, path);
    let table = read_workload(&mut cx, path).unwrap_or_default();
    let workload = workload(&mut cx, path, &table);
    finish(cx, workload)
}

/// Loads this node's `node.toml`; one that is not there is all defaults.
///
/// # Errors
///
/// Every error of the file, with the warnings between them.
pub fn load_node(paths: &Paths, host: &dyn Host) -> Result<Loaded<Node>, Invalid> {
    let path = paths.node();
    if let Err(error) = host.look(&path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(Loaded {
            value: Node::default(),
            warnings: Vec::new(),
        });
    }
    load_node_file(&path, host)
}

/// Loads a node file that must be there.
///
/// # Errors
///
/// Every error of the file, with the warnings between them.
pub fn load_node_file(path: &Path, host: &dyn Host) -> Result<Loaded<Node>, Invalid> {
    let mut cx = new_cx(host, Scope::AnyNode, path);
    let table = read_table(&mut cx, path).unwrap_or_default();
    let node = node::read(&mut cx, &table);
    finish(cx, Some(node))
}

fn new_cx<'h>(host: &'h dyn Host, scope: Scope, file: &Path) -> Cx<'h> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    Cx::new(host, scope, folder)
}

fn finish<T>(cx: Cx, value: Option<T>) -> Result<Loaded<T>, Invalid> {
    let (value, warnings) = cx.finish(value)?;
    Ok(Loaded { value, warnings })
}

/// As for systemd's drop-ins: the suffix counts, hidden files do not.
fn is_drop_in(name: &str) -> bool {
    !name.starts_with('.')
        && Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
}

fn read_workload(cx: &mut Cx, path: &Path) -> Option<Table> {
    let mut table = read_table(cx, path)?;
    merge::canonical(cx, &mut table);
    Some(table)
}

/// Reads and parses a file; `None` once its faults are noted.
fn read_table(cx: &mut Cx, path: &Path) -> Option<Table> {
    let name = path.display().to_string();
    cx.read(&name);
    let bytes = match cx.host.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let reason = host::reason(&error);
            let mut diagnostic =
                Diagnostic::file_error(name, format!("the file cannot be read: {reason}"));
            if error.kind() == io::ErrorKind::NotFound && cx.scope() == Scope::ThisNode {
                diagnostic.hint(
                    "this node's workload is described there; \
                     `monopod check FILE` checks a file elsewhere",
                );
            }
            cx.unreadable([diagnostic]);
            return None;
        }
    };
    let (text, valid) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            (text, Some(valid))
        }
    };
    let source = Arc::new(Source { name, text });
    if let Some(valid) = valid {
        let at = tree::At::new(&source, valid, valid + 1);
        let mut diagnostic = Diagnostic::error(&at, "the file is not UTF-8 text");
        diagnostic.hint("save it as UTF-8");
        cx.unreadable([diagnostic]);
        return None;
    }
    match tree::parse(&source) {
        Ok(table) => Some(table),
        Err(diagnostics) => {
            cx.unreadable(diagnostics);
            None
        }
    }
}

/// Checks the merged table; `None` if it describes no workload at all.
fn workload(cx: &mut Cx, file: &Path, table: &Table) -> Option<Workload> {
    let file = file.display().to_string();
    let mut name = None;
    let mut drafts = Vec::new();
    let mut said = Vec::new();
    let mut any = false;
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "name" => {
                name = read::text(cx, item, "name");
                if let Some(name) = name {
                    checks::workload_name(cx, &item.at, name);
                }
            }
            "containers" => {
                any = true;
                let example = "[containers.app]";
                if let Some(table) = read::table(cx, item, "containers", example) {
                    any = !table.entries.is_empty();
                    drafts = containers(cx, table);
                }
            }
            "volumes" => said = volumes::read(cx, item),
            _ => top_level_key(cx, key),
        }
    }
    if table.get("name").is_none() {
        cx.absent_in_file(
            &file,
            "the workload has no `name`",
            "write for example name = \"gateway\" as the first line",
        );
    }
    if !any {
        cx.absent_in_file(
            &file,
            "the workload has no container",
            "write for example [containers.app] and below it image = \"example/gateway:1.4.2\"",
        );
    }
    let drafts = checks::workload(cx, drafts);
    let volumes = volumes::of_containers(cx, said, &drafts);
    Some(Workload {
        name: name?.to_owned(),
        containers: drafts.into_iter().map(|draft| draft.container).collect(),
        volumes,
    })
}

/// Containers that are looked at; that there are more than two is a finding of its own.
const ENOUGH: usize = 16;

fn containers(cx: &mut Cx, table: &Table) -> Vec<container::Draft> {
    let mut drafts = Vec::new();
    let keys: Vec<&Key> = table.entries.iter().map(|(key, _)| key).collect();
    checks::count(cx, &keys);
    for (key, item) in table.entries.iter().take(ENOUGH) {
        checks::container_name(cx, key);
        match &item.value {
            Value::Table(table) => drafts.push(container::read(cx, key, table)),
            _ if names::CONTAINER_KEYS.contains(&key.name.as_str()) => {
                cx.error(&key.at, format!("`{}` belongs in a container", key.name))
                    .hint("give the container a name: [containers.app]");
            }
            _ => read::wrong_kind(cx, item, &key.name, "a table"),
        }
    }
    drafts
}

fn top_level_key(cx: &mut Cx, key: &Key) {
    let name = key.name.as_str();
    if let Some(hint) = names::compose_top_hint(name) {
        cx.error(&key.at, format!("unknown key `{name}` in the workload"))
            .hint(hint);
    } else if names::CONTAINER_KEYS.contains(&name) {
        cx.error(&key.at, format!("`{name}` belongs in a container"))
            .hint("write it below [containers.NAME]");
    } else {
        read::unknown_key(cx, key, "the workload", &names::WORKLOAD_KEYS);
    }
}
