//! An attempt's access token: the stored one, or the request that gets another.

use super::flight::{Desk, Flight};
use crate::domain::envelope::{self, OPERATOR, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::secret::Secret;
use crate::domain::vault::{Unreadable, Vault};
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
    fn vault(&self) -> Result<Vault<'_>, Failure> {
        match self.keys {
            Ok(keys) => Ok(Vault {
                keys,
                format: self.format,
            }),
            Err(why) => Err(key_failure(why.clone())),
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
        match vault.open(&binding(&owner, name, Slot::Access), sealed) {
            Ok(token) if !token.is_empty() => return Ok(Token::Fresh(token)),
            // The refresh token may still do.
            Ok(_) | Err(Unreadable::Refused | Unreadable::Unknown(_)) => {}
            Err(error) => return Err(open_failure(&error)),
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
    let renewed = connection.access != flight.access;
    flight.access.clone_from(&connection.access);
    flight.refresh.clone_from(&connection.refresh);
    if renewed {
        tokens(flight, connection, desk)
    } else {
        renewal(flight, desk).map(|exchange| Token::Renew(Box::new(exchange)))
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
    let token = vault
        .open(&binding(&owner, name, Slot::Refresh), sealed)
        .map_err(|error| open_failure(&error))?;
    let Some((id, secret)) = desk.clients.get(name) else {
        return Err(client_failure(format!(
            "No OAuth client for {name}; call meetlink_configure_provider('{name}', ...)."
        )));
    };
    let to = binding(OPERATOR, name, Slot::ClientSecret);
    let secret = envelope::open(vault.keys, &to, secret).map_err(|error| {
        client_failure(format!(
            "The OAuth client secret for {name} cannot be decrypted ({error}); call \
             meetlink_configure_provider again."
        ))
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

fn open_failure(error: &Unreadable) -> Failure {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let text = first.into_iter().chain(letters).chain(['.']).collect();
    match error {
        Unreadable::NoKey(_) => key_failure(text),
        // No tutor could mend it: the next token would be stored like this one.
        Unreadable::Unknown(_) => Failure::new(Class::OperatorMustAct, Reason::TokenFormat, text),
        Unreadable::Refused => Failure::new(Class::TutorMustAct, Reason::TokenUnreadable, text),
    }
}
