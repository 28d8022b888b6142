//! A ledger that cannot be written, or hangs.

use super::*;

#[test]
fn no_trial_begins_that_is_not_on_disk() {
    let mut story = Story::new();
    story.disk = Err("read-only".to_owned());
    story.offer(2).expect("taken");
    story.pass(Duration::from_secs(1800));
    assert_eq!(story.ran.len(), 1);
    story.disk = Ok(());
    story.pass(Duration::from_secs(7200));
    assert!(
        story.ran.contains(&Some(id(2))),
        "it is tried when it can be"
    );
}

#[test]
fn a_node_whose_ledger_fails_in_the_trial_goes_back_all_the_same() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.disk = Err("read-only".to_owned());
    story.pass(Duration::from_secs(900));
    assert_eq!(story.runs(), Some(&id(1)));
}

#[test]
fn a_ledger_that_hangs_does_not_leave_a_node_without_containers() {
    let mut story = waiting(true);
    story.disk_hangs = false;
    story.open = Some(Vec::new());
    story.pass(Duration::from_secs(30));
    let open = story.open.replace(Vec::new()).unwrap_or_default();
    let [Action::LookAtGates(task, _)] = open[..] else {
        panic!("{open:?}");
    };
    story.event(Event::Gates(task, Gates::default()));
    assert_eq!(story.runs(), None, "{:?}", story.ran);
    let open = story.open.take().unwrap_or_default();
    let [Action::Snapshot(task, _)] = open[..] else {
        panic!("{open:?}");
    };
    story.disk_hangs = true;
    story.event(Event::Snapshotted(task, Ok(())));
    assert_eq!(story.runs(), None, "{:?}", story.ran);
    story.pass(Duration::from_secs(90));
    assert_eq!(story.runs(), Some(&id(1)));
}

#[test]
fn what_may_end_the_node_is_not_begun_before_it_is_on_record() {
    let mut story = waiting(true);
    story.gates.lock_file = true;
    // Its end is told by nobody, so there is no other write.
    story.ask(Ask::Pin(id(1), true)).expect("pinned");
    story.pass(Duration::from_secs(90));
    story.gates.lock_file = false;
    story.pass(Duration::from_secs(30));
    story.pass(Duration::from_secs(90));
    assert_eq!(story.ran, [Some(id(1))]);
    assert!(!story.book().next.as_ref().expect("it waits").begun);

    let mut story = Story::new();
    let staged = story.staged.as_mut().expect("staged");
    (staged.hook, staged.volumes) = (true, true);
    story.open = Some(Vec::new());
    story.offer(2).expect("taken");
    while let Some(action) = story.open.as_mut().and_then(Vec::pop) {
        let on_disk = story.books.last().and_then(|book| book.next.as_ref());
        let begun = on_disk.is_some_and(|next| next.begun);
        let event = match action {
            Action::Stage(task, _) => Event::Staged(task, story.staged.clone()),
            Action::LookAtGates(task, _) => Event::Gates(task, Gates::default()),
            Action::Hook(task, _) => {
                assert!(begun);
                Event::Hooked(task, Ok(()))
            }
            Action::Snapshot(task, _) => {
                assert!(begun);
                Event::Snapshotted(task, Ok(()))
            }
            other => panic!("{other:?}"),
        };
        story.event(event);
    }
    assert_eq!(story.runs(), Some(&id(2)));
    assert_eq!(story.books.last().expect("it is on trial").next, None);
}

#[test]
fn by_hand_one_goes_back_though_the_ledger_cannot_be_written() {
    for hangs in [false, true] {
        let mut story = Story::after(1, 2);
        story.disk = Err("read-only".to_owned());
        story.disk_hangs = hangs;
        story.ask(Ask::RollBack).expect("there is one before");
        story.pass(Duration::from_secs(200));
        assert_eq!(story.runs(), Some(&id(1)), "hangs: {hangs}");
    }
    // So one does while the commit cannot be written.
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.disk = Err("full".to_owned());
    story.healthy().pass(Duration::from_secs(60));
    assert!(
        !story.told.contains(&ReportKind::Committed),
        "{:?}",
        story.told
    );
    story.ask(Ask::RollBack).expect("there is one before");
    story.pass(Duration::from_secs(200));
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(
        !story.told.contains(&ReportKind::Committed),
        "{:?}",
        story.told
    );
}
