//! What follows from the state: questions, verdicts, calls, the ladder, and what systemd is told.

use std::time::Duration;

use super::{Preload, Supervisor, Survey, Writing, calm_for};
use crate::core::api::{Action, Call, Notify, Parting, ReportKind};
use crate::core::container::{Course, Image, Machine, Phase, Want};
use crate::core::health::Verdict;
use crate::core::ladder::Ladder;
use crate::core::ledger::Volatile;
use crate::core::next::World;
use crate::core::time::Time;
use crate::spec::types::{Condition, Ready, Role};

/// How often systemd is asked for more time while a start or stop moves.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How much more time it is asked for.
const EXTEND_BY: Duration = Duration::from_secs(30);

/// At the end, so many attempts without an answer are enough.
const LAST_ATTEMPTS: u32 = 4;

impl Supervisor {
    pub(super) fn settle(&mut self) {
        self.give_up_overdue();
        self.ask();
        self.judge();
        self.follow();
        self.make_room();
        self.machines.retain(|machine| {
            let gone = machine.want == Want::Gone && matches!(machine.phase, Phase::Absent);
            !gone || machine.pending.is_some()
        });
        self.drive();
        self.refill();
        self.help_engine();
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
        if let Writing::Under { by, .. } = self.writing
            && by <= now
        {
            self.write_late();
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
        self.settle_failures();
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            if machine.want == Want::Gone {
                continue;
            }
            let verdict = machine.verdict();
            if verdict == Verdict::Healthy {
                machine.trouble = None;
                if machine.pending.is_none() {
                    machine.spare();
                }
                if calm_for(machine, self.now).is_some_and(|span| span >= stable) {
                    machine.record.clear();
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
            reserved: self.is_reserved(machine),
            room: self.has_room(machine),
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
        let any = self.all_wanted().next().is_some();
        hopeless
            || any
                && self.all_wanted().all(|machine| match self.config.ready {
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
                let record = &machine.record;
                record.strikes > 0
                    || record.quick > 0
                    || record.excused > 0
                    || self.budgets.withheld > 0
                    || !self.budgets.reboots.is_empty()
                    || matches!(self.ladder, Ladder::Safe { .. })
            })
            .filter_map(|machine| Some((machine.alive()?, machine.record.hold)))
            .filter(|(alive, _)| alive.tracker.verdict() == Verdict::Healthy)
            .map(|(alive, hold)| alive.tracker.since().max(hold) + stable)
            .filter(|time| *time > self.now)
            .min()
    }

    pub(super) fn record(&mut self) {
        let containers = self
            .all_wanted()
            .map(|machine| (machine.role.clone(), machine.record.clone()))
            .collect();
        let withholding = matches!(self.ladder, Ladder::Withholding { .. });
        let volatile = Volatile {
            containers,
            withholding,
            engine: self.engine.used.clone(),
            // The rest is not the supervisor's.
            ..Volatile::default()
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

/// A container that goes holds back those to come: as long as it may run, or has the name that they need.
fn blocks(other: &Machine, role: &Role) -> bool {
    other.want == Want::Gone
        && (other.role == *role
            || matches!(
                other.phase,
                Phase::Unseen | Phase::Running(_) | Phase::Dead { .. }
            ))
}
