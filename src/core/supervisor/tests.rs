//! Short stories with an exact end. What must hold in every story is the simulation's.

use std::collections::BTreeMap;
use std::time::Duration;

mod rebuild;

use super::*;
use crate::core::api::{Answer, Fault, Outcome, Policy, Rescue, Running, Seen, SeenState, Sharer};
use crate::core::ladder::Rung;
use crate::core::ledger::Entry;
use crate::spec::types::{Condition, Health, Healthcheck, Probe, Target, Timing};

fn role(name: &str) -> Role {
    Role::new(name)
}

fn desired(name: &str, depends_on: &[(&str, Condition)]) -> Desired {
    Desired {
        role: role(name),
        hash: format!("{name}-1"),
        image: format!("example/{name}:1"),
        image_id: Some("sha256:1".to_owned()),
        healthcheck: Healthcheck::Own(Health {
            probe: Probe::Tcp(Target::Own(80)),
            timing: Timing {
                interval: Duration::from_secs(10),
                ..Timing::default()
            },
        }),
        grace: Duration::from_secs(10),
        depends_on: depends_on
            .iter()
            .map(|(name, condition)| (role(name), *condition))
            .collect(),
        network_of: None,
    }
}

fn seen(name: &str, hash: &str, state: SeenState) -> Seen {
    Seen {
        role: role(name),
        id: format!("id-{name}"),
        hash: hash.to_owned(),
        image_id: "sha256:1".to_owned(),
        image_health: None,
        state,
    }
}

fn process(pid: u32) -> Running {
    Running { pid, address: None }
}

/// A supervisor whose calls the test answers one by one.
struct Story {
    supervisor: Supervisor,
    now: Time,
    /// Calls that are not answered yet, the oldest first.
    calls: Vec<(OpId, Call)>,
    told: Vec<Action>,
}

impl Story {
    fn new(desired: Vec<Desired>) -> Self {
        Self::with(desired, Some(Duration::from_secs(60)), Budgets::default())
    }

    fn with(desired: Vec<Desired>, watchdog: Option<Duration>, budgets: Budgets) -> Self {
        let config = Config {
            escalation: Escalation {
                restarts: 1,
                recreates: 1,
                rebuilds: 0,
                withholds: 1,
                ..Escalation::default()
            },
            ready: Ready::Healthy,
            watchdog,
            seed: 1,
            boot: "this".to_owned(),
        };
        let now = Time(Duration::from_secs(100));
        let mut story = Self {
            supervisor: Supervisor::new(config, desired, budgets, Volatile::default(), now),
            now,
            calls: Vec::new(),
            told: Vec::new(),
        };
        story.event(Event::PreloadDone);
        story
    }

    fn event(&mut self, event: Event) {
        for action in self.supervisor.step(self.now, event) {
            match action {
                Action::Engine(op, call) => self.calls.push((op, call)),
                action => self.told.push(action),
            }
        }
    }

    /// Takes the oldest call, which must be this one, and answers it.
    fn answer(&mut self, expected: &Call, result: Result<Outcome, Fault>) {
        assert!(
            !self.calls.is_empty(),
            "no call is under way; {expected:?} was expected"
        );
        let (op, call) = self.calls.remove(0);
        assert_eq!(call, *expected);
        self.event(Event::Done(op, result));
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.supervisor.deadline().filter(|next| *next <= end) {
            self.now = next;
            self.event(Event::Tick);
        }
        self.now = end;
        self.event(Event::Tick);
    }

    /// Lets time pass until something is asked of the engine.
    fn wait_for_call(&mut self) {
        for _ in 0..1000 {
            if !self.calls.is_empty() {
                return;
            }
            let Some(next) = self.supervisor.deadline() else {
                break;
            };
            self.now = next;
            self.event(Event::Tick);
        }
        panic!("no call comes");
    }

