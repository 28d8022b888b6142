//! One `[containers.NAME]`: from its table to a [`Container`] in the making.
//!
//! Each value is judged by itself here; what contradicts what is the business
//! of `checks`, for which a [`Draft`] keeps every place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cx::Cx;
use super::names;
use super::tree::{At, Item, Key, Table, Value};
use super::types::{Condition, Container, Healthcheck, Logging, Network, Role};
use super::{health, image, inline, limits, mounts, net, ports, process, read};

/// Compose's `stop_grace_period`.
const GRACE: Duration = Duration::from_secs(10);

/// A container whose values are good, each by itself, and where they stand.
pub struct Draft {
    /// What it will be.
    pub container: Container,
    /// The name's place.
    pub key: Key,
    /// The place of each key's value.
    pub values: BTreeMap<String, At>,
    /// Of each published port, in the same order.
    pub ports: Vec<At>,
    /// Of each path in the container that something is put on.
    pub targets: Vec<(String, At)>,
    /// Of each dependency.
    pub depends_on: BTreeMap<Role, At>,
    /// Of each kernel parameter.
    pub sysctls: BTreeMap<String, At>,
    /// Of each capability that is taken away.
    pub cap_drop: Vec<(String, At)>,
}

impl Draft {
    fn new(key: &Key) -> Self {
        Self {
            container: blank(&key.name),
            key: key.clone(),
            values: BTreeMap::new(),
            ports: Vec::new(),
            targets: Vec::new(),
            depends_on: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            cap_drop: Vec::new(),
        }
    }

    /// The place of a key's value; the container's own if the key is not there.
    pub fn at(&self, key: &str) -> &At {
        self.values.get(key).unwrap_or(&self.key.at)
    }
}

