//! Tables over the whole way from text to types, on a machine that is a table too.

#![expect(clippy::too_many_lines, reason = "they are tables")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::diagnostic::{self, Severity};
use super::host::{Fact, Kind};
use super::types::*;
use super::*;

/// A machine that has what it is told to have.
#[derive(Default)]
struct Fake {
    files: BTreeMap<PathBuf, Vec<u8>>,
    facts: BTreeMap<PathBuf, Fact>,
    credentials: Option<Vec<&'static str>>,
}

impl Fake {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.as_bytes().to_vec());
        self.fact(path, Kind::File, 0o600, 0)
    }

    fn fact(mut self, path: &str, kind: Kind, mode: u32, uid: u32) -> Self {
        self.facts.insert(path.into(), Fact { kind, mode, uid });
        self
    }
}

impl Host for Fake {
    fn look(&self, path: &Path) -> io::Result<Fact> {
        if path.starts_with("/denied") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.facts
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("/secret-of-root") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names: Vec<String> = self
            .files
            .keys()
            .filter(|file| file.parent() == Some(path))
            .filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()))
            .collect();
        if names.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    fn credential(&self, name: &str) -> Option<bool> {
        self.credentials.as_ref().map(|all| all.contains(&name))
    }
}

/// A machine with something of each kind.
fn machine() -> Fake {
    Fake {
        credentials: Some(vec!["given"]),
        ..Fake::default()
    }
    .fact("/etc/app", Kind::Folder, 0o755, 0)
    .fact("/dev/ttyUSB0", Kind::Device, 0o660, 0)
    .fact("/secret", Kind::File, 0o640, 0)
    .fact("/secret-of-root", Kind::File, 0o600, 0)
    .fact("/secret-open", Kind::File, 0o644, 0)
    .fact("/secret-of-1000", Kind::File, 0o600, 1000)
    .fact("/ca.pem", Kind::File, 0o644, 0)
    .with("/etc/monopod/app.env", "A=file\nB='x y'\n")
    .with("/etc/bad.env", "A\n")
    .with(
        "/etc/seccomp.json",
        "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }",
    )
}

const WORKLOAD: &str = "/etc/monopod/workload.toml";

fn load_texts(host: Fake, text: &str, drop_ins: &[(&str, &str)]) -> Result<Workload, Invalid> {
    let host = drop_ins
        .iter()
        .fold(host.with(WORKLOAD, text), |host, (name, text)| {
            host.with(&format!("/etc/monopod/workload.d/{name}"), text)
        });
    load(&Paths::new(Path::new("/")), &host).map(|loaded| loaded.value)
}

/// A workload with one container of these lines.
fn with_lines(lines: &str) -> String {
    format!("name = \"w\"\n[containers.app]\nimage = \"a:1\"\n{lines}\n")
}

/// The one container that these lines make.
fn one(lines: &str) -> Container {
    match load_texts(machine(), &with_lines(lines), &[]) {
        Ok(mut workload) => workload.containers.remove(0),
        Err(invalid) => panic!(
            "{lines}\n{}",
            diagnostic::render(&invalid.diagnostics, false)
        ),
    }
}

/// A container with nothing but an image.
pub(super) fn container(name: &str) -> Container {
    let mut container = one("");
    container.name = Role::new(name);
    container
}

/// Message and hint of each error.
fn errors(invalid: &Invalid) -> Vec<(String, String)> {
    invalid
        .diagnostics
        .iter()
        .filter(|d| d.severity() == Severity::Error)
        .map(|d| {
            let hint = d.to_json()["hint"].as_str().unwrap_or_default().to_owned();
            (d.message().to_owned(), hint)
        })
        .collect()
}

/// Loads, and expects exactly one error with these words in it and in its hint.
fn expect_error(text: &str, message: &str, hint: &str) {
    match load_texts(machine(), text, &[]) {
        Ok(_) => panic!("valid, but it should say {message:?}:\n{text}"),
        Err(invalid) => {
            let found = errors(&invalid);
            assert!(
                matches!(found.as_slice(), [(m, h)] if m.contains(message) && h.contains(hint)),
                "{text}\nwant one error with {message:?}, hint {hint:?}; found {found:#?}"
            );
        }
    }
}

#[test]
fn the_designs_own_example() {
    let text = r#"
        name = "gateway"

        [containers.app]
        image = "example/gateway:1.4.2"
        ports = ["8080:80"]
        volumes = ["data:/var/lib/gateway", "/etc/app:/etc/gateway:ro"]
        devices = ["/dev/ttyUSB0:/dev/ttyS9"]
        mem_limit = "256m"
        depends_on = { broker = "healthy" }
        healthcheck = { http = ":80/healthz", interval = "10s", timeout = "2s", retries = 3, start_period = "30s" }

        [containers.broker]
        image = "example/mosquitto:2"
        healthcheck = { tcp = ":1883" }
    "#;
    let workload = load_texts(machine(), text, &[]).expect("valid");
    assert_eq!(workload.name, "gateway");
    let names: Vec<_> = workload
        .containers
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["broker", "app"], "dependencies first");
    let app = &workload.containers[1];
    assert_eq!(app.mem_limit, Some(256 << 20));
    assert_eq!(
        app.volumes,
        [
            Mount {
                source: MountSource::Volume("data".into()),
                target: "/var/lib/gateway".into(),
                read_only: false
            },
            Mount {
                source: MountSource::Bind("/etc/app".into()),
                target: "/etc/gateway".into(),
                read_only: true
            }
        ]
    );
    assert_eq!(
        app.healthcheck,
        Healthcheck::Own(Health {
            probe: Probe::Http(HttpProbe {
                tls: None,
                target: Target::Own(80),
                path: "/healthz".into(),
                host: None,
                headers: BTreeMap::new(),
                status: vec![(200, 399)],
                body: None
            }),
            timing: Timing {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                retries: 3,
                start_period: Duration::from_secs(30),
                start_interval: Duration::from_secs(5),
            }
        })
    );
}

