//! A node gets one update after another: good ones, and ones that fail in every way.

use crate::desk::{Desk, ILL, workload};
use crate::machine::Mark;
use crate::node::{NODE, Node, WORKLOAD};

/// Well once, and never again.
const FLEETING: &str = "#!/bin/sh
if [ -e /tmp/asked ]; then
  printf 'Status: 500 Ill\\r\\n\\r\\nill\\n'
else
  echo >/tmp/asked
  printf 'Content-Type: text/plain\\r\\n\\r\\nwell\\n'
fi
";

const EXITS: &str = "#!/bin/sh\necho exits >>/state/log\necho no licence >&2\nexit 3\n";

/// How a release proves itself here.
fn owner(settle: &str, deadline: &str) -> String {
    format!("{NODE}\n[trial]\nsettle = \"{settle}\"\ndeadline = \"{deadline}\"\ntries = 2\n")
}

/// A trial that ends soon if the release is good.
fn soon() -> String {
    owner("2s", "10m")
}

/// A trial that goes on for longer than any story.
fn never() -> String {
    owner("2h", "4h")
}

/// A node that trusts the desk, with the release of its own file.
fn node(desk: &Desk) -> Node {
    let node = Node::healthy_with(WORKLOAD, &soon());
    node.trust(desk);
    node
}

/// From now on releases prove themselves like this.
fn prove(node: &Node, owner: &str) {
    node.configure("node.toml", owner);
    // systemd may have yet to hear that a daemon that was started again is ready.
    crate::machine::eventually("the node's file is in force", || {
        node.sh("systemctl reload monopod.service").code == 0
    });
}

/// Kills the daemon when it has said these words.
fn kill_at(node: &Node, mark: &Mark, words: &str) {
    node.await_line(mark, "monopod.service", words);
    node.ok("systemctl kill --kill-whom=main --signal=KILL monopod.service");
}

