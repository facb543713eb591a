//! Becoming the owner of one of the application's tables for a statement.

use std::ffi::CString;

use pgrx::PgSqlErrorCode;

use super::mapped::Mapped;
use super::sql::{self, get};
use crate::domain::search_path::guarded;
use crate::pg::error::{PgError, catch};
use crate::pg::{Oid, identity, process, xact};

/// A mapped table: its oid and name, unless it is gone.
pub(super) type Entry = Option<(Oid, String)>;

/// Runs `f` as the owner of a table, which must be the one that its name leads to, before and after:
/// statements say the name, and whoever owns the schema could put a view in the table's place.
fn as_owner<T>(table: &Entry, f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    let gone = || {
        PgError::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            "a mapped table is gone, or is not where it was a moment ago",
        )
    };
    let (oid, name) = table.as_ref().ok_or_else(gone)?;
    let owner = identity::owner_of(*oid).ok_or_else(gone)?;
    let in_place = || identity::is_named(*oid, name);
    if !in_place() {
        return Err(gone());
    }
    let value = identity::run_as(owner, f)?;
    if in_place() { Ok(value) } else { Err(gone()) }
}

/// Runs a read as a table's owner, with `search_path` as it is pinned.
///
/// Where row security binds even the owner, Postgres raises an error instead of hiding rows.
pub(super) fn read_as_owner<T>(
    table: &Entry,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    as_owner(table, || {
        xact::set_for_level(c"row_security", c"off")?;
        f()
    })
}

/// Runs a write as a table's owner, with what the application's triggers expect: their search
/// path, and deferred triggers at once (in a security-restricted operation they could not wait).
///
/// For the worker; to be called in a subtransaction that is rolled back when it fails.
pub(super) fn write_as_owner<T>(
    table: &Entry,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    xact::set_constraints_immediate();
    as_owner(table, || {
        xact::set_for_level(c"row_security", c"off")?;
        xact::set_for_level(c"search_path", &process::application_search_path())?;
        process::plan_each_time()?;
        f()
    })
}

/// Runs a write as the connections table's owner, in somebody's own transaction: only what is
/// deferred on this very table is done at once.
///
/// An error comes without its details: what the owner may read of a row is not for the caller. To
/// be raised again, since the transaction has to end.
pub fn write_connections_as_owner<T>(
    mapped: &Mapped,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    let table = &mapped.config().connections;
    let deferred = sql::query(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.conname) \
           FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace \
          WHERE c.conrelid = $1 AND c.condeferrable",
        &[table.as_ref().map(|(oid, _)| *oid).into()],
        |row| get::<String>(row, 1),
    )?;
    let path = database_search_path()?;
    if !deferred.is_empty() {
        sql::run(&format!(
            "SET CONSTRAINTS {} IMMEDIATE",
            deferred.join(", ")
        ))?;
    }
    catch(|| {
        as_owner(table, || {
            xact::set_for_level(c"search_path", &path)?;
            f()
        })
    })
}

/// The `search_path` of the database, whoever the caller is and whatever his session says.
fn database_search_path() -> Result<CString, PgError> {
    let stored = sql::query_one(
        "SELECT pg_catalog.substr(s.setting, 13) \
           FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) s(setting) \
          WHERE d.setdatabase = $1 AND d.setrole = 0 \
            AND pg_catalog.starts_with(s.setting, 'search_path=')",
        &[process::my_database().into()],
        |row| get::<String>(row, 1),
    )?;
    let path = guarded(stored.as_deref().unwrap_or("\"$user\", public"));
    Ok(CString::new(path).unwrap_or_else(|_| c"pg_catalog, pg_temp".to_owned()))
}