    fn probes(&mut self, answer: &Answer) {
        let asked: Vec<(Role, u64)> = self
            .told
            .iter()
            .filter_map(|action| match action {
                Action::Probe { role, probe, .. } => Some((role.clone(), *probe)),
                _ => None,
            })
            .collect();
        self.told
            .retain(|action| !matches!(action, Action::Probe { .. }));
        for (role, probe) in asked {
            self.event(Event::Probed {
                role,
                probe,
                answer: answer.clone(),
            });
        }
    }

    /// Lets time pass in small steps, every question answered alike.
    fn live(&mut self, span: Duration, answer: &Answer) {
        let end = self.now + span;
        while self.now < end {
            self.pass(Duration::from_millis(500));
            self.probes(answer);
        }
    }

    fn reports(&self, kind: ReportKind) -> usize {
        self.told
            .iter()
            .filter(|action| matches!(action, Action::Report(report) if report.kind == kind))
            .count()
    }

    fn said(&self, notify: &Notify) -> bool {
        self.told.contains(&Action::Notify(notify.clone()))
    }
}

fn reload(desired: Vec<Desired>) -> Event {
    Event::Reload {
        desired,
        policy: None,
    }
}

fn configured(desired: Vec<Desired>, policy: Policy) -> Event {
    Event::Reload {
        desired,
        policy: Some(policy),
    }
}

fn pass() -> Answer {
    Answer::Pass("200 OK".to_owned())
}

fn look(name: &str) -> Call {
    Call::Look { role: role(name) }
}

fn image(name: &str) -> Call {
    Call::Image { role: role(name) }
}

fn create(name: &str) -> Call {
    create_from(name, "sha256:1")
}

fn create_from(name: &str, image: &str) -> Call {
    Call::Create {
        role: role(name),
        image: image.to_owned(),
    }
}

fn start(name: &str) -> Call {
    Call::Start {
        role: role(name),
        id: format!("id-{name}"),
    }
}

fn has_image() -> Result<Outcome, Fault> {
    Ok(Outcome::Image {
        id: "sha256:1".to_owned(),
    })
}

fn created(name: &str) -> Result<Outcome, Fault> {
    Ok(Outcome::Created {
        id: format!("id-{name}"),
        hash: format!("{name}-1"),
        image_id: "sha256:1".to_owned(),
        image_health: None,
    })
}

/// A story in which `app` runs as process 7 and is healthy.
fn healthy() -> Story {
    let mut story = Story::new(vec![desired("app", &[])]);
    let running = SeenState::Running(process(7));
    story.answer(
        &Call::Survey,
        Ok(Outcome::Seen(vec![seen("app", "app-1", running)])),
    );
    story.live(Duration::from_secs(1), &pass());
    assert_eq!(story.supervisor.verdict(), Verdict::Healthy);
    story.told.clear();
    story
}

#[test]
fn a_dependent_is_made_at_once_and_started_when_what_it_needs_is_healthy() {
    let app = desired("app", &[("broker", Condition::Healthy)]);
    let mut story = Story::new(vec![desired("broker", &[]), app]);
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    story.answer(&image("broker"), has_image());
    story.answer(&image("app"), has_image());
    story.answer(&create("broker"), created("broker"));
    story.answer(&create("app"), created("app"));
    story.answer(&start("broker"), Ok(Outcome::Started(process(1))));
    assert_eq!(story.calls, []);
    assert!(!story.said(&Notify::Ready));
    story.live(Duration::from_secs(1), &pass());
    story.answer(&start("app"), Ok(Outcome::Started(process(2))));
    story.live(Duration::from_secs(1), &pass());
    assert!(story.said(&Notify::Ready));
}

#[test]
fn no_answer_to_a_creation_is_followed_by_a_look_and_never_by_another_creation() {
    let mut story = Story::new(vec![desired("app", &[])]);
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    story.answer(&image("app"), has_image());
    story.answer(&create("app"), Err(Fault::NoAnswer("timed out".to_owned())));
    assert_eq!(story.supervisor.verdict(), Verdict::Unknown);
    story.pass(Duration::from_secs(5));
    let there = seen("app", "app-1", SeenState::Created);
    story.answer(&look("app"), Ok(Outcome::Seen(vec![there])));
    story.answer(&start("app"), Ok(Outcome::Started(process(1))));
}

