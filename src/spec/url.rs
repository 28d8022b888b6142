//! Who a probe asks, read from its address.
//!
//! `:80/path` is the container's own port; `http://host:port/path` is asked as
//! the host sees it; `http://unix:/run/app.sock:/path` is a unix socket of the
//! host, in nginx's notation. Pure.

use std::path::PathBuf;

use super::mounts;
use super::net;
use super::types::Target;
use super::units::BadUnit;

/// A read address of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Over TLS.
    pub tls: bool,
    /// Who.
    pub target: Target,
    /// Path and query.
    pub path: String,
}

fn bad(why: impl Into<String>, hint: impl Into<String>) -> BadUnit {
    BadUnit {
        why: why.into(),
        hint: hint.into(),
    }
}

const HTTP_HINT: &str = "\":80/healthz\" for the container's own port, or a whole address such as \"http://127.0.0.1:8080/healthz\"";
const TCP_HINT: &str = "\":1883\" for the container's own port, or \"host:port\"";

/// Reads an HTTP probe's address; `scheme` is what the key of that name says.
pub fn http(text: &str, scheme: Option<&str>) -> Result<Http, BadUnit> {
    let (tls, rest) = if let Some((written, rest)) = text.split_once("://") {
        let tls = match written {
            "http" => false,
            "https" => true,
            _ => {
                return Err(bad(
                    format!("has the unknown scheme `{written}`"),
                    HTTP_HINT,
                ));
            }
        };
        if scheme.is_some_and(|scheme| scheme != written) {
            return Err(bad(
                "and `scheme` contradict each other",
                "keep the one in the address, remove `scheme`",
            ));
        }
        (tls, rest)
    } else if text.starts_with(':') {
        (scheme == Some("https"), text)
    } else {
        let hint = if text.starts_with('/') {
            format!("name the port: \":80{text}\"")
        } else {
            HTTP_HINT.to_owned()
        };
        return Err(bad("names neither a port nor a scheme", hint));
    };
    if let Some(socket) = rest.strip_prefix("unix:") {
        if tls {
            return Err(bad(
                "asks for TLS on a unix socket",
                "write http://unix:...",
            ));
        }
        let (socket, request) = socket.split_once(':').unwrap_or((socket, ""));
        return Ok(Http {
            tls,
            target: Target::Unix(unix(socket)?),
            path: request_path(request)?,
        });
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, request) = rest.split_at(end);
    if authority.contains('@') {
        return Err(bad(
            "has a user in it",
            "use headers = { Authorization = \"Basic ...\" }",
        ));
    }
    let default = if tls { 443 } else { 80 };
    Ok(Http {
        tls,
        target: target(authority, Some(default), HTTP_HINT)?,
        path: request_path(request)?,
    })
}

/// Reads a TCP probe's address.
pub fn tcp(text: &str) -> Result<Target, BadUnit> {
    if text.contains("://") || text.contains('/') && !text.starts_with("unix:") {
        return Err(bad("is more than a host and a port", TCP_HINT));
    }
    match text.strip_prefix("unix:") {
        Some(socket) => unix(socket).map(Target::Unix),
        None => target(text, None, TCP_HINT),
    }
}

fn unix(socket: &str) -> Result<PathBuf, BadUnit> {
    match mounts::clean(socket) {
        Some(path) if path != "/" && path.len() <= 107 => Ok(path.into()),
        Some(_) | None => Err(bad(
            format!("has `{socket}` for a socket"),
            "an absolute path of 107 bytes at most: \"http://unix:/run/app.sock:/healthz\"",
        )),
    }
}

fn target(authority: &str, default: Option<u16>, hint: &str) -> Result<Target, BadUnit> {
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside of brackets is the address's own.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let port = match (port, default) {
        (Some(text), _) => match text.parse::<u16>() {
            Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => port,
            Ok(_) | Err(_) => {
                return Err(bad(
                    format!("has `{text}` for a port"),
                    "a port is a number from 1 to 65535",
                ));
            }
        },
        (None, Some(port)) if !host.is_empty() => port,
        (None, _) => return Err(bad("names no port", hint)),
    };
    if host.is_empty() {
        return Ok(Target::Own(port));
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => Ok(Target::Host(ip.to_string(), port)),
            Err(_) => Err(bad(format!("has `{host}` for a host"), hint)),
        };
    }
    if host.contains(':') {
        return Err(bad(
            format!("has `{host}` for a host"),
            "an IPv6 address stands in brackets: \"[::1]:80\"",
        ));
    }
    // The names that a private network gives may have `_`.
    if !net::is_host_name(&host.replace('_', "a")) {
        return Err(bad(format!("has `{host}` for a host"), hint));
    }
    Ok(Target::Host(host.to_owned(), port))
}

