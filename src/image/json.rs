//! JSON from strangers: one reading only.
//!
//! Two programs must never read two things from one document, so a key that comes twice in an
//! object is refused, and near the top of a document also one that differs only by case (Go's
//! reader, which is what the engines use, takes `Config` for `config`). Depth is bounded by
//! `serde_json`, size by the caller.

use std::collections::HashSet;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};

/// Parses one whole document. The error is one line for people.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0 }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .and_then(|()| serde_json::from_slice(bytes))
        .map_err(|error| {
            format!(
                "its JSON is not usable: {}",
                super::error::shown(&error.to_string())
            )
        })
}

/// Objects so deep are part of a format; what is deeper may be the author's own (labels, paths).
const CASE_DEPTH: usize = 2;

#[derive(Clone, Copy)]
struct Strict {
    /// Objects around this value.
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let depth = self.depth + 1;
        let mut keys = HashSet::new();
        while let Some(mut key) = entries.next_key::<String>()? {
            if depth <= CASE_DEPTH {
                key.make_ascii_lowercase();
            }
            if keys.contains(&key) {
                let key: String = key.chars().take(60).collect();
                return Err(A::Error::custom(format_args!("key {key:?} comes twice")));
            }
            keys.insert(key);
            entries.next_value_seed(Self { depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        parse::<serde_json::Value>(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn one_reading_only() {
        assert!(reason(r#"{"a":1,"a":2}"#).contains("comes twice"));
        assert!(reason(r#"{"Config":1,"config":2}"#).contains("comes twice"));
        assert!(reason(r#"[{"x":{"os":1,"OS":2}}]"#).contains("comes twice"));
        assert!(reason(r#"{"a":{"b":{"c":1,"c":2}}}"#).contains("comes twice"));
        assert!(reason("{} {}").contains("trailing"));
        assert!(reason(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(parse::<serde_json::Value>(br#"{"config":{"Labels":{"a":1,"A":2}}}"#).is_ok());
    }
}
