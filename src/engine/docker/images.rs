//! The engine's images by name, except for how they get there.

use bollard::errors::Error;
use bollard::query_parameters::{RemoveImageOptionsBuilder, TagImageOptionsBuilder};

use super::super::EngineImage;
use super::answers::{Image, ListedImage};
use super::client::{Client, escaped};
use super::fault::{fault, status};
use crate::core::api::Fault;

/// One image by reference or ID.
pub(super) async fn image(client: &Client, reference: &str) -> Result<Option<EngineImage>, Fault> {
    match inspect(client, reference).await {
        Ok(found) => Ok(Some(engine_image(found))),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// One image as the engine tells it.
pub(super) async fn inspect(client: &Client, reference: &str) -> Result<Image, Error> {
    client
        .get(&format!("/images/{}/json", escaped(reference)))
        .await
}

/// Every image with a use of its own. The list does not tell layers, so each is looked at.
pub(super) async fn images(client: &Client) -> Result<Vec<EngineImage>, Fault> {
    let listed: Vec<ListedImage> = client.get("/images/json?all=false").await.map_err(fault)?;
    let mut all = Vec::new();
    for listed in listed {
        all.extend(image(client, &listed.id).await?);
    }
    Ok(all)
}

/// Points a reference at an image.
pub(super) async fn tag(client: &Client, id: &str, reference: &str) -> Result<(), Fault> {
    let Some((repository, tag)) = split(reference) else {
        return Err(Fault::Refused(format!(
            "{reference} names a digest, which no image can be tagged with"
        )));
    };
    let options = TagImageOptionsBuilder::new()
        .repo(repository)
        .tag(tag)
        .build();
    let tagged = client.bollard.tag_image(id, Some(options)).await;
    tagged.map_err(fault)
}

/// Removes a reference, or an image by ID that nothing uses; with `force` whatever names it.
pub(super) async fn remove(client: &Client, reference: &str, force: bool) -> Result<(), Fault> {
    let options = RemoveImageOptionsBuilder::new()
        .force(force)
        .noprune(false)
        .build();
    let removed = client
        .bollard
        .remove_image(reference, Some(options), None)
        .await;
    match removed {
        Ok(_) => Ok(()),
        Err(error) if status(&error) == Some(404) => Ok(()),
        Err(error) => Err(fault(error)),
    }
}

/// Podman leaves the algorithm out.
pub(super) fn full_id(id: String) -> String {
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        format!("sha256:{id}")
    } else {
        id
    }
}

fn engine_image(image: Image) -> EngineImage {
    let tags = image.repo_tags.unwrap_or_default();
    EngineImage {
        id: full_id(image.id.unwrap_or_default()),
        tags: tags
            .into_iter()
            .filter(|tag| tag != "<none>:<none>")
            .collect(),
        diff_ids: image
            .root_fs
            .and_then(|root| root.layers)
            .unwrap_or_default(),
        size: image
            .size
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0),
    }
}

/// Repository and tag; a colon before the last slash is a registry's port.
fn split(reference: &str) -> Option<(&str, &str)> {
    if reference.contains('@') {
        return None;
    }
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => Some((repository, tag)),
        _ => Some((reference, "latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let table = [
            ("app", Some(("app", "latest"))),
            ("app:1", Some(("app", "1"))),
            ("host:5000/a/b", Some(("host:5000/a/b", "latest"))),
            ("host:5000/a/b:c", Some(("host:5000/a/b", "c"))),
            ("app@sha256:00", None),
        ];
        for (reference, expected) in table {
            assert_eq!(split(reference), expected, "{reference}");
        }
    }

    #[test]
    fn ids() {
        let bare = "0123456789abcdef".repeat(4);
        let full = format!("sha256:{bare}");
        assert_eq!(full_id(bare), full);
        assert_eq!(full_id(full.clone()), full);
        assert_eq!(full_id("app:1".to_owned()), "app:1");
    }
}
