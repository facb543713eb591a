//! Running statements: prepared once a connection, kept, and given typed parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData};

use crate::pg::error::PgError;
use crate::pg::xact;

pub use crate::pg::to_uuid;

/// Plans kept at most; a mapping that changes leaves its old texts behind.
const KEPT: usize = 200;

/// Longest text whose plan is kept: one with rows in it is not run twice.
const LONGEST_KEPT: usize = 20_000;

thread_local! {
    static PLANS: RefCell<HashMap<String, OwnedPreparedStatement>> = RefCell::new(HashMap::new());
}

/// A row of a result.
pub type Row<'a> = SpiHeapTupleData<'a>;

/// Runs a statement and turns each row into a value.
pub fn query<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    mut read: impl FnMut(&Row<'_>) -> Result<T, PgError>,
) -> Result<Vec<T>, PgError> {
    if xact::is_standby() {
        // Nothing is written there, and a transaction id is not to be had.
        return self::read(text, parameters, read);
    }
    with_plan(text, parameters, |client, plan| {
        let table = client.update(plan, None, parameters)?;
        let mut rows = Vec::with_capacity(table.len());
        for row in table {
            rows.push(read(&row)?);
        }
        Ok(rows)
    })
}

/// Runs a statement that only reads, and turns each row into a value. Unlike [`query`] it needs no
/// transaction id, so it works on a standby; it sees the current snapshot.
pub fn read<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    mut read: impl FnMut(&Row<'_>) -> Result<T, PgError>,
) -> Result<Vec<T>, PgError> {
    with_plan(text, parameters, |client, plan| {
        let mut rows = Vec::new();
        for row in client.select(plan, None, parameters)? {
            rows.push(read(&row)?);
        }
        Ok(rows)
    })
}

/// The same with a snapshot of its own: it sees what has committed, and what this transaction did, as
/// [`query`] does.
pub fn look<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    row: impl FnMut(&Row<'_>) -> Result<T, PgError>,
) -> Result<Vec<T>, PgError> {
    xact::with_fresh_snapshot(|| read(text, parameters, row))
}

/// Runs a statement that only reads, and gives at most one row of interest.
pub fn read_one<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    row: impl FnMut(&Row<'_>) -> Result<T, PgError>,
) -> Result<Option<T>, PgError> {
    Ok(read(text, parameters, row)?.into_iter().next())
}

/// Runs a statement that gives at most one row of interest.
pub fn query_one<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    read: impl FnMut(&Row<'_>) -> Result<T, PgError>,
) -> Result<Option<T>, PgError> {
    Ok(query(text, parameters, read)?.into_iter().next())
}

/// Runs a statement for its effect; gives the number of rows.
pub fn execute(text: &str, parameters: &[DatumWithOid<'_>]) -> Result<usize, PgError> {
    with_plan(text, parameters, |client, plan| {
        Ok(client.update(plan, None, parameters)?.len())
    })
}

/// Runs a statement that cannot be prepared (DDL).
pub fn run(text: &str) -> Result<(), PgError> {
    Ok(Spi::run(text)?)
}

fn with_plan<T>(
    text: &str,
    parameters: &[DatumWithOid<'_>],
    f: impl FnOnce(&mut SpiClient<'_>, &OwnedPreparedStatement) -> Result<T, PgError>,
) -> Result<T, PgError> {
    Spi::connect_mut(|client| {
        // Taken out while it runs: a statement may run a trigger that comes back here.
        let kept = PLANS.with_borrow_mut(|plans| plans.remove(text));
        let plan = match kept {
            Some(plan) => plan,
            None => {
                let types: Vec<PgOid> = parameters.iter().map(|p| PgOid::from(p.oid())).collect();
                client.prepare(text, &types)?.keep()
            }
        };
        let done = f(client, &plan)?;
        if text.len() > LONGEST_KEPT {
            return Ok(done);
        }
        PLANS.with_borrow_mut(|plans| {
            if plans.len() >= KEPT {
                plans.clear();
            }
            plans.insert(text.to_owned(), plan);
        });
        Ok(done)
    })
}

/// A duration as a statement takes it: in milliseconds.
pub fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A column that is never NULL.
pub fn get<T: FromDatum + IntoDatum>(row: &Row<'_>, ordinal: usize) -> Result<T, PgError> {
    row.get::<T>(ordinal)?.ok_or_else(|| {
        PgError::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("column {ordinal} of a result is unexpectedly null"),
        )
    })
}

/// A column that may be NULL.
pub fn maybe<T: FromDatum + IntoDatum>(row: &Row<'_>, at: usize) -> Result<Option<T>, PgError> {
    Ok(row.get::<T>(at)?)
}

/// A uuid column, as the pure rooms know it.
pub fn uuid_at(row: &Row<'_>, ordinal: usize) -> Result<uuid::Uuid, PgError> {
    Ok(to_uuid(get::<pgrx::Uuid>(row, ordinal)?))
}

/// A uuid column that may be NULL.
pub fn maybe_uuid(row: &Row<'_>, ordinal: usize) -> Result<Option<uuid::Uuid>, PgError> {
    Ok(maybe::<pgrx::Uuid>(row, ordinal)?.map(to_uuid))
}

/// From the pure rooms' uuid to Postgres's; [`to_uuid`] is the other way round.
pub fn from_uuid(uuid: uuid::Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*uuid.as_bytes())
}

/// Several at once.
pub fn from_uuids(uuids: impl IntoIterator<Item = uuid::Uuid>) -> Vec<pgrx::Uuid> {
    uuids.into_iter().map(from_uuid).collect()
}

/// Microseconds since the Unix epoch, as the statements here give and take times, to chrono.
pub fn to_time(micros: i64) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::from_timestamp_micros(micros)
}
