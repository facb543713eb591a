//! The worker of one database: sleep, look, act, and never leave because of one job.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

use super::flight::Flight;
use super::pool::{Account, End, Pool, Report, Work};
use super::step::{After, View, step};
use crate::config::Settings;
use crate::domain::keyring::KeyRing;
use crate::domain::secret::Secret;
use crate::keyfile;
use crate::net::Client;
use crate::pg::error::PgError;
use crate::pg::process;
use crate::pg::shared::{self, Activity, Farewell, Slot};
use crate::pg::{extension, trigger, xact};
use crate::provider::Flow;
use crate::store::config::{self, Config};
use crate::store::mapped::Mapped;
use crate::store::{inbox, jobs};

/// Wait after a failed step; doubles.
const TROUBLE_WAIT: Duration = Duration::from_millis(100);
const TROUBLE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often a prepared transaction is looked after.
const PREPARED_WAIT: Duration = Duration::from_secs(1);
/// How long a paused worker waits for what is under way.
const PAUSE_PATIENCE: Duration = Duration::from_secs(3);

/// What a look at the configuration says.
enum Standing {
    /// The extension is not in this database.
    Gone,
    /// `meetlink_pause()` holds.
    Paused,
    /// Something has to happen first; the text says what.
    Waiting(&'static str),
    /// To work.
    Working(Box<Config>),
}

/// The worker's whole life.
pub fn run(database: pg_sys::Oid) {
    process::serve_signals();
    process::connect(Some(database));
    process::report_name("meetlink worker");
    let Some((shared, slot)) = shared::get().and_then(|s| Some((s, s.slot(database)?))) else {
        return;
    };
    if !shared.be_worker(slot, process::now()) {
        return;
    }
    trigger::ignore_own_connection_writes();
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
    keys: Result<Arc<KeyRing>, String>,
    client: Result<Arc<Client>, String>,
    mapped: Option<Mapped>,
    flights: HashMap<Uuid, Flight>,
    /// Which attempts wait for which refresh.
    renewals: HashMap<Account, Vec<Uuid>>,
    /// Attempts that go on at a time.
    resting: Vec<(Instant, Uuid, Box<dyn Flow>)>,
    /// Brought by threads and not yet written.
    reports: Vec<Report>,
    taken_back: bool,
    trouble: Option<(Instant, Duration)>,
    pausing_since: Option<Instant>,
}

impl Worker {
    fn new(slot: &'static Slot) -> std::io::Result<Self> {
        let settings = Settings::read();
        let mut worker = Self {
            slot,
            pool: Pool::new()?,
            keys: Err(String::new()),
            client: Err(String::new()),
            settings,
            mapped: None,
            flights: HashMap::new(),
            renewals: HashMap::new(),
            resting: Vec::new(),
            reports: Vec::new(),
            taken_back: false,
            trouble: None,
            pausing_since: None,
        };
        worker.load_files();
        Ok(worker)
    }

    /// Reads what the settings point to. What is wrong with it waits for the jobs that need it.
    fn load_files(&mut self) {
        self.keys = keyfile::load(self.settings.key_file.as_deref())
            .map(Arc::new)
            .map_err(|e| format!("meetlink.key_file cannot be used: {e}. {}", e.hint()));
        self.client = client(&self.settings).map(Arc::new);
        let complaint = match (&self.keys, &self.client) {
            (_, Err(complaint)) | (Err(complaint), _) => complaint.as_str(),
            _ => "",
        };
        self.slot.note.set(complaint);
        if !complaint.is_empty() {
            log!("meetlink: {complaint}");
        }
    }

