//! How many requests may go where: the share of each provider, none for one that must not be
//! called, one for one that is tried after it was down.

use std::collections::HashMap;

use uuid::Uuid;

use super::pace::HURRIED;
use crate::domain::breaker::{Breaker, Side};
use crate::provider;
use crate::store::holds::Held;
use crate::store::jobs::Lane;

/// The lane of jobs whose provider is not known yet, and of those that somebody asked for.
pub const ANY: &str = "";
/// One in so many requests is kept free of a provider while there is another: one that stalls does
/// not take every place.
const KEPT_FREE: usize = 16;

/// Names of the providers' lanes.
pub fn lanes() -> Vec<&'static str> {
    let names = provider::all().iter().map(|provider| provider.name());
    names.collect()
}

/// How many requests may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In all.
    pub all: usize,
    /// At one provider.
    pub each: usize,
}

impl Places {
    /// With so many in all and so many providers that the operator has configured; 0 where that is
    /// not known yet.
    pub fn new(all: usize, configured: usize) -> Self {
        let kept = if configured == 1 {
            0
        } else {
            all.div_ceil(KEPT_FREE).min(all / 2)
        };
        Self {
            all,
            each: all - kept,
        }
    }

    /// Requests that may be added to those that are `sending`, where so many may wait for a place.
    /// What goes on after a rest asks for no room: it takes none of another provider's.
    pub fn left(self, ahead: usize, sending: &Tally) -> usize {
        let sending = sending.total_up_to(self.each + ahead);
        (self.all + ahead).saturating_sub(sending)
    }
}

