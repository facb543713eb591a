//! An attempt's access token: the stored one, or the request that gets another.

use super::flight::{Desk, Flight};
use crate::domain::envelope::{self, OPERATOR, OpenError, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::secret::Secret;
use crate::domain::vault::{Unreadable, Vault, is_ml1};
use crate::provider::OAuthClient;
use crate::provider::http::Request;
use crate::store::app::Connection;

/// An access token is renewed when it has less than this left: it must outlive the attempt.
const FRESH_FOR: chrono::Duration = chrono::Duration::seconds(60);

/// How an attempt gets its access token.
pub enum Token {
    /// It has one.
    Fresh(Secret),
    /// It has to ask for one.
    Renew(Box<Exchange>),
}

/// A refresh token and the request that trades it.
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// What it trades: known again in the table however it is encrypted by then.
    pub traded: Secret,
}

impl Desk<'_> {
    /// Opens a stored token, and remembers that form and key are right where one of the application's
    /// own opens.
    fn open(&self, vault: &Vault<'_>, to: &str, stored: &str) -> Result<Secret, Unreadable> {
        let opened = vault.open(to, stored);
        if opened.is_ok() && !is_ml1(stored) {
            self.proven.set(true);
        }
        opened
    }

    fn vault(&self) -> Result<Vault<'_>, Failure> {
        match self.keys {
            Ok(keys) => Ok(Vault {
                keys,
                format: self.format,
            }),
            Err(why) => Err(key_failure(why.clone())),
        }
    }

    /// Why a stored token cannot be used.
    fn unreadable(&self, error: &Unreadable) -> Failure {
        if matches!(error, Unreadable::NoKey(_)) {
            self.doubted.set(true);
        }
        let text = error.to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        let text = first.into_iter().chain(letters).chain(['.']).collect();
        match error {
            Unreadable::NoKey(_) => key_failure(text),
            // Others have opened: it is this one. Then it must look to its tutor as a token does that
            // the provider refuses: with CBC, who can tell them apart can read what he has stolen.
            Unreadable::Unknown(_) if self.proven.get() => {
                Failure::new(Class::TutorMustAct, Reason::ConsentRevoked, text)
            }
            // No tutor could mend it: the next token would be stored like this one.
            Unreadable::Unknown(_) => {
                Failure::new(Class::OperatorMustAct, Reason::TokenFormat, text)
            }
            Unreadable::Refused => Failure::new(Class::TutorMustAct, Reason::TokenUnreadable, text),
        }
    }
}

/// A fresh access token, or the request that gets one.
pub fn tokens(flight: &Flight, connection: &Connection, desk: &Desk<'_>) -> Result<Token, Failure> {
    let vault = desk.vault()?;
    let owner = flight.tutor.hyphenated().to_string();
    let name = flight.provider.name();
    let fresh = connection
        .expires_at
        .is_none_or(|end| end - desk.now > FRESH_FOR);
    if let Some(sealed) = filled(&connection.access).filter(|_| fresh) {
        match desk.open(&vault, &binding(&owner, name, Slot::Access), sealed) {
            Ok(token) if !token.is_empty() => return Ok(Token::Fresh(token)),
            // The refresh token may still do.
            Ok(_) | Err(Unreadable::Refused | Unreadable::Unknown(_)) => {}
            Err(error) => return Err(desk.unreadable(&error)),
        }
    }
    renewal(flight, desk).map(|exchange| Token::Renew(Box::new(exchange)))
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The access token after one was refused: the one that somebody else got meanwhile, or the request
/// that gets one. The connection is as it stands now.
pub fn another_token(
    flight: &mut Flight,
    connection: &Connection,
    desk: &Desk<'_>,
) -> Result<Token, Failure> {
    let renewed = is_renewed(flight, connection, &desk.vault()?);
    flight.access.clone_from(&connection.access);
    flight.refresh.clone_from(&connection.refresh);
    if renewed {
        tokens(flight, connection, desk)
    } else {
        renewal(flight, desk).map(|exchange| Token::Renew(Box::new(exchange)))
    }
}

/// Whether the connection has another access token than the attempt began with. One that was only
/// encrypted anew is the same, and would be refused again.
fn is_renewed(flight: &Flight, connection: &Connection, vault: &Vault<'_>) -> bool {
    let owner = flight.tutor.hyphenated().to_string();
    let to = binding(&owner, flight.provider.name(), Slot::Access);
    let open = |stored| filled(stored).and_then(|stored| vault.open(&to, stored).ok());
    connection.access != flight.access
        && match (open(&connection.access), open(&flight.access)) {
            (Some(now), Some(then)) => now != then,
            // The key of the old one may be gone; a refresh is never wrong.
            (now, None) => now.is_some() && flight.access.is_none(),
            (None, _) => false,
        }
}

/// The request that trades the refresh token.
fn renewal(flight: &Flight, desk: &Desk<'_>) -> Result<Exchange, Failure> {
    let vault = desk.vault()?;
    let name = flight.provider.name();
    let Some(sealed) = filled(&flight.refresh) else {
        let text = "The access token has ended and there is no refresh token.";
        return Err(Failure::new(
            Class::TutorMustAct,
            Reason::ConsentRevoked,
            text,
        ));
    };
    let owner = flight.tutor.hyphenated().to_string();
    let token = desk
        .open(&vault, &binding(&owner, name, Slot::Refresh), sealed)
        .map_err(|error| desk.unreadable(&error))?;
    let Some((id, secret)) = desk.clients.get(name) else {
        return Err(client_failure(format!(
            "No OAuth client for {name}; call meetlink_configure_provider('{name}', ...)."
        )));
    };
    let to = binding(OPERATOR, name, Slot::ClientSecret);
    let secret = envelope::open(vault.keys, &to, secret).map_err(|error| match error {
        OpenError::UnknownKey(_) => desk.unreadable(&Unreadable::NoKey(format!(
            "the OAuth client secret for {name}: {error}"
        ))),
        OpenError::Foreign | OpenError::Refused => client_failure(format!(
            "The OAuth client secret for {name} cannot be decrypted ({error}); call \
             meetlink_configure_provider again."
        )),
    })?;
    let client = OAuthClient {
        id: id.clone(),
        secret,
    };
    let Some(endpoints) = desk.settings.endpoints(name) else {
        return Err(client_failure(format!(
            "No endpoints are known for {name}."
        )));
    };
    Ok(Exchange {
        request: flight.provider.refresh(endpoints, &client, &token),
        traded: token,
    })
}

fn client_failure(text: String) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::OAuthClient, text)
}

fn key_failure(why: String) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::KeyMissing, why)
}