    fn live(&mut self) {
        let mut timeout = Some(Duration::ZERO);
        let mut due: Option<Instant> = None;
        loop {
            if timeout != Some(Duration::ZERO) {
                let busy = !self.flights.is_empty();
                let activity = if busy { Activity::Busy } else { Activity::Idle };
                if self.trouble.is_none() && self.mapped.is_some() {
                    self.slot.show(activity, self.flights.len());
                }
                process::report_activity(busy);
                process::sleep(Some(self.pool.descriptor()), timeout);
            }
            let reloaded = process::reload_if_asked();
            if reloaded {
                self.settings = Settings::read();
                self.load_files();
            }
            // The flag goes down before the look, so that whatever comes later raises it again.
            let rung = self.slot.take_wake();
            self.collect();
            self.wake_resting();
            let is_due = due.is_some_and(|due| due <= Instant::now());
            let in_trouble = self
                .trouble
                .is_some_and(|(until, _)| until > Instant::now());
            let look = rung || reloaded || self.trouble.is_some() || is_due;
            let act = look || !self.reports.is_empty();
            if rung || reloaded {
                self.trouble = None;
            } else if in_trouble || !act {
                timeout = self.timeout(due);
                continue;
            }
            process::report_activity(true);
            match self.act(look, reloaded) {
                Ok(after) => {
                    self.trouble = None;
                    due = after.next_due.and_then(|wait| {
                        let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
                        Instant::now().checked_add(wait)
                    });
                    let more = after.more;
                    self.apply(after);
                    due = match (more && self.room() > 0, self.room()) {
                        (true, _) => Some(Instant::now()),
                        // Without room nothing can begin, however due: the next end brings room.
                        (_, 0) => None,
                        _ => due,
                    };
                    process::report_statistics();
                }
                Err(error) => self.note_trouble(&error),
            }
            timeout = self.timeout(due);
        }
    }

    /// How long to sleep.
    fn timeout(&self, due: Option<Instant>) -> Option<Duration> {
        let resting = self.resting.iter().map(|(at, ..)| *at).min();
        let pausing = self.pausing_since.map(|since| since + PAUSE_PATIENCE);
        let until = match self.trouble {
            Some((until, _)) => Some(until),
            None => [due, resting, pausing].into_iter().flatten().min(),
        };
        until.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn room(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.flights.len())
    }

    fn collect(&mut self) {
        for report in self.pool.reports() {
            match report {
                Report::Attempt {
                    session,
                    end: End::Paused(flow, time),
                    ..
                } => {
                    self.resting.push((Instant::now() + time, session, flow));
                }
                other => self.reports.push(other),
            }
        }
    }

    fn wake_resting(&mut self) {
        let now = Instant::now();
        let (awake, resting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.resting)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.resting = resting;
        for (_, session, flow) in awake {
            self.submit(session, flow);
        }
    }

    fn submit(&self, session: Uuid, flow: Box<dyn Flow>) {
        if let Ok(client) = &self.client {
            self.pool
                .submit(Work::Attempt { session, flow }, Arc::clone(client));
        }
    }

    /// One look at the world, and one step if there is something to do.
    fn act(&mut self, look: bool, reloaded: bool) -> Result<After, PgError> {
        if look {
            match xact::transaction(|| self.standing(reloaded))? {
                Standing::Gone => self.leave(),
                Standing::Paused => self.pause(),
                Standing::Waiting(why) => {
                    self.mapped = None;
                    self.slot.note.set(why);
                    self.slot.show(Activity::Waiting, self.flights.len());
                }
                Standing::Working(config) => self.take_up(*config),
            }
            if !self.taken_back {
                xact::transaction(jobs::take_back_leases)?;
                self.taken_back = true;
            }
        }
        let idle = self.mapped.is_none() || self.pausing_since.is_some();
        if idle && self.reports.is_empty() {
            return Ok(After::default());
        }
        let room = if self.pausing_since.is_some() || !self.may_call() {
            0
        } else {
            self.room()
        };
        let view = View {
            settings: &self.settings,
            keys: &self.keys,
            mapped: self.mapped.as_ref(),
            flights: &self.flights,
            renewals: &self.renewals,
            room,
            look,
        };
        let reports = &self.reports;
        let after = xact::transaction(|| step(&view, reports))?;
        self.reports.clear();
        Ok(after)
    }

    fn may_call(&self) -> bool {
        self.settings.enabled && self.client.is_ok()
    }

