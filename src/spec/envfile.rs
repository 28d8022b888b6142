//! Environment files, in Compose's syntax without its interpolation.
//!
//! `NAME=value` a line; `#` begins a comment line, or a comment behind a space;
//! `export ` before a name is skipped; a value in single quotes is taken as it
//! is, one in double quotes knows `\n`, `\r`, `\t`, `\\`, `\"` and `\$`. Quoted
//! values may span lines. A `$` is a `$`: nothing is replaced. Pure.

use super::tree::{At, Source};
use std::sync::Arc;

/// A line that cannot be used: its bytes, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Where.
    pub at: At,
    /// What is wrong.
    pub why: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// A variable: name, value, and where it stands.
pub type Variable = (String, String, At);

/// Reads the text; every good line and every bad one.
pub fn parse(source: &Arc<Source>) -> (Vec<Variable>, Vec<BadLine>) {
    let text = source.text.as_str();
    let (mut variables, mut bad) = (Vec::new(), Vec::new());
    let mut offset = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while offset < text.len() {
        let rest = &text[offset..];
        let line = rest.split('\n').next().unwrap_or_default();
        let start = offset + (line.len() - line.trim_start().len());
        let whole = line.trim();
        let at = At::new(source, start, start + whole.len());
        let mut next = offset + line.len() + 1;
        if !whole.is_empty() && !whole.starts_with('#') {
            match entry(whole, &text[start..]) {
                Ok((name, value, length)) => {
                    // A quoted value may have gone on over several lines.
                    let end = start + length;
                    next = next.max(
                        text[end.min(text.len())..]
                            .find('\n')
                            .map_or(text.len(), |newline| end + newline + 1),
                    );
                    variables.push((name, value, at));
                }
                Err((why, hint)) => bad.push(BadLine { at, why, hint }),
            }
        }
        offset = next;
    }
    (variables, bad)
}

type Complaint = (&'static str, &'static str);

/// Reads one entry; `line` is its first line, `text` all from its start. Returns the bytes used.
fn entry(line: &str, text: &str) -> Result<(String, String, usize), Complaint> {
    let Some(equals) = line.find('=') else {
        return Err((
            "there is no `=` in this line",
            "write NAME=value; monopod passes nothing on from its own environment",
        ));
    };
    let name = line[..equals].trim_end();
    let name = name
        .strip_prefix("export ")
        .map_or(name, |name| name.trim_start());
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err((
            "this is no variable's name",
            "a name has no spaces: NAME=value",
        ));
    }
    let behind = &text[equals + 1..];
    let blank = behind.len() - behind.trim_start_matches([' ', '\t']).len();
    let value = &behind[blank..];
    let used = equals + 1 + blank;
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        let (value, length) = quoted(value, quote)?;
        Ok((name.to_owned(), value, used + length))
    } else {
        let value = line[equals + 1..].trim();
        let value = match value.find(" #").or_else(|| value.find("\t#")) {
            Some(comment) => value[..comment].trim_end(),
            None if value.starts_with('#') => "",
            None => value,
        };
        Ok((name.to_owned(), value.to_owned(), line.len()))
    }
}

/// Reads a quoted value from its quote on; returns it with the bytes used.
fn quoted(text: &str, quote: char) -> Result<(String, usize), Complaint> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((index, char)) = chars.next() {
        if char == quote {
            let behind = text[index + 1..].split('\n').next().unwrap_or_default();
            let behind = behind.trim();
            if behind.is_empty() || behind.starts_with('#') {
                return Ok((value, index + 1));
            }
            return Err((
                "there is something behind the closing quote",
                "put the whole value into quotes",
            ));
        }
        if char != '\\' {
            value.push(char);
            continue;
        }
        match (quote, chars.next()) {
            ('"', Some((_, 'n'))) => value.push('\n'),
            ('"', Some((_, 'r'))) => value.push('\r'),
            ('"', Some((_, 't'))) => value.push('\t'),
            ('"', Some((_, escaped @ ('"' | '\\' | '$')))) | ('\'', Some((_, escaped @ '\''))) => {
                value.push(escaped);
            }
            (_, Some((_, other))) => {
                value.push('\\');
                value.push(other);
            }
            (_, None) => break,
        }
    }
    Err((
        "the closing quote is missing",
        "a value that begins with a quote ends with one",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<(String, String)>, Vec<(usize, &'static str)>);

    fn read(text: &str) -> Read {
        let source = Arc::new(Source {
            name: "env".to_owned(),
            text: text.to_owned(),
        });
        let (variables, bad) = parse(&source);
        (
            variables
                .into_iter()
                .map(|(name, value, _)| (name, value))
                .collect(),
            bad.into_iter()
                .map(|line| (line.at.start().0, line.why))
                .collect(),
        )
    }

    #[test]
    fn good_lines() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("A=", "A", ""),
            ("  A = b c  ", "A", "b c"),
            ("A=b # comment", "A", "b"),
            ("A=b# none", "A", "b# none"),
            ("A=# comment", "A", ""),
            ("A=b=c", "A", "b=c"),
            ("export A=b", "A", "b"),
            ("A='$B \\n' # c", "A", "$B \\n"),
            ("A='Let\\'s go'", "A", "Let's go"),
            ("A=\"x # y\\n\\\"\\$\"", "A", "x # y\n\"$"),
            ("A=${B}", "A", "${B}"),
            ("A=\"two\nlines\"", "A", "two\nlines"),
            ("A=b\r\n", "A", "b"),
            ("\u{feff}A=b", "A", "b"),
        ] {
            assert_eq!(
                read(text),
                (vec![(name.to_owned(), value.to_owned())], vec![]),
                "{text:?}"
            );
        }
    }

    #[test]
    fn several_lines_and_bad_ones() {
        let (variables, bad) =
            read("# c\n\nA=1\nB\nC D=1\n=1\nE=\"a\nb\" # c\nF='x' y\nG=2\nH=\"open\nI=3\n");
        let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "E", "G", "I"]);
        let lines: Vec<_> = bad.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 5, 6, 9, 11]);
    }
}
