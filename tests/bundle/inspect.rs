//! What a person is shown of a bundle.

use std::fmt::Write as _;

use crate::forge::Forge;
use crate::golden::{matches, story};
use crate::node::{Node, TWO, TWO_PUB};

#[test]
fn what_is_in_it() {
    let node = Node::new();
    node.write("plain.bundle", Forge::good().seal());
    let mut choosy = Forge::good();
    choosy.manifest.boards = vec!["acme,gate-1".to_owned(), "acme,gate-2".to_owned()];
    choosy.manifest.architectures = Vec::new();
    choosy.manifest.minimum_monopod = "0.0.1".parse().ok();
    choosy
        .manifest
        .absent
        .push(choosy.manifest.members.remove(5));
    choosy.bytes.remove(5);
    node.write("choosy.bundle", choosy.seal_with(TWO));
    node.write(
        "unsigned.bundle",
        choosy.around(b"", &choosy.manifest.bytes()),
    );
    node.write("two.pub", TWO_PUB);
    node.write("cut.bundle", &Forge::good().seal()[..400]);

    let mut found = String::new();
    for (words, code) in [
        (&["plain.bundle"][..], 0),
        // Which machines it is for is said, and is no reason to say nothing.
        (&["choosy.bundle", "--key", "two.pub"], 0),
        (&["choosy.bundle"], 4),
        (&["choosy.bundle", "--unverified"], 0),
        (&["unsigned.bundle"], 4),
        (&["unsigned.bundle", "--unverified"], 0),
        (&["unsigned.bundle", "--signature"], 4),
        (&["cut.bundle", "--unverified"], 4),
    ] {
        let ran = node.run(&[&["bundle", "inspect"], words].concat());
        assert_eq!(ran.code, Some(code), "{words:?}: {}", ran.stderr);
        let _ = writeln!(found, "$ monopod bundle inspect {}", words.join(" "));
        found += &story(&String::from_utf8_lossy(&ran.stdout));
        found += &story(&ran.stderr);
        found.push('\n');
    }
    matches("inspect", &(found.trim_end().to_owned() + "\n"));
}
