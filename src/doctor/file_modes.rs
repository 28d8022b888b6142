//! Can the daemon read its files? Can anybody but root change what root obeys, or read what is secret?

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::access::{self, Mode, Person};
use super::systemd::UnitFacts;
use super::{Check, Finding, Machine, Run};
use crate::spec;
use crate::spec::host::{Fact, Host, ThisHost};
use crate::spec::types::{Secret, Workload};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "file-modes",
    title: "owners and modes of /etc/monopod, its files, the env_files and the secrets",
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

fn look(machine: &Machine, unit: Option<&UnitFacts>) -> Finding {
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
    judge(&gather(machine, folder, unit))
}

/// What a file is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Says what runs as root, or as good as root.
    Obeyed,
    /// As that, and its environment names something that sounds like a secret.
    Telling,
    /// A secret's source.
    Secret,
    /// Variables; whose they are is the app's business.
    Variables,
}

struct Found {
    path: PathBuf,
    kind: Kind,
    mode: Mode,
    /// What keeps the daemon from reading it: a folder on the way, or the file itself.
    barrier: Option<PathBuf>,
    /// Whether the daemon may write it.
    writable: bool,
}

struct Facts {
    /// The daemon's user.
    user: String,
    /// Whether others may go into the folder of the configuration at all.
    folder_open: bool,
    /// The first is the folder itself.
    files: Vec<Found>,
}

/// The machine, noting which files were read.
#[derive(Default)]
struct Noting {
    host: ThisHost,
    read: RefCell<BTreeSet<PathBuf>>,
}

