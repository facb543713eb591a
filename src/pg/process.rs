//! Being a background worker: start, sleep, reload, report.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::error::PgError;
use super::{error, interrupts, xact};
use crate::domain::search_path::guarded;

// Postgres's own handlers as they are: pgrx's bindings wrap them in a guard that is not for signal
// handlers (src/include/tcop/tcopprot.h, src/include/postmaster/interrupt.h).
unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Handle of a worker that this process started.
pub struct Child(pgrx::bgworkers::DynamicBackgroundWorker);

impl Child {
    /// Whether the process has ended (or will never start).
    pub fn is_gone(&self) -> bool {
        use pgrx::bgworkers::BackgroundWorkerStatus::{PostmasterDied, Stopped};
        matches!(self.0.pid(), Err(Stopped | PostmasterDied))
    }
}

/// Registers the launcher, while the library is preloaded.
pub fn register_launcher() {
    BackgroundWorkerBuilder::new("meetlink launcher")
        .set_type("meetlink launcher")
        .set_library("meetlink")
        .set_function("meetlink_launcher_main")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// Starts the worker of a database. It is never restarted by the postmaster: the launcher, told by
/// a signal when it ends, knows better whether there is still something to work on.
pub fn start_worker(database: pg_sys::Oid) -> Option<Child> {
    BackgroundWorkerBuilder::new(&format!("meetlink worker {}", database.to_u32()))
        .set_type("meetlink worker")
        .set_library("meetlink")
        .set_function("meetlink_worker_main")
        .set_argument(Some(pg_sys::Datum::from(database)))
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_notify_pid(my_pid())
        .load_dynamic()
        .ok()
        .map(Child)
}

/// Installs the handlers of an ordinary backend and unblocks signals.
///
/// `die` only sets flags; the process leaves at the next [`interrupts::check`], outside whatever
/// must not be torn. A reload that came before the handler was there was ignored, since
/// background workers begin so (src/backend/postmaster/bgworker.c): settings are read once more.
pub fn serve_signals() {
    // SAFETY: called once at the start of a worker; the handlers are Postgres's own.
    unsafe {
        pg_sys::pqsignal(libc::SIGTERM, Some(die));
        pg_sys::pqsignal(libc::SIGHUP, Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    interrupts::hold_cancels();
}

/// Connects to a database as the bootstrap superuser; to none, for shared catalogs only.
pub fn connect(database: Option<pg_sys::Oid>) {
    BackgroundWorker::connect_worker_to_spi_by_oid(database, None);
}

/// Keeps this process out of core dumps, and its memory from others of the same user: it holds
/// people's tokens.
pub fn keep_secret() {
    // SAFETY: changes an attribute of this process only (prctl(2)).
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Bytes that nobody can guess (src/port/pg_strong_random.c).
pub fn random<const N: usize>() -> Result<[u8; N], PgError> {
    let mut bytes = [0; N];
    // SAFETY: writes N bytes to the array given.
    if unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        Ok(bytes)
    } else {
        Err(PgError::new(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "could not generate random values",
        ))
    }
}

/// The operating system's user as whom the server runs.
pub fn user_id() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// Time since the machine was started, sleep included; nobody sets this clock.
pub fn time_since_boot() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to the struct given. Linux has this clock since 2.6.39; elsewhere the struct
    // stays zero, and no step is ever noticed.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// After how long a session that waits for a lock looks for a deadlock (`deadlock_timeout`).
pub fn deadlock_timeout() -> Duration {
    // SAFETY: a plain read on the main thread; the setting is at least 1 ms.
    Duration::from_millis(u64::from(unsafe { pg_sys::DeadlockTimeout }.unsigned_abs()))
}

/// Whether a reload was asked for that [`reload_if_asked`] has not taken up.
pub fn is_reload_asked() -> bool {
    // SAFETY: a plain read on the main thread.
    unsafe { pg_sys::ConfigReloadPending != 0 }
}

/// Takes up changed settings if a reload was asked for. Returns whether it was.
pub fn reload_if_asked() -> bool {
    // SAFETY: the flag is set by the signal handler installed above and read on the main thread.
    unsafe {
        if pg_sys::ConfigReloadPending == 0 {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}

/// Sleeps until the latch is set, `socket` can be read, or the time is over; then serves
/// interrupts. Without a time-out it wakes for nothing of its own.
///
/// For workers: a cancel request that comes between statements is forgotten.
pub fn sleep(socket: Option<RawFd>, timeout: Option<Duration>) {
    let milliseconds = match timeout {
        // Rounded up: waking a moment early would mean waking twice.
        Some(time) => time.as_micros().div_ceil(1_000).min(86_400_000) as i64,
        None => -1,
    };
    interrupts::check_between_statements();
    wait(socket, milliseconds);
    interrupts::check_between_statements();
}

/// Rests for a moment in somebody's own backend, where a cancel request is served.
pub fn rest(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    // SAFETY: MyLatch is this process's own.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            time.as_millis().min(86_400_000) as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    interrupts::check();
}

/// What this process waits for: made once, so that sleeping needs no file descriptor later.
static AWAITED: AtomicPtr<pg_sys::WaitEventSet> = AtomicPtr::new(std::ptr::null_mut());

fn awaited(socket: Option<RawFd>) -> *mut pg_sys::WaitEventSet {
    let made = AWAITED.load(Ordering::Relaxed);
    if !made.is_null() {
        return made;
    }
    // SAFETY: on the main thread, once; the set lives in a context that is never reset, MyLatch is
    // this process's own, and the descriptor stays open for the life of the process.
    let set = unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let set = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, 3);
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let set = pg_sys::CreateWaitEventSet(std::ptr::null_mut(), 3);
        let add = |events: u32, socket, latch| {
            pg_sys::AddWaitEventToSet(set, events, socket, latch, std::ptr::null_mut());
        };
        let (none, no_latch) = (pg_sys::PGINVALID_SOCKET, std::ptr::null_mut());
        add(pg_sys::WL_LATCH_SET, none, pg_sys::MyLatch);
        add(pg_sys::WL_EXIT_ON_PM_DEATH, none, no_latch);
        if let Some(socket) = socket {
            add(pg_sys::WL_SOCKET_READABLE, socket, no_latch);
        }
        set
    };
    AWAITED.store(set, Ordering::Relaxed);
    set
}

fn wait(socket: Option<RawFd>, milliseconds: i64) {
    let set = awaited(socket);
    // SAFETY: the set was made above; one event fits into the array of one.
    unsafe {
        let mut event = std::mem::zeroed::<pg_sys::WaitEvent>();
        pg_sys::WaitEventSetWait(
            set,
            milliseconds as std::ffi::c_long,
            &mut event,
            1,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// Shows the process as running or idle in `pg_stat_activity`.
pub fn report_activity(running: bool) {
    use pg_sys::BackendState::{STATE_IDLE, STATE_RUNNING};
    let state = if running { STATE_RUNNING } else { STATE_IDLE };
    // SAFETY: a null text means "none".
    unsafe { pg_sys::pgstat_report_activity(state, std::ptr::null()) };
}

/// Hands table statistics over: a worker must do so itself, or autovacuum never sees its tables.
///
/// `last` says that the process goes to sleep for long: what was held back is handed over too.
pub fn report_statistics(last: bool) {
    // SAFETY: outside a transaction.
    unsafe {
        pg_sys::pgstat_report_stat(last);
    }
}

/// Names the process in `pg_stat_activity`.
pub fn report_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: the text is copied.
        unsafe {
            pg_sys::pgstat_report_appname(name.as_ptr());
            pg_sys::set_config_option(
                c"application_name".as_ptr(),
                name.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SET,
                true,
                0,
                false,
            );
        }
    }
}

/// Sets a setting for the rest of the process.
pub fn set(name: &CStr, value: &CStr) {
    set_from(name, value, pg_sys::GucSource::PGC_S_OVERRIDE);
}

fn set_from(name: &CStr, value: &CStr, source: pg_sys::GucSource::Type) {
    // SAFETY: both strings end with a zero byte and are copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            source,
        );
    }
}

const PLAN_CACHE: &CStr = c"plan_cache_mode";
const HASHES: &CStr = c"enable_hashjoin";
const MERGES: &CStr = c"enable_mergejoin";
/// How the worker has its own statements planned, once for all their parameters: they look for a few
/// rows by an index, and planning took a seventh of its time. Tables grow under a plan: a scan, or a
/// join that reads all of one, which was right for an empty table must not be kept (and where there
/// must be one, its supposed cost is none that compiling would bring down).
const PLANNING: [(&CStr, &CStr); 5] = [
    (PLAN_CACHE, c"force_generic_plan"),
    (HASHES, c"off"),
    (MERGES, c"off"),
    (c"enable_seqscan", c"off"),
    (c"jit", c"off"),
];

/// Sets it for this process, as a session may; see [`plan_each_time`].
pub fn plan_for_queue() {
    for (name, value) in PLANNING {
        set_from(name, value, pg_sys::GucSource::PGC_S_SESSION);
    }
}

/// Lets plans be made as the database says until the current GUC level ends: for a statement that
/// sets off the application's triggers, whose own statements may need theirs for each parameter.
/// Scans stay unwelcome and compiling off, or a plan for a table that was empty would be kept.
pub fn plan_each_time() -> Result<(), PgError> {
    for name in [PLAN_CACHE, HASHES, MERGES] {
        xact::reset_for_level(name)?;
    }
    Ok(())
}

static APPLICATION_PATH: OnceLock<CString> = OnceLock::new();

/// Pins this worker's `search_path` to the system's own, and remembers the one that sessions of its
/// database start with.
pub fn pin_search_path() {
    // SAFETY: the string is copied at once.
    let path = unsafe {
        let path = pg_sys::GetConfigOption(c"search_path".as_ptr(), true, false);
        if path.is_null() {
            Default::default()
        } else {
            CStr::from_ptr(path).to_string_lossy()
        }
    };
    if let Ok(path) = CString::new(guarded(&path)) {
        let _ = APPLICATION_PATH.set(path);
    }
    set(c"search_path", c"pg_catalog, pg_temp");
}

/// The `search_path` that the application's triggers were written for; in a worker.
pub fn application_search_path() -> CString {
    APPLICATION_PATH
        .get()
        .cloned()
        .unwrap_or_else(|| c"pg_catalog, \"$user\", public, pg_temp".to_owned())
}

/// Pid of this process.
pub fn my_pid() -> i32 {
    // SAFETY: a plain read on the main thread.
    unsafe { pg_sys::MyProcPid }
}

/// Oid of this process's database.
pub fn my_database() -> pg_sys::Oid {
    // SAFETY: a plain read on the main thread.
    unsafe { pg_sys::MyDatabaseId }
}

/// The cluster's system identifier, from pg_control: another cluster has another.
pub fn system_identifier() -> u64 {
    // SAFETY: a plain read of memory that is set at start-up.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Postgres's clock.
pub fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Ends the process with status 0. The launcher, not the postmaster, decides what follows.
pub fn leave() -> ! {
    // SAFETY: runs the exit callbacks; no transaction is open.
    unsafe { pg_sys::proc_exit(0) }
}

/// Whether the library is being loaded by `shared_preload_libraries`.
pub fn preloading() -> bool {
    // SAFETY: plain reads in `_PG_init`.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// A WARNING in the server log, with a hint.
pub fn warn(message: &str, hint: &str) {
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    error::report(
        PgLogLevel::WARNING,
        code,
        message.to_owned(),
        Some(hint.to_owned()),
    );
}
