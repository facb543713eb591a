//! The application's tables, read and written as their owner.
//!
//! The worker is a superuser, and code of the application hides in the most innocent read: in a cast
//! of an enum, an operator of a domain, the predicate of an index. So it becomes the owner of a
//! table for every statement over it, in a security-restricted operation, as logical replication
//! does since PostgreSQL 16.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use pgrx::PgSqlErrorCode;
use uuid::Uuid;

use super::jobs::{self, Made};
use super::mapped::Mapped;
use super::owner::{read_as_owner, write_as_owner};
use super::sql::{self, from_uuid, from_uuids, get, maybe, maybe_uuid, uuid_at};
use crate::domain::meeting::Meeting;
use crate::domain::notice::Kind;
use crate::pg::error::PgError;

/// What the worker needs to know of a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Its tutor.
    pub tutor: Option<Uuid>,
    /// Its student.
    pub student: Option<Uuid>,
    /// The provider that the application put down.
    pub provider: Option<String>,
    /// Start.
    pub starts_at: Option<DateTime<Utc>>,
    /// End.
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether it wants a link.
    pub wants: bool,
    /// Whether link or external id is missing.
    pub lacks_link: bool,
    /// Whether its status is one in which it may want a link.
    pub is_open: bool,
    /// Its link.
    pub join_url: Option<String>,
    /// Its meeting's id at the provider.
    pub external_id: Option<String>,
}

impl Session {
    /// Whether it is at another time than this.
    pub fn is_elsewhen(&self, times: (DateTime<Utc>, DateTime<Utc>)) -> bool {
        let own = self.starts_at.zip(self.ends_at);
        own.is_some_and(|(start, end)| end > start && (start, end) != times)
    }

    /// Whether the session's link leads to this meeting. People write the same one in several ways.
    pub fn has(&self, external_id: &str, join_url: &str) -> bool {
        let plain = |text: &str| -> String {
            let kept = text.chars().filter(char::is_ascii_alphanumeric);
            kept.collect::<String>().to_ascii_lowercase()
        };
        let url = plain(self.join_url.as_deref().unwrap_or(""));
        let id = plain(self.external_id.as_deref().unwrap_or(""));
        // A link ends in its meeting's code or number, whatever a browser adds to it.
        let path = join_url.split(['?', '#']).next().unwrap_or(join_url);
        let codes = [external_id, path.rsplit('/').next().unwrap_or("")].map(plain);
        let mut codes = codes.iter().filter(|code| code.len() >= 8);
        url == plain(join_url) || codes.any(|code| url.contains(code.as_str()) || id == *code)
    }
}

/// A tutor's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Tutor.
    pub tutor: Uuid,
    /// Provider's name.
    pub provider: String,
    /// `connected`, `needs_reauth`, `disconnected`.
    pub status: Option<String>,
    /// Whether the tutor uses it.
    pub is_active: bool,
    /// Envelope of the access token.
    pub access: Option<String>,
    /// Envelope of the refresh token.
    pub refresh: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Connection {
    /// Whether it may be used.
    pub fn is_usable(&self) -> bool {
        let filled = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
        self.is_active
            && self.status.as_deref() == Some("connected")
            && (filled(&self.access) || filled(&self.refresh))
    }
}

/// Reads sessions.
pub fn sessions(mapped: &Mapped, ids: &[Uuid]) -> Result<Vec<Session>, PgError> {
    let ids = from_uuids(ids.iter().copied());
    read_as_owner(&mapped.config().sessions, || {
        sql::look(mapped.load_sessions(), &[ids.into()], |row| {
            Ok(Session {
                id: uuid_at(row, 1)?,
                tutor: maybe_uuid(row, 2)?,
                student: maybe_uuid(row, 3)?,
                provider: maybe(row, 4)?,
                starts_at: maybe::<i64>(row, 5)?.and_then(sql::to_time),
                ends_at: maybe::<i64>(row, 6)?.and_then(sql::to_time),
                wants: get(row, 7)?,
                lacks_link: get(row, 8)?,
                is_open: get(row, 9)?,
                join_url: maybe(row, 10)?,
                external_id: maybe(row, 11)?,
            })
        })
    })
}

/// Ids of all sessions that want a link, soonest first.
pub fn wanting(mapped: &Mapped) -> Result<Vec<Uuid>, PgError> {
    read_as_owner(&mapped.config().sessions, || {
        sql::query(&mapped.wanting_ids(), &[], |row| uuid_at(row, 1))
    })
}

/// Which of some tutors have a connection that may be used, whoever asks.
pub fn connected(mapped: &Mapped, tutors: &[Uuid]) -> Result<HashSet<Uuid>, PgError> {
    let tutors = from_uuids(tutors.iter().copied());
    let found = read_as_owner(&mapped.config().connections, || {
        sql::read(&mapped.view_connected(), &[tutors.into()], |row| {
            uuid_at(row, 1)
        })
    })?;
    Ok(found.into_iter().collect())
}

