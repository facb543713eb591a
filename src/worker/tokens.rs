//! Access tokens that have to be renewed: one refresh at a time for an account, stored before use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use chrono::Utc;
use pgrx::PgSqlErrorCode;
use uuid::Uuid;

use super::access::{Token, another_token};
use super::depart::oauth_clients;
use super::flight::{Desk, Flight};
use super::outcome::{LOCK_TIMEOUT, Office};
use super::pool::Account;
use super::rooms::Tried;
use super::step::{After, View, still_in_doubt};
use crate::domain::breaker::Side;
use crate::domain::envelope::{self, NONCE_LEN, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::pg::error::PgError;
use crate::pg::xact;
use crate::provider::Grant;
use crate::store::app::{self, Tokens};

/// A refresh under way.
#[derive(Default)]
pub struct Renewal {
    /// Envelope of the refresh token that was sent.
    pub envelope: Option<String>,
    /// Attempts that wait for it.
    pub waiting: Vec<Uuid>,
}

/// Whether there is one for an attempt.
pub enum UnderWay {
    /// None for its account.
    No,
    /// With the very token that the attempt would send.
    Same,
    /// With another one: the tutor has reconnected meanwhile, and its outcome says nothing here.
    Other,
}

/// Wait for the refresh of an older connection.
pub const OTHER_WAIT: Duration = Duration::from_millis(300);
/// What the operator reads meanwhile.
pub const OTHER: &str =
    "The tutor has reconnected; a refresh of the old connection is still under way.";

/// An access token was refused before its time: the attempt goes on with another one.
pub fn renew(
    view: &View<'_>,
    office: &Office<'_>,
    mut flight: Flight,
    after: &mut After,
) -> Result<(), PgError> {
    match under_way(view, after, &flight) {
        UnderWay::No => {}
        UnderWay::Same => {
            after.renew.push((flight, None));
            return Ok(());
        }
        UnderWay::Other => {
            let failure = Failure::new(Class::Retry, Reason::Interrupted, OTHER);
            return give_up(office, &flight, failure, None, after);
        }
    }
    let clients = oauth_clients()?;
    let desk = Desk {
        settings: view.settings,
        keys: view.keys,
        sessions: &HashMap::new(),
        names: &HashMap::new(),
        connections: &HashMap::new(),
        clients: &clients,
        holds: &[],
        tried: &Tried::default(),
        now: Utc::now(),
    };
    let connections = match view.mapped {
        Some(mapped) => app::connections(mapped, &[flight.tutor])?,
        None => Vec::new(),
    };
    let name = flight.provider.name();
    let usable = connections
        .iter()
        .find(|c| c.provider == name && c.is_usable());
    let token = match usable {
        Some(connection) => another_token(&mut flight, connection, &desk),
        None => {
            let text = "The connection ended while the attempt was under way.";
            Err(Failure::new(
                Class::TutorMustAct,
                Reason::ConsentRevoked,
                text,
            ))
        }
    };
    match token {
        Ok(Token::Fresh(token)) => after.granted.push((flight, token)),
        Ok(Token::Renew(request)) => after.renew.push((flight, Some(request))),
        Err(failure) => give_up(office, &flight, failure, None, after)?,
    }
    Ok(())
}

/// Ends an attempt that gets no token.
fn give_up(
    office: &Office<'_>,
    flight: &Flight,
    failure: Failure,
    outage: Option<Duration>,
    after: &mut After,
) -> Result<(), PgError> {
    let failure = still_in_doubt(&flight.claimed, failure);
    office.failed(
        &flight.claimed,
        Some(flight.provider),
        Some(flight),
        &failure,
        outage,
    )?;
    after.landed.push(flight.claimed.session);
    Ok(())
}

/// Whether a refresh for an attempt's account is under way, or about to be.
pub fn under_way(view: &View<'_>, after: &After, flight: &Flight) -> UnderWay {
    let account = flight.account();
    let running = view.renewals.get(&account).map(|renewal| &renewal.envelope);
    let starting = || {
        let mut others = after.renew.iter().map(|(other, _)| other);
        others
            .find(|other| other.account() == account)
            .map(|other| &other.refresh)
    };
    match running.or_else(starting) {
        None => UnderWay::No,
        Some(envelope) if *envelope == flight.refresh => UnderWay::Same,
        Some(_) => UnderWay::Other,
    }
}

/// A refresh is over: its attempts go on, or fail with it.
pub fn refresh_ended(
    view: &View<'_>,
    office: &Office<'_>,
    account: Account,
    result: &Result<Grant, Failure>,
    after: &mut After,
) -> Result<(), PgError> {
    let waiting = view
        .renewals
        .get(&account)
        .map_or(&[][..], |renewal| &renewal.waiting);
    let flights = waiting
        .iter()
        .filter_map(|session| view.flights.get(session));
    let flights: Vec<&Flight> = flights.collect();
    let (tutor, name) = account;
    let outage = match result {
        Ok(_) => {
            office.note_good(name, Side::Tokens)?;
            None
        }
        Err(failure) => office.note_failure(name, Side::Tokens, (tutor, tutor), failure)?,
    };
    let stored = match result {
        Ok(grant) => store_grant(view, office, account, &flights, grant),
        Err(failure) => {
            for flight in &flights {
                give_up(office, flight, failure.clone(), outage, after)?;
            }
            after.renewed.push(account);
            return Ok(());
        }
    };
    match (stored, result) {
        (Ok(Stored::Yes { access, refresh }), Ok(grant)) => {
            for flight in flights {
                let mut flight = Flight {
                    refreshed: true,
                    ..flight.clone()
                };
                flight.access = Some(access.clone());
                if let Some(refresh) = &refresh {
                    flight.refresh = Some(refresh.clone());
                }
                after.granted.push((flight, grant.access.clone()));
            }
            after.renewed.push(account);
        }
        // The tutor has reconnected meanwhile: begin anew.
        (Ok(Stored::Overtaken), _) => {
            for flight in flights {
                let text = "The connection changed while its token was refreshed.";
                let failure = Failure::new(Class::Retry, Reason::Interrupted, text);
                give_up(office, flight, failure, None, after)?;
            }
            after.renewed.push(account);
        }
        // Not stored, so not to be used, and not to be lost either: kept until it is.
        (stored, _) => {
            after.unsaved.push((account, result.clone()));
            after.unsaved_because = stored.err();
        }
    }
    Ok(())
}

fn store_grant(
    view: &View<'_>,
    office: &Office<'_>,
    account: Account,
    flights: &[&Flight],
    grant: &Grant,
) -> Result<Stored, PgError> {
    let Some(old) = flights.iter().find_map(|flight| flight.refresh.as_deref()) else {
        return Ok(Stored::Overtaken);
    };
    let mut nonces = [[0u8; NONCE_LEN]; 2];
    nonces.iter_mut().for_each(|nonce| OsRng.fill_bytes(nonce));
    office.store_grant(view.keys, account, old, grant, nonces)
}

impl Office<'_> {
    /// Stores what a token endpoint granted, in place of the tokens that were read.
    fn store_grant(
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
enum Stored {
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
