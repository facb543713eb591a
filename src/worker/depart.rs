//! What leaves next: attempts that have waited for room, then jobs that are due. Inside the step's
//! transaction.

use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use super::careful;
use super::flight::{Clients, Desk, Flight, Ready, prepare};
use super::load::{Loaded, load};
use super::outcome::Office;
use super::pace::HURRIED;
use super::pool::Account;
use super::renewal::{Renewal, UnderWay, crowd, under_way};
use super::reports::{put_back, still_in_doubt};
use super::rooms::{ANY, Rooms, Tally, Turn};
use super::step::{After, View};
use crate::config::Settings;
use crate::domain::failure::Reason;
use crate::domain::state::State;
use crate::pg::error::PgError;
use crate::pg::process;
use crate::store::jobs::{Claimed, Fresh, Lane, Making};
use crate::store::mapped::Mapped;
use crate::store::{app, config, holds, jobs};

/// What the step brought so far.
#[derive(Default)]
pub struct New {
    /// Whether nothing waits or is held but what the inbox brings.
    pub calm: bool,
    /// Jobs that are to be tried now.
    pub jobs: usize,
    /// Whether somebody waits for one of them.
    pub hurried: bool,
    /// Sessions whose jobs are to be made with their first attempt, and its number.
    pub begun: Vec<(Fresh, i32)>,
    /// Sessions that were read.
    pub sessions: Vec<app::Session>,
}

/// Of how many sessions the attempt may begin in the step that first hears of them, where nothing
/// else waits.
pub fn leave(view: &View<'_>, office: &Office<'_>) -> Option<usize> {
    let rooms = rooms(view, &[]);
    let lanes = rooms.lanes(&office.breakers.borrow());
    let all = lanes.len() > super::rooms::lanes().len();
    let least = lanes.iter().map(|lane| lane.room).min().filter(|_| all)?;
    Some(least.min(view.spare).min(view.at_once))
}

fn rooms<'a>(view: &View<'_>, holds: &'a [holds::Held]) -> Rooms<'a> {
    let mut held = Tally::default();
    for flight in view.flights.values() {
        held.add(flight.provider.name());
    }
    Rooms {
        places: view.places(),
        ahead: view.ahead,
        configured: view.configured,
        holds,
        sending: view.sending.clone(),
        held,
        memory: view.memory,
    }
}

/// Decides what is sent now, as far as there is room. Where nothing waited or was held before, and
/// nothing new does, it does not look: a link is not to wait for that.
pub fn depart(
    view: &View<'_>,
    mapped: &Mapped,
    office: &Office<'_>,
    new: New,
    after: &mut After,
) -> Result<(), PgError> {
    if view.limit == 0 {
        return Ok(());
    }
    let calm = new.calm;
    if calm && new.jobs == 0 && new.begun.is_empty() {
        (after.idle, after.backlog, after.hurried) = (true, Some(false), Some(Vec::new()));
        return Ok(());
    }
    // What begins to be held ends the calm.
    let holds = if calm { Vec::new() } else { holds::holds()? };
    let mut rooms = rooms(view, &holds);
    for (flight, _) in view.granted {
        match rooms.turn(
            flight.account(),
            flight.claimed.hurried,
            &office.breakers.borrow(),
        ) {
            Turn::Now => after.dequeued.push(flight.claimed.session),
            Turn::Later => {}
            Turn::Back => put_back(flight, after)?,
        }
    }
    for (flight, token) in std::mem::take(&mut after.granted) {
        match rooms.turn(
            flight.account(),
            flight.claimed.hurried,
            &office.breakers.borrow(),
        ) {
            Turn::Now => after.launch.push((flight, token)),
            Turn::Later => after.granted.push((flight, token)),
            Turn::Back => put_back(&flight, after)?,
        }
    }
    for (flight, exchange) in &after.renew {
        if exchange.is_some() {
            rooms.sending.add(flight.provider.name());
        }
    }
    let (expected, others) = (new.begun.len(), new.jobs);
    let filled = claim(view, mapped, office, &mut rooms, new, after)?;
    let sent = after.launch.len() + after.renew.len();
    if calm && others == 0 && sent == expected {
        (after.idle, after.backlog, after.hurried) = (true, Some(false), Some(Vec::new()));
        return Ok(());
    }
    if after.claimed >= view.at_once {
        // Most likely there are more.
        after.backlog = Some(true);
        after.next_due = Some(0);
        return Ok(());
    }
    let lanes = rooms.lanes(&office.breakers.borrow());
    let names: Vec<&str> = lanes.iter().map(|lane| lane.name).collect();
    let all_lanes = names.len() > super::rooms::lanes().len();
    let due = if names.is_empty() {
        None
    } else {
        jobs::next_due(&names)?
    };
    after.backlog = match due {
        Some(0) => Some(true),
        _ if all_lanes => Some(false),
        // Nobody has asked for those of a lane that has no room; what filled it seldom was all.
        _ => (others > 0 || filled).then_some(true),
    };
    after.next_due = due.into_iter().chain(rooms.next_end()).min();
    // One may have begun in this very step.
    after.idle = after.next_due.is_none() && all_lanes && holds::holds()?.is_empty();
    Ok(())
}

