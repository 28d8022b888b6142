//! The update by itself: every way from an offer to its end, and what may come in between.

mod back;
mod gates;
mod ledger;
mod order;

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
    /// How often a release was read.
    loaded: u32,
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

    /// A node with a release in force, and the one that was before it.
    fn after(previous: u8, current: u8) -> Self {
        Self::with(Book {
            current: Some(id(current)),
            previous: Some(id(previous)),
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
            loaded: 0,
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
                    self.loaded += 1;
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

#[test]
fn a_release_is_not_judged_by_the_containers_of_the_one_before() {
    let mut story = Story::new();
    story.exhausted = Some("app does not become healthy".to_owned());
    story.offer(2).expect("taken");
    assert_eq!(story.runs(), Some(&id(2)));
    assert!(story.book().rejected.is_empty(), "{:?}", story.told);
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
