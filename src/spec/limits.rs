//! What a container may do and how much it may use.

use std::collections::BTreeMap;
use std::path::Path;

use super::cx::Cx;
use super::host;
use super::names;
use super::read;
use super::tree::{At, Item, Table, Value};
use super::types::{Gpus, Logging, Ulimit};
use super::units;

/// Docker refuses a memory limit below this: 6 MiB.
pub const LEAST_MEMORY: u64 = 6 << 20;

/// Docker's least share of processors: 0.01.
const LEAST_NANO_CPUS: u64 = 10_000_000;

/// `cap_add` or `cap_drop`, in upper case without `CAP_`, with their places.
pub fn capabilities(cx: &mut Cx, item: &Item, what: &str) -> Vec<(String, At)> {
    let mut found = Vec::new();
    for entry in read::list(cx, item, what, "[\"NET_ADMIN\"]") {
        let Some(text) = read::text(cx, entry, what) else {
            continue;
        };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" || names::CAPABILITIES.contains(&name) {
            if !found.iter().any(|(known, _)| known == name) {
                found.push((name.to_owned(), entry.at.clone()));
            }
            continue;
        }
        let hint = names::nearest(name, names::CAPABILITIES.into_iter()).map_or_else(
            || "capabilities(7) lists them; ALL stands for every one".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        cx.error(&entry.at, format!("unknown capability `{text}`"))
            .hint(hint);
    }
    found
}

/// `security_opt`. A seccomp profile's file is read, as Compose does: the engine wants its text.
pub fn security_opt(cx: &mut Cx, item: &Item) -> Vec<String> {
    let mut options = Vec::new();
    for entry in read::list(cx, item, "security_opt", "[\"no-new-privileges:true\"]") {
        let Some(text) = read::text(cx, entry, "security_opt") else {
            continue;
        };
        let (name, value) = match text.find(['=', ':']) {
            Some(index) => (&text[..index], &text[index + 1..]),
            None => (text, ""),
        };
        let option = match (name, value) {
            ("no-new-privileges", "" | "true" | "false")
            | ("systempaths", "unconfined")
            | ("seccomp", "unconfined" | "builtin") => Some(text.to_owned()),
            ("label" | "apparmor", value) if !value.is_empty() => Some(text.to_owned()),
            ("seccomp", path) if path.starts_with('/') => Some(seccomp(cx, &entry.at, path)),
            _ => None,
        };
        match option {
            // The engine takes `=`; `:` is its older form, and not known to every one.
            Some(option) if !option.contains('=') => options.push(option.replacen(':', "=", 1)),
            Some(option) => options.push(option),
            None => {
                cx.error(&entry.at, format!("unknown security option `{text}`"))
                    .hint(
                        "no-new-privileges:true, label=..., apparmor=PROFILE, seccomp=/PATH, \
                         seccomp=unconfined or systempaths=unconfined",
                    );
            }
        }
    }
    options
}

fn seccomp(cx: &mut Cx, at: &At, path: &str) -> String {
    let found = cx
        .host
        .read(Path::new(path))
        .map_err(|error| host::reason(&error))
        .and_then(|bytes| {
            serde_json::from_slice::<serde_json::Value>(&bytes)
                .map_err(|_| "it is not JSON".to_owned())
        });
    match found {
        Ok(profile) => format!("seccomp={profile}"),
        Err(reason) => {
            cx.host_finding(
                at,
                &format!("the seccomp profile `{path}` cannot be used: {reason}"),
            );
            format!("seccomp={path}")
        }
    }
}

/// `ulimits`.
pub fn ulimits(cx: &mut Cx, item: &Item) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    let Some(table) = read::table(cx, item, "ulimits", "ulimits = { nofile = 4096 }") else {
        return limits;
    };
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        if !names::ULIMITS.contains(&name) {
            read::unknown_key(cx, key, "`ulimits`", &names::ULIMITS);
            continue;
        }
        let limit = match &item.value {
            Value::Table(table) => soft_and_hard(cx, &item.at, name, table),
            Value::Integer(..)
            | Value::String(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_) => read::integer(cx, item, name, -1..=i64::MAX).map(|value| Ulimit {
                soft: value,
                hard: value,
            }),
        };
        if let Some(limit) = limit {
            limits.insert(name.to_owned(), limit);
        }
    }
    limits
}

