//! What the process that reads a stick tells root's, a line of JSON each; and what that makes of it.
//!
//! Whoever took over the reader could say anything here: nothing of it is used but to be shown, and a
//! release's id, which names nothing unless the daemon finds it well signed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::core::update::ReleaseId;
use crate::probe::tame;
use crate::systemd::journal::Stick;

/// Longest line, bytes.
pub const LINE: u64 = 16 << 10;

/// Most characters of one text in it.
const TEXT: usize = 400;

/// Most characters of all of it in one line: what is told of a stick stays far below what is read of a story.
const ALL: usize = 4000;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Line {
    /// It still reads.
    Moved,
    /// What came of one file.
    File {
        /// Its name on the stick.
        name: String,
        /// What came of it.
        what: What,
    },
    /// Everything has been looked at.
    End,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Its release is in the store now.
    Taken {
        /// Its id.
        release: ReleaseId,
        /// It in words.
        line: String,
    },
    /// Its release was in the store already.
    Known {
        /// Its id.
        release: ReleaseId,
        /// It in words.
        line: String,
    },
    /// Its images are in the store now, and belong to no release.
    Archive(String),
    /// Passed over, and nothing wrong with it: why.
    Skipped(String),
    /// Refused: why.
    Refused(String),
    /// It could not be read, or not be kept: why.
    Failed(String),
}

impl What {
    /// What the journal calls it.
    pub fn kind(&self) -> Stick {
        match self {
            Self::Taken { .. } | Self::Known { .. } | Self::Archive(_) | Self::Skipped(_) => {
                Stick::Taken
            }
            Self::Refused(_) | Self::Failed(_) => Stick::Failed,
        }
    }
}

/// All that came of a stick.
#[derive(Debug, Default)]
pub struct Outcome {
    files: Vec<(String, What)>,
    /// Why not everything was looked at.
    broken: Option<String>,
}

impl Outcome {
    /// Takes what came of a file, made fit to be shown; returns it in words.
    pub fn add(&mut self, name: &str, what: What) -> String {
        let fit = |text: String| tame(&text, TEXT);
        let what = match what {
            What::Taken { release, line } => What::Taken {
                release,
                line: fit(line),
            },
            What::Known { release, line } => What::Known {
                release,
                line: fit(line),
            },
            What::Archive(text) => What::Archive(fit(text)),
            What::Skipped(text) => What::Skipped(fit(text)),
            What::Refused(text) => What::Refused(fit(text)),
            What::Failed(text) => What::Failed(fit(text)),
        };
        let name = tame(name, TEXT);
        let words = words(&name, &what);
        self.files.push((name, what));
        words
    }

    /// Takes that not everything was looked at.
    pub fn broke(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// How many files have been told of.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Whether something was taken, or had been, and nothing went wrong.
    pub fn is_good(&self) -> bool {
        let wrong = |(_, what): &(String, What)| matches!(what, What::Refused(_) | What::Failed(_));
        self.broken.is_none() && !self.files.iter().any(wrong) && self.brought().next().is_some()
    }

    /// Whether what went wrong is only that files were refused.
    pub fn is_refusal(&self) -> bool {
        let failed = |(_, what): &(String, What)| matches!(what, What::Failed(_));
        self.broken.is_none() && !self.files.iter().any(failed)
    }

    /// The releases to be tried, in the order in which they came, each once.
    pub fn releases(&self) -> Vec<ReleaseId> {
        let mut releases = Vec::new();
        for (_, what) in &self.files {
            if let What::Taken { release, .. } | What::Known { release, .. } = what
                && !releases.contains(release)
            {
                releases.push(release.clone());
            }
        }
        releases
    }

    /// Whether images came that belong to no release.
    pub fn has_archives(&self) -> bool {
        let archive = |(_, what): &(String, What)| matches!(what, What::Archive(_));
        self.files.iter().any(archive)
    }

    fn brought(&self) -> impl Iterator<Item = &What> {
        self.files.iter().map(|(_, what)| what).filter(|what| {
            matches!(
                what,
                What::Taken { .. } | What::Known { .. } | What::Archive(_)
            )
        })
    }

    /// All of it in one line: what went wrong first.
    pub fn line(&self) -> String {
        let mut parts: Vec<String> = self.broken.iter().cloned().collect();
        let wrong = |what: &What| matches!(what, What::Refused(_) | What::Failed(_));
        let told = |is_wrong: bool| {
            self.files
                .iter()
                .filter(move |(_, what)| wrong(what) == is_wrong)
                .map(|(name, what)| words(name, what))
        };
        parts.extend(told(true));
        if self.brought().next().is_some() {
            parts.extend(told(false));
        } else if parts.is_empty() {
            parts.push(if self.files.is_empty() {
                "no bundle is on it".to_owned()
            } else {
                "nothing on it is for this node".to_owned()
            });
        }
        tame(&parts.join("; "), ALL)
    }

    /// All of it for a file that people read.
    pub fn text(&self, node: &str) -> String {
        let mut text = format!(
            "monopod read this medium on {node}: {}\r\n",
            if self.is_good() { "ok" } else { "failed" }
        );
        for (name, what) in &self.files {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}\r\n", words(name, what));
        }
        if self.files.is_empty() || self.broken.is_some() {
            let _ = write!(text, "{}\r\n", self.line());
        }
        text
    }
}

