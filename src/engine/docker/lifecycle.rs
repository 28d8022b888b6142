//! Starting, stopping and removing one container.

use std::time::Duration;

use bollard::query_parameters::{RemoveContainerOptionsBuilder, StopContainerOptionsBuilder};

use super::body::whole_seconds;
use super::client::Client;
use super::fault::{fault, status};
use super::{inspect, network};
use crate::core::api::{Fault, Running, SeenState};

/// Starts a container, or finds that it runs already.
pub(super) async fn start(client: &Client, id: &str) -> Result<Running, Fault> {
    if let Err(error) = client.bollard.start_container(id, None).await {
        let refused = status(&error).is_some();
        if !refused || !one_network(client, id).await? {
            return Err(fault(error));
        }
        let again = client.bollard.start_container(id, None).await;
        again.map_err(fault)?;
    }
    let inspected = inspect::inspect(client, id).await.map_err(fault)?;
    Ok(match inspect::state(client, &inspected).await? {
        SeenState::Running(running) => running,
        // It has ended since: there is no such process, and whoever looks for it sees that it is gone.
        SeenState::Exited { .. } | SeenState::Created => Running {
            pid: 0,
            address: None,
        },
    })
}

/// Whether the container's network had a double that kept it from starting, and has none now.
async fn one_network(client: &Client, id: &str) -> Result<bool, Fault> {
    let inspected = inspect::inspect(client, id).await.map_err(fault)?;
    network::settle(client, inspect::network_mode(&inspected)).await
}

/// Asks a container to end, and has the engine kill it after `grace`, rounded up to seconds.
pub(super) async fn stop(client: &Client, id: &str, grace: Duration) -> Result<(), Fault> {
    let options = StopContainerOptionsBuilder::new()
        .t(whole_seconds(grace))
        .build();
    gone_is_fine(client.bollard.stop_container(id, Some(options)).await)
}

/// Removes a container that does not run, with its anonymous volumes.
pub(super) async fn remove(client: &Client, id: &str) -> Result<(), Fault> {
    let options = RemoveContainerOptionsBuilder::new()
        .v(true)
        .force(false)
        .build();
    gone_is_fine(client.bollard.remove_container(id, Some(options)).await)
}

fn gone_is_fine(answer: Result<(), bollard::errors::Error>) -> Result<(), Fault> {
    match answer {
        Err(error) if status(&error) == Some(404) => Ok(()),
        other => other.map_err(fault),
    }
}
