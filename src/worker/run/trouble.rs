//! What is wrong: shown in `meetlink.workers`, logged once, and waited for.

use std::time::{Duration, Instant};

use pgrx::log;

use super::Worker;
use crate::pg::activity::Activity;
use crate::pg::error::PgError;

/// Wait after a failed step; doubles.
const TROUBLE_WAIT: Duration = Duration::from_millis(100);
const TROUBLE_WAIT_MAX: Duration = Duration::from_secs(30);
/// The same trouble is logged again after this time.
const TROUBLE_SILENCE: Duration = Duration::from_secs(60);
/// A step that failed as a whole, to be tried again.
pub(super) struct Trouble {
    pub(super) until: Instant,
    wait: Duration,
}

impl Worker {
    /// Shows what is wrong with keys or certificates, or that nothing is.
    pub(super) fn complain(&self) {
        let complaint = self.files.complaint.as_str();
        self.slot.note.set(complaint);
        if !complaint.is_empty() {
            log!("meetlink: {complaint}");
        }
    }

    /// Shows a trouble, and logs it unless it was logged just now.
    pub(super) fn say(&mut self, text: &str) {
        let known = self
            .logged
            .as_ref()
            .is_some_and(|(at, last)| *last == text && at.elapsed() < TROUBLE_SILENCE);
        if !known {
            log!("meetlink worker: {text}; it tries again by itself");
            self.logged = Some((Instant::now(), text.to_owned()));
        }
        self.slot.note.set(text);
    }

    /// A step failed as a whole: say so once, wait, and try again.
    pub(super) fn note_trouble(&mut self, error: &PgError) {
        let now = Instant::now();
        let (wait, until) = match &self.trouble {
            // Results that come in meanwhile are tried at once; their failing again proves nothing.
            Some(trouble) if now < trouble.until => (trouble.wait, trouble.until),
            Some(trouble) => {
                let wait = (trouble.wait * 2).min(TROUBLE_WAIT_MAX);
                (wait, now + wait)
            }
            None => (TROUBLE_WAIT, now + TROUBLE_WAIT),
        };
        self.careful = error.is_about_data();
        // Giving way to somebody's lock once or twice is no news.
        if !error.is_about_locks() || wait > TROUBLE_WAIT * 2 {
            // A row of the application may have raised it, in words of its own: they go into the
            // ledger with that row, not to whoever looks at the worker. What goes on when rows are
            // looked at one by one is something else.
            let text = if self.careful && self.trouble.is_none() {
                "a row of the application raised an error; they are looked at one by one".to_owned()
            } else {
                error.to_string()
            };
            self.say(&text);
        }
        self.slot.show(Activity::Waiting, self.flights.len());
        self.trouble = Some(Trouble { until, wait });
    }
}
