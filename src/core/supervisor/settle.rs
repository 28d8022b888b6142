//! What follows from the state: questions, verdicts, calls, the ladder, and what systemd is told.

use std::time::Duration;

use super::{Preload, Supervisor, Survey, Writing, healthy_for};
use crate::core::api::{Action, Call, Notify, Parting, ReportKind};
use crate::core::container::{Course, Image, Machine, Phase, Want, Why, World};
use crate::core::health::Verdict;
use crate::core::ladder::{Answered, Ladder, answer};
use crate::core::ledger::{Durable, Volatile};
use crate::core::time::Time;
use crate::spec::types::{Condition, Ready, Role};

/// How often systemd is asked for more time while a start or stop moves.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How much more time it is asked for.
const EXTEND_BY: Duration = Duration::from_secs(30);

/// How long an engine that is needed may be silent before that counts as a rung used up. A slow
/// node's engine takes a minute or two to start.
const ENGINE_PATIENCE: Duration = Duration::from_secs(300);

/// How long a write of the ledger may take. A medium that takes longer is failing.
const WRITE_BY: Duration = Duration::from_secs(60);

/// At the end, so many attempts without an answer are enough.
const LAST_ATTEMPTS: u32 = 4;

impl Supervisor {
    pub(super) fn settle(&mut self) {
        self.give_up_overdue();
        self.ask();
        self.judge();
        self.follow();
        self.machines.retain(|machine| {
            let gone = machine.want == Want::Gone && matches!(machine.phase, Phase::Absent);
            !gone || machine.pending.is_some()
        });
        self.drive();
        self.climb();
        self.tell_systemd();
        self.record();
        self.part();
    }

    fn give_up_overdue(&mut self) {
        let now = self.now;
        if let Survey::Asked { op, expires } = self.survey
            && expires <= now
        {
            self.actions.push(Action::Abandon(op));
            self.survey = Survey::Due;
            self.engine_silent("a call did not end in time");
        }
        if let Writing::Withhold { by } | Writing::Reset { by } = self.writing
            && by <= now
        {
            self.persisted(Err("the medium does not answer".to_owned()));
        }
        for index in 0..self.machines.len() {
            if let Some(pending) = self.machines[index].pending
                && pending.expires <= now
            {
                self.actions.push(Action::Abandon(pending.op));
                self.expire(index, pending.kind);
            }
        }
    }

    /// Asks every question that is due.
    fn ask(&mut self) {
        let now = self.now;
        for machine in &mut self.machines {
            let role = machine.role.clone();
            let Some(alive) = machine.alive_mut() else {
                continue;
            };
            let probe = self.next_probe;
            if let Some(health) = alive.tracker.poll(now, probe) {
                self.next_probe += 1;
                let (id, address) = (alive.found.id.clone(), alive.address);
                self.actions.push(Action::Probe {
                    role,
                    probe,
                    id,
                    address,
                    health,
                });
            }
        }
    }