/// A count for each provider (or, of deliveries, for each channel).
#[derive(Clone, Debug, Default)]
pub struct Tally(HashMap<&'static str, usize>);

impl Tally {
    /// One more.
    pub fn add(&mut self, provider: &'static str) {
        *self.0.entry(provider).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, provider: &'static str) {
        if let Some(count) = self.0.get_mut(provider) {
            *count = count.saturating_sub(1);
        }
    }

    /// So many at a provider.
    pub fn at(&self, provider: &str) -> usize {
        self.0.get(provider).copied().unwrap_or(0)
    }

    /// So many in all, where each provider counts for so many at most.
    pub fn total_up_to(&self, most: usize) -> usize {
        self.0.values().map(|count| *count.min(&most)).sum()
    }
}

/// The circuit breakers of all providers.
#[derive(Clone, Debug, Default)]
pub struct Breakers(HashMap<(&'static str, Side), Breaker>);

impl Breakers {
    /// One of them.
    pub fn of(&mut self, provider: &'static str, side: Side) -> &mut Breaker {
        self.0.entry((provider, side)).or_default()
    }

    /// Whether a provider was down and has not answered since.
    pub fn is_tripped(&self, provider: &'static str, side: Side) -> bool {
        let breaker = self.0.get(&(provider, side));
        breaker.is_some_and(Breaker::is_tripped)
    }
}

/// Where one request is trying whether a provider that was down is back.
#[derive(Clone, Debug, Default)]
pub struct Tried(Vec<(&'static str, Side)>);

impl Tried {
    /// Whether it is this side of this provider.
    pub fn at(&self, provider: &'static str, side: Side) -> bool {
        self.0.contains(&(provider, side))
    }
}

/// What becomes of an attempt that has its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It leaves.
    Now,
    /// It waits for a place.
    Later,
    /// Its provider is not called for a while, or not for its tutor: its token would not keep so long.
    Back,
}

/// Everything that decides.
pub struct Rooms<'a> {
    /// Requests at once.
    pub places: Places,
    /// Requests that may wait for a place: one that becomes free is not to wait for a step.
    pub ahead: usize,
    /// Providers that the operator has configured; 0 where that is not known yet.
    pub configured: usize,
    /// Holds in force.
    pub holds: &'a [Held],
    /// Requests under way, and those that are about to be.
    pub sending: Tally,
    /// Attempts held in memory, whether they send something or not, and how many there may be.
    pub held: Tally,
    /// See above.
    pub memory: usize,
}

impl Rooms<'_> {
    /// What is left of a provider's share of the attempts that are held.
    fn memory_left(&self, provider: &str) -> usize {
        let kept = if self.configured == 1 {
            0
        } else {
            self.memory / 4
        };
        (self.memory - kept).saturating_sub(self.held.at(provider))
    }

    /// Whether an attempt that is ready may go now, as far as its provider is concerned.
    pub fn is_open(&self, provider: &'static str, breakers: &Breakers) -> bool {
        let tries = breakers.is_tripped(provider, Side::Meetings);
        let tried = tries && self.sending.at(provider) > 0;
        !self.is_held(provider) && !tried
    }

    /// Takes a place for a request to a provider, if there is one.
    pub fn take(&mut self, provider: &'static str) -> bool {
        let free = self.left() > 0 && self.share_left(provider) > 0;
        if free {
            self.sending.add(provider);
        }
        free
    }

    /// Decides about an attempt that has its token, and takes a place for it if it leaves. Somebody
    /// who waits for it goes before all, and past every hold.
    pub fn turn(
        &mut self,
        (tutor, provider): (Uuid, &'static str),
        hurried: bool,
        breakers: &Breakers,
    ) -> Turn {
        let limited = self.holds.iter().any(|held| {
            held.provider == provider && held.tutor == Some(tutor) && held.side == Side::Meetings
        });
        if hurried && self.sending.at(provider) < self.places.each + HURRIED {
            self.sending.add(provider);
            Turn::Now
        } else if hurried {
            Turn::Later
        } else if limited || !self.is_open(provider, breakers) {
            Turn::Back
        } else if self.take(provider) {
            Turn::Now
        } else {
            Turn::Later
        }
    }

    /// Takes an attempt in, whose job's lane may have been another provider's: into memory, and if
    /// it `sends` something now, with a place for that. Somebody who waits for it goes before all.
    pub fn admit(&mut self, provider: &'static str, hurried: bool, sends: bool) -> bool {
        let fits = hurried || (self.memory_left(provider) > 0 && (!sends || self.take(provider)));
        if fits {
            self.held.add(provider);
        }
        if fits && hurried && sends {
            self.sending.add(provider);
        }
        fits
    }

    /// Requests that may be added.
    pub fn left(&self) -> usize {
        self.places.left(self.ahead, &self.sending)
    }

    /// What is left of a provider's share.
    fn share_left(&self, provider: &str) -> usize {
        (self.places.each + self.ahead).saturating_sub(self.sending.at(provider))
    }

    fn is_held(&self, provider: &str) -> bool {
        self.holds.iter().any(|held| {
            held.provider == provider && held.tutor.is_none() && held.side == Side::Meetings
        })
    }

    /// The lanes from which jobs may be claimed now.
    pub fn lanes(&self, breakers: &Breakers) -> Vec<Lane> {
        let all = self.left();
        let mut lanes = vec![Lane {
            name: ANY,
            room: all,
        }];
        for name in self::lanes() {
            let left = self.share_left(name).min(self.memory_left(name));
            let room = if !self.is_open(name, breakers) {
                0
            } else if breakers.is_tripped(name, Side::Meetings) {
                left.min(1)
            } else {
                left
            };
            lanes.push(Lane {
                name,
                room: room.min(all),
            });
        }
        lanes.retain(|lane| lane.room > 0);
        lanes
    }

    /// Where a request is trying whether a provider is back. `renewing`: whether a token of its is
    /// being renewed.
    pub fn tried(&self, breakers: &Breakers, renewing: impl Fn(&str) -> bool) -> Tried {
        let mut tried = Vec::new();
        for name in self::lanes() {
            if breakers.is_tripped(name, Side::Meetings) && self.sending.at(name) > 0 {
                tried.push((name, Side::Meetings));
            }
            if breakers.is_tripped(name, Side::Tokens) && renewing(name) {
                tried.push((name, Side::Tokens));
            }
        }
        Tried(tried)
    }

    /// Milliseconds until the first hold of a whole provider ends.
    pub fn next_end(&self) -> Option<i64> {
        let whole = self.holds.iter().filter(|held| held.tutor.is_none());
        whole.map(|held| held.wait_ms.max(1)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn rooms<'a>(limit: usize, configured: usize, holds: &'a [Held]) -> Rooms<'a> {
        Rooms {
            places: Places::new(limit, configured),
            ahead: 0,
            configured,
            holds,
            sending: Tally::default(),
            held: Tally::default(),
            memory: limit * 16,
        }
    }

    fn room(rooms: &Rooms<'_>, breakers: &Breakers, name: &str) -> usize {
        let lanes = rooms.lanes(breakers);
        let found = lanes.iter().find(|lane| lane.name == name);
        found.map_or(0, |lane| lane.room)
    }

    fn hold(provider: &str, side: Side) -> Held {
        Held {
            provider: provider.to_owned(),
            side,
            tutor: None,
            wait_ms: 700,
            reason: "provider_down".to_owned(),
            error: String::new(),
        }
    }

    #[test]
    fn one_provider_never_takes_every_place_while_there_is_another() {
        let none = Breakers::default();
        assert_eq!(room(&rooms(32, 1, &[]), &none, "zoom"), 32);
        for configured in [0, 2] {
            let mut rooms = rooms(32, configured, &[]);
            assert_eq!(room(&rooms, &none, "zoom"), 30);
            assert_eq!(room(&rooms, &none, ANY), 32);
            while rooms.take("zoom") {}
            assert_eq!(room(&rooms, &none, "zoom"), 0);
            assert_eq!(room(&rooms, &none, "google_meet"), 2);
            assert!(rooms.take("google_meet") && rooms.take("google_meet"));
            assert!(!rooms.take("google_meet"));
        }
    }

    #[test]
    fn what_waits_for_a_place_takes_none_of_those_that_are_kept_for_the_other_provider() {
        let none = Breakers::default();
        let mut rooms = Rooms {
            ahead: 8,
            ..rooms(32, 2, &[])
        };
        while rooms.take("zoom") {}
        assert_eq!(rooms.sending.at("zoom"), 38);
        assert_eq!(room(&rooms, &none, "google_meet"), 2);
        assert_eq!(rooms.places, Places { all: 32, each: 30 });
    }

    #[test]
    fn an_attempt_with_its_token_waits_for_a_place_but_not_for_a_hold() {
        let none = Breakers::default();
        let (zoe, zac) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut full = rooms(4, 2, &[]);
        while full.take("zoom") {}
        assert_eq!(full.turn((zoe, "zoom"), false, &none), Turn::Later);
        assert_eq!(full.turn((zoe, "zoom"), true, &none), Turn::Now);
        assert_eq!(full.turn((zoe, "google_meet"), false, &none), Turn::Now);
        let mut holds = [hold("zoom", Side::Meetings)];
        let mut held = rooms(4, 2, &holds);
        assert_eq!(held.turn((zoe, "zoom"), false, &none), Turn::Back);
        assert_eq!(held.turn((zoe, "zoom"), true, &none), Turn::Now);
        holds[0].tutor = Some(zoe);
        let mut held = rooms(4, 2, &holds);
        assert_eq!(held.turn((zoe, "zoom"), false, &none), Turn::Back);
        assert_eq!(held.turn((zac, "zoom"), false, &none), Turn::Now);
    }

    #[test]
    fn attempts_that_go_on_after_a_rest_take_no_place_of_the_other_provider() {
        let mut rooms = rooms(32, 2, &[]);
        for _ in 0..300 {
            rooms.sending.add("google_meet");
        }
        assert_eq!(room(&rooms, &Breakers::default(), "zoom"), 2);
    }

    #[test]
    fn the_smallest_limit_still_lets_everybody_through() {
        assert_eq!(room(&rooms(1, 2, &[]), &Breakers::default(), "zoom"), 1);
    }

    #[test]
    fn a_provider_that_is_held_gets_nothing_and_one_that_is_tried_gets_one() {
        let mut breakers = Breakers::default();
        let policy = crate::domain::backoff::Policy {
            base: Duration::from_millis(1),
            max: Duration::from_millis(1),
            max_attempts: 1,
        };
        let begin = Instant::now();
        for n in 0..5 {
            let breaker = breakers.of("zoom", Side::Meetings);
            let one = Uuid::from_u128(n);
            breaker.bad((one, one), begin, &policy, 0);
        }
        let holds = [
            hold("zoom", Side::Meetings),
            hold("google_meet", Side::Tokens),
        ];
        let held = rooms(32, 2, &holds);
        assert_eq!(room(&held, &breakers, "zoom"), 0);
        assert_eq!(room(&held, &breakers, "google_meet"), 30);
        assert_eq!(held.next_end(), Some(700));
        let mut trying = rooms(32, 2, &[]);
        assert_eq!(room(&trying, &breakers, "zoom"), 1);
        let tried = |rooms: &Rooms<'_>| rooms.tried(&breakers, |_| true);
        assert!(!tried(&trying).at("zoom", Side::Meetings));
        assert!(trying.take("zoom"));
        assert_eq!(room(&trying, &breakers, "zoom"), 0);
        assert!(tried(&trying).at("zoom", Side::Meetings));
        assert!(!tried(&trying).at("zoom", Side::Tokens));
    }
}
