//! OCI image layouts, in an archive or a folder.
//!
//! `index.json` leads to manifests, perhaps by way of nested indexes with one manifest for each
//! platform. Attestations (platform unknown/unknown) are no images and are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::catalogue::{Catalogue, blob_path};
use super::digest::Digest;
use super::documents::{
    DOCKER_CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, IMAGE_NAME, Index, LAYER_TYPES,
    Layout, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Platform, REF_NAME, Versioned,
};
use super::error::{Fault, shown};
use super::plan::{self, Machine, PlannedImage, PlannedLayer};
use super::{json, limits};

/// Everything that `index.json` leads to.
pub(super) struct Graph {
    /// The entries of `index.json`: their full name, if any, and the manifests behind them.
    entries: Vec<(Option<String>, Vec<Candidate>)>,
    manifests: BTreeMap<Digest, Node>,
    /// Every blob that is named, there or not.
    named: BTreeSet<Digest>,
}

/// A manifest that may be the one.
#[derive(Clone)]
struct Candidate {
    digest: Digest,
    platform: Option<Platform>,
}

struct Node {
    config: Digest,
    layers: Vec<(Digest, u64)>,
    /// Why it cannot be imported.
    problem: Option<String>,
}

impl Graph {
    /// Whether a blob is named.
    pub fn names(&self, digest: &Digest) -> bool {
        self.named.contains(digest)
    }

    /// Full names with the configs that they may stand for, as far as manifests are there.
    pub fn names_of_configs(&self) -> impl Iterator<Item = (&str, Vec<Digest>)> {
        self.entries.iter().filter_map(|(name, candidates)| {
            let configs = candidates
                .iter()
                .filter_map(|candidate| Some(self.manifests.get(&candidate.digest)?.config));
            Some((name.as_deref()?, configs.collect()))
        })
    }

    /// The manifest with this config and these layers.
    pub fn manifest_of(&self, config: &Digest, layers: &[PlannedLayer]) -> Option<Digest> {
        let fits = |node: &Node| {
            node.config == *config
                && node.problem.is_none()
                && node.layers.len() == layers.len()
                && node
                    .layers
                    .iter()
                    .zip(layers)
                    .all(|((digest, _), layer)| layer.raw == Some(*digest))
        };
        self.manifests
            .iter()
            .find(|(_, node)| fits(node))
            .map(|(digest, _)| *digest)
    }
}

/// Plans the import of an OCI layout.
pub(super) fn plan(
    catalogue: &Catalogue,
    machine: &Machine<'_>,
) -> Result<Vec<PlannedImage>, Fault> {
    let layout: Layout = json::parse(&catalogue.document("oci-layout")?)
        .map_err(|reason| Fault::member("oci-layout", reason))?;
    if !layout.version.starts_with("1.") {
        return Err(Fault::member(
            "oci-layout",
            format!("layout version {} is not supported", shown(&layout.version)),
        ));
    }
    let graph = read(catalogue)?;
    plan::check_members(catalogue, |name, _| {
        matches!(name, "oci-layout" | "index.json")
            || super::catalogue::blob_name(name).is_some_and(|digest| graph.names(&digest))
    })?;

    // Entries of one name are one image for several platforms.
    let mut groups: Vec<(Option<&str>, Vec<Candidate>)> = Vec::new();
    for (name, candidates) in &graph.entries {
        let name = name.as_deref();
        let alone = name.is_none()
            && candidates
                .iter()
                .any(|candidate| candidate.platform.is_none());
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if !alone => known.extend(candidates.iter().cloned()),
            _ => groups.push((name, candidates.clone())),
        }
    }
    let mut images = Vec::new();
    for (name, candidates) in groups {
        if candidates.is_empty() {
            continue;
        }
        let digest = choose(name, candidates, machine)?;
        images.push(planned(catalogue, &graph, name, digest, machine)?);
    }
    plan::merge(images)
}

/// Reads `index.json` and every manifest that it leads to, as far as they are in the archive.
pub(super) fn read(catalogue: &Catalogue) -> Result<Graph, Fault> {
    let mut graph = Graph {
        entries: Vec::new(),
        manifests: BTreeMap::new(),
        named: BTreeSet::new(),
    };
    let index: Index = json::parse(&catalogue.document("index.json")?)
        .map_err(|reason| Fault::member("index.json", reason))?;
    if index.schema_version != 2 {
        return Err(Fault::member("index.json", "its schemaVersion is not 2"));
    }
    if index.manifests.len() > limits::IMAGES {
        return Err(Fault::member(
            "index.json",
            format!("it names more than {} images", limits::IMAGES),
        ));
    }
    for entry in &index.manifests {
        let mut candidates = Vec::new();
        descend(
            catalogue,
            &mut graph,
            entry,
            "index.json",
            0,
            &mut candidates,
        )?;
        graph.entries.push((full_name(entry)?, candidates));
    }
    Ok(graph)
}

