//! The core against a simulated node: whatever befalls it, what DESIGN calls "What always holds" holds.
//!
//! `MONOPOD_SIM_CASES` sets how many stories are tried, `MONOPOD_SIM_SEED` where they begin.
//! A failing story is shrunk, told line by line, and named by the seed that replays it.

mod node;
mod releases;
mod updates;

use std::time::Duration;

use monopod::core::ladder::Rung;
use monopod::core::ledger::Budgets;
use node::{Blow, Node};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// What befalls one node.
#[derive(Clone, Debug)]
struct Story {
    seed: u64,
    /// Containers of earlier days: (runs, fits the workload, bears an older workload's name).
    remains: Vec<(bool, bool, bool)>,
    /// Milliseconds after the blow before, and the blow.
    blows: Vec<(u64, Blow)>,
}

fn blow() -> impl Strategy<Value = Blow> {
    let which = || 0..2usize;
    prop_oneof![
        4 => which().prop_map(Blow::Kill),
        2 => (which(), 0..20_000u64, 1..15u32).prop_map(|(which, after, times)| Blow::CrashLoop(which, after, times)),
        3 => (which(), 1..600u64).prop_map(|(which, span)| Blow::Sick(which, span)),
        1 => (which(), 1..300u64).prop_map(|(which, span)| Blow::Unaskable(which, span)),
        1 => which().prop_map(Blow::ProbeLost),
        4 => (1..400u64, any::<bool>()).prop_map(|(span, effect)| Blow::EngineHangs(span, effect)),
        3 => (1..12u32).prop_map(Blow::EngineRefuses),
        1 => (1..30_000u64).prop_map(Blow::EngineSlow),
        2 => (1..12u32).prop_map(Blow::EngineConfused),
        2 => (1..12u32).prop_map(Blow::SomethingLacks),
        3 => (1..12u32).prop_map(Blow::AnswersLost),
        2 => (1..300u64).prop_map(Blow::EngineBlind),
        1 => (1..300u64).prop_map(Blow::DiskSlow),
        2 => Just(Blow::Stop),
        5 => (0..12usize).prop_map(Blow::DaemonKilled),
        2 => Just(Blow::PowerCut),
        2 => (1..600u64).prop_map(Blow::ImageGone),
        1 => (1..600u64).prop_map(Blow::DiskFull),
        1 => (0..10_000_000u64).prop_map(Blow::ClockBack),
        1 => which().prop_map(Blow::StoppedByHand),
        2 => which().prop_map(Blow::RemovedByHand),
        2 => proptest::option::of(which()).prop_map(Blow::RestartAsked),
        2 => (0..4u8).prop_map(Blow::Reload),
        2 => Just(Blow::DaemonRestart),
        1 => Just(Blow::NoPidfd),
        2 => (1..3000u64).prop_map(Blow::EngineHalfHangs),
        1 => Just(Blow::ProbesByEngine),
        1 => Just(Blow::NamelessBoots),
        3 => Just(Blow::EngineStuck),
        3 => (0..3000u64, 1..60u64, any::<bool>()).prop_map(|(early, span, waits)| Blow::EngineRestarts(early, span, waits)),
        1 => (1..3000u64).prop_map(Blow::NobodyHelps),
        1 => any::<bool>().prop_map(Blow::Reboots),
        3 => (any::<bool>(), any::<bool>(), 0..20_000u64).prop_map(|(broker, app, after)| {
            if after.is_multiple_of(3) {
                Blow::BaseDamaged(broker, app, after)
            } else {
                Blow::ImageDamaged(broker, app, after)
            }
        }),
        1 => (1..3000u64).prop_map(Blow::StoreDamaged),
        2 => (0..40usize).prop_map(Blow::CutAfter),
        50 => updates::a_turn().prop_map(Blow::Turn),
    ]
}

fn story() -> impl Strategy<Value = Story> {
    let gap = prop_oneof![3 => 0..200u64, 3 => 0..10_000u64, 2 => 0..400_000u64];
    (
        any::<u64>(),
        proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..3),
        proptest::collection::vec((gap, blow()), 0..12),
    )
        .prop_map(|(seed, remains, blows)| Story {
            seed,
            remains,
            blows,
        })
}

