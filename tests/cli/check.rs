//! `monopod check`.
//!
//! Each `golden/check/*.toml` is a file whose author made one class of mistake;
//! the text of the same name is what they are told.

use std::fs;

use crate::support::{Monopod, golden};

const GOOD: &str = "name = \"gateway\"\n\n[containers.app]\nimage = \"example/gateway:1.4.2\"\n";

#[test]
fn every_class_of_error() {
    let folder = golden().join("check");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the golden files")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "toml"))
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "the golden files are there");
    for name in names {
        let outcome = Monopod::new(&["check", &name]).folder(&folder).run();
        outcome.matches(&format!("check/{name}"));
    }
}

#[test]
fn this_nodes_own_files() {
    Monopod::new(&["check"])
        .file("etc/monopod/workload.toml", GOOD)
        .file(
            "etc/monopod/node.toml",
            "[engine]\nsocket = \"unix:///run/docker.sock\"\n",
        )
        .run()
        .matches("check/own-good");
}

#[test]
fn errors_of_every_own_file_at_once() {
    Monopod::new(&["check"])
        .file(
            "etc/monopod/workload.toml",
            format!("{GOOD}mem_limit = \"8m\"\nports = [\"80:80\"]\nenv_file = \"app.env\"\n"),
        )
        .file("etc/monopod/app.env", "GOOD=1\nbad line\nQUOTE=\"open\n")
        .file(
            "etc/monopod/workload.d/10-node.toml",
            "[containers.app]\nmem_reservation = \"9m\"\nports = [\"80:81\"]\ndevices = [\"/dev/does-not-exist\"]\n",
        )
        .file("etc/monopod/workload.d/20-broken.toml", "[containers.app\n")
        .file("etc/monopod/workload.d/ignored.txt", "[containers.app\n")
        .file("etc/monopod/node.toml", "[engine]\nsocket = \"tcp://10.0.0.1:2375\"\n")
        .run()
        .matches("check/own-bad");
}

#[test]
fn what_a_node_lacks_is_an_error_there() {
    let workload = format!(
        "{GOOD}volumes = [\"/does/not/exist:/data\"]\nenv_file = \"none.env\"\n\
         secrets = {{ password = {{ file = \"/does/not/exist\" }} }}\n"
    );
    Monopod::new(&["check"])
        .file("etc/monopod/workload.toml", &workload)
        .run()
        .matches("check/lacking-own");
    Monopod::new(&["check", "gateway.toml"])
        .file("gateway.toml", &workload)
        .run()
        .matches("check/lacking-other");
}

#[test]
fn json() {
    Monopod::new(&["check", "--json", "w.toml"])
        .file(
            "w.toml",
            format!("{GOOD}imge = 1\nports = [\"1:1\", \"1:2\"]\n"),
        )
        .run()
        .matches("check/json-bad");
    let good = Monopod::new(&["check", "--json", "w.toml"])
        .file("w.toml", GOOD)
        .run();
    assert_eq!((good.code, good.stdout.trim()), (Some(0), "[]"));
}

#[test]
fn files_that_are_not_there_or_no_text() {
    Monopod::new(&["check"]).run().matches("check/none-own");
    Monopod::new(&["check", "none.toml"])
        .run()
        .matches("check/none-other");
    Monopod::new(&["check", "."])
        .run()
        .matches("check/a-folder");
    Monopod::new(&["check", "w.toml"])
        .file("w.toml", b"name = \"caf\xe9\"\n")
        .run()
        .matches("check/latin-1");
    let large = Monopod::new(&["check", "w.toml"])
        .file("w.toml", "#".repeat((1 << 20) + 1))
        .run();
    assert_eq!(large.code, Some(3));
    assert!(
        large.stderr.contains("larger than 1 MiB"),
        "{}",
        large.stderr
    );
}

#[test]
fn a_node_file_is_known_by_its_name() {
    let outcome = Monopod::new(&["check", "node.toml"])
        .file("node.toml", "[systemd]\nready = \"running\"\n")
        .run();
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(0), "node.toml: ok\n")
    );
}

#[test]
fn colour_is_for_terminals() {
    let outcome = Monopod::new(&["check", "w.toml"])
        .file("w.toml", "x = 1\n")
        .run();
    assert!(!outcome.stderr.contains('\u{1b}'));
}
