//! What goes into the core and what comes out of it.
//!
//! Every type here is plain data. The shell turns an [`Action`] into a deed and
//! a deed's end into an [`Event`]; it decides nothing on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::ledger::{Entry, Part, Volatile};
use crate::core::update::ReleaseId;
pub use crate::core::update::{Gates, NotNow, Staged, TaskId};
use crate::spec::types::{
    Activation, Condition, Escalation, Health, Healthcheck, Ready, Role, Trial,
};

/// Names one call of the engine, so that a late answer is known for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What the core needs to know of a container that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its name in the workload.
    pub role: Role,
    /// Hash of all that the engine is told at its creation.
    pub hash: String,
    /// The image's reference.
    pub image: String,
    /// The image's ID as the store has it; `None` if only the engine may know it.
    pub image_id: Option<String>,
    /// How its health is asked.
    pub healthcheck: Healthcheck,
    /// How long it has to end.
    pub grace: Duration,
    /// What it waits for.
    pub depends_on: BTreeMap<Role, Condition>,
    /// The container whose network it shares: it lives and dies with that one.
    pub network_of: Option<Role>,
}

/// A container as the engine reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The role on its label.
    pub role: Role,
    /// The engine's ID.
    pub id: String,
    /// The spec hash on its label.
    pub hash: String,
    /// The image ID that it was made from.
    pub image_id: String,
    /// The image's own HEALTHCHECK, as its label keeps it.
    pub image_health: Option<Health>,
    /// What it is doing.
    pub state: SeenState,
}

/// What a container is doing, as the engine reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// Made, never started.
    Created,
    /// Its process runs (or is paused, which is the same to us).
    Running(Running),
    /// Ended.
    Exited {
        /// Exit code.
        code: i64,
    },
}

/// A running container's particulars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its init process, as the host counts.
    pub pid: u32,
    /// Its own address for probes; the loopback address on the host's network; `None` without a network.
    pub address: Option<IpAddr>,
}

/// A call of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// List every container that carries this node's label.
    Survey,
    /// Look for one role's container.
    Look {
        /// Whose.
        role: Role,
    },
    /// Make sure that the engine has the image: feed it from the store if not.
    Image {
        /// Whose.
        role: Role,
    },
    /// Make sure that the store has the whole image, each byte of it read and right, and that no container
    /// of anybody else's is made from it; see what else of the engine has layers of it. Changes nothing.
    Verify {
        /// Whose.
        role: Role,
    },
    /// Remove the image from the engine, with those of its layers that are no other image's, and feed it
    /// again from the store. No container of this node's is made from it.
    Rebuild {
        /// Whose.
        role: Role,
        /// IDs of images that are removed with it and fed again after it, so that what they share is fed anew,
        /// too. No container of this node's is made from them.
        along: Vec<String>,
    },
    /// Make the container, with its network, volumes and files. Never replaces one.
    Create {
        /// Whose.
        role: Role,
        /// ID of the image that it is made from: what a name stands for may have changed since it was known.
        image: String,
    },
    /// Start it.
    Start {
        /// Whose.
        role: Role,
        /// Which.
        id: String,
    },
    /// Ask it to end; kill it after the grace period.
    Stop {
        /// Which.
        id: String,
        /// How long it has.
        grace: Duration,
    },
    /// Remove it (it does not run).
    Remove {
        /// Which.
        id: String,
    },
}

/// Another image of the engine with layers of one that is to be rebuilt: as long as it is there, they stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// Image ID.
    pub id: String,
    /// The store has it, whole, each byte read and right.
    pub stored: bool,
    /// A container of somebody else's is made from it.
    pub foreign: bool,
}

/// What a successful [`Call`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of Survey and Look: what is there.
    Seen(Vec<Seen>),
    /// Of Verify: the store has it, under this ID.
    Whole {
        /// Image ID.
        id: String,
        /// The other images of the engine that have layers of it.
        sharers: Vec<Sharer>,
    },
    /// Of Image and Rebuild: the engine has it, under this ID.
    Image {
        /// Image ID.
        id: String,
    },
    /// Of Create.
    Created {
        /// Container ID.
        id: String,
        /// Hash of the spec that it was made from, which may have been replaced in the meantime.
        hash: String,
        /// ID of the image that it was made from.
        image_id: String,
        /// The image's own HEALTHCHECK.
        image_health: Option<Health>,
    },
    /// Of Start.
    Started(Running),
    /// Of Stop and Remove.
    Ended,
}

