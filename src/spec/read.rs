//! From a tree's values to plain ones, with the complaint if they do not fit.
//!
//! Each reader takes the value's name for people (`what`) and returns `None`
//! once it has complained. It must never stop a run.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::cx::Cx;
use super::names;
use super::tree::{Item, Key, Table, Value};
use super::units;

/// Complains that a value is not of the kind that is expected.
pub fn wrong_kind(cx: &mut Cx, item: &Item, what: &str, expected: &str) {
    cx.error(
        &item.at,
        format!("`{what}` must be {expected}, not {}", item.kind()),
    );
}

/// A string.
pub fn string<'i>(cx: &mut Cx, item: &'i Item, what: &str) -> Option<&'i str> {
    let text = item.as_str();
    if text.is_none() {
        wrong_kind(cx, item, what, "a string");
    }
    text
}

/// A string that is not empty.
pub fn text<'i>(cx: &mut Cx, item: &'i Item, what: &str) -> Option<&'i str> {
    let text = string(cx, item, what)?;
    if text.is_empty() {
        cx.error(&item.at, format!("`{what}` is empty"));
        return None;
    }
    Some(text)
}

/// `true` or `false`.
pub fn boolean(cx: &mut Cx, item: &Item, what: &str) -> Option<bool> {
    if let Value::Boolean(value) = item.value {
        return Some(value);
    }
    let hint = match item.as_str() {
        Some("true" | "yes" | "on") => Some("write true without quotes".to_owned()),
        Some("false" | "no" | "off") => Some("write false without quotes".to_owned()),
        Some(_) | None => None,
    };
    cx.error(
        &item.at,
        format!("`{what}` must be true or false, not {}", item.kind()),
    )
    .maybe_hint(hint);
    None
}

/// An integer within bounds.
pub fn integer(cx: &mut Cx, item: &Item, what: &str, bounds: RangeInclusive<i64>) -> Option<i64> {
    let Value::Integer(number, _) = item.value else {
        let hint = item
            .as_str()
            .filter(|text| text.parse::<i64>().is_ok())
            .map(|text| format!("write {text} without quotes"));
        cx.error(
            &item.at,
            format!("`{what}` must be an integer, not {}", item.kind()),
        )
        .maybe_hint(hint);
        return None;
    };
    if bounds.contains(&number) {
        return Some(number);
    }
    cx.error(&item.at, format!("`{what}` is {number}"))
        .hint(format!(
            "it goes from {} to {}",
            bounds.start(),
            bounds.end()
        ));
    None
}

/// An integer within bounds that fit into a `u32`.
pub fn small_integer(
    cx: &mut Cx,
    item: &Item,
    what: &str,
    bounds: RangeInclusive<u32>,
) -> Option<u32> {
    let bounds = i64::from(*bounds.start())..=i64::from(*bounds.end());
    integer(cx, item, what, bounds).and_then(|number| u32::try_from(number).ok())
}

/// A table.
pub fn table<'i>(cx: &mut Cx, item: &'i Item, what: &str, example: &str) -> Option<&'i Table> {
    if let Value::Table(table) = &item.value {
        return Some(table);
    }
    cx.error(
        &item.at,
        format!("`{what}` must be a table, not {}", item.kind()),
    )
    .hint(format!("for example {example}"));
    None
}

/// A list of anything.
pub fn list<'i>(cx: &mut Cx, item: &'i Item, what: &str, example: &str) -> &'i [Item] {
    if let Value::Array(items) = &item.value {
        return items;
    }
    cx.error(
        &item.at,
        format!("`{what}` must be a list, not {}", item.kind()),
    )
    .hint(format!("for example {what} = {example}"));
    &[]
}

/// A string, or a number or boolean as text: what Compose takes for a variable's or label's value.
pub fn scalar(cx: &mut Cx, item: &Item, what: &str) -> Option<String> {
    match &item.value {
        Value::String(text) | Value::Float(text) => Some(text.clone()),
        Value::Integer(number, _) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Datetime | Value::Array(_) | Value::Table(_) => {
            wrong_kind(cx, item, what, "a string, a number or a boolean");
            None
        }
    }
}

/// A duration within bounds.
pub fn duration(
    cx: &mut Cx,
    item: &Item,
    what: &str,
    bounds: RangeInclusive<Duration>,
) -> Option<Duration> {
    if let Value::Integer(number, _) = item.value {
        cx.error(&item.at, format!("`{what}` has no unit"))
            .hint(format!("write {what} = \"{number}s\" for seconds"));
        return None;
    }
    let text = string(cx, item, what)?;
    match units::duration(text) {
        Ok(value) if bounds.contains(&value) => Some(value),
        Ok(_) => {
            cx.error(&item.at, format!("`{what}` is {text}"))
                .hint(format!(
                    "it goes from {} to {}",
                    units::show_duration(*bounds.start()),
                    units::show_duration(*bounds.end())
                ));
            None
        }
        Err(error) => {
            cx.error(&item.at, format!("`{what}`: `{text}` {}", error.why))
                .hint(error.hint);
            None
        }
    }
}

/// A size in bytes, `least` at least.
pub fn size(cx: &mut Cx, item: &Item, what: &str, least: u64) -> Option<u64> {
    let bytes = match &item.value {
        Value::Integer(number, _) => {
            if let Ok(bytes) = u64::try_from(*number) {
                bytes
            } else {
                cx.error(&item.at, format!("`{what}` is negative"));
                return None;
            }
        }
        Value::String(text) => match units::size(text) {
            Ok(bytes) => bytes,
            Err(error) => {
                cx.error(&item.at, format!("`{what}`: `{text}` {}", error.why))
                    .hint(error.hint);
                return None;
            }
        },
        Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => {
            wrong_kind(cx, item, what, "a size such as \"256m\"");
            return None;
        }
    };
    if bytes < least {
        cx.error(&item.at, format!("`{what}` is {bytes} bytes, too little"))
            .hint(format!("{least} bytes at least"));
        return None;
    }
    Some(bytes)
}

/// Complains about a key that `place` does not have, with the nearest that it has.
pub fn unknown_key(cx: &mut Cx, key: &Key, place: &str, known: &[&str]) {
    let hint = names::nearest(&key.name, known.iter().copied()).map_or_else(
        || format!("the keys here are {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    cx.error(&key.at, format!("unknown key `{}` in {place}", key.name))
        .hint(hint);
}
