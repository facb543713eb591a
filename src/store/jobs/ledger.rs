//! `meetlink.attempts`: one line for each attempt.

use uuid::Uuid;

use super::claims::Claimed;
use crate::domain::failure::Failure;
use crate::pg::error::PgError;
use crate::store::sql::{self, from_uuids};

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
#[derive(Clone)]
pub struct Line {
    session: Uuid,
    provider: Option<String>,
    number: i32,
    started_at: i64,
    class: &'static str,
    status: Option<i32>,
    code: Option<String>,
    error: Option<String>,
}

impl Line {
    /// The line of an attempt that ended.
    pub fn new(claimed: &Claimed, provider: Option<&str>, outcome: &Outcome<'_>) -> Self {
        let failure = match outcome {
            Outcome::Made | Outcome::Removed => None,
            Outcome::Failed(failure) => Some(failure),
        };
        Self {
            session: claimed.session,
            provider: provider.map(str::to_owned),
            number: claimed.number,
            started_at: claimed.started_at,
            class: outcome.class(),
            status: failure.and_then(|f| f.status).map(i32::from),
            code: failure.and_then(|f| f.code.clone()),
            error: failure.map(|f| f.text.clone()),
        }
    }
}

/// Writes the ledger.
pub fn record(lines: &[Line]) -> Result<(), PgError> {
    if lines.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&Line) -> Option<&str>| lines.iter().map(text).collect::<Vec<_>>();
    let numbers = |number: fn(&Line) -> Option<i32>| lines.iter().map(number).collect::<Vec<_>>();
    let began: Vec<i64> = lines.iter().map(|line| line.started_at).collect();
    sql::execute(
        "INSERT INTO meetlink.attempts (session_id, provider, number, started_at, ended_at, class, \
                                        http_status, code, error) \
         SELECT u.session, u.provider, u.number, pg_catalog.to_timestamp(u.began / 1000000.0), \
                pg_catalog.clock_timestamp(), u.class, u.status, u.code, u.error \
           FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), \
                           pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), \
                           pg_catalog.unnest($7), pg_catalog.unnest($8)) \
                  u(session, provider, number, began, class, status, code, error)",
        &[
            from_uuids(lines.iter().map(|line| line.session)).into(),
            texts(|line| line.provider.as_deref()).into(),
            numbers(|line| Some(line.number)).into(),
            began.into(),
            texts(|line| Some(line.class)).into(),
            numbers(|line| line.status).into(),
            texts(|line| line.code.as_deref()).into(),
            texts(|line| line.error.as_deref()).into(),
        ],
    )?;
    Ok(())
}
