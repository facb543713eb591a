//! Attempts under way, and the making ready of a claimed job.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::access::{Exchange, Token, tokens};
use super::choose::{Choice, choose};
use super::rooms::Tried;
use crate::config::Settings;
use crate::domain::breaker::Side;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::keyring::KeyRing;
use crate::domain::meeting::{self, Wish};
use crate::domain::secret::Secret;
use crate::domain::state::State;
use crate::domain::token_format::TokenFormat;
use crate::provider::{self, Endpoints, Flow, Known, Provider};
use crate::store::app::{Connection, Session};
use crate::store::holds::Held;
use crate::store::jobs::Claimed;

/// What an attempt is to do.
#[derive(Clone)]
pub enum Task {
    /// See to it that the session's meeting exists.
    Ensure(Wish),
    /// See to it that none is left.
    Remove,
}

/// An attempt under way.
#[derive(Clone)]
pub struct Flight {
    /// The job as it was claimed.
    pub claimed: Claimed,
    /// What it is to do.
    pub task: Task,
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
    /// An attempt that has not begun.
    fn new(
        claimed: &Claimed,
        task: Task,
        tutor: Uuid,
        provider: &'static dyn Provider,
        connection: &Connection,
    ) -> Self {
        Self {
            refresh: connection.refresh.clone(),
            access: connection.access.clone(),
            ..Self::bare(claimed, task, tutor, provider)
        }
    }

    /// One that needs no connection.
    fn bare(claimed: &Claimed, task: Task, tutor: Uuid, provider: &'static dyn Provider) -> Self {
        Self {
            claimed: claimed.clone(),
            task,
            provider,
            tutor,
            refresh: None,
            access: None,
            refreshed: false,
        }
    }

    /// The account it uses.
    pub fn account(&self) -> super::pool::Account {
        (self.tutor, self.provider.name())
    }

    /// Start and end of the meeting: as it was wished for, or as it was when it was kept.
    pub fn times(&self, new: bool) -> (DateTime<Utc>, DateTime<Utc>) {
        match (&self.task, self.claimed.kept.filter(|_| !new)) {
            (_, Some(kept)) => kept,
            (Task::Ensure(wish), None) => (wish.starts_at, wish.ends_at),
            (Task::Remove, None) => (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH),
        }
    }

    /// Whether it creates something if nothing is there.
    pub fn creates(&self) -> bool {
        matches!(self.task, Task::Ensure(_))
    }