#[test]
fn a_dead_process_is_restarted_at_once_whatever_the_engine_believes() {
    let mut story = healthy();
    story.event(Event::Died {
        role: role("app"),
        pid: 7,
    });
    assert_eq!(story.supervisor.verdict(), Verdict::Unhealthy);
    let still = SeenState::Running(process(7));
    story.answer(
        &look("app"),
        Ok(Outcome::Seen(vec![seen("app", "app-1", still)])),
    );
    story.pass(Duration::from_millis(20));
    let exited = SeenState::Exited { code: 137 };
    story.answer(
        &look("app"),
        Ok(Outcome::Seen(vec![seen("app", "app-1", exited)])),
    );
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    assert_eq!(story.supervisor.view().containers[0].restarts, 1);
    assert_eq!(story.supervisor.rung(), Rung::Restart);
}

#[test]
fn the_ladder_is_climbed_to_the_safe_state_where_no_watchdog_is() {
    let mut story = Story::with(vec![desired("app", &[])], None, Budgets::default());
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    let refused = || Err(Fault::Refused("port is taken".to_owned()));
    story.answer(&image("app"), has_image());
    for _ in 0..3 {
        story.answer(&create("app"), refused());
        story.wait_for_call();
        story.answer(&look("app"), Ok(Outcome::Seen(Vec::new())));
        story.answer(&image("app"), has_image());
    }
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    assert!(
        story.said(&Notify::Ready),
        "a start that waits for nothing would be killed"
    );
    assert_eq!(story.reports(ReportKind::WatchdogWithheld), 0);
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(1))));
    story.live(Duration::from_secs(700), &pass());
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}

#[test]
fn the_watchdog_is_withheld_only_after_the_ledger_says_so() {
    let mut story = healthy();
    let bad = Answer::Fail("503".to_owned());
    for _ in 0..200 {
        story.live(Duration::from_secs(1), &bad);
        while let Some((_, call)) = story.calls.first().cloned() {
            let answer = match &call {
                Call::Start { .. } => Ok(Outcome::Started(process(9))),
                Call::Image { .. } => has_image(),
                Call::Verify { .. } | Call::Rebuild { .. } => {
                    unreachable!("there is no such rung")
                }
                Call::Create { .. } => created("app"),
                Call::Look { .. } => {
                    let exited = SeenState::Exited { code: 0 };
                    Ok(Outcome::Seen(vec![seen("app", "app-1", exited)]))
                }
                Call::Stop { .. } | Call::Remove { .. } => Ok(Outcome::Ended),
                Call::Survey => unreachable!("it is done"),
            };
            story.answer(&call, answer);
        }
        let budgets = Budgets {
            withheld: 1,
            ..Budgets::default()
        };
        if story
            .told
            .contains(&Action::Persist(Entry::Budgets(budgets)))
        {
            break;
        }
    }
    story.told.clear();
    story.live(Duration::from_secs(40), &bad);
    assert!(
        story.said(&Notify::Watchdog),
        "not yet written, so still fed"
    );
    story.event(Event::Persisted(Part::Budgets, Ok(())));
    story.told.clear();
    story.live(Duration::from_secs(120), &bad);
    assert!(!story.said(&Notify::Watchdog));
    assert_eq!(story.supervisor.rung(), Rung::Withhold);
}

#[test]
fn a_budget_that_cannot_be_written_is_none() {
    let mut story = Story::with(
        vec![desired("app", &[])],
        Some(Duration::from_secs(60)),
        Budgets::default(),
    );
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    story.answer(&image("app"), has_image());
    for _ in 0..3 {
        story.answer(&create("app"), Err(Fault::Refused("no".to_owned())));
        story.wait_for_call();
        story.answer(&look("app"), Ok(Outcome::Seen(Vec::new())));
        story.answer(&image("app"), has_image());
    }
    story.event(Event::Persisted(Part::Budgets, Err("disk full".to_owned())));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    assert_eq!(story.reports(ReportKind::LedgerFailed), 1);
}

