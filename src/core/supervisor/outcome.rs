//! What the end of a call, a process or a write means.

use std::time::Duration;

use super::{Preload, Supervisor, Survey, healthy_for};
use crate::core::api::{Fault, OpId, Outcome, ReportKind};
use crate::core::container::{
    Alive, Course, Found, Image, Kind, MOVES, Machine, Phase, Want, Watch, Why,
};
use crate::core::health::{Tracker, Verdict};
use crate::core::ladder::{Answered, answer};
use crate::core::sight::Sight;
use crate::core::time::Time;

/// A container that was Healthy for so long before it failed is restarted at once, whatever came before.
const CALM: Duration = Duration::from_secs(60);

/// After so many looks (about ten seconds) an engine that still calls a dead process running counts as silent.
const LOOKS: u32 = 16;

/// A container's trouble when nobody asked it to end.
const ENDED: &str = "ended by itself";

/// How a process came to its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// It was told to.
    AsAsked,
    /// Nobody asked; it had been Healthy for so long.
    ByItself { healthy_for: Option<Duration> },
}

impl Ended {
    /// What the end of a machine's process would be, seen before it is known.
    pub(super) fn of(machine: &Machine, now: Time) -> Self {
        if machine.is_to_end() {
            Self::AsAsked
        } else {
            Self::ByItself {
                healthy_for: healthy_for(machine, now),
            }
        }
    }
}

impl Supervisor {
    /// A call ended.
    pub(super) fn done(&mut self, op: OpId, result: Result<Outcome, Fault>) {
        if matches!(self.survey, Survey::Asked { op: asked, .. } if asked == op) {
            self.surveyed(result);
            return;
        }
        let Some(index) = self
            .machines
            .iter()
            .position(|machine| machine.pending.is_some_and(|pending| pending.op == op))
        else {
            // An answer that nobody waits for any more: what it changed will be seen when it is looked for.
            return;
        };
        let Some(pending) = self.machines[index].pending.take() else {
            return;
        };
        match result {
            Ok(outcome) => {
                let late = self.machines[index].confirmed_late(pending.kind, self.now);
                self.succeeded(index, pending.kind, outcome);
                if late {
                    for machine in &mut self.machines {
                        machine.excuse(self.now);
                    }
                }
                // An answer that the kernel knows to be wrong is none.
                let wrong = matches!(self.machines[index].phase, Phase::Dead { looks, .. } if looks > LOOKS);
                if !(wrong && pending.kind == Kind::Look) {
                    self.engine_answers();
                }
            }
            Err(Fault::NoAnswer(text)) => {
                self.engine_silent(&text);
                self.unsure(index, pending.kind);
            }
            // A look that is refused says nothing about the container.
            Err(
                Fault::NotFound(text)
                | Fault::Conflict(text)
                | Fault::ImageMissing(text)
                | Fault::Refused(text),
            ) if pending.kind == Kind::Look => {
                self.engine_silent(&text);
                self.unsure(index, pending.kind);
            }
            Err(fault) => {
                self.engine_answers();
                self.refused(index, pending.kind, fault);
            }
        }
    }

    /// Nobody waits for a call any more.
    pub(super) fn expire(&mut self, index: usize, kind: Kind) {
        self.machines[index].pending = None;
        if kind == Kind::Verify {
            // That is the store's medium, and not the engine.
            self.step_over(index, "the store could not be read in time");
            return;
        }
        self.engine_silent("a call did not end in time");
        self.unsure(index, kind);
    }

    pub(super) fn progressed(&mut self, op: OpId) {
        let now = self.now;
        for machine in &mut self.machines {
            if let Some(pending) = &mut machine.pending
                && pending.op == op
                && let Kind::Image | Kind::Verify | Kind::Rebuild = pending.kind
            {
                pending.expires = now + MOVES;
            }
        }
    }

