//! A bundle of what an engine has.

use std::fs;
use std::path::Path;

use super::desk::Desk;
use crate::node::Node;

/// An image that an engine has makes the same bundle as the archive that it was saved to.
#[test]
fn a_bundle_of_what_the_engine_has() {
    let node = Node::new("saved");
    let desk = Desk::new(&node);
    let (archive, _) = desk.archive(&node, "one");
    let of_archive = desk.bundle(&node, 1, &desk.good("one"), &archive);
    node.docker(&["load", "--input", &archive]);
    let of_engine = desk.path("engine.bundle");
    let words = [
        "bundle",
        "create",
        "--workload",
        &desk.path("1.toml"),
        "--from-engine",
        "--release",
        "1.1.0",
        "--sequence",
        "1",
        "--key",
        &desk.key(),
        "--output",
        &of_engine,
    ];
    let create = || {
        let mut command = node.command(&words);
        command.env(
            "DOCKER_HOST",
            format!("unix://{}", node.engine.socket.display()),
        );
        command.output().expect("the program is there")
    };
    let made = create();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(
        fs::read(&of_engine).expect("a bundle"),
        fs::read(&of_archive).expect("a bundle")
    );
    // What the engine does not have makes none.
    node.docker(&["rmi", desk.reference()]);
    fs::remove_file(&of_engine).expect("it is there");
    let refused = create();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(!Path::new(&of_engine).exists());
}
