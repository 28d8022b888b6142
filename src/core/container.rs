//! One container's life cycle: what is known of it, and the next call that it needs.
//!
//! ```text
//!            ┌──────────────── Look ────────────────┐
//!  Unseen ───┤                                       │
//!    ^       ├─> Absent ─Image─Create─> Created ─┐   │
//!    │       │     ^                             │Start
//!    │       │     └──────Remove─────┐           v   │
//!    │       └───────────────────> Exited ───> Running
//!    │                               ^           │ died, or Stop
//!    └─ a call that changes things   └── Look ── Dead
//!       failed: nobody knows
//! ```
//!
//! A [`Machine`] never climbs the ladder by itself: the supervisor sets its course.

use std::net::IpAddr;
use std::time::Duration;

use crate::core::api::{Call, Desired, OpId, Seen};
use crate::core::health::{Tracker, Verdict};
use crate::core::ledger::Record;
use crate::core::time::Time;
use crate::spec::types::{Health, Healthcheck, Role};

/// What should become of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// It runs.
    Run(Desired),
    /// The workload no longer names it: it goes.
    Gone,
}

/// A container that the engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub id: String,
    pub hash: String,
    pub image_id: String,
    pub image_health: Option<Health>,
}

impl From<&Seen> for Found {
    fn from(seen: &Seen) -> Self {
        Self {
            id: seen.id.clone(),
            hash: seen.hash.clone(),
            image_id: seen.image_id.clone(),
            image_health: seen.image_health.clone(),
        }
    }
}

/// How the end of a running process is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By its pidfd, at once.
    Pidfd,
    /// By asking the engine now and then, because there is no pidfd.
    Polled,
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct Alive {
    pub found: Found,
    pub pid: u32,
    pub address: Option<IpAddr>,
    pub tracker: Tracker,
    pub watch: Watch,
}

impl Alive {
    /// How often it has to be looked at, if neither a pidfd nor its health question tells enough.
    fn looked_after(&self) -> Option<Duration> {
        match (self.watch, self.tracker.verdict()) {
            (Watch::Polled, _) => Some(POLL),
            (Watch::Pidfd, Verdict::Unknown) => Some(DOUBT),
            (Watch::Pidfd, Verdict::Starting | Verdict::Healthy | Verdict::Unhealthy) => None,
        }
    }
}

/// What is known of a container.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Nothing: not looked yet, or a call failed that may have changed it.
    Unseen,
    /// The engine has none.
    Absent,
    /// Made and never started.
    Created(Found),
    /// Its process runs.
    Running(Box<Alive>),
    /// Its process `pid` has ended; the engine has not confirmed it yet.
    Dead { found: Found, pid: u32, looks: u32 },
    /// The engine says that it has ended.
    Exited { found: Found, code: i64 },
}

/// Who wants a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Root.
    Asked,
    /// The ladder. Health in the meantime cancels it.
    Sick,
    /// The container whose network it shares has been started anew.
    Leader,
    /// The files say something else now.
    Outdated,
}

/// Where a container is being brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// To running, as it is.
    Keep,
    /// Through a stop and a start.
    Restart(Why),
    /// Through removal and creation.
    Recreate(Why),
}

/// Whether the engine has the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Unchecked,
    Ready(String),
    /// Nobody has it. It is asked for again at this time, because nothing tells for certain that it has come.
    Missing {
        again: Time,
    },
}

/// Which call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Look,
    Image,
    Create,
    Start,
    Stop,
    Remove,
}

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub op: OpId,
    pub kind: Kind,
    /// When nobody waits for it any more.
    pub expires: Time,
}

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
}

/// How often a container without a pidfd is looked at.
const POLL: Duration = Duration::from_secs(2);

/// How often a container is looked at that nobody can ask: the engine may be why, and nothing else tells.
const DOUBT: Duration = Duration::from_secs(10);

/// How long a call may take before the core gives it up. The engine's own deadlines are shorter; this is the net below.
pub(crate) fn patience(call: &Call) -> Duration {
    match call {
        Call::Survey | Call::Look { .. } => Duration::from_secs(40),
        // From one sign of progress to the next.
        Call::Image { .. } => Duration::from_secs(180),
        Call::Create { .. } | Call::Start { .. } | Call::Remove { .. } => Duration::from_secs(90),
        Call::Stop { grace, .. } => *grace + Duration::from_secs(40),
    }
}

/// One container: what it should be, what it is, what is under way.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub role: Role,
    pub want: Want,
    pub phase: Phase,
    /// The container that it had last, also while nothing certain is known of it.
    pub last_id: Option<String>,
    /// Since when the phase stands.
    pub since: Time,
    pub course: Course,
    pub image: Image,
    pub pending: Option<Pending>,
    pub record: Record,
    /// What it was before it failed lately, while that may turn out to have been the engine's end.
    pub lately: Option<Lately>,
    /// No look before this time.
    pub look_at: Time,
    /// The last thing that went wrong, for people.
    pub trouble: Option<String>,
    /// The verdict that was last reported.
    pub told: Verdict,
}

/// A record's counts before a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lately {
    /// When it failed.
    pub since: Time,
    pub strikes: u32,
    pub quick: u32,
}

