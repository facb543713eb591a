//! Acting as another role for a moment.
//!
//! The same means by which logical replication since PostgreSQL 16 applies changes as a table's
//! owner (src/backend/utils/init/usercontext.c): switch the effective user in a security-restricted
//! operation, with settings that are put back at the end.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::error::PgError;
use super::extension;

/// Runs `f` as `role`, which cannot switch back, leave anything behind in the session, or keep a
/// changed setting.
///
/// Must run in a (sub)transaction that is rolled back when `f` fails: that is what puts the user
/// back then.
pub fn run_as<T>(role: pg_sys::Oid, f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: plain reads and writes of the session's identity on the main thread; a (sub)abort
    // restores both, and the GUC level with them.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(
            role,
            context
                | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32
                | pg_sys::SECURITY_RESTRICTED_OPERATION as i32,
        );
        pg_sys::NewGUCNestLevel()
    };
    let done = f();
    // SAFETY: as above. On a raised error this is not reached, on purpose.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    done
}

/// Runs `f` with the rights of the extension's owner, over meetlink's own tables.
///
/// Only for statements of our own with qualified names: `search_path` is pinned by each function's
/// definition.
pub fn as_extension_owner<T>(f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
    let owner = extension::owner().ok_or_else(|| {
        PgError::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            "extension \"meetlink\" is not installed in this database",
        )
    })?;
    run_as(owner, f)
}

/// Whether a quoted, qualified name leads to this relation. It is locked against being renamed or
/// dropped until the transaction ends, as by a statement that reads it.
pub fn is_named(relation: pg_sys::Oid, name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: parses the text and looks it up inside a transaction; the lists live in Postgres's
    // memory. A name that cannot be parsed raises, as the statement with it would.
    unsafe {
        #[cfg(feature = "pg15")]
        let list = pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        let list = pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
        let found = pg_sys::RangeVarGetRelidExtended(
            pg_sys::makeRangeVarFromNameList(list),
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        );
        found == relation
    }
}

/// Owner of a relation, or `None` if it is gone.
pub fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up that gives NULL for a missing relation; released before return.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let owner = (*form).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// Whether a user reads every row and column of a relation (and may update them, where that is asked):
/// he has the right to the whole of it, and no row security binds him.
pub fn sees_all(relation: pg_sys::Oid, user: pg_sys::Oid, update: bool) -> bool {
    // SAFETY: look-ups in system caches inside a transaction, of a relation that is locked.
    unsafe {
        let may = |right: u32| {
            let right = pg_sys::AclMode::from(right);
            pg_sys::pg_class_aclcheck(relation, user, right) == pg_sys::AclResult::ACLCHECK_OK
        };
        let bound = pg_sys::check_enable_rls(relation, user, true)
            == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32;
        !bound && may(pg_sys::ACL_SELECT) && (!update || may(pg_sys::ACL_UPDATE))
    }
}

/// Who the current user is.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: a plain read on the main thread.
    unsafe { pg_sys::GetUserId() }
}

/// Whether row security never binds the current user: superusers, and who has BYPASSRLS.
pub fn is_unbound() -> bool {
    // SAFETY: a look-up in a system cache inside a transaction.
    unsafe { pg_sys::has_bypassrls_privilege(pg_sys::GetUserId()) }
}

/// Whether the current user owns a relation (superusers own all).
pub fn owns(relation: pg_sys::Oid) -> bool {
    let owner = owner_of(relation);
    // SAFETY: plain look-ups.
    owner.is_some_and(|owner| unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner) })
}
