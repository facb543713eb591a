//! When a provider as a whole is down: its circuit breaker.
//!
//! Closed while it answers. Opened by a row of failures that no answer interrupts, of so many
//! tutors or sessions, or over so long a time, that it cannot be about one of them. While it is open nothing
//! is sent; then one request at a time tries, and the first good answer closes it. The time for
//! which it is open is kept by the caller (`meetlink.holds`), so that it outlives a restart.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::backoff::{Policy, spread};
use super::failure::{Failure, Reason};

/// Tutors that must fail one after another: one tutor's account may have trouble of its own.
const TUTORS: usize = 5;
/// Or sessions, whoever's.
const SESSIONS: usize = 20;
/// Or failures, over so long a time.
const FAILURES: u32 = 3;
const DURATION: Duration = Duration::from_secs(30);
/// Longest time that it stays open before the next request tries.
const LONGEST: Duration = Duration::from_secs(60);

/// Which of a provider's two sides is meant: they are different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where meetings are made.
    Meetings,
    /// The token endpoint.
    Tokens,
}

impl Side {
    /// As in `meetlink.holds.side`.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Meetings => "meetings",
            Side::Tokens => "tokens",
        }
    }
}

/// What an answer, or its absence, says about the provider as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is there.
    Good,
    /// It has trouble of its own.
    Bad,
    /// Nothing.
    None,
}

/// What a failure says.
pub fn sign_of(failure: &Failure) -> Sign {
    match failure.reason {
        // What an answer says of one meeting is a good answer all the same.
        Reason::ProviderDown if failure.status.is_some_and(|s| (200..300).contains(&s)) => {
            Sign::Good
        }
        Reason::AnswerUnreadable if failure.status.is_some_and(|s| (400..500).contains(&s)) => {
            Sign::Good
        }
        Reason::AnswerLost if failure.status.is_some_and(|s| s < 500) => Sign::Good,
        Reason::ProviderDown | Reason::AnswerUnreadable | Reason::AnswerLost => Sign::Bad,
        _ if failure.status.is_some() => Sign::Good,
        _ => Sign::None,
    }
}

