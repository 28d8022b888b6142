//! Published ports, in Compose's short and long form.
//!
//! `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`; either port may be a range if both are.

use std::net::IpAddr;

use super::cx::Cx;
use super::read;
use super::tree::{At, Item, Table, Value};
use super::types::{Port, Protocol};
use super::units::BadUnit;

/// Most ports that a container may publish: the engine keeps a process or a rule for each.
const MOST: usize = 4096;

const EXAMPLE: &str = "[\"8080:80\", \"127.0.0.1:5000-5009:5000-5009/udp\"]";

fn bad(why: impl Into<String>, hint: impl Into<String>) -> BadUnit {
    BadUnit {
        why: why.into(),
        hint: hint.into(),
    }
}

/// Reads the list; each port with the place that it comes from.
pub fn read(cx: &mut Cx, item: &Item) -> Vec<(Port, At)> {
    let mut ports = Vec::new();
    for entry in read::list(cx, item, "ports", EXAMPLE) {
        if ports.len() > MOST {
            cx.error(&entry.at, format!("more than {MOST} ports are published"))
                .hint("for so many ports use network_mode = \"host\"");
            break;
        }
        let found = match &entry.value {
            Value::String(text) => parse(text),
            Value::Integer(number, _) => parse(&number.to_string()),
            Value::Table(table) => {
                if let Some(found) = long(cx, entry, table) {
                    ports.extend(found.into_iter().map(|port| (port, entry.at.clone())));
                }
                continue;
            }
            Value::Float(_) | Value::Boolean(_) | Value::Datetime | Value::Array(_) => {
                read::wrong_kind(cx, entry, "ports", "a list of strings such as \"8080:80\"");
                continue;
            }
        };
        match found {
            Ok(found) => ports.extend(found.into_iter().map(|port| (port, entry.at.clone()))),
            Err(error) => {
                let shown = match &entry.value {
                    Value::Integer(number, _) => number.to_string(),
                    _ => entry.as_str().unwrap_or_default().to_owned(),
                };
                cx.error(&entry.at, format!("port `{shown}` {}", error.why))
                    .hint(error.hint);
            }
        }
    }
    ports
}

/// The ports that an entry stands for, if it is a good one in the short form.
pub fn of_item(item: &Item) -> Option<Vec<Port>> {
    match &item.value {
        Value::String(text) => parse(text).ok(),
        Value::Integer(number, _) => parse(&number.to_string()).ok(),
        Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => None,
    }
}

/// Reads the short form.
pub fn parse(text: &str) -> Result<Vec<Port>, BadUnit> {
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, name)) => (rest, protocol(name)?),
        None => (text, Protocol::Tcp),
    };
    let (rest, container) = match rest.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, rest),
    };
    let (host_ip, host) = match rest {
        None => (None, ""),
        Some(rest) => match split_ip(rest)? {
            (ip, Some(host)) => (ip, host),
            (None, None) => (None, rest),
            (Some(_), None) => {
                return Err(bad(
                    "has an address and one port",
                    format!(
                        "write \"{rest}::{container}\" if the engine should choose the host's port"
                    ),
                ));
            }
        },
    };
    expand(host_ip, host, container, protocol)
}

/// `127.0.0.1:80`, `[::1]:80`, `127.0.0.1:` or `80`.
fn split_ip(text: &str) -> Result<(Option<IpAddr>, Option<&str>), BadUnit> {
    let hint = "an address is a number such as 127.0.0.1 or [::1]; names are not possible here";
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, behind)) = rest.split_once(']') else {
            return Err(bad("has no closing `]`", "for example \"[::1]:80:80\""));
        };
        let ip = address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| bad(format!("has `{address}` for an address"), hint))?;
        return Ok((Some(ip.into()), behind.strip_prefix(':')));
    }
    match text.rsplit_once(':') {
        Some((address, host)) => {
            if address.contains(':') {
                return Err(bad(
                    "has too many colons",
                    "an IPv6 address stands in brackets: \"[::1]:80:80\"",
                ));
            }
            let ip = address
                .parse::<std::net::Ipv4Addr>()
                .map_err(|_| bad(format!("has `{address}` for an address"), hint))?;
            Ok((Some(ip.into()), Some(host)))
        }
        None => match text.parse::<std::net::Ipv4Addr>() {
            Ok(ip) => Ok((Some(ip.into()), None)),
            Err(_) => Ok((None, None)),
        },
    }
}

fn protocol(name: &str) -> Result<Protocol, BadUnit> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(bad(
            format!("has the unknown protocol `{name}`"),
            "tcp (if none is named), udp or sctp",
        )),
    }
}

fn expand(
    host_ip: Option<IpAddr>,
    host: &str,
    container: &str,
    protocol: Protocol,
) -> Result<Vec<Port>, BadUnit> {
    let (first, last) = range(container)?;
    let host_first = if host.is_empty() {
        None
    } else {
        let (host_first, host_last) = range(host)?;
        if host_last - host_first != last - first {
            return Err(bad(
                format!(
                    "maps {} ports of the host to {} of the container",
                    u32::from(host_last - host_first) + 1,
                    u32::from(last - first) + 1
                ),
                "both ranges must be of one length",
            ));
        }
        Some(host_first)
    };
    Ok((0..=last - first)
        .map(|offset| Port {
            host_ip,
            host: host_first.map(|host| host + offset),
            container: first + offset,
            protocol,
        })
        .collect())
}