fn words(name: &str, what: &What) -> String {
    match what {
        What::Taken { release, line } => format!("{name} taken: {line} ({release})"),
        What::Known { release, line } => format!("{name} was taken before: {line} ({release})"),
        What::Archive(text) => format!("{name} taken, unsigned: {text}"),
        What::Skipped(why) => format!("{name} passed over: {why}"),
        What::Refused(why) => format!("{name} refused: {why}"),
        What::Failed(why) => format!("{name} not taken: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(release: &str) -> What {
        What::Taken {
            release: ReleaseId::new(release).expect("an id"),
            line: "release 1.4.2, sequence 7".to_owned(),
        }
    }

    #[test]
    fn what_a_stick_came_to() {
        let id = "0123456789ab";
        let skipped = What::Skipped("it is for arm64".to_owned());
        let refused = What::Refused("it is not signed".to_owned());
        let failed = What::Failed("it is truncated".to_owned());
        let archive = What::Archive("example/app:1".to_owned());
        let known = What::Known {
            release: ReleaseId::new(id).expect("an id"),
            line: "release 1".to_owned(),
        };
        let table = [
            (vec![], false, true, 0, "no bundle is on it"),
            (
                vec![skipped.clone()],
                false,
                true,
                0,
                "nothing on it is for this node",
            ),
            (
                vec![taken(id)],
                true,
                true,
                1,
                "f0 taken: release 1.4.2, sequence 7 (0123456789ab)",
            ),
            (
                vec![known.clone(), taken(id)],
                true,
                true,
                1,
                "f0 was taken before: release 1 ",
            ),
            (
                vec![archive],
                true,
                true,
                0,
                "f0 taken, unsigned: example/app:1",
            ),
            (
                vec![taken(id), skipped],
                true,
                true,
                1,
                "; f1 passed over: it is for arm64",
            ),
            (
                vec![taken(id), refused.clone()],
                false,
                true,
                1,
                "f1 refused: it is not signed; f0 taken",
            ),
            (
                vec![refused, failed],
                false,
                false,
                0,
                "f0 refused: it is not signed; f1 not taken: it is t",
            ),
        ];
        for (files, good, refusal, releases, words) in table {
            let mut outcome = Outcome::default();
            for (number, what) in files.into_iter().enumerate() {
                outcome.add(&format!("f{number}"), what);
            }
            let line = outcome.line();
            assert!(line.contains(words), "{line}");
            assert_eq!(
                (outcome.is_good(), outcome.is_refusal()),
                (good, refusal),
                "{line}"
            );
            assert_eq!(outcome.releases().len(), releases, "{line}");
            let text = outcome.text("node7");
            let head = if good {
                "node7: ok\r\n"
            } else {
                "node7: failed\r\n"
            };
            assert!(text.contains(head), "{text}");
        }
    }

    #[test]
    fn what_broke_off_is_never_good() {
        let mut outcome = Outcome::default();
        outcome.add("a.bundle", taken("0123456789ab"));
        outcome.broke("the stick was pulled out".to_owned());
        outcome.broke("later".to_owned());
        assert!(!outcome.is_good() && !outcome.is_refusal());
        assert!(
            outcome
                .line()
                .starts_with("the stick was pulled out; a.bundle taken")
        );
        assert!(outcome.text("n").contains("the stick was pulled out"));
    }

    #[test]
    fn no_name_can_forge_a_line() {
        let mut outcome = Outcome::default();
        let words = outcome.add("a\nb\u{1b}[2J", What::Refused("x\r\ny".to_owned()));
        assert!(!words.contains(['\n', '\r', '\u{1b}']), "{words:?}");
        let line = |id: &str| {
            format!(
                "{{\"File\":{{\"name\":\"a\",\"what\":{{\"Known\":{{\"release\":\"{id}\",\"line\":\"\"}}}}}}}}"
            )
        };
        assert!(serde_json::from_str::<Line>(&line("0123456789ab")).is_ok());
        assert!(serde_json::from_str::<Line>(&line("../../../etc")).is_err());
    }
}