#[test]
fn a_missing_image_is_waited_for_and_leaves_what_runs_alone() {
    let mut story = healthy();
    let mut other = desired("app", &[]);
    other.hash = "app-2".to_owned();
    story.event(reload(vec![other]));
    let missing = || Err(Fault::ImageMissing("nobody has it".to_owned()));
    story.answer(&image("app"), missing());
    story.live(Duration::from_secs(30), &pass());
    assert_eq!(story.calls, [], "the old container runs on");
    assert_eq!(story.supervisor.verdict(), Verdict::Healthy);
    story.event(Event::StoreChanged);
    story.answer(&image("app"), has_image());
    let stop = Call::Stop {
        id: "id-app".to_owned(),
        grace: Duration::from_secs(10),
    };
    story.answer(&stop, Ok(Outcome::Ended));
}

#[test]
fn what_is_replaced_leaves_its_failures_to_nobody() {
    for (image_is_there, rung) in [(true, Rung::Foot), (false, Rung::Restart)] {
        let mut story = healthy();
        let mut other = desired("app", &[]);
        other.hash = "app-2".to_owned();
        story.event(reload(vec![other]));
        if !image_is_there {
            let missing = Fault::ImageMissing("nobody has it".to_owned());
            story.answer(&image("app"), Err(missing));
        }
        story.event(Event::Died {
            role: role("app"),
            pid: 7,
        });
        assert_eq!(story.supervisor.rung(), rung, "{image_is_there}");
    }
}

#[test]
fn a_plan_says_what_a_reload_does_and_does_nothing() {
    let mut story = healthy();
    let steps = |story: &Story, desired: &[Desired]| -> BTreeMap<String, StepKind> {
        let steps = story.supervisor.plan(desired);
        steps
            .into_iter()
            .map(|step| (step.role.to_string(), step.kind))
            .collect()
    };
    let same = desired("app", &[]);
    let mut asked_less = same.clone();
    asked_less.grace = Duration::from_secs(99);
    let mut changed = same.clone();
    changed.hash = "app-2".to_owned();
    let mut newer = same.clone();
    newer.image_id = Some("sha256:2".to_owned());
    assert_eq!(steps(&story, &[same])["app"], StepKind::Keep);
    assert_eq!(steps(&story, &[asked_less])["app"], StepKind::Adjust);
    assert!(matches!(
        steps(&story, &[changed])["app"],
        StepKind::Recreate(_)
    ));
    assert!(matches!(
        steps(&story, &[newer])["app"],
        StepKind::Recreate(_)
    ));
    let other = steps(&story, &[desired("other", &[])]);
    assert_eq!(
        (&other["app"], &other["other"]),
        (&StepKind::Remove, &StepKind::Create)
    );
    story.event(Event::Tick);
    assert_eq!(story.calls, []);
}

#[test]
fn a_container_of_another_image_than_its_release_pins_is_made_anew() {
    let mut story = Story::new(vec![desired("app", &[])]);
    // By its label it is the one.
    let mut other = seen("app", "app-1", SeenState::Running(process(7)));
    other.image_id = "sha256:2".to_owned();
    story.answer(&Call::Survey, Ok(Outcome::Seen(vec![other])));
    let stop = Call::Stop {
        id: "id-app".to_owned(),
        grace: Duration::from_secs(10),
    };
    story.answer(&image("app"), has_image());
    story.answer(&stop, Ok(Outcome::Ended));
    let mut exited = seen("app", "app-1", SeenState::Exited { code: 0 });
    exited.image_id = "sha256:2".to_owned();
    story.answer(&look("app"), Ok(Outcome::Seen(vec![exited])));
    let id = "id-app".to_owned();
    story.answer(&Call::Remove { id }, Ok(Outcome::Ended));
    // Nor is what a creation says it was made from taken for granted.
    let made = Outcome::Created {
        id: "id-app".to_owned(),
        hash: "app-1".to_owned(),
        image_id: "sha256:3".to_owned(),
        image_health: None,
    };
    story.answer(&create("app"), Ok(made));
    story.answer(&image("app"), has_image());
    let id = "id-app".to_owned();
    story.answer(&Call::Remove { id }, Ok(Outcome::Ended));
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
}