impl Host for Noting {
    fn look(&self, path: &Path) -> io::Result<Fact> {
        self.host.look(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read.borrow_mut().insert(path.to_owned());
        self.host.read(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.host.list(path)
    }

    fn credential(&self, name: &str) -> Option<bool> {
        self.host.credential(name)
    }
}

fn gather(machine: &Machine, folder: &Path, unit: Option<&UnitFacts>) -> Facts {
    let noting = Noting::default();
    // That it is invalid is a finding of another check's.
    let workload = spec::load(&machine.paths, &noting)
        .ok()
        .map(|loaded| loaded.value);
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
    // What else was read are the variables.
    let mut others = noting.read.into_inner();
    for (path, _) in &paths {
        others.remove(path);
    }
    paths.extend(others.into_iter().map(|path| (path, Kind::Variables)));
    // An account that is not there can read nothing, and has a finding of its own.
    let person = access::daemon(machine, unit);
    let files = paths
        .into_iter()
        .filter_map(|(path, kind)| found(path, kind, person.as_ref()))
        .collect();
    Facts {
        user: unit.map_or("root", UnitFacts::user).to_owned(),
        folder_open: Mode::of(folder).is_none_or(|mode| mode.bits & 0o001 != 0),
        files,
    }
}

/// `None` if it is not there.
fn found(path: PathBuf, kind: Kind, person: Option<&Person>) -> Option<Found> {
    let mode = Mode::of(&path)?;
    let (reading, writing) = if path.is_dir() { (5, 3) } else { (4, 2) };
    Some(Found {
        barrier: person.and_then(|person| access::barrier(person, &path, reading)),
        // Root may always give itself the right.
        writable: person.is_some_and(|person| person.uid != 0 && mode.lets(person, writing)),
        path,
        kind,
        mode,
    })
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
    let user = &facts.user;
    let mut found = Vec::new();
    let mut barriers = BTreeSet::new();
    for one in &facts.files {
        // What is in one's way is often in the others' as well.
        let Some(barrier) = one.barrier.as_ref().filter(|path| barriers.insert(*path)) else {
            continue;
        };
        let (shown, barrier) = (one.path.display(), barrier.display());
        let finding = if one.barrier.as_ref() == Some(&one.path) {
            format!("the daemon (user {user}) may not read {shown}")
        } else {
            format!("the daemon (user {user}) may not read {shown}, because of {barrier}")
        };
        found.push(Finding::failure(finding).hint(format!(
            "for example: chgrp {user} {barrier} && chmod g+rX {barrier}"
        )));
    }
    for one in &facts.files {
        let (shown, mode) = (one.path.display(), one.mode);
        match one.kind {
            Kind::Variables => {}
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
                } else if one.writable && mode.uid == 0 {
                    found.push(
                        Finding::warning(format!(
                            "the daemon (user {user}) may write {shown}, which root obeys as well"
                        ))
                        .hint(format!("chmod g-w {shown}")),
                    );
                }
                if one.kind == Kind::Telling && facts.folder_open && mode.bits & 0o004 != 0 {
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
        "the daemon can read all, and nobody else can change what root obeys or read the secrets",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::State;
    use super::super::tests::machine;
    use super::super::unit::tests::good;
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
            let files = vec![Found {
                path: PathBuf::from("/f"),
                kind,
                mode: Mode { uid, gid: 0, bits },
                barrier: None,
                writable: false,
            }];
            let found = judge(&Facts {
                user: "monopod".to_owned(),
                folder_open,
                files,
            });
            assert_eq!(found.state, state, "{kind:?} {uid} {bits:o}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }

    /// Each kind of file in turn is one that the daemon's user may not read, or may write.
    #[test]
    fn what_the_daemon_may() {
        const WORKLOAD: &str =
            "name = \"w\"\n[containers.app]\nimage = \"a:1\"\nenv_file = \"app.env\"\n";
        let nobody = nix::unistd::geteuid().as_raw() + 1;
        // As a group that its user is not of, and one that it is of.
        let gid = nix::unistd::getegid().as_raw();
        let passwd = format!("monopod:x:{nobody}:{}::/:/bin/false\n", gid + 1);
        let group = format!("ours:x:{gid}:monopod\n");
        let held = machine(&[
            ("etc/passwd", &passwd),
            ("etc/group", &group),
            ("etc/monopod/workload.toml", WORKLOAD),
            ("etc/monopod/node.toml", ""),
            ("etc/monopod/app.env", "A=b\n"),
            ("etc/monopod/secret", "s"),
            ("etc/monopod/workload.d/1.toml", ""),
        ]);
        let secret = held.at("etc/monopod/secret");
        let drop_in = format!(
            "[containers.app]\nsecrets = {{ s = {{ file = \"{}\" }} }}\n",
            secret.display()
        );
        std::fs::write(held.at("etc/monopod/workload.d/1.toml"), drop_in).unwrap();
        let chmod = |path: &Path, bits| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
        };
        let all = [
            ("", 0o750),
            ("workload.toml", 0o640),
            ("workload.d", 0o750),
            ("workload.d/1.toml", 0o640),
            ("node.toml", 0o640),
            ("app.env", 0o640),
            ("secret", 0o640),
        ];
        chmod(&held.at(""), 0o755);
        for (path, bits) in all {
            chmod(&held.at("etc/monopod").join(path), bits);
        }
        let see = || look(&held, Some(&good()));
        let tells = |found: &Finding, word: &str, path: &Path| {
            let text = format!("the daemon (user monopod) may {word} {}", path.display());
            found.finding.split("; ").any(|one| one.starts_with(&text))
        };
        let fine = see();
        assert!(!fine.finding.contains("the daemon (user"), "{fine:?}");
        for (path, bits) in all {
            let path = held
                .at("etc/monopod")
                .join(path)
                .components()
                .collect::<PathBuf>();
            chmod(&path, bits & 0o700);
            let found = see();
            assert_eq!(found.state, State::Failure, "{path:?}: {found:?}");
            assert!(tells(&found, "not read", &path), "{path:?}: {found:?}");
            // By hand it is root's, who may all.
            let found = look(&held, None);
            assert!(!found.finding.contains("the daemon (user"), "{found:?}");
            chmod(&path, bits | 0o020);
            let found = see();
            let obeyed = !path.ends_with("app.env") && !path.ends_with("secret");
            let owned = Mode::of(&path).unwrap().uid == 0;
            assert_eq!(
                tells(&found, "write", &path),
                obeyed && owned,
                "{path:?}: {found:?}"
            );
            chmod(&path, bits);
        }
        // What a folder keeps back is told once.
        chmod(&held.at("etc"), 0o700);
        let found = see();
        assert_eq!(
            found.finding.matches("may not read").count(),
            1,
            "{found:?}"
        );
        chmod(&held.at("etc"), 0o755);
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
