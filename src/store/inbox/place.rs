//! Making jobs of the sessions that the inbox names.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Named, Placed, Wish};
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::store::app::{self, Session};
use crate::store::jobs::{self, Fresh};
use crate::store::mapped::Mapped;
use crate::store::sql::{self, from_uuid, from_uuids, get, uuid_at};

/// Whether something was made, or may have been, of which a session that needs no link any more
/// knows nothing: the worker has to see to it. Over a job `j` and a row that is to be put there.
const LEFT_OVER: &str = "(j.wish <> 'exists' OR j.kept_from IS NOT NULL \
     OR EXCLUDED.state = 'not_needed' AND j.may_exist_since IS NOT NULL)";

/// Looks at named sessions and makes jobs of them. `lanes`: the providers that have one; `leave`: of
/// how many at most, that are heard of for the first time, the attempt may begin at once: their jobs
/// are left to be made with it.
pub fn place(
    mapped: &Mapped,
    named: Vec<Named>,
    lanes: &[&'static str],
    leave: Option<usize>,
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
    let new = if leave.is_some_and(|room| (1..=room).contains(&plain.len())) {
        let ids: Vec<Uuid> = plain.iter().map(|(session, _)| session.id).collect();
        jobs::without_job(&ids)?
    } else {
        HashMap::new()
    };
    let (begun, mut known): (Vec<_>, Vec<_>) = plain
        .into_iter()
        .partition(|(session, _)| new.contains_key(&session.id));
    known.extend(others);
    let mut placed = put(&known, lanes)?;
    for (session, one) in begun {
        let lane = lane(&session, lanes).unwrap_or_default();
        *placed.fresh.entry(lane.to_owned()).or_default() += 1;
        let number = new.get(&session.id).copied().unwrap_or(1);
        placed.begun.push((fresh(&session, &one, lane), number));
        known.push((session, one));
    }
    if !gone.is_empty() {
        placed.jobs.extend(revisit(&gone)?);
    }
    placed.sessions = known.into_iter().map(|(session, _)| session).collect();
    Ok(placed)
}

/// The provider's lane that a session names.
fn lane(session: &Session, lanes: &[&'static str]) -> Option<&'static str> {
    let provider = session.provider.as_deref();
    lanes.iter().find(|lane| Some(**lane) == provider).copied()
}

/// A session as it is to become a job.
fn fresh(session: &Session, one: &Named, lane: &'static str) -> Fresh {
    Fresh {
        session: session.id,
        tutor: session.tutor,
        starts_at: session.starts_at.map(|time| time.timestamp_micros()),
        queued_at: one.queued_at,
        lane,
    }
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

/// Makes jobs of sessions that want a link, and brings those up to date that have one.
fn put(known: &[(Session, Named)], lanes: &[&'static str]) -> Result<Placed, PgError> {
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
    let asked = [Wish::Now, Wish::Adopt, Wish::Repost];
    // Whoever is asked for goes past every lane; with another connection the lane may be another.
    let free = [Wish::Now, Wish::Adopt, Wish::Repost, Wish::Connected];
    let own_lanes: Vec<&str> = known
        .iter()
        .map(|(session, one)| match own(session) {
            Some(lane) if !is(one, &free) => lane,
            _ => "",
        })
        .collect();
    let hurry: Vec<bool> = known.iter().map(|(_, one)| is(one, &asked)).collect();
    let hurried = hurry.contains(&true);
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
           tutor_id = CASE WHEN j.wish <> 'exists' THEN j.tutor_id ELSE EXCLUDED.tutor_id END, \
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
        hurried,
        ..Placed::default()
    })
}
