//! The launcher: starts a worker where the extension is, and again when one dies.
//!
//! It is connected to no database, sleeps on its latch, and wakes for three things: a backend that
//! asks for a worker, a worker that ended, and a restart that is due.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::pg::Oid;
use pgrx::prelude::*;

use crate::pg::activity::Activity;
use crate::pg::catalog;
use crate::pg::process::{self, Child};
use crate::pg::shared::{self, Shared};

/// Wait before a worker that died is started again; doubles while it keeps dying young.
const RESTART_AFTER: Duration = Duration::from_millis(500);
const RESTART_AT_MOST: Duration = Duration::from_secs(60);
/// A worker that lived this long died of something new.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// Wait before asking again for a free place among `max_worker_processes`.
const PLACE_AFTER: Duration = Duration::from_secs(5);
/// Probes under way at once after a start: each is a connection for a moment.
const PROBES: usize = 4;

struct Entry {
    /// The process, if this launcher started it.
    child: Option<Child>,
    started: Instant,
    /// When to start one; `None` while one is there or none is wanted.
    due: Option<Instant>,
    wait: Duration,
    /// Whether one was asked for while the last one was still there, perhaps leaving.
    asked: bool,
    /// Whether the missing place was reported.
    reported: bool,
}

/// The launcher's whole life.
pub fn run() {
    process::serve_signals();
    process::connect(None);
    process::report_name("meetlink launcher");
    let Some(shared) = shared::get() else {
        return;
    };
    shared.be_launcher();
    let mut entries: HashMap<Oid, Entry> = HashMap::new();
    adopt_living(shared, &mut entries);
    want_all(shared, &mut entries);
    loop {
        let (asked, overflow) = shared.take_requests();
        for database in asked {
            want(shared, &mut entries, database);
        }
        if overflow {
            want_all(shared, &mut entries);
        }
        watch(shared, &mut entries);
        if start_due(shared, &mut entries) || overflow {
            // Reading a catalog may have waited for a lock and reset the latch: look again.
            continue;
        }
        let next = entries.values().filter_map(|entry| entry.due).min();
        process::report_activity(false);
        process::sleep(
            None,
            next.map(|due| due.saturating_duration_since(Instant::now())),
        );
        process::reload_if_asked();
    }
}

/// After a restart of the launcher alone, workers of its predecessor may be at work.
fn adopt_living(shared: &'static Shared, entries: &mut HashMap<Oid, Entry>) {
    for slot in shared.used() {
        if let Some(database) = slot.database() {
            want(shared, entries, database);
        }
    }
}

/// Puts a database down for a worker, unless one is there.
fn want(shared: &'static Shared, entries: &mut HashMap<Oid, Entry>, database: Oid) {
    let now = Instant::now();
    let lives = shared
        .slot(database)
        .is_some_and(|slot| slot.glance().0 != 0);
    let entry = entries.entry(database).or_insert(Entry {
        child: None,
        started: now,
        due: None,
        wait: RESTART_AFTER,
        asked: false,
        reported: false,
    });
    if lives || entry.child.is_some() {
        // It may be leaving: whoever asks must not be forgotten then.
        entry.asked = true;
    } else if entry.due.is_none() {
        entry.due = Some(now);
    }
}

fn want_all(shared: &'static Shared, entries: &mut HashMap<Oid, Entry>) {
    match catalog::connectable_databases() {
        Ok(databases) => databases
            .into_iter()
            .for_each(|database| want(shared, entries, database)),
        Err(error) => log!("meetlink launcher could not list the databases: {error}"),
    }
}

