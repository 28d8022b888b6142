//! The update by itself: every way from an offer to its end, and what may come in between.

use std::time::Duration;

use super::*;
use crate::core::api::{Gates, NotNow, Parting, Policy, Staged};

fn id(number: u8) -> ReleaseId {
    ReleaseId::new(&format!("{number:012x}")).expect("an id")
}

fn rules() -> Rules {
    Rules {
        trial: Trial::default(),
        activation: Activation::Automatic,
    }
}

fn bundle(sequence: u64) -> Origin {
    Origin::Bundle {
        key: "A".to_owned(),
        sequence,
    }
}

/// A node with release 1 in force, whose shell does all that it is told at once unless it is told not to.
struct Story {
    update: Update,
    now: Time,
    well: Option<Time>,
    exhausted: Option<String>,
    empty: bool,
    staged: Result<Staged, NotNow>,
    gates: Gates,
    hook: Result<(), NotNow>,
    copied: Result<(), String>,
    loads: Result<(), String>,
    disk: Result<(), String>,
    /// Writes do not come to an end.
    disk_hangs: bool,
    /// What was in force, the last at the end; `None` for nothing.
    ran: Vec<Option<ReleaseId>>,
    /// Kinds of what was reported.
    told: Vec<ReportKind>,
    /// Books written.
    books: Vec<Book>,
    asked: Vec<&'static str>,
    /// Nothing that is asked for is answered; it is kept here.
    open: Option<Vec<Action>>,
}

impl Story {
    fn new() -> Self {
        Self::with(Book {
            current: Some(id(1)),
            ..Book::default()
        })
    }

    fn with(book: Book) -> Self {
        let now = Time::default() + Duration::from_secs(1000);
        Self {
            ran: vec![book.running().cloned()],
            update: Update::new(rules(), book.clone(), book, &Volatile::default(), now),
            now,
            well: None,
            exhausted: None,
            empty: false,
            staged: Ok(Staged {
                desired: Vec::new(),
                volumes: false,
                hook: false,
            }),
            gates: Gates::default(),
            hook: Ok(()),
            copied: Ok(()),
            loads: Ok(()),
            disk: Ok(()),
            disk_hangs: false,
            told: Vec::new(),
            books: Vec::new(),
            asked: Vec::new(),
            open: None,
        }
    }

