//! Feeding the engine: what is sent, what is refused, what gets a name.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use monopod::core::api::Fault;
use monopod::engine::{Engine, Fed, ImageSource, feed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Place, eventually_async, tar_of};

/// What a source does other than it should.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// A layer that is left out is one that the engine lacks.
    BrokenPartial,
    Unreadable,
}

/// An image from a `docker save` archive.
struct Saved {
    id: String,
    diff_ids: Vec<String>,
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
    complete: bool,
    flaw: Flaw,
}

impl Saved {
    /// Reads an image out of the engine.
    fn from(place: &Place, tag: &str) -> Self {
        let output = place.daemon.command(&["save", tag]).output();
        let archive = output.expect("docker is installed").stdout;
        let mut members = HashMap::new();
        let mut tar = tar::Archive::new(archive.as_slice());
        for entry in tar.entries().expect("it is an archive") {
            let mut entry = entry.expect("it is whole");
            let path = entry.path().expect("it has a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("it is whole");
            members.insert(path, content);
        }
        let manifest: Value =
            serde_json::from_slice(&members["manifest.json"]).expect("it is JSON");
        let name = |value: &Value| value.as_str().expect("it is a path").to_owned();
        let config = members[&name(&manifest[0]["Config"])].clone();
        let layers = manifest[0]["Layers"].as_array().expect("it is a list");
        let parsed: Value = serde_json::from_slice(&config).expect("it is JSON");
        let diff_ids = parsed["rootfs"]["diff_ids"].as_array().expect("a list");
        Self {
            id: digest(&config),
            diff_ids: diff_ids.iter().map(name).collect(),
            layers: layers
                .iter()
                .map(|one| members[&name(one)].clone())
                .collect(),
            config,
            complete: true,
            flaw: Flaw::None,
        }
    }
}

impl ImageSource for Saved {
    fn id(&self) -> &str {
        &self.id
    }

    fn diff_ids(&self) -> &[String] {
        &self.diff_ids
    }

    fn complete(&self) -> bool {
        self.complete
    }

