//! `monopod release list` and `show`: what is on disk, and what the ledger says of it.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::super::{complain, hint, note, print, table, when};
use crate::bundle::Trust;
use crate::core::update::{Book, By, ReleaseId};
use crate::daemon::{peek, rfc3339};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::release::{Damaged, Origin, Release, ReleaseError, Releases};

/// Most releases that wait for the daemon and are shown.
const WAITING: usize = 8;

/// A release as programs see it.
#[derive(Debug, Serialize)]
struct Row {
    id: ReleaseId,
    /// Absent of a damaged one, as all that follows from its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    /// A bundle's; a release of the node's own workload file has none.
    version: Option<String>,
    sequence: Option<u64>,
    key: Option<String>,
    /// Seconds since 1970, by the wall clock of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<u64>,
    /// What the ledger says of it.
    states: Vec<State>,
    /// Why it failed.
    rejected: Option<String>,
    /// What is wrong with its folder.
    damaged: Option<String>,
}

/// What a release is to the node; one may be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Trial,
    Current,
    Previous,
    Next,
    Staged,
    Rejected,
    Pinned,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Next => "next",
            Self::Staged => "staged",
            Self::Rejected => "rejected",
            Self::Pinned => "pinned",
        }
    }
}

fn states(book: &Book, id: &ReleaseId) -> Vec<State> {
    let next = book.next.as_ref().filter(|next| next.release == *id);
    let next = next.map(|next| match next.by {
        // Nobody but people activates it.
        By::Manual => State::Staged,
        By::Policy | By::Hand | By::Force | By::Back => State::Next,
    });
    let trial = book.trial.as_ref();
    let found = [
        (trial.is_some_and(|trial| trial.release == *id)).then_some(State::Trial),
        (book.current.as_ref() == Some(id)).then_some(State::Current),
        (book.previous.as_ref() == Some(id)).then_some(State::Previous),
        next,
        book.rejected(id).map(|_| State::Rejected),
        book.pinned.contains(id).then_some(State::Pinned),
    ];
    found.into_iter().flatten().collect()
}

impl Row {
    fn new(book: &Book, found: Result<&Release, &Damaged>) -> Self {
        let (id, damaged) = match found {
            Ok(release) => (&release.id, None),
            Err(damaged) => (&damaged.id, Some(damaged.reason.clone())),
        };
        let release = found.ok();
        let (version, sequence, key) = match release.map(|release| &release.origin) {
            Some(Origin::Bundle {
                version,
                sequence,
                key,
            }) => (Some(version.clone()), Some(*sequence), Some(key.clone())),
            Some(Origin::Local) | None => (None, None, None),
        };
        Self {
            id: id.clone(),
            workload: release.map(|release| release.workload.clone()),
            version,
            sequence,
            key,
            made: release.map(|release| release.made),
            states: states(book, id),
            rejected: book.rejected(id).map(str::to_owned),
            damaged,
        }
    }

    /// What people call where it comes from.
    fn version(&self) -> String {
        match (&self.version, &self.damaged) {
            (Some(version), _) => version.clone(),
            (None, None) => "local".to_owned(),
            (None, Some(_)) => "?".to_owned(),
        }
    }

    fn state(&self) -> String {
        let mut words: Vec<String> = self
            .states
            .iter()
            .map(|state| match (state, &self.rejected) {
                (State::Rejected, Some(why)) => format!("rejected: {why}"),
                _ => state.word().to_owned(),
            })
            .collect();
        words.extend(
            self.damaged
                .iter()
                .map(|reason| format!("damaged: {reason}")),
        );
        if words.is_empty() {
            return "-".to_owned();
        }
        words.join(", ")
    }
}

/// What the ledger says, or nothing of it.
fn book(paths: &Paths) -> Book {
    match peek(paths) {
        Ok(durable) => durable.unwrap_or_default().book,
        Err(text) => {
            complain(format_args!(
                "{text}; what it says of the releases is not shown"
            ));
            Book::default()
        }
    }
}

