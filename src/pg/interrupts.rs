//! Serving interrupts: cancel, terminate, and the barriers that `DROP DATABASE` waits for.

use pgrx::pg_sys;

/// `CHECK_FOR_INTERRUPTS()`. May not return: a terminated process leaves here.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// The same for a worker between statements: `pg_cancel_backend()` ends the statement that runs, and
/// there is none.
pub fn check_between_statements() {
    // SAFETY: a plain write on the main thread.
    unsafe { pg_sys::QueryCancelPending = 0 };
    check();
}