#[test]
fn of_two_containers_of_a_role_the_one_of_the_right_image_stays() {
    let mut story = Story::new(vec![desired("app", &[])]);
    let mut other = seen("app", "app-1", SeenState::Exited { code: 0 });
    other.id = "id-other".to_owned();
    other.image_id = "sha256:2".to_owned();
    let right = seen("app", "app-1", SeenState::Exited { code: 0 });
    story.answer(&Call::Survey, Ok(Outcome::Seen(vec![other, right])));
    let id = "id-other".to_owned();
    story.answer(&Call::Remove { id }, Ok(Outcome::Ended));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
}

#[test]
fn what_the_engine_has_under_an_id_is_what_a_container_is_made_from() {
    let mut app = desired("app", &[]);
    app.image_id = None;
    let mut story = Story::new(vec![app]);
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    let id = "sha256:7".to_owned();
    story.answer(&image("app"), Ok(Outcome::Image { id }));
    story.answer(&create_from("app", "sha256:7"), created("app"));
}

#[test]
fn ending_stops_dependents_first_and_leaving_stops_nobody() {
    let running =
        |name: &str, pid| seen(name, &format!("{name}-1"), SeenState::Running(process(pid)));
    let app = desired("app", &[("broker", Condition::Started)]);
    let mut story = Story::new(vec![desired("broker", &[]), app]);
    let both = vec![running("broker", 1), running("app", 2)];
    story.answer(&Call::Survey, Ok(Outcome::Seen(both)));
    let mut leaving = Story {
        supervisor: story.supervisor.clone(),
        now: story.now,
        calls: Vec::new(),
        told: Vec::new(),
    };
    leaving.event(Event::Terminate(Parting::Leave));
    assert_eq!(leaving.calls, []);
    assert!(leaving.told.contains(&Action::Exit));

    story.event(Event::Terminate(Parting::Stop));
    for name in ["app", "broker"] {
        let stop = Call::Stop {
            id: format!("id-{name}"),
            grace: Duration::from_secs(10),
        };
        assert!(!story.told.contains(&Action::Exit));
        assert_eq!(story.calls.len(), 1, "one after the other");
        story.answer(&stop, Ok(Outcome::Ended));
        let exited = seen(name, &format!("{name}-1"), SeenState::Exited { code: 0 });
        // The end is confirmed while the next one is stopped.
        let at = story.calls.iter().position(|(_, call)| *call == look(name));
        let (op, _) = story.calls.remove(at.expect("a look"));
        story.event(Event::Done(op, Ok(Outcome::Seen(vec![exited]))));
    }
    assert!(story.told.contains(&Action::Exit));
}

#[test]
fn a_spurious_wake_changes_nothing() {
    let mut story = healthy();
    let before = story.supervisor.view();
    for _ in 0..10 {
        story.event(Event::Tick);
    }
    assert_eq!(story.told, []);
    assert_eq!(story.supervisor.view(), before);
}

#[test]
fn a_reload_of_the_probe_restarts_nothing_and_asks_in_the_new_way() {
    let mut story = healthy();
    let mut other = desired("app", &[]);
    if let Healthcheck::Own(health) = &mut other.healthcheck {
        health.timing.interval = Duration::from_secs(3);
    }
    story.event(reload(vec![other]));
    story.live(Duration::from_secs(1), &pass());
    story.told.clear();
    story.live(Duration::from_secs(31), &pass());
    assert_eq!(story.calls, []);
    let next = story.supervisor.view().containers[0].next;
    assert!(next.is_some_and(|next| next - story.now <= Duration::from_secs(3)));
}

