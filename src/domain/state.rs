//! The states of a job and what moves it from one to the next.
//!
//! The SQL side stores what is decided here; its CHECK constraints make a state that is not in this
//! file, or that lacks what belongs to it, impossible to store. docs/state_machine.md draws every
//! edge.

use std::time::Duration;

use super::backoff::Policy;
use super::failure::{Class, Failure, Reason, names};

names! {
    /// State of a job, as in `meetlink.jobs.state`.
    State {
        /// Queued, not tried yet.
        Pending = "pending",
        /// A worker has it.
        Creating = "creating",
        /// Failed, will be tried again.
        Retrying = "retrying",
        /// Only the tutor can help.
        NeedsAction = "needs_action",
        /// A request may have arrived; finding out.
        InDoubt = "in_doubt",
        /// Given up.
        Failed = "failed",
        /// The link is there.
        Ready = "ready",
        /// Cancelled, over, or not attached.
        NotNeeded = "not_needed",
    }
}

/// Whom a wait concerns beyond the one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Every job of this tutor at this provider.
    Tutor,
    /// Every job at this provider.
    Provider,
}

/// What becomes of a job after a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its next state.
    pub state: State,
    /// When it is due again, from now; `None` when it is parked.
    pub delay: Option<Duration>,
    /// Whether the attempt counts towards `meetlink.max_attempts`.
    pub counts: bool,
    /// Whether others have to wait as well.
    pub hold: Option<Hold>,
    /// Whether the tutor's connection is to be marked `needs_reauth`.
    pub reconnect: bool,
}

/// How often a job was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Attempts that count towards the limit, this one included.
    pub attempts: u32,
    /// Failures in a row, whether they count or not, this one included: what the wait grows with.
    pub failures: u32,
    /// While the provider as a whole is down: for how long it is not called at least. No attempt
    /// counts then.
    pub outage: Option<Duration>,
}

/// Decides what follows a failure. `was_in_doubt` says that the attempt was there to find a meeting
/// that may exist; `random` is uniform over all of `u64`.
pub fn after_failure(
    failure: &Failure,
    tries: Tries,
    was_in_doubt: bool,
    policy: &Policy,
    random: u64,
) -> Verdict {
    // A wait that is asked for may be none at all: zero, or a date that a clock which is ahead takes
    // for past. It lengthens the backoff and never takes its place.
    let backoff = || {
        let grown = policy.wait(tries.failures, random);
        let asked = failure
            .retry_after
            .map(|asked| policy.at_least(asked, random));
        asked.map_or(grown, |asked| asked.max(grown))
    };
    let mut verdict = Verdict {
        state: State::Retrying,
        delay: None,
        counts: true,
        hold: None,
        reconnect: false,
    };
    match failure.class {
        // The doubt outlives trouble on the way to its answer, however often that fails.
        Class::Retry | Class::RetryAfter | Class::InDoubt if was_in_doubt && failure.may_exist => {
            verdict.state = State::InDoubt;
            verdict.delay = Some(backoff());
            verdict.counts = false;
        }
        // A look that is refused proves nothing.
        Class::Permanent if was_in_doubt && failure.may_exist => {
            verdict.state = State::InDoubt;
            verdict.delay = Some(policy.max);
            verdict.counts = false;
        }
        Class::InDoubt => {
            verdict.state = State::InDoubt;
            verdict.delay = Some(backoff());
            verdict.counts = false;
        }
        Class::RetryAfter if is_rate_limit(failure.reason) => {
            verdict.delay = Some(backoff());
            verdict.counts = false;
            verdict.hold = Some(match failure.reason {
                Reason::TutorRateLimit => Hold::Tutor,
                _ => Hold::Provider,
            });
        }
        // The machine is short of something: nobody's session is given up for that.
        Class::Retry if failure.reason == Reason::Misconfigured => {
            verdict.delay = Some(backoff());
            verdict.counts = false;
        }
        Class::Retry | Class::RetryAfter if tries.outage.is_some() => {
            verdict.delay = Some(backoff().max(tries.outage.unwrap_or_default()));
            verdict.counts = false;
        }
        Class::Retry | Class::RetryAfter => {
            if tries.attempts >= policy.max_attempts {
                verdict.state = State::Failed;
            } else {
                verdict.delay = Some(backoff());
            }
        }
        Class::TutorMustAct | Class::RefreshToken => {
            verdict.state = State::NeedsAction;
            verdict.reconnect = needs_reconnect(failure.reason);
        }
        Class::OperatorMustAct => {
            verdict.delay = Some(policy.max);
            verdict.counts = false;
            verdict.hold = match failure.reason {
                Reason::OAuthClient => Some(Hold::Provider),
                _ => None,
            };
        }
        Class::Permanent => verdict.state = State::Failed,
    }
    verdict
}

