//! `meetlink.tallies`: what happened, counted by minute and by hour.

use super::sql;
use crate::pg::error::PgError;

/// Something that happened so many times.
pub struct Happened {
    /// Provider; empty where none was chosen.
    pub provider: String,
    /// `session`, `link`, or the class of an attempt.
    pub what: &'static str,
    /// Bucket of a link's time, see [`crate::domain::sketch`].
    pub bucket: i16,
    /// How many times.
    pub count: i64,
    /// Sum of the links' times.
    pub seconds: f64,
}

/// Adds it to the current minute and hour.
pub fn add(happened: &[Happened]) -> Result<(), PgError> {
    if happened.is_empty() {
        return Ok(());
    }
    let providers: Vec<&str> = happened.iter().map(|h| h.provider.as_str()).collect();
    let what: Vec<&str> = happened.iter().map(|h| h.what).collect();
    let buckets: Vec<i16> = happened.iter().map(|h| h.bucket).collect();
    let counts: Vec<i64> = happened.iter().map(|h| h.count).collect();
    let seconds: Vec<f64> = happened.iter().map(|h| h.seconds).collect();
    sql::execute(
        "INSERT INTO meetlink.tallies AS t \
                (grain, since, provider, what, bucket, count, seconds) \
         SELECT g.grain, pg_catalog.date_trunc(g.grain, pg_catalog.now(), 'UTC'), \
                h.provider, h.what, h.bucket, h.count, h.seconds \
           FROM (VALUES ('minute'), ('hour')) g(grain) \
          CROSS JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), \
                                pg_catalog.unnest($3), pg_catalog.unnest($4), \
                                pg_catalog.unnest($5)) \
                  h(provider, what, bucket, count, seconds) \
         ON CONFLICT (grain, since, provider, what, bucket) DO UPDATE \
            SET count = t.count + EXCLUDED.count, seconds = t.seconds + EXCLUDED.seconds",
        &[
            providers.into(),
            what.into(),
            buckets.into(),
            counts.into(),
            seconds.into(),
        ],
    )?;
    Ok(())
}
