//! Where the extension's own objects are in this database.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::identity;

/// Schema of meetlink's relations; fixed, while its functions follow `CREATE EXTENSION … SCHEMA`.
pub const SCHEMA: &CStr = c"meetlink";

/// Whether `CREATE EXTENSION meetlink` has been run in this database. Needs a transaction.
pub fn is_installed() -> bool {
    oid() != pg_sys::InvalidOid
}

/// Oid of the extension, or `InvalidOid`.
pub fn oid() -> pg_sys::Oid {
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::get_extension_oid(c"meetlink".as_ptr(), true) }
}

/// Oid of one of meetlink's relations; `None` where it is missing. Two cached look-ups.
pub fn relation(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: syscache look-ups inside a transaction.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The role that owns meetlink's relations.
pub fn owner() -> Option<pg_sys::Oid> {
    relation(c"jobs").and_then(identity::owner_of)
}
