//! What the engine has and does, read and never changed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use bollard::errors::Error;

use super::super::{EngineInfo, Identity, label};
use super::answers::{About, Endpoint, Info, Inspected, Listed, Status};
use super::client::{self, Client, escaped};
use super::fault::{fault, status};
use super::images;
use crate::core::api::{Fault, Running, Seen, SeenState};
use crate::spec::types::Role;

/// Name and version.
pub(super) async fn version(client: &Client) -> Result<String, Fault> {
    let version: About = client.get("/version").await.map_err(fault)?;
    let podman = version
        .components
        .into_iter()
        .flatten()
        .any(|component| component.name.contains("Podman"));
    let name = if podman { "Podman" } else { "Docker" };
    Ok(match version.version {
        Some(number) => format!("{name} {number}"),
        None => name.to_owned(),
    })
}

/// What the engine is set up to do.
pub(super) async fn info(client: &Client) -> Result<EngineInfo, Fault> {
    let info: Info = client.get("/info").await.map_err(fault)?;
    let facts = info.driver_status.unwrap_or_default();
    let said = |word: Option<String>| word.unwrap_or_default();
    Ok(EngineInfo {
        // Images are then named by manifest instead of config.
        containerd_images: facts.iter().any(|fact| match fact.as_slice() {
            [key, value] => key == "driver-type" && value.starts_with("io.containerd.snapshotter"),
            _ => false,
        }),
        cgroup_driver: said(info.cgroup_driver),
        cgroup_version: said(info.cgroup_version),
        live_restore: info.live_restore_enabled.unwrap_or_default(),
        logging_driver: said(info.logging_driver),
        storage_driver: said(info.driver),
        data_root: said(info.docker_root_dir),
        warnings: info.warnings.unwrap_or_default(),
    })
}

