//! A [`Container`] as the body of Docker's create request. Pure.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountBindOptions, MountType, NetworkingConfig, PortBinding,
    PortMap, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::super::{Identity, label, volume_name};
use crate::core::api::Fault;
use crate::spec::types::{
    Container, Gpus, Health, Logging, MountSource, Network, Port, Probe, Protocol, Timing,
};

/// What the body needs to know beside the spec.
pub(super) struct Context<'a> {
    /// ID of the image.
    pub image_id: &'a str,
    /// The image's own HEALTHCHECK.
    pub health: Option<&'a Health>,
    /// ID of the container whose network is shared.
    pub sibling: Option<&'a str>,
    /// The engine's cgroup driver.
    pub cgroup_driver: &'a str,
}

/// The slice of this node's containers, where systemd makes the engine's cgroups. It is the host's own, so
/// it is not for a root of its own (`--root`).
///
/// It is no part of the spec, and a container that is elsewhere is not outdated: a change of the engine's
/// driver takes effect when the container is next made, since limits are not worth an outage.
fn cgroup_parent(identity: &Identity, context: &Context<'_>) -> Option<String> {
    (context.cgroup_driver == "systemd" && identity.node == "/").then(|| "monopod.slice".to_owned())
}

/// `WORKLOAD-ROLE`.
pub(super) fn container_name(container: &Container, identity: &Identity) -> String {
    format!("{}-{}", identity.workload, container.name)
}

/// `monopod-WORKLOAD`.
pub(super) fn network_name(identity: &Identity) -> String {
    format!("monopod-{}", identity.workload)
}

/// The whole body. Refuses only what Docker's JSON cannot say: a path that is not UTF-8, a number beyond 63 bits.
pub(super) fn body(
    container: &Container,
    identity: &Identity,
    context: &Context<'_>,
) -> Result<ContainerCreateBody, Fault> {
    let env = container.environment.iter();
    Ok(ContainerCreateBody {
        // Not its name, which anybody may have given to another one by now.
        image: Some(context.image_id.to_owned()),
        entrypoint: container.entrypoint.clone(),
        cmd: container.command.clone(),
        env: some(env.map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: some(container.ports.iter().map(port_key).collect()),
        user: container.user.clone(),
        working_dir: container.working_dir.clone(),
        hostname: container.hostname.clone(),
        labels: Some(labels(container, identity, context)?),
        stop_signal: container.stop_signal.clone(),
        stop_timeout: Some(i64::from(whole_seconds(container.stop_grace_period))),
        // monopod asks; and engines before 25 write to disk at each probe of theirs.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        networking_config: (container.network == Network::Private).then(|| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(
                network_name(identity),
                EndpointSettings {
                    aliases: Some(vec![container.name.to_string()]),
                    ..EndpointSettings::default()
                },
            )])),
        }),
        host_config: Some(host_config(container, identity, context)?),
        ..ContainerCreateBody::default()
    })
}

fn host_config(
    container: &Container,
    identity: &Identity,
    context: &Context<'_>,
) -> Result<HostConfig, Fault> {
    let sysctls = container.sysctls.clone();
    let tmpfs = container.tmpfs.iter();
    let hosts = container.extra_hosts.iter();
    let ulimits = container.ulimits.iter();
    Ok(HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        network_mode: Some(network_mode(container, identity, context)?),
        port_bindings: Some(port_bindings(&container.ports)),
        mounts: Some(mounts(container, identity)?),
        tmpfs: Some(
            tmpfs
                .map(|one| (one.target.clone(), one.options.clone()))
                .collect(),
        ),
        devices: some(container.devices.iter().map(device).collect()),
        device_requests: container.gpus.map(|gpus| vec![gpu_request(gpus)]),
        group_add: some(container.group_add.clone()),
        extra_hosts: some(hosts.map(|(name, to)| format!("{name}:{to}")).collect()),
        dns: some(container.dns.iter().map(ToString::to_string).collect()),
        cap_add: some(container.cap_add.clone()),
        cap_drop: some(container.cap_drop.clone()),
        privileged: Some(container.privileged),
        readonly_rootfs: Some(container.read_only),
        security_opt: some(container.security_opt.clone()),
        // Not asked for is left to the engine's own setting, as Compose does.
        init: container.init.then_some(true),
        shm_size: bytes("shm_size", container.shm_size)?,
        ulimits: some(
            ulimits
                .map(|(name, limit)| ResourcesUlimits {
                    name: Some(name.clone()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect(),
        ),
        sysctls: (!sysctls.is_empty()).then(|| sysctls.into_iter().collect()),
        memory: bytes("mem_limit", container.mem_limit)?,
        memory_reservation: bytes("mem_reservation", container.mem_reservation)?,
        nano_cpus: bytes("cpus", container.nano_cpus)?,
        pids_limit: container.pids_limit,
        oom_score_adj: container.oom_score_adj.map(i64::from),
        log_config: Some(log_config(&container.logging, identity.journal)),
        runtime: container.runtime.clone(),
        cgroup_parent: cgroup_parent(identity, context),
        ..HostConfig::default()
    })
}

fn labels(
    container: &Container,
    identity: &Identity,
    context: &Context<'_>,
) -> Result<HashMap<String, String>, Fault> {
    let mut labels: HashMap<_, _> = container.labels.clone().into_iter().collect();
    let ours = [
        (label::NODE, identity.node.as_str()),
        (label::WORKLOAD, &identity.workload),
        (label::ROLE, container.name.as_str()),
        (label::SPEC, &identity.hash),
        (label::IMAGE, context.image_id),
        (label::REFERENCE, &container.image),
    ];
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if let Some(health) = context.health {
        let text = serde_json::to_string(health).map_err(|error| {
            Fault::Refused(format!("the image's HEALTHCHECK cannot be kept: {error}"))
        })?;
        labels.insert(label::HEALTH.to_owned(), text);
    }
    Ok(labels)
}

fn network_mode(
    container: &Container,
    identity: &Identity,
    context: &Context<'_>,
) -> Result<String, Fault> {
    match (&container.network, context.sibling) {
        (Network::Private, _) => Ok(network_name(identity)),
        (Network::Host, _) => Ok("host".to_owned()),
        (Network::None, _) => Ok("none".to_owned()),
        (Network::Container(_), Some(id)) => Ok(format!("container:{id}")),
        (Network::Container(role), None) => Err(Fault::Refused(format!(
            "container {} shares the network of {role}, which does not exist yet",
            container.name
        ))),
    }
}

fn port_key(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container)
}

fn port_bindings(ports: &[Port]) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|ip| ip.to_string()),
            host_port: port.host.map(|host| host.to_string()),
        };
        map.entry(port_key(port))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    map
}

