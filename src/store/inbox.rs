//! `meetlink.inbox`: what the worker has not looked at yet.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::app::{self, Session};
use super::holds;
use super::jobs::Fresh;
use super::mapped::Mapped;
use super::sql::{self, from_uuid, from_uuids, get, uuid_at};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::inbox as rows;
use crate::pg::xact;

mod place;
pub use place::place;

/// Why a row is in the inbox. A trigger's rows have 0 (a session), or [`Wish::Connected`] (a tutor).
/// Of several for one session the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Wish {
    /// `meetlink_create_missing`.
    Wanted = 1,
    /// `meetlink_retry`.
    Now = 2,
    /// The session's tutor has connected an account.
    Connected = 3,
    /// The operator changed something that jobs wait for.
    Operator = 4,
    /// Queued in a database that was restored since: look before creating.
    Restored = 5,
    /// `meetlink_resolve`: the meeting in doubt exists.
    Adopt = 6,
    /// `meetlink_resolve`: it does not.
    Repost = 7,
}

/// What draining gave.
pub struct Drained {
    /// Whether rows were taken.
    pub any: bool,
    /// Whether there may be more.
    pub more: bool,
    /// Jobs that were made or changed, with their state.
    pub jobs: Vec<(Uuid, State)>,
    /// How many sessions of which provider came without a link, and were never heard of before.
    pub fresh: BTreeMap<String, i64>,
    /// Tutors whose connection changed.
    pub tutors: Vec<Uuid>,
    /// The sessions, as they were seen.
    pub sessions: Vec<Session>,
    /// As [`Placed::begun`].
    pub begun: Vec<(Fresh, i32)>,
    /// As [`Taken::operator`].
    pub operator: bool,
    /// As [`Placed::hurried`].
    pub hurried: bool,
}

/// What became of named sessions.
#[derive(Default)]
pub struct Placed {
    /// Sessions whose jobs are left to be made with their first attempt, and its number.
    pub begun: Vec<(Fresh, i32)>,
    /// Jobs that were made or changed, with their state.
    pub jobs: Vec<(Uuid, State)>,
    /// As [`Drained::fresh`].
    pub fresh: BTreeMap<String, i64>,
    /// As [`Drained::sessions`].
    pub sessions: Vec<Session>,
    /// Whether somebody waits for one of them.
    pub hurried: bool,
}

/// A session that is named in the inbox.
pub struct Named {
    /// The session.
    pub session: Uuid,
    wish: i16,
    /// Microseconds since the Unix epoch.
    queued_at: i64,
}