/// Lines, and what they must give.
type Good = (&'static str, fn(&Container) -> bool);

/// Lines, a drop-in's lines over them, and what they must give together.
type Merged = (&'static str, &'static str, fn(&Container) -> bool);

#[test]
fn good_values() {
    let table: &[Good] = &[
        ("", |c| c.image == "a:1" && c.network == Network::Private),
        ("", |c| c.stop_grace_period == Duration::from_secs(10)),
        ("", |c| {
            c.healthcheck == Healthcheck::Image && c.logging == Logging::Default
        }),
        ("command = \"sh -c 'a b'\"", |c| {
            c.command == Some(vec!["sh".into(), "-c".into(), "a b".into()])
        }),
        ("command = []", |c| c.command == Some(vec![])),
        ("entrypoint = [\"/a\", \"b c\"]", |c| {
            c.entrypoint == Some(vec!["/a".into(), "b c".into()])
        }),
        (
            "environment = { A = \"1\", B = 2, C = true, D = 1.5 }",
            |c| c.environment.values().collect::<Vec<_>>() == ["1", "2", "true", "1.5"],
        ),
        ("environment = [\"A=1=2\", \"B=\"]", |c| {
            c.environment.get("A").is_some_and(|v| v == "1=2")
                && c.environment.get("B").is_some_and(String::is_empty)
        }),
        (
            "env_file = \"app.env\"\nenvironment = { A = \"own\" }",
            |c| {
                c.environment.get("A").is_some_and(|v| v == "own")
                    && c.environment.get("B").is_some_and(|v| v == "x y")
            },
        ),
        ("env_file = [\"/etc/monopod/app.env\"]", |c| {
            c.environment.get("A").is_some_and(|v| v == "file")
        }),
        ("ports = [80, \"8080-8081:80-81\"]", |c| c.ports.len() == 3),
        (
            "ports = [{ target = 80, published = 8080, host_ip = \"::1\", protocol = \"udp\" }]",
            |c| c.ports[0].host == Some(8080) && c.ports[0].protocol == Protocol::Udp,
        ),
        (
            "volumes = [{ type = \"bind\", source = \"/etc/app\", target = \"/a/\", read_only = true }]",
            |c| c.volumes[0].target == "/a" && c.volumes[0].read_only,
        ),
        (
            "volumes = [{ type = \"volume\", source = \"d\", target = \"/a\" }]",
            |c| c.volumes[0].source == MountSource::Volume("d".into()),
        ),
        ("tmpfs = \"/run:size=64m,mode=1777,noexec\"", |c| {
            c.tmpfs[0].target == "/run" && c.tmpfs[0].options == "size=64m,mode=1777,noexec"
        }),
        ("tmpfs = [\"/run\", \"/tmp:size=50%\"]", |c| {
            c.tmpfs.len() == 2
        }),
        ("devices = [\"/dev/ttyUSB0\"]", |c| {
            c.devices[0].container == "/dev/ttyUSB0" && c.devices[0].permissions == "rwm"
        }),
        (
            "devices = [{ source = \"/dev/ttyUSB0\", target = \"/dev/a:b\", permissions = \"r\" }]",
            |c| c.devices[0].container == "/dev/a:b" && c.devices[0].permissions == "r",
        ),
        ("network_mode = \"host\"", |c| c.network == Network::Host),
        ("network_mode = \"none\"", |c| c.network == Network::None),
        ("network_mode = \"private\"", |c| {
            c.network == Network::Private
        }),
        ("user = 1000", |c| c.user.as_deref() == Some("1000")),
        ("user = \"app:dialout\"", |c| {
            c.user.as_deref() == Some("app:dialout")
        }),
        ("group_add = [\"dialout\", 20]", |c| {
            c.group_add == ["dialout", "20"]
        }),
        ("working_dir = \"/srv//app/\"", |c| {
            c.working_dir.as_deref() == Some("/srv/app")
        }),
        ("hostname = \"gw-1.plant\"", |c| {
            c.hostname.as_deref() == Some("gw-1.plant")
        }),
        (
            "extra_hosts = [\"a:1.2.3.4\", \"b=::1\", \"c:[::1]\", \"d=host-gateway\"]",
            |c| {
                c.extra_hosts
                    .iter()
                    .map(|(_, a)| a.as_str())
                    .collect::<Vec<_>>()
                    == ["1.2.3.4", "::1", "::1", "host-gateway"]
            },
        ),
        (
            "extra_hosts = { plc_1 = \"1.2.3.4\", b = [\"1.1.1.1\", \"::1\"] }",
            |c| c.extra_hosts.len() == 3,
        ),
        ("dns = \"1.1.1.1\"", |c| c.dns.len() == 1),
        ("dns = [\"1.1.1.1\", \"::1\"]", |c| c.dns.len() == 2),
        (
            "cap_add = [\"cap_net_admin\", \"NET_ADMIN\", \"ALL\"]",
            |c| c.cap_add == ["NET_ADMIN", "ALL"],
        ),
        ("cap_drop = [\"ALL\"]\ncap_add = [\"CHOWN\"]", |c| {
            c.cap_drop == ["ALL"]
        }),
        ("privileged = true\nread_only = true\ninit = true", |c| {
            c.privileged && c.read_only && c.init
        }),
        (
            "security_opt = [\"no-new-privileges:true\", \"label=disable\", \"apparmor:x\"]",
            |c| c.security_opt == ["no-new-privileges=true", "label=disable", "apparmor=x"],
        ),
        ("security_opt = [\"seccomp=/etc/seccomp.json\"]", |c| {
            c.security_opt == ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]
        }),
        ("shm_size = \"64m\"", |c| c.shm_size == Some(64 << 20)),
        ("shm_size = 67108864", |c| c.shm_size == Some(64 << 20)),
        (
            "ulimits = { nofile = 1024, core = { soft = 0, hard = -1 } }",
            |c| {
                c.ulimits["nofile"]
                    == Ulimit {
                        soft: 1024,
                        hard: 1024,
                    }
                    && c.ulimits["core"] == Ulimit { soft: 0, hard: -1 }
            },
        ),
        ("sysctls = { \"net.core.somaxconn\" = 1024 }", |c| {
            c.sysctls["net.core.somaxconn"] == "1024"
        }),
        ("sysctls = [\"kernel.shmmax=1\"]", |c| {
            c.sysctls["kernel.shmmax"] == "1"
        }),
        ("mem_limit = \"256m\"\nmem_reservation = \"256m\"", |c| {
            c.mem_reservation == Some(256 << 20)
        }),
        ("cpus = 0.5", |c| c.nano_cpus == Some(500_000_000)),
        ("cpus = \"1.25\"", |c| c.nano_cpus == Some(1_250_000_000)),
        ("cpus = 2", |c| c.nano_cpus == Some(2_000_000_000)),
        ("pids_limit = -1", |c| c.pids_limit == Some(-1)),
        ("oom_score_adj = -1000", |c| c.oom_score_adj == Some(-1000)),
        ("stop_signal = \"int\"", |c| {
            c.stop_signal.as_deref() == Some("SIGINT")
        }),
        ("stop_signal = 15", |c| {
            c.stop_signal.as_deref() == Some("SIGTERM")
        }),
        ("stop_signal = \"37\"", |c| {
            c.stop_signal.as_deref() == Some("37")
        }),
        ("stop_signal = \"SIGRTMIN+3\"", |c| {
            c.stop_signal.as_deref() == Some("SIGRTMIN+3")
        }),
        ("stop_grace_period = \"1m30s\"", |c| {
            c.stop_grace_period == Duration::from_secs(90)
        }),
        ("labels = [\"a\", \"b=c=d\"]", |c| {
            c.labels["a"].is_empty() && c.labels["b"] == "c=d"
        }),
        ("labels = { a = 1 }", |c| c.labels["a"] == "1"),
        ("logging = { driver = \"journald\" }", |c| {
            c.logging == Logging::Journald
        }),
        ("logging = { driver = \"none\" }", |c| {
            c.logging == Logging::None
        }),
        ("logging = { driver = \"local\" }", |c| {
            c.logging
                == Logging::Local {
                    max_size: 10 << 20,
                    max_file: 3,
                }
        }),
        (
            "logging = { driver = \"json-file\", options = { \"max-size\" = \"1m\", \"max-file\" = \"1\" } }",
            |c| {
                c.logging
                    == Logging::JsonFile {
                        max_size: 1 << 20,
                        max_file: 1,
                    }
            },
        ),
        ("runtime = \"crun\"", |c| {
            c.runtime.as_deref() == Some("crun")
        }),
        ("gpus = \"all\"", |c| c.gpus == Some(Gpus::All)),
        ("gpus = 1", |c| c.gpus == Some(Gpus::Count(1))),
        // What may not be looked at is not said to be missing.
        (
            "volumes = [\"/denied/a:/a\"]\ndevices = [\"/denied/b\"]",
            |c| c.volumes.len() == 1 && c.devices.len() == 1,
        ),
        (
            "secrets = { a = { credential = \"given\" }, b = { file = \"/secret\" } }",
            |c| {
                c.secrets["a"] == Secret::Credential("given".into())
                    && c.secrets["b"] == Secret::File("/secret".into())
            },
        ),
        ("files = { \"/etc/a\" = \"x\" }", |c| {
            c.files["/etc/a"]
                == InlineFile {
                    content: "x".into(),
                    mode: 0o644,
                }
        }),
        (
            "files = { \"/etc/a\" = { content = \"\", mode = \"0600\" } }",
            |c| c.files["/etc/a"].mode == 0o600,
        ),
        (
            "files = { \"/etc/a\" = { content = \"\", mode = 0o600 } }",
            |c| c.files["/etc/a"].mode == 0o600,
        ),
    ];
    for (lines, fits) in table {
        let container = one(lines);
        assert!(fits(&container), "{lines}\n{container:#?}");
    }
}

fn probe(healthcheck: &str) -> (Probe, Timing) {
    match one(&format!("healthcheck = {healthcheck}")).healthcheck {
        Healthcheck::Own(health) => (health.probe, health.timing),
        other => panic!("{healthcheck}: {other:?}"),
    }
}

#[test]
fn good_probes() {
    let shell = |line: &str| Probe::Exec(vec!["/bin/sh".into(), "-c".into(), line.into()]);
    for (healthcheck, want) in [
        ("{ tcp = \":1883\" }", Probe::Tcp(Target::Own(1883))),
        (
            "{ tcp = \"127.0.0.1:8080\" }",
            Probe::Tcp(Target::Host("127.0.0.1".into(), 8080)),
        ),
        ("{ test = \"a && b\" }", shell("a && b")),
        ("{ test = [\"CMD-SHELL\", \"a b\"] }", shell("a b")),
        (
            "{ test = [\"CMD\", \"/a\", \"b c\"] }",
            Probe::Exec(vec!["/a".into(), "b c".into()]),
        ),
        ("{ notify = true }", Probe::Notify),
        ("{ notify = true, disable = false }", Probe::Notify),
    ] {
        assert_eq!(probe(healthcheck).0, want, "{healthcheck}");
    }
    for off in [
        "{ disable = true }",
        "{ test = [\"NONE\"], interval = \"5s\" }",
    ] {
        assert_eq!(
            one(&format!("healthcheck = {off}")).healthcheck,
            Healthcheck::Off,
            "{off}"
        );
    }
    let (Probe::Http(http), _) = probe(
        "{ http = \":443/x\", scheme = \"https\", status = [\"200-204\", 301], body = \"ok\", \
         headers = { Host = \"a.example\", X-A = 1 }, tls = { ca_file = \"/ca.pem\", server_name = \"b.example\" } }",
    ) else {
        panic!("asks over HTTP");
    };
    assert_eq!(
        http,
        HttpProbe {
            tls: Some(Tls {
                ca_file: Some("/ca.pem".into()),
                server_name: Some("b.example".into())
            }),
            target: Target::Own(443),
            path: "/x".into(),
            host: Some("a.example".into()),
            headers: BTreeMap::from([("X-A".into(), "1".into())]),
            status: vec![(200, 204), (301, 301)],
            body: Some("ok".into()),
        }
    );
}

