//! The validated types: what the rest of monopod works with.
//!
//! A value of these types has passed every check; nothing here can still be
//! wrong in a way that the workload file's author should hear about. Sizes are
//! bytes, times are [`Duration`]s. The module must never do I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod node;

pub use node::{
    Activation, Escalation, Node, Ready, Slice, StorePolicy, Trial, UpdatePolicy, UsbPolicy,
};

/// A container's name within the workload: the `app` of `[containers.app]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Role(Arc<str>);

impl Role {
    /// Wraps a name that has been checked already.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `workload.toml` and its drop-ins describe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The workload's name; part of every container's and network's name.
    pub name: String,
    /// One or two containers, those that others depend on first.
    pub containers: Vec<Container>,
    /// What is said of the containers' named volumes, by the workload's own name for them; most are not named here.
    pub volumes: BTreeMap<String, Volume>,
}

/// What becomes of a named volume at an update. The engine is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// It is copied before the switch and put back on rollback, if it has no more than so many bytes; `None`: it is
    /// left alone, the default. 1 GiB where the file gives no limit.
    pub snapshot: Option<u64>,
}

/// One container, with Compose's meaning for each field of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its name in the workload; also its host name on the private network.
    pub name: Role,
    /// The image reference as the file gives it, with `:latest` added where no tag is named.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// `environment` over `env_file`.
    pub environment: BTreeMap<String, String>,
    /// Published ports, ranges expanded.
    pub ports: Vec<Port>,
    /// Bind mounts and named volumes.
    pub volumes: Vec<Mount>,
    /// Memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Host devices.
    pub devices: Vec<Device>,
    /// Which network it joins.
    pub network: Network,
    /// `UID[:GID]` or names.
    pub user: Option<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// Absolute path in the container.
    pub working_dir: Option<String>,
    /// Host name inside the container.
    pub hostname: Option<String>,
    /// `/etc/hosts` lines: (name, address or `host-gateway`).
    pub extra_hosts: Vec<(String, String)>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Capabilities beyond the engine's default set.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Every capability and every device.
    pub privileged: bool,
    /// Read-only root file system.
    pub read_only: bool,
    /// For example `no-new-privileges=true`; a seccomp profile stands here with its text, as the engine wants it.
    pub security_opt: Vec<String>,
    /// Run the engine's init as PID 1.
    pub init: bool,
    /// Size of `/dev/shm`, bytes.
    pub shm_size: Option<u64>,
    /// Resource limits by name (`nofile`, `core`, ...).
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Hard memory limit, bytes.
    pub mem_limit: Option<u64>,
    /// Soft memory limit, bytes.
    pub mem_reservation: Option<u64>,
    /// Share of CPU time in billionths of a core.
    pub nano_cpus: Option<u64>,
    /// Most processes and threads.
    pub pids_limit: Option<i64>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Signal that asks the container to end, for example `SIGTERM`.
    pub stop_signal: Option<String>,
    /// How long it has to end before it is killed; Compose's default is 10 s.
    pub stop_grace_period: Duration,
    /// The author's own labels; `org.monopod.` is not theirs.
    pub labels: BTreeMap<String, String>,
    /// Where its output goes.
    pub logging: Logging,
    /// What must be started or healthy before it starts.
    pub depends_on: BTreeMap<Role, Condition>,
    /// OCI runtime by the engine's name for it.
    pub runtime: Option<String>,
    /// Graphics processors.
    pub gpus: Option<Gpus>,
    /// How its health is asked.
    pub healthcheck: Healthcheck,
    /// Files under `/run/secrets`, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Small read-only config files, by absolute path in the container.
    pub files: BTreeMap<String, InlineFile>,
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Host address to listen on; all if absent.
    pub host_ip: Option<IpAddr>,
    /// Host port; the engine picks one if absent.
    pub host: Option<u16>,
    /// Port in the container.
    pub container: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// A published port's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A bind mount or a named volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where it comes from.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// No writing.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A path of the host that exists.
    Bind(PathBuf),
    /// A volume of the engine; the engine's name for it is `WORKLOAD-NAME`.
    Volume(String),
}

