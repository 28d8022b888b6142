//! The whole way with a real engine: a container writes, the volume is copied, a trial spoils it, and
//! the container finds what it had written.

use std::fs;

use monopod::engine::{Engine, volume_name};
use monopod::spec::types::{Mount, MountSource};
use monopod::volumes::{Answer, Deed, Request, SnapshotVolume, State, VolumeName};

use super::release;
use crate::support::{Place, container, eventually, words};

/// Makes a container of the place's, lets it do this in its volume, and removes it.
async fn does(place: &Place, script: &str) {
    let mut app = container("app");
    app.command = Some(words(&["sh", "-c", script]));
    app.volumes = vec![Mount {
        source: MountSource::Volume("data".to_owned()),
        target: "/data".to_owned(),
        read_only: false,
    }];
    let id = place.made(&app).await;
    place.docker.start(&id).await.expect("it starts");
    place.daemon.docker(&["wait", &id]);
    let output = place.daemon.inspect("container", &id).expect("it is there");
    assert_eq!(
        output["State"]["ExitCode"],
        0,
        "{script}: {}",
        place.daemon.docker(&["logs", &id])
    );
    place.docker.remove(&id).await.expect("it has ended");
}

#[tokio::test]
async fn a_container_finds_what_it_had_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = fs::canonicalize(folder.path()).expect("it is there");
    let mut place = Place::new("volumes");
    place.node = root.display().to_string();
    for path in ["etc/monopod", "run/monopod/rescue", "var/lib/monopod"] {
        fs::create_dir_all(root.join(path)).expect("a folder");
    }
    let node = format!(
        "[engine]\nsocket = \"unix://{}\"\n",
        place.daemon.socket.display()
    );
    fs::write(root.join("etc/monopod/node.toml"), node).expect("written");
    let name = volume_name(&place.workload, "data");
    let ask = |deed: Deed| {
        let request = Request {
            number: 9,
            release: release(),
            volumes: vec![SnapshotVolume {
                name: VolumeName::new(&name).expect("a good name"),
                limit: 1 << 20,
            }],
        };
        let text = serde_json::to_string(&request).expect("text");
        fs::write(root.join("run/monopod/rescue").join(deed.file()), text).expect("written");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_monopod"))
            .arg("--root")
            .arg(&root)
            .arg("volumes")
            .env_remove("DOCKER_HOST")
            .output()
            .expect("the program is there");
        let file = root
            .join("run/monopod/rescue-answers")
            .join(deed.answer(&release()));
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let answer: Answer = serde_json::from_slice(&text).expect("an answer");
        assert_eq!(answer.number, 9);
        answer.state
    };

    does(
        &place,
        "busybox mkdir /data/d; echo old >/data/d/f; busybox chown 7:8 /data/d/f",
    )
    .await;
    assert_eq!(ask(Deed::Snapshot), State::Ok);
    does(&place, "echo new >/data/d/f; echo more >/data/g").await;

    // While somebody has it open, it is not taken from him.
    let mount = format!("{name}:/data");
    let user = [
        "run",
        "--detach",
        "--network=none",
        "--volume",
        &mount,
        crate::support::IMAGE,
    ];
    let user = place.daemon.docker(&user);
    eventually("it runs", || {
        let record = place.daemon.inspect("container", &user);
        record.is_some_and(|record| record["State"]["Running"] == true)
    });
    for deed in [Deed::Snapshot, Deed::Restore] {
        let State::Error(text) = ask(deed) else {
            panic!("{deed:?} of a volume in use");
        };
        assert!(
            text.contains(&format!("runs with the volume {name}")),
            "{text}"
        );
    }
    place.daemon.docker(&["rm", "--force", &user]);

    assert_eq!(ask(Deed::Restore), State::Ok);
    let check = "test \"$(cat /data/d/f)\" = old && ! test -e /data/g && test \"$(busybox stat -c %u:%g /data/d/f)\" = 7:8";
    does(&place, check).await;
    assert_eq!(ask(Deed::Forget), State::Ok);
    let left = fs::read_dir(root.join("var/lib/monopod/snapshots")).expect("a folder");
    assert_eq!(left.count(), 0);

    // A volume with options is the owner's business.
    place.daemon.docker(&["volume", "rm", &name]);
    let label = format!("org.monopod.node={}", place.node);
    place.daemon.docker(&[
        "volume",
        "create",
        "--label",
        &label,
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        &name,
    ]);
    let State::Error(text) = ask(Deed::Snapshot) else {
        panic!("a copy of what is not there");
    };
    assert!(text.contains("snapshot = false"), "{text}");
}
