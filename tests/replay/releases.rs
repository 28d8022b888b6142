//! The releases' folders: each is whole and is what its name says, or is not there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use monopod::bundle::{Machine, TakeOptions, Trust, take};
use monopod::core::update::ReleaseId;
use monopod::image::Store;
use monopod::paths::Paths;
use monopod::release::{Origin, ReleaseError, Releases};

use crate::build::layer;
use crate::deed;
use crate::forge::Parts;
use crate::node::{ONE_PUB, WORKLOAD};
use crate::scenario::{Ends, Judge, Place, Scenario};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "releases: the first",
        setup: make,
        command: |place| deed("release-local", &place.root),
        judge: |ends| judge(ends, "release-local", false),
    },
    Scenario {
        name: "releases: one of a bundle",
        setup: |place| {
            make(place);
            act("release-local", &place.root).expect("added");
        },
        command: |place| deed("release-bundle", &place.root),
        judge: |ends| judge(ends, "release-bundle", false),
    },
    Scenario {
        name: "releases: the same content comes signed",
        setup: |place| {
            make(place);
            act("release-unsigned", &place.root).expect("added");
        },
        command: |place| deed("release-bundle", &place.root),
        judge: |ends| judge(ends, "release-bundle", false),
    },
    Scenario {
        name: "releases: a damaged one is replaced",
        setup: |place| {
            make(place);
            act("release-local", &place.root).expect("added");
            fs::write(releases(&place.root).workload_file(&local()), "").expect("damaged");
        },
        command: |place| deed("release-local", &place.root),
        judge: |ends| judge(ends, "release-local", true),
    },
    Scenario {
        name: "releases: an image's ID becomes known",
        setup: |place| {
            make(place);
            act("release-local", &place.root).expect("added");
        },
        command: |place| deed("release-fill", &place.root),
        judge: |ends| judge(ends, "release-fill", false),
    },
    Scenario {
        name: "releases: one is removed",
        setup: |place| {
            make(place);
            act("release-bundle", &place.root).expect("added");
            act("release-local", &place.root).expect("added");
        },
        command: |place| deed("release-remove", &place.root),
        judge: |ends| judge(ends, "release-remove", false),
    },
];

const IMAGE: &str = "example/gateway:1.4.2";
const LOCAL: &str =
    "name = \"gateway\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\ncpus = 1\n";

fn releases(root: &Path) -> Releases {
    Releases::new(&Paths::new(root))
}

/// The id of the node's own.
fn local() -> ReleaseId {
    let images = BTreeMap::from([(IMAGE.to_owned(), None)]);
    ReleaseId::of(LOCAL.as_bytes(), &images, None)
}

/// The desk, from wherever a root is beside it.
fn desk(root: &Path) -> PathBuf {
    root.with_file_name("desk")
}

fn make(place: &Place) {
    fs::create_dir_all(Paths::new(&place.root).state()).expect("a folder");
    let mut parts = Parts::of(&[layer(1, 3000)]);
    parts.hook = None;
    fs::write(place.desk.join("new"), parts.forge().seal()).expect("written");
}

/// What the recorded process does.
pub fn act(name: &str, root: &Path) -> Result<(), String> {
    let releases = releases(root);
    let unknown = |name: &str| BTreeMap::from([(name.to_owned(), None)]);
    let done = match name {
        "release-local" => releases
            .add_local("gateway", LOCAL.as_bytes(), unknown(IMAGE))
            .map(drop),
        "release-bundle" | "release-unsigned" => {
            let bytes = fs::read(desk(root).join("new")).map_err(|error| error.to_string())?;
            // Beside the node: the store has its own scenarios.
            let store =
                Store::open(&desk(root).join("store")).map_err(|error| error.to_string())?;
            let trust = Trust::of_text("the test", ONE_PUB)?;
            let options = TakeOptions {
                machine: Machine::here(&Paths::new(root)),
                max_image_size: 100_000_000,
                accepted: BTreeMap::new(),
            };
            let taken = take(&mut bytes.as_slice(), &store, &trust, &options, &mut |_| {});
            let taken = taken.map_err(|error| error.to_string())?;
            if name == "release-bundle" {
                releases.add_bundle(&taken).map(drop)
            } else {
                let images = taken.images.iter();
                let images = images.map(|(name, id)| (name.clone(), Some(id.to_string())));
                releases
                    .add_local("gateway", WORKLOAD.as_bytes(), images.collect())
                    .map(drop)
            }
        }
        "release-fill" => {
            let images = BTreeMap::from([(IMAGE.to_owned(), "sha256:1".to_owned())]);
            releases.fill(&local(), &images).map(drop)
        }
        "release-remove" => releases.remove(&local()),
        _ => return Err(format!("no deed is called {name}")),
    };
    done.map_err(|error: ReleaseError| error.to_string())
}

/// Each release by its id: where it comes from and what it runs, or that it is damaged.
type Found = BTreeMap<ReleaseId, Option<(Origin, BTreeMap<String, Option<String>>)>>;

fn found(root: &Path) -> Result<Found, String> {
    let releases = releases(root);
    let trust = Trust::of_text("the test", ONE_PUB)?;
    let mut found = Found::new();
    for release in releases.list().map_err(|error| error.to_string())? {
        match release {
            Ok(release) => {
                match release.origin {
                    Origin::Local => {}
                    Origin::Bundle { .. } => {
                        let verified = releases.verify(&release.id, &trust);
                        verified.map_err(|error| error.to_string())?;
                    }
                }
                found.insert(release.id, Some((release.origin, release.images)));
            }
            Err(damaged) => {
                found.insert(damaged.id, None);
            }
        }
    }
    Ok(found)
}

/// Where one was `damaged`, there may be none for a while.
fn judge(ends: &Ends<'_>, again: &'static str, damaged: bool) -> Judge {
    let old = found(ends.before);
    let new = found(ends.after);
    Box::new(move |root, done| {
        let (old, new) = (old.clone()?, new.clone()?);
        let now = found(root)?;
        let aside = damaged && now.is_empty();
        if now != new && (done || now != old && !aside) {
            return Err(format!("found {now:?}, where {old:?} became {new:?}"));
        }
        act(again, root).map_err(|error| format!("the next try fails: {error}"))?;
        releases(root).sweep().map_err(|error| error.to_string())?;
        let then = found(root)?;
        if then != new {
            return Err(format!("the next try ends with {then:?}, not {new:?}"));
        }
        let folder = Paths::new(root).releases();
        let names = fs::read_dir(folder).map_err(|error| error.to_string())?;
        let names: Result<Vec<_>, _> = names
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect();
        let names = names.map_err(|error| error.to_string())?;
        if names.len() == new.len() {
            Ok(())
        } else {
            Err(format!("something stays that nobody needs: {names:?}"))
        }
    })
}
