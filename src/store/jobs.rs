//! `meetlink.jobs` and `meetlink.attempts`, as the worker moves them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::sql::{self, Row, from_uuid, get, maybe, maybe_uuid, uuid_at};
use crate::domain::failure::{Failure, Reason};
use crate::domain::meeting::Meeting;
use crate::domain::state::State;
use crate::pg::error::PgError;

/// A job that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The session.
    pub session: Uuid,
    /// Provider of the last attempt.
    pub provider: Option<String>,
    /// Attempts that count, this one included.
    pub attempts: i32,
    /// Failures in a row before this attempt.
    pub setbacks: i32,
    /// Whether a person asked for this attempt.
    pub hurried: bool,
    /// Since when a meeting may exist without our knowing.
    pub may_exist_since: Option<DateTime<Utc>>,
    /// Whether the job was in doubt.
    pub was_in_doubt: bool,
    /// Tutor in whose account a meeting was made or may have been made.
    pub account: Option<Uuid>,
    /// Cause of the last failure.
    pub reason: Option<Reason>,
    /// The meeting made before: external id and link.
    pub made: Option<(String, String)>,
    /// Number of the attempt in the ledger.
    pub number: i32,
    /// When the attempt began, in microseconds since the Unix epoch.
    pub started_at: i64,
}

fn micros(row: &Row<'_>, at: usize) -> Result<Option<DateTime<Utc>>, PgError> {
    Ok(maybe::<i64>(row, at)?.and_then(sql::to_time))
}

/// Claims up to `limit` due jobs, soonest sessions first, for this process.
pub fn claim(limit: usize, holder: i32, lease: Duration) -> Result<Vec<Claimed>, PgError> {
    sql::query(
        "WITH fresh AS MATERIALIZED ( \
           SELECT session_id, starts_at, state FROM meetlink.jobs WHERE state = 'pending' \
            ORDER BY starts_at, session_id LIMIT $1 FOR UPDATE SKIP LOCKED), \
         again AS MATERIALIZED ( \
           SELECT session_id, starts_at, state FROM meetlink.jobs \
            WHERE state IN ('retrying', 'in_doubt') AND due_at <= pg_catalog.clock_timestamp() \
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED), \
         chosen AS ( \
           SELECT * FROM fresh UNION ALL SELECT * FROM again ORDER BY starts_at LIMIT $1) \
         UPDATE meetlink.jobs j \
            SET state = 'creating', due_at = NULL, attempts = j.attempts + 1, news = false, \
                lease_holder = $2, \
                lease_until = pg_catalog.clock_timestamp() + $3 * interval '1 ms', \
                changed_at = pg_catalog.now() \
           FROM chosen c WHERE j.session_id = c.session_id \
         RETURNING j.session_id, j.provider, j.attempts, \
                   (extract(epoch FROM j.may_exist_since) * 1000000)::bigint, \
                   c.state = 'in_doubt', j.account_id, j.external_id, j.join_url, \
                   (SELECT COALESCE(pg_catalog.max(a.number), 0) FROM meetlink.attempts a \
                     WHERE a.session_id = j.session_id) + 1, \
                   (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, \
                   j.reason, j.setbacks, j.hurried",
        &[
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
            holder.into(),
            millis(lease).into(),
        ],
        |row| {
            let external = maybe::<String>(row, 7)?;
            let url = maybe::<String>(row, 8)?;
            Ok(Claimed {
                session: uuid_at(row, 1)?,
                provider: maybe(row, 2)?,
                attempts: get(row, 3)?,
                setbacks: get(row, 12)?,
                hurried: get(row, 13)?,
                may_exist_since: micros(row, 4)?,
                was_in_doubt: get(row, 5)?,
                account: maybe_uuid(row, 6)?,
                reason: maybe::<String>(row, 11)?.as_deref().and_then(Reason::parse),
                made: external.zip(url),
                number: get(row, 9)?,
                started_at: get(row, 10)?,
            })
        },
    )
}

/// Notes, before it is sent, that a request which creates is about to go out.
pub fn mark_sent(session: Uuid, provider: &str, tutor: Uuid) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET may_exist_since = COALESCE( \
                  CASE WHEN provider = $2 AND account_id = $3 THEN may_exist_since END, \
                  pg_catalog.clock_timestamp()), \
                provider = $2, account_id = $3 \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            provider.into(),
            from_uuid(tutor).into(),
        ],
    )?;
    Ok(())
}

