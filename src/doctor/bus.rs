//! The bus: is the policy installed, who has the daemon's name, and does an answer come?

use super::access;
use super::systemd::Systemd;
use super::{Check, Finding, Run};
use crate::systemd::client::{Client, ClientError, Refusal};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "bus",
    title: "the system bus: monopod's policy, who has its name, whether it answers",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let bus = match Systemd::connect(&machine.bus).await {
                Ok(bus) => bus,
                Err(why) => return judge(&Facts::NoBus(why)),
            };
            let policy = POLICIES
                .iter()
                .any(|folder| machine.at(&format!("{folder}/{NAME}.conf")).exists());
            let Some(owner) = bus.owner(NAME).await else {
                return judge(&Facts::NoDaemon { policy });
            };
            // Without systemd's word: root, or whoever asks.
            let user = machine.unit().await.map_or("", |unit| unit.user.as_str());
            let expected = access::person(&machine, user, &[]).map(|person| person.uid);
            let me = nix::unistd::geteuid().as_raw();
            let answer = match Client::connect(&machine.bus).await {
                Ok(client) => client.status().await.map(|_| ()),
                Err(error) => Err(error),
            };
            let rightful = owner == 0 || owner == me || Some(owner) == expected;
            judge(&Facts::Daemon {
                owner,
                rightful,
                answer,
            })
        })
    }),
};

/// The daemon's name on the bus.
const NAME: &str = "org.monopod.Supervisor1";

/// Where a bus looks for policies (dbus-daemon(1)).
const POLICIES: [&str; 2] = ["/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d"];

enum Facts {
    NoBus(String),
    NoDaemon {
        policy: bool,
    },
    Daemon {
        owner: u32,
        /// Whether that is a user that may have the name.
        rightful: bool,
        answer: Result<(), ClientError>,
    },
}

fn judge(facts: &Facts) -> Finding {
    match facts {
        Facts::NoBus(why) => Finding::warning(format!(
            "{why}; the daemon supervises without one, but status, plan and restart need it"
        ))
        .hint("systemctl enable --now dbus.socket"),
        Facts::NoDaemon { policy: false } => Finding::failure(format!(
            "the policy {NAME}.conf is not installed: the daemon may not have its name"
        ))
        .hint(format!(
            "install the package again, or put {NAME}.conf into {}",
            POLICIES[1]
        ))
        .hint("then: systemctl reload dbus; systemctl restart monopod"),
        Facts::NoDaemon { policy: true } => {
            Finding::note("the policy is installed; no daemon has its name")
                .hint("systemctl status monopod")
        }
        Facts::Daemon {
            owner,
            rightful: false,
            ..
        } => Finding::failure(format!(
            "the name belongs to user {owner}, who is not the unit's"
        ))
        .hint("what runs there: busctl status org.monopod.Supervisor1"),
        Facts::Daemon {
            answer: Ok(()),
            owner,
            ..
        } => Finding::ok(format!("the daemon (user {owner}) answers")),
        Facts::Daemon {
            answer: Err(ClientError::Refused(Refusal::Denied, _)),
            ..
        } => Finding::failure("the bus does not let this user ask the daemon how it is").hint(
            format!("everybody may, by the policy {NAME}.conf: install the package again"),
        ),
        Facts::Daemon {
            answer: Err(error), ..
        } => Finding::failure(error.to_string()).hint("journalctl -u monopod"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let daemon = |rightful, answer| Facts::Daemon {
            owner: 990,
            rightful,
            answer,
        };
        let denied = ClientError::Refused(Refusal::Denied, "no".to_owned());
        let table = [
            (daemon(true, Ok(())), State::Ok),
            (daemon(false, Ok(())), State::Failure),
            (daemon(true, Err(denied)), State::Failure),
            (daemon(true, Err(ClientError::NoAnswer)), State::Failure),
            (Facts::NoDaemon { policy: true }, State::Note),
            (Facts::NoDaemon { policy: false }, State::Failure),
            (Facts::NoBus("no bus".to_owned()), State::Warning),
        ];
        for (number, (facts, state)) in table.iter().enumerate() {
            assert_eq!(judge(facts).state, *state, "{number}");
        }
    }
}
