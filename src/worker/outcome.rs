//! What an attempt's end does to the tables. Inside the step's transaction.

use std::cell::RefCell;
use std::time::Duration;

use uuid::Uuid;

use super::chronicle::Chronicle;
use super::flight::Flight;
use super::journal;
use super::notices::Notices;
use super::rooms::Breakers;
use crate::config::Settings;
use crate::domain::breaker::Side;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::state::{Hold, State, Tries, after_failure};
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::Provider;
use crate::store::app;
use crate::store::holds;
use crate::store::jobs::{self, Claimed, Outcome, Setback};
use crate::store::mapped::Mapped;

/// Longest time that a write to the application's tables waits for a lock: the worker's main
/// thread has others to serve, and comes back.
pub const LOCK_TIMEOUT: &std::ffi::CStr = c"50ms";

/// A limit of the account before that lasts longer, or was met so often in a row, is not waited for by
/// the tutor who teaches by now.
const LONG: Duration = Duration::from_secs(60);
const FEW: u32 = 3;

/// What outcomes need at hand.
pub struct Office<'a> {
    /// Settings.
    pub settings: &'a Settings,
    /// The application's tables; `None` while they are not as they were mapped.
    pub mapped: Option<&'a Mapped>,
    /// A source of random numbers.
    pub random: &'a dyn Fn() -> u64,
    /// What is known of the providers as a whole.
    pub breakers: &'a RefCell<Breakers>,
    /// What happens, for the figures.
    pub chronicle: &'a Chronicle,
    /// Who is told what.
    pub notices: &'a Notices,
}

