//! The next call that a container needs, by what is known of it and of the others.
//!
//! It must never take anything away whose successor is not known to be there.

use std::time::Duration;

use crate::core::api::Call;
use crate::core::container::{Alive, Course, Found, Image, Machine, Phase, Want};
use crate::core::time::Time;

/// What a machine must know of the others to choose its next call.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer to a question of its own"
)]
pub(crate) struct World {
    pub now: Time,
    /// The daemon ends and takes the containers with it.
    pub stopping: bool,
    /// Containers that must go first are still there.
    pub blocked: bool,
    /// What it depends on is as it should be.
    pub dependencies: bool,
    /// The container whose network it shares runs (true if there is none).
    pub leader: bool,
    /// No other running container depends on it.
    pub unneeded: bool,
    /// Its image is being rebuilt for another container's sake.
    pub reserved: bool,
    /// No other container is made from its image, or may be.
    pub room: bool,
}

impl Machine {
    /// The call to make now, if any.
    pub fn next(&self, world: &World) -> Option<Call> {
        if self.pending.is_some() {
            return None;
        }
        let held = world.now < self.record.hold;
        match &self.phase {
            Phase::Unseen | Phase::Dead { .. } => (world.now >= self.look_at).then(|| self.look()),
            Phase::Running(alive) => self.next_running(alive, world, held),
            Phase::Absent => {
                let desired = self.desired()?;
                if world.stopping || world.blocked || world.reserved || held {
                    return None;
                }
                match (&self.image, self.course) {
                    (Image::Ready(image), _) if world.leader => Some(Call::Create {
                        role: desired.role.clone(),
                        image: image.clone(),
                    }),
                    (Image::Ready(_), _) => None,
                    (Image::Stored(stored), Course::Rebuild) => world.room.then(|| Call::Rebuild {
                        role: desired.role.clone(),
                        along: stored.along.clone(),
                    }),
                    (Image::Unchecked | Image::Stored(_) | Image::Missing { .. }, _) => {
                        self.ask_for_image(world)
                    }
                }
            }
            Phase::Created(found) | Phase::Exited { found, .. } => {
                self.next_at_rest(found, world, held)
            }
        }
    }

    fn next_running(&self, alive: &Alive, world: &World, held: bool) -> Option<Call> {
        let stop = || {
            let grace = self
                .desired()
                .map_or(Duration::from_secs(10), |desired| desired.grace);
            Some(Call::Stop {
                id: alive.found.id.clone(),
                grace,
            })
        };
        let poll =
            (alive.looked_after().is_some() && world.now >= self.look_at).then(|| self.look());
        if held {
            return poll;
        }
        if world.stopping {
            return if world.unneeded { stop() } else { poll };
        }
        if self.want == Want::Gone {
            return stop();
        }
        match (self.must_recreate(), &self.image) {
            // The new image is there before anything that runs is touched.
            (true, Image::Ready(_) | Image::Stored(_)) => stop(),
            (true, Image::Unchecked | Image::Missing { .. }) => self.ask_for_image(world).or(poll),
            (false, _) if matches!(self.course, Course::Restart(_)) => stop(),
            (false, _) => poll,
        }
    }

    fn next_at_rest(&self, found: &Found, world: &World, held: bool) -> Option<Call> {
        if held {
            return None;
        }
        let remove = || {
            Some(Call::Remove {
                id: found.id.clone(),
            })
        };
        if self.want == Want::Gone {
            return remove();
        }
        if world.stopping || world.blocked {
            return None;
        }
        match (self.must_recreate(), &self.image) {
            (true, Image::Unchecked) => self.ask_for_image(world),
            (true, Image::Ready(_) | Image::Stored(_)) => remove(),
            (true, Image::Missing { .. }) if self.course == Course::Rebuild => {
                self.ask_for_image(world)
            }
            // An old container is better than none.
            (true, Image::Missing { .. }) | (false, _) => (world.dependencies && world.leader)
                .then(|| Call::Start {
                    role: self.role.clone(),
                    id: found.id.clone(),
                }),
        }
    }

    fn ask_for_image(&self, world: &World) -> Option<Call> {
        let due = match self.image {
            Image::Missing { again } => world.now >= again,
            Image::Unchecked | Image::Stored(_) | Image::Ready(_) => true,
        };
        let role = self.role.clone();
        due.then_some(match self.course {
            Course::Rebuild => Call::Verify { role },
            Course::Keep | Course::Restart(_) | Course::Recreate(_) => Call::Image { role },
        })
    }

    fn must_recreate(&self) -> bool {
        self.outdated() || matches!(self.course, Course::Recreate(_) | Course::Rebuild)
    }

    fn look(&self) -> Call {
        Call::Look {
            role: self.role.clone(),
        }
    }
}