/// Lists every release, those first that the ledger speaks of, then the newest.
pub(super) fn list(paths: &Paths, json: bool) -> Exit {
    let found = match Releases::new(paths).list() {
        Ok(found) => found,
        Err(error) => return unreadable(paths, &error),
    };
    let book = book(paths);
    let mut rows: Vec<Row> = found
        .iter()
        .map(|found| Row::new(&book, found.as_ref()))
        .collect();
    rows.sort_by_key(|row| {
        let rank = row.states.iter().map(|state| *state as u8).min();
        (rank.unwrap_or(u8::MAX), std::cmp::Reverse(row.made))
    });
    if json {
        if let Ok(text) = serde_json::to_string(&rows) {
            print(text);
        }
        return Exit::Done;
    }
    if rows.is_empty() {
        hint(
            "no releases yet; the daemon makes the first one of workload.toml, or import a bundle: monopod import FILE",
        );
    } else {
        let head = ["ID", "VERSION", "SEQUENCE", "KEY", "MADE", "STATE"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        lines.extend(rows.iter().map(|row| {
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                row.id.to_string(),
                row.version(),
                dash(row.sequence.map(|sequence| sequence.to_string())),
                dash(row.key.clone()),
                dash(row.made.map(rfc3339)),
                row.state(),
            ]
        }));
        for line in table::lines(&lines) {
            print(line);
        }
    }
    match Releases::incoming(paths).ids(WAITING) {
        Ok(waiting) if !waiting.is_empty() => {
            let ids: Vec<&str> = waiting.iter().map(ReleaseId::as_str).collect();
            note(format_args!(
                "brought, and waiting for the daemon to start or to reload: {}",
                ids.join(", ")
            ));
        }
        Ok(_) => {}
        Err(error) => note(format_args!(
            "cannot read {}: {error}; what waits there is not shown",
            paths.incoming().display()
        )),
    }
    if book.held {
        note("updates are held; monopod release unhold lets them go on");
    }
    Exit::Done
}

fn unreadable(paths: &Paths, error: &io::Error) -> Exit {
    complain(format_args!(
        "cannot read {}: {error}",
        paths.releases().display()
    ));
    if error.kind() == io::ErrorKind::PermissionDenied {
        hint("try again as root");
    }
    Exit::Failed
}

/// One release, as programs see it.
#[derive(Debug, Serialize)]
struct Shown<'s> {
    #[serde(flatten)]
    row: Row,
    images: &'s BTreeMap<String, Option<String>>,
    hook: bool,
    folder: String,
    /// Whether its signature holds now; `null` for what is not signed.
    verified: Option<bool>,
}

/// Shows one release.
pub(super) fn one(paths: &Paths, id: &ReleaseId, json: bool) -> Exit {
    let releases = Releases::new(paths);
    let release = match releases.read(id) {
        Ok(release) => release,
        Err(ReleaseError::NotFound(_)) if Releases::incoming(paths).folder(id).exists() => {
            complain(format_args!(
                "release {id} was brought, and the daemon has not checked it yet"
            ));
            hint("systemctl start monopod, or systemctl reload monopod");
            return Exit::Failed;
        }
        Err(error) => return failed(&error),
    };
    let verified = match Trust::of_folder(&paths.keys()) {
        Ok(trust) => releases.verify(id, &trust).map_err(|error| match error {
            ReleaseError::Unsigned(_) => None,
            error => Some(error),
        }),
        Err(error) => {
            complain(format_args!("cannot read the keys in keys.d: {error}"));
            return Exit::Failed;
        }
    };
    let row = Row::new(&book(paths), Ok(&release));
    let shown = Shown {
        images: &release.images,
        hook: releases.hook(id).is_some(),
        folder: releases.folder(id).display().to_string(),
        verified: match &verified {
            Ok(_) => Some(true),
            Err(Some(_)) => Some(false),
            Err(None) => None,
        },
        row,
    };
    if json {
        if let Ok(text) = serde_json::to_string(&shown) {
            print(text);
        }
    } else {
        show(&shown);
    }
    match verified {
        Err(Some(error)) => failed(&error),
        Ok(_) | Err(None) => Exit::Done,
    }
}

fn show(shown: &Shown<'_>) {
    let row = &shown.row;
    let mut lines = vec![
        ("release", row.id.to_string()),
        ("state", row.state()),
        ("workload", row.workload.clone().unwrap_or_default()),
        ("version", row.version()),
    ];
    lines.extend(
        row.sequence
            .map(|sequence| ("sequence", sequence.to_string())),
    );
    if let Some(key) = &row.key {
        let holds = match shown.verified {
            Some(true) => "it holds",
            Some(false) | None => "it does not hold",
        };
        lines.push(("signed by", format!("{key}, {holds}")));
    }
    if let Some(made) = row.made {
        lines.push(("made", when::past(&rfc3339(made), when::now())));
    }
    for (reference, id) in shown.images {
        let id = id.as_deref().unwrap_or("as the engine has it");
        lines.push(("image", format!("{reference}  {id}")));
    }
    let hook = if shown.hook { "pre-switch" } else { "none" };
    lines.push(("hook", hook.to_owned()));
    lines.push(("folder", shown.folder.clone()));
    let lines: Vec<Vec<String>> = lines
        .into_iter()
        .map(|(word, text)| vec![word.to_owned(), text])
        .collect();
    for line in table::lines(&lines) {
        print(line);
    }
}

fn failed(error: &ReleaseError) -> Exit {
    complain(error);
    match error {
        ReleaseError::NotFound(_) | ReleaseError::Io { .. } => Exit::Failed,
        ReleaseError::Damaged(_) | ReleaseError::Unsigned(_) | ReleaseError::Refused { .. } => {
            Exit::Refused
        }
    }
}
