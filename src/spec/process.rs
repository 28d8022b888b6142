//! What runs in a container, as whom, with which variables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::cx::Cx;
use super::envfile;
use super::host;
use super::mounts;
use super::names;
use super::read;
use super::tree::{Item, Source, Table, Value};

/// A program with its arguments: a list, or a string split as a shell splits words.
pub fn words(cx: &mut Cx, item: &Item, what: &str) -> Option<Vec<String>> {
    match &item.value {
        Value::String(text) => {
            if let Ok(words) = shell_words::split(text) {
                Some(words)
            } else {
                cx.error(&item.at, format!("`{what}` has a quote that is not closed"))
                    .hint("a list needs no quoting: [\"sh\", \"-c\", \"echo 'it works'\"]");
                None
            }
        }
        Value::Array(items) => {
            let mut words = Vec::with_capacity(items.len());
            let mut good = true;
            for word in items {
                if let Some(text) = word.as_str() {
                    words.push(text.to_owned());
                } else {
                    cx.error(
                        &word.at,
                        format!("a word of `{what}` must be a string, not {}", word.kind()),
                    )
                    .hint("put it into quotes");
                    good = false;
                }
            }
            good.then_some(words)
        }
        Value::Integer(..)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Table(_) => {
            read::wrong_kind(cx, item, what, "a string or a list of strings");
            None
        }
    }
}

/// `environment`.
pub fn environment(cx: &mut Cx, item: &Item) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Some(table) = read::table(
        cx,
        item,
        "environment",
        "environment = { TZ = \"Europe/Berlin\" }",
    ) else {
        return variables;
    };
    for (key, item) in &table.entries {
        if key.name.is_empty() || key.name.contains(['=', '\0']) {
            cx.error(&key.at, format!("`{}` is no variable's name", key.name))
                .hint("a name is not empty and has no `=`");
            continue;
        }
        let Some(value) = read::scalar(cx, item, &key.name) else {
            continue;
        };
        if value.contains("${") {
            cx.warning(
                &item.at,
                format!(
                    "`{}` keeps its `${{`: monopod replaces no variables",
                    key.name
                ),
            );
        }
        variables.insert(key.name.clone(), value);
    }
    variables
}

/// The variables of every `env_file`; later files over earlier ones.
pub fn env_files(cx: &mut Cx, item: &Item) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for entry in read::list(cx, item, "env_file", "\"/etc/app.env\"") {
        let Some(text) = read::text(cx, entry, "env_file") else {
            continue;
        };
        let path = cx.folder.join(text);
        let found = cx
            .host
            .read(&path)
            .map_err(|error| host::reason(&error))
            .and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
            });
        match found {
            Ok(text) => read_env_file(cx, &path, text, &mut variables),
            Err(reason) => {
                let path = path.display();
                cx.host_finding(
                    &entry.at,
                    &format!("the env_file `{path}` cannot be read: {reason}"),
                );
            }
        }
    }
    variables
}

fn read_env_file(cx: &mut Cx, path: &Path, text: String, variables: &mut BTreeMap<String, String>) {
    let source = Arc::new(Source {
        name: path.display().to_string(),
        text,
    });
    cx.read(&source.name);
    let (found, bad) = envfile::parse(&source);
    for line in bad {
        cx.error(&line.at, line.why).hint(line.hint);
    }
    for (name, value, at) in found {
        if name.contains('\0') || value.contains('\0') {
            cx.error(&at, "a variable must not contain a NUL character");
            continue;
        }
        variables.insert(name, value);
    }
}

/// `labels`.
pub fn labels(cx: &mut Cx, item: &Item) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(table) = read::table(cx, item, "labels", "labels = { site = \"plant-7\" }") else {
        return labels;
    };
    for (key, item) in &table.entries {
        if key.name.is_empty() {
            cx.error(&key.at, "a label has no name");
        } else if key.name.starts_with("org.monopod.") {
            cx.error(
                &key.at,
                format!("the label `{}` is monopod's own", key.name),
            )
            .hint("take a name that does not begin with `org.monopod.`");
        } else if let Some(value) = read::scalar(cx, item, &key.name) {
            labels.insert(key.name.clone(), value);
        }
    }
    labels
}

