//! A container's spec hash: equal exactly if the engine would be told the same.
//!
//! The hash stands on the container's label; a daemon adopts what has the right one
//! and makes anew what has not. So it must depend on nothing but the arguments,
//! and must stay what it is from one release of monopod to the next: a value
//! that says nothing (null, false, an empty list) is left out, so that a new
//! field does not change the hashes of old files.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::types::{Container, Health, Healthcheck, Probe};

/// Fields that the engine is not told at creation.
const NOT_TOLD: [&str; 3] = ["healthcheck", "stop_grace_period", "depends_on"];

/// Fields where an empty list says something: the image's own words are dropped.
const EMPTY_COUNTS: [&str; 2] = ["entrypoint", "command"];

/// Hash of all that the engine is told when it makes the container: 32 hexadecimal digits.
pub fn spec_hash(container: &Container, workload: &str) -> String {
    let mut fields = said(container);
    fields.retain(|key, _| !NOT_TOLD.contains(&key.as_str()));
    fields.insert("workload".to_owned(), workload.into());
    // The notify socket is mounted at creation, whoever listens.
    if let Healthcheck::Own(Health {
        probe: Probe::Notify,
        ..
    }) = container.healthcheck
    {
        fields.insert("notify".to_owned(), true.into());
    }
    let mut text = String::new();
    for (key, value) in &fields {
        canonical(&mut text, key, value);
    }
    digest(&text, 32)
}

/// The fields that say something.
fn said(container: &Container) -> BTreeMap<String, Value> {
    // Every field is a plain value with string keys: serialising cannot fail.
    match serde_json::to_value(container) {
        Ok(Value::Object(object)) => object
            .into_iter()
            .filter(|(key, value)| says(key, value))
            .collect(),
        Ok(_) | Err(_) => BTreeMap::new(),
    }
}

/// The first hexadecimal digits of a text's SHA-256.
fn digest(text: &str, digits: usize) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .take(digits)
        .collect()
}