fn soft_and_hard(cx: &mut Cx, at: &At, name: &str, table: &Table) -> Option<Ulimit> {
    let (mut soft, mut hard) = (None, None);
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "soft" => soft = Some(read::integer(cx, item, "soft", -1..=i64::MAX)?),
            "hard" => hard = Some(read::integer(cx, item, "hard", -1..=i64::MAX)?),
            _ => {
                read::unknown_key(cx, key, "a limit", &["soft", "hard"]);
                return None;
            }
        }
    }
    let (Some(soft), Some(hard)) = (soft, hard) else {
        cx.error(at, format!("`{name}` needs `soft` and `hard`"))
            .hint(format!(
                "for example {name} = {{ soft = 1024, hard = 4096 }}"
            ));
        return None;
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        cx.error(at, format!("`{name}` has a soft limit above its hard one"))
            .hint("-1 is unlimited");
        return None;
    }
    Some(Ulimit { soft, hard })
}

/// `sysctls`, with their places.
pub fn sysctls(cx: &mut Cx, item: &Item) -> BTreeMap<String, (String, At)> {
    let mut found = BTreeMap::new();
    let example = "sysctls = { \"net.core.somaxconn\" = 1024 }";
    let Some(table) = read::table(cx, item, "sysctls", example) else {
        return found;
    };
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        // `net.core.somaxconn = 1` without quotes is three tables to TOML.
        if let Value::Table(_) = item.value {
            cx.error(&key.at, format!("`{name}` must be a string, not a table"))
                .hint(format!("put the whole name into quotes: {example}"));
            continue;
        }
        let own = name.starts_with("net.")
            || name.starts_with("fs.mqueue.")
            || names::SYSCTLS.contains(&name);
        if !own {
            let near = names::nearest(name, names::SYSCTLS.into_iter());
            let hint = near.map_or_else(
                || {
                    "only net.*, fs.mqueue.* and the kernel's msg*, shm* and sem are a container's \
                     own; set others on the node in /etc/sysctl.d"
                        .to_owned()
                },
                |near| format!("did you mean `{near}`?"),
            );
            cx.error(&key.at, format!("`{name}` is not a container's own"))
                .hint(hint);
            continue;
        }
        if let Some(value) = read::scalar(cx, item, name) {
            found.insert(name.to_owned(), (value, key.at.clone()));
        }
    }
    found
}

/// `cpus` in billionths of a core.
pub fn cpus(cx: &mut Cx, item: &Item) -> Option<u64> {
    let text = match &item.value {
        Value::String(text) | Value::Float(text) => text.clone(),
        Value::Integer(number, _) => number.to_string(),
        Value::Boolean(_) | Value::Datetime | Value::Array(_) | Value::Table(_) => {
            read::wrong_kind(cx, item, "cpus", "a number of cores");
            return None;
        }
    };
    match units::nano_cpus(&text) {
        Ok(nanos) if nanos >= LEAST_NANO_CPUS => Some(nanos),
        Ok(_) => {
            cx.error(&item.at, format!("`cpus` is {text}, too little"))
                .hint("0.01 at least");
            None
        }
        Err(error) => {
            cx.error(&item.at, format!("`cpus`: `{text}` {}", error.why))
                .hint(error.hint);
            None
        }
    }
}

/// `pids_limit`; -1 is unlimited.
pub fn pids_limit(cx: &mut Cx, item: &Item) -> Option<i64> {
    let limit = read::integer(cx, item, "pids_limit", -1..=i64::from(1 << 22))?;
    if limit == 0 {
        cx.error(&item.at, "`pids_limit` is 0")
            .hint("1 at least, or -1 for no limit");
        return None;
    }
    Some(limit)
}