/// `user`: `UID[:GID]` or names.
pub fn user(cx: &mut Cx, item: &Item) -> Option<String> {
    let user = id_or_name(cx, item, "user")?;
    let parts: Vec<_> = user.split(':').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_account(part)) {
        return Some(user);
    }
    cx.error(&item.at, format!("`{user}` is no user"))
        .hint("a name or number, and a group's behind a colon: \"1000:1000\"");
    None
}

/// `group_add`.
pub fn groups(cx: &mut Cx, item: &Item) -> Vec<String> {
    let mut groups = Vec::new();
    for entry in read::list(cx, item, "group_add", "[\"dialout\"]") {
        let Some(group) = id_or_name(cx, entry, "group_add") else {
            continue;
        };
        if is_account(&group) {
            groups.push(group);
        } else {
            cx.error(&entry.at, format!("`{group}` is no group"))
                .hint("a group's name or number");
        }
    }
    groups
}

fn id_or_name(cx: &mut Cx, item: &Item, what: &str) -> Option<String> {
    match &item.value {
        Value::Integer(number, _) => {
            if let Ok(id) = u32::try_from(*number) {
                Some(id.to_string())
            } else {
                cx.error(&item.at, format!("`{what}` is {number}"))
                    .hint("an ID goes from 0 to 4294967295");
                None
            }
        }
        Value::String(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => read::text(cx, item, what).map(str::to_owned),
    }
}

fn is_account(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$' | '@' | '\\'))
}

/// `working_dir`.
pub fn working_dir(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = read::text(cx, item, "working_dir")?;
    let path = mounts::clean(text);
    if path.is_none() {
        cx.error(&item.at, format!("`{text}` is no path in the container"))
            .hint("a path there begins with `/` and has no `..`");
    }
    path
}

/// `stop_signal`: a name with or without `SIG`, or a number.
pub fn signal(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = match &item.value {
        Value::Integer(number, _) => number.to_string(),
        Value::String(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => read::text(cx, item, "stop_signal")?.to_owned(),
    };
    let found = if let Ok(number) = text.parse::<u8>() {
        names::SIGNALS
            .iter()
            .find(|(_, known)| *known == number)
            .map(|(name, _)| (*name).to_owned())
            .or_else(|| (34..=64).contains(&number).then(|| number.to_string()))
    } else {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("SIG") {
            upper
        } else {
            format!("SIG{upper}")
        };
        let known = names::SIGNALS.iter().any(|(known, _)| *known == name);
        (known || is_realtime(&name)).then_some(name)
    };
    if found.is_none() {
        let upper = text.to_ascii_uppercase();
        let near = names::nearest(
            upper.strip_prefix("SIG").unwrap_or(&upper),
            names::SIGNALS
                .iter()
                .filter_map(|(name, _)| name.strip_prefix("SIG")),
        );
        let hint = near.map_or_else(
            || "for example \"SIGTERM\", \"SIGINT\" or \"SIGRTMIN+3\"".to_owned(),
            |near| format!("did you mean `SIG{near}`?"),
        );
        cx.error(&item.at, format!("unknown signal `{text}`"))
            .hint(hint);
    }
    found
}

/// `SIGRTMIN`, `SIGRTMIN+1` to `+15`, `SIGRTMAX`, `SIGRTMAX-1` to `-14`: what Docker knows.
fn is_realtime(name: &str) -> bool {
    let offset = |text: &str, sign: char, most: u8| {
        text.is_empty()
            || text
                .strip_prefix(sign)
                .and_then(|n| n.parse::<u8>().ok())
                .is_some_and(|n| (1..=most).contains(&n))
    };
    name.strip_prefix("SIGRTMIN")
        .is_some_and(|rest| offset(rest, '+', 15))
        || name
            .strip_prefix("SIGRTMAX")
            .is_some_and(|rest| offset(rest, '-', 14))
}

/// The variables of a container: `environment` over `env_file`.
pub fn variables(cx: &mut Cx, table: &Table) -> BTreeMap<String, String> {
    let mut variables = table
        .get("env_file")
        .map(|item| env_files(cx, item))
        .unwrap_or_default();
    if let Some(item) = table.get("environment") {
        variables.extend(environment(cx, item));
    }
    variables
}
