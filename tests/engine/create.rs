//! What a container becomes in the engine, and what is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use monopod::core::api::Fault;
use monopod::engine::{Engine, HostFile, Made};
use monopod::spec::types::{
    Container, Device, Gpus, Health, Logging, Mount, MountSource, Network, Port, Probe, Protocol,
    Role, Timing, Tmpfs, Ulimit,
};
use serde_json::{Value, json};

use crate::support::{IMAGE, Place, container, words};

#[tokio::test]
async fn every_field_arrives() {
    let place = Place::new("fields");
    let host = tempfile::tempdir().expect("the temporary folder can be written");
    let folder = host.path().display().to_string();
    let file = host.path().join("file");
    std::fs::write(&file, "inline").expect("it is new");
    let spec = everything(host.path());
    let mut identity = place.identity();
    identity.mounts = vec![HostFile {
        source: file.display().to_string(),
        target: "/etc/inline".to_owned(),
        read_only: true,
    }];
    let made = place.create(&spec, &identity).await;
    let Made {
        id, image_health, ..
    } = made.expect("it can be made");
    assert_eq!(image_health, None);
    let raw = place.daemon.inspect("container", &id).expect("it is there");
    let image = place.daemon.inspect("image", IMAGE).expect("it was built");
    let network = format!("monopod-{}", place.workload);
    let endpoint = format!("/NetworkSettings/Networks/{network}");
    assert_eq!(
        at(&raw, &format!("{endpoint}/Aliases/0")),
        json!("app"),
        "{endpoint}"
    );
    let table = config_of_everything(&place, &image["Id"])
        .into_iter()
        .chain(host_config_of_everything(&place, &folder));
    for (pointer, expected) in table {
        assert_eq!(at(&raw, pointer), expected, "{pointer}");
    }
    for (kind, name) in [
        ("network", network),
        ("volume", format!("{}-data", place.workload)),
    ] {
        let raw = place.daemon.inspect(kind, &name).expect("it was made");
        let labels = json!({
            "org.monopod.node": place.node,
            "org.monopod.workload": place.workload,
        });
        assert_eq!(raw["Labels"], labels, "{kind}");
    }
    // All of it at once is also what the kernel takes, and the address is the container's own.
    let running = place.docker.start(&id).await.expect("it starts");
    let raw = place.daemon.inspect("container", &id).expect("it is there");
    assert_eq!(at(&raw, "/State/Pid"), json!(running.pid));
    let address = running.address.map(|address| address.to_string());
    assert_eq!(
        at(&raw, &format!("{endpoint}/IPAddress")),
        json!(address),
        "{endpoint}"
    );
    let seen = place
        .docker
        .exec(
            &id,
            &words(&["cat", "/etc/inline"]),
            Duration::from_secs(30),
        )
        .await;
    assert_eq!(seen.map(|seen| seen.output), Ok("inline".to_owned()));
}

/// A container that says all that can be said and run here.
fn everything(host: &Path) -> Container {
    Container {
        entrypoint: Some(words(&["/bin/busybox"])),
        command: Some(words(&["sleep", "100000"])),
        environment: [("A".to_owned(), "b = c".to_owned())].into(),
        ports: vec![
            port(Some("127.0.0.1"), None, 80, Protocol::Tcp),
            port(None, Some(0), 53, Protocol::Udp),
        ],
        volumes: vec![
            Mount {
                source: MountSource::Bind(host.to_owned()),
                target: "/host".to_owned(),
                read_only: true,
            },
            Mount {
                source: MountSource::Volume("data".to_owned()),
                target: "/data".to_owned(),
                read_only: false,
            },
        ],
        tmpfs: vec![
            Tmpfs {
                target: "/tmp".to_owned(),
                options: "size=1048576".to_owned(),
            },
            Tmpfs {
                target: "/run".to_owned(),
                options: String::new(),
            },
        ],
        devices: vec![Device {
            host: "/dev/null".to_owned(),
            container: "/dev/nothing".to_owned(),
            permissions: "rw".to_owned(),
        }],
        network: Network::Private,
        user: Some("7:8".to_owned()),
        group_add: words(&["9"]),
        working_dir: Some("/data".to_owned()),
        hostname: Some("box".to_owned()),
        extra_hosts: vec![("other".to_owned(), "10.9.8.7".to_owned())],
        dns: vec!["10.9.8.6".parse().expect("an address")],
        cap_add: words(&["CAP_NET_ADMIN"]),
        cap_drop: words(&["CAP_CHOWN"]),
        read_only: true,
        security_opt: words(&["no-new-privileges:true"]),
        shm_size: Some(1 << 20),
        ulimits: [(
            "nofile".to_owned(),
            Ulimit {
                soft: 99,
                hard: 100,
            },
        )]
        .into(),
        sysctls: [("net.core.somaxconn".to_owned(), "99".to_owned())].into(),
        mem_limit: Some(64 << 20),
        mem_reservation: Some(32 << 20),
        nano_cpus: Some(500_000_000),
        pids_limit: Some(50),
        oom_score_adj: Some(123),
        stop_signal: Some("SIGINT".to_owned()),
        stop_grace_period: Duration::from_millis(2500),
        labels: [("mine".to_owned(), "yes".to_owned())].into(),
        logging: Logging::JsonFile {
            max_size: 65536,
            max_file: 3,
        },
        runtime: Some("runc".to_owned()),
        ..container("app")
    }
}

