//! Refreshes under way, and the attempts that wait for them.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::flight::Flight;
use super::step::{After, View};
use crate::domain::secret::Secret;

/// Least wait for a refresh that an attempt cannot join.
const LATER: Duration = Duration::from_millis(300);
/// What the operator reads meanwhile.
const OTHER: &str =
    "The tutor has reconnected; a refresh of the old connection is still under way.";
const CROWD: &str = "The tutor's access token is being renewed, and many sessions wait for it.";

/// A refresh under way.
#[derive(Default)]
pub struct Renewal {
    /// The refresh token that was sent, as it was stored.
    pub envelope: Option<String>,
    /// The refresh token that was sent.
    pub traded: Option<Secret>,
    /// Attempts that wait for it.
    pub waiting: Vec<Uuid>,
    /// When the first did.
    pub begun: Option<Instant>,
}

/// Whether there is one for an attempt.
pub enum UnderWay {
    /// None for its account.
    No,
    /// With the very token that the attempt would send: it waits for that too.
    Same,
    /// It cannot wait for that one, but after this time in the queue; why.
    Later(Duration, &'static str),
}

/// Attempts out of the queue that may wait for one token: a tutor's trouble must not take all the
/// memory that others need.
pub fn crowd(view: &View<'_>) -> usize {
    view.memory / 8
}

/// Whether a refresh for an attempt's account is under way, or about to be; `most` may wait for it.
pub fn under_way(view: &View<'_>, after: &After, flight: &Flight, most: usize) -> UnderWay {
    let account = flight.account();
    // One that has ended in this step will find nobody who waits.
    let ended = after.renewed.contains(&account);
    let running = view.renewals.get(&account).filter(|_| !ended);
    let starting = after.renew.iter().map(|(other, _)| other);
    let starting: Vec<_> = starting.filter(|o| o.account() == account).collect();
    let envelope = running
        .map(|renewal| &renewal.envelope)
        .or_else(|| starting.first().map(|other| &other.refresh));
    match envelope {
        None => return UnderWay::No,
        // The tutor has reconnected meanwhile, and its outcome says nothing here.
        Some(envelope) if *envelope != flight.refresh => return UnderWay::Later(LATER, OTHER),
        Some(_) => {}
    }
    let waiting = running.map_or(0, |renewal| renewal.waiting.len()) + starting.len();
    if waiting >= most {
        // As long again as it has taken so far: a row that stays locked costs little.
        let begun = running.and_then(|renewal| renewal.begun);
        let taken = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        return UnderWay::Later(taken.max(LATER), CROWD);
    }
    UnderWay::Same
}
