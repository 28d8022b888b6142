//! How long to wait before the next attempt.

use std::time::Duration;

/// Randomness from a seed that is handed in (`SplitMix64`; Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The delay before attempt `attempt` (1 is the first): none, then `base`, doubling up to `max`,
    /// each between three and five quarters of itself, and never above `max`, so that a fleet does not beat in step.
    pub fn delay(&mut self, attempt: u32, base: Duration, max: Duration) -> Duration {
        let Some(doublings) = attempt.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 2u32.saturating_pow(doublings);
        let whole = base.saturating_mul(factor).min(max);
        let percent = 75 + u32::try_from(self.next() % 51).unwrap_or(25);
        (whole.saturating_mul(percent) / 100).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_base_to_max_with_bounded_jitter() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(60));
        for seed in 0..200 {
            let mut jitter = Jitter::new(seed);
            assert_eq!(jitter.delay(0, base, max), Duration::ZERO);
            assert_eq!(jitter.delay(1, base, max), Duration::ZERO);
            for (attempt, whole) in [
                (2, 1),
                (3, 2),
                (4, 4),
                (7, 32),
                (8, 60),
                (40, 60),
                (u32::MAX, 60),
            ] {
                let delay = jitter.delay(attempt, base, max).as_millis();
                let whole: u128 = whole * 1000;
                assert!(
                    (whole * 3 / 4..=whole * 5 / 4).contains(&delay),
                    "attempt {attempt}: {delay} ms"
                );
            }
        }
    }

    #[test]
    fn a_seed_decides_it() {
        let draw =
            |seed| Jitter::new(seed).delay(5, Duration::from_secs(10), Duration::from_secs(600));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
