//! Are the workload file and the node file there, and valid?

use std::io::ErrorKind;
use std::path::Path;

use super::{Check, Finding, Run};
use crate::spec::diagnostic::{Diagnostic, Invalid, Severity};
use crate::spec::host::ThisHost;
use crate::spec::{self, Loaded};

/// The workload file with its drop-ins.
pub(super) const WORKLOAD: Check = Check {
    id: "workload-file",
    title: "workload.toml and its drop-ins: there, and valid",
    run: Run::Files(|machine| {
        let path = machine.paths.workload();
        let absent = || {
            Finding::note(format!(
                "there is no {}, so there is nothing to run",
                path.display()
            ))
            .hint("write it, then: monopod check")
        };
        judge(reach(&path), absent, || {
            spec::load(&machine.paths, &ThisHost::default()).map(|Loaded { value, warnings }| {
                let count = value.containers.len();
                let plural = if count == 1 { "" } else { "s" };
                (
                    format!("{} with {count} container{plural}", value.name),
                    warnings,
                )
            })
        })
    }),
};

/// The node file.
pub(super) const NODE: Check = Check {
    id: "node-file",
    title: "node.toml: valid, if it is there",
    run: Run::Files(|machine| {
        let path = machine.paths.node();
        let absent = || {
            Finding::ok(format!(
                "there is no {}: the defaults are in force",
                path.display()
            ))
        };
        judge(reach(&path), absent, || {
            spec::load_node(&machine.paths, &ThisHost::default())
                .map(|loaded| (format!("{} is valid", path.display()), loaded.warnings))
        })
    }),
};

/// Whether a file can be got at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    There,
    Absent,
    Denied,
}

fn reach(path: &Path) -> Reach {
    match std::fs::File::open(path).map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound) => Reach::Absent,
        Err(ErrorKind::PermissionDenied) => Reach::Denied,
        // Any other fault is told by whoever reads it.
        Ok(_) | Err(_) => Reach::There,
    }
}

fn judge(
    reach: Reach,
    absent: impl FnOnce() -> Finding,
    load: impl FnOnce() -> Result<(String, Vec<Diagnostic>), Invalid>,
) -> Finding {
    const LOOK: &str = "the whole of it: monopod check";
    let loaded = match reach {
        Reach::Absent => return absent(),
        Reach::Denied => return Finding::skipped("this user may not read it: run as root"),
        Reach::There => load(),
    };
    match loaded {
        Ok((good, warnings)) => match warnings.as_slice() {
            [] => Finding::ok(good),
            [first, ..] => Finding::note(format!(
                "{good}; {}",
                told("warning", warnings.len(), first)
            ))
            .hint(LOOK),
        },
        Err(invalid) => {
            let mut errors = invalid
                .diagnostics
                .iter()
                .filter(|one| one.severity() == Severity::Error);
            match errors.next() {
                Some(first) => {
                    Finding::failure(told("error", errors.count() + 1, first)).hint(LOOK)
                }
                None => Finding::failure(invalid.to_string()).hint(LOOK),
            }
        }
    }
}

/// `2 errors, the first in FILE:LINE: ...`
fn told(word: &str, count: usize, first: &Diagnostic) -> String {
    let line = first
        .line()
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    let place = format!("{}{line}: {}", first.file(), first.message());
    if count == 1 {
        format!("1 {word}: {place}")
    } else {
        format!("{count} {word}s, the first: {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let bad = || Diagnostic::file_error("w.toml", "no good");
        let invalid = |count: usize| Invalid {
            diagnostics: (0..count).map(|_| bad()).collect(),
        };
        let good = || Ok(("w with 1 container".to_owned(), vec![]));
        let absent = || Finding::note("absent");
        let see = |reach, load: Result<_, Invalid>| judge(reach, absent, || load);
        let table = [
            (see(Reach::There, good()), State::Ok, "w with 1 container"),
            (see(Reach::Absent, good()), State::Note, "absent"),
            (
                see(Reach::Denied, good()),
                State::Skipped,
                "this user may not read it: run as root",
            ),
            (
                see(Reach::There, Err(invalid(1))),
                State::Failure,
                "1 error: w.toml: no good",
            ),
            (
                see(Reach::There, Err(invalid(2))),
                State::Failure,
                "2 errors, the first: w.toml: no good",
            ),
            (
                see(Reach::There, Ok(("w".to_owned(), vec![bad()]))),
                State::Note,
                "w; 1 warning: w.toml: no good",
            ),
        ];
        for (found, state, text) in table {
            assert_eq!((found.state, found.finding.as_str()), (state, text));
            assert_eq!(
                found.hints.is_empty(),
                [State::Ok, State::Skipped].contains(&state) || text == "absent"
            );
        }
    }
}
