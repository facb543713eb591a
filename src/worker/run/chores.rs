//! What is done once an hour, and after a reload, a little at a time: old rows are removed, and
//! whoever waits for a person is looked at, for a session may be over or deleted without a word.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::config::Settings;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::inbox::Wish;
use crate::store::mapped::Mapped;
use crate::store::{app, inbox, jobs, retention};

/// How often, and the rest between two batches.
const WAIT: Duration = Duration::from_secs(3_600);
const REST: Duration = Duration::from_millis(500);
/// Sessions looked at in one batch.
const BATCH: i64 = 1_000;

/// How far they are.
pub(super) struct Chores {
    at: Instant,
    /// The session that was looked at last; `None`: all were.
    after: Option<Uuid>,
}

impl Chores {
    /// All of them are due.
    pub(super) fn new() -> Self {
        Self {
            at: Instant::now(),
            after: Some(Uuid::nil()),
        }
    }

    /// When the next batch is due.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Does what is due; whether something was put into the inbox.
    pub(super) fn attend(&mut self, mapped: &Mapped, settings: &Settings) -> Result<bool, PgError> {
        if self.at > Instant::now() {
            return Ok(false);
        }
        // Should it fail, the rest of the work does not wait for it.
        self.at = Instant::now() + WAIT;
        let (attempts, notices) = (settings.keep_attempts, settings.keep_notifications);
        let more = xact::transaction(|| retention::trim(attempts, notices))?;
        let after = self.after;
        let (next, queued) = match after {
            Some(after) => xact::transaction(|| look(mapped, after))?,
            None => (None, false),
        };
        self.after = next;
        if more || next.is_some() {
            self.at = Instant::now() + REST;
        } else {
            self.after = Some(Uuid::nil());
        }
        Ok(queued)
    }
}

/// Looks at a batch of sessions whose jobs wait for a person; those that want no link any more are
/// put into the inbox. Gives where to go on, and whether there were any.
fn look(mapped: &Mapped, after: Uuid) -> Result<(Option<Uuid>, bool), PgError> {
    let ids = jobs::waiting_for_people(after, BATCH)?;
    let last = ids.last().copied();
    let over: Vec<Uuid> = match xact::subtransaction(|| app::sessions(mapped, &ids)) {
        Ok(sessions) => {
            let wanting = sessions.into_iter().filter(|session| session.wants);
            let wanting: HashSet<Uuid> = wanting.map(|session| session.id).collect();
            let mut ids = ids.clone();
            ids.retain(|id| !wanting.contains(id));
            ids
        }
        // A row that cannot be read is looked at when it is its turn.
        Err(_) => Vec::new(),
    };
    if !over.is_empty() {
        inbox::add(&over, Wish::Wanted)?;
    }
    let full = i64::try_from(ids.len()).unwrap_or(0) >= BATCH;
    Ok((last.filter(|_| full), !over.is_empty()))
}