/// Turns inbox rows into jobs, `most` of them; `leave` as for [`place`].
pub fn drain(
    mapped: &Mapped,
    most: usize,
    lanes: &[&'static str],
    leave: Option<usize>,
) -> Result<Drained, PgError> {
    let Taken {
        rows,
        named,
        tutors,
        operator,
    } = take(most)?;
    let placed = place(mapped, named, lanes, leave)?;
    Ok(Drained {
        any: rows > 0,
        more: rows >= most,
        jobs: placed.jobs,
        fresh: placed.fresh,
        tutors,
        sessions: placed.sessions,
        begun: placed.begun,
        operator,
        hurried: placed.hurried,
    })
}

/// What was taken out of the inbox.
pub struct Taken {
    /// How many rows.
    pub rows: usize,
    /// The sessions that they are about.
    pub named: Vec<Named>,
    /// The tutors.
    pub tutors: Vec<Uuid>,
    /// Whether the operator changed something, which lets go of what waited for that.
    pub operator: bool,
}

/// Takes rows out, so many at most; a tutor's row stands for the tutor's parked sessions.
pub fn take(most: usize) -> Result<Taken, PgError> {
    let (mut operator, mut tutors) = (false, HashSet::new());
    let mut named = BTreeMap::new();
    let mut name = |session: Uuid, wish: i16, queued_at: i64| {
        let first = Named {
            session,
            wish,
            queued_at,
        };
        let one: &mut Named = named.entry(session).or_insert(first);
        one.wish = one.wish.max(wish);
        one.queued_at = one.queued_at.min(queued_at);
    };
    let taken = rows::take(most)?;
    for row in &taken {
        if let Some(session) = row.session {
            name(session, row.wish, row.queued_at);
        }
        tutors.extend(row.tutor);
        operator |= row.wish == Wish::Operator as i16;
    }
    if !tutors.is_empty() {
        sql::query(
            "SELECT j.session_id, (extract(epoch FROM j.queued_at) * 1000000)::bigint \
               FROM pg_catalog.unnest($1) u(tutor) CROSS JOIN LATERAL ( \
                 SELECT session_id, queued_at FROM meetlink.jobs \
                  WHERE tutor_id = u.tutor AND state NOT IN ('ready', 'not_needed') \
                 OFFSET 0) j",
            &[from_uuids(tutors.iter().copied()).into()],
            |row| {
                name(uuid_at(row, 1)?, Wish::Connected as i16, get(row, 2)?);
                Ok(())
            },
        )?;
    }
    if operator {
        holds::release_operator_holds()?;
    }
    if !tutors.is_empty() {
        holds::release_tutor_holds(from_uuids(tutors.iter().copied()))?;
    }
    Ok(Taken {
        rows: taken.len(),
        named: named.into_values().collect(),
        tutors: tutors.into_iter().collect(),
        operator,
    })
}

/// Parks a session whose row cannot be looked at as failed, and gives its tutor, as far as known;
/// the outer `None`: an attempt is under way.
pub fn set_aside(
    session: Uuid,
    reason: &str,
    error: &str,
) -> Result<Option<Option<Uuid>>, PgError> {
    sql::query_one(
        "INSERT INTO meetlink.jobs AS j (session_id, state, queued_at, reason, last_error) \
         VALUES ($1, 'failed', pg_catalog.now(), $2, $3) \
         ON CONFLICT (session_id) DO UPDATE \
            SET state = 'failed', due_at = NULL, reason = $2, last_error = $3 \
          WHERE j.state <> 'creating' RETURNING tutor_id",
        &[from_uuid(session).into(), reason.into(), error.into()],
        |row| sql::maybe_uuid(row, 1),
    )
}

/// Appends sessions.
pub fn add(sessions: &[Uuid], wish: Wish) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.inbox (session_id, wish, queued_at) \
         SELECT u.id, $2, pg_catalog.now() FROM pg_catalog.unnest($1) u(id)",
        &[
            from_uuids(sessions.iter().copied()).into(),
            (wish as i16).into(),
        ],
    )?;
    Ok(())
}

/// Notes that the operator changed something; the worker lets go of what waits for it.
pub fn add_operator_note() -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.inbox (wish, queued_at) VALUES ($1, pg_catalog.now())",
        &[(Wish::Operator as i16).into()],
    )?;
    Ok(())
}

/// Marks what is queued: in this database it may have gone further than it knows.
pub fn doubt_everything() -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.inbox SET wish = $1 WHERE session_id IS NOT NULL",
        &[(Wish::Restored as i16).into()],
    )?;
    Ok(())
}

/// Appends a tutor whose parked sessions may go on.
pub fn add_tutor(tutor: Uuid) -> Result<(), PgError> {
    sql::execute(
        "INSERT INTO meetlink.inbox (tutor_id, wish, queued_at) VALUES ($1, $2, pg_catalog.now())",
        &[from_uuid(tutor).into(), (Wish::Connected as i16).into()],
    )?;
    Ok(())
}

/// Sessions that want a link and have no job under way, soonest first. Each statement sees what has
/// been committed before it, so a job may end between the first two: the third tells.
pub fn missing(mapped: &Mapped, limit: Option<i32>) -> Result<Vec<Uuid>, PgError> {
    let wanting = from_uuids(app::wanting(mapped)?);
    let found = sql::query(
        "SELECT u.id FROM pg_catalog.unnest($1) WITH ORDINALITY u(id, place) \
          WHERE NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.session_id = u.id \
                             AND j.state IN ('pending', 'creating', 'retrying', 'in_doubt')) \
            AND NOT EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = u.id) \
          ORDER BY u.place LIMIT $2",
        &[wanting.into(), limit.map(i64::from).into()],
        |row| uuid_at(row, 1),
    )?;
    let seen = match xact::subtransaction(|| app::sessions(mapped, &found)) {
        // A row that cannot be read stops nobody: the worker finds out which it is.
        Err(error) if error.is_about_data() => return Ok(found),
        seen => seen?,
    };
    let still = seen.iter().filter(|session| session.wants);
    let still: HashSet<Uuid> = still.map(|session| session.id).collect();
    Ok(found.into_iter().filter(|id| still.contains(id)).collect())
}

/// Whether a prepared transaction (two-phase commit) of this database is still open.
pub fn prepared_transactions_open() -> Result<bool, PgError> {
    let found = sql::query_one(
        "SELECT true FROM pg_catalog.pg_prepared_xacts \
          WHERE database = pg_catalog.current_database() LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}