/// One side of one provider.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    tutors: Vec<Uuid>,
    sessions: Vec<Uuid>,
    failures: u32,
    since: Option<Instant>,
    /// How often it was opened without a good answer in between.
    trips: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether it has been opened and no good answer came since: at most one request may try.
    pub fn is_tripped(&self) -> bool {
        self.trips > 0
    }

    /// What is left of the time for which it is open.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.open_until?
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// Takes a good answer in; gives whether that closed it.
    pub fn good(&mut self) -> bool {
        let tripped = self.is_tripped();
        *self = Self::default();
        tripped
    }

    /// Takes a failure in; gives for how long it is opened now, if it is. `random` is uniform over
    /// all of `u64`.
    pub fn bad(
        &mut self,
        (tutor, session): (Uuid, Uuid),
        now: Instant,
        policy: &Policy,
        random: u64,
    ) -> Option<Duration> {
        if self.open_for(now).is_some() {
            // It was sent before.
            return None;
        }
        self.failures += 1;
        let since = *self.since.get_or_insert(now);
        for (seen, one) in [(&mut self.tutors, tutor), (&mut self.sessions, session)] {
            if seen.len() < SESSIONS && !seen.contains(&one) {
                seen.push(one);
            }
        }
        let down = self.is_tripped()
            || self.tutors.len() >= TUTORS
            || self.sessions.len() >= SESSIONS
            || (self.failures >= FAILURES && now.duration_since(since) >= DURATION);
        if !down {
            return None;
        }
        self.trips = self.trips.saturating_add(1);
        let longest = policy.ceiling(self.trips.saturating_add(2)).min(LONGEST);
        // Between half of it and all of it.
        let wait = longest / 2 + spread(longest / 2, random);
        self.open_until = now.checked_add(wait);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Class;

    const POLICY: Policy = Policy {
        base: Duration::from_secs(2),
        max: Duration::from_secs(900),
        max_attempts: 10,
    };

    fn fail(breaker: &mut Breaker, subject: u128, now: Instant) -> Option<Duration> {
        let one = Uuid::from_u128(subject);
        breaker.bad((one, one), now, &POLICY, u64::MAX)
    }

    #[test]
    fn five_tutors_in_a_row_open_it_and_one_alone_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(fail(&mut breaker, 1, now), None);
        }
        assert!(!breaker.good());
        for subject in 1..=4 {
            assert_eq!(fail(&mut breaker, subject, now), None);
        }
        let wait = fail(&mut breaker, 5, now).unwrap();
        assert!(wait > Duration::from_secs(7) && wait <= Duration::from_secs(8));
        assert!(breaker.is_tripped() && breaker.open_for(now) == Some(wait));
    }

    #[test]
    fn one_tutor_with_many_sessions_opens_it_later() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let tutor = Uuid::from_u128(1);
        for session in 1..20 {
            let subject = (tutor, Uuid::from_u128(session));
            assert_eq!(breaker.bad(subject, now, &POLICY, 0), None);
        }
        let subject = (tutor, Uuid::from_u128(20));
        assert!(breaker.bad(subject, now, &POLICY, 0).is_some());
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for round in 0..10 {
            for subject in 0..4 {
                assert_eq!(fail(&mut breaker, round * 10 + subject, now), None);
            }
            assert!(!breaker.good());
        }
    }

    #[test]
    fn one_tutor_who_fails_for_long_opens_it_too() {
        let begin = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, 1, begin), None);
        assert_eq!(fail(&mut breaker, 1, begin + DURATION / 2), None);
        assert!(fail(&mut breaker, 1, begin + DURATION).is_some());
    }

    #[test]
    fn a_failed_try_opens_it_for_longer_and_a_good_one_closes_it() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for subject in 1..=4 {
            fail(&mut breaker, subject, now);
        }
        let mut last = fail(&mut breaker, 5, now).unwrap();
        // What was under way when it opened says nothing new.
        assert_eq!(fail(&mut breaker, 6, now), None);
        for _ in 0..10 {
            now += last;
            assert!(breaker.is_tripped() && breaker.open_for(now).is_none());
            let next = fail(&mut breaker, 7, now).unwrap();
            assert!(next >= last && next <= LONGEST);
            last = next;
        }
        assert!(last > Duration::from_secs(59));
        assert!(breaker.good());
        assert!(!breaker.is_tripped() && breaker.open_for(now).is_none());
    }

    #[test]
    fn only_what_concerns_the_provider_as_a_whole_counts() {
        let sign = |reason, status: Option<u16>| {
            let failure = Failure::new(Class::Retry, reason, "");
            sign_of(&Failure { status, ..failure })
        };
        assert_eq!(sign(Reason::ProviderDown, Some(503)), Sign::Bad);
        assert_eq!(sign(Reason::ProviderDown, None), Sign::Bad);
        assert_eq!(sign(Reason::ProviderDown, Some(200)), Sign::Good);
        assert_eq!(sign(Reason::AnswerUnreadable, Some(404)), Sign::Good);
        assert_eq!(sign(Reason::AnswerUnreadable, Some(200)), Sign::Bad);
        assert_eq!(sign(Reason::AnswerLost, None), Sign::Bad);
        assert_eq!(sign(Reason::AnswerLost, Some(503)), Sign::Bad);
        assert_eq!(sign(Reason::AnswerLost, Some(200)), Sign::Good);
        assert_eq!(sign(Reason::TutorRateLimit, Some(429)), Sign::Good);
        assert_eq!(sign(Reason::ConsentRevoked, Some(401)), Sign::Good);
        assert_eq!(sign(Reason::KeyMissing, None), Sign::None);
        assert_eq!(sign(Reason::Interrupted, None), Sign::None);
    }
}
