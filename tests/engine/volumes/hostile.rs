//! A daemon that was taken over: root's half is not led anywhere.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use monopod::volumes::Deed;
use nix::sys::stat::Mode;
use serde_json::json;

use super::{Bench, LIMIT, RELEASE, VOLUME, names, release};

const ASKED: [(&str, u64); 1] = [(VOLUME, LIMIT)];

#[test]
fn what_is_no_request_is_refused() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fs::write(data.join("a"), "1").expect("written");
    let good = format!(
        r#"{{"number":1,"release":"{RELEASE}","volumes":[{{"name":"{VOLUME}","limit":1000000}}]}}"#
    );
    let many = vec![r#"{"name":"a","limit":1}"#; 65].join(",");
    let bad = [
        good.replace(VOLUME, "../w-data"),
        good.replace(VOLUME, ".."),
        good.replace(VOLUME, "w-data/_data/.."),
        good.replace(VOLUME, "/etc"),
        good.replace(VOLUME, ""),
        good.replace(RELEASE, "../../../../x"),
        good.replace(RELEASE, ".new-0123456"),
        good.replace("1000000", "-1"),
        good.replace("1000000", "1e99"),
        good.replace("\"number\"", "\"mountpoint\":\"/etc\",\"number\""),
        format!(r#"{{"number":1,"release":"{RELEASE}","volumes":[{many}]}}"#),
        format!("{good}{}", " ".repeat(1 << 20)),
        "[".repeat(60_000),
        "\0".repeat(100),
        String::new(),
    ];
    for text in &bad {
        let head: String = text.chars().take(120).collect();
        assert_ne!(*text, good, "{head}");
        for deed in Deed::ALL {
            fs::write(bench.request_file(deed), text).expect("written");
            let output = bench.run_half();
            assert_eq!(output.status.code(), Some(4), "{head}: {output:?}");
            assert!(!bench.request_file(deed).exists(), "{head}");
        }
    }
    assert!(!bench.snapshots().exists(), "nobody has begun");
    assert_eq!(names(&bench.home), [VOLUME]);
    // None of this was because of what is around it.
    fs::write(bench.request_file(Deed::Snapshot), &good).expect("written");
    assert_eq!(bench.run_half().status.code(), Some(0));
    assert_eq!(bench.kept(), [RELEASE]);
}

#[test]
fn no_link_and_no_pipe_is_followed() {
    let bench = Bench::new();
    bench.volume(VOLUME);
    bench.put(Deed::Snapshot, &ASKED, 7);
    let file = bench.request_file(Deed::Snapshot);
    let elsewhere = bench.root.join("elsewhere");
    fs::rename(&file, &elsewhere).expect("it is there");
    symlink(&elsewhere, &file).expect("a link");
    assert_eq!(bench.run_half().status.code(), Some(4));
    nix::unistd::mkfifo(&file, Mode::from_bits_truncate(0o600)).expect("a pipe");
    assert_eq!(bench.run_half().status.code(), Some(4));
    assert!(elsewhere.exists() && !file.exists() && !bench.snapshots().exists());
    let rescue = bench.root.join("run/monopod/rescue");
    let moved = bench.root.join("moved");
    bench.put(Deed::Snapshot, &ASKED, 7);
    fs::rename(&rescue, &moved).expect("it is there");
    symlink(&moved, &rescue).expect("a link");
    assert_eq!(bench.run_half().status.code(), Some(1));
    assert!(moved.join("snapshot").exists() && !bench.snapshots().exists());
}

#[test]
fn what_is_put_in_the_place_of_roots_folders_is_left_alone() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fs::write(data.join("a"), "1").expect("written");
    let trap = bench.root.join("trap");
    fs::create_dir_all(trap.join(RELEASE).join(VOLUME)).expect("a folder");
    fs::write(trap.join(RELEASE).join(VOLUME).join("evil"), "").expect("written");
    // The copies: a link, a file, and a folder of somebody else's.
    symlink(&trap, bench.snapshots()).expect("a link");
    for deed in Deed::ALL {
        let error = bench.ask(deed, &ASKED).expect_err("a link");
        assert!(error.contains("cannot be opened"), "{error}");
    }
    fs::remove_file(bench.snapshots()).expect("it is there");
    fs::create_dir_all(bench.copy_of(VOLUME)).expect("a folder");
    fs::write(bench.copy_of(VOLUME).join("evil"), "").expect("written");
    chown(bench.snapshots(), Some(4321), None).expect("root may");
    for deed in Deed::ALL {
        let error = bench.ask(deed, &ASKED).expect_err("another's");
        assert!(error.contains("belongs to user 4321"), "{error}");
    }
    assert!(bench.copy_of(VOLUME).join("evil").exists());
    assert_eq!(names(&data), ["a"]);
    fs::remove_dir_all(bench.snapshots()).expect("it is there");
    // The answers.
    let answers = bench.root.join("run/monopod/rescue-answers");
    fs::remove_dir_all(&answers).expect("it is there");
    symlink(&trap, &answers).expect("a link");
    bench.put(Deed::Snapshot, &ASKED, 7);
    assert_eq!(bench.run_half().status.code(), Some(1));
    fs::remove_file(&answers).expect("it is there");
    fs::create_dir(&answers).expect("a folder");
    chown(&answers, Some(4321), None).expect("root may");
    bench.put(Deed::Snapshot, &ASKED, 7);
    assert_eq!(bench.run_half().status.code(), Some(1));
    assert_eq!(names(&answers), [""; 0]);
    assert_eq!(names(&trap), [RELEASE]);
    assert!(!bench.snapshots().exists());
}