fn blank(name: &str) -> Container {
    Container {
        name: Role::new(name),
        image: String::new(),
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        ports: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        devices: Vec::new(),
        network: Network::Private,
        user: None,
        group_add: Vec::new(),
        working_dir: None,
        hostname: None,
        extra_hosts: Vec::new(),
        dns: Vec::new(),
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        privileged: false,
        read_only: false,
        security_opt: Vec::new(),
        init: false,
        shm_size: None,
        ulimits: BTreeMap::new(),
        sysctls: BTreeMap::new(),
        mem_limit: None,
        mem_reservation: None,
        nano_cpus: None,
        pids_limit: None,
        oom_score_adj: None,
        stop_signal: None,
        stop_grace_period: GRACE,
        labels: BTreeMap::new(),
        logging: Logging::Default,
        depends_on: BTreeMap::new(),
        runtime: None,
        gpus: None,
        healthcheck: Healthcheck::Image,
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// Reads a container's table.
pub fn read(cx: &mut Cx, key: &Key, table: &Table) -> Draft {
    let mut draft = Draft::new(key);
    draft.container.environment = process::variables(cx, table);
    for (key, item) in &table.entries {
        draft.values.insert(key.name.clone(), item.at.clone());
        if !(process_key(cx, &mut draft, key, item)
            || limit_key(cx, &mut draft, key, item)
            || place_key(cx, &mut draft, key, item))
        {
            foreign_key(cx, key);
        }
    }
    if table.get("image").is_none() {
        cx.absent(
            &key.at,
            format!("container `{}` has no `image`", key.name),
            "for example image = \"example/gateway:1.4.2\"",
        );
    }
    draft
}

/// What runs, and when it is well.
fn process_key(cx: &mut Cx, draft: &mut Draft, key: &Key, item: &Item) -> bool {
    let c = &mut draft.container;
    match key.name.as_str() {
        "image" => c.image = image_reference(cx, item),
        "command" => c.command = process::words(cx, item, "command"),
        "entrypoint" => c.entrypoint = process::words(cx, item, "entrypoint"),
        // Read before, as one of them lies over the other.
        "environment" | "env_file" => {}
        "user" => c.user = process::user(cx, item),
        "group_add" => c.group_add = process::groups(cx, item),
        "working_dir" => c.working_dir = process::working_dir(cx, item),
        "stop_signal" => c.stop_signal = process::signal(cx, item),
        "stop_grace_period" => {
            let bounds = Duration::ZERO..=Duration::from_secs(3600);
            c.stop_grace_period =
                read::duration(cx, item, "stop_grace_period", bounds).unwrap_or(GRACE);
        }
        "labels" => c.labels = process::labels(cx, item),
        "init" => c.init = read::boolean(cx, item, "init").unwrap_or_default(),
        "healthcheck" => {
            c.healthcheck = health::read(cx, key, item).unwrap_or(Healthcheck::Image);
        }
        "depends_on" => draft.depends_on = depends_on(cx, c, item),
        _ => return false,
    }
    true
}

/// What it may do and use.
fn limit_key(cx: &mut Cx, draft: &mut Draft, key: &Key, item: &Item) -> bool {
    let c = &mut draft.container;
    match key.name.as_str() {
        "cap_add" => c.cap_add = values(limits::capabilities(cx, item, "cap_add")),
        "cap_drop" => {
            draft.cap_drop = limits::capabilities(cx, item, "cap_drop");
            c.cap_drop = values(draft.cap_drop.clone());
        }
        "privileged" => c.privileged = read::boolean(cx, item, "privileged").unwrap_or_default(),
        "read_only" => c.read_only = read::boolean(cx, item, "read_only").unwrap_or_default(),
        "security_opt" => c.security_opt = limits::security_opt(cx, item),
        "shm_size" => c.shm_size = read::size(cx, item, "shm_size", 4096),
        "ulimits" => c.ulimits = limits::ulimits(cx, item),
        "sysctls" => {
            for (name, (value, at)) in limits::sysctls(cx, item) {
                draft.sysctls.insert(name.clone(), at);
                c.sysctls.insert(name, value);
            }
        }
        "mem_limit" => c.mem_limit = read::size(cx, item, "mem_limit", limits::LEAST_MEMORY),
        "mem_reservation" => {
            c.mem_reservation = read::size(cx, item, "mem_reservation", limits::LEAST_MEMORY);
        }
        "cpus" => c.nano_cpus = limits::cpus(cx, item),
        "pids_limit" => c.pids_limit = limits::pids_limit(cx, item),
        "oom_score_adj" => {
            c.oom_score_adj = read::integer(cx, item, "oom_score_adj", -1000..=1000)
                .and_then(|value| i32::try_from(value).ok());
        }
        "runtime" => c.runtime = limits::runtime(cx, item),
        "gpus" => c.gpus = limits::gpus(cx, item),
        "logging" => c.logging = limits::logging(cx, item).unwrap_or(Logging::Default),
        _ => return false,
    }
    true
}

/// Where it stands: network, files, devices.
fn place_key(cx: &mut Cx, draft: &mut Draft, key: &Key, item: &Item) -> bool {
    let c = &mut draft.container;
    match key.name.as_str() {
        "ports" => (c.ports, draft.ports) = ports::read(cx, item).into_iter().unzip(),
        "network_mode" => c.network = net::mode(cx, item).unwrap_or(Network::Private),
        "hostname" => c.hostname = net::hostname(cx, item),
        "extra_hosts" => c.extra_hosts = net::extra_hosts(cx, item),
        "dns" => c.dns = net::dns(cx, item),
        "volumes" => {
            for (mount, at) in mounts::volumes(cx, item) {
                draft.targets.push((mount.target.clone(), at));
                c.volumes.push(mount);
            }
        }
        "tmpfs" => {
            for (tmpfs, at) in mounts::tmpfs(cx, item) {
                draft.targets.push((tmpfs.target.clone(), at));
                c.tmpfs.push(tmpfs);
            }
        }
        "devices" => {
            for (device, at) in mounts::devices(cx, item) {
                draft.targets.push((device.container.clone(), at));
                c.devices.push(device);
            }
        }
        "files" => {
            for (path, (file, at)) in inline::files(cx, item) {
                draft.targets.push((path.clone(), at));
                c.files.insert(path, file);
            }
        }
        "secrets" => {
            for (name, (secret, at)) in inline::secrets(cx, item) {
                draft.targets.push((format!("/run/secrets/{name}"), at));
                c.secrets.insert(name, secret);
            }
        }
        _ => return false,
    }
    true
}

fn values(list: Vec<(String, At)>) -> Vec<String> {
    list.into_iter().map(|(value, _)| value).collect()
}

fn image_reference(cx: &mut Cx, item: &Item) -> String {
    let Some(text) = read::text(cx, item, "image") else {
        return String::new();
    };
    match image::reference(text) {
        Ok(reference) => reference,
        Err(error) => {
            cx.error(&item.at, format!("image `{text}` {}", error.why))
                .hint(error.hint);
            String::new()
        }
    }
}

/// Reads the table; returns the place of each dependency.
fn depends_on(cx: &mut Cx, c: &mut Container, item: &Item) -> BTreeMap<Role, At> {
    let mut places = BTreeMap::new();
    let example = "depends_on = { broker = \"healthy\" }";
    let Some(table) = read::table(cx, item, "depends_on", example) else {
        return places;
    };
    for (key, item) in &table.entries {
        let written = match &item.value {
            // Compose's { condition = "service_healthy" }.
            Value::Table(inner) => {
                for (key, _) in inner.entries.iter().filter(|(k, _)| k.name != "condition") {
                    cx.error(&key.at, format!("`{}` is not supported here", key.name))
                        .hint(format!("write {example}"));
                }
                inner.get("condition").unwrap_or(item)
            }
            Value::String(_)
            | Value::Integer(..)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_) => item,
        };
        let condition = match written.as_str() {
            Some("started" | "service_started") => Condition::Started,
            Some("healthy" | "service_healthy") => Condition::Healthy,
            other => {
                let hint = if other == Some("service_completed_successfully") {
                    "a workload has no one-off jobs; do it in the container's own command"
                } else {
                    "\"started\" or \"healthy\""
                };
                cx.error(&written.at, format!("unknown condition for `{}`", key.name))
                    .hint(hint);
                continue;
            }
        };
        let role = Role::new(&key.name);
        places.insert(role.clone(), key.at.clone());
        c.depends_on.insert(role, condition);
    }
    places
}

/// Complains about a key that no container has.
fn foreign_key(cx: &mut Cx, key: &Key) {
    let name = key.name.as_str();
    if let Some(hint) = names::compose_hint(name) {
        cx.error(&key.at, format!("`{name}` is not supported"))
            .hint(hint);
    } else if name.starts_with("x-") {
        cx.error(&key.at, format!("unknown key `{name}`"))
            .hint("there are no extension keys; write a comment or a label");
    } else if names::HEALTH_KEYS.contains(&name) {
        cx.error(&key.at, format!("`{name}` belongs in `healthcheck`"))
            .hint(format!("healthcheck = {{ {name} = ... }}"));
    } else {
        let hint = names::nearest(name, names::CONTAINER_KEYS.into_iter()).map_or_else(
            || "the keys are those of Compose; `monopod check --help` names them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        cx.error(&key.at, format!("unknown key `{name}` in a container"))
            .hint(hint);
    }
}
