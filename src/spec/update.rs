//! `[update]` and `[trial]` of `node.toml`: when a release is activated, and how it proves itself.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::calendar::{self, Calendar, Window};
use super::cx::Cx;
use super::mounts;
use super::read;
use super::tree::{Item, Table};
use super::types::{Activation, Trial, UpdatePolicy};

const UPDATE: [&str; 5] = [
    "activation",
    "window",
    "window_length",
    "hold_file",
    "lock_file",
];
const TRIAL: [&str; 3] = ["settle", "deadline", "tries"];

/// A release that has to prove itself for longer blocks the next one for too long.
const SPANS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Reads `[update]`.
pub fn read(cx: &mut Cx, table: &Table) -> UpdatePolicy {
    let mut policy = UpdatePolicy::default();
    let (mut opens, mut length) = (None, Window::DEFAULT_LENGTH);
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "activation" => match item.as_str() {
                Some("automatic") => policy.activation = Activation::Automatic,
                Some("manual") => policy.activation = Activation::Manual,
                _ => {
                    cx.error(&item.at, "`activation` must be \"automatic\" or \"manual\"")
                        .hint("manual waits for `monopod release activate`");
                }
            },
            "window" => opens = calendar(cx, item),
            "window_length" => {
                let lengths = Window::LENGTHS;
                length = read::duration(cx, item, "window_length", lengths).unwrap_or(length);
                if table.get("window").is_none() {
                    cx.error(&item.at, "`window_length` is of no window")
                        .hint("write when it opens, too: window = \"Sat *-*-* 02:00\"");
                }
            }
            "hold_file" => policy.hold_file = path(cx, item, "hold_file"),
            "lock_file" => policy.lock_file = path(cx, item, "lock_file"),
            _ => read::unknown_key(cx, key, "[update]", &UPDATE),
        }
    }
    policy.window = opens.and_then(|opens| Window::new(opens, length));
    policy
}

/// Reads `[trial]`.
pub fn trial(cx: &mut Cx, table: &Table) -> Trial {
    let mut trial = Trial::default();
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        match name {
            "settle" => {
                trial.settle = read::duration(cx, item, name, SPANS).unwrap_or(trial.settle);
            }
            "deadline" => {
                trial.deadline = read::duration(cx, item, name, SPANS).unwrap_or(trial.deadline);
            }
            "tries" => {
                trial.tries = read::small_integer(cx, item, name, 1..=100).unwrap_or(trial.tries);
            }
            _ => read::unknown_key(cx, key, "[trial]", &TRIAL),
        }
    }
    if trial.settle >= trial.deadline {
        let written = table.entry("settle").or_else(|| table.entry("deadline"));
        if let Some((key, item)) = written {
            cx.error(&item.at, "`settle` is not below `deadline`")
                .hint(format!(
                    "a release must be healthy for {} without a break, and has {} for that in all: change `{}`",
                    super::units::show_duration(trial.settle),
                    super::units::show_duration(trial.deadline),
                    key.name
                ));
        }
    }
    trial
}

fn calendar(cx: &mut Cx, item: &Item) -> Option<Calendar> {
    let text = read::text(cx, item, "window")?;
    Calendar::parse(text)
        .map_err(|why| {
            cx.error(&item.at, format!("`{text}` is no calendar event: {why}"))
                .hint(calendar::HINT);
        })
        .ok()
}

fn path(cx: &mut Cx, item: &Item, name: &str) -> Option<PathBuf> {
    let text = read::text(cx, item, name)?;
    if let Some(path) = mounts::clean(text).filter(|path| path != "/") {
        return Some(path.into());
    }
    cx.error(&item.at, format!("`{text}` is no absolute path"))
        .hint(format!(
            "for example {name} = \"/etc/gateway/no-updates-now\""
        ));
    None
}
