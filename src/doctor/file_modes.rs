//! Can anybody but root change what root obeys, or read what is secret?

use std::path::{Path, PathBuf};

use super::access::Mode;
use super::{Check, Finding, Machine, Run};
use crate::spec::types::{Secret, Workload};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "file-modes",
    title: "owners and modes of /etc/monopod, its files and the secrets",
    run: Run::Files(|machine| {
        let folder = machine.paths.workload();
        let Some(folder) = folder.parent().filter(|folder| folder.exists()) else {
            return Finding::ok("there is no configuration yet");
        };
        if std::fs::read_dir(folder).is_err() {
            return Finding::skipped(format!(
                "this user may not look into {}: run as root",
                folder.display()
            ));
        }
        judge(&gather(machine, folder))
    }),
};

/// What a file is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Says what runs as root, or as good as root.
    Obeyed,
    /// As that, and its environment names something that sounds like a secret.
    Telling,
    /// A secret's source.
    Secret,
}

struct Facts {
    /// Whether others may go into the folder of the configuration at all.
    folder_open: bool,
    /// The first is the folder itself.
    files: Vec<(PathBuf, Kind, Mode)>,
}

fn gather(machine: &Machine, folder: &Path) -> Facts {
    let workload = machine.workload();
    let telling = workload.as_ref().is_some_and(|workload| {
        let mut names = workload
            .containers
            .iter()
            .flat_map(|one| one.environment.keys());
        names.any(|name| sounds_secret(name))
    });
    let mut paths = vec![
        (folder.to_owned(), Kind::Obeyed),
        (
            machine.paths.workload(),
            if telling { Kind::Telling } else { Kind::Obeyed },
        ),
        (machine.paths.workload_d(), Kind::Obeyed),
        (machine.paths.node(), Kind::Obeyed),
    ];
    for entry in std::fs::read_dir(machine.paths.workload_d())
        .into_iter()
        .flatten()
        .flatten()
    {
        paths.push((entry.path(), Kind::Obeyed));
    }
    paths[4..].sort_by(|one, other| one.0.cmp(&other.0));
    paths.extend(
        workload
            .iter()
            .flat_map(secrets)
            .map(|path| (path, Kind::Secret)),
    );
    let files = paths
        .into_iter()
        .filter_map(|(path, kind)| Some((Mode::of(&path)?, path, kind)))
        .map(|(mode, path, kind)| (path, kind, mode))
        .collect();
    Facts {
        folder_open: Mode::of(folder).is_none_or(|mode| mode.bits & 0o001 != 0),
        files,
    }
}

fn secrets(workload: &Workload) -> Vec<PathBuf> {
    let all = workload
        .containers
        .iter()
        .flat_map(|one| one.secrets.values());
    all.filter_map(|secret| match secret {
        Secret::File(path) => Some(path.clone()),
        Secret::Credential(_) => None,
    })
    .collect()
}

/// Whether a variable's name promises something that not everybody should read.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // What ends in _FILE says where it is, not what it is.
    !name.ends_with("_FILE")
        && [
            "PASSWORD",
            "PASSWD",
            "SECRET",
            "TOKEN",
            "API_KEY",
            "APIKEY",
            "PRIVATE_KEY",
        ]
        .iter()
        .any(|word| name.contains(word))
}

fn judge(facts: &Facts) -> Finding {
    let mut found = Vec::new();
    for (path, kind, mode) in &facts.files {
        let shown = path.display();
        match kind {
            Kind::Obeyed | Kind::Telling => {
                if mode.uid != 0 {
                    found.push(
                        Finding::warning(format!(
                            "{shown} belongs to user {}, who can so become root",
                            mode.uid
                        ))
                        .hint(format!("chown root {shown}")),
                    );
                }
                // A group may be trusted with it; everybody cannot be.
                if mode.bits & 0o002 != 0 {
                    found.push(
                        Finding::warning(format!(
                            "everybody may write {shown}, and can so become root"
                        ))
                        .hint(format!("chmod o-w {shown}")),
                    );
                }
                if *kind == Kind::Telling && facts.folder_open && mode.bits & 0o004 != 0 {
                    found.push(
                        Finding::note(format!(
                            "everybody may read {shown}, whose environment seems to hold a secret"
                        ))
                        .hint(format!(
                            "chmod o-r {shown}, or use secrets = {{ NAME = {{ file = ... }} }}"
                        )),
                    );
                }
            }
            Kind::Secret => {
                if mode.bits & 0o004 != 0 {
                    found.push(
                        Finding::warning(format!("everybody may read the secret in {shown}"))
                            .hint(format!("chmod o-r {shown}")),
                    );
                }
            }
        }
    }
    Finding::all(
        found,
        "nobody else can change what root obeys, or read the secrets",
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let table = [
            (Kind::Obeyed, 0, 0o644, true, State::Ok, ""),
            (Kind::Obeyed, 0, 0o664, true, State::Ok, ""),
            (
                Kind::Obeyed,
                0,
                0o646,
                true,
                State::Warning,
                "everybody may write /f",
            ),
            (
                Kind::Obeyed,
                7,
                0o644,
                true,
                State::Warning,
                "belongs to user 7",
            ),
            (
                Kind::Telling,
                0,
                0o644,
                true,
                State::Note,
                "seems to hold a secret",
            ),
            (Kind::Telling, 0, 0o644, false, State::Ok, ""),
            (Kind::Telling, 0, 0o640, true, State::Ok, ""),
            (Kind::Telling, 7, 0o646, true, State::Warning, "secret"),
            // A service may own its own secret.
            (Kind::Secret, 7, 0o600, true, State::Ok, ""),
            (
                Kind::Secret,
                0,
                0o644,
                false,
                State::Warning,
                "read the secret in /f",
            ),
        ];
        for (kind, uid, bits, folder_open, state, text) in table {
            let files = vec![(PathBuf::from("/f"), kind, Mode { uid, gid: 0, bits })];
            let found = judge(&Facts { folder_open, files });
            assert_eq!(found.state, state, "{kind:?} {uid} {bits:o}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }

    #[test]
    fn names() {
        for name in ["DB_PASSWORD", "token", "AWS_SECRET_ACCESS_KEY", "api_key"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["LOG_LEVEL", "DB_PASSWORD_FILE", "KEYBOARD"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
