//! What the author of a file is told: where, what, and what to do.
//!
//! A diagnostic carries its file's text with it, so that it can be shown
//! anywhere. The module must never read files and never decide validity.

use std::fmt;
use std::io::IsTerminal;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::tree::At;

/// Whether the file can be used in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// What a diagnostic is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Some text of a file.
    Text(At),
    /// A file as a whole, for example one that cannot be read.
    File(String),
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    hint: Option<String>,
    place: Place,
    related: Vec<(At, String)>,
}

impl Diagnostic {
    /// An error about some text.
    pub fn error(at: &At, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, Place::Text(at.clone()), &message.into())
    }

    /// A warning about some text.
    pub fn warning(at: &At, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, Place::Text(at.clone()), &message.into())
    }

    /// An error about a whole file.
    pub fn file_error(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, Place::File(file.into()), &message.into())
    }

    fn new(severity: Severity, place: Place, message: &str) -> Self {
        Self {
            severity,
            message: printable(message),
            hint: None,
            place,
            related: Vec::new(),
        }
    }

    /// Stands for the findings behind this one that are not told.
    pub(super) fn and_more(&self, more: usize) -> Self {
        Self::new(
            self.severity,
            Place::File(self.file().to_owned()),
            &format!("there are {more} more findings; mend these first"),
        )
    }

    /// Adds what to do next.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(printable(&hint.into()));
        self
    }

    /// Adds the hint if there is one.
    pub fn maybe_hint(&mut self, hint: Option<String>) -> &mut Self {
        if let Some(hint) = hint {
            self.hint(hint);
        }
        self
    }

    /// Points at a second place that has to do with it.
    pub fn related(&mut self, at: &At, label: impl Into<String>) -> &mut Self {
        self.related.push((at.clone(), printable(&label.into())));
        self
    }

    /// Whether the file can be used all the same.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        match &self.place {
            Place::Text(at) => &at.source().name,
            Place::File(name) => name,
        }
    }

    /// The line, from 1; `None` if it is about the whole file.
    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Place::Text(at) => Some(at.start().0),
            Place::File(_) => None,
        }
    }

    /// What it is, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let (start, end) = match &self.place {
            Place::Text(at) => (Some(at.start()), Some(at.end())),
            Place::File(_) => (None, None),
        };
        let related: Vec<_> = self
            .related
            .iter()
            .map(|(at, label)| {
                let (line, column) = at.start();
                serde_json::json!({
                    "file": at.source().name, "line": line, "column": column, "message": label,
                })
            })
            .collect();
        serde_json::json!({
            "file": self.file(),
            "line": start.map(|(line, _)| line),
            "column": start.map(|(_, column)| column),
            "end_line": end.map(|(line, _)| line),
            "end_column": end.map(|(_, column)| column),
            "severity": self.severity,
            "message": self.message,
            "hint": self.hint,
            "related": related,
        })
    }

    /// Where it stands among others: files in the order of reading, then lines.
    pub(super) fn offset(&self) -> usize {
        match &self.place {
            Place::Text(at) => at.range().start,
            Place::File(_) => 0,
        }
    }

    /// The message, the text with a marker, the hint; ends without a newline.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer
            .decor_style(DecorStyle::Ascii)
            .render(&[self.group()])
    }

    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&self.message));
        group = match &self.place {
            Place::File(name) => group.element(Origin::path(name)),
            Place::Text(at) => {
                let mut snippet = Snippet::source(&at.source().text)
                    .path(&at.source().name)
                    .annotation(AnnotationKind::Primary.span(at.first_line()));
                for (other, label) in self.related.iter().filter(|(r, _)| r.same_file(at)) {
                    snippet = snippet.annotation(
                        AnnotationKind::Context
                            .span(other.first_line())
                            .label(label),
                    );
                }
                let mut group = group.element(snippet);
                for (other, label) in self.related.iter().filter(|(r, _)| !r.same_file(at)) {
                    group = group.element(
                        Snippet::source(&other.source().text)
                            .path(&other.source().name)
                            .annotation(
                                AnnotationKind::Context
                                    .span(other.first_line())
                                    .label(label),
                            ),
                    );
                }
                group
            }
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        group
    }
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: MESSAGE`, for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Text(at) => {
                let (line, column) = at.start();
                write!(f, "{}:{line}:{column}: {}", at.source().name, self.message)
            }
            Place::File(name) => write!(f, "{name}: {}", self.message),
        }
    }
}

/// Every error of the files, and the warnings beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// In the order of the files and their lines; one error at least.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error);
        match errors.next() {
            Some(first) => write!(f, "{first}")?,
            None => f.write_str("the file is invalid")?,
        }
        match errors.count() {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl std::error::Error for Invalid {}

/// Every diagnostic as [`Diagnostic::render`] shows it, an empty line after each.
pub fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&diagnostic.render(colour));
        out.push_str("\n\n");
    }
    out
}

/// Whether messages to stderr should be coloured: a terminal, and no `NO_COLOR`.
pub fn colour_stderr() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal()
}

/// A file's text can hold anything; a terminal must not be driven by it.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_bidi(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Characters that reorder what stands around them.
fn is_bidi(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tree::Source;
    use super::*;

    fn at(text: &str, start: usize, end: usize) -> At {
        let source = Arc::new(Source {
            name: "w.toml".to_owned(),
            text: text.to_owned(),
        });
        At::new(&source, start, end)
    }

    #[test]
    fn shows_place_text_marker_and_hint() {
        let mut diagnostic = Diagnostic::error(&at("a = 1\nimge = \"x\"\n", 6, 10), "unknown key");
        diagnostic.hint("did you mean `image`?");
        assert_eq!(
            diagnostic.render(false),
            "error: unknown key\n --> w.toml:2:1\n  |\n2 | imge = \"x\"\n  | ^^^^\n  |\n  = hint: did you mean `image`?"
        );
        assert_eq!(diagnostic.to_string(), "w.toml:2:1: unknown key");
        assert!(diagnostic.render(true).contains("\u{1b}["));
    }

    #[test]
    fn a_place_outside_the_text_is_moved_inside() {
        for (text, start, end) in [("", 0, 9), ("ü", 1, 1), ("a\n", 7, 3), ("a\nb", 0, 3)] {
            let diagnostic = Diagnostic::error(&at(text, start, end), "x");
            assert!(diagnostic.render(false).contains("w.toml:"), "{text:?}");
        }
    }

    #[test]
    fn terminals_are_not_driven_by_messages() {
        let mut diagnostic = Diagnostic::file_error("f", "bad \u{1b}[31mred\u{202e}");
        diagnostic.hint("a\nb");
        let shown = diagnostic.render(false);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
        assert!(shown.contains("a\\nb"));
    }

    #[test]
    fn a_log_line_counts_the_rest() {
        let one = Diagnostic::error(&at("x", 0, 1), "no");
        let invalid = Invalid {
            diagnostics: vec![one.clone(), one.clone(), one],
        };
        assert_eq!(invalid.to_string(), "w.toml:1:1: no (and 2 more errors)");
    }
}
