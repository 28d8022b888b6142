//! `node.toml`: what belongs to the node's owner.
//!
//! Every key has a default, and so has the file. The environment is not looked
//! at here.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::cx::Cx;
use super::mounts;
use super::names;
use super::read;
use super::slice;
use super::tree::{Item, Table};
use super::types::{Escalation, Node, Ready};
use super::update;
use super::usb;

const TABLES: [&str; 8] = [
    "engine",
    "store",
    "escalation",
    "systemd",
    "slice",
    "update",
    "trial",
    "usb",
];
const ESCALATION: [&str; 11] = [
    "restarts",
    "recreates",
    "rebuilds",
    "withholds",
    "backoff_base",
    "backoff_max",
    "stable",
    "engine_after",
    "engine_restarts",
    "reboot",
    "reboots_per_day",
];

/// Delays of the ladder: above what a loop could tell apart, below what an owner would wait for.
const DELAYS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// Reads the file's table.
pub fn read(cx: &mut Cx, table: &Table) -> Node {
    let mut node = Node::default();
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        if !TABLES.contains(&name) {
            if names::WORKLOAD_KEYS.contains(&name) {
                cx.error(&key.at, format!("`{name}` belongs in workload.toml"));
            } else {
                read::unknown_key(cx, key, "node.toml", &TABLES);
            }
            continue;
        }
        let example = format!("[{name}]");
        let Some(table) = read::table(cx, item, name, &example) else {
            continue;
        };
        match name {
            "engine" => engine(cx, &mut node, table),
            "store" => store(cx, &mut node, table),
            "escalation" => escalation(cx, &mut node, table),
            "slice" => node.slice = slice::read(cx, table),
            "usb" => node.usb = usb::read(cx, table),
            "update" => node.update = update::read(cx, table),
            "trial" => node.trial = update::trial(cx, table),
            _ => systemd(cx, &mut node, table),
        }
    }
    node
}

fn engine(cx: &mut Cx, node: &mut Node, table: &Table) {
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "socket" => node.engine_socket = socket(cx, item),
            "unit" => node.engine_unit = unit(cx, item),
            _ => read::unknown_key(cx, key, "[engine]", &["socket", "unit"]),
        }
    }
}

/// A service's name, as systemd takes them: it is restarted by root on the daemon's word.
fn unit(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = read::text(cx, item, "unit")?;
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let stem = text.strip_suffix(".service");
    if stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(good)) && text.len() < 256 {
        return Some(text.to_owned());
    }
    cx.error(&item.at, format!("`{text}` is no service unit"))
        .hint("the unit that runs the engine: \"docker.service\"");
    None
}

fn socket(cx: &mut Cx, item: &Item) -> Option<PathBuf> {
    let text = read::text(cx, item, "socket")?;
    let hint = match text.split_once("://") {
        Some(("unix", path)) => match mounts::clean(path) {
            Some(path) if path != "/" => return Some(path.into()),
            Some(_) | None => "an absolute path: \"unix:///run/docker.sock\"".to_owned(),
        },
        Some(("tcp" | "http" | "https" | "ssh", _)) => {
            "monopod supervises the node it runs on: \"unix:///run/docker.sock\"".to_owned()
        }
        None if text.starts_with('/') => format!("write \"unix://{text}\""),
        Some(_) | None => "for example \"unix:///run/docker.sock\"".to_owned(),
    };
    cx.error(&item.at, format!("`{text}` is no unix socket"))
        .hint(hint);
    None
}

fn store(cx: &mut Cx, node: &mut Node, table: &Table) {
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "keep" => {
                if let Some(keep) = read::boolean(cx, item, "keep") {
                    node.store.keep = keep;
                }
            }
            "max_image_size" => {
                if let Some(size) = read::size(cx, item, "max_image_size", 1 << 20) {
                    node.store.max_image_size = size;
                }
            }
            _ => read::unknown_key(cx, key, "[store]", &["keep", "max_image_size"]),
        }
    }
}

fn escalation(cx: &mut Cx, node: &mut Node, table: &Table) {
    let escalation = &mut node.escalation;
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        if name == "reboot" {
            if let Some(value) = read::boolean(cx, item, name) {
                escalation.reboot = value;
            }
            continue;
        }
        let count = match name {
            "restarts" => Some((&mut escalation.restarts, 1000)),
            "recreates" => Some((&mut escalation.recreates, 1000)),
            "rebuilds" => Some((&mut escalation.rebuilds, 1000)),
            "withholds" => Some((&mut escalation.withholds, 1000)),
            "engine_restarts" => Some((&mut escalation.engine_restarts, 1000)),
            "reboots_per_day" => {
                let most = Escalation::MOST_REBOOTS;
                Some((&mut escalation.reboots_per_day, most))
            }
            _ => None,
        };
        if let Some((count, most)) = count {
            if let Some(value) = read::small_integer(cx, item, name, 0..=most) {
                *count = value;
            }
            continue;
        }
        let delay = match name {
            "backoff_base" => &mut escalation.backoff_base,
            "backoff_max" => &mut escalation.backoff_max,
            "stable" => &mut escalation.stable,
            "engine_after" => &mut escalation.engine_after,
            _ => {
                read::unknown_key(cx, key, "[escalation]", &ESCALATION);
                continue;
            }
        };
        if let Some(value) = read::duration(cx, item, name, DELAYS) {
            *delay = value;
        }
    }
    if escalation.backoff_base > escalation.backoff_max {
        let written = table
            .entry("backoff_base")
            .or_else(|| table.entry("backoff_max"));
        if let Some((key, item)) = written {
            cx.error(&item.at, "`backoff_base` is above `backoff_max`")
                .hint(format!(
                    "the delay begins at {} and doubles up to {}: change `{}`",
                    super::units::show_duration(escalation.backoff_base),
                    super::units::show_duration(escalation.backoff_max),
                    key.name
                ));
        }
    }
}

fn systemd(cx: &mut Cx, node: &mut Node, table: &Table) {
    for (key, item) in &table.entries {
        if key.name != "ready" {
            read::unknown_key(cx, key, "[systemd]", &["ready"]);
            continue;
        }
        match item.as_str() {
            Some("healthy") => node.ready = Ready::Healthy,
            Some("running") => node.ready = Ready::Running,
            _ => {
                cx.error(&item.at, "`ready` must be \"healthy\" or \"running\"")
                    .hint(
                        "what READY=1 waits for: the first Healthy of every container, or its process",
                    );
            }
        }
    }
}
