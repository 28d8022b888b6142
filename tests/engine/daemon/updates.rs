//! Releases on a real engine: tried, kept, taken back, held up, and gone at last.

use std::fs;

use super::desk::{
    Desk, QUICK, book, committed, image_id, listed, mark, rejected, running, take, taken_back,
    text, trials, waits,
};
use super::rebuild::damage_store;
use crate::node::{ASK, Node, SERVE, example_archive};
use crate::support::eventually;

#[test]
fn from_one_bundle_to_the_next_and_back() {
    let mut node = Node::new("next");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    // One name for three images.
    let pages = ["one", "two", "three"].map(|page| desk.archive(&node, page));
    let bundles: Vec<String> = (1..)
        .zip(["one", "two", "three"].iter().zip(&pages))
        .map(|(sequence, (page, (archive, _)))| {
            desk.bundle(&node, sequence, &desk.good(page), archive)
        })
        .collect();

    let ran = node.must(&["import", &bundles[0], "--json"]);
    assert!(ran.stderr.contains("no daemon runs"), "{ran:?}");
    let first = text(&ran.json()["release"]["id"]);
    node.start();
    let status = node.healthy();
    assert_eq!(status["release"], first.as_str());
    assert_eq!(image_id(&status), pages[0].1);
    assert_eq!(mark(&node), "one");
    assert!(
        !node.log().contains("on trial"),
        "the first one is not tried: there is nothing else"
    );

    let ran = node.must(&["import", &bundles[1], "--json"]).json();
    let second = text(&ran["release"]["id"]);
    assert!(!ran["next"].is_null(), "the daemon says what comes: {ran}");
    let status = committed(&node, &second);
    assert_eq!(book(&status)["previous"], first.as_str());
    assert_eq!(image_id(&status), pages[1].1);
    assert_eq!(mark(&node), "two");
    let again = node.must(&["import", &bundles[1]]);
    assert!(again.stdout.contains("runs already"), "{again:?}");
    // What is older than what was accepted is refused.
    let older = node.run(&["import", &bundles[0]]);
    assert_eq!(older.code, 4, "{older:?}");

    node.must(&["release", "rollback"]);
    let status = taken_back(&node, &second, &first);
    assert_eq!(
        image_id(&status),
        pages[0].1,
        "the name is the other image's by now"
    );
    assert_eq!(mark(&node), "one");
    let again = node.run(&["import", &bundles[1]]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.stderr.contains("by hand"), "{again:?}");

    node.must(&["release", "retry", &second]);
    let status = committed(&node, &second);
    assert_eq!(image_id(&status), pages[1].1);
    assert_eq!(rejected(&status, &second), None);

    let third = take(&node, &bundles[2]);
    let status = committed(&node, &third);
    assert_eq!(book(&status)["previous"], second.as_str());
    assert_eq!(mark(&node), "three");
    eventually("the oldest release is gone", || {
        !listed(&node).contains(&first)
    });
    let mut left = listed(&node);
    left.sort();
    let mut kept = vec![second.clone(), third];
    kept.sort();
    assert_eq!(left, kept);
    eventually("the oldest image is gone", || {
        node.engine.inspect("image", &pages[0].1).is_none()
    });
    for (_, id) in &pages[1..] {
        assert!(node.engine.inspect("image", id).is_some(), "{id}");
    }
    let rows = node.must(&["images", "--json"]).json();
    let rows = rows.as_array().expect("it is a list");
    assert!(rows.iter().all(|row| row["layers"] == true), "{rows:?}");
    assert!(
        rows.iter().all(|row| row["id"] != pages[0].1.as_str()),
        "{rows:?}"
    );
    // Back once more: what is kept is enough for that.
    node.must(&["release", "rollback"]);
    let status = committed(&node, &second);
    assert_eq!(image_id(&status), pages[1].1);
    assert_eq!(mark(&node), "two");
}

