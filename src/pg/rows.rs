//! Rows of a trigger call: tuples, and transition tables.

use pgrx::pg_sys;

use super::interrupts;

/// A row, wherever it stands.
pub enum Row {
    /// A tuple of its own.
    Tuple(pg_sys::HeapTuple, pg_sys::TupleDesc),
    /// A row of a tuple store.
    Slot(*mut pg_sys::TupleTableSlot),
}

impl Row {
    /// Value of an attribute, or `None` for NULL.
    ///
    /// # Safety
    /// The tuple or slot must be valid and have the attribute.
    pub unsafe fn get(&self, number: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: by contract.
        unsafe {
            match *self {
                Row::Tuple(tuple, descriptor) => {
                    let value = pg_sys::SPI_getbinval(tuple, descriptor, number, &mut is_null);
                    (!is_null).then_some(value)
                }
                Row::Slot(slot) => {
                    if i32::from((*slot).tts_nvalid) < number {
                        pg_sys::slot_getsomeattrs_int(slot, number);
                    }
                    let at = (number - 1) as usize;
                    (!*(*slot).tts_isnull.add(at)).then(|| *(*slot).tts_values.add(at))
                }
            }
        }
    }
}

/// A transition table, walked through with a read pointer of our own: other triggers share it.
struct Transition {
    table: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Transition {
    /// # Safety
    /// The table must be one of the current trigger call, the descriptor that of its rows.
    unsafe fn open(table: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: by contract; the slot is dropped in `close` (or with its memory context on an
        // error).
        unsafe {
            let flags = pg_sys::EXEC_FLAG_REWIND as i32;
            let pointer = pg_sys::tuplestore_alloc_read_pointer(table, flags);
            pg_sys::tuplestore_select_read_pointer(table, pointer);
            pg_sys::tuplestore_rescan(table);
            let operations = &raw const pg_sys::TTSOpsMinimalTuple;
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, operations);
            Self {
                table,
                pointer,
                slot,
            }
        }
    }

    /// The next row, which is valid until the next call.
    unsafe fn next(&mut self) -> Option<Row> {
        // SAFETY: opened above; another trigger may have selected its own pointer meanwhile.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.table, self.pointer);
            pg_sys::tuplestore_gettupleslot(self.table, true, false, self.slot)
                .then_some(Row::Slot(self.slot))
        }
    }

    unsafe fn close(self) {
        // SAFETY: made in `open`.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }
}

/// Walks through a transition table.
///
/// # Safety
/// As for [`Transition::open`]; a null table has no rows.
pub unsafe fn each_row(
    table: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    mut f: impl FnMut(&Row),
) {
    if table.is_null() {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        let mut rows = Transition::open(table, descriptor);
        while let Some(row) = rows.next() {
            interrupts::check();
            f(&row);
        }
        rows.close();
    }
}

/// Walks through old and new rows side by side: the executor appends both for each row that it
/// updates, also for one that moves to another partition (src/backend/commands/trigger.c,
/// `AfterTriggerSaveEvent`; src/backend/executor/nodeModifyTable.c, `ExecCrossPartitionUpdate`).
///
/// # Safety
/// As for [`Transition::open`]; where a table is null there are no pairs.
pub unsafe fn each_pair(
    before: *mut pg_sys::Tuplestorestate,
    after: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    mut f: impl FnMut(Option<&Row>, &Row),
) {
    if before.is_null() || after.is_null() {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        let mut old_rows = Transition::open(before, descriptor);
        let mut new_rows = Transition::open(after, descriptor);
        while let Some(new) = new_rows.next() {
            interrupts::check();
            f(old_rows.next().as_ref(), &new);
        }
        old_rows.close();
        new_rows.close();
    }
}
