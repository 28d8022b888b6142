//! Updates on the simulated node: named ways of one, each cut off at every point, and what may befall it.

use std::time::Duration;

use monopod::core::update::Wish;
use proptest::prelude::*;

use super::node::{Blow, Cut, Fails, Node};
use super::releases::{Change, From, Hook, Make, Nature, Turn, WRITES, good};

const HAND: Wish = Wish::Activate { force: false };
const FORCE: Wish = Wish::Activate { force: true };

/// One way that an update may take.
struct Way {
    name: &'static str,
    blows: Vec<(u64, Blow)>,
    /// Which releases may be committed at the end, wherever it was cut off.
    ends: &'static [usize],
    /// Which one is, if it is not.
    end: usize,
}

fn way(
    name: &'static str,
    end: usize,
    ends: &'static [usize],
    turns: impl IntoIterator<Item = (u64, Blow)>,
) -> Way {
    let blows = turns.into_iter().collect();
    Way {
        name,
        blows,
        ends,
        end,
    }
}

fn turn(turn: Turn) -> Blow {
    Blow::Turn(turn)
}

fn bring(make: Make) -> Blow {
    turn(Turn::Bring(make, Wish::Take))
}

/// Where every way begins (ms): the node is well by then.
const BEGIN: u64 = 60_000;

fn sick(sequence: u64) -> Make {
    Make {
        nature: Nature::Sick,
        ..good(sequence)
    }
}

fn with_volumes(make: Make) -> Make {
    Make {
        volumes: true,
        ..make
    }
}

fn hooked(hook: Hook) -> Make {
    Make { hook, ..good(1) }
}

fn changed(change: Change) -> Make {
    Make { change, ..good(1) }
}