/// Tutors with a session within a week, and when the first of them starts.
pub fn coming_tutors(mapped: &Mapped) -> Result<Vec<(Uuid, DateTime<Utc>)>, PgError> {
    let found = read_as_owner(&mapped.config().sessions, || {
        sql::read(&mapped.coming_tutors(), &[], |row| {
            let start = get::<i64>(row, 2).map(sql::to_time)?;
            Ok(maybe_uuid(row, 1)?.zip(start))
        })
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads people's names, by id.
pub fn names(mapped: &Mapped, ids: &[Uuid]) -> Result<HashMap<Uuid, String>, PgError> {
    let ids = from_uuids(ids.iter().copied());
    let names = read_as_owner(&mapped.config().profiles, || {
        sql::query(mapped.load_names(), &[ids.into()], |row| {
            Ok((uuid_at(row, 1)?, maybe::<String>(row, 2)?))
        })
    })?;
    Ok(names
        .into_iter()
        .filter_map(|(id, name)| Some((id, name?)))
        .collect())
}

/// Reads tutors' connections.
pub fn connections(mapped: &Mapped, tutors: &[Uuid]) -> Result<Vec<Connection>, PgError> {
    let tutors = from_uuids(tutors.iter().copied());
    read_as_owner(&mapped.config().connections, || {
        sql::look(mapped.load_connections(), &[tutors.into()], |row| {
            Ok(Connection {
                tutor: uuid_at(row, 1)?,
                provider: maybe::<String>(row, 2)?.unwrap_or_default(),
                status: maybe(row, 3)?,
                is_active: get(row, 4)?,
                access: maybe(row, 5)?,
                refresh: maybe(row, 6)?,
                expires_at: maybe::<i64>(row, 7)?.and_then(sql::to_time),
            })
        })
    })
}

/// Writes a link into its session, unless somebody else has; gives whether it did.
pub fn write_link(mapped: &Mapped, made: Made<'_>) -> Result<bool, PgError> {
    write_as_owner(&mapped.config().sessions, || {
        let written = sql::execute(
            mapped.write_link(),
            &[
                from_uuid(made.session).into(),
                made.meeting.join_url.as_str().into(),
                made.meeting.external_id.as_str().into(),
                made.provider.into(),
            ],
        )?;
        Ok(written > 0)
    })
}

/// Writes links into their sessions, those that somebody else has filled in excepted; gives into
/// which.
pub fn write_links(mapped: &Mapped, made: &[Made<'_>]) -> Result<HashSet<Uuid>, PgError> {
    let written = write_as_owner(&mapped.config().sessions, || {
        let columns = jobs::columns(made);
        sql::query(mapped.write_links(), &columns, |row| uuid_at(row, 1))
    })?;
    Ok(written.into_iter().collect())
}

/// Puts a link in place of one that leads nowhere any more; gives whether it was still there.
pub fn replace_link(
    mapped: &Mapped,
    session: Uuid,
    provider: &str,
    meeting: &Meeting,
    old_url: &str,
) -> Result<bool, PgError> {
    write_as_owner(&mapped.config().sessions, || {
        let replaced = sql::execute(
            &mapped.replace_link(),
            &[
                from_uuid(session).into(),
                meeting.join_url.as_str().into(),
                meeting.external_id.as_str().into(),
                provider.into(),
                old_url.into(),
            ],
        )?;
        Ok(replaced > 0)
    })
}

/// Envelopes to be stored for a connection.
pub struct Tokens<'a> {
    /// Access token, unless it cannot be kept.
    pub access: Option<&'a str>,
    /// Refresh token, unless the old one stays.
    pub refresh: Option<&'a str>,
    /// End of the access token, in microseconds since the Unix epoch.
    pub expires_at: i64,
}

/// Stores refreshed tokens if the refresh token is still `old`; gives whether it was.
pub fn write_tokens(
    mapped: &Mapped,
    tutor: Uuid,
    provider: &str,
    old: &str,
    tokens: &Tokens<'_>,
) -> Result<bool, PgError> {
    write_as_owner(&mapped.config().connections, || {
        let changed = sql::execute(
            &mapped.write_tokens(),
            &[
                from_uuid(tutor).into(),
                provider.into(),
                old.into(),
                tokens.access.into(),
                tokens.refresh.into(),
                tokens.expires_at.into(),
            ],
        )?;
        Ok(changed > 0)
    })
}

/// Marks a connection `needs_reauth` if its refresh token is still `old`; gives whether it was.
pub fn mark_reauth(
    mapped: &Mapped,
    tutor: Uuid,
    provider: &str,
    old: Option<&str>,
) -> Result<bool, PgError> {
    write_as_owner(&mapped.config().connections, || {
        let parameters = [from_uuid(tutor).into(), provider.into(), old.into()];
        Ok(sql::execute(&mapped.mark_reauth(), &parameters)? > 0)
    })
}

/// Tells a person something in the application's own table.
pub fn tell(mapped: &Mapped, user: Uuid, kind: Kind, message: &str) -> Result<(), PgError> {
    write_as_owner(&mapped.config().notifications, || {
        let text = mapped.tell().ok_or_else(|| {
            PgError::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                "the application has no table of notifications",
            )
        })?;
        sql::execute(
            &text,
            &[
                from_uuid(user).into(),
                message.into(),
                kind.row_type().into(),
                kind.title().into(),
                mapped.reconnect_url().into(),
            ],
        )?;
        Ok(())
    })
}

/// A person's name and address.
pub fn person(mapped: &Mapped, id: Uuid) -> Result<Option<(String, Option<String>)>, PgError> {
    read_as_owner(&mapped.config().profiles, || {
        sql::query_one(&mapped.load_person(), &[from_uuid(id).into()], |row| {
            Ok((maybe::<String>(row, 1)?.unwrap_or_default(), maybe(row, 2)?))
        })
    })
}
