//! Stories of the rung that rebuilds an image.

use super::*;

fn verify(name: &str) -> Call {
    Call::Verify { role: role(name) }
}

fn rebuild(name: &str) -> Call {
    rebuild_with(name, &[])
}

fn rebuild_with(name: &str, along: &[&str]) -> Call {
    Call::Rebuild {
        role: role(name),
        along: along.iter().map(ToString::to_string).collect(),
    }
}

fn remove(name: &str) -> Call {
    Call::Remove {
        id: format!("id-{name}"),
    }
}

fn whole() -> Result<Outcome, Fault> {
    shared_with(&[])
}

/// The store has it whole, and these images have layers of it: by ID, whether the store has them, and whether a
/// stranger's container is made from them.
fn shared_with(sharers: &[(&str, bool, bool)]) -> Result<Outcome, Fault> {
    let sharers = sharers.iter().map(|(id, stored, foreign)| Sharer {
        id: (*id).to_owned(),
        stored: *stored,
        foreign: *foreign,
    });
    Ok(Outcome::Whole {
        id: "sha256:1".to_owned(),
        sharers: sharers.collect(),
    })
}

fn lacking() -> Result<Outcome, Fault> {
    Err(Fault::ImageMissing("the store has it not".to_owned()))
}

fn exited(name: &str) -> Seen {
    seen(name, &format!("{name}-1"), SeenState::Exited { code: 1 })
}

/// A story whose ladder has one rung below the withheld watchdog: a rebuild. `app` has just died of its image;
/// what else there is runs.
fn damaged(others: &[&str]) -> Story {
    let mut all = vec![desired("app", &[])];
    all.extend(others.iter().map(|name| desired(name, &[])));
    let mut story = Story::new(all.clone());
    let policy = Policy {
        escalation: Escalation {
            restarts: 0,
            recreates: 0,
            rebuilds: 1,
            ..Escalation::default()
        },
        ready: Ready::Healthy,
        ..Policy::default()
    };
    story.event(configured(all, policy));
    let mut there: Vec<Seen> = (0..)
        .zip(others)
        .map(|(nth, name)| {
            let running = SeenState::Running(process(20 + nth));
            seen(name, &format!("{name}-1"), running)
        })
        .collect();
    there.push(seen("app", "app-1", SeenState::Running(process(7))));
    story.answer(&Call::Survey, Ok(Outcome::Seen(there)));
    story.live(Duration::from_secs(1), &pass());
    story.told.clear();
    let pid = 7;
    let role = role("app");
    story.event(Event::Died { role, pid });
    story.answer(&look("app"), Ok(Outcome::Seen(vec![exited("app")])));
    assert_eq!(story.supervisor.rung(), Rung::Rebuild);
    assert_eq!(story.reports(ReportKind::Rebuilding), 1);
    story.wait_for_call();
    story
}

#[test]
fn nothing_is_removed_before_the_store_has_the_image_whole() {
    let mut story = damaged(&[]);
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), Ok(Outcome::Ended));
    story.answer(&rebuild("app"), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    story.live(Duration::from_secs(700), &pass());
    assert_eq!(story.supervisor.rung(), Rung::Foot);
    assert_eq!(story.reports(ReportKind::Rebuilt), 1);
    assert_eq!(story.reports(ReportKind::WatchdogWithheld), 0);
}