fn local(make: Make) -> Make {
    Make {
        from: From::Local,
        ..make
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ways() -> Vec<Way> {
    let mut ways = vec![
        way("another spec", 1, &[1], [(BEGIN, bring(good(1)))]),
        way(
            "another image",
            1,
            &[1],
            [(BEGIN, bring(changed(Change::Image)))],
        ),
        way(
            "another health question",
            1,
            &[1],
            [(BEGIN, bring(changed(Change::Probe)))],
        ),
        way(
            "a container less",
            1,
            &[1],
            [(BEGIN, bring(changed(Change::Alone)))],
        ),
        way(
            "a shared network",
            1,
            &[1],
            [(BEGIN, bring(changed(Change::Joined)))],
        ),
        way("volumes", 1, &[1], [(BEGIN, bring(with_volumes(good(1))))]),
        way(
            "volumes that cannot be copied",
            0,
            &[0, 1],
            [
                (BEGIN, turn(Turn::CopiesFail(1))),
                (0, bring(with_volumes(good(1)))),
            ],
        ),
        way("never well", 0, &[0], [(BEGIN, bring(sick(1)))]),
        way(
            "the node dies again and again in the trial",
            0,
            &[0],
            [
                (BEGIN, bring(sick(1))),
                (30_000, Blow::PowerCut),
                (60_000, Blow::PowerCut),
                (60_000, Blow::PowerCut),
                (60_000, Blow::PowerCut),
            ],
        ),
        way(
            "never well, with volumes",
            0,
            &[0],
            [(BEGIN, bring(with_volumes(sick(1))))],
        ),
        way(
            "never well, and its volumes are put back late",
            0,
            &[0],
            [
                (BEGIN, bring(with_volumes(sick(1)))),
                (60_000, turn(Turn::CopiesFail(2))),
            ],
        ),
        way(
            "ends at once",
            0,
            &[0],
            [(
                BEGIN,
                bring(Make {
                    nature: Nature::Exits(200),
                    change: Change::All,
                    ..good(1)
                }),
            )],
        ),
        way(
            "well, and then not",
            0,
            &[0],
            [(
                BEGIN,
                bring(Make {
                    nature: Nature::SickAfter(20),
                    ..good(1)
                }),
            )],
        ),
        way(
            "well for a moment, again and again",
            0,
            &[0],
            [(
                BEGIN,
                bring(Make {
                    nature: Nature::Exits(20_000),
                    ..good(1)
                }),
            )],
        ),
        way(
            "a hook that says later",
            1,
            &[1],
            [(BEGIN, bring(hooked(Hook::Yes(1))))],
        ),
        way(
            "a hook that says no",
            0,
            &[0],
            [(BEGIN, bring(hooked(Hook::No)))],
        ),
        way(
            "a hook that ends the node each time",
            0,
            &[0],
            [(BEGIN, bring(hooked(Hook::Kills)))],
        ),
        way(
            "copying volumes ends the node each time",
            0,
            &[0],
            [
                (BEGIN, turn(Turn::CopiesKill(9))),
                (0, bring(with_volumes(good(1)))),
            ],
        ),
        way(
            "copying volumes ends the node once",
            1,
            &[1],
            [
                (BEGIN, turn(Turn::CopiesKill(1))),
                (0, bring(with_volumes(good(1)))),
            ],
        ),
        way(
            "back by hand, and copying volumes ends the node each time",
            1,
            &[0, 1],
            [
                (BEGIN, bring(with_volumes(good(1)))),
                (120_000, turn(Turn::CopiesKill(9))),
                (0, turn(Turn::RollBack)),
            ],
        ),
        way(
            "a hook that hangs",
            0,
            &[0],
            [(BEGIN, bring(hooked(Hook::Hangs)))],
        ),
        way(
            "the window opens",
            1,
            &[1],
            [(BEGIN, turn(Turn::Window(200))), (0, bring(good(1)))],
        ),
        way(
            "held, and no more",
            1,
            // A word that was not on disk yet is lost.
            &[0, 1],
            [
                (BEGIN, turn(Turn::Hold(true))),
                (1000, bring(good(1))),
                (60_000, turn(Turn::Hold(false))),
            ],
        ),
        way(
            "a busy app",
            1,
            &[1],
            [
                (BEGIN, turn(Turn::Busy(1, true))),
                (1000, bring(good(1))),
                (60_000, turn(Turn::Busy(1, false))),
            ],
        ),
        way(
            "staged, and activated by hand",
            1,
            &[0, 1],
            [
                (BEGIN, turn(Turn::Bring(good(1), Wish::Stage))),
                (30_000, turn(Turn::Activate(None, false))),
            ],
        ),
        way(
            "the node's own file",
            1,
            &[1],
            [(BEGIN, turn(Turn::Bring(local(good(0)), HAND)))],
        ),
        way(
            "the node's own file, never well",
            0,
            &[0],
            [(BEGIN, turn(Turn::Bring(local(sick(0)), HAND)))],
        ),
        way(
            "two at once, both good",
            2,
            &[2],
            [(BEGIN, bring(good(1))), (20_000, bring(good(2)))],
        ),
        way(
            "two at once, the second never well",
            1,
            &[0, 1],
            [(BEGIN, bring(good(1))), (20_000, bring(sick(2)))],
        ),
        way(
            "back by hand, in the trial",
            0,
            &[0, 1],
            [(BEGIN, bring(good(1))), (30_000, turn(Turn::RollBack))],
        ),
        way(
            "back by hand, after the commit",
            0,
            &[0, 1],
            [(BEGIN, bring(good(1))), (120_000, turn(Turn::RollBack))],
        ),
        way(
            "rejected, and tried again by hand",
            0,
            &[0],
            [(BEGIN, bring(sick(1))), (400_000, turn(Turn::Retry(1)))],
        ),
        way(
            "away from a release that nothing helps",
            2,
            &[2],
            [
                (
                    BEGIN,
                    bring(Make {
                        nature: Nature::SickAfter(70),
                        ..good(1)
                    }),
                ),
                (4 * 3_600_000, bring(good(2))),
            ],
        ),
        way(
            "the engine is restarted in the trial",
            1,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (20_000, Blow::EngineRestarts(100, 20, true)),
            ],
        ),
        way(
            "a ledger that cannot be written for a while",
            1,
            &[0, 1],
            [(BEGIN, bring(good(1))), (20_000, Blow::DiskFull(300))],
        ),
    ];
    ways.extend(more_ways());
    ways
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn more_ways() -> Vec<Way> {
    vec![
        way(
            "a key that is revoked while its release waits",
            0,
            &[0],
            [
                (BEGIN, turn(Turn::Window(200))),
                (0, bring(good(1))),
                (1000, turn(Turn::Revoke(0))),
            ],
        ),
        way(
            "two at once, the older one second",
            1,
            &[1],
            [(BEGIN, bring(good(2))), (20_000, bring(good(1)))],
        ),
        way(
            "two at once, the newer one fails, and the older one is brought again",
            1,
            &[0, 1],
            [
                (BEGIN, turn(Turn::Window(30))),
                (0, bring(good(1))),
                (5000, bring(sick(2))),
                (900_000, turn(Turn::Again(1, Wish::Take, false))),
            ],
        ),
        way(
            "what mends a release has a lower number",
            2,
            &[0, 2],
            [(BEGIN, bring(sick(9))), (700_000, bring(good(8)))],
        ),
        way(
            "the hold file",
            1,
            &[1],
            [(BEGIN, turn(Turn::HoldFile(100))), (0, bring(good(1)))],
        ),
        way(
            "volumes that cannot be copied, and then can",
            1,
            &[0, 1],
            [
                (BEGIN, turn(Turn::CopiesFail(1))),
                (0, bring(with_volumes(good(1)))),
                (60_000, turn(Turn::Retry(1))),
            ],
        ),
        way(
            "volumes that cannot be put back",
            0,
            &[0],
            [
                (BEGIN, bring(with_volumes(sick(1)))),
                (60_000, turn(Turn::CopiesFail(5))),
            ],
        ),
        way(
            "an older one that is allowed",
            2,
            &[1, 2],
            [
                (BEGIN, bring(good(5))),
                (120_000, bring(good(3))),
                (5000, turn(Turn::Again(2, Wish::Take, true))),
            ],
        ),
        way(
            "the node's own file is changed during a trial",
            2,
            // Both are news after a cut, and which came first cannot be seen.
            &[1, 2],
            [
                (BEGIN, bring(good(1))),
                (20_000, turn(Turn::Bring(local(good(0)), HAND))),
            ],
        ),
        way(
            "the node's own file is changed while a bundle waits",
            2,
            &[1, 2],
            [
                (BEGIN, turn(Turn::Window(200))),
                (0, bring(good(1))),
                (5000, turn(Turn::Bring(local(good(0)), HAND))),
            ],
        ),
        way(
            "back by hand, and the release before is gone",
            1,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (120_000, turn(Turn::Damaged(0))),
                (0, turn(Turn::RollBack)),
            ],
        ),
        way(
            "back by hand, with volumes",
            0,
            &[0, 1],
            [
                (BEGIN, bring(with_volumes(good(1)))),
                (120_000, turn(Turn::RollBack)),
            ],
        ),
        way(
            "a ledger that is full when a release is to be taken back",
            0,
            &[0],
            [(BEGIN, bring(sick(1))), (30_000, Blow::DiskFull(1500))],
        ),
        way(
            "a ledger that is full when one goes back by hand",
            0,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (120_000, Blow::DiskFull(400)),
                (0, turn(Turn::RollBack)),
            ],
        ),
        way(
            "a ledger that hangs in the trial",
            1,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (20_000, turn(Turn::DiskHangs(300))),
            ],
        ),
        way(
            "the engine hangs beyond the trial's end",
            0,
            &[0],
            [
                (BEGIN, bring(sick(1))),
                (20_000, Blow::EngineHangs(700, false)),
            ],
        ),
        way(
            "the engine hangs in the trial",
            1,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (10_000, Blow::EngineHangs(200, true)),
            ],
        ),
        way(
            "orderly restarts in the trial",
            1,
            &[0, 1],
            [
                (BEGIN, bring(good(1))),
                (20_000, Blow::DaemonRestart),
                (60_000, Blow::DaemonRestart),
                (60_000, Blow::DaemonRestart),
                (60_000, Blow::DaemonRestart),
            ],
        ),
        way(
            "the node's files change while it is staged",
            1,
            &[1],
            [(BEGIN, bring(good(1))), (1000, Blow::Reload(1))],
        ),
        way(
            "the node's files change while volumes are copied",
            1,
            &[1],
            [
                (BEGIN, bring(with_volumes(good(1)))),
                (4000, Blow::Reload(1)),
            ],
        ),
        way(
            "staged twice, and the first ends last",
            1,
            &[1],
            [(BEGIN, turn(Turn::DeedsSlow(1, 700))), (0, bring(good(1)))],
        ),
        way(
            "a clock that is set back while the window is waited for",
            1,
            &[1],
            [
                (BEGIN, turn(Turn::Window(100))),
                (0, bring(good(1))),
                (90_000, turn(Turn::Window(100))),
            ],
        ),
        way(
            "a clock that comes from 1970 while the window is waited for",
            1,
            &[1],
            [
                (BEGIN, turn(Turn::Window(5_000_000))),
                (0, bring(good(1))),
                (60_000, turn(Turn::Window(0))),
            ],
        ),
    ]
}