#[test]
fn what_ends_at_once_is_taken_back() {
    let (node, desk, archive, first) = running("ends", "");
    let bundle = desk.bundle(&node, 2, &desk.ends("two"), &archive);
    let bad = take(&node, &bundle);
    let status = taken_back(&node, &bad, &first);
    assert_eq!(mark(&node), "one");
    assert_eq!(status["ladder"], "foot");
    let again = node.run(&["import", &bundle]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.stderr.contains("release retry"), "{again:?}");

    node.must(&["release", "retry", &bad]);
    // The trial may be over before anyone looks.
    eventually("it is tried again", || trials(&node, &bad) == 2);
    taken_back(&node, &bad, &first);
    assert_eq!(mark(&node), "one");
    // A newer one is taken all the same, and is good.
    let third = take(&node, &desk.bundle(&node, 3, &desk.good("three"), &archive));
    let status = committed(&node, &third);
    assert_eq!(book(&status)["previous"], first.as_str());
    assert_eq!(mark(&node), "three");
}

#[test]
fn what_is_never_well_is_taken_back_at_the_deadline() {
    let (node, desk, archive, first) = running("sick", "deadline = \"4s\"");
    let bad = take(&node, &desk.bundle(&node, 2, &desk.sick("two"), &archive));
    let status = taken_back(&node, &bad, &first);
    assert_eq!(trials(&node, &bad), 1);
    let why = rejected(&status, &bad).expect("it is rejected");
    assert!(why.contains("not healthy for 1 s"), "{why}");
    assert_eq!(mark(&node), "one");
}

#[test]
fn the_node_s_own_file() {
    let mut node = Node::new("own-file");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let (archive, id) = desk.archive(&node, "one");
    node.docker(&["load", "--input", &archive]);
    node.describe(&desk.good("one"));
    node.start();
    let first = node.healthy();
    assert_eq!(book(&first)["local"], first["release"]);

    node.describe(&desk.good("two"));
    node.must(&["reload"]);
    let second = node.until("the new file is in force", |status| {
        book(status)["previous"] == first["release"] && status["update"]["stage"] == "idle"
    });
    let good = text(&second["release"]);
    assert_eq!(mark(&node), "two");
    assert_eq!(image_id(&second), id);

    node.describe(&desk.ends("three"));
    node.must(&["reload"]);
    let status = node.until("the bad one is taken back", |status| {
        let rejected = book(status)["rejected"].as_array();
        rejected.is_some_and(|rejected| rejected.len() == 1)
            && status["release"] == good.as_str()
            && status["update"]["stage"] == "idle"
            && status["verdict"] == "healthy"
    });
    assert_eq!(mark(&node), "two");
    let bad = text(&book(&status)["rejected"][0]["release"]);
    assert_eq!(book(&status)["local"], bad.as_str());
    let pid = status["containers"]["app"]["pid"].clone();

    // The next daemon finds the same file, and knows what comes of it.
    node.crash();
    node.start();
    let status = committed(&node, &good);
    assert_eq!(status["containers"]["app"]["pid"], pid);
    assert!(rejected(&status, &bad).is_some());
    let trials = node.log().matches("runs on trial").count();
    assert_eq!(trials, 2, "one for each changed file");

    // Files of a new name, changed while nobody looked.
    node.crash();
    node.describe(&desk.good("four"));
    node.start();
    let status = node.until("the file is in force", |status| {
        book(status)["previous"] == good.as_str() && status["update"]["stage"] == "idle"
    });
    assert_eq!(mark(&node), "four");
    let fourth = text(&status["release"]);

    // Its image is nowhere: what runs is not touched.
    let late = format!("{}-late", desk.reference());
    node.describe(&desk.good("five").replace(desk.reference(), &late));
    node.must(&["reload"]);
    let status = node.until("it says what is missing", |status| {
        status["update"]["line"]
            .as_str()
            .is_some_and(|line| line.contains(&late) && line.contains("monopod import"))
    });
    assert_eq!(status["release"], fourth.as_str());
    assert_eq!(status["update"]["stage"], "staging");
    assert_eq!(mark(&node), "four");
    node.must(&["import", &archive, "--as", &late]);
    node.until("the file is in force", |status| {
        book(status)["previous"] == fourth.as_str() && status["update"]["stage"] == "idle"
    });
    assert_eq!(mark(&node), "five");
}

