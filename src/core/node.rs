//! The whole of the core: the supervisor, which keeps containers alive, and the update, which says
//! which release they are of. Whoever drives it hands in events and does the actions that come out.
//!
//! It decides nothing itself: it takes what each of the two must know to the other.

use crate::core::api::{Action, Desired, Event, Notify};
use crate::core::ledger::{Durable, Volatile};
use crate::core::supervisor::{Config, Step, Supervisor, View};
use crate::core::time::Time;
use crate::core::update::{Ask, Book, Facts, Order, Refused, Rules, Update, UpdateView};

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    supervisor: Supervisor,
    update: Update,
    /// What was recorded last that may be lost with a reboot.
    recorded: Volatile,
    /// The daemon was told to end.
    orderly: bool,
    /// The containers go, or are gone, on purpose.
    emptied: bool,
    /// The line that systemd was told last, and the supervisor's part of it.
    line: (String, String),
}

impl Node {
    /// Begins with what the ledgers remember; `book` is what the durable one is to say after
    /// [`Book::at_start`], whether that could be written or not, and `desired` what its running release
    /// says.
    pub fn new(
        config: Config,
        rules: Rules,
        desired: Vec<Desired>,
        durable: Durable,
        book: Book,
        volatile: Volatile,
        now: Time,
    ) -> Self {
        let on_trial = (book.trial.as_ref()).is_some_and(|trial| trial.reverting.is_none());
        let emptied = book.trial.is_some() && !on_trial;
        let desired = if emptied { Vec::new() } else { desired };
        let update = Update::new(rules, durable.book, book, &volatile, now);
        let mut supervisor =
            Supervisor::new(config, desired, durable.budgets, volatile.clone(), now);
        // Nor is a rung climbed for what is to go.
        if on_trial || emptied {
            supervisor.trial_begun();
        }
        Self {
            supervisor,
            update,
            recorded: volatile,
            orderly: false,
            emptied,
            line: (String::new(), String::new()),
        }
    }