/// What goes wrong on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// It is cut off at this point.
    Cut(usize, Cut),
    /// The engine fails at this call.
    Fails(usize, Fails),
}

/// What a way was like: the points at which it can be cut off, its calls of the engine, the writes of the ledger.
#[derive(Clone, Copy)]
struct Told {
    points: usize,
    calls: usize,
    writes: u32,
}

/// Lets a way happen, then what is left of it; nothing that is wrong with a release is mended.
fn go(way: &Way, trouble: Trouble, telling: bool) -> Result<Told, String> {
    let mut node = Node::new(3, &[], &way.blows);
    node.telling = telling;
    // What is more than an hour before is not the update's.
    let before = way.blows.iter().rposition(|(gap, _)| *gap > 3_600_000);
    let before = way.blows[..=before.unwrap_or_default()].iter();
    let begin = Duration::from_millis(29_990 + before.map(|(gap, _)| gap).sum::<u64>());
    let result = node.run_until(begin).and_then(|()| {
        node.points = Some(0);
        match trouble {
            Trouble::Nothing => {}
            Trouble::Cut(at, cut) => node.cut = Some((at, cut)),
            Trouble::Fails(at, fails) => node.fails = Some((at, fails)),
        }
        node.run_until(node.last_blow() + Duration::from_secs(60))?;
        for _ in 0..100 {
            if node.well().is_ok() {
                break;
            }
            node.run_until(node.now + Duration::from_secs(60))?;
        }
        node.well()?;
        let points = node.points.take().unwrap_or_default();
        let current = node.current();
        let right = match trouble {
            Trouble::Nothing => current == Some(way.end),
            Trouble::Cut(..) | Trouble::Fails(..) => {
                current.is_some_and(|current| way.ends.contains(&current))
            }
        };
        if !right {
            return Err(format!("release {current:?} is committed"));
        }
        Ok(Told {
            points,
            calls: node.calls_made,
            writes: node.shelf.most_writes,
        })
    });
    result.map_err(|why| {
        let lines: Vec<&str> = node
            .story
            .iter()
            .map(String::as_str)
            .filter(|line| !line.contains("Probe") && !line.contains("Watchdog"))
            .collect();
        let from = lines.len().saturating_sub(150);
        format!(
            "{}, {trouble:?}: {why}\n{}",
            way.name,
            lines[from..].join("\n")
        )
    })
}