pub(super) fn oauth_clients() -> Result<Clients, PgError> {
    let stored = config::oauth_clients()?.into_iter();
    Ok(stored
        .map(|(provider, id, secret)| (provider, (id, secret)))
        .collect())
}

/// Claims jobs of the lanes that have room, and decides about each. Gives whether there may be more
/// than there was room for.
fn claim(
    view: &View<'_>,
    mapped: &Mapped,
    office: &Office<'_>,
    rooms: &mut Rooms<'_>,
    new: New,
    after: &mut After,
) -> Result<bool, PgError> {
    let lanes = rooms.lanes(&office.breakers.borrow());
    let limit = rooms.left().min(view.spare).min(view.at_once);
    if limit == 0 && new.begun.is_empty() && !new.hurried {
        return Ok(false);
    }
    let (holder, lease) = (process::my_pid(), lease(view.settings));
    let claimed = if new.begun.is_empty() {
        let under_way = hurried(view.flights, view.renewals);
        let mut asked = by_hand(&under_way, &lanes, limit);
        let claimed = jobs::claim(&lanes, limit, &asked, holder, lease)?;
        for job in claimed.iter().filter(|job| job.hurried) {
            let lane = asked.iter_mut().find(|lane| lane.name == lane_of(job));
            lane.into_iter()
                .for_each(|lane| lane.room = lane.room.saturating_sub(1));
        }
        let full = asked.iter().filter(|lane| lane.room == 0);
        after.hurried = Some(full.map(|lane| lane.name).collect());
        claimed
    } else {
        after.hurried = Some(new.hurried.then_some(ANY).into_iter().collect());
        // Whatever else there is has its turn in the next step.
        let begun = new.begun.iter();
        let now = Utc::now();
        begun
            .map(|(fresh, number)| fresh.claimed(*number, now))
            .collect()
    };
    let mut unmade: HashMap<Uuid, Fresh> = new
        .begun
        .into_iter()
        .map(|(fresh, _)| (fresh.session, fresh))
        .collect();
    if claimed.is_empty() {
        return Ok(false);
    }
    let least = lanes.iter().map(|lane| lane.room).min();
    let filled = claimed.len() >= limit.min(least.unwrap_or(limit));
    after.claimed = claimed.len();
    let loaded = if view.careful {
        careful::load_each(mapped, office, &claimed)?
    } else {
        load(mapped, &claimed, new.sessions)?
    };
    let Loaded {
        sessions,
        names,
        connections,
        failed,
    } = loaded;
    let clients = oauth_clients()?;
    after.configured = Some(clients.len());
    for job in claimed.iter().filter(|job| !failed.contains(&job.session)) {
        let tried = rooms.tried(&office.breakers.borrow(), |name| {
            let under_way = view.renewals.keys().any(|account| account.1 == name);
            let mut begun = after.renew.iter().map(|(flight, _)| flight.provider.name());
            under_way || begun.any(|other| other == name)
        });
        let desk = Desk {
            settings: view.settings,
            keys: view.keys,
            doubted: view.doubted,
            proven: view.proven,
            format: mapped.token_format(),
            sessions: &sessions,
            names: &names,
            connections: &connections,
            clients: &clients,
            holds: rooms.holds,
            tried: &tried,
            now: Utc::now(),
        };
        let ready = prepare(job, &desk);
        let removes = matches!(&ready, Ready::Go(f, _) | Ready::Renew(f, _) if !f.creates());
        let waits = matches!(&ready, Ready::Later(..));
        let session = sessions.get(&job.session);
        let wants = session.is_some_and(|s| s.wants);
        let again = job.gone && wants && !removes && !waits;
        if again {
            jobs::want_again(job.session)?;
        }
        // A removal or a move waits for the tutor in whose account the meeting is.
        let tutor = session
            .and_then(|s| s.tutor)
            .filter(|t| Some(*t) != job.tutor);
        if let Some(tutor) = tutor.filter(|_| again || !(job.gone || job.moved)) {
            jobs::give_to(job.session, tutor)?;
        }
        let leaves = match &ready {
            Ready::Go(flight, _) => rooms.admit(flight.provider.name(), job.hurried, true),
            _ => false,
        };
        if !leaves && let Some(fresh) = unmade.remove(&job.session) {
            let making = Making {
                fresh: &fresh,
                sent: None,
            };
            jobs::make_claimed(&[making], holder, lease)?;
            jobs::announce(job.session, State::Pending);
        }
        settle(view, office, job, (ready, wants, leaves), rooms, after)?;
    }
    let launched = after.launch.iter().filter_map(|(flight, _)| {
        let fresh = unmade.get(&flight.claimed.session)?;
        let sent = Some((flight.provider.name(), flight.tutor));
        Some(Making { fresh, sent })
    });
    jobs::make_claimed(&launched.collect::<Vec<_>>(), holder, lease)?;
    after.begun = unmade.into_keys().collect();
    Ok(filled)
}

