//! What a look at the engine changes in what is known of a container.

use std::time::Duration;

use crate::core::api::{Seen, SeenState};
use crate::core::container::{Alive, Found, Machine, Phase, Watch};
use crate::core::health::Tracker;
use crate::core::time::Time;

/// What a look showed, as far as it is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nothing that anyone must be told.
    Same,
    /// A process that was not supervised yet.
    Adopted,
    /// Its process has ended, with this exit code if the engine knows it.
    Ended(Option<i64>),
    /// The engine agrees that it has ended, and knows the exit code.
    Confirmed(i64),
}

impl Machine {
    /// Takes over what a look or survey found. `None`: the engine has no container of this role.
    pub fn see(&mut self, seen: Option<&Seen>, now: Time) -> Sight {
        let Some(seen) = seen else {
            // A process that its pidfd says is alive outlives what the engine forgot.
            if self
                .alive()
                .is_some_and(|alive| alive.watch == Watch::Pidfd)
            {
                return Sight::Same;
            }
            let lost = matches!(self.phase, Phase::Running(_));
            self.enter(Phase::Absent, now);
            return if lost {
                Sight::Ended(None)
            } else {
                Sight::Same
            };
        };
        let found = Found::from(seen);
        match &seen.state {
            SeenState::Created => {
                self.enter(Phase::Created(found), now);
                Sight::Same
            }
            SeenState::Exited { code } => {
                let sight = match self.phase {
                    Phase::Running(_) => Sight::Ended(Some(*code)),
                    Phase::Dead { .. } => Sight::Confirmed(*code),
                    Phase::Unseen | Phase::Absent | Phase::Created(_) | Phase::Exited { .. } => {
                        Sight::Same
                    }
                };
                self.enter(Phase::Exited { found, code: *code }, now);
                sight
            }
            SeenState::Running(running) => match &mut self.phase {
                Phase::Running(alive) if alive.pid == running.pid && alive.found.id == found.id => {
                    Sight::Same
                }
                Phase::Dead { pid, looks, .. } if *pid == running.pid => {
                    // The kernel knows before the engine does.
                    let wait = Duration::from_millis(10).saturating_mul(1 << (*looks).min(7));
                    *looks += 1;
                    self.look_at = now + wait;
                    Sight::Same
                }
                _ => {
                    let tracker = Tracker::adopted(self.question(&found), now);
                    let (pid, address) = (running.pid, running.address);
                    let alive = Alive {
                        found,
                        pid,
                        address,
                        tracker,
                        watch: Watch::Pidfd,
                    };
                    self.enter(Phase::Running(Box::new(alive)), now);
                    Sight::Adopted
                }
            },
        }
    }
}