    fn standing(&self, reloaded: bool) -> Result<Standing, PgError> {
        if !extension::is_installed() || extension::relation(c"jobs").is_none() {
            return Ok(Standing::Gone);
        }
        if config::is_paused()? {
            return Ok(Standing::Paused);
        }
        let Some(config) = config::read()? else {
            return Ok(Standing::Waiting("not attached; run meetlink_attach()"));
        };
        if !config.at_home {
            return Ok(Standing::Waiting(
                "this is a copy of another database; run meetlink_resume() to create meetings here",
            ));
        }
        if reloaded {
            config::release_operator_holds(None)?;
        }
        Ok(Standing::Working(Box::new(config)))
    }

    fn take_up(&mut self, config: Config) {
        if self
            .mapped
            .as_ref()
            .is_some_and(|mapped| *mapped.config() == config)
        {
            return;
        }
        match Mapped::new(config) {
            Ok(mapped) => {
                self.mapped = Some(mapped);
                self.load_files();
            }
            Err(gone) => {
                self.mapped = None;
                let text = format!(
                    "the {} table is gone; run meetlink_attach() with the tables as they are now",
                    gone.0.key()
                );
                self.slot.note.set(&text);
                self.slot.show(Activity::Waiting, self.flights.len());
            }
        }
    }

    fn leave(&self) -> ! {
        self.slot.bid(Farewell::NotWanted);
        process::leave()
    }

    /// Lets go of the database as soon as nothing is under way, or patience is over.
    fn pause(&mut self) {
        let since = *self.pausing_since.get_or_insert_with(Instant::now);
        let waiting = !self.flights.is_empty() || !self.reports.is_empty();
        if !waiting || since.elapsed() >= PAUSE_PATIENCE {
            self.leave();
        }
    }

    /// Does what a committed step asks for.
    fn apply(&mut self, after: After) {
        for session in after.landed {
            self.flights.remove(&session);
        }
        for account in after.renewed {
            self.renewals.remove(&account);
        }
        for (flight, request) in after.renew {
            self.wait_for_token(flight, request.map(|request| *request));
        }
        for (flight, token) in after.launch {
            self.launch(flight, token);
        }
        for (account, result) in after.unsaved {
            self.reports.push(Report::Refreshed { account, result });
            self.trouble = Some((Instant::now() + TROUBLE_WAIT, TROUBLE_WAIT));
        }
        if after.ready
            && let Some(shared) = shared::get()
        {
            shared.ring_bell();
        }
    }

    fn launch(&mut self, flight: Flight, token: Secret) {
        let session = flight.claimed.session;
        if let Some(flow) = flight.flow(&self.settings, token) {
            self.flights.insert(session, flight);
            self.submit(session, flow);
        }
    }

    fn wait_for_token(&mut self, flight: Flight, request: Option<crate::provider::http::Request>) {
        let (session, account, provider) =
            (flight.claimed.session, flight.account(), flight.provider);
        self.flights.insert(session, flight);
        self.renewals.entry(account).or_default().push(session);
        if let (Some(request), Ok(client)) = (request, &self.client) {
            self.pool.submit(
                Work::Refresh {
                    account,
                    provider,
                    request,
                },
                Arc::clone(client),
            );
        }
    }

    /// A step failed as a whole: say so once, wait, and try again.
    fn note_trouble(&mut self, error: &PgError) {
        let wait = match self.trouble {
            Some((_, wait)) => (wait * 2).min(TROUBLE_WAIT_MAX),
            None => TROUBLE_WAIT,
        };
        let text = format!("{error}");
        if self.trouble.is_none() {
            log!("meetlink worker: {text}; it tries again by itself");
        }
        self.slot.note.set(&text);
        self.slot.show(Activity::Waiting, self.flights.len());
        self.trouble = Some((Instant::now() + wait, wait));
    }

    /// Whether a prepared transaction has to be looked after.
    #[allow(dead_code)]
    fn prepared(&self) -> Result<bool, PgError> {
        xact::transaction(inbox::prepared_transactions_open)
    }
}

fn client(settings: &Settings) -> Result<Client, String> {
    let roots = match &settings.ca_file {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|e| format!("meetlink.ca_file cannot be read ({})", e.kind()))?,
        ),
        None => None,
    };
    Client::new(
        settings.request_timeout,
        settings.concurrency,
        roots.as_deref(),
    )
    .map_err(|why| format!("meetlink.ca_file cannot be used: {why}"))
}
