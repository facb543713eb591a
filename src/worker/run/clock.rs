//! Steps of the wall clock.
//!
//! What is waited for is stored as a date, since it has to outlive the process. While it lives, a
//! clock that no one sets tells how long something really took: when the wall clock disagrees, it
//! was stepped, and the dates are moved along. So a wait is neither cut short nor prolonged by a
//! day.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::pg::error::PgError;
use crate::pg::{process, xact};
use crate::store::jobs;

/// Clocks that differ by less were not stepped, but slewed, or read at different moments.
const TOLERANCE: i64 = 1_000;

/// Both clocks, as they were when they were last compared.
pub struct Clock {
    wall: DateTime<Utc>,
    steady: Duration,
}

impl Clock {
    /// The clocks now.
    pub fn new() -> Self {
        Self {
            wall: Utc::now(),
            steady: process::time_since_boot(),
        }
    }

    /// Moves the dates if the wall clock was stepped since the last time; gives by how much, if it was.
    pub fn tell_steps(&mut self) -> Result<Option<TimeDelta>, PgError> {
        let now = Self::new();
        let steady = now.steady.saturating_sub(self.steady);
        let steady = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
        let step = (now.wall - self.wall)
            .num_milliseconds()
            .saturating_sub(steady);
        if step.abs() >= TOLERANCE {
            pgrx::log!(
                "meetlink worker: the clock was stepped by {step} ms; waits go on as long as they would have"
            );
            xact::transaction(|| jobs::shift_dates(step))?;
        }
        *self = now;
        Ok((step.abs() >= TOLERANCE).then(|| TimeDelta::milliseconds(step)))
    }
}
