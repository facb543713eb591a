//! Jobs whose first attempt begins in the step that first hears of their session.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::claims::Claimed;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::store::sql::{self, from_uuid, from_uuids, get, millis, uuid_at};

/// A session that has no job yet.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The session.
    pub session: Uuid,
    /// Its tutor.
    pub tutor: Option<Uuid>,
    /// Its start, in microseconds since the Unix epoch.
    pub starts_at: Option<i64>,
    /// When it was queued, likewise.
    pub queued_at: i64,
    /// Its lane.
    pub lane: &'static str,
}

impl Fresh {
    /// Its job, as it would be after a claim; `number`: of the attempt, in the ledger.
    pub fn claimed(&self, number: i32, now: DateTime<Utc>) -> Claimed {
        Claimed {
            session: self.session,
            tutor: self.tutor,
            provider: None,
            attempts: 1,
            setbacks: 0,
            hurried: false,
            gone: false,
            moved: false,
            adopt: false,
            may_exist_since: None,
            state: State::Pending,
            account: None,
            kept: None,
            made: None,
            number,
            started_at: now.timestamp_micros(),
            queued_at: sql::to_time(self.queued_at),
        }
    }
}

/// Which sessions have no job, with the number of their next attempt: the ledger may remember more
/// than the jobs. Only the worker makes jobs, so it stays true.
pub fn without_job(sessions: &[Uuid]) -> Result<HashMap<Uuid, i32>, PgError> {
    let found = sql::query(
        "SELECT u.id, (SELECT COALESCE(pg_catalog.max(a.number), 0) FROM meetlink.attempts a \
                        WHERE a.session_id = u.id) + 1 \
           FROM pg_catalog.unnest($1) u(id) \
          WHERE NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.session_id = u.id)",
        &[from_uuids(sessions.iter().copied()).into()],
        |row| Ok((uuid_at(row, 1)?, get(row, 2)?)),
    )?;
    Ok(found.into_iter().collect())
}

/// A job that is made as a claimed one.
pub struct Making<'a> {
    /// The session.
    pub fresh: &'a Fresh,
    /// Provider and tutor's account where a request that creates is about to go out, which is noted
    /// as by [`super::mark_sent`].
    pub sent: Option<(&'a str, Uuid)>,
}

/// Makes jobs that are claimed from their first moment.
pub fn make_claimed(made: &[Making<'_>], holder: i32, lease: Duration) -> Result<(), PgError> {
    if made.is_empty() {
        return Ok(());
    }
    let tutors = made.iter().map(|one| one.fresh.tutor.map(from_uuid));
    let starts = made.iter().map(|one| one.fresh.starts_at);
    let queued = made.iter().map(|one| one.fresh.queued_at);
    let lanes = made.iter().map(|one| one.fresh.lane);
    let providers = made
        .iter()
        .map(|one| one.sent.map(|(provider, _)| provider));
    let accounts = made
        .iter()
        .map(|one| one.sent.map(|(_, tutor)| from_uuid(tutor)));
    sql::execute(
        "INSERT INTO meetlink.jobs \
            (session_id, state, tutor_id, starts_at, queued_at, lane, attempts, lease_holder, \
             lease_until, provider, account_id, may_exist_since) \
         SELECT x.id, 'creating', x.tutor, pg_catalog.to_timestamp(x.start / 1000000.0), \
                pg_catalog.to_timestamp(x.queued / 1000000.0), COALESCE(x.provider, x.lane), 1, \
                $1, pg_catalog.clock_timestamp() + $2 * interval '1 ms', x.provider, x.account, \
                CASE WHEN x.provider IS NOT NULL THEN pg_catalog.clock_timestamp() END \
           FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), \
                           pg_catalog.unnest($5), pg_catalog.unnest($6), \
                           pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) \
                  x(id, tutor, start, queued, lane, provider, account)",
        &[
            holder.into(),
            millis(lease).into(),
            from_uuids(made.iter().map(|one| one.fresh.session)).into(),
            tutors.collect::<Vec<_>>().into(),
            starts.collect::<Vec<_>>().into(),
            queued.collect::<Vec<_>>().into(),
            lanes.collect::<Vec<_>>().into(),
            providers.collect::<Vec<_>>().into(),
            accounts.collect::<Vec<_>>().into(),
        ],
    )?;
    Ok(())
}