/// A memory file system in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tmpfs {
    /// Absolute path in the container.
    pub target: String,
    /// Mount options as `mount -t tmpfs -o` takes them; empty for the engine's defaults.
    pub options: String,
}

/// A host device given to the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Which network a container joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A bridge of the workload's own, on which its containers know each other by name.
    Private,
    /// The host's.
    Host,
    /// None.
    None,
    /// Another container's of this workload.
    Container(Role),
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// What applies; -1 is unlimited.
    pub soft: i64,
    /// What the process may raise it to.
    pub hard: i64,
}

/// Where a container's output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logging {
    /// Not said: the journal where there is one, else `local` with the engine's caps.
    Default,
    /// The journal.
    Journald,
    /// The engine's own compact files.
    Local {
        /// Largest file, bytes.
        max_size: u64,
        /// Files kept.
        max_file: u32,
    },
    /// JSON lines.
    JsonFile {
        /// Largest file, bytes.
        max_size: u64,
        /// Files kept.
        max_file: u32,
    },
    /// Nowhere.
    None,
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its process runs.
    Started,
    /// Its verdict is Healthy.
    Healthy,
}

/// Graphics processors asked of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gpus {
    /// All of them.
    All,
    /// So many.
    Count(u32),
}

/// A secret's source on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// A credential that systemd hands to the daemon's unit, by name.
    Credential(String),
    /// A file that only root can read.
    File(PathBuf),
}

/// A small config file written into the workload file itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineFile {
    /// The text.
    pub content: String,
    /// Mode bits, for example `0o644`.
    pub mode: u32,
}

/// How a container's health is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Healthcheck {
    /// Not said: the image's own HEALTHCHECK if it has one.
    Image,
    /// Switched off: running is healthy.
    Off,
    /// As the workload file says.
    Own(Health),
}

/// One health question and how its answers add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The question.
    pub probe: Probe,
    /// Its timing.
    pub timing: Timing,
}

/// The timing of a health question; Compose's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From one answer to the next question. 30 s.
    pub interval: Duration,
    /// An answer later than this is a failure. 30 s, and never above `interval` unless written so.
    pub timeout: Duration,
    /// Failures in a row that make a container Unhealthy. 3.
    pub retries: u32,
    /// After a start, how long failures do not count. 0 s.
    pub start_period: Duration,
    /// `interval` during `start_period`. 5 s, and never above `interval` unless written so.
    pub start_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// A health question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// An HTTP or HTTPS request.
    Http(HttpProbe),
    /// A connection that opens.
    Tcp(Target),
    /// A program in the container that exits with 0; the arguments, shell already applied.
    Exec(Vec<String>),
    /// The app itself: READY=1, then WATCHDOG=1 at least each `interval`.
    Notify,
}

/// An HTTP or HTTPS question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Over TLS or plain.
    pub tls: Option<Tls>,
    /// Who is asked.
    pub target: Target,
    /// Path and query, from `/`.
    pub path: String,
    /// `Host:` header; made from the target if absent.
    pub host: Option<String>,
    /// Further request headers.
    pub headers: BTreeMap<String, String>,
    /// Good status codes, both ends included. 200 to 399.
    pub status: Vec<(u16, u16)>,
    /// Text that the body's first 64 KiB must contain.
    pub body: Option<String>,
}

/// How a TLS peer is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// PEM file of authorities; without one the certificate is not checked (a probe asks for life, not for identity).
    pub ca_file: Option<PathBuf>,
    /// Name the certificate must carry; the target's if absent.
    pub server_name: Option<String>,
}

/// Who a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The container's own address, whatever its network: `:80`.
    Own(u16),
    /// A host and port as the host sees them.
    Host(String, u16),
    /// A unix socket of the host.
    Unix(PathBuf),
}
