//! From an action to what is put on the wire.

use crate::answer::{self, Answer, google_error, zoom_error};
use crate::faults::{Action, RateLimit};
use crate::journal::Fate;
use crate::oauth;
use crate::types::Provider;
use crate::zoom::{iso, next_midnight};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::time::Duration;

/// How the answer goes out.
#[derive(Debug)]
pub(crate) enum Delivery {
    Whole(Answer),
    Cut(Answer),
    Drip(Answer, Duration),
    Endless,
    Stall,
    Reset,
    Close,
}

impl Delivery {
    pub fn fate(&self) -> Fate {
        match self {
            Delivery::Whole(_) => Fate::Answered,
            Delivery::Cut(_) => Fate::Cut,
            Delivery::Drip(..) => Fate::Dripped,
            Delivery::Endless => Fate::Endless,
            Delivery::Stall => Fate::Stalled,
            Delivery::Reset => Fate::Reset,
            Delivery::Close => Fate::Closed,
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Delivery::Whole(answer) | Delivery::Cut(answer) | Delivery::Drip(answer, _) => {
                Some(answer.status)
            }
            Delivery::Endless => Some(200),
            Delivery::Stall | Delivery::Reset | Delivery::Close => None,
        }
    }
}

/// Whether the provider does the request's work under this action.
pub(crate) fn takes_effect(action: Option<&Action>) -> bool {
    match action {
        None
        | Some(
            Action::BigBody { .. }
            | Action::EndlessBody
            | Action::SlowDrip { .. }
            | Action::ResetAfterEffect
            | Action::CutBody,
        ) => true,
        Some(
            Action::Status { effect, .. }
            | Action::NotJson { effect }
            | Action::Stall { effect }
            | Action::Close { effect },
        ) => *effect,
        Some(_) => false,
    }
}

/// What goes out. `proper` is the answer of the provider's own rules, where they were asked.
pub(crate) fn plan(
    provider: Provider,
    action: Option<Action>,
    proper: Option<Answer>,
    now: DateTime<Utc>,
) -> Delivery {
    let proper = proper.unwrap_or_else(|| Answer::empty(200));
    let Some(action) = action else {
        return Delivery::Whole(proper);
    };
    match action {
        Action::BigBody { bytes } => Delivery::Whole(pad(proper, bytes)),
        Action::EndlessBody => Delivery::Endless,
        Action::SlowDrip { every_ms } => {
            Delivery::Drip(with_body(proper), Duration::from_millis(every_ms))
        }
        Action::CutBody => Delivery::Cut(with_body(proper)),
        Action::Stall { .. } => Delivery::Stall,
        Action::Close { .. } => Delivery::Close,
        Action::ResetOnAccept | Action::ResetBeforeRequest | Action::ResetAfterEffect => {
            Delivery::Reset
        }
        action => Delivery::Whole(false_answer(provider, action, now)),
    }
}

fn false_answer(provider: Provider, action: Action, now: DateTime<Utc>) -> Answer {
    match action {
        Action::Status {
            status,
            headers,
            body,
            ..
        } => {
            let mut answer = Answer::empty(status);
            answer.headers = headers;
            answer.body = Bytes::from(body);
            answer
        }
        Action::RateLimit { form } => rate_limit(provider, form, now),
        Action::TokenError { status, error, why } => {
            oauth::error(provider, status, &error, why.as_deref())
        }
        Action::Unauthorized => answer::unauthorized(provider),
        Action::InsufficientPermissions => answer::google_scope_missing(),
        Action::InvalidConferenceType => answer::google_conference_type(),
        Action::ZoomScopes { status, code } => answer::zoom_scope_missing(status, code),
        Action::ZoomNoSuchUser => zoom_error(404, 1001, "User does not exist: me."),
        Action::ZoomNotAllowed => zoom_error(
            400,
            3161,
            "Your user account is not allowed meeting hosting and scheduling capabilities.",
        ),
        Action::ZoomCannotSchedule => zoom_error(400, 3000, "You cannot schedule a meeting for me"),
        Action::ServerError { status } => match provider {
            Provider::Google => google_error(status, "backendError", "Backend Error"),
            Provider::Zoom => zoom_error(status, u32::from(status), "Internal server error"),
        },
        Action::Xml { status } => Answer::text(
            status,
            "application/xml",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><error><code>1</code>\
             <message>Something went wrong.</message></error>",
        ),
        Action::Html { status } => Answer::text(
            status,
            "text/html; charset=utf-8",
            "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Error</h1></body></html>",
        ),
        Action::NotJson { .. } => Answer::text(200, "application/json", "OK, done"),
        Action::Redirect { status, location } => Answer::empty(status).with("location", location),
        // The rest never come here: they are about the wire, or add to another answer.
        _ => Answer::empty(500),
    }
}

