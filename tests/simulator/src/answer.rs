//! An answer before it is put on the wire, and the error bodies as the providers write them.

use crate::journal::{Effect, EffectKind};
use crate::types::Provider;
use bytes::Bytes;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub effect: Option<Effect>,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Answer {
        let body = Bytes::from(body.to_string());
        Answer::text(status, "application/json; charset=UTF-8", body)
    }

    pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
        Answer {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
            effect: None,
        }
    }

    pub fn empty(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            effect: None,
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn did(mut self, kind: EffectKind, id: impl Into<String>) -> Answer {
        self.effect = Some(Effect {
            kind,
            id: id.into(),
        });
        self
    }
}

/// Google's error body; the domain follows from the reason.
pub(crate) fn google_error(status: u16, reason: &str, message: &str) -> Answer {
    Answer::json(status, &google_error_body(status, reason, message))
}

fn google_error_body(status: u16, reason: &str, message: &str) -> Value {
    let domain = match reason {
        "rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded" | "dailyLimitExceeded" => {
            "usageLimits"
        }
        "timeRangeEmpty" => "calendar",
        _ => "global",
    };
    json!({"error": {
        "code": status,
        "message": message,
        "errors": [{"domain": domain, "reason": reason, "message": message}],
    }})
}

/// 401 as Google sends it for a token that is unknown, over or revoked.
pub(crate) fn google_unauthorized() -> Answer {
    let advice = "Expected OAuth 2 access token, login cookie or other valid authentication \
                  credential.";
    let body = json!({"error": {
        "code": 401,
        "message": format!("Request had invalid authentication credentials. {advice}"),
        "errors": [{
            "message": "Invalid Credentials",
            "domain": "global",
            "reason": "authError",
            "location": "Authorization",
            "locationType": "header",
        }],
        "status": "UNAUTHENTICATED",
    }});
    Answer::json(401, &body).with(
        "www-authenticate",
        "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"",
    )
}

/// 403 for a grant that lacks the scope.
pub(crate) fn google_scope_missing() -> Answer {
    let message = "Request had insufficient authentication scopes.";
    let mut body = google_error_body(403, "insufficientPermissions", message);
    body["error"]["errors"][0]["message"] = json!("Insufficient Permission");
    body["error"]["status"] = json!("PERMISSION_DENIED");
    body["error"]["details"] = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"service": "calendar-json.googleapis.com"},
    }]);
    Answer::json(403, &body)
}

/// 400 for a calendar that may not have the asked kind of conference.
pub(crate) fn google_conference_type() -> Answer {
    google_error(400, "invalid", "Invalid conference type value.")
}

/// Zoom's error body.
pub(crate) fn zoom_error(status: u16, code: u32, message: &str) -> Answer {
    Answer::json(status, &json!({"code": code, "message": message}))
}

/// 400 code 300 with the field at fault.
pub(crate) fn zoom_invalid(field: &str, message: &str) -> Answer {
    let errors = json!([{"field": field, "message": message}]);
    let body = json!({"code": 300, "message": "Validation Failed.", "errors": errors});
    Answer::json(400, &body)
}

/// 401 code 124.
pub(crate) fn zoom_unauthorized() -> Answer {
    zoom_error(401, 124, "Invalid access token.")
}

/// The answer to a grant without the scope, with the code that Zoom puts on it.
pub(crate) fn zoom_scope_missing(status: u16, code: u32) -> Answer {
    let message = "Invalid access token, does not contain \
                   scopes:[meeting:write:meeting, meeting:write:meeting:admin].";
    zoom_error(status, code, message)
}

/// 429 as Zoom sends it once an account has used up its day.
pub(crate) fn zoom_daily_limit(limit: u32, retry_after: Option<String>) -> Answer {
    let message = format!(
        "You have exceeded the daily rate limit ({limit}) of Meeting Create/Update API requests \
         permitted for this particular user. You may resume these requests at GMT 00:00:00."
    );
    let mut answer = zoom_error(429, 429, &message)
        .with("x-ratelimit-category", "Light")
        .with("x-ratelimit-type", "Daily-limit")
        .with("x-ratelimit-limit", limit.to_string())
        .with("x-ratelimit-remaining", "0");
    if let Some(at) = retry_after {
        answer = answer
            .with("x-ratelimit-reset", at.clone())
            .with("retry-after", at);
    }
    answer
}

/// A 401 in the provider's own words.
pub(crate) fn unauthorized(provider: Provider) -> Answer {
    match provider {
        Provider::Google => google_unauthorized(),
        Provider::Zoom => zoom_unauthorized(),
    }
}

/// A path that the provider does not have.
pub(crate) fn no_such_path(provider: Provider) -> Answer {
    match provider {
        Provider::Google => google_error(404, "notFound", "Not Found"),
        Provider::Zoom => zoom_error(404, 2300, "This API endpoint is not recognized."),
    }
}
