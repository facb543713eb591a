//! Claiming jobs, and what a worker finds at its start.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::inbox;
use crate::store::sql::{self, Row, from_uuids, get, maybe, maybe_uuid, millis, uuid_at};

/// Jobs of which provider may be claimed, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Name, as in `meetlink.jobs.lane`.
    pub name: &'static str,
    /// How many at most.
    pub room: usize,
}

/// A job that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The session.
    pub session: Uuid,
    /// Whom its job waits for.
    pub tutor: Option<Uuid>,
    /// Provider of the last attempt.
    pub provider: Option<String>,
    /// Attempts that count, this one included.
    pub attempts: i32,
    /// Failures in a row before this attempt.
    pub setbacks: i32,
    /// Whether a person asked for this attempt.
    pub hurried: bool,
    /// Whether the meeting is to be removed.
    pub gone: bool,
    /// Whether the meeting is to follow its session to another time; the session has its link.
    pub moved: bool,
    /// Whether a person says that the meeting exists.
    pub adopt: bool,
    /// Since when a meeting may exist without our knowing.
    pub may_exist_since: Option<DateTime<Utc>>,
    /// Its state before the claim.
    pub state: State,
    /// Tutor in whose account a meeting was made or may have been made.
    pub account: Option<Uuid>,
    /// Start and end of a meeting that was made and of which the session does not know yet.
    pub kept: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The meeting made before: external id and link.
    pub made: Option<(String, String)>,
    /// Number of the attempt in the ledger.
    pub number: i32,
    /// When the attempt began, in microseconds since the Unix epoch.
    pub started_at: i64,
    /// When its session was queued.
    pub queued_at: Option<DateTime<Utc>>,
}

impl Claimed {
    /// Whether the job was in doubt.
    pub fn was_in_doubt(&self) -> bool {
        self.state == State::InDoubt
    }

    /// Moves the date of its doubt with a clock that was stepped, as [`shift_dates`] does in the table.
    pub fn shift_dates(&mut self, step: TimeDelta) {
        let since = self.may_exist_since;
        self.may_exist_since = since.map(|at| at.checked_add_signed(step).unwrap_or(at));
    }

    /// Seconds since its session was queued.
    pub fn age(&self, now: DateTime<Utc>) -> f64 {
        let age = self.queued_at.map(|queued| now - queued);
        age.and_then(|age| age.num_microseconds())
            .map_or(0.0, |age| age as f64 / 1_000_000.0)
    }
}

fn micros(row: &Row<'_>, at: usize) -> Result<Option<DateTime<Utc>>, PgError> {
    Ok(maybe::<i64>(row, at)?.and_then(sql::to_time))
}

fn claimed(row: &Row<'_>) -> Result<Claimed, PgError> {
    let external = maybe::<String>(row, 7)?;
    let url = maybe::<String>(row, 8)?;
    Ok(Claimed {
        session: uuid_at(row, 1)?,
        tutor: maybe_uuid(row, 19)?,
        provider: maybe(row, 2)?,
        attempts: get(row, 3)?,
        setbacks: get(row, 11)?,
        hurried: get(row, 12)?,
        gone: get(row, 13)?,
        adopt: get(row, 14)?,
        moved: get(row, 15)?,
        kept: micros(row, 16)?.zip(micros(row, 17)?),
        may_exist_since: micros(row, 4)?,
        state: State::parse(&get::<String>(row, 5)?).unwrap_or(State::Retrying),
        account: maybe_uuid(row, 6)?,
        made: external.zip(url),
        number: get(row, 9)?,
        started_at: get(row, 10)?,
        queued_at: micros(row, 18)?,
    })
}

/// Runs a statement whose plan must follow the indexes' order. Where nothing waited when the table was
/// analyzed, all indexes of open jobs look alike, and one that has to be read whole and sorted may win;
/// and where it was small, all of it may be read and compared with what was chosen.
fn in_order<T>(statement: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    let off = [(c"enable_sort", c"off"), (c"enable_material", c"off")];
    xact::with_settings(&off, statement)
}

