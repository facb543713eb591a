//! `meetlink.jobs` and `meetlink.attempts`, as the worker moves them.

use std::ffi::CString;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pgrx::datum::DatumWithOid;
use uuid::Uuid;

use super::sql::{self, from_uuid, from_uuids, get, maybe_uuid, millis};
use crate::domain::failure::Reason;
use crate::domain::meeting::Meeting;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;

mod claims;
mod fresh;
mod ledger;

pub use claims::{
    Claimed, Lane, claim, doubt_everything, mark_sent, next_due, shift_dates, take_back_leases,
    take_over,
};
pub use fresh::{Fresh, Making, make_claimed, without_job};
pub use ledger::{Line, Outcome, record};

/// A meeting that was made for a session, and where.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// The session.
    pub session: Uuid,
    /// The provider.
    pub provider: &'a str,
    /// The meeting.
    pub meeting: &'a Meeting,
}

/// Sessions, providers, external ids and links, as parameters of a statement.
pub fn columns<'a>(made: &'a [Made<'a>]) -> [DatumWithOid<'a>; 4] {
    let texts = |text: fn(&Made<'a>) -> &'a str| made.iter().map(text).collect::<Vec<_>>();
    [
        from_uuids(made.iter().map(|one| one.session)).into(),
        texts(|one| one.provider).into(),
        texts(|one| one.meeting.external_id.as_str()).into(),
        texts(|one| one.meeting.join_url.as_str()).into(),
    ]
}

/// Keeps a meeting that was made for this time, whatever becomes of the session.
pub fn keep_meeting(
    session: Uuid,
    provider: &str,
    meeting: &Meeting,
    times: (DateTime<Utc>, DateTime<Utc>),
) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET external_id = $2, join_url = $3, provider = $4, \
                kept_from = pg_catalog.to_timestamp($5::bigint / 1000000.0), \
                kept_to = pg_catalog.to_timestamp($6::bigint / 1000000.0), \
                made_at = COALESCE(made_at, pg_catalog.clock_timestamp()), may_exist_since = NULL \
          WHERE session_id = $1",
        &[
            from_uuid(session).into(),
            meeting.external_id.as_str().into(),
            meeting.join_url.as_str().into(),
            provider.into(),
            times.0.timestamp_micros().into(),
            times.1.timestamp_micros().into(),
        ],
    )?;
    Ok(())
}

/// Ends jobs with meetings whose links are in their sessions.
pub fn finish_with(made: &[Made<'_>]) -> Result<(), PgError> {
    let [sessions, providers, ids, urls] = columns(made);
    sql::execute(
        "UPDATE meetlink.jobs j \
            SET state = 'ready', due_at = NULL, lease_holder = NULL, lease_until = NULL, \
                reason = NULL, last_error = NULL, setbacks = 0, hurried = false, \
                may_exist_since = NULL, provider = u.provider, external_id = u.external_id, \
                join_url = u.join_url, wish = 'exists', adopt = false, \
                kept_from = NULL, kept_to = NULL, \
                made_at = COALESCE(made_at, pg_catalog.clock_timestamp()), \
                changed_at = pg_catalog.now() \
           FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), \
                           pg_catalog.unnest($4)) u(id, provider, external_id, join_url) \
          WHERE j.session_id = u.id",
        &[sessions, providers, ids, urls],
    )?;
    Ok(())
}

/// The session was put to another time, and its meeting has to follow.
pub fn follow(session: Uuid) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs SET wish = 'moved', kept_from = NULL, kept_to = NULL WHERE session_id = $1",
        &[from_uuid(session).into()],
    )?;
    Ok(())
}

/// The session no longer needs the meeting that was made for it, or may have been: it is to be
/// removed from the account in which it is.
pub fn orphan(session: Uuid) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET wish = 'gone', state = 'pending', due_at = pg_catalog.clock_timestamp(), \
                lease_holder = NULL, lease_until = NULL, attempts = 0, setbacks = 0, \
                hurried = false, news = false, adopt = false, reason = 'session_gone', \
                last_error = NULL, tutor_id = account_id, lane = provider, \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[from_uuid(session).into()],
    )?;
    Ok(())
}

/// Sessions whose jobs wait for a person, after one of them, in the order of their ids.
pub fn waiting_for_people(after: Uuid, limit: i64) -> Result<Vec<Uuid>, PgError> {
    sql::query(
        "SELECT session_id FROM meetlink.jobs \
          WHERE state IN ('needs_action', 'failed') AND session_id > $1 \
          ORDER BY session_id LIMIT $2",
        &[from_uuid(after).into(), limit.into()],
        |row| sql::uuid_at(row, 1),
    )
}

/// Whether a person can decide about a session: nobody knows whether its meeting exists, and no
/// attempt is finding out just now.
pub fn can_be_resolved(session: Uuid) -> Result<bool, PgError> {
    let found = sql::read_one(
        "SELECT true FROM meetlink.jobs \
          WHERE session_id = $1 AND may_exist_since IS NOT NULL AND wish = 'exists' \
            AND state IN ('pending', 'retrying', 'in_doubt', 'needs_action', 'failed')",
        &[from_uuid(session).into()],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// The session wants its meeting again before it was removed.
pub fn want_again(session: Uuid) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs SET wish = 'exists' WHERE session_id = $1",
        &[from_uuid(session).into()],
    )?;
    Ok(())
}

/// The session has another tutor by now: whom its job waits for.
pub fn give_to(session: Uuid, tutor: Uuid) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs SET tutor_id = $2 WHERE session_id = $1",
        &[from_uuid(session).into(), from_uuid(tutor).into()],
    )?;
    Ok(())
}

