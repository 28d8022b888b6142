//! The way back, by itself and by hand.

use super::*;

#[test]
fn volumes_are_copied_before_and_put_back_after() {
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").volumes = true;
    story.offer(2).expect("taken");
    assert_eq!(story.ran, [Some(id(1)), None, Some(id(2))]);
    assert!(story.book().trial.as_ref().expect("a trial").snapshot);
    story.pass(Duration::from_secs(600));
    assert_eq!(story.asked.last(), Some(&"restore"));
    assert_eq!(story.ran[3..], [None, Some(id(1))]);
    assert!(story.book().rejected(&id(2)).is_some());
    // Copies that cannot be made: what was there comes back, and nothing was tried.
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").volumes = true;
    story.copied = Err("too large".to_owned());
    story.offer(2).expect("taken");
    assert_eq!(story.ran, [Some(id(1)), None, Some(id(1))]);
    assert!(story.book().trial.is_none());
}

#[test]
fn a_daemon_that_died_while_volumes_were_put_back_goes_on() {
    let book = Book {
        current: Some(id(1)),
        trial: Some(TrialRecord {
            release: id(2),
            signed: None,
            deaths: 0,
            snapshot: true,
            reverting: Some("it failed".to_owned()),
        }),
        ..Book::default()
    };
    let mut story = Story::with(book.at_start(false, 3));
    story.event(Event::Tick);
    assert_eq!(story.asked.len(), 0, "containers are still there");
    story.empty = true;
    story.event(Event::Tick);
    assert_eq!(story.asked, ["restore"]);
    assert_eq!(story.runs(), Some(&id(1)));
    assert_eq!(story.book().rejected(&id(2)), Some("it failed"));
}

#[test]
fn by_hand_one_goes_back_and_the_one_before_is_on_trial() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.ask(Ask::RollBack).expect("in the trial");
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(story.ask(Ask::RollBack).is_err(), "nothing before that");
    story.ask(Ask::Retry(id(2))).expect("again");
    story.healthy().pass(Duration::from_secs(60));
    story.gates.window = Some(Duration::from_secs(60));
    story.staged.as_mut().expect("staged").hook = true;
    story.ask(Ask::RollBack).expect("after the commit");
    assert_eq!(
        story.runs(),
        Some(&id(1)),
        "nothing stands in the way of that"
    );
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.book().current, Some(id(1)));
    assert!(story.offer(2).is_err(), "it is not taken again by itself");
}

#[test]
fn a_release_before_that_cannot_be_read_is_passed_over() {
    let mut story = Story::after(9, 1);
    story.offer(2).expect("taken");
    story.loads = Err("damaged".to_owned());
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    story.pass(Duration::from_secs(7));
    story.loads = Ok(());
    story.pass(Duration::from_secs(5));
    let runs = story.runs().cloned().expect("something runs");
    assert_eq!(story.update.book().current, Some(runs));
    assert_eq!(story.update.book().trial, None);
}

#[test]
fn volumes_that_are_put_back_for_the_second_time_are_not_there_when_the_first_answers() {
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").volumes = true;
    story.offer(2).expect("taken");
    story.open = Some(Vec::new());
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    // Half an hour without an answer, and once more.
    story.pass(Duration::from_secs(2000));
    let open = story.open.take().unwrap_or_default();
    let [Action::Restore(first, _), Action::Restore(second, _)] = open[..] else {
        panic!("{open:?}");
    };
    story.event(Event::Restored(first, Ok(())));
    assert_eq!(story.runs(), None, "they are being written");
    story.event(Event::Restored(second, Ok(())));
    assert_eq!(story.runs(), Some(&id(1)));
}

#[test]
fn back_by_hand_while_the_commit_is_being_written() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.healthy();
    story.disk_hangs = true;
    story.pass(Duration::from_secs(60));
    story.ask(Ask::RollBack).expect("there is one before");
    story.disk_hangs = false;
    story.event(Event::Persisted(Part::Book, Ok(())));
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(story.book().rejected(&id(2)).is_some());
    assert!(!story.told.contains(&ReportKind::GivenUp));
}

