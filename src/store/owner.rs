//! Becoming the owner of one of the application's tables for a statement, or not: whoever only looks
//! keeps his own rights where they show him less.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::PgSqlErrorCode;

use super::mapped::Mapped;
use super::sql::{self, get};
use crate::domain::search_path::guarded;
use crate::pg::error::{PgError, catch};
use crate::pg::{Oid, identity, process, xact};

/// A mapped table: its oid and name, unless it is gone.
pub(super) type Entry = Option<(Oid, String)>;

fn gone() -> PgError {
    PgError::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        "a mapped table is gone, or is not where it was a moment ago",
    )
}

/// Runs `f` over tables, each of which must be the one that its name leads to, before and after:
/// statements say the name, and whoever owns the schema could put a view in the table's place.
fn in_place<T>(
    tables: &[&Entry],
    f: impl FnOnce(&[Oid]) -> Result<T, PgError>,
) -> Result<T, PgError> {
    let there = || {
        let named = |table: &&Entry| match table {
            Some((oid, name)) => identity::is_named(*oid, name).then_some(*oid),
            None => None,
        };
        let oids: Option<Vec<Oid>> = tables.iter().map(named).collect();
        oids.ok_or_else(gone)
    };
    let value = f(&there()?)?;
    there()?;
    Ok(value)
}

/// Runs `f` as the owner of a table.
fn as_owner<T>(table: &Entry, f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    in_place(&[table], |oids| {
        let owner = oids.first().copied().and_then(identity::owner_of);
        identity::run_as(owner.ok_or_else(gone)?, f)
    })
}

/// Runs a read with what the caller may see, over all these tables at once; with `update`, one that
/// asks for the right to update them.
///
/// Where that is everything, as for a superuser, it runs as the tables' owner: code of the owner's
/// stands in the predicate of an index, and whoever is above him must not run it. Others keep their
/// own rights, since row security asks who they are.
///
/// The transaction has to end when it fails.
pub fn read_as_caller<T>(
    tables: &[&Entry],
    update: bool,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    in_place(tables, |oids| match stand_in(oids, update)? {
        Some(owner) => identity::run_as(owner, || {
            xact::set_for_level(c"row_security", c"off")?;
            f()
        }),
        // Code of the owner's runs as the caller there; it must not become whoever is logged in.
        None => identity::run_as(identity::current_user(), f),
    })
}

/// Whether somebody who sees everything asks about tables of several owners, none of whom may be the
/// other.
pub fn several_owners(tables: &[&Entry]) -> bool {
    let oids: Vec<Oid> = tables.iter().filter_map(|t| Some(t.as_ref()?.0)).collect();
    identity::is_unbound() && sees_all(&oids, false) && owners(&oids).len() > 1
}

fn sees_all(tables: &[Oid], update: bool) -> bool {
    let user = identity::current_user();
    let mut tables = tables.iter();
    tables.all(|table| identity::sees_all(*table, user, update))
}

fn owners(tables: &[Oid]) -> HashSet<Oid> {
    let owners = tables.iter().copied().filter_map(identity::owner_of);
    owners.collect()
}

/// The owner who sees what the caller sees; `None` where the caller's own rights show less. One whom
/// row security binds raises an error, as everywhere: who can set that must not gain by it.
fn stand_in(tables: &[Oid], update: bool) -> Result<Option<Oid>, PgError> {
    if !sees_all(tables, update) {
        return Ok(None);
    }
    let owners = owners(tables);
    match owners.iter().next() {
        Some(owner) if owners.len() == 1 => Ok(Some(*owner)),
        _ if identity::is_unbound() => Err(PgError::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "the application's tables have just got different owners; ask again",
        )),
        _ => Ok(None),
    }
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
            // Rows that are hidden from the owner must not count as rows that are not there.
            xact::set_for_level(c"row_security", c"off")?;
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