#[test]
fn good_updates_stay_and_bad_ones_are_taken_back() {
    let desk = Desk::new();
    let node = node(&desk);

    // The importer reads the key as root; the daemon cannot, says so, and takes nothing.
    let good = desk.good("2");
    node.ok("chmod 600 /etc/monopod/keys.d/desk.pub");
    let came = node.bring(&good);
    assert_eq!(came.code, 4, "{came:#?}");
    assert!(
        came.stderr.contains("desk.pub: Permission denied"),
        "{came:#?}"
    );
    node.ok("chmod 644 /etc/monopod/keys.d/desk.pub");
    assert_eq!(node.page(), "one");

    // Good.
    let (daemon, mark) = (node.show("monopod.service", "MainPID"), node.mark());
    node.take(&good);
    node.await_committed("2");
    node.await_line(&mark, "monopod.service", "is committed");
    assert_eq!(node.show("monopod.service", "MainPID"), daemon);
    let status = node.ok("monopod status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("it prints JSON");
    assert_eq!(status["update"]["book"]["current"], node.release("2")["id"]);
    assert_eq!(node.app_log(), ["started", "stopped", "started"]);

    // Its container ends.
    let exits = desk.bundle(
        "3",
        &workload("3"),
        &[("www/index.html", b"3\n"), ("bin/app", EXITS.as_bytes())],
    );
    node.take(&exits);
    let why = node.await_rejected("3", "2");
    assert!(why.contains("app"), "{why}");
    assert!(node.app_log().contains(&"exits".to_owned()));
    // It is not taken again.
    let came = node.bring(&exits);
    assert_eq!(came.code, 4, "{came:#?}");
    assert!(came.stderr.contains("was rejected"), "{came:#?}");

    // It is well, and then it is not.
    prove(&node, &owner("4s", "45s"));
    node.take(&desk.bundle(
        "4",
        &workload("4").replace("retries = 2", "retries = 1"),
        &[
            ("www/index.html", b"4\n"),
            ("www/cgi-bin/healthz", FLEETING.as_bytes()),
        ],
    ));
    node.await_rejected("4", "2");

    // It never gets well, and is given the time that it asks for, up to the deadline.
    let patient = workload("5").replace("retries = 2", "retries = 2, start_period = \"10m\"");
    node.take(&desk.bundle(
        "5",
        &patient,
        &[
            ("www/index.html", b"5\n"),
            ("www/cgi-bin/healthz", ILL.as_bytes()),
        ],
    ));
    let why = node.await_rejected("5", "2");
    assert!(why.contains("within 45 s"), "{why}");

    // By hand, too.
    prove(&node, &soon());
    node.ok("monopod release rollback");
    eventually_first(&node);
    assert_eq!(node.show("monopod.service", "MainPID"), daemon);
    assert_eq!(node.show("monopod.service", "NRestarts"), "0");
}

/// Waits until the node's own file is in force again.
fn eventually_first(node: &Node) {
    crate::machine::eventually("the first release runs again", || node.page() == "one");
    node.await_healthy();
    assert!(node.is("2", "rejected"));
}

#[test]
fn a_hook_is_asked_within_the_daemons_sandbox_and_given_up_if_that_ends_the_node() {
    let desk = Desk::new();
    let mut node = node(&desk);
    node.take(&desk.hooked(
        "2",
        "#!/bin/sh
id -un && test \"$(id -un)\" = monopod || exit 1
echo \"$MONOPOD_RELEASE $MONOPOD_CURRENT\" >/var/lib/monopod/asked || exit 1
{ echo >/etc/monopod/asked; } 2>/dev/null && exit 1
exit 0
",
    ));
    node.await_committed("2");
    let (release, first) = (node.release("2"), node.ok("cat /var/lib/monopod/asked"));
    let asked: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(asked.len(), 2, "{first}");
    assert_eq!(release["id"], asked[0]);

    // The node goes down at once in it, as if by its doing; then the daemon dies of it.
    let deadly = desk.hooked(
        "3",
        "#!/bin/sh
if [ -e /var/lib/monopod/once ]; then kill -9 $PPID; fi
echo >/var/lib/monopod/once
sync
sleep 60
",
    );
    node.take(&deadly);
    crate::machine::eventually("the hook runs", || {
        node.sh("test -e /var/lib/monopod/once").code == 0
    });
    node.sh("systemctl reboot --force --force");
    node.await_boot();
    let why = node.await_rejected("3", "2");
    assert!(why.contains("died 2 times when its hook"), "{why}");
    node.ok("journalctl --quiet --boot --unit=monopod.service --grep='monopod release retry'");
    assert_eq!(node.show("monopod.service", "NRestarts"), "1");
}

#[test]
fn a_trial_outlasts_the_daemon_and_the_node_as_often_as_it_may() {
    let desk = Desk::new();
    let mut node = node(&desk);

    // The daemon dies once: the trial goes on, with the container that it has.
    prove(&node, &never());
    let mark = node.mark();
    node.take(&desk.good("2"));
    kill_at(&node, &mark, "runs on trial");
    node.await_line(&mark, "monopod.service", "Scheduled restart job");
    node.await_page("2");
    prove(&node, &soon());
    node.await_line(&mark, "monopod.service", "is committed");
    node.await_committed("2");
    assert_eq!(node.show("monopod.service", "NRestarts"), "1");
    assert_eq!(node.app_log(), ["started", "stopped", "started"]);

    // It dies as often as it may.
    prove(&node, &never());
    let mark = node.mark();
    node.take(&desk.good("3"));
    kill_at(&node, &mark, "runs on trial");
    let mark = node.mark();
    kill_at(&node, &mark, "supervising gateway");
    let why = node.await_rejected("3", "2");
    assert!(why.contains("died 2 times in its trial"), "{why}");
    assert_eq!(node.show("monopod.service", "NRestarts"), "3");

    // A reboot counts as one death, in order or not: what tells them apart is gone with it. One it may have.
    let mark = node.mark();
    node.take(&desk.good("4"));
    node.await_line(&mark, "monopod.service", "runs on trial");
    node.ok("systemctl reboot");
    node.await_boot();
    node.await_page("4");
    prove(&node, &soon());
    node.await_committed("4");
    assert_eq!(node.release("4")["rejected"], serde_json::Value::Null);
    assert!(node.is("2", "previous"));
}
