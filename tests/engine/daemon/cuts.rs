//! Updates that are cut off: the daemon or the importer is killed at one step after the other, and the
//! next daemon makes of it what it should have been.
//!
//! `MONOPOD_CRASHES` is how many updates are cut off, `MONOPOD_SEED` where the moments come from.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::desk::{Desk, QUICK, book, listed, mark, rejected, take, text};
use crate::node::Node;

/// How many updates are cut off, unless something else is said.
const CRASHES: u64 = 25;

/// No update is begun after this time, or a busy machine would take too long.
const MOST: Duration = Duration::from_secs(220);

/// What is killed, and when.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The daemon, when it has said so many lines more.
    Lines(usize),
    /// The daemon, after this time.
    Daemon(Duration),
    /// The importer, after this time.
    Importer(Duration),
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    fn milliseconds(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.roll(below))
    }

    fn cut(&mut self, round: u64) -> Cut {
        match round % 6 {
            5 => Cut::Importer(self.milliseconds(400)),
            4 => Cut::Daemon(self.milliseconds(3000)),
            // Each step with a good release and with a bad one.
            _ => Cut::Lines(usize::try_from(round / 2 % 12).expect("it is small")),
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("it is a number"),
        Err(_) => otherwise,
    }
}

/// What must hold while nobody has mended anything yet.
fn nothing_is_broken(node: &Node, told: &str) {
    let there = node.containers(Some("app"));
    assert!(there.len() <= 1, "{told}: {there:?}");
    // Both read what is on disk, without a daemon.
    listed(node);
    let rows = node.must(&["images", "--json"]).json();
    let rows = rows.as_array().expect("it is a list");
    assert!(
        rows.iter().all(|row| row["layers"] == true),
        "{told}: {rows:?}"
    );
    let damaged = node.root.join("var/lib/monopod/ledger.damaged");
    assert!(!damaged.exists(), "{told}");
}

/// Begins to take a bundle, and kills who is to be killed. Returns the importer, and whether it was that
/// one, before its end.
fn cut_off(node: &mut Node, bundle: &str, cut: Cut) -> (Child, bool) {
    let said = node.log().lines().count();
    let mut importer = node
        .command(&["import", bundle])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program is there");
    let mut killed = false;
    match cut {
        Cut::Lines(lines) => {
            // Not all ways have so many steps.
            let patience = Instant::now() + Duration::from_secs(10);
            while node.log().lines().count() < said + lines && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // These choose the moment of a kill; whatever has happened by then is what is to be survived.
        Cut::Daemon(time) => std::thread::sleep(time),
        Cut::Importer(time) => {
            std::thread::sleep(time);
            // It may have ended by itself.
            let _ = importer.kill();
            killed = wait_for(&mut importer) != Some(0);
        }
    }
    node.crash();
    (importer, killed)
}

fn wait_for(importer: &mut Child) -> Option<i32> {
    importer.wait().expect("it is this process's child").code()
}

#[test]
fn at_any_step() {
    let (rounds, seed) = (
        number("MONOPOD_CRASHES", CRASHES),
        number("MONOPOD_SEED", 1),
    );
    let mut dice = Dice(seed);
    let mut node = Node::new("cuts");
    // No more deaths than that come in one trial; a good release must be good in the end.
    node.settings(&format!("{QUICK}tries = 4"));
    let desk = Desk::new(&node);
    let archives = ["page-0", "page-1"].map(|page| desk.archive(&node, page));
    let bundle = |sequence: u64, good: bool| {
        let (which, name) = (
            usize::from(sequence.is_multiple_of(2)),
            sequence.to_string(),
        );
        let lines = if good {
            desk.good(&name)
        } else {
            desk.ends(&name)
        };
        desk.bundle(&node, sequence, &lines, &archives[which].0)
    };
    let bundles: Vec<(bool, String)> = (0..rounds)
        .map(|round| (round % 2 == 0, bundle(round + 2, round % 2 == 0)))
        .collect();
    let mut current = take(&node, &bundle(1, true));
    let mut current_mark = "1".to_owned();
    let mut previous = None;
    let mut bad: Vec<String> = Vec::new();
    node.start();
    node.healthy();

    let begun = Instant::now();
    let (mut survived, mut taken) = (0, 0);
    for (round, (good, bundle)) in (0..).zip(&bundles) {
        if begun.elapsed() > MOST {
            break;
        }
        let cut = dice.cut(round);
        let told = format!("seed {seed}, round {round}, {cut:?}");
        eprintln!("{told}, good {good}, {:?}", begun.elapsed());
        let (mut importer, again) = cut_off(&mut node, bundle, cut);
        survived += if matches!(cut, Cut::Importer(_)) {
            2
        } else {
            1
        };
        nothing_is_broken(&node, &told);
        node.start();
        if dice.roll(3) == 0 {
            // The moment of a second kill.
            std::thread::sleep(dice.milliseconds(900));
            node.crash();
            survived += 1;
            nothing_is_broken(&node, &told);
            node.start();
        }
        let code = wait_for(&mut importer);
        if again || code.is_some_and(|code| code != 0) {
            // Taken the second time, or known and refused already.
            let ran = node.run(&["import", bundle]);
            assert!(matches!(ran.code, 0 | 4), "{told}: {ran:?}");
        }
        let sequence = (round + 2).to_string();
        let status = settled(&node, &told, |status| {
            if *good {
                status["release"] != current.as_str()
                    && status["release"] == book(status)["current"]
            } else {
                let all = book(status)["rejected"].as_array();
                all.is_some_and(|all| all.len() > bad.len())
                    && status["release"] == current.as_str()
            }
        });
        if *good {
            previous = Some(std::mem::replace(&mut current, text(&status["release"])));
            current_mark = sequence;
        } else {
            let last = last_rejected(&status);
            assert!(!bad.contains(&last), "{told}");
            bad.push(last);
            let ran = node.run(&["import", bundle]);
            assert_eq!(ran.code, 4, "{told}: {ran:?}");
        }
        for release in &bad {
            assert!(rejected(&status, release).is_some(), "{told}: {status}");
        }
        assert_eq!(rejected(&status, &current), None, "{told}");
        assert_eq!(mark(&node), current_mark, "{told}");
        let known = listed(&node);
        for release in previous.iter().chain([&current]) {
            assert!(
                known.contains(release),
                "{told}: {release} not in {known:?}"
            );
        }
        if let Some(previous) = &previous {
            assert_eq!(book(&status)["previous"], previous.as_str(), "{told}");
        }
        nothing_is_broken(&node, &told);
        taken += 1;
    }
    assert!(survived > 0);
    println!("figure: {survived} crash points survived in {taken} updates (seed {seed})");
}

fn last_rejected(status: &Value) -> String {
    let all = book(status)["rejected"].as_array();
    let last = all.and_then(|all| all.last()).expect("there is one");
    text(&last["release"])
}

/// Waits until nothing is to be done any more, and it has come out as it should.
fn settled(node: &Node, told: &str, mut right: impl FnMut(&Value) -> bool) -> Value {
    node.until(told, |status| {
        status["update"]["stage"] == "idle"
            && book(status)["trial"].is_null()
            && book(status)["next"].is_null()
            && status["verdict"] == "healthy"
            && right(status)
    })
}
