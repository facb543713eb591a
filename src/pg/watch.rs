//! Noticing that a mapped table was altered, renamed or dropped.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use super::Oid;

thread_local! {
    static TABLES: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
    static ALTERED: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Watches these tables from now on, and no others.
pub fn tables(oids: Vec<Oid>) {
    TABLES.with_borrow_mut(|tables| *tables = oids);
    ALTERED.set(false);
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a plain function that outlives the process's caches.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), pg_sys::Datum::from(0usize));
            // A schema that is renamed takes its tables along, of which nothing is said then.
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
                Some(schema_altered),
                pg_sys::Datum::from(0usize),
            );
        }
    }
}

/// Whether one was altered since [`tables`]. Postgres tells when a transaction starts.
pub fn altered() -> bool {
    ALTERED.get()
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn schema_altered(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    ALTERED.set(true);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn invalidated(_argument: pg_sys::Datum, relation: Oid) {
    // Invalid means that everything may have changed. A table in use is never worth an error here.
    let ours = relation == pg_sys::InvalidOid
        || TABLES.with(|tables| tables.try_borrow().map_or(true, |t| t.contains(&relation)));
    if ours {
        ALTERED.set(true);
    }
}
