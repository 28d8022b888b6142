//! `docker save` archives, of every age, and what podman, skopeo, buildx and others write like them.
//!
//! `manifest.json` says which member is which, and it alone decides: Docker 25 and 26 write an OCI
//! `index.json` beside it whose manifests describe layers as a registry had them, not as they are in
//! the archive. Until Docker 24 a layer is `ID/layer.tar` with `ID/json` and `ID/VERSION` beside it,
//! or a link to the same layer under another ID; since 25 it is a blob, and some versions add a
//! small blob with the old JSON of each layer, which nothing names.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::catalogue::{Catalogue, Member, blob_name};
use super::digest::Digest;
use super::documents::SavedImage;
use super::error::{Fault, shown};
use super::plan::{self, Machine, PlannedImage, PlannedLayer};
use super::{archive, json, limits, oci};

const MANIFEST: &str = "manifest.json";

/// Plans the import of an archive with a `manifest.json`.
pub(super) fn plan(
    catalogue: &Catalogue,
    machine: &Machine<'_>,
) -> Result<Vec<PlannedImage>, Fault> {
    let saved: Vec<SavedImage> = json::parse(&catalogue.document(MANIFEST)?)
        .map_err(|reason| Fault::member(MANIFEST, reason))?;
    if saved.is_empty() {
        return Err(Fault::member(MANIFEST, "it names no image"));
    }
    if saved.len() > limits::IMAGES {
        return Err(Fault::member(
            MANIFEST,
            format!("it names more than {} images", limits::IMAGES),
        ));
    }
    let mut used = BTreeSet::new();
    let mut images = Vec::new();
    for image in saved {
        images.push(planned(catalogue, image, machine, &mut used)?);
    }
    let graph = match catalogue.get("index.json") {
        Some(_) => Some(oci::read(catalogue)?),
        None => None,
    };
    if let Some(graph) = &graph {
        agree(&mut images, graph)?;
    }
    plan::check_members(catalogue, |name, member| match name {
        MANIFEST | "repositories" => matches!(member, Member::Here { .. }),
        "index.json" | "oci-layout" => graph.is_some(),
        _ => {
            used.contains(name)
                || legacy(catalogue, name, member, &used)
                || in_graph(graph.as_ref(), name)
        }
    })?;
    for name in catalogue.members().keys() {
        if let Some(digest) = blob_name(name)
            && !used.contains(name)
            && !in_graph(graph.as_ref(), name)
        {
            legacy_config(catalogue, name, &digest)?;
        }
    }
    plan::merge(images)
}

fn planned(
    catalogue: &Catalogue,
    saved: SavedImage,
    machine: &Machine<'_>,
    used: &mut BTreeSet<Rc<str>>,
) -> Result<PlannedImage, Fault> {
    let config_member = named(&saved.config)?;
    let bytes = catalogue.document(&config_member)?;
    let config = Digest::of(&bytes);
    if stated_config(&config_member).is_some_and(|stated| stated != config) {
        return Err(Fault::member(
            &config_member,
            format!("its content has the digest {config}, not what its name says"),
        ));
    }
    let (document, diff_ids) = plan::read_config(&bytes, &config_member, machine)?;
    let names = saved.layers.unwrap_or_default();
    if names.len() != diff_ids.len() {
        return Err(Fault::member(
            MANIFEST,
            format!(
                "it gives an image {} layers and the config {} gives it {}",
                names.len(),
                shown(&config_member),
                diff_ids.len()
            ),
        ));
    }
    let mut layers = Vec::with_capacity(names.len());
    for (name, diff_id) in names.iter().zip(diff_ids) {
        let name = named(name)?;
        let member = match catalogue.get(&name) {
            Some(Member::Link(target)) => {
                used.insert(Rc::from(name.as_str()));
                target
            }
            _ => name,
        };
        if catalogue.size(&member).is_none() {
            return Err(Fault::member(
                &member,
                "manifest.json names this layer and it is missing",
            ));
        }
        let member: Rc<str> = Rc::from(member);
        used.insert(Rc::clone(&member));
        layers.push(PlannedLayer {
            raw: blob_name(&member),
            member,
            diff_id,
        });
    }
    let references = saved.repo_tags.unwrap_or_default();
    let references = references
        .iter()
        .map(|name| plan::name(name, MANIFEST))
        .collect::<Result<_, _>>()?;
    used.insert(Rc::from(config_member.as_str()));
    Ok(PlannedImage {
        references,
        config,
        layers,
        manifest: None,
        platform: plan::platform(&document),
        config_member,
    })
}

