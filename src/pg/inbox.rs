//! `meetlink.inbox` without the executor: a trigger appends, the worker takes. The table has no index,
//! no trigger and no constraint that this would skip.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::error::PgError;
use super::{EPOCHS_APART, extension, to_uuid};

/// Columns in order: session_id, tutor_id, wish, queued_at.
const COLUMNS: usize = 4;
/// `wish` of a row that a trigger wrote; see `store::inbox`.
const WISH_CHANGED: i16 = 0;
/// So often a look begins at the front of the table.
const LOOKS: u32 = 100;

thread_local! {
    /// Where the next look begins, and how many are left before one at the front. What was taken
    /// lies there dead until a vacuum: a long inbox would be gone through from its front each time.
    static PLACE: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

const MISSING: &str = "table meetlink.inbox is missing";
const OTHER_VERSION: &str = "meetlink's library and its SQL objects are of different versions";

/// Opens the table; whoever calls closes it.
fn open() -> Result<pg_sys::Relation, &'static str> {
    let oid = extension::relation(c"inbox").ok_or(MISSING)?;
    let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: inside a transaction; on a raised error its end closes the table.
    unsafe {
        let relation = pg_sys::try_table_open(oid, lock);
        if relation.is_null() {
            return Err(MISSING);
        }
        if !is_inbox((*relation).rd_att) {
            pg_sys::table_close(relation, lock);
            return Err(OTHER_VERSION);
        }
        Ok(relation)
    }
}

/// Whether a table has these columns.
unsafe fn is_inbox(descriptor: pg_sys::TupleDesc) -> bool {
    const TYPES: [pg_sys::Oid; COLUMNS] = [
        pg_sys::UUIDOID,
        pg_sys::UUIDOID,
        pg_sys::INT2OID,
        pg_sys::TIMESTAMPTZOID,
    ];
    // SAFETY: attribute numbers are from 1 to natts.
    unsafe {
        (*descriptor).natts as usize == COLUMNS
            && (1..)
                .zip(TYPES)
                .all(|(at, wanted)| pg_sys::SPI_gettypeid(descriptor, at) == wanted)
    }
}

/// The table, open for appending.
pub struct Inbox {
    relation: pg_sys::Relation,
    is_session: bool,
    count: usize,
}

impl Inbox {
    /// Opens it for ids of sessions, or of tutors.
    pub fn open(is_session: bool) -> Result<Self, &'static str> {
        Ok(Self {
            relation: open()?,
            is_session,
            count: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Safety
    /// The datum must be a uuid.
    pub unsafe fn add(&mut self, id: pg_sys::Datum) {
        let none = pg_sys::Datum::from(0usize);
        let is_session = self.is_session;
        // SAFETY: values and types are those of the table, which was looked at.
        unsafe {
            let mut values = [
                if is_session { id } else { none },
                if is_session { none } else { id },
                pg_sys::Datum::from(WISH_CHANGED),
                pg_sys::Datum::from(pg_sys::GetCurrentTransactionStartTimestamp()),
            ];
            let mut nulls = [!is_session, is_session, false, false];
            let descriptor = (*self.relation).rd_att;
            let tuple =
                pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let command = pg_sys::GetCurrentCommandId(true);
            pg_sys::heap_insert(self.relation, tuple, command, 0, std::ptr::null_mut());
            pg_sys::heap_freetuple(tuple);
        }
        self.count += 1;
    }

    /// Closes the table, keeping the lock to the end of the transaction as any INSERT does; gives
    /// how many rows were appended.
    pub fn close(self) -> usize {
        // SAFETY: opened in `open`.
        unsafe {
            pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
        self.count
    }
}

/// A row.
pub struct Entry {
    /// A session.
    pub session: Option<uuid::Uuid>,
    /// A tutor.
    pub tutor: Option<uuid::Uuid>,
    /// Why it is there; see `store::inbox`.
    pub wish: i16,
    /// Since when, in microseconds since the Unix epoch.
    pub queued_at: i64,
}

/// Deletes and gives rows, so many at most. One that somebody else is changing is waited for, and left
/// alone.
pub fn take(most: usize) -> Result<Vec<Entry>, PgError> {
    use pg_sys::ScanOptions::{SO_ALLOW_PAGEMODE, SO_ALLOW_STRAT, SO_TYPE_SEQSCAN};
    let code = PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE;
    let relation = open().map_err(|error| PgError::new(code, error))?;
    let flags = SO_TYPE_SEQSCAN | SO_ALLOW_STRAT | SO_ALLOW_PAGEMODE;
    let mut entries = Vec::new();
    // SAFETY: inside a transaction, whose end lets go of everything if an error is raised. A tuple
    // of the scan is valid until the next one; its values were checked to be of these types.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot());
        let none = std::ptr::null_mut();
        let scan = pg_sys::heap_beginscan(relation, snapshot, 0, none, std::ptr::null_mut(), flags);
        let blocks = (*scan.cast::<pg_sys::HeapScanDescData>()).rs_nblocks;
        let (mut place, left) = PLACE.get();
        if left == 0 || place >= blocks {
            place = 0;
        }
        // From there to the end, and then from the front.
        pg_sys::heap_setscanlimits(scan, place, pg_sys::InvalidBlockNumber);
        let descriptor = (*relation).rd_att;
        while entries.len() < most {
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let tuple = pg_sys::heap_getnext(scan, forward);
            if tuple.is_null() {
                break;
            }
            let mut values = [pg_sys::Datum::from(0usize); COLUMNS];
            let mut nulls = [true; COLUMNS];
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let entry = Entry {
                session: uuid(values[0], nulls[0]),
                tutor: uuid(values[1], nulls[1]),
                wish: i16::from_datum(values[2], nulls[2]).unwrap_or_default(),
                queued_at: i64::from_datum(values[3], nulls[3])
                    .unwrap_or_default()
                    .saturating_add(EPOCHS_APART),
            };
            let id = &raw mut (*tuple).t_self;
            let command = pg_sys::GetCurrentCommandId(true);
            let mut why = pg_sys::TM_FailureData::default();
            let (check, wait) = (std::ptr::null_mut(), true);
            let deleted =
                pg_sys::heap_delete(relation, id, command, check, wait, &raw mut why, false);
            if deleted == pg_sys::TM_Result::TM_Ok {
                entries.push(entry);
                place = pgrx::itemptr::item_pointer_get_block_number(id);
            }
        }
        let left = left.checked_sub(1).unwrap_or(LOOKS);
        PLACE.set(if entries.len() < most {
            (0, 0)
        } else {
            (place, left)
        });
        pg_sys::heap_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        pg_sys::CommandCounterIncrement();
    }
    Ok(entries)
}

unsafe fn uuid(value: pg_sys::Datum, is_null: bool) -> Option<uuid::Uuid> {
    // SAFETY: by contract a uuid.
    unsafe { pgrx::Uuid::from_datum(value, is_null) }.map(to_uuid)
}
