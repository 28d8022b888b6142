//! The workload's images: in the store with all of their layers, in the engine, the same in both, and named by
//! more than `latest`.

use std::path::PathBuf;

use super::{Check, Finding, Machine, Run};
use crate::engine::Engine;

/// The check.
pub(super) const CHECK: Check = Check {
    id: "images",
    title: "the workload's images: in the store, in the engine, the same, and pinned",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let stored = std::sync::Arc::clone(&machine);
            let gathered = tokio::task::spawn_blocking(move || gather(&stored)).await;
            let mut facts = match gathered {
                Ok(Ok(Some(facts))) => facts,
                Ok(Ok(None)) => return Finding::skipped("there is no valid workload file"),
                Ok(Err(finding)) => return finding,
                Err(error) => return Finding::failure(format!("the check itself failed: {error}")),
            };
            if let Ok(docker) = machine.docker() {
                for image in &mut facts.images {
                    // One silence is enough: whether it answers at all is another check's.
                    let Ok(found) = docker.image(&image.reference).await else {
                        break;
                    };
                    image.engine =
                        found.map_or(InEngine::Absent, |found| InEngine::There(found.id));
                }
            }
            judge(&facts)
        })
    }),
};

/// What the store has of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    id: String,
    layers: bool,
    /// Its layers were dropped on purpose.
    dropped: bool,
    /// What of it was found damaged is told elsewhere.
    damaged: bool,
}

struct Image {
    reference: String,
    stored: Option<Stored>,
    engine: InEngine,
}

/// What the engine says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum InEngine {
    /// It was not asked, or did not answer.
    Unasked,
    Absent,
    /// With this ID.
    There(String),
}

struct Facts {
    images: Vec<Image>,
    /// What the store says of damaged images.
    damaged: Vec<String>,
    /// The preload folder.
    preload: PathBuf,
}

/// `None` without a workload.
fn gather(machine: &Machine) -> Result<Option<Facts>, Finding> {
    let Some(workload) = machine.workload() else {
        return Ok(None);
    };
    let denied = |error: &dyn std::fmt::Display| {
        Finding::skipped(format!("the store cannot be read: {error}; run as root"))
    };
    let store = machine.store().map_err(|error| denied(&error))?;
    let mut images: Vec<Image> = Vec::new();
    for container in workload.containers {
        if images
            .iter()
            .any(|image| image.reference == container.image)
        {
            continue;
        }
        let stored = match &store {
            Some(store) => store
                .resolve(&container.image)
                .map_err(|error| denied(&error))?,
            None => None,
        };
        images.push(Image {
            reference: container.image,
            stored: stored.map(|stored| Stored {
                damaged: (store.as_ref()).is_some_and(|store| store.damage(&stored).is_some()),
                id: stored.id(),
                layers: stored.layers_present,
                dropped: stored.dropped,
            }),
            engine: InEngine::Unasked,
        });
    }
    let damaged = store
        .and_then(|store| store.damaged().ok())
        .unwrap_or_default();
    let preload = machine.paths.preload();
    Ok(Some(Facts {
        images,
        damaged,
        preload,
    }))
}

fn judge(facts: &Facts) -> Finding {
    let mut found: Vec<Finding> = facts
        .damaged
        .iter()
        .map(|line| {
            Finding::warning(line.clone()).hint(format!(
                "monopod import ARCHIVE, or put the archive into {}, or plug in its stick",
                facts.preload.display()
            ))
        })
        .collect();
    for image in &facts.images {
        found.extend(one(image));
        let name = &image.reference;
        if name.ends_with(":latest") {
            found.push(
                Finding::note(format!("{name} does not say which one it is"))
                    .hint("give each release a tag of its own, and name that"),
            );
        }
    }
    let asked = facts
        .images
        .iter()
        .all(|image| image.engine != InEngine::Unasked);
    let places = if asked {
        "the store and the engine"
    } else {
        "the store; the engine was not asked"
    };
    Finding::all(found, format!("{} in {places}", facts.images.len()))
}

