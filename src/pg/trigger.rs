//! The trigger on the application's tables: a row into `meetlink.inbox`, in its transaction.
//!
//! This is the only code of ours that runs while a booking is made, so it does the least there is:
//! no query, no key, no look at the queue, no lock that anybody waits for. It writes as the table
//! access method does, without the executor, and so needs no privilege of the inserting role. What
//! it cannot do it says in a WARNING; the booking goes on.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::inbox::Inbox;
use super::rows::{Row, each_pair, each_row};
use super::{error, extension, interrupts, wake};

/// What the trigger's first argument says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Second argument: the session's id; third and fourth: link and external id; then the
    /// columns whose change counts.
    Session,
    /// Second argument: the tutor's id; then the columns whose change counts.
    Tutor,
}

thread_local! {
    static OWN_WRITES: Cell<bool> = const { Cell::new(false) };
    /// Depth of nested triggers at which a write is one that nobody need notice.
    static UNNOTICED: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Makes this process's own links and tokens go unnoticed: the worker knows of them.
pub fn ignore_own_writes() {
    OWN_WRITES.set(true);
}

/// Runs `f`, whose writes to connections change nothing that a worker has to know of.
pub fn unnoticed<T>(f: impl FnOnce() -> T) -> T {
    struct Back(Option<i32>);
    // On a raised error too: pgrx turns it into an unwinding panic.
    impl Drop for Back {
        fn drop(&mut self) {
            UNNOTICED.set(self.0);
        }
    }
    // What a trigger of the application does then is one level deeper, and is noticed.
    let _back = Back(UNNOTICED.replace(Some(depth() + 1)));
    f()
}

/// How many triggers are running, one inside the other.
fn depth() -> i32 {
    // SAFETY: gives a number and looks at none of its arguments (src/backend/commands/trigger.c).
    let depth = unsafe { pg_sys::pg_trigger_depth(std::ptr::null_mut()) };
    depth.value() as i32
}

// src/include/utils/datum.h, which pgrx has no binding for. Compares bytes and raises nothing.
unsafe extern "C-unwind" {
    fn datumIsEqual(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_meetlink_enqueue() -> *const pg_sys::Pg_finfo_record {
    const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &RECORD
}

/// `meetlink.enqueue()`: AFTER INSERT (statement, with a transition table) or AFTER INSERT OR
/// UPDATE (row).
///
/// # Safety
/// Called by Postgres's function manager.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn meetlink_enqueue(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the context of a trigger call is a TriggerData, checked by its tag.
    let data = unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            error!("meetlink.enqueue() can only be called as a trigger");
        }
        &*context.cast::<pg_sys::TriggerData>()
    };
    // SAFETY: `data` is a whole TriggerData for the time of the call.
    if let Err(trouble) = unsafe { enqueue(data) } {
        error::report(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("meetlink did not queue this row: {trouble}"),
            Some(
                "The row itself is stored. Call meetlink_attach() with the same arguments as before \
                 (they are in meetlink.config), then meetlink_create_missing()."
                    .to_owned(),
            ),
        );
    }
    pg_sys::Datum::from(0usize)
}