/// The full name in an entry's annotations. A bare tag is none.
fn full_name(entry: &Descriptor) -> Result<Option<String>, Fault> {
    let name = entry.annotation(IMAGE_NAME).or_else(|| {
        entry
            .annotation(REF_NAME)
            .filter(|name| name.contains(['/', ':']))
    });
    name.map(|name| plan::name(name, "index.json")).transpose()
}

fn descend(
    catalogue: &Catalogue,
    graph: &mut Graph,
    entry: &Descriptor,
    whose: &str,
    depth: usize,
    candidates: &mut Vec<Candidate>,
) -> Result<(), Fault> {
    let platform = entry.platform.clone();
    let attestation = platform
        .as_ref()
        .is_some_and(|platform| platform.architecture == "unknown" && platform.os == "unknown");
    let nested = match entry.media_type.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        OCI_INDEX | DOCKER_INDEX => true,
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => {
            return Err(Fault::member(
                whose,
                "it names a manifest of schema version 1, which is too old",
            ));
        }
        other => {
            return Err(Fault::member(
                whose,
                format!("it names something of media type {}", shown(other)),
            ));
        }
    };
    let seen = !graph.named.insert(entry.digest);
    let member = blob_path(&entry.digest);
    let size = catalogue.size(&member);
    if size.is_some_and(|size| size != entry.size) {
        return Err(Fault::member(
            &member,
            format!("it should have {} bytes", entry.size),
        ));
    }
    if nested {
        if depth >= limits::INDEX_DEPTH || seen {
            return Err(Fault::member(
                &member,
                "indexes nest too deep or in circles",
            ));
        }
        let index: Index = json::parse(&catalogue.blob(&entry.digest)?)
            .map_err(|reason| Fault::member(&member, reason))?;
        same_type(index.media_type.as_deref(), entry, &member)?;
        if index.manifests.len() > limits::IMAGES {
            return Err(Fault::member(
                &member,
                format!("it names more than {} images", limits::IMAGES),
            ));
        }
        for inner in &index.manifests {
            descend(catalogue, graph, inner, &member, depth + 1, candidates)?;
        }
        return Ok(());
    }
    // Other platforms of an index are often left out of an archive.
    if size.is_some() && !graph.manifests.contains_key(&entry.digest) {
        if graph.manifests.len() >= limits::IMAGES {
            return Err(Fault::archive(format!(
                "it has more than {} images",
                limits::IMAGES
            )));
        }
        let node = manifest(catalogue, graph, entry, &member)?;
        graph.manifests.insert(entry.digest, node);
    }
    if !attestation && !candidates.iter().any(|known| known.digest == entry.digest) {
        candidates.push(Candidate {
            digest: entry.digest,
            platform,
        });
    }
    Ok(())
}

fn same_type(found: Option<&str>, entry: &Descriptor, member: &str) -> Result<(), Fault> {
    if found.is_none_or(|found| found == entry.media_type) {
        return Ok(());
    }
    Err(Fault::member(
        member,
        format!("its media type is not {}", entry.media_type),
    ))
}

fn manifest(
    catalogue: &Catalogue,
    graph: &mut Graph,
    entry: &Descriptor,
    member: &str,
) -> Result<Node, Fault> {
    let bytes = catalogue.blob(&entry.digest)?;
    let refuse = |reason: String| Fault::member(member, reason);
    let version: Versioned = json::parse(&bytes).map_err(refuse)?;
    if version.schema_version == 1 {
        return Err(refuse(
            "it is a manifest of schema version 1, which is too old".to_owned(),
        ));
    }
    let manifest: Manifest = json::parse(&bytes).map_err(refuse)?;
    if manifest.schema_version != 2 {
        return Err(refuse("its schemaVersion is not 2".to_owned()));
    }
    same_type(manifest.media_type.as_deref(), entry, member)?;
    graph.named.insert(manifest.config.digest);
    graph
        .named
        .extend(manifest.layers.iter().map(|layer| layer.digest));
    Ok(Node {
        problem: problem(&manifest),
        config: manifest.config.digest,
        layers: manifest
            .layers
            .into_iter()
            .map(|layer| (layer.digest, layer.size))
            .collect(),
    })
}

