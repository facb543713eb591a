//! Settings whose values are checked when they are set, with the reason given at once.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::OnceLock;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

/// A check of a URL: `Err` says what is wrong with it.
pub type Check = fn(&str) -> Result<(), &'static str>;

static CHECK: OnceLock<Check> = OnceLock::new();

/// Defines a setting that holds a URL.
pub fn define_url(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    check: Check,
) {
    let _ = CHECK.set(check);
    // SAFETY: the hook is guarded and raises nothing.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            long,
            setting,
            GucContext::Sighup,
            GucFlags::default(),
            Some(check_url),
            None,
            None,
        );
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check_url(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres hands over a pointer to a string that it owns, or to null.
    let text = unsafe {
        if value.is_null() || (*value).is_null() {
            return true;
        }
        CStr::from_ptr(*value).to_string_lossy()
    };
    let Some(Err(reason)) = CHECK.get().map(|check| check(&text)) else {
        return true;
    };
    if let Ok(reason) = CString::new(reason) {
        // SAFETY: what the GUC_check_errdetail macro does (src/include/utils/guc.h); the copy
        // lives in Postgres's memory.
        unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(reason.as_ptr()) };
    }
    false
}

/// Marks the custom prefix as ours, so that a misspelt setting is noticed.
pub fn reserve_prefix() {
    // SAFETY: called once, in `_PG_init`, after every setting was defined.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"meetlink".as_ptr()) };
}

/// Text of a setting of this session, ours or not; `None` where there is none, or it is empty.
pub fn text(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a zero byte; the value belongs to Postgres and is copied at once.
    let value = unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        CStr::from_ptr(value)
    };
    let value = value.to_str().ok().filter(|value| !value.is_empty())?;
    Some(value.to_owned())
}
