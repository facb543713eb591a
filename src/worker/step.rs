//! One transaction of the worker: write back what came in, take what is new, claim what is due.
//!
//! It reads the worker's state and changes only tables; what the worker has to do once the
//! transaction is committed comes back as [`After`]. If it fails, nothing has happened, and the
//! reports are still there for the next try.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use chrono::Utc;
use uuid::Uuid;

use super::careful;
use super::flight::{Clients, Desk, Flight, Ready, prepare};
use super::outcome::Office;
use super::pool::{Account, End, Report};
use super::tokens::{self, Renewal, UnderWay};
use crate::config::Settings;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::domain::secret::Secret;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::{process, xact};
use crate::provider::Grant;
use crate::provider::http::Request;
use crate::store::jobs::Claimed;
use crate::store::mapped::Mapped;
use crate::store::{app, config, inbox, jobs};

/// What one step sees of the worker.
pub struct View<'a> {
    /// Settings.
    pub settings: &'a Settings,
    /// Keys, or what is wrong with them.
    pub keys: &'a Result<Arc<KeyRing>, String>,
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
    /// Attempts that may be added before there are too many to hold in memory.
    pub spare: usize,
    /// Requests under way, those included whose reports are being written.
    pub busy: usize,
    /// Whether the inbox may hold something.
    pub look: bool,
    /// Whether a row stopped the last step: each is looked at by itself then.
    pub careful: bool,
}

/// What follows a committed step.
#[derive(Default)]
pub struct After {
    /// Attempts that are over.
    pub landed: Vec<Uuid>,
    /// Attempts of the view's queue that are sent now: so many, from its front.
    pub sent_from_queue: usize,
    /// Attempts that have a token and wait for room.
    pub granted: Vec<(Flight, Secret)>,
    /// Attempts that go on (or begin) now with an access token.
    pub launch: Vec<(Flight, Secret)>,
    /// Attempts that wait for a refresh under way or to be started.
    pub renew: Vec<(Flight, Option<Box<Request>>)>,
    /// Refreshes whose waiting attempts were all dealt with.
    pub renewed: Vec<Account>,
    /// Refreshes whose tokens could not be stored yet: tokens that must not be used before.
    pub unsaved: Vec<(Account, Result<Grant, Failure>)>,
    /// Why not, if Postgres said so.
    pub unsaved_because: Option<PgError>,
    /// Milliseconds until the next job is due.
    pub next_due: Option<i64>,
    /// Whether there may be more to claim at once.
    pub more: bool,
    /// Whether there is more in the inbox.
    pub more_inbox: bool,
    /// Jobs claimed.
    pub claimed: usize,
    /// Whether a link became visible.
    pub ready: bool,
}

fn random() -> u64 {
    OsRng.next_u64()
}

/// Runs the step; inside its transaction.
pub fn step(view: &View<'_>, reports: &[Report]) -> Result<After, PgError> {
    let mut after = After::default();
    let office = Office {
        settings: view.settings,
        mapped: view.mapped,
        random: &random,
    };
    for report in reports {
        match report {
            Report::Attempt { session, end } => {
                if let Some(flight) = view.flights.get(session) {
                    attempt_ended(view, &office, flight, end, &mut after)?;
                }
            }
            Report::Refreshed { account, result } => {
                tokens::refresh_ended(view, &office, *account, result, &mut after)?;
            }
        }
    }
    if let Some(mapped) = view.mapped {
        if view.look {
            let drained = if view.careful {
                careful::drain(mapped)?
            } else {
                inbox::drain(mapped, inbox::BATCH)?
            };
            after.more_inbox = drained.taken >= inbox::BATCH;
            // A link that somebody filled in may be among them.
            after.ready |= drained.taken > 0;
            for (session, state) in drained.jobs {
                if state != State::Creating {
                    jobs::announce(session, state)?;
                }
            }
        }
        let mut room = view
            .limit
            .saturating_sub(view.busy.saturating_sub(reports.len()));
        after.sent_from_queue = room.min(view.granted.len());
        room -= after.sent_from_queue;
        let at_once = room.min(after.granted.len());
        after.launch.extend(after.granted.drain(..at_once));
        room = (room - at_once).min(view.spare);
        if room > 0 {
            claim(view, mapped, &office, room, &mut after)?;
        }
        after.next_due = jobs::next_due()?;
    }
    // The date of a request must not be much older than the request: none is marked that has to
    // wait for a thread.
    let queued = view.granted.iter().take(after.sent_from_queue);
    for (flight, _) in queued.chain(&after.launch) {
        jobs::mark_sent(flight.claimed.session, flight.provider.name(), flight.tutor)?;
    }
    // What goes out next cannot be taken back, so the claim must survive a crash, and so must
    // tokens and parked jobs. A link alone need not wait for the disk: after a crash the meeting is
    // found again at the provider, and the link written again.
    let only_links = after.launch.is_empty()
        && after.sent_from_queue == 0
        && after.renew.is_empty()
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
    Ok(after)
}