fn says(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty() || EMPTY_COUNTS.contains(&key),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Writes `KEY VALUE` with the keys of inner tables in order, whatever the JSON library's own order is.
fn canonical(out: &mut String, key: &str, value: &Value) {
    out.push_str(&Value::from(key).to_string());
    out.push(' ');
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            out.push('{');
            for (key, value) in fields {
                canonical(out, key, value);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(out, "", item);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::tests::container;
    use super::super::types::{
        Condition, Device, Gpus, InlineFile, Logging, Mount, MountSource, Network, Port, Protocol,
        Role, Secret, Target, Timing, Tmpfs, Ulimit,
    };
    use super::*;

    type Change = fn(&mut Container);

    /// One change for each field that the engine is told.
    const CHANGES: [(&str, Change); 39] = [
        ("name", |c| c.name = Role::new("other")),
        ("image", |c| c.image = "other:1".into()),
        ("entrypoint", |c| c.entrypoint = Some(vec![])),
        ("command", |c| c.command = Some(vec![])),
        ("environment", |c| {
            c.environment.insert("A".into(), String::new());
        }),
        ("ports", |c| {
            c.ports.push(Port {
                host_ip: None,
                host: None,
                container: 80,
                protocol: Protocol::Tcp,
            });
        }),
        ("volumes", |c| {
            c.volumes.push(Mount {
                source: MountSource::Volume("a".into()),
                target: "/a".into(),
                read_only: false,
            });
        }),
        ("tmpfs", |c| {
            c.tmpfs.push(Tmpfs {
                target: "/a".into(),
                options: String::new(),
            });
        }),
        ("devices", |c| {
            c.devices.push(Device {
                host: "/dev/a".into(),
                container: "/dev/a".into(),
                permissions: "rwm".into(),
            });
        }),
        ("network", |c| c.network = Network::None),
        ("user", |c| c.user = Some("1".into())),
        ("group_add", |c| c.group_add.push("1".into())),
        ("working_dir", |c| c.working_dir = Some("/a".into())),
        ("hostname", |c| c.hostname = Some("a".into())),
        ("extra_hosts", |c| {
            c.extra_hosts.push(("a".into(), "::1".into()));
        }),
        ("dns", |c| c.dns.push([127, 0, 0, 1].into())),
        ("cap_add", |c| c.cap_add.push("CHOWN".into())),
        ("cap_drop", |c| c.cap_drop.push("CHOWN".into())),
        ("privileged", |c| c.privileged = true),
        ("read_only", |c| c.read_only = true),
        ("security_opt", |c| c.security_opt.push("a".into())),
        ("init", |c| c.init = true),
        ("shm_size", |c| c.shm_size = Some(0)),
        ("ulimits", |c| {
            c.ulimits.insert("core".into(), Ulimit { soft: 0, hard: 0 });
        }),
        ("sysctls", |c| {
            c.sysctls.insert("net.a".into(), "0".into());
        }),
        ("mem_limit", |c| c.mem_limit = Some(0)),
        ("mem_reservation", |c| c.mem_reservation = Some(0)),
        ("nano_cpus", |c| c.nano_cpus = Some(0)),
        ("pids_limit", |c| c.pids_limit = Some(0)),
        ("oom_score_adj", |c| c.oom_score_adj = Some(0)),
        ("stop_signal", |c| c.stop_signal = Some("SIGINT".into())),
        ("labels", |c| {
            c.labels.insert("a".into(), String::new());
        }),
        ("logging", |c| c.logging = Logging::None),
        ("runtime", |c| c.runtime = Some("crun".into())),
        ("gpus", |c| c.gpus = Some(Gpus::All)),
        ("secrets", |c| {
            c.secrets.insert("a".into(), Secret::Credential("a".into()));
        }),
        ("files", |c| {
            c.files.insert(
                "/a".into(),
                InlineFile {
                    content: String::new(),
                    mode: 0o644,
                },
            );
        }),
        // Twice, as what is empty and what is there must differ from what is not said.
        ("entrypoint", |c| c.entrypoint = Some(vec![String::new()])),
        ("command", |c| c.command = Some(vec!["a".into()])),
    ];

    fn own(probe: Probe) -> Healthcheck {
        Healthcheck::Own(Health {
            probe,
            timing: Timing::default(),
        })
    }

    #[test]
    fn every_field_that_the_engine_is_told_counts() {
        let base = container("app");
        let mut hashes = BTreeSet::from([spec_hash(&base, "w"), spec_hash(&base, "other")]);
        assert_eq!(hashes.len(), 2, "the workload's name counts");
        for (field, change) in CHANGES {
            let mut changed = base.clone();
            change(&mut changed);
            assert!(hashes.insert(spec_hash(&changed, "w")), "{field}");
        }
        let Ok(Value::Object(all)) = serde_json::to_value(&base) else {
            panic!("a container is an object");
        };
        let told: BTreeSet<&str> = CHANGES
            .iter()
            .map(|(field, _)| *field)
            .chain(NOT_TOLD)
            .collect();
        let all: BTreeSet<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(told, all, "each field is in one of the two tables");
    }

    #[test]
    fn what_the_engine_is_not_told_does_not_count() {
        let base = container("app");
        let want = spec_hash(&base, "w");
        assert_eq!(want.len(), 32);
        let mut changed = base.clone();
        changed.stop_grace_period = Duration::from_secs(99);
        changed
            .depends_on
            .insert(Role::new("other"), Condition::Healthy);
        for healthcheck in [
            Healthcheck::Off,
            own(Probe::Tcp(Target::Own(80))),
            own(Probe::Exec(vec!["/bin/true".into()])),
        ] {
            changed.healthcheck = healthcheck;
            assert_eq!(spec_hash(&changed, "w"), want);
        }
        changed.healthcheck = own(Probe::Notify);
        assert_ne!(spec_hash(&changed, "w"), want, "its socket is mounted");
    }

    #[test]
    fn the_hash_stays_what_it_is() {
        assert_eq!(
            spec_hash(&container("app"), "w"),
            "623d13bd0715c2c980cebb823ef79f81",
            "a new hash makes every container of every node anew"
        );
    }
}
