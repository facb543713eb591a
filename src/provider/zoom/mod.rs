//! Zoom meetings (Zoom API v2).
//!
//! Zoom cannot tell a repeated create from a second wish. So the create is sent once; when its
//! answer is lost, the tutor's meetings are listed and the one with the session's marker is looked
//! for, and only when the list had time to catch up and still shows none, another is made.

mod answers;
mod flow;
mod found;
mod removal;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use uuid::Uuid;

use super::answers::{Party, heading, span, utc_text};
use super::http::{Auth, Body, Method, Request};
use super::oauth::{self, Dialect};
use super::{Endpoints, Event, Flow, Grant, Known, OAuthClient, Provider};
use crate::domain::failure::Failure;
use crate::domain::meeting::{TITLE_LIMIT, Wish};
use crate::domain::secret::Secret;

/// The API in sentences.
const API: Party = Party {
    label: "Zoom",
    setting: "meetlink.zoom_api_url",
};

const TOKENS: Dialect = Dialect {
    party: Party {
        label: "Zoom's token endpoint",
        setting: "meetlink.zoom_token_url",
    },
    vague_about_tokens: true,
};

/// Longest duration, in minutes; a meeting may last longer than it was scheduled for.
const DAY: i64 = 1_440;

/// Meetings of the tutor's own Zoom account.
#[derive(Clone, Copy, Debug)]
pub struct Zoom;

impl Provider for Zoom {
    fn name(&self) -> &'static str {
        "zoom"
    }

    fn label(&self) -> &'static str {
        "Zoom"
    }

    fn knows_repeats(&self) -> bool {
        false
    }

    fn refresh(&self, to: &Endpoints, client: &OAuthClient, refresh_token: &Secret) -> Request {
        oauth::refresh_with_basic(&to.token_url, client, refresh_token)
    }

    fn granted(&self, event: Event, now: DateTime<Utc>) -> Result<Grant, Failure> {
        oauth::granted(TOKENS, event, now)
    }

    fn ensure(&self, to: &Endpoints, token: Secret, wish: Wish, known: Known) -> Box<dyn Flow> {
        let api = Api::new(to, token);
        Box::new(flow::EnsureMeeting::new(Account { api, wish }, known))
    }

    fn remove(&self, to: &Endpoints, token: Secret, session: Uuid, known: Known) -> Box<dyn Flow> {
        let api = Api::new(to, token);
        Box::new(removal::RemoveMeeting::new(api, session, known))
    }
}

/// The requests that any meeting may need.
#[derive(Debug)]
struct Api {
    base: String,
    token: Secret,
}

impl Api {
    fn new(to: &Endpoints, token: Secret) -> Self {
        let base = to.api_url.clone();
        Self { base, token }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let auth = Auth::Bearer(self.token.clone());
        Request::new(method, format!("{}{path}", self.base), auth)
    }

    fn get(&self, id: i64) -> Request {
        self.request(Method::Get, &format!("/meetings/{id}"))
    }

    /// One page of the scheduled meetings; 300 a page is the most there is.
    fn list(&self, page: Option<&str>) -> Request {
        let mut path = "/users/me/meetings?type=scheduled&page_size=300".to_owned();
        if let Some(token) = page {
            path.push_str("&next_page_token=");
            path.extend(utf8_percent_encode(token, NON_ALPHANUMERIC));
        }
        self.request(Method::Get, &path)
    }

    /// Removes a meeting that nobody needs; the tutor, who never knew of it, gets no mail.
    fn delete(&self, id: i64) -> Request {
        let path = format!("/meetings/{id}?schedule_for_reminder=false");
        self.request(Method::Delete, &path)
    }
}

/// The requests for one session's meeting.
#[derive(Debug)]
struct Account {
    api: Api,
    wish: Wish,
}

impl Account {
    /// Nothing but what makes it this session's meeting: all else is the tutor's own settings.
    fn create(&self) -> Request {
        let body = json!({
            "topic": heading(&self.wish, TITLE_LIMIT),
            "type": 2,
            "start_time": self.start_time(),
            "duration": self.duration(),
            "timezone": "UTC",
            "agenda": self.agenda(),
        });
        self.api
            .request(Method::Post, "/users/me/meetings")
            .body(Body::Json(body))
            .once()
    }

    /// To another time. Repeatable: the second time changes nothing more.
    fn reschedule(&self, id: i64) -> Request {
        let body = json!({
            "start_time": self.start_time(),
            "duration": self.duration(),
            "timezone": "UTC",
        });
        self.api
            .request(Method::Patch, &format!("/meetings/{id}"))
            .body(Body::Json(body))
    }

    /// What a meeting of this session looks like to a person.
    fn likeness(&self) -> found::Likeness {
        found::Likeness {
            topic: heading(&self.wish, TITLE_LIMIT),
            start: self.start(),
        }
    }

    fn start(&self) -> DateTime<Utc> {
        span(&self.wish).0
    }

    /// Without it, Zoom would make an instant meeting; fractions of a second are refused.
    fn start_time(&self) -> String {
        utc_text(self.start())
    }

    fn duration(&self) -> i64 {
        self.wish.minutes().clamp(1, DAY)
    }

    /// The marker comes first, because lists show no more than 250 characters.
    fn agenda(&self) -> String {
        format!(
            "{}\nMade for a booked tutoring session; the line above lets it be found again.",
            self.wish.marker()
        )
    }
}
