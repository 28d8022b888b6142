//! One container's life cycle: what is known of it, and the next call that it needs.
//!
//! ```text
//!            ┌──────────────── Look ────────────────┐
//!  Unseen ───┤    Verify, Rebuild (the image)        │
//!    ^       ├─> Absent ─Image─Create─> Created ─┐   │
//!    │       │     ^                             │Start
//!    │       │     └──────Remove─────┐           v   │
//!    │       └───────────────────> Exited ───> Running
//!    │                               ^           │ died, or Stop
//!    └─ a call that changes things   └── Look ── Dead
//!       failed: nobody knows
//! ```
//!
//! Which call is next is [`crate::core::next`]'s to say. A [`Machine`] never climbs the ladder by itself: the supervisor sets its course.

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
    pub fn looked_after(&self) -> Option<Duration> {
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
    /// The image that it is made from is rebuilt for another container's sake.
    Shared,
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
    /// Through removal, a rebuild of its image, and creation. The ladder's only. Nothing is removed before
    /// the store is known to have the image whole ([`Image::Stored`]).
    Rebuild,
}

impl Image {
    /// Nobody has it just now.
    pub fn missing(now: Time) -> Self {
        let again = now + IMAGE_AGAIN;
        Self::Missing { again }
    }
}

impl Course {
    /// Whether it is the ladder's answer to a failure, and nobody else's wish.
    pub fn is_the_ladders(self) -> bool {
        match self {
            Self::Restart(why) | Self::Recreate(why) => why == Why::Sick,
            Self::Rebuild => true,
            Self::Keep => false,
        }
    }
}

/// Whether the engine has the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Unchecked,
    /// The store has it whole; what the engine has counts for nothing.
    Stored(Stored),
    Ready(String),
    /// Nobody has it. It is asked for again at this time, because nothing tells for certain that it has come.
    Missing {
        again: Time,
    },
}

impl Desired {
    /// Whether a container with this spec hash, made from the image of this ID, is what should run.
    pub(crate) fn is_made(&self, hash: &str, image_id: &str) -> bool {
        self.hash == hash && self.image_id.as_deref().is_none_or(|id| id == image_id)
    }
}

/// An image that the store has whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its ID.
    pub id: String,
    /// IDs of the images that share layers with it and may go and come with it.
    pub along: Vec<String>,
    /// One of them stays for the sake of another container that is made from it.
    pub spares: bool,
}

impl Stored {
    /// Itself, and nothing besides.
    pub fn alone(id: String) -> Self {
        Self {
            id,
            along: Vec::new(),
            spares: false,
        }
    }

    /// Its ID, and those of the images that go with it.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.id).chain(&self.along)
    }
}

/// Which call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Look,
    Image,
    Verify,
    Rebuild,
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

/// How often a container without a pidfd is looked at.
const POLL: Duration = Duration::from_secs(2);

/// How often a container is looked at that nobody can ask: the engine may be why, and nothing else tells.
const DOUBT: Duration = Duration::from_secs(10);

/// How long after an image was missing it is looked for again, if nobody says before that it has come.
const IMAGE_AGAIN: Duration = Duration::from_secs(60);

/// How long a call that reports its progress may be without any.
pub(crate) const MOVES: Duration = Duration::from_secs(180);

/// How long a call may take before the core gives it up. The engine's own deadlines are shorter; this is the net below.
pub(crate) fn patience(call: &Call) -> Duration {
    match call {
        Call::Survey | Call::Look { .. } => Duration::from_secs(40),
        // From one sign of progress to the next.
        Call::Image { .. } | Call::Verify { .. } | Call::Rebuild { .. } => MOVES,
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
            // That it is gone is only the half of it.
            (Phase::Absent, Course::Rebuild) => {}
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
            (Want::Run(desired), Some(found)) => !desired.is_made(&found.hash, &found.image_id),
            (Want::Gone, _) | (_, None) => false,
        }
    }

    /// What the ladder has set out to do is not needed any more.
    pub fn spare(&mut self) {
        if self.course.is_the_ladders() {
            self.course = Course::Keep;
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
            Image::Missing { .. } | Image::Unchecked | Image::Stored(_) | Image::Ready(_) => None,
        };
        let ask = self.alive().and_then(|alive| alive.tracker.deadline());
        [pending, held, look, image, ask]
            .into_iter()
            .flatten()
            .filter(|time| *time > now)
            .min()
    }
}
