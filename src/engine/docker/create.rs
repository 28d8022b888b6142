//! Making a container, and the network and volumes that it needs, once.

use std::collections::HashMap;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::super::{Identity, Made, label, volume_name};
use super::answers::{Image, Volume};
use super::body::{self, Context};
use super::client::{Client, escaped};
use super::fault::{fault, status};
use super::{images, inspect, network};
use crate::core::api::Fault;
use crate::spec::types::{Container, Health, MountSource, Network};

/// Makes the container and nothing more: all that may be refused is tried before it exists.
pub(super) async fn create(
    client: &Client,
    container: &Container,
    image_id: &str,
    identity: &Identity,
) -> Result<Made, Fault> {
    let image = match images::inspect(client, image_id).await {
        Ok(image) => image,
        Err(error) if status(&error) == Some(404) => {
            return Err(Fault::ImageMissing(format!(
                "the engine does not have the image {} any more ({image_id})",
                container.image
            )));
        }
        Err(error) => return Err(fault(error)),
    };
    let image_id = images::full_id(image.id.clone().unwrap_or_default());
    let health = image_health(&image);
    let sibling = match &container.network {
        Network::Container(role) => inspect::sibling(client, identity, role).await?,
        Network::Private => {
            network::ensure(client, identity).await?;
            None
        }
        Network::Host | Network::None => None,
    };
    // Asked only where the answer can matter.
    let cgroup_driver = if identity.node == "/" {
        inspect::info(client).await?.cgroup_driver
    } else {
        String::new()
    };
    let body = body::body(
        container,
        identity,
        &Context {
            image_id: &image_id,
            health: health.as_ref(),
            sibling: sibling.as_deref(),
            cgroup_driver: &cgroup_driver,
        },
    )?;
    for mount in &container.volumes {
        if let MountSource::Volume(name) = &mount.source {
            volume(client, identity, &volume_name(&identity.workload, name)).await?;
        }
    }
    let name = body::container_name(container, identity);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let made = client.bollard.create_container(Some(options), body).await;
    match made {
        Ok(created) => Ok(Made {
            id: created.id,
            image_id,
            image_health: health,
        }),
        Err(error) => Err(match (status(&error), fault(error)) {
            (Some(409), Fault::Refused(message)) => Fault::Conflict(message),
            // Between the look and the create, somebody has removed it.
            (Some(404), Fault::NotFound(message)) if message.contains("No such image") => {
                Fault::ImageMissing(message)
            }
            (Some(404), Fault::NotFound(message)) => Fault::Refused(message),
            (_, other) => other,
        }),
    }
}

fn image_health(image: &Image) -> Option<Health> {
    let config = image.config.as_ref()?;
    body::health(config.healthcheck.as_ref()?, config.shell.as_deref())
}

/// A named volume, made if it is not there, so that it carries our label.
async fn volume(client: &Client, identity: &Identity, name: &str) -> Result<(), Fault> {
    match client
        .get::<Volume>(&format!("/volumes/{}", escaped(name)))
        .await
    {
        Ok(volume) => ours("volume", name, volume.labels.as_ref(), identity),
        Err(error) if status(&error) == Some(404) => {
            let request = VolumeCreateRequest {
                name: Some(name.to_owned()),
                labels: Some(labels(identity)),
                ..VolumeCreateRequest::default()
            };
            client.bollard.create_volume(request).await.map_err(fault)?;
            Ok(())
        }
        Err(error) => Err(fault(error)),
    }
}

/// What says whose a network or volume is.
pub(super) fn labels(identity: &Identity) -> HashMap<String, String> {
    HashMap::from([
        (label::NODE.to_owned(), identity.node.clone()),
        (label::WORKLOAD.to_owned(), identity.workload.clone()),
    ])
}

/// Whether what carries these labels is this node's.
pub(super) fn ours(
    what: &str,
    name: &str,
    labels: Option<&HashMap<String, String>>,
    identity: &Identity,
) -> Result<(), Fault> {
    match labels.and_then(|labels| labels.get(label::NODE)) {
        Some(node) if *node == identity.node => Ok(()),
        Some(node) => Err(Fault::Refused(format!(
            "the {what} {name} belongs to the monopod of {node}; give the workload another name"
        ))),
        None => Err(Fault::Refused(format!(
            "the {what} {name} exists and was not made by monopod; \
             remove it (docker {what} rm {name}) or give the workload another name"
        ))),
    }
}