#[test]
fn timing_defaults_follow_the_interval() {
    let seconds = Duration::from_secs;
    for (keys, interval, timeout, start) in [
        ("", 30, 30, 5),
        (", interval = \"10s\"", 10, 10, 5),
        (", interval = \"2s\"", 2, 2, 2),
        (", interval = \"5m\"", 300, 30, 5),
        (
            ", interval = \"2s\", timeout = \"9s\", start_interval = \"3s\"",
            2,
            9,
            3,
        ),
    ] {
        let (_, timing) = probe(&format!("{{ tcp = \":1\"{keys} }}"));
        assert_eq!(
            (timing.interval, timing.timeout, timing.start_interval),
            (seconds(interval), seconds(timeout), seconds(start)),
            "{keys}"
        );
    }
}

#[test]
fn bad_values() {
    for (lines, message, hint) in [
        (
            "command = \"a 'b\"",
            "quote that is not closed",
            "needs no quoting",
        ),
        ("command = [1]", "a word of `command`", "quotes"),
        ("command = 1", "`command` must be a string or a list", ""),
        (
            "environment = { \"A=B\" = 1 }",
            "`A=B` is no variable's name",
            "no `=`",
        ),
        (
            "environment = { A = [1] }",
            "`A` must be a string, a number",
            "",
        ),
        (
            "environment = [\"A\"]",
            "`A` in `environment` has no value",
            "\"A=value\"",
        ),
        (
            "environment = [1]",
            "an entry of `environment` must be a string",
            "NAME=value",
        ),
        (
            "environment = \"A=1\"",
            "`environment` must be a table",
            "TZ",
        ),
        (
            "env_file = \"none.env\"",
            "`/etc/monopod/none.env` cannot be read",
            "",
        ),
        (
            "env_file = \"/etc/bad.env\"",
            "no `=` in this line",
            "NAME=value",
        ),
        ("env_file = 1", "`env_file` must be a list", ""),
        ("ports = \"80\"", "`ports` must be a list", "8080:80"),
        ("ports = [70000]", "has `70000` for a port", "65535"),
        (
            "ports = [\"80:80\", \"127.0.0.1:80:81\"]",
            "port 80 of the host is published twice",
            "one container",
        ),
        (
            "ports = [\"80-90:80-90\", \"85-95:85-95/tcp\"]",
            "port 85 of the host is published twice",
            "",
        ),
        (
            "ports = [{ published = 80 }]",
            "has no `target`",
            "target = 80",
        ),
        (
            "ports = [{ target = 80, mode = \"host\" }]",
            "unknown key `mode`",
            "target",
        ),
        (
            "volumes = [\"./a:/a\"]",
            "`./a` is a relative path",
            "whole path",
        ),
        (
            "volumes = [\"~/a:/a\"]",
            "`~/a` is a relative path",
            "whole path",
        ),
        (
            "volumes = [\"a/b:/a\"]",
            "`a/b` is no volume's name",
            "begins with `/`",
        ),
        ("volumes = [\"/data\"]", "has only one part", "data:/data"),
        ("volumes = [\"data\"]", "has only one part", "data:/path"),
        (
            "volumes = [\"/none:/a\"]",
            "`/none` cannot be mounted: it does not exist",
            "makes none",
        ),
        ("volumes = [\"d:/a:z\"]", "has the option `z`", "semanage"),
        (
            "volumes = [\"d:/a:nocopy\"]",
            "has the option `nocopy`",
            "`ro` and `rw`",
        ),
        (
            "volumes = [\"d:a\"]",
            "`a` is no path in the container",
            "begins with `/`",
        ),
        (
            "volumes = [\"d:/../a\"]",
            "`/../a` is no path in the container",
            "no `..`",
        ),
        ("volumes = [\"d:/\"]", "nothing can be mounted over", ""),
        (
            "volumes = [\"d:/a\", \"e:/a/\"]",
            "two things are put on `/a`",
            "",
        ),
        (
            "volumes = [\"d:/a\"]\ntmpfs = \"/a\"",
            "two things are put on `/a`",
            "",
        ),
        (
            "volumes = [{ type = \"tmpfs\", source = \"a\", target = \"/a\" }]",
            "unknown type `tmpfs`",
            "`tmpfs`",
        ),
        (
            "volumes = [{ source = \"a\", target = \"/a\" }]",
            "has no `type`",
            "bind",
        ),
        (
            "volumes = [{ type = \"volume\", target = \"/a\" }]",
            "has no `source`",
            "source =",
        ),
        (
            "tmpfs = \"/run:sise=1m\"",
            "unknown tmpfs option `sise`",
            "`size`",
        ),
        (
            "tmpfs = \"/run:size=1x\"",
            "the tmpfs option `size=1x` has a bad value",
            "64m",
        ),
        (
            "devices = [\"/dev/none\"]",
            "the device `/dev/none` cannot be used",
            "plugged in",
        ),
        (
            "devices = [\"/etc/monopod/app.env\"]",
            "is not a device",
            "",
        ),
        (
            "devices = [\"/dev/ttyUSB0:/a:x\"]",
            "`x` are no permissions",
            "`r`",
        ),
        (
            "devices = [\"/dev/a:b:/c:rwm:\"]",
            "too many colons",
            "long form",
        ),
        (
            "devices = [\"vendor.com/gpu=all\"]",
            "is no path of a device",
            "gpus",
        ),
        (
            "network_mode = \"bridge\"",
            "unknown network mode `bridge`",
            "private bridge is the default",
        ),
        (
            "network_mode = \"service:b\"",
            "unknown network mode",
            "container:b",
        ),
        (
            "network_mode = \"lan\"",
            "unknown network mode `lan`",
            "private",
        ),
        (
            "network_mode = \"container:b\"",
            "there is no container `b`",
            "app",
        ),
        (
            "network_mode = \"container:app\"",
            "`app` cannot depend on itself",
            "",
        ),
        (
            "network_mode = \"host\"\nports = [80]",
            "`ports` and network_mode = \"host\" contradict",
            "remove `ports`",
        ),
        (
            "network_mode = \"none\"\nports = [80]",
            "contradict",
            "nothing can be published",
        ),
        (
            "network_mode = \"host\"\nsysctls = { \"net.a\" = 1 }",
            "set for the whole node",
            "/etc/sysctl.d",
        ),
        (
            "network_mode = \"none\"\nhealthcheck = { tcp = \":1\" }",
            "without a network",
            "`test`",
        ),
        ("user = \"\"", "`user` is empty", ""),
        ("user = \"a:b:c\"", "`a:b:c` is no user", "1000:1000"),
        ("user = -1", "`user` is -1", "0"),
        ("group_add = [\"a b\"]", "`a b` is no group", ""),
        (
            "working_dir = \"app\"",
            "`app` is no path in the container",
            "`/`",
        ),
        ("hostname = \"a_b\"", "`a_b` is no host name", "dashes"),
        ("extra_hosts = [\"a\"]", "`a` has no address", "plc="),
        (
            "extra_hosts = { a = \"b\" }",
            "`b` is no address",
            "host-gateway",
        ),
        (
            "extra_hosts = { a = 1 }",
            "`extra_hosts` must be a string",
            "",
        ),
        (
            "dns = \"dns.google\"",
            "`dns.google` is no address",
            "number",
        ),
        (
            "cap_add = [\"NET_ADMN\"]",
            "unknown capability `NET_ADMN`",
            "`NET_ADMIN`",
        ),
        (
            "cap_add = [\"FROBNICATE\"]",
            "unknown capability",
            "capabilities(7)",
        ),
        (
            "cap_add = [\"CHOWN\"]\ncap_drop = [\"CAP_CHOWN\"]",
            "both added and dropped",
            "",
        ),
        (
            "privileged = \"yes\"",
            "`privileged` must be true or false",
            "true without quotes",
        ),
        (
            "security_opt = [\"seccomp=./a\"]",
            "unknown security option",
            "seccomp=/PATH",
        ),
        (
            "security_opt = [\"seccomp=/none\"]",
            "the seccomp profile `/none` cannot be used",
            "",
        ),
        (
            "security_opt = [\"seccomp=/etc/bad.env\"]",
            "it is not JSON",
            "",
        ),
        ("shm_size = \"64x\"", "`64x` has no known unit", "64k"),
        ("shm_size = -1", "`shm_size` is negative", ""),
        (
            "ulimits = { nofiles = 1 }",
            "unknown key `nofiles`",
            "`nofile`",
        ),
        (
            "ulimits = { nofile = { soft = 1 } }",
            "needs `soft` and `hard`",
            "4096",
        ),
        (
            "ulimits = { nofile = { soft = 2, hard = 1 } }",
            "soft limit above its hard one",
            "",
        ),
        (
            "ulimits = { nofile = \"1\" }",
            "`nofile` must be an integer",
            "without quotes",
        ),
        (
            "sysctls = { \"vm.swappiness\" = 1 }",
            "`vm.swappiness` is not a container's own",
            "/etc/sysctl.d",
        ),
        (
            "sysctls = { net.core.somaxconn = 1 }",
            "`net` must be a string, not a table",
            "quotes",
        ),
        (
            "sysctls = { \"kernel.shmmx\" = 1 }",
            "is not a container's own",
            "`kernel.shmmax`",
        ),
        ("mem_limit = \"5m\"", "too little", "6291456"),
        (
            "mem_limit = \"8m\"\nmem_reservation = \"9m\"",
            "`mem_reservation` is above `mem_limit`",
            "smaller",
        ),
        ("cpus = 0.001", "too little", "0.01"),
        ("cpus = \"half\"", "is not a number of cores", "0.5"),
        ("cpus = -1", "is not a number of cores", ""),
        ("cpus = inf", "is not a number of cores", ""),
        ("pids_limit = 0", "`pids_limit` is 0", "-1"),
        (
            "pids_limit = \"10\"",
            "`pids_limit` must be an integer",
            "10 without quotes",
        ),
        (
            "oom_score_adj = 1001",
            "`oom_score_adj` is 1001",
            "-1000 to 1000",
        ),
        (
            "stop_signal = \"SIGTREM\"",
            "unknown signal `SIGTREM`",
            "`SIGTERM`",
        ),
        ("stop_signal = 0", "unknown signal `0`", "SIGTERM"),
        (
            "stop_grace_period = 10",
            "`stop_grace_period` has no unit",
            "\"10s\"",
        ),
        (
            "stop_grace_period = \"2h\"",
            "`stop_grace_period` is 2h",
            "1h",
        ),
        (
            "labels = { \"org.monopod.role\" = \"a\" }",
            "monopod's own",
            "org.monopod.",
        ),
        (
            "logging = { driver = \"jornald\" }",
            "unknown driver `jornald`",
            "`journald`",
        ),
        (
            "logging = { driver = \"syslog\" }",
            "unknown driver `syslog`",
            "json-file",
        ),
        (
            "logging = { max_size = \"1m\" }",
            "has no `driver`",
            "journald",
        ),
        (
            "logging = { driver = \"none\", max_size = \"1m\" }",
            "`none` has no caps",
            "remove",
        ),
        (
            "logging = { driver = \"journald\", max_file = 2 }",
            "`journald` has no caps",
            "journald.conf",
        ),
        (
            "logging = { driver = \"local\", max_file = 1 }",
            "keeps 2 files",
            "max_file = 2",
        ),
        (
            "logging = { driver = \"local\", tag = \"a\" }",
            "unknown key `tag`",
            "max_size",
        ),
        ("depends_on = [\"b\"]", "there is no container `b`", "app"),
        (
            "depends_on = [\"app\"]",
            "`app` cannot depend on itself",
            "",
        ),
        (
            "depends_on = \"b\"",
            "`depends_on` must be a table",
            "healthy",
        ),
        (
            "depends_on = { app = \"running\" }",
            "unknown condition for `app`",
            "healthy",
        ),
        (
            "depends_on = { b = { condition = \"service_completed_successfully\" } }",
            "unknown condition for `b`",
            "one-off",
        ),
        ("runtime = \"a b\"", "`a b` is no runtime's name", "crun"),
        ("gpus = 0", "`gpus` is 0", "1"),
        (
            "gpus = \"some\"",
            "`gpus` must be \"all\" or a number",
            "all",
        ),
        (
            "secrets = { a = { file = \"/none\" } }",
            "the secret `/none` cannot be used",
            "",
        ),
        (
            "secrets = { a = { file = \"/secret-open\" } }",
            "has the mode 0644",
            "chmod 0640",
        ),
        (
            "secrets = { a = { file = \"/secret-of-root\" } }",
            "the secret `/secret-of-root` cannot be read",
            "chgrp monopod",
        ),
        (
            "secrets = { a = { file = \"/secret-of-1000\" } }",
            "belongs to user 1000",
            "chown root",
        ),
        (
            "secrets = { a = { file = \"/etc/app\" } }",
            "is not a regular file",
            "",
        ),
        (
            "secrets = { a = { file = \"x\" } }",
            "`x` is not an absolute path",
            "",
        ),
        (
            "secrets = { a = { credential = \"none\" } }",
            "no credential `none`",
            "LoadCredential=",
        ),
        ("secrets = { a = {} }", "needs one source", "credential"),
        (
            "secrets = { a = { file = \"/secret\", credential = \"given\" } }",
            "needs one source",
            "",
        ),
        (
            "secrets = { \"../a\" = { file = \"/secret\" } }",
            "is no secret's name",
            "/run/secrets",
        ),
        ("secrets = { a = \"b\" }", "`a` must be a table", ""),
        (
            "secrets = [\"a\"]",
            "`secrets` must be a table",
            "credential",
        ),
        (
            "files = { \"a\" = \"\" }",
            "`a` is no path in the container",
            "",
        ),
        (
            "files = { \"/a\" = \"\", \"/a/\" = \"\" }",
            "is there twice",
            "",
        ),
        (
            "files = { \"/a\" = { mode = \"0644\" } }",
            "has no `content`",
            "content =",
        ),
        (
            "files = { \"/a\" = { content = \"\", mode = 644 } }",
            "`mode` must be permission bits",
            "0644",
        ),
        (
            "files = { \"/a\" = { content = \"\", mode = \"0999\" } }",
            "`mode` must be permission bits",
            "",
        ),
        (
            "files = { \"/a\" = 1 }",
            "`files` must be a table of texts",
            "",
        ),
        (
            "restart = \"always\"",
            "`restart` is not supported",
            "[escalation]",
        ),
        (
            "build = \".\"",
            "`build` is not supported",
            "monopod import",
        ),
        (
            "container_name = \"a\"",
            "`container_name` is not supported",
            "WORKLOAD-CONTAINER",
        ),
        ("x-a = 1", "unknown key `x-a`", "extension"),
        (
            "interval = \"10s\"",
            "`interval` belongs in `healthcheck`",
            "",
        ),
        (
            "imge = \"b\"",
            "unknown key `imge` in a container",
            "`image`",
        ),
        ("frobnicate = 1", "unknown key `frobnicate`", "Compose"),
    ] {
        expect_error(&with_lines(lines), message, hint);
    }
    let large = format!("files = {{ \"/a\" = \"{}\" }}", "x".repeat(65537));
    expect_error(&with_lines(&large), "has 65537 bytes", "64 KiB");
}

