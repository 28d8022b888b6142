//! Who may open what, by the numbers alone: users and groups from `/etc`, a file's mode, and capabilities.
//!
//! It must never ask the kernel what this process may do: that is somebody else's answer.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Machine;
use super::systemd::UnitFacts;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub uid: u32,
    pub groups: Vec<u32>,
    /// Whether modes do not hold for it (`CAP_DAC_OVERRIDE`). Not every root: the unit takes capabilities away.
    pub overrides: bool,
}

/// A file's owner and permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    pub uid: u32,
    pub gid: u32,
    pub bits: u32,
}

impl Mode {
    /// Of what a path leads to; `None` if it cannot be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            uid: meta.uid(),
            gid: meta.gid(),
            bits: meta.mode() & 0o7777,
        })
    }

    /// Whether a person may do all of `bits` (4 read, 2 write, 1 search).
    pub fn lets(self, person: &Person, bits: u32) -> bool {
        let shift = if person.uid == self.uid {
            6
        } else if person.groups.contains(&self.gid) {
            3
        } else {
            0
        };
        person.overrides || self.bits >> shift & bits == bits
    }
}

/// Where a person is stopped on the way to doing `bits` with a path: a folder that may not be passed, or the path
/// itself. `None` if nothing is in the way, or it cannot be looked at.
pub(super) fn barrier(person: &Person, path: &Path, bits: u32) -> Option<PathBuf> {
    // A link is as good as where it leads.
    let path = path.canonicalize().ok()?;
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    folders.reverse();
    let stops = |path: &Path, bits| Mode::of(path).is_some_and(|mode| !mode.lets(person, bits));
    folders
        .into_iter()
        .find(|folder| stops(folder, 1))
        .or_else(|| stops(&path, bits).then_some(&*path))
        .map(Path::to_owned)
}

/// Whoever the daemon runs as; `None`: there is no such account. Without a unit it is started by hand, by a root that
/// may everything.
pub(super) fn daemon(machine: &Machine, unit: Option<&UnitFacts>) -> Option<Person> {
    /// Of the bits in capabilities(7).
    const CAP_DAC_OVERRIDE: u64 = 1 << 1;
    let Some(unit) = unit.filter(|unit| unit.load == "loaded") else {
        return Some(Person {
            uid: 0,
            groups: vec![0],
            overrides: true,
        });
    };
    let person = person(machine, &unit.user, &unit.groups)?;
    let capabilities = if person.uid == 0 {
        unit.bounding
    } else {
        unit.bounding & unit.ambient
    };
    Some(Person {
        overrides: capabilities & CAP_DAC_OVERRIDE != 0,
        ..person
    })
}

/// A user by name or number, with the groups that the machine's files and `further` give it, and no capabilities.
pub(super) fn person(machine: &Machine, name: &str, further: &[String]) -> Option<Person> {
    read(
        &machine.text("/etc/passwd"),
        &machine.text("/etc/group"),
        name,
        further,
    )
}