    fn event(&mut self, event: Event) -> &mut Self {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.update.take(self.now, &event);
            self.settle(&mut events);
        }
        self
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        let facts = Facts {
            well_since: self.well,
            exhausted: self.exhausted.clone(),
            empty: self.empty,
        };
        self.update.settle(self.now, &facts);
        for order in self.update.orders() {
            match order {
                Order::Empty => {
                    self.ran.push(None);
                    self.empty = true;
                    self.well = None;
                    events.push(Event::Tick);
                }
                Order::Switch { release, .. } => {
                    self.ran.push(Some(release));
                    self.empty = false;
                    self.well = None;
                    self.exhausted = None;
                }
                Order::Committed => {}
            }
        }
        for action in self.update.actions() {
            if let Some(open) = &mut self.open
                && !matches!(action, Action::Persist(_) | Action::Report(_))
            {
                open.push(action);
                continue;
            }
            match action {
                Action::Persist(_) if self.disk_hangs => {}
                Action::Persist(Entry::Book(book)) => {
                    if self.disk.is_ok() {
                        self.books.push(*book);
                    }
                    events.push(Event::Persisted(Part::Book, self.disk.clone()));
                }
                Action::Stage(task, _) => {
                    self.asked.push("stage");
                    events.push(Event::Staged(task, self.staged.clone()));
                }
                Action::LookAtGates(task, _) => {
                    self.asked.push("gates");
                    events.push(Event::Gates(task, self.gates.clone()));
                }
                Action::Hook(task, _) => {
                    self.asked.push("hook");
                    events.push(Event::Hooked(task, self.hook.clone()));
                }
                Action::Snapshot(task, _) => {
                    assert!(self.empty, "volumes are copied under running containers");
                    self.asked.push("snapshot");
                    events.push(Event::Snapshotted(task, self.copied.clone()));
                }
                Action::Restore(task, _) => {
                    assert!(self.empty, "volumes are put back under running containers");
                    self.asked.push("restore");
                    events.push(Event::Restored(task, self.copied.clone()));
                }
                Action::Load(task, _) => {
                    let result = self.loads.clone().map(|()| Vec::new());
                    let result = result.map_err(NotNow::Never);
                    events.push(Event::Loaded(task, result));
                }
                Action::Report(report) => self.told.push(report.kind),
                Action::Tidy(kept) => assert!(kept.contains(self.runs().expect("something runs"))),
                other => panic!("{other:?} is not the update's"),
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<String, Refused> {
        let answer = self.update.ask(self.now, ask);
        self.event(Event::Tick);
        answer
    }

    fn offer(&mut self, number: u8) -> Result<String, Refused> {
        self.ask(Ask::Offer {
            release: id(number),
            origin: bundle(u64::from(number)),
            wish: Wish::Take,
            downgrade: false,
        })
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, span: Duration) -> &mut Self {
        let end = self.now + span;
        loop {
            let facts = Facts {
                well_since: self.well,
                exhausted: self.exhausted.clone(),
                empty: self.empty,
            };
            match self.update.deadline(&facts) {
                Some(time) if time <= end => {
                    self.now = time;
                    self.event(Event::Tick);
                }
                Some(_) | None => break,
            }
        }
        self.now = end;
        self.event(Event::Tick)
    }

    fn healthy(&mut self) -> &mut Self {
        self.well = Some(self.now);
        self.event(Event::Tick)
    }

    fn book(&self) -> &Book {
        self.books.last().expect("something was written")
    }

    fn runs(&self) -> Option<&ReleaseId> {
        self.ran.last().and_then(Option::as_ref)
    }
}

#[test]
fn a_good_release_is_committed_when_it_has_settled() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    assert_eq!(story.runs(), Some(&id(2)));
    assert_eq!(story.book().running(), Some(&id(2)));
    story.healthy().pass(Duration::from_secs(59));
    assert!(story.book().trial.is_some(), "not yet");
    story.pass(Duration::from_secs(1));
    assert_eq!(story.book().current, Some(id(2)));
    assert_eq!(story.book().previous, Some(id(1)));
    assert_eq!(story.told.last(), Some(&ReportKind::Committed));
    // Next, trial, commit.
    assert!(story.books.len() <= 3, "{:?}", story.books);
    assert_eq!(story.offer(2).map(|_| story.ran.len()), Ok(2), "no news");
}

#[test]
fn health_must_last_without_a_break() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    for _ in 0..8 {
        story.healthy().pass(Duration::from_secs(55));
        story.well = None;
        story.pass(Duration::from_secs(20));
    }
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(story.book().rejected(&id(2)).is_some());
    assert!(story.offer(2).is_err(), "it is never taken again by itself");
    assert_eq!(story.runs(), Some(&id(1)));
}

#[test]
fn a_release_that_nothing_helps_is_taken_back_at_once() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.exhausted = Some("app does not become healthy".to_owned());
    story.event(Event::Tick);
    assert_eq!(story.runs(), Some(&id(1)));
    assert_eq!(
        story.book().rejected(&id(2)),
        Some("app does not become healthy")
    );
    story.ask(Ask::Retry(id(2))).expect("by hand it is tried");
    assert_eq!(story.runs(), Some(&id(2)));
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.book().current, Some(id(2)));
    assert_eq!(story.book().rejected(&id(2)), None);
}

#[test]
fn what_ran_before_it_is_not_held_against_a_release() {
    let mut story = Story::new();
    story.exhausted = Some("app does not become healthy".to_owned());
    story.offer(2).expect("taken");
    assert_eq!(story.runs(), Some(&id(2)));
    assert_eq!(story.ran.len(), 2);
    assert_eq!(story.book().rejected(&id(2)), None);
}