/// A member's name as manifest.json gives it.
fn named(name: &str) -> Result<String, Fault> {
    match archive::clean(name) {
        Ok(clean) if !clean.is_empty() => Ok(clean),
        Ok(_) => Err(Fault::member(MANIFEST, "it names a member without a name")),
        Err(reason) => Err(Fault::member(
            MANIFEST,
            format!("it names a member {}: {reason}", shown(name)),
        )),
    }
}

/// The digest that a config's name states: `HEX.json`, `blobs/sha256/HEX`, `sha256:HEX`.
fn stated_config(name: &str) -> Option<Digest> {
    blob_name(name)
        .or_else(|| Digest::from_hex(name.strip_suffix(".json")?))
        .or_else(|| Digest::from_hex(name.strip_prefix("sha256:")?))
}

/// `index.json` must not say anything else of a name; it may know names and manifests that are missing.
fn agree(images: &mut [PlannedImage], graph: &oci::Graph) -> Result<(), Fault> {
    for (name, configs) in graph.names_of_configs() {
        for image in &mut *images {
            let same = configs.contains(&image.config);
            let has = image.references.iter().any(|known| known == name);
            if has && !same && !configs.is_empty() {
                return Err(Fault::archive(format!(
                    "its manifest.json and its index.json name two different images {name}"
                )));
            }
            if same && image.references.is_empty() {
                image.references.push(name.to_owned());
            }
        }
    }
    for image in images {
        image.manifest = graph.manifest_of(&image.config, &image.layers);
    }
    Ok(())
}

fn in_graph(graph: Option<&oci::Graph>, name: &str) -> bool {
    graph.is_some_and(|graph| blob_name(name).is_some_and(|digest| graph.names(&digest)))
}

/// The files that old versions of Docker add for still older ones.
fn legacy(catalogue: &Catalogue, name: &str, member: &Member, used: &BTreeSet<Rc<str>>) -> bool {
    match member {
        Member::Link(target) => used.contains(target.as_str()),
        Member::Here { .. } if blob_name(name).is_some() => true, // legacy_config() looks at it
        Member::Here { .. } => {
            let id = name
                .strip_suffix("/json")
                .or_else(|| name.strip_suffix("/VERSION"));
            id.is_some_and(|id| {
                let layer = format!("{id}/layer.tar");
                Digest::from_hex(id).is_some()
                    && (used.contains(layer.as_str())
                        || matches!(catalogue.get(&layer), Some(Member::Link(_))))
            })
        }
        Member::Folder | Member::Taken { .. } => false,
    }
}

/// A blob that nothing names must be the old JSON of a layer.
fn legacy_config(catalogue: &Catalogue, name: &str, digest: &Digest) -> Result<(), Fault> {
    #[derive(serde::Deserialize)]
    struct Old {
        id: String,
    }
    let unnamed = || Fault::member(name, "no manifest of the archive names it");
    if catalogue
        .size(name)
        .is_none_or(|size| size > limits::DOCUMENT)
    {
        return Err(unnamed());
    }
    let old: Old = serde_json::from_slice(&catalogue.blob(digest)?).map_err(|_| unnamed())?;
    Digest::from_hex(&old.id).map(drop).ok_or_else(unnamed)
}
