//! The text's tree: TOML values that know which file and bytes they came from.
//!
//! First of the stages. It knows TOML and nothing of workloads; it must never
//! read a file itself and never drop a position.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::Diagnostic;

/// A file's text, under the name that messages give it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as people should read it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// Some bytes of a [`Source`].
#[derive(Clone, PartialEq, Eq)]
pub struct At {
    source: Arc<Source>,
    start: usize,
    end: usize,
}

impl At {
    /// The bytes from `start` up to `end`, moved to character boundaries inside the text.
    pub fn new(source: &Arc<Source>, start: usize, end: usize) -> Self {
        let text = &source.text;
        let mut start = start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Self {
            source: Arc::clone(source),
            start,
            end,
        }
    }

    /// The file.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The bytes' range.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// The range, cut at the end of its first line: what a marker should underline.
    pub fn first_line(&self) -> std::ops::Range<usize> {
        let text = &self.source.text[self.start..self.end];
        let length = text.find(['\n', '\r']).unwrap_or(text.len());
        self.start..self.start + length
    }

    /// Line and column of the first byte, both from 1; columns count characters.
    pub fn start(&self) -> (usize, usize) {
        position(&self.source.text, self.start)
    }

    /// Line and column just behind the last byte.
    pub fn end(&self) -> (usize, usize) {
        position(&self.source.text, self.end)
    }

    /// Tells two places apart.
    pub fn id(&self) -> (String, usize, usize) {
        (self.source.name.clone(), self.start, self.end)
    }

    /// The same file.
    pub fn same_file(&self, other: &Self) -> bool {
        self.source.name == other.source.name
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.start();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// A table's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key without its quotes.
    pub name: String,
    /// Where.
    pub at: At,
}

/// A value with its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where.
    pub at: At,
    /// What.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"text"`
    String(String),
    /// `12`, and whether it was written as `0o14`.
    Integer(i64, Radix),
    /// `1.5`, as it was written, without `_`.
    Float(String),
    /// `true`
    Boolean(bool),
    /// `1979-05-27`
    Datetime,
    /// `[1, 2]`
    Array(Vec<Item>),
    /// `{ a = 1 }` or `[a]`
    Table(Table),
}

/// How an integer was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radix {
    /// `0o644`
    Octal,
    /// Any other way.
    Other,
}

impl Item {
    /// A string in place of what was written.
    pub fn string(at: &At, text: &str) -> Self {
        Self {
            at: at.clone(),
            value: Value::String(text.to_owned()),
        }
    }

    /// What kind of value it is, with its article.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::String(_) => "a string",
            Value::Integer(..) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date or time",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            Value::Integer(..)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_)
            | Value::Table(_) => None,
        }
    }
}

/// A table; its entries stand in the order of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Keys and values; no key twice.
    pub entries: Vec<(Key, Item)>,
}

impl Table {
    /// A table of these entries; of several with one key the last counts.
    pub fn last_of_each(mut entries: Vec<(Key, Item)>) -> Self {
        let mut seen = BTreeSet::new();
        entries.reverse();
        entries.retain(|(key, _)| seen.insert(key.name.clone()));
        entries.reverse();
        Self { entries }
    }

    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&Item> {
        self.entry(name).map(|(_, item)| item)
    }

    /// Key and value.
    pub fn entry(&self, name: &str) -> Option<&(Key, Item)> {
        self.entries.iter().find(|(key, _)| key.name == name)
    }

    /// The table under a key, to be changed; `None` if there is no table.
    pub fn table_mut(&mut self, name: &str) -> Option<&mut Table> {
        self.entries
            .iter_mut()
            .find_map(|(key, item)| match &mut item.value {
                Value::Table(table) if key.name == name => Some(table),
                _ => None,
            })
    }

    /// Sets a key; what it was before is gone.
    pub fn set(&mut self, key: Key, item: Item) {
        match self.entries.iter_mut().find(|(k, _)| k.name == key.name) {
            Some(entry) => *entry = (key, item),
            None => self.entries.push((key, item)),
        }
    }
}

/// Parses a file's text.
///
/// # Errors
///
/// Every syntax error in it.
pub fn parse(source: &Arc<Source>) -> Result<Table, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    // They do not come in the order of the text.
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(0..0), error.message()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    let mut diagnostics = Vec::new();
    let mut told = None;
    for (span, message) in errors {
        let at = At::new(source, span.start, span.end);
        // The parser goes on after an error; what it finds in the same line is the same mistake.
        let start = at.range().start;
        if told.is_some_and(|told| !source.text[told..start].contains('\n')) {
            continue;
        }
        told = Some(start);
        let (diagnostic, lost) = syntax_error(&at, message);
        diagnostics.push(diagnostic);
        if lost {
            break;
        }
    }
    let table = convert_table(source, table.into_inner(), &mut diagnostics);
    if diagnostics.is_empty() {
        Ok(table)
    } else {
        Err(diagnostics)
    }
}

