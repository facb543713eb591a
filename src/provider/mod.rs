//! Meeting providers. Pure: a provider turns a wish into requests and answers into outcomes; who
//! sends them, and when, is not its business.
//!
//! A new provider is one file that implements [`Provider`] and one line in [`all`].

pub mod answers;
pub mod google;
pub mod http;
pub mod oauth;
pub mod retry_after;
pub mod url;
pub mod zoom;

#[cfg(test)]
mod conformance;

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::failure::Failure;
use crate::domain::meeting::{Meeting, Wish};
use crate::domain::secret::Secret;
use http::{Broken, Request, Response};

/// Where a provider is reached; from the settings, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// OAuth token endpoint.
    pub token_url: String,
    /// Base of the API's paths.
    pub api_url: String,
}

/// The operator's OAuth client.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// Public id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// What a token endpoint granted.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The new access token.
    pub access: Secret,
    /// The new refresh token, when the provider rotates them: the old one is dead then.
    pub refresh: Option<Secret>,
    /// When the access token stops working.
    pub expires_at: DateTime<Utc>,
}

/// What earlier attempts left behind, from the job's row.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Id of a meeting that was made for this session before.
    pub external_id: Option<String>,
    /// Since when a meeting may exist of which no answer was seen: the time of the last request
    /// that may have arrived.
    pub may_exist_since: Option<DateTime<Utc>>,
    /// How long a list of meetings may lag behind at most before its silence counts as proof.
    pub settle: Duration,
    /// A person says that the meeting exists: it is looked for by time and title too, and no other
    /// is made.
    pub adopt: bool,
}

impl Known {
    /// What is left of the settling time; `None` when it is over, or nothing is in doubt.
    pub fn unsettled(&self, now: DateTime<Utc>) -> Option<Duration> {
        let elapsed = (now - self.may_exist_since?).to_std().unwrap_or_default();
        self.settle
            .checked_sub(elapsed)
            .filter(|left| !left.is_zero())
    }
}

/// What happened to a flow since its last step.
#[derive(Debug)]
pub enum Event {
    /// It begins, or a pause is over.
    Go,
    /// The request was answered.
    Answer(Response),
    /// The request was not answered.
    Broken(Broken),
}

/// What a flow wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this and come back with what happened.
    Send(Request),
    /// Come back with [`Event::Go`] after this time; nothing is under way meanwhile.
    Pause(Duration),
    /// The meeting exists.
    Done(Meeting),
    /// No meeting of the session exists any more.
    Removed,
    /// The attempt is over.
    Failed(Failure),
}

/// One attempt at one wish: a state machine that is fed with events until it is done or failed.
///
/// It may be fed on any thread; it never blocks and never looks at a clock.
pub trait Flow: Send {
    /// The next step.
    fn next(&mut self, event: Event, now: DateTime<Utc>) -> Step;
}

/// A provider of meetings.
pub trait Provider: Sync {
    /// Name in tables and settings, as in `sessions.provider`.
    fn name(&self) -> &'static str;

    /// Name for people.
    fn label(&self) -> &'static str;

    /// Whether it tells a repeated request that creates from a second wish.
    fn knows_repeats(&self) -> bool;

    /// The request that trades a refresh token for an access token.
    fn refresh(&self, to: &Endpoints, client: &OAuthClient, refresh_token: &Secret) -> Request;

    /// What the token endpoint's answer means.
    fn granted(&self, event: Event, now: DateTime<Utc>) -> Result<Grant, Failure>;

    /// Makes sure that the session's meeting exists: finds it or makes it.
    fn ensure(&self, to: &Endpoints, token: Secret, wish: Wish, known: Known) -> Box<dyn Flow>;

    /// Makes sure that no meeting of the session is left. `known` says which one there was, or
    /// since when there may be one that was not seen.
    fn remove(&self, to: &Endpoints, token: Secret, session: Uuid, known: Known) -> Box<dyn Flow>;
}

/// Every provider there is.
pub fn all() -> &'static [&'static dyn Provider] {
    &[&google::GoogleMeet, &zoom::Zoom]
}

/// Names of those that cannot tell a repeated request from a second wish.
pub fn blind() -> Vec<&'static str> {
    let blind = all().iter().filter(|provider| !provider.knows_repeats());
    blind.map(|provider| provider.name()).collect()
}

/// The provider of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    all().iter().copied().find(|p| p.name() == name)
}
