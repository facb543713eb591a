//! `meetlink.inbox`: what the worker has not looked at yet.

use uuid::Uuid;

use super::mapped::Mapped;
use super::sql::{self, from_uuid, get, maybe, uuid_at};
use crate::domain::state::State;
use crate::pg::error::PgError;

/// Why a row is in the inbox. A trigger's rows have 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Wish {
    /// `meetlink_create_missing`.
    Wanted = 1,
    /// `meetlink_retry`.
    Now = 2,
}

/// Rows taken at once: bounds the length of a transaction.
pub const BATCH: i64 = 10_000;

/// What draining gave.
pub struct Drained {
    /// Inbox rows taken.
    pub taken: i64,
    /// Jobs that were made or changed, with their state.
    pub jobs: Vec<(Uuid, State)>,
}

/// Turns inbox rows into jobs, `rows` of them at most.
pub fn drain(mapped: &Mapped, rows: i64) -> Result<Drained, PgError> {
    let mut drained = Drained {
        taken: 0,
        jobs: Vec::new(),
    };
    sql::query(mapped.drain(), &[rows.into()], |row| {
        drained.taken = get(row, 1)?;
        if let Some(session) = sql::maybe_uuid(row, 2)? {
            let state = maybe::<String>(row, 3)?.as_deref().and_then(State::parse);
            drained
                .jobs
                .push((session, state.unwrap_or(State::Pending)));
        }
        Ok(())
    })?;
    Ok(drained)
}

/// Takes the first inbox row out and parks its session as failed; the row cannot be looked at.
pub fn set_aside(reason: &str, error: &str) -> Result<Option<Uuid>, PgError> {
    let session = sql::query_one(
        "DELETE FROM meetlink.inbox \
          WHERE ctid = ANY (ARRAY(SELECT ctid FROM meetlink.inbox LIMIT 1)) RETURNING session_id",
        &[],
        |row| sql::maybe_uuid(row, 1),
    )?
    .flatten();
    if let Some(session) = session {
        sql::execute(
            "INSERT INTO meetlink.jobs AS j (session_id, state, queued_at, reason, last_error) \
             VALUES ($1, 'failed', pg_catalog.now(), $2, $3) \
             ON CONFLICT (session_id) DO UPDATE \
                SET state = 'failed', due_at = NULL, reason = $2, last_error = $3 \
              WHERE j.state <> 'creating'",
            &[from_uuid(session).into(), reason.into(), error.into()],
        )?;
    }
    Ok(session)
}

/// Appends sessions.
pub fn add(sessions: &[Uuid], wish: Wish) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.inbox (session_id, wish, queued_at) \
         SELECT u.id, $2, pg_catalog.now() FROM pg_catalog.unnest($1) u(id)",
        &[
            sql::from_uuids(sessions.iter().copied()).into(),
            (wish as i16).into(),
        ],
    )?;
    Ok(())
}

/// Appends a tutor whose parked sessions may go on.
pub fn add_tutor(tutor: Uuid) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.inbox (tutor_id, wish, queued_at) VALUES ($1, 3, pg_catalog.now())",
        &[from_uuid(tutor).into()],
    )?;
    Ok(())
}

/// Sessions that want a link and have no job under way, for `meetlink_create_missing`.
pub fn missing(mapped: &Mapped, limit: Option<i32>) -> Result<Vec<Uuid>, PgError> {
    sql::query(
        &mapped.missing_ids(),
        &[limit.map(i64::from).into()],
        |row| uuid_at(row, 1),
    )
}

/// Whether a prepared transaction (two-phase commit) of this database is still open.
pub fn prepared_transactions_open() -> Result<bool, PgError> {
    let found = sql::query_one(
        "SELECT true FROM pg_catalog.pg_prepared_xacts \
          WHERE database = pg_catalog.current_database() LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}
