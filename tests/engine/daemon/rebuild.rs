//! What a power cut leaves of an image in the engine is mended from the store.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::desk::{Desk, QUICK, take};
use crate::node::{Node, build, kill_process};
use crate::support::{engine, eventually};

/// Small budgets, one rebuild among them.
const SMALL: &str = r#"[escalation]
restarts = 1
recreates = 1
rebuilds = 1
withholds = 1
backoff_base = "100ms"
backoff_max = "300ms"
stable = "1s""#;

/// An image whose top layer has the page that it serves, as an archive; it is not in the store yet.
fn image(node: &Node, name: &str) -> (String, PathBuf) {
    // The context's file `name` has the name in it, so the layer is no other image's.
    let reference = build(name, "COPY name /page");
    let file = node.root.with_file_name(format!("{name}.tar"));
    node.docker(&["save", "--output", &file.display().to_string(), &reference]);
    (reference, file)
}

/// A container that ends at once if its page is empty.
fn describe(node: &Node, image: &str) {
    node.describe(&format!(
        r#"[containers.app]
        image = "{image}"
        command = ["sh", "-c", "test -s /page && exec httpd -f -p 80 -h /"]
        stop_signal = "SIGKILL"
        healthcheck = {{ http = ":80/page", interval = "200ms", timeout = "5s", start_period = "30s" }}"#
    ));
}

/// Empties the page in the engine's copy of an image, as a power cut does. A container that runs has it still.
fn damage_engine(image: &str) {
    let found = engine().inspect("image", image).expect("the engine has it");
    let layer = found["GraphDriver"]["Data"]["UpperDir"].as_str();
    let page = PathBuf::from(layer.expect("overlay2 keeps layers in folders")).join("page");
    assert!(fs::metadata(&page).expect("it is there").len() > 0);
    fs::File::create(&page).expect("the engine's folder can be written");
}

/// Flips a bit in the middle of every layer of the store, and leaves the sizes as they are.
pub fn damage_store(node: &Node) {
    let store = node.root.join("var/lib/monopod/store/blobs/sha256");
    for entry in fs::read_dir(store).expect("there is a store").flatten() {
        let mut bytes = fs::read(entry.path()).expect("it can be read");
        if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            fs::write(entry.path(), bytes).expect("it can be written");
        }
    }
}

/// What a new container finds in the page.
fn page(node: &Node, image: &str) -> String {
    node.docker(&["run", "--rm", "--network", "none", image, "cat", "/page"])
}

