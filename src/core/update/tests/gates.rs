//! What stands between a staged release and its trial.

use super::*;

#[test]
fn what_stands_in_the_way_is_waited_for() {
    let window = Gates {
        window: Some(Duration::from_secs(600)),
        ..Gates::default()
    };
    let hold_file = Gates {
        hold_file: true,
        ..Gates::default()
    };
    let lock_file = Gates {
        lock_file: true,
        ..Gates::default()
    };
    for (gates, by_hand) in [(window, true), (hold_file, true), (lock_file, false)] {
        let mut story = Story::new();
        story.gates = gates.clone();
        story.offer(2).expect("taken");
        story.pass(Duration::from_secs(300));
        assert_eq!(story.runs(), Some(&id(1)), "{gates:?}");
        let ask = Ask::Activate {
            release: None,
            force: false,
        };
        story.ask(ask).expect("it waits");
        assert_eq!(story.runs() == Some(&id(2)), by_hand, "{gates:?}");
        let ask = Ask::Activate {
            release: None,
            force: true,
        };
        let _ = story.ask(ask);
        assert_eq!(story.runs(), Some(&id(2)), "{gates:?}");
    }
    let mut story = Story::new();
    story.gates.lock_file = true;
    story.offer(2).expect("taken");
    story.gates.lock_file = false;
    story.pass(Duration::from_secs(30));
    assert_eq!(story.runs(), Some(&id(2)), "it goes on by itself");
}

#[test]
fn a_busy_app_is_waited_for_until_it_says_or_ends() {
    let app = Role::new("app");
    let busy = |busy| Event::App(Role::new("app"), AppNote::Busy(busy));
    let died = Event::Died {
        role: app.clone(),
        pid: 7,
    };
    for end in [busy(false), died] {
        let mut story = Story::new();
        story.event(busy(true));
        story.offer(2).expect("taken");
        story.pass(Duration::from_secs(86_400));
        assert_eq!(story.runs(), Some(&id(1)));
        assert!(story.update.locks().contains(&app));
        story.event(end);
        assert_eq!(story.runs(), Some(&id(2)));
    }
}

#[test]
fn hold_and_manual_wait_for_a_word() {
    let mut story = Story::new();
    story.ask(Ask::Hold(true)).expect("held");
    story.offer(2).expect("taken");
    story.pass(Duration::from_secs(86_400));
    assert_eq!(story.runs(), Some(&id(1)));
    story.ask(Ask::Hold(false)).expect("free");
    assert_eq!(story.runs(), Some(&id(2)));
    story.healthy().pass(Duration::from_secs(60));
    let ask = Ask::Offer {
        release: id(3),
        origin: bundle(3),
        wish: Wish::Stage,
        downgrade: false,
    };
    story.ask(ask).expect("staged");
    story.pass(Duration::from_secs(86_400));
    // Whatever brings it again does not activate it.
    story.offer(3).expect("known");
    story.pass(Duration::from_secs(86_400));
    assert_eq!(story.runs(), Some(&id(2)));
    let ask = Ask::Activate {
        release: Some(id(3)),
        force: false,
    };
    story.ask(ask).expect("activated");
    assert_eq!(story.runs(), Some(&id(3)));
}

#[test]
fn a_hook_says_yes_later_or_never() {
    let hooked = |hook| {
        let mut story = Story::new();
        story.staged.as_mut().expect("staged").hook = true;
        story.hook = hook;
        story.offer(2).expect("taken");
        story
    };
    assert_eq!(hooked(Ok(())).runs(), Some(&id(2)));
    let mut later = hooked(Err(NotNow::Later("low battery".to_owned())));
    later.pass(Duration::from_secs(299));
    assert_eq!(later.runs(), Some(&id(1)));
    later.hook = Ok(());
    later.pass(Duration::from_secs(1));
    assert_eq!(later.runs(), Some(&id(2)));
    let mut never = hooked(Err(NotNow::Never("exit 1".to_owned())));
    never.pass(Duration::from_secs(86_400));
    assert_eq!(never.runs(), Some(&id(1)));
    assert!(never.book().rejected(&id(2)).is_some());
}

