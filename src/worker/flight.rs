//! Attempts under way, and the making ready of a claimed job.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::choose::{Choice, choose};
use crate::config::Settings;
use crate::domain::envelope::{self, OPERATOR, OpenError, Slot, binding};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::domain::meeting::{self, Wish};
use crate::domain::secret::Secret;
use crate::domain::state::State;
use crate::provider::http::Request;
use crate::provider::{Endpoints, Flow, Known, OAuthClient, Provider};
use crate::store::app::{Connection, Session};
use crate::store::config::Held;
use crate::store::jobs::Claimed;

/// An access token is renewed when it has less than this left: it must outlive the attempt.
const FRESH_FOR: chrono::Duration = chrono::Duration::seconds(60);

/// An attempt under way.
#[derive(Clone)]
pub struct Flight {
    /// The job as it was claimed.
    pub claimed: Claimed,
    /// What is wished for.
    pub wish: Wish,
    /// Where.
    pub provider: &'static dyn Provider,
    /// Whose account.
    pub tutor: Uuid,
    /// The refresh token's envelope as it was read: tells later whether the tutor has reconnected.
    pub refresh: Option<String>,
    /// The access token's envelope as it was read or stored: tells whether it was renewed since.
    pub access: Option<String>,
    /// Whether the access token was renewed in this attempt.
    pub refreshed: bool,
}

impl Flight {
    /// The account it uses.
    pub fn account(&self) -> super::pool::Account {
        (self.tutor, self.provider.name())
    }

    /// The attempt itself, with a usable token.
    pub fn flow(&self, settings: &Settings, token: Secret) -> Option<Box<dyn Flow>> {
        let to: &Endpoints = settings.endpoints(self.provider.name())?;
        // What was made for another tutor or provider is no help here.
        let same = self.claimed.provider.as_deref() == Some(self.provider.name())
            && self.claimed.account == Some(self.tutor);
        let known = Known {
            external_id: self
                .claimed
                .made
                .as_ref()
                .filter(|_| same)
                .map(|(id, _)| id.clone()),
            may_exist_since: self.claimed.may_exist_since.filter(|_| same),
            settle: settings.settle,
        };
        Some(self.provider.ensure(to, token, self.wish.clone(), known))
    }
}

/// The operator's OAuth clients by provider, as stored: id and sealed secret.
pub type Clients = HashMap<String, (String, String)>;

/// Everything that making ready needs to look at.
pub struct Desk<'a> {
    /// Settings.
    pub settings: &'a Settings,
    /// Keys, or what is wrong with them.
    pub keys: &'a Result<Arc<KeyRing>, String>,
    /// Sessions by id.
    pub sessions: &'a HashMap<Uuid, Session>,
    /// Names of tutors and students.
    pub names: &'a HashMap<Uuid, String>,
    /// Connections by tutor.
    pub connections: &'a HashMap<Uuid, Vec<Connection>>,
    /// The operator's OAuth clients.
    pub clients: &'a Clients,
    /// Holds in force.
    pub holds: &'a [Held],
    /// Now.
    pub now: DateTime<Utc>,
}

