//! `meetlink_status`, `meetlink_retry` and `meetlink_wait`: about one session, with the caller's
//! own rights on it.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fail::{self, or_raise, with_hint};
use crate::domain::caller;
use crate::domain::meeting::JoinUrl;
use crate::domain::state::State;
use crate::domain::status::{Situation, Viewer, explain};
use crate::pg::error::{PgError, catch};
use crate::pg::identity::as_extension_owner;
use crate::pg::{guc, identity, interrupts, shared, wake, xact};
use crate::provider;
use crate::store::mapped::Mapped;
use crate::store::status::{self, JobSeen, Seen};
use crate::store::{app, config, inbox, jobs, sql};

#[pg_extern(sql = false)]
fn meetlink_status(session_id: pgrx::Uuid) -> JsonB {
    status_for(session_id, None)
}

/// The same with the argument `viewer`.
#[pg_extern(sql = false)]
fn meetlink_status_as(session_id: pgrx::Uuid, viewer: &str) -> JsonB {
    let asked = or_raise(Viewer::parse(viewer).ok_or_else(|| {
        with_hint(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "viewer is neither 'tutor' nor 'student'",
            "It says for whom the sentence and the action are meant.",
        )
    }));
    status_for(session_id, Some(asked))
}

fn status_for(session_id: pgrx::Uuid, asked: Option<Viewer>) -> JsonB {
    let session = sql::to_uuid(session_id);
    JsonB(or_raise((|| {
        let Some(config) = as_extension_owner(config::read)? else {
            return Ok(describe(
                session,
                State::NotNeeded,
                None,
                &JobSeen::default(),
                (true, false),
                Viewer::Tutor,
            ));
        };
        let mapped = Mapped::new(config).map_err(fail::table_gone)?;
        status_of(&mapped, session, asked)
    })()))
}

#[pg_extern(sql = false)]
fn meetlink_retry(session_id: Option<pgrx::Uuid>) -> JsonB {
    xact::prevent_if_read_only(c"meetlink_retry()");
    JsonB(or_raise((|| {
        let session = named(session_id)?;
        let mapped = super::mapped()?;
        let seen = see(&mapped, session)?;
        may_update(&mapped, session, "meetlink_retry")?;
        if seen.wants {
            as_extension_owner(|| inbox::add(&[session], inbox::Wish::Now))?;
            wake::worker_at_commit();
        }
        status_of(&mapped, session, None)
    })()))
}

#[pg_extern(sql = false)]
fn meetlink_resolve(session_id: Option<pgrx::Uuid>, decision: Option<&str>) -> JsonB {
    xact::prevent_if_read_only(c"meetlink_resolve()");
    JsonB(or_raise((|| {
        let session = named(session_id)?;
        let decision = match decision {
            Some("adopt") => inbox::Wish::Adopt,
            Some("repost") => inbox::Wish::Repost,
            _ => {
                return Err(with_hint(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    "the decision is neither 'adopt' nor 'repost'",
                    "adopt: the meeting exists, look for it and make no other; repost: it does not, \
                     make another.",
                ));
            }
        };
        let mapped = super::mapped()?;
        see(&mapped, session)?;
        may_update(&mapped, session, "meetlink_resolve")?;
        if !as_extension_owner(|| jobs::can_be_resolved(session))? {
            return Err(with_hint(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("session {} is not in doubt", session.hyphenated()),
                "There is nothing to decide, or an attempt is under way: meetlink_status says which.",
            ));
        }
        // The worker carries it out: a caller's transaction must hold no lock on a job.
        as_extension_owner(|| inbox::add(&[session], decision))?;
        wake::worker_at_commit();
        status_of(&mapped, session, None)
    })()))
}

#[pg_extern(sql = false)]
fn meetlink_wait(session_id: pgrx::Uuid, timeout: Interval) -> Option<String> {
    or_raise(wait(sql::to_uuid(session_id), to_duration(&timeout)))
}

fn wait(session: Uuid, timeout: Duration) -> Result<Option<String>, PgError> {
    let mapped = super::mapped()?;
    let deadline = Instant::now() + timeout;
    if xact::has_one_snapshot() {
        return Err(with_hint(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "meetlink_wait sees nothing new in a REPEATABLE READ or SERIALIZABLE transaction",
            "Call it in READ COMMITTED, outside a longer transaction.",
        ));
    }
    loop {
        // Listening begins before looking, so that a link written in between is not missed.
        if let Some(shared) = shared::get() {
            shared.listen();
        }
        let seen = xact::with_fresh_snapshot(|| see(&mapped, session))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !seen.lacks_link || left.is_zero() {
            if let Some(shared) = shared::get() {
                shared.stop_listening();
            }
            let link = seen.join_url.filter(|_| !seen.lacks_link);
            return Ok(link.filter(|link| JoinUrl::parse(link).is_some()));
        }
        let shared = shared::get().ok_or_else(fail::not_preloaded)?;
        shared.sleep(i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1));
        interrupts::check();
    }
}

