//! `meetlink.inbox`: what the worker has not looked at yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::app::{self, Session};
use super::holds;
use super::jobs::{self, Claimed, Fresh};
use super::mapped::Mapped;
use super::sql::{self, from_uuid, from_uuids, get, maybe, uuid_at};
use crate::domain::state::State;
use crate::pg::error::PgError;

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

/// Whether something was made, or may have been, of which a session that needs no link any more
/// knows nothing: the worker has to see to it. Over a job `j` and a row that is to be put there.
const LEFT_OVER: &str = "(j.wish <> 'exists' OR j.kept_from IS NOT NULL \
     OR EXCLUDED.state = 'not_needed' AND j.may_exist_since IS NOT NULL)";

/// Rows taken at once: bounds the length of a transaction.
pub const BATCH: i64 = 10_000;

/// What draining gave.
pub struct Drained {
    /// Inbox rows taken.
    pub taken: i64,
    /// Jobs that were made or changed, with their state.
    pub jobs: Vec<(Uuid, State)>,
    /// How many sessions of which provider came without a link, and were never heard of before.
    pub fresh: BTreeMap<String, i64>,
    /// Tutors whose connection changed.
    pub tutors: Vec<Uuid>,
    /// The sessions, as they were seen.
    pub sessions: Vec<Session>,
    /// As [`Placed::claimed`].
    pub claimed: Vec<Claimed>,
}

/// Leave to claim new jobs at once.
pub struct Leave {
    /// How many, of whichever provider.
    pub room: usize,
    /// Pid of the worker.
    pub holder: i32,
    /// How long a claim is good for.
    pub lease: Duration,
}

/// What became of named sessions.
#[derive(Default)]
pub struct Placed {
    /// New jobs that were claimed with their making.
    pub claimed: Vec<Claimed>,
    /// Jobs that were made or changed, with their state.
    pub jobs: Vec<(Uuid, State)>,
    /// As [`Drained::fresh`].
    pub fresh: BTreeMap<String, i64>,
    /// As [`Drained::sessions`].
    pub sessions: Vec<Session>,
}

/// A session that is named in the inbox.
pub struct Named {
    /// The session.
    pub session: Uuid,
    wish: i16,
    /// Microseconds since the Unix epoch.
    queued_at: i64,
}

/// Turns inbox rows into jobs, `rows` of them at most.
pub fn drain(
    mapped: &Mapped,
    rows: i64,
    lanes: &[&str],
    leave: Option<&Leave>,
) -> Result<Drained, PgError> {
    let Taken {
        rows: taken,
        named,
        tutors,
    } = take(rows)?;
    let placed = place(mapped, named, lanes, leave)?;
    Ok(Drained {
        taken,
        jobs: placed.jobs,
        fresh: placed.fresh,
        tutors,
        sessions: placed.sessions,
        claimed: placed.claimed,
    })
}

/// Looks at named sessions and makes jobs of them. `lanes`: the providers that have one.
pub fn place(
    mapped: &Mapped,
    named: Vec<Named>,
    lanes: &[&str],
    leave: Option<&Leave>,
) -> Result<Placed, PgError> {
    if named.is_empty() {
        return Ok(Placed::default());
    }
    let ids: Vec<Uuid> = named.iter().map(|one| one.session).collect();
    let sessions = app::sessions(mapped, &ids)?.into_iter();
    let mut sessions: HashMap<Uuid, Session> = sessions.map(|s| (s.id, s)).collect();
    let gone: Vec<Uuid> = ids
        .into_iter()
        .filter(|id| !sessions.contains_key(id))
        .collect();
    let known: Vec<_> = named
        .into_iter()
        .filter_map(|one| Some((sessions.remove(&one.session)?, one)))
        .collect();
    for wish in [Wish::Adopt, Wish::Repost] {
        let told = known.iter().filter(|(_, one)| one.wish == wish as i16);
        let sessions: Vec<Uuid> = told.map(|(session, _)| session.id).collect();
        if !sessions.is_empty() {
            decide(&sessions, wish)?;
        }
    }
    let (plain, others): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|(session, one)| session.wants && one.wish == 0);
    let new = match leave.filter(|leave| plain.len() <= leave.room) {
        Some(leave) => jobs::make_claimed(&fresh(&plain, lanes), leave.holder, leave.lease)?,
        None => Vec::new(),
    };
    let begun: HashSet<Uuid> = new.iter().map(|job| job.session).collect();
    let (begun, mut known): (Vec<_>, Vec<_>) = plain
        .into_iter()
        .partition(|(session, _)| begun.contains(&session.id));
    known.extend(others);
    let mut placed = put(&known, lanes)?;
    for (session, _) in &begun {
        let lane = lane(session, lanes).unwrap_or_default();
        *placed.fresh.entry(lane.to_owned()).or_default() += 1;
    }
    placed.claimed = new;
    known.extend(begun);
    if !gone.is_empty() {
        placed.jobs.extend(revisit(&gone)?);
    }
    placed.sessions = known.into_iter().map(|(session, _)| session).collect();
    Ok(placed)
}

