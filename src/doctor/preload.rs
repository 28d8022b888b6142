//! The preload folder: what in it is waiting, what was refused, and whether the daemon can read it. And
//! releases that were brought, and wait for the daemon.

use super::access::{self, Mode, Person};
use super::systemd::UnitFacts;
use super::{Check, Finding, Machine, Run};
use crate::image::{PreloadState, preload_survey};
use crate::release::Releases;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "preload",
    title: "the preload folder: imported, waiting, refused, unreadable; releases not yet checked",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let unit = machine.unit().await.ok().cloned();
            tokio::task::spawn_blocking(move || look(&machine, unit.as_ref()))
                .await
                .unwrap_or_else(|error| {
                    Finding::failure(format!("the check itself failed: {error}"))
                })
        })
    }),
};

/// Most releases that are counted.
const BROUGHT: usize = 64;

/// One archive.
struct Archive {
    name: String,
    /// Whether the daemon may read it.
    readable: bool,
    state: PreloadState,
}

fn look(machine: &Machine, unit: Option<&UnitFacts>) -> Finding {
    let folder = machine.paths.preload();
    let record = machine.paths.store().join("preload.json");
    let shown = folder.display();
    let known = match preload_survey(&folder, &record) {
        Ok(known) => known,
        Err(error) => {
            return Finding::skipped(format!("this user may not look: {error}; run as root"));
        }
    };
    // An account that is not there can read nothing, and has a finding of its own.
    let person = access::daemon(machine, unit);
    let lets = |path: &std::path::Path, bits| match (&person, Mode::of(path)) {
        (Some(person), Some(mode)) => mode.lets(person, bits),
        (None, _) | (_, None) => true,
    };
    let open = !folder.exists() || lets(&folder, 5);
    let archives: Vec<Archive> = known
        .into_iter()
        .map(|(path, state)| Archive {
            readable: lets(&path, if path.is_dir() { 5 } else { 4 }),
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            state,
        })
        .collect();
    let brought = Releases::incoming(&machine.paths).ids(BROUGHT);
    let brought = brought.map_or(0, |ids| ids.len());
    judge(
        &shown.to_string(),
        open,
        &archives,
        brought,
        person.as_ref(),
    )
}

fn judge(
    folder: &str,
    open: bool,
    archives: &[Archive],
    brought: usize,
    person: Option<&Person>,
) -> Finding {
    let mut found = Vec::new();
    let user = person.map_or_else(
        || "the daemon".to_owned(),
        |person| format!("the daemon (user {})", person.uid),
    );
    if !open {
        found.push(
            Finding::failure(format!("{user} may not read {folder}"))
                .hint(format!("chmod 755 {folder}")),
        );
    }
    let mut waiting = 0;
    for archive in archives {
        let name = &archive.name;
        match &archive.state {
            PreloadState::Imported => {}
            PreloadState::Refused(why) => found.push(
                Finding::warning(format!("{name} was refused: {why}")).hint(format!(
                    "put a good one in its place, or remove {folder}/{name}"
                )),
            ),
            PreloadState::New if !archive.readable => found.push(
                Finding::failure(format!("{user} may not read {name}"))
                    .hint(format!("chmod a+r {folder}/{name}")),
            ),
            PreloadState::New => waiting += 1,
        }
    }
    if waiting > 0 {
        let (plural, them) = if waiting == 1 {
            (" waits", "it")
        } else {
            ("s wait", "them")
        };
        found.push(
            Finding::note(format!("{waiting} file{plural} to be imported")).hint(format!(
                "monopod's next start imports {them}; at once: monopod import --preload"
            )),
        );
    }
    if brought > 0 {
        let plural = if brought == 1 { " waits" } else { "s wait" };
        found.push(
            Finding::note(format!("{brought} release{plural} for the daemon"))
                .hint("systemctl start monopod, or systemctl reload monopod if it runs"),
        );
    }
    let good = if archives.is_empty() {
        "nothing in it".to_owned()
    } else {
        format!("{} imported", archives.len())
    };
    Finding::all(found, good)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let archive = |readable, state| Archive {
            name: "a.tar".to_owned(),
            readable,
            state,
        };
        let refused = || PreloadState::Refused("it is empty".to_owned());
        let table = [
            (true, vec![], State::Ok, "nothing in it"),
            (
                true,
                vec![archive(true, PreloadState::Imported)],
                State::Ok,
                "1 imported",
            ),
            // It was read when it could be.
            (
                true,
                vec![archive(false, PreloadState::Imported)],
                State::Ok,
                "1 imported",
            ),
            (
                true,
                vec![archive(true, PreloadState::New)],
                State::Note,
                "1 file waits to be imported",
            ),
            (
                true,
                vec![
                    archive(true, PreloadState::New),
                    archive(true, PreloadState::New),
                ],
                State::Note,
                "2 files wait to be imported",
            ),
            (
                true,
                vec![archive(true, refused())],
                State::Warning,
                "a.tar was refused: it is empty",
            ),
            (
                true,
                vec![archive(false, PreloadState::New)],
                State::Failure,
                "the daemon (user 9) may not read a.tar",
            ),
            (
                false,
                vec![],
                State::Failure,
                "the daemon (user 9) may not read /p",
            ),
        ];
        let person = Person {
            uid: 9,
            groups: vec![],
            overrides: false,
        };
        for (open, archives, state, text) in table {
            let found = judge("/p", open, &archives, 0, Some(&person));
            assert_eq!((found.state, found.finding.as_str()), (state, text));
            assert_eq!(found.hints.is_empty(), state == State::Ok, "{found:?}");
        }
        for (brought, text) in [
            (1, "1 release waits for the daemon"),
            (2, "2 releases wait for the daemon"),
        ] {
            let found = judge("/p", true, &[], brought, Some(&person));
            assert_eq!((found.state, found.finding.as_str()), (State::Note, text));
        }
    }
}