/// Lets the story happen, then a calm hour; the node must be well at their end.
fn live(story: &Story) -> Result<(), String> {
    happen(story, false).map_err(|_| {
        happen(story, true)
            .err()
            .unwrap_or_else(|| "not the same twice".to_owned())
    })
}

fn happen(story: &Story, telling: bool) -> Result<(), String> {
    let mut node = Node::new(story.seed, &story.remains, &story.blows);
    node.telling = telling;
    let over = node.last_blow() + Duration::from_secs(600);
    let calm = over + Duration::from_secs(3600);
    let end = node
        .run_until(over)
        .and_then(|()| {
            node.mend();
            node.run_until(calm)
        })
        .and_then(|()| {
            // What the ledger has stopped is tried again after an hour.
            if node.well().is_ok() {
                return Ok(());
            }
            node.run_until(calm + Duration::from_secs(3 * 3600))
        })
        .and_then(|()| node.well());
    end.map_err(|why| {
        // What repeats for ever tells nothing.
        let dull = |line: &&String| {
            !["Watchdog", "Probe", "Extend"]
                .iter()
                .any(|word| line.contains(word))
        };
        let lines: Vec<&str> = node.story.iter().filter(dull).map(String::as_str).collect();
        let from = lines.len().saturating_sub(120);
        format!(
            "{why}\nthe story's last lines:\n{}",
            lines[from..].join("\n")
        )
    })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Runs stories `from..from + count`; each has a seed of its own.
fn tell(from: u64, count: u64) {
    for seed in from..from + count {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 2000,
            ..Config::default()
        };
        let mut runner =
            TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let result = runner.run(&story(), |story| live(&story).map_err(TestCaseError::fail));
        if let Err(error) = result {
            panic!("replay with MONOPOD_SIM_SEED={seed} MONOPOD_SIM_CASES=1\n{error}");
        }
    }
}

