//! When to try again: exponential backoff with full jitter.
//!
//! Full jitter (a uniformly random part of the whole interval) spreads a crowd of jobs that failed
//! together better than a fixed interval with a small jitter does; the comparison is in the AWS
//! Architecture Blog, "Exponential Backoff And Jitter".

use std::time::Duration;

/// The retry settings of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Upper bound of the first wait.
    pub base: Duration,
    /// Upper bound of every wait.
    pub max: Duration,
    /// Attempts before a job is given up.
    pub max_attempts: u32,
}

/// Shortest wait: a retry at once would meet the same trouble.
const FLOOR: Duration = Duration::from_millis(50);

impl Policy {
    /// The longest that attempt number `attempts` (from 1) may be followed by waiting.
    pub fn ceiling(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.base
            .checked_mul(1 << doublings)
            .map_or(self.max, |wait| wait.min(self.max))
            .max(FLOOR)
    }

    /// The wait after attempt number `attempts`; `random` is uniform over all of `u64`.
    pub fn wait(&self, attempts: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(attempts);
        spread(ceiling, random).max(FLOOR)
    }

    /// A wait that the provider asked for, a little spread so that a crowd does not come back in
    /// one moment: never earlier than asked, at most a tenth (and 10 s) later.
    pub fn at_least(&self, asked: Duration, random: u64) -> Duration {
        let slack = (asked / 10).clamp(FLOOR, Duration::from_secs(10));
        asked + spread(slack, random)
    }
}

/// A uniformly random part of `whole`.
pub(super) fn spread(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        base: Duration::from_secs(2),
        max: Duration::from_secs(900),
        max_attempts: 10,
    };

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let seconds: Vec<u64> = (1..=12).map(|n| POLICY.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
        assert_eq!(POLICY.ceiling(u32::MAX), POLICY.max);
    }

    #[test]
    fn the_wait_is_spread_over_the_whole_interval() {
        assert_eq!(POLICY.wait(3, 0), FLOOR);
        assert!(POLICY.wait(3, u64::MAX) < Duration::from_secs(8));
        assert!(POLICY.wait(3, u64::MAX) > Duration::from_millis(7_999));
        assert_eq!(POLICY.wait(3, 1 << 63), Duration::from_secs(4));
    }

    #[test]
    fn an_asked_wait_is_never_cut_short() {
        let asked = Duration::from_secs(30);
        assert_eq!(POLICY.at_least(asked, 0), asked);
        assert!(POLICY.at_least(asked, u64::MAX) <= Duration::from_secs(33));
        let day = Duration::from_secs(86_400);
        assert!(POLICY.at_least(day, u64::MAX) <= day + Duration::from_secs(10));
    }
}