fn tell(way: &Way, trouble: Trouble) -> Told {
    match go(way, trouble, false) {
        Ok(told) => told,
        Err(why) => panic!("{}", go(way, trouble, true).err().unwrap_or(why)),
    }
}

#[test]
fn every_way_of_an_update_survives_a_cut_at_every_point_and_a_failure_of_every_call() {
    let ways = ways();
    let (mut cuts, mut failures) = (Vec::new(), Vec::new());
    for (nth, way) in ways.iter().enumerate() {
        let told = tell(way, Trouble::Nothing);
        for point in 1..=told.points {
            cuts.extend([Cut::Power, Cut::Daemon].map(|cut| (nth, Trouble::Cut(point, cut))));
        }
        for call in 1..=told.calls {
            let fails = [Fails::Refused, Fails::NoAnswer, Fails::AnswerLost];
            failures.extend(fails.map(|fails| (nth, Trouble::Fails(call, fails))));
        }
    }
    let all: Vec<&(usize, Trouble)> = cuts.iter().chain(&failures).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..threads)
            .map(|thread| {
                let (ways, all) = (&ways, &all);
                scope.spawn(move || {
                    for (nth, trouble) in all.iter().skip(thread).step_by(threads) {
                        tell(&ways[*nth], *trouble);
                    }
                })
            })
            .collect();
        for teller in tellers {
            if let Err(panic) = teller.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!(
        "figure: {} update paths survive {} cut points and {} failures of the engine",
        ways.len(),
        cuts.len(),
        failures.len()
    );
}

