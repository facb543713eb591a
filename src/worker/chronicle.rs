//! What happened in one step, for the figures: written in one statement.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::domain::sketch;
use crate::pg::error::PgError;
use crate::store::jobs::{self, Claimed, Line, Outcome};
use crate::store::stats::Happened;

/// Provider, what happened, bucket of a duration.
type Key = (String, &'static str, i16);

/// Counts of a step, and its lines in the ledger.
#[derive(Clone, Default)]
pub struct Chronicle {
    counts: RefCell<BTreeMap<Key, (i64, f64)>>,
    lines: RefCell<Vec<Line>>,
}

impl Chronicle {
    fn add(&self, provider: &str, what: &'static str, (bucket, seconds): (i16, f64), count: i64) {
        let mut all = self.counts.borrow_mut();
        let entry = all
            .entry((provider.to_owned(), what, bucket))
            .or_insert((0, 0.0));
        entry.0 += count;
        entry.1 += seconds;
    }

    /// Goes back to how it was: what came since was undone.
    pub fn back_to(&self, before: Self) {
        self.counts.replace(before.counts.into_inner());
        self.lines.replace(before.lines.into_inner());
    }

    /// Sessions that came without a link.
    pub fn sessions(&self, provider: &str, count: i64) {
        self.add(provider, "session", (0, 0.0), count);
    }

    /// An attempt that ended.
    pub fn attempt(&self, claimed: &Claimed, provider: Option<&str>, outcome: &Outcome<'_>) {
        self.add(provider.unwrap_or(""), outcome.class(), (0, 0.0), 1);
        let line = Line::new(claimed, provider, outcome);
        self.lines.borrow_mut().push(line);
    }

    /// A link that came so many seconds after its session.
    pub fn link(&self, provider: &str, seconds: f64) {
        let seconds = seconds.max(0.0);
        self.add(provider, "link", (sketch::bucket(seconds), seconds), 1);
    }

    /// Writes the ledger: an attempt's number is that after the last one written.
    pub fn write_lines(&self) -> Result<(), PgError> {
        jobs::record(&std::mem::take(&mut *self.lines.borrow_mut()))
    }

    /// What was counted, to be written with [`stats::add`].
    pub fn counts(&self) -> Vec<Happened> {
        let all = std::mem::take(&mut *self.counts.borrow_mut());
        let counts = all
            .into_iter()
            .map(|((provider, what, bucket), (count, seconds))| Happened {
                provider,
                what,
                bucket,
                count,
                seconds,
            });
        counts.collect()
    }
}
