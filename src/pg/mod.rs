//! The only room with `unsafe` and `pg_sys`: Postgres as the rest of the crate sees it.
//!
//! Each function here is safe to call from the process's main thread, and from there alone:
//! Postgres is single-threaded, and pgrx panics when another thread calls it.
#![allow(unsafe_code)]

pub mod activity;
pub mod answer;
pub mod catalog;
pub mod child;
pub mod entry;
pub mod error;
pub mod extension;
pub mod guc;
pub mod hooks;
pub mod identity;
pub mod inbox;
pub mod interrupts;
pub mod journal;
pub mod note;
pub mod process;
pub mod rows;
pub mod shared;
pub mod signals;
pub mod trigger;
pub mod wake;
pub mod watch;
mod wipe;
pub mod xact;

pub use pgrx::pg_sys::Oid;

/// Between the epochs of Unix and of Postgres, 2000-01-01, in microseconds
/// (src/include/datatype/timestamp.h).
pub const EPOCHS_APART: i64 = 946_684_800_000_000;

/// From Postgres's uuid to the pure rooms' one.
pub fn to_uuid(uuid: pgrx::Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(*uuid.as_bytes())
}