fn one(image: &Image) -> Option<Finding> {
    let name = &image.reference;
    match (&image.stored, &image.engine) {
        (None, InEngine::Absent) => Some(
            Finding::failure(format!("{name} is neither in the store nor in the engine"))
                .hint("monopod import ARCHIVE, or mend `image` in the workload file"),
        ),
        (None, InEngine::Unasked) => Some(
            Finding::warning(format!("{name} is not in the store, and the engine cannot be asked"))
                .hint("monopod import ARCHIVE"),
        ),
        (None, InEngine::There(_)) => Some(
            Finding::warning(format!("{name} is only in the engine, so a damaged copy cannot be mended"))
                .hint(format!("docker save {name} | monopod import -")),
        ),
        (Some(stored), InEngine::Absent) if !stored.layers => Some(
            Finding::failure(format!("{name} is not in the engine, and its layers are not in the store"))
                .hint("monopod import ARCHIVE"),
        ),
        (Some(stored), _) if !stored.layers && stored.dropped => Some(Finding::note(format!(
            "the store does not keep {name}'s layers (keep = false): mending it needs its archive"
        ))),
        (Some(stored), _) if !stored.layers && stored.damaged => None,
        (Some(stored), _) if !stored.layers => Some(
            Finding::warning(format!("layers of {name} are missing in the store"))
                .hint("import its archive again"),
        ),
        (Some(_), InEngine::Absent) => Some(Finding::note(format!(
            "{name} is in the store and not in the engine yet; monopod's next start feeds it"
        ))),
        (Some(stored), InEngine::There(id)) if stored.id != *id => Some(
            Finding::note(format!("the engine's {name} is another image than the store's"))
                .hint("monopod plan shows what would change; systemctl reload monopod puts the store's in force"),
        ),
        (Some(_), InEngine::There(_) | InEngine::Unasked) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn stored(layers: bool, dropped: bool) -> Stored {
        Stored {
            id: "a".to_owned(),
            layers,
            dropped,
            damaged: false,
        }
    }

    fn engine(id: &str) -> InEngine {
        InEngine::There(id.to_owned())
    }

    fn held(table: &[(&str, Option<Stored>, InEngine, State, &str)]) {
        for (reference, stored, engine, state, text) in table {
            let image = Image {
                reference: (*reference).to_owned(),
                stored: stored.clone(),
                engine: engine.clone(),
            };
            let found = judge(&Facts {
                images: vec![image],
                damaged: vec![],
                preload: PathBuf::new(),
            });
            assert_eq!(found.state, *state, "{found:?}");
            assert!(found.finding.contains(text), "{found:?}");
        }
    }

    #[test]
    fn whole_images() {
        let whole = || Some(stored(true, false));
        held(&[
            (
                "x:1",
                whole(),
                engine("a"),
                State::Ok,
                "1 in the store and the engine",
            ),
            (
                "x:1",
                whole(),
                InEngine::Unasked,
                State::Ok,
                "the engine was not asked",
            ),
            (
                "x:latest",
                whole(),
                engine("a"),
                State::Note,
                "does not say which",
            ),
            ("x:1", whole(), engine("b"), State::Note, "another image"),
            ("x:1", whole(), InEngine::Absent, State::Note, "next start"),
        ]);
    }

    #[test]
    fn images_that_lack_something() {
        held(&[
            (
                "x:1",
                Some(stored(false, true)),
                engine("a"),
                State::Note,
                "keep = false",
            ),
            (
                "x:1",
                Some(stored(false, false)),
                engine("a"),
                State::Warning,
                "layers of x:1",
            ),
            (
                "x:1",
                Some(stored(false, true)),
                InEngine::Absent,
                State::Failure,
                "its layers are not",
            ),
            (
                "x:1",
                None,
                engine("a"),
                State::Warning,
                "only in the engine",
            ),
            (
                "x:1",
                None,
                InEngine::Unasked,
                State::Warning,
                "cannot be asked",
            ),
            ("x:1", None, InEngine::Absent, State::Failure, "neither"),
        ]);
        let damaged = vec!["image y:1 is damaged: torn".to_owned()];
        let found = judge(&Facts {
            images: vec![],
            damaged,
            preload: "/x/preload".into(),
        });
        assert_eq!(found.state, State::Warning);
        assert!(found.hints[0].contains("/x/preload"), "{found:?}");
    }
}
