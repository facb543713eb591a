//! The worker of one database: sleep, look, act, and never leave because of one job.
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pgrx::prelude::*;
use uuid::Uuid;

mod chores;
mod clock;
mod doubt;
mod round;
mod sleep;
mod stay;
mod trouble;
mod under_way;
use chores::Chores;
use clock::Clock;
use doubt::Doubt;
use round::Part;
use trouble::Trouble;

use super::flight::Flight;
use super::pace::Pace;
use super::pool::{Account, Pool, Report};
use super::renewal::Renewal;
use super::rooms::{Breakers, Tally};
use super::standing::{self, Files, Standing};
use super::step::After;
use crate::config::Settings;
use crate::domain::secret::Secret;
use crate::pg::activity::Farewell;
use crate::pg::error::PgError;
use crate::pg::shared::{self, Slot};
use crate::pg::{Oid, process, trigger, xact};
use crate::provider::Flow;
use crate::store::mapped::Mapped;

/// Wait where something is due that could not be claimed: somebody holds its row.
const LOCKED_WAIT: Duration = Duration::from_secs(1);
/// Wait before storing tokens is tried again; it doubles where the table refuses them.
const UNSAVED_WAIT: Duration = Duration::from_millis(500);
const UNSAVED_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often prepared transactions are looked after, while there are any.
const PREPARED_WAIT: Duration = Duration::from_secs(1);
/// Attempts under way for each request at once: most of them rest or wait for a token then.
const FLIGHTS_PER_REQUEST: usize = 16;
/// How long a paused worker waits for what is under way.
const PAUSE_PATIENCE: Duration = Duration::from_secs(3);

/// The worker's whole life.
pub fn run(database: Oid) {
    process::serve_signals();
    process::keep_secret();
    process::connect(Some(database));
    process::report_name("meetlink worker");
    let Some((shared, slot)) = shared::get().and_then(|s| Some((s, s.slot(database)?))) else {
        return;
    };
    if !shared.be_worker(slot, process::now()) {
        return;
    }
    // Whoever has a lock that the worker wants (a DBA, DROP EXTENSION) goes first: the worker gives
    // up before another's deadlock_timeout (1 s by default) is over, and comes back.
    process::set(c"lock_timeout", c"500ms");
    process::set(c"deadlock_timeout", c"10ms");
    process::pin_search_path();
    process::plan_for_queue();
    // Defaults of the database are meant for people's sessions.
    process::set(c"default_transaction_read_only", c"off");
    process::set(c"default_transaction_isolation", c"read committed");
    trigger::ignore_own_writes();
    match Worker::new(slot) {
        Ok(mut worker) => worker.live(),
        Err(error) => {
            slot.note.set(&format!("the worker cannot start: {error}"));
            log!("meetlink worker cannot start: {error}");
        }
    }
}

struct Worker {
    slot: &'static Slot,
    pool: Pool,
    settings: Settings,
    files: Files,
    mapped: Option<Mapped>,
    /// Attempts under way.
    flights: HashMap<Uuid, Flight>,
    /// Which attempts wait for which refresh.
    renewals: HashMap<Account, Renewal>,
    /// Attempts that have a token and wait for room.
    granted: VecDeque<(Flight, Secret)>,
    /// Requests under way.
    sending: Tally,
    /// Until when none is to wait for a place.
    wary_until: Option<Instant>,
    /// What is known of the providers as a whole.
    breakers: Breakers,
    /// Providers that the operator has configured; 0 where that is not known yet.
    configured: usize,
    /// Attempts that go on at a time.
    resting: Vec<(Instant, Uuid, Box<dyn Flow>)>,
    /// Brought by threads and not yet written.
    reports: Vec<Report>,
    /// Tokens that could not be stored yet, and when to try again.
    unsaved: Vec<Report>,
    unsaved_at: Option<Instant>,
    unsaved_wait: Duration,
    had_unsaved: bool,
    /// Whether it has looked around in its database once.
    arrived: bool,
    /// Whether the operator may have mended what jobs wait for.
    fresh: bool,
    /// Whether extension, mapping or pause may have changed.
    changed: bool,
    /// Whether the application's own form and key have opened a token yet.
    proven: Cell<bool>,
    /// When keys that seemed to be missing may be looked for again.
    doubt: Doubt,
    clock: Clock,
    /// Whether the inbox held more than one step takes.
    more_inbox: bool,
    /// When a delivery is due.
    deliver_at: Option<Instant>,
    /// Deliveries under way, by channel.
    parcels: Tally,
    /// Whether the application has, or had before it was detached, a table for notifications.
    own_table: bool,
    /// Whether a notification may be open.
    open: bool,
    /// Whether it is certain that no job waits and nothing is held.
    idle: bool,
    /// Providers of which more tries by hand may wait than were taken.
    hurried: Vec<&'static str>,
    /// Whether jobs only wait for room, as far as it is known.
    backlog: bool,
    /// What jobs wait for.
    pace: Pace,
    /// What is done now and then.
    chores: Chores,
    /// When a job is due that is not under way.
    due: Option<Instant>,
    /// When to look after prepared transactions.
    prepared: Option<Instant>,
    trouble: Option<Trouble>,
    /// Whether the next step has to find the row that stopped the last one.
    careful: bool,
    logged: Option<(Instant, String)>,
    pausing_since: Option<Instant>,
}

