//! What the Calendar API's answers mean: refusals, and the event resource.
//!
//! Codes and shapes: Calendar API guide "Handle API errors", and `Event` in the v3 reference.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::API;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::JoinUrl;
use crate::provider::answers::wait;
use crate::provider::http::Response;

/// `quotaExceeded` guards against abuse and lasts for hours; Google does not say how many.
const QUOTA_PAUSE: Duration = Duration::from_secs(3_600);

/// What the front end says of the OAuth client's project, whoever asks: `ErrorReason` in
/// google/api/error_reason.proto.
const UNSERVED: [&str; 5] = [
    "CONSUMER_INVALID",
    "CONSUMER_SUSPENDED",
    "USER_PROJECT_DENIED",
    "BILLING_DISABLED",
    "SECURITY_POLICY_VIOLATED",
];

/// The error body: `error.errors[].reason` is Calendar's own, `error.details[].reason` and
/// `error.status` are those of Google's newer front end. All may come together.
struct Error {
    codes: Vec<String>,
    message: String,
}

impl Error {
    fn read(answer: &Response) -> Option<Self> {
        let body = answer.json()?;
        let error = body.get("error")?.as_object()?;
        let reasons = ["errors", "details"].into_iter().flat_map(|list| {
            let entries = error.get(list).and_then(Value::as_array);
            entries
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.get("reason")?.as_str())
        });
        let status = error.get("status").and_then(Value::as_str);
        let message = error.get("message").and_then(Value::as_str);
        Some(Self {
            codes: reasons.chain(status).map(str::to_owned).collect(),
            message: message.unwrap_or_default().to_ascii_lowercase(),
        })
    }

    fn has(&self, any: &[&str]) -> bool {
        self.codes.iter().any(|code| any.contains(&code.as_str()))
    }

    fn code(&self) -> Option<&str> {
        self.codes.first().map(String::as_str)
    }
}

/// Whether a 409 says that the id is taken. The other kind is a passing conflict between writers.
pub(super) fn is_duplicate(answer: &Response) -> bool {
    answer.status == 409 && !Error::read(answer).is_some_and(|e| e.has(&["conflict", "ABORTED"]))
}

/// Whether the answer says that there is no such event. Without Google's error object it may come
/// from a gateway, and is no reason to forget an event or to make a second one.
pub(super) fn is_gone(answer: &Response) -> bool {
    matches!(answer.status, 404 | 410) && Error::read(answer).is_some()
}

/// What an answer means that is neither good nor part of the flow's own ways.
pub(super) fn refusal(answer: &Response, now: DateTime<Utc>) -> Failure {
    if let Some(trouble) = API.trouble(answer, now) {
        return trouble;
    }
    let error = Error::read(answer);
    let code = error.as_ref().and_then(Error::code).map(str::to_owned);
    classify(answer, error.as_ref(), now)
        .status(answer.status)
        .code(code.as_deref())
}

fn classify(answer: &Response, error: Option<&Error>, now: DateTime<Utc>) -> Failure {
    let has = |any: &[&str]| error.is_some_and(|e| e.has(any));
    match answer.status {
        200..=299 => API.unreadable(answer),
        401 => API.stale_token(answer),
        400 if error.is_some_and(|e| e.message.contains("invalid conference type value")) => tutor(
            Reason::NoMeetInCalendar,
            "The tutor's Google calendar cannot hold Google Meet conferences; the tutor must allow Meet there or connect another account.",
        ),
        403 | 429 if has(&["quotaExceeded"]) => {
            limited(Reason::TutorRateLimit, "the tutor's calendar quota")
                .after(wait(answer, now).or(Some(QUOTA_PAUSE)))
        }
        403 if has(&["dailyLimitExceeded"]) => {
            limited(Reason::ProviderRateLimit, "the project's daily limit")
                .after(wait(answer, now).or(Some(QUOTA_PAUSE)))
        }
        403 if has(&["userRateLimitExceeded"]) => {
            limited(Reason::TutorRateLimit, "the tutor's request rate").after(wait(answer, now))
        }
        429 => limited(Reason::TutorRateLimit, "the tutor's request rate").after(wait(answer, now)),
        403 if has(&["rateLimitExceeded", "RATE_LIMIT_EXCEEDED"]) => {
            limited(Reason::TutorRateLimit, "the request rate").after(wait(answer, now))
        }
        400..=499 if has(&["insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"]) => tutor(
            Reason::ScopeMissing,
            "The tutor's consent does not cover calendar events; the tutor must connect again and allow them.",
        ),
        403 if has(&["accessNotConfigured", "SERVICE_DISABLED"]) => Failure::new(
            Class::OperatorMustAct,
            Reason::OAuthClient,
            "The Google Calendar API is not enabled in the OAuth client's project; enable it in the Google Cloud console.",
        ),
        403 if has(&UNSERVED) => Failure::new(
            Class::OperatorMustAct,
            Reason::OAuthClient,
            "Google does not serve the OAuth client's project (deleted, suspended, barred by a policy, or without billing); look for the cause in the Google Cloud console.",
        ),
        // Domain policies, suspended accounts, calendars that may only be read.
        403 if error.is_some() => tutor(
            Reason::AccountRefused,
            "Google does not let this account write to its calendar; the tutor or their administrator must allow it.",
        ),
        403 => API.barred(answer),
        // Cut off on the way: what it would have said is not known.
        404 | 410 if answer.body.starts_with(b"{") && answer.json().is_none() => {
            API.unreadable(answer)
        }
        // An HTML page here means that the URL is wrong, not the tutor.
        404 | 405 | 410 if error.is_none() => API.astray(answer),
        404 => tutor(
            Reason::AccountNotFound,
            "Google does not find the tutor's primary calendar; the tutor must connect an account that has one.",
        ),
        409 | 412 => Failure::new(
            Class::Retry,
            Reason::ProviderDown,
            "Google Calendar was changing the event at the same moment; meetlink tries again.",
        ),
        _ => API.refused(answer),
    }
}

