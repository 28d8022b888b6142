//! What contradicts what: within a container, and between the two.
//!
//! Works on drafts whose values are good by themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::container::Draft;
use super::cx::Cx;
use super::ports;
use super::tree::{At, Key};
use super::types::{Condition, Health, Healthcheck, Network, Probe, Protocol, Role, Target};

/// Most containers of a workload.
const MOST: usize = 2;

/// Most characters of a workload's or container's name: both make up one host name.
const NAME_LENGTH: usize = 48;

/// Checks a workload's name.
pub fn workload_name(cx: &mut Cx, at: &At, name: &str) {
    if !is_name(name, &['_', '-']) {
        cx.error(at, format!("`{name}` is no workload's name"))
            .hint(
                "1 to 48 lower-case letters, digits, `_` and `-`, with a letter or digit in front",
            );
    }
}

/// Checks a container's name.
pub fn container_name(cx: &mut Cx, key: &Key) {
    if !is_name(&key.name, &['_', '-', '.']) {
        cx.error(&key.at, format!("`{}` is no container's name", key.name))
            .hint(
                "1 to 48 lower-case letters, digits, `_`, `.` and `-`, with a letter or digit in front",
            );
    }
}

fn is_name(name: &str, others: &[char]) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(plain)
        && name.len() <= NAME_LENGTH
        && name.chars().all(|c| plain(c) || others.contains(&c))
}

/// Complains about the third container and what follows.
pub fn count(cx: &mut Cx, names: &[&Key]) {
    if let Some(third) = names.get(MOST) {
        cx.error(
            &third.at,
            format!(
                "monopod runs one workload of one or two containers, this one has {}",
                names.len()
            ),
        )
        .hint(
            "for several workloads on a node use Compose or Podman Quadlet, \
             for a fleet's scheduler Kubernetes or K3s",
        );
    }
}

/// Every contradiction; then what follows from one value for another, and the order.
pub fn workload(cx: &mut Cx, mut drafts: Vec<Draft>) -> Vec<Draft> {
    for draft in &drafts {
        network(cx, draft);
        limits(cx, draft);
        targets(cx, draft);
    }
    dependencies(cx, &drafts);
    published(cx, &drafts);
    for draft in &mut drafts {
        if let Network::Container(of) = &draft.container.network {
            let of = of.clone();
            draft
                .container
                .depends_on
                .entry(of)
                .or_insert(Condition::Started);
        }
    }
    sorted(cx, drafts)
}

fn network(cx: &mut Cx, draft: &Draft) {
    let c = &draft.container;
    let name = match &c.network {
        Network::Private => return,
        Network::Host => "host".to_owned(),
        Network::None => "none".to_owned(),
        Network::Container(of) => format!("container:{of}"),
    };
    let mode_at = draft.at("network_mode");
    let mut clash = |key: &str, hint: &str| {
        cx.error(
            draft.at(key),
            format!("`{key}` and network_mode = \"{name}\" contradict each other"),
        )
        .related(mode_at, "the network is chosen here")
        .hint(hint);
    };
    if !c.ports.is_empty() {
        clash(
            "ports",
            match c.network {
                Network::Host => "on the host's network every port is the host's: remove `ports`",
                Network::Container(_) => "publish the ports of the container whose network it is",
                Network::None | Network::Private => "without a network nothing can be published",
            },
        );
    }
    if let Network::Container(_) = c.network {
        let hint = "set it on the container whose network it is";
        for (there, key) in [
            (c.hostname.is_some(), "hostname"),
            (!c.dns.is_empty(), "dns"),
            (!c.extra_hosts.is_empty(), "extra_hosts"),
        ] {
            if there {
                clash(key, hint);
            }
        }
    }
    if c.network == Network::Host {
        for (name, at) in draft.sysctls.iter().filter(|(n, _)| n.starts_with("net.")) {
            cx.error(at, format!("`{name}` would be set for the whole node"))
                .related(mode_at, "the network is the host's")
                .hint("set it on the node in /etc/sysctl.d");
        }
    }
    if c.network == Network::None && asks_own_port(&c.healthcheck) {
        cx.error(
            draft.at("healthcheck"),
            "this healthcheck asks a port of a container without a network",
        )
        .related(mode_at, "the network is chosen here")
        .hint("use `test` or `notify`, or a unix socket");
    }
}

fn asks_own_port(healthcheck: &Healthcheck) -> bool {
    let Healthcheck::Own(Health { probe, .. }) = healthcheck else {
        return false;
    };
    match probe {
        Probe::Http(http) => matches!(http.target, Target::Own(_)),
        Probe::Tcp(target) => matches!(target, Target::Own(_)),
        Probe::Exec(_) | Probe::Notify => false,
    }
}

fn limits(cx: &mut Cx, draft: &Draft) {
    let c = &draft.container;
    if let (Some(limit), Some(reservation)) = (c.mem_limit, c.mem_reservation)
        && reservation > limit
    {
        cx.error(
            draft.at("mem_reservation"),
            "`mem_reservation` is above `mem_limit`",
        )
        .related(draft.at("mem_limit"), "the limit")
        .hint("the reservation is the soft limit: write the smaller number here");
    }
    for (name, at) in &draft.cap_drop {
        if name != "ALL" && c.cap_add.contains(name) {
            cx.error(at, format!("`{name}` is both added and dropped"))
                .related(draft.at("cap_add"), "added here");
        }
    }
}