fn settle(
    view: &View<'_>,
    office: &Office<'_>,
    job: &Claimed,
    (ready, wanted, leaves): (Ready, bool, bool),
    rooms: &mut Rooms<'_>,
    after: &mut After,
) -> Result<(), PgError> {
    match ready {
        Ready::Over(state) => {
            jobs::finish(job.session, state)?;
            office.notices.over(job.session);
            jobs::announce(job.session, state);
            after.ready |= state == State::Ready;
        }
        Ready::Later(provider, wait, reason, text) => {
            let state = jobs::postpone(job, provider.name(), wait, &reason, &text)?;
            jobs::announce(job.session, state);
        }
        Ready::Write(flight) => {
            let state = office.write_again(&flight)?;
            after.ready |= state == State::Ready;
        }
        Ready::Orphan => {
            jobs::orphan(job.session)?;
            // A session that another tutor teaches by now goes on afterwards.
            let state = if wanted {
                State::Pending
            } else {
                State::NotNeeded
            };
            jobs::announce(job.session, state);
        }
        Ready::Go(flight, token) => {
            if leaves {
                after.launch.push((flight, token));
            } else {
                wait_for_room(&flight)?;
            }
        }
        Ready::Renew(flight, exchange) => {
            let name = flight.provider.name();
            let exchange = match under_way(view, after, &flight, crowd(view)) {
                UnderWay::Later(wait, why) => {
                    let reason = Reason::Interrupted.as_str();
                    jobs::postpone(job, name, wait, reason, why)?;
                    return Ok(());
                }
                UnderWay::No => Some(exchange),
                UnderWay::Same => None,
            };
            if rooms.admit(name, job.hurried, exchange.is_some()) {
                after.renew.push((flight, exchange));
            } else {
                wait_for_room(&flight)?;
            }
        }
        Ready::Fail(provider, flight, failure) => {
            let failure = still_in_doubt(job, failure);
            office.failed(job, provider, flight.as_deref(), &failure, None)?;
        }
    }
    Ok(())
}

/// Where a try by hand is counted: the provider that was tried last, if there is one.
fn lane_of(job: &Claimed) -> &'static str {
    let mut names = super::rooms::lanes().into_iter();
    names
        .find(|name| Some(*name) == job.provider.as_deref())
        .unwrap_or(ANY)
}

/// Tries by hand that may be claimed, of each provider and of those that have none yet: a few although
/// every place is taken, else as many as there is room for. One that hangs must not take them all.
fn by_hand(under_way: &Tally, lanes: &[Lane], limit: usize) -> Vec<Lane> {
    let names = [ANY].into_iter().chain(super::rooms::lanes());
    let room = |name| {
        let left = HURRIED.saturating_sub(under_way.at(name));
        let own = lanes.iter().find(|lane| lane.name == name && name != ANY);
        left.max(own.map_or(0, |lane| lane.room.min(limit)))
    };
    let lane = |name| Lane {
        name,
        room: room(name),
    };
    names.map(lane).collect()
}

/// Tries by hand under way. Those that wait for another's refresh send nothing.
pub(super) fn hurried(
    flights: &HashMap<Uuid, Flight>,
    renewals: &HashMap<Account, Renewal>,
) -> Tally {
    let mut count = Tally::default();
    for flight in flights.values().filter(|flight| flight.claimed.hurried) {
        let renewal = renewals.get(&flight.account());
        let mut joined = renewal.iter().flat_map(|r| r.waiting.iter().skip(1));
        if !joined.any(|session| *session == flight.claimed.session) {
            count.add(lane_of(&flight.claimed));
        }
    }
    count
}

/// Puts a job into the lane of its provider, which has no room just now.
fn wait_for_room(flight: &Flight) -> Result<(), PgError> {
    let reason = Reason::ProviderRateLimit.as_str();
    let text = "Its provider has as many requests under way as it may have.";
    let name = flight.provider.name();
    jobs::postpone(&flight.claimed, name, Duration::ZERO, reason, text)?;
    Ok(())
}

/// How long a claim is good for: an attempt is a handful of requests. It matters to people who
/// look at the queue; a worker that is gone is noticed at once, by its successor.
fn lease(settings: &Settings) -> Duration {
    settings.request_timeout * 6 + Duration::from_secs(30)
}
