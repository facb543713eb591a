//! The triggers on the application's tables: which there should be, and making it so without
//! standing in a booking's way.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;
use pgrx::spi::{quote_identifier, quote_literal};

use super::attach::Relation;
use super::sql::{self, get};
use crate::domain::mapping::{Mapping, Table};
use crate::pg::error::PgError;
use crate::pg::{Oid, process, xact};

/// Name of the trigger for new sessions.
const INSERT: &str = "meetlink_queue_inserted";
/// Name of the trigger for changed sessions.
const UPDATE: &str = "meetlink_queue_updated";
/// Name of the trigger on connections.
const CONNECTION: &str = "meetlink_connection_changed";

/// How long a try may take, the first and the later ones: bookings that come meanwhile wait no longer.
/// Longer ones, because where a commit takes a tenth of a second, a short one may never have its turn.
/// None takes more than half of the session's own `deadlock_timeout`: who waits for us is then never
/// the one that is cancelled.
const LOCK_TRIES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// After this long a deadlock is looked for, of which we are the victim that tries again, and
/// autovacuum is asked to make way (`ProcSleep` in src/backend/storage/lmgr/proc.c).
const LOCK_CHECK: &CStr = c"40ms";
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// How long it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// A trigger, as it is or should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trigger {
    name: String,
    /// Quoted, qualified.
    table: String,
    /// As in `pg_trigger.tgargs`: each ends with a zero byte.
    arguments: Vec<u8>,
    /// `ROW` or `STATEMENT`.
    level: &'static str,
}

impl Trigger {
    fn new(name: &str, table: &str, level: &'static str, arguments: &[&str]) -> Self {
        let arguments = arguments
            .iter()
            .flat_map(|a| a.bytes().chain([0]))
            .collect();
        Self {
            name: name.to_owned(),
            table: table.to_owned(),
            arguments,
            level,
        }
    }

    fn create(&self) -> Result<(), PgError> {
        let arguments = self
            .arguments
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty());
        let arguments: Vec<String> = arguments
            .map(|part| quote_literal(String::from_utf8_lossy(part)))
            .collect();
        let (event, tables) = match (self.name.as_str(), self.level) {
            (INSERT, _) => ("INSERT", "REFERENCING NEW TABLE AS after"),
            (UPDATE, "STATEMENT") => (
                "UPDATE",
                "REFERENCING OLD TABLE AS before NEW TABLE AS after",
            ),
            (UPDATE, _) => ("UPDATE", ""),
            _ => ("INSERT OR UPDATE", ""),
        };
        let (name, table) = (quote_identifier(&self.name), &self.table);
        sql::run(&format!(
            "CREATE TRIGGER {name} AFTER {event} ON {table} {tables} FOR EACH {} \
             EXECUTE FUNCTION meetlink.enqueue({})",
            self.level,
            arguments.join(", ")
        ))?;
        // DROP EXTENSION is to take it along without CASCADE.
        sql::run(&format!(
            "ALTER TRIGGER {name} ON {table} DEPENDS ON EXTENSION meetlink"
        ))
    }

    fn drop(&self) -> Result<(), PgError> {
        sql::run(&format!(
            "DROP TRIGGER {} ON {}",
            quote_identifier(&self.name),
            self.table
        ))
    }
}

/// The table itself and, where it is partitioned, every table below it: a statement-level trigger
/// fires for the table that the statement names.
fn with_partitions(oid: Oid) -> Result<Vec<String>, PgError> {
    sql::query(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
           FROM (SELECT $1::oid AS oid \
                 UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree($1::regclass)) t \
           JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN ('r', 'p') \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
        &[oid.into()],
        |row| get(row, 1),
    )
}

/// The triggers that a mapping asks for.
fn wanted(
    sessions: &Relation,
    connections: &Relation,
    mapping: &Mapping,
) -> Result<BTreeSet<Trigger>, PgError> {
    let columns = |subject, table, roles: &[&'static str]| -> Vec<&str> {
        let names = roles.iter().filter_map(|role| mapping.column(table, role));
        std::iter::once(subject).chain(names).collect()
    };
    let roles = [
        "id",
        "join_url",
        "meeting_external_id",
        "status",
        "provider",
        "tutor_id",
        "scheduled_start_at",
        "scheduled_end_at",
        "duration_minutes",
    ];
    let on_insert = columns("session", Table::Sessions, &roles[..3]);
    let on_update = columns("session", Table::Sessions, &roles);
    let roles = [
        "tutor_id",
        "provider",
        "connection_status",
        "access_token_encrypted",
        "refresh_token_encrypted",
        "is_active",
    ];
    let on_connect = columns("tutor", Table::Connections, &roles);

    let mut all = BTreeSet::new();
    let tables = with_partitions(sessions.oid)?;
    for table in &tables {
        all.insert(Trigger::new(INSERT, table, "STATEMENT", &on_insert));
    }
    // A row that moves to another partition fires no row-level UPDATE trigger, so a partitioned
    // table has a statement-level one. Elsewhere a row-level one is cheaper.
    if sessions.kind == "p" {
        for table in &tables {
            all.insert(Trigger::new(UPDATE, table, "STATEMENT", &on_update));
        }
    } else {
        all.insert(Trigger::new(UPDATE, &sessions.name, "ROW", &on_update));
    }
    all.insert(Trigger::new(
        CONNECTION,
        &connections.name,
        "ROW",
        &on_connect,
    ));
    Ok(all)
}

