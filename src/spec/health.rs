//! `healthcheck`: how a container's health is asked.
//!
//! Exactly one of `http`, `tcp`, `test` and `notify`, or none at all
//! (`disable = true`, `test = ["NONE"]`). Nobody is asked here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::cx::Cx;
use super::host;
use super::mounts;
use super::names;
use super::process;
use super::read;
use super::tree::{At, Item, Key, Table, Value};
use super::types::{Health, Healthcheck, HttpProbe, Probe, Target, Timing, Tls};
use super::url;

/// Bounds of `interval`, `timeout` and `start_interval`: what a probe can hold to, and what still is watching.
const PERIODS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// Bounds of `start_period`.
const START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// The keys of which there is one.
const WAYS: [&str; 5] = ["http", "tcp", "test", "notify", "disable"];

/// Keys that only `http` has.
const HTTP_ONLY: [&str; 5] = ["status", "body", "headers", "scheme", "tls"];

const EXAMPLE: &str = "healthcheck = { http = \":80/healthz\", interval = \"10s\" }";

/// Reads the table; `None` once something about it was complained of.
pub fn read(cx: &mut Cx, key: &Key, item: &Item) -> Option<Healthcheck> {
    let table = read::table(cx, item, "healthcheck", EXAMPLE)?;
    let mut good = true;
    for (key, _) in &table.entries {
        if !names::HEALTH_KEYS.contains(&key.name.as_str()) {
            read::unknown_key(cx, key, "`healthcheck`", &names::HEALTH_KEYS);
            good = false;
        }
    }
    let timing = timing(cx, table);
    let question = question(cx, key, table);
    if !good {
        return None;
    }
    match (question?, timing?) {
        (Question::Off, _) => Some(Healthcheck::Off),
        (Question::Ask(probe), timing) => Some(Healthcheck::Own(Health { probe, timing })),
    }
}

enum Question {
    Off,
    Ask(Probe),
}

fn question(cx: &mut Cx, key: &Key, table: &Table) -> Option<Question> {
    let ways: Vec<&(Key, Item)> = table
        .entries
        .iter()
        .filter(|(key, item)| {
            // `disable = false` says nothing.
            WAYS.contains(&key.name.as_str())
                && !(key.name == "disable" && item.value == Value::Boolean(false))
        })
        .collect();
    let (way, item) = match ways.as_slice() {
        [one] => (one.0.name.as_str(), &one.1),
        [] => {
            cx.absent(
                &key.at,
                "this healthcheck asks nothing",
                "add one of http = \":80/healthz\", tcp = \":1883\", test = \"...\" and notify = true",
            );
            return None;
        }
        [first, second, ..] => {
            cx.error(
                &second.0.at,
                format!(
                    "this healthcheck asks in two ways, `{}` and `{}`",
                    first.0.name, second.0.name
                ),
            )
            .related(&first.0.at, "first here")
            .hint("keep one of them");
            return None;
        }
    };
    if way != "http" {
        for (key, _) in &table.entries {
            if HTTP_ONLY.contains(&key.name.as_str()) {
                cx.error(
                    &key.at,
                    format!("`{}` goes with `http`, not with `{way}`", key.name),
                );
            }
        }
    }
    match way {
        "http" => http(cx, item, table).map(|probe| Question::Ask(Probe::Http(probe))),
        "tcp" => tcp(cx, item).map(|target| Question::Ask(Probe::Tcp(target))),
        "test" => test(cx, item),
        "notify" => {
            if read::boolean(cx, item, "notify")? {
                return Some(Question::Ask(Probe::Notify));
            }
            cx.error(&item.at, "`notify = false` asks nothing")
                .hint("write disable = true if nothing should be asked");
            None
        }
        _ => read::boolean(cx, item, "disable").map(|_| Question::Off),
    }
}

