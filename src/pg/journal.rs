//! Lines in the server's log.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{error, interrupts};

/// How much an outcome matters to whoever reads the server's log. At the default level of
/// `log_min_messages` the first two are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Passing trouble.
    Passing,
    /// Somebody has to know.
    Telling,
    /// The operator has to act, or a session goes without a link.
    Grave,
}

/// A line in the server's log; its text is made only where the level is logged.
pub fn line(weight: Weight, text: impl FnOnce() -> String) {
    let level = match weight {
        Weight::Fine => PgLogLevel::DEBUG1,
        Weight::Passing => PgLogLevel::NOTICE,
        Weight::Telling => PgLogLevel::LOG,
        Weight::Grave => PgLogLevel::WARNING,
    };
    // SAFETY: a look at the settings.
    if unsafe { pg_sys::message_level_is_interesting(level as i32) } {
        let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
        let text = text();
        interrupts::without_cancels(|| error::report(level, code, text, None));
    }
}
