//! What is brought without a word to the daemon, or with a lie, or by the preload folder.

use std::fs;
use std::path::PathBuf;

use super::desk::{Desk, QUICK, book, committed, listed, mark, running, take, text};
use crate::node::Node;
use crate::support::eventually;

fn state(node: &Node, name: &str) -> PathBuf {
    node.root.join("var/lib/monopod").join(name)
}

/// Has a bundle read by somebody who finds no daemon; returns its release.
fn dropped(node: &Node, bundle: &str) -> String {
    let output = node
        .command(&["import", bundle, "--json"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
        .output()
        .expect("the program is there");
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    text(&report["release"]["id"])
}

fn is_empty(folder: &PathBuf) -> bool {
    fs::read_dir(folder).is_ok_and(|mut names| names.next().is_none())
}

#[test]
fn a_reload_takes_over_what_is_signed_and_nothing_else() {
    let (node, desk, archive, first) = running("brought", "");
    let incoming = state(&node, "incoming");
    assert!(is_empty(&incoming), "the first one is taken over");
    // Another workload under the id of the one that runs.
    let lie = incoming.join(&first);
    fs::create_dir(&lie).expect("the root can be written");
    for entry in fs::read_dir(state(&node, "releases").join(&first)).expect("it is there") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), lie.join(entry.file_name())).expect("it can be copied");
    }
    fs::write(lie.join("workload.toml"), node.text(&desk.good("a lie")))
        .expect("it can be written");
    fs::write(incoming.join("rubbish"), "x").expect("it can be written");
    let second = dropped(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    assert!(incoming.join(&second).exists());
    assert!(!listed(&node).contains(&second), "it is no release yet");
    node.must(&["reload"]);
    let status = committed(&node, &second);
    assert_eq!(book(&status)["previous"], first.as_str());
    assert_eq!(mark(&node), "two");
    assert!(is_empty(&incoming));
    let log = node.log();
    for words in [
        format!("{first} was brought, and is refused and removed: workload.toml is not the one"),
        "rubbish was brought, and is refused and removed: that is no release's name".to_owned(),
        format!("release {second} was brought, and is taken over"),
    ] {
        assert!(log.contains(&words), "{words}: {log}");
    }
    // The way back is what it was.
    node.must(&["release", "rollback"]);
    committed(&node, &first);
    assert_eq!(mark(&node), "one");
}

#[test]
fn who_asks_for_one_that_does_not_hold_is_told_why() {
    let (node, desk, archive, first) = running("told", "");
    let bundle = desk.bundle(&node, 2, &desk.good("two"), &archive);
    let second = dropped(&node, &bundle);
    fs::write(state(&node, "incoming").join(&second).join("extra"), "x").expect("it is there");
    let ran = node.run(&["release", "stage", &second]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.stderr.contains("extra is no file that was signed"),
        "{ran:?}"
    );
    assert_eq!(listed(&node), [first]);
    // By its front door it comes in.
    assert_eq!(take(&node, &bundle), second);
    committed(&node, &second);
}

#[test]
fn a_damaged_release_is_mended_before_it_is_missed() {
    let (mut node, desk, archive, first) = running("mended", "");
    node.crash();
    let file = state(&node, "releases").join(&first).join("workload.toml");
    fs::write(&file, "").expect("it is there");
    let bundle = desk.bundle(&node, 1, &desk.good("one"), &archive);
    assert_eq!(dropped(&node, &bundle), first);
    node.start();
    let status = node.healthy();
    assert_eq!(book(&status)["current"], first.as_str());
    assert_eq!(mark(&node), "one");
    assert!(!node.log().contains("damaged"), "{}", node.log());
    assert_eq!(listed(&node), [first]);
}

#[test]
fn bundles_in_the_preload_folder() {
    let mut node = Node::new("preloaded");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let preload = state(&node, "preload");
    fs::create_dir_all(&preload).expect("the root can be written");
    let put = |node: &Node, sequence: u64, mark: &str| {
        let bundle = desk.bundle(node, sequence, &desk.good(mark), &archive);
        fs::copy(bundle, preload.join(format!("{sequence}.bundle"))).expect("it can be copied");
    };
    // A node that is made with nothing else.
    put(&node, 1, "one");
    node.start();
    let first = text(&node.healthy()["release"]);
    assert_eq!(mark(&node), "one");
    put(&node, 2, "two");
    // As a restart of the unit does it.
    node.crash();
    node.start();
    let status = node.until("what was preloaded is committed", |status| {
        book(status)["previous"] == first.as_str() && status["update"]["stage"] == "idle"
    });
    assert_eq!(mark(&node), "two");
    let second = text(&status["release"]);
    put(&node, 3, "three");
    let ran = node.must(&["import", "--preload"]);
    assert!(ran.stdout.contains("release 1.3.0, sequence 3"), "{ran:?}");
    let status = node.until("the next one is committed", |status| {
        book(status)["previous"] == second.as_str() && status["update"]["stage"] == "idle"
    });
    assert_eq!(mark(&node), "three");
    // What is rejected does not come again with the next start.
    node.must(&["release", "rollback"]);
    let third = text(&status["release"]);
    committed(&node, &second);
    node.crash();
    let said = node.log().matches("supervising").count();
    node.start();
    eventually("the next daemon is there", || {
        node.log().matches("supervising").count() > said
    });
    let status = committed(&node, &second);
    assert!(super::desk::rejected(&status, &third).is_some());
    assert_eq!(mark(&node), "two");
}
