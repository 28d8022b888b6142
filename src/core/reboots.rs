//! The reboot budget: which reboots still count, by time that was seen to pass and by no calendar.
//!
//! A reboot counts until the node has been up for 24 hours since, in one boot or in several. So in any
//! 24 hours there are no more than the budget, whatever the node's clock says and however long it was
//! off. Time that was up and not yet written when the power went is lost, which only makes it count for
//! longer. Time is written down each time that one part of the day has passed, a part for each reboot of
//! the budget, and not at all once nothing counts any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::Time;
use crate::spec::types::Escalation;

/// How long a reboot counts, in seconds of uptime.
const DAY: u32 = 86_400;

/// The reboots that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboots {
    /// For each of them, the seconds of uptime that it still counts. One at zero is over as soon as the
    /// workload is stable: what reboots did not mend is not tried again by waiting.
    left: Vec<u32>,
    /// The boot that `counted` belongs to.
    boot: String,
    /// Up to here, in seconds since that boot, time has been taken into account.
    counted: u64,
}

impl Reboots {
    /// No budget is larger than this.
    pub fn all_spent() -> Self {
        Self {
            left: vec![DAY; Escalation::MOST_REBOOTS as usize],
            boot: String::new(),
            counted: 0,
        }
    }

    /// Nothing counts.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// How many count.
    pub fn count(&self) -> u32 {
        u32::try_from(self.left.len()).unwrap_or(u32::MAX)
    }

    /// When the newest was asked for, if that was in this boot and is less than `patience` ago: it may still come.
    pub fn under_way(&self, boot: &str, now: Time, patience: Duration) -> Option<Time> {
        // Without a time of this boot's, nothing was asked for in it, whoever else wrote here since.
        if boot.is_empty() || self.boot != boot || self.counted == 0 {
            return None;
        }
        let ago = u64::from(DAY.saturating_sub(*self.left.last()?));
        let asked = Time(Duration::from_secs(self.counted.saturating_sub(ago)));
        (now - asked < patience).then_some(asked)
    }

    /// As seen from this boot: in another one than it was written in, all of the time since the boot is new.
    #[must_use]
    pub fn in_boot(mut self, boot: &str) -> Self {
        if !self.is_empty() && self.boot != boot {
            boot.clone_into(&mut self.boot);
            self.counted = 0;
        }
        self
    }

    /// With one more, which counts from now on.
    #[must_use]
    pub fn one_more(&self, boot: &str, now: Time) -> Self {
        let mut more = self.clone().in_boot(boot).at(now);
        boot.clone_into(&mut more.boot);
        more.counted = now.0.as_secs();
        more.left.push(DAY);
        more
    }

    /// With all time up to now taken into account.
    #[must_use]
    pub fn at(&self, now: Time) -> Self {
        let now = now.0.as_secs();
        let passed = u32::try_from(now.saturating_sub(self.counted)).unwrap_or(u32::MAX);
        Self {
            left: self
                .left
                .iter()
                .map(|left| left.saturating_sub(passed))
                .collect(),
            boot: self.boot.clone(),
            counted: self.counted.max(now),
        }
    }

    /// When the time that has passed is to be written; `None` if no time matters.
    pub fn due(&self, per_day: u32) -> Option<Time> {
        let nearest = self.left.iter().copied().filter(|left| *left > 0).min()?;
        let part = DAY.div_ceil(per_day.max(1)).min(nearest);
        Some(Time(Duration::from_secs(
            self.counted.saturating_add(u64::from(part)),
        )))
    }

    /// Without those whose time has passed: the workload is stable.
    #[must_use]
    pub fn without_past(mut self) -> Self {
        self.left.retain(|left| *left > 0);
        if self.is_empty() {
            return Self::default();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Time {
        Time(Duration::from_secs(hours * 3600))
    }

    #[test]
    fn a_reboot_counts_for_a_day_of_uptime() {
        let one = Reboots::default().one_more("first", at(5));
        // The next boot begins at zero.
        let next = one.in_boot("second");
        assert_eq!(next.due(3), Some(at(8)));
        let next = next.at(at(8));
        assert_eq!(next.due(3), Some(at(16)));
        // Another daemon of the same boot goes on from there.
        let next = next.in_boot("second").at(at(23));
        assert_eq!(next.due(3), Some(at(24)), "no later than it must");
        assert_eq!(next.clone().without_past().count(), 1);
        let over = next.at(at(24));
        assert_eq!(over.due(3), None);
        assert_eq!(over.count(), 1, "until the workload is stable");
        assert_eq!(over.without_past(), Reboots::default());
    }

    #[test]
    fn short_boots_do_not_bring_it_back_twice() {
        let mut reboots = Reboots::default().one_more("0", at(1));
        for boot in ["1", "2", "3"] {
            reboots = reboots.in_boot(boot).at(at(7));
            assert_eq!(reboots.clone().without_past().count(), 1, "boot {boot}");
            // The same time, told again by the next daemon of that boot, is nothing new.
            assert_eq!(reboots.clone().in_boot(boot).at(at(7)), reboots);
            // Nor is a clock that went back.
            assert_eq!(reboots.at(at(2)), reboots);
        }
        assert!(reboots.in_boot("4").at(at(3)).without_past().is_empty());
    }

    #[test]
    fn one_that_was_asked_for_in_this_boot_may_still_come() {
        let second = |seconds| Time(Duration::from_secs(seconds));
        let patience = Duration::from_secs(300);
        let one = Reboots::default().one_more("this", second(1000));
        let under_way =
            |reboots: &Reboots, boot: &str, now| reboots.under_way(boot, second(now), patience);
        assert_eq!(under_way(&one, "this", 1299), Some(second(1000)));
        assert_eq!(
            under_way(&one.at(second(1100)), "this", 1200),
            Some(second(1000))
        );
        assert_eq!(under_way(&one, "this", 1300), None);
        assert_eq!(under_way(&one, "next", 1010), None);
        assert_eq!(under_way(&one.clone().in_boot("next"), "next", 10), None);
        assert_eq!(under_way(&one, "", 1010), None);
        assert_eq!(under_way(&Reboots::default(), "this", 1), None);
        assert_eq!(under_way(&Reboots::all_spent(), "this", 1), None);
    }

    #[test]
    fn a_later_one_counts_longer() {
        let two = Reboots::default()
            .one_more("a", at(0))
            .one_more("a", at(10));
        assert_eq!(two.at(at(24)).without_past().count(), 1);
        assert_eq!(two.at(at(34)).without_past().count(), 0);
        assert_eq!(two.due(24), Some(at(11)));
    }
}