#[test]
fn whatever_befalls_a_node_it_comes_back() {
    let (cases, seed) = (
        number("MONOPOD_SIM_CASES", 10_000),
        number("MONOPOD_SIM_SEED", 0),
    );
    if cases == 1 {
        return tell(seed, 1);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = cases.div_ceil(threads);
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..threads)
            .map(|nth| scope.spawn(move || tell(seed + nth * share, share)))
            .collect();
        for teller in tellers {
            if let Err(panic) = teller.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!(
        "figure: {} stories of a node, from seed {seed}, ended well",
        threads * share
    );
}

#[test]
fn an_idle_node_writes_nothing_and_says_nothing() {
    let mut node = Node::new(1, &[], &[]);
    node.run_until(Duration::from_secs(1200))
        .expect("it starts");
    node.well().expect("it is well");
    node.telling = true;
    assert_eq!(node.writes, 0);
    let counts = node
        .idle_actions(Duration::from_secs(3600))
        .expect("it idles");
    assert_eq!(
        counts.get("Probe").copied(),
        Some(720),
        "two containers, each 10 s"
    );
    for silent in ["Persist", "Record", "Status", "Report", "Engine("] {
        assert_eq!(counts.get(silent), None, "{silent} in {counts:?}");
    }
    assert!(counts["Watchdog"] <= 240, "{counts:?}");
}

#[test]
fn a_hopeless_workload_ends_in_the_safe_state_and_recovers_when_it_is_mended() {
    let blows = [(60_000, Blow::CrashLoop(1, 500, 40))];
    let mut node = Node::new(3, &[], &blows);
    node.telling = true;
    node.run_until(Duration::from_secs(4 * 3600))
        .expect("nothing breaks");
    let said = |word: &str| node.story.iter().filter(|line| line.contains(word)).count();
    assert_eq!(
        said("systemd: watchdog or start timeout"),
        2,
        "withheld as often as the budget says"
    );
    assert_eq!(said("kind: SafeState"), 1);
    assert_eq!(said("kind: Recovered"), 1);
    node.well().expect("it is well again");
    assert_eq!(node.writes, 3, "two withholdings and one refill");
}

/// A node on which reboots are allowed has an even seed.
const ALLOWED: u64 = 4;
const FORBIDDEN: u64 = 3;

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

fn count(node: &Node, word: &str) -> usize {
    node.story.iter().filter(|line| line.contains(word)).count()
}

#[test]
fn the_node_is_rebooted_if_that_is_allowed_and_no_more_often_than_that() {
    // Neither power cuts nor days of waiting in the safe state bring a reboot back.
    let days = 3 * 24 * 3600 * 1000;
    let blows = [
        (60_000, Blow::CrashLoop(1, 500, 1_000_000)),
        (4 * 3600 * 1000, Blow::PowerCut),
        (days, Blow::PowerCut),
        (4 * 3600 * 1000, Blow::DaemonRestart),
    ];
    for (seed, reboots) in [(ALLOWED, 2), (FORBIDDEN, 0)] {
        let mut node = Node::new(seed, &[], &blows);
        node.telling = true;
        let end = node.last_blow() + hours(4);
        node.run_until(end).expect("nothing breaks");
        assert_eq!(node.reboots.len(), reboots);
        assert_eq!(count(&node, "systemd: watchdog or start timeout"), 2);
        assert!(node.rung() == Some(Rung::SafeState), "seed {seed}");
        // Mended, the workload is stable in minutes, and a day later the ledger is as on the first day.
        node.mend();
        node.run_until(end + hours(2)).expect("nothing breaks");
        node.well().expect("it is well");
        node.run_until(end + hours(30)).expect("nothing breaks");
        assert_eq!(node.on_disk().budgets, Budgets::default());
    }
}

#[test]
fn an_engine_that_hangs_is_restarted() {
    for seed in [ALLOWED, FORBIDDEN] {
        let blows = [(60_000, Blow::EngineStuck), (1000, Blow::Kill(0))];
        let mut node = Node::new(seed, &[], &blows);
        node.telling = true;
        node.run_until(hours(1)).expect("nothing breaks");
        node.well().expect("it is well");
        assert_eq!(node.engine_restarts, 1);
        assert_eq!(node.writes, 0, "no upper rung was needed");
        assert_eq!(count(&node, "systemd: watchdog or start timeout"), 0);
    }
}

#[test]
fn an_engine_that_hangs_is_needed_by_probes_that_run_in_the_containers() {
    let blows = [(60_000, Blow::ProbesByEngine), (1000, Blow::EngineStuck)];
    let mut node = Node::new(FORBIDDEN, &[], &blows);
    node.run_until(hours(1)).expect("nothing breaks");
    node.well().expect("it is well");
    assert_eq!((node.engine_restarts, node.writes), (1, 0));
}

#[test]
fn an_engine_that_hangs_and_is_not_needed_is_left_alone() {
    let blows = [(60_000, Blow::EngineStuck)];
    let mut node = Node::new(ALLOWED, &[], &blows);
    node.run_until(hours(2)).expect("nothing breaks");
    assert_eq!((node.engine_restarts, node.writes), (0, 0));
}

#[test]
fn without_anyone_who_helps_the_rungs_are_stepped_over() {
    let blows = [
        (60_000, Blow::NobodyHelps(1_000_000)),
        (1000, Blow::EngineStuck),
        (1000, Blow::Kill(0)),
    ];
    let mut node = Node::new(ALLOWED, &[], &blows);
    node.telling = true;
    node.run_until(hours(1)).expect("nothing breaks");
    assert_eq!(node.rung(), Some(Rung::SafeState));
    assert_eq!(count(&node, "systemd: watchdog or start timeout"), 2);
    assert_eq!(node.reboots.len(), 1, "asked for once and not again");
    node.mend();
    node.run_until(hours(2)).expect("nothing breaks");
    node.well().expect("it is well");
}

#[test]
fn an_engine_that_only_looks_is_not_waited_for_without_end() {
    for (seed, sick) in [(FORBIDDEN, false), (ALLOWED, false), (FORBIDDEN, true)] {
        let blows = [
            (60_000, Blow::EngineHalfHangs(8 * 3600)),
            // What cannot be started, and what cannot be stopped.
            (
                1000,
                if sick {
                    Blow::Sick(1, 8 * 3600)
                } else {
                    Blow::Kill(1)
                },
            ),
            (1000, Blow::NoPidfd),
            (1000, Blow::DaemonRestart),
        ];
        let mut node = Node::new(seed, &[], &blows);
        node.telling = true;
        node.run_until(hours(6)).expect("nothing breaks");
        assert_eq!(
            node.rung(),
            Some(Rung::SafeState),
            "seed {seed}, sick: {sick}"
        );
        assert_eq!(count(&node, "systemd: watchdog or start timeout"), 2);
        assert_eq!(node.engine_restarts, 0, "it answers");
        node.run_until(hours(12)).expect("nothing breaks");
        node.well().expect("it is well");
    }
}

#[test]
fn a_damaged_image_is_mended_by_one_rebuild() {
    for variant in [0, 1, 3] {
        for (broker, app) in [(true, false), (false, true), (true, true)] {
            for after in [0, 3000] {
                let blows = [
                    (60_000, Blow::Reload(variant)),
                    (60_000, Blow::ImageDamaged(broker, app, after)),
                ];
                let mut node = Node::new(FORBIDDEN, &[], &blows);
                node.telling = true;
                node.run_until(hours(1)).expect("nothing breaks");
                let name = format!("variant {variant}, broker {broker}, app {app}, {after} ms");
                if let Err(why) = node.well() {
                    panic!("{name}: {why}\n{}", node.story.join("\n"));
                }
                let images = if variant == 1 {
                    u32::from(broker) + u32::from(app)
                } else {
                    1
                };
                assert_eq!(node.rebuilds, images, "{name}: {}", node.story.join("\n"));
                assert_eq!(node.writes, 0, "{name}: no upper rung was needed");
            }
        }
    }
}

#[test]
fn layers_that_two_containers_images_share_are_mended_by_a_second_rebuild() {
    // In variant 1 each container has an image of its own, elsewhere they have one.
    for (variant, rebuilds) in [(0, 1), (1, 2)] {
        for after in [0, 3000] {
            let blows = [
                (60_000, Blow::Reload(variant)),
                (60_000, Blow::BaseDamaged(false, true, after)),
            ];
            let mut node = Node::new(FORBIDDEN, &[], &blows);
            node.telling = true;
            node.run_until(hours(1)).expect("nothing breaks");
            let name = format!("variant {variant}, {after} ms");
            if let Err(why) = node.well() {
                panic!("{name}: {why}\n{}", node.story.join("\n"));
            }
            assert_eq!(node.rebuilds, rebuilds, "{name}: {}", node.story.join("\n"));
            assert_eq!(node.writes, 0, "{name}: no upper rung was needed");
        }
    }
}

#[test]
fn what_the_store_has_not_whole_is_not_taken_from_the_engine() {
    let blows = [
        (60_000, Blow::StoreDamaged(4 * 3600)),
        (1000, Blow::ImageDamaged(false, true, 500)),
    ];
    let mut node = Node::new(FORBIDDEN, &[], &blows);
    node.telling = true;
    node.run_until(hours(2)).expect("nothing breaks");
    assert_eq!(node.rebuilds, 0);
    assert_eq!(node.rung(), Some(Rung::SafeState));
    assert_eq!(count(&node, "systemd: watchdog or start timeout"), 2);
    assert!(count(&node, "its image is not rebuilt") >= 1);
}

#[test]
fn a_bug_costs_one_rebuild_for_each_time_that_the_ladder_is_climbed() {
    let blows = [(60_000, Blow::CrashLoop(1, 500, 1_000_000))];
    let mut node = Node::new(FORBIDDEN, &[], &blows);
    node.run_until(hours(6)).expect("nothing breaks");
    assert_eq!(node.rung(), Some(Rung::SafeState));
    assert_eq!(node.rebuilds, 3, "once, and after each withholding");
}

#[test]
fn what_ends_with_the_engine_has_not_failed() {
    for waits in [false, true] {
        for early in [0, 50, 1000, 3000] {
            for span in [2, 10, 30] {
                let blows = [
                    (60_000, Blow::EngineRestarts(early, span, waits)),
                    (120_000, Blow::EngineRestarts(early, span, waits)),
                ];
                let mut node = Node::new(FORBIDDEN, &[], &blows);
                node.telling = true;
                let name = format!("{early} ms, {span} s, waits: {waits}");
                for nth in 0..2 {
                    let gone = Duration::from_secs(90 + nth * 120) + Duration::from_millis(early);
                    // It is asked at most every ten seconds whether it is back.
                    let back = gone + Duration::from_secs(span + 13);
                    node.run_until(back + Duration::from_secs(10))
                        .expect("nothing breaks");
                    if let Err(why) = node.well() {
                        panic!("{name}: {why}\n{}", node.story.join("\n"));
                    }
                    let strikes = node.strikes();
                    assert_eq!(strikes, 0, "{name}: {}", node.story.join("\n"));
                }
            }
        }
    }
}
