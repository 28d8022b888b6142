//! Which releases a node takes, and which no more: revoked keys, sequences, quarantine.

use std::fs;

use super::desk::{
    Desk, QUICK, book, committed, mark, rejected, running, take, taken_back, text, trials, waits,
};
use crate::node::{ASK, Node, SERVE, folder};

/// Waits until a release is out because its key is, while the one that runs stays as it is.
fn out_with_its_key(node: &Node, release: &str, runs: &str) {
    let status = node.until(&format!("{release} is out, and {runs} runs"), |status| {
        rejected(status, release).is_some()
            && status["release"] == runs
            && book(status)["current"] == runs
            && book(status)["next"].is_null()
            && status["update"]["stage"] == "idle"
            && status["verdict"] == "healthy"
    });
    let why = rejected(&status, release).unwrap_or_default();
    assert!(why.contains("which is revoked"), "{why}");
    assert_eq!(trials(node, release), 0, "it has never run");
}

#[test]
fn a_key_that_is_revoked_while_its_release_waits() {
    let (node, desk, archive, first) = running("waits", "[update]\nactivation = \"manual\"");
    let pid = node.healthy()["containers"]["app"]["pid"].clone();
    let bundle = desk.bundle(&node, 2, &desk.good("two"), &archive);
    let second = take(&node, &bundle);
    waits(&node, &second, "release activate");
    desk.revoke(&node);
    // Somebody says yes, who has not heard of it.
    node.must(&["release", "activate"]);
    out_with_its_key(&node, &second, &first);
    assert_eq!(mark(&node), "one");
    assert_eq!(node.healthy()["containers"]["app"]["pid"], pid);
    let again = node.run(&["import", &bundle]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.stderr.contains("which is revoked"), "{again:?}");
}

