//! How answers to a health question add up to a verdict.
//!
//! One [`Tracker`] lives as long as one run of one container. It says when to
//! ask next and what the answers mean; it never acts on them.
//!
//! ```text
//!              Pass                         retries x Fail
//!  Starting ─────────> Healthy <──Pass── Unhealthy <───────── any
//!                         │
//!                         └─ retries x CannotAsk ─> Unknown (Pass: Healthy)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::api::{Answer, AppNote};
use crate::core::time::Time;
use crate::spec::types::{Health, Probe, Timing};

/// What the answers add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No answer counts yet.
    Starting,
    /// The last answer was good, or the bad ones are still too few.
    Healthy,
    /// Too many bad answers in a row, or no process.
    Unhealthy,
    /// Nobody could ask. Never a reason to create or to kill.
    Unknown,
}

impl Verdict {
    /// Its word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// A container without a health question counts as healthy once it has run for so long.
const SETTLE: Duration = Duration::from_secs(2);

/// First delay between two questions after a start; it grows with the time that has passed.
const FIRST_ASK: Duration = Duration::from_millis(100);

/// How much later than its timeout a probe's answer may come before it is given up.
const LATE: Duration = Duration::from_secs(5);

/// What the tracker waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wait {
    /// For the time of the next question, or of the next look at what the app said.
    Until(Time),
    /// For the answer to this question.
    Answer { probe: u64, by: Time },
    /// For nothing: there is no question and the verdict stands.
    Nothing,
}

/// What the app has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum App {
    Silent,
    Heard(Time),
}

/// Follows one run of one container.
#[derive(Clone, Debug)]
pub struct Tracker {
    health: Option<Health>,
    started: Time,
    verdict: Verdict,
    since: Time,
    failures: u32,
    unanswerable: u32,
    /// One answer of this run was good: failures count from then on.
    passed: bool,
    wait: Wait,
    app: App,
    /// The app's own STATUS=.
    said: Option<String>,
    last: Option<(Time, Answer)>,
}

impl Tracker {
    /// Begins with the run; `health` is the question, if there is one.
    pub fn new(health: Option<Health>, now: Time) -> Self {
        let wait = match &health {
            None => Wait::Until(now + SETTLE),
            Some(Health {
                probe: Probe::Notify,
                timing,
            }) => Wait::Until(now + start_window(timing)),
            Some(_) => Wait::Until(now + FIRST_ASK),
        };
        Self {
            health,
            started: now,
            verdict: Verdict::Starting,
            since: now,
            failures: 0,
            unanswerable: 0,
            passed: false,
            wait,
            app: App::Silent,
            said: None,
            last: None,
        }
    }

    /// Begins in the middle of a run that an earlier daemon began: the app has had its time to say READY=1.
    pub fn adopted(health: Option<Health>, now: Time) -> Self {
        Self {
            app: App::Heard(now),
            ..Self::new(health, now)
        }
    }