#[test]
fn bad_healthchecks() {
    for (healthcheck, message, hint) in [
        ("\"http\"", "`healthcheck` must be a table", ":80/healthz"),
        ("{}", "asks nothing", "http ="),
        ("{ interval = \"10s\" }", "asks nothing", "http ="),
        (
            "{ http = \":80\", tcp = \":80\" }",
            "asks in two ways, `http` and `tcp`",
            "keep one",
        ),
        ("{ tcp = \":80\", disable = true }", "in two ways", ""),
        (
            "{ htpp = \":80\", tcp = \":1\" }",
            "unknown key `htpp`",
            "`http`",
        ),
        ("{ http = \":0/\" }", "has `0` for a port", "65535"),
        (
            "{ http = \"/healthz\" }",
            "names neither a port nor a scheme",
            ":80/healthz",
        ),
        (
            "{ http = \":80\", scheme = \"ftp\" }",
            "unknown scheme `ftp`",
            "https",
        ),
        (
            "{ http = \":80\", status = 99 }",
            "no status code",
            "200-299",
        ),
        (
            "{ http = \":80\", status = \"299-200\" }",
            "no status code",
            "",
        ),
        ("{ http = \":80\", status = [] }", "no status code", ""),
        ("{ http = \":80\", body = \"\" }", "`body` is empty", ""),
        (
            "{ http = \":80\", headers = { \"a b\" = 1 } }",
            "is no header's name",
            "Accept",
        ),
        (
            "{ http = \":80\", headers = { A = \"x\\r\\ny\" } }",
            "no header can have",
            "ASCII",
        ),
        (
            "{ http = \":80\", headers = { Content-Length = 1 } }",
            "monopod's own",
            "remove",
        ),
        (
            "{ http = \":80\", tls = {} }",
            "over plain HTTP",
            "https://",
        ),
        (
            "{ http = \"https://a\", tls = { ca_file = \"/none\" } }",
            "the ca_file `/none` cannot be used",
            "",
        ),
        (
            "{ http = \"https://a\", tls = { ca_file = \"x\" } }",
            "is not an absolute path",
            "",
        ),
        (
            "{ http = \"https://a\", tls = { insecure = true } }",
            "unknown key `insecure`",
            "ca_file",
        ),
        (
            "{ tcp = \":1\", body = \"x\" }",
            "`body` goes with `http`",
            "",
        ),
        ("{ tcp = 1883 }", "`tcp` must be a string", "\":1883\""),
        ("{ tcp = \"1883\" }", "names no port", ":1883"),
        ("{ test = \"\" }", "`test` is empty", ""),
        ("{ test = [] }", "`test` is empty", "CMD"),
        ("{ test = [\"curl\"] }", "begins with \"CMD\"", "CMD-SHELL"),
        ("{ test = [\"CMD\"] }", "names no program", ""),
        (
            "{ test = [\"CMD-SHELL\", \"a\", \"b\"] }",
            "takes one string",
            "whole line",
        ),
        ("{ notify = false }", "asks nothing", "disable"),
        (
            "{ tcp = \":1\", interval = 10 }",
            "`interval` has no unit",
            "\"10s\"",
        ),
        (
            "{ tcp = \":1\", interval = \"10ms\" }",
            "`interval` is 10ms",
            "100ms to 24h",
        ),
        (
            "{ tcp = \":1\", timeout = \"0s\" }",
            "`timeout` is 0s",
            "100ms",
        ),
        (
            "{ tcp = \":1\", retries = 0 }",
            "`retries` is 0",
            "1 to 1000",
        ),
        (
            "{ tcp = \":1\", start_period = \"25h\" }",
            "`start_period` is 25h",
            "24h",
        ),
    ] {
        expect_error(
            &with_lines(&format!("healthcheck = {healthcheck}")),
            message,
            hint,
        );
    }
}