#[test]
fn a_key_that_is_revoked_while_no_daemon_runs() {
    let (mut node, desk, archive, first) = running("unseen", "[update]\nactivation = \"manual\"");
    let second = take(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    waits(&node, &second, "release activate");
    node.crash();
    desk.revoke(&node);
    node.start();
    // What runs is not asked for its key again: it has proved itself.
    out_with_its_key(&node, &second, &first);
    assert_eq!(mark(&node), "one");
}

#[test]
fn the_way_back_needs_no_key() {
    let (mut node, desk, archive, first) = running("way-back", "");
    let second = take(&node, &desk.bundle(&node, 2, &desk.good("two"), &archive));
    committed(&node, &second);
    desk.revoke(&node);
    node.crash();
    node.start();
    committed(&node, &second);
    assert_eq!(mark(&node), "two");
    node.must(&["release", "rollback"]);
    taken_back(&node, &second, &first);
    assert_eq!(mark(&node), "one");
}

#[test]
fn an_absurd_sequence_dies_with_its_key() {
    const MOST: u64 = (1 << 53) - 1;
    let (node, desk, archive, _) = running("absurd", "");
    let absurd = take(
        &node,
        &desk.bundle(&node, MOST, &desk.good("two"), &archive),
    );
    committed(&node, &absurd);
    // With that key nothing newer can ever come.
    let next = desk.bundle(&node, 3, &desk.good("three"), &archive);
    let refused = node.run(&["import", &next]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains(&MOST.to_string()), "{refused:?}");

    let other = desk.with_key(&node, "other");
    desk.revoke(&node);
    let third = take(
        &node,
        &other.bundle(&node, 1, &other.good("three"), &archive),
    );
    let status = committed(&node, &third);
    assert_eq!(book(&status)["previous"], absurd.as_str());
    assert_eq!(mark(&node), "three");
    let refused = node.run(&["import", &next, "--allow-downgrade"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("which is revoked"), "{refused:?}");
}

#[test]
fn an_older_release_needs_the_owners_word_and_keeps_it() {
    let mut node = Node::new("older");
    let settings = |settle: &str| {
        QUICK.replace("settle = \"1s\"", &format!("settle = \"{settle}\"")) + "deadline = \"2h\""
    };
    node.settings(&settings("1s"));
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let bundle = |sequence: u64| {
        let lines = desk.good(&sequence.to_string());
        desk.bundle(&node, sequence, &lines, &archive)
    };
    let bundles = [5, 4, 3].map(bundle);
    let fifth = take(&node, &bundles[0]);
    node.start();
    let before = node.healthy()["containers"]["app"]["id"].clone();
    let refused = node.run(&["import", &bundles[1]]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("--allow-downgrade"), "{refused:?}");

    node.settings(&settings("1h"));
    node.must(&["reload"]);
    node.must(&["release", "hold"]);
    let report = node.must(&["import", &bundles[1], "--allow-downgrade", "--json"]);
    let fourth = text(&report.json()["release"]["id"]);
    // Each daemon that finds it so goes on with it, though the newer one is there, too.
    waits(&node, &fourth, "on hold");
    node.crash();
    node.start();
    waits(&node, &fourth, "on hold");
    node.must(&["release", "unhold"]);
    let on_trial = |node: &Node, deaths: u64| {
        node.until(&format!("it is on trial, {deaths} deaths"), |status| {
            book(status)["trial"]["release"] == fourth.as_str()
                && book(status)["trial"]["deaths"] == deaths
                && status["release"] == fourth.as_str()
                // Until the older one's container is told to end, that is the one that is healthy.
                && status["containers"]["app"]["id"] != before
                && status["verdict"] == "healthy"
        });
        assert_eq!(mark(node), "4");
    };
    on_trial(&node, 0);
    node.crash();
    node.start();
    on_trial(&node, 1);
    node.settings(&settings("1s"));
    node.must(&["reload"]);
    let status = committed(&node, &fourth);
    assert_eq!(book(&status)["previous"], fifth.as_str());

    // From now on that sequence counts, for this daemon and the next.
    node.crash();
    node.start();
    committed(&node, &fourth);
    let refused = node.run(&["import", &bundles[2]]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let again = take(&node, &bundles[0]);
    assert_eq!(again, fifth);
    committed(&node, &fifth);
    assert_eq!(mark(&node), "5");
}

#[test]
fn quarantine_ends_by_hand_and_not_by_bringing_it_again() {
    let mut node = Node::new("again");
    node.settings(QUICK);
    let desk = Desk::new(&node);
    let cure = folder(&node, "cure");
    let (archive, _) = desk.archive(&node, "one");
    let first = take(&node, &desk.bundle(&node, 1, &desk.good("one"), &archive));
    node.start();
    node.healthy();
    let needs = SERVE.replace(
        "busybox mkdir",
        "test -e /cure/here || exit 3; busybox mkdir",
    );
    let lines =
        desk.app("two", &needs, ASK) + &format!("\nvolumes = [\"{}:/cure:ro\"]", cure.display());
    let bundle = desk.bundle(&node, 2, &lines, &archive);
    let second = take(&node, &bundle);
    taken_back(&node, &second, &first);
    assert_eq!(trials(&node, &second), 1);

    // It would be well now; but nobody has said that it may be tried.
    fs::write(cure.join("here"), "").expect("the folder can be written");
    let again = node.run(&["import", &bundle]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.stderr.contains("release retry"), "{again:?}");
    let again = node.run(&["release", "activate", &second]);
    assert_eq!(again.code, 4, "{again:?}");
    // Nor is it when nobody is there who could refuse it.
    node.crash();
    take(&node, &bundle);
    node.start();
    taken_back(&node, &second, &first);
    node.must(&["reload"]);
    taken_back(&node, &second, &first);
    assert_eq!(trials(&node, &second), 1, "{}", node.log());
    assert_eq!(mark(&node), "one");

    node.must(&["release", "retry", &second]);
    let status = committed(&node, &second);
    assert_eq!(rejected(&status, &second), None);
    assert_eq!(trials(&node, &second), 2);
    assert_eq!(mark(&node), "two");
}
