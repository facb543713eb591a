//! The nouns that every part of the simulator speaks of.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Which provider is being played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Google: OAuth and Calendar v3.
    Google,
    /// Zoom: OAuth and Meetings v2.
    Zoom,
}

/// Which call of a provider's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// In a rule: whichever call.
    #[default]
    Any,
    /// The token endpoint.
    Token,
    /// Google `events.insert`; in a rule it also means Zoom's create.
    Insert,
    /// Zoom's meeting creation; in a rule it also means Google's insert.
    Create,
    /// Reads one event or meeting.
    Get,
    /// Changes one event or meeting.
    Patch,
    /// Deletes one event or meeting.
    Delete,
    /// Lists a Zoom user's meetings.
    List,
    /// Something that the provider does not offer, or not to this simulator.
    Other,
}

impl Call {
    /// Whether a rule for `self` covers a request that is `actual`.
    pub(crate) fn covers(self, actual: Call) -> bool {
        let creation = |call| matches!(call, Call::Insert | Call::Create);
        self == Call::Any || self == actual || (creation(self) && creation(actual))
    }
}

/// An instant, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Nanoseconds since the simulator's start, monotonic.
    pub mono_ns: u64,
    /// The same instant as wall-clock time.
    pub wall: DateTime<Utc>,
}

/// Ties the monotonic clock to the wall clock, once, so that the two never disagree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub start: Instant,
    wall: DateTime<Utc>,
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
            wall: Utc::now(),
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub fn moment(&self, mono_ns: u64) -> Moment {
        let since = chrono::TimeDelta::nanoseconds(mono_ns as i64);
        Moment {
            mono_ns,
            wall: self.wall + since,
        }
    }

    pub fn now(&self) -> Moment {
        self.moment(self.now_ns())
    }
}

/// How an account is to be made. Everything has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountSpec {
    /// Its name: for Google the e-mail address of the calendar, for Zoom the user's e-mail and
    /// the `account_id` of server-to-server apps. Made up when absent.
    pub name: Option<String>,
    /// The refresh token to know it by. Made up when absent.
    pub refresh_token: Option<String>,
    /// An access token that already exists. Made up when absent.
    pub access_token: Option<String>,
    /// How long access tokens live; also what `expires_in` says, less one second as both
    /// providers do.
    pub access_lifetime_s: u32,
    /// Whether the grant covers the meeting scopes.
    pub scopes_ok: bool,
    /// Google: whether this calendar may make Meet conferences.
    pub meet_allowed: bool,
}

impl Default for AccountSpec {
    fn default() -> Self {
        AccountSpec {
            name: None,
            refresh_token: None,
            access_token: None,
            access_lifetime_s: 3600,
            scopes_ok: true,
            meet_allowed: true,
        }
    }
}

impl AccountSpec {
    /// An account with this name.
    pub fn named(name: impl Into<String>) -> Self {
        AccountSpec {
            name: Some(name.into()),
            ..Self::default()
        }
    }
}

/// An account as it stands: what a user who has connected it would have stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its provider.
    pub provider: Provider,
    /// Its name, unique for the provider.
    pub name: String,
    /// The refresh token that is valid at this moment.
    pub refresh_token: String,
    /// The newest access token.
    pub access_token: String,
    /// When that access token ends.
    pub expires_at: DateTime<Utc>,
}

/// What the token endpoint has seen of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// Refreshes that were granted.
    pub refreshes: u64,
    /// Times a refresh token was offered that an earlier refresh (or a revocation) had killed.
    pub killed_token_used: u64,
}

/// An event or a meeting that a provider holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meeting {
    /// Its provider.
    pub provider: Provider,
    /// The account that owns it.
    pub account: String,
    /// The event id, or the meeting id in decimal.
    pub id: String,
    /// What was stored: the merged request bodies, complete (Zoom: the whole agenda).
    pub body: serde_json::Value,
    /// The link that an attendee opens; none while a conference is pending or has failed.
    pub join_url: Option<String>,
    /// Zoom: made as an instant meeting, which is a fault in a scheduler.
    pub instant: bool,
    /// Deleted; kept as a tombstone.
    pub deleted: bool,
    /// When it was made.
    pub created_at: Moment,
    /// How many times it was changed.
    pub updates: u32,
}

/// How Google's asynchronous conference creation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conference {
    /// Success in the very answer of the insert.
    #[default]
    Immediate,
    /// Pending for so many milliseconds, then success.
    PendingForMs(u64),
    /// Pending without end.
    PendingForever,
    /// Failed in the very answer.
    Failure,
    /// Pending for so many milliseconds, then failed.
    FailureAfterMs(u64),
    /// An event's first attempt fails, each later one succeeds.
    FailureThenSuccess,
}
