//! The one way out of a function with an error: SQLSTATE, message, hint.

use pgrx::prelude::*;
use uuid::Uuid;

use crate::keyfile::KeyFileError;
use crate::pg::error::{self, PgError};
use crate::store::mapped::Gone;

/// Raises an error. The hint stands behind a line feed in [`PgError::message`], if there is one.
pub fn raise(error: PgError) -> ! {
    let (message, hint) = match error.message.split_once("\nHINT: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (error.message, None),
    };
    error::raise(error.code, message, hint)
}

/// The value, or the error raised.
pub fn or_raise<T>(result: Result<T, PgError>) -> T {
    result.unwrap_or_else(|error| raise(error))
}

/// An error with a hint.
pub fn with_hint(code: PgSqlErrorCode, message: impl Into<String>, hint: &str) -> PgError {
    PgError::new(code, format!("{}\nHINT: {hint}", message.into()))
}

/// meetlink is not attached.
pub fn not_attached() -> PgError {
    with_hint(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "meetlink is not attached to the application's tables",
        "Run SELECT meetlink_attach();",
    )
}

/// A mapped table was dropped.
pub fn table_gone(gone: Gone) -> PgError {
    with_hint(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        format!(
            "the {} table that meetlink was attached to is gone",
            gone.0.key()
        ),
        "Run meetlink_attach() with the tables as they are now, and otherwise with the same arguments as \
         before (they are in meetlink.config).",
    )
}

/// The session is missing, or hidden from the caller: nobody can tell which.
pub fn not_found(session: Uuid) -> PgError {
    PgError::new(
        PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
        format!("session {} not found", session.hyphenated()),
    )
}

/// No such provider.
pub fn unknown_provider(name: &str) -> PgError {
    let known: Vec<&str> = crate::provider::all().iter().map(|p| p.name()).collect();
    // What does not look like a name may be a token in the wrong place.
    let is_name =
        (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let shown = if is_name {
        format!(" \"{name}\"")
    } else {
        String::new()
    };
    with_hint(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("unknown provider{shown}"),
        &format!("Providers are: {}.", known.join(", ")),
    )
}

/// The keys cannot be had.
pub fn key_file((setting, error): (&str, KeyFileError)) -> PgError {
    with_hint(
        PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        format!("{setting} cannot be used: {error}"),
        error.hint(),
    )
}

/// The library was not preloaded.
pub fn not_preloaded() -> PgError {
    with_hint(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "meetlink is not preloaded, so there is no worker",
        "Add meetlink to shared_preload_libraries in postgresql.conf and restart the server.",
    )
}
