//! `dpkg --remove` leaves what the owner wrote and what was made; `--purge` leaves nothing.

use crate::node::Node;

#[test]
fn removing_stops_the_workload_and_keeps_the_files_and_purging_leaves_nothing() {
    let node = Node::healthy();
    node.ok("dpkg --remove monopod");
    assert_eq!(node.app_log(), ["started", "stopped"]);
    assert_eq!(node.ok("docker ps --quiet"), "");
    assert_eq!(node.ok("systemctl list-units --all --plain --no-legend --state=active 'monopod*.service' 'monopod*.path'"), "");
    assert_eq!(
        node.ok("systemctl list-units --failed --plain --no-legend 'monopod*'"),
        ""
    );
    node.ok("test -e /etc/monopod/workload.toml && test -e /etc/monopod/node.toml");
    node.ok("test -d /var/lib/monopod/store && test ! -e /usr/bin/monopod");

    // It comes back as it was.
    node.ok("dpkg --install /root/monopod.deb");
    node.ok("systemctl start monopod.service && monopod status");

    node.ok("dpkg --purge monopod");
    let left = node.ok("find / -xdev -path /proc -prune -o -path /root -prune -o -path /tmp -prune -o -path /var/log -prune -o -path /var/cache -prune -o -path /var/lib/docker -prune -o -name '*monopod*' -print");
    assert_eq!(left, "");
    assert_eq!(node.ok("docker ps --all --quiet"), "");
    // The workload's own data is its owner's.
    assert!(!node.app_log().is_empty());
}