/// How a [`Call`] failed. A helper process reports it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The engine does not answer. What it did is unknown.
    NoAnswer(String),
    /// What the call named is not there.
    NotFound(String),
    /// Of Create: the name is taken. By ours (then a look tells) or by a stranger's.
    Conflict(String),
    /// Of Image: neither the store nor the engine has it. Of Verify: the store has it not, or not whole.
    ImageMissing(String),
    /// The engine answered, and the answer is no.
    Refused(String),
}

/// An answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Well.
    Pass(String),
    /// Not well, or no answer in time.
    Fail(String),
    /// Nobody could ask. Says nothing about the container.
    CannotAsk(String),
}

/// What a container's app says of itself on its notify socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppNote {
    /// READY=1
    Ready,
    /// WATCHDOG=1
    Alive,
    /// WATCHDOG=trigger
    Sick,
    /// STATUS=...
    Status(String),
    /// `X_MONOPOD_BUSY=1`: this is no moment for an update; `X_MONOPOD_BUSY=0`: it is one again.
    Busy(bool),
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The deadline passed; or nothing happened: a spurious wake is harmless.
    Tick,
    /// A call of the engine ended.
    Done(OpId, Result<Outcome, Fault>),
    /// A call of the engine still moves.
    Progress(OpId),
    /// The init process of a running container ended (pidfd).
    Died {
        /// Whose.
        role: Role,
        /// Which process.
        pid: u32,
    },
    /// The end of this process cannot be watched: its container must be looked at now and then.
    Unwatched {
        /// Whose.
        role: Role,
        /// Which process.
        pid: u32,
    },
    /// A probe was answered.
    Probed {
        /// Whose.
        role: Role,
        /// The number that [`Action::Probe`] gave.
        probe: u64,
        /// What came.
        answer: Answer,
    },
    /// An app spoke on its notify socket.
    App(Role, AppNote),
    /// A part of the durable ledger is on disk, or could not be written.
    Persisted(Part, Result<(), String>),
    /// The store has changed: images that were missing may be there.
    StoreChanged,
    /// The preload folder has been gone through.
    PreloadDone,
    /// What is damaged in the store now, a line for each image; none if all is well again.
    StoreDamaged(Vec<String>),
    /// New files are valid and should run. In one event, so that nothing is settled in between: the old
    /// containers by the new policy, or the new ones by the old.
    Reload {
        /// What should run.
        desired: Vec<Desired>,
        /// The node's policy from now on; `None` if only images have changed.
        policy: Option<Policy>,
    },
    /// The files were read again and are wrong, for this reason; those in force stay so.
    ReloadRefused(String),
    /// What came of [`Action::Rescue`]: somebody has taken the request, or nobody has, for this reason.
    Rescued(Rescue, Result<(), String>),
    /// A release that is being staged still moves.
    StageMoved(TaskId),
    /// What came of [`Action::Stage`].
    Staged(TaskId, Result<Staged, NotNow>),
    /// What [`Action::LookAtGates`] has found.
    Gates(TaskId, Gates),
    /// What came of [`Action::Hook`].
    Hooked(TaskId, Result<(), NotNow>),
    /// What came of [`Action::Snapshot`].
    Snapshotted(TaskId, Result<(), String>),
    /// What came of [`Action::Restore`].
    Restored(TaskId, Result<(), String>),
    /// What came of [`Action::Load`].
    Loaded(TaskId, Result<Vec<Desired>, NotNow>),
    /// Root asks for a restart of one container, or of all.
    Restart(Option<Role>),
    /// The daemon is to end.
    Terminate(Parting),
}

/// What of `node.toml` can change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The ladder's budgets and delays.
    pub escalation: Escalation,
    /// What READY=1 waits for.
    pub ready: Ready,
    /// How a release proves itself.
    pub trial: Trial,
    /// Whether a staged release is activated by itself.
    pub activation: Activation,
}

/// What the daemon has no right to do itself, and asks a privileged unit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// Restart the engine's unit.
    Engine,
    /// Reboot the node.
    Reboot,
}

