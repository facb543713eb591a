//! What stands behind the views that show people's names: read with what the caller may see.

use std::collections::HashSet;

use pgrx::iter::{SetOfIterator, TableIterator};
use pgrx::prelude::*;
use uuid::Uuid;

use super::fail::or_raise;
use crate::pg::error::PgError;
use crate::pg::identity::as_extension_owner;
use crate::pg::{process, shared};
use crate::store::mapped::Mapped;
use crate::store::owner::read_as_caller;
use crate::store::sql::{self, get, maybe};
use crate::store::{apart, app, config};

/// The mapping, if there is one whose tables are all there; views show nothing otherwise.
fn mapped() -> Option<Mapped> {
    or_raise(as_extension_owner(config::read)).and_then(|config| Mapped::new(config).ok())
}

/// Answers `meetlink.read_missing_sessions()` by having `fill` run its query, if there is one.
pub fn missing_sessions(
    fill: impl FnOnce(Option<String>) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let Some(mapped) = mapped() else {
        return fill(None);
    };
    apart::sessions_and_people(&mapped, |mapped| fill(Some(mapped.view_missing())))
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn read_at_risk() -> TableIterator<
    'static,
    (
        name!(session_id, Option<pgrx::Uuid>),
        name!(tutor_id, Option<pgrx::Uuid>),
        name!(tutor_name, Option<String>),
        name!(scheduled_start_at, Option<TimestampWithTimeZone>),
        name!(lacks_link, Option<bool>),
        name!(is_connected, Option<bool>),
    ),
> {
    let rows = mapped().map_or_else(Vec::new, |mapped| or_raise(coming(&mapped)));
    TableIterator::new(rows)
}

type AtRisk = (
    Option<pgrx::Uuid>,
    Option<pgrx::Uuid>,
    Option<String>,
    Option<TimestampWithTimeZone>,
    Option<bool>,
    Option<bool>,
);

/// Coming sessions, and those under way, as the caller sees them. Whether their tutors are connected
/// is no secret to those who see the session: its status says as much.
fn coming(mapped: &Mapped) -> Result<Vec<AtRisk>, PgError> {
    let sessions = apart::sessions_and_people(mapped, |mapped| {
        sql::read(&mapped.view_coming(), &[], |row| {
            let tutor = sql::maybe_uuid(row, 2)?;
            let soon = maybe::<bool>(row, 6)?.unwrap_or(false);
            Ok((
                tutor,
                soon,
                (
                    maybe(row, 1)?,
                    maybe(row, 2)?,
                    maybe(row, 3)?,
                    maybe(row, 4)?,
                    get(row, 5)?,
                ),
            ))
        })
    })?;
    let tutors: HashSet<Uuid> = sessions.iter().filter_map(|(tutor, ..)| *tutor).collect();
    let connected = app::connected(mapped, &tutors.into_iter().collect::<Vec<_>>())?;
    let rows = sessions
        .into_iter()
        .filter_map(|(tutor, soon, (id, of, name, start, lacks))| {
            let is_connected = tutor.is_some_and(|tutor| connected.contains(&tutor));
            (!is_connected || soon && lacks).then_some((
                id,
                of,
                name,
                start,
                Some(lacks),
                Some(is_connected),
            ))
        });
    Ok(rows.collect())
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn read_tutors() -> TableIterator<
    'static,
    (
        name!(id, Option<pgrx::Uuid>),
        name!(full_name, Option<String>),
        name!(email, Option<String>),
        name!(provider, Option<String>),
        name!(connection_status, Option<String>),
        name!(token_expires_at, Option<TimestampWithTimeZone>),
    ),
> {
    let rows = mapped().map_or_else(Vec::new, |mapped| {
        or_raise(apart::people_and_connections(&mapped, |mapped| {
            sql::read(&mapped.view_tutors(), &[], |row| {
                Ok((
                    maybe(row, 1)?,
                    maybe(row, 2)?,
                    maybe(row, 3)?,
                    maybe(row, 4)?,
                    maybe(row, 5)?,
                    maybe(row, 6)?,
                ))
            })
        }))
    });
    TableIterator::new(rows)
}

#[pg_extern(sql = false)]
fn read_visible(sessions: Vec<pgrx::Uuid>) -> SetOfIterator<'static, pgrx::Uuid> {
    let rows = mapped().map_or_else(Vec::new, |mapped| {
        let read = |row: &sql::Row<'_>| get(row, 1);
        or_raise(read_as_caller(&[&mapped.config().sessions], false, || {
            sql::read(&mapped.view_visible(), &[sessions.into()], read)
        }))
    });
    SetOfIterator::new(rows)
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn read_worker() -> TableIterator<
    'static,
    (
        name!(pid, Option<i32>),
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(state, String),
        name!(in_flight, i32),
        name!(last_error, Option<String>),
    ),
> {
    let slot = shared::get().and_then(|shared| shared.slot(process::my_database()));
    let row = slot.map(|slot| {
        let (pid, started_at, activity, in_flight) = slot.glance();
        let alive = pid != 0;
        (
            alive.then_some(pid),
            TimestampWithTimeZone::try_from(started_at)
                .ok()
                .filter(|_| alive),
            activity.as_str().to_owned(),
            i32::try_from(in_flight).unwrap_or(i32::MAX),
            slot.note.get(),
        )
    });
    TableIterator::new(row)
}
