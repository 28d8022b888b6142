//! Where a volume's data is, for who copies it. Looks, and changes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::label;
use super::answers::{MountPoint, Volume};
use super::client::{Client, escaped};
use super::fault::{fault, status};
use super::inspect;
use crate::core::api::Fault;

/// The folder with a volume's data, if the volume is this node's, plain, and not in use; `None` if it is not there.
pub(super) async fn folder(
    client: &Client,
    node: &str,
    name: &str,
) -> Result<Option<PathBuf>, Fault> {
    let path = format!("/volumes/{}", escaped(name));
    let volume: Volume = match client.get(&path).await {
        Ok(volume) => volume,
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let data_root = inspect::info(client).await?.data_root;
    let folder = place(&volume, node, name, Path::new(&data_root)).map_err(Fault::Refused)?;
    let users = inspect::users(client, name).await?;
    let mounted = |mount: &MountPoint| mount.name.as_deref() == Some(name);
    let user = users.into_iter().find(|user| {
        let mounts = user.mounts.as_ref();
        mounts.is_none_or(|mounts| mounts.iter().any(mounted))
    });
    match user {
        None => Ok(Some(folder)),
        Some(user) => {
            let names = user.names.unwrap_or_default();
            let user = names
                .first()
                .map_or("a container", |name| name.trim_start_matches('/'));
            Err(Fault::Refused(format!(
                "{user} runs with the volume {name}; stop it first"
            )))
        }
    }
}

/// The folder that such a volume must have.
fn place(volume: &Volume, node: &str, name: &str, data_root: &Path) -> Result<PathBuf, String> {
    let labels = volume.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(label::NODE))
        .map(String::as_str)
        != Some(node)
    {
        return Err(format!(
            "the volume {name} was not made by the monopod of {node}"
        ));
    }
    let options = volume.options.as_ref().map_or(0, HashMap::len);
    if volume.driver != "local" || options > 0 {
        return Err(format!(
            "the volume {name} is not a plain one of the engine's own (driver {}, with {options} options): \
             only those are copied; set snapshot = false for it",
            volume.driver
        ));
    }
    let folder = data_root.join("volumes").join(name).join("_data");
    if volume.name == name && data_root.is_absolute() && Path::new(&volume.mountpoint) == folder {
        return Ok(folder);
    }
    Err(format!(
        "the volume {name} is in {}, and not where the engine's volumes are ({})",
        volume.mountpoint,
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Volume);

    #[test]
    fn only_plain_volumes_of_this_node_have_a_folder() {
        let good = Volume {
            name: "w-data".to_owned(),
            driver: "local".to_owned(),
            mountpoint: "/var/lib/docker/volumes/w-data/_data".to_owned(),
            labels: Some(HashMap::from([(label::NODE.to_owned(), "/".to_owned())])),
            ..Volume::default()
        };
        let table: [(Change, &str); 8] = [
            (|_| {}, ""),
            (|v| v.labels = None, "not made by the monopod of /"),
            (
                |v| {
                    let node = (label::NODE.to_owned(), "/other".to_owned());
                    v.labels = Some(HashMap::from([node]));
                },
                "not made by",
            ),
            (|v| v.driver = "nfs".to_owned(), "snapshot = false"),
            (
                |v| {
                    let option = ("type".to_owned(), "none".to_owned());
                    v.options = Some(HashMap::from([option]));
                },
                "with 1 options",
            ),
            (|v| v.mountpoint = "/etc".to_owned(), "is in /etc"),
            (
                |v| v.mountpoint = "/var/lib/docker/volumes/../../_data".to_owned(),
                "not where",
            ),
            (|v| v.name = "w-other".to_owned(), "not where"),
        ];
        for (change, refused) in table {
            let mut volume = good.clone();
            change(&mut volume);
            match place(&volume, "/", "w-data", Path::new("/var/lib/docker")) {
                Ok(folder) => assert_eq!((folder, refused), (good.mountpoint.clone().into(), "")),
                Err(text) => assert!(!refused.is_empty() && text.contains(refused), "{text}"),
            }
        }
        assert!(place(&good, "/", "w-data", Path::new("")).is_err());
    }
}