#[test]
fn a_store_that_lacks_the_image_is_stepped_over_and_the_old_way_tried() {
    for fault in [
        Fault::ImageMissing("it has dropped the layers".to_owned()),
        Fault::Refused("another container is made from it".to_owned()),
        Fault::NotFound("no such store".to_owned()),
    ] {
        let mut story = damaged(&[]);
        story.answer(&verify("app"), Err(fault));
        // As a recreation goes: with what the engine has.
        story.answer(&image("app"), has_image());
        story.answer(&remove("app"), Ok(Outcome::Ended));
        story.answer(&create("app"), created("app"));
        story.answer(&start("app"), Ok(Outcome::Started(process(8))));
        assert_eq!(story.reports(ReportKind::Rebuilt), 0);
        story.event(Event::Died {
            role: role("app"),
            pid: 8,
        });
        story.answer(&look("app"), Ok(Outcome::Seen(vec![exited("app")])));
        story.pass(Duration::from_secs(6));
        assert_eq!(story.reports(ReportKind::Rebuilding), 1, "no second one");
        let spent = Action::Persist(Entry::Budgets(Budgets {
            withheld: 1,
            ..Budgets::default()
        }));
        assert!(story.told.contains(&spent), "the next rung is the next");
    }
}

#[test]
fn a_rebuild_that_fails_is_a_failure_like_others() {
    let mut story = damaged(&[]);
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), Ok(Outcome::Ended));
    let refused = Err(Fault::Refused("server error".to_owned()));
    story.answer(&rebuild("app"), refused);
    story.wait_for_call();
    // Whatever of it was done, the image is asked for as ever.
    story.answer(&image("app"), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
}

#[test]
fn an_image_that_went_and_cannot_come_is_waited_for() {
    let mut story = damaged(&[]);
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), Ok(Outcome::Ended));
    story.answer(&rebuild("app"), lacking());
    assert_eq!(story.reports(ReportKind::ImageMissing), 1);
    story.event(Event::StoreChanged);
    story.answer(&image("app"), has_image());
    story.answer(&create("app"), created("app"));
}

#[test]
fn silence_in_a_rebuild_says_nothing_and_it_is_done_again() {
    let silence = || Err(Fault::NoAnswer("timed out".to_owned()));
    let mut story = damaged(&[]);
    // Later than what an engine that stops takes along.
    story.pass(Duration::from_secs(6));
    story.answer(&verify("app"), silence());
    story.wait_for_call();
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), silence());
    story.wait_for_call();
    story.answer(&look("app"), Ok(Outcome::Seen(vec![exited("app")])));
    story.answer(&remove("app"), Ok(Outcome::Ended));
    // An engine that looks and never does is not waited for without end.
    let mut tries = 0;
    loop {
        let next = story.calls.first().map(|(_, call)| call.clone());
        if next == Some(rebuild("app")) {
            tries += 1;
            story.answer(&rebuild("app"), silence());
        } else if next == Some(look("app")) {
            story.answer(&look("app"), Ok(Outcome::Seen(Vec::new())));
        } else {
            break;
        }
        story.wait_for_call();
    }
    assert!((4..=6).contains(&tries), "{tries}");
    story.answer(&image("app"), has_image());
    story.answer(&create("app"), created("app"));
}

#[test]
fn a_store_that_hangs_is_not_the_engines_silence() {
    let mut story = damaged(&[]);
    let (op, _) = story.calls.remove(0);
    story.pass(Duration::from_secs(170));
    story.event(Event::Progress(op));
    story.pass(Duration::from_secs(170));
    assert_eq!(story.calls, [], "it moves, and is waited for");
    story.pass(Duration::from_secs(20));
    assert!(story.told.contains(&Action::Abandon(op)));
    assert_eq!(story.reports(ReportKind::EngineSilent), 0);
    story.answer(&image("app"), has_image());
    story.answer(&remove("app"), Ok(Outcome::Ended));
}

#[test]
fn containers_of_the_same_image_make_room() {
    let mut story = damaged(&["other"]);
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), Ok(Outcome::Ended));
    let id = "id-other".to_owned();
    let grace = Duration::from_secs(10);
    story.answer(&Call::Stop { id, grace }, Ok(Outcome::Ended));
    story.answer(&look("other"), Ok(Outcome::Seen(vec![exited("other")])));
    story.answer(&remove("other"), Ok(Outcome::Ended));
    // Neither is made while the image is on its way.
    assert_eq!(story.calls.len(), 1);
    story.answer(&rebuild("app"), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&image("other"), has_image());
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    story.answer(&create("other"), created("other"));
    story.answer(&start("other"), Ok(Outcome::Started(process(9))));
    story.live(Duration::from_secs(2), &pass());
    assert_eq!(story.supervisor.verdict(), Verdict::Healthy);
    assert_eq!(story.reports(ReportKind::Restarting), 0);
}