/// Sees which workers have ended, and decides what follows.
fn watch(shared: &'static Shared, entries: &mut HashMap<Oid, Entry>) {
    let now = Instant::now();
    let mut over = Vec::new();
    for (database, entry) in entries.iter_mut() {
        let gone = match &entry.child {
            Some(child) => child.is_gone(),
            // A worker that an earlier launcher started.
            None => {
                entry.due.is_none()
                    && shared
                        .slot(*database)
                        .is_none_or(|slot| slot.glance().0 == 0)
            }
        };
        if !gone {
            continue;
        }
        entry.child = None;
        if shared
            .slot(*database)
            .is_some_and(|slot| slot.glance().0 != 0)
        {
            // A second one that left at once: the first is at work.
            continue;
        }
        let Some(slot) = shared.slot(*database) else {
            over.push(*database);
            continue;
        };
        let asked = std::mem::take(&mut entry.asked);
        if (slot.not_wanted() || slot.is_paused()) && !slot.is_rung() && !asked {
            if slot.is_paused() {
                // The slot stays, so that bookings know of the pause.
                slot.show(Activity::Paused, 0);
            } else {
                shared.free_slot(slot);
            }
            over.push(*database);
            continue;
        }
        if entry.due.is_none() {
            if entry.started.elapsed() > LONG_LIFE || slot.not_wanted() {
                entry.wait = RESTART_AFTER;
            }
            slot.show(Activity::Restarting, 0);
            let wait = if slot.not_wanted() || slot.is_paused() {
                Duration::ZERO
            } else {
                entry.wait
            };
            entry.due = Some(now + wait);
            entry.wait = (entry.wait * 2).min(RESTART_AT_MOST);
        }
    }
    for database in over {
        entries.remove(&database);
    }
}

/// Starts the workers that are due; gives whether it looked at the catalog for that.
fn start_due(shared: &'static Shared, entries: &mut HashMap<Oid, Entry>) -> bool {
    let now = Instant::now();
    if !entries
        .values()
        .any(|entry| entry.due.is_some_and(|due| due <= now))
    {
        return false;
    }
    // A database that was dropped meanwhile is wanted by nobody.
    let Ok(existing) = catalog::connectable_databases() else {
        entries.values_mut().for_each(|entry| {
            entry.due = entry.due.map(|due| due.max(now + PLACE_AFTER));
        });
        return true;
    };
    for slot in shared.used() {
        let database = slot.database();
        let known = database.is_some_and(|d| entries.contains_key(&d) || existing.contains(&d));
        if !known && slot.glance().0 == 0 {
            shared.free_slot(slot);
        }
    }
    entries.retain(|database, entry| {
        let there = existing.contains(database);
        if !there
            && entry.child.is_none()
            && let Some(slot) = shared.slot(*database)
        {
            shared.free_slot(slot);
        }
        there || entry.child.is_some()
    });
    let probing = |entries: &HashMap<Oid, Entry>| {
        let fresh = entries.iter().filter(|(database, entry)| {
            entry.child.is_some()
                && shared
                    .slot(**database)
                    .is_some_and(|slot| slot.glance().0 == 0)
        });
        fresh.count()
    };
    let mut room = PROBES.saturating_sub(probing(entries));
    for (database, entry) in entries.iter_mut() {
        if entry.due.is_none_or(|due| due > now) {
            continue;
        }
        if room == 0 {
            // The end of a probe wakes the launcher; until then nothing is due.
            entry.due = Some(now + Duration::from_millis(50));
            continue;
        }
        let Some(slot) = shared.take_slot(*database) else {
            entry.due = Some(now + PLACE_AFTER);
            report(entry, "every slot for a database is taken");
            continue;
        };
        match process::start_worker(*database) {
            Some(child) => {
                slot.show(Activity::Starting, 0);
                entry.child = Some(child);
                entry.started = now;
                entry.due = None;
                entry.reported = false;
                room -= 1;
            }
            None => {
                slot.note
                    .set("no free place for a worker; raise max_worker_processes");
                entry.due = Some(now + PLACE_AFTER);
                report(entry, "max_worker_processes is used up");
            }
        }
    }
    true
}

fn report(entry: &mut Entry, cause: &str) {
    if !entry.reported {
        entry.reported = true;
        process::warn(
            &format!("meetlink could not start a worker: {cause}"),
            "Raise max_worker_processes in postgresql.conf and restart the server; meetlink tries \
             again every 5 seconds.",
        );
    }
}
