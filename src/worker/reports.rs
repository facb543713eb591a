//! What threads brought, written down. Inside the step's transaction.

use chrono::Utc;
use pgrx::log;

use super::deliver;
use super::flight::Flight;
use super::outcome::Office;
use super::pool::{End, Report};
use super::step::{After, View};
use super::tokens;
use crate::domain::breaker::Side;
use crate::domain::failure::{Class, Failure, Reason};
use crate::pg::error::PgError;
use crate::store::jobs::{self, Claimed};
use crate::store::notices as table;

/// What reports came to.
#[derive(Default)]
pub struct Taken {
    /// Meetings that were made.
    pub made: usize,
    /// Jobs that have ended with them.
    pub ended: usize,
    /// Whether a delivery came back.
    pub delivered: bool,
}

/// Takes reports in. After a step that one of them stopped, each by itself: what cannot be written
/// of one session must not keep the worker from all others.
pub fn take_in(
    view: &View<'_>,
    office: &Office<'_>,
    reports: &[Report],
    after: &mut After,
) -> Result<Taken, PgError> {
    let mut taken = Taken::default();
    let mut made = Vec::new();
    // Renewed tokens first: an attempt that needs another one must not wait for what has ended.
    let (renewed, rest): (Vec<_>, Vec<_>) =
        reports.iter().partition(|report| report.is_of_refresh());
    for report in renewed.into_iter().chain(rest) {
        if let Report::Attempt {
            session,
            end: End::Made(meeting),
            ..
        } = report
        {
            if let Some(flight) = view.flights.get(session) {
                office.note_good(flight.provider.name(), Side::Meetings)?;
                made.push((flight, meeting));
                after.landed.push(*session);
            }
            continue;
        }
        taken.delivered |= matches!(report, Report::Delivered { .. });
        if view.careful {
            let before = after.mark();
            let done = office.attempt(|| one(view, office, report, after));
            if let Err(error) = unless_data(done)? {
                after.back_to(before);
                set_aside(view, office, report, &error, after)?;
            }
        } else {
            one(view, office, report, after)?;
        }
    }
    taken.made = made.len();
    let at_once = if view.careful { 1 } else { made.len().max(1) };
    for some in made.chunks(at_once) {
        let landed = if view.careful {
            match unless_data(office.attempt(|| office.made(some)))? {
                Ok(landed) => landed,
                Err(error) => {
                    for (flight, _) in some {
                        give_up(office, flight, &error)?;
                    }
                    continue;
                }
            }
        } else {
            office.made(some)?
        };
        taken.ended += landed.ended;
        after.ready |= landed.visible;
    }
    Ok(taken)
}

fn one(
    view: &View<'_>,
    office: &Office<'_>,
    report: &Report,
    after: &mut After,
) -> Result<(), PgError> {
    match report {
        Report::Attempt { session, end, .. } => match view.flights.get(session) {
            Some(flight) => attempt_ended(view, office, flight, end, after),
            None => Ok(()),
        },
        Report::Refreshed { account, result } => {
            tokens::refresh_ended(view, office, *account, result, after)
        }
        Report::NotRefreshed { account } => tokens::refresh_taken_back(view, *account, after),
        Report::Delivered {
            id,
            channel,
            result,
        } => {
            let attempts = table::attempts(*id, *channel)?;
            deliver::ended(office, *id, *channel, attempts, result)
        }
    }
}

/// A report that cannot be written as it is. An attempt fails for that; what was granted is kept and
/// tried again; and a delivery comes again when its lease is over.
fn set_aside(
    view: &View<'_>,
    office: &Office<'_>,
    report: &Report,
    error: &PgError,
    after: &mut After,
) -> Result<(), PgError> {
    match report {
        Report::Attempt { session, .. } => {
            after.landed.push(*session);
            match view.flights.get(session) {
                Some(flight) => give_up(office, flight, error),
                None => Ok(()),
            }
        }
        Report::Refreshed { account, result } => {
            after.unsaved.push((*account, result.clone()));
            Ok(())
        }
        Report::NotRefreshed { .. } | Report::Delivered { .. } => Ok(()),
    }
}

/// Ends an attempt whose outcome cannot be written. If that cannot be written either, its lease says
/// so to whoever looks, and the next worker takes it up.
fn give_up(office: &Office<'_>, flight: &Flight, error: &PgError) -> Result<(), PgError> {
    let session = flight.claimed.session;
    log!(
        "meetlink worker: the outcome of session {}'s attempt cannot be written ({:?})",
        session.hyphenated(),
        error.code
    );
    let text = format!("What came of the attempt cannot be written: {error}.");
    let failure = Failure::new(Class::InDoubt, Reason::WriteBack, text).may_exist(true);
    let provider = Some(flight.provider);
    let written =
        office.attempt(|| office.failed(&flight.claimed, provider, Some(flight), &failure, None));
    unless_data(written).map(drop)
}

/// An error that concerns more than one row is everybody's.
fn unless_data<T>(done: Result<T, PgError>) -> Result<Result<T, PgError>, PgError> {
    match done {
        Err(error) if !error.is_about_data() => Err(error),
        done => Ok(done),
    }
}

fn attempt_ended(
    view: &View<'_>,
    office: &Office<'_>,
    flight: &Flight,
    end: &End,
    after: &mut After,
) -> Result<(), PgError> {
    let session = flight.claimed.session;
    let name = flight.provider.name();
    let outage = match end {
        End::Paused(..) | End::Made(_) => return Ok(()),
        End::Untouched => return put_back(flight, after),
        End::Removed => {
            office.note_good(name, Side::Meetings)?;
            None
        }
        End::Failed(failure) => {
            office.note_failure(name, Side::Meetings, (flight.tutor, session), failure)?
        }
    };
    let failure = match end {
        End::Paused(..) | End::Made(_) | End::Untouched => return Ok(()),
        End::Removed => {
            office.removed(flight)?;
            after.landed.push(session);
            return Ok(());
        }
        End::Failed(failure) if failure.class == Class::RefreshToken && !flight.refreshed => {
            let mut flight = Flight {
                refreshed: true,
                ..flight.clone()
            };
            if failure.may_exist && flight.creates() {
                // It looks before it creates when it goes on.
                flight.claimed.may_exist_since = Some(Utc::now());
                flight.claimed.provider = Some(name.to_owned());
                flight.claimed.account = Some(flight.tutor);
            }
            return tokens::renew(view, office, flight, after);
        }
        End::Failed(failure) if failure.class == Class::RefreshToken => &Failure {
            class: Class::TutorMustAct,
            reason: Reason::ConsentRevoked,
            text: "The provider refused the access token even after it was refreshed; the tutor \
                   must connect again."
                .to_owned(),
            ..failure.clone()
        },
        End::Failed(failure) => failure,
    };
    let provider = Some(flight.provider);
    office.failed(&flight.claimed, provider, Some(flight), failure, outage)?;
    after.landed.push(session);
    Ok(())
}

/// Gives the job of an attempt back of which nothing was sent.
pub(super) fn put_back(flight: &Flight, after: &mut After) -> Result<(), PgError> {
    let session = flight.claimed.session;
    let state = jobs::put_back(&flight.claimed, flight.provider.name())?;
    jobs::announce(session, state);
    after.landed.push(session);
    Ok(())
}

/// A failure before anything was sent leaves an earlier doubt as it was.
pub(super) fn still_in_doubt(claimed: &Claimed, failure: Failure) -> Failure {
    let may_exist = failure.may_exist || claimed.may_exist_since.is_some();
    failure.may_exist(may_exist)
}
