//! `[slice]` of `node.toml`: limits on all containers together, in systemd's terms.

use super::cx::Cx;
use super::read;
use super::tree::{Item, Table};
use super::types::Slice;

const KEYS: [&str; 6] = [
    "memory_max",
    "memory_high",
    "cpu_quota",
    "tasks_max",
    "io_weight",
    "cpu_weight",
];

/// Less than that starts no container.
const LEAST_MEMORY: u64 = 6 << 20;

/// Reads the table.
pub fn read(cx: &mut Cx, table: &Table) -> Slice {
    let mut slice = Slice::default();
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        match name {
            "memory_max" => slice.memory_max = read::size(cx, item, name, LEAST_MEMORY),
            "memory_high" => slice.memory_high = read::size(cx, item, name, LEAST_MEMORY),
            "cpu_quota" => slice.cpu_quota = percent(cx, item),
            "tasks_max" => slice.tasks_max = read::small_integer(cx, item, name, 1..=4_194_304),
            "io_weight" => slice.io_weight = read::small_integer(cx, item, name, 1..=10_000),
            "cpu_weight" => slice.cpu_weight = read::small_integer(cx, item, name, 1..=10_000),
            _ => read::unknown_key(cx, key, "[slice]", &KEYS),
        }
    }
    if let (Some(high), Some(max)) = (slice.memory_high, slice.memory_max)
        && high > max
        && let Some((_, item)) = table.entry("memory_high")
    {
        cx.error(&item.at, "`memory_high` is above `memory_max`")
            .hint("processes are slowed down at `memory_high`, and killed at `memory_max`");
    }
    slice
}

/// `150%`: one and a half cores.
fn percent(cx: &mut Cx, item: &Item) -> Option<u32> {
    const CORES: &str = "percent of one core: \"150%\" is one and a half";
    let Some(text) = item.as_str() else {
        read::wrong_kind(cx, item, "cpu_quota", CORES);
        return None;
    };
    let number = text
        .strip_suffix('%')
        .and_then(|digits| digits.parse().ok());
    if let Some(percent) = number.filter(|percent| (1..=100_000).contains(percent)) {
        return Some(percent);
    }
    cx.error(&item.at, format!("`{text}` is no CPU quota"))
        .hint(CORES);
    None
}