fn rate_limit(provider: Provider, form: RateLimit, now: DateTime<Utc>) -> Answer {
    let plain = || match provider {
        Provider::Google => google_error(429, "rateLimitExceeded", "Rate Limit Exceeded"),
        Provider::Zoom => per_second(),
    };
    let later = |seconds: u32| now + TimeDelta::seconds(seconds.into());
    match form {
        RateLimit::NoHint => plain(),
        RateLimit::Seconds(seconds) => plain().with("retry-after", seconds.to_string()),
        RateLimit::HttpDate(seconds) => {
            let date = later(seconds).format("%a, %d %b %Y %H:%M:%S GMT");
            plain().with("retry-after", date.to_string())
        }
        RateLimit::Iso8601(seconds) => plain().with("retry-after", iso(later(seconds))),
        RateLimit::ZoomPerSecond => per_second(),
        RateLimit::ZoomDaily => answer::zoom_daily_limit(100, Some(next_midnight(now))),
        RateLimit::ZoomDailyNoHint => answer::zoom_daily_limit(100, None),
        RateLimit::GoogleRateLimitExceeded => {
            google_error(403, "rateLimitExceeded", "Rate Limit Exceeded")
        }
        RateLimit::GoogleUserRateLimitExceeded => {
            google_error(403, "userRateLimitExceeded", "User Rate Limit Exceeded")
        }
        RateLimit::GoogleQuotaExceeded => {
            google_error(403, "quotaExceeded", "Calendar usage limits exceeded.")
        }
        RateLimit::GoogleDailyLimitExceeded => {
            google_error(403, "dailyLimitExceeded", "Daily Limit Exceeded")
        }
        RateLimit::GoogleTooManyRequests => {
            google_error(429, "rateLimitExceeded", "Rate Limit Exceeded")
        }
    }
}

fn per_second() -> Answer {
    let message = "You have reached the maximum per-second rate limit for this API. \
                   Try again later.";
    zoom_error(429, 429, message)
        .with("x-ratelimit-category", "Light")
        .with("x-ratelimit-type", "QPS")
        .with("x-ratelimit-limit", "4")
        .with("x-ratelimit-remaining", "0")
}

/// A body that can be cut or dripped: a 204 has none, so it becomes a 200 with one.
fn with_body(mut answer: Answer) -> Answer {
    if answer.body.is_empty() {
        let effect = answer.effect.take();
        answer = Answer::json(200, &json!({"note": "an answer that has a body"}));
        answer.effect = effect;
    }
    answer
}

/// Valid JSON of exactly so many bytes, with the proper answer in it.
fn pad(answer: Answer, bytes: usize) -> Answer {
    let mut answer = with_body(answer);
    let Ok(Value::Object(mut body)) = serde_json::from_slice(&answer.body) else {
        return answer;
    };
    body.insert("padding".into(), json!(""));
    let bare = Value::Object(body.clone()).to_string().len();
    body.insert(
        "padding".into(),
        json!("x".repeat(bytes.saturating_sub(bare))),
    );
    answer.body = Bytes::from(Value::Object(body).to_string());
    answer
}
