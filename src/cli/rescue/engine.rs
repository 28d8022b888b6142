//! Which engine the daemon speaks to, as root finds out without believing the daemon.

use std::path::PathBuf;

use crate::engine;
use crate::exit::Exit;
use crate::spec::types::Node;
use crate::systemd::BusAddress;
use crate::systemd::manager::{self, Environment};

/// Whose engine it is.
const DAEMON: &str = "monopod.service";

/// What helps where the engine's unit cannot be told.
const NAME_IT: &str = "name the unit in node.toml: [engine] unit = \"...service\"";

/// The unit of the daemon's engine: as node.toml names it, or by the socket that the daemon speaks to.
pub async fn unit(node: &Node, address: &BusAddress) -> Result<String, (Exit, String)> {
    let socket = if node.engine_unit.is_some() {
        engine::socket(node, None).map_err(|text| (Exit::Invalid, text))?
    } else {
        socket(node, address, NAME_IT).await?
    };
    engine::unit(node, &socket).ok_or_else(|| {
        let text = format!(
            "nothing tells which unit listens on {}; {NAME_IT}",
            socket.display()
        );
        (Exit::Invalid, text)
    })
}

/// The socket that the daemon speaks to: as node.toml names it, or the environment of its unit. `advice` helps where
/// that cannot be told.
pub async fn socket(
    node: &Node,
    address: &BusAddress,
    advice: &str,
) -> Result<PathBuf, (Exit, String)> {
    let host = if node.engine_socket.is_some() {
        None
    } else {
        let environment = manager::environment(address, DAEMON).await;
        let environment = environment.map_err(|error| (super::exit(&error), error.to_string()))?;
        docker_host(&environment, advice).map_err(|text| (Exit::Invalid, text))?
    };
    engine::socket(node, host.as_deref()).map_err(|text| (Exit::Invalid, text))
}

/// `DOCKER_HOST` as the daemon has it: of its unit, or of all that systemd starts.
fn docker_host(environment: &Environment, advice: &str) -> Result<Option<String>, String> {
    // They may name it as well, and are not for root to parse.
    if !environment.files.is_empty() {
        return Err(format!(
            "{DAEMON} has an EnvironmentFile=, which may name another engine; {advice}"
        ));
    }
    let own = environment.variables.iter().rev();
    Ok(own
        .filter_map(|variable| variable.strip_prefix("DOCKER_HOST="))
        .map(str::to_owned)
        .next()
        .or_else(|| std::env::var("DOCKER_HOST").ok()))
}
