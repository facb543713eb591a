//! One transaction of the worker: write back what came in, take what is new, claim what is due.
//!
//! It reads the worker's state and changes only tables; what the worker has to do once the
//! transaction is committed comes back as [`After`]. If it fails, nothing has happened, and the
//! reports are still there for the next try.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::access::Exchange;
use super::careful;
use super::chronicle::Chronicle;
use super::deliver::{self, Parcel};
use super::depart::{New, depart, leave};
use super::flight::Flight;
use super::notices::Notices;
use super::outcome::Office;
use super::outlets::Outlets;
use super::pace::MANY;
use super::pool::{Account, End, Report};
use super::renewal::Renewal;
use super::reports;
use super::rooms::{self, Breakers, Places, Tally};
use crate::config::Settings;
use crate::domain::failure::Failure;
use crate::domain::keyring::KeyRing;
use crate::domain::notice::Channel;
use crate::domain::secret::Secret;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::{process, xact};
use crate::provider::{self, Grant};
use crate::store::app::{self, Connection};
use crate::store::mapped::Mapped;
use crate::store::stats::{self, Happened};
use crate::store::{inbox, jobs};

/// What one step sees of the worker.
pub struct View<'a> {
    /// Settings.
    pub settings: &'a Settings,
    /// Keys, or what is wrong with them.
    pub keys: &'a Result<Arc<KeyRing>, String>,
    /// Set where a key is missing that a row names: it may have come since they were read.
    pub doubted: &'a Cell<bool>,
    /// Whether the application's own form and key have opened a token yet.
    pub proven: &'a Cell<bool>,
    /// The application's tables, as they are now.
    pub mapped: Option<&'a Mapped>,
    /// Attempts under way.
    pub flights: &'a HashMap<Uuid, Flight>,
    /// Sessions that wait for a new access token.
    pub renewals: &'a HashMap<Account, Renewal>,
    /// Attempts that have a token and wait for room.
    pub granted: &'a VecDeque<(Flight, Secret)>,
    /// Requests at once; none while nothing may be called.
    pub limit: usize,
    /// Requests beyond that, which wait for a place.
    pub ahead: usize,
    /// Attempts that may be added before there are too many to hold in memory.
    pub spare: usize,
    /// Attempts that may be held in memory.
    pub memory: usize,
    /// Reports, jobs to be claimed, and inbox rows in one step while requests could leave.
    pub at_once: usize,
    /// Requests under way.
    pub sending: &'a Tally,
    /// What is known of the providers as a whole.
    pub breakers: &'a Breakers,
    /// Providers that the operator has configured; 0 where that is not known yet.
    pub configured: usize,
    /// Where notifications go.
    pub outlets: &'a Outlets,
    /// Whether a delivery may be due.
    pub deliver: bool,
    /// Deliveries under way, by channel.
    pub parcels: &'a Tally,
    /// Whether the application has a table of its own for notifications, or had one before it was
    /// detached.
    pub own_table: bool,
    /// Whether a notification may be open.
    pub open: bool,
    /// Whether no job waited and nothing was held when the last step ended.
    pub idle: bool,
    /// Whether the inbox may hold something.
    pub look: bool,
    /// Where more tries by hand may wait than the last step could take.
    pub hurried: &'a [&'static str],
    /// Whether a row stopped the last step: each is looked at by itself then.
    pub careful: bool,
}

impl View<'_> {
    /// Requests at once.
    pub fn places(&self) -> Places {
        Places::new(self.limit, self.configured)
    }
}

/// How far lists of [`After`] had come.
#[derive(Clone, Copy)]
pub struct Mark([usize; 7]);

impl After {
    /// How far it has come.
    pub fn mark(&self) -> Mark {
        Mark([
            self.landed.len(),
            self.dequeued.len(),
            self.granted.len(),
            self.launch.len(),
            self.renew.len(),
            self.renewed.len(),
            self.unsaved.len(),
        ])
    }

    /// Takes back what came after: it was undone.
    pub fn back_to(&mut self, Mark(lengths): Mark) {
        let [landed, dequeued, granted, launch, renew, renewed, unsaved] = lengths;
        self.landed.truncate(landed);
        self.dequeued.truncate(dequeued);
        self.granted.truncate(granted);
        self.launch.truncate(launch);
        self.renew.truncate(renew);
        self.renewed.truncate(renewed);
        self.unsaved.truncate(unsaved);
    }
}

/// What follows a committed step.
#[derive(Default)]
pub struct After {
    /// Attempts that are over.
    pub landed: Vec<Uuid>,
    /// Attempts of the view's queue that are sent now.
    pub dequeued: Vec<Uuid>,
    /// Attempts that have a token and wait for room.
    pub granted: Vec<(Flight, Secret)>,
    /// Attempts that go on (or begin) now with an access token.
    pub launch: Vec<(Flight, Secret)>,
    /// Sessions whose jobs were made with their first request: that it is sent is noted, that they
    /// are pending is still to be told.
    pub begun: HashSet<Uuid>,
    /// Attempts that wait for a refresh under way or to be started.
    pub renew: Vec<(Flight, Option<Box<Exchange>>)>,
    /// Refreshes whose waiting attempts were all dealt with.
    pub renewed: Vec<Account>,
    /// Refreshes whose tokens could not be stored yet: tokens that must not be used before.
    pub unsaved: Vec<(Account, Result<Grant, Failure>)>,
    /// Whether a row's lock was waited for in vain.
    pub waited: bool,
    /// Why not, if Postgres said so.
    pub unsaved_because: Option<PgError>,
    /// Milliseconds until there is something to be claimed.
    pub next_due: Option<i64>,
    /// Whether it is certain that no job waits and nothing is held.
    pub idle: bool,
    /// Providers of which more tries by hand may wait, where that was found out.
    pub hurried: Option<Vec<&'static str>>,
    /// Whether there are jobs that only wait for room, where that was found out.
    pub backlog: Option<bool>,
    /// What is known of the providers as a whole now.
    pub breakers: Option<Breakers>,
    /// Providers that the operator has configured, where that was looked up.
    pub configured: Option<usize>,
    /// Whether there is more in the inbox, where it was looked into.
    pub more_inbox: Option<bool>,
    /// What was counted and is still to be written.
    pub counts: Vec<Happened>,
    /// Deliveries that are made now.
    pub parcels: Vec<(i64, Channel, Parcel)>,
    /// Milliseconds until the next delivery is due, where that was looked up.
    pub next_delivery: Option<Option<i64>>,
    /// Whether a notification may be open now.
    pub open: Option<bool>,
    /// Jobs claimed.
    pub claimed: usize,
    /// Whether a link became visible.
    pub ready: bool,
}