    /// Takes one event at `now` and says what to do, in this order.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.orderly |= matches!(event, Event::Terminate(_));
        self.update.take(now, &event);
        let event = match event {
            // What the files say is in force when there are containers again.
            Event::Reload { policy, .. } if self.emptied => Event::Reload {
                desired: Vec::new(),
                policy,
            },
            event => event,
        };
        let actions = self.supervisor.step(now, event);
        self.settle(now, actions)
    }

    /// Answers a request about releases, and says what to do because of it.
    pub fn ask(&mut self, now: Time, ask: Ask) -> (Result<String, Refused>, Vec<Action>) {
        let answer = self.update.ask(now, ask);
        let actions = self.supervisor.step(now, Event::Tick);
        (answer, self.settle(now, actions))
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else happens before.
    pub fn deadline(&self) -> Option<Time> {
        let update = self.update.deadline(&self.facts());
        [self.supervisor.deadline(), update]
            .into_iter()
            .flatten()
            .min()
    }

    /// The state of the containers as it is shown.
    pub fn view(&self) -> View {
        let mut view = self.supervisor.view();
        view.line = self.whole_line(&view.line);
        view.deadline = self.deadline();
        view
    }

    /// The state of the releases as it is shown.
    pub fn update(&self) -> UpdateView {
        self.update.view()
    }

    /// The containers' half of the core, to be looked at.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// What a reload with this would do. Changes nothing.
    pub fn plan(&self, desired: &[Desired]) -> Vec<Step> {
        self.supervisor.plan(desired)
    }

    fn facts(&self) -> Facts {
        Facts {
            well_since: self.supervisor.well_since(),
            exhausted: self.supervisor.exhausted(),
            empty: self.supervisor.is_empty(),
        }
    }

    fn settle(&mut self, now: Time, mut actions: Vec<Action>) -> Vec<Action> {
        self.update.unlock(|role| self.supervisor.is_down(role));
        loop {
            self.update.settle(now, &self.facts());
            actions.extend(self.update.actions());
            let orders = self.update.orders();
            if orders.is_empty() {
                break;
            }
            for order in orders {
                match order {
                    Order::Empty => {
                        self.emptied = true;
                        // Bounded by the update itself: no rung is climbed for what is to go.
                        actions.extend(self.supervisor.switch(now, Vec::new(), true));
                    }
                    Order::Switch {
                        task,
                        release,
                        desired,
                        on_trial,
                    } => {
                        self.emptied = false;
                        // Before any call that follows from it.
                        actions.push(Action::Enforce(task, release));
                        actions.extend(self.supervisor.switch(now, desired, on_trial));
                    }
                    Order::Committed => self.supervisor.trial_over(),
                }
            }
        }
        self.finish(actions)
    }

    /// Adds to what the supervisor tells what it does not know.
    fn finish(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let mut recorded = None;
        for action in &mut actions {
            match action {
                Action::Record(volatile) => {
                    self.add(volatile);
                    recorded = Some(volatile.clone());
                }
                Action::Notify(Notify::Status(line)) => {
                    self.line.1.clone_from(line);
                    *line = self.whole_line(line);
                    self.line.0.clone_from(line);
                }
                _ => {}
            }
        }
        if let Some(volatile) = recorded {
            self.recorded = volatile;
        }
        let mut volatile = self.recorded.clone();
        self.add(&mut volatile);
        if volatile != self.recorded {
            self.recorded = volatile.clone();
            actions.push(Action::Record(volatile));
        }
        let line = self.whole_line(&self.line.1);
        if !self.line.1.is_empty() && line != self.line.0 {
            self.line.0.clone_from(&line);
            actions.push(Action::Notify(Notify::Status(line)));
        }
        // Whoever is told to end does so after all that is to be done before.
        let exits: Vec<Action> = actions
            .extract_if(.., |action| *action == Action::Exit)
            .collect();
        actions.extend(exits);
        actions
    }

    fn add(&self, volatile: &mut Volatile) {
        volatile.orderly = self.orderly;
        volatile.locks.clone_from(self.update.locks());
        volatile.trial = self.update.began().cloned();
    }

    fn whole_line(&self, line: &str) -> String {
        match self.update.line() {
            Some(update) => format!("{line}; {update}"),
            None => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::core::api::{Outcome, Seen, SeenState};
    use crate::core::update::{ReleaseId, TrialRecord};
    use crate::spec::types::{Activation, Escalation, Healthcheck, Ready, Role, Trial};

    fn app() -> Role {
        Role::new("app")
    }

    fn desired() -> Vec<Desired> {
        vec![Desired {
            role: app(),
            hash: "app-1".to_owned(),
            image: "example/app:1".to_owned(),
            image_id: None,
            healthcheck: Healthcheck::Off,
            grace: Duration::from_secs(10),
            depends_on: BTreeMap::new(),
            network_of: None,
        }]
    }

    /// A node with this ledger that has just seen its one container, which has ended.
    fn node(book: Book, volatile: Volatile) -> Node {
        let config = Config {
            escalation: Escalation::default(),
            ready: Ready::Healthy,
            watchdog: None,
            seed: 1,
            boot: "this".to_owned(),
        };
        let rules = Rules {
            trial: Trial::default(),
            activation: Activation::Automatic,
        };
        let durable = Durable {
            book: book.clone(),
            ..Durable::default()
        };
        let now = Time::default();
        let mut node = Node::new(config, rules, desired(), durable, book, volatile, now);
        let actions = node.step(now, Event::PreloadDone);
        let survey = actions.iter().find_map(|action| match action {
            Action::Engine(op, _) => Some(*op),
            _ => None,
        });
        let seen = vec![Seen {
            role: app(),
            id: "id-app".to_owned(),
            hash: "app-1".to_owned(),
            image_id: "sha256:1".to_owned(),
            image_health: None,
            state: SeenState::Exited { code: 0 },
        }];
        let op = survey.expect("it looks first");
        node.step(now, Event::Done(op, Ok(Outcome::Seen(seen))));
        node
    }

    fn id(number: u8) -> ReleaseId {
        ReleaseId::new(&format!("{number:012x}")).expect("an id")
    }

    #[test]
    fn an_app_that_ended_while_no_daemon_looked_is_busy_no_more() {
        let book = Book {
            current: Some(id(1)),
            ..Book::default()
        };
        let volatile = Volatile {
            locks: BTreeSet::from([app()]),
            ..Volatile::default()
        };
        assert_eq!(node(book, volatile).update.locks(), &BTreeSet::new());
    }

    #[test]
    fn a_reload_brings_no_container_while_volumes_are_put_back() {
        let book = Book {
            current: Some(id(1)),
            trial: Some(TrialRecord {
                release: id(2),
                signed: None,
                deaths: 1,
                snapshot: true,
                reverting: Some("it failed".to_owned()),
            }),
            ..Book::default()
        };
        let mut node = node(book, Volatile::default());
        let reload = Event::Reload {
            desired: desired(),
            policy: None,
        };
        node.step(Time::default(), reload);
        assert!(node.view().containers.is_empty());
    }
}
