//! What an attempt's end does to the tables. Inside the step's transaction.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use pgrx::PgSqlErrorCode;

use super::flight::Flight;
use super::pool::Account;
use super::rooms::Breakers;
use crate::config::Settings;
use crate::domain::breaker::Side;
use crate::domain::envelope::{self, NONCE_LEN, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::domain::meeting::{JoinUrl, Meeting};
use crate::domain::state::{Hold, State, Tries, after_failure};
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::{Grant, Provider};
use crate::store::app::{self, Tokens};
use crate::store::holds;
use crate::store::jobs::{self, Attempt, Claimed, Outcome, Setback};
use crate::store::mapped::Mapped;

/// Longest time that a write to the application's tables waits for a lock: the worker's main
/// thread has others to serve, and comes back.
const LOCK_TIMEOUT: &std::ffi::CStr = c"50ms";

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
}

impl Office<'_> {
    /// A meeting was made, or only its link has still to be written.
    pub fn made(&self, flight: &Flight, meeting: &Meeting, new: bool) -> Result<State, PgError> {
        let session = flight.claimed.session;
        let provider = flight.provider.name();
        if new {
            jobs::record(&attempt(&flight.claimed, Some(provider), Outcome::Made))?;
        }
        let written = xact::subtransaction(|| self.write(flight, meeting));
        let state = match written {
            Ok(Written::There) => {
                jobs::finish_with(session, State::Ready, provider, meeting)?;
                State::Ready
            }
            Ok(Written::Moved) => {
                jobs::keep_meeting(session, provider, meeting)?;
                jobs::follow(session)?;
                let text = "The session was put to another time while its meeting was made; the meeting follows.";
                self.go_on(flight, Reason::SessionMoved, text, Duration::ZERO, false)?;
                State::Ready
            }
            Ok(Written::Unneeded(state)) => {
                jobs::keep_meeting(session, provider, meeting)?;
                jobs::orphan(session)?;
                state
            }
            Err(error) => {
                // Whatever happens to the session, the meeting is not forgotten.
                jobs::keep_meeting(session, provider, meeting)?;
                let text = format!(
                    "The meeting exists, but its link could not be written into the session: \
                     {error}."
                );
                let policy = &self.settings.policy;
                let delay = policy.wait(tries(&flight.claimed, None).failures, (self.random)());
                self.go_on(flight, Reason::WriteBack, &shorten(&text), delay, true)?
            }
        };
        jobs::announce(session, state)?;
        Ok(state)
    }

    /// Writes a link into its session, and looks at what came of it.
    fn write(&self, flight: &Flight, meeting: &Meeting) -> Result<Written, PgError> {
        let mapped = self.mapped.ok_or_else(|| {
            PgError::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                "the application's tables are not as meetlink_attach found them",
            )
        })?;
        let session = flight.claimed.session;
        xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
        let ours = app::write_link(mapped, session, flight.provider.name(), meeting)?
            || flight.claimed.moved;
        // Read back: row security or a trigger may have dropped the link without a word.
        match app::sessions(mapped, &[session])?.first() {
            None => Ok(Written::Unneeded(State::NotNeeded)),
            Some(now) if now.lacks_link && !now.is_open => Ok(Written::Unneeded(State::NotNeeded)),
            Some(now) if now.lacks_link => Err(PgError::new(
                PgSqlErrorCode::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
                "the update changed nothing; a trigger on the table may have dropped it",
            )),
            // Somebody filled in another link meanwhile.
            Some(now) if !ours && !now.has(&meeting.external_id, meeting.join_url.as_str()) => {
                Ok(Written::Unneeded(State::Ready))
            }
            Some(now) if now.is_open && flight.is_elsewhen(now) => Ok(Written::Moved),
            Some(_) => Ok(Written::There),
        }
    }

    /// The job goes on after a while, with the meeting that it has.
    fn go_on(
        &self,
        flight: &Flight,
        reason: Reason,
        error: &str,
        delay: Duration,
        counts: bool,
    ) -> Result<State, PgError> {
        jobs::set_back(&Setback {
            session: flight.claimed.session,
            state: State::Retrying,
            delay: Some(delay),
            counts,
            reason,
            error,
            may_exist: false,
            just_lost: false,
            provider: Some(flight.provider.name()),
        })
    }

    /// A meeting was removed that its session no longer needed.
    pub fn removed(&self, flight: &Flight) -> Result<State, PgError> {
        let session = flight.claimed.session;
        let provider = flight.provider.name();
        jobs::record(&attempt(&flight.claimed, Some(provider), Outcome::Removed))?;
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
        jobs::announce(session, state)?;
        Ok(state)
    }

    /// Writes the link of a meeting that was kept.
    pub fn write_again(&self, flight: &Flight) -> Result<State, PgError> {
        let kept = flight.claimed.made.as_ref().and_then(|(id, url)| {
            let join_url = JoinUrl::parse(url)?;
            Some(Meeting {
                external_id: id.clone(),
                join_url,
            })
        });
        match kept {
            Some(meeting) => self.made(flight, &meeting, false),
            None => {
                let text = "The link that was kept for this session is not a link.";
                let failure = Failure::new(Class::Permanent, Reason::AnswerUnreadable, text);
                self.failed(
                    &flight.claimed,
                    Some(flight.provider),
                    Some(flight),
                    &failure,
                    None,
                )
            }
        }
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
        let mut tries = tries(claimed, outage);
        if claimed.gone {
            // Passing trouble never ends in leaving a meeting where nobody looks for it.
            tries.attempts = 0;
        }
        let mut verdict = after_failure(
            failure,
            tries,
            claimed.was_in_doubt,
            &self.settings.policy,
            (self.random)(),
        );
        jobs::record(&attempt(claimed, name, Outcome::Failed(failure)))?;
        let mut reason = failure.reason;
        if let (Some(flight), State::NeedsAction) = (flight, verdict.state)
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
        let state = jobs::set_back(&Setback {
            session,
            state: verdict.state,
            delay: verdict.delay,
            counts: verdict.counts,
            reason,
            error: &shorten(&failure.text),
            may_exist: failure.may_exist,
            just_lost: failure.class == Class::InDoubt && claimed.may_exist_since.is_none(),
            provider: name,
        })?;
        jobs::announce(session, state)?;
        Ok(state)
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

    /// Stores what a token endpoint granted, in place of the tokens that were read.
    pub fn store_grant(
        &self,
        keys: &Result<Arc<KeyRing>, String>,
        account: Account,
        old: &str,
        grant: &Grant,
        nonces: [[u8; NONCE_LEN]; 2],
    ) -> Result<Stored, PgError> {
        let (Some(mapped), Ok(keys)) = (self.mapped, keys) else {
            return Ok(Stored::NotYet);
        };
        let (tutor, provider) = account;
        let owner = tutor.hyphenated().to_string();
        let seal = |secret, slot, nonce| {
            envelope::seal(keys, &binding(&owner, provider, slot), secret, nonce).map_err(|_| {
                PgError::new(
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    "the new token could not be encrypted",
                )
            })
        };
        let access = seal(&grant.access, Slot::Access, nonces[0])?;
        let refresh = match &grant.refresh {
            Some(token) => Some(seal(token, Slot::Refresh, nonces[1])?),
            None => None,
        };
        let tokens = Tokens {
            access: &access,
            refresh: refresh.as_deref(),
            expires_at: grant.expires_at.timestamp_micros(),
        };
        let stored = xact::subtransaction(|| {
            xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
            app::write_tokens(mapped, tutor, provider, old, &tokens)
        })?;
        Ok(if stored {
            Stored::Yes { access, refresh }
        } else {
            Stored::Overtaken
        })
    }
}

/// What became of new tokens.
pub enum Stored {
    /// In the connection's row, as these envelopes.
    Yes {
        /// Access token.
        access: String,
        /// Refresh token, if the provider rotates them.
        refresh: Option<String>,
    },
    /// The row has other tokens by now: the tutor has reconnected.
    Overtaken,
    /// There is no key, or no table, to store them with.
    NotYet,
}

/// What writing a link came to.
enum Written {
    /// The session has it.
    There,
    /// The session has it, and was put to another time meanwhile.
    Moved,
    /// The session is gone, cancelled, or has another link; its state then.
    Unneeded(State),
}

fn tries(claimed: &Claimed, outage: Option<Duration>) -> Tries {
    Tries {
        attempts: claimed.attempts.unsigned_abs(),
        failures: claimed.setbacks.unsigned_abs().saturating_add(1),
        outage,
    }
}

fn attempt<'a>(claimed: &Claimed, provider: Option<&'a str>, outcome: Outcome<'a>) -> Attempt<'a> {
    Attempt {
        session: claimed.session,
        provider,
        number: claimed.number,
        started_at: claimed.started_at,
        outcome,
    }
}

/// An error's text comes from Postgres or from a trigger of the application: kept short.
fn shorten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect()
}