unsafe fn enqueue(data: &pg_sys::TriggerData) -> Result<(), &'static str> {
    // Called for each of a million rows, nobody else looks.
    interrupts::check();
    // SAFETY: the trigger, its arguments and the relation live for the time of the call.
    let (arguments, descriptor) = unsafe {
        let trigger = &*data.tg_trigger;
        let count = usize::try_from(trigger.tgnargs).unwrap_or(0);
        let arguments: Vec<&CStr> = (0..count)
            .map(|at| CStr::from_ptr(*trigger.tgargs.add(at)))
            .collect();
        (arguments, (*data.tg_relation).rd_att)
    };
    if arguments.first() == Some(&c"config") {
        // SAFETY: the relation is open for the time of the call.
        let table = unsafe { (*data.tg_relation).rd_id };
        let own = [c"config", c"home"].map(extension::relation);
        if !own.contains(&Some(table)) {
            return Err("this trigger is for a table of meetlink's own");
        }
        wake::reconfigure_at_commit();
        return Ok(());
    }
    let (subject, columns) = match arguments.split_first() {
        Some((kind, rest)) if *kind == c"session" => (Subject::Session, rest),
        Some((kind, rest)) if *kind == c"tutor" => (Subject::Tutor, rest),
        _ => return Err("its trigger was made by another version of meetlink"),
    };
    if subject == Subject::Tutor
        && (OWN_WRITES.get() || UNNOTICED.get().is_some_and(|own| own == depth()))
    {
        return Ok(());
    }
    let mut numbers = Vec::with_capacity(columns.len());
    for name in columns {
        // SAFETY: the descriptor is that of the open relation.
        let number = unsafe { pg_sys::SPI_fnumber(descriptor, name.as_ptr()) };
        if number <= 0 {
            return Err("a mapped column was renamed or dropped");
        }
        numbers.push(number);
    }
    let (Some(&id), watched) = (numbers.first(), numbers.get(1..).unwrap_or(&[])) else {
        return Err("its trigger was made by another version of meetlink");
    };
    // SAFETY: attribute numbers were just looked up.
    if unsafe { pg_sys::SPI_gettypeid(descriptor, id) } != pg_sys::UUIDOID {
        return Err("the mapped id is no longer of type uuid");
    }

    let event = data.tg_event;
    let for_row = event & pg_sys::TRIGGER_EVENT_ROW != 0;
    let is_update = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
    let mut inbox = Inbox::open(subject == Subject::Session)?;
    // SAFETY: tuples and transition table belong to the call; the descriptor is theirs.
    unsafe {
        if for_row {
            let (new, old) = if is_update {
                (data.tg_newtuple, Some(data.tg_trigtuple))
            } else {
                (data.tg_trigtuple, None)
            };
            let values = Row::Tuple(new, descriptor);
            let old = old.map(|old| Row::Tuple(old, descriptor));
            let relevant = concerns(subject, descriptor, old.as_ref(), &values, watched);
            if relevant && let Some(id) = values.get(id) {
                inbox.add(id);
            }
        } else if is_update {
            each_pair(
                data.tg_oldtable,
                data.tg_newtable,
                descriptor,
                |old, new| {
                    // Rows that do not belong together say nothing of each other.
                    let old = old.filter(|old| !changed(descriptor, old, new, &[id]));
                    if concerns(subject, descriptor, old, new, watched)
                        && let Some(id) = new.get(id)
                    {
                        inbox.add(id);
                    }
                },
            );
        } else {
            each_row(data.tg_newtable, descriptor, |row| {
                if wants(subject, row, watched)
                    && let Some(id) = row.get(id)
                {
                    inbox.add(id);
                }
            });
        }
    }
    if inbox.close() > 0 {
        wake::worker_at_commit();
    }
    Ok(())
}

/// Whether the row can be of interest: a session that has its link is not.
unsafe fn wants(subject: Subject, row: &Row, watched: &[i32]) -> bool {
    // SAFETY: passed on.
    subject == Subject::Tutor
        || watched
            .iter()
            .take(2)
            .any(|number| unsafe { row.get(*number).is_none() })
}

/// Whether a row that was inserted (no old one) or updated is news to the worker.
unsafe fn concerns(
    subject: Subject,
    descriptor: pg_sys::TupleDesc,
    old: Option<&Row>,
    new: &Row,
    watched: &[i32],
) -> bool {
    // SAFETY: passed on.
    unsafe {
        match old {
            None => wants(subject, new, watched),
            Some(old) if wants(subject, new, watched) => changed(descriptor, old, new, watched),
            // A link that somebody else filled in: whoever waits for it is to be told.
            Some(old) => !OWN_WRITES.get() && wants(subject, old, watched),
        }
    }
}

/// Whether a watched column differs. Toasted values are compared as they are stored: at worst the
/// worker looks at a row once too often.
unsafe fn changed(descriptor: pg_sys::TupleDesc, old: &Row, new: &Row, watched: &[i32]) -> bool {
    watched.iter().any(|number| {
        // SAFETY: attribute numbers are from 1 and belong to the descriptor.
        unsafe {
            let attribute = &*(*descriptor).attrs.as_ptr().add((*number - 1) as usize);
            match (old.get(*number), new.get(*number)) {
                (None, None) => false,
                (Some(old), Some(new)) => {
                    !datumIsEqual(old, new, attribute.attbyval, attribute.attlen.into())
                }
                _ => true,
            }
        }
    })
}