/// Claims due jobs for this process, soonest sessions first: so many of each lane, and `limit` in
/// all. Those that somebody asked for come before and beyond that: so many of each provider that was
/// tried last, and of '' for all others. The clock is read once for each lane: a volatile function would be no condition for the
/// index, and all that wait would be gone through.
pub fn claim(
    lanes: &[Lane],
    limit: usize,
    asked: &[Lane],
    holder: i32,
    lease: Duration,
) -> Result<Vec<Claimed>, PgError> {
    let names: Vec<&str> = lanes.iter().map(|lane| lane.name).collect();
    // A row that is looked at is locked.
    let rooms = lanes.iter().map(|lane| number(lane.room.min(limit)));
    let rooms: Vec<i64> = rooms.collect();
    in_order(|| {
        sql::query(
            "WITH lanes AS MATERIALIZED ( \
           SELECT l.name, l.room \
             FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) l(name, room)), \
         fresh AS MATERIALIZED ( \
           SELECT f.*, l.name, l.room FROM lanes l CROSS JOIN LATERAL ( \
             SELECT j.session_id, j.starts_at, j.state FROM meetlink.jobs j \
              WHERE j.state = 'pending' AND j.lane = l.name AND NOT j.hurried \
              ORDER BY j.starts_at, j.session_id LIMIT l.room FOR UPDATE SKIP LOCKED) f), \
         again AS MATERIALIZED ( \
           SELECT f.*, l.name, l.room FROM lanes l CROSS JOIN LATERAL ( \
             SELECT j.session_id, j.starts_at, j.state FROM meetlink.jobs j \
              WHERE j.state IN ('retrying', 'in_doubt') AND j.lane = l.name \
                AND j.due_at <= (SELECT pg_catalog.clock_timestamp()) AND NOT j.hurried \
              ORDER BY j.due_at LIMIT l.room FOR UPDATE SKIP LOCKED) f), \
         asked AS MATERIALIZED ( \
           SELECT f.* FROM ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7)) l(name, room) \
            CROSS JOIN LATERAL ( \
             SELECT j.session_id, j.starts_at, j.state FROM meetlink.jobs j \
              WHERE j.hurried AND j.state IN ('pending', 'retrying', 'in_doubt') \
                AND (j.state = 'pending' OR j.due_at <= (SELECT pg_catalog.clock_timestamp())) \
                AND CASE WHEN j.provider = ANY ($6) THEN j.provider ELSE '' END = l.name \
              ORDER BY j.starts_at LIMIT l.room FOR UPDATE SKIP LOCKED) f), \
         due AS ( \
           SELECT u.*, pg_catalog.row_number() OVER (PARTITION BY u.name ORDER BY u.starts_at) AS place \
             FROM (SELECT * FROM fresh UNION ALL SELECT * FROM again) u), \
         chosen AS ( \
           (SELECT session_id, starts_at, state FROM due WHERE place <= room \
             ORDER BY starts_at LIMIT $5) UNION ALL SELECT * FROM asked) \
         UPDATE meetlink.jobs j \
            SET state = 'creating', due_at = NULL, attempts = j.attempts + 1, news = false, \
                lease_holder = $1, \
                lease_until = pg_catalog.clock_timestamp() + $2 * interval '1 ms', \
                changed_at = pg_catalog.now() \
           FROM chosen c WHERE j.session_id = c.session_id \
         RETURNING j.session_id, j.provider, j.attempts, \
                   (extract(epoch FROM j.may_exist_since) * 1000000)::bigint, \
                   c.state, j.account_id, j.external_id, j.join_url, \
                   (SELECT COALESCE(pg_catalog.max(a.number), 0) FROM meetlink.attempts a \
                     WHERE a.session_id = j.session_id) + 1, \
                   (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, \
                   j.setbacks, j.hurried, j.wish = 'gone', j.adopt, j.wish = 'moved', \
                   (extract(epoch FROM j.kept_from) * 1000000)::bigint, \
                   (extract(epoch FROM j.kept_to) * 1000000)::bigint, \
                   (extract(epoch FROM j.queued_at) * 1000000)::bigint, j.tutor_id",
            &[
                holder.into(),
                millis(lease).into(),
                names.into(),
                rooms.into(),
                number(limit).into(),
                asked
                    .iter()
                    .map(|lane| lane.name)
                    .collect::<Vec<_>>()
                    .into(),
                asked
                    .iter()
                    .map(|lane| number(lane.room))
                    .collect::<Vec<_>>()
                    .into(),
            ],
            claimed,
        )
    })
}