fn test(cx: &mut Cx, item: &Item) -> Option<Question> {
    let shell = |line: &str| {
        let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        Some(Question::Ask(Probe::Exec(argv)))
    };
    if let Some(line) = item.as_str() {
        if line.trim().is_empty() {
            cx.error(&item.at, "`test` is empty");
            return None;
        }
        return shell(line);
    }
    let words = process::words(cx, item, "test")?;
    let hint =
        "for example [\"CMD\", \"/app\", \"check\"] or [\"CMD-SHELL\", \"wget -qO- localhost\"]";
    match (
        words.first().map(String::as_str),
        &words[1.min(words.len())..],
    ) {
        (Some("NONE"), []) => Some(Question::Off),
        (Some("CMD"), argv @ [program, ..]) if !program.is_empty() => {
            Some(Question::Ask(Probe::Exec(argv.to_vec())))
        }
        (Some("CMD-SHELL"), [line]) if !line.trim().is_empty() => shell(line),
        (Some("CMD-SHELL"), [_, _, ..]) => {
            cx.error(&item.at, "`CMD-SHELL` takes one string")
                .hint("put the whole line into one string, or use \"CMD\"");
            None
        }
        (Some("NONE" | "CMD" | "CMD-SHELL"), _) => {
            cx.error(&item.at, "`test` names no program").hint(hint);
            None
        }
        (Some(_), _) => {
            cx.error(
                &item.at,
                "a `test` list begins with \"CMD\", \"CMD-SHELL\" or \"NONE\"",
            )
            .hint(hint);
            None
        }
        (None, _) => {
            cx.error(&item.at, "`test` is empty").hint(hint);
            None
        }
    }
}

fn tcp(cx: &mut Cx, item: &Item) -> Option<Target> {
    let text = match &item.value {
        // `tcp = 1883` is clear enough to be answered with what to write.
        Value::Integer(port, _) => {
            cx.error(&item.at, "`tcp` must be a string, not an integer")
                .hint(format!("write tcp = \":{port}\""));
            return None;
        }
        Value::String(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => read::text(cx, item, "tcp")?,
    };
    match url::tcp(text) {
        Ok(target) => Some(target),
        Err(error) => {
            cx.error(&item.at, format!("`{text}` {}", error.why))
                .hint(error.hint);
            None
        }
    }
}

fn http(cx: &mut Cx, item: &Item, table: &Table) -> Option<HttpProbe> {
    let mut scheme = None;
    let mut good = true;
    if let Some(item) = table.get("scheme") {
        match read::text(cx, item, "scheme") {
            Some(text @ ("http" | "https")) => scheme = Some(text),
            Some(other) => {
                cx.error(&item.at, format!("unknown scheme `{other}`"))
                    .hint("\"http\" or \"https\"");
                good = false;
            }
            None => good = false,
        }
    }
    let status = match table.get("status") {
        Some(item) => status(cx, item),
        None => Some(vec![(200, 399)]),
    };
    let body = match table.get("body") {
        Some(item) => read::text(cx, item, "body").map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let headers = match table.get("headers") {
        Some(item) => headers(cx, item),
        None => Some((None, BTreeMap::new())),
    };
    let tls = match table.entry("tls") {
        Some((_, item)) => tls(cx, item).map(Some),
        None => Some(None),
    };
    let text = read::text(cx, item, "http")?;
    let parsed = match url::http(text, scheme) {
        Ok(parsed) => parsed,
        Err(error) => {
            cx.error(&item.at, format!("`{text}` {}", error.why))
                .hint(error.hint);
            return None;
        }
    };
    if let (Some((key, _)), false) = (table.entry("tls"), parsed.tls) {
        cx.error(
            &key.at,
            "`tls` is set, but the question is asked over plain HTTP",
        )
        .hint("write https:// or scheme = \"https\"");
        return None;
    }
    let (host, headers) = headers?;
    let (status, body, tls) = (status?, body?, tls?);
    good.then(|| HttpProbe {
        tls: parsed.tls.then(|| {
            tls.unwrap_or(Tls {
                ca_file: None,
                server_name: None,
            })
        }),
        target: parsed.target,
        path: parsed.path,
        host,
        headers,
        status,
        body,
    })
}

fn status(cx: &mut Cx, item: &Item) -> Option<Vec<(u16, u16)>> {
    let items = match &item.value {
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        _ => std::slice::from_ref(item),
    };
    let mut ranges = Vec::new();
    for item in items {
        let text = match &item.value {
            Value::Integer(number, _) => number.to_string(),
            Value::String(text) => text.clone(),
            Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_)
            | Value::Table(_) => String::new(),
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let code = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|code| (100..=599).contains(code))
        };
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
            _ => {
                cx.error(&item.at, "this is no status code")
                    .hint("for example 200, \"200-299\" or [\"200-299\", 401]");
                return None;
            }
        }
    }
    Some(ranges)
}

