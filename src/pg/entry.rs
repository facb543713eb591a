//! The doors by which Postgres enters: exported names, and nothing behind them but a call.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::answer;
use crate::api::{fail, views};
use crate::worker;

/// Entry point of the launcher, by name in [`super::process::register_launcher`].
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn meetlink_launcher_main(_argument: pg_sys::Datum) {
    worker::launch();
}

/// Entry point of a database's worker; the argument is the database's oid.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn meetlink_worker_main(argument: pg_sys::Datum) {
    worker::work(pg_sys::Oid::from(argument.value() as u32));
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_meetlink_read_missing_sessions() -> *const pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// `meetlink.read_missing_sessions()`.
///
/// # Safety
/// Called by Postgres's function manager, for a function that returns a set of records.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn meetlink_read_missing_sessions(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    fail::or_raise(views::missing_sessions(|query| {
        // SAFETY: by contract.
        unsafe { answer::fill(call, query) }
    }));
    pg_sys::Datum::from(0usize)
}
