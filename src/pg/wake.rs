//! Waking the worker when a transaction that queued something commits.
//!
//! A backend notes what it wants while the transaction runs; one callback, registered once a
//! connection, acts on it after the commit is visible to others. A rolled-back transaction wakes
//! nobody. (Registering a callback in each transaction would slow a long connection down: they are
//! never forgotten.)

use std::cell::Cell;

use pgrx::pg_sys;

use super::shared;

thread_local! {
    // One thread a process; a thread_local spares a `static mut`.
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static WANTED: Cell<Wanted> = const { Cell::new(Wanted::Nothing) };
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Nothing,
    /// The worker is to look for work.
    Look,
    /// The same, and at what it works on: extension, mapping or pause may have changed.
    Configuration,
    /// The same, and a pause is over.
    Forced,
}

/// Wakes this database's worker when the current transaction commits.
pub fn worker_at_commit() {
    at_commit(Wanted::Look);
}

/// The same, and makes it read its configuration again.
pub fn reconfigure_at_commit() {
    at_commit(Wanted::Configuration);
}

/// The same, and brings a worker back that was paused.
pub fn resume_at_commit() {
    at_commit(Wanted::Forced);
}

fn at_commit(wanted: Wanted) {
    if shared::get().is_none() {
        return;
    }
    WANTED.set(WANTED.get().max(wanted));
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a plain function that outlives the backend.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
}

/// Wakes this database's worker now, or asks the launcher for one; in a paused database only if it
/// is resumed.
fn worker_now(wanted: Wanted) {
    // SAFETY: set when the backend connected to its database.
    let database = unsafe { pg_sys::MyDatabaseId };
    if let Some(shared) = shared::get() {
        let heard = shared
            .slot(database)
            .is_some_and(|slot| slot.ring(wanted >= Wanted::Configuration));
        let paused = || shared.slot(database).is_some_and(|slot| slot.is_paused());
        if !heard && (wanted == Wanted::Forced || !paused()) {
            shared.request_worker(database);
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if !matches!(
        event,
        XACT_EVENT_ABORT | XACT_EVENT_COMMIT | XACT_EVENT_PREPARE
    ) {
        return;
    }
    let wanted = WANTED.replace(Wanted::Nothing);
    if wanted == Wanted::Nothing || event == XACT_EVENT_ABORT {
        return;
    }
    if event == XACT_EVENT_PREPARE {
        // COMMIT PREPARED may come from any backend, which knows nothing of us: the worker keeps
        // an eye on prepared transactions while there are any.
        // SAFETY: as above.
        let database = unsafe { pg_sys::MyDatabaseId };
        if let Some(slot) = shared::get().and_then(|shared| shared.slot(database)) {
            slot.note_prepared();
        }
    }
    worker_now(wanted);
}