type Row = (&'static str, Value);

/// What the engine should say of it, beside the host's part.
fn config_of_everything(place: &Place, image: &Value) -> Vec<Row> {
    vec![
        ("/Name", json!(format!("/{}-app", place.workload))),
        ("/Config/Entrypoint", json!(["/bin/busybox"])),
        ("/Config/Cmd", json!(["sleep", "100000"])),
        ("/Config/Env/0", json!("A=b = c")),
        ("/Config/Image", image.clone()),
        ("/Config/User", json!("7:8")),
        ("/Config/WorkingDir", json!("/data")),
        ("/Config/Hostname", json!("box")),
        ("/Config/StopSignal", json!("SIGINT")),
        ("/Config/StopTimeout", json!(3)),
        ("/Config/Healthcheck/Test", json!(["NONE"])),
        (
            "/Config/Labels",
            json!({
                "mine": "yes",
                "org.monopod.node": place.node,
                "org.monopod.workload": place.workload,
                "org.monopod.role": "app",
                "org.monopod.spec": "hash-1",
                "org.monopod.image": image,
                "org.monopod.image.name": IMAGE,
            }),
        ),
    ]
}

/// The host's part.
fn host_config_of_everything(place: &Place, folder: &str) -> Vec<Row> {
    vec![
        ("/HostConfig/RestartPolicy/Name", json!("no")),
        (
            "/HostConfig/NetworkMode",
            json!(format!("monopod-{}", place.workload)),
        ),
        (
            "/HostConfig/PortBindings",
            json!({
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
                "53/udp": [{"HostIp": "", "HostPort": "0"}],
            }),
        ),
        ("/HostConfig/Mounts/0/Type", json!("bind")),
        ("/HostConfig/Mounts/0/Source", json!(folder)),
        ("/HostConfig/Mounts/0/Target", json!("/host")),
        ("/HostConfig/Mounts/0/ReadOnly", json!(true)),
        ("/HostConfig/Mounts/1/Type", json!("volume")),
        (
            "/HostConfig/Mounts/1/Source",
            json!(format!("{}-data", place.workload)),
        ),
        ("/HostConfig/Mounts/1/Target", json!("/data")),
        ("/HostConfig/Mounts/2/Target", json!("/etc/inline")),
        ("/HostConfig/Mounts/2/ReadOnly", json!(true)),
        (
            "/HostConfig/Tmpfs",
            json!({"/tmp": "size=1048576", "/run": ""}),
        ),
        (
            "/HostConfig/Devices/0",
            json!({
                "PathOnHost": "/dev/null",
                "PathInContainer": "/dev/nothing",
                "CgroupPermissions": "rw",
            }),
        ),
        ("/HostConfig/GroupAdd", json!(["9"])),
        ("/HostConfig/ExtraHosts", json!(["other:10.9.8.7"])),
        ("/HostConfig/Dns", json!(["10.9.8.6"])),
        ("/HostConfig/CapAdd/0", json!("CAP_NET_ADMIN")),
        ("/HostConfig/CapDrop/0", json!("CAP_CHOWN")),
        ("/HostConfig/Privileged", json!(false)),
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges:true"])),
        ("/HostConfig/ShmSize", json!(1 << 20)),
        (
            "/HostConfig/Ulimits",
            json!([{"Name": "nofile", "Hard": 100, "Soft": 99}]),
        ),
        ("/HostConfig/Sysctls", json!({"net.core.somaxconn": "99"})),
        ("/HostConfig/Memory", json!(64 << 20)),
        ("/HostConfig/MemoryReservation", json!(32 << 20)),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/PidsLimit", json!(50)),
        ("/HostConfig/OomScoreAdj", json!(123)),
        (
            "/HostConfig/LogConfig",
            json!({"Type": "json-file", "Config": {"max-size": "65536", "max-file": "3"}}),
        ),
        ("/HostConfig/Runtime", json!("runc")),
        ("/HostConfig/CgroupParent", json!("")),
    ]
}

/// What cannot run here is at least asked for.
#[tokio::test]
async fn rarer_fields_arrive() {
    let place = Place::new("rare");
    let spec = Container {
        privileged: true,
        init: true,
        gpus: Some(Gpus::Count(2)),
        logging: Logging::Local {
            max_size: 65536,
            max_file: 1,
        },
        ..container("app")
    };
    let id = place.made(&spec).await;
    let raw = place.daemon.inspect("container", &id).expect("it is there");
    let table = [
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/Init", json!(true)),
        ("/HostConfig/DeviceRequests/0/Count", json!(2)),
        (
            "/HostConfig/DeviceRequests/0/Capabilities",
            json!([["gpu"]]),
        ),
        (
            "/HostConfig/LogConfig",
            json!({
                "Type": "local",
                "Config": {"max-size": "65536", "max-file": "1", "compress": "false"},
            }),
        ),
    ];
    for (pointer, expected) in &table {
        assert_eq!(at(&raw, pointer), *expected, "{pointer}");
    }
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_nothing_is_touched() {
    let place = Place::new("taken");
    let identity = place.identity();
    let name = format!("{}-app", place.workload);
    let stranger = place.daemon.docker(&["create", "--name", &name, IMAGE]);
    let answer = place.create(&container("app"), &identity).await;
    assert!(matches!(answer, Err(Fault::Conflict(_))), "{answer:?}");
    let raw = place.daemon.inspect("container", &name);
    assert_eq!(raw.map(|raw| raw["Id"].clone()), Some(json!(stranger)));
    assert_eq!(place.docker.containers(&place.node, None).await, Ok(vec![]));
    place.daemon.docker(&["rm", &stranger]);

    let id = place.made(&container("app")).await;
    let again = place.create(&container("app"), &identity).await;
    assert!(matches!(again, Err(Fault::Conflict(_))), "{again:?}");
    let seen = place.docker.containers(&place.node, None).await;
    let ids: Vec<_> = seen
        .expect("it answers")
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(ids, [id]);
}

#[tokio::test]
async fn a_missing_bind_source_is_an_error() {
    let place = Place::new("missing");
    let host = tempfile::tempdir().expect("the temporary folder can be written");
    let source = host.path().join("not-there");
    let spec = Container {
        volumes: vec![Mount {
            source: MountSource::Bind(source.clone()),
            target: "/host".to_owned(),
            read_only: false,
        }],
        ..container("app")
    };
    let answer = place.create(&spec, &place.identity()).await;
    let Err(Fault::Refused(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("not-there"), "{why}");
    assert!(!source.exists());
    assert_eq!(place.docker.containers(&place.node, None).await, Ok(vec![]));
}

#[tokio::test]
async fn refusals_leave_nothing_half_made() {
    let place = Place::new("refused");
    let table = [
        Container {
            runtime: Some("no-such-runtime".to_owned()),
            ..container("app")
        },
        Container {
            network: Network::Container(Role::new("nobody")),
            ..container("app")
        },
        Container {
            mem_limit: Some(1),
            ..container("app")
        },
        Container {
            volumes: vec![Mount {
                source: MountSource::Bind(PathBuf::from("/dev/null")),
                target: "relative".to_owned(),
                read_only: false,
            }],
            ..container("app")
        },
    ];
    for spec in table {
        let answer = place.create(&spec, &place.identity()).await;
        assert!(matches!(answer, Err(Fault::Refused(_))), "{answer:?}");
        assert_eq!(place.docker.containers(&place.node, None).await, Ok(vec![]));
    }
    let spec = Container {
        image: "monopod-test/no-such-image:1".to_owned(),
        ..container("app")
    };
    let answer = place.create(&spec, &place.identity()).await;
    assert!(matches!(answer, Err(Fault::ImageMissing(_))), "{answer:?}");
}

#[tokio::test]
async fn networks_and_volumes_of_others_are_refused() {
    let place = Place::new("others");
    let network = format!("monopod-{}", place.workload);
    let volume = format!("{}-data", place.workload);
    place.daemon.docker(&["network", "create", &network]);
    place.daemon.docker(&["volume", "create", &volume]);
    let private = Container {
        network: Network::Private,
        ..container("app")
    };
    let with_volume = Container {
        volumes: vec![Mount {
            source: MountSource::Volume("data".to_owned()),
            target: "/data".to_owned(),
            read_only: false,
        }],
        ..container("app")
    };
    for (spec, name) in [(private, &network), (with_volume, &volume)] {
        let answer = place.create(&spec, &place.identity()).await;
        let Err(Fault::Refused(why)) = answer else {
            panic!("{answer:?}");
        };
        assert!(why.contains(name.as_str()), "{why}");
        assert!(why.contains("was not made by monopod"), "{why}");
    }
    place.daemon.docker(&["network", "rm", &network]);
    place.daemon.docker(&["volume", "rm", &volume]);
}

/// Makes another network of the name, as a daemon's late request does; newer engines refuse that.
fn double(place: &Place, network: &str) {
    let body = format!(
        r#"{{"Name": "{network}", "Labels": {{"org.monopod.node": "{}"}}}}"#,
        place.node
    );
    let made = std::process::Command::new("curl")
        .args(["--silent", "--header", "Content-Type: application/json"])
        .args(["--data", &body, "--unix-socket"])
        .arg(&place.daemon.socket)
        .arg("http://engine/v1.41/networks/create")
        .output();
    assert!(made.expect("curl is installed").status.success());
}

#[tokio::test]
async fn a_network_s_double_goes() {
    let place = Place::new("doubles");
    let network = format!("monopod-{}", place.workload);
    let alike = || {
        let filter = format!("name=^{network}$");
        let ids = ["network", "ls", "--quiet", "--filter", &filter];
        place.daemon.docker(&ids).lines().count()
    };
    let private = |role| Container {
        network: Network::Private,
        ..container(role)
    };
    double(&place, &network);
    double(&place, &network);
    let first = place.made(&private("app")).await;
    assert_eq!(alike(), 1);
    // It comes between the creation and the start.
    double(&place, &network);
    place
        .docker
        .start(&first)
        .await
        .expect("one network is enough");
    assert_eq!(alike(), 1);
    // One that is in use stays, though it is the younger.
    double(&place, &network);
    let second = place.made(&private("helper")).await;
    place
        .docker
        .start(&second)
        .await
        .expect("one network is enough");
    let on = |id: &str| {
        let record = place.daemon.inspect("container", id).expect("it is there");
        record["NetworkSettings"]["Networks"][&network]["NetworkID"].clone()
    };
    assert_eq!(on(&first), on(&second));
    assert_eq!(alike(), 1);
}

#[tokio::test]
async fn two_nodes_on_one_engine() {
    let (one, other) = (Place::new("node-one"), Place::new("node-other"));
    let mut ids = Vec::new();
    for place in [&one, &other] {
        for role in ["app", "broker"] {
            let spec = Container {
                network: Network::Private,
                ..container(role)
            };
            ids.push(place.made(&spec).await);
        }
    }
    let seen = one.docker.containers(&one.node, None).await;
    let mut seen: Vec<_> = seen
        .expect("it answers")
        .into_iter()
        .map(|one| one.id)
        .collect();
    seen.sort();
    let mut ours = ids[..2].to_vec();
    ours.sort();
    assert_eq!(seen, ours);
    let seen = other.docker.containers(&other.node, Some("broker")).await;
    let seen: Vec<_> = seen
        .expect("it answers")
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(seen, ids[3..]);
    // A node that takes another's workload name does not get its network.
    let mut thief = other.identity();
    thief.workload.clone_from(&one.workload);
    let spec = Container {
        network: Network::Private,
        ..container("third")
    };
    let answer = other.create(&spec, &thief).await;
    let Err(Fault::Refused(why)) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains(&one.node), "{why}");
}

#[tokio::test]
async fn networks_and_addresses() {
    let place = Place::new("net");
    let mut addresses = Vec::new();
    for (role, network) in [
        ("app", Network::Private),
        ("beside", Network::Container(Role::new("app"))),
        ("open", Network::Host),
        ("shut", Network::None),
    ] {
        let spec = Container {
            network,
            ..container(role)
        };
        let id = place.made(&spec).await;
        let running = place.docker.start(&id).await.expect("it starts");
        addresses.push(running.address.map(|address| address.to_string()));
    }
    assert!(
        addresses[0]
            .as_ref()
            .is_some_and(|ip| ip.starts_with("10.")),
        "{addresses:?}"
    );
    assert_eq!(addresses[1], addresses[0]);
    assert_eq!(addresses[2].as_deref(), Some("127.0.0.1"));
    assert_eq!(addresses[3], None);
}

#[tokio::test]
async fn an_images_healthcheck_is_taken_over() {
    let place = Place::new("health");
    let tag = format!("monopod-test/{}:1", place.workload);
    place.daemon.build(
        &tag,
        "HEALTHCHECK --interval=7s --retries=2 CMD cat /x | cat\nCMD [\"sleep\", \"100000\"]",
        &[],
    );
    let expected = Health {
        probe: Probe::Exec(words(&["/bin/sh", "-c", "cat /x | cat"])),
        timing: Timing {
            interval: Duration::from_secs(7),
            retries: 2,
            ..Timing::default()
        },
    };
    let spec = Container {
        image: tag.clone(),
        ..container("app")
    };
    let made = place.create(&spec, &place.identity()).await;
    let made = made.expect("it can be made");
    assert_eq!(made.image_health.as_ref(), Some(&expected));
    let id = made.id;
    let raw = place.daemon.inspect("container", &id).expect("it is there");
    assert_eq!(at(&raw, "/Config/Healthcheck/Test"), json!(["NONE"]));
    // Another daemon, which never saw the create, knows it too.
    let seen = place.docker.containers(&place.node, Some("app")).await;
    let seen = seen.expect("it answers");
    assert_eq!(seen[0].image_health, Some(expected));
    place.docker.remove(&id).await.expect("it does not run");
    place
        .docker
        .remove_image(&tag, false)
        .await
        .expect("nobody uses it");
}

/// Somebody else's `docker tag` or `docker pull` may come between the look and the creation.
#[tokio::test]
async fn a_name_that_has_moved_on_changes_nothing() {
    let place = Place::new("moved");
    let tag = |name: &str| format!("monopod-test/{}-{name}:1", place.workload);
    let (ours, theirs) = (tag("ours"), tag("theirs"));
    let command = "CMD [\"sleep\", \"100000\"]";
    place.daemon.build(&ours, command, &[]);
    let lines = format!("LABEL stranger=yes\nENV STRANGER=yes\nHEALTHCHECK CMD true\n{command}");
    place.daemon.build(&theirs, &lines, &[]);
    let known = place.docker.image(&ours).await.expect("it answers");
    let known = known.expect("it was built").id;
    place.daemon.docker(&["tag", &theirs, &ours]);
    let spec = Container {
        image: ours.clone(),
        ..container("app")
    };
    let made = place.docker.create(&spec, &known, &place.identity()).await;
    let made = made.expect("it can be made");
    assert_eq!((made.image_id, made.image_health), (known.clone(), None));
    let raw = place.daemon.inspect("container", &made.id);
    let raw = raw.expect("it is there");
    assert_eq!(at(&raw, "/Image"), json!(known));
    let labels = at(&raw, "/Config/Labels");
    assert_eq!(labels["org.monopod.image"], json!(known));
    assert_eq!(labels["org.monopod.image.name"], json!(ours));
    assert_eq!(labels["stranger"], Value::Null);
    let told = at(&raw, "/Config/Env").to_string();
    assert!(!told.contains("STRANGER"), "{told}");
    // Another daemon sees it as it is.
    let seen = place.docker.containers(&place.node, Some("app")).await;
    assert_eq!(seen.expect("it answers")[0].image_id, known);
    // One that nobody has any more is not made from what has the name.
    place
        .docker
        .remove(&made.id)
        .await
        .expect("it does not run");
    place.daemon.docker(&["rmi", &known]);
    let answer = place.docker.create(&spec, &known, &place.identity()).await;
    assert!(matches!(answer, Err(Fault::ImageMissing(_))), "{answer:?}");
    place.daemon.docker(&["rmi", &ours, &theirs]);
}

fn port(ip: Option<&str>, host: Option<u16>, inner: u16, protocol: Protocol) -> Port {
    Port {
        host_ip: ip.map(|ip| ip.parse().expect("an address")),
        host,
        container: inner,
        protocol,
    }
}

fn at(raw: &Value, pointer: &str) -> Value {
    raw.pointer(pointer).cloned().unwrap_or(Value::Null)
}