/// Keeps a meeting that was made, whatever becomes of the session.
pub fn keep_meeting(session: Uuid, provider: &str, meeting: &Meeting) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET external_id = $2, join_url = $3, provider = $4, \
                made_at = COALESCE(made_at, pg_catalog.clock_timestamp()), may_exist_since = NULL \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            meeting.external_id.as_str().into(),
            meeting.join_url.as_str().into(),
            provider.into(),
        ],
    )?;
    Ok(())
}

/// Ends a job with a meeting that was made; its link is in the session, or the session is gone.
pub fn finish_with(
    session: Uuid,
    state: State,
    provider: &str,
    meeting: &Meeting,
) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = NULL, lease_holder = NULL, lease_until = NULL, \
                reason = NULL, last_error = NULL, setbacks = 0, hurried = false, \
                may_exist_since = NULL, provider = $3, external_id = $4, join_url = $5, \
                made_at = COALESCE(made_at, pg_catalog.clock_timestamp()), \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            state.as_str().into(),
            provider.into(),
            meeting.external_id.as_str().into(),
            meeting.join_url.as_str().into(),
        ],
    )?;
    Ok(())
}

/// Ends a job's attempt in a state that waits for nothing.
pub fn finish(session: Uuid, state: State, counts: bool) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = NULL, lease_holder = NULL, lease_until = NULL, \
                reason = NULL, last_error = NULL, setbacks = 0, hurried = false, \
                attempts = attempts - (NOT $3)::integer, \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            state.as_str().into(),
            counts.into(),
        ],
    )?;
    Ok(())
}

/// How a failed attempt leaves its job.
pub struct Setback<'a> {
    /// The session.
    pub session: Uuid,
    /// Next state.
    pub state: State,
    /// Wait until it is due again, for states that are.
    pub delay: Option<Duration>,
    /// Whether the attempt counts.
    pub counts: bool,
    /// Cause.
    pub reason: Reason,
    /// Sentence for the operator.
    pub error: &'a str,
    /// Whether a meeting may exist at the provider.
    pub may_exist: bool,
    /// Whether the answer to a request that creates was lost in this very attempt.
    pub just_lost: bool,
    /// Provider, if one was chosen.
    pub provider: Option<&'a str>,
}

/// Records a setback; gives the state that the job has then.
///
/// Where session or connection changed while the attempt was under way, its outcome is old news: a
/// job is not parked for it, and does not wait.
pub fn set_back(setback: &Setback<'_>) -> Result<State, PgError> {
    let state = sql::query_one(
        "UPDATE meetlink.jobs \
            SET state = CASE WHEN news AND $2 IN ('needs_action', 'failed') THEN 'pending' \
                             ELSE $2 END, \
                due_at = CASE WHEN news AND $2 <> 'in_doubt' THEN pg_catalog.clock_timestamp() \
                         ELSE pg_catalog.clock_timestamp() + $3 * interval '1 ms' END, \
                lease_holder = NULL, lease_until = NULL, \
                attempts = CASE WHEN news THEN 0 ELSE attempts - (NOT $4)::integer END, \
                setbacks = CASE WHEN news THEN 0 ELSE setbacks + 1 END, \
                hurried = hurried AND news, news = false, \
                reason = $5, last_error = $6, \
                may_exist_since = CASE WHEN $9 THEN pg_catalog.clock_timestamp() \
                                       WHEN $7 THEN may_exist_since END, \
                provider = COALESCE($8, provider), changed_at = pg_catalog.now() \
          WHERE session_id = $1 RETURNING state",
        &[
            from_uuid(setback.session).into(),
            setback.state.as_str().into(),
            setback.delay.map(millis).into(),
            setback.counts.into(),
            setback.reason.as_str().into(),
            setback.error.into(),
            setback.may_exist.into(),
            setback.provider.into(),
            setback.just_lost.into(),
        ],
        |row| Ok(State::parse(&get::<String>(row, 1)?)),
    )?;
    Ok(state.flatten().unwrap_or(setback.state))
}