#[test]
fn bad_workloads() {
    let app = "[containers.app]\nimage = \"a\"\n";
    for (text, message, hint) in [
        (app.to_owned(), "has no `name`", "gateway"),
        (
            "name = \"w\"".to_owned(),
            "has no container",
            "[containers.app]",
        ),
        (
            "name = \"w\"\n[containers]".to_owned(),
            "has no container",
            "",
        ),
        (
            "name = \"w\"\n[[containers]]\nimage = \"a\"".to_owned(),
            "must be a table, not a list",
            "[containers.app]",
        ),
        (
            format!("name = \"W\"\n{app}"),
            "`W` is no workload's name",
            "lower-case",
        ),
        (
            format!("name = \"{}\"\n{app}", "w".repeat(49)),
            "no workload's name",
            "48",
        ),
        (format!("name = 1\n{app}"), "`name` must be a string", ""),
        (
            format!("version = \"3\"\nname = \"w\"\n{app}"),
            "unknown key `version`",
            "remove",
        ),
        (
            format!("nmae = \"w\"\nname = \"w\"\n{app}"),
            "unknown key `nmae`",
            "`name`",
        ),
        (
            format!("image = \"a\"\nname = \"w\"\n{app}"),
            "`image` belongs in a container",
            "[containers.NAME]",
        ),
        (
            format!("name = \"w\"\n{app}[services.a]\nimage = \"a\""),
            "unknown key `services`",
            "[containers.NAME]",
        ),
        (
            format!("name = \"w\"\n{app}[escalation]\n"),
            "unknown key `escalation`",
            "node.toml",
        ),
        (
            "name = \"w\"\n[containers.App]\nimage = \"a\"".to_owned(),
            "`App` is no container's name",
            "lower-case",
        ),
        (
            "name = \"w\"\n[containers.app]".to_owned(),
            "container `app` has no `image`",
            "example/",
        ),
        (
            "name = \"w\"\n[containers.app]\nimage = \"A b\"".to_owned(),
            "image `A b` has `A b` in its name",
            "",
        ),
        (
            format!(
                "name = \"w\"\n{app}[containers.b]\nimage = \"b\"\n[containers.c]\nimage = \"c\""
            ),
            "monopod runs one workload of one or two containers, this one has 3",
            "K3s",
        ),
        (
            format!(
                "name = \"w\"\n{app}depends_on = [\"b\"]\n[containers.b]\nimage = \"b\"\ndepends_on = [\"app\"]"
            ),
            "`app` and `b` wait for each other",
            "",
        ),
        (
            format!(
                "name = \"w\"\n{app}depends_on = [\"b\"]\n[containers.b]\nimage = \"b\"\nnetwork_mode = \"container:app\""
            ),
            "`app` and `b` wait for each other",
            "network_mode",
        ),
        (
            format!(
                "name = \"w\"\n{app}depends_on = {{ b = \"healthy\" }}\n[containers.b]\nimage = \"b\"\nhealthcheck = {{ disable = true }}"
            ),
            "whose healthcheck is off",
            "b = \"started\"",
        ),
        (
            format!(
                "name = \"w\"\n{app}depends_on = [\"brocker\"]\n[containers.broker]\nimage = \"b\""
            ),
            "there is no container `brocker`",
            "`broker`",
        ),
        (
            format!(
                "name = \"w\"\n{app}ports = [\"80:80\"]\n[containers.b]\nimage = \"b\"\nports = [\"80:81\"]"
            ),
            "port 80 of the host is published twice",
            "",
        ),
        (
            format!(
                "name = \"w\"\n{app}hostname = \"h\"\nnetwork_mode = \"container:b\"\n[containers.b]\nimage = \"b\""
            ),
            "`hostname` and network_mode = \"container:b\" contradict",
            "on the container whose network",
        ),
    ] {
        expect_error(&text, message, hint);
    }
}

/// A workload whose container has the volumes `data` and `logs`, with these lines behind it.
fn with_volumes(lines: &str) -> String {
    let mounts = "volumes = [\"data:/data\", \"logs:/logs\", \"/etc/app:/app\"]";
    with_lines(&format!("{mounts}\n{lines}"))
}

#[test]
fn what_is_said_of_volumes() {
    const GIB: u64 = 1 << 30;
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, Option<u64>)]);
    let table: &[Row] = &[
        ("", "", &[]),
        ("[volumes.data]", "", &[("data", None)]),
        ("[volumes]", "", &[]),
        (
            "[volumes.data]\nsnapshot = true",
            "",
            &[("data", Some(GIB))],
        ),
        (
            "[volumes]\ndata = { snapshot = true, snapshot_limit = \"64k\" }\nlogs = { snapshot = false }",
            "",
            &[("data", Some(64 << 10)), ("logs", None)],
        ),
        // A node's own word goes over the release's, key by key.
        (
            "[volumes.data]\nsnapshot = true\nsnapshot_limit = \"4g\"",
            "[volumes.data]\nsnapshot_limit = \"2g\"\n[volumes.logs]\nsnapshot = true",
            &[("data", Some(2 * GIB)), ("logs", Some(GIB))],
        ),
        (
            "[volumes.data]\nsnapshot = true",
            "[volumes.data]\nsnapshot = false",
            &[("data", None)],
        ),
    ];
    for (lines, drop_in, want) in table {
        let found = load_texts(machine(), &with_volumes(lines), &[("a.toml", drop_in)]);
        let found = found.unwrap_or_else(|invalid| {
            let text = diagnostic::render(&invalid.diagnostics, false);
            panic!("{lines}\n{drop_in}\n{text}")
        });
        let volumes: Vec<_> = found
            .volumes
            .iter()
            .map(|(name, volume)| (name.as_str(), volume.snapshot))
            .collect();
        assert_eq!(volumes, *want, "{lines}\n{drop_in}");
    }
}

