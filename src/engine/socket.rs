//! Which socket the engine listens on. Looks at nothing but what it is given.

use std::path::{Path, PathBuf};

use crate::spec::types::Node;

/// Where Docker listens if nobody says otherwise.
const USUAL: &str = "/var/run/docker.sock";

/// The engine's socket: `[engine] socket` of `node.toml`, else `DOCKER_HOST`, else the usual place.
///
/// # Errors
///
/// A sentence for people if `DOCKER_HOST` counts and is not a unix socket with an absolute path.
pub fn socket(node: &Node, docker_host: Option<&str>) -> Result<PathBuf, String> {
    if let Some(socket) = &node.engine_socket {
        return Ok(socket.clone());
    }
    match docker_host {
        None | Some("") => Ok(PathBuf::from(USUAL)),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if Path::new(path).is_absolute() => Ok(PathBuf::from(path)),
            _ => Err(format!(
                "DOCKER_HOST is {host:?}, and monopod speaks only to an engine of its own node; \
                 use unix:///PATH, or set [engine] socket in node.toml"
            )),
        },
    }
}

/// The systemd unit that listens on the engine's socket: `[engine] unit` of `node.toml`, else by the
/// socket's name; `None` where neither tells.
pub fn unit(node: &Node, socket: &Path) -> Option<String> {
    if let Some(unit) = &node.engine_unit {
        return Some(unit.clone());
    }
    let unit = match socket.file_name()?.to_str()? {
        "docker.sock" => "docker.service",
        "podman.sock" => "podman.service",
        "containerd.sock" => "containerd.service",
        _ => return None,
    };
    Some(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which() {
        let table = [
            (None, None, Ok("/var/run/docker.sock")),
            (None, Some(""), Ok("/var/run/docker.sock")),
            (None, Some("unix:///run/x.sock"), Ok("/run/x.sock")),
            (
                Some("/run/y.sock"),
                Some("tcp://far:2375"),
                Ok("/run/y.sock"),
            ),
            (None, Some("tcp://far:2375"), Err(())),
            (None, Some("ssh://far"), Err(())),
            (None, Some("unix://run/x.sock"), Err(())),
            (None, Some("/run/x.sock"), Err(())),
        ];
        for (file, host, expected) in table {
            let node = Node {
                engine_socket: file.map(PathBuf::from),
                ..Node::default()
            };
            let found = socket(&node, host);
            assert_eq!(
                found.as_deref().map_err(|_| ()),
                expected.map(Path::new),
                "{file:?} {host:?}"
            );
        }
    }

    #[test]
    fn which_unit() {
        let table = [
            (None, "/var/run/docker.sock", Some("docker.service")),
            (None, "/run/podman/podman.sock", Some("podman.service")),
            (
                None,
                "/run/containerd/containerd.sock",
                Some("containerd.service"),
            ),
            (None, "/run/x.sock", None),
            (None, "/", None),
            (Some("y.service"), "/run/docker.sock", Some("y.service")),
        ];
        for (named, socket, expected) in table {
            let node = Node {
                engine_unit: named.map(str::to_owned),
                ..Node::default()
            };
            let found = unit(&node, Path::new(socket));
            assert_eq!(found.as_deref(), expected, "{named:?} {socket}");
        }
    }
}
