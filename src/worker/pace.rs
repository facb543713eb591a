//! What jobs wait for, the providers or the worker, and how much a step takes on for that reason.

use std::time::Duration;

/// Of each kind so much in a step while providers are waited for: a place that is free is not to
/// wait for all the others'.
const SOME: usize = 32;
/// And so much where the worker is: each step has its price. Bounds how long one lasts.
pub const MANY: usize = 1_000;
/// Tries by hand under way at once at each provider, and as many of those that have none yet, beyond
/// what there is room for.
pub const HURRIED: usize = 4;
/// Attempts a second from which on it is the worker: half of what one wrote down at most.
const PACE: f64 = 3_000.0;
/// How much of the mean the newest attempt is.
const WEIGHT: f64 = 0.125;

/// How long attempts take at their threads, in seconds.
pub struct Pace(f64);

impl Pace {
    /// Before the first: as providers are wont to be.
    pub fn new() -> Self {
        Self(0.1)
    }

    /// Takes an attempt into the mean.
    pub fn note(&mut self, took: Duration) {
        self.0 += (took.as_secs_f64() - self.0) * WEIGHT;
    }

    /// Whether it is the providers that jobs wait for, with so many requests at once.
    pub fn is_theirs(&self, limit: usize) -> bool {
        limit as f64 <= self.0 * PACE
    }

    /// How much of each kind a step takes on.
    pub fn at_once(&self, limit: usize) -> usize {
        if self.is_theirs(limit) { SOME } else { MANY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_on_more_where_providers_answer_at_once() {
        let mut pace = Pace::new();
        assert!(pace.is_theirs(32) && pace.is_theirs(256));
        for _ in 0..50 {
            pace.note(Duration::from_millis(1));
        }
        assert!(!pace.is_theirs(32));
        assert_eq!(pace.at_once(32), MANY);
        for _ in 0..50 {
            pace.note(Duration::from_millis(100));
        }
        assert_eq!(pace.at_once(200), SOME);
        // So many at once are more than the worker can follow.
        assert_eq!(pace.at_once(1_000), MANY);
    }
}
