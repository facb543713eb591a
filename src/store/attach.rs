//! Looking at the application's tables.

use std::collections::BTreeMap;

use crate::pg::Oid;

use super::config::Config;
use super::sql::{self, get, maybe};
use crate::domain::mapping::{ColumnType, Table};
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
    /// Whether row security binds even its owner, as whom meetlink reads and writes.
    pub binds_owner: bool,
    /// Columns by name.
    pub columns: BTreeMap<String, ColumnType>,
}

/// Whether texts of this database come as UTF-8.
pub fn is_utf8() -> Result<bool, PgError> {
    let utf8 = sql::query_one(
        "SELECT pg_catalog.getdatabaseencoding() = 'UTF8'",
        &[],
        |row| get::<bool>(row, 1),
    )?;
    Ok(utf8.unwrap_or(false))
}

/// Describes a relation; `None` if it is not there.
pub fn describe(oid: Oid) -> Result<Option<Relation>, PgError> {
    let head = sql::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text, \
                c.relpersistence::text, \
                c.relrowsecurity AND c.relforcerowsecurity \
                  AND NOT r.rolsuper AND NOT r.rolbypassrls \
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_roles r ON r.oid = c.relowner \
          WHERE c.oid = $1",
        &[oid.into()],
        |row| {
            Ok((
                get::<String>(row, 1)?,
                get::<String>(row, 2)?,
                get::<String>(row, 3)?,
                get::<bool>(row, 4)?,
            ))
        },
    )?;
    let Some((name, kind, persistence, binds_owner)) = head else {
        return Ok(None);
    };
    let columns = sql::query(
        // A name alone says little: anybody makes a type called uuid.
        "SELECT a.attname::text, \
                CASE WHEN b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace OR c.oid IS NOT NULL \
                     THEN b.typname::text ELSE b.oid::pg_catalog.regtype::text END, \
                b.typtype = 'e', \
                pg_catalog.format_type(a.atttypid, a.atttypmod), \
                pg_catalog.format_type(CASE WHEN b.oid IN ('text'::pg_catalog.regtype, \
                    'varchar'::pg_catalog.regtype, 'bpchar'::pg_catalog.regtype) \
                  THEN b.oid ELSE a.atttypid END, NULL), \
                CASE WHEN b.oid IN ('varchar'::pg_catalog.regtype, 'bpchar'::pg_catalog.regtype) \
                     THEN CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END - 4 END \
           FROM pg_catalog.pg_attribute a \
           JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
           JOIN pg_catalog.pg_type b \
             ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
           LEFT JOIN (pg_catalog.pg_depend d JOIN pg_catalog.pg_extension c \
                        ON d.refobjid = c.oid AND c.extname = 'citext') \
             ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = b.oid \
            AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
            AND d.deptype = 'e' \
          WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[oid.into()],
        |row| {
            let column = ColumnType {
                base: get(row, 2)?,
                is_enum: get(row, 3)?,
                sql: get(row, 4)?,
                cast: get(row, 5)?,
                // No limit is -1 in the catalog, which leaves less than nothing here.
                limit: maybe::<i32>(row, 6)?.and_then(|limit| u32::try_from(limit).ok()),
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
        binds_owner,
        columns,
    }))
}

/// A table by its qualified name, as the options give it.
pub fn named(name: &str) -> Result<Option<Oid>, PgError> {
    let found = sql::query_one(
        "SELECT pg_catalog.to_regclass($1)::oid",
        &[name.into()],
        |row| maybe::<Oid>(row, 1),
    )?;
    Ok(found.flatten())
}

/// A table beside another, by its bare name.
pub fn beside(table: Oid, name: &str) -> Result<Option<Oid>, PgError> {
    sql::query_one(
        "SELECT n.oid FROM pg_catalog.pg_class n JOIN pg_catalog.pg_class t \
             ON t.relnamespace = n.relnamespace \
          WHERE t.oid = $1 AND n.relname = $2 AND n.relkind IN ('r', 'p')",
        &[table.into(), name.into()],
        |row| get(row, 1),
    )
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
        "notifications": name(&config.notifications),
        "columns": {
            "sessions": columns(Table::Sessions),
            "connections": columns(Table::Connections),
            "profiles": columns(Table::Profiles),
            "notifications": columns(Table::Notifications),
        },
        "options": config.options,
    })
}