fn random() -> u64 {
    // A machine without randomness spreads its retries no longer, and makes no nonces either.
    process::random().map_or(u64::MAX / 2, u64::from_ne_bytes)
}

/// Runs the step; inside its transaction.
pub fn step(view: &View<'_>, reports: &[Report]) -> Result<After, PgError> {
    let mut after = After::default();
    let breakers = RefCell::new(view.breakers.clone());
    let chronicle = Chronicle::default();
    let notices = Notices::default();
    let mut deliver = view.deliver;
    let office = Office {
        settings: view.settings,
        mapped: view.mapped,
        random: &random,
        breakers: &breakers,
        chronicle: &chronicle,
        notices: &notices,
    };
    let mut new = New {
        hurried: !view.hurried.is_empty(),
        ..New::default()
    };
    let taken = reports::take_in(view, &office, reports, &mut after)?;
    deliver |= taken.delivered;
    let (made, ended) = (taken.made, taken.ended);
    let others = reports.len() > made;
    // Attempts that wait for room or a token come with reports of another kind.
    let settled = !others && ended == made && view.granted.is_empty();
    new.calm = view.idle && settled && !view.careful;
    chronicle.write_lines()?;
    if let Some(mapped) = view.mapped {
        if view.look {
            let drained = if view.careful {
                careful::drain(mapped, &office)?
            } else {
                let leave = new.calm.then(|| leave(view, &office)).flatten();
                let room = view.places().left(view.ahead, view.sending) > 0;
                let rows = if room { view.at_once } else { MANY };
                inbox::drain(mapped, rows, &rooms::lanes(), leave)?
            };
            after.more_inbox = Some(drained.more);
            // What it let go is not among the jobs that the inbox names.
            new.calm &= !drained.operator;
            // A link that somebody filled in may be among them.
            after.ready |= drained.any;
            for (provider, count) in &drained.fresh {
                chronicle.sessions(provider, *count);
            }
            if view.open && !drained.tutors.is_empty() {
                let found = xact::subtransaction(|| app::connections(mapped, &drained.tutors));
                let usable = found
                    .unwrap_or_default()
                    .into_iter()
                    .filter(Connection::is_usable);
                notices.connected(usable.map(|connection| connection.tutor));
            }
            new.hurried |= drained.hurried;
            new.sessions = drained.sessions;
            new.begun = drained.begun;
            for (session, state) in drained.jobs {
                match state {
                    State::Pending => new.jobs += 1,
                    State::Ready | State::NotNeeded | State::Creating => {}
                    _ => new.calm = false,
                }
                if matches!(state, State::Ready | State::NotNeeded) {
                    notices.over(session);
                }
                if state != State::Creating {
                    jobs::announce(session, state);
                }
            }
        }
        depart(view, mapped, &office, new, &mut after)?;
    }
    chronicle.write_lines()?;
    let counts = chronicle.counts();
    if after.launch.is_empty() {
        stats::add(&counts)?;
    } else {
        // A request waits neither for figures nor for those who listen.
        after.counts = counts;
    }
    let mut open = view.open;
    deliver |= notices.write(&view.outlets.channels(view.own_table), &mut open)?;
    after.open = Some(open);
    if deliver && view.limit > 0 && view.mapped.is_some() {
        deliver::deliver(view, &office, &mut after)?;
    } else if deliver {
        // Not now, and not forgotten.
        after.next_delivery = Some(Some(0));
    }
    // The date of a request must not be much older than the request: few are marked that have to
    // wait for a place, and a request that fails gets a new date, as all do after a crash.
    let queued = view.granted.iter().map(|(flight, _)| flight);
    let queued = queued.filter(|flight| after.dequeued.contains(&flight.claimed.session));
    let launched = after.launch.iter().map(|(flight, _)| flight);
    let launched = launched.filter(|flight| !after.begun.contains(&flight.claimed.session));
    let sent = queued.chain(launched).filter(|flight| flight.creates());
    let sent = sent.map(|f| (f.claimed.session, f.provider.name(), f.tutor));
    jobs::mark_sent(&sent.collect::<Vec<_>>(), &provider::blind())?;
    // What goes out next cannot be taken back, so the claim must survive a crash, and so must
    // tokens and parked jobs. A link alone need not wait for the disk: after a crash the meeting is
    // found again at the provider, and the link written again.
    let only_links = after.launch.is_empty()
        && after.dequeued.is_empty()
        && after.renew.is_empty()
        && after.parcels.is_empty()
        && reports.iter().all(|report| {
            matches!(
                report,
                Report::Attempt {
                    end: End::Made(_),
                    ..
                }
            )
        });
    if only_links {
        xact::commit_soon()?;
    } else {
        xact::commit_durably()?;
    }
    after.breakers = Some(breakers.into_inner());
    Ok(after)
}
