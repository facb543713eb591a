//! The two token endpoints.

use crate::answer::Answer;
use crate::journal::EffectKind;
use crate::request::Request;
use crate::state::{Name, Side, World};
use crate::types::Provider;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/calendar.events";
const ZOOM_SCOPE: &str = "meeting:read:list_meetings meeting:read:meeting \
                          meeting:write:meeting meeting:update:meeting meeting:delete:meeting";

pub(crate) fn handle(world: &mut World, request: &Request, now: DateTime<Utc>) -> Answer {
    match request.route.provider {
        Provider::Google => google(&mut world.google, request, now),
        Provider::Zoom => zoom(&mut world.zoom, request, now),
    }
}

/// A token endpoint's error. The providers name the explanation differently.
pub(crate) fn error(provider: Provider, status: u16, error: &str, why: Option<&str>) -> Answer {
    let mut body = json!({"error": error});
    if let Some(why) = why {
        let field = match provider {
            Provider::Google => "error_description",
            Provider::Zoom => "reason",
        };
        body[field] = json!(why);
    }
    Answer::json(status, &body)
}

fn google(side: &mut Side, request: &Request, now: DateTime<Utc>) -> Answer {
    let refuse = |status, kind, why| error(Provider::Google, status, kind, Some(why));
    if let Some(answer) = not_a_form(request, Provider::Google) {
        return answer;
    }
    // Google takes the client's credentials from the form or from Basic authentication.
    let client = request.basic().or_else(|| {
        Some((
            request.field("client_id")?.into(),
            request.field("client_secret")?.into(),
        ))
    });
    match client {
        None => return refuse(400, "invalid_request", "Could not determine client ID."),
        Some((id, _)) if id != side.client.0 => {
            return refuse(401, "invalid_client", "The OAuth client was not found.");
        }
        Some(client) if client != side.client => {
            return refuse(
                401,
                "invalid_client",
                "The provided client secret is invalid.",
            );
        }
        Some(_) => {}
    }
    match request.field("grant_type") {
        Some("refresh_token") => {}
        other => {
            let why = format!("Invalid grant_type: {}", other.unwrap_or_default());
            return refuse(400, "unsupported_grant_type", &why);
        }
    }
    let Some(token) = request.field("refresh_token") else {
        return refuse(
            400,
            "invalid_request",
            "Missing required parameter: refresh_token",
        );
    };
    match claim(side, token) {
        Claim::Good(name) => {
            let access = granted(side, &name, now);
            let body = json!({
                "access_token": access.token,
                "expires_in": access.expires_in,
                "scope": if access.scopes_ok { GOOGLE_SCOPE } else { "openid" },
                "token_type": "Bearer",
            });
            fresh(&body).did(EffectKind::Refreshed, &*name)
        }
        Claim::Dead => refuse(400, "invalid_grant", "Token has been expired or revoked."),
        Claim::Unknown => refuse(400, "invalid_grant", "Bad Request"),
    }
}

fn zoom(side: &mut Side, request: &Request, now: DateTime<Utc>) -> Answer {
    let refuse = |status, kind, why| error(Provider::Zoom, status, kind, Some(why));
    if let Some(answer) = not_a_form(request, Provider::Zoom) {
        return answer;
    }
    if request.basic().as_ref() != Some(&side.client) {
        return refuse(401, "invalid_client", "Invalid client_id or client_secret");
    }
    match request.field("grant_type") {
        Some("refresh_token") => {}
        Some("account_credentials") => return zoom_server_to_server(side, request, now),
        _ => return refuse(400, "unsupported_grant_type", "unsupported grant type"),
    }
    let Some(token) = request.field("refresh_token") else {
        return refuse(400, "invalid_request", "Missing refresh_token");
    };
    match claim(side, token) {
        Claim::Good(name) => {
            let access = granted(side, &name, now);
            let mut body = zoom_body(&access);
            body["refresh_token"] = json!(side.rotate_refresh(&name));
            fresh(&body).did(EffectKind::Refreshed, &*name)
        }
        Claim::Dead | Claim::Unknown => refuse(400, "invalid_grant", "Invalid Token!"),
    }
}

fn zoom_server_to_server(side: &mut Side, request: &Request, now: DateTime<Utc>) -> Answer {
    let name = request.field("account_id").map(Name::from);
    match name.filter(|name| side.owners.get(name).is_some_and(|owner| !owner.revoked)) {
        Some(name) => {
            let access = granted(side, &name, now);
            fresh(&zoom_body(&access)).did(EffectKind::Refreshed, &*name)
        }
        None => error(Provider::Zoom, 400, "invalid_request", Some("Bad Request")),
    }
}

fn zoom_body(access: &Granted) -> Value {
    json!({
        "access_token": access.token,
        "token_type": "bearer",
        "expires_in": access.expires_in,
        "scope": if access.scopes_ok { ZOOM_SCOPE } else { "user:read:user" },
        "api_url": "https://api.zoom.us",
    })
}

fn not_a_form(request: &Request, provider: Provider) -> Option<Answer> {
    let form = request
        .content_type
        .starts_with("application/x-www-form-urlencoded");
    let why = Some("The request must be application/x-www-form-urlencoded.");
    (!form).then(|| error(provider, 400, "invalid_request", why))
}

/// Tokens are never to be cached, and both providers say so.
fn fresh(body: &Value) -> Answer {
    Answer::json(200, body).with("cache-control", "no-store")
}

enum Claim {
    Good(Name),
    Dead,
    Unknown,
}

fn claim(side: &mut Side, token: &str) -> Claim {
    let Some(name) = side.owner_of_refresh(token) else {
        return Claim::Unknown;
    };
    let Some(owner) = side.owners.get_mut(&name) else {
        return Claim::Unknown;
    };
    if owner.revoked || owner.refresh_token != token {
        owner.tokens.killed_token_used += 1;
        return Claim::Dead;
    }
    Claim::Good(name)
}

struct Granted {
    token: String,
    expires_in: u32,
    scopes_ok: bool,
}

fn granted(side: &mut Side, name: &Name, now: DateTime<Utc>) -> Granted {
    let token = side.issue_access(name, now);
    let (mut expires_in, mut scopes_ok) = (0, false);
    if let Some(owner) = side.owners.get_mut(name) {
        owner.tokens.refreshes += 1;
        expires_in = owner.spec.access_lifetime_s.saturating_sub(1);
        scopes_ok = owner.spec.scopes_ok;
    }
    Granted {
        token,
        expires_in,
        scopes_ok,
    }
}