/// What becomes of the containers when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// They run on; the next daemon adopts them.
    Leave,
    /// They are stopped, each within its grace period.
    Stop,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call the engine and report [`Event::Done`].
    Engine(OpId, Call),
    /// Nobody waits for this call any more: drop it.
    Abandon(OpId),
    /// Ask, once, and report [`Event::Probed`] by `timeout`.
    Probe {
        /// Whose.
        role: Role,
        /// Its number.
        probe: u64,
        /// The container.
        id: String,
        /// Its own address.
        address: Option<IpAddr>,
        /// The question.
        health: Health,
    },
    /// Report [`Event::Died`] when this process ends, or [`Event::Unwatched`] if that cannot be known.
    Watch {
        /// Whose.
        role: Role,
        /// The container.
        id: String,
        /// Its init process.
        pid: u32,
    },
    /// Write this part of the durable ledger, then report [`Event::Persisted`]. Writes keep their order.
    Persist(Entry),
    /// Go through the preload folder, then report [`Event::PreloadDone`].
    Preload,
    /// Write the volatile ledger; its loss is harmless.
    Record(Volatile),
    /// Ask for this, and report [`Event::Rescued`] within 30 s. The sentence says why.
    Rescue(Rescue, String),
    /// Check a release's files, give the engine its images, sync them to disk; touch nothing that runs.
    /// Report [`Event::StageMoved`] on the way and [`Event::Staged`] at the end.
    Stage(TaskId, ReleaseId),
    /// See what stands between a staged release and its switch, whether it is still trusted, too, and report
    /// [`Event::Gates`].
    LookAtGates(TaskId, ReleaseId),
    /// Run a release's hook, for 5 min at most, and report [`Event::Hooked`].
    Hook(TaskId, ReleaseId),
    /// Copy the volumes before this release is tried, and report [`Event::Snapshotted`].
    Snapshot(TaskId, ReleaseId),
    /// Put the volumes back as they were before this release, and report [`Event::Restored`].
    Restore(TaskId, ReleaseId),
    /// Read a release's files and report [`Event::Loaded`].
    Load(TaskId, ReleaseId),
    /// From now on containers are made as this release says, as that task has staged or loaded it.
    Enforce(TaskId, ReleaseId),
    /// Remove every other release, its images and its copies of volumes.
    Tidy(BTreeSet<ReleaseId>),
    /// Tell systemd.
    Notify(Notify),
    /// Tell people: the journal.
    Report(Report),
    /// The daemon may end now.
    Exit,
}

/// What systemd is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// READY=1
    Ready,
    /// STATUS=...
    Status(String),
    /// WATCHDOG=1
    Watchdog,
    /// `EXTEND_TIMEOUT_USEC=...`
    Extend(Duration),
    /// STOPPING=1
    Stopping,
}

/// A transition worth a line in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose; `None` for the workload's.
    pub role: Option<Role>,
    /// What kind; the journal's `MESSAGE_ID` follows from it.
    pub kind: ReportKind,
    /// What happened, to what, and what comes next, in one sentence.
    pub text: String,
}

/// The kinds of transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportKind {
    /// A container that ran already is now supervised.
    Adopted,
    /// A container was made.
    Created,
    /// A container runs.
    Started,
    /// A container ended.
    Exited,
    /// A verdict became Healthy.
    Healthy,
    /// A verdict became Unhealthy.
    Unhealthy,
    /// A verdict became Unknown.
    Unknown,
    /// A container will be restarted.
    Restarting,
    /// A container will be removed and made again.
    Recreating,
    /// A container's image will be removed from the engine and fed again from the store.
    Rebuilding,
    /// A container's image was removed from the engine and fed again from the store.
    Rebuilt,
    /// An image of the store is not what it was when it came.
    StoreDamaged,
    /// A container that the workload no longer names was removed.
    Removed,
    /// An image is in neither the store nor the engine.
    ImageMissing,
    /// The engine does not answer.
    EngineSilent,
    /// The engine answers again.
    EngineBack,
    /// The engine refused a call.
    EngineRefused,
    /// A restart of the engine's unit is asked for.
    EngineRestart,
    /// The watchdog is no longer fed.
    WatchdogWithheld,
    /// A reboot of the node is asked for.
    RebootAsked,
    /// Nobody did what was asked for: the engine's unit is not restarted, or the node not rebooted.
    RescueFailed,
    /// The ladder is used up; monopod stays up and keeps asking.
    SafeState,
    /// The ladder is at its foot again.
    Recovered,
    /// The ledger could not be written.
    LedgerFailed,
    /// New files are in force.
    Reloaded,
    /// A release is there and can be tried.
    ReleaseStaged,
    /// A release cannot be staged yet.
    ReleaseDelayed,
    /// A release is refused, or has failed: it is not taken again by itself.
    ReleaseRejected,
    /// A release runs on trial.
    TrialBegun,
    /// A release has proved itself.
    Committed,
    /// A release has failed its trial; the one before runs again.
    RolledBack,
    /// No release before can be used; the last one tried stays.
    GivenUp,
    /// A restart was asked for.
    RestartAsked,
    /// The daemon ends.
    Stopping,
    /// A stick was read.
    Medium,
}
