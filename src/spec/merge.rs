//! Drop-ins over the workload file.
//!
//! `workload.d/*.toml` are laid over `workload.toml` in the order of their
//! names. The rules are Compose's for several files, with what TOML cannot say
//! (`!reset`, `!override`) left out:
//!
//! - Tables merge by key: `environment`, `labels`, `sysctls`, `ulimits`,
//!   `depends_on`, `secrets`, `files`, the containers themselves, and what is
//!   said of the workload's volumes. A list of
//!   `A=b` counts as the table that it stands for.
//! - `ports`, `dns`, `extra_hosts`, `cap_add`, `cap_drop`, `security_opt`,
//!   `group_add` and `env_file` are appended, without what is there already.
//! - `volumes`, `tmpfs` and `devices` are appended too; one with the same path
//!   in the container takes the place of the former.
//! - Everything else is replaced: `command`, `entrypoint`, `test`, and all that
//!   is one value.
//! - `logging` merges if both name the same driver or one names none; else the
//!   later one replaces it.
//! - A later `healthcheck` that asks in another way (`http`, `tcp`, `test`,
//!   `notify`, `disable`) replaces the question and keeps the timing.
//! - A secret is replaced as a whole.
//!
//! Every value keeps the position that it has in its own file. Before the merge
//! each form that Compose allows for a value is turned into one ([`canonical`]),
//! so that the rules have one form to deal with. The module must never judge a
//! value: what it does not understand it leaves for the checks.

use super::cx::Cx;
use super::tree::{Item, Key, Table, Value};
use super::{mounts, ports};

/// Keys of a health check that say who is asked and how, not when.
const QUESTION: [&str; 10] = [
    "http", "tcp", "test", "notify", "disable", "status", "body", "headers", "scheme", "tls",
];

/// The keys among them that choose the way of asking.
const WAY: [&str; 5] = ["http", "tcp", "test", "notify", "disable"];

/// Brings a file's values into the one form that the merge and the checks know.
pub fn canonical(cx: &mut Cx, workload: &mut Table) {
    for (name, item) in &mut workload.entries {
        let Value::Table(containers) = &mut item.value else {
            continue;
        };
        if name.name != "containers" {
            continue;
        }
        for (_, container) in &mut containers.entries {
            if let Value::Table(container) = &mut container.value {
                for (key, item) in &mut container.entries {
                    canonical_value(cx, &key.name, item);
                }
            }
        }
    }
}

fn canonical_value(cx: &mut Cx, key: &str, item: &mut Item) {
    match (key, &mut item.value) {
        ("environment" | "sysctls" | "labels", Value::Array(items)) => {
            item.value = Value::Table(pairs_to_table(cx, key, items));
        }
        ("depends_on", Value::Array(items)) => {
            item.value = Value::Table(names_to_table(cx, items));
        }
        ("env_file" | "tmpfs" | "dns", Value::String(_) | Value::Table(_)) => {
            let only = item.clone();
            item.value = Value::Array(vec![only]);
        }
        ("extra_hosts", Value::Table(table)) => {
            item.value = Value::Array(hosts_to_list(table));
        }
        ("logging", Value::Table(table)) => flatten_options(table),
        _ => {}
    }
}

/// `["A=b"]` as `{ A = "b" }`; the last of a name counts.
fn pairs_to_table(cx: &mut Cx, key: &str, items: &[Item]) -> Table {
    let mut entries = Vec::new();
    for item in items {
        let Some(text) = item.as_str() else {
            cx.error(
                &item.at,
                format!("an entry of `{key}` must be a string, not {}", item.kind()),
            )
            .hint(format!("for example {key} = [\"NAME=value\"]"));
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some(pair) => pair,
            None if key == "labels" => (text, ""),
            None => {
                cx.error(&item.at, format!("`{text}` in `{key}` has no value"))
                    .hint(format!(
                        "write \"{text}=value\"; monopod passes nothing on from its own environment"
                    ));
                continue;
            }
        };
        let key = Key {
            name: name.to_owned(),
            at: item.at.clone(),
        };
        entries.push((key, Item::string(&item.at, value)));
    }
    Table::last_of_each(entries)
}

/// `["broker"]` as `{ broker = "started" }`.
fn names_to_table(cx: &mut Cx, items: &[Item]) -> Table {
    let mut entries = Vec::new();
    for item in items {
        let Some(name) = item.as_str() else {
            cx.error(
                &item.at,
                format!(
                    "an entry of `depends_on` must be a container's name, not {}",
                    item.kind()
                ),
            );
            continue;
        };
        let key = Key {
            name: name.to_owned(),
            at: item.at.clone(),
        };
        entries.push((key, Item::string(&item.at, "started")));
    }
    Table::last_of_each(entries)
}