/// What is to be done with a claimed job.
pub enum Ready {
    /// Nothing: it ends in this state.
    Over(State),
    /// Not now: something else has to happen first.
    Later(&'static dyn Provider, Duration, String, &'static str),
    /// Its link only has to be written.
    Write(Flight),
    /// Off it goes, with this access token.
    Go(Flight, Secret),
    /// First a new access token.
    Renew(Flight, Box<Request>),
    /// It fails before anything is sent, at this provider if one was chosen.
    Fail(Option<&'static dyn Provider>, Option<Box<Flight>>, Failure),
}

/// Makes a claimed job ready.
pub fn prepare(claimed: &Claimed, desk: &Desk<'_>) -> Ready {
    let Some(session) = desk.sessions.get(&claimed.session) else {
        return Ready::Over(State::NotNeeded);
    };
    if !session.lacks_link {
        return Ready::Over(State::Ready);
    }
    if !session.wants {
        return Ready::Over(State::NotNeeded);
    }
    let Some(tutor) = session.tutor else {
        return unfit("The session has no tutor.");
    };
    let wish = match wish(session, desk.names) {
        Ok(wish) => wish,
        Err(text) => return unfit(text),
    };
    let none = Vec::new();
    let connections = desk.connections.get(&tutor).unwrap_or(&none);
    let bound = claimed.provider.as_deref().filter(|name| {
        // Where the connection itself is gone, nobody can find out any more.
        claimed.account == Some(tutor)
            && (claimed.was_in_doubt || claimed.may_exist_since.is_some())
            && connections
                .iter()
                .any(|connection| connection.provider == *name)
    });
    let (connection, provider) = match choose(session.provider.as_deref(), bound, connections) {
        Choice::Use(connection, provider) => (connection, provider),
        Choice::Renew(provider) => {
            let text = "The tutor's connection has ended and must be renewed.";
            let failure = Failure::new(Class::TutorMustAct, Reason::ConsentRevoked, text);
            return Ready::Fail(Some(provider), None, failure);
        }
        Choice::None => {
            let text = "The tutor is connected to no provider.";
            let failure = Failure::new(Class::TutorMustAct, Reason::NotConnected, text);
            return Ready::Fail(None, None, failure);
        }
    };
    let flight = Flight {
        claimed: claimed.clone(),
        wish,
        provider,
        tutor,
        refresh: connection.refresh.clone(),
        access: connection.access.clone(),
        refreshed: false,
    };
    let same =
        claimed.provider.as_deref() == Some(provider.name()) && claimed.account == Some(tutor);
    if claimed.reason == Some(Reason::WriteBack) && claimed.made.is_some() && same {
        return Ready::Write(flight);
    }
    let held = desk.holds.iter().find(|held| {
        !claimed.hurried
            && held.provider == provider.name()
            && held.tutor.is_none_or(|held| held == tutor)
    });
    if let Some(held) = held {
        let wait = Duration::from_millis(u64::try_from(held.wait_ms).unwrap_or(0).max(50));
        let text = "The provider, or this tutor's account there, must not be called just now.";
        return Ready::Later(provider, wait, held.reason.clone(), text);
    }
    match tokens(&flight, connection, desk) {
        Ok(Token::Fresh(token)) => Ready::Go(flight, token),
        Ok(Token::Renew(request)) => Ready::Renew(flight, request),
        Err(failure) => Ready::Fail(Some(provider), Some(Box::new(flight)), failure),
    }
}

fn unfit(text: &str) -> Ready {
    Ready::Fail(
        None,
        None,
        Failure::new(Class::Permanent, Reason::SessionUnfit, text),
    )
}

fn wish(session: &Session, names: &HashMap<Uuid, String>) -> Result<Wish, &'static str> {
    let starts_at = session.starts_at.ok_or("The session has no start.")?;
    let ends_at = session.ends_at.ok_or("The session has no end.")?;
    if ends_at <= starts_at {
        return Err("The session ends before it starts.");
    }
    let name = |id: Option<Uuid>| id.and_then(|id| names.get(&id)).map(String::as_str);
    Ok(Wish {
        session_id: session.id,
        title: meeting::title(name(session.tutor), name(session.student)),
        starts_at,
        ends_at,
    })
}

/// How an attempt gets its access token.
pub enum Token {
    /// It has one.
    Fresh(Secret),
    /// It has to ask for one.
    Renew(Box<Request>),
}

/// A fresh access token, or the request that gets one.
fn tokens(flight: &Flight, connection: &Connection, desk: &Desk<'_>) -> Result<Token, Failure> {
    let keys = desk.keys.as_ref().map_err(|why| key_failure(why.clone()))?;
    let owner = flight.tutor.hyphenated().to_string();
    let name = flight.provider.name();
    let fresh = connection
        .expires_at
        .is_none_or(|end| end - desk.now > FRESH_FOR);
    if let Some(sealed) = filled(&connection.access).filter(|_| fresh) {
        match envelope::open(keys, &binding(&owner, name, Slot::Access), sealed) {
            Ok(token) if !token.is_empty() => return Ok(Token::Fresh(token)),
            // The refresh token may still do.
            Ok(_) | Err(OpenError::Foreign | OpenError::Refused) => {}
            Err(error) => return Err(open_failure(&error)),
        }
    }
    renewal(flight, desk).map(|request| Token::Renew(Box::new(request)))
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
        renewal(flight, desk).map(|request| Token::Renew(Box::new(request)))
    }
}

/// The request that trades the refresh token.
fn renewal(flight: &Flight, desk: &Desk<'_>) -> Result<Request, Failure> {
    let keys = desk.keys.as_ref().map_err(|why| key_failure(why.clone()))?;
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
    let token = envelope::open(keys, &binding(&owner, name, Slot::Refresh), sealed)
        .map_err(|error| open_failure(&error))?;
    let Some((id, secret)) = desk.clients.get(name) else {
        return Err(client_failure(format!(
            "No OAuth client for {name}; call meetlink_configure_provider('{name}', ...)."
        )));
    };
    let to = binding(OPERATOR, name, Slot::ClientSecret);
    let secret = envelope::open(keys, &to, secret).map_err(|error| {
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
    Ok(flight.provider.refresh(endpoints, &client, &token))
}

fn client_failure(text: String) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::OAuthClient, text)
}

fn key_failure(why: String) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::KeyMissing, why)
}

fn open_failure(error: &OpenError) -> Failure {
    let text = format!("{error}.");
    let text = text.replacen("the stored", "The stored", 1);
    match error {
        OpenError::UnknownKey(_) => key_failure(text),
        OpenError::Foreign | OpenError::Refused => {
            Failure::new(Class::TutorMustAct, Reason::TokenUnreadable, text)
        }
    }
}
