//! `meetlink.holds`: who must not be called for a while.

use std::time::Duration;

use super::jobs;
use super::sql::{self, get};
use crate::domain::breaker::Side;
use crate::domain::failure::Reason;
use crate::domain::state::State;
use crate::pg::error::PgError;

/// A provider, or a tutor at one, that must not be called for a while.
pub struct Held {
    /// Provider.
    pub provider: String,
    /// Which of its sides.
    pub side: Side,
    /// Tutor, or all of them.
    pub tutor: Option<uuid::Uuid>,
    /// Milliseconds still to wait.
    pub wait_ms: i64,
    /// The cause, as stored with jobs.
    pub reason: String,
    /// Sentence for the operator.
    pub error: String,
}

/// The holds in force.
pub fn holds() -> Result<Vec<Held>, PgError> {
    sql::query(
        "SELECT provider, tutor_id, \
                pg_catalog.ceil(1000 * extract(epoch FROM until - pg_catalog.clock_timestamp()))::bigint, \
                reason, side = 'tokens', error \
           FROM meetlink.holds WHERE until > pg_catalog.clock_timestamp()",
        &[],
        |row| {
            Ok(Held {
                provider: get(row, 1)?,
                tutor: sql::maybe_uuid(row, 2)?,
                wait_ms: get(row, 3)?,
                reason: get(row, 4)?,
                error: get(row, 6)?,
                side: if get(row, 5)? {
                    Side::Tokens
                } else {
                    Side::Meetings
                },
            })
        },
    )
}

/// A hold that begins.
pub struct Hold<'a> {
    /// Provider.
    pub provider: &'a str,
    /// Which of its sides.
    pub side: Side,
    /// Tutor, or all of them.
    pub tutor: Option<uuid::Uuid>,
    /// How long.
    pub wait: Duration,
    /// The cause.
    pub reason: Reason,
    /// Sentence for the operator.
    pub error: &'a str,
}

/// Holds a provider, or a tutor at one; a longer hold stays as it is.
pub fn hold(hold: &Hold<'_>) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.holds AS h (provider, side, tutor_id, until, reason, error) \
         VALUES ($1, $2, $3, pg_catalog.clock_timestamp() + $4 * interval '1 ms', $5, $6) \
         ON CONFLICT (provider, side, tutor_id) DO UPDATE \
            SET until = EXCLUDED.until, since = EXCLUDED.since, \
                reason = EXCLUDED.reason, error = EXCLUDED.error \
          WHERE h.until <= EXCLUDED.until",
        &[
            hold.provider.into(),
            hold.side.as_str().into(),
            hold.tutor.map(sql::from_uuid).into(),
            sql::millis(hold.wait).into(),
            hold.reason.as_str().into(),
            hold.error.into(),
        ],
    )?;
    Ok(())
}

/// Lets go of the holds that the operator's action may have made needless, or that are over, and
/// makes the jobs that waited for it due, or were given up for the lack of it.
pub fn release_operator_holds() -> Result<(), PgError> {
    let reasons = "('oauth_client', 'key_missing', 'token_format', 'misconfigured')";
    sql::execute(
        &format!(
            "DELETE FROM meetlink.holds WHERE until < pg_catalog.now() OR reason IN {reasons}"
        ),
        &[],
    )?;
    sql::execute(
        &format!(
            "UPDATE meetlink.jobs SET due_at = pg_catalog.now() \
              WHERE state = 'retrying' AND reason IN {reasons}"
        ),
        &[],
    )?;
    let given_up = sql::query(
        "UPDATE meetlink.jobs \
            SET state = 'pending', due_at = pg_catalog.clock_timestamp(), attempts = 0, \
                setbacks = 0, changed_at = pg_catalog.now() \
          WHERE state = 'failed' AND reason = 'misconfigured' \
         RETURNING session_id",
        &[],
        |row| sql::uuid_at(row, 1),
    )?;
    for session in given_up {
        jobs::announce(session, State::Pending);
    }
    Ok(())
}

/// Lets go of a hold for the sake of a provider that did not answer: it does again.
pub fn release_outage(provider: &str, side: Side) -> Result<(), PgError> {
    sql::execute(
        "DELETE FROM meetlink.holds \
          WHERE provider = $1 AND side = $2 AND tutor_id IS NULL AND reason = 'provider_down'",
        &[provider.into(), side.as_str().into()],
    )?;
    Ok(())
}

/// Lets go of tutors' holds: a new connection has limits of its own.
pub fn release_tutor_holds(tutors: Vec<pgrx::Uuid>) -> Result<(), PgError> {
    sql::execute(
        "DELETE FROM meetlink.holds WHERE tutor_id = ANY ($1)",
        &[tutors.into()],
    )?;
    Ok(())
}
