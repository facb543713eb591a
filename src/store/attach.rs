//! Looking at the application's tables, and the triggers on them.

use std::collections::BTreeMap;

use crate::pg::Oid;
use pgrx::spi::{quote_identifier, quote_literal};

use super::config::Config;
use super::sql::{self, get};
use crate::domain::mapping::{ColumnType, Mapping, Table};
use crate::pg::error::PgError;

/// What a relation is.
pub struct Relation {
    /// Its oid.
    pub oid: Oid,
    /// Its quoted, qualified name.
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// `pg_class.relpersistence`.
    pub persistence: String,
    /// Columns by name.
    pub columns: BTreeMap<String, ColumnType>,
}

/// Describes a relation; `None` if it is not there.
pub fn describe(oid: Oid) -> Result<Option<Relation>, PgError> {
    let head = sql::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text, \
                c.relpersistence::text \
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE c.oid = $1",
        &[oid.into()],
        |row| {
            Ok((
                get::<String>(row, 1)?,
                get::<String>(row, 2)?,
                get::<String>(row, 3)?,
            ))
        },
    )?;
    let Some((name, kind, persistence)) = head else {
        return Ok(None);
    };
    let columns = sql::query(
        "SELECT a.attname::text, COALESCE(b.typname, t.typname)::text, \
                COALESCE(b.typtype, t.typtype) = 'e', \
                pg_catalog.format_type(a.atttypid, a.atttypmod) \
           FROM pg_catalog.pg_attribute a \
           JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
           LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype \
          WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[oid.into()],
        |row| {
            let column = ColumnType {
                base: get(row, 2)?,
                is_enum: get(row, 3)?,
                sql: get(row, 4)?,
            };
            Ok((get::<String>(row, 1)?, column))
        },
    )?;
    let columns = columns.into_iter().collect();
    Ok(Some(Relation {
        oid,
        name,
        kind,
        persistence,
        columns,
    }))
}

/// Name of the trigger for new sessions.
pub const TRIGGER_INSERT: &str = "meetlink_queue_inserted";
/// Name of the trigger for changed sessions.
pub const TRIGGER_UPDATE: &str = "meetlink_queue_updated";
/// Name of the trigger on connections.
pub const TRIGGER_CONNECTION: &str = "meetlink_connection_changed";

/// The table itself and, where it is partitioned, every table below it: a statement-level trigger
/// fires for the table that the statement names.
fn with_partitions(oid: Oid) -> Result<Vec<String>, PgError> {
    sql::query(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
           FROM (SELECT $1::oid AS oid \
                 UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree($1::regclass)) t \
           JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN ('r', 'p') \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY t.oid <> $1, 1",
        &[oid.into()],
        |row| get(row, 1),
    )
}

/// Adds the triggers, as the calling role, which must own the tables.
pub fn add_triggers(
    sessions: &Relation,
    connections: &Relation,
    mapping: &Mapping,
) -> Result<(), PgError> {
    let arguments = |subject: &str, table: Table, roles: &[&str]| {
        let names = roles.iter().filter_map(|role| mapping.column(table, role));
        let all = std::iter::once(subject).chain(names).map(quote_literal);
        all.collect::<Vec<String>>().join(", ")
    };
    let ids = ["id", "join_url", "meeting_external_id"];
    let on_insert = arguments("session", Table::Sessions, &ids);
    let watched = [
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
    let on_update = arguments("session", Table::Sessions, &watched);
    for name in with_partitions(sessions.oid)? {
        sql::run(&format!(
            "CREATE TRIGGER {TRIGGER_INSERT} AFTER INSERT ON {name} \
             REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT \
             EXECUTE FUNCTION meetlink.enqueue({on_insert})"
        ))?;
        depend(TRIGGER_INSERT, &name)?;
    }
    // A row that moves to another partition fires no row-level UPDATE trigger, so a partitioned
    // table has a statement-level one. Elsewhere a row-level one is cheaper.
    let is_partitioned = sessions.kind == "p";
    for name in if is_partitioned {
        with_partitions(sessions.oid)?
    } else {
        vec![sessions.name.clone()]
    } {
        let level = if is_partitioned {
            "REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT"
        } else {
            "FOR EACH ROW"
        };
        sql::run(&format!(
            "CREATE TRIGGER {TRIGGER_UPDATE} AFTER UPDATE ON {name} {level} \
             EXECUTE FUNCTION meetlink.enqueue({on_update})"
        ))?;
        depend(TRIGGER_UPDATE, &name)?;
    }
    let roles = [
        "tutor_id",
        "provider",
        "connection_status",
        "access_token_encrypted",
        "refresh_token_encrypted",
        "is_active",
    ];
    let on_connect = arguments("tutor", Table::Connections, &roles);
    sql::run(&format!(
        "CREATE TRIGGER {TRIGGER_CONNECTION} AFTER INSERT OR UPDATE ON {} FOR EACH ROW \
         EXECUTE FUNCTION meetlink.enqueue({on_connect})",
        connections.name
    ))?;
    depend(TRIGGER_CONNECTION, &connections.name)
}

/// Makes `DROP EXTENSION` take the trigger along without CASCADE.
fn depend(trigger: &str, table: &str) -> Result<(), PgError> {
    sql::run(&format!(
        "ALTER TRIGGER {trigger} ON {table} DEPENDS ON EXTENSION meetlink"
    ))
}

/// Removes every trigger of ours, wherever an earlier mapping put it.
pub fn remove_triggers() -> Result<usize, PgError> {
    let found = sql::query(
        "SELECT t.tgname::text, pg_catalog.format('%I.%I', n.nspname, c.relname) \
           FROM pg_catalog.pg_trigger t \
           JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
           JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace \
          WHERE pn.nspname = 'meetlink' AND p.proname = 'enqueue' AND t.tgparentid = 0",
        &[],
        |row| Ok((get::<String>(row, 1)?, get::<String>(row, 2)?)),
    )?;
    for (trigger, table) in &found {
        sql::run(&format!(
            "DROP TRIGGER {} ON {table}",
            quote_identifier(trigger)
        ))?;
    }
    Ok(found.len())
}

/// The mapping as `meetlink_attach` returns it.
pub fn summary(config: &Config) -> serde_json::Value {
    let name = |entry: &Option<(_, String)>| entry.as_ref().map(|(_, name)| name.clone());
    let columns = |table: Table| {
        let all = config.mapping.to_json();
        let columns = all[table.key()].as_object().cloned().unwrap_or_default();
        let plain = columns
            .into_iter()
            .map(|(role, entry)| (role, entry["column"].clone()));
        serde_json::Value::Object(plain.collect())
    };
    serde_json::json!({
        "sessions": name(&config.sessions),
        "connections": name(&config.connections),
        "profiles": name(&config.profiles),
        "columns": {
            "sessions": columns(Table::Sessions),
            "connections": columns(Table::Connections),
            "profiles": columns(Table::Profiles),
        },
        "options": config.options,
    })
}