/// `{ name = "ip" }` as `["name=ip"]`: a name may have several addresses, so that lists append.
fn hosts_to_list(table: &Table) -> Vec<Item> {
    let mut list = Vec::new();
    for (key, item) in &table.entries {
        match &item.value {
            Value::Array(addresses) => {
                list.extend(addresses.iter().map(|address| host_line(key, address)));
            }
            Value::String(_)
            | Value::Integer(..)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Table(_) => list.push(host_line(key, item)),
        }
    }
    list
}

fn host_line(key: &Key, address: &Item) -> Item {
    match address.as_str() {
        Some(text) => Item::string(&address.at, &format!("{}={text}", key.name)),
        // Not a string: the check of the list says so.
        None => address.clone(),
    }
}

/// Compose's `options = { max-size = ... }` as keys of the table itself.
fn flatten_options(table: &mut Table) {
    let Some(index) = table
        .entries
        .iter()
        .position(|(key, item)| key.name == "options" && matches!(item.value, Value::Table(_)))
    else {
        return;
    };
    if let (
        _,
        Item {
            value: Value::Table(options),
            ..
        },
    ) = table.entries.remove(index)
    {
        for (mut key, item) in options.entries {
            key.name = key.name.replace('-', "_");
            table.set(key, item);
        }
    }
}

/// Lays one file's table over another's.
pub fn merge(base: &mut Table, over: Table) {
    for (key, item) in over.entries {
        match (base.table_mut(&key.name), item) {
            (
                Some(below),
                Item {
                    value: Value::Table(above),
                    ..
                },
            ) if key.name == "containers" => merge_containers(below, above),
            (
                Some(below),
                Item {
                    value: Value::Table(above),
                    ..
                },
            ) if key.name == "volumes" => merge_table("volumes", below, above),
            (_, item) => base.set(key, item),
        }
    }
}

fn merge_containers(base: &mut Table, over: Table) {
    for (key, item) in over.entries {
        match (base.table_mut(&key.name), item) {
            (
                Some(below),
                Item {
                    value: Value::Table(above),
                    ..
                },
            ) => merge_container(below, above),
            (_, item) => base.set(key, item),
        }
    }
}

fn merge_container(base: &mut Table, over: Table) {
    for (key, item) in over.entries {
        let below = base
            .entries
            .iter_mut()
            .find(|(name, _)| name.name == key.name);
        let Some((_, below)) = below else {
            base.set(key, item);
            continue;
        };
        match (&mut below.value, item.value) {
            (Value::Table(below), Value::Table(above)) => merge_table(&key.name, below, above),
            (Value::Array(below), Value::Array(above)) if appends(&key.name) => {
                for item in above {
                    append(&key.name, below, item);
                }
            }
            (_, value) => base.set(key, Item { at: item.at, value }),
        }
    }
}

fn appends(key: &str) -> bool {
    matches!(
        key,
        "ports"
            | "volumes"
            | "devices"
            | "tmpfs"
            | "dns"
            | "extra_hosts"
            | "cap_add"
            | "cap_drop"
            | "security_opt"
            | "group_add"
            | "env_file"
    )
}

/// Appends one entry, unless it is there; one with the same target takes the other's place.
fn append(key: &str, list: &mut Vec<Item>, item: Item) {
    let same = |other: &Item| match key {
        "volumes" | "tmpfs" | "devices" => {
            let target = mounts::target_of(key, &item);
            target.is_some() && target == mounts::target_of(key, other)
        }
        "ports" => match (ports::of_item(&item), ports::of_item(other)) {
            (Some(a), Some(b)) => a == b,
            (_, _) => false,
        },
        _ => item.value == other.value,
    };
    match list.iter().position(same) {
        Some(index) => list[index] = item,
        None => list.push(item),
    }
}

fn merge_table(key: &str, base: &mut Table, over: Table) {
    match key {
        "logging" => {
            let driver = |table: &Table| {
                table
                    .get("driver")
                    .and_then(Item::as_str)
                    .map(str::to_owned)
            };
            if let (Some(below), Some(above)) = (driver(base), driver(&over))
                && below != above
            {
                *base = over;
                return;
            }
        }
        "healthcheck" if WAY.iter().any(|way| over.get(way).is_some()) => {
            let same_way = WAY
                .iter()
                .all(|way| over.get(way).is_some() == base.get(way).is_some());
            if !same_way {
                base.entries
                    .retain(|(key, _)| !QUESTION.contains(&key.name.as_str()));
            }
        }
        _ => {}
    }
    for (name, item) in over.entries {
        match (base.table_mut(&name.name), item) {
            // `files`, `ulimits`, `tls`, `headers` and what else is a table in a table.
            (
                Some(below),
                Item {
                    value: Value::Table(above),
                    ..
                },
            ) if key != "secrets" => {
                for (key, item) in above.entries {
                    below.set(key, item);
                }
            }
            (_, item) => base.set(name, item),
        }
    }
}