fn mounts(container: &Container, identity: &Identity) -> Result<Vec<Mount>, Fault> {
    let own = identity
        .mounts
        .iter()
        .map(|file| Ok(bind(file.source.clone(), &file.target, file.read_only)));
    let named = container.volumes.iter().map(|mount| match &mount.source {
        MountSource::Bind(source) => Ok(bind(utf8(source)?, &mount.target, mount.read_only)),
        MountSource::Volume(name) => Ok(Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume_name(&identity.workload, name)),
            target: Some(mount.target.clone()),
            read_only: Some(mount.read_only),
            ..Mount::default()
        }),
    });
    named.chain(own).collect()
}

/// A mount, not a bind string: Docker makes a root-owned folder of a bind string's missing source.
fn bind(source: String, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            create_mountpoint: Some(false),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn device(device: &crate::spec::types::Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn gpu_request(gpus: Gpus) -> DeviceRequest {
    let count = match gpus {
        Gpus::All => -1,
        Gpus::Count(count) => i64::from(count),
    };
    DeviceRequest {
        count: Some(count),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

fn log_config(logging: &Logging, journal: bool) -> HostConfigLogConfig {
    let capped = |max_size: &u64, max_file: &u32| {
        HashMap::from([
            ("max-size".to_owned(), max_size.to_string()),
            ("max-file".to_owned(), max_file.to_string()),
        ])
    };
    let (name, config) = match logging {
        Logging::Default if !journal => ("local", HashMap::new()),
        Logging::Default | Logging::Journald => ("journald", HashMap::new()),
        Logging::Local { max_size, max_file } => {
            let mut config = capped(max_size, max_file);
            // The driver compresses older files, and refuses to where there can be none.
            if *max_file < 2 {
                config.insert("compress".to_owned(), "false".to_owned());
            }
            ("local", config)
        }
        Logging::JsonFile { max_size, max_file } => ("json-file", capped(max_size, max_file)),
        Logging::None => ("none", HashMap::new()),
    };
    HostConfigLogConfig {
        typ: Some(name.to_owned()),
        config: Some(config),
    }
}

/// An image's HEALTHCHECK as monopod asks it; `None` if it has none or says NONE.
///
/// `shell` is the image's SHELL. Zero means Docker's default, which Compose's are the same as.
pub(super) fn health(config: &HealthConfig, shell: Option<&[String]>) -> Option<Health> {
    let test = config.test.as_deref().unwrap_or_default();
    let argv = match test.split_first()? {
        (kind, argv) if kind == "CMD" && !argv.is_empty() => argv.to_vec(),
        (kind, [line, ..]) if kind == "CMD-SHELL" => {
            let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut argv = shell
                .filter(|own| !own.is_empty())
                .map_or_else(default, Vec::from);
            argv.push(line.clone());
            argv
        }
        _ => return None,
    };
    let usual = Timing::default();
    let span = |given: Option<i64>, usual| match u64::try_from(given.unwrap_or(0)) {
        Ok(0) | Err(_) => usual,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    };
    Some(Health {
        probe: Probe::Exec(argv),
        timing: Timing {
            interval: span(config.interval, usual.interval),
            timeout: span(config.timeout, usual.timeout),
            retries: match u32::try_from(config.retries.unwrap_or(0)) {
                Ok(0) | Err(_) => usual.retries,
                Ok(retries) => retries,
            },
            start_period: span(config.start_period, usual.start_period),
            start_interval: span(config.start_interval, usual.start_interval),
        },
    })
}

/// Docker counts a grace period in whole seconds; half a second is not none.
pub(super) fn whole_seconds(span: Duration) -> i32 {
    let up = u64::from(span.subsec_nanos() > 0);
    i32::try_from(span.as_secs().saturating_add(up)).unwrap_or(i32::MAX)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn bytes(key: &str, value: Option<u64>) -> Result<Option<i64>, Fault> {
    value
        .map(i64::try_from)
        .transpose()
        .map_err(|_| Fault::Refused(format!("{key} is larger than any engine can count")))
}

fn utf8(path: &Path) -> Result<String, Fault> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::Refused(format!(
            "the path {} is not valid UTF-8, which the engine's API cannot say",
            path.display()
        ))
    })
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