#[test]
fn bad_words_about_volumes() {
    for (lines, message, hint) in [
        (
            "[volumes.date]\nsnapshot = true",
            "no container has a volume `date`",
            "`data`",
        ),
        (
            "[volumes.qqqqqq]",
            "no container has a volume `qqqqqq`",
            "volumes = [\"qqqqqq:/path\"]",
        ),
        (
            "[volumes.\"/etc/app\"]\nsnapshot = true",
            "`/etc/app` is a path of the host",
            "only named volumes",
        ),
        (
            "[volumes.data]\ndriver = \"nfs\"",
            "unknown key `driver`",
            "the engine's local ones",
        ),
        (
            "[volumes.data]\nname = \"x\"",
            "unknown key `name`",
            "WORKLOAD-VOLUME",
        ),
        (
            "[volumes.data]\nlabels = {}",
            "unknown key `labels`",
            "remove",
        ),
        (
            "[volumes.data]\nsnapshots = true",
            "unknown key `snapshots` in a volume",
            "`snapshot`",
        ),
        (
            "[volumes.data]\nsnapshot = \"yes\"",
            "`snapshot` must be true or false",
            "without quotes",
        ),
        (
            "[volumes.data]\nsnapshot = true\nsnapshot_limit = \"much\"",
            "`snapshot_limit`: `much`",
            "64k",
        ),
        (
            "[volumes.data]\nsnapshot = true\nsnapshot_limit = 0",
            "0 bytes, too little",
            "4096",
        ),
        (
            "[volumes]\ndata = true",
            "`data` must be a table",
            "snapshot",
        ),
    ] {
        expect_error(&with_volumes(lines), message, hint);
    }
    let text = format!(
        "name = \"w\"\nvolumes = [\"data\"]\n{}",
        "[containers.app]\nimage = \"a\""
    );
    expect_error(&text, "`volumes` must be a table", "[volumes.data]");
    let loaded = load_texts_with_warnings("[volumes.data]\nsnapshot_limit = \"1m\"");
    assert_eq!(loaded, ["`snapshot_limit` without a snapshot says nothing"]);
}

/// The warnings about a workload with these lines about its volumes.
fn load_texts_with_warnings(lines: &str) -> Vec<String> {
    let host = machine().with(WORKLOAD, &with_volumes(lines));
    let loaded = load(&Paths::new(Path::new("/")), &host).expect("valid");
    let warnings = loaded.warnings.iter();
    warnings.map(|one| one.message().to_owned()).collect()
}

#[test]
fn containers_stand_in_the_order_of_their_start() {
    for (lines_a, lines_b, want) in [
        ("", "", ["a", "b"]),
        ("depends_on = [\"b\"]", "", ["b", "a"]),
        (
            "",
            "depends_on = { a = { condition = \"service_healthy\" } }",
            ["a", "b"],
        ),
        ("network_mode = \"container:b\"", "", ["b", "a"]),
    ] {
        let text = format!(
            "name = \"w\"\n[containers.a]\nimage = \"a\"\n{lines_a}\n[containers.b]\nimage = \"b\"\n{lines_b}"
        );
        let workload = load_texts(machine(), &text, &[]).expect("valid");
        let names: Vec<_> = workload
            .containers
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        assert_eq!(names, want, "{lines_a} {lines_b}");
    }
    let text = "name = \"w\"\n[containers.a]\nimage = \"a\"\nnetwork_mode = \"container:b\"\n[containers.b]\nimage = \"b\"";
    let workload = load_texts(machine(), text, &[]).expect("valid");
    assert_eq!(
        workload.containers[1].depends_on,
        BTreeMap::from([(Role::new("b"), Condition::Started)])
    );
}

/// What drop-ins make of a container.
#[test]
fn drop_ins() {
    let table: &[Merged] = &[
        (
            "environment = { A = 1, B = 1 }",
            "environment = [\"B=2\", \"C=2\"]",
            |c| c.environment.values().collect::<Vec<_>>() == ["1", "2", "2"],
        ),
        (
            "ports = [\"80:80\"]",
            "ports = [\"81:80\", \"80:80/tcp\"]",
            |c| c.ports.len() == 2,
        ),
        (
            "volumes = [\"a:/a\", \"b:/b\"]",
            "volumes = [\"/etc/app:/a/\"]",
            |c| c.volumes.len() == 2 && c.volumes[0].source == MountSource::Bind("/etc/app".into()),
        ),
        (
            "volumes = [\"a:/a\"]",
            "volumes = [{ type = \"volume\", source = \"b\", target = \"/a\" }]",
            |c| c.volumes.len() == 1 && c.volumes[0].source == MountSource::Volume("b".into()),
        ),
        (
            "tmpfs = \"/run:size=1m\"",
            "tmpfs = [\"/run:size=2m\", \"/tmp\"]",
            |c| c.tmpfs.len() == 2 && c.tmpfs[0].options == "size=2m",
        ),
        (
            "devices = [\"/dev/none:/dev/ttyS9\"]",
            "devices = [\"/dev/ttyUSB0:/dev/ttyS9\"]",
            |c| c.devices.len() == 1 && c.devices[0].host == "/dev/ttyUSB0",
        ),
        (
            "dns = \"1.1.1.1\"",
            "dns = [\"1.1.1.1\", \"2.2.2.2\"]",
            |c| c.dns.len() == 2,
        ),
        (
            "extra_hosts = { a = \"1.1.1.1\" }",
            "extra_hosts = [\"a=1.1.1.1\", \"a=2.2.2.2\"]",
            |c| c.extra_hosts.len() == 2,
        ),
        (
            "cap_add = [\"CHOWN\"]",
            "cap_add = [\"CHOWN\", \"KILL\"]",
            |c| c.cap_add.len() == 2,
        ),
        ("command = [\"a\", \"b\"]", "command = [\"c\"]", |c| {
            c.command == Some(vec!["c".into()])
        }),
        ("entrypoint = [\"a\"]", "entrypoint = \"b\"", |c| {
            c.entrypoint == Some(vec!["b".into()])
        }),
        ("mem_limit = \"1g\"", "mem_limit = \"2g\"", |c| {
            c.mem_limit == Some(2 << 30)
        }),
        ("", "image = \"b:2\"", |c| c.image == "b:2"),
        ("labels = { a = 1 }", "labels = [\"b\"]", |c| {
            c.labels.len() == 2
        }),
        (
            "ulimits = { core = 0, nofile = { soft = 1, hard = 9 } }",
            "ulimits = { nofile = { soft = 2 } }",
            |c| c.ulimits["nofile"] == Ulimit { soft: 2, hard: 9 } && c.ulimits.len() == 2,
        ),
        (
            "logging = { driver = \"local\", max_file = 9 }",
            "logging = { max_size = \"1m\" }",
            |c| {
                c.logging
                    == Logging::Local {
                        max_size: 1 << 20,
                        max_file: 9,
                    }
            },
        ),
        (
            "logging = { driver = \"local\", max_file = 9 }",
            "logging = { driver = \"none\" }",
            |c| c.logging == Logging::None,
        ),
        (
            "healthcheck = { http = \":80\", status = 200, interval = \"7s\" }",
            "healthcheck = { tcp = \":80\" }",
            |c| {
                matches!(&c.healthcheck, Healthcheck::Own(h)
                if h.probe == Probe::Tcp(Target::Own(80)) && h.timing.interval == Duration::from_secs(7))
            },
        ),
        (
            "healthcheck = { http = \":80\", status = 204 }",
            "healthcheck = { http = \":81\", timeout = \"1s\" }",
            |c| {
                matches!(&c.healthcheck, Healthcheck::Own(Health { probe: Probe::Http(h), .. })
                if h.status == [(204, 204)] && h.target == Target::Own(81))
            },
        ),
        (
            "healthcheck = { http = \":80\" }",
            "healthcheck = { disable = true }",
            |c| c.healthcheck == Healthcheck::Off,
        ),
        (
            "healthcheck = { test = [\"CMD\", \"a\", \"b\"] }",
            "healthcheck = { test = [\"CMD\", \"c\"] }",
            |c| matches!(&c.healthcheck, Healthcheck::Own(h) if h.probe == Probe::Exec(vec!["c".into()])),
        ),
        (
            "secrets = { a = { file = \"/none\" } }",
            "secrets = { a = { credential = \"given\" } }",
            |c| c.secrets["a"] == Secret::Credential("given".into()),
        ),
        (
            "files = { \"/a\" = { content = \"x\" } }",
            "files = { \"/a\" = { mode = \"0600\" } }",
            |c| c.files["/a"].mode == 0o600 && c.files["/a"].content == "x",
        ),
    ];
    for (base, over, fits) in table {
        let over = format!("[containers.app]\n{over}");
        match load_texts(machine(), &with_lines(base), &[("50-node.toml", &over)]) {
            Ok(workload) => assert!(
                fits(&workload.containers[0]),
                "{base}\n{over}\n{:#?}",
                workload.containers[0]
            ),
            Err(invalid) => panic!(
                "{base}\n{over}\n{}",
                diagnostic::render(&invalid.diagnostics, false)
            ),
        }
    }
}

