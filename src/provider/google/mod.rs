//! Google Meet through a Google Calendar event (Calendar API v3).
//!
//! Calendar rather than the Meet API, because an event's id may be chosen by the client: an insert
//! that is repeated finds the event of the first one, so that a lost answer costs nothing. The id
//! is made of the session's own id and a generation number; a deleted event keeps its id for good,
//! and the next generation takes its place.

mod answers;
mod flow;
mod removal;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answers::{Party, heading, span, utc_text};
use super::http::{Auth, Body, Method, Request};
use super::oauth::{self, Dialect};
use super::{Endpoints, Event, Flow, Grant, Known, OAuthClient, Provider};
use crate::domain::failure::Failure;
use crate::domain::meeting::Wish;
use crate::domain::secret::Secret;

/// The Calendar API in sentences.
const API: Party = Party {
    label: "Google Calendar",
    setting: "meetlink.google_api_url",
};

const TOKENS: Dialect = Dialect {
    party: Party {
        label: "Google's token endpoint",
        setting: "meetlink.google_token_url",
    },
    vague_about_tokens: false,
};

/// Longest title; Google names no limit of its own.
const TITLE_LIMIT: usize = 1_000;

/// Meetings as Google Meet conferences of events in the tutor's primary calendar.
#[derive(Clone, Copy, Debug)]
pub struct GoogleMeet;

impl Provider for GoogleMeet {
    fn name(&self) -> &'static str {
        "google_meet"
    }

    fn label(&self) -> &'static str {
        "Google Meet"
    }

    /// An event's id is the session's.
    fn knows_repeats(&self) -> bool {
        true
    }

    fn refresh(&self, to: &Endpoints, client: &OAuthClient, refresh_token: &Secret) -> Request {
        oauth::refresh_in_form(&to.token_url, client, refresh_token)
    }

    fn granted(&self, event: Event, now: DateTime<Utc>) -> Result<Grant, Failure> {
        oauth::granted(TOKENS, event, now)
    }

    fn ensure(&self, to: &Endpoints, token: Secret, wish: Wish, known: Known) -> Box<dyn Flow> {
        let calendar = Calendar {
            events: events(to),
            token,
            wish,
        };
        Box::new(flow::EnsureEvent::new(calendar, known))
    }

    fn remove(&self, to: &Endpoints, token: Secret, session: Uuid, known: Known) -> Box<dyn Flow> {
        Box::new(removal::RemoveEvent::new(events(to), token, session, known))
    }
}

/// The collection of the tutor's events.
fn events(to: &Endpoints) -> String {
    format!("{}/calendars/primary/events", to.api_url)
}

/// Id of the session's event of that generation; all its characters are base32hex (`0-9a-v`), as
/// `events.insert` asks: `g` ends the digits of the session's id, for which it is no digit.
fn event_id(session: Uuid, generation: u32) -> String {
    format!("ml{}g{generation}", session.simple())
}

/// The generation in an id that [`event_id`] made for this session.
fn generation_of(id: &str, session: Uuid) -> Option<u32> {
    let digits = id
        .strip_prefix("ml")?
        .strip_prefix(session.simple().to_string().as_str())?
        .strip_prefix('g')?;
    let generation = digits.parse().ok()?;
    // Not `+1` nor `01`: only what the function above writes.
    (event_id(session, generation) == id).then_some(generation)
}

/// The requests for one session's event.
#[derive(Debug)]
struct Calendar {
    events: String,
    token: Secret,
    wish: Wish,
}

impl Calendar {
    /// Without `conferenceDataVersion=1` Google ignores the conference without a word.
    const CHANGE: &str = "conferenceDataVersion=1&sendUpdates=none";

    fn id(&self, generation: u32) -> String {
        event_id(self.wish.session_id, generation)
    }

    fn request(&self, method: Method, url: String) -> Request {
        Request::new(method, url, Auth::Bearer(self.token.clone()))
    }

    fn get(&self, generation: u32) -> Request {
        let url = format!("{}/{}", self.events, self.id(generation));
        self.request(Method::Get, url)
    }

    fn insert(&self, generation: u32) -> Request {
        let id = self.id(generation);
        let marker = self.wish.marker();
        let (start, end) = span(&self.wish);
        let body = json!({
            "id": id,
            "summary": heading(&self.wish, TITLE_LIMIT),
            "description": format!("Made for a booked tutoring session ({marker})."),
            "start": time(start),
            "end": time(end),
            "conferenceData": conference(&format!("{id}-0")),
        });
        let url = format!("{}?{}", self.events, Self::CHANGE);
        self.request(Method::Post, url).body(Body::Json(body))
    }

    fn patch(&self, generation: u32, body: Value) -> Request {
        let url = format!("{}/{}?{}", self.events, self.id(generation), Self::CHANGE);
        self.request(Method::Patch, url).body(Body::Json(body))
    }

    /// Moves the event to the session's time. An all-day event must lose its dates for that.
    fn patch_times(&self, generation: u32, all_day: bool) -> Request {
        let (start, end) = span(&self.wish);
        let (mut start, mut end) = (time(start), time(end));
        if all_day {
            for side in [&mut start, &mut end] {
                if let Some(fields) = side.as_object_mut() {
                    fields.insert("date".to_owned(), Value::Null);
                }
            }
        }
        self.patch(generation, json!({ "start": start, "end": end }))
    }

    fn patch_conference(&self, generation: u32, request_id: &str) -> Request {
        let body = json!({ "conferenceData": conference(request_id) });
        self.patch(generation, body)
    }
}

fn time(at: DateTime<Utc>) -> Value {
    json!({ "dateTime": utc_text(at), "timeZone": "UTC" })
}

fn conference(request_id: &str) -> Value {
    json!({
        "createRequest": {
            "requestId": request_id,
            "conferenceSolutionKey": { "type": "hangoutsMeet" },
        }
    })
}
