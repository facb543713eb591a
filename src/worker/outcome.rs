//! What an attempt's end does to the tables. Inside the step's transaction.

use std::sync::Arc;

use pgrx::PgSqlErrorCode;

use super::flight::Flight;
use super::pool::Account;
use crate::config::Settings;
use crate::domain::envelope::{self, NONCE_LEN, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::domain::meeting::{JoinUrl, Meeting};
use crate::domain::state::{Hold, State, Tries, after_failure};
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::{Grant, Provider};
use crate::store::app::{self, Tokens};
use crate::store::config;
use crate::store::jobs::{self, Attempt, Claimed, Setback};
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
}

impl Office<'_> {
    /// A meeting was made, or only its link has still to be written.
    pub fn made(&self, flight: &Flight, meeting: &Meeting, new: bool) -> Result<State, PgError> {
        let session = flight.claimed.session;
        let provider = flight.provider.name();
        if new {
            jobs::record(&attempt(&flight.claimed, Some(provider), None))?;
        }
        let written = xact::subtransaction(|| {
            let mapped = self.mapped.ok_or_else(|| {
                PgError::new(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                    "the application's tables are not as meetlink_attach found them",
                )
            })?;
            xact::set_local(c"lock_timeout", LOCK_TIMEOUT)?;
            app::write_link(mapped, session, provider, meeting)?;
            // Read back: row security or a trigger may have dropped the link without a word.
            match app::sessions(mapped, &[session])?.first() {
                None => Ok(State::NotNeeded),
                Some(session) if !session.lacks_link => Ok(State::Ready),
                Some(_) => Err(PgError::new(
                    PgSqlErrorCode::ERRCODE_TRIGGERED_ACTION_EXCEPTION,
                    "the update changed nothing; a trigger on the table may have dropped it",
                )),
            }
        });
        let state = match written {
            Ok(state) => {
                jobs::finish_with(session, state, provider, meeting)?;
                state
            }
            Err(error) => {
                // Whatever happens to the session, the meeting is not forgotten.
                jobs::keep_meeting(session, provider, meeting)?;
                let text = format!(
                    "The meeting exists, but its link could not be written into the session: \
                     {error}."
                );
                let delay = self
                    .settings
                    .policy
                    .wait(tries(&flight.claimed).failures, (self.random)());
                jobs::set_back(&Setback {
                    session,
                    state: State::Retrying,
                    delay: Some(delay),
                    counts: true,
                    reason: Reason::WriteBack,
                    error: &shorten(&text),
                    may_exist: false,
                    just_lost: false,
                    provider: Some(provider),
                })?
            }
        };
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
                )
            }
        }
    }

    /// An attempt failed; gives the job's next state.
    pub fn failed(
        &self,
        claimed: &Claimed,
        provider: Option<&'static dyn Provider>,
        flight: Option<&Flight>,
        failure: &Failure,
    ) -> Result<State, PgError> {
        let session = claimed.session;
        let name = provider.map(|p| p.name());
        let tries = tries(claimed);
        let mut verdict = after_failure(
            failure,
            tries,
            claimed.was_in_doubt,
            &self.settings.policy,
            (self.random)(),
        );
        jobs::record(&attempt(claimed, name, Some(failure)))?;
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
                let wait = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
                config::hold(provider, tutor, wait, failure.reason.as_str())?;
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

fn tries(claimed: &Claimed) -> Tries {
    Tries {
        attempts: claimed.attempts.unsigned_abs(),
        failures: claimed.setbacks.unsigned_abs().saturating_add(1),
    }
}

fn attempt<'a>(
    claimed: &Claimed,
    provider: Option<&'a str>,
    failure: Option<&'a Failure>,
) -> Attempt<'a> {
    Attempt {
        session: claimed.session,
        provider,
        number: claimed.number,
        started_at: claimed.started_at,
        failure,
    }
}

/// An error's text comes from Postgres or from a trigger of the application: kept short.
fn shorten(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect()
}
