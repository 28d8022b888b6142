//! A time that comes again and again and lasts for a while: when updates may be activated.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Calendar, Civil};

/// Open for a while from each elapse of a calendar on.
///
/// What it is asked about is the time that a clock shows: UTC if [`Window::opens`] says so, else the node's
/// own. Where that clock is set back for winter, an opening in the repeated hour comes twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    opens: Calendar,
    length: Duration,
}

impl Window {
    /// How long it may be open.
    pub const LENGTHS: RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
    /// How long it is open if its owner does not say.
    pub const DEFAULT_LENGTH: Duration = Duration::from_secs(3600);

    /// A window; `None` if `length` is not within [`Window::LENGTHS`].
    pub fn new(opens: Calendar, length: Duration) -> Option<Self> {
        Self::LENGTHS
            .contains(&length)
            .then_some(Self { opens, length })
    }

    /// When it opens.
    pub fn opens(&self) -> &Calendar {
        &self.opens
    }

    /// How long it is open.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Whether it is open now: it opened at some elapse, `now` or before, less than its length ago.
    pub fn is_open(&self, now: Civil) -> bool {
        self.opened(now).is_some()
    }

    /// The next time at which it opens, or at which it closes if it is open; `None` if it never opens again.
    ///
    /// Openings that touch or overlap are one.
    pub fn changes_at(&self, now: Civil) -> Option<Civil> {
        match self.opened(now) {
            Some(opened) => Some(self.closes(opened)),
            None => self.opens.next_at_or_after(now),
        }
    }

    /// The first elapse of those whose openings are not over yet.
    fn opened(&self, now: Civil) -> Option<Civil> {
        let now = now.normal();
        self.opens
            .next_at_or_after(now.plus(1 - self.seconds()))
            .filter(|opened| *opened <= now)
    }

    /// When the opening that this elapse is in ends.
    fn closes(&self, opened: Civil) -> Civil {
        let mut at = opened;
        loop {
            at = self.opens.last_in_steps_of(self.seconds(), at);
            let closes = at.plus(self.seconds());
            match self.opens.next_at_or_after(at.plus(1)) {
                Some(next) if next <= closes => at = next,
                Some(_) | None => return closes,
            }
        }
    }

    /// Its length, with a second that has begun counted whole, as elapses are at whole seconds.
    fn seconds(&self) -> i64 {
        let begun = i64::from(self.length.subsec_nanos() > 0);
        // A week at most.
        i64::try_from(self.length.as_secs()).unwrap_or(i64::MAX - 1) + begun
    }
}