/// Whatever a container leaves in a volume, the volume goes back, and what was there goes away: here, folders deeper
/// than a path may be long and than a process has descriptors, of which systemd gives it 1024.
#[test]
fn folders_without_end_do_not_keep_a_volume_from_going_back() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fs::write(data.join("a"), "1").expect("written");
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    let mut folder = File::open(&data).expect("it is there");
    for _ in 0..2200 {
        let next = format!("/proc/self/fd/{}/1", folder.as_raw_fd());
        fs::create_dir(&next).expect("made");
        folder = File::open(&next).expect("it is there");
    }
    drop(folder);
    bench.put(Deed::Restore, &ASKED, 7);
    let half = bench.half();
    let output = Command::new("prlimit")
        .arg("--nofile=1024")
        .arg(half.get_program())
        .args(half.get_args())
        .env_remove("DOCKER_HOST")
        .output()
        .expect("prlimit is there");
    let answers = bench.root.join("run/monopod/rescue-answers");
    let answer = fs::read_to_string(answers.join(Deed::Restore.answer(&release())));
    assert_eq!(
        answer.expect("an answer"),
        r#"{"number":7,"state":"ok"}"#,
        "{output:?}"
    );
    assert_eq!(names(&data), ["a"]);
    assert_eq!(names(data.parent().expect("it has one")), ["_data"]);
}

#[test]
fn only_plain_volumes_of_this_node_that_nobody_uses_are_touched() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fs::write(data.join("a"), "1").expect("written");
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    let good = bench.record(VOLUME);
    let elsewhere = bench.root.join("elsewhere/_data");
    fs::create_dir_all(&elsewhere).expect("a folder");
    fs::write(elsewhere.join("b"), "").expect("written");
    let nearby = format!("{}/x/../{VOLUME}/_data", bench.home.display());
    for (key, value, said) in [
        ("Labels", json!({}), "not made by the monopod"),
        (
            "Labels",
            json!({ "org.monopod.node": "/" }),
            "not made by the monopod",
        ),
        ("Driver", json!("nfs"), "snapshot = false"),
        (
            "Options",
            json!({ "type": "none", "o": "bind", "device": "/etc" }),
            "snapshot = false",
        ),
        (
            "Mountpoint",
            json!(nearby),
            "not where the engine's volumes are",
        ),
    ] {
        let mut record = good.clone();
        record[key] = value;
        bench.says(record);
        for deed in [Deed::Snapshot, Deed::Restore] {
            let error = bench.ask(deed, &ASKED).expect_err("not this one");
            assert!(error.contains(said), "{key}: {error}");
        }
        assert_eq!(bench.kept(), [RELEASE], "{key}: the copy stays");
    }
    bench.says(good);
    for (mounts, uses) in [
        (json!([{ "Type": "volume", "Name": VOLUME }]), true),
        (json!([{ "Type": "volume", "Name": "w-data-too" }]), false),
        (json!([{ "Type": "bind", "Source": "/w-data" }]), false),
    ] {
        bench.runs(json!([{ "Id": "x", "Names": ["/w-app"], "Mounts": mounts }]));
        for deed in [Deed::Snapshot, Deed::Restore] {
            match bench.ask(deed, &ASKED) {
                Ok(()) => assert!(!uses, "{mounts}"),
                Err(text) => {
                    assert!(
                        uses && text.contains("w-app runs with the volume"),
                        "{text}"
                    );
                }
            }
        }
    }
    bench.runs(json!([]));
    // The volume's own folder leads elsewhere.
    let home = bench.home.join(VOLUME);
    fs::rename(&home, bench.home.join("kept")).expect("it is there");
    symlink(elsewhere.parent().expect("it has one"), &home).expect("a link");
    let error = bench.ask(Deed::Restore, &ASKED).expect_err("a link");
    assert!(error.contains("leads elsewhere"), "{error}");
    assert_eq!(names(&elsewhere), ["b"]);
}