fn is_rate_limit(reason: Reason) -> bool {
    matches!(reason, Reason::TutorRateLimit | Reason::ProviderRateLimit)
}

/// Whether the cause is the connection itself, so that no other job can use it either.
fn needs_reconnect(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConsentRevoked | Reason::ScopeMissing | Reason::TokenUnreadable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        base: Duration::from_secs(2),
        max: Duration::from_secs(900),
        max_attempts: 3,
    };
    const MIDDLE: u64 = 1 << 63;

    fn tries(number: u32) -> Tries {
        Tries {
            attempts: number,
            failures: number,
            outage: None,
        }
    }

    fn after(class: Class, reason: Reason, attempts: u32) -> Verdict {
        after_failure(
            &Failure::new(class, reason, ""),
            tries(attempts),
            false,
            &POLICY,
            MIDDLE,
        )
    }

    #[test]
    fn passing_trouble_backs_off_until_the_attempts_are_used_up() {
        let first = after(Class::Retry, Reason::ProviderDown, 1);
        assert_eq!(
            (first.state, first.delay),
            (State::Retrying, Some(Duration::from_secs(1)))
        );
        let second = after(Class::Retry, Reason::ProviderDown, 2);
        assert_eq!(second.delay, Some(Duration::from_secs(2)));
        let last = after(Class::Retry, Reason::ProviderDown, 3);
        assert_eq!((last.state, last.delay), (State::Failed, None));
    }

    #[test]
    fn rate_limits_hold_whom_they_concern_and_use_up_nothing() {
        let tutor = after(Class::RetryAfter, Reason::TutorRateLimit, 9);
        assert_eq!((tutor.state, tutor.counts), (State::Retrying, false));
        assert_eq!(tutor.hold, Some(Hold::Tutor));
        let all = after(Class::RetryAfter, Reason::ProviderRateLimit, 9);
        assert_eq!(all.hold, Some(Hold::Provider));
    }

    #[test]
    fn an_asked_wait_is_respected() {
        let mut failure = Failure::new(Class::RetryAfter, Reason::ProviderDown, "");
        failure.retry_after = Some(Duration::from_secs(120));
        let verdict = after_failure(&failure, tries(1), false, &POLICY, 0);
        assert_eq!(verdict.delay, Some(Duration::from_secs(120)));
    }

    /// `Retry-After: 0`, or a date that a clock which is ahead takes for past.
    #[test]
    fn an_asked_wait_never_shortens_the_backoff() {
        for class in Class::ALL {
            for reason in Reason::ALL {
                for (doubt, may_exist) in [(false, false), (false, true), (true, true)] {
                    for random in [0, MIDDLE, u64::MAX] {
                        let plain = Failure::new(*class, *reason, "").may_exist(may_exist);
                        let decide = |asked| {
                            let failure = plain.clone().after(asked);
                            let policy = Policy {
                                max_attempts: 10,
                                ..POLICY
                            };
                            after_failure(&failure, tries(6), doubt, &policy, random)
                        };
                        let own = decide(None);
                        assert_eq!(decide(Some(Duration::ZERO)), own, "{plain:?}");
                        let short = decide(Some(Duration::from_millis(1)));
                        assert!(short.delay >= own.delay, "{plain:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tutors_matter_is_parked_and_a_dead_connection_is_marked() {
        let revoked = after(Class::TutorMustAct, Reason::ConsentRevoked, 1);
        assert_eq!((revoked.state, revoked.delay), (State::NeedsAction, None));
        assert!(revoked.reconnect);
        let no_meet = after(Class::TutorMustAct, Reason::NoMeetInCalendar, 1);
        assert!(!no_meet.reconnect);
    }

    #[test]
    fn an_operators_matter_uses_up_no_attempt() {
        let verdict = after(Class::OperatorMustAct, Reason::OAuthClient, 99);
        assert_eq!((verdict.state, verdict.counts), (State::Retrying, false));
        assert_eq!(verdict.hold, Some(Hold::Provider));
    }

    #[test]
    fn doubt_is_never_given_up_by_count_and_ends_only_with_an_answer() {
        let lost = Failure::new(Class::InDoubt, Reason::AnswerLost, "").may_exist(true);
        let verdict = after_failure(&lost, tries(99), false, &POLICY, MIDDLE);
        assert_eq!((verdict.state, verdict.counts), (State::InDoubt, false));

        let down = Failure::new(Class::Retry, Reason::ProviderDown, "").may_exist(true);
        let verdict = after_failure(&down, tries(99), true, &POLICY, MIDDLE);
        assert_eq!(verdict.state, State::InDoubt);
    }

    #[test]
    fn proof_that_nothing_was_made_is_a_failed_attempt_like_any_other() {
        let absent = Failure::new(Class::Retry, Reason::AnswerLost, "");
        let verdict = after_failure(&absent, tries(2), true, &POLICY, MIDDLE);
        assert_eq!((verdict.state, verdict.counts), (State::Retrying, true));
        assert_eq!(verdict.delay, Some(Duration::from_secs(2)));
        let verdict = after_failure(&absent, tries(3), true, &POLICY, MIDDLE);
        assert_eq!(verdict.state, State::Failed);
    }

    #[test]
    fn a_shortage_on_this_machine_uses_up_no_attempt() {
        let verdict = after(Class::Retry, Reason::Misconfigured, 99);
        assert_eq!((verdict.state, verdict.counts), (State::Retrying, false));
    }

    #[test]
    fn an_outage_of_the_provider_uses_up_no_attempt() {
        let outage = Some(Duration::from_secs(60));
        let last = Tries {
            outage,
            ..tries(99)
        };
        let down = Failure::new(Class::Retry, Reason::ProviderDown, "");
        let verdict = after_failure(&down, last, false, &POLICY, 0);
        assert_eq!((verdict.state, verdict.counts), (State::Retrying, false));
        assert_eq!(verdict.delay, outage);
        let revoked = Failure::new(Class::TutorMustAct, Reason::ConsentRevoked, "");
        let verdict = after_failure(&revoked, last, false, &POLICY, 0);
        assert_eq!(verdict.state, State::NeedsAction);
    }

    #[test]
    fn the_wait_grows_with_failures_that_do_not_count() {
        let limit = Failure::new(Class::RetryAfter, Reason::TutorRateLimit, "");
        let often = Tries {
            attempts: 1,
            failures: 4,
            outage: None,
        };
        let verdict = after_failure(&limit, often, false, &POLICY, MIDDLE);
        assert_eq!(
            (verdict.delay, verdict.counts),
            (Some(Duration::from_secs(8)), false)
        );
    }

    #[test]
    fn every_class_ends_due_or_parked() {
        for class in Class::ALL {
            for reason in Reason::ALL {
                for (attempts, doubt, may_exist) in [
                    (1, false, false),
                    (1, true, true),
                    (3, false, true),
                    (3, true, false),
                ] {
                    let failure = Failure::new(*class, *reason, "").may_exist(may_exist);
                    let verdict = after_failure(&failure, tries(attempts), doubt, &POLICY, MIDDLE);
                    let due = matches!(verdict.state, State::Retrying | State::InDoubt);
                    assert_eq!(due, verdict.delay.is_some(), "{failure:?} {verdict:?}");
                    assert!(verdict.state != State::Creating && verdict.state != State::Ready);
                }
            }
        }
    }
}