#[test]
fn a_changed_helper_leaves_the_main_container_alone() {
    let running =
        |name: &str, pid| seen(name, &format!("{name}-1"), SeenState::Running(process(pid)));
    let app = desired("app", &[("broker", Condition::Healthy)]);
    let mut story = Story::new(vec![desired("broker", &[]), app.clone()]);
    let both = vec![running("broker", 1), running("app", 2)];
    story.answer(&Call::Survey, Ok(Outcome::Seen(both)));
    story.live(Duration::from_secs(1), &pass());
    let mut broker = desired("broker", &[]);
    broker.hash = "broker-2".to_owned();
    story.event(reload(vec![broker, app]));
    story.answer(&image("broker"), has_image());
    let id = || "id-broker".to_owned();
    let grace = Duration::from_secs(10);
    story.answer(&Call::Stop { id: id(), grace }, Ok(Outcome::Ended));
    let exited = SeenState::Exited { code: 0 };
    story.answer(
        &look("broker"),
        Ok(Outcome::Seen(vec![seen("broker", "broker-1", exited)])),
    );
    story.answer(&Call::Remove { id: id() }, Ok(Outcome::Ended));
    let made = Outcome::Created {
        id: id(),
        hash: "broker-2".to_owned(),
        image_id: "sha256:1".to_owned(),
        image_health: None,
    };
    story.answer(&create("broker"), Ok(made));
    story.answer(&start("broker"), Ok(Outcome::Started(process(3))));
    story.live(Duration::from_secs(1), &pass());
    assert_eq!(story.calls, []);
    assert_eq!(story.supervisor.view().containers[1].pid, Some(2));
    assert_eq!(story.supervisor.verdict(), Verdict::Healthy);
}

#[test]
fn refused_files_are_told_until_a_good_reload() {
    let mut story = healthy();
    story.event(Event::ReloadRefused("line 3 is wrong".to_owned()));
    let view = story.supervisor.view();
    assert!(
        view.line.contains("refused: line 3 is wrong"),
        "{}",
        view.line
    );
    assert!(story.said(&Notify::Status(view.line)));
    assert_eq!(view.verdict, Verdict::Healthy);
    let policy = Policy {
        escalation: Escalation::default(),
        ready: Ready::Running,
        ..Policy::default()
    };
    // Newer images of the preload folder are no answer to it.
    story.event(reload(vec![desired("app", &[])]));
    assert!(story.supervisor.view().refused.is_some());
    story.event(configured(vec![desired("app", &[])], policy));
    assert_eq!(story.supervisor.view().refused, None);
    assert_eq!(story.supervisor.view().line, "Healthy: app healthy");
}

#[test]
fn a_policy_takes_effect_at_once() {
    let app = desired("app", &[]);
    let mut story = Story::new(vec![app]);
    story.answer(
        &Call::Survey,
        Ok(Outcome::Seen(vec![seen(
            "app",
            "app-1",
            SeenState::Running(process(7)),
        )])),
    );
    assert!(!story.said(&Notify::Ready));
    let policy = |ready| Policy {
        escalation: Escalation::default(),
        ready,
        ..Policy::default()
    };
    story.event(configured(
        vec![desired("app", &[])],
        policy(Ready::Running),
    ));
    assert!(story.said(&Notify::Ready));
}

#[test]
fn a_reboot_that_nobody_makes_ends_in_the_safe_state() {
    for taken in [Ok(()), Err("nobody".to_owned())] {
        let mut story = Story::with(vec![desired("app", &[])], None, Budgets::default());
        let escalation = Escalation {
            restarts: 0,
            recreates: 0,
            rebuilds: 0,
            reboot: true,
            ..Escalation::default()
        };
        let policy = Policy {
            escalation,
            ready: Ready::Healthy,
            ..Policy::default()
        };
        story.event(configured(vec![desired("app", &[])], policy));
        story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
        story.answer(&image("app"), Err(Fault::Refused("no".to_owned())));
        story.pass(Duration::from_secs(6));
        assert!(!asked_to_reboot(&story), "it is not on disk");
        story.event(Event::Persisted(Part::Budgets, Ok(())));
        assert!(asked_to_reboot(&story));
        assert_eq!(story.supervisor.rung(), Rung::Reboot);
        assert_eq!(story.supervisor.view().reboots, 1);
        let vain = taken.is_err();
        story.event(Event::Rescued(Rescue::Reboot, taken));
        if !vain {
            story.pass(Duration::from_secs(200));
            assert_eq!(story.supervisor.rung(), Rung::Reboot);
            story.pass(Duration::from_secs(101));
        }
        assert_eq!(story.supervisor.rung(), Rung::SafeState);
        assert_eq!(story.reports(ReportKind::RescueFailed), 1);
    }
}