fn attempt_ended(
    view: &View<'_>,
    office: &Office<'_>,
    flight: &Flight,
    end: &End,
    after: &mut After,
) -> Result<(), PgError> {
    let session = flight.claimed.session;
    match end {
        End::Paused(..) => Ok(()),
        End::Made(meeting) => {
            let state = office.made(flight, meeting, true)?;
            after.ready |= state == State::Ready;
            after.landed.push(session);
            Ok(())
        }
        End::Failed(failure) if failure.class == Class::RefreshToken && !flight.refreshed => {
            let mut flight = Flight {
                refreshed: true,
                ..flight.clone()
            };
            if failure.may_exist {
                // It looks before it creates when it goes on.
                flight.claimed.may_exist_since = Some(Utc::now());
                flight.claimed.provider = Some(flight.provider.name().to_owned());
                flight.claimed.account = Some(flight.tutor);
            }
            tokens::renew(view, office, flight, after)
        }
        End::Failed(failure) if failure.class == Class::RefreshToken => {
            let failure = Failure {
                class: Class::TutorMustAct,
                reason: Reason::ConsentRevoked,
                text:
                    "The provider refused the access token even after it was refreshed; the tutor \
                       must connect again."
                        .to_owned(),
                ..failure.clone()
            };
            office.failed(
                &flight.claimed,
                Some(flight.provider),
                Some(flight),
                &failure,
            )?;
            after.landed.push(session);
            Ok(())
        }
        End::Failed(failure) => {
            office.failed(
                &flight.claimed,
                Some(flight.provider),
                Some(flight),
                failure,
            )?;
            after.landed.push(session);
            Ok(())
        }
    }
}

/// A failure before anything was sent leaves an earlier doubt as it was.
pub(super) fn still_in_doubt(claimed: &Claimed, failure: Failure) -> Failure {
    let may_exist = failure.may_exist || claimed.may_exist_since.is_some();
    failure.may_exist(may_exist)
}

pub(super) fn oauth_clients() -> Result<Clients, PgError> {
    let stored = config::oauth_clients()?.into_iter();
    Ok(stored
        .map(|(provider, id, secret)| (provider, (id, secret)))
        .collect())
}

fn claim(
    view: &View<'_>,
    mapped: &Mapped,
    office: &Office<'_>,
    room: usize,
    after: &mut After,
) -> Result<(), PgError> {
    let lease = lease(view.settings);
    let claimed = jobs::claim(room, process::my_pid(), lease)?;
    if claimed.is_empty() {
        return Ok(());
    }
    after.claimed = claimed.len();
    after.more |= claimed.len() == room;
    let ids: Vec<Uuid> = claimed.iter().map(|job| job.session).collect();
    let loaded = if view.careful {
        careful::load_each(mapped, office, &claimed)?
    } else {
        load(mapped, &ids)?
    };
    let Loaded {
        sessions,
        names,
        connections,
    } = loaded;
    let holds = config::holds()?;
    let clients = oauth_clients()?;
    let desk = Desk {
        settings: view.settings,
        keys: view.keys,
        sessions: &sessions,
        names: &names,
        connections: &connections,
        clients: &clients,
        holds: &holds,
        now: Utc::now(),
    };
    for job in claimed
        .iter()
        .filter(|job| !view.careful || sessions.contains_key(&job.session))
    {
        settle(view, office, job, prepare(job, &desk), after)?;
    }
    Ok(())
}

