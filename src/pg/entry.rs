//! The doors by which Postgres enters: exported names, and nothing behind them but a call.

use pgrx::pg_sys;
use pgrx::prelude::*;

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