fn targets(cx: &mut Cx, draft: &Draft) {
    let mut seen: BTreeMap<&str, &At> = BTreeMap::new();
    for (target, at) in &draft.targets {
        match seen.get(target.as_str()) {
            Some(first) => {
                cx.error(
                    at,
                    format!(
                        "two things are put on `{target}` in container `{}`",
                        draft.key.name
                    ),
                )
                .related(first, "the first");
            }
            None => {
                seen.insert(target, at);
            }
        }
    }
}

fn dependencies(cx: &mut Cx, drafts: &[Draft]) {
    let find = |role: &Role| drafts.iter().find(|draft| draft.container.name == *role);
    for draft in drafts {
        let name = &draft.container.name;
        for (on, at) in &draft.depends_on {
            unknown_or_itself(cx, drafts, name, on, at);
            let healthy = draft.container.depends_on.get(on) == Some(&Condition::Healthy);
            if healthy
                && let Some(other) = find(on)
                && other.container.healthcheck == Healthcheck::Off
            {
                cx.error(
                    at,
                    format!("`{name}` waits for the health of `{on}`, whose healthcheck is off"),
                )
                .related(other.at("healthcheck"), "off here")
                .hint(format!(
                    "give `{on}` a healthcheck, or write {on} = \"started\""
                ));
            }
        }
        if let Network::Container(of) = &draft.container.network {
            unknown_or_itself(cx, drafts, name, of, draft.at("network_mode"));
        }
    }
}

fn unknown_or_itself(cx: &mut Cx, drafts: &[Draft], name: &Role, other: &Role, at: &At) {
    if other == name {
        cx.error(at, format!("`{name}` cannot depend on itself"));
        return;
    }
    if drafts.iter().any(|draft| draft.container.name == *other) {
        return;
    }
    let names = drafts.iter().map(|draft| draft.container.name.as_str());
    let near = super::names::nearest(
        other.as_str(),
        names.clone().filter(|n| *n != name.as_str()),
    );
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "the containers are {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    };
    cx.absent(at, format!("there is no container `{other}`"), hint);
}

fn published(cx: &mut Cx, drafts: &[Draft]) {
    type Claims<'a> = BTreeMap<(u16, u8), Vec<(&'a Draft, usize)>>;
    let mut claims: Claims = BTreeMap::new();
    for draft in drafts {
        for (index, port) in draft.container.ports.iter().enumerate() {
            let Some(host) = port.host else { continue };
            let protocol = match port.protocol {
                Protocol::Tcp => 0,
                Protocol::Udp => 1,
                Protocol::Sctp => 2,
            };
            claims
                .entry((host, protocol))
                .or_default()
                .push((draft, index));
        }
    }
    // Two ranges overlap at many ports; one complaint for each pair of entries is enough.
    let mut told = BTreeSet::new();
    for ((host, _), claims) in &claims {
        for (later, (draft, index)) in claims.iter().enumerate().skip(1) {
            let port = &draft.container.ports[*index];
            let at = &draft.ports[*index];
            let former = claims[..later]
                .iter()
                .find(|(other, i)| ports::collide(&other.container.ports[*i], port));
            let Some((other, other_index)) = former else {
                continue;
            };
            let first = &other.ports[*other_index];
            if told.insert((first.id(), at.id())) {
                cx.error(at, format!("port {host} of the host is published twice"))
                    .related(first, "first here")
                    .hint("each port of the host can lead to one container only");
            }
        }
    }
}

/// Dependencies first, ties by name; complains about a circle.
fn sorted(cx: &mut Cx, mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.sort_by(|a, b| a.container.name.cmp(&b.container.name));
    let mut out: Vec<Draft> = Vec::with_capacity(drafts.len());
    while !drafts.is_empty() {
        let waiting: Vec<Role> = drafts.iter().map(|d| d.container.name.clone()).collect();
        let ready = drafts.iter().position(|draft| {
            let itself = &draft.container.name;
            draft
                .container
                .depends_on
                .keys()
                .all(|on| on == itself || !waiting.contains(on))
        });
        if let Some(index) = ready {
            out.push(drafts.remove(index));
            continue;
        }
        let names: Vec<_> = waiting.iter().map(|name| format!("`{name}`")).collect();
        let first = &drafts[0];
        let at = first
            .depends_on
            .values()
            .next()
            .unwrap_or_else(|| first.at("network_mode"));
        let shared = drafts
            .iter()
            .any(|draft| matches!(draft.container.network, Network::Container(_)));
        cx.error(at, format!("{} wait for each other", names.join(" and ")))
            .hint(if shared {
                "a network_mode = \"container:NAME\" waits for that container too"
            } else {
                "one of them must start first: remove its `depends_on`"
            });
        out.append(&mut drafts);
    }
    out
}