    fn succeeded(&mut self, index: usize, kind: Kind, outcome: Outcome) {
        let now = self.now;
        let role = self.machines[index].role.clone();
        match outcome {
            Outcome::Seen(seen) => self.looked(index, &seen),
            Outcome::Whole { id, sharers } => self.verified(index, id, sharers),
            Outcome::Image { id } => {
                let machine = &mut self.machines[index];
                machine.trouble = None;
                let before = std::mem::replace(&mut machine.image, Image::Ready(id));
                if kind == Kind::Rebuild {
                    self.rebuilt(index, &before);
                }
            }
            Outcome::Created {
                id,
                hash,
                image_id,
                image_health,
            } => {
                let machine = &mut self.machines[index];
                machine.image = Image::Unchecked;
                let found = Found {
                    id,
                    hash,
                    image_id,
                    image_health,
                };
                machine.enter(Phase::Created(found), now);
                machine.course = Course::Keep;
                let text = format!("{role}: container made");
                self.report(Some(&role), ReportKind::Created, text);
            }
            Outcome::Started(running) => {
                let machine = &mut self.machines[index];
                let Some(found) = machine.found().cloned() else {
                    return;
                };
                let tracker = Tracker::new(machine.question(&found), now);
                let alive = Alive {
                    found,
                    pid: running.pid,
                    address: running.address,
                    tracker,
                    watch: Watch::Pidfd,
                };
                machine.enter(Phase::Running(Box::new(alive)), now);
                machine.course = Course::Keep;
                if machine.record.started {
                    machine.record.restarts = machine.record.restarts.saturating_add(1);
                }
                machine.record.started = true;
                let text = format!("{role}: runs as process {}", running.pid);
                self.watch(index);
                self.report(Some(&role), ReportKind::Started, text);
            }
            Outcome::Ended => self.call_ended(index, kind),
        }
    }

    /// A stop or a removal is done.
    fn call_ended(&mut self, index: usize, kind: Kind) {
        let now = self.now;
        let machine = &mut self.machines[index];
        if kind == Kind::Remove {
            machine.enter(Phase::Absent, now);
            if machine.want == Want::Gone {
                let role = machine.role.clone();
                self.report(
                    Some(&role),
                    ReportKind::Removed,
                    format!("{role}: container removed, the workload no longer names it"),
                );
            }
            return;
        }
        // The pidfd may be slower than the engine.
        self.process_ended(index);
    }

    /// A running process has ended. What its exit code was, a look tells.
    pub(super) fn process_ended(&mut self, index: usize) {
        let now = self.now;
        let machine = &mut self.machines[index];
        let Some(alive) = machine.alive() else {
            return;
        };
        let (found, pid) = (alive.found.clone(), alive.pid);
        let ended = Ended::of(machine, now);
        machine.enter(
            Phase::Dead {
                found,
                pid,
                looks: 0,
            },
            now,
        );
        machine.look_at = now;
        self.ended(index, None, ended);
    }

    /// A call ended without an answer: only a look tells what it did.
    fn unsure(&mut self, index: usize, kind: Kind) {
        let (now, hold) = (self.now, self.engine.hold);
        let machine = &mut self.machines[index];
        machine.look_at = hold;
        match kind {
            // These change nothing that a pidfd or a later look does not show.
            Kind::Look | Kind::Image | Kind::Verify => {}
            // Nothing is looked at in between: only what was answered since tells this from silence.
            Kind::Stop if self.engine.silent > 1 => {}
            // To do it twice is to do it once.
            Kind::Stop | Kind::Rebuild => self.unanswered(index),
            Kind::Create | Kind::Start | Kind::Remove => {
                machine.enter(Phase::Unseen, now);
                self.unanswered(index);
            }
        }
    }

