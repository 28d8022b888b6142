//! Which release comes first: sequences, keys, the node's own file.

use super::*;

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
    let mut story = Story::after(1, 2);
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

#[test]
fn what_makes_way_is_told() {
    let mut story = Story::new();
    story.gates.window = Some(Duration::from_secs(600));
    story.offer(2).expect("taken");
    let told = |story: &Story| {
        let delayed = ReportKind::ReleaseDelayed;
        story.told.iter().filter(|kind| **kind == delayed).count()
    };
    let before = told(&story);
    story.offer(2).expect("known");
    assert_eq!(told(&story), before);
    story.open = Some(Vec::new());
    story.offer(3).expect("taken");
    assert_eq!(told(&story), before + 1);
    story
        .ask(Ask::Activate {
            release: Some(id(2)),
            force: false,
        })
        .expect("it lies there");
    assert_eq!(told(&story), before + 2);
    assert_eq!(
        story.book().next.as_ref().map(|next| &next.release),
        Some(&id(2))
    );
}