#[test]
fn images_that_share_layers_go_along_if_they_come_again() {
    let mut story = damaged(&[]);
    let sharers = [
        ("sha256:2", true, false),
        ("sha256:3", false, false),
        ("sha256:4", true, true),
    ];
    story.answer(&verify("app"), shared_with(&sharers));
    story.answer(&remove("app"), Ok(Outcome::Ended));
    story.answer(&rebuild_with("app", &["sha256:2"]), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    // No further attempt follows from what cannot go along.
    story.event(Event::Died {
        role: role("app"),
        pid: 8,
    });
    story.answer(&look("app"), Ok(Outcome::Seen(vec![exited("app")])));
    assert_eq!(story.reports(ReportKind::Rebuilding), 1);
}

/// `app` is made from image 1, and `other` from image 2; both share layers.
fn damaged_base() -> Story {
    let mut story = damaged(&[]);
    let mut other = desired("other", &[]);
    other.image_id = Some("sha256:2".to_owned());
    story.event(reload(vec![desired("app", &[]), other]));
    let (op, call) = story.calls.remove(1);
    assert_eq!(call, look("other"));
    let mut there = seen("other", "other-1", SeenState::Running(process(20)));
    there.image_id = "sha256:2".to_owned();
    story.event(Event::Done(op, Ok(Outcome::Seen(vec![there]))));
    story.live(Duration::from_secs(1), &pass());
    story
}

#[test]
fn another_container_stops_for_shared_layers_only_when_the_first_attempt_has_not_helped() {
    let mut story = damaged_base();
    let sharers = [("sha256:2", true, false), ("sha256:5", true, false)];
    story.answer(&verify("app"), shared_with(&sharers));
    story.answer(&remove("app"), Ok(Outcome::Ended));
    story.answer(&rebuild_with("app", &["sha256:5"]), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    story.live(Duration::from_secs(7), &pass());
    assert_eq!(story.calls, [], "the other one runs on");
    story.event(Event::Died {
        role: role("app"),
        pid: 8,
    });
    story.answer(&look("app"), Ok(Outcome::Seen(vec![exited("app")])));
    assert_eq!(story.supervisor.rung(), Rung::Rebuild);
    assert_eq!(story.reports(ReportKind::Rebuilding), 2, "one more of it");
    story.wait_for_call();
    story.answer(&verify("app"), shared_with(&sharers));
    story.answer(&remove("app"), Ok(Outcome::Ended));
    let id = "id-other".to_owned();
    let grace = Duration::from_secs(10);
    story.answer(&Call::Stop { id, grace }, Ok(Outcome::Ended));
    let mut gone = exited("other");
    gone.image_id = "sha256:2".to_owned();
    story.answer(&look("other"), Ok(Outcome::Seen(vec![gone])));
    story.answer(&remove("other"), Ok(Outcome::Ended));
    assert_eq!(story.calls.len(), 1, "neither is made in between");
    let both = ["sha256:2", "sha256:5"];
    story.answer(&rebuild_with("app", &both), has_image());
    story.answer(&create("app"), created("app"));
    let id = "sha256:2".to_owned();
    story.answer(&image("other"), Ok(Outcome::Image { id }));
    story.answer(&start("app"), Ok(Outcome::Started(process(9))));
    story.answer(
        &create_from("other", "sha256:2"),
        Ok(Outcome::Created {
            id: "id-other".to_owned(),
            hash: "other-1".to_owned(),
            image_id: "sha256:2".to_owned(),
            image_health: None,
        }),
    );
    story.answer(&start("other"), Ok(Outcome::Started(process(21))));
    story.live(Duration::from_secs(700), &pass());
    assert_eq!(story.supervisor.rung(), Rung::Foot);
    assert_eq!(story.reports(ReportKind::WatchdogWithheld), 0);
    let records = story.supervisor.recorded.containers.values();
    assert!(records.into_iter().all(|record| !record.spared));
}

#[test]
fn a_container_that_does_not_make_room_ends_the_rebuild() {
    let mut story = damaged(&["other"]);
    story.answer(&verify("app"), whole());
    story.answer(&remove("app"), Ok(Outcome::Ended));
    let id = "id-other".to_owned();
    let grace = Duration::from_secs(10);
    let refused = Err(Fault::Refused("it cannot be killed".to_owned()));
    story.answer(&Call::Stop { id, grace }, refused);
    // Without the rebuild, and without delay.
    story.answer(&image("app"), has_image());
    story.answer(&create("app"), created("app"));
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    story.live(Duration::from_secs(20), &pass());
    assert_eq!(story.calls, [], "the other one may run on");
    assert_eq!(story.supervisor.verdict(), Verdict::Healthy);
}

#[test]
fn damage_in_the_store_is_told_once_and_the_preload_folder_searched_once() {
    let mut story = damaged(&[]);
    let line = || vec!["image app is damaged".to_owned()];
    let searched = |story: &Story| {
        let told = story.told.iter();
        told.filter(|action| **action == Action::Preload).count()
    };
    story.event(Event::StoreDamaged(line()));
    story.answer(&verify("app"), lacking());
    assert_eq!(searched(&story), 1);
    assert_eq!(story.reports(ReportKind::StoreDamaged), 1);
    assert!(story.supervisor.view().line.contains("app is damaged"));
    assert_eq!(story.calls, [], "its archive may be on its way");
    // It came, and is damaged again: then that is that.
    story.event(Event::StoreDamaged(Vec::new()));
    story.event(Event::PreloadDone);
    story.event(Event::StoreDamaged(line()));
    assert_eq!(searched(&story), 1);
    assert_eq!(story.reports(ReportKind::StoreDamaged), 2);
    story.answer(&verify("app"), lacking());
    story.answer(&image("app"), has_image());
    story.answer(&remove("app"), Ok(Outcome::Ended));
}

#[test]
fn damage_that_shows_while_the_preload_folder_is_searched_has_it_searched_again() {
    let mut story = damaged(&[]);
    story.event(Event::StoreDamaged(vec!["one".to_owned()]));
    story.event(Event::StoreDamaged(vec![
        "one".to_owned(),
        "two".to_owned(),
    ]));
    let searched = |story: &Story| {
        let told = story.told.iter();
        told.filter(|action| **action == Action::Preload).count()
    };
    assert_eq!(searched(&story), 1);
    story.event(Event::PreloadDone);
    assert_eq!(searched(&story), 2);
    story.event(Event::PreloadDone);
    assert_eq!(searched(&story), 2);
    story.answer(&verify("app"), lacking());
    story.answer(&image("app"), has_image());
}

#[test]
fn roots_hand_and_other_files_end_a_rebuild() {
    let mut story = damaged(&[]);
    let mut other = desired("app", &[]);
    other.hash = "app-2".to_owned();
    story.event(reload(vec![other]));
    let (op, _) = story.calls.remove(0);
    assert!(story.told.contains(&Action::Abandon(op)));
    story.answer(&image("app"), has_image());
    story.answer(&remove("app"), Ok(Outcome::Ended));

    let mut story = damaged(&[]);
    story.event(Event::Restart(None));
    story.answer(&verify("app"), whole());
    story.answer(&start("app"), Ok(Outcome::Started(process(8))));
    story.live(Duration::from_secs(2), &pass());
    assert_eq!(story.supervisor.rung(), Rung::Foot);
}
