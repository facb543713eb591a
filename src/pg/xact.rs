//! Transactions and subtransactions that end as their closure's result says.
//!
//! pgrx's own `BackgroundWorker::transaction` commits when the closure returns `Err`, and an error
//! raised in it ends the process.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::error::{PgError, catch};
use super::interrupts;

/// Runs `f` in a transaction of its own: committed on `Ok`, rolled back on `Err`, on a raised error
/// and on a panic. Only for a process without a transaction (a worker's main loop).
pub fn transaction<T>(f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    interrupts::allow_cancels();
    let done = catch(|| {
        // SAFETY: no transaction is open; the order is that of a worker in the Postgres sources
        // (src/test/modules/worker_spi).
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let value = f()?;
        // SAFETY: the snapshot pushed above is on top again.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    });
    if done.is_err() {
        // SAFETY: allowed in every state of a transaction, and without one.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    interrupts::hold_cancels();
    done
}

/// Runs `f` with a snapshot of its own, so that it sees what has committed since.
pub fn with_fresh_snapshot<T>(f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    // SAFETY: inside a transaction; popped below unless `f` raises, in which case the rollback
    // drops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let value = f();
    // SAFETY: as above; `f` has put back what it pushed.
    unsafe { pg_sys::PopActiveSnapshot() };
    value
}

/// Runs `f` in a subtransaction: what it did is undone on `Err`, on a raised error and on a panic,
/// and the surrounding transaction goes on.
pub fn subtransaction<T>(f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    // SAFETY: inside a transaction. Memory context and resource owner are put back as PL/pgSQL's
    // exception blocks do (src/pl/plpgsql/src/pl_exec.c, exec_stmt_block).
    let (context, owner) = unsafe {
        let saved = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(saved.0);
        saved
    };
    let done = catch(f);
    // SAFETY: as above.
    unsafe {
        match done {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    done
}

/// Whether the current transaction keeps one snapshot for all its statements.
pub fn has_one_snapshot() -> bool {
    // SAFETY: a plain read on the main thread.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Makes the current transaction's commit wait for the disk, whatever the session's setting. For
/// standbys it waits unless the database does not: whoever commits holds what the application waits
/// for (rows, the lock of NOTIFY) until they answer.
pub fn commit_durably() -> Result<(), PgError> {
    // SAFETY: a plain read on the main thread.
    let level = unsafe { pg_sys::synchronous_commit };
    let here = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32;
    let level = if level > here { c"on" } else { c"local" };
    set_local(c"synchronous_commit", level)
}

/// Lets the current transaction's commit return before the disk has it.
pub fn commit_soon() -> Result<(), PgError> {
    set_local(c"synchronous_commit", c"off")
}

/// `SET LOCAL name = value`, with a superuser's right.
pub fn set_local(name: &CStr, value: &CStr) -> Result<(), PgError> {
    set_option(name, Some(value), pg_sys::GucAction::GUC_ACTION_LOCAL);
    Ok(())
}

/// Runs `f` with other values of settings, and puts the old ones back.
pub fn with_settings<T>(
    settings: &[(&CStr, &CStr)],
    f: impl FnOnce() -> Result<T, PgError>,
) -> Result<T, PgError> {
    // SAFETY: inside a transaction; on a raised error its rollback ends the level.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    for (name, value) in settings {
        set_for_level(name, value)?;
    }
    let done = f();
    // SAFETY: as above.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    done
}

/// Sets a setting until the current GUC level ends, as [`super::identity::run_as`] opens one.
pub fn set_for_level(name: &CStr, value: &CStr) -> Result<(), PgError> {
    set_option(name, Some(value), pg_sys::GucAction::GUC_ACTION_SAVE);
    Ok(())
}

/// Puts a setting back to what the database says, until the current GUC level ends.
pub fn reset_for_level(name: &CStr) -> Result<(), PgError> {
    set_option(name, None, pg_sys::GucAction::GUC_ACTION_SAVE);
    Ok(())
}

/// Sets a setting as its session may, with a superuser's right; without a value, to the session's
/// default.
fn set_option(name: &CStr, value: Option<&CStr>, action: pg_sys::GucAction::Type) {
    // SAFETY: inside a transaction; the strings end with a zero byte and are copied.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.map_or(std::ptr::null(), CStr::as_ptr),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// `SET CONSTRAINTS ALL IMMEDIATE`, without a statement to be parsed.
pub fn set_constraints_immediate() {
    let mut all = pg_sys::ConstraintsSetStmt {
        type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
        constraints: std::ptr::null_mut(),
        deferred: false,
    };
    // SAFETY: inside a transaction; the statement is only read. It fires what was deferred so far.
    unsafe { pg_sys::AfterTriggerSetState(&raw mut all) };
}

// src/include/commands/async.h, which pgrx has no binding for.
unsafe extern "C-unwind" {
    fn Async_Notify(channel: *const c_char, payload: *const c_char);
}

/// `NOTIFY channel, 'payload'` when the transaction commits.
pub fn notify_at_commit(channel: &CStr, payload: &CStr) {
    // SAFETY: inside a transaction; both strings end with a zero byte and are copied. It may raise.
    unsafe { pg_guard_ffi_boundary(|| Async_Notify(channel.as_ptr(), payload.as_ptr())) };
}

/// Raises what every SQL command that writes raises on a standby and in a read-only transaction;
/// `command` as it is named then.
pub fn prevent_if_read_only(command: &CStr) {
    // SAFETY: inside a transaction; raises an ERROR or does nothing.
    unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
}

/// Whether this server only follows another.
pub fn is_standby() -> bool {
    // SAFETY: a read of shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}