/// Why an image with this manifest cannot be imported.
fn problem(manifest: &Manifest) -> Option<String> {
    if !matches!(
        manifest.config.media_type.as_str(),
        OCI_CONFIG | DOCKER_CONFIG
    ) {
        return Some(format!(
            "its config has media type {}: no container image",
            shown(&manifest.config.media_type)
        ));
    }
    manifest.layers.iter().find_map(|layer| {
        let media_type = shown(&layer.media_type);
        if media_type.contains("encrypted") {
            Some(format!("layer {} is encrypted", layer.digest))
        } else if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || media_type.contains("foreign")
            || media_type.contains("nondistributable")
        {
            Some(format!(
                "layer {} is a foreign one, to be had elsewhere",
                layer.digest
            ))
        } else if LAYER_TYPES.contains(&layer.media_type.as_str()) {
            None
        } else {
            Some(format!(
                "layer {} has media type {media_type}, which is not supported",
                layer.digest
            ))
        }
    })
}

/// The one manifest of a name that fits this machine.
fn choose(
    name: Option<&str>,
    mut candidates: Vec<Candidate>,
    machine: &Machine<'_>,
) -> Result<Digest, Fault> {
    candidates.sort_by_key(|candidate| candidate.digest);
    candidates.dedup_by_key(|candidate| candidate.digest);
    if let [only] = candidates.as_slice() {
        // Its config tells what it is for.
        return Ok(only.digest);
    }
    let name = name.unwrap_or("an image without a name");
    let offered: Vec<String> = candidates
        .iter()
        .filter_map(|candidate| Some(shown(&candidate.platform.as_ref()?.architecture)))
        .take(8)
        .collect();
    let rank = |candidate: &Candidate| machine.rank(candidate.platform.as_ref()?);
    candidates.retain(|candidate| rank(candidate).is_some());
    candidates.sort_by_key(|candidate| rank(candidate));
    match candidates.as_slice() {
        [] if offered.is_empty() => Err(Fault::archive(format!(
            "it gives the name {name} to two images"
        ))),
        [] => Err(Fault::archive(format!(
            "it has {name} for {}, this machine is {}",
            offered.join(", "),
            machine.architectures.join(" or ")
        ))),
        [first, second, ..] if rank(first) == rank(second) => Err(Fault::archive(format!(
            "it has {name} twice for the same platform"
        ))),
        [first, ..] => Ok(first.digest),
    }
}

fn planned(
    catalogue: &Catalogue,
    graph: &Graph,
    name: Option<&str>,
    digest: Digest,
    machine: &Machine<'_>,
) -> Result<PlannedImage, Fault> {
    let member = blob_path(&digest);
    let node = graph
        .manifests
        .get(&digest)
        .ok_or_else(|| Fault::member(&member, "it is missing"))?;
    if let Some(problem) = &node.problem {
        return Err(Fault::member(&member, problem.clone()));
    }
    let config_member = blob_path(&node.config);
    let config = catalogue.blob(&node.config)?;
    let (config, diff_ids) = plan::read_config(&config, &config_member, machine)?;
    if diff_ids.len() != node.layers.len() {
        return Err(Fault::member(
            &member,
            format!(
                "it has {} layers and its config has {}",
                node.layers.len(),
                diff_ids.len()
            ),
        ));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for ((digest, size), diff_id) in node.layers.iter().zip(diff_ids) {
        let layer = blob_path(digest);
        match catalogue.size(&layer) {
            None => {
                return Err(Fault::member(
                    &layer,
                    "a manifest names this layer and it is missing",
                ));
            }
            Some(found) if found != *size => {
                return Err(Fault::member(
                    &layer,
                    format!("it should have {size} bytes and has {found}"),
                ));
            }
            Some(_) => layers.push(PlannedLayer {
                member: Rc::from(layer),
                diff_id,
                raw: Some(*digest),
            }),
        }
    }
    Ok(PlannedImage {
        references: name.map(str::to_owned).into_iter().collect(),
        config_member,
        config: node.config,
        layers,
        manifest: Some(digest),
        platform: plan::platform(&config),
    })
}