/// The triggers of ours that there are, wherever an earlier mapping put them.
fn present() -> Result<BTreeSet<Trigger>, PgError> {
    let found = sql::query(
        "SELECT t.tgname::text, pg_catalog.format('%I.%I', n.nspname, c.relname), t.tgargs, \
                t.tgtype & 1 = 1 \
           FROM pg_catalog.pg_trigger t \
           JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
           JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace \
          WHERE pn.nspname = 'meetlink' AND p.proname = 'enqueue' AND t.tgparentid = 0 \
            AND n.nspname <> 'meetlink'",
        &[],
        |row| {
            Ok(Trigger {
                name: get(row, 1)?,
                table: get(row, 2)?,
                arguments: get(row, 3)?,
                level: if get(row, 4)? { "ROW" } else { "STATEMENT" },
            })
        },
    )?;
    Ok(found.into_iter().collect())
}

/// Adds the triggers that are missing and removes those that are not wanted, as the calling role,
/// which must own the tables. Touches nothing where all is as it should be.
pub fn add(sessions: &Relation, connections: &Relation, mapping: &Mapping) -> Result<(), PgError> {
    let wanted = wanted(sessions, connections, mapping)?;
    let present = present()?;
    let stale: Vec<&Trigger> = present.difference(&wanted).collect();
    let missing: Vec<&Trigger> = wanted.difference(&present).collect();
    lock(
        stale
            .iter()
            .chain(&missing)
            .map(|trigger| trigger.table.as_str()),
    )?;
    stale.into_iter().try_for_each(Trigger::drop)?;
    missing.into_iter().try_for_each(Trigger::create)
}

/// Removes every trigger of ours.
pub fn remove() -> Result<(), PgError> {
    let present = present()?;
    lock(present.iter().map(|trigger| trigger.table.as_str()))?;
    present.iter().try_for_each(Trigger::drop)
}

/// Locks tables for a change of their triggers, all or none: never waiting for one for long while
/// holding another, since bookings take both in their own order.
fn lock<'a>(tables: impl Iterator<Item = &'a str>) -> Result<(), PgError> {
    let tables: BTreeSet<&str> = tables.collect();
    let deadline = Instant::now() + LOCK_PATIENCE;
    let longest = process::deadlock_timeout() / 2;
    let mut tries = LOCK_TRIES.into_iter();
    let mut time = LOCK_TRIES[0];
    loop {
        time = tries.next().unwrap_or(time).min(longest);
        let done = xact::subtransaction(|| {
            xact::with_settings(&[(c"deadlock_timeout", LOCK_CHECK)], || {
                let end = Instant::now() + time;
                tables.iter().try_for_each(|table| lock_until(table, end))
            })
        });
        match done {
            Err(error) if error.is_about_locks() => {
                if Instant::now() >= deadline {
                    return Err(in_the_way(&tables));
                }
                process::rest(LOCK_PAUSE);
            }
            done => return done,
        }
    }
}

fn lock_until(table: &str, end: Instant) -> Result<(), PgError> {
    let left = end.saturating_duration_since(Instant::now()).as_millis();
    // Zero would mean for ever.
    let left = CString::new(format!("{}ms", left.max(1))).unwrap_or_default();
    xact::set_for_level(c"lock_timeout", &left)?;
    sql::run(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
}

fn in_the_way(tables: &BTreeSet<&str>) -> PgError {
    let names: Vec<&str> = tables.iter().copied().collect();
    PgError::new(
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
        format!(
            "could not lock {} for a change of triggers: other transactions were in the way for {} s\n\
             HINT: Nothing was changed. A long transaction may hold a lock: see \
             pg_stat_activity.xact_start and pg_locks, end it, and try again.",
            names.join(" and "),
            LOCK_PATIENCE.as_secs(),
        ),
    )
}
