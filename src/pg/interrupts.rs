//! Serving interrupts: cancel, terminate, and the barriers that `DROP DATABASE` waits for.

use pgrx::pg_sys;

/// `CHECK_FOR_INTERRUPTS()`. May not return: a terminated process leaves here.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// The same for a worker between transactions: `pg_cancel_backend()` ends the statement that runs,
/// and there is none.
pub fn check_between_statements() {
    // SAFETY: a plain write on the main thread. Should another request come before the check, it is
    // held off.
    unsafe { pg_sys::QueryCancelPending = 0 };
    check();
}

/// Holds off cancel requests, as a worker does outside of its transactions: nobody would catch the
/// error there, not even while a line is logged, and it would end the process.
pub fn hold_cancels() {
    // SAFETY: a plain write on the main thread; `ProcessInterrupts` (src/backend/tcop/postgres.c)
    // leaves a cancel request pending while this is not zero.
    unsafe { pg_sys::QueryCancelHoldoffCount = 1 };
}

/// Runs `f`, which logs: an ERROR that a cancel request raises there would pass over Rust's frames.
pub fn without_cancels<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: plain writes on the main thread, as `HOLD_CANCEL_INTERRUPTS` does
    // (src/include/miscadmin.h); `f` raises nothing while it is held.
    unsafe { pg_sys::QueryCancelHoldoffCount += 1 };
    let value = f();
    // SAFETY: as above.
    unsafe { pg_sys::QueryCancelHoldoffCount -= 1 };
    value
}

/// Lets cancel requests through from now on, none of earlier ones.
pub fn allow_cancels() {
    // SAFETY: plain writes on the main thread.
    unsafe {
        pg_sys::QueryCancelPending = 0;
        pg_sys::QueryCancelHoldoffCount = 0;
    }
}
