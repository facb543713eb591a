//! What is under way: attempts at the threads, at rest, or waiting for a token.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgrx::log;
use uuid::Uuid;

use super::super::access::Exchange;
use super::super::depart::hurried;
use super::super::flight::Flight;
use super::super::pace::HURRIED;
use super::super::pool::{End, Report, Turn, Work};
use super::super::rooms::Places;
use super::super::step::After;
use super::{FLIGHTS_PER_REQUEST, LOCKED_WAIT, UNSAVED_WAIT, UNSAVED_WAIT_MAX, Worker};
use crate::domain::secret::Secret;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::{interrupts, shared, xact};
use crate::provider::Flow;
use crate::store::jobs;
use crate::store::stats::{self, Happened};

/// For so long after a failure none waits for a place: what goes wrong may go wrong for all.
const WARY: Duration = Duration::from_secs(1);
/// Requests that wait for a place at most: about as many as become free during two steps.
const AHEAD: usize = 32;

impl Worker {
    /// Requests at once; none while nothing may be called.
    pub(super) fn limit(&self) -> usize {
        if self.may_call() {
            self.settings.concurrency
        } else {
            0
        }
    }

    /// Requests that may wait for a place, while there are jobs that only wait for room: each place
    /// that becomes free has its next request then, without a step between them.
    pub(super) fn ahead(&self) -> usize {
        let wary = self.wary_until.is_some_and(|until| until > Instant::now());
        if self.backlog && !wary && self.pace.is_theirs(self.limit()) {
            AHEAD.min(self.limit() / 4)
        } else {
            0
        }
    }

    /// Whether another request may be handed over.
    fn has_room(&self) -> bool {
        let places = Places::new(self.limit(), self.configured);
        places.left(self.ahead(), &self.sending) > 0 && self.spare() > 0
    }

    /// Whether a try by hand waits that may begin. Where as many are under way as may be, the end of one
    /// of them asks again.
    fn may_hurry(&self) -> bool {
        if self.hurried.is_empty() || self.mapped.is_none() || self.limit() == 0 {
            return false;
        }
        let under_way = hurried(&self.flights, &self.renewals);
        let mut names = self.hurried.iter();
        names.any(|name| under_way.at(name) < HURRIED)
    }

    /// Takes back what has not begun where nothing should begin now. A token that was just renewed
    /// would not keep either.
    pub(super) fn hold_back(&mut self) {
        if self.limit() == 0 || self.mapped.is_none() || self.trouble.is_some() {
            self.pool.recall(None);
            let back = std::mem::take(&mut self.granted).into_iter();
            self.reports.extend(back.map(|(flight, _)| {
                Report::untouched(flight.claimed.session, flight.provider.name())
            }));
        }
    }

    /// Attempts that may be held in memory.
    pub(super) fn memory(&self) -> usize {
        self.settings.concurrency * FLIGHTS_PER_REQUEST
    }

    /// Attempts that may be added: those that send nothing are bounded too, for the sake of memory.
    pub(super) fn spare(&self) -> usize {
        self.memory().saturating_sub(self.flights.len())
    }

    /// Takes in what threads brought; gives whether there was anything.
    pub(super) fn collect(&mut self) -> bool {
        let before = self.reports.len();
        for report in self.pool.reports() {
            if let Report::Delivered { channel, .. } = &report {
                self.parcels.remove(channel.as_str());
            } else if let Some(provider) = report.provider() {
                self.sending.remove(provider);
            }
            if let Report::Attempt { took, end, .. } = &report
                && !matches!(end, End::Untouched)
            {
                self.pace.note(*took);
            }
            if report.is_failure()
                && let Some(provider) = report.provider()
            {
                // A step may have handed over more since the thread did it.
                self.pool.recall(Some(provider));
                self.wary_until = Some(Instant::now() + WARY);
            }
            match report {
                Report::Attempt {
                    session,
                    end: End::Paused(flow, time),
                    ..
                } => {
                    self.resting.push((Instant::now() + time, session, flow));
                    // It sends nothing now: there is room for another.
                    let now = Instant::now();
                    self.due = Some(self.due.map_or(now, |due| due.min(now)));
                }
                other => self.reports.push(other),
            }
        }
        self.reports.len() > before
    }

    pub(super) fn wake_resting(&mut self) {
        let now = Instant::now();
        let mut awake = Vec::new();
        for (_, session, flow) in self.resting.extract_if(.., |(at, ..)| *at <= now) {
            awake.push((session, flow));
        }
        for (session, flow) in awake {
            self.submit_attempt(session, flow, Turn::Begun);
        }
    }

    fn submit_attempt(&mut self, session: Uuid, flow: Box<dyn Flow>, turn: Turn) {
        if let Some(flight) = self.flights.get(&session) {
            let provider = flight.provider.name();
            let hurried = flight.claimed.hurried;
            let work = Work::Attempt {
                session,
                provider,
                turn,
                hurried,
                flow,
            };
            self.submit(provider, work);
        }
    }

    fn submit(&mut self, provider: &'static str, work: Work) {
        if self.hand_over(work) {
            self.sending.add(provider);
        }
    }

    /// Gives work to the threads; whether there is a client to do it with.
    fn hand_over(&self, work: Work) -> bool {
        let Some(client) = &self.files.client else {
            return false;
        };
        let places = Places::new(self.settings.concurrency, self.configured);
        self.pool.submit(work, Arc::clone(client), places);
        true
    }