impl Worker {
    fn new(slot: &'static Slot) -> std::io::Result<Self> {
        let settings = Settings::read();
        let files = Files::read(&settings, None);
        let worker = Self {
            slot,
            pool: Pool::new()?,
            settings,
            files,
            mapped: None,
            flights: HashMap::new(),
            renewals: HashMap::new(),
            granted: VecDeque::new(),
            sending: Tally::default(),
            wary_until: None,
            breakers: Breakers::default(),
            configured: 0,
            resting: Vec::new(),
            reports: Vec::new(),
            unsaved: Vec::new(),
            unsaved_at: None,
            unsaved_wait: UNSAVED_WAIT,
            had_unsaved: false,
            arrived: false,
            // The server may have been restarted for what the operator mended.
            fresh: true,
            changed: false,
            doubt: Doubt::default(),
            proven: Cell::new(false),
            clock: Clock::new(),
            more_inbox: false,
            deliver_at: Some(Instant::now()),
            parcels: Tally::default(),
            own_table: false,
            open: true,
            idle: false,
            hurried: Vec::new(),
            backlog: false,
            pace: Pace::new(),
            chores: Chores::new(),
            due: None,
            // A predecessor may have known of one.
            prepared: Some(Instant::now()),
            trouble: None,
            careful: false,
            logged: None,
            pausing_since: None,
        };
        worker.complain();
        worker.show_keys();
        Ok(worker)
    }

    fn live(&mut self) {
        loop {
            let reloaded = process::reload_if_asked();
            if reloaded {
                self.settings = Settings::read();
                self.files = Files::read(&self.settings, self.files.client.take());
                self.complain();
                self.show_keys();
                self.proven.set(false);
                self.fresh = true;
                self.chores = Chores::new();
                self.deliver_at = Some(Instant::now());
                self.pool.recall(None);
            }
            // The flags go down before the look, so that whatever comes later raises them again.
            let rung = self.slot.take_wake();
            self.changed |= self.slot.take_changed();
            if self.slot.take_prepared() {
                self.prepared = Some(Instant::now());
            }
            let news = self.collect();
            self.wake_resting();
            let asked = rung || reloaded;
            let again = self.unsaved_at.filter(|_| self.mapped.is_some());
            if asked || again.is_some_and(|at| at <= Instant::now()) {
                self.reports.append(&mut self.unsaved);
                self.unsaved_at = None;
            }
            let waits = self
                .trouble
                .as_ref()
                .is_some_and(|t| t.until > Instant::now());
            // A job that is due says nothing of the inbox, which is long after a burst: rows that were
            // taken lie there until a vacuum.
            let look = asked || self.more_inbox || self.trouble.is_some() || self.is_unsure();
            let time = look || self.is_time();
            let asked = asked || self.has_to_leave();
            if asked || news || (!waits && (time || !self.reports.is_empty())) {
                process::report_activity(true);
                let check = self.changed || self.fresh || self.trouble.is_some();
                match self.act(look, check) {
                    Ok(after) => self.apply(after),
                    Err(error) => self.note_trouble(&error),
                }
            }
            self.hold_back();
            self.rest();
        }
    }

    fn show_keys(&self) {
        self.slot.keys.store(self.files.keys.is_ok(), Relaxed);
    }

    /// One step if there is something to do; `check`: after a look at what there is to work on.
    fn act(&mut self, look: bool, mut check: bool) -> Result<After, PgError> {
        // A table that is altered in the moment between look and step is looked at once more, not
        // for ever: the next wake comes.
        for heed in [true, false] {
            if check || self.pausing_since.is_some() {
                self.look()?;
            }
            if self.mapped.is_some()
                && let Some(step) = self.clock.tell_steps()?
            {
                // Flows know the date of their doubt too.
                self.pool.recall(None);
                let granted = self.granted.iter_mut().map(|(flight, _)| flight);
                for flight in self.flights.values_mut().chain(granted) {
                    flight.claimed.shift_dates(step);
                }
            }
            self.look_after_prepared()?;
            if let Some(mapped) = &self.mapped {
                self.more_inbox |= self.chores.attend(mapped, &self.settings)?;
            }
            if self.mapped.is_none() && self.reports.is_empty() {
                // Nothing is tried any more that could end a trouble.
                (self.trouble, self.careful) = (None, false);
                return Ok(After::default());
            }
            // After trouble the results first, by themselves: what stops claims must not stop them.
            while self.trouble.is_some()
                && !self.reports.is_empty()
                && let Some(after) = self.step(Part::Results, heed)?
            {
                self.apply(after);
            }
            let look = look || self.more_inbox;
            if let Some(after) = self.step(Part::All { look }, heed)? {
                self.careful = false;
                if self.trouble.take().is_some() && self.mapped.is_some() {
                    self.complain();
                }
                return Ok(after);
            }
            check = true;
        }
        Ok(After::default())
    }

    /// Looks at what there is to work on.
    fn look(&mut self) -> Result<(), PgError> {
        let mut arrived = self.arrived;
        let fresh = self.fresh;
        let own: Vec<Uuid> = self.flights.keys().copied().collect();
        // It may set jobs going.
        self.idle = false;
        let standing = xact::transaction(|| standing::look(fresh, &mut arrived, &own))?;
        self.arrived = arrived;
        self.changed = false;
        match standing {
            Standing::Gone => self.leave(Farewell::NotWanted),
            Standing::Paused => self.pause(),
            Standing::Waiting(why) => self.wait_for(&why),
            Standing::Working(config) => {
                self.fresh = false;
                self.take_up(*config);
            }
        }
        Ok(())
    }

    /// COMMIT PREPARED tells nobody, so open prepared transactions are watched.
    fn look_after_prepared(&mut self) -> Result<(), PgError> {
        if self.prepared.is_some_and(|at| at <= Instant::now()) {
            let open = xact::transaction(standing::prepared_transactions_open)?;
            self.prepared = open.then(|| Instant::now() + PREPARED_WAIT);
        }
        Ok(())
    }
}
