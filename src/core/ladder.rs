//! The escalation ladder: how far a failure has been answered, and what comes next.
//!
//! ```text
//!  restart ──> recreate ──> rebuild ──┐
//!  (backoff)   (backoff)    the image ├──> withhold the watchdog ──> reboot the node ──> safe state
//!  restart the engine ────────────────┘    (budget in the ledger)    (if allowed;        (stay up, keep asking)
//!  (while it is silent and needed)                                    budget in the ledger)
//! ```
//!
//! A rung is in [`Rung`] only if it works. Health that lasts for `stable` brings everything back to the foot.

use serde::Serialize;

use crate::core::time::Time;
use crate::spec::types::Escalation;

/// Where the ladder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// At its foot: nothing to answer.
    Foot,
    /// Restarting a container.
    Restart,
    /// Removing a container and making it again.
    Recreate,
    /// Removing a container with its image, and feeding the image again from the store.
    Rebuild,
    /// Restarting the engine's unit.
    EngineRestart,
    /// The watchdog is not fed; systemd acts.
    Withhold,
    /// Rebooting the node.
    Reboot,
    /// Used up. monopod stays up, feeds the watchdog and keeps asking.
    SafeState,
}

impl Rung {
    /// Its name in status and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foot => "foot",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
            Self::Rebuild => "rebuild",
            Self::EngineRestart => "engine-restart",
            Self::Withhold => "withhold",
            Self::Reboot => "reboot",
            Self::SafeState => "safe-state",
        }
    }
}

/// How a container's failure is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Restart it: attempt so many of so many.
    Restart(u32, u32),
    /// Recreate it: attempt so many of so many.
    Recreate(u32, u32),
    /// Rebuild its image, if the store has it whole: attempt so many of so many.
    Rebuild(u32, u32),
    /// Its own rungs are used up. It is still tried, in turn, at the longest delay.
    Spent,
}

/// The answer to a container's `strikes`-th failure since it was stable. One that `spared` another container with
/// its image's rebuild has one more of those.
pub(crate) fn answer(strikes: u32, spared: bool, policy: &Escalation) -> Answered {
    let recreation = strikes.saturating_sub(policy.restarts);
    let rebuild = recreation.saturating_sub(policy.recreates);
    let rebuilds = policy.rebuilds.saturating_add(spared.into());
    if recreation == 0 {
        Answered::Restart(strikes, policy.restarts)
    } else if rebuild == 0 {
        Answered::Recreate(recreation, policy.recreates)
    } else if rebuild <= rebuilds {
        Answered::Rebuild(rebuild, rebuilds)
    } else {
        Answered::Spent
    }
}

/// The rungs whose budget is in the durable ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spending {
    Withholding,
    Reboot,
}

/// The workload's upper rungs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ladder {
    /// The containers' own rungs are not used up.
    Climbing,
    /// This rung will be used as soon as the ledger says so on disk.
    Recording(Spending),
    /// The watchdog is withheld.
    Withholding { since: Time },
    /// The node is about to be rebooted.
    Rebooting { since: Time },
    /// The safe state.
    Safe { since: Time },
}

#[cfg(test)]
mod tests {
    use super::Answered::{Rebuild, Recreate, Restart, Spent};
    use super::*;

    #[test]
    fn strikes_choose_the_rung() {
        let policy = Escalation {
            restarts: 2,
            recreates: 1,
            rebuilds: 2,
            ..Escalation::default()
        };
        let rungs: Vec<Answered> = (1..=7)
            .map(|strikes| answer(strikes, false, &policy))
            .collect();
        assert_eq!(
            rungs,
            [
                Restart(1, 2),
                Restart(2, 2),
                Recreate(1, 1),
                Rebuild(1, 2),
                Rebuild(2, 2),
                Spent,
                Spent
            ]
        );
        assert_eq!(answer(6, true, &policy), Rebuild(3, 3));
        assert_eq!(answer(7, true, &policy), Spent);
    }

    #[test]
    fn a_rung_without_a_budget_is_stepped_over() {
        let policy = Escalation {
            restarts: 0,
            recreates: 0,
            rebuilds: 0,
            ..Escalation::default()
        };
        assert_eq!(answer(1, false, &policy), Answered::Spent);
        let policy = Escalation {
            recreates: 0,
            ..Escalation::default()
        };
        assert_eq!(answer(policy.restarts + 1, false, &policy), Rebuild(1, 1));
    }
}