/// What claimed jobs are about.
#[derive(Default)]
pub(super) struct Loaded {
    /// Sessions by id.
    pub sessions: HashMap<Uuid, app::Session>,
    /// Names of tutors and students.
    pub names: HashMap<Uuid, String>,
    /// Connections by tutor.
    pub connections: HashMap<Uuid, Vec<app::Connection>>,
}

/// Reads what claimed jobs are about.
pub(super) fn load(mapped: &Mapped, ids: &[Uuid]) -> Result<Loaded, PgError> {
    let sessions = app::sessions(mapped, ids)?.into_iter();
    let sessions: HashMap<Uuid, app::Session> = sessions.map(|s| (s.id, s)).collect();
    let tutors: HashSet<Uuid> = sessions
        .values()
        .filter_map(|session| session.tutor)
        .collect();
    let students = sessions.values().filter_map(|session| session.student);
    let people: HashSet<Uuid> = tutors.iter().copied().chain(students).collect();
    let names = app::names(mapped, &people.into_iter().collect::<Vec<_>>())?;
    let tutors: Vec<Uuid> = tutors.into_iter().collect();
    let mut connections: HashMap<Uuid, Vec<app::Connection>> = HashMap::new();
    for connection in app::connections(mapped, &tutors)? {
        connections
            .entry(connection.tutor)
            .or_default()
            .push(connection);
    }
    Ok(Loaded {
        sessions,
        names,
        connections,
    })
}

fn settle(
    view: &View<'_>,
    office: &Office<'_>,
    job: &Claimed,
    ready: Ready,
    after: &mut After,
) -> Result<(), PgError> {
    match ready {
        Ready::Over(state) => {
            jobs::finish(job.session, state, false)?;
            jobs::announce(job.session, state)?;
            after.ready |= state == State::Ready;
        }
        Ready::Later(provider, wait, reason, text) => {
            let name = provider.name();
            jobs::postpone(job.session, job.was_in_doubt, name, wait, &reason, text)?;
            let state = if job.was_in_doubt {
                State::InDoubt
            } else {
                State::Retrying
            };
            jobs::announce(job.session, state)?;
        }
        Ready::Write(flight) => {
            let state = office.write_again(&flight)?;
            after.ready |= state == State::Ready;
        }
        Ready::Go(flight, token) => after.launch.push((flight, token)),
        Ready::Renew(flight, request) => match tokens::under_way(view, after, &flight) {
            UnderWay::No => after.renew.push((flight, Some(request))),
            UnderWay::Same => after.renew.push((flight, None)),
            UnderWay::Other => {
                let reason = Reason::Interrupted.as_str();
                let wait = tokens::OTHER_WAIT;
                let name = flight.provider.name();
                jobs::postpone(
                    job.session,
                    job.was_in_doubt,
                    name,
                    wait,
                    reason,
                    tokens::OTHER,
                )?;
            }
        },
        Ready::Fail(provider, flight, failure) => {
            let failure = still_in_doubt(job, failure);
            office.failed(job, provider, flight.as_deref(), &failure)?;
        }
    }
    Ok(())
}

/// How long a claim is good for: an attempt is a handful of requests. It matters to people who
/// look at the queue; a worker that is gone is noticed at once, by its successor.
fn lease(settings: &Settings) -> Duration {
    settings.request_timeout * 6 + Duration::from_secs(30)
}
