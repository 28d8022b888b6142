//! What a person sees and may do by the bus, the journal, and monopod's own verbs.

use crate::machine::eventually;
use crate::node::{NODE, Node, WORKLOAD};

const OBJECT: &str = "org.monopod.Supervisor1 /org/monopod/Supervisor1";

#[test]
fn everyone_may_look_and_only_root_may_act() {
    let node = Node::healthy();
    node.ok("useradd --create-home looker");
    let as_looker = |script: &str| node.sh(&format!("runuser -u looker -- {script}"));
    let seen = as_looker("monopod status");
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(seen.stdout.contains("Healthy"), "{seen:?}");
    let shown = node.ok(&format!("busctl introspect {OBJECT}"));
    for word in ["GetStatus", "Restart", "Reload"] {
        assert!(shown.contains(word), "{shown}");
    }
    let seen = as_looker(&format!("busctl introspect {OBJECT}"));
    assert_eq!(seen.code, 0, "{seen:?}");
    for call in [
        "monopod restart",
        &format!("busctl call {OBJECT} org.monopod.Supervisor1 Restart s app"),
        &format!("busctl call {OBJECT} org.monopod.Supervisor1 Reload"),
    ] {
        let came = as_looker(call);
        assert_ne!(came.code, 0, "{call}: {came:?}");
        assert!(
            ["denied", "only root"]
                .iter()
                .any(|word| came.stderr.to_lowercase().contains(word)),
            "{call}: {came:?}"
        );
    }
    assert_eq!(node.app_log(), ["started"]);

    // Root may.
    node.ok("monopod restart app");
    eventually("the app was started again", || node.app_log().len() == 3);
}

#[test]
fn the_containers_are_in_the_slice_and_the_owner_limits_it() {
    let owner = format!("{NODE}[slice]\ntasks_max = 500\nmemory_max = \"512m\"\ncpu_weight = 50\n");
    let node = Node::healthy_with(WORKLOAD, &owner);
    let app = node.running("app");
    let group = node.show("monopod.slice", "ControlGroup");
    assert_eq!(group, "/monopod.slice");
    node.ok(&format!(
        "test -d /sys/fs/cgroup/monopod.slice/docker-{}.scope",
        app.id
    ));
    assert_eq!(
        node.show("monopod.slice", "MemoryMax"),
        (512 << 20).to_string()
    );
    assert_eq!(node.show("monopod.slice", "TasksMax"), "500");
    assert_eq!(node.show("monopod.slice", "CPUWeight"), "50");

    node.configure("node.toml", &owner.replace("500", "400"));
    node.ok("systemctl reload monopod.service");
    assert_eq!(node.show("monopod.slice", "TasksMax"), "400");
    assert_eq!(node.running("app"), app);
}

#[test]
fn the_units_are_shut_in() {
    let node = Node::installed();
    for (unit, most) in [
        ("monopod.service", 1.5),
        ("monopod-rescue.service", 2.0),
        ("monopod-volumes.service", 1.5),
        ("monopod-import@sda1.service", 1.5),
    ] {
        let json = node.ok(&format!("systemd-analyze security --no-pager {unit}"));
        let line = json.lines().last().unwrap_or_default();
        let score: f64 = line
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("{unit} has no score: {line}"));
        println!("figure: systemd-analyze security {unit}: {score}");
        assert!(score <= most, "{line}");
    }
    node.ok(
        "systemd-analyze verify --man=no monopod.service monopod.path monopod-rescue.path monopod-volumes.path \
         monopod-appeared.service monopod-import@sda1.service \
         monopod.slice",
    );
}
