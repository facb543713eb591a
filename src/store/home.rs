//! `meetlink.home`: which database may call providers, and how its server came to be what it is.

use super::sql::{self, get, maybe};
use crate::pg::error::PgError;
use crate::pg::{Oid, process};

/// The timeline that the server writes on. Not on a standby.
const TIMELINE: &str = "(('x' || pg_catalog.substr(pg_catalog.pg_walfile_name( \
                          pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint)";

/// What is left of the label of the base backup that the server was started from, if it was.
/// Postgres renames the file at that start (src/backend/access/transam/xlog.c) and leaves it there.
const BACKUP: &str = "COALESCE(pg_catalog.md5(pg_catalog.pg_read_file( \
                        'backup_label.old', 0, 10000, true)), '')";

/// This database: system identifier of the cluster, and oid.
pub fn here() -> (String, Oid) {
    (
        process::system_identifier().to_string(),
        process::my_database(),
    )
}

/// Makes this database the home if there is none yet.
pub fn settle() -> Result<(), PgError> {
    let (system, database) = here();
    sql::execute(
        &format!(
            "INSERT INTO meetlink.home (system, database, timeline, backup) \
             VALUES ($1, $2, {TIMELINE}, {BACKUP}) ON CONFLICT DO NOTHING"
        ),
        &[system.as_str().into(), database.into()],
    )?;
    Ok(())
}

/// Makes this database the home. Returns whether another was.
pub fn come_home() -> Result<bool, PgError> {
    let (system, database) = here();
    let moved = sql::execute(
        &format!(
            "INSERT INTO meetlink.home AS h (system, database, timeline, backup) \
             VALUES ($1, $2, {TIMELINE}, {BACKUP}) \
             ON CONFLICT (singleton) DO UPDATE \
                SET system = $1, database = $2, timeline = EXCLUDED.timeline, \
                    backup = EXCLUDED.backup, went_back = false \
              WHERE h.system <> $1 OR h.database <> $2 OR h.went_back"
        ),
        &[system.as_str().into(), database.into()],
    )?;
    Ok(moved > 0)
}

/// How the server differs from what it was when a worker last began its work here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The timeline that it was on.
    pub from: u32,
    /// The timeline that it is on.
    pub to: u32,
}

/// What changed, in a database that is at home; `None` if nothing did.
pub fn changed() -> Result<Option<Changed>, PgError> {
    let (system, database) = here();
    let number = |n: i64| u32::try_from(n).unwrap_or(0);
    sql::read_one(
        &format!(
            "SELECT h.timeline, n.timeline \
               FROM meetlink.home h, (SELECT {TIMELINE} AS timeline, {BACKUP} AS backup) n \
              WHERE h.system = $1 AND h.database = $2 AND NOT h.went_back \
                AND (h.timeline <> n.timeline OR h.backup <> n.backup)"
        ),
        &[system.as_str().into(), database.into()],
        |row| {
            Ok(Changed {
                from: number(get(row, 1)?),
                to: number(get(row, 2)?),
            })
        },
    )
}

/// The history of a timeline, empty if the server has none.
pub fn history(timeline: u32) -> Result<String, PgError> {
    let text = sql::read_one(
        "SELECT pg_catalog.pg_read_file($1, 0, 100000, true)",
        &[format!("pg_wal/{timeline:08X}.history").as_str().into()],
        |row| maybe::<String>(row, 1),
    )?;
    Ok(text.flatten().unwrap_or_default())
}

/// Remembers the server as it is, and whether the way to it led back in time.
pub fn remember(went_back: bool) -> Result<(), PgError> {
    sql::execute(
        &format!(
            "UPDATE meetlink.home SET timeline = {TIMELINE}, backup = {BACKUP}, went_back = $1"
        ),
        &[went_back.into()],
    )?;
    Ok(())
}