#[test]
fn somebody_s_word() {
    let (mut node, desk, archive, first) = running("word", "");
    node.must(&["release", "hold"]);
    let second = take(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    waits(&node, &second, "on hold");
    // The daemon dies between staging and the trial, and the next one goes on.
    node.crash();
    node.start();
    waits(&node, &second, "on hold");
    assert_eq!(mark(&node), "one");
    node.must(&["release", "unhold"]);
    let status = committed(&node, &second);
    assert_eq!(book(&status)["previous"], first.as_str());

    let bundle = desk.bundle(&node, 3, &desk.good("three"), &archive);
    let staged = node.must(&["release", "stage", &bundle, "--json"]).json();
    let third = text(&staged["release"]["id"]);
    waits(&node, &third, "release activate");
    node.crash();
    node.start();
    waits(&node, &third, "release activate");
    assert_eq!(mark(&node), "two");
    node.must(&["release", "activate"]);
    committed(&node, &third);
    assert_eq!(mark(&node), "three");

    // Pinned, it outlasts those after it.
    node.must(&["release", "pin", &second]);
    for (sequence, page) in [(4, "four"), (5, "five")] {
        let lines = desk.good(page);
        let release = take(&node, &desk.bundle(&node, sequence, &lines, &archive));
        committed(&node, &release);
    }
    eventually("the one that is not pinned is gone", || {
        !listed(&node).contains(&third)
    });
    assert!(listed(&node).contains(&second));
}

#[test]
fn what_could_not_be_mended_is_not_tried() {
    let (mut node, desk, _, first) = running("unkept", "");
    node.must(&["release", "hold"]);
    let (archive, id) = desk.archive(&node, "two");
    let bundle = desk.bundle(&node, 2, &desk.good("two"), &archive);
    let second = take(&node, &bundle);
    waits(&node, &second, "on hold");
    node.crash();
    // The engine has it all; but what the store has of it has become another content.
    assert!(node.engine.inspect("image", &id).is_some());
    damage_store(&node);
    node.start();
    node.healthy();
    node.must(&["release", "unhold"]);
    let status = node.until("it says what is damaged", |status| {
        status["update"]["line"]
            .as_str()
            .is_some_and(|line| line.contains("is damaged (blob") && line.contains("import it"))
    });
    assert_eq!(status["release"], first.as_str());
    assert_eq!(status["update"]["stage"], "staging");
    assert_eq!(mark(&node), "one");
    node.must(&["import", &bundle]);
    let status = committed(&node, &second);
    assert_eq!(book(&status)["previous"], first.as_str());
    assert_eq!(image_id(&status), id);
    // Back by hand it goes as long as the engine has what it takes.
    damage_store(&node);
    node.must(&["release", "rollback"]);
    taken_back(&node, &second, &first);
    assert_eq!(mark(&node), "one");
}

#[test]
fn too_many_deaths_in_the_trial() {
    let (mut node, desk, archive, first) = running("deaths", "tries = 2\ndeadline = \"10m\"");
    let before = node.containers(None).remove(0);
    let bad = take(&node, &desk.bundle(&node, 2, &desk.sick("two"), &archive));
    let on_trial = |node: &Node, deaths: u64| {
        node.until(&format!("it is on trial, {deaths} deaths"), |status| {
            book(status)["trial"]["release"] == bad.as_str()
                && book(status)["trial"]["deaths"] == deaths
                && status["containers"]["app"]["state"] == "running"
                && status["containers"]["app"]["id"] != before.as_str()
        });
        assert_eq!(mark(node), "two");
    };
    on_trial(&node, 0);
    // An orderly end is none.
    node.signal(nix::sys::signal::Signal::SIGTERM);
    node.ended();
    node.start();
    on_trial(&node, 0);
    node.crash();
    node.start();
    on_trial(&node, 1);
    node.crash();
    node.start();
    let status = taken_back(&node, &bad, &first);
    let why = rejected(&status, &bad).expect("it is rejected");
    assert!(why.contains("died 2 times"), "{why}");
    assert_eq!(mark(&node), "one");
}

#[test]
fn volumes_are_as_they_were_before_the_trial() {
    let mut node = Node::new("volumes");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let lines = |mark: &str, command: &str| {
        desk.app(mark, command, ASK)
            + "\nvolumes = [\"data:/data\"]\n[volumes.data]\nsnapshot = true"
    };
    let writes = |word: &str| {
        format!(
            r#"["sh", "-c", "test -e /data/kept || echo {word} >/data/kept; busybox mkdir -p /www; echo ok >/www/ok; exec httpd -f -p 80 -h /www"]"#
        )
    };
    let first = take(
        &node,
        &desk.bundle(&node, 1, &lines("one", &writes("one")), &archive),
    );
    node.start();
    node.healthy();
    let kept = || {
        let id = node.containers(None).remove(0);
        node.docker(&["exec", &id, "cat", "/data/kept"])
    };
    assert_eq!(kept(), "one");
    let spoils = r#"["sh", "-c", "echo spoilt >/data/kept; echo more >/data/more; exit 3"]"#;
    let bad = take(
        &node,
        &desk.bundle(&node, 2, &lines("two", spoils), &archive),
    );
    taken_back(&node, &bad, &first);
    assert_eq!(mark(&node), "one");
    assert_eq!(kept(), "one");
    let id = node.containers(None).remove(0);
    node.docker(&["exec", &id, "sh", "-c", "test ! -e /data/more"]);
    let snapshots = node.root.join("var/lib/monopod/snapshots");
    let forgotten = || fs::read_dir(&snapshots).map_or(0, Iterator::count) == 0;
    eventually("the copy is forgotten", forgotten);

    // A good one keeps what it has written.
    let changes = r#"["sh", "-c", "echo three >/data/kept; busybox mkdir -p /www; echo ok >/www/ok; exec httpd -f -p 80 -h /www"]"#;
    let third = take(
        &node,
        &desk.bundle(&node, 3, &lines("three", changes), &archive),
    );
    committed(&node, &third);
    assert_eq!(kept(), "three");
    eventually("the copy is forgotten", forgotten);
}

#[test]
fn a_name_of_one_image_is_given_to_the_next() {
    let mut node = Node::new("tags");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let one = desk.archive(&node, "one");
    let two = desk.archive(&node, "two");
    let first = take(&node, &desk.bundle(&node, 1, &desk.good("one"), &one.0));
    node.start();
    node.healthy();
    let bad = take(&node, &desk.bundle(&node, 2, &desk.ends("two"), &two.0));
    let status = taken_back(&node, &bad, &first);
    assert_eq!(image_id(&status), one.1);
    let named = node.engine.inspect("image", desk.reference());
    assert_eq!(named.expect("it is there")["Id"], one.1.as_str());
    // Its container goes, and is made again of its own image.
    let id = node.containers(None).remove(0);
    node.docker(&["rm", "--force", &id]);
    let status = node.until("it is made again", |status| {
        status["verdict"] == "healthy" && status["containers"]["app"]["id"] != id.as_str()
    });
    assert_eq!(image_id(&status), one.1);
    assert_eq!(mark(&node), "one");
}

#[test]
fn another_workload_takes_over() {
    let mut node = Node::new("other");
    node.settings(QUICK);
    let (image, archive) = example_archive(&node, "other");
    node.must(&["import", &archive.display().to_string()]);
    let lines = |role: &str| {
        format!(
            "[containers.{role}]\nimage = \"{image}\"\nstop_signal = \"SIGKILL\"\ncommand = {SERVE}\n\
             healthcheck = {ASK}"
        )
    };
    node.describe(&lines("old"));
    node.start();
    node.healthy();
    let text = node.text(&lines("new")).replacen("-other", "-another", 1);
    fs::write(node.root.join("etc/monopod/workload.toml"), text).expect("the root can be written");
    node.must(&["reload"]);
    node.until("the other workload is in force", |status| {
        status["update"]["stage"] == "idle"
            && status["workload"]
                .as_str()
                .is_some_and(|name| name.ends_with("-another"))
            && status["verdict"] == "healthy"
    });
    assert_eq!(node.containers(Some("old")).len(), 0);
    assert_eq!(node.containers(Some("new")).len(), 1);
}