fn tutor(reason: Reason, text: &str) -> Failure {
    Failure::new(Class::TutorMustAct, reason, text)
}

fn limited(reason: Reason, what: &str) -> Failure {
    let text = format!("Google Calendar says that {what} is used up; meetlink comes back later.");
    Failure::new(Class::RetryAfter, reason, text)
}

/// State of an event's conference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Conference {
    /// It can be joined.
    Link(JoinUrl),
    /// It is being made.
    Pending,
    /// Making it failed; the id of that request.
    Failed(Option<String>),
    /// There is none and none is under way.
    Missing,
    /// There is one, without a link that a person could be sent to.
    Odd,
}

/// When an event takes place, as far as it says so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) start: Option<DateTime<Utc>>,
    pub(super) end: Option<DateTime<Utc>>,
    pub(super) all_day: bool,
}

/// An event resource.
pub(super) struct Resource(Value);

impl Resource {
    /// The event in a good answer, if it is the one with this id.
    pub(super) fn read(answer: &Response, id: &str) -> Option<Self> {
        let body = answer.json()?;
        (body.get("id")?.as_str()? == id).then_some(Self(body))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.get("status").and_then(Value::as_str) == Some("cancelled")
    }

    pub(super) fn times(&self) -> Times {
        let at = |path| {
            let text = self.0.pointer(path)?.as_str()?;
            DateTime::parse_from_rfc3339(text).ok().map(|t| t.to_utc())
        };
        let dated = |path| self.0.pointer(path).is_some_and(Value::is_string);
        Times {
            start: at("/start/dateTime"),
            end: at("/end/dateTime"),
            all_day: dated("/start/date") || dated("/end/date"),
        }
    }

    pub(super) fn conference(&self) -> Conference {
        let mut links = self.links().peekable();
        if links.peek().is_some() {
            return links
                .find_map(JoinUrl::parse)
                .map_or(Conference::Odd, Conference::Link);
        }
        let Some(request) = self
            .0
            .pointer("/conferenceData/createRequest")
            .filter(|r| r.is_object())
        else {
            return Conference::Missing;
        };
        let code = request
            .pointer("/status/statusCode")
            .and_then(Value::as_str);
        match code {
            Some("failure") => {
                let id = request.get("requestId").and_then(Value::as_str);
                Conference::Failed(id.map(str::to_owned))
            }
            Some("success") => Conference::Odd,
            _ => Conference::Pending,
        }
    }

    /// `hangoutLink`, then the video entry points.
    fn links(&self) -> impl Iterator<Item = &str> {
        let hangout = self.0.get("hangoutLink").and_then(Value::as_str);
        let entries = self
            .0
            .pointer("/conferenceData/entryPoints")
            .and_then(Value::as_array);
        let videos = entries.into_iter().flatten().filter_map(|entry| {
            let video = entry.get("entryPointType")?.as_str()? == "video";
            entry.get("uri")?.as_str().filter(|_| video)
        });
        hangout.into_iter().chain(videos)
    }
}
