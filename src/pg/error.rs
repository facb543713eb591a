//! Postgres errors and Rust panics as values.

use std::fmt;
use std::panic::{AssertUnwindSafe, UnwindSafe};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// An error that Postgres raised, or a fault of our own, caught.
#[derive(Clone, Debug)]
pub struct PgError {
    /// SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Primary message.
    pub message: String,
}

impl PgError {
    /// Whether a value in some row, or code of the application that looks at it, may be to blame:
    /// everything but what concerns all rows alike.
    pub fn is_about_data(&self) -> bool {
        // Six bits a character, the first in the lowest (src/include/utils/elog.h, MAKE_SQLSTATE).
        let code = self.code as i32;
        let class = [code & 0x3f, code >> 6 & 0x3f].map(|c| char::from(b'0' + c as u8));
        // Connection, transaction state, serialization, access and syntax, resources, locks,
        // limits, operator intervention, system.
        let everybody = ["08", "25", "40", "42", "53", "54", "55", "57", "58", "F0"];
        !everybody.contains(&class.iter().collect::<String>().as_str())
    }

    /// Whether somebody wants the statement, or the whole process, to end.
    pub fn is_an_end(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_DATABASE_DROPPED
        )
    }

    /// Whether somebody else's lock was in the way.
    pub fn is_about_locks(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        )
    }

    /// An error of our own.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<pgrx::spi::Error> for PgError {
    fn from(error: pgrx::spi::Error) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("SPI: {error}"),
        )
    }
}

/// Runs `f` and turns a raised error or a panic into a value.
///
/// The transaction (or subtransaction) that it happened in must be rolled back by the caller; see
/// [`super::xact`]. FATAL is not caught: it ends the process, as it must.
pub fn catch<T>(f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    fn run<T, F: FnOnce() -> Result<T, PgError> + UnwindSafe>(f: F) -> Result<T, PgError> {
        PgTryBuilder::new(f)
            .catch_others(|error| Err(describe(error)))
            .catch_rust_panic(|error| Err(describe(error)))
            .execute()
    }
    // Whatever `f` had half done lives in the transaction that is rolled back.
    let f = AssertUnwindSafe(f);
    #[allow(clippy::redundant_closure_call)]
    run(move || {
        let f = f;
        (f.0)()
    })
}

/// Raises an ERROR with an optional hint.
pub fn raise(code: PgSqlErrorCode, message: String, hint: Option<String>) -> ! {
    report(PgLogLevel::ERROR, code, message, hint);
    unreachable!("an ERROR does not return")
}

/// Says something at a level below ERROR (or raises, at ERROR).
pub fn report(level: PgLogLevel, code: PgSqlErrorCode, message: String, hint: Option<String>) {
    let report = pgrx::pg_sys::panic::ErrorReport::new(code, message, "meetlink");
    let report = match hint {
        Some(hint) => report.set_hint(hint),
        None => report,
    };
    report.report(level);
}

fn describe(error: CaughtError) -> PgError {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => PgError {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
        },
        // The panic's own text may quote data; the server log has its place.
        CaughtError::RustPanic { ereport, .. } => PgError {
            code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            message: format!(
                "internal error at {}:{}",
                ereport.file(),
                ereport.line_number()
            ),
        },
    }
}
