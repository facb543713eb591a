//! What an attempt's end says about its provider as a whole. Inside the step's transaction.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::journal;
use super::outcome::Office;
use crate::domain::breaker::{Side, Sign, sign_of};
use crate::domain::failure::{Failure, Reason};
use crate::pg::error::PgError;
use crate::store::holds;

impl Office<'_> {
    /// A provider answered as it should.
    pub fn note_good(&self, provider: &'static str, side: Side) -> Result<(), PgError> {
        if self.breakers.borrow_mut().of(provider, side).good() {
            holds::release_outage(provider, side)?;
        }
        Ok(())
    }

    /// Takes in what a failure says about the provider as a whole; gives for how long it is not to
    /// be called, if it is down.
    pub fn note_failure(
        &self,
        provider: &'static str,
        side: Side,
        subject: (Uuid, Uuid),
        failure: &Failure,
    ) -> Result<Option<Duration>, PgError> {
        match sign_of(failure) {
            Sign::None => return Ok(None),
            Sign::Good => {
                self.note_good(provider, side)?;
                return Ok(None);
            }
            Sign::Bad => {}
        }
        let mut breakers = self.breakers.borrow_mut();
        let breaker = breakers.of(provider, side);
        let (now, policy) = (Instant::now(), &self.settings.policy);
        if let Some(wait) = breaker.bad(subject, now, policy, (self.random)()) {
            holds::hold(&holds::Hold {
                provider,
                side,
                tutor: None,
                wait,
                reason: Reason::ProviderDown,
                error: &failure.text,
            })?;
            self.notices.down(provider, &failure.text);
            journal::down(provider, side);
        }
        Ok(breaker.open_for(now))
    }
}
