//! `meetlink_create_missing`, `meetlink_pause`, `meetlink_resume`, and what the install script
//! calls.

use pgrx::prelude::*;

use super::fail::{self, or_raise};
use crate::pg::identity::as_extension_owner;
use crate::pg::{process, shared, wake, xact};
use crate::provider;
use crate::store::{config, home, inbox, jobs};

#[pg_extern(sql = false)]
fn meetlink_create_missing(max_sessions: Option<i32>) -> i64 {
    xact::prevent_if_read_only(c"meetlink_create_missing()");
    let queued = or_raise((|| {
        if max_sessions.is_some_and(|most| most < 0) {
            return Err(fail::with_hint(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "max_sessions must not be negative",
                "Leave it out to queue every session that wants a link.",
            ));
        }
        let mapped = super::mapped()?;
        as_extension_owner(|| {
            let sessions = inbox::missing(&mapped, max_sessions)?;
            inbox::add(&sessions, inbox::Wish::Wanted)?;
            Ok(sessions.len())
        })
    })());
    wake::worker_at_commit();
    i64::try_from(queued).unwrap_or(i64::MAX)
}

#[pg_extern(sql = false)]
fn meetlink_pause() -> bool {
    xact::prevent_if_read_only(c"meetlink_pause()");
    let changed = or_raise(as_extension_owner(|| config::set_paused(true)));
    wake::reconfigure_at_commit();
    changed
}

#[pg_extern(sql = false)]
fn meetlink_resume() -> bool {
    xact::prevent_if_read_only(c"meetlink_resume()");
    let changed = or_raise(as_extension_owner(|| {
        let resumed = config::set_paused(false)?;
        let moved = home::come_home()?;
        if moved {
            jobs::doubt_everything(&provider::blind())?;
        }
        Ok(resumed || moved)
    }));
    wake::resume_at_commit();
    changed
}

/// Called by the install script: a worker comes when `CREATE EXTENSION` commits.
#[pg_extern(sql = false)]
fn announce_extension() {
    if shared::get().is_none() {
        process::warn(
            "meetlink is installed, but not preloaded: sessions are queued, and nothing works on \
             them",
            "Add meetlink to shared_preload_libraries in postgresql.conf and restart the server.",
        );
    }
    wake::resume_at_commit();
}
