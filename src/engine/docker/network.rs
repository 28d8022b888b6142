//! The workload's own bridge: one of it, whoever asked the engine for it and was killed meanwhile.
//!
//! Old engines (20.10) make two networks of one name if asked twice at once, and refuse all that
//! names them from then on. It must never remove a network that monopod did not make or that is in use.

use bollard::models::NetworkCreateRequest;

use super::super::{Identity, label};
use super::answers::Network;
use super::body;
use super::client::{self, Client};
use super::create::{labels, ours};
use super::fault::{fault, status};
use crate::core::api::Fault;

/// Makes the network if it is not there, and makes one of several.
pub(super) async fn ensure(client: &Client, identity: &Identity) -> Result<(), Fault> {
    let name = body::network_name(identity);
    let mut found = named(client, &name).await?;
    if found.is_empty() {
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(labels(identity)),
            ..NetworkCreateRequest::default()
        };
        // The request of a daemon that was killed may be done at the same time: then there are two
        // now, or a newer engine says that there is one.
        match client.bollard.create_network(request).await {
            Err(error) if status(&error) == Some(409) => {}
            other => other.map(|_| ()).map_err(fault)?,
        }
        found = named(client, &name).await?;
    }
    for network in &found {
        ours("network", &name, network.labels.as_ref(), identity)?;
    }
    one_of(client, &name, found).await
}

/// Makes one of several networks of monopod's under the name that a container refers to.
///
/// Returns whether there were several.
pub(super) async fn settle(client: &Client, name: &str) -> Result<bool, Fault> {
    let found = named(client, name).await?;
    let strange = |network: &Network| {
        let labels = network.labels.as_ref();
        labels.is_none_or(|labels| !labels.contains_key(label::NODE))
    };
    if found.len() < 2 || found.iter().any(strange) {
        return Ok(false);
    }
    one_of(client, name, found).await.map(|()| true)
}

/// The networks of exactly this name, oldest first.
async fn named(client: &Client, name: &str) -> Result<Vec<Network>, Fault> {
    let filters = client::filters("name", &[name.to_owned()]);
    let path = format!("/networks?filters={filters}");
    let listed: Vec<Network> = client.get(&path).await.map_err(fault)?;
    // The engine's filter takes names that only contain this one too.
    let mut found: Vec<Network> = listed
        .into_iter()
        .filter(|network| network.name.as_deref() == Some(name))
        .collect();
    found.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    Ok(found)
}

/// Removes all but one: the oldest, unless a younger one is in use.
async fn one_of(client: &Client, name: &str, found: Vec<Network>) -> Result<(), Fault> {
    let mut left = found.len();
    for network in found.iter().rev() {
        if left == 1 {
            break;
        }
        match client
            .bollard
            .remove_network(network.id.as_deref().unwrap_or_default())
            .await
        {
            Ok(()) => left -= 1,
            Err(error) if status(&error) == Some(404) => left -= 1,
            // In use.
            Err(error) if status(&error) == Some(403) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    if left > 1 {
        return Err(Fault::Refused(format!(
            "the engine has {left} networks called {name}, all in use; remove the containers on all but one of them"
        )));
    }
    Ok(())
}
