//! Shared memory: one slot a database, the launcher's mailbox, and the bell for those who wait.
//!
//! Everything in it is atomic, so that no lock is held when a process dies. A slot is taken and
//! given back by the launcher alone; its worker writes what it shows; any backend rings.

use std::ffi::c_void;
use std::mem::size_of;
use std::ptr::{self, addr_of_mut};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU32};

use pgrx::pg_sys;

use super::activity::{Activity, Farewell};
use super::note::Note;

/// Databases that can have a worker at once.
pub const SLOTS: usize = 128;
const REQUESTS: usize = 64;

/// One database's worker.
pub struct Slot {
    database: AtomicU32,
    pid: AtomicI32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// Set by whoever wants the worker to look; cleared by the worker before it looks.
    wake: AtomicBool,
    /// Set when extension, mapping or pause may have changed.
    changed: AtomicBool,
    /// Set when a transaction that queued something was prepared (two-phase commit).
    prepared: AtomicBool,
    activity: AtomicU8,
    farewell: AtomicU8,
    in_flight: AtomicU32,
    started_at: AtomicI64,
    /// Whether the worker has its keys.
    pub keys: AtomicBool,
    /// The last trouble of the worker as a whole.
    pub note: Note,
}

impl Slot {
    /// Sets the flag and, if nobody had set it yet, the worker's latch.
    ///
    /// Returns whether there is a worker to hear it. `changed`: it must read its configuration.
    pub fn ring(&self, changed: bool) -> bool {
        if changed {
            self.changed.store(true, Release);
        }
        let latch = self.latch.load(Acquire);
        if latch.is_null() {
            return false;
        }
        if !self.wake.swap(true, AcqRel) {
            // SAFETY: the latch is that of a PGPROC, which stays in shared memory for the life of
            // the server; if its process has gone meanwhile, its successor wakes once for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
        // The worker may have left between the load and the flag: it clears the latch first and
        // looks at the flag last, and the launcher looks at the flag before it lets a slot go.
        !self.latch.load(Acquire).is_null()
    }

    /// Takes the wake flag back. To be called before looking for work, never after.
    pub fn take_wake(&self) -> bool {
        self.wake.swap(false, AcqRel)
    }

    /// Takes back the flag that the configuration may have changed.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, AcqRel)
    }

    /// Says that a prepared transaction may hold work.
    pub fn note_prepared(&self) {
        self.prepared.store(true, Release);
    }

    /// Takes the prepared flag back.
    pub fn take_prepared(&self) -> bool {
        self.prepared.swap(false, AcqRel)
    }

    /// Called by the worker when it is ready to hear. `false` when the slot has a worker already.
    fn arrive(&self, started_at: pg_sys::TimestampTz) -> bool {
        // SAFETY: both are set by Postgres before a worker's entry point runs.
        let (pid, latch) = unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch) };
        if self.pid.compare_exchange(0, pid, AcqRel, Acquire).is_err() {
            return false;
        }
        self.farewell.store(Farewell::None as u8, Release);
        self.in_flight.store(0, Relaxed);
        self.started_at.store(started_at, Relaxed);
        self.activity.store(Activity::Starting as u8, Relaxed);
        self.note.set("");
        self.latch.store(latch, Release);
        // Whatever was queued before is found by the first look.
        self.changed.store(true, Release);
        self.wake.store(true, Release);
        true
    }

    /// Called at the worker's exit, on whatever path.
    fn leave(&self) {
        self.latch.store(ptr::null_mut(), Release);
        self.pid.store(0, Release);
        self.in_flight.store(0, Relaxed);
    }

    /// Says why the worker leaves.
    pub fn bid(&self, farewell: Farewell) {
        self.farewell.store(farewell as u8, Release);
    }

    /// Whether the last worker left because of a pause.
    pub fn is_paused(&self) -> bool {
        self.farewell.load(Acquire) == Farewell::Paused as u8
    }

    /// Whether the last worker said that none is wanted.
    pub fn not_wanted(&self) -> bool {
        self.farewell.load(Acquire) == Farewell::NotWanted as u8
    }

    /// Shows what the worker does.
    pub fn show(&self, activity: Activity, in_flight: usize) {
        self.activity.store(activity as u8, Relaxed);
        self.in_flight.store(in_flight as u32, Relaxed);
    }

    /// Pid, start, activity and requests in flight.
    pub fn glance(&self) -> (i32, pg_sys::TimestampTz, Activity, u32) {
        (
            self.pid.load(Acquire),
            self.started_at.load(Relaxed),
            Activity::from_u8(self.activity.load(Relaxed)),
            self.in_flight.load(Relaxed),
        )
    }

    /// The database that the slot belongs to.
    pub fn database(&self) -> Option<pg_sys::Oid> {
        match self.database.load(Acquire) {
            0 => None,
            oid => Some(pg_sys::Oid::from(oid)),
        }
    }

    /// Whether a wake came that no worker has taken.
    pub fn is_rung(&self) -> bool {
        self.wake.load(Acquire)
    }
}

/// The whole segment.
pub struct Shared {
    launcher: AtomicPtr<pg_sys::Latch>,
    requests: [AtomicU32; REQUESTS],
    overflow: AtomicBool,
    slots: [Slot; SLOTS],
    bell: pg_sys::ConditionVariable,
}

static SEGMENT: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

/// The segment, or `None` when the library was not preloaded.
pub fn get() -> Option<&'static Shared> {
    // SAFETY: set once by the startup hook to an initialised segment that is never unmapped.
    unsafe { SEGMENT.load(Acquire).as_ref() }
}

