//! The node comes up with its workload by itself, with no network at any time.

use crate::node::{NODE, Node, WORKLOAD};

#[test]
fn a_boot_imports_what_was_preloaded_and_every_boot_brings_the_workload_up() {
    let mut node = Node::installed();
    node.ok("mkdir -p /srv/state && mv /root/app.tar /var/lib/monopod/preload/");
    node.ok("systemctl stop monopod.path");
    node.configure("node.toml", NODE);
    node.configure("workload.toml", WORKLOAD);
    assert_eq!(node.app_log(), [""; 0]);

    for boot in 1..=2 {
        node.ok("systemctl reboot");
        node.await_boot();
        // systemd was not ready before the workload was.
        node.ok("monopod status");
        assert_eq!(
            node.ok("curl --silent --fail http://127.0.0.1:8080/"),
            "one"
        );
        assert_eq!(node.running("app").starts, boot);
        assert_eq!(node.show("monopod.service", "NRestarts"), "0");
    }
    assert_eq!(node.app_log(), ["started", "stopped", "started"]);
    let devices = node.ok("cut -s -d: -f1 /proc/net/dev");
    assert!(
        devices.split_whitespace().all(|name| name == "lo"
            || name.starts_with("docker")
            || name.starts_with("br-")
            || name.starts_with("veth")),
        "{devices}"
    );
    let after = node.ok("systemctl show -p After --value monopod.service");
    assert!(!after.contains("network"), "{after}");
}
