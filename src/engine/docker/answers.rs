//! What the engine says of itself, its containers and images: the fields that are looked at. Pure.
//!
//! Everything may be absent, and what is null counts as that. It must never hold a field that nobody reads.

use std::collections::HashMap;

use bollard::models::HealthConfig;
use serde::Deserialize;

/// An answer that is an error.
#[derive(Deserialize)]
pub(super) struct Message {
    /// What went wrong.
    pub message: String,
}

/// Of `/version`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct About {
    /// The engine's own.
    pub version: Option<String>,
    /// The newest of the API that it speaks.
    pub api_version: Option<String>,
    /// What it is made of.
    pub components: Option<Vec<Component>>,
}

/// Of [`About`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Component {
    /// `Engine`, `Podman Engine`.
    pub name: String,
}

/// Of `/info`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    /// Keys and values that belong to the storage driver.
    pub driver_status: Option<Vec<Vec<String>>>,
    /// `systemd`, `cgroupfs` or `none`.
    pub cgroup_driver: Option<String>,
    /// `1` or `2`.
    pub cgroup_version: Option<String>,
    /// Whether containers outlive the engine.
    pub live_restore_enabled: Option<bool>,
    /// Of containers that name none.
    pub logging_driver: Option<String>,
    /// The storage driver.
    pub driver: Option<String>,
    /// Where all is kept.
    pub docker_root_dir: Option<String>,
    /// What the engine complains of.
    pub warnings: Option<Vec<String>>,
}

/// A line of `/containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    /// The container's ID.
    pub id: Option<String>,
    /// Each with a slash before it.
    pub names: Option<Vec<String>>,
    /// The reference that it was made from.
    pub image: Option<String>,
    /// The image's ID.
    #[serde(rename = "ImageID")]
    pub image_id: Option<String>,
    /// All of them.
    pub labels: Option<HashMap<String, String>>,
    /// `Exited (137) 2 seconds ago`
    pub status: Option<String>,
    /// What is mounted in it.
    pub mounts: Option<Vec<MountPoint>>,
}

/// Of [`Listed`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MountPoint {
    /// A volume's; a bind mount has none.
    pub name: Option<String>,
}

/// Of `/containers/ID/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    /// The container's ID.
    pub id: Option<String>,
    /// The image's ID.
    pub image: Option<String>,
    /// What it does.
    pub state: Option<State>,
    /// What it was made with.
    pub config: Option<Config>,
    /// What it was made with that is the host's business.
    pub host_config: Option<HostConfig>,
    /// Where it is reached.
    pub network_settings: Option<NetworkSettings>,
}

impl Inspected {
    /// Whether it is in Podman's state between a container's exit and its clean-up.
    pub fn is_stopped(&self) -> bool {
        let state = self.state.as_ref();
        state.and_then(|state| state.status) == Some(Status::Stopped)
    }
}

/// Of [`Inspected`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    /// In the engine's word.
    pub status: Option<Status>,
    /// The first process's, in the host's namespace.
    pub pid: Option<i64>,
    /// The last one.
    pub exit_code: Option<i64>,
}

/// A container's state in the engine's words; the last is Podman's only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    #[serde(rename = "")]
    Empty,
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
    Stopping,
    Stopped,
}

/// Of [`Inspected`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    /// All of them.
    pub labels: Option<HashMap<String, String>>,
}

/// Of [`Inspected`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    /// `host`, `none`, `container:ID`, or a network's name.
    pub network_mode: Option<String>,
    /// The engine's own.
    pub restart_policy: Option<RestartPolicy>,
    /// Where its log goes.
    pub log_config: Option<LogConfig>,
}

/// Of [`HostConfig`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`; may be empty.
    pub name: Option<String>,
}

/// Of [`HostConfig`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LogConfig {
    /// The driver's name.
    #[serde(rename = "Type")]
    pub driver: Option<String>,
}

/// Of [`Inspected`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    /// By name.
    pub networks: Option<HashMap<String, Endpoint>>,
}

/// Of [`NetworkSettings`].
#[derive(Deserialize)]
pub(super) struct Endpoint {
    /// Empty while there is none.
    #[serde(rename = "IPAddress")]
    pub ip_address: Option<String>,
    /// Empty while there is none.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: Option<String>,
}

/// Of `/exec/ID/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Exec {
    /// Whether it runs; false before it has begun, too.
    pub running: Option<bool>,
    /// Once it has ended.
    pub exit_code: Option<i64>,
    /// Its process's, in the host's namespace.
    pub pid: Option<i64>,
    /// The container that it is in.
    #[serde(rename = "ContainerID")]
    pub container_id: Option<String>,
}

/// A line of `/images/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedImage {
    /// The image's ID.
    pub id: String,
}

/// Of `/images/REFERENCE/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    /// With or without its algorithm.
    pub id: Option<String>,
    /// References to it.
    pub repo_tags: Option<Vec<String>>,
    /// Bytes.
    pub size: Option<i64>,
    /// What containers are made with.
    pub config: Option<ImageConfig>,
    /// What it is made of.
    #[serde(rename = "RootFS")]
    pub root_fs: Option<RootFs>,
}

/// Of [`Image`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageConfig {
    /// HEALTHCHECK.
    pub healthcheck: Option<HealthConfig>,
    /// SHELL.
    pub shell: Option<Vec<String>>,
}

/// Of [`Image`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RootFs {
    /// Digests of the layers as they are unpacked, lowest first.
    pub layers: Option<Vec<String>>,
}

/// A line of `/networks`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    /// Not the only one of this name, perhaps.
    pub name: Option<String>,
    /// The network's ID.
    pub id: Option<String>,
    /// RFC 3339, as text.
    pub created: Option<String>,
    /// All of them.
    pub labels: Option<HashMap<String, String>>,
}

/// Of `/volumes/NAME`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Volume {
    /// Its own.
    pub name: String,
    /// `local` for the engine's own.
    pub driver: String,
    /// Where its data is, on the host.
    pub mountpoint: String,
    /// All of them.
    pub labels: Option<HashMap<String, String>>,
    /// The driver's.
    pub options: Option<HashMap<String, String>>,
}