    /// The engine answered, and the answer is no.
    fn refused(&mut self, index: usize, kind: Kind, fault: Fault) {
        let now = self.now;
        let role = self.machines[index].role.clone();
        let text = match fault {
            Fault::ImageMissing(text)
            | Fault::NotFound(text)
            | Fault::Conflict(text)
            | Fault::Refused(text)
                if kind == Kind::Verify =>
            {
                self.not_verified(index, &text);
                return;
            }
            Fault::ImageMissing(text) => {
                if kind == Kind::Rebuild {
                    // Gone from both. It is waited for as ever.
                    self.machines[index].spare();
                }
                self.image_missing(index, &text);
                return;
            }
            Fault::NotFound(_) if matches!(kind, Kind::Stop | Kind::Remove) => {
                let machine = &mut self.machines[index];
                machine.look_at = now;
                machine.enter(Phase::Unseen, now);
                return;
            }
            Fault::NoAnswer(text)
            | Fault::NotFound(text)
            | Fault::Conflict(text)
            | Fault::Refused(text) => text,
        };
        let verb = match kind {
            Kind::Look => "look at its container",
            Kind::Image | Kind::Verify => "take its image",
            Kind::Rebuild => "take its image anew",
            Kind::Create => "make its container",
            Kind::Start => "start its container",
            Kind::Stop => "stop its container",
            Kind::Remove => "remove its container",
        };
        let text = format!("{role}: the engine will not {verb}: {text}");
        let machine = &mut self.machines[index];
        let known = machine.trouble.as_ref() == Some(&text);
        machine.trouble = Some(text.clone());
        if kind == Kind::Image
            && machine.alive().is_some()
            && machine.verdict() != Verdict::Unhealthy
        {
            // What runs is well: only what should replace it has to wait.
            machine.image = Image::missing(now);
            if !known {
                self.report(Some(&role), ReportKind::EngineRefused, text);
            }
            return;
        }
        self.report(Some(&role), ReportKind::EngineRefused, text);
        // What a refused call left behind is looked at before anything else is tried.
        let machine = &mut self.machines[index];
        if !matches!(kind, Kind::Image | Kind::Rebuild | Kind::Stop) {
            machine.enter(Phase::Unseen, now);
        }
        self.strike(index, None);
        let machine = &mut self.machines[index];
        machine.look_at = machine.record.hold.max(now + Duration::from_secs(1));
        machine.record.hold = machine.look_at;
    }

    /// Its image is nowhere. An archive may still bring it.
    fn image_missing(&mut self, index: usize, text: &str) {
        let machine = &mut self.machines[index];
        machine.image = Image::missing(self.now);
        if let Course::Recreate(Why::Sick) = machine.course {
            // What is there can still be restarted.
            machine.course = Course::Restart(Why::Sick);
        }
        let known = machine.trouble.as_deref() == Some(text);
        machine.trouble = Some(text.to_owned());
        let role = machine.role.clone();
        if self.preload == Preload::Done && !known {
            self.report(
                Some(&role),
                ReportKind::ImageMissing,
                format!("{role}: {text}"),
            );
        }
    }

    /// A process ended, or was found to have ended.
    pub(super) fn ended(&mut self, index: usize, code: Option<i64>, ended: Ended) {
        let role = self.machines[index].role.clone();
        let how = code.map_or(String::new(), |code| format!(" with exit code {code}"));
        match ended {
            Ended::AsAsked => {
                let text = format!("{role}: ended{how}, as asked");
                self.report(Some(&role), ReportKind::Exited, text);
            }
            Ended::ByItself { .. } if self.parting.is_some() => {
                let text = format!("{role}: ended{how}");
                self.report(Some(&role), ReportKind::Exited, text);
            }
            Ended::ByItself { healthy_for } => {
                self.machines[index].trouble = Some(format!("{ENDED}{how}"));
                let excused = self.ends_with_engine(index);
                let with = if excused {
                    " together with the engine"
                } else {
                    ""
                };
                let text = format!("{role}: {ENDED}{how}{with}");
                self.report(Some(&role), ReportKind::Exited, text);
                let machine = &self.machines[index];
                // What takes its place does not answer for it; while that has no image, there is none.
                let replaced =
                    machine.outdated() && !matches!(machine.image, Image::Missing { .. });
                if !excused && !replaced {
                    self.strike(index, healthy_for);
                }
            }
        }
    }