/// The container and process whose network a follower was started in.
pub(crate) type Joined = (String, u32);

impl Machine {
    pub fn new(role: Role, want: Want, record: Record, now: Time) -> Self {
        Self {
            role,
            want,
            phase: Phase::Unseen,
            last_id: None,
            since: now,
            course: Course::Keep,
            image: Image::Unchecked,
            pending: None,
            record,
            lately: None,
            look_at: now,
            trouble: None,
            told: Verdict::Starting,
        }
    }

    /// What should run, if anything should.
    pub fn desired(&self) -> Option<&Desired> {
        match &self.want {
            Want::Run(desired) => Some(desired),
            Want::Gone => None,
        }
    }

    /// The container, if the engine is known to have one.
    pub fn found(&self) -> Option<&Found> {
        match &self.phase {
            Phase::Unseen | Phase::Absent => None,
            Phase::Created(found) | Phase::Dead { found, .. } | Phase::Exited { found, .. } => {
                Some(found)
            }
            Phase::Running(alive) => Some(&alive.found),
        }
    }

    pub fn alive(&self) -> Option<&Alive> {
        match &self.phase {
            Phase::Running(alive) => Some(alive),
            _ => None,
        }
    }

    pub fn alive_mut(&mut self) -> Option<&mut Alive> {
        match &mut self.phase {
            Phase::Running(alive) => Some(alive),
            _ => None,
        }
    }

    pub fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.since = now;
        // A course is fulfilled when the old thing is gone, whoever tells so.
        match (&self.phase, self.course) {
            (Phase::Absent, _)
            | (Phase::Dead { .. } | Phase::Exited { .. }, Course::Restart(_)) => {
                self.course = Course::Keep;
            }
            _ => {}
        }
        if let Some(id) = self.found().map(|found| found.id.clone()) {
            self.last_id = Some(id);
        }
    }

    /// Its container was made from another spec or image than it should be.
    pub fn outdated(&self) -> bool {
        match (&self.want, self.found()) {
            (Want::Run(desired), Some(found)) => {
                found.hash != desired.hash
                    || desired
                        .image_id
                        .as_ref()
                        .is_some_and(|id| *id != found.image_id)
            }
            (Want::Gone, _) | (_, None) => false,
        }
    }

    /// Its end would be what was asked for.
    pub fn is_to_end(&self) -> bool {
        self.course != Course::Keep || self.want == Want::Gone
    }

    /// The health question that applies to a container.
    pub fn question(&self, found: &Found) -> Option<Health> {
        match self.desired().map(|desired| &desired.healthcheck) {
            Some(Healthcheck::Own(health)) => Some(health.clone()),
            Some(Healthcheck::Image) => found.image_health.clone(),
            Some(Healthcheck::Off) | None => None,
        }
    }

    /// What its state and answers add up to.
    pub fn verdict(&self) -> Verdict {
        match &self.phase {
            Phase::Unseen => Verdict::Unknown,
            Phase::Running(alive) => alive.tracker.verdict(),
            Phase::Absent | Phase::Created(_) | Phase::Dead { .. } | Phase::Exited { .. } => {
                let failed = self.record.strikes > 0 || self.record.excused > 0;
                if failed || matches!(self.image, Image::Missing { .. }) {
                    Verdict::Unhealthy
                } else {
                    Verdict::Starting
                }
            }
        }
    }

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
                if world.stopping || world.blocked || held {
                    return None;
                }
                match &self.image {
                    Image::Ready(_) if world.leader => Some(Call::Create {
                        role: desired.role.clone(),
                    }),
                    Image::Ready(_) => None,
                    Image::Unchecked | Image::Missing { .. } => self.ask_for_image(world),
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
            (true, Image::Ready(_)) => stop(),
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
            (true, Image::Ready(_)) => remove(),
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
            Image::Unchecked | Image::Ready(_) => true,
        };
        due.then(|| Call::Image {
            role: self.role.clone(),
        })
    }

    fn must_recreate(&self) -> bool {
        self.outdated() || matches!(self.course, Course::Recreate(_))
    }

    fn look(&self) -> Call {
        Call::Look {
            role: self.role.clone(),
        }
    }

    /// The next look at a running container, if it needs looks.
    pub fn poll_later(&mut self, now: Time) {
        if let Some(span) = self.alive().and_then(Alive::looked_after) {
            self.look_at = now + span;
        }
    }

    /// When something may be due, after `now`.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let pending = self.pending.map(|pending| pending.expires);
        let held = (self.pending.is_none() && self.record.hold > now).then_some(self.record.hold);
        let look = match &self.phase {
            Phase::Unseen | Phase::Dead { .. } => true,
            Phase::Running(alive) => alive.looked_after().is_some(),
            Phase::Absent | Phase::Created(_) | Phase::Exited { .. } => false,
        };
        let look = (look && self.pending.is_none()).then_some(self.look_at);
        let image = match self.image {
            Image::Missing { again } if self.pending.is_none() => Some(again),
            Image::Missing { .. } | Image::Unchecked | Image::Ready(_) => None,
        };
        let ask = self.alive().and_then(|alive| alive.tracker.deadline());
        [pending, held, look, image, ask]
            .into_iter()
            .flatten()
            .filter(|time| *time > now)
            .min()
    }
}
