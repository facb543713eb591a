//! What `meetlink_health()` counts.

use super::sql::{self, get, maybe};
use crate::pg::error::PgError;

/// Jobs that somebody may have to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Due for more than a minute, and claimed by nobody.
    pub overdue: i64,
    /// In doubt.
    pub in_doubt: i64,
    /// Waiting for their tutor.
    pub parked: i64,
    /// Given up.
    pub failed: i64,
    /// Meetings without a session, not removed yet.
    pub orphans: i64,
}

/// Counts the jobs.
pub fn jobs() -> Result<Jobs, PgError> {
    let counted = sql::read_one(
        "SELECT pg_catalog.count(*) FILTER (WHERE due_at < pg_catalog.now() - interval '1 minute'), \
                pg_catalog.count(*) FILTER (WHERE state = 'in_doubt'), \
                pg_catalog.count(*) FILTER (WHERE state = 'needs_action'), \
                pg_catalog.count(*) FILTER (WHERE state = 'failed'), \
                pg_catalog.count(*) FILTER (WHERE wish = 'gone') \
           FROM meetlink.jobs WHERE state NOT IN ('ready', 'not_needed')",
        &[],
        |row| {
            Ok(Jobs {
                overdue: get(row, 1)?,
                in_doubt: get(row, 2)?,
                parked: get(row, 3)?,
                failed: get(row, 4)?,
                orphans: get(row, 5)?,
            })
        },
    )?;
    Ok(counted.unwrap_or_default())
}

/// Seconds for which the oldest row has waited in the inbox.
pub fn inbox_age() -> Result<Option<i64>, PgError> {
    let age = sql::read_one(
        "SELECT extract(epoch FROM pg_catalog.now() - pg_catalog.min(queued_at))::bigint \
           FROM meetlink.inbox",
        &[],
        |row| maybe::<i64>(row, 1),
    )?;
    Ok(age.flatten())
}

/// Providers that are not called just now, as text; `None` if all are.
pub fn providers_down() -> Result<Option<String>, PgError> {
    let down = sql::read_one(
        "SELECT pg_catalog.string_agg(provider || ' (' || reason || ', until ' \
                  || pg_catalog.to_char(until, 'HH24:MI:SS') || ')', ', ' ORDER BY provider, side) \
           FROM meetlink.holds WHERE tutor_id IS NULL AND until > pg_catalog.now()",
        &[],
        |row| maybe::<String>(row, 1),
    )?;
    Ok(down.flatten())
}
