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
}