#[test]
fn an_older_sequence_is_refused_unless_the_owner_allows_it() {
    let mut story = Story::new();
    story.offer(9).expect("taken");
    story.healthy().pass(Duration::from_secs(60));
    let refused = story.offer(8).expect_err("older");
    assert!(
        refused.to_string().contains("--allow-downgrade"),
        "{refused}"
    );
    let ask = Ask::Offer {
        release: id(8),
        origin: bundle(8),
        wish: Wish::Take,
        downgrade: true,
    };
    story.ask(ask).expect("allowed");
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.book().current, Some(id(8)));
    // Another key's releases have an order of their own.
    let ask = Ask::Offer {
        release: id(7),
        origin: Origin::Bundle {
            key: "B".to_owned(),
            sequence: 1,
        },
        wish: Wish::Take,
        downgrade: false,
    };
    story.ask(ask).expect("another key");
}

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
fn staging_is_tried_again_and_touches_nothing() {
    let mut story = Story::new();
    story.staged = Err(NotNow::Later("no space left".to_owned()));
    story.offer(2).expect("taken");
    story.pass(Duration::from_secs(7200));
    assert!(
        story.asked.len() > 5 && story.asked.len() < 12,
        "{:?}",
        story.asked
    );
    assert_eq!(story.ran.len(), 1);
    story.staged = Story::new().staged;
    story.event(Event::StoreChanged);
    assert_eq!(story.runs(), Some(&id(2)));
    let mut story = Story::new();
    story.staged = Err(NotNow::Never("it names a device".to_owned()));
    story.offer(2).expect("taken");
    assert_eq!(story.book().rejected(&id(2)), Some("it names a device"));
    assert_eq!(story.ran.len(), 1);
}

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
fn two_at_once_come_one_after_the_other() {
    let mut story = Story::new();
    story.offer(2).expect("taken");
    story.offer(3).expect("waits for the trial's end");
    assert_eq!(story.runs(), Some(&id(2)));
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.runs(), Some(&id(3)));
    story.pass(Duration::from_secs(600));
    assert_eq!(story.runs(), Some(&id(2)));
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
fn the_nodes_own_file_is_news_once() {
    let local = |number, wish| Ask::Offer {
        release: id(number),
        origin: Origin::Local,
        wish,
        downgrade: false,
    };
    let hand = Wish::Activate { force: false };
    let mut story = Story::with(Book {
        current: Some(id(1)),
        local: Some(id(1)),
        ..Book::default()
    });
    story.offer(2).expect("a bundle");
    story.healthy().pass(Duration::from_secs(60));
    // A reload with the file as it always was does not take the bundle's release away.
    story.ask(local(1, hand)).expect("known");
    assert_eq!(story.runs(), Some(&id(2)));
    story.ask(local(3, hand)).expect("news");
    assert_eq!(story.runs(), Some(&id(3)));
    story.pass(Duration::from_secs(600));
    assert_eq!(story.runs(), Some(&id(2)));
    // Nor does a restart of the daemon bring the rejected file again.
    story.ask(local(3, Wish::Take)).expect("known");
    assert_eq!(story.runs(), Some(&id(2)));
}

