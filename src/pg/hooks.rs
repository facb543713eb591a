//! Noticing `DROP` and `ALTER EXTENSION meetlink` without asking the catalog again and again.

use pgrx::pg_sys;

use super::{extension, wake};

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Installs the hook. Called while preloading.
pub fn install() {
    // SAFETY: `_PG_init` runs in the postmaster, single-threaded, once.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_access);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: the arguments are passed on as they came; an error that it raises becomes a panic
    // that our own guard turns back into an error.
    unsafe {
        if let Some(previous) = PREVIOUS {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(access, class, object, sub, argument);
            });
        }
    }
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER};
    let changed =
        matches!(access, OAT_DROP | OAT_POST_ALTER) && class == pg_sys::ExtensionRelationId;
    if changed && object == extension::oid() {
        wake::reconfigure_at_commit();
    }
}
