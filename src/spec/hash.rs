//! A container's spec hash: equal exactly if the engine would be told the same.
//!
//! It stands on the container's label; a daemon adopts what has the right one
//! and makes anew what has not. So it must depend on nothing but the arguments,
//! and must stay what it is from one release of monopod to the next: a value
//! that says nothing (null, false, an empty list) is left out, so that a new
//! field does not change the hashes of old files.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::types::{Container, Health, Healthcheck, Probe};

/// Fields that the engine is not told at creation.
const NOT_TOLD: [&str; 3] = ["healthcheck", "stop_grace_period", "depends_on"];

/// Fields where an empty list says something: the image's own words are dropped.
const EMPTY_COUNTS: [&str; 2] = ["entrypoint", "command"];

/// Hash of all that the engine is told when it makes the container: 32 hexadecimal digits.
pub fn spec_hash(container: &Container, workload: &str) -> String {
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    // Every field is a plain value with string keys: serialising cannot fail.
    if let Ok(Value::Object(object)) = serde_json::to_value(container) {
        fields.extend(
            object
                .into_iter()
                .filter(|(key, value)| !NOT_TOLD.contains(&key.as_str()) && says(key, value)),
        );
    }
    fields.insert("workload".to_owned(), workload.into());
    // The notify socket is mounted at creation, whoever listens.
    if let Healthcheck::Own(Health {
        probe: Probe::Notify,
        ..
    }) = container.healthcheck
    {
        fields.insert("notify".to_owned(), true.into());
    }
    let mut text = String::new();
    for (key, value) in &fields {
        canonical(&mut text, key, value);
    }
    let digest = Sha256::digest(text.as_bytes());
    digest[..16]
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

fn says(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty() || EMPTY_COUNTS.contains(&key),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Writes `KEY VALUE` with the keys of inner tables in order, whatever the JSON library's own order is.
fn canonical(out: &mut String, key: &str, value: &Value) {
    out.push_str(&Value::from(key).to_string());
    out.push(' ');
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            out.push('{');
            for (key, value) in fields {
                canonical(out, key, value);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(out, "", item);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
    out.push('\n');
}
