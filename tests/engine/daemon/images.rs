//! Images that come late, from the preload folder, or not at all; and their going.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::node::{Node, example_archive};
use crate::support::IMAGE;

/// The one web server of an example image.
fn describe(node: &Node, image: &str) {
    node.describe(&format!(
        r#"[containers.app]
        image = "{image}"
        healthcheck = {{ http = ":80/", interval = "300ms", timeout = "5s", start_period = "30s" }}"#
    ));
}

fn path(file: &Path) -> String {
    file.display().to_string()
}

/// The rows of `monopod images`: one of this name.
fn row<'r>(rows: &'r Value, reference: &str) -> Option<&'r Value> {
    let rows = rows.as_array().expect("it is a list");
    rows.iter().find(|row| row["reference"] == reference)
}

#[test]
fn an_image_that_comes_late() {
    let mut node = Node::new("late");
    let (image, file) = example_archive(&node, "late");
    describe(&node, &image);
    node.start();
    let status = node.until("it says what to do", |status| {
        status["containers"]["app"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("monopod import"))
    });
    assert_eq!(status["containers"]["app"]["state"], "absent");
    assert!(status["containers"]["app"]["id"].is_null());
    let shown = node.run(&["status"]);
    assert_eq!(shown.code, 6);
    assert!(shown.stdout.contains("monopod import"), "{shown:?}");
    node.must(&["import", &path(&file)]);
    let status = node.healthy();
    assert_eq!(status["ladder"], "foot");
    // It is not the container's failure that its image was late.
    assert_eq!(status["containers"]["app"]["restarts"], 0);
}

#[test]
fn what_has_taken_an_images_name_does_not_run() {
    let mut node = Node::new("moved");
    node.settings(
        "[escalation]\nrestarts = 1000\nbackoff_base = \"100ms\"\nbackoff_max = \"300ms\"",
    );
    let (image, file) = example_archive(&node, "moved");
    node.must(&["import", &path(&file)]);
    // Both want the image at once, and one gets no container while the other one's port is taken.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    node.describe(&format!(
        r#"[containers.app]
        image = "{image}"
        stop_signal = "SIGKILL"
        network_mode = "container:broker"
        [containers.broker]
        image = "{IMAGE}"
        command = ["sleep", "100000"]
        stop_signal = "SIGKILL"
        ports = ["127.0.0.1:{port}:80"]"#
    ));
    node.start();
    crate::support::eventually("the port is in the way", || {
        node.log().matches("will not start its container").count() > 2
    });
    assert_eq!(node.containers(Some("app")).len(), 0);
    node.docker(&["tag", IMAGE, &image]);
    drop(taken);
    let status = node.until("both run", |status| status["verdict"] == "healthy");
    let app = &node.containers(Some("app"))[0];
    let made = node.engine.inspect("container", app).expect("it runs");
    assert_eq!(made["Image"], status["containers"]["app"]["image_id"]);
    let theirs = node.engine.inspect("image", IMAGE).expect("it was built");
    assert_ne!(made["Image"], theirs["Id"]);

    // Nor does what somebody made in its place, with all of its labels.
    node.crash();
    let labels = made["Config"]["Labels"].as_object().expect("it has labels");
    let labels = labels.iter().map(|(name, value)| {
        let value = value.as_str().unwrap_or_default();
        format!("--label={name}={value}")
    });
    let labels: Vec<String> = labels.collect();
    let name = made["Name"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches('/');
    let network = made["HostConfig"]["NetworkMode"].as_str();
    let network = format!("--network={}", network.unwrap_or_default());
    node.docker(&["rm", "--force", app]);
    let mut words = vec!["run", "--detach", "--name", name, &network];
    words.extend(labels.iter().map(String::as_str));
    words.extend([IMAGE, "sleep", "100000"]);
    let forged = node.docker(&words);
    node.start();
    node.until("it is another container", |status| {
        status["verdict"] == "healthy" && status["containers"]["app"]["id"] != forged.as_str()
    });
    let app = &node.containers(Some("app"))[0];
    let again = node.engine.inspect("container", app).expect("it runs");
    assert_eq!(again["Image"], made["Image"]);
}