impl Shared {
    /// The slot of a database.
    pub fn slot(&self, database: pg_sys::Oid) -> Option<&Slot> {
        let oid = database.to_u32();
        self.slots
            .iter()
            .find(|slot| slot.database.load(Acquire) == oid)
    }

    /// Takes a free slot for a database, or returns the one it has. Launcher only.
    pub fn take_slot(&self, database: pg_sys::Oid) -> Option<&Slot> {
        if let Some(slot) = self.slot(database) {
            return Some(slot);
        }
        let free = self.slots.iter().find(|s| s.database.load(Acquire) == 0)?;
        free.leave();
        free.activity.store(Activity::Absent as u8, Relaxed);
        free.farewell.store(Farewell::None as u8, Relaxed);
        free.wake.store(false, Relaxed);
        free.prepared.store(false, Relaxed);
        free.note.set("");
        free.database.store(database.to_u32(), Release);
        Some(free)
    }

    /// Gives a slot back. Launcher only.
    pub fn free_slot(&self, slot: &Slot) {
        slot.database.store(0, Release);
    }

    /// Every slot in use.
    pub fn used(&self) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .filter(|slot| slot.database.load(Acquire) != 0)
    }

    /// Asks the launcher for a worker in a database.
    pub fn request_worker(&self, database: pg_sys::Oid) {
        let oid = database.to_u32();
        let placed = self.requests.iter().any(|cell| {
            let taken = cell.compare_exchange(0, oid, AcqRel, Acquire);
            taken.is_ok() || taken == Err(oid)
        });
        if !placed {
            self.overflow.store(true, Release);
        }
        self.ring_launcher();
    }

    /// Sets the launcher's latch.
    pub fn ring_launcher(&self) {
        let latch = self.launcher.load(Acquire);
        if !latch.is_null() {
            // SAFETY: as in `Slot::ring`.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// The databases asked for since the last call, and whether more were asked for than fit.
    pub fn take_requests(&self) -> (Vec<pg_sys::Oid>, bool) {
        let overflow = self.overflow.swap(false, AcqRel);
        let oids = self
            .requests
            .iter()
            .map(|cell| cell.swap(0, AcqRel))
            .filter(|oid| *oid != 0)
            .map(pg_sys::Oid::from)
            .collect();
        (oids, overflow)
    }

    /// Makes the calling process the launcher; undone at its exit.
    pub fn be_launcher(&self) {
        // SAFETY: MyLatch is set before a worker's entry point runs; the callback touches shared
        // memory only, and runs before it is detached.
        unsafe {
            self.launcher.store(pg_sys::MyLatch, Release);
            pg_sys::before_shmem_exit(Some(launcher_leaves), pg_sys::Datum::from(0usize));
        }
    }

    /// Makes the calling process the worker of a slot; undone at its exit. `false` when the slot
    /// has a worker already: there must never be two.
    pub fn be_worker(&self, slot: &Slot, started_at: pg_sys::TimestampTz) -> bool {
        if !slot.arrive(started_at) {
            return false;
        }
        let argument = pg_sys::Datum::from(ptr::from_ref(slot).cast::<c_void>() as usize);
        // SAFETY: as above; the argument is an address in the segment.
        unsafe { pg_sys::before_shmem_exit(Some(worker_leaves), argument) };
        true
    }

    /// Wakes everybody who waits for a link.
    pub fn ring_bell(&self) {
        // SAFETY: the variable was initialised by the startup hook.
        unsafe { pg_sys::ConditionVariableBroadcast(ptr::from_ref(&self.bell).cast_mut()) };
    }

    /// Starts listening for the bell: what happens after this call is not missed.
    pub fn listen(&self) {
        // SAFETY: as above.
        unsafe { pg_sys::ConditionVariablePrepareToSleep(ptr::from_ref(&self.bell).cast_mut()) };
    }

    /// Sleeps until the bell rings, at most `milliseconds`. Interrupts are served.
    pub fn sleep(&self, milliseconds: i64) {
        // SAFETY: as above.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(
                ptr::from_ref(&self.bell).cast_mut(),
                milliseconds,
                pg_sys::PG_WAIT_EXTENSION,
            );
        }
    }

    /// Ends listening.
    pub fn stop_listening(&self) {
        // SAFETY: allowed whether or not the process listens.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn launcher_leaves(_code: i32, _argument: pg_sys::Datum) {
    if let Some(shared) = get() {
        shared.launcher.store(ptr::null_mut(), Release);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn worker_leaves(_code: i32, argument: pg_sys::Datum) {
    // SAFETY: the argument was made from a slot of the segment, which is still mapped here.
    if let Some(slot) = unsafe { (argument.value() as *const Slot).as_ref() } {
        slot.leave();
    }
    if let Some(shared) = get() {
        shared.ring_launcher();
    }
}

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Installs the hooks that reserve and initialise the segment. Called while preloading.
pub fn install() {
    // SAFETY: `_PG_init` runs in the postmaster, single-threaded, once.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: called by the postmaster at the time for it; the previous hook is called first.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size_of::<Shared>());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: runs under the postmaster's start-up, before any other process exists (and again
    // after a crash). All-zero bytes are a valid `Shared` but for the condition variable, which is
    // initialised in place.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        let mut found = false;
        let segment =
            pg_sys::ShmemInitStruct(c"meetlink".as_ptr(), size_of::<Shared>(), &mut found)
                .cast::<Shared>();
        if !found {
            ptr::write_bytes(segment, 0, 1);
            pg_sys::ConditionVariableInit(addr_of_mut!((*segment).bell));
        }
        SEGMENT.store(segment, Release);
    }
}
