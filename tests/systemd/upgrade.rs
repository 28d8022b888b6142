//! A package of a higher version is installed while a client asks; and a step back is refused.

use crate::client::Client;
use crate::node::Node;

#[test]
fn an_upgrade_and_a_restart_under_load_keep_the_container_and_lose_no_request() {
    let node = Node::healthy();
    let before = node.running("app");
    let client = Client::start(&node);
    client.more(20);
    let daemon = node.show("monopod.service", "MainPID");
    node.ok("dpkg --install /root/monopod-next.deb");
    assert_ne!(
        node.show("monopod.service", "MainPID"),
        daemon,
        "the old daemon still runs"
    );
    node.await_healthy();
    client.more(20);
    let upgrade = client.end();
    println!(
        "figure: upgrade: {} requests, {} lost",
        upgrade.asked,
        upgrade.failed.len()
    );
    assert_eq!(upgrade.failed, [""; 0], "of {}", upgrade.asked);
    assert_eq!(node.running("app"), before);
    let version = node.ok("dpkg-query --show --showformat '${Version}' monopod");
    assert!(version.ends_with("-2"), "{version}");

    let client = Client::start(&node);
    client.more(20);
    node.ok("systemctl restart monopod.service");
    client.more(20);
    let restart = client.end();
    println!(
        "figure: restart: {} requests, {} lost",
        restart.asked,
        restart.failed.len()
    );
    assert_eq!(restart.failed, [""; 0], "of {}", restart.asked);
    assert_eq!(node.running("app"), before);
    assert_eq!(node.app_log(), ["started"]);
}

#[test]
fn a_newer_ledger_is_refused_with_a_clear_line_and_nothing_is_touched() {
    let node = Node::healthy();
    let before = node.running("app");
    node.write(
        "/var/lib/monopod/ledger",
        "monopod-ledger 99 0\n{\"of\":\"the future\"}\n",
    );
    node.ok("chown monopod: /var/lib/monopod/ledger");
    let ledger = node.read("/var/lib/monopod/ledger");
    let mark = node.mark();
    let came = node.sh("systemctl restart monopod.service");
    assert_ne!(came.code, 0, "{came:?}");
    node.await_line(&mark, "monopod.service", "newer");
    // Nobody tries for ever, and the workload runs on.
    assert_eq!(node.show("monopod.service", "ActiveState"), "failed");
    assert_eq!(node.show("monopod.service", "NRestarts"), "0");
    assert_eq!(node.running("app"), before);
    assert_eq!(node.read("/var/lib/monopod/ledger"), ledger);
    let status = node.sh("systemctl status --no-pager --full monopod.service");
    assert!(status.stdout.contains("newer"), "{status:?}");
}