#[test]
fn an_update_takes_few_writes() {
    let ways = ways();
    let most = ways
        .iter()
        .map(|way| tell(way, Trouble::Nothing).writes)
        .max();
    let most = most.unwrap_or_default();
    println!("figure: at most {most} writes of the ledger from an offer to its commit");
    assert!((3..=WRITES).contains(&most));
    // The offer, the trial, the commit.
    assert_eq!(tell(&ways[0], Trouble::Nothing).writes, 3);
}

fn make() -> impl Strategy<Value = Make> {
    let nature = prop_oneof![
        6 => Just(Nature::Good),
        1 => (0..20_000u64).prop_map(Nature::Exits),
        1 => Just(Nature::Sick),
        1 => (1..400u64).prop_map(Nature::SickAfter),
        1 => (5..200u64).prop_map(Nature::Flaps),
    ];
    let change = prop_oneof![
        Just(Change::Image),
        Just(Change::Spec),
        Just(Change::All),
        Just(Change::Probe),
        Just(Change::Alone),
        Just(Change::Joined),
    ];
    let hook = prop_oneof![
        8 => Just(Hook::None),
        2 => (0..3u32).prop_map(Hook::Yes),
        1 => Just(Hook::No),
        1 => Just(Hook::Hangs),
        1 => Just(Hook::Kills),
    ];
    let from = prop_oneof![
        1 => Just(From::Local),
        4 => (0..2u8, 1..8u64).prop_map(|(key, sequence)| From::Bundle(key, sequence)),
    ];
    let fits = prop_oneof![9 => Just(true), 1 => Just(false)];
    (nature, change, hook, prop::bool::weighted(0.3), fits, from).prop_map(
        |(nature, change, hook, volumes, fits, from)| Make {
            nature,
            change,
            hook,
            volumes,
            fits,
            from,
        },
    )
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        5 => Just(Wish::Take),
        1 => Just(Wish::Stage),
        2 => Just(HAND),
        1 => Just(FORCE),
    ]
}

/// What may be done with releases.
pub fn a_turn() -> impl Strategy<Value = Turn> {
    let which = || 0..5usize;
    prop_oneof![
        10 => (make(), wish()).prop_map(|(make, wish)| Turn::Bring(make, wish)),
        2 => (which(), wish(), any::<bool>()).prop_map(|(which, wish, older)| Turn::Again(which, wish, older)),
        2 => (proptest::option::of(which()), any::<bool>()).prop_map(|(which, force)| Turn::Activate(which, force)),
        3 => Just(Turn::RollBack),
        2 => which().prop_map(Turn::Retry),
        2 => any::<bool>().prop_map(Turn::Hold),
        1 => (which(), any::<bool>()).prop_map(|(which, pinned)| Turn::Pin(which, pinned)),
        1 => (0..2u8).prop_map(Turn::Revoke),
        1 => (1..3000u64).prop_map(Turn::Window),
        1 => (1..600u64).prop_map(Turn::HoldFile),
        1 => (1..600u64).prop_map(Turn::LockFile),
        3 => (which(), any::<bool>()).prop_map(|(which, busy)| Turn::Busy(which, busy)),
        1 => any::<bool>().prop_map(Turn::Automatic),
        1 => (1..300u64).prop_map(Turn::StagingFails),
        1 => (1..3u32).prop_map(Turn::DeedsLost),
        2 => (1..4u32, 1..3000u64).prop_map(|(times, span)| Turn::DeedsSlow(times, span)),
        2 => (1..5u32).prop_map(Turn::CopiesFail),
        1 => (1..5u32).prop_map(Turn::CopiesKill),
        1 => (1..100u64).prop_map(Turn::LoadingFails),
        1 => which().prop_map(Turn::Damaged),
        1 => any::<bool>().prop_map(Turn::Torn),
        1 => (1..2000u64).prop_map(Turn::DiskHangs),
    ]
}
