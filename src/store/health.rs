//! What `meetlink_health()` counts.

use super::config::Config;
use super::sql::{self, get, maybe};
use crate::pg::Oid;
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
    /// Troubles that only the operator can mend.
    pub operator: i64,
    /// Open notifications that reached nobody on some way.
    pub undelivered: i64,
}

/// Counts the jobs.
pub fn jobs() -> Result<Jobs, PgError> {
    let counted = sql::read_one(
        "SELECT pg_catalog.count(*) FILTER (WHERE due_at < pg_catalog.now() - interval '1 minute'), \
                pg_catalog.count(*) FILTER (WHERE state = 'in_doubt'), \
                pg_catalog.count(*) FILTER (WHERE state = 'needs_action'), \
                pg_catalog.count(*) FILTER (WHERE state = 'failed'), \
                pg_catalog.count(*) FILTER (WHERE wish = 'gone'), \
                (SELECT pg_catalog.count(*) FROM meetlink.deliveries d \
                   JOIN meetlink.notifications n ON n.id = d.notification_id \
                  WHERE n.resolved_at IS NULL AND d.delivered_at IS NULL \
                    AND d.last_error IS NOT NULL), \
                (SELECT pg_catalog.count(*) FROM meetlink.notifications n \
                  WHERE n.resolved_at IS NULL AND n.kind = 'operator') \
           FROM meetlink.jobs WHERE state NOT IN ('ready', 'not_needed')",
        &[],
        |row| {
            Ok(Jobs {
                overdue: get(row, 1)?,
                in_doubt: get(row, 2)?,
                parked: get(row, 3)?,
                failed: get(row, 4)?,
                orphans: get(row, 5)?,
                undelivered: get(row, 6)?,
                operator: get(row, 7)?,
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

/// Seconds by which the ledger's last line is ahead of the clock.
pub fn ledger_ahead() -> Result<i64, PgError> {
    let ahead = sql::read_one(
        "SELECT extract(epoch FROM ended_at - pg_catalog.now())::bigint \
           FROM meetlink.attempts ORDER BY id DESC LIMIT 1",
        &[],
        |row| get::<i64>(row, 1),
    )?;
    Ok(ahead.unwrap_or(0))
}

/// Triggers of ours that are not there or not enabled, by table.
pub fn missing_triggers(config: &Config) -> Result<Vec<String>, PgError> {
    let oid = |table: &Option<(Oid, String)>| table.as_ref().map(|(oid, _)| *oid);
    sql::read(
        "SELECT w.name || ' on ' || c.relname \
           FROM (VALUES ($1, 'meetlink_queue_inserted'), ($1, 'meetlink_queue_updated'), \
                        ($2, 'meetlink_connection_changed')) w(oid, name) \
           JOIN pg_catalog.pg_class c ON c.oid = w.oid \
          WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t \
                             WHERE t.tgrelid = w.oid AND t.tgname = w.name \
                               AND t.tgenabled IN ('O', 'A'))",
        &[
            oid(&config.sessions).into(),
            oid(&config.connections).into(),
        ],
        |row| get(row, 1),
    )
}
