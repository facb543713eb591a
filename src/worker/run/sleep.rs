//! When the worker sleeps, and for how long.

use std::time::{Duration, Instant};

use super::Worker;
use crate::pg::activity::Activity;
use crate::pg::process;

fn is_past(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}

impl Worker {
    /// Sleeps until something comes or is due.
    pub(super) fn rest(&mut self) {
        let timeout = self.timeout();
        if timeout.is_none_or(|time| !time.is_zero()) {
            let idle = self.flights.is_empty();
            if self.mapped.is_some() && self.trouble.is_none() {
                let activity = match (idle, self.settings.enabled) {
                    (_, false) => Activity::Disabled,
                    (true, _) => Activity::Idle,
                    (false, _) => Activity::Busy,
                };
                self.slot.show(activity, self.flights.len());
            }
            process::report_statistics(idle);
            process::report_activity(false);
        }
        // The latch is the process's own: whatever a step waited for (a lock, say) has reset it, and
        // a ring of that time with it. The flags tell; what rings after them sets the latch again.
        let missed = self.slot.is_rung() || process::is_reload_asked();
        let timeout = if missed {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        process::sleep(Some(self.pool.descriptor()), timeout);
    }

    /// How long to sleep.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let resting = self.resting.iter().map(|(at, ..)| *at).min();
        let pausing = self.patience_ends();
        let until = match &self.trouble {
            // Once its time is over, a pause that cannot be had is tried again with the rest.
            Some(trouble) => {
                let pausing = pausing.filter(|at| *at > Instant::now());
                Some(pausing.map_or(trouble.until, |at| at.min(trouble.until)))
            }
            None if self.more_inbox || !self.reports.is_empty() => Some(Instant::now()),
            None if self.pausing_since.is_some() && !self.has_something() => Some(Instant::now()),
            None => {
                let deliver = self.deliver_at.filter(|_| self.may_deliver());
                let trim = self.mapped.as_ref().map(|_| self.chores.at());
                let all = [
                    self.due,
                    self.prepared,
                    self.unsaved_at.filter(|_| self.mapped.is_some()),
                    resting,
                    pausing,
                    deliver,
                    trim,
                ];
                all.into_iter().flatten().min()
            }
        };
        until.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether a paused worker has waited long enough for what is under way.
    pub(super) fn has_to_leave(&self) -> bool {
        is_past(self.patience_ends())
    }

    /// Whether something may have come into the inbox without a word.
    pub(super) fn is_unsure(&self) -> bool {
        is_past(self.prepared) || self.mapped.is_some() && is_past(Some(self.chores.at()))
    }

    /// Whether there is something to be done.
    pub(super) fn is_time(&self) -> bool {
        self.is_unsure()
            || is_past(self.due)
            || self.may_deliver() && is_past(self.deliver_at)
            || self.pausing_since.is_some()
    }

    pub(super) fn may_call(&self) -> bool {
        self.settings.enabled && self.files.client.is_some() && self.pausing_since.is_none()
    }

    pub(super) fn may_deliver(&self) -> bool {
        self.may_call() && self.mapped.is_some()
    }
}
