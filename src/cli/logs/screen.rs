//! How lines of a container's log look: prefixed, coloured, with their time, or as JSON.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use serde::Serialize;
use tz::UtcDateTime;

use super::lines::Line;

/// One after another, as Compose does: cyan, yellow, green, magenta.
const COLOURS: [&str; 4] = ["36", "33", "32", "35"];

/// Where the lines go.
pub struct Screen {
    out: BufWriter<StdoutLock<'static>>,
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
        Self {
            out: BufWriter::new(io::stdout().lock()),
            json,
            timestamps,
            prefix: match (prefixed, super::super::colour(io::stdout().is_terminal())) {
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
            return writeln!(self.out, "{text}");
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
        self.out.write_all(&line.text)?;
        self.out.write_all(b"\n")
    }

    /// Brings out what was shown.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// RFC 3339 in UTC, to the nanosecond.
fn time(nanos: u64) -> String {
    UtcDateTime::from_total_nanoseconds(nanos.into())
        .map_or_else(|_| String::new(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
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