fn range(text: &str) -> Result<(u16, u16), BadUnit> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad(
            format!("has the range `{text}`, which goes down"),
            format!("write {last}-{first}"),
        ));
    }
    Ok((first, last))
}

fn number(text: &str) -> Result<u16, BadUnit> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(port),
        Ok(_) | Err(_) => Err(bad(
            format!("has `{text}` for a port"),
            "a port is a number from 1 to 65535; for example \"8080:80\"",
        )),
    }
}

/// Reads Compose's long form.
fn long(cx: &mut Cx, entry: &Item, table: &Table) -> Option<Vec<Port>> {
    const KEYS: [&str; 4] = ["target", "published", "host_ip", "protocol"];
    let (mut target, mut published) = (String::new(), String::new());
    let (mut host_ip, mut protocol_of) = (None, Protocol::Tcp);
    let mut good = true;
    for (key, item) in &table.entries {
        let text = match key.name.as_str() {
            name if !KEYS.contains(&name) => {
                read::unknown_key(cx, key, "a port", &KEYS);
                None
            }
            name => read::scalar(cx, item, name),
        };
        let Some(text) = text else {
            good = false;
            continue;
        };
        match key.name.as_str() {
            "target" => target = text,
            "published" => published = text,
            "host_ip" => {
                if let Ok(ip) = text.parse::<IpAddr>() {
                    host_ip = Some(ip);
                } else {
                    cx.error(&item.at, format!("`{text}` is no address"))
                        .hint("for example host_ip = \"127.0.0.1\"");
                    good = false;
                }
            }
            _ => match protocol(&text) {
                Ok(found) => protocol_of = found,
                Err(error) => {
                    cx.error(&item.at, format!("the port {}", error.why))
                        .hint(error.hint);
                    good = false;
                }
            },
        }
    }
    if target.is_empty() && good {
        cx.error(&entry.at, "this port has no `target`")
            .hint("for example { target = 80, published = 8080 }");
        good = false;
    }
    if !good {
        return None;
    }
    match expand(host_ip, &published, &target, protocol_of) {
        Ok(ports) => Some(ports),
        Err(error) => {
            cx.error(&entry.at, format!("the port {}", error.why))
                .hint(error.hint);
            None
        }
    }
}

/// Whether two published ports claim the same one of the host.
pub fn collide(a: &Port, b: &Port) -> bool {
    let same_address = match (a.host_ip, b.host_ip) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => {
            a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
        }
    };
    a.host.is_some() && a.host == b.host && a.protocol == b.protocol && same_address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: Option<&str>, host: Option<u16>, container: u16, protocol: Protocol) -> Port {
        Port {
            host_ip: ip.map(|ip| ip.parse().expect(ip)),
            host,
            container,
            protocol,
        }
    }

    #[test]
    fn good_ports() {
        use Protocol::{Sctp, Tcp, Udp};
        for (text, want) in [
            ("80", vec![port(None, None, 80, Tcp)]),
            ("8080:80", vec![port(None, Some(8080), 80, Tcp)]),
            ("8080:80/UDP", vec![port(None, Some(8080), 80, Udp)]),
            (
                "127.0.0.1:80:80",
                vec![port(Some("127.0.0.1"), Some(80), 80, Tcp)],
            ),
            (
                "127.0.0.1::80",
                vec![port(Some("127.0.0.1"), None, 80, Tcp)],
            ),
            (
                "[::1]:80:80/sctp",
                vec![port(Some("::1"), Some(80), 80, Sctp)],
            ),
            (
                "127.0.0.1:8080-8081:80-81/udp",
                vec![
                    port(Some("127.0.0.1"), Some(8080), 80, Udp),
                    port(Some("127.0.0.1"), Some(8081), 81, Udp),
                ],
            ),
            (
                "80-81",
                vec![port(None, None, 80, Tcp), port(None, None, 81, Tcp)],
            ),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        assert_eq!(parse("1-65535:1-65535").map(|ports| ports.len()), Ok(65535));
    }

    #[test]
    fn bad_ports() {
        for (text, why) in [
            ("", "has `` for a port"),
            ("0", "has `0` for a port"),
            ("+80", "has `+80` for a port"),
            ("65536", "has `65536` for a port"),
            ("8080:http", "has `http` for a port"),
            ("80:80/icmp", "has the unknown protocol `icmp`"),
            ("90-80", "has the range `90-80`, which goes down"),
            (
                "8080-8090:80",
                "maps 11 ports of the host to 1 of the container",
            ),
            ("localhost:80:80", "has `localhost` for an address"),
            ("::1:80:80", "has too many colons"),
            ("[::1:80", "has no closing `]`"),
            ("[127.0.0.1]:80:80", "has `127.0.0.1` for an address"),
            ("127.0.0.1:80", "has an address and one port"),
        ] {
            assert_eq!(parse(text).expect_err(text).why, why, "{text}");
        }
    }

    #[test]
    fn collisions() {
        for (a, b, want) in [
            ("80:80", "80:81", true),
            ("80:80", "81:80", false),
            ("80:80/udp", "80:80", false),
            ("80", "80", false),
            ("127.0.0.1:80:80", "80:80", true),
            ("127.0.0.1:80:80", "0.0.0.0:80:80", true),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("[::]:80:80", "127.0.0.2:80:80", false),
        ] {
            let (a, b) = (parse(a).expect(a), parse(b).expect(b));
            assert_eq!(collide(&a[0], &b[0]), want, "{a:?} {b:?}");
        }
    }
}