    /// Puts another question in the place of the present one; the verdict stands until it is answered.
    pub fn ask_differently(&mut self, health: Option<Health>, now: Time) {
        if self.health == health {
            return;
        }
        // An app that said READY=1 once does not say it again for another question.
        let fresh = Self::adopted(health, now);
        *self = Self {
            verdict: self.verdict,
            since: self.since,
            started: self.started,
            passed: self.passed,
            ..fresh
        };
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when the verdict stands.
    pub fn since(&self) -> Time {
        self.since
    }

    /// The last answer and its time.
    pub fn last(&self) -> Option<&(Time, Answer)> {
        self.last.as_ref()
    }

    /// What the app last said of itself in its own words.
    pub fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// When [`Tracker::poll`] wants to be called at the latest.
    pub fn deadline(&self) -> Option<Time> {
        match self.wait {
            Wait::Until(at) => Some(at),
            Wait::Answer { by, .. } => Some(by),
            Wait::Nothing => None,
        }
    }

    /// Time has passed. Returns the question to ask now, numbered `next_probe`.
    pub fn poll(&mut self, now: Time, next_probe: u64) -> Option<Health> {
        match self.wait {
            Wait::Until(at) if at <= now => match self.health.clone() {
                None => {
                    self.wait = Wait::Nothing;
                    self.become_(Verdict::Healthy, now);
                    None
                }
                Some(Health {
                    probe: Probe::Notify,
                    timing,
                }) => {
                    self.listen(&timing, now);
                    None
                }
                Some(health) => {
                    self.wait = Wait::Answer {
                        probe: next_probe,
                        by: now + health.timing.timeout + LATE,
                    };
                    Some(health)
                }
            },
            Wait::Answer { by, .. } if by <= now => {
                // The shell owes an answer by the timeout. That none came is our fault, not the container's.
                self.take(
                    now,
                    Answer::CannotAsk("the probe itself did not end".to_owned()),
                );
                None
            }
            Wait::Until(_) | Wait::Answer { .. } | Wait::Nothing => None,
        }
    }

    /// An answer came. One to a question that is no longer open is ignored.
    pub fn answered(&mut self, now: Time, probe: u64, answer: Answer) {
        if matches!(self.wait, Wait::Answer { probe: open, .. } if open == probe) {
            self.take(now, answer);
        }
    }

    /// The app spoke. Only matters where the app is what we listen to.
    pub fn app(&mut self, now: Time, note: &AppNote) {
        let Some(Health {
            probe: Probe::Notify,
            timing,
        }) = &self.health
        else {
            return;
        };
        let interval = timing.interval;
        match note {
            AppNote::Ready => self.heard(now, interval, "READY=1"),
            // Signs of life before READY=1 are kept apart from it: the app lives, and is not ready.
            AppNote::Alive if self.app == App::Silent => {}
            AppNote::Alive => self.heard(now, interval, "WATCHDOG=1"),
            AppNote::Sick => {
                self.last = Some((
                    now,
                    Answer::Fail("the app says WATCHDOG=trigger".to_owned()),
                ));
                self.become_(Verdict::Unhealthy, now);
            }
            AppNote::Status(text) => self.said = Some(text.clone()),
            // It says nothing of its health.
            AppNote::Busy(_) => {}
        }
    }

    fn heard(&mut self, now: Time, interval: Duration, word: &str) {
        self.app = App::Heard(now);
        self.failures = 0;
        self.wait = Wait::Until(now + interval);
        self.last = Some((now, Answer::Pass(word.to_owned())));
        self.become_(Verdict::Healthy, now);
    }

    /// An interval has passed without a word from the app.
    fn listen(&mut self, timing: &Timing, now: Time) {
        self.wait = Wait::Until(now + timing.interval);
        let text = match self.app {
            App::Silent => "the app has not sent READY=1".to_owned(),
            App::Heard(at) => format!("no WATCHDOG=1 for {} s", (now - at).as_secs()),
        };
        self.count_failure(now, timing.retries);
        self.last = Some((now, Answer::Fail(text)));
    }

    fn take(&mut self, now: Time, answer: Answer) {
        let Some(Health { timing, .. }) = self.health.clone() else {
            return;
        };
        match &answer {
            Answer::Pass(_) => {
                self.failures = 0;
                self.unanswerable = 0;
                self.passed = true;
                self.become_(Verdict::Healthy, now);
            }
            Answer::Fail(_) => {
                self.unanswerable = 0;
                let forgiven =
                    self.verdict == Verdict::Starting && now - self.started < start_window(&timing);
                if !forgiven {
                    self.count_failure(now, timing.retries);
                }
            }
            Answer::CannotAsk(_) => {
                self.unanswerable = self.unanswerable.saturating_add(1);
                if self.unanswerable >= timing.retries {
                    self.become_(Verdict::Unknown, now);
                }
            }
        }
        self.wait = Wait::Until(now + self.pause(&timing, now));
        self.last = Some((now, answer));
    }

    fn count_failure(&mut self, now: Time, retries: u32) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= retries {
            self.become_(Verdict::Unhealthy, now);
        }
    }

    /// How long until the next question.
    fn pause(&self, timing: &Timing, now: Time) -> Duration {
        let run = now - self.started;
        if !self.passed && run < start_window(timing) {
            // Often at first, so that a quick start is seen quickly, then less so.
            run.max(FIRST_ASK)
                .min(timing.start_interval)
                .min(timing.interval)
        } else {
            timing.interval
        }
    }

    fn become_(&mut self, verdict: Verdict, now: Time) {
        if self.verdict != verdict {
            self.verdict = verdict;
            self.since = now;
        }
    }
}

/// How long after a start failures do not count: `start_period`, and never less than `interval`,
/// because that is when Docker would ask for the first time.
fn start_window(timing: &Timing) -> Duration {
    timing.start_period.max(timing.interval)
}

#[cfg(test)]
#[allow(
    clippy::unnecessary_wraps,
    reason = "a tracker takes an optional question"
)]
mod tests {
    use super::Verdict::{Healthy, Unhealthy};
    use super::*;
    use crate::spec::types::Target;

