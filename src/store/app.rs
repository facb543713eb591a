//! The application's tables: read by the worker as it is, written as their owner.
//!
//! Reading runs no code of the application: attach takes plain tables only, and the bootstrap
//! superuser is not subject to row security, whose policies are code. Writing runs triggers, so it
//! happens as the table's owner in a security-restricted operation.

use crate::pg::Oid;
use chrono::{DateTime, Utc};
use pgrx::PgSqlErrorCode;
use uuid::Uuid;

use super::mapped::Mapped;
use super::sql::{self, from_uuid, from_uuids, get, maybe, maybe_uuid, uuid_at};
use crate::domain::meeting::Meeting;
use crate::pg::error::PgError;
use crate::pg::{identity, xact};

/// What the worker needs to know of a session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Its tutor.
    pub tutor: Option<Uuid>,
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
    /// Tutor's name.
    pub tutor_name: Option<String>,
    /// Student's name.
    pub student_name: Option<String>,
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
    sql::query(mapped.load_sessions(), &[ids.into()], |row| {
        Ok(Session {
            id: uuid_at(row, 1)?,
            tutor: maybe_uuid(row, 2)?,
            provider: maybe(row, 3)?,
            starts_at: maybe::<i64>(row, 4)?.and_then(sql::to_time),
            ends_at: maybe::<i64>(row, 5)?.and_then(sql::to_time),
            wants: get(row, 6)?,
            lacks_link: get(row, 7)?,
            tutor_name: maybe(row, 8)?,
            student_name: maybe(row, 9)?,
        })
    })
}

/// Reads tutors' connections.
pub fn connections(mapped: &Mapped, tutors: &[Uuid]) -> Result<Vec<Connection>, PgError> {
    let tutors = from_uuids(tutors.iter().copied());
    sql::query(mapped.load_connections(), &[tutors.into()], |row| {
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
}

/// Writes a link into its session, unless somebody else has.
pub fn write_link(
    mapped: &Mapped,
    session: Uuid,
    provider: &str,
    meeting: &Meeting,
) -> Result<(), PgError> {
    as_owner_of(
        mapped.config().sessions.as_ref().map(|(oid, _)| *oid),
        || {
            sql::execute(
                mapped.write_link(),
                &[
                    from_uuid(session).into(),
                    meeting.join_url.as_str().into(),
                    meeting.external_id.as_str().into(),
                    provider.into(),
                ],
            )?;
            Ok(())
        },
    )
}

/// Envelopes to be stored for a connection.
pub struct Tokens<'a> {
    /// Access token.
    pub access: &'a str,
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
    as_owner_of_connections(mapped, || {
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
    as_owner_of_connections(mapped, || {
        let parameters = [from_uuid(tutor).into(), provider.into(), old.into()];
        Ok(sql::execute(&mapped.mark_reauth(), &parameters)? > 0)
    })
}

/// Runs `f` as the owner of the connections table.
pub fn as_owner_of_connections<T>(
    mapped: &Mapped,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    as_owner_of(mapped.config().connections.as_ref().map(|(oid, _)| *oid), f)
}

/// Runs `f` as a table's owner, with what the application's triggers expect: their search path,
/// and deferred triggers at once (in a security-restricted operation they could not wait).
///
/// To be called in a subtransaction that is rolled back when it fails.
fn as_owner_of<T>(
    table: Option<Oid>,
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    let owner = table.and_then(identity::owner_of).ok_or_else(|| {
        PgError::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            "the mapped table is gone",
        )
    })?;
    sql::run("SET CONSTRAINTS ALL IMMEDIATE")?;
    identity::run_as(owner, || {
        xact::use_application_search_path()?;
        f()
    })
}