    /// A failure: the ladder answers it.
    pub(super) fn strike(&mut self, index: usize, healthy_for: Option<Duration>) {
        self.no_room(index);
        let policy = self.config.escalation.clone();
        let now = self.now;
        let machine = &mut self.machines[index];
        machine.before_failure(now);
        let record = &mut machine.record;
        record.strikes = record.strikes.saturating_add(1);
        record.quick = if healthy_for.is_some_and(|span| span >= CALM) {
            1
        } else {
            record.quick.saturating_add(1)
        };
        let answered = answer(record.strikes, record.spared, &policy);
        let delay = match answered {
            Answered::Spent => self
                .jitter
                .delay(u32::MAX, policy.backoff_base, policy.backoff_max),
            Answered::Restart(..) | Answered::Recreate(..) | Answered::Rebuild(..) => self
                .jitter
                .delay(record.quick, policy.backoff_base, policy.backoff_max),
        };
        record.hold = now + delay;
        let (course, kind, rung) = match answered {
            Answered::Restart(turn, of) => (
                Course::Restart(Why::Sick),
                ReportKind::Restarting,
                format!("restart {turn} of {of}"),
            ),
            Answered::Recreate(turn, of) => (
                Course::Recreate(Why::Sick),
                ReportKind::Recreating,
                format!("recreation {turn} of {of}"),
            ),
            Answered::Rebuild(turn, of) => (
                Course::Rebuild,
                ReportKind::Rebuilding,
                format!("rebuild of its image {turn} of {of}"),
            ),
            Answered::Spent if record.strikes.is_multiple_of(2) => (
                Course::Recreate(Why::Sick),
                ReportKind::Recreating,
                "a further recreation".to_owned(),
            ),
            Answered::Spent => (
                Course::Restart(Why::Sick),
                ReportKind::Restarting,
                "a further restart".to_owned(),
            ),
        };
        // Without a process there is nothing to stop: to be started is all that it needs.
        let course = match course {
            Course::Restart(_) if machine.alive().is_none() => Course::Keep,
            course => course,
        };
        // What root, the files or a leader want is not the ladder's to take back.
        if machine.course == Course::Keep || machine.course.is_the_ladders() {
            machine.course = course;
        }
        machine.image = Image::Unchecked;
        if self.parting.is_some() {
            // There is no time left for long delays.
            machine.record.hold = now + policy.backoff_base;
            return;
        }
        if machine.want == Want::Gone {
            return;
        }
        let role = machine.role.clone();
        let when = if delay.is_zero() {
            "now".to_owned()
        } else {
            format!("in {}.{} s", delay.as_secs(), delay.subsec_millis() / 100)
        };
        self.report(Some(&role), kind, format!("{role}: {rung} {when}"));
    }

    /// The look that was asked for a machine has come.
    fn looked(&mut self, index: usize, seen: &[crate::core::api::Seen]) {
        let now = self.now;
        let ended = Ended::of(&self.machines[index], now);
        let mine = self.choose(index, seen);
        let sight = self.machines[index].see(mine.as_ref(), now);
        let machine = &mut self.machines[index];
        machine.poll_later(now);
        if let Phase::Dead { looks, .. } = machine.phase
            && looks > LOOKS
        {
            self.engine_silent("it calls a process running that has ended");
            self.machines[index].look_at = self.engine.hold;
        }
        self.sighted(index, sight, ended);
    }

    pub(super) fn sighted(&mut self, index: usize, sight: Sight, ended: Ended) {
        let machine = &self.machines[index];
        let role = machine.role.clone();
        match sight {
            Sight::Same => {}
            Sight::Adopted => {
                let machine = &mut self.machines[index];
                machine.record.started = true;
                // It is another process than the one that was sick.
                machine.spare();
                self.watch(index);
                self.report(
                    Some(&role),
                    ReportKind::Adopted,
                    format!("{role}: runs already and is adopted"),
                );
            }
            Sight::Ended(code) => self.ended(index, code, ended),
            Sight::Confirmed(code) => {
                if self.machines[index].trouble.as_deref() == Some(ENDED) {
                    self.machines[index].trouble = Some(format!("{ENDED} with exit code {code}"));
                }
            }
        }
    }
}