/// `gpus`: `"all"` or a number.
pub fn gpus(cx: &mut Cx, item: &Item) -> Option<Gpus> {
    match &item.value {
        Value::String(text) if text == "all" => Some(Gpus::All),
        Value::Integer(-1, _) => Some(Gpus::All),
        Value::Integer(..) => read::small_integer(cx, item, "gpus", 1..=1024).map(Gpus::Count),
        Value::String(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => {
            cx.error(&item.at, "`gpus` must be \"all\" or a number")
                .hint("for example gpus = \"all\" or gpus = 1");
            None
        }
    }
}

/// `runtime`: the engine's name for an OCI runtime.
pub fn runtime(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = read::text(cx, item, "runtime")?;
    let good = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'));
    if good {
        return Some(text.to_owned());
    }
    cx.error(&item.at, format!("`{text}` is no runtime's name"))
        .hint("the name that the engine's configuration gives it, for example \"crun\"");
    None
}

/// `logging`.
///
/// Without caps of its own, `local` and `json-file` get 10 MiB times 3: a node's
/// flash must not be filled by a log.
pub fn logging(cx: &mut Cx, item: &Item) -> Option<Logging> {
    const KEYS: [&str; 3] = ["driver", "max_size", "max_file"];
    const DRIVERS: [&str; 4] = ["journald", "local", "json-file", "none"];
    let table = read::table(cx, item, "logging", "logging = { driver = \"journald\" }")?;
    let (mut driver, mut max_size, mut max_file) = (None, None, None);
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "driver" => driver = Some((read::text(cx, item, "driver")?, &item.at)),
            "max_size" => max_size = Some((read::size(cx, item, "max_size", 1 << 10)?, &key.at)),
            "max_file" => max_file = Some((max_file_of(cx, item)?, &key.at)),
            _ => {
                read::unknown_key(cx, key, "`logging`", &KEYS);
                return None;
            }
        }
    }
    let Some((driver, driver_at)) = driver else {
        cx.error(&item.at, "`logging` has no `driver`")
            .hint("the drivers are \"journald\", \"local\", \"json-file\" and \"none\"");
        return None;
    };
    let size = max_size.map_or(10 << 20, |(size, _)| size);
    let files = max_file.map_or(3, |(files, _)| files);
    let capped = max_size.map(|(_, at)| at).or(max_file.map(|(_, at)| at));
    match driver {
        "local" if files < 2 => {
            let at = max_file.map_or(driver_at, |(_, at)| at);
            cx.error(at, "`local` keeps 2 files at least")
                .hint("it compresses all but the newest; write max_file = 2");
            None
        }
        "local" => Some(Logging::Local {
            max_size: size,
            max_file: files,
        }),
        "json-file" => Some(Logging::JsonFile {
            max_size: size,
            max_file: files,
        }),
        "journald" | "none" => {
            if let Some(at) = capped {
                cx.error(at, format!("`{driver}` has no caps of its own"))
                    .hint(if driver == "none" {
                        "remove this, or use the driver \"local\""
                    } else {
                        "remove this; the journal's caps are in journald.conf (SystemMaxUse=)"
                    });
                return None;
            }
            Some(if driver == "none" {
                Logging::None
            } else {
                Logging::Journald
            })
        }
        other => {
            let hint = names::nearest(other, DRIVERS.into_iter()).map_or_else(
                || "the drivers are \"journald\", \"local\", \"json-file\" and \"none\"".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            cx.error(driver_at, format!("unknown driver `{other}`"))
                .hint(hint);
            None
        }
    }
}

/// Compose's options are strings, so a number in quotes is fine too.
fn max_file_of(cx: &mut Cx, item: &Item) -> Option<u32> {
    match item.as_str().map(str::parse::<u32>) {
        Some(Ok(number)) if (1..=1000).contains(&number) => Some(number),
        Some(_) | None => read::small_integer(cx, item, "max_file", 1..=1000),
    }
}
