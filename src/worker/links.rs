//! Links of several sessions that came at once, written together: a burst would cost each of them a
//! statement of every kind otherwise. Inside the step's transaction.

use uuid::Uuid;

use super::flight::Flight;
use super::outcome::{LOCK_TIMEOUT, Office, Written, judge, row};
use crate::domain::meeting::Meeting;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::app;
use crate::store::jobs::{Made, Outcome};

/// A meeting and the attempt that made it.
pub type New<'a> = (&'a Flight, &'a Meeting);

impl Office<'_> {
    /// Meetings were made. Where their links cannot all be written at once, each is by itself, and
    /// fails by itself. Gives whether a link became visible.
    pub fn made_together(&self, made: &[New<'_>]) -> Result<bool, PgError> {
        // A link that takes the place of another is compared with that one.
        let (new, moved): (Vec<New<'_>>, Vec<New<'_>>) =
            made.iter().partition(|(flight, _)| !flight.claimed.moved);
        let written = match new.len() {
            0 | 1 => None,
            _ => xact::subtransaction(|| self.write_all(&new)).ok(),
        };
        let alone = match &written {
            Some(_) => moved,
            None => made.to_vec(),
        };
        let mut ready = false;
        if let Some(written) = written {
            let mut there = Vec::new();
            for (one @ (flight, meeting), written) in new.into_iter().zip(written) {
                self.record(&flight.claimed, Some(flight.provider.name()), Outcome::Made);
                if matches!(written, Written::There) {
                    there.push(one);
                } else {
                    let times = flight.times(true);
                    let state = self.made_otherwise(flight, meeting, times, Ok(written))?;
                    ready |= state == State::Ready;
                }
            }
            ready |= !there.is_empty();
            self.there(&there)?;
        }
        for (flight, meeting) in alone {
            ready |= self.made(flight, meeting, true)? == State::Ready;
        }
        Ok(ready)
    }

    /// Writes all of them, and looks at what came of each. Fails where one would.
    fn write_all(&self, made: &[New<'_>]) -> Result<Vec<Written>, PgError> {
        let mapped = self.attached()?;
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        let rows: Vec<Made<'_>> = made.iter().map(|one| row(*one)).collect();
        let ours = app::write_links(mapped, &rows)?;
        let ids: Vec<Uuid> = rows.iter().map(|one| one.session).collect();
        let now = app::sessions(mapped, &ids)?;
        made.iter()
            .map(|(flight, meeting)| {
                let id = flight.claimed.session;
                let now = now.iter().find(|session| session.id == id);
                judge(now, ours.contains(&id), meeting, flight.times(true))
            })
            .collect()
    }
}