/// Forgets a meeting that was removed; the job goes on (or ends) in `state`.
pub fn forget_meeting(session: Uuid, state: State) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET wish = 'exists', state = $2, \
                due_at = CASE WHEN $2 = 'pending' THEN pg_catalog.clock_timestamp() END, \
                lease_holder = NULL, lease_until = NULL, attempts = 0, setbacks = 0, \
                hurried = false, news = false, reason = NULL, last_error = NULL, \
                external_id = NULL, join_url = NULL, made_at = NULL, may_exist_since = NULL, \
                kept_from = NULL, kept_to = NULL, \
                account_id = NULL, changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[from_uuid(session).into(), state.as_str().into()],
    )?;
    Ok(())
}

/// Ends a claimed job in a state that waits for nothing; nothing was attempted.
pub fn finish(session: Uuid, state: State) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = NULL, lease_holder = NULL, lease_until = NULL, \
                reason = NULL, last_error = NULL, setbacks = 0, hurried = false, \
                attempts = greatest(attempts - 1, 0), wish = 'exists', adopt = false, \
                kept_from = NULL, kept_to = NULL, changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[from_uuid(session).into(), state.as_str().into()],
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

/// Records a setback; gives the state that the job has then, and the tutor of its session.
///
/// Where session or connection changed while the attempt was under way, its outcome is old news: a
/// job is not parked for it, and does not wait.
pub fn set_back(setback: &Setback<'_>) -> Result<(State, Option<Uuid>), PgError> {
    let known = sql::query_one(
        "UPDATE meetlink.jobs \
            SET state = CASE WHEN news AND $2 IN ('needs_action', 'failed') THEN 'pending' \
                             ELSE $2 END, \
                due_at = CASE WHEN news AND $2 <> 'in_doubt' THEN pg_catalog.clock_timestamp() \
                         ELSE pg_catalog.clock_timestamp() + $3 * interval '1 ms' END, \
                lease_holder = NULL, lease_until = NULL, \
                attempts = CASE WHEN news THEN 0 ELSE greatest(attempts - (NOT $4)::integer, 0) END, \
                setbacks = CASE WHEN news THEN 0 ELSE setbacks + 1 END, \
                hurried = hurried AND news, news = false, \
                reason = $5, last_error = $6, \
                may_exist_since = CASE WHEN $9 THEN pg_catalog.clock_timestamp() \
                                       WHEN $2 = 'in_doubt' \
                                       THEN COALESCE(may_exist_since, pg_catalog.clock_timestamp()) \
                                       WHEN $7 THEN may_exist_since END, \
                provider = COALESCE($8, provider), \
                lane = CASE WHEN news THEN '' ELSE COALESCE($8, lane) END, \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1 RETURNING state, tutor_id",
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
        |row| Ok((State::parse(&get::<String>(row, 1)?), maybe_uuid(row, 2)?)),
    )?;
    let (state, tutor) = known.unwrap_or_default();
    Ok((state.unwrap_or(setback.state), tutor))
}

/// Gives a claimed job back untouched, into the lane of `provider`: it waits for something that is
/// not its own trouble. Gives the state that it has then.
pub fn postpone(
    job: &Claimed,
    provider: &str,
    delay: Duration,
    reason: &str,
    error: &str,
) -> Result<State, PgError> {
    let state = if job.was_in_doubt() {
        State::InDoubt
    } else {
        State::Retrying
    };
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = pg_catalog.clock_timestamp() + $3 * interval '1 ms', \
                lease_holder = NULL, lease_until = NULL, attempts = greatest(attempts - 1, 0), reason = $4, \
                last_error = $5, provider = $6, lane = CASE WHEN hurried THEN '' ELSE $6 END, \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1",
        &[
            from_uuid(job.session).into(),
            state.as_str().into(),
            millis(delay).into(),
            reason.into(),
            error.into(),
            provider.into(),
        ],
    )?;
    Ok(state)
}

/// Gives a claimed job back as it was before the claim, due now, into the lane of `provider`: nothing
/// was sent. Gives the state that it has then.
///
/// Reason and text are still those that it had. Whoever asked for another try meanwhile goes past
/// every lane, as ever.
pub fn put_back(job: &Claimed, provider: &str) -> Result<State, PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET state = $2, due_at = pg_catalog.clock_timestamp(), \
                lease_holder = NULL, lease_until = NULL, \
                attempts = CASE WHEN news THEN 0 ELSE greatest(attempts - 1, 0) END, \
                setbacks = CASE WHEN news THEN 0 ELSE setbacks END, \
                provider = $3, account_id = $4, \
                may_exist_since = pg_catalog.to_timestamp(0) + $5 * interval '1 us', \
                lane = CASE WHEN hurried OR news THEN '' ELSE $6 END, news = false, \
                changed_at = pg_catalog.now() \
          WHERE session_id = $1 AND state = 'creating'",
        &[
            from_uuid(job.session).into(),
            job.state.as_str().into(),
            job.provider.as_deref().into(),
            job.account.map(from_uuid).into(),
            job.may_exist_since.map(|at| at.timestamp_micros()).into(),
            provider.into(),
        ],
    )?;
    Ok(job.state)
}

/// Tells listeners that a session's state changed.
pub fn announce(session: Uuid, state: State) {
    let payload = serde_json::json!({
        "session_id": session.hyphenated().to_string(),
        "state": state.as_str(),
    });
    // A text of ours, without a zero byte.
    if let Ok(payload) = CString::new(payload.to_string()) {
        xact::notify_at_commit(c"meetlink", &payload);
    }
}
