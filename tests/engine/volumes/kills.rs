//! Root's half, killed at any moment: what is there is whole, and the same request ends well.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use monopod::volumes::Deed;
use tempfile::TempDir;

use super::tree::{fill, told};
use super::{Bench, LIMIT, RELEASE, VOLUME, in_own_mounts, mount_new, names};

const ASKED: [(&str, u64); 1] = [(VOLUME, LIMIT)];

/// Kills of each kind.
const ROUNDS: u32 = 40;

/// Files that make the work long enough to be cut off in its middle.
fn many(folder: &Path) {
    for group in 0..30 {
        let group = folder.join(format!("group{group}"));
        fs::create_dir(&group).expect("a folder");
        for name in 0..20 {
            fs::write(group.join(name.to_string()), vec![name; 4000]).expect("written");
        }
    }
}

/// How long the whole takes, uncut.
fn time(bench: &Bench, deed: Deed) -> Duration {
    let began = Instant::now();
    assert_eq!(bench.ask(deed, &ASKED), Ok(()));
    began.elapsed()
}

/// Starts it, and kills it after a part of `whole`; whether it was still at work. Work that was done before that
/// part of its time was over is quicker now than when it was measured, and `whole` becomes shorter.
fn cut(bench: &Bench, deed: Deed, whole: &mut Duration, round: u32) -> bool {
    bench.put(deed, &ASKED, 7);
    let mut half = bench.start_half();
    // Not by chance: the same moments each time, all over the work and a little beyond.
    let moment = *whole * (round * 37 % ROUNDS) / ROUNDS * 11 / 10;
    std::thread::sleep(moment);
    half.kill().expect("it is not reaped yet");
    let status = half.wait().expect("it is ours");
    // A request that was not taken yet is taken back, as the daemon does.
    let _ = fs::remove_file(bench.request_file(deed));
    if status.success() && moment < *whole {
        *whole = moment;
    }
    !status.success()
}

#[test]
fn a_copy_that_is_cut_off_is_no_copy() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fill(&data);
    many(&data);
    let before = told(&data);
    let mut whole = time(&bench, Deed::Snapshot);
    let (mut cuts, mut without) = (0, 0);
    for round in 0..ROUNDS {
        cuts += u32::from(cut(&bench, Deed::Snapshot, &mut whole, round));
        assert_eq!(told(&data), before, "{round}: the volume is not touched");
        if bench.copy_of(VOLUME).exists() {
            assert_eq!(told(&bench.copy_of(VOLUME)), before, "{round}");
        } else {
            without += 1;
        }
    }
    assert!(cuts > ROUNDS / 2 && without > 0, "{cuts} {without}");
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    assert_eq!(told(&bench.copy_of(VOLUME)), before);
    assert_eq!(bench.kept(), [RELEASE]);
}

/// What holds whenever a restoring is cut off, with the data of before (`good`) and of the trial (`bad`).
fn restored_in_spite_of_kills(bench: &Bench, room: bool) {
    let data = bench.data(VOLUME);
    let good = told(&data);
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    let spoil = || {
        fs::write(data.join("plain"), "of the trial").expect("written");
        if !room {
            let file = fs::File::create(data.join("filler")).expect("a file");
            let filled = std::io::copy(&mut std::io::repeat(7), &mut &file);
            filled.expect_err("the disk has an end");
        }
    };
    spoil();
    let mut whole = time(bench, Deed::Restore);
    assert_eq!(told(&data), good);
    let (mut cuts, mut seen) = (0, [0; 3]);
    for round in 0..ROUNDS {
        spoil();
        let bad = told(&data);
        cuts += u32::from(cut(bench, Deed::Restore, &mut whole, round));
        // It is what it was, or what it is to be; without room for both, it may be missing.
        let state = match data.exists().then(|| told(&data)) {
            None => 0,
            Some(now) if now == bad => 1,
            Some(now) => {
                assert!(now == good, "{round}: neither the one nor the other");
                2
            }
        };
        assert!(state != 0 || !room, "{round}: there is no data");
        seen[state] += 1;
        assert_eq!(told(&bench.copy_of(VOLUME)), good, "{round}");
        assert_eq!(bench.ask(Deed::Restore, &ASKED), Ok(()), "{round}");
        assert_eq!(told(&data), good, "{round}");
        assert_eq!(names(data.parent().expect("it has one")), ["_data"]);
    }
    assert!(cuts > ROUNDS / 2 && seen[1] > 0, "{cuts} {seen:?}");
}

#[test]
fn a_restoring_that_is_cut_off_is_done_again() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    fill(&data);
    many(&data);
    restored_in_spite_of_kills(&bench, true);
}

#[test]
fn so_it_is_where_there_is_no_room_for_both() {
    in_own_mounts(|| {
        let folder = TempDir::new().expect("a folder");
        let (large, small) = (folder.path().join("large"), folder.path().join("small"));
        mount_new(&["tmpfs"], 12, &small).expect("every kernel has it");
        let bench = Bench::on(folder, &large, &small);
        let data = bench.volume(VOLUME);
        many(&data);
        restored_in_spite_of_kills(&bench, false);
    });
}

#[test]
fn a_forgetting_that_is_cut_off_keeps_nothing_half() {
    let bench = Bench::new();
    let data = bench.volume(VOLUME);
    many(&data);
    let before = told(&data);
    assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
    let mut whole = time(&bench, Deed::Forget);
    for round in 0..ROUNDS / 2 {
        assert_eq!(bench.ask(Deed::Snapshot, &ASKED), Ok(()));
        cut(&bench, Deed::Forget, &mut whole, round * 2);
        if bench.copy_of(VOLUME).exists() {
            assert_eq!(told(&bench.copy_of(VOLUME)), before, "{round}");
        }
        assert_eq!(bench.ask(Deed::Forget, &[]), Ok(()));
        assert_eq!(bench.kept(), [""; 0]);
    }
}