/// The provider's lane that a session names.
fn lane<'a>(session: &Session, lanes: &[&'a str]) -> Option<&'a str> {
    let provider = session.provider.as_deref();
    lanes.iter().find(|lane| Some(**lane) == provider).copied()
}

/// Sessions as they are to become jobs for the first time.
fn fresh<'a>(known: &[(Session, Named)], lanes: &[&'a str]) -> Vec<Fresh<'a>> {
    let rows = known.iter().map(|(session, one)| Fresh {
        session: session.id,
        tutor: session.tutor,
        starts_at: session.starts_at.map(|time| time.timestamp_micros()),
        queued_at: one.queued_at,
        lane: lane(session, lanes).unwrap_or_default(),
    });
    rows.collect()
}

/// Carries out what a person decided about jobs of which nobody knows whether their meeting exists.
fn decide(sessions: &[Uuid], wish: Wish) -> Result<(), PgError> {
    let text = if wish == Wish::Adopt {
        "UPDATE meetlink.jobs SET adopt = true \
          WHERE session_id = ANY ($1) AND may_exist_since IS NOT NULL AND wish = 'exists' \
            AND state NOT IN ('ready', 'not_needed')"
    } else {
        // An attempt that is under way finds out by itself.
        "UPDATE meetlink.jobs \
            SET adopt = false, may_exist_since = NULL, state = 'pending', \
                due_at = pg_catalog.clock_timestamp() \
          WHERE session_id = ANY ($1) AND may_exist_since IS NOT NULL AND wish = 'exists' \
            AND state IN ('pending', 'retrying', 'in_doubt', 'needs_action', 'failed')"
    };
    sql::execute(text, &[from_uuids(sessions.iter().copied()).into()])?;
    Ok(())
}

/// Sets parked jobs of sessions that are no longer there going: what was made for them is removed.
fn revisit(sessions: &[Uuid]) -> Result<Vec<(Uuid, State)>, PgError> {
    sql::query(
        "UPDATE meetlink.jobs \
            SET state = 'pending', due_at = pg_catalog.clock_timestamp(), attempts = 0, \
                setbacks = 0, changed_at = pg_catalog.now() \
          WHERE session_id = ANY ($1) AND state IN ('needs_action', 'failed') \
         RETURNING session_id",
        &[from_uuids(sessions.iter().copied()).into()],
        |row| Ok((uuid_at(row, 1)?, State::Pending)),
    )
}

/// What was taken out of the inbox.
pub struct Taken {
    /// How many rows.
    pub rows: i64,
    /// The sessions that they are about.
    pub named: Vec<Named>,
    /// The tutors.
    pub tutors: Vec<Uuid>,
}

