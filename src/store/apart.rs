//! Reads over two of the application's tables. Where these have several owners and somebody asks who
//! sees everything, nobody may be both of them: one table is read first, and its rows stand in the statement instead.

use super::mapped::Mapped;
use super::owner::{read_as_caller, read_as_owner, several_owners};
use super::sql::{self, from_uuids, get, maybe_uuid};
use crate::domain::mapping::Table;
use crate::pg::error::PgError;

/// Runs a read over sessions and the people in them, with what the caller may see.
pub fn sessions_and_people<T>(
    mapped: &Mapped,
    f: impl FnOnce(&Mapped) -> Result<T, PgError>,
) -> Result<T, PgError> {
    let (sessions, people) = (&mapped.config().sessions, &mapped.config().profiles);
    if !several_owners(&[sessions, people]) {
        return read_as_caller(&[sessions, people], false, || f(mapped));
    }
    let ids = read_as_owner(sessions, || {
        sql::look(&mapped.people_of_sessions(), &[], |row| maybe_uuid(row, 1))
    })?;
    let ids = from_uuids(ids.into_iter().flatten());
    let rows = read_as_owner(people, || {
        let text = mapped.people_as_json();
        sql::look(&text, &[ids.into()], |row| get::<String>(row, 1))
    })?;
    let apart = mapped.with_rows(Table::Profiles, &rows.concat());
    read_as_caller(&[sessions], false, || f(&apart))
}

/// The same over people and their connections.
pub fn people_and_connections<T>(
    mapped: &Mapped,
    f: impl FnOnce(&Mapped) -> Result<T, PgError>,
) -> Result<T, PgError> {
    let (people, connections) = (&mapped.config().profiles, &mapped.config().connections);
    if !several_owners(&[people, connections]) {
        return read_as_caller(&[people, connections], false, || f(mapped));
    }
    let rows = read_as_owner(connections, || {
        let text = mapped.connections_as_json();
        sql::look(&text, &[], |row| get::<String>(row, 1))
    })?;
    let apart = mapped.with_rows(Table::Connections, &rows.concat());
    read_as_caller(&[people], false, || f(&apart))
}