fn request_path(text: &str) -> Result<String, BadUnit> {
    if text.contains('#') {
        return Err(bad(
            "has a `#`, which is never sent",
            "end the address before the `#`",
        ));
    }
    if let Some(char) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(bad(
            format!("has `{char}` in its path"),
            "write it percent-encoded, a space for example as %20",
        ));
    }
    Ok(if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("/{text}")
    })
}

/// Whether a text can be a header's name, by RFC 9110.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_http() {
        let host = |name: &str, port| Target::Host(name.to_owned(), port);
        for (text, scheme, tls, target, path) in [
            (":80", None, false, Target::Own(80), "/"),
            (
                ":80/healthz?a=b",
                None,
                false,
                Target::Own(80),
                "/healthz?a=b",
            ),
            (":80?a", None, false, Target::Own(80), "/?a"),
            (":443/", Some("https"), true, Target::Own(443), "/"),
            ("https://:443/x", None, true, Target::Own(443), "/x"),
            ("http://a", None, false, host("a", 80), "/"),
            (
                "https://a.example/x",
                Some("https"),
                true,
                host("a.example", 443),
                "/x",
            ),
            (
                "http://127.0.0.1:8080/",
                None,
                false,
                host("127.0.0.1", 8080),
                "/",
            ),
            ("http://[::1]:8080/", None, false, host("::1", 8080), "/"),
            ("http://[::1]", None, false, host("::1", 80), "/"),
            (
                "http://unix:/run/app.sock:/x",
                None,
                false,
                Target::Unix("/run/app.sock".into()),
                "/x",
            ),
            (
                "http://unix:/run/a",
                None,
                false,
                Target::Unix("/run/a".into()),
                "/",
            ),
        ] {
            let want = Http {
                tls,
                target,
                path: path.to_owned(),
            };
            assert_eq!(http(text, scheme), Ok(want), "{text}");
        }
    }

    #[test]
    fn bad_http() {
        for (text, scheme, why) in [
            ("", None, "names neither a port nor a scheme"),
            ("/healthz", None, "names neither a port nor a scheme"),
            ("localhost:80/", None, "names neither a port nor a scheme"),
            ("ftp://a", None, "has the unknown scheme `ftp`"),
            (
                "http://a",
                Some("https"),
                "and `scheme` contradict each other",
            ),
            (":0/", None, "has `0` for a port"),
            (":+1/", None, "has `+1` for a port"),
            (":99999/", None, "has `99999` for a port"),
            ("http:///x", None, "names no port"),
            ("http://u:p@h/", None, "has a user in it"),
            ("http://a b/", None, "has `a b` for a host"),
            ("http://::1/", None, "has `:` for a host"),
            ("http://[x]/", None, "has `[x]` for a host"),
            (":80/a b", None, "has ` ` in its path"),
            (":80/#x", None, "has a `#`, which is never sent"),
            ("http://unix:run", None, "has `run` for a socket"),
            ("https://unix:/run/a", None, "asks for TLS on a unix socket"),
        ] {
            assert_eq!(http(text, scheme).expect_err(text).why, why, "{text}");
        }
    }

    #[test]
    fn tcp_targets() {
        assert_eq!(tcp(":1883"), Ok(Target::Own(1883)));
        assert_eq!(tcp("plc.lan:502"), Ok(Target::Host("plc.lan".into(), 502)));
        assert_eq!(tcp("unix:/run/x"), Ok(Target::Unix("/run/x".into())));
        for text in ["", "1883", "a", ":0", "tcp://a:1", "a:1/x", "::1:5"] {
            assert!(tcp(text).is_err(), "{text}");
        }
    }
}
