//! A row that names a key which is not there: the key may have come since the keys were read.

use std::time::{Duration, Instant};

/// Wait after a look that found nothing new; doubles. Whoever can write such a row must not keep the
/// worker busy with a slow key command.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// When a missing key is believed to be missing, and when it is looked for again.
#[derive(Default)]
pub(super) struct Doubt {
    until: Option<Instant>,
    wait: Duration,
}

impl Doubt {
    /// Whether the keys may be read again for it.
    pub(super) fn is_allowed(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// They were read, and were others than before, or not.
    pub(super) fn settle(&mut self, now: Instant, others: bool) {
        self.wait = if others {
            Duration::ZERO
        } else {
            (self.wait * 2).clamp(WAIT, WAIT_MAX)
        };
        self.until = Some(now + self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfounded_doubts_are_honoured_ever_less() {
        let mut doubt = Doubt::default();
        let mut now = Instant::now();
        let mut looks = 0;
        for _ in 0..3_600 {
            if doubt.is_allowed(now) {
                looks += 1;
                doubt.settle(now, false);
            }
            now += Duration::from_secs(1);
        }
        assert!((10..20).contains(&looks), "{looks} looks in an hour");
        doubt.settle(now, true);
        assert!(doubt.is_allowed(now));
    }
}
