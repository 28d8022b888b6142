//! Who may open what, by the numbers alone: users and groups from `/etc`, and a file's mode.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Machine;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub uid: u32,
    pub groups: Vec<u32>,
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

    /// Whether a person may do all of `bits` (4 read, 2 write, 1 search). Root may always.
    pub fn lets(self, person: &Person, bits: u32) -> bool {
        let shift = if person.uid == self.uid {
            6
        } else if person.groups.contains(&self.gid) {
            3
        } else {
            0
        };
        person.uid == 0 || self.bits >> shift & bits == bits
    }
}

/// A user by name or number, with the groups that the machine's files and `further` give it.
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
    })
}

#[cfg(test)]
mod tests {
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
        };
        let root = Person {
            uid: 0,
            groups: vec![],
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
            assert!(mode.lets(&root, asked));
        }
    }
}