/// Every container of a node; of one role if given.
pub(super) async fn containers(
    client: &Client,
    node: &str,
    role: Option<&str>,
) -> Result<Vec<Seen>, Fault> {
    let mut labels = vec![format!("{}={node}", label::NODE)];
    labels.extend(role.map(|role| format!("{}={role}", label::ROLE)));
    let mut all = Vec::new();
    for summary in list(client, labels).await? {
        let Some(id) = summary.id.as_deref() else {
            continue;
        };
        match inspect(client, id).await {
            Ok(inspected) if inspected.is_stopped() => all.extend(seen_stopped(&summary)),
            Ok(inspected) => all.extend(seen(client, &inspected).await?),
            // It vanished since it was listed.
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(all)
}

/// A container by what else may have to do with it than monopod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// Its name, without a slash.
    pub name: String,
    /// The node that made it, if it was monopod.
    pub node: Option<String>,
    /// The image's reference as it was made from it.
    pub image: String,
    /// The engine's restart policy for it: `no`, `always`, `unless-stopped`, `on-failure`; may be empty.
    pub policy: String,
}

/// The containers that `concerns` picks, with their restart policies.
pub(super) async fn kin(
    client: &Client,
    concerns: impl Fn(&Kin) -> bool,
) -> Result<Vec<Kin>, Fault> {
    let mut found = Vec::new();
    for summary in list(client, Vec::new()).await? {
        let names = summary.names.unwrap_or_default();
        let mut kin = Kin {
            name: names
                .first()
                .map(|name| name.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            node: summary
                .labels
                .and_then(|mut labels| labels.remove(label::NODE)),
            image: summary.image.unwrap_or_default(),
            policy: String::new(),
        };
        let (Some(id), true) = (summary.id, concerns(&kin)) else {
            continue;
        };
        match inspect(client, &id).await {
            // It is about to vanish.
            Ok(inspected) if inspected.is_stopped() => {}
            Ok(inspected) => {
                kin.policy = inspected
                    .host_config
                    .and_then(|host| host.restart_policy?.name)
                    .unwrap_or_default();
                found.push(kin);
            }
            // It vanished since it was listed.
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(found)
}

/// Names of the containers that are made from an image, other than those of a node.
pub(super) async fn others_from(
    client: &Client,
    node: &str,
    image: &str,
) -> Result<Vec<String>, Fault> {
    let found = list(client, Vec::new()).await?;
    Ok(found
        .into_iter()
        .filter(|summary| {
            let labels = summary.labels.as_ref();
            let ours = labels.and_then(|labels| labels.get(label::NODE));
            let from = summary.image_id.clone().map(images::full_id);
            from.as_deref() == Some(image) && ours.is_none_or(|ours| ours != node)
        })
        .filter_map(|summary| summary.names?.into_iter().next())
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect())
}

/// ID of another container of the same workload.
pub(super) async fn sibling(
    client: &Client,
    identity: &Identity,
    role: &Role,
) -> Result<Option<String>, Fault> {
    let labels = vec![
        format!("{}={}", label::NODE, identity.node),
        format!("{}={}", label::WORKLOAD, identity.workload),
        format!("{}={role}", label::ROLE),
    ];
    let found = list(client, labels).await?;
    Ok(found.into_iter().find_map(|summary| summary.id))
}

async fn list(client: &Client, labels: Vec<String>) -> Result<Vec<Listed>, Fault> {
    let filters = client::filters("label", &labels);
    let path = format!("/containers/json?all=true&filters={filters}");
    client.get(&path).await.map_err(fault)
}

/// Containers that run and may have a volume of this name: the filter also takes a part of a name, and a path.
pub(super) async fn users(client: &Client, volume: &str) -> Result<Vec<Listed>, Fault> {
    let filters = client::filters("volume", &[volume.to_owned()]);
    let path = format!("/containers/json?filters={filters}");
    client.get(&path).await.map_err(fault)
}

/// A container by ID or name.
pub(super) async fn inspect(client: &Client, id: &str) -> Result<Inspected, Error> {
    client
        .get(&format!("/containers/{}/json", escaped(id)))
        .await
}

async fn seen(client: &Client, inspected: &Inspected) -> Result<Option<Seen>, Fault> {
    let labels = inspected
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref());
    let image = inspected.image.as_deref();
    let Some(mut seen) = unplaced(inspected.id.as_deref(), labels, image) else {
        return Ok(None);
    };
    seen.state = state(client, inspected).await?;
    Ok(Some(seen))
}

/// A container from its line in the list: in Podman's passing state its inspection may not know the code yet.
fn seen_stopped(summary: &Listed) -> Option<Seen> {
    let mut seen = unplaced(
        summary.id.as_deref(),
        summary.labels.as_ref(),
        summary.image_id.as_deref(),
    )?;
    // "Exited (137) 2 seconds ago"
    let code = summary
        .status
        .as_deref()
        .and_then(|text| text.split_once('(')?.1.split_once(')')?.0.parse().ok());
    seen.state = SeenState::Exited {
        code: code.unwrap_or(-1),
    };
    Some(seen)
}

/// All but the state. `None` without a role: it is not one that monopod can have made.
fn unplaced(
    id: Option<&str>,
    labels: Option<&HashMap<String, String>>,
    image: Option<&str>,
) -> Option<Seen> {
    let labels = labels?;
    let health = labels.get(label::HEALTH);
    Some(Seen {
        role: Role::new(labels.get(label::ROLE)?),
        id: id?.to_owned(),
        hash: labels.get(label::SPEC).cloned().unwrap_or_default(),
        image_id: images::full_id(
            image
                .map(str::to_owned)
                .or_else(|| labels.get(label::IMAGE).cloned())
                .unwrap_or_default(),
        ),
        image_health: health.and_then(|text| serde_json::from_str(text).ok()),
        state: SeenState::Created,
    })
}

/// What a container does.
pub(super) async fn state(client: &Client, inspected: &Inspected) -> Result<SeenState, Fault> {
    let state = inspected.state.as_ref();
    Ok(match state.and_then(|state| state.status) {
        Some(Status::Running | Status::Paused | Status::Restarting | Status::Stopping) => {
            let pid = state.and_then(|state| state.pid).unwrap_or(0);
            SeenState::Running(Running {
                pid: u32::try_from(pid).unwrap_or(0),
                address: address(client, inspected).await?,
            })
        }
        Some(Status::Exited | Status::Dead | Status::Removing | Status::Stopped) => {
            SeenState::Exited {
                code: state.and_then(|state| state.exit_code).unwrap_or(-1),
            }
        }
        Some(Status::Created | Status::Empty) | None => SeenState::Created,
    })
}

/// Where a container's own ports answer, as the host sees it.
async fn address(client: &Client, inspected: &Inspected) -> Result<Option<IpAddr>, Fault> {
    let Some(sibling) = network_mode(inspected).strip_prefix("container:") else {
        return Ok(own_address(inspected));
    };
    match inspect(client, sibling).await {
        Ok(sibling) if sibling.is_stopped() => Ok(None),
        Ok(sibling) => Ok(own_address(&sibling)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

fn own_address(inspected: &Inspected) -> Option<IpAddr> {
    let mode = network_mode(inspected);
    if mode == "host" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
    let main = networks.get(mode).and_then(endpoint_address);
    main.or_else(|| networks.values().find_map(endpoint_address))
}

fn endpoint_address(endpoint: &Endpoint) -> Option<IpAddr> {
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    parse(&endpoint.ip_address).or_else(|| parse(&endpoint.global_ipv6_address))
}

/// The network mode that it was made with; for a bridge, its name.
pub(super) fn network_mode(inspected: &Inspected) -> &str {
    inspected
        .host_config
        .as_ref()
        .and_then(|host| host.network_mode.as_deref())
        .unwrap_or_default()
}
