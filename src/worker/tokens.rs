//! Access tokens that have to be renewed: one refresh at a time for an account, stored before use.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use pgrx::PgSqlErrorCode;

use super::access::{Token, another_token};
use super::depart::oauth_clients;
use super::flight::{Desk, Flight};
use super::outcome::{LOCK_TIMEOUT, Office};
use super::pool::Account;
use super::renewal::{UnderWay, under_way};
use super::reports::{put_back, still_in_doubt};
use super::rooms::Tried;
use super::step::{After, View};
use crate::domain::breaker::Side;
use crate::domain::envelope::{Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::secret::Secret;
use crate::domain::token_format::TokenFormat;
use crate::domain::vault::{Unreadable, Vault};
use crate::pg::error::PgError;
use crate::pg::{process, xact};
use crate::provider::Grant;
use crate::store::app::{self, Tokens};
use crate::store::mapped::Mapped;

/// How long a row's lock is waited for where another one of the step was waited for in vain.
const IMPATIENCE: &std::ffi::CStr = c"1ms";

/// How often a row is looked at again that is encrypted anew just then.
const TRIES: usize = 3;
/// What a new token must have left when it is stored at last. Less than any has at first.
const LEAST_LIFE: TimeDelta = TimeDelta::seconds(50);

/// An access token was refused before its time: the attempt goes on with another one.
pub fn renew(
    view: &View<'_>,
    office: &Office<'_>,
    mut flight: Flight,
    after: &mut After,
) -> Result<(), PgError> {
    if view.limit == 0 || view.mapped.is_none() {
        return put_back(&flight, after);
    }
    match under_way(view, after, &flight, usize::MAX) {
        UnderWay::No => {}
        UnderWay::Same => {
            after.renew.push((flight, None));
            return Ok(());
        }
        UnderWay::Later(_, why) => {
            let failure = Failure::new(Class::Retry, Reason::Interrupted, why);
            return give_up(office, &flight, failure, None, after);
        }
    }
    let clients = oauth_clients()?;
    let desk = Desk {
        settings: view.settings,
        keys: view.keys,
        doubted: view.doubted,
        proven: view.proven,
        format: view.mapped.map_or(&TokenFormat::Ml1, Mapped::token_format),
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
        Ok(Token::Renew(exchange)) => after.renew.push((flight, Some(exchange))),
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

/// A refresh was not begun: its attempts wait in the queue again.
pub fn refresh_taken_back(
    view: &View<'_>,
    account: Account,
    after: &mut After,
) -> Result<(), PgError> {
    for flight in waiting(view, account) {
        put_back(flight, after)?;
    }
    after.renewed.push(account);
    Ok(())
}

/// Attempts that wait for a refresh.
fn waiting<'a>(view: &View<'a>, account: Account) -> Vec<&'a Flight> {
    let waiting = view
        .renewals
        .get(&account)
        .map_or(&[][..], |renewal| &renewal.waiting);
    let flights = waiting
        .iter()
        .filter_map(|session| view.flights.get(session));
    flights.collect()
}

/// A refresh is over: its attempts go on, or fail with it.
pub fn refresh_ended(
    view: &View<'_>,
    office: &Office<'_>,
    account: Account,
    result: &Result<Grant, Failure>,
    after: &mut After,
) -> Result<(), PgError> {
    let flights = waiting(view, account);
    let (tutor, name) = account;
    let outage = match result {
        Ok(_) => None,
        Err(failure) => office.note_failure(name, Side::Tokens, (tutor, tutor), failure)?,
    };
    let stored = match result {
        Ok(grant) => store_grant(view, account, &flights, grant, after),
        Err(failure) => {
            for flight in &flights {
                give_up(office, flight, failure.clone(), outage, after)?;
            }
            after.renewed.push(account);
            return Ok(());
        }
    };
    if !matches!(stored, Ok(Stored::NotYet) | Err(_)) {
        // Once: what is tried again says nothing new.
        office.note_good(name, Side::Tokens)?;
    }
    match (stored, result) {
        (Ok(Stored::Yes { access, refresh }), Ok(grant)) => {
            for flight in flights {
                let mut flight = Flight {
                    refreshed: true,
                    ..flight.clone()
                };
                flight.access = Some(access.clone());
                flight.refresh = Some(refresh.clone());
                if grant.expires_at > Utc::now() + LEAST_LIFE {
                    after.granted.push((flight, grant.access.clone()));
                } else {
                    // It took so long to store it: the next attempt asks for another.
                    put_back(&flight, after)?;
                }
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
            after.unsaved_because = stored.err().or(after.unsaved_because.take());
        }
    }
    Ok(())
}

/// Stores what a token endpoint granted, in place of the tokens that were read.
fn store_grant(
    view: &View<'_>,
    account: Account,
    flights: &[&Flight],
    grant: &Grant,
    after: &mut After,
) -> Result<Stored, PgError> {
    let (Some(mapped), Ok(keys)) = (view.mapped, view.keys) else {
        return Ok(Stored::NotYet);
    };
    let Some(old) = flights.iter().find_map(|flight| flight.refresh.as_deref()) else {
        return Ok(Stored::Overtaken);
    };
    let traded = view
        .renewals
        .get(&account)
        .and_then(|renewal| renewal.traded.as_ref());
    let desk = Counter {
        mapped,
        vault: Vault {
            keys,
            format: mapped.token_format(),
        },
        account,
    };
    // Somebody's open transaction may hold many rows; to wait for each would hold everybody up.
    let patience = if after.waited {
        IMPATIENCE
    } else {
        LOCK_TIMEOUT
    };
    let stored = xact::subtransaction(|| {
        xact::set_local(c"lock_timeout", patience)?;
        let mut old = old.to_owned();
        // The same token may be encrypted anew meanwhile, and again. To lose the one that came for it
        // would be to lose the account.
        for _ in 0..TRIES {
            match (desk.put_what_fits(&old, grant)?, traded) {
                (Stored::Overtaken, Some(traded)) => match desk.now(traded)? {
                    Now::Is(now) => old = now,
                    Now::Other => return Ok(Stored::Overtaken),
                    Now::Unknown => {
                        view.doubted.set(true);
                        return Ok(Stored::NotYet);
                    }
                },
                (stored, _) => return Ok(stored),
            }
        }
        Ok(Stored::NotYet)
    });
    after.waited |= stored.as_ref().is_err_and(PgError::is_about_locks);
    stored
}

/// What stands where a token was that was traded.
enum Now {
    /// The same token, stored like this.
    Is(String),
    /// Another one, or none.
    Other,
    /// Something that needs a key that is not there.
    Unknown,
}

/// One account's row.
struct Counter<'a> {
    mapped: &'a Mapped,
    vault: Vault<'a>,
    account: Account,
}

impl Counter<'_> {
    fn binding(&self, slot: Slot) -> String {
        let (tutor, provider) = self.account;
        binding(&tutor.hyphenated().to_string(), provider, slot)
    }

    /// Whether the refresh token that is stored now is this one.
    fn now(&self, traded: &Secret) -> Result<Now, PgError> {
        let (tutor, provider) = self.account;
        let connections = app::connections(self.mapped, &[tutor])?.into_iter();
        let theirs = connections.filter(|connection| connection.provider == provider);
        let to = self.binding(Slot::Refresh);
        let mut now = Now::Other;
        for stored in theirs.filter_map(|connection| connection.refresh) {
            match self.vault.open(&to, &stored) {
                Ok(secret) if secret == *traded => return Ok(Now::Is(stored)),
                Err(Unreadable::NoKey(_)) => now = Now::Unknown,
                Ok(_) | Err(_) => {}
            }
        }
        Ok(now)
    }

    /// Stores new tokens where `old` is still the refresh token. An access token for which the column
    /// is too short is used and not kept: without the refresh token that came with it the account
    /// would be lost.
    fn put_what_fits(&self, old: &str, grant: &Grant) -> Result<Stored, PgError> {
        let mut done = xact::subtransaction(|| self.put(old, grant, None));
        for (instead, because) in [
            (None, PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
            (Some(""), PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION),
        ] {
            if done.as_ref().is_err_and(|error| error.code == because) {
                done = xact::subtransaction(|| self.put(old, grant, Some(instead)));
            }
        }
        done
    }

    /// Stores new tokens where `old` is still the refresh token; `instead`: of the access token.
    fn put(
        &self,
        old: &str,
        grant: &Grant,
        instead: Option<Option<&str>>,
    ) -> Result<Stored, PgError> {
        let seal = |secret, slot| {
            let sealed = self
                .vault
                .seal_like(old, &self.binding(slot), secret, process::random()?);
            sealed.map_err(|_| {
                PgError::new(
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    "the new token could not be encrypted",
                )
            })
        };
        let access = seal(&grant.access, Slot::Access)?;
        let refresh = match &grant.refresh {
            Some(token) => Some(seal(token, Slot::Refresh)?),
            None => None,
        };
        let tokens = Tokens {
            access: instead.unwrap_or(Some(access.as_str())),
            refresh: refresh.as_deref(),
            expires_at: grant.expires_at.timestamp_micros(),
        };
        let (tutor, provider) = self.account;
        if app::write_tokens(self.mapped, tutor, provider, old, &tokens)? {
            // What was encrypted anew stays so where the provider gave no other.
            let refresh = refresh.unwrap_or_else(|| old.to_owned());
            Ok(Stored::Yes { access, refresh })
        } else {
            Ok(Stored::Overtaken)
        }
    }
}

/// What became of new tokens.
enum Stored {
    /// In the connection's row, as these envelopes.
    Yes {
        /// Access token.
        access: String,
        /// Refresh token.
        refresh: String,
    },
    /// The row has other tokens by now: the tutor has reconnected.
    Overtaken,
    /// There is no key, or no table, to store them with.
    NotYet,
}