    fn at(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    fn tcp() -> Option<Health> {
        Some(Health {
            probe: Probe::Tcp(Target::Own(80)),
            timing: Timing {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                retries: 3,
                start_period: Duration::from_secs(30),
                start_interval: Duration::from_secs(5),
            },
        })
    }

    fn fail() -> Answer {
        Answer::Fail("no".to_owned())
    }

    fn pass() -> Answer {
        Answer::Pass("yes".to_owned())
    }

    /// Answers each question as it comes, and returns when each was asked (ms) and the verdict after it.
    fn run(health: Option<Health>, answers: &[Answer]) -> Vec<(u128, Verdict)> {
        let mut tracker = Tracker::new(health, at(0));
        let mut told = Vec::new();
        for (number, answer) in answers.iter().enumerate() {
            let now = tracker.deadline().expect("a question is due");
            assert!(tracker.poll(now, number as u64).is_some());
            tracker.answered(now, number as u64, answer.clone());
            told.push((now.0.as_millis(), tracker.verdict()));
        }
        told
    }

    #[test]
    fn asks_often_at_first_and_forgives_failures_in_the_start_period() {
        let told = run(tcp(), &vec![fail(); 15]);
        let times: Vec<u128> = told.iter().map(|(time, _)| *time).collect();
        assert_eq!(
            times[..9],
            [100, 200, 400, 800, 1600, 3200, 6400, 11400, 16400]
        );
        assert!(
            told[..11]
                .iter()
                .all(|(_, verdict)| *verdict == Verdict::Starting),
            "{told:?}"
        );
        // The start period ends at 30 s: three failures after it.
        let unhealthy = told
            .iter()
            .position(|(_, verdict)| *verdict == Verdict::Unhealthy);
        assert_eq!(unhealthy.map(|index| told[index].0), Some(51_400));
    }

    #[test]
    fn verdicts_have_hysteresis() {
        let told = run(
            tcp(),
            &[
                pass(),
                fail(),
                fail(),
                pass(),
                fail(),
                fail(),
                fail(),
                pass(),
            ],
        );
        let verdicts: Vec<Verdict> = told.iter().map(|(_, verdict)| *verdict).collect();
        assert_eq!(
            verdicts,
            [
                Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy
            ]
        );
    }

    #[test]
    fn not_being_able_to_ask_is_unknown_and_never_unhealthy() {
        let told = run(
            tcp(),
            &[pass(), fail(), fail(), Answer::CannotAsk(String::new())],
        );
        assert_eq!(told[3].1, Verdict::Healthy);
        let mut answers = vec![pass()];
        answers.extend(vec![Answer::CannotAsk("engine".to_owned()); 5]);
        assert_eq!(
            run(tcp(), &answers).last().map(|last| last.1),
            Some(Verdict::Unknown)
        );
    }

    #[test]
    fn a_late_or_doubled_answer_is_ignored() {
        let mut tracker = Tracker::new(tcp(), at(0));
        tracker.poll(at(100), 7);
        tracker.answered(at(110), 6, pass());
        assert_eq!(tracker.verdict(), Verdict::Starting);
        tracker.answered(at(120), 7, pass());
        tracker.answered(at(130), 7, fail());
        assert_eq!(tracker.verdict(), Verdict::Healthy);
        assert_eq!(tracker.last().map(|last| last.1.clone()), Some(pass()));
    }

    #[test]
    fn a_probe_that_never_ends_is_not_the_containers_fault() {
        let mut tracker = Tracker::new(tcp(), at(0));
        tracker.poll(at(100), 1);
        let late = tracker.deadline().expect("it is waited for");
        assert_eq!(late, at(7100));
        assert_eq!(tracker.poll(late, 2), None);
        assert_eq!(tracker.verdict(), Verdict::Starting);
        assert!(tracker.deadline().is_some_and(|next| next > late));
    }

    #[test]
    fn without_a_question_running_is_healthy_after_a_moment() {
        let mut tracker = Tracker::new(None, at(0));
        assert_eq!(tracker.poll(at(1999), 1), None);
        assert_eq!(tracker.verdict(), Verdict::Starting);
        assert_eq!(tracker.poll(at(2000), 1), None);
        assert_eq!(tracker.verdict(), Verdict::Healthy);
        assert_eq!(tracker.deadline(), None);
    }

    #[test]
    fn an_app_speaks_for_itself() {
        let health = tcp().map(|health| Health {
            probe: Probe::Notify,
            ..health
        });
        let mut tracker = Tracker::new(health, at(0));
        tracker.app(at(10), &AppNote::Alive);
        assert_eq!(tracker.verdict(), Verdict::Starting, "alive is not ready");
        tracker.app(at(1000), &AppNote::Ready);
        assert_eq!(tracker.verdict(), Verdict::Healthy);
        for (time, verdict) in [
            (11_000, Verdict::Healthy),
            (21_000, Verdict::Healthy),
            (31_000, Verdict::Unhealthy),
        ] {
            assert_eq!(tracker.deadline(), Some(at(time)));
            tracker.poll(at(time), 0);
            assert_eq!(tracker.verdict(), verdict, "at {time}");
        }
        tracker.app(at(32_000), &AppNote::Alive);
        assert_eq!(tracker.verdict(), Verdict::Healthy);
        tracker.app(at(33_000), &AppNote::Sick);
        assert_eq!(tracker.verdict(), Verdict::Unhealthy);
    }

    #[test]
    fn another_question_keeps_the_verdict_until_it_is_answered() {
        let mut tracker = Tracker::new(tcp(), at(0));
        tracker.poll(at(100), 1);
        tracker.answered(at(100), 1, pass());
        let mut other = tcp().expect("a question");
        other.timing.interval = Duration::from_secs(60);
        tracker.ask_differently(Some(other), at(200));
        assert_eq!(tracker.verdict(), Verdict::Healthy);
        assert_eq!(tracker.deadline(), Some(at(300)));
    }
}