/// Takes rows out; a tutor's row stands for the tutor's parked sessions.
pub fn take(rows: i64) -> Result<Taken, PgError> {
    let (mut taken, mut operator, mut tutors) = (0, false, Vec::new());
    let named = sql::query(
        "WITH taken AS MATERIALIZED ( \
           DELETE FROM meetlink.inbox \
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM meetlink.inbox LIMIT $1)) \
            RETURNING session_id, tutor_id, wish, queued_at), \
         named AS ( \
           SELECT session_id, wish, queued_at FROM taken WHERE session_id IS NOT NULL \
           UNION ALL \
           SELECT j.session_id, 3::smallint, j.queued_at \
             FROM (SELECT DISTINCT tutor_id FROM taken WHERE tutor_id IS NOT NULL) t \
            CROSS JOIN LATERAL ( \
              SELECT session_id, queued_at FROM meetlink.jobs \
               WHERE tutor_id = t.tutor_id AND state NOT IN ('ready', 'not_needed') \
              OFFSET 0) j) \
         SELECT NULL::bigint, session_id, pg_catalog.max(wish), \
                (extract(epoch FROM pg_catalog.min(queued_at)) * 1000000)::bigint, NULL \
           FROM named GROUP BY session_id \
         UNION ALL \
         SELECT pg_catalog.count(*), NULL, pg_catalog.max(wish) FILTER (WHERE wish = 4), NULL, \
                pg_catalog.array_agg(DISTINCT tutor_id) FILTER (WHERE tutor_id IS NOT NULL) \
           FROM taken",
        &[rows.into()],
        |row| {
            if let Some(count) = maybe::<i64>(row, 1)? {
                taken = count;
                operator = maybe::<i16>(row, 3)? == Some(Wish::Operator as i16);
                tutors = maybe::<Vec<pgrx::Uuid>>(row, 5)?.unwrap_or_default();
                return Ok(None);
            }
            Ok(Some(Named {
                session: uuid_at(row, 2)?,
                wish: get(row, 3)?,
                queued_at: get(row, 4)?,
            }))
        },
    )?;
    if operator {
        holds::release_operator_holds()?;
    }
    if !tutors.is_empty() {
        holds::release_tutor_holds(tutors.clone())?;
    }
    Ok(Taken {
        rows: taken,
        named: named.into_iter().flatten().collect(),
        tutors: tutors.into_iter().map(sql::to_uuid).collect(),
    })
}

