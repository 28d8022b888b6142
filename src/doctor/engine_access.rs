//! May the daemon's own user open the engine's socket?

use std::path::Path;

use super::access::{self, Mode, Person};
use super::systemd::UnitFacts;
use super::{Check, Finding, Machine, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "engine-access",
    title: "the unit's user: there, and let in by the engine's socket",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let unit = match machine.unit().await {
                Ok(unit) if unit.load == "not-found" => {
                    return Finding::skipped("monopod.service is not installed");
                }
                Ok(unit) => unit.clone(),
                Err(finding) => return finding,
            };
            match machine.socket() {
                Ok(socket) => judge(&gather(&machine, &unit, &socket)),
                Err(why) => Finding::skipped(why),
            }
        })
    }),
};

struct Facts {
    user: String,
    /// `None`: there is no such account.
    person: Option<Person>,
    socket: String,
    /// Of the socket's folder and of the socket; `None` if it is not there.
    modes: Option<(Mode, Mode)>,
}

fn gather(machine: &Machine, unit: &UnitFacts, socket: &Path) -> Facts {
    let folder = socket.parent().unwrap_or(socket);
    Facts {
        user: unit.user().to_owned(),
        person: access::daemon(machine, Some(unit)),
        socket: socket.display().to_string(),
        modes: Mode::of(folder).zip(Mode::of(socket)),
    }
}

fn judge(facts: &Facts) -> Finding {
    let (user, socket) = (&facts.user, &facts.socket);
    let Some(person) = &facts.person else {
        return Finding::failure(format!("the unit's user {user} does not exist"))
            .hint("systemd-sysusers makes it; then: systemctl restart monopod");
    };
    let Some((folder, mode)) = facts.modes else {
        return Finding::skipped(format!("there is no {socket}"));
    };
    if !folder.lets(person, 1) || !mode.lets(person, 2) {
        return Finding::failure(format!("the unit's user {user} may not open {socket}"))
            .hint(format!(
                "a group owns the socket: usermod -aG GROUP {user}; then: systemctl restart monopod"
            ))
            .hint(
                "only root may open it: systemctl edit monopod, and write [Service] and User=root",
            );
    }
    if mode.bits & 0o002 != 0 {
        return Finding::warning(format!(
            "everybody may open {socket}, and can so become root"
        ))
        .hint(format!(
            "chmod o-w {socket}; see the engine's own socket unit"
        ));
    }
    Finding::ok(format!("the unit's user {user} may open {socket}"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let person = |groups: &[u32]| {
            Some(Person {
                uid: 9,
                groups: groups.to_vec(),
                overrides: false,
            })
        };
        let root = Some(Person {
            uid: 0,
            groups: vec![],
            overrides: false,
        });
        let open = Mode {
            uid: 0,
            gid: 0,
            bits: 0o755,
        };
        let shut = Mode {
            uid: 0,
            gid: 0,
            bits: 0o700,
        };
        let theirs = Mode {
            uid: 5,
            gid: 5,
            bits: 0o700,
        };
        let socket = |bits| Mode {
            uid: 0,
            gid: 105,
            bits,
        };
        let table = [
            (person(&[105]), Some((open, socket(0o660))), State::Ok),
            (root.clone(), Some((shut, socket(0o600))), State::Ok),
            // The drop-in leaves root without the capability to pass by a mode.
            (root, Some((theirs, socket(0o600))), State::Failure),
            (person(&[9]), Some((open, socket(0o660))), State::Failure),
            (person(&[105]), Some((shut, socket(0o660))), State::Failure),
            (person(&[9]), Some((open, socket(0o666))), State::Warning),
            (person(&[9]), None, State::Skipped),
            (None, Some((open, socket(0o660))), State::Failure),
        ];
        for (person, modes, state) in table {
            let facts = Facts {
                user: "monopod".to_owned(),
                person,
                socket: "/s".to_owned(),
                modes,
            };
            assert_eq!(judge(&facts).state, state, "{:?} {modes:?}", facts.person);
        }
    }
}
