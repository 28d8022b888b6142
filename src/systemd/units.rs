//! Tests of the files in `units/`: that systemd takes them, and that none of them gains rights unseen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the files right in a folder of `units/`, in order.
fn names(folder: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(units().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .expect("the packages systemd and dbus are installed")
}

/// The units, and each with the drop-ins that are for it.
#[test]
fn systemd_takes_every_unit() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let unit = |name: &String| {
        let kind = name.rsplit_once('.').map(|(_, kind)| kind);
        matches!(kind, Some("service" | "path" | "slice"))
    };
    for name in names("").into_iter().filter(unit) {
        let text = read(&units().join(&name));
        // The program is not installed where this runs.
        let unit = text.replace("/usr/bin/monopod", "/bin/true");
        let path = dir.path().join(&name);
        fs::write(&path, unit).unwrap();
        paths.push(path);
    }
    assert_eq!(paths.len(), 9, "{paths:?}");
    let drop_ins = dir.path().join("monopod.service.d");
    fs::create_dir(&drop_ins).unwrap();
    for name in [
        "reboot-when-hopeless.conf",
        "run-as-root.conf",
        "credential.conf",
    ] {
        fs::copy(units().join("examples").join(name), drop_ins.join(name)).unwrap();
    }
    let output = run(Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&paths));
    let words = String::from_utf8_lossy(&output.stderr);
    // It also tells about other units of the machine.
    let ours: Vec<_> = words.lines().filter(|l| l.contains("monopod")).collect();
    assert!(output.status.success() && ours.is_empty(), "{words}");
}

/// What `systemd-analyze security` makes of a unit: 0 is shut in wholly, 10 is not at all.
fn exposure(unit: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("score.service");
    fs::write(&path, unit).unwrap();
    let output = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&path)
        .env("LC_ALL", "C"));
    let words = String::from_utf8_lossy(&output.stdout);
    words
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for score.service: "))
        .and_then(|(_, score)| score.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no score: {output:?}"))
}

#[test]
fn the_sandbox_is_as_tight_as_it_was() {
    let daemon = read(&units().join("monopod.service"));
    let as_root = daemon.clone() + &read(&units().join("examples/run-as-root.conf"));
    let table = [
        ("monopod.service", daemon, 1.4),
        ("monopod.service with run-as-root.conf", as_root, 1.8),
        (
            "monopod-rescue.service",
            read(&units().join("monopod-rescue.service")),
            0.9,
        ),
        (
            "monopod-volumes.service",
            read(&units().join("monopod-volumes.service")),
            1.4,
        ),
        (
            "monopod-appeared.service",
            read(&units().join("monopod-appeared.service")),
            0.5,
        ),
        (
            "monopod-import@.service",
            read(&units().join("monopod-import@.service")).replace("%i", "sda1"),
            1.5,
        ),
    ];
    for (name, unit, most) in table {
        let score = exposure(&unit);
        assert!(score <= most, "{name}: {score} is above {most}");
    }
}

/// What reads a stick has no way to the engine, the network, or another disk, and the rule starts it.
#[test]
fn what_reads_a_stick_reaches_nothing_else() {
    let unit = read(&units().join("monopod-import@.service"));
    for line in [
        "User=monopod",
        "SupplementaryGroups=disk",
        "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETGID",
        "NoNewPrivileges=yes",
        "PrivateMounts=yes",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "ProtectSystem=strict",
        "DevicePolicy=closed",
        "DeviceAllow=/dev/%i r",
        "ReadWritePaths=-/var/lib/monopod/store -/var/lib/monopod/incoming -/sys/devices",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    assert!(unit.contains("InaccessiblePaths=-/run/docker.sock "));
    assert!(
        !unit.contains("StateDirectory"),
        "it would be given to this unit's user"
    );
    let rules = read(&units().join("udev/90-monopod-import.rules"));
    let rule: Vec<_> = rules
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(rule.len(), 1, "{rules}");
    assert!(rule[0].contains(r#"TAG+="systemd", ENV{SYSTEMD_WANTS}+="monopod-import@%k.service""#));
    assert!(rule[0].contains(r#"SUBSYSTEM=="block", SUBSYSTEMS=="usb""#));
}

/// `Also=` and what is not enabled by itself: an upgrade must not leave half of them behind.
#[test]
fn what_is_enabled_brings_the_rest_along() {
    let daemon = read(&units().join("monopod.service"));
    let words = |key: &str| -> Vec<String> {
        daemon
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .flat_map(|value| value.split(' ').map(str::to_owned))
            .collect()
    };
    assert_eq!(
        words("Wants"),
        [
            "monopod.slice",
            "monopod-rescue.path",
            "monopod-volumes.path"
        ]
    );
    assert_eq!(words("Also"), ["monopod.path"]);
    assert_eq!(words("Requires"), [""; 0]);
    for after in words("After") {
        assert!(!after.starts_with("network"), "{after}");
    }
    for engine in ["docker", "podman", "containerd"] {
        assert!(words("After").contains(&format!("{engine}.service")));
    }
}

/// systemd-sysusers and systemd-tmpfiles on a tree of their own.
#[test]
fn users_and_folders_are_made() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir().unwrap();
    let root = format!("--root={}", dir.path().display());
    fs::create_dir(dir.path().join("etc")).unwrap();
    let made = run(Command::new("systemd-sysusers")
        .arg(&root)
        .arg(units().join("sysusers.d/monopod.conf")));
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| read(&dir.path().join("etc").join(name));
    let passwd = file("passwd");
    let user: Vec<_> = passwd.trim().split(':').collect();
    assert_eq!((user[0], user[5]), ("monopod", "/var/lib/monopod"));
    assert!(user[6].ends_with("nologin"), "{passwd}");
    let group = file("group");
    let line = |name: &str| group.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("docker:").ends_with(":monopod"), "{group}");
    let gid: u32 = line("monopod:").split(':').nth(2).unwrap().parse().unwrap();
    let uid: u32 = user[2].parse().unwrap();

    for _ in 0..2 {
        let made = run(Command::new("systemd-tmpfiles")
            .args([&root, "--create"])
            .arg(units().join("tmpfiles.d/monopod.conf")));
        assert!(made.status.success(), "{made:?}");
        let table = [
            ("etc/monopod", 0o750, 0, gid),
            ("etc/monopod/workload.d", 0o750, 0, gid),
            ("var/lib/monopod", 0o750, uid, gid),
            ("var/lib/monopod/store", 0o750, uid, gid),
            ("var/lib/monopod/incoming", 0o750, uid, gid),
            ("var/lib/monopod/preload", 0o755, 0, 0),
        ];
        for (path, mode, uid, gid) in table {
            let found = fs::metadata(dir.path().join(path)).unwrap();
            let found = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(found, (mode, uid, gid), "{path}");
        }
    }
}

/// The head of an example says what it does and where it goes; the daemon's own file is of its kind.
#[test]
fn examples_say_where_they_belong() {
    let names = names("examples");
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let text = read(&units().join("examples").join(&name));
        let head: Vec<_> = text.lines().take_while(|l| l.starts_with('#')).collect();
        let copy = format!("#   cp {name} /etc/systemd/");
        assert!(head[0].ends_with('.') || head[1].ends_with('.'), "{name}");
        assert!(head.iter().any(|line| line.starts_with(&copy)), "{name}");
    }
}