fn to_duration(interval: &Interval) -> Duration {
    const DAY: i128 = 86_400_000_000;
    let micros = i128::from(interval.micros())
        + i128::from(interval.days()) * DAY
        + i128::from(interval.months()) * 30 * DAY;
    // A day is longer than anybody waits, and keeps the sum with a clock's reading in range.
    let micros = micros.clamp(0, DAY);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The session, as far as the caller may see it. Without the right to read the table at all it is
/// as if it were not there.
fn see(mapped: &Mapped, session: Uuid) -> Result<Seen, PgError> {
    // Who sees everything reads as the tables' owner, from whom rows may be hidden. Asked before: a
    // raised error leaves the user as it was then.
    let (table, user) = (mapped.config().sessions.as_ref(), identity::current_user());
    let all = identity::is_unbound()
        && table.is_some_and(|(oid, _)| identity::sees_all(*oid, user, false));
    match catch(|| status::see(mapped, session, false)) {
        Ok(Some(seen)) => Ok(seen),
        Ok(None) => Err(fail::not_found(session)),
        Err(error) if error.code != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => Err(error),
        Err(error) if all => Err(with_hint(
            error.code,
            error.message,
            "meetlink reads as the tables' owner: give it BYPASSRLS, or take FORCE ROW LEVEL SECURITY \
             back.",
        )),
        Err(_) => Err(fail::not_found(session)),
    }
}

/// The session that an argument names.
fn named(session_id: Option<pgrx::Uuid>) -> Result<Uuid, PgError> {
    session_id.map(sql::to_uuid).ok_or_else(|| {
        with_hint(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "session_id must not be null",
            "It is the id of a row of the sessions table.",
        )
    })
}

fn may_update(mapped: &Mapped, session: Uuid, function: &str) -> Result<(), PgError> {
    match catch(|| status::see(mapped, session, true)) {
        Ok(Some(_)) => Ok(()),
        Err(error) if error.code != PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => Err(error),
        _ => Err(with_hint(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!(
                "you may see session {}, but not change it",
                session.hyphenated()
            ),
            &format!("{function} asks for the right to update the session."),
        )),
    }
}

fn status_of(mapped: &Mapped, session: Uuid, asked: Option<Viewer>) -> Result<Value, PgError> {
    let seen = see(mapped, session)?;
    let viewer = viewer(mapped, session, asked)?;
    let job = as_extension_owner(|| status::job(session))?;
    let (state, queued) = effective(&seen, &job);
    let copy = !mapped.config().at_home;
    Ok(describe(
        session,
        state,
        Some(&seen),
        &job,
        (queued, copy),
        viewer,
    ))
}

/// For whom the answer is meant: the application's own word on who calls comes first.
fn viewer(mapped: &Mapped, session: Uuid, asked: Option<Viewer>) -> Result<Viewer, PgError> {
    let caller = match mapped.config().options["caller_setting"].as_str() {
        Some(name) => guc::text(name),
        None => caller::CLAIMS.into_iter().find_map(guc::text),
    };
    let Some(caller) = caller.as_deref().and_then(caller::id) else {
        return Ok(asked.unwrap_or(Viewer::Tutor));
    };
    // The caller sees the session; whose it is decides no more than a sentence.
    let session = app::sessions(mapped, &[session])?.pop();
    let (tutor, student) = session.map_or((None, None), |s| (s.tutor, s.student));
    Ok(Viewer::of(Some(caller), tutor, student, asked))
}

/// The state that a person sees: the session's own columns decide before the job does.
fn effective(seen: &Seen, job: &JobSeen) -> (State, bool) {
    if !seen.lacks_link {
        return (State::Ready, true);
    }
    if !seen.wants {
        return (State::NotNeeded, true);
    }
    match job.state {
        Some(state @ (State::Creating | State::InDoubt)) => (state, true),
        _ if job.in_inbox => (State::Pending, true),
        // A finished job of a session that wants a link again: it was emptied by hand.
        None | Some(State::Ready | State::NotNeeded) => (State::Pending, false),
        Some(state) => (state, true),
    }
}

fn describe(
    session: Uuid,
    state: State,
    seen: Option<&Seen>,
    job: &JobSeen,
    (queued, copy): (bool, bool),
    viewer: Viewer,
) -> Value {
    let ready = state == State::Ready;
    let stored = seen.and_then(|seen| seen.provider.as_deref());
    let name = if ready {
        stored
    } else {
        job.provider.as_deref().or(stored)
    };
    let label = name
        .and_then(provider::by_name)
        .map_or("The meeting service", |p| p.label());
    // Somebody else may have written it; a page puts it behind a button.
    let link = seen
        .filter(|_| ready)
        .and_then(|seen| seen.join_url.as_deref());
    let link = link.filter(|link| JoinUrl::parse(link).is_some());
    let reason = job.reason;
    let (message, action) = explain(Situation {
        state,
        reason,
        provider: label,
        queued,
        copy,
        viewer,
    });
    json!({
        "session_id": session.hyphenated().to_string(),
        "state": state.as_str(),
        "provider": name,
        "join_url": link,
        "attempts": job.attempts,
        "next_attempt_at": match state {
            State::Retrying | State::InDoubt => job.next_attempt_at.as_deref(),
            _ => None,
        },
        "message": message,
        "action": action.filter(|action| action.kind != "join" || link.is_some()),
    })
}