/// Gives a claimed job back untouched: it waits for something that is not its own trouble.
pub fn postpone(
    session: Uuid,
    in_doubt: bool,
    provider: &str,
    delay: Duration,
    reason: &str,
    error: &str,
) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = pg_catalog.clock_timestamp() + $3 * interval '1 ms', \
                lease_holder = NULL, lease_until = NULL, attempts = attempts - 1, reason = $4, \
                last_error = $5, provider = $6, changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            if in_doubt {
                State::InDoubt
            } else {
                State::Retrying
            }
            .as_str()
            .into(),
            millis(delay).into(),
            reason.into(),
            error.into(),
            provider.into(),
        ],
    )?;
    Ok(())
}

/// One line of the ledger.
pub struct Attempt<'a> {
    /// The session.
    pub session: Uuid,
    /// Provider that was asked.
    pub provider: Option<&'a str>,
    /// Number of the attempt for this session.
    pub number: i32,
    /// When it began, in microseconds since the Unix epoch.
    pub started_at: i64,
    /// Why it failed, unless it made the meeting.
    pub failure: Option<&'a Failure>,
}

/// Writes the ledger.
pub fn record(attempt: &Attempt<'_>) -> Result<(), PgError> {
    let failure = attempt.failure;
    sql::execute(
        "INSERT INTO meetlink.attempts (session_id, provider, number, started_at, ended_at, class, \
                                        http_status, code, error) \
         VALUES ($1, $2, $3, pg_catalog.to_timestamp($4::bigint / 1000000.0), \
                 pg_catalog.clock_timestamp(), $5, $6, $7, $8)",
        &[
            from_uuid(attempt.session).into(),
            attempt.provider.into(),
            attempt.number.into(),
            attempt.started_at.into(),
            failure.map_or("made", |f| f.class.as_str()).into(),
            failure.and_then(|f| f.status).map(i32::from).into(),
            failure.and_then(|f| f.code.as_deref()).into(),
            failure.map(|f| f.text.as_str()).into(),
        ],
    )?;
    Ok(())
}

/// Takes back every lease: the caller is the only worker of this database, so whoever held one is
/// gone. Returns how many there were.
pub fn take_back_leases() -> Result<usize, PgError> {
    sql::execute(
        "WITH lost AS ( \
           UPDATE meetlink.jobs \
              SET state = CASE WHEN may_exist_since IS NOT NULL AND provider = 'zoom' \
                               THEN 'in_doubt' ELSE 'retrying' END, \
                  due_at = pg_catalog.clock_timestamp(), lease_holder = NULL, lease_until = NULL, \
                  attempts = greatest(attempts - 1, 0), reason = 'interrupted', \
                  last_error = 'The worker or the server stopped in the middle of the attempt; it \
is taken up again.', \
                  changed_at = pg_catalog.now() \
            WHERE state = 'creating' RETURNING session_id, provider) \
         INSERT INTO meetlink.attempts (session_id, provider, number, started_at, ended_at, class, \
                                        error) \
         SELECT l.session_id, l.provider, \
                (SELECT COALESCE(pg_catalog.max(a.number), 0) FROM meetlink.attempts a \
                  WHERE a.session_id = l.session_id) + 1, \
                pg_catalog.now(), pg_catalog.now(), 'retry', \
                'The worker or the server stopped in the middle of the attempt.' \
           FROM lost l",
        &[],
    )
}

/// Milliseconds until the next job is due (0 if one is), or `None` when none waits.
pub fn next_due() -> Result<Option<i64>, PgError> {
    sql::query_one(
        "SELECT least( \
           (SELECT pg_catalog.ceil(1000 * extract(epoch FROM due_at - pg_catalog.clock_timestamp())) \
              FROM meetlink.jobs WHERE state IN ('retrying', 'in_doubt') ORDER BY due_at LIMIT 1), \
           (SELECT 0 FROM meetlink.jobs WHERE state = 'pending' LIMIT 1))::bigint",
        &[],
        |row| Ok(maybe::<i64>(row, 1)?.map(|wait| wait.max(0))),
    )
    .map(Option::flatten)
}

/// Tells listeners that a session's state changed.
pub fn announce(session: Uuid, state: State) -> Result<(), PgError> {
    let payload = serde_json::json!({
        "session_id": session.hyphenated().to_string(),
        "state": state.as_str(),
    });
    sql::execute(
        "SELECT pg_catalog.pg_notify('meetlink', $1)",
        &[payload.to_string().as_str().into()],
    )?;
    Ok(())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