/// Makes jobs of sessions that want a link, and brings those up to date that have one.
fn put(known: &[(Session, Named)], lanes: &[&str]) -> Result<Placed, PgError> {
    if known.is_empty() {
        return Ok(Placed::default());
    }
    let ids = from_uuids(known.iter().map(|(session, _)| session.id));
    let wants: Vec<bool> = known.iter().map(|(session, _)| session.wants).collect();
    let lacks: Vec<bool> = known
        .iter()
        .map(|(session, _)| session.lacks_link)
        .collect();
    let tutors: Vec<Option<pgrx::Uuid>> = known
        .iter()
        .map(|(session, _)| session.tutor.map(from_uuid))
        .collect();
    let starts: Vec<Option<i64>> = known
        .iter()
        .map(|(s, _)| s.starts_at.map(|time| time.timestamp_micros()))
        .collect();
    let own = |session: &Session| lane(session, lanes);
    let is = |one: &Named, wishes: &[Wish]| wishes.iter().any(|wish| *wish as i16 == one.wish);
    let hurried = [Wish::Now, Wish::Adopt, Wish::Repost];
    // Whoever is asked for goes past every lane; with another connection the lane may be another.
    let free = [Wish::Now, Wish::Adopt, Wish::Repost, Wish::Connected];
    let own_lanes: Vec<&str> = known
        .iter()
        .map(|(session, one)| match own(session) {
            Some(lane) if !is(one, &free) => lane,
            _ => "",
        })
        .collect();
    let hurry: Vec<bool> = known.iter().map(|(_, one)| is(one, &hurried)).collect();
    let doubt: Vec<bool> = known
        .iter()
        .map(|(_, one)| is(one, &[Wish::Restored]))
        .collect();
    let queued: Vec<i64> = known.iter().map(|(_, one)| one.queued_at).collect();
    let mut fresh = BTreeMap::new();
    let providers: HashMap<Uuid, &str> = known
        .iter()
        .map(|(session, _)| (session.id, own(session).unwrap_or("")))
        .collect();
    let jobs = sql::query(
        &format!(
            "INSERT INTO meetlink.jobs AS j \
                (session_id, state, tutor_id, starts_at, queued_at, due_at, hurried, lane, \
                 may_exist_since) \
         SELECT x.id, \
                CASE WHEN x.wants THEN 'pending' WHEN x.lacks THEN 'not_needed' ELSE 'ready' END, \
                x.tutor, pg_catalog.to_timestamp(x.start / 1000000.0), \
                pg_catalog.to_timestamp(x.queued / 1000000.0), \
                CASE WHEN x.wants THEN pg_catalog.now() END, x.hurried, x.lane, \
                CASE WHEN x.doubt THEN pg_catalog.now() END \
           FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), \
                           pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), \
                           pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) \
                  AS x(id, wants, lacks, tutor, start, queued, lane, hurried, doubt) \
           LEFT JOIN meetlink.jobs o ON o.session_id = x.id \
          WHERE x.wants OR o.session_id IS NOT NULL \
         ON CONFLICT (session_id) DO UPDATE SET \
           state = CASE WHEN j.state = 'creating' THEN j.state \
                        WHEN EXCLUDED.state <> 'pending' AND NOT {LEFT_OVER} THEN EXCLUDED.state \
                        WHEN j.state = 'in_doubt' THEN j.state \
                        ELSE 'pending' END, \
           due_at = CASE WHEN j.state = 'creating' THEN NULL \
                         WHEN EXCLUDED.state <> 'pending' AND NOT {LEFT_OVER} THEN NULL \
                         ELSE pg_catalog.now() END, \
           lane = CASE WHEN j.wish = 'gone' THEN j.lane ELSE EXCLUDED.lane END, \
           may_exist_since = COALESCE(j.may_exist_since, EXCLUDED.may_exist_since), \
           attempts = CASE WHEN j.state = 'creating' THEN j.attempts ELSE 0 END, \
           setbacks = CASE WHEN j.state = 'creating' THEN j.setbacks ELSE 0 END, \
           reason = CASE WHEN j.state IN ('creating', 'in_doubt') THEN j.reason END, \
           hurried = j.hurried OR EXCLUDED.hurried, news = j.state = 'creating', \
           last_error = CASE WHEN j.state IN ('creating', 'in_doubt') THEN j.last_error END, \
           tutor_id = CASE WHEN j.wish = 'gone' THEN j.tutor_id ELSE EXCLUDED.tutor_id END, \
           starts_at = EXCLUDED.starts_at, \
           queued_at = CASE WHEN j.state IN ('ready', 'not_needed') THEN EXCLUDED.queued_at \
                            ELSE j.queued_at END, \
           changed_at = pg_catalog.now() \
         RETURNING session_id, state, xmax = 0"
        ),
        &[
            ids.into(),
            wants.into(),
            lacks.into(),
            tutors.into(),
            starts.into(),
            queued.into(),
            own_lanes.into(),
            hurry.into(),
            doubt.into(),
        ],
        |row| {
            let state = State::parse(&get::<String>(row, 2)?).unwrap_or(State::Pending);
            let session = uuid_at(row, 1)?;
            // No row was there before (src/backend/executor/nodeModifyTable.c: one that was is locked
            // first, which leaves its mark).
            if get(row, 3)? && state == State::Pending {
                let provider = providers.get(&session).copied().unwrap_or("");
                *fresh.entry(provider.to_owned()).or_default() += 1;
            }
            Ok((session, state))
        },
    )?;
    Ok(Placed {
        jobs,
        fresh,
        ..Placed::default()
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

/// Sessions that want a link and have no job under way, soonest first.
pub fn missing(mapped: &Mapped, limit: Option<i32>) -> Result<Vec<Uuid>, PgError> {
    let wanting = from_uuids(app::wanting(mapped)?);
    sql::query(
        "SELECT u.id FROM pg_catalog.unnest($1) WITH ORDINALITY u(id, place) \
          WHERE NOT EXISTS (SELECT FROM meetlink.jobs j WHERE j.session_id = u.id \
                             AND j.state IN ('pending', 'creating', 'retrying', 'in_doubt')) \
            AND NOT EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = u.id) \
          ORDER BY u.place LIMIT $2",
        &[wanting.into(), limit.map(i64::from).into()],
        |row| uuid_at(row, 1),
    )
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
