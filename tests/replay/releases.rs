//! The releases' folders: each is whole and is what its name says, or is not there. What is brought lies in
//! the drop folder, or is a release; at no moment is it in neither place.

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
    Scenario {
        name: "releases: one is dropped for the daemon",
        setup: make,
        command: |place| deed("release-drop", &place.root),
        judge: |ends| judge_dropped(ends, "release-drop"),
    },
    Scenario {
        name: "releases: one is dropped again, with a newer signature",
        setup: |place| {
            make(place);
            act("release-drop", &place.root).expect("dropped");
            bring(place, 8);
        },
        command: |place| deed("release-drop", &place.root),
        judge: |ends| judge_dropped(ends, "release-drop"),
    },
    Scenario {
        name: "releases: what was dropped is taken over",
        setup: |place| {
            make(place);
            act("release-local", &place.root).expect("added");
            act("release-drop", &place.root).expect("dropped");
        },
        command: |place| deed("release-adopt", &place.root),
        judge: |ends| judge_dropped(ends, "release-adopt"),
    },
    Scenario {
        name: "releases: the first of all was dropped",
        setup: |place| {
            make(place);
            act("release-drop", &place.root).expect("dropped");
        },
        command: |place| deed("release-adopt", &place.root),
        judge: |ends| judge_dropped(ends, "release-adopt"),
    },
    Scenario {
        name: "releases: what was dropped mends a damaged one",
        setup: |place| {
            make(place);
            act("release-bundle", &place.root).expect("added");
            let found = releases(&place.root).list().expect("a list");
            let release = found.into_iter().flatten().next().expect("one");
            fs::write(releases(&place.root).workload_file(&release.id), "").expect("damaged");
            act("release-drop", &place.root).expect("dropped");
        },
        command: |place| deed("release-adopt", &place.root),
        judge: |ends| judge_dropped(ends, "release-adopt"),
    },
    Scenario {
        name: "releases: what does not hold is removed",
        setup: |place| {
            make(place);
            act("release-local", &place.root).expect("added");
            act("release-drop", &place.root).expect("dropped");
            let incoming = Paths::new(&place.root).incoming();
            let found = fs::read_dir(&incoming).expect("a folder").next();
            let good = found.expect("one").expect("an entry").path();
            fs::write(good.join("workload.toml"), LOCAL).expect("written");
            fs::create_dir_all(incoming.join("rubbish/in/rubbish")).expect("folders");
            fs::write(incoming.join("rubbish/in/file"), "x").expect("written");
        },
        command: |place| deed("release-adopt", &place.root),
        judge: |ends| judge_dropped(ends, "release-adopt"),
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
    let keys = Paths::new(&place.root).keys();
    fs::create_dir_all(&keys).expect("a folder");
    fs::write(keys.join("one.pub"), ONE_PUB).expect("written");
    bring(place, 7);
}

/// The bundle that is to come, with this sequence.
fn bring(place: &Place, sequence: u64) {
    let mut parts = Parts::of(&[layer(1, 3000)]);
    parts.hook = None;
    let bundle = parts.forge().with(|manifest| manifest.sequence = sequence);
    fs::write(place.desk.join("new"), bundle).expect("written");
}

/// What the recorded process does.
pub fn act(name: &str, root: &Path) -> Result<(), String> {
    let releases = releases(root);
    let unknown = |name: &str| BTreeMap::from([(name.to_owned(), None)]);
    let done = match name {
        "release-local" => releases
            .add_local("gateway", LOCAL.as_bytes(), unknown(IMAGE))
            .map(drop),
        "release-bundle" | "release-unsigned" | "release-drop" => {
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
            } else if name == "release-drop" {
                let incoming = Releases::incoming(&Paths::new(root));
                // As whoever parses does, before it is shut in.
                let prepared = incoming.prepare();
                prepared.and_then(|()| incoming.add_bundle(&taken).map(drop))
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
        "release-adopt" => {
            // What was piled up comes up step by step.
            while Releases::adopt_here(&Paths::new(root), &[])?.more {}
            Ok(())
        }
        _ => return Err(format!("no deed is called {name}")),
    };
    done.map_err(|error: ReleaseError| error.to_string())
}

/// Each release by its id: where it comes from and what it runs, or that it is damaged.
type Found = BTreeMap<ReleaseId, Option<(Origin, BTreeMap<String, Option<String>>)>>;

fn found(root: &Path) -> Result<Found, String> {
    found_in(&releases(root), true)
}

/// One that does not verify is an error, or `None` where it is another's.
fn found_in(releases: &Releases, ours: bool) -> Result<Found, String> {
    let trust = Trust::of_text("the test", ONE_PUB)?;
    let mut found = Found::new();
    for release in releases.list().map_err(|error| error.to_string())? {
        match release {
            Ok(release) => {
                match release.origin {
                    Origin::Local => {}
                    Origin::Bundle { .. } => match releases.verify(&release.id, &trust) {
                        Ok(_) => {}
                        Err(error) if ours => return Err(error.to_string()),
                        Err(_) => {
                            found.insert(release.id, None);
                            continue;
                        }
                    },
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

/// What is whole in either place, and in the releases' own.
fn judge_dropped(ends: &Ends<'_>, again: &'static str) -> Judge {
    type Both = (Found, Found);
    fn both(root: &Path) -> Result<Both, String> {
        let incoming = Releases::incoming(&Paths::new(root));
        let mut dropped = found_in(&incoming, false)?;
        // What does not hold counts as little as what is not there.
        dropped.retain(|_, found| found.is_some());
        let mut ours = found(root)?;
        ours.retain(|_, found| found.is_some());
        Ok((ours, dropped))
    }
    let (old, new) = (both(ends.before), both(ends.after));
    Box::new(move |root, done| {
        let (old, new) = (old.clone()?, new.clone()?);
        let now = both(root)?;
        let ours = now.0 == old.0 || now.0 == new.0;
        let dropped = now.1 == old.1 || now.1 == new.1 || now.1.is_empty() && now.0 == new.0;
        if !ours || !dropped || done && now.0 != new.0 {
            return Err(format!("found {now:?}, where {old:?} became {new:?}"));
        }
        if again == "release-drop" && done && now != new {
            return Err(format!("it was dropped, and is not there: {now:?}"));
        }
        act(again, root).map_err(|error| format!("the next try fails: {error}"))?;
        let then = both(root)?;
        if then != new {
            return Err(format!("the next try ends with {then:?}, not {new:?}"));
        }
        // Whatever was left of a writer goes with the next look.
        act("release-adopt", root).map_err(|error| format!("the look fails: {error}"))?;
        releases(root).sweep().map_err(|error| error.to_string())?;
        for (folder, wanted) in [
            (Paths::new(root).incoming(), 0),
            (Paths::new(root).releases(), both(root)?.0.len()),
        ] {
            let names = fs::read_dir(&folder).map_or(0, Iterator::count);
            if names != wanted {
                return Err(format!("{names} names in {}", folder.display()));
            }
        }
        Ok(())
    })
}