#[test]
fn drop_ins_go_by_name_and_the_suffix_counts() {
    let image = |tag: u8| format!("[containers.app]\nimage = \"a:{tag}\"");
    let workload = load_texts(
        machine(),
        &with_lines(""),
        &[
            ("20-b.toml", &image(2)),
            ("10-a.toml", &image(3)),
            ("30-c.toml~", "not toml ="),
            (".40-d.toml", "not toml ="),
        ],
    )
    .expect("valid");
    assert_eq!(workload.containers[0].image, "a:2");
}

#[test]
fn an_error_names_the_file_that_it_is_in() {
    let base = "name = \"w\"\nbad = 1\n[containers.app]\nimage = \"A\"\nmem_limit = \"7m\"\n";
    let over = "[containers.app]\nmem_reservation = \"8m\"\nimge = 1\n";
    let invalid = load_texts(
        machine(),
        base,
        &[
            ("1.toml", over),
            ("2.toml", "a = \n"),
            ("0.toml", "[containers.b]\n"),
        ],
    )
    .expect_err("invalid");
    let places: Vec<_> = invalid
        .diagnostics
        .iter()
        .map(|d| {
            let name = Path::new(d.file()).file_name().and_then(|n| n.to_str());
            (name.unwrap_or_default(), d.line(), d.message())
        })
        .collect();
    // `b` has no image, but 2.toml might have one: as long as it cannot be read that is no finding.
    assert_eq!(
        places,
        [
            (
                "workload.toml",
                Some(2),
                "unknown key `bad` in the workload"
            ),
            ("workload.toml", Some(4), "image `A` has `A` in its name"),
            ("1.toml", Some(2), "`mem_reservation` is above `mem_limit`"),
            ("1.toml", Some(3), "unknown key `imge` in a container"),
            ("2.toml", Some(1), places[4].2),
        ]
    );
}

#[test]
fn a_file_for_another_node_gets_warnings() {
    let text = with_lines(
        "volumes = [\"/none:/a\"]\ndevices = [\"/dev/none\"]\nenv_file = \"x\"\n\
         secrets = { a = { file = \"/none\" } }",
    );
    let host = Fake::default().with("/x/w.toml", &text);
    let loaded = load_file(Path::new("/x/w.toml"), &host).expect("valid");
    assert_eq!(loaded.warnings.len(), 4);
    for warning in &loaded.warnings {
        assert!(
            warning.message().starts_with("on this machine, "),
            "{warning}"
        );
    }
    let errors = load_texts(Fake::default(), &text, &[]).expect_err("not on the node itself");
    assert_eq!(errors.diagnostics.len(), 4);
}

#[test]
fn files_that_cannot_be_read() {
    let missing = load(&Paths::new(Path::new("/")), &Fake::default()).expect_err("missing");
    assert_eq!(
        missing.to_string(),
        "/etc/monopod/workload.toml: the file cannot be read: it does not exist"
    );
    let mut host = Fake::default().with(WORKLOAD, "");
    host.files
        .insert(WORKLOAD.into(), b"name = \"w\"\nx = \"\xff\"".to_vec());
    let latin = load(&Paths::new(Path::new("/")), &host).expect_err("not UTF-8");
    assert_eq!(
        latin.to_string(),
        "/etc/monopod/workload.toml:2:6: the file is not UTF-8 text"
    );
}

fn node(text: &str) -> Result<Loaded<Node>, Invalid> {
    let host = Fake::default().with("/etc/monopod/node.toml", text);
    load_node(&Paths::new(Path::new("/")), &host)
}

#[test]
fn node_files() {
    let absent = load_node(&Paths::new(Path::new("/")), &Fake::default()).expect("defaults");
    assert_eq!(absent.value, Node::default());
    let text = r#"
        [engine]
        socket = "unix:///run/docker.sock"
        unit = "docker@main.service"
        [store]
        keep = false
        max_image_size = "2g"
        [escalation]
        restarts = 1
        recreates = 0
        rebuilds = 2
        withholds = 2
        backoff_base = "500ms"
        backoff_max = "1m"
        stable = "1h"
        engine_after = "5m"
        engine_restarts = 1
        reboot = true
        reboots_per_day = 24
        [systemd]
        ready = "running"
        [slice]
        memory_max = "512m"
        memory_high = "400m"
        cpu_quota = "150%"
        tasks_max = 300
        io_weight = 50
        cpu_weight = 200
        [usb]
        any_label = true
        unsigned = true
        led = "green:usb"
        hook = "/usr/local//bin/beep"
        result = true
        [update]
        activation = "manual"
        window = "Sat 02:00"
        window_length = "2h"
        hold_file = "/etc/hold"
        lock_file = "/srv//app/busy"
        [trial]
        settle = "30s"
        deadline = "5m"
        tries = 2
    "#;
    let want = Node {
        engine_socket: Some("/run/docker.sock".into()),
        engine_unit: Some("docker@main.service".to_owned()),
        store: StorePolicy {
            keep: false,
            max_image_size: 2 << 30,
        },
        escalation: Escalation {
            restarts: 1,
            recreates: 0,
            rebuilds: 2,
            withholds: 2,
            backoff_base: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            stable: Duration::from_secs(3600),
            engine_after: Duration::from_secs(300),
            engine_restarts: 1,
            reboot: true,
            reboots_per_day: 24,
        },
        ready: Ready::Running,
        slice: Slice {
            memory_max: Some(512 << 20),
            memory_high: Some(400 << 20),
            cpu_quota: Some(150),
            tasks_max: Some(300),
            io_weight: Some(50),
            cpu_weight: Some(200),
        },
        usb: UsbPolicy {
            any_label: true,
            unsigned: true,
            led: Some("green:usb".to_owned()),
            hook: Some("/usr/local/bin/beep".into()),
            result: true,
        },
        update: UpdatePolicy {
            activation: Activation::Manual,
            window: calendar::Window::new(
                calendar::Calendar::parse("Sat *-*-* 02:00:00").expect("valid"),
                Duration::from_secs(7200),
            ),
            hold_file: Some("/etc/hold".into()),
            lock_file: Some("/srv/app/busy".into()),
        },
        trial: Trial {
            settle: Duration::from_secs(30),
            deadline: Duration::from_secs(300),
            tries: 2,
        },
    };
    assert_eq!(node(text).expect("valid").value, want);
}

#[test]
fn bad_node_files() {
    for (text, message, hint) in [
        ("[engin]", "unknown key `engin` in node.toml", "`engine`"),
        ("engine = 1", "`engine` must be a table", "[engine]"),
        ("name = \"w\"", "`name` belongs in workload.toml", ""),
        (
            "[engine]\nsocket = \"/run/docker.sock\"",
            "is no unix socket",
            "unix:///run/docker.sock",
        ),
        (
            "[engine]\nsocket = \"tcp://1.2.3.4:2375\"",
            "is no unix socket",
            "node it runs on",
        ),
        (
            "[engine]\nsocket = \"unix://run/a\"",
            "is no unix socket",
            "absolute",
        ),
        ("[store]\nkeep = 1", "`keep` must be true or false", ""),
        ("[store]\nmax_image_size = \"1k\"", "too little", "1048576"),
        (
            "[escalation]\nrestarts = -1",
            "`restarts` is -1",
            "0 to 1000",
        ),
        (
            "[escalation]\nreboots_per_day = 25",
            "`reboots_per_day` is 25",
            "0 to 24",
        ),
        (
            "[escalation]\nreboot = 1",
            "`reboot` must be true or false",
            "",
        ),
        (
            "[escalation]\nrestart = 1",
            "unknown key `restart`",
            "`restarts`",
        ),
        (
            "[escalation]\nstable = 10",
            "`stable` has no unit",
            "\"10s\"",
        ),
        (
            "[escalation]\nbackoff_base = \"10m\"",
            "`backoff_base` is above `backoff_max`",
            "5m",
        ),
        (
            "[systemd]\nready = true",
            "`ready` must be \"healthy\" or \"running\"",
            "READY=1",
        ),
        (
            "[engine]\nunit = \"docker\"",
            "`docker` is no service unit",
            "docker.service",
        ),
        (
            "[engine]\nunit = \"a b.service\"",
            "is no service unit",
            "docker.service",
        ),
        (
            "[engine]\nunit = \"../a.service\"",
            "is no service unit",
            "",
        ),
        (
            "[escalation]\nreboot = 3",
            "`reboot` must be true or false",
            "",
        ),
        (
            "[usb]\nlabel = true",
            "unknown key `label` in [usb]",
            "any_label",
        ),
        (
            "[usb]\nresult = \"yes\"",
            "`result` must be true or false",
            "without quotes",
        ),
        (
            "[usb]\nled = \"../../block\"",
            "`../../block` is no LED",
            "/sys/class/leds",
        ),
        ("[usb]\nled = \"..\"", "`..` is no LED", "/sys/class/leds"),
        ("[usb]\nled = \"a b\"", "`a b` is no LED", "/sys/class/leds"),
        ("[usb]\nled = \"\"", "`led` is empty", ""),
        (
            "[usb]\nhook = \"beep\"",
            "`beep` is no absolute path",
            "/usr/local/bin/beep",
        ),
        ("[usb]\nhook = \"/a/../b\"", "is no absolute path", ""),
        ("[usb]\nhook = \"/\"", "is no absolute path", ""),
        ("[slice]\nmemory_max = \"1k\"", "too little", ""),
        (
            "[slice]\nmemory_max = \"1g\"\nmemory_high = \"2g\"",
            "`memory_high` is above `memory_max`",
            "slowed down",
        ),
        ("[slice]\ncpu_quota = 1.5", "`cpu_quota` must be", ""),
        (
            "[slice]\ncpu_quota = \"0%\"",
            "`0%` is no CPU quota",
            "\"150%\"",
        ),
        ("[slice]\ncpu_quota = \"150\"", "is no CPU quota", "percent"),
        ("[slice]\nio_weight = 0", "`io_weight` is 0", "1 to 10000"),
        (
            "[slice]\ntask_max = 1",
            "unknown key `task_max`",
            "`tasks_max`",
        ),
    ] {
        let found = errors(&node(text).expect_err(text));
        assert!(
            matches!(found.as_slice(), [(m, h)] if m.contains(message) && h.contains(hint)),
            "{text}\n{found:#?}"
        );
    }
}

