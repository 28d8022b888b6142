//! How lines of a container's log look: prefixed, coloured, with their time, or as JSON.
//!
//! To a file or a pipe a container's bytes go as they are. A terminal must never get more of them than text and
//! colours: the rest could pass for another line, or speak to the terminal itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use serde::Serialize;
use tz::UtcDateTime;

use super::lines::Line;
use crate::probe::hostile;

/// One after another, as Compose does: cyan, yellow, green, magenta.
const COLOURS: [&str; 4] = ["36", "33", "32", "35"];

/// Where the lines go.
pub struct Screen {
    out: BufWriter<StdoutLock<'static>>,
    terminal: bool,
    json: bool,
    timestamps: bool,
    prefix: Prefix,
    width: usize,
    colours: BTreeMap<String, &'static str>,
}

/// How a line says whose it is.
enum Prefix {
    None,
    Plain,
    Coloured,
}

/// A line as JSON.
#[derive(Serialize)]
struct Entry<'a> {
    container: &'a str,
    time: &'a str,
    stream: &'a str,
    text: &'a str,
}

impl Screen {
    /// Standard output; `prefixed` if each line is to say whose it is.
    pub fn new(json: bool, timestamps: bool, prefixed: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            out: BufWriter::new(io::stdout().lock()),
            terminal,
            json,
            timestamps,
            prefix: match (prefixed, super::super::colour(terminal)) {
                (false, _) => Prefix::None,
                (true, false) => Prefix::Plain,
                (true, true) => Prefix::Coloured,
            },
            width: 0,
            colours: BTreeMap::new(),
        }
    }

    /// Makes room for a name before its first line.
    pub fn widen(&mut self, role: &str) {
        self.width = self.width.max(role.len());
        let next = COLOURS[self.colours.len() % COLOURS.len()];
        self.colours.entry(role.to_owned()).or_insert(next);
    }

    /// Shows a line, sooner or later; see [`Screen::flush`].
    pub fn show(&mut self, role: &str, line: &Line) -> io::Result<()> {
        if self.json {
            let entry = Entry {
                container: role,
                time: &time(line.nanos),
                stream: if line.stderr { "stderr" } else { "stdout" },
                text: &String::from_utf8_lossy(&line.text),
            };
            // Strings always become JSON.
            let text = serde_json::to_string(&entry).unwrap_or_default();
            if !self.terminal {
                return writeln!(self.out, "{text}");
            }
            // Those that JSON leaves as they are stand in strings only.
            for c in text.chars() {
                if hostile(c) {
                    write!(self.out, "\\u{:04x}", u32::from(c))?;
                } else {
                    write!(self.out, "{c}")?;
                }
            }
            return writeln!(self.out);
        }
        let width = self.width;
        match self.prefix {
            Prefix::None => {}
            Prefix::Plain => write!(self.out, "{role:width$} | ")?,
            Prefix::Coloured => {
                let colour = self.colours.get(role).copied().unwrap_or("0");
                write!(self.out, "\x1b[{colour}m{role:width$} |\x1b[0m ")?;
            }
        }
        if self.timestamps {
            write!(self.out, "{} ", time(line.nanos))?;
        }
        if self.terminal {
            return writeln!(self.out, "{}", harmless(&line.text));
        }
        self.out.write_all(&line.text)?;
        self.out.write_all(b"\n")
    }

    /// Brings out what was shown.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line for a terminal: colours and tabs stay, and what else is no text is spelled as `less` does: `^[`, `<9B>`,
/// `<U+202E>`. A line that has colours ends without them, so that none hides the next.
fn harmless(text: &[u8]) -> String {
    // What a terminal of its own ends its lines with.
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut shown = String::with_capacity(text.len());
    let mut coloured = false;
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            let length = colour(rest).unwrap_or(c.len_utf8());
            let (these, others) = rest.split_at(length);
            rest = others;
            if length > c.len_utf8() {
                coloured = true;
                shown.push_str(these);
            } else if c == '\t' || !hostile(c) {
                shown.push(c);
            } else if let Ok(byte @ ..=0x7f) = u8::try_from(c) {
                // ^@ to ^_, and ^? for the last.
                shown.extend(['^', char::from(byte ^ 0x40)]);
            } else {
                // Into a string nothing fails.
                let _ = write!(shown, "<U+{:04X}>", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "<{byte:02X}>");
        }
    }
    if coloured {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// The length of the colour sequence (SGR) that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    parameters[end..].starts_with('m').then_some(end + 3)
}

/// RFC 3339 in UTC, to the nanosecond.
fn time(nanos: u64) -> String {
    UtcDateTime::from_total_nanoseconds(nanos.into())
        .map_or_else(|_| String::new(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_gets_text_and_colours_only() {
        let table: [(&[u8], &str); 14] = [
            (b"plain\ttext", "plain\ttext"),
            ("gr\u{fc}n \u{2713}".as_bytes(), "gr\u{fc}n \u{2713}"),
            (b"\x1b[1;31mred\x1b[m end", "\x1b[1;31mred\x1b[m end\x1b[0m"),
            (b"\x1b[38:5:7mx", "\x1b[38:5:7mx\x1b[0m"),
            // A title, the cursor, a line that is cleared, a report that would be typed, a sequence that is cut off.
            (b"\x1b]0;title\x07", "^[]0;title^G"),
            (b"\x1b[2A\x1b[2J", "^[[2A^[[2J"),
            (b"\x1b[6n\x1b[>4;1m", "^[[6n^[[>4;1m"),
            (b"\x1b[31", "^[[31"),
            (b"\x1b", "^["),
            // Another line's beginning, and the end of a line as a terminal of its own has it.
            (b"mine\rbroker | forged", "mine^Mbroker | forged"),
            (b"dos\r", "dos"),
            (b"\x00\x08\x7f", "^@^H^?"),
            // The eighth bit's controls, as a character and as a byte; writing that turns round.
            ("\u{9b}2A\u{202e}".as_bytes(), "<U+009B>2A<U+202E>"),
            (b"a\x9b2A\xffz", "a<9B>2A<FF>z"),
        ];
        for (text, expected) in table {
            assert_eq!(super::harmless(text), expected);
        }
    }

    #[test]
    fn times_have_one_width() {
        let table = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_795_360_987_000_000_001, "2026-11-22T15:23:07.000000001Z"),
        ];
        for (nanos, expected) in table {
            assert_eq!(super::time(nanos), expected);
        }
    }
}