#[test]
fn what_its_hook_has_put_off_is_not_counted_and_put_off_longer_each_time() {
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").hook = true;
    story.hook = Err(NotNow::Later("low battery".to_owned()));
    story.offer(2).expect("taken");
    for (nth, minutes) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
        assert!(!story.book().next.as_ref().expect("it waits").begun);
        let asked = |story: &Story| story.asked.iter().filter(|what| **what == "hook").count();
        assert_eq!(asked(&story), nth);
        story.pass(Duration::from_secs(60 * minutes - 1));
        assert_eq!(asked(&story), nth, "{minutes} min");
        story.pass(Duration::from_secs(1));
        assert_eq!(asked(&story), nth + 1, "{minutes} min");
    }
}

#[test]
fn what_comes_in_the_way_during_a_look_counts() {
    let mut story = Story::new();
    story.gates.window = Some(Duration::from_secs(600));
    story.offer(2).expect("taken");
    story.ask(Ask::Hold(true)).expect("held");
    story.event(Event::Gates(TaskId(2), Gates::default()));
    assert_eq!(story.runs(), Some(&id(1)));
}

#[test]
fn a_key_that_is_revoked_while_its_release_waits_counts() {
    for force in [false, true] {
        let mut story = Story::new();
        story.gates.lock_file = true;
        story.offer(2).expect("taken");
        story.gates.lock_file = false;
        story.gates.trusted = Err(NotNow::Never("its key was revoked".to_owned()));
        let release = None;
        story
            .ask(Ask::Activate { release, force })
            .expect("it waits");
        assert_eq!(story.ran, [Some(id(1))], "force: {force}");
        assert_eq!(story.book().rejected(&id(2)), Some("its key was revoked"));
    }
}

#[test]
fn a_word_that_is_said_while_the_hook_runs_counts() {
    let busy = Event::App(Role::new("app"), AppNote::Busy(true));
    for hold in [true, false] {
        let mut story = Story::new();
        let mut staged = story.staged.clone();
        staged.as_mut().expect("staged").hook = true;
        story.staged = staged;
        story.gates.lock_file = true;
        story.offer(2).expect("taken");
        story.gates.lock_file = false;
        story.open = Some(Vec::new());
        story.pass(Duration::from_secs(30));
        let open = story.open.replace(Vec::new()).unwrap_or_default();
        let [Action::LookAtGates(task, _)] = open[..] else {
            panic!("{open:?}");
        };
        story.event(Event::Gates(task, Gates::default()));
        let open = story.open.take().unwrap_or_default();
        let [Action::Hook(task, _)] = open[..] else {
            panic!("{open:?}");
        };
        if hold {
            story.ask(Ask::Hold(true)).expect("held");
        } else {
            story.event(busy.clone());
        }
        story.event(Event::Hooked(task, Ok(())));
        assert_eq!(story.runs(), Some(&id(1)), "hold: {hold}");
        story.ask(Ask::Hold(false)).expect("free");
        story.event(Event::App(Role::new("app"), AppNote::Busy(false)));
        assert_eq!(story.runs(), Some(&id(2)), "hold: {hold}");
    }
}

#[test]
fn a_word_that_is_said_while_its_beginning_is_written_down_counts() {
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").volumes = true;
    story.gates.window = Some(Duration::from_secs(600));
    story.offer(2).expect("taken");
    story.gates.window = None;
    story.disk_hangs = true;
    story.pass(Duration::from_secs(600));
    assert!(story.update.book().next.as_ref().expect("it waits").begun);
    story.ask(Ask::Hold(true)).expect("held");
    story.disk_hangs = false;
    story.event(Event::Persisted(Part::Book, Ok(())));
    assert_eq!(story.ran, [Some(id(1))], "nothing is touched");
    let book = story.book();
    assert!(book.held && !book.next.as_ref().expect("it waits").begun);
}