    fn stream(&self, skip: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let left_out = match self.flaw {
            Flaw::BrokenPartial if skip > 0 => self.layers.len(),
            Flaw::None | Flaw::BrokenPartial | Flaw::Unreadable => skip,
        };
        let paths: Vec<_> = (0..self.layers.len())
            .map(|n| format!("{n}/layer.tar"))
            .collect();
        let config = format!("{}.json", self.id.trim_start_matches("sha256:"));
        let manifest = json!([{"Config": config, "RepoTags": null, "Layers": paths}]);
        let mut members = vec![
            (
                "manifest.json".to_owned(),
                manifest.to_string().into_bytes(),
            ),
            (config, self.config.clone()),
        ];
        let layers = paths.into_iter().zip(self.layers.clone());
        members.extend(layers.skip(left_out));
        let archive = Bytes::from(tar_of(&members));
        let mut pieces: Vec<_> = (0..archive.len())
            .step_by(16384)
            .map(|at| Ok(archive.slice(at..archive.len().min(at + 16384))))
            .collect();
        if self.flaw == Flaw::Unreadable {
            pieces.truncate(1);
            pieces.push(Err(io::Error::other("the flash is worn out")));
        }
        stream::iter(pieces)
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| {
        format!("{text}{byte:02x}")
    })
}

/// An image of a large and a small layer above busybox, and one that lacks the small one; nobody else has them.
fn two_images(place: &Place) -> (String, String) {
    let base = format!("monopod-test/{}:base", place.workload);
    let full = format!("monopod-test/{}:full", place.workload);
    let large = place.workload.repeat(40_000).into_bytes();
    let files: [(&str, &[u8]); 2] = [("large", &large), ("small", place.workload.as_bytes())];
    // Busybox in another folder is another layer than other tests have.
    let lines = format!("COPY bin /bin-{0}\nCOPY large /large-{0}", place.workload);
    place.daemon.build(&base, &lines, &files);
    place
        .daemon
        .build(&full, &format!("{lines}\nCOPY small /small"), &files);
    (base, full)
}

#[tokio::test]
async fn only_what_is_lacking_is_sent() {
    let place = Place::new("feed");
    let (base, full) = two_images(&place);
    let source = Saved::from(&place, &full);
    let size: usize = source.layers.iter().map(Vec::len).sum();
    assert_eq!(source.layers.len(), 4);
    assert!(size > 1_000_000);
    let wanted = format!("monopod-test/{}:wanted", place.workload);
    let all = source.layers.len();
    let there = Fed {
        sent: 0,
        skipped: all,
    };

    // It is there: it gets the name and no byte is sent; then it has the name.
    for _ in 0..2 {
        assert_eq!(
            feed(&place.docker, &source, &wanted, || ()).await,
            Ok(there)
        );
        let image = place.docker.image(&wanted).await.expect("it answers");
        assert_eq!(image.map(|image| image.id).as_ref(), Some(&source.id));
    }
    // The name is of another image: it moves.
    place.daemon.docker(&["tag", &base, &wanted]);
    assert_eq!(
        feed(&place.docker, &source, &wanted, || ()).await,
        Ok(there)
    );
    let image = place.docker.image(&wanted).await.expect("it answers");
    let image = image.expect("it was there");
    assert_eq!(image.id, source.id);
    assert_eq!(image.diff_ids, source.diff_ids);
    assert!(image.tags.contains(&wanted), "{image:?}");

    // The image is gone, its lower layers are not.
    place
        .docker
        .remove_image(&wanted, false)
        .await
        .expect("it is not used");
    place
        .docker
        .remove_image(&full, false)
        .await
        .expect("it is not used");
    place
        .docker
        .remove_image(&full, false)
        .await
        .expect("gone is fine");
    assert_eq!(place.docker.image(&source.id).await, Ok(None));
    let mut moves = 0;
    let fed = feed(&place.docker, &source, &wanted, || moves += 1).await;
    let fed = fed.expect("it is taken");
    assert_eq!(fed.skipped, 3);
    assert!(fed.sent > 0 && fed.sent < 65536, "{fed:?}");
    assert!(moves > 0);
    let image = place.docker.image(&wanted).await.expect("it answers");
    assert_eq!(image.map(|image| image.id).as_ref(), Some(&source.id));

    // Nothing is there, and an engine that takes no part of an image gets the whole.
    place
        .docker
        .remove_image(&wanted, false)
        .await
        .expect("it is not used");
    let source = Saved {
        flaw: Flaw::BrokenPartial,
        ..source
    };
    let fed = feed(&place.docker, &source, &wanted, || ()).await;
    let fed = fed.expect("it is taken whole");
    assert_eq!(fed.skipped, 0);
    assert!(fed.sent > size as u64, "{fed:?}");
    let names = place.docker.images().await.expect("it answers");
    let ours = names.iter().find(|image| image.id == source.id);
    assert_eq!(
        ours.map(|image| image.tags.clone()),
        Some(vec![wanted.clone()])
    );
    place
        .docker
        .remove_image(&wanted, false)
        .await
        .expect("it is not used");
    place
        .docker
        .remove_image(&base, false)
        .await
        .expect("it is not used");
}

#[tokio::test]
async fn what_is_not_the_image_gets_no_name() {
    let place = Place::new("stray");
    let (base, full) = two_images(&place);
    let mut source = Saved::from(&place, &full);
    place
        .docker
        .remove_image(&full, false)
        .await
        .expect("it is not used");
    let real = std::mem::replace(&mut source.id, digest(b"another"));
    let wanted = format!("monopod-test/{}:wanted", place.workload);

    let mut races = 0;
    let why = loop {
        let answer = feed(&place.docker, &source, &wanted, || ()).await;
        let Err(Fault::Refused(why)) = answer else {
            panic!("{answer:?}");
        };
        // Another test has removed an image with the same layer while Docker looked for it.
        if why != "layer does not exist" || races == 3 {
            break why;
        }
        races += 1;
    };
    assert!(why.contains(&real) && why.contains(&source.id), "{why}");
    assert_eq!(place.docker.image(&wanted).await, Ok(None));
    assert_eq!(
        place.docker.image(&real).await,
        Ok(None),
        "the stray is cleared away"
    );

    // One that somebody has a use for is left alone.
    let theirs = Saved::from(&place, &base);
    source.config.clone_from(&theirs.config);
    source.layers.clone_from(&theirs.layers);
    source.diff_ids.clone_from(&theirs.diff_ids);
    let answer = feed(&place.docker, &source, &wanted, || ()).await;
    assert!(matches!(answer, Err(Fault::Refused(_))), "{answer:?}");
    let left = place.docker.image(&theirs.id).await.expect("it answers");
    assert_eq!(left.map(|image| image.tags), Some(vec![base.clone()]));
    place
        .docker
        .remove_image(&base, false)
        .await
        .expect("it is not used");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_the_engines_fault() {
    let place = Place::new("unread");
    let (base, full) = two_images(&place);
    let mut source = Saved::from(&place, &full);
    place
        .docker
        .remove_image(&full, false)
        .await
        .expect("it is not used");
    place
        .docker
        .remove_image(&base, false)
        .await
        .expect("it is not used");
    let wanted = format!("monopod-test/{}:wanted", place.workload);
    source.flaw = Flaw::Unreadable;
    let answer = feed(&place.docker, &source, &wanted, || ()).await;
    let Err(Fault::Refused(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("the flash is worn out"), "{why}");
    source.complete = false;
    let answer = feed(&place.docker, &source, &wanted, || ()).await;
    assert!(matches!(answer, Err(Fault::ImageMissing(_))), "{answer:?}");
    // And rubbish is refused by the engine itself.
    let rubbish = stream::iter(vec![Ok(Bytes::from(vec![7; 4 << 20]))]);
    let answer = place.docker.load(rubbish, || ()).await;
    assert!(matches!(answer, Err(Fault::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_ends() {
    let place = Place::new("endless");
    // The head of a file that is larger than what will ever come of it.
    let mut header = tar::Header::new_gnu();
    header.set_path("endless").expect("it is short");
    header.set_size(1 << 40);
    header.set_cksum();
    let head = Bytes::copy_from_slice(header.as_bytes());
    let alive = Arc::new(());
    let guard = alive.clone();
    let archive = stream::unfold((Some(head), guard), |(head, guard)| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let piece = head.unwrap_or_else(|| Bytes::from_static(&[0; 512]));
        Some((Ok(piece), (None, guard)))
    });
    let mut moves = 0;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    {
        let load = place.docker.load(archive, || {
            moves += 1;
            if moves == 20 {
                // The other end is held below.
                let _ = tell.send(());
            }
        });
        tokio::select! {
            answer = load => panic!("{answer:?}"),
            _ = told.recv() => {}
        }
    }
    eventually_async("its archive is let go", || Arc::strong_count(&alive) == 1).await;
}