    /// Does what a committed step asks for.
    pub(super) fn apply(&mut self, after: After) {
        // A commit that waits for a synchronous standby returns early when the process is told to
        // end: what it should have made safe must not be sent then.
        interrupts::check_between_statements();
        let landed: HashSet<Uuid> = after.landed.into_iter().collect();
        for session in &landed {
            self.flights.remove(session);
        }
        let stored = !after.renewed.is_empty();
        for account in after.renewed {
            self.renewals.remove(&account);
        }
        for (flight, exchange) in after.renew {
            self.wait_for_token(flight, exchange.map(|exchange| *exchange));
        }
        self.breakers = after
            .breakers
            .unwrap_or_else(|| std::mem::take(&mut self.breakers));
        self.configured = after.configured.unwrap_or(self.configured);
        let queue = std::mem::take(&mut self.granted);
        for (flight, token) in queue {
            if after.dequeued.contains(&flight.claimed.session) {
                self.launch(flight, token);
            } else if !landed.contains(&flight.claimed.session) {
                self.granted.push_back((flight, token));
            }
        }
        for (flight, token) in after.granted {
            self.flights.insert(flight.claimed.session, flight.clone());
            self.granted.push_back((flight, token));
        }
        for (flight, token) in after.launch {
            self.launch(flight, token);
        }
        self.tell(&after.counts, &after.begun);
        for (id, channel, parcel) in after.parcels {
            let work = Work::Deliver {
                id,
                channel,
                parcel,
            };
            if self.hand_over(work) {
                self.parcels.add(channel.as_str());
            }
        }
        if let Some(next) = after.next_delivery {
            let wait = next.and_then(|wait| u64::try_from(wait).ok());
            self.deliver_at =
                wait.and_then(|wait| Instant::now().checked_add(Duration::from_millis(wait)));
        }
        self.open = after.open.unwrap_or(self.open);
        self.idle = after.idle;
        self.backlog = after.backlog.unwrap_or(self.backlog);
        if let Some(hurried) = after.hurried {
            self.hurried = hurried;
        }
        self.more_inbox = after.more_inbox.unwrap_or(self.more_inbox);
        let refused = after.unsaved_because.as_ref().map(PgError::is_about_data);
        self.unsaved_wait = match refused {
            Some(true) => (self.unsaved_wait * 2).min(UNSAVED_WAIT_MAX),
            Some(false) => UNSAVED_WAIT,
            None if stored && self.unsaved.is_empty() && after.unsaved.is_empty() => UNSAVED_WAIT,
            None => self.unsaved_wait,
        };
        if let Some(error) = after.unsaved_because {
            // What a trigger of the application says may quote a row: only its kind is told.
            let why = if error.is_about_data() {
                format!("the application's table refuses it ({:?})", error.code)
            } else {
                error.to_string()
            };
            self.say(&format!("a renewed token cannot be stored: {why}"));
        } else if self.had_unsaved && self.unsaved.is_empty() && after.unsaved.is_empty() {
            self.complain();
        }
        let unsaved = after.unsaved.into_iter();
        self.unsaved
            .extend(unsaved.map(|(account, result)| Report::Refreshed { account, result }));
        self.had_unsaved = !self.unsaved.is_empty();
        let again = self
            .unsaved_at
            .unwrap_or(Instant::now() + self.unsaved_wait);
        self.unsaved_at = self.had_unsaved.then_some(again);
        if after.ready
            && let Some(shared) = shared::get()
        {
            shared.ring_bell();
        }
        // Without room nothing can begin, however due it is: the next end brings room.
        self.due = match after.next_due {
            _ if self.may_hurry() => Some(Instant::now()),
            _ if !self.has_room() => None,
            Some(0) if after.claimed == 0 => Some(Instant::now() + LOCKED_WAIT),
            Some(wait) => {
                let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
                Instant::now().checked_add(wait)
            }
            None => None,
        };
    }

    /// Writes figures and tells of sessions in a transaction of their own. What cannot be written now
    /// is not written: a worker that dies in this moment loses it too.
    fn tell(&self, counts: &[Happened], begun: &HashSet<Uuid>) {
        if counts.is_empty() && begun.is_empty() {
            return;
        }
        let mut written = Ok(());
        let told = xact::transaction(|| {
            xact::commit_soon()?;
            for session in begun {
                jobs::announce(*session, State::Pending);
            }
            written = xact::subtransaction(|| stats::add(counts));
            Ok(())
        });
        if let Err(error) = told.and(written) {
            log!("meetlink worker: figures could not be written: {error}");
        }
    }

    pub(super) fn launch(&mut self, flight: Flight, token: Secret) {
        let session = flight.claimed.session;
        let flow = flight.flow(&self.settings, token);
        self.flights.insert(session, flight);
        if let Some(flow) = flow {
            self.submit_attempt(session, flow, Turn::New);
        }
    }

    pub(super) fn wait_for_token(&mut self, flight: Flight, exchange: Option<Exchange>) {
        let (session, account, provider) =
            (flight.claimed.session, flight.account(), flight.provider);
        let renewal = self.renewals.entry(account).or_default();
        renewal.envelope.clone_from(&flight.refresh);
        renewal.waiting.push(session);
        renewal.begun.get_or_insert_with(Instant::now);
        if let Some(Exchange { request, traded }) = exchange {
            renewal.traded = Some(traded);
            let work = Work::Refresh {
                account,
                hurried: flight.claimed.hurried,
                provider,
                request,
            };
            self.submit(provider.name(), work);
        } else if flight.claimed.hurried {
            self.pool.hurry(account);
        }
        self.flights.insert(session, flight);
    }
}
