//! Waiting for what only a look can tell.

use crate::logs;
use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something, and returns it.
///
/// `what` finishes the sentence "waited for ...". It looks at least once, and once more after the
/// deadline, so a slow machine does not fail a wait that was never given its turn.
///
/// # Panics
/// When the deadline has passed: says what was waited for, and shows the end of the server logs.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let last = begun.elapsed() >= deadline;
        if let Some(found) = look() {
            return found;
        }
        if last {
            panic!("waited {deadline:?} in vain for {what}{}", logs::tails());
        }
        thread::sleep(PAUSE);
    }
}

/// [`until`] for a condition that has nothing to return.
///
/// # Panics
/// As [`until`] does.
#[track_caller]
pub fn until_true(deadline: Duration, what: &str, mut look: impl FnMut() -> bool) {
    until(deadline, what, || look().then_some(()))
}