fn read(passwd: &str, group: &str, name: &str, further: &[String]) -> Option<Person> {
    if name.is_empty() || name == "root" {
        return Some(Person {
            uid: 0,
            groups: vec![0],
            overrides: false,
        });
    }
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 3 && (fields[0] == name || fields[2] == name))?;
    let login = fields[0];
    let mut groups = vec![fields[3].parse().ok()?];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [group, _, gid, members] = fields.as_slice() else {
            continue;
        };
        let member = members.split(',').any(|member| member == login)
            || further.iter().any(|one| one == group || one == gid);
        if let (true, Ok(gid)) = (member, gid.parse()) {
            groups.push(gid);
        }
    }
    Some(Person {
        uid: fields[2].parse().ok()?,
        groups,
        overrides: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::super::unit::tests::good;
    use super::*;

    #[test]
    fn people() {
        const PASSWD: &str =
            "root:x:0:0::/root:/bin/sh\nmonopod:x:990:980::/:/usr/sbin/nologin\nbroken:x\n";
        const GROUP: &str =
            "root:x:0:\ndocker:x:105:admin,monopod\ndialout:x:20:\nmonopod:x:980:\n";
        let further = ["dialout".to_owned()];
        let table = [
            ("monopod", &[][..], Some((990, vec![980, 105]))),
            ("990", &further, Some((990, vec![980, 105, 20]))),
            ("", &[], Some((0, vec![0]))),
            ("nobody", &[], None),
            ("broken", &[], None),
        ];
        for (name, further, expected) in table {
            let found =
                read(PASSWD, GROUP, name, further).map(|person| (person.uid, person.groups));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn modes() {
        let person = Person {
            uid: 5,
            groups: vec![50, 51],
            overrides: false,
        };
        let mighty = Person {
            uid: 7,
            groups: vec![],
            overrides: true,
        };
        let table = [
            (5, 50, 0o600, 6, true),
            (5, 50, 0o060, 6, false),
            (5, 50, 0o400, 6, false),
            (0, 51, 0o660, 2, true),
            (0, 51, 0o604, 4, false),
            (0, 60, 0o604, 4, true),
            (0, 60, 0o604, 2, false),
        ];
        for (uid, gid, bits, asked, expected) in table {
            let mode = Mode { uid, gid, bits };
            assert_eq!(mode.lets(&person, asked), expected, "{mode:?} {asked}");
            assert!(mode.lets(&mighty, asked));
        }
    }

    /// The shipped drop-in makes the daemon root, and leaves it without capabilities.
    #[test]
    fn not_every_root_may_everything() {
        const ALL: u64 = u64::MAX;
        const OTHERS: u64 = !2;
        let held = machine(&[(
            "etc/passwd",
            "root:x:0:0::/:/bin/sh\nmonopod:x:990:980::/:/bin/false\n",
        )]);
        let theirs = Mode {
            uid: 5,
            gid: 5,
            bits: 0o600,
        };
        // User, bounding set, ambient set, whether it may read what is another's.
        let table = [
            ("root", 0, 0, false),
            ("", 0, 0, false),
            ("0", ALL, 0, true),
            ("root", OTHERS, 0, false),
            ("monopod", 0, 0, false),
            ("monopod", ALL, 0, false),
            ("monopod", ALL, 2, true),
            ("monopod", 0, 2, false),
        ];
        for (user, bounding, ambient, expected) in table {
            let unit = UnitFacts {
                user: user.to_owned(),
                bounding,
                ambient,
                ..good()
            };
            let person = daemon(&held, Some(&unit)).unwrap();
            assert_eq!(theirs.lets(&person, 4), expected, "{unit:?}");
        }
        let absent = UnitFacts {
            load: "not-found".to_owned(),
            ..good()
        };
        for unit in [None, Some(&absent)] {
            assert!(theirs.lets(&daemon(&held, unit).unwrap(), 4));
        }
        let nobody = UnitFacts {
            user: "nobody".to_owned(),
            ..good()
        };
        assert_eq!(daemon(&held, Some(&nobody)), None);
    }

    #[test]
    fn barriers() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (folder, file, link) = (base.join("a"), base.join("a/f"), base.join("l"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let person = Person {
            uid: 99_999,
            groups: vec![],
            overrides: false,
        };
        let chmod = |path: &Path, bits| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
        };
        let table = [
            (0o755, 0o755, 0o644, None),
            (0o755, 0o755, 0o600, Some(&file)),
            (0o755, 0o750, 0o644, Some(&folder)),
            (0o700, 0o755, 0o644, Some(&base)),
        ];
        for (outer, inner, bits, expected) in table {
            chmod(&base, outer);
            chmod(&folder, inner);
            chmod(&file, bits);
            for path in [&file, &link] {
                assert_eq!(barrier(&person, path, 4).as_ref(), expected, "{path:?}");
            }
        }
        assert_eq!(barrier(&person, &base.join("none"), 4), None);
    }
}