/// Loads it in every way and shows what is found; nothing is to be asserted but that it ends.
fn survives(text: &str) {
    let host = machine()
        .with(WORKLOAD, text)
        .with("/etc/monopod/node.toml", text);
    let paths = Paths::new(Path::new("/"));
    let found = [
        load(&paths, &host).err(),
        load_file(Path::new(WORKLOAD), &host).err(),
        load_node(&paths, &host).err(),
    ];
    for invalid in found.into_iter().flatten() {
        diagnostic::render(&invalid.diagnostics, true);
        for finding in &invalid.diagnostics {
            finding.to_json();
        }
    }
}

#[test]
fn files_made_to_hurt_are_survived() {
    let many = |text: &str, times: usize| text.repeat(times);
    let numbered = |before: &str, behind: &str, times: u32| {
        let lines: Vec<_> = (0..times)
            .map(|n| format!("{before}{n}{behind}\n"))
            .collect();
        lines.concat()
    };
    for text in [
        many("[", 100_000),
        format!("a = {}", many("[", 100_000)),
        format!("a = {}", many("{a=", 100_000)),
        with_lines(&format!("ports = [{}]", many("\"1-65535:1-65535\",", 1000))),
        with_lines(&format!("environment = [{}]", many("\"A=\",", 20_000))),
        with_lines(&format!("cap_add = [{}]", many("\"X\",", 20_000))),
        numbered("[containers.c", "]", 10_000),
        numbered("x", " = 1", 20_000),
        many("a\n", 20_000),
        many("a = \n", 20_000),
    ] {
        survives(&text);
    }
}

#[test]
fn findings_are_told_up_to_a_number() {
    let lines: Vec<_> = (0..1000).map(|n| format!("x{n} = 1\n")).collect();
    let text = lines.concat();
    let invalid = load_texts(machine(), &text, &[]).expect_err("invalid");
    assert_eq!(invalid.diagnostics.len(), 201);
    let last = invalid.diagnostics.last().map(Diagnostic::message);
    assert_eq!(last, Some("there are 802 more findings; mend these first"));
}

/// A value of any kind, often a string that some key might take.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f32>().prop_map(|n| n.to_string()),
        "[a-z0-9:/.,=@%$~ -]{0,16}".prop_map(|s| format!("\"{s}\"")),
        "\\PC{0,8}".prop_map(|s| format!("{s:?}")),
        prop::sample::select(vec![
            "\":80/x\"",
            "\"http://[\"",
            "\"a:/b:ro\"",
            "\"1m30\"",
            "\"[::1]:80:80\"",
            "\"-\"",
            "\"9999999999999999999999999g\"",
            "\"SIGRTMIN+\"",
            "\"container:\"",
            "1979-05-27",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::vec(("[a-z_]{1,8}", inner), 0..4).prop_map(|pairs| {
                let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
                let text: Vec<_> = pairs.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                format!("{{ {} }}", text.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in "\\PC*") {
        survives(&text);
    }

    #[test]
    fn any_toml_like_text_is_survived(text in "[a-c\\[\\]{}=\"'.,# \\n\u{fc}0-9]{0,80}") {
        survives(&text);
    }

    #[test]
    fn any_value_of_any_key_is_survived(
        key in prop::sample::select(names::CONTAINER_KEYS.to_vec()),
        value in any_value(),
        other in any_value(),
    ) {
        survives(&with_lines(&format!("{key} = {value}")));
        survives(&with_lines(&format!("healthcheck = {{ {key} = {value}, http = {other}, test = {value} }}")));
        survives(&format!("name = {value}\ncontainers = {other}\nescalation = {other}"));
        let over = format!("[containers.app]\n{key} = {other}");
        let _ = load_texts(machine(), &with_lines(&format!("{key} = {value}")), &[("1.toml", &over)]);
    }

    #[test]
    fn any_environment_file_is_survived(text in "[A-C='\"\\\\# \\n\\t\u{fc}]{0,40}") {
        let source = Arc::new(Source { name: "e".into(), text });
        envfile::parse(&source);
    }

    #[test]
    fn numbers_with_units_never_wrap(text in "[0-9.]{1,40}[a-z]{0,3}") {
        let _ = (units::duration(&text), units::size(&text), units::nano_cpus(&text));
    }
}

/// The words that a manual page sets in bold: the keys it explains.
fn bold(page: &str) -> Vec<String> {
    page.lines()
        .filter(|line| line.starts_with(".B"))
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_explains_every_key_of_the_workload_file() {
    let words = bold(include_str!("../../packaging/man/monopod-workload.toml.5"));
    let keys = names::WORKLOAD_KEYS
        .iter()
        .chain(&names::CONTAINER_KEYS)
        .chain(&names::HEALTH_KEYS)
        .chain(&names::VOLUME_KEYS);
    for key in keys {
        assert!(words.iter().any(|word| word == key), "{key}");
    }
}

#[test]
fn the_manual_and_the_example_have_every_key_of_the_node_file() {
    // The hint to a word that is like no key lists those that there are.
    let keys = |text: &str| -> Vec<String> {
        let invalid = node(text).expect_err("an unknown key");
        let (_, hint) = errors(&invalid).remove(0);
        let list = hint.strip_prefix("the keys here are ").expect("a list");
        list.split(", ").map(str::to_owned).collect()
    };
    let page = include_str!("../../packaging/man/monopod-node.toml.5");
    let example = include_str!("../../packaging/example/node.toml");
    let words = bold(page);
    for table in keys("qqqqqqqqqqqqqqqqqqqqqqqq = 1") {
        let head = format!("[{table}]");
        assert!(page.contains(&format!(".SH {head}\n")), "{head}");
        assert!(example.lines().any(|line| line == head), "{head}");
        for key in keys(&format!("{head}\nqqqqqqqqqqqqqqqqqqqqqqqq = 1")) {
            assert!(words.contains(&key), "{key}");
            assert!(example.contains(&format!("\n#{key} = ")), "{key}");
        }
    }
}

#[test]
fn the_example_of_a_node_file_has_the_defaults() {
    let example = include_str!("../../packaging/example/node.toml");
    let written: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(set) if set.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{set}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let found = node(&written).expect("valid").value;
    let default = Node::default();
    assert_eq!(found.store, default.store);
    assert_eq!(found.escalation, default.escalation);
    assert_eq!(found.ready, default.ready);
    // The two without a default are shown by an example.
    let switches = UsbPolicy {
        led: None,
        hook: None,
        ..found.usb
    };
    assert_eq!(switches, default.usb);
    assert_eq!(found.trial, default.trial);
    assert_eq!(found.update.activation, default.update.activation);
    // As it is shipped, it sets nothing.
    assert_eq!(node(example).expect("valid").value, default);
    let packaged = include_str!("../../packaging/etc/node.toml");
    assert_eq!(node(packaged).expect("valid").value, default);
}