/// The parser's message as one of ours, and whether what follows can only be noise.
fn syntax_error(at: &At, message: &str) -> (Diagnostic, bool) {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    let mut diagnostic = Diagnostic::error(at, format!("this is not TOML: {what}"));
    let lost = what.contains("array") || what.contains("inline table");
    if what.contains("must be quoted") {
        let text = &at.source().text[at.first_line()];
        diagnostic.hint(format!("write \"{text}\""));
    } else if lost {
        diagnostic.hint("is a comma missing, or a bracket before this left open?");
    } else if let Some(expected) = expected {
        diagnostic.hint(format!("expected {expected}"));
    }
    (diagnostic, lost)
}

fn convert_table(source: &Arc<Source>, table: DeTable<'_>, errors: &mut Vec<Diagnostic>) -> Table {
    let mut entries: Vec<(Key, Item)> = table
        .into_iter()
        .map(|(key, value)| {
            let key = convert_key(source, &key);
            let item = convert(source, value, errors);
            (key, item)
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.at.start);
    Table { entries }
}

fn convert_key(source: &Arc<Source>, key: &Spanned<DeString<'_>>) -> Key {
    Key {
        name: key.get_ref().to_string(),
        at: At::new(source, key.span().start, key.span().end),
    }
}

fn convert(
    source: &Arc<Source>,
    value: Spanned<DeValue<'_>>,
    errors: &mut Vec<Diagnostic>,
) -> Item {
    let at = At::new(source, value.span().start, value.span().end);
    let value = match value.into_inner() {
        DeValue::String(text) => {
            if text.contains('\0') {
                errors.push(Diagnostic::error(
                    &at,
                    "a string must not contain a NUL character",
                ));
            }
            Value::String(text.into_owned())
        }
        DeValue::Integer(integer) => {
            let radix = if integer.radix() == 8 {
                Radix::Octal
            } else {
                Radix::Other
            };
            if let Ok(number) = i64::from_str_radix(integer.as_str(), integer.radix()) {
                Value::Integer(number, radix)
            } else {
                errors.push(Diagnostic::error(
                    &at,
                    "this integer does not fit into 64 bits",
                ));
                Value::Integer(0, radix)
            }
        }
        DeValue::Float(float) => Value::Float(float.as_str().to_owned()),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(array) => Value::Array(
            array
                .into_iter()
                .map(|item| convert(source, item, errors))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(source, table, errors)),
    };
    Item { at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source {
            name: "f.toml".to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let source = source("a = 1\n\"ü\" = \"ö\" # x\n[t]\nk = 0o644\n");
        let table = parse(&source).expect("valid");
        let names: Vec<_> = table
            .entries
            .iter()
            .map(|(key, item)| (key.name.as_str(), key.at.start(), item.at.end()))
            .collect();
        assert_eq!(names[..2], [("a", (1, 1), (1, 6)), ("ü", (2, 1), (2, 10))]);
        let Some(Value::Table(inner)) = table.get("t").map(|item| &item.value) else {
            panic!("t is a table");
        };
        assert_eq!(
            inner.get("k").map(|item| &item.value),
            Some(&Value::Integer(0o644, Radix::Octal))
        );
    }

    #[test]
    fn every_syntax_error_is_reported() {
        for (text, want) in [
            (
                "a = \nb = 1\nc = \"x\nd = 99999999999999999999\n",
                vec![1, 3, 4],
            ),
            ("a = 1\na = 2\n[b]\n[b]\n", vec![2, 4]),
            ("a = [1\nb = 2\nc = 3\n", vec![2]),
            ("a = { b = 1\nc = 3\n\n", vec![2]),
            ("[a]\nb = x\nc = y\n", vec![2, 3]),
        ] {
            let errors = parse(&source(text)).expect_err(text);
            let lines: Vec<_> = errors.iter().filter_map(Diagnostic::line).collect();
            assert_eq!(lines, want, "{text}");
        }
    }

    #[test]
    fn nul_is_refused_everywhere() {
        assert!(parse(&source("a = [\"x\\u0000\"]")).is_err());
    }
}