fn said(node: &Node, text: &str) -> usize {
    node.log()
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

fn well_again(node: &Node, before: &Value) -> Value {
    let id = before["containers"]["app"]["id"].clone();
    node.until("it is mended", |status| {
        status["verdict"] == "healthy"
            && status["ladder"] == "foot"
            && status["containers"]["app"]["id"] != id
    })
}

#[test]
fn a_damaged_image_is_rebuilt_from_the_store() {
    let mut node = Node::new("rebuilt");
    let (image, file) = image(&node, "rebuilt");
    let file = file.display().to_string();
    node.must(&["import", &file]);
    describe(&node, &image);
    node.settings(SMALL);
    node.start();
    let before = node.healthy();
    let other_name = format!("{image}-backup");
    node.docker(&["tag", &image, &other_name]);

    damage_engine(&image);
    // What the engine knows by name it does not take again, whoever gives it.
    node.docker(&["load", "--input", &file]);
    node.must(&["import", &file]);
    assert_eq!(page(&node, &image), "");

    kill_process(&before["containers"]["app"]["pid"]);
    let after = well_again(&node, &before);
    assert_eq!(page(&node, &image), "rebuilt");
    assert_eq!(page(&node, &other_name), "rebuilt", "other names are back");
    assert_eq!(after["withheld"], 0);
    assert_eq!(node.containers(None).len(), 1);
    for (text, times) in [
        ("restart 1 of 1", 1),
        ("recreation 1 of 1", 1),
        ("rebuild of its image 1 of 1", 1),
        ("fed again from the store", 1),
        ("a further", 0),
    ] {
        assert_eq!(said(&node, text), times, "{text}: {}", node.log());
    }
}

/// Three images on one base, which has the page; as archives, and no engine has them afterwards.
fn family(node: &Node, name: &str) -> [(String, String); 3] {
    let base = build(name, "COPY name /page");
    let children = ["one", "two", "three"].map(|child| {
        let reference = format!("{}-{child}:1", base.trim_end_matches(":1"));
        let context = node.root.with_file_name(child);
        fs::create_dir(&context).expect("it is new");
        fs::write(context.join("mark"), child).expect("it is new");
        let text = format!("FROM {base}\nCOPY mark /mark\n");
        fs::write(context.join("Dockerfile"), text).expect("it is new");
        let context = context.display().to_string();
        node.engine
            .docker(&["build", "--quiet", "--tag", &reference, &context]);
        let file = format!("{context}.tar");
        node.docker(&["save", "--output", &file, &reference]);
        (reference, file)
    });
    for reference in children.iter().map(|(name, _)| name).chain([&base]) {
        // While other images are built, Docker may not find one that it has just listed.
        eventually("the engine lets the image go", || {
            let _ = node.engine.command(&["rmi", reference]).output();
            node.engine.inspect("image", reference).is_none()
        });
    }
    children
}

/// Empties the page in the layer below the top one.
fn damage_base(image: &str) {
    let found = engine().inspect("image", image).expect("the engine has it");
    let layers = found["GraphDriver"]["Data"]["LowerDir"].as_str();
    let layer = layers.and_then(|layers| layers.split(':').next());
    let page = PathBuf::from(layer.expect("overlay2 keeps layers in folders")).join("page");
    assert!(fs::metadata(&page).expect("it is there").len() > 0);
    fs::File::create(&page).expect("the engine's folder can be written");
}

#[test]
fn layers_that_another_image_has_too_are_mended_if_that_one_comes_again() {
    let mut node = Node::new("base");
    let [(image, one), (other, two), (strange, three)] = family(&node, "base");
    node.must(&["import", &one]);
    node.must(&["import", &two]);
    node.docker(&["load", "--input", &three]);
    describe(&node, &image);
    node.settings(SMALL);
    node.start();
    let before = node.healthy();
    let other_name = format!("{other}-backup");
    node.docker(&["tag", &other, &other_name]);
    let id = |image: &str| {
        node.engine
            .inspect("image", image)
            .map(|found| found["Id"].clone())
    };
    let (others, strangers) = (id(&other), id(&strange));
    damage_base(&image);

    // What nobody could bring again is not taken along.
    kill_process(&before["containers"]["app"]["pid"]);
    node.until("the safe state is reached", |status| {
        status["ladder"] == "safe-state"
    });
    assert_eq!(
        said(&node, "too, and were left as they are"),
        1,
        "{}",
        node.log()
    );
    assert_eq!(id(&strange), strangers);
    assert_eq!(id(&other), others);
    assert_eq!(page(&node, &strange), "");

    node.docker(&["rmi", &strange]);
    node.must(&["restart"]);
    well_again(&node, &before);
    for image in [&image, &other, &other_name] {
        assert_eq!(page(&node, image), "base", "{image}");
    }
    assert_eq!((id(&other), id(&other_name)), (others.clone(), others));
    assert_eq!(
        said(&node, "too, and were left as they are"),
        1,
        "{}",
        node.log()
    );
}

#[test]
fn layers_that_two_containers_share_are_mended_at_the_second_attempt() {
    let mut node = Node::new("shared-base");
    let [(image, one), (other, two), _] = family(&node, "shared-base");
    node.must(&["import", &one]);
    node.must(&["import", &two]);
    node.describe(&format!(
        r#"[containers.app]
        image = "{image}"
        command = ["sh", "-c", "test -s /page && exec httpd -f -p 80 -h /"]
        stop_signal = "SIGKILL"
        healthcheck = {{ http = ":80/page", interval = "200ms", timeout = "5s", start_period = "30s" }}
        [containers.other]
        image = "{other}"
        command = ["sleep", "100000"]
        stop_signal = "SIGKILL""#
    ));
    node.settings(SMALL);
    node.start();
    let before = node.healthy();
    damage_base(&image);
    kill_process(&before["containers"]["app"]["pid"]);
    node.until("the other one makes room", |status| {
        status["containers"]["other"]["id"] != before["containers"]["other"]["id"]
    });
    well_again(&node, &before);
    for image in [&image, &other] {
        assert_eq!(page(&node, image), "shared-base", "{image}");
    }
    assert_eq!(node.containers(None).len(), 2);
    for (text, times) in [
        ("rebuild of its image 1 of 1", 1),
        (
            "another container's image has, too, were left as they are",
            1,
        ),
        ("rebuild of its image 2 of 2", 1),
        ("together with those that share layers with it", 1),
        ("a further", 0),
    ] {
        assert_eq!(said(&node, text), times, "{text}: {}", node.log());
    }
}

#[test]
fn what_a_rebuild_took_that_was_cut_off_comes_again_when_it_is_needed() {
    let mut node = Node::new("cut-off");
    let [(image, one), (other, two), _] = family(&node, "cut-off");
    node.must(&["import", &one]);
    node.must(&["import", &two]);
    describe(&node, &image);
    node.settings(&format!("{SMALL}\n[trial]\nsettle = \"1s\""));
    node.start();
    let before = node.healthy();
    damage_base(&image);
    kill_process(&before["containers"]["app"]["pid"]);
    // On a machine where that is too short to be seen it has come again.
    eventually("the images are taken", || {
        node.engine.inspect("image", &image).is_none() || said(&node, "fed again from") > 0
    });
    node.crash();
    node.start();
    well_again(&node, &before);
    assert_eq!(page(&node, &image), "cut-off");
    describe(&node, &other);
    node.must(&["reload"]);
    node.until("the other image is in use", |status| {
        status["verdict"] == "healthy"
            && status["containers"]["app"]["image"] == other.as_str()
            && status["update"]["stage"] == "idle"
    });
    assert_eq!(page(&node, &other), "cut-off");
}

#[test]
fn a_damaged_store_is_mended_first_by_the_preload_folder() {
    let mut node = Node::new("refetched");
    let (image, file) = image(&node, "refetched");
    let preload = node.root.join("var/lib/monopod/preload");
    fs::create_dir_all(&preload).expect("the root can be written");
    fs::rename(file, preload.join("app.tar")).expect("it is one file system");
    describe(&node, &image);
    node.settings(SMALL);
    node.start();
    let before = node.healthy();
    node.must(&["images"]);
    damage_engine(&image);
    damage_store(&node);
    kill_process(&before["containers"]["app"]["pid"]);
    let after = well_again(&node, &before);
    assert_eq!(page(&node, &image), "refetched");
    assert_eq!(said(&node, "is damaged (blob sha256:"), 1, "{}", node.log());
    assert_eq!(said(&node, "fed again from the store"), 1, "{}", node.log());
    assert_eq!(after["store_damaged"], Value::Null, "all is well again");
}

/// A bundle's image has no name in the store; and one bundle is to mend all of its layers.
#[test]
fn a_bundle_that_is_brought_again_mends_its_layers() {
    let mut node = Node::new("brought-again");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let (archive, id) = desk.archive(&node, "one");
    let bundle = desk.bundle(&node, 1, &desk.good("one"), &archive);
    take(&node, &bundle);
    node.start();
    let before = node.healthy();
    node.crash();
    for container in node.containers(None) {
        node.docker(&["rm", "--force", &container]);
    }
    node.docker(&["rmi", "--force", &id]);
    damage_store(&node);
    node.start();
    let damaged = node.until("the damage is found", |status| {
        !status["store_damaged"].is_null()
    });
    let line = damaged["store_damaged"][0].as_str().unwrap_or_default();
    for word in ["is damaged (blob sha256:", "stick"] {
        assert!(line.contains(word), "{word}: {damaged}");
    }
    take(&node, &bundle);
    let after = well_again(&node, &before);
    assert_eq!(after["store_damaged"], Value::Null, "{after}");
    assert_eq!(after["containers"]["app"]["image_id"], id.as_str());
    // All that is in the store is what its name says.
    let store = node.root.join("var/lib/monopod/store/blobs/sha256");
    for entry in fs::read_dir(store).expect("there is a store").flatten() {
        let bytes = fs::read(entry.path()).expect("it can be read");
        let name = entry.file_name();
        assert_eq!(
            name.to_str(),
            Some(monopod::image::Digest::of(&bytes).hex().as_str())
        );
    }
}

#[test]
fn what_cannot_be_fed_again_is_not_taken_away() {
    let mut node = Node::new("kept");
    let (image, file) = image(&node, "kept");
    node.must(&["import", &file.display().to_string()]);
    describe(&node, &image);
    node.settings(SMALL);
    node.start();
    let before = node.healthy();
    damage_engine(&image);
    damage_store(&node);
    kill_process(&before["containers"]["app"]["pid"]);
    let safe = node.until("the safe state is reached", |status| {
        status["ladder"] == "safe-state"
    });
    assert!(node.engine.inspect("image", &image).is_some());
    assert_eq!(said(&node, "its image is not rebuilt"), 1, "{}", node.log());
    let line = safe["store_damaged"][0].as_str().unwrap_or_default();
    for word in [&image, "sha256:", "monopod import", "preload", "stick"] {
        assert!(line.contains(word), "{word}: {safe}");
    }
    assert!(
        safe["line"]
            .as_str()
            .is_some_and(|said| said.contains(line))
    );
    let doctor = node.run(&["doctor"]);
    assert!(doctor.stdout.contains("is damaged (blob"), "{doctor:?}");

    // Somebody else's container is in the way, too; only then does its end help.
    let stranger = node.docker(&["create", "--network", "none", &image, "sleep", "9"]);
    node.must(&["import", &file.display().to_string()]);
    node.must(&["restart"]);
    eventually("the stranger is named", || {
        said(&node, "not monopod's") == 1
    });
    node.until("the safe state is reached again", |status| {
        status["ladder"] == "safe-state"
    });
    node.docker(&["rm", &stranger]);
    node.must(&["restart"]);
    well_again(&node, &before);
    assert_eq!(page(&node, &image), "kept");
}
