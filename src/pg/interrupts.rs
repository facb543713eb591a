//! Serving interrupts: cancel, terminate, and the barriers that `DROP DATABASE` waits for.

/// `CHECK_FOR_INTERRUPTS()`. May not return: a terminated process leaves here.
pub fn check() {
    pgrx::check_for_interrupts!();
}