/// A story in which a failure of `app`, whose image is refused, is about to be written as a reboot.
fn recording_a_reboot(desired: Vec<Desired>) -> Story {
    let mut story = Story::with(desired.clone(), None, Budgets::default());
    let escalation = Escalation {
        restarts: 0,
        recreates: 0,
        rebuilds: 0,
        reboot: true,
        ..Escalation::default()
    };
    let policy = Policy {
        escalation,
        ready: Ready::Healthy,
        ..Policy::default()
    };
    story.event(configured(desired, policy));
    story.answer(&Call::Survey, Ok(Outcome::Seen(Vec::new())));
    story.answer(&image("app"), Err(Fault::Refused("no".to_owned())));
    story.pass(Duration::from_secs(6));
    let writes = |action: &Action| matches!(action, Action::Persist(_));
    assert!(story.told.iter().any(writes));
    story
}

#[test]
fn whoever_is_told_to_end_does_not_reboot_the_node() {
    let mut story = recording_a_reboot(vec![desired("app", &[])]);
    story.event(Event::Terminate(Parting::Stop));
    story.event(Event::Persisted(Part::Budgets, Ok(())));
    assert!(!asked_to_reboot(&story));
}

#[test]
fn a_late_end_of_one_write_is_not_taken_for_anothers() {
    let mut story = recording_a_reboot(vec![desired("app", &[])]);
    story.pass(Duration::from_secs(61));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    story.event(Event::Restart(None));
    story.told.clear();
    story.answer(&image("app"), Err(Fault::Refused("no".to_owned())));
    story.pass(Duration::from_secs(700));
    let writes = |action: &Action| matches!(action, Action::Persist(_));
    assert!(!story.told.iter().any(writes), "the first one still lives");
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    story.event(Event::Persisted(Part::Budgets, Ok(())));
    assert!(!asked_to_reboot(&story));
    assert_eq!(story.supervisor.view().reboots, 1, "as it is on disk");
}

#[test]
fn a_reboot_that_an_earlier_daemon_asked_for_is_not_asked_for_again() {
    for (boot, rung) in [("this", Rung::Reboot), ("other", Rung::Foot)] {
        let budgets = Budgets {
            withheld: 0,
            reboots: Budgets::default()
                .reboots
                .one_more(boot, Time(Duration::from_secs(90))),
        };
        let mut story = Story::with(vec![desired("app", &[])], None, budgets);
        assert_eq!(story.supervisor.rung(), rung);
        if rung == Rung::Reboot {
            story.pass(Duration::from_secs(280));
            assert_eq!(story.supervisor.rung(), Rung::Reboot);
            story.pass(Duration::from_secs(11));
            assert_eq!(story.supervisor.rung(), Rung::SafeState);
        }
        assert!(!asked_to_reboot(&story));
    }
}

#[test]
fn a_restart_of_one_takes_nothing_back_that_is_due_to_another() {
    let mut story = recording_a_reboot(vec![desired("app", &[]), desired("other", &[])]);
    story.event(Event::Persisted(Part::Budgets, Err("disk full".to_owned())));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    story.event(Event::Restart(Some(role("other"))));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    story.event(Event::Restart(Some(role("app"))));
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}