/// Notes, before they are sent, that requests which create are about to go out: session, provider,
/// and tutor whose account it is. A provider that tells a repeated request (not one of `blind`) may be
/// sent another one while an earlier one is in doubt: its doubt is as old as the last of them.
pub fn mark_sent(sent: &[(Uuid, &str, Uuid)], blind: &[&str]) -> Result<(), PgError> {
    if sent.is_empty() {
        return Ok(());
    }
    let providers: Vec<&str> = sent.iter().map(|(_, provider, _)| *provider).collect();
    sql::execute(
        "UPDATE meetlink.jobs j \
            SET may_exist_since = COALESCE( \
                  CASE WHEN j.provider = u.provider AND j.account_id = u.tutor \
                        AND u.provider = ANY ($4) \
                       THEN j.may_exist_since END, \
                  pg_catalog.clock_timestamp()), \
                provider = u.provider, account_id = u.tutor, lane = u.provider \
           FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) \
                  u(session, provider, tutor) \
          WHERE j.session_id = u.session",
        &[
            from_uuids(sent.iter().map(|(session, ..)| *session)).into(),
            providers.into(),
            from_uuids(sent.iter().map(|(.., tutor)| *tutor)).into(),
            blind.to_vec().into(),
        ],
    )?;
    Ok(())
}

/// Takes back every lease but those of `own` sessions: the caller is the only worker of this
/// database, so whoever held another is gone (or worked in the database that this is a copy of).
/// `blind`: the providers that cannot tell a repeated request from a second wish.
pub fn take_back_leases(own: &[Uuid], blind: &[&str]) -> Result<(), PgError> {
    sql::execute(
        "WITH lost AS ( \
           UPDATE meetlink.jobs \
              SET state = CASE WHEN may_exist_since IS NOT NULL AND provider = ANY ($2) \
                               THEN 'in_doubt' ELSE 'retrying' END, \
                  due_at = pg_catalog.clock_timestamp(), lease_holder = NULL, lease_until = NULL, \
                  attempts = CASE WHEN news THEN 0 ELSE greatest(attempts - 1, 0) END, \
                  setbacks = CASE WHEN news THEN 0 ELSE setbacks END, news = false, reason = 'interrupted', \
                  last_error = 'The worker or the server stopped in the middle of the attempt; it \
is taken up again.', \
                  lane = CASE WHEN hurried OR news THEN '' ELSE lane END, \
                  changed_at = pg_catalog.now() \
            WHERE state = 'creating' AND session_id <> ALL ($1) \
           RETURNING session_id, provider) \
         INSERT INTO meetlink.attempts (session_id, provider, number, started_at, ended_at, class, \
                                        error) \
         SELECT l.session_id, l.provider, \
                (SELECT COALESCE(pg_catalog.max(a.number), 0) FROM meetlink.attempts a \
                  WHERE a.session_id = l.session_id) + 1, \
                pg_catalog.now(), pg_catalog.now(), 'retry', \
                'The worker or the server stopped in the middle of the attempt.' \
           FROM lost l",
        &[
            from_uuids(own.iter().copied()).into(),
            blind.to_vec().into(),
        ],
    )?;
    Ok(())
}

