//! `monopod import` beside the engine: its exit codes, its end at any moment, and what it sends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::node::{Node, example_archive};
use crate::support::tar_of;

fn path(file: &Path) -> String {
    file.display().to_string()
}

/// The Debian images, from the folder that `tests/run` names, or made now.
fn debian(name: &str) -> PathBuf {
    let folder = std::env::var("MONOPOD_TEST_IMAGES").unwrap_or_else(|_| {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lib/images"))
            .output()
            .expect("there is a bash");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    Path::new(&folder).join(name)
}

#[test]
fn exit_codes() {
    let mut node = Node::new("codes");
    let (image, file) = example_archive(&node, "codes");
    let hostile = node.root.with_file_name("hostile.tar");
    let manifest =
        br#"[{"Config":"../../etc/shadow","RepoTags":["a:1"],"Layers":["/etc/passwd"]}]"#;
    let members = [("manifest.json".to_owned(), manifest.to_vec())];
    std::fs::write(&hostile, tar_of(&members)).expect("the folder can be written");
    let listing = |node: &Node| node.must(&["images", "--json"]).stdout;
    let before = listing(&node);

    let ran = node.run(&["import", &path(&hostile)]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert_eq!(listing(&node), before);
    assert_eq!(node.run(&["import", "/nowhere/at/all.tar"]).code, 1);
    assert_eq!(node.run(&["import"]).code, 2);
    assert_eq!(
        node.run(&["import", &path(&file), "--as", "Not A Name"])
            .code,
        2
    );
    assert_eq!(listing(&node), before);

    // Without an engine it comes as far as the store.
    let shared = node.engine.socket.clone();
    node.use_socket(&node.root.join("no-engine"));
    let ran = node.run(&["import", &path(&file)]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("hint: "), "{ran:?}");
    node.use_socket(&shared);
    assert!(listing(&node).contains(&image));
    assert!(node.engine.inspect("image", &image).is_none());
    // From a pipe, what was there is known.
    let ran = node
        .command(&["import", "-", "--json"])
        .stdin(std::fs::File::open(&file).expect("it is there"))
        .stdout(Stdio::piped())
        .output()
        .expect("the program is there");
    assert!(ran.status.success(), "{ran:?}");
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("it is JSON");
    assert_eq!(report["layers_added"], 0, "{report}");
    assert!(node.engine.inspect("image", &image).is_some());
}

#[test]
fn killed_at_any_moment() {
    let node = Node::new("torn");
    let archive = path(&debian("mosquitto.tar"));
    for delay in [3, 29, 97, 193, 389, 769, 1201] {
        let mut import = node
            .command(&["import", &archive])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is there");
        // It chooses the moment of the kill, and waits for nothing.
        std::thread::sleep(Duration::from_millis(delay));
        // It may have ended by itself.
        let _ = import.kill();
        let _ = import.wait();
        // The listing never shows half an image.
        let rows = node.must(&["images", "--json"]).json();
        for row in rows.as_array().expect("it is a list") {
            assert_eq!(row["layers"], true, "after {delay} ms: {rows}");
        }
    }
    let report = node.must(&["import", &archive, "--json"]).json();
    assert_eq!(
        report["images"][0]["references"][0],
        "monopod.test/mosquitto:1"
    );
    let rows = node.must(&["images", "--json"]).json();
    assert_eq!(rows[0]["layers"], true, "{rows}");
    assert_eq!(rows[0]["engine"], true, "{rows}");
    let id = node.docker(&["inspect", "--format", "{{.Id}}", "monopod.test/mosquitto:1"]);
    assert_eq!(rows[0]["id"], id.as_str());
}

#[test]
fn one_new_layer_is_all_that_is_sent() {
    let node = Node::new("update");
    node.must(&["import", &path(&debian("nginx.tar"))]);
    let update = format!("monopod.test/{:x}-update:1", std::process::id());
    let context = crate::node::folder(&node, "context");
    std::fs::write(
        context.join("Dockerfile"),
        "FROM monopod.test/nginx:1\nCOPY page /srv/www/page\n",
    )
    .expect("the folder can be written");
    std::fs::write(context.join("page"), "a new page").expect("the folder can be written");
    node.engine
        .docker(&["build", "--quiet", "--tag", &update, &path(&context)]);
    let archive = path(&node.root.with_file_name("update.tar"));
    node.docker(&["save", "--output", &archive, &update]);
    node.docker(&["rmi", &update]);
    let report = node.must(&["import", &archive, "--json"]).json();
    assert_eq!(report["layers_added"], 1, "{report}");
    let sent = &report["engine"][0][1];
    assert!(
        sent["sent"]
            .as_u64()
            .is_some_and(|sent| 0 < sent && sent < 64 << 10),
        "{report}"
    );
    assert!(sent["skipped"].as_u64() >= Some(2), "{report}");
    let id = node.docker(&["inspect", "--format", "{{.Id}}", &update]);
    assert_eq!(report["images"][0]["id"], id.as_str());
    node.docker(&["rmi", &update]);
}

#[test]
fn a_newer_image_under_the_same_name() {
    let mut node = Node::new("newer");
    let name = format!("monopod.test/{:x}-newer:1", std::process::id());
    let archive = |page: &str| {
        let lines = "COPY page /www/ok\nCMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]";
        node.engine
            .build(&name, lines, &[("page", page.as_bytes())]);
        let file = path(&node.root.with_file_name(page));
        node.docker(&["save", "--output", &file, &name]);
        node.docker(&["rmi", &name]);
        file
    };
    let (old, new) = (archive("old"), archive("new"));
    node.must(&["import", &old]);
    node.describe(&format!(
        "[containers.app]\nimage = \"{name}\"\nstop_signal = \"SIGKILL\"\nhealthcheck = {{ http = \":80/ok\", interval = \"300ms\", timeout = \"5s\", start_period = \"30s\" }}"
    ));
    node.start();
    let first = node.healthy();
    let ran = node.must(&["import", &new]);
    assert!(ran.stderr.contains("reload"), "{ran:?}");
    let steps = node.must(&["plan", "--json"]).json();
    assert_eq!(steps[0]["step"], "recreate", "{steps}");
    let still = node.healthy();
    assert_eq!(
        still["containers"]["app"]["pid"],
        first["containers"]["app"]["pid"]
    );
    node.signal(nix::sys::signal::Signal::SIGHUP);
    let second = node.until("the new one is healthy", |status| {
        status["verdict"] == "healthy"
            && status["containers"]["app"]["image_id"] != first["containers"]["app"]["image_id"]
    });
    let id = second["containers"]["app"]["id"]
        .as_str()
        .expect("it is there");
    assert_eq!(node.docker(&["exec", id, "cat", "/www/ok"]), "new");
    assert_eq!(node.containers(None).len(), 1);
}
