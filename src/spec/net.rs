//! A container's place on the network.

use std::net::IpAddr;

use super::cx::Cx;
use super::read;
use super::tree::Item;
use super::types::{Network, Role};

/// `network_mode`.
pub fn mode(cx: &mut Cx, item: &Item) -> Option<Network> {
    let text = read::text(cx, item, "network_mode")?;
    let hint = match text {
        "private" => return Some(Network::Private),
        "host" => return Some(Network::Host),
        "none" => return Some(Network::None),
        "bridge" | "default" => "a private bridge is the default: remove this line".to_owned(),
        _ => match text.split_once(':') {
            Some(("container", name)) if !name.is_empty() => {
                return Some(Network::Container(Role::new(name)));
            }
            Some(("service", name)) => format!("write \"container:{name}\""),
            Some(_) | None => {
                "\"private\" (if nothing is said), \"host\", \"none\" or \"container:NAME\""
                    .to_owned()
            }
        },
    };
    cx.error(&item.at, format!("unknown network mode `{text}`"))
        .hint(hint);
    None
}

/// `hostname`.
pub fn hostname(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = read::text(cx, item, "hostname")?;
    if text.len() <= 64 && is_host_name(text) {
        return Some(text.to_owned());
    }
    cx.error(&item.at, format!("`{text}` is no host name"))
        .hint("letters, digits and dashes, 64 at most, with dots between the parts");
    None
}

/// By RFC 1123.
pub fn is_host_name(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// `extra_hosts`: names with an address or `host-gateway`.
pub fn extra_hosts(cx: &mut Cx, item: &Item) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    for entry in read::list(cx, item, "extra_hosts", "[\"plc=192.168.0.10\"]") {
        let Some(text) = read::text(cx, entry, "extra_hosts") else {
            continue;
        };
        let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            cx.error(&entry.at, format!("`{text}` has no address"))
                .hint("for example \"plc=192.168.0.10\" or \"host=host-gateway\"");
            continue;
        };
        // A name may have `_` here: it is only a line in /etc/hosts.
        if !is_host_name(&name.replace('_', "a")) {
            cx.error(&entry.at, format!("`{name}` is no host name"))
                .hint("for example \"plc=192.168.0.10\"");
            continue;
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        if address == "host-gateway" {
            hosts.push((name.to_owned(), address.to_owned()));
        } else if let Ok(ip) = bare.parse::<IpAddr>() {
            hosts.push((name.to_owned(), ip.to_string()));
        } else {
            cx.error(&entry.at, format!("`{address}` is no address"))
                .hint("a number such as 192.168.0.10, or host-gateway for the node itself");
        }
    }
    hosts
}

/// `dns`.
pub fn dns(cx: &mut Cx, item: &Item) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for entry in read::list(cx, item, "dns", "\"192.168.0.1\"") {
        let Some(text) = read::text(cx, entry, "dns") else {
            continue;
        };
        match text.parse::<IpAddr>() {
            Ok(ip) => servers.push(ip),
            Err(_) => {
                cx.error(&entry.at, format!("`{text}` is no address"))
                    .hint("a name server is given by its number, for example \"192.168.0.1\"");
            }
        }
    }
    servers
}
