//! What is kept for how long. Small batches in transactions of their own, by the order of keys.

use super::sql::{self, get};
use crate::pg::error::PgError;

/// Rows taken at once.
pub const BATCH: i64 = 1_000;

/// Removes a batch of what is too old; gives whether there may be more. `attempts`, `notifications`:
/// minutes for which they are kept, 0 for ever.
pub fn trim(attempts: i64, notifications: i64) -> Result<bool, PgError> {
    let mut most = 0;
    let statements = [
        // Numbers and dates rise together: the oldest stand first, and no other is looked at.
        (
            "DELETE FROM meetlink.attempts WHERE id = ANY (ARRAY( \
            SELECT a.id FROM (SELECT id, ended_at FROM meetlink.attempts ORDER BY id LIMIT $2) a \
             WHERE a.ended_at < pg_catalog.now() - $1 * interval '1 minute'))",
            attempts,
        ),
        (
            "DELETE FROM meetlink.notifications WHERE id = ANY (ARRAY( \
            SELECT n.id FROM meetlink.notifications n \
             WHERE n.resolved_at < pg_catalog.now() - $1 * interval '1 minute' \
             ORDER BY n.id LIMIT $2))",
            notifications,
        ),
        (
            "DELETE FROM meetlink.tallies WHERE (grain, since, provider, what, bucket) IN ( \
            SELECT grain, since, provider, what, bucket FROM meetlink.tallies \
             WHERE grain = 'minute' AND since < pg_catalog.now() - $1 * interval '1 minute' \
             LIMIT $2)",
            180,
        ),
    ];
    for (text, minutes) in statements {
        if minutes > 0 {
            let gone = sql::execute(text, &[minutes.into(), BATCH.into()])?;
            most = most.max(i64::try_from(gone).unwrap_or(i64::MAX));
        }
    }
    // Counters never go back: what is older than any period is added up in one row each.
    let folded = sql::query_one(
        "WITH gone AS ( \
           DELETE FROM meetlink.tallies WHERE (grain, since, provider, what, bucket) IN ( \
             SELECT grain, since, provider, what, bucket FROM meetlink.tallies \
              WHERE grain = 'hour' AND since > '-infinity' \
                AND since < pg_catalog.now() - interval '744 hours' LIMIT $1) \
           RETURNING provider, what, bucket, count, seconds), \
         kept AS ( \
           INSERT INTO meetlink.tallies AS t (grain, since, provider, what, bucket, count, seconds) \
           SELECT 'hour', '-infinity', provider, what, bucket, pg_catalog.sum(count), \
                  pg_catalog.sum(seconds) \
             FROM gone GROUP BY provider, what, bucket \
           ON CONFLICT (grain, since, provider, what, bucket) DO UPDATE \
              SET count = t.count + EXCLUDED.count, seconds = t.seconds + EXCLUDED.seconds) \
         SELECT pg_catalog.count(*) FROM gone",
        &[BATCH.into()],
        |row| get::<i64>(row, 1),
    )?;
    Ok(most.max(folded.unwrap_or(0)) >= BATCH)
}
