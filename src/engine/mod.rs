//! The container engine: one narrow trait, and what implements it.
//!
//! An engine does what it is told and reports what it sees. It must never
//! decide anything, never retry, and never touch a container, network or volume
//! that monopod did not make.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::core::api::{Fault, Running, Seen};
use crate::spec::types::{Container, Health};

pub mod docker;
pub mod feed;
mod socket;

pub use docker::Docker;
pub use feed::{Fed, ImageSource, feed};
pub use socket::{socket, unit};

/// The engine's name for a workload's volume: `WORKLOAD-NAME`.
pub fn volume_name(workload: &str, name: &str) -> String {
    format!("{workload}-{name}")
}

/// Labels on everything that monopod makes.
pub mod label {
    /// The root (`--root`) of the node that made it.
    pub const NODE: &str = "org.monopod.node";
    /// The workload's name.
    pub const WORKLOAD: &str = "org.monopod.workload";
    /// The container's role.
    pub const ROLE: &str = "org.monopod.role";
    /// Hash of the spec that it was made from.
    pub const SPEC: &str = "org.monopod.spec";
    /// ID of the image that it was made from.
    pub const IMAGE: &str = "org.monopod.image";
    /// The name of that image in the workload file.
    pub const REFERENCE: &str = "org.monopod.image.name";
    /// The image's own HEALTHCHECK, as JSON of [`crate::spec::types::Health`].
    pub const HEALTH: &str = "org.monopod.healthcheck";
}

/// What names a container to the engine beside its own spec.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's root.
    pub node: String,
    /// The workload's name.
    pub workload: String,
    /// Hash of the spec.
    pub hash: String,
    /// Host folder with the container's inline files, secrets and notify socket, already written; `None` if it has none.
    pub mounts: Vec<HostFile>,
    /// Whether the host has a journal, for [`crate::spec::types::Logging::Default`].
    pub journal: bool,
}

/// A file or folder of monopod's own that is bind-mounted into a container.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// Path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// No writing.
    pub read_only: bool,
}

/// What an engine is set up to do, as far as monopod asks. Empty where the engine does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Images live in containerd's image store, where an image's ID is not the digest of its config.
    pub containerd_images: bool,
    /// `systemd`, `cgroupfs` or `none`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Containers outlive the engine.
    pub live_restore: bool,
    /// The log driver of containers that name none.
    pub logging_driver: String,
    /// The storage driver, such as `overlay2`.
    pub storage_driver: String,
    /// The folder on the host with the engine's data.
    pub data_root: String,
    /// What the engine itself warns of.
    pub warnings: Vec<String>,
}

/// An image as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineImage {
    /// Image ID: `sha256:` and the digest of its config.
    pub id: String,
    /// The references that name it.
    pub tags: Vec<String>,
    /// Digests of its layers' contents, lowest first (`sha256:...`).
    pub diff_ids: Vec<String>,
    /// Bytes that it takes unpacked, as the engine counts.
    pub size: u64,
}

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its ID.
    pub id: String,
    /// ID of the image that it was made from.
    pub image_id: String,
    /// That image's own HEALTHCHECK.
    pub image_health: Option<Health>,
}

/// What ran inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Exit code; [`Executed::CUT_OFF`] if it did not end in time.
    pub code: i64,
    /// The first 4 KiB of its output.
    pub output: String,
}

impl Executed {
    /// In place of an exit code: the engine answers, but the program did not end in time and was killed.
    pub const CUT_OFF: i64 = -1;
}

/// What of a container's log is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRange {
    /// Not what was written before this second since 1970.
    pub since: Option<u32>,
    /// Only so many of the last lines; `None` for all.
    pub tail: Option<u32>,
    /// Go on with what is written from here on, until the container ends.
    pub follow: bool,
}

/// What a container has written at one time: a line, or a piece of one that is too long for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// When the engine got it, in nanoseconds since 1970.
    pub nanos: u64,
    /// Whether it came on standard error.
    pub stderr: bool,
    /// The bytes as they were written; a line's end is a line feed.
    pub bytes: Bytes,
}

/// The engine, as far as monopod needs one. Every call has a deadline of its own and ends in a typed [`Fault`].
pub trait Engine {
    /// Name and version, for people.
    fn version(&self) -> impl Future<Output = Result<String, Fault>>;

    /// What the engine is set up to do.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, Fault>>;

    /// Every container with this node's label, running or not; of one role if `role` is given.
    fn containers(
        &self,
        node: &str,
        role: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Seen>, Fault>>;

    /// Makes the container from the image of this ID, whatever the image's name stands for, with its network and
    /// volumes; its name is `WORKLOAD-ROLE`.
    ///
    /// [`Fault::Conflict`] if the name is taken.
    fn create(
        &self,
        container: &Container,
        image_id: &str,
        identity: &Identity,
    ) -> impl Future<Output = Result<Made, Fault>>;

    /// Starts a container and returns its process and address. One that runs already is success.
    ///
    /// A container that has ended again by the time it is looked at has the process 0 and no address.
    fn start(&self, id: &str) -> impl Future<Output = Result<Running, Fault>>;

    /// Asks a container to end and kills it after `grace`. One that does not run is success.
    fn stop(&self, id: &str, grace: Duration) -> impl Future<Output = Result<(), Fault>>;

    /// Removes a container that does not run. One that is not there is success.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), Fault>>;

    /// Runs a program in a container, for at most `timeout`.
    ///
    /// A program that does not end in time is killed, and its exit code is [`Executed::CUT_OFF`]: that is the
    /// program's answer. [`Fault::NoAnswer`] is the engine's silence, and comes at most 2 s after `timeout`.
    /// [`Fault::NotFound`] if the container does not run. Dropping the future kills the program too.
    fn exec(
        &self,
        id: &str,
        argv: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Result<Executed, Fault>>;

    /// What a container has written, oldest first, in pieces of at most some 16 KiB.
    ///
    /// The first item may be [`Fault::NotFound`], or [`Fault::Refused`] where the container's log driver keeps nothing
    /// that could be read back; it names the driver. [`Fault::NoAnswer`] if the engine has said nothing for two
    /// minutes; but one that follows waits for ever.
    fn logs(
        &self,
        id: &str,
        range: LogRange,
    ) -> impl Stream<Item = Result<LogPiece, Fault>> + use<Self>;

    /// One image by reference or ID; `None` if the engine does not have it.
    fn image(&self, reference: &str) -> impl Future<Output = Result<Option<EngineImage>, Fault>>;

    /// Every image, intermediate ones excluded.
    fn images(&self) -> impl Future<Output = Result<Vec<EngineImage>, Fault>>;

    /// Points `reference` at the image `id`.
    fn tag(&self, id: &str, reference: &str) -> impl Future<Output = Result<(), Fault>>;

    /// Removes a reference or an image that no container uses. One that is not there is success.
    ///
    /// With `force`, and by its ID, an image goes with all its names; under a container that does not run only
    /// its names go. Layers stay as long as a container or another image has them.
    fn remove_image(&self, reference: &str, force: bool)
    -> impl Future<Output = Result<(), Fault>>;

    /// Sends a `docker load` archive; returns the IDs or references of what the engine says it loaded.
    ///
    /// Has no deadline as long as something moves, which `on_progress` is told each time; [`Fault::NoAnswer`] if
    /// nothing does for two minutes. Dropping the future ends it, and the engine drops what it has.
    fn load<B, P>(
        &self,
        archive: B,
        on_progress: P,
    ) -> impl Future<Output = Result<Vec<String>, Fault>>
    where
        B: Stream<Item = io::Result<Bytes>> + Send + 'static,
        P: FnMut();
}
