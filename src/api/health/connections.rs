//! The check of `meetlink_health` that looks into the application's tables.

use pgrx::PgSqlErrorCode;

use super::Check;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::store::app;
use crate::store::mapped::Mapped;

/// How long a lock on one of the application's tables is waited for.
const LOCK_WAIT: &std::ffi::CStr = c"500ms";

/// What is in the way of a look at the application's tables.
fn unreadable(error: PgError) -> Check {
    let (detail, hint) = if error.is_about_data() {
        // Not in its own words, which may quote the row.
        (
            "a row of the application's tables cannot be read".to_owned(),
            "meetlink.queue shows the sessions that were set aside for it (reason = \
             'session_unfit'), and why. If the type of a column was changed, run meetlink_attach() with \
             the same arguments as before (they are in meetlink.config).",
        )
    } else {
        let hint = match error.code {
            _ if error.is_about_locks() => {
                "Somebody holds a lock on one of the application's tables: pg_locks shows who. Look \
                 again."
            }
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => {
                "meetlink works as the tables' owner: give it its rights back, and BYPASSRLS where \
                 FORCE ROW LEVEL SECURITY binds it."
            }
            _ => {
                "If a table was altered, run meetlink_attach() with the same arguments as before \
                 (they are in meetlink.config), and with what is new."
            }
        };
        (
            format!("the application's tables cannot be read: {error}"),
            hint,
        )
    };
    Check {
        name: "connections",
        ok: false,
        detail,
        hint: Some(hint),
    }
}

/// Tutors whose next session will find no connection that can be used.
pub(super) fn check(mapped: &Mapped) -> Result<Check, PgError> {
    let looked = xact::subtransaction(|| {
        xact::set_for_level(c"lock_timeout", LOCK_WAIT)?;
        let coming = app::coming_tutors(mapped)?;
        let ids: Vec<_> = coming.iter().map(|(tutor, _)| *tutor).collect();
        Ok((app::connections(mapped, &ids)?, coming))
    });
    let (connections, coming) = match looked {
        Err(error) if error.is_an_end() => return Err(error),
        // Trouble with the application's tables must not silence all other checks.
        Err(error) => return Ok(unreadable(error)),
        Ok(looked) => looked,
    };
    let fails = |tutor, start| {
        !connections.iter().any(|connection| {
            let lasts = connection.refresh.as_deref().is_some_and(|t| !t.is_empty())
                || connection.expires_at.is_none_or(|end| end > start);
            connection.tutor == tutor && connection.is_usable() && lasts
        })
    };
    let dead = coming
        .iter()
        .filter(|(tutor, start)| fails(*tutor, *start))
        .count();
    Ok(Check {
        name: "connections",
        ok: dead == 0,
        detail: format!(
            "{dead} of {} tutors with a session this week cannot be reached",
            coming.len()
        ),
        hint: Some("meetlink.at_risk and meetlink.tutor_connections show who has to connect."),
    })
}