#[test]
fn the_preload_folder() {
    let mut node = Node::new("preload");
    let (image, file) = example_archive(&node, "preload");
    let folder = node.root.join("var/lib/monopod/preload");
    fs::create_dir_all(&folder).expect("the root can be written");
    let archive = folder.join("app.tar");
    fs::copy(&file, &archive).expect("the root can be written");
    describe(&node, &image);
    node.start();
    let status = node.healthy();
    assert_eq!(status["containers"]["app"]["image"], image.as_str());
    node.crash();

    // A known archive is not read again: nobody notices that it has become rubbish of the same size and age.
    let meta = fs::metadata(&archive).expect("it is there");
    let rubbish = vec![0x5a; usize::try_from(meta.len()).expect("it is small")];
    fs::write(&archive, rubbish).expect("the root can be written");
    let age = meta.modified().expect("this system keeps times");
    let keep = |age| {
        let file = File::options()
            .write(true)
            .open(&archive)
            .expect("it is there");
        file.set_modified(age).expect("it can be set");
    };
    keep(age);
    node.must(&["import", "--preload"]);
    node.start();
    node.healthy();
    assert!(!node.log().contains("not all that is in"));
    node.crash();

    // A changed one is read, and what is wrong with it keeps nothing from starting.
    keep(age + std::time::Duration::from_secs(1));
    node.start();
    node.healthy();
    crate::support::eventually("the refusal is in the log", || {
        node.log().contains("not all that is in")
    });
    assert_eq!(node.run(&["import", "--preload"]).code, 1);
}

#[test]
fn what_is_used_stays_and_the_rest_goes() {
    let mut node = Node::new("prune");
    let (used, used_file) = example_archive(&node, "used");
    let (other, other_file) = example_archive(&node, "unused");
    describe(&node, &used);
    for file in [&used_file, &other_file] {
        node.must(&["import", &path(file)]);
    }
    node.start();
    node.healthy();
    let rows = node.must(&["images", "--json"]).json();
    for (image, pinned) in [(&used, true), (&other, false)] {
        let row = row(&rows, image).unwrap_or_else(|| panic!("{image} is not in {rows}"));
        assert_eq!(row["pinned"], pinned);
        assert_eq!(row["engine"], true);
        assert_eq!(row["layers"], true);
        assert!(row["store"].as_u64() > Some(0));
    }
    let shown = node.must(&["images"]);
    assert!(
        shown.stdout.contains(&used) && shown.stdout.contains("PINNED"),
        "{shown:?}"
    );

    // Nobody can say what is in use: nothing goes.
    node.describe("[containers.app]\nimage = 7");
    assert_eq!(node.run(&["images", "prune"]).code, 3);
    describe(&node, &used);
    let shared = node.engine.socket.clone();
    node.use_socket(&node.root.join("no-engine"));
    assert_eq!(node.run(&["images", "prune"]).code, 5);
    let listed = node.must(&["images", "--json"]).json();
    assert!(
        row(&listed, &other).is_some_and(|row| row["engine"].is_null()),
        "{listed}"
    );
    node.use_socket(&shared);

    let ran = node.must(&["images", "prune"]);
    assert!(
        ran.stdout.contains(&other) && !ran.stdout.contains(&used),
        "{ran:?}"
    );
    let rows = node.must(&["images", "--json"]).json();
    assert!(row(&rows, &other).is_none(), "{rows}");
    assert!(row(&rows, &used).is_some(), "{rows}");
    assert!(node.engine.inspect("image", &other).is_none());
    assert!(node.engine.inspect("image", &used).is_some());
    assert_eq!(node.must(&["images", "prune"]).stdout, "");
    // What the file no longer names and a container still uses stays too.
    describe(&node, &other);
    node.must(&["images", "prune"]);
    assert!(node.engine.inspect("image", &used).is_some());
    let rows = node.must(&["images", "--json"]).json();
    assert!(
        row(&rows, &used).is_some_and(|row| row["layers"] == true),
        "{rows}"
    );
    node.healthy();
}

#[test]
fn a_disk_too_small_for_two_copies() {
    let mut node = Node::new("tiny");
    node.settings("[store]\nkeep = false");
    let (image, file) = example_archive(&node, "tiny");
    describe(&node, &image);
    let ran = node.must(&["import", &path(&file)]);
    assert!(ran.stderr.contains("keep = false"), "{ran:?}");
    let rows = node.must(&["images", "--json"]).json();
    let tiny = row(&rows, &image).expect("it is still known");
    assert_eq!(tiny["layers"], false);
    assert!(tiny["store"].as_u64() < Some(64 << 10), "{tiny}");
    node.start();
    node.healthy();
    // Again, and the engine has it already.
    let again = node.must(&["import", &path(&file), "--json"]).json();
    assert_eq!(again["engine"][0][1]["sent"], 0, "{again}");
    // Gone from the engine, it cannot be rebuilt, and the status says what to do.
    node.crash();
    for id in node.containers(None) {
        node.docker(&["rm", "--force", &id]);
    }
    node.docker(&["rmi", "--force", &image]);
    node.must(&["images"]);
    node.start();
    node.until("it asks for the archive", |status| {
        status["containers"]["app"]["note"]
            .as_str()
            .is_some_and(|note| note.contains("import"))
    });
    node.must(&["import", &path(&file)]);
    node.healthy();
}
