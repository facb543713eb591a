//! Reading a session and its job for the person who asks.

use uuid::Uuid;

use super::mapped::Mapped;
use super::owner::read_as_caller;
use super::sql::{self, from_uuid, get, maybe};
use crate::domain::failure::Reason;
use crate::domain::state::State;
use crate::pg::error::PgError;

/// A session as the caller sees it.
pub struct Seen {
    /// Whether it wants a link.
    pub wants: bool,
    /// Whether link or external id is missing.
    pub lacks_link: bool,
    /// The link.
    pub join_url: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
}

/// Reads a session with what the caller may see; `None` where it is missing or hidden.
pub fn see(mapped: &Mapped, session: Uuid, for_update: bool) -> Result<Option<Seen>, PgError> {
    let text = mapped.see_session(for_update);
    let read = |row: &sql::Row<'_>| {
        Ok(Seen {
            wants: get(row, 1)?,
            lacks_link: get(row, 2)?,
            join_url: maybe(row, 3)?,
            provider: maybe(row, 4)?,
        })
    };
    let parameters = [from_uuid(session).into()];
    read_as_caller(&[&mapped.config().sessions], for_update, || {
        if for_update {
            sql::query_one(&text, &parameters, read)
        } else {
            sql::read_one(&text, &parameters, read)
        }
    })
}

/// What meetlink knows of a session.
#[derive(Clone, Debug, Default)]
pub struct JobSeen {
    /// State of the job.
    pub state: Option<State>,
    /// Provider of the last attempt.
    pub provider: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// When it is tried again, as JSON would have it.
    pub next_attempt_at: Option<String>,
    /// Cause of the last failure.
    pub reason: Option<Reason>,
    /// Whether the worker has still to look at something about it.
    pub in_inbox: bool,
}

/// Reads the job of a session. One that was not tried yet because its provider must not be called
/// just now waits for that.
pub fn job(session: Uuid) -> Result<JobSeen, PgError> {
    let seen = sql::read_one(
        "SELECT CASE WHEN h.until IS NOT NULL THEN 'retrying' ELSE j.state END, \
                COALESCE(j.provider, h.provider), j.attempts, \
                pg_catalog.to_json(CASE WHEN h.until IS NOT NULL THEN h.until \
                                        WHEN j.state IN ('retrying', 'in_doubt') \
                                        THEN j.due_at END) #>> '{}', \
                COALESCE(h.reason, j.reason), \
                EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = $1) \
           FROM (SELECT 1) one LEFT JOIN meetlink.jobs j ON j.session_id = $1 \
           LEFT JOIN meetlink.holds h \
                  ON j.state = 'pending' AND h.provider = j.lane AND h.side = 'meetings' \
                 AND h.tutor_id IS NULL AND h.until > pg_catalog.now()",
        &[from_uuid(session).into()],
        |row| {
            Ok(JobSeen {
                state: maybe::<String>(row, 1)?.as_deref().and_then(State::parse),
                provider: maybe(row, 2)?,
                attempts: maybe(row, 3)?.unwrap_or(0),
                next_attempt_at: maybe(row, 4)?,
                reason: maybe::<String>(row, 5)?.as_deref().and_then(Reason::parse),
                in_inbox: get(row, 6)?,
            })
        },
    )?;
    Ok(seen.unwrap_or_default())
}