impl Office<'_> {
    /// Runs `f` in a subtransaction; what it noted is forgotten too where it fails.
    pub fn attempt<T>(&self, f: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
        let (chronicle, notices) = (self.chronicle.clone(), self.notices.clone());
        let breakers = self.breakers.borrow().clone();
        let done = xact::subtransaction(f);
        if done.is_err() {
            self.chronicle.back_to(chronicle);
            self.notices.back_to(notices);
            self.breakers.replace(breakers);
        }
        done
    }

    /// A meeting was removed that its session no longer needed.
    pub fn removed(&self, flight: &Flight) -> Result<State, PgError> {
        let session = flight.claimed.session;
        let provider = flight.provider.name();
        self.record(&flight.claimed, Some(provider), Outcome::Removed);
        let mapped = self.mapped;
        let now = xact::subtransaction(|| match mapped {
            Some(mapped) => app::sessions(mapped, &[session]),
            None => Ok(Vec::new()),
        });
        // What cannot be read now is looked at by the next attempt.
        let state = match now.as_deref().map(<[_]>::first) {
            Ok(None) => State::NotNeeded,
            Ok(Some(now)) if !now.lacks_link => State::Ready,
            Ok(Some(now)) if !now.wants => State::NotNeeded,
            Ok(Some(_)) | Err(_) => State::Pending,
        };
        jobs::forget_meeting(session, state)?;
        jobs::announce(session, state);
        Ok(state)
    }

    /// An attempt failed; gives the job's next state. `outage`: for how long the provider is not to
    /// be called, if it is down as a whole.
    pub fn failed(
        &self,
        claimed: &Claimed,
        provider: Option<&'static dyn Provider>,
        flight: Option<&Flight>,
        failure: &Failure,
        outage: Option<Duration>,
    ) -> Result<State, PgError> {
        let session = claimed.session;
        let name = provider.map(|p| p.name());
        let tries = tries(claimed, outage);
        let mut verdict = after_failure(
            failure,
            tries,
            claimed.was_in_doubt(),
            &self.settings.policy,
            (self.random)(),
        );
        if (claimed.gone || claimed.moved) && verdict.state == State::Failed {
            // Nobody could ask for another try, and removing or moving again does no harm.
            verdict.state = State::Retrying;
            verdict.delay = Some(self.settings.policy.max);
        }
        self.record(claimed, name, Outcome::Failed(failure));
        let mut reason = failure.reason;
        let wanted_by = if claimed.gone {
            self.wanted_by(session)
        } else {
            None
        };
        let asked = failure.retry_after.unwrap_or_default();
        let limited = failure.reason == Reason::TutorRateLimit;
        let lasting = limited && (asked > LONG || tries.failures >= FEW)
            || matches!(
                failure.class,
                Class::TutorMustAct | Class::RefreshToken | Class::Permanent
            )
            || tries.attempts >= self.settings.policy.max_attempts;
        if wanted_by.is_some_and(|tutor| Some(tutor) != claimed.account) && lasting {
            // Another tutor teaches by now, whose link is not to wait for the account before: what
            // is left there is given up, and the ledger has said why.
            if let Some(flight) = flight {
                self.park(flight, verdict.reconnect)?;
            }
            jobs::forget_meeting(session, State::Pending)?;
            jobs::announce(session, State::Pending);
            return Ok(State::Pending);
        }
        if wanted_by.is_some() && verdict.state == State::NeedsAction {
            // Opened again meanwhile: no longer a removal, and the next attempt sees to it.
            verdict.state = State::Retrying;
            verdict.delay = Some(self.settings.policy.wait(tries.failures, (self.random)()));
        } else if let (Some(flight), State::NeedsAction) = (flight, verdict.state)
            && !self.park(flight, verdict.reconnect)?
        {
            // The tutor has reconnected while this attempt was under way: once more, as any retry.
            let policy = &self.settings.policy;
            if tries.attempts < policy.max_attempts {
                verdict.state = State::Retrying;
                verdict.delay = Some(policy.wait(tries.failures, (self.random)()));
                reason = Reason::Interrupted;
            } else {
                verdict.state = State::Failed;
            }
        }
        if let (Some(hold), Some(provider), Some(delay)) = (verdict.hold, name, verdict.delay) {
            let tutor = match hold {
                Hold::Tutor => flight.map(|flight| flight.tutor),
                Hold::Provider => None,
            };
            if tutor.is_some() || hold == Hold::Provider {
                holds::hold(&holds::Hold {
                    provider,
                    side: Side::Meetings,
                    tutor,
                    wait: delay,
                    reason: failure.reason,
                    error: &failure.text,
                })?;
            }
        }
        let (state, tutor) = jobs::set_back(&Setback {
            session,
            state: verdict.state,
            delay: verdict.delay,
            counts: verdict.counts,
            reason,
            error: &shorten(&failure.text),
            may_exist: failure.may_exist || verdict.state == State::InDoubt,
            just_lost: failure.class == Class::InDoubt && claimed.may_exist_since.is_none(),
            provider: name,
        })?;
        let given_up = state == State::Failed;
        journal::note(claimed, name, &Outcome::Failed(failure), given_up);
        if !claimed.gone && !claimed.moved {
            self.notices
                .failed(state, failure, (tutor, session), provider);
        }
        jobs::announce(session, state);
        Ok(state)
    }

    /// Writes an attempt into the ledger.
    pub(super) fn record(&self, claimed: &Claimed, provider: Option<&str>, outcome: Outcome<'_>) {
        self.chronicle.attempt(claimed, provider, &outcome);
        if !matches!(outcome, Outcome::Failed(_)) {
            journal::note(claimed, provider, &outcome, false);
        }
    }

    /// The tutor of a session that wants a link, as far as can be seen now.
    fn wanted_by(&self, session: Uuid) -> Option<Uuid> {
        let mapped = self.mapped?;
        let seen = xact::subtransaction(|| app::sessions(mapped, &[session])).ok()?;
        seen.into_iter().find(|session| session.wants)?.tutor
    }

    /// Whether the account is still as the attempt found it, so that the job may be parked for its
    /// tutor; marks the connection if that is what ended.
    fn park(&self, flight: &Flight, reconnect: bool) -> Result<bool, PgError> {
        let Some(mapped) = self.mapped else {
            return Ok(true);
        };
        let name = flight.provider.name();
        let looked = xact::subtransaction(|| {
            xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
            let now = app::connections(mapped, &[flight.tutor])?;
            let same = now.iter().any(|connection| {
                connection.provider == name && connection.refresh == flight.refresh
            });
            if same && reconnect {
                app::mark_reauth(mapped, flight.tutor, name, flight.refresh.as_deref())?;
            }
            Ok(same)
        });
        // A connection that cannot be marked now is found ended again by the next attempt.
        Ok(looked.unwrap_or(true))
    }
}

pub(super) fn tries(claimed: &Claimed, outage: Option<Duration>) -> Tries {
    Tries {
        attempts: claimed.attempts.unsigned_abs(),
        failures: claimed.setbacks.unsigned_abs().saturating_add(1),
        outage,
    }
}

/// An error's text comes from Postgres or from a trigger of the application: kept short.
pub(super) fn shorten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect()
}
