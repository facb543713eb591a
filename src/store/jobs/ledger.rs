//! `meetlink.attempts`: one line for each attempt.

use uuid::Uuid;

use crate::domain::failure::Failure;
use crate::pg::error::PgError;
use crate::store::sql::{self, from_uuid};

/// How an attempt ended.
pub enum Outcome<'a> {
    /// The meeting exists.
    Made,
    /// The meeting was removed.
    Removed,
    /// It failed.
    Failed(&'a Failure),
}

impl Outcome<'_> {
    /// Its name in the ledger.
    pub fn class(&self) -> &'static str {
        match self {
            Outcome::Made => "made",
            Outcome::Removed => "removed",
            Outcome::Failed(failure) => failure.class.as_str(),
        }
    }
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
    /// How it ended.
    pub outcome: Outcome<'a>,
}

/// Writes the ledger.
pub fn record(attempt: &Attempt<'_>) -> Result<(), PgError> {
    let failure = match attempt.outcome {
        Outcome::Made | Outcome::Removed => None,
        Outcome::Failed(failure) => Some(failure),
    };
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
            attempt.outcome.class().into(),
            failure.and_then(|f| f.status).map(i32::from).into(),
            failure.and_then(|f| f.code.as_deref()).into(),
            failure.map(|f| f.text.as_str()).into(),
        ],
    )?;
    Ok(())
}
