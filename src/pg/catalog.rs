//! Shared catalogs, read without being connected to a database.

use pgrx::pg_sys;

use super::error::PgError;
use super::xact;

/// Every database that a worker can connect to.
///
/// As the autovacuum launcher does it (src/backend/postmaster/autovacuum.c, `get_database_list`):
/// a process without a database has no SPI, but may scan `pg_database`.
pub fn connectable_databases() -> Result<Vec<pg_sys::Oid>, PgError> {
    xact::transaction(|| {
        let mut found = Vec::new();
        // SAFETY: the scan is opened and closed here; the tuples are read while it is open, and
        // the fixed part of pg_database's rows has the layout of FormData_pg_database.
        unsafe {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
            let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
            loop {
                let direction = pg_sys::ScanDirection::ForwardScanDirection;
                let tuple = pg_sys::heap_getnext(scan, direction);
                if tuple.is_null() {
                    break;
                }
                let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                // What an interrupted DROP DATABASE leaves behind
                // (src/include/catalog/pg_database.h, DATCONNLIMIT_INVALID_DB).
                let invalid = (*form).datconnlimit == -2;
                if (*form).datallowconn && !(*form).datistemplate && !invalid {
                    found.push((*form).oid);
                }
            }
            pg_sys::heap_endscan(scan);
            pg_sys::table_close(relation, lock);
        }
        Ok(found)
    })
}