    /// Reports verdicts that have changed, answers failures, forgets old ones.
    fn judge(&mut self) {
        let stable = self.config.escalation.stable;
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            if machine.want == Want::Gone {
                continue;
            }
            let verdict = machine.verdict();
            if verdict == Verdict::Healthy {
                machine.trouble = None;
                if matches!(
                    machine.course,
                    Course::Restart(Why::Sick) | Course::Recreate(Why::Sick)
                ) && machine.pending.is_none()
                {
                    machine.course = Course::Keep;
                }
                if calm_for(machine, self.now).is_some_and(|span| span >= stable) {
                    machine.record.strikes = 0;
                    machine.record.quick = 0;
                }
            }
            self.tell_verdict(index, verdict);
            let machine = &self.machines[index];
            if machine.alive().is_some()
                && verdict == Verdict::Unhealthy
                && machine.course == Course::Keep
            {
                self.strike(index, None);
            }
        }
        let stable = self.all_wanted().all(|machine| {
            machine.record.strikes == 0
                && calm_for(machine, self.now).is_some_and(|span| span >= stable)
        });
        if stable
            && self.durable.withheld > 0
            && self.writing == Writing::Nothing
            && self.now >= self.write_at
        {
            self.writing = Writing::Reset {
                by: self.now + WRITE_BY,
            };
            self.actions.push(Action::Persist(Durable::default()));
        }
    }

    fn tell_verdict(&mut self, index: usize, verdict: Verdict) {
        let machine = &mut self.machines[index];
        if machine.told == verdict {
            return;
        }
        machine.told = verdict;
        let role = machine.role.clone();
        let answer = machine
            .last_answer()
            .map_or(String::new(), |text| format!(": {text}"));
        let (kind, text) = match verdict {
            Verdict::Healthy => (ReportKind::Healthy, format!("{role}: Healthy{answer}")),
            Verdict::Unhealthy if machine.alive().is_some() => {
                (ReportKind::Unhealthy, format!("{role}: Unhealthy{answer}"))
            }
            Verdict::Unknown if machine.alive().is_some() => {
                (ReportKind::Unknown, format!("{role}: Unknown{answer}"))
            }
            // That it starts, ended, was refused or is not seen yet has been said in other words.
            Verdict::Starting | Verdict::Unhealthy | Verdict::Unknown => return,
        };
        self.report(Some(&role), kind, text);
    }

    /// Makes every call that is due.
    fn drive(&mut self) {
        if self.now < self.engine.hold
            || self
                .parting
                .is_some_and(|end| end.parting == Parting::Leave)
        {
            return;
        }
        match self.survey {
            Survey::Due => {
                let (op, expires) = self.call(Call::Survey);
                self.survey = Survey::Asked { op, expires };
                return;
            }
            Survey::Asked { .. } => return,
            Survey::Done => {}
        }
        for index in 0..self.machines.len() {
            let world = self.world(&self.machines[index]);
            if let Some(call) = self.machines[index].next(&world) {
                self.begin(index, call);
            }
        }
        // Nothing needs the engine, and nobody knows whether it is back: it is asked for that alone.
        if self.engine.silent > 0
            && self
                .machines
                .iter()
                .all(|machine| machine.pending.is_none())
            && let Some(machine) = self.machines.first()
        {
            let role = machine.role.clone();
            self.begin(0, Call::Look { role });
        }
    }

    fn world(&self, machine: &Machine) -> World {
        World {
            now: self.now,
            stopping: self.stopping(),
            blocked: self
                .machines
                .iter()
                .any(|other| blocks(other, &machine.role)),
            dependencies: self.waits_for(machine).is_none(),
            leader: machine
                .desired()
                .and_then(|desired| desired.network_of.as_ref())
                .is_none_or(|leader| {
                    self.wanted(leader)
                        .is_some_and(|leader| leader.alive().is_some())
                }),
            unneeded: !self.machines.iter().any(|other| {
                other.alive().is_some()
                    && other
                        .desired()
                        .is_some_and(|desired| desired.needs(&machine.role))
            }),
        }
    }

    /// The first dependency that is not as it should be.
    pub(super) fn waits_for(&self, machine: &Machine) -> Option<Role> {
        let desired = machine.desired()?;
        desired
            .depends_on
            .iter()
            .find(|(role, condition)| {
                !self.wanted(role).is_some_and(|other| match condition {
                    Condition::Started => other.alive().is_some(),
                    Condition::Healthy => other.verdict() == Verdict::Healthy,
                })
            })
            .map(|(role, _)| role.clone())
    }

    /// The containers' own rungs are used up somewhere, and that hurts.
    fn spent(&self) -> Option<String> {
        let container = self
            .machines
            .iter()
            .filter(|machine| self.is_spent(machine))
            .find_map(|machine| match machine.want {
                Want::Gone => Some(format!(
                    "the old container of {} cannot be removed",
                    machine.role
                )),
                Want::Run(_) if machine.verdict() == Verdict::Unhealthy => {
                    Some(format!("{} does not become healthy", machine.role))
                }
                Want::Run(_) => None,
            });
        container.or_else(|| {
            self.lacks_engine()
                .then(|| "the engine does not answer".to_owned())
        })
    }

    /// Nothing hurts any more. To be starting, or not to know, is not that.
    fn relieved(&self) -> bool {
        let hurts = |machine: &Machine| {
            self.is_spent(machine)
                && (machine.want == Want::Gone || machine.verdict() != Verdict::Healthy)
        };
        !self.machines.iter().any(hurts) && !self.lacks_engine()
    }

    fn is_spent(&self, machine: &Machine) -> bool {
        machine.record.strikes > 0
            && answer(machine.record.strikes, &self.config.escalation) == Answered::Spent
    }

    /// The engine is needed, and has not answered for too long.
    fn lacks_engine(&self) -> bool {
        self.engine.silent > 0
            && self.now - self.engine.since >= ENGINE_PATIENCE
            && self
                .all_wanted()
                .any(|machine| machine.verdict() != Verdict::Healthy)
    }

    fn climb(&mut self) {
        if self.parting.is_some() {
            return;
        }
        let spent = self.spent();
        let at_foot = self.engine.silent == 0
            && self.all_wanted().all(|machine| {
                machine.record.strikes == 0 && machine.verdict() == Verdict::Healthy
            });
        match (&self.ladder, spent) {
            (Ladder::Climbing, Some(why)) => {
                let budget = self.durable.withheld < self.config.escalation.withholds;
                if self.config.watchdog.is_some() && budget && self.writing == Writing::Nothing {
                    self.ladder = Ladder::Recording;
                    self.writing = Writing::Withhold {
                        by: self.now + WRITE_BY,
                    };
                    let withheld = self.durable.withheld.saturating_add(1);
                    self.actions.push(Action::Persist(Durable { withheld }));
                } else if self.writing == Writing::Nothing {
                    self.enter_safe_state(&why);
                }
            }
            (Ladder::Recording | Ladder::Withholding { .. }, _) if self.relieved() => {
                self.ladder = Ladder::Climbing;
                self.recovered();
            }
            (Ladder::Withholding { since }, why) => {
                let patience = self.config.watchdog.unwrap_or_default().saturating_mul(3);
                if self.now - *since >= patience {
                    let why = why.unwrap_or_else(|| "the workload is not well".to_owned());
                    self.enter_safe_state(&format!("{why}, and systemd has not acted"));
                }
            }
            (Ladder::Safe { .. }, None) if at_foot => {
                self.ladder = Ladder::Climbing;
                self.recovered();
            }
            (Ladder::Climbing, None) | (Ladder::Recording | Ladder::Safe { .. }, _) => {}
        }
    }

    fn recovered(&mut self) {
        self.report(
            None,
            ReportKind::Recovered,
            "the workload is well again; the watchdog is fed".to_owned(),
        );
    }

    fn tell_systemd(&mut self) {
        let now = self.now;
        let withheld = matches!(self.ladder, Ladder::Withholding { .. });
        if let Some(period) = self.config.watchdog
            && !withheld
            && self.fed.is_none_or(|fed| now - fed >= period / 4)
        {
            self.fed = Some(now);
            self.notify(Notify::Watchdog);
        }
        if self.moves()
            && self
                .extended
                .is_none_or(|extended| now - extended >= EXTEND_EVERY)
        {
            self.extended = Some(now);
            self.notify(Notify::Extend(EXTEND_BY));
        }
        let status = self.status_line();
        if status != self.status {
            self.status.clone_from(&status);
            self.notify(Notify::Status(status));
        }
        if !self.ready && self.parting.is_none() && self.settled() {
            self.ready = true;
            self.notify(Notify::Ready);
        }
    }

    /// A start or a stop that systemd waits for is under way and bounded.
    fn moves(&self) -> bool {
        match self.parting {
            Some(_) => true,
            None => !self.ready && !matches!(self.ladder, Ladder::Withholding { .. }),
        }
    }

    /// What READY=1 waits for. When nothing more can be done by waiting, it does not wait:
    /// a start that is killed for its slowness and tried again would only wear the node out.
    fn settled(&self) -> bool {
        let hopeless = matches!(self.ladder, Ladder::Safe { .. })
            || (self.preload == Preload::Done
                && self
                    .all_wanted()
                    .any(|machine| matches!(machine.image, Image::Missing { .. })));
        hopeless
            || self.all_wanted().all(|machine| match self.config.ready {
                Ready::Healthy => machine.verdict() == Verdict::Healthy,
                Ready::Running => machine.alive().is_some(),
            })
    }

    /// When systemd wants to hear something.
    pub(super) fn notify_deadline(&self) -> Option<Time> {
        let feed = match (self.config.watchdog, &self.ladder, self.fed) {
            (Some(period), Ladder::Withholding { since }, _) => {
                Some(*since + period.saturating_mul(3))
            }
            (Some(period), _, Some(fed)) => Some(fed + period / 2),
            (None, _, _) | (_, _, None) => None,
        };
        let extend = self
            .extended
            .filter(|_| self.moves())
            .map(|extended| extended + EXTEND_EVERY);
        [feed, extend].into_iter().flatten().min()
    }

    /// When health will have lasted long enough to refill the budgets.
    pub(super) fn stable_deadline(&self) -> Option<Time> {
        let stable = self.config.escalation.stable;
        self.all_wanted()
            .filter(|machine| {
                machine.record.strikes > 0
                    || machine.record.quick > 0
                    || self.durable.withheld > 0
                    || matches!(self.ladder, Ladder::Safe { .. })
            })
            .filter_map(|machine| Some((machine.alive()?, machine.record.hold)))
            .filter(|(alive, _)| alive.tracker.verdict() == Verdict::Healthy)
            .map(|(alive, hold)| alive.tracker.since().max(hold) + stable)
            .filter(|time| *time > self.now)
            .min()
    }

    fn record(&mut self) {
        let containers = self
            .all_wanted()
            .map(|machine| (machine.role.clone(), machine.record.clone()))
            .collect();
        let withholding = matches!(self.ladder, Ladder::Withholding { .. });
        let volatile = Volatile {
            containers,
            withholding,
        };
        if volatile != self.recorded {
            self.recorded = volatile.clone();
            self.actions.push(Action::Record(volatile));
        }
    }

    /// Ends the daemon when nothing is left to do.
    fn part(&mut self) {
        let Some(end) = self.parting else { return };
        let over = match end.parting {
            Parting::Leave => true,
            Parting::Stop => {
                let at_rest = self.survey == Survey::Done
                    && self.machines.iter().all(|machine| {
                        machine.pending.is_none()
                            && match machine.phase {
                                Phase::Absent | Phase::Created(_) | Phase::Exited { .. } => true,
                                Phase::Unseen | Phase::Running(_) | Phase::Dead { .. } => false,
                            }
                    });
                let vain = self.engine.silent >= LAST_ATTEMPTS || self.now >= end.by;
                if vain && !at_rest {
                    let text =
                        "the engine did not stop every container in time; they are left to it";
                    self.report(None, ReportKind::EngineSilent, text.to_owned());
                }
                at_rest || vain
            }
        };
        if over {
            self.actions.push(Action::Exit);
        }
    }
}

/// For how long a machine has been Healthy without anything having failed.
fn calm_for(machine: &Machine, now: Time) -> Option<Duration> {
    healthy_for(machine, now).map(|span| span.min(now - machine.record.hold))
}

/// A container that goes holds back those to come: as long as it may run, or has the name that they need.
fn blocks(other: &Machine, role: &Role) -> bool {
    other.want == Want::Gone
        && (other.role == *role
            || matches!(
                other.phase,
                Phase::Unseen | Phase::Running(_) | Phase::Dead { .. }
            ))
}