/// Makes dates of an earlier run good for this one. Nobody knows how long the server was away, nor
/// whether its clock was right then: a doubt settles anew, and a wait that was begun in what is now
/// the future lasts as long as it was meant to. Lanes that there are no more become unknown.
pub fn take_over(lanes: &[&str]) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs SET lane = '' \
          WHERE lane <> ALL ($1) AND lane <> '' AND state IN ('pending', 'retrying', 'in_doubt')",
        &[lanes.to_vec().into()],
    )?;
    sql::execute(
        "UPDATE meetlink.jobs SET may_exist_since = pg_catalog.clock_timestamp() \
          WHERE may_exist_since IS NOT NULL AND state NOT IN ('ready', 'not_needed')",
        &[],
    )?;
    sql::execute(
        "UPDATE meetlink.jobs \
            SET due_at = pg_catalog.clock_timestamp() + greatest(due_at - changed_at, '0'), \
                changed_at = pg_catalog.clock_timestamp() \
          WHERE due_at IS NOT NULL \
            AND changed_at > pg_catalog.clock_timestamp() + interval '1 second'",
        &[],
    )?;
    sql::execute(
        "UPDATE meetlink.holds \
            SET until = pg_catalog.clock_timestamp() + greatest(until - since, '0'), \
                since = pg_catalog.clock_timestamp() \
          WHERE since > pg_catalog.clock_timestamp() + interval '1 second'",
        &[],
    )?;
    Ok(())
}

/// Moves every date that is waited for, after the wall clock was stepped by so many milliseconds.
pub fn shift_dates(by: i64) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs \
            SET due_at = due_at + $1 * interval '1 ms', \
                lease_until = lease_until + $1 * interval '1 ms', \
                may_exist_since = may_exist_since + $1 * interval '1 ms', \
                changed_at = changed_at + $1 * interval '1 ms' \
          WHERE state IN ('creating', 'retrying', 'in_doubt')",
        &[by.into()],
    )?;
    sql::execute(
        "UPDATE meetlink.holds SET until = until + $1 * interval '1 ms', \
                                   since = since + $1 * interval '1 ms'",
        &[by.into()],
    )?;
    Ok(())
}

/// Whatever is unfinished may have gone further in a past that this database does not know: every
/// job looks before it creates, but for those of providers that tell by themselves. `blind`: those
/// that do not.
pub fn doubt_everything(blind: &[&str]) -> Result<(), PgError> {
    sql::execute(
        "UPDATE meetlink.jobs SET may_exist_since = pg_catalog.clock_timestamp() \
          WHERE state NOT IN ('ready', 'not_needed') AND COALESCE(provider = ANY ($1), true)",
        &[blind.to_vec().into()],
    )?;
    inbox::doubt_everything()
}

/// Milliseconds until the next job of these lanes is due (0 if one is), or `None` when none waits.
pub fn next_due(lanes: &[&str]) -> Result<Option<i64>, PgError> {
    in_order(|| {
        sql::query_one(
            "SELECT pg_catalog.min(d.wait)::bigint \
           FROM pg_catalog.unnest($1) l(name) CROSS JOIN LATERAL ( \
             (SELECT pg_catalog.ceil(1000 * extract(epoch FROM \
                       j.due_at - pg_catalog.clock_timestamp())) \
                FROM meetlink.jobs j WHERE j.state IN ('retrying', 'in_doubt') \
                 AND j.lane = l.name ORDER BY j.due_at LIMIT 1) \
             UNION ALL \
             (SELECT 0 FROM meetlink.jobs j WHERE j.state = 'pending' AND j.lane = l.name \
               ORDER BY j.starts_at, j.session_id LIMIT 1)) d(wait)",
            &[lanes.to_vec().into()],
            |row| Ok(maybe::<i64>(row, 1)?.map(|wait| wait.max(0))),
        )
    })
    .map(Option::flatten)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