#[test]
fn back_by_hand_just_before_the_trial_is_about_the_release_to_be_tried() {
    let mut story = waiting(false);
    story.pass(Duration::from_secs(30));
    story.ask(Ask::RollBack).expect("it is about to be tried");
    story.disk_hangs = false;
    story.event(Event::Persisted(Part::Book, Ok(())));
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(story.book().rejected(&id(2)).is_some());
    assert_eq!(story.book().rejected(&id(1)), None);
    assert_eq!(story.book().trial, None);
}

#[test]
fn back_by_hand_on_the_way_back_is_nothing_new() {
    let mut story = Story::after(9, 1);
    story.offer(2).expect("taken");
    story.disk_hangs = true;
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    story.ask(Ask::RollBack).expect("that is being done");
    assert_eq!(story.update.book().rejected(&id(1)), None);
    assert_eq!(story.update.book().next, None);
}

#[test]
fn a_way_back_that_cannot_be_gone_bars_no_update() {
    let mut story = Story::after(1, 2);
    let good = story.staged.clone();
    story.staged = Err(NotNow::Later("its images are gone".to_owned()));
    story.ask(Ask::RollBack).expect("there is one before");
    story.pass(Duration::from_secs(20));
    assert_eq!(story.runs(), Some(&id(2)));
    story.staged = good;
    story.offer(3).expect("what mends it all");
    assert_eq!(story.runs(), Some(&id(3)));
    // And it comes to an end.
    let mut story = Story::after(1, 2);
    story.staged = Err(NotNow::Later("its images are gone".to_owned()));
    story.ask(Ask::RollBack).expect("there is one before");
    story.pass(Duration::from_secs(3600));
    assert_eq!(story.runs(), Some(&id(2)));
    assert_eq!(story.told.last(), Some(&ReportKind::GivenUp));
    assert_eq!(
        (&story.book().next, story.book().rejected.len()),
        (&None, 0)
    );
}

#[test]
fn copies_that_do_not_end_bar_no_way_back() {
    let mut story = Story::after(1, 2);
    story.open = Some(Vec::new());
    story.ask(Ask::RollBack).expect("there is one before");
    let open = story.open.take().unwrap_or_default();
    let [Action::Stage(task, _)] = open[..] else {
        panic!("{open:?}");
    };
    let mut staged = story.staged.clone();
    staged.as_mut().expect("staged").volumes = true;
    story.open = Some(Vec::new());
    story.event(Event::Staged(task, staged));
    story.pass(Duration::from_secs(1900));
    assert_eq!(story.runs(), Some(&id(1)));
    assert_eq!(story.update.book().rejected(&id(1)), None);
}

#[test]
fn a_release_whose_reading_hangs_is_passed_over() {
    let mut story = Story::after(9, 1);
    story.offer(2).expect("taken");
    story.open = Some(Vec::new());
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    story.pass(Duration::from_secs(300));
    let open = story.open.take().unwrap_or_default();
    let read: Vec<&ReleaseId> = open
        .iter()
        .filter_map(|action| match action {
            Action::Load(_, release) => Some(release),
            _ => None,
        })
        .collect();
    assert_eq!(read, [&id(1), &id(1), &id(9)]);
}

#[test]
fn where_no_release_can_be_read_it_is_tried_ever_more_rarely_and_at_once_when_something_comes() {
    let mut story = Story::after(9, 1);
    story.offer(2).expect("taken");
    story.loads = Err("damaged".to_owned());
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    story.pass(Duration::from_secs(3600));
    let (loads, told) = (story.loaded, story.told.len());
    story.pass(Duration::from_secs(24 * 3600));
    let a_day = story.loaded - loads;
    assert!((100..=150).contains(&a_day), "{a_day}");
    assert_eq!(story.told.len(), told, "{:?}", story.told);
    let _ = story.ask(Ask::Offer {
        release: id(1),
        origin: bundle(1),
        wish: Wish::Take,
        downgrade: false,
    });
    assert_eq!(story.loaded - loads, a_day + 1);
    story.loads = Ok(());
    story.event(Event::StoreChanged);
    assert!(story.runs().is_some());
}