#[test]
fn a_removed_container_takes_its_failures_along() {
    let mut story = healthy();
    // The one kind of failure that leaves it running: it does not become well.
    let bad = Answer::Fail("503".to_owned());
    story.live(Duration::from_secs(60), &bad);
    for _ in 0..3 {
        story.supervisor.strike(0, None);
    }
    story.pass(Duration::from_millis(1));
    story.told.clear();
    story.event(reload(vec![desired("other", &[])]));
    story.pass(Duration::from_secs(10));
    let writes = |action: &Action| matches!(action, Action::Persist(_));
    assert!(!story.told.iter().any(writes), "{:?}", story.told);
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}

#[test]
fn files_and_policy_are_in_force_at_the_same_time() {
    // The new container is not up yet: what ran before says nothing of it.
    let running = seen("app", "app-1", SeenState::Running(process(7)));
    let mut story = Story::new(vec![desired("app", &[])]);
    story.answer(&Call::Survey, Ok(Outcome::Seen(vec![running])));
    let policy = Policy {
        escalation: Escalation::default(),
        ready: Ready::Running,
        ..Policy::default()
    };
    let both = vec![desired("app", &[]), desired("new", &[])];
    story.event(configured(both, policy));
    assert!(!story.said(&Notify::Ready));

    // A budget that is lowered together with the container that has used it spends nothing.
    let mut story = healthy();
    story.live(Duration::from_secs(60), &Answer::Fail("503".to_owned()));
    assert_eq!(story.supervisor.rung(), Rung::Restart);
    story.told.clear();
    let escalation = Escalation {
        restarts: 0,
        recreates: 0,
        rebuilds: 0,
        ..Escalation::default()
    };
    let mut other = desired("app", &[]);
    other.hash = "app-2".to_owned();
    let policy = Policy {
        escalation,
        ready: Ready::Healthy,
        ..Policy::default()
    };
    story.event(configured(vec![other], policy));
    let writes = |action: &Action| matches!(action, Action::Persist(_));
    assert!(!story.told.iter().any(writes), "{:?}", story.told);
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}

#[test]
fn a_reload_that_changes_nothing_mends_nothing() {
    let mut story = recording_a_reboot(vec![desired("app", &[]), desired("other", &[])]);
    story.event(Event::Persisted(Part::Budgets, Err("disk full".to_owned())));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    let now = story.supervisor.config.escalation.clone();
    let same = |escalation: &Escalation| Policy {
        escalation: escalation.clone(),
        ready: Ready::Healthy,
        ..Policy::default()
    };
    let both = || vec![desired("app", &[]), desired("other", &[])];
    story.event(configured(both(), same(&now)));
    assert_eq!(story.supervisor.rung(), Rung::SafeState);
    let mut other = desired("other", &[]);
    other.hash = "other-2".to_owned();
    story.event(configured(vec![desired("app", &[]), other], same(&now)));
    assert_eq!(story.supervisor.rung(), Rung::SafeState, "app is as it was");
    let mut app = desired("app", &[]);
    app.hash = "app-2".to_owned();
    story.event(configured(vec![app, desired("other", &[])], same(&now)));
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}

fn asked_to_reboot(story: &Story) -> bool {
    let asked = |action: &Action| matches!(action, Action::Rescue(Rescue::Reboot, _));
    story.told.iter().any(asked)
}

#[test]
fn what_could_not_be_removed_is_not_the_next_releases_failure() {
    let left = || seen("old", "old-1", SeenState::Exited { code: 0 });
    let mut story = Story::new(vec![]);
    for _ in 0..100 {
        if story.supervisor.exhausted().is_some() {
            break;
        }
        story.now = story.now + Duration::from_secs(400);
        story.event(Event::Tick);
        for (op, call) in std::mem::take(&mut story.calls) {
            let result = match call {
                Call::Remove { .. } => Err(Fault::Refused("device busy".to_owned())),
                _ => Ok(Outcome::Seen(vec![left()])),
            };
            story.event(Event::Done(op, result));
        }
    }
    assert!(story.supervisor.exhausted().is_some());
    story
        .supervisor
        .switch(story.now, vec![desired("app", &[])], true);
    assert_eq!(story.supervisor.exhausted(), None);
}
