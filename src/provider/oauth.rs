//! Trading a refresh token for an access token (RFC 6749 §6).
//!
//! Google keeps the refresh token as it is. Zoom's is single-use: the answer carries the next one,
//! and if that answer is lost or cannot be read, the new token is lost with it, the old one is
//! dead, and the next refresh says `invalid_grant`: the tutor has to reconnect. Nothing on this
//! side can mend that, so such an answer is simply tried again once.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answers::{self, Party};
use super::http::{Auth, Body, Method, Request, Response};
use super::{Event, Grant, OAuthClient};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::secret::Secret;

/// Lifetime of an access token whose answer names none; Google's and Zoom's live an hour.
const USUAL_LIFE: i64 = 3_600;
/// Lifetimes outside of these are taken as the nearer end: no refresh at every step, and none
/// put off for ever.
const SHORTEST_LIFE: i64 = 60;
const LONGEST_LIFE: i64 = 86_400;
/// Longest token that is believed. Google reserves 2 kB for its own, Zoom's are below 1 kB.
const LONGEST_TOKEN: usize = 8_192;

/// What the token endpoints differ in.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Who is called.
    pub party: Party,
    /// Whether a refusal may speak of the refresh token in `reason` alone, as Zoom's do at times: its
    /// `error` is `invalid_request` then, as it is of requests that are malformed.
    pub vague_about_tokens: bool,
}

/// The refresh with the client's secret in the form, as Google wants it.
pub fn refresh_in_form(url: &str, client: &OAuthClient, refresh_token: &Secret) -> Request {
    let form = vec![
        ("grant_type", Secret::new("refresh_token")),
        ("client_id", Secret::new(client.id.as_str())),
        ("client_secret", client.secret.clone()),
        ("refresh_token", refresh_token.clone()),
    ];
    Request::new(Method::Post, url, Auth::Nobody).body(Body::Form(form))
}

/// The refresh with the client's secret as Basic credentials, as Zoom wants it.
pub fn refresh_with_basic(url: &str, client: &OAuthClient, refresh_token: &Secret) -> Request {
    let auth = Auth::Basic {
        user: client.id.clone(),
        password: client.secret.clone(),
    };
    let form = vec![
        ("grant_type", Secret::new("refresh_token")),
        ("refresh_token", refresh_token.clone()),
    ];
    Request::new(Method::Post, url, auth).body(Body::Form(form))
}

/// What came of a refresh.
pub fn granted(dialect: Dialect, event: Event, now: DateTime<Utc>) -> Result<Grant, Failure> {
    let party = dialect.party;
    let answer = match event {
        Event::Answer(answer) => answer,
        Event::Broken(broken) => return Err(party.broken(broken)),
        Event::Go => return Err(party.interrupted()),
    };
    if let Some(trouble) = party.trouble(&answer, now) {
        return Err(trouble);
    }
    if (200..300).contains(&answer.status) {
        return grant(&answer, now).ok_or_else(|| party.unreadable(&answer));
    }
    Err(refusal(dialect, &answer, now))
}

/// The tokens in a good answer.
fn grant(answer: &Response, now: DateTime<Utc>) -> Option<Grant> {
    let mut body = answer.json()?;
    let access = take_token(&mut body, "access_token")?;
    let refresh = take_token(&mut body, "refresh_token");
    let life = seconds(body.get("expires_in"))
        .unwrap_or(USUAL_LIFE)
        .clamp(SHORTEST_LIFE, LONGEST_LIFE);
    let expires_at = now.checked_add_signed(chrono::Duration::seconds(life))?;
    Some(Grant {
        access,
        refresh,
        expires_at,
    })
}

/// A token that fits into a header, moved out of the body rather than copied.
fn take_token(body: &mut Value, name: &str) -> Option<Secret> {
    let Value::String(text) = body.get_mut(name)?.take() else {
        return None;
    };
    let token = Secret::new(text);
    let text = token.expose();
    let fits = !token.is_empty()
        && text.len() <= LONGEST_TOKEN
        && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(token)
}

/// `expires_in` as a number or, as some endpoints send it, as a text.
fn seconds(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// What a 4xx means. The codes are those of RFC 6749 §5.2.
fn refusal(dialect: Dialect, answer: &Response, now: DateTime<Utc>) -> Failure {
    let Party { label, setting } = dialect.party;
    let status = answer.status;
    let body = answer.json();
    let code = body.as_ref().and_then(error_code).unwrap_or_default();
    let failure = match code {
        // Not unauthorized_client: Google says so of a token that another client was given.
        "invalid_client" => client(format!(
            "{label} does not accept the OAuth client; check its id and secret and set them again with meetlink_configure_provider."
        )),
        _ if status == 429 => Failure::new(
            Class::RetryAfter,
            Reason::ProviderRateLimit,
            format!("{label} was asked too often; meetlink comes back later."),
        )
        .after(answers::wait(answer, now)),
        _ if grant_is_dead(dialect, code, body.as_ref()) => Failure::new(
            Class::TutorMustAct,
            Reason::ConsentRevoked,
            format!(
                "{label} says that the tutor's consent was withdrawn or has run out; the tutor must connect again."
            ),
        ),
        // Perhaps a matter of this one account: nobody else is held up for it.
        _ => Failure::new(
            Class::OperatorMustAct,
            Reason::Misconfigured,
            format!(
                "{label} refused the refresh (status {status}); check the OAuth client, the tutor's account and {setting}."
            ),
        ),
    };
    failure.status(status).code(Some(code))
}

fn client(text: String) -> Failure {
    Failure::new(Class::OperatorMustAct, Reason::OAuthClient, text)
}

/// Whether the refresh token is the culprit.
fn grant_is_dead(dialect: Dialect, code: &str, body: Option<&Value>) -> bool {
    if code == "invalid_grant" {
        return true;
    }
    let reason = body.and_then(|b| b.get("reason")).and_then(Value::as_str);
    dialect.vague_about_tokens
        && reason.is_some_and(|r| r.to_ascii_lowercase().starts_with("invalid token"))
}

/// `error` as OAuth has it, or the status in the error object of Google's other APIs.
fn error_code(body: &Value) -> Option<&str> {
    let error = body.get("error")?;
    error
        .as_str()
        .or_else(|| error.get("status").and_then(Value::as_str))
}

#[cfg(test)]
mod tests;