type Headers = (Option<String>, BTreeMap<String, String>);

fn headers(cx: &mut Cx, item: &Item) -> Option<Headers> {
    let example = "headers = { Accept = \"application/json\" }";
    let table = read::table(cx, item, "headers", example)?;
    let (mut host, mut headers) = (None, BTreeMap::new());
    let mut good = true;
    for (key, item) in &table.entries {
        let Some(value) = read::scalar(cx, item, &key.name) else {
            good = false;
            continue;
        };
        let lower = key.name.to_ascii_lowercase();
        if !url::is_token(&key.name) {
            cx.error(&key.at, format!("`{}` is no header's name", key.name))
                .hint(format!("for example {example}"));
            good = false;
        } else if matches!(
            lower.as_str(),
            "content-length" | "transfer-encoding" | "connection" | "upgrade"
        ) {
            cx.error(
                &key.at,
                format!("the header `{}` is monopod's own", key.name),
            )
            .hint("remove it");
            good = false;
        } else if value
            .chars()
            .any(|c| c != '\t' && (c.is_control() || !c.is_ascii()))
        {
            cx.error(
                &item.at,
                format!("`{}` has a value that no header can have", key.name),
            )
            .hint("visible ASCII in one line");
            good = false;
        } else if lower == "host" {
            host = Some(value);
        } else {
            headers.insert(key.name.clone(), value);
        }
    }
    good.then_some((host, headers))
}

fn tls(cx: &mut Cx, item: &Item) -> Option<Tls> {
    let table = read::table(cx, item, "tls", "tls = { ca_file = \"/etc/app/ca.pem\" }")?;
    let (mut ca_file, mut server_name) = (None, None);
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "ca_file" => {
                let text = read::text(cx, item, "ca_file")?;
                ca_file = Some(ca_path(cx, &item.at, text)?);
            }
            "server_name" => {
                let text = read::text(cx, item, "server_name")?;
                if text.parse::<std::net::IpAddr>().is_err()
                    && !super::net::is_host_name(&text.replace('_', "a"))
                {
                    cx.error(&item.at, format!("`{text}` is no host name"));
                    return None;
                }
                server_name = Some(text.to_owned());
            }
            _ => {
                read::unknown_key(cx, key, "`tls`", &["ca_file", "server_name"]);
                return None;
            }
        }
    }
    if let (None, Some((key, _))) = (&ca_file, table.entry("server_name")) {
        cx.warning(
            &key.at,
            "without `ca_file` the certificate is not checked, nor is its name",
        );
    }
    Some(Tls {
        ca_file,
        server_name,
    })
}

fn ca_path(cx: &mut Cx, at: &At, text: &str) -> Option<PathBuf> {
    let Some(path) = mounts::clean(text) else {
        cx.error(at, format!("`{text}` is not an absolute path"))
            .hint("for example ca_file = \"/etc/app/ca.pem\"");
        return None;
    };
    let path = PathBuf::from(path);
    if let Err(error) = cx.host.look(&path) {
        let reason = host::reason(&error);
        let message = format!("the ca_file `{}` cannot be used: {reason}", path.display());
        cx.host_finding(at, &message);
    }
    Some(path)
}

/// Reads the timing. Without a `timeout` of its own it is 30 s or `interval`,
/// without a `start_interval` 5 s or `interval`, whichever is less.
fn timing(cx: &mut Cx, table: &Table) -> Option<Timing> {
    let default = Timing::default();
    let mut period = |key: &str, bounds: RangeInclusive<Duration>| match table.get(key) {
        Some(item) => read::duration(cx, item, key, bounds).map(Some),
        None => Some(None),
    };
    let interval = period("interval", PERIODS);
    let timeout = period("timeout", PERIODS);
    let start_period = period("start_period", START);
    let start_interval = period("start_interval", PERIODS);
    let retries = match table.get("retries") {
        Some(item) => read::small_integer(cx, item, "retries", 1..=1000),
        None => Some(default.retries),
    };
    let interval = interval?.unwrap_or(default.interval);
    Some(Timing {
        interval,
        timeout: timeout?.unwrap_or(default.timeout.min(interval)),
        retries: retries?,
        start_period: start_period?.unwrap_or(default.start_period),
        start_interval: start_interval?.unwrap_or(default.start_interval.min(interval)),
    })
}
