//! What the Zoom API's answers mean: refusals, and meetings.
//!
//! Codes: the error tables of the Zoom Meetings API reference; limits: its page "Rate limits".

use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};
use serde_json::Value;

use super::API;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::JoinUrl;
use crate::provider::answers::wait;
use crate::provider::http::Response;
use crate::provider::retry_after;

/// The wait after a per-second limit.
const SECOND: Duration = Duration::from_secs(1);
/// How much of a body is looked at for words.
const PROSE: usize = 4_096;

/// The error body: `{"code": 124, "message": "..."}`, at times the same as XML, at times a page.
struct Error {
    code: Option<i64>,
    /// In lower case. Looked at, never passed on.
    message: String,
}

impl Error {
    fn read(answer: &Response) -> Self {
        if let Some(body) = answer.json() {
            let message = body.get("message").and_then(Value::as_str);
            return Self {
                code: body.get("code").and_then(integer),
                message: message.unwrap_or_default().to_ascii_lowercase(),
            };
        }
        let start = answer.body.get(..PROSE).unwrap_or(&answer.body);
        let message = String::from_utf8_lossy(start).to_ascii_lowercase();
        let code = message
            .split_once("<code>")
            .and_then(|(_, rest)| rest.split_once("</code>"))
            .and_then(|(code, _)| code.trim().parse().ok());
        Self { code, message }
    }

    fn lacks_scope(&self) -> bool {
        self.code == Some(4_711) || self.message.contains("does not contain scopes")
    }
}

/// A whole number, never by way of a float: meeting ids have more digits than a float32 and may
/// come as text.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whether the answer says that there is no such meeting. A 404 without Zoom's code may come from
/// a gateway, and would be no reason to make a second meeting.
pub(super) fn is_gone(answer: &Response) -> bool {
    answer.status == 404 && Error::read(answer).code == Some(3_001)
}

/// What an answer means that is neither good nor part of the flow's own ways.
pub(super) fn refusal(answer: &Response, now: DateTime<Utc>) -> Failure {
    if let Some(trouble) = API.trouble(answer, now) {
        return trouble;
    }
    let error = Error::read(answer);
    let code = error.code.map(|code| code.to_string());
    classify(answer, &error, now)
        .status(answer.status)
        .code(code.as_deref())
}

fn classify(answer: &Response, error: &Error, now: DateTime<Utc>) -> Failure {
    match (answer.status, error.code) {
        (200..=299, _) => API.unreadable(answer),
        (429, _) => limited(answer, error, now),
        // Before 401 and 124: the same token would come back without the scope.
        _ if error.lacks_scope() => tutor(
            Reason::ScopeMissing,
            "The tutor's consent does not cover Zoom meetings; check the scopes of the Zoom app, then the tutor must connect again.",
        ),
        // 4700 is an access token that is missing or makes no sense.
        (401, _) | (_, Some(124 | 4_700)) => API.stale_token(answer),
        (_, Some(1_001)) => tutor(
            Reason::AccountNotFound,
            "Zoom does not know the tutor's account any more; the tutor must connect an account that exists.",
        ),
        (_, Some(3_161)) => tutor(
            Reason::AccountRefused,
            "The tutor's Zoom account may not host or schedule meetings; the tutor or their administrator must allow it.",
        ),
        (403, Some(_)) => tutor(
            Reason::AccountRefused,
            "Zoom does not let this account do that; the tutor or their administrator must allow it.",
        ),
        (403, None) => API.barred(answer),
        // 2300 is "This API endpoint is not recognized.": another path than the API's.
        (404 | 405, None | Some(2_300)) => API.astray(answer),
        _ => API.refused(answer),
    }
}

fn tutor(reason: Reason, text: &str) -> Failure {
    Failure::new(Class::TutorMustAct, reason, text)
}

/// 429 stands for a limit a second, of the account, and for one a day, of the host (100 creates
/// and updates). Either is its tutor's, whose account it is: one account's use of Zoom says nothing of
/// another's (Zoom API reference, "Rate limits": shared by the users and apps of an account). The headers that tell them apart are not always there: on the daily limit of
/// creates only the message told it (Zoom developer forum, topic 18928).
fn limited(answer: &Response, error: &Error, now: DateTime<Utc>) -> Failure {
    let header = |name| answer.header(name).unwrap_or_default().to_ascii_lowercase();
    let kind = format!(
        "{} {} {}",
        header("x-ratelimit-type"),
        header("x-ratelimit-category"),
        error.message
    );
    let asked = wait(answer, now);
    let daily = kind.contains("daily");
    let by_second =
        kind.contains("per-second") || kind.contains("per second") || kind.contains("qps");
    if daily || (asked.is_some() && !by_second) {
        let text = "The tutor's Zoom account has used up a daily limit; meetlink comes back when it starts anew.";
        Failure::new(Class::RetryAfter, Reason::TutorRateLimit, text)
            .after(asked.or_else(|| until_midnight(now)))
    } else {
        let text = "The tutor's Zoom account was asked too often within a second; meetlink comes back later.";
        // At least: the wait grows with each of them.
        Failure::new(Class::RetryAfter, Reason::TutorRateLimit, text).after(asked.max(Some(SECOND)))
    }
}

/// Daily limits start anew at 00:00 UTC.
fn until_midnight(now: DateTime<Utc>) -> Option<Duration> {
    let tomorrow = now.date_naive().checked_add_days(Days::new(1))?;
    let midnight = tomorrow.and_time(NaiveTime::MIN).and_utc();
    Some(retry_after::until(midnight, now))
}

/// A meeting as GET and POST give it. Its `start_url` logs its bearer in as the host: it is not
/// read at all.
pub(super) struct Resource {
    pub(super) id: Option<i64>,
    pub(super) join_url: Option<JoinUrl>,
    /// When it starts; `None` for meetings without a fixed time.
    pub(super) start: Option<DateTime<Utc>>,
    /// Minutes.
    pub(super) duration: Option<i64>,
    /// Whether it is a single scheduled meeting, the only kind that is moved.
    pub(super) scheduled: bool,
}

impl Resource {
    pub(super) fn read(answer: &Response) -> Option<Self> {
        let body = answer.json()?;
        let fields = body.as_object()?;
        let text = |name| fields.get(name).and_then(Value::as_str);
        Some(Self {
            id: fields.get("id").and_then(integer).filter(|id| *id > 0),
            join_url: text("join_url").and_then(JoinUrl::parse),
            start: text("start_time").and_then(time),
            duration: fields.get("duration").and_then(integer),
            scheduled: fields.get("type").is_none_or(|t| integer(t) == Some(2)),
        })
    }
}

/// A time of the API's.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.to_utc())
}