#[test]
fn a_release_before_that_cannot_be_read_is_passed_over() {
    let mut story = Story::with(Book {
        current: Some(id(1)),
        previous: Some(id(9)),
        ..Book::default()
    });
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
fn a_daemon_that_ends_begins_nothing() {
    let mut story = Story::new();
    story.gates.lock_file = true;
    story.offer(2).expect("taken");
    story.event(Event::Terminate(Parting::Leave));
    story.gates.lock_file = false;
    story.pass(Duration::from_secs(600));
    assert_eq!(story.runs(), Some(&id(1)));
    assert!(story.offer(3).is_err());
}

/// A node whose lock file keeps release 2 waiting, until its disk hangs.
fn waiting(volumes: bool) -> Story {
    let mut story = Story::new();
    story.staged.as_mut().expect("staged").volumes = volumes;
    story.gates.lock_file = true;
    story.offer(2).expect("taken");
    story.gates.lock_file = false;
    story.disk_hangs = true;
    story
}

#[test]
fn a_release_is_not_judged_by_the_containers_of_the_one_before() {
    let mut story = Story::new();
    story.exhausted = Some("app does not become healthy".to_owned());
    story.offer(2).expect("taken");
    assert_eq!(story.runs(), Some(&id(2)));
    assert!(story.book().rejected.is_empty(), "{:?}", story.told);
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
fn an_answer_to_an_earlier_task_is_not_the_later_ones() {
    // The files have changed while it was staged, so it is staged again; then the first staging ends.
    let mut story = Story::new();
    story.open = Some(Vec::new());
    story.offer(2).expect("taken");
    let policy = Policy {
        activation: Activation::Automatic,
        ..Policy::default()
    };
    story.event(Event::Reload {
        desired: Vec::new(),
        policy: Some(policy),
    });
    let open = story.open.take().unwrap_or_default();
    let [Action::Stage(first, _), Action::Stage(second, _)] = open[..] else {
        panic!("{open:?}");
    };
    let staged = story.staged.clone();
    story.event(Event::Staged(first, staged.clone()));
    assert_eq!(
        story.runs(),
        Some(&id(1)),
        "it has read the files as they were"
    );
    story.event(Event::Staged(second, staged));
    assert_eq!(story.runs(), Some(&id(2)));
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
    let mut story = Story::with(Book {
        current: Some(id(1)),
        previous: Some(id(9)),
        ..Book::default()
    });
    story.offer(2).expect("taken");
    story.disk_hangs = true;
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    story.ask(Ask::RollBack).expect("that is being done");
    assert_eq!(story.update.book().rejected(&id(1)), None);
    assert_eq!(story.update.book().next, None);
}

#[test]
fn what_fails_its_trial_bars_nobodys_way() {
    let mut story = Story::new();
    story.offer(9).expect("taken");
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    assert_eq!(story.runs(), Some(&id(1)));
    // What mends it may have any number that is newer than what has proved itself.
    story.offer(8).expect("9 was never accepted");
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.book().sequences.get("A"), Some(&8));
    assert!(story.offer(7).is_err(), "older than what has proved itself");
    // By hand it is tried once more, and counts when it is good.
    story.ask(Ask::Retry(id(9))).expect("by hand");
    story.healthy().pass(Duration::from_secs(60));
    assert_eq!(story.book().sequences.get("A"), Some(&9));
}

#[test]
fn the_newer_of_two_comes_first_and_the_older_one_when_that_has_failed() {
    for newer_first in [true, false] {
        let mut story = Story::new();
        story.gates.lock_file = true;
        if newer_first {
            story.offer(9).expect("taken");
            let refused = story.offer(8).expect_err("older");
            assert!(refused.to_string().contains("comes first"), "{refused}");
        } else {
            story.offer(8).expect("taken");
            story.offer(9).expect("taken in its place");
        }
        story.gates.lock_file = false;
        story.pass(Duration::from_secs(30));
        assert_eq!(story.runs(), Some(&id(9)));
        let refused = story.offer(8).expect_err("9 is on trial");
        assert!(refused.to_string().contains("comes first"), "{refused}");
        story.pass(Duration::from_secs(600));
        assert_eq!(story.runs(), Some(&id(1)));
        story.offer(8).expect("brought again");
        assert_eq!(story.runs(), Some(&id(8)));
    }
}

#[test]
fn a_downgrade_counts_when_it_has_proved_itself() {
    let mut story = Story::new();
    story.offer(9).expect("taken");
    story.healthy().pass(Duration::from_secs(60));
    let older = |number: u8| Ask::Offer {
        release: id(number),
        origin: bundle(u64::from(number)),
        wish: Wish::Take,
        downgrade: true,
    };
    story.ask(older(5)).expect("allowed");
    story.exhausted = Some("ill".to_owned());
    story.event(Event::Tick);
    assert_eq!(story.runs(), Some(&id(9)));
    assert!(story.offer(7).is_err(), "9 is what has proved itself");
    story.ask(older(6)).expect("allowed");
    story.healthy().pass(Duration::from_secs(60));
    story.offer(7).expect("newer than 6");
}

#[test]
fn a_revoked_key_with_an_absurd_sequence_bars_no_other_key() {
    let offer = |number: u8, key: &str, sequence| Ask::Offer {
        release: id(number),
        origin: Origin::Bundle {
            key: key.to_owned(),
            sequence,
        },
        wish: Wish::Take,
        downgrade: false,
    };
    let mut story = Story::new();
    story.ask(offer(2, "A", u64::MAX)).expect("taken");
    story.healthy().pass(Duration::from_secs(60));
    story.ask(offer(3, "B", 1)).expect("another key");
    assert_eq!(story.runs(), Some(&id(3)));
    story.healthy().pass(Duration::from_secs(60));
    // Rejected as often as is remembered, its number is still a number.
    let mut book = story.book().clone();
    let signed = Signed {
        key: "C".to_owned(),
        sequence: u64::MAX,
        downgrade: false,
    };
    book.next = Some(Next::new(id(4), By::Policy, Some(signed)));
    for number in 4..=200 {
        book.reject(&id(number), "ill");
    }
    assert_eq!(book.sequences.get("C"), Some(&u64::MAX));
}

#[test]
fn a_file_that_was_changed_during_a_way_back_is_news_afterwards() {
    let mut story = Story::with(Book {
        current: Some(id(2)),
        previous: Some(id(1)),
        ..Book::default()
    });
    story.open = Some(Vec::new());
    story.ask(Ask::RollBack).expect("there is one before");
    let local = || Ask::Offer {
        release: id(3),
        origin: Origin::Local,
        wish: Wish::Activate { force: false },
        downgrade: false,
    };
    assert!(story.ask(local()).is_err(), "1 comes back");
    let open = story.open.take().unwrap_or_default();
    let [Action::Stage(task, _)] = open[..] else {
        panic!("{open:?}");
    };
    story.event(Event::Staged(task, Story::new().staged));
    assert_eq!(story.runs(), Some(&id(1)));
    story.healthy().pass(Duration::from_secs(60));
    story.ask(local()).expect("news");
    assert_eq!(story.runs(), Some(&id(3)));
}

#[test]
fn by_hand_one_goes_back_though_the_ledger_cannot_be_written() {
    for hangs in [false, true] {
        let mut story = Story::with(Book {
            current: Some(id(2)),
            previous: Some(id(1)),
            ..Book::default()
        });
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

#[test]
fn a_way_back_that_cannot_be_gone_bars_no_update() {
    let mut story = Story::with(Book {
        current: Some(id(2)),
        previous: Some(id(1)),
        ..Book::default()
    });
    let good = story.staged.clone();
    story.staged = Err(NotNow::Later("its images are gone".to_owned()));
    story.ask(Ask::RollBack).expect("there is one before");
    story.pass(Duration::from_secs(20));
    assert_eq!(story.runs(), Some(&id(2)));
    story.staged = good;
    story.offer(3).expect("what mends it all");
    assert_eq!(story.runs(), Some(&id(3)));
    // And it comes to an end.
    let mut story = Story::with(Book {
        current: Some(id(2)),
        previous: Some(id(1)),
        ..Book::default()
    });
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
    let mut story = Story::with(Book {
        current: Some(id(2)),
        previous: Some(id(1)),
        ..Book::default()
    });
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
fn a_release_whose_reading_hangs_is_passed_over() {
    let mut story = Story::with(Book {
        current: Some(id(1)),
        previous: Some(id(9)),
        ..Book::default()
    });
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
fn the_time_of_a_trial_goes_on_through_orderly_restarts() {
    let book = || Book {
        current: Some(id(1)),
        trial: Some(TrialRecord {
            release: id(2),
            signed: None,
            deaths: 0,
            snapshot: false,
            reverting: None,
        }),
        ..Book::default()
    };
    let minutes = |count: u64| Time::default() + Duration::from_secs(count * 60);
    let began = Volatile {
        trial: Some((id(2), minutes(10))),
        ..Volatile::default()
    };
    for (now, ends) in [(12, 20), (19, 21), (500, 502)] {
        let now = minutes(now);
        let update = Update::new(rules(), book(), book(), &began, now);
        assert_eq!(update.deadline(&Facts::default()), Some(minutes(ends)));
        assert_eq!(update.view().trial_since, Some(minutes(10)));
    }
    // Another boot's, or another release's, is none.
    for volatile in [
        Volatile {
            trial: Some((id(2), minutes(90))),
            ..Volatile::default()
        },
        Volatile {
            trial: Some((id(3), minutes(1))),
            ..Volatile::default()
        },
    ] {
        let update = Update::new(rules(), book(), book(), &volatile, minutes(12));
        assert_eq!(update.deadline(&Facts::default()), Some(minutes(22)));
    }
}

#[test]
fn what_was_passed_over_for_the_nodes_own_file_is_no_news() {
    let mut story = Story::new();
    story.gates.lock_file = true;
    story.offer(2).expect("taken");
    let local = Ask::Offer {
        release: id(3),
        origin: Origin::Local,
        wish: Wish::Activate { force: true },
        downgrade: false,
    };
    story.ask(local).expect("taken in its place");
    assert_eq!(story.runs(), Some(&id(3)));
    // Whoever looks what lies there compares with this.
    assert_eq!(story.book().sequences.get("A"), Some(&2));
    story.healthy().pass(Duration::from_secs(60));
    story.offer(2).expect("brought again by hand");
}