    /// The attempt itself, with a usable token.
    pub fn flow(&self, settings: &Settings, token: Secret) -> Option<Box<dyn Flow>> {
        let to: &Endpoints = settings.endpoints(self.provider.name())?;
        // What was made for another tutor or provider is no help here. A doubt that names none
        // (after a restore) may be about any.
        let claimed = &self.claimed;
        let name = claimed.provider.as_deref();
        let same = name.is_none_or(|name| name == self.provider.name())
            && claimed.account.is_none_or(|tutor| tutor == self.tutor);
        let known = Known {
            external_id: claimed
                .made
                .as_ref()
                .filter(|_| same)
                .map(|(id, _)| id.clone()),
            may_exist_since: claimed.may_exist_since.filter(|_| same),
            settle: settings.settle,
            adopt: claimed.adopt && same,
        };
        Some(match &self.task {
            Task::Ensure(wish) => self.provider.ensure(to, token, wish.clone(), known),
            Task::Remove => self.provider.remove(to, token, claimed.session, known),
        })
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
    /// Set where a key is missing that a row names.
    pub doubted: &'a Cell<bool>,
    /// Whether the application's own form and key have opened a token yet.
    pub proven: &'a Cell<bool>,
    /// How the application keeps tokens.
    pub format: &'a TokenFormat,
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
    /// Providers at which one request is trying whether that side is back.
    pub tried: &'a Tried,
    /// Now.
    pub now: DateTime<Utc>,
}

/// What is to be done with a claimed job.
pub enum Ready {
    /// Nothing: it ends in this state.
    Over(State),
    /// Not now: something else has to happen first.
    Later(&'static dyn Provider, Duration, String, String),
    /// Its link only has to be written.
    Write(Flight),
    /// Its session is gone, and what was made for it has to go too.
    Orphan,
    /// Off it goes, with this access token.
    Go(Flight, Secret),
    /// First a new access token.
    Renew(Flight, Box<Exchange>),
    /// It fails before anything is sent, at this provider if one was chosen.
    Fail(Option<&'static dyn Provider>, Option<Box<Flight>>, Failure),
}

/// Makes a claimed job ready.
pub fn prepare(claimed: &Claimed, desk: &Desk<'_>) -> Ready {
    let session = desk.sessions.get(&claimed.session);
    let wants = session.is_some_and(|session| session.wants);
    if claimed.gone && !wants {
        return prepare_removal(claimed, session, desk);
    }
    let Some(session) = session else {
        return let_go(claimed);
    };
    let follows = claimed.moved && claimed.made.is_some() && !session.lacks_link;
    if !session.lacks_link {
        let kept = claimed.made.as_ref().filter(|_| claimed.kept.is_some());
        if kept.is_some_and(|(id, url)| !session.has(id, url)) {
            // Somebody filled in another link meanwhile.
            return Ready::Orphan;
        }
        if !(follows && session.is_open) {
            return Ready::Over(State::Ready);
        }
    } else if !session.is_open {
        return let_go(claimed);
    } else if !session.wants {
        return Ready::Over(State::NotNeeded);
    }
    let Some(tutor) = session.tutor else {
        return unfit("The session has no tutor.");
    };
    let wish = match wish(session, desk.names) {
        Ok(wish) => wish,
        Err(text) => return unfit(text),
    };
    if follows {
        return follow(claimed, wish, desk);
    }
    if is_elsewhere(claimed, tutor, desk) {
        // The session was given to another tutor: first what was made in the old account goes.
        return if claimed.gone {
            prepare_removal(claimed, Some(session), desk)
        } else {
            Ready::Orphan
        };
    }
    if let (Some((account, provider)), Some(_)) = (account(claimed), claimed.kept)
        && account == tutor
    {
        // It exists: whatever became of the connection, only its link has to be written.
        return Ready::Write(Flight::bare(claimed, Task::Ensure(wish), tutor, provider));
    }
    let none = Vec::new();
    let connections = desk.connections.get(&tutor).unwrap_or(&none);
    let bound = claimed.provider.as_deref().filter(|name| {
        // Where the connection itself is gone, nobody can find out any more.
        claimed.account == Some(tutor)
            && (claimed.was_in_doubt() || claimed.may_exist_since.is_some())
            && connections
                .iter()
                .any(|connection| connection.provider == *name)
    });
    let (connection, provider) = match choose(session.provider.as_deref(), bound, connections) {
        Choice::Use(connection, provider) => (connection, provider),
        Choice::Renew(provider) => return disconnected(Some(provider), true),
        Choice::None => return disconnected(None, false),
    };
    let flight = Flight::new(claimed, Task::Ensure(wish), tutor, provider, connection);
    take_off(flight, connection, desk)
}

/// The account in which something was made, or may have been.
fn account(claimed: &Claimed) -> Option<(Uuid, &'static dyn Provider)> {
    let provider = provider::by_name(claimed.provider.as_deref()?)?;
    Some((claimed.account?, provider))
}

/// The connection to an account, if the tutor has one there.
fn connection<'a>(
    desk: &Desk<'a>,
    (tutor, provider): (Uuid, &'static dyn Provider),
) -> Option<&'a Connection> {
    let mut theirs = desk.connections.get(&tutor)?.iter();
    theirs.find(|connection| connection.provider == provider.name())
}

/// Whether something was made, or may have been, in the account of a tutor who no longer teaches
/// the session, and can be reached there.
fn is_elsewhere(claimed: &Claimed, tutor: Uuid, desk: &Desk<'_>) -> bool {
    let left = claimed.may_exist_since.is_some() || claimed.kept.is_some();
    let other = account(claimed).filter(|(account, _)| left && *account != tutor);
    let there = other.and_then(|account| connection(desk, account));
    there.is_some_and(Connection::is_usable)
}

/// Moves a meeting with its session, in the account in which it is, whoever teaches now.
fn follow(claimed: &Claimed, wish: Wish, desk: &Desk<'_>) -> Ready {
    let there = account(claimed).and_then(|at| Some((at, connection(desk, at)?)));
    match there.filter(|(_, connection)| connection.is_usable()) {
        Some(((tutor, provider), connection)) => {
            let flight = Flight::new(claimed, Task::Ensure(wish), tutor, provider, connection);
            take_off(flight, connection, desk)
        }
        // The link works at any time.
        None => Ready::Over(State::Ready),
    }
}

/// The session needs no meeting any more, and knows of none.
fn let_go(claimed: &Claimed) -> Ready {
    let left = claimed.made.is_some() || claimed.may_exist_since.is_some();
    if left && account(claimed).is_some() {
        Ready::Orphan
    } else {
        Ready::Over(State::NotNeeded)
    }
}

/// Makes the removal of a meeting ready that its session no longer needs.
fn prepare_removal(claimed: &Claimed, session: Option<&Session>, desk: &Desk<'_>) -> Ready {
    if let Some(session) = session.filter(|session| !session.lacks_link) {
        // Somebody filled in this meeting, or one of which nobody knows whether it is the one in
        // doubt: what is used is not removed.
        let known = claimed.made.as_ref();
        if known.is_none_or(|(id, url)| session.has(id, url)) {
            return Ready::Over(State::Ready);
        }
    }
    let Some((tutor, provider)) = account(claimed) else {
        return Ready::Over(State::NotNeeded);
    };
    match connection(desk, (tutor, provider)) {
        Some(connection) if connection.is_usable() => {
            let flight = Flight::new(claimed, Task::Remove, tutor, provider, connection);
            take_off(flight, connection, desk)
        }
        theirs => disconnected(Some(provider), theirs.is_some()),
    }
}

fn disconnected(provider: Option<&'static dyn Provider>, ended: bool) -> Ready {
    let (reason, text) = if ended {
        (
            Reason::ConsentRevoked,
            "The tutor's connection has ended and must be renewed.",
        )
    } else {
        (
            Reason::NotConnected,
            "The tutor is connected to no provider.",
        )
    };
    Ready::Fail(
        provider,
        None,
        Failure::new(Class::TutorMustAct, reason, text),
    )
}

/// Off with it, unless somebody has to be waited for.
fn take_off(flight: Flight, connection: &Connection, desk: &Desk<'_>) -> Ready {
    if let Some(later) = held(&flight, Side::Meetings, desk) {
        return later;
    }
    match tokens(&flight, connection, desk) {
        Ok(Token::Fresh(token)) => Ready::Go(flight, token),
        Ok(Token::Renew(exchange)) => match held(&flight, Side::Tokens, desk) {
            Some(later) => later,
            None => Ready::Renew(flight, exchange),
        },
        Err(failure) => Ready::Fail(Some(flight.provider), Some(Box::new(flight)), failure),
    }
}

/// Whether the provider, or this tutor there, must not be called just now.
fn held(flight: &Flight, side: Side, desk: &Desk<'_>) -> Option<Ready> {
    /// The one that tries ends within a request's time, and wakes the others' lane.
    const MEANWHILE: Duration = Duration::from_millis(500);
    if flight.claimed.hurried {
        return None;
    }
    let name = flight.provider.name();
    let found = desk.holds.iter().find(|held| {
        held.side == side
            && held.provider == name
            && held.tutor.is_none_or(|held| held == flight.tutor)
    });
    let (wait, reason, text) = match found {
        Some(held) => {
            let wait = u64::try_from(held.wait_ms).unwrap_or(0).max(50);
            let wait = Duration::from_millis(wait);
            (wait, held.reason.clone(), held.error.clone())
        }
        None if desk.tried.at(name, side) => {
            let text = "The provider was down; one request tries whether it is back.";
            let reason = Reason::ProviderDown.as_str();
            (MEANWHILE, reason.to_owned(), text.to_owned())
        }
        None => return None,
    };
    Some(Ready::Later(flight.provider, wait, reason, text))
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
