//! A request as the providers' rules see it.

use crate::options::Options;
use crate::types::{Call, Provider};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Which call a path and method stand for, and the parts of the path that follow the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub provider: Provider,
    pub call: Call,
    pub segments: Vec<String>,
}

impl Route {
    pub fn find(options: &Options, method: &str, path: &str) -> Option<Route> {
        for provider in [Provider::Google, Provider::Zoom] {
            if path == options.token_path(provider) {
                let call = if method == "POST" {
                    Call::Token
                } else {
                    Call::Other
                };
                return Some(Route {
                    provider,
                    call,
                    segments: Vec::new(),
                });
            }
        }
        for provider in [Provider::Google, Provider::Zoom] {
            let Some(rest) = path.strip_prefix(options.prefix(provider)) else {
                continue;
            };
            let Some(rest) = rest.strip_prefix('/') else {
                continue;
            };
            let decode = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
            let segments: Vec<String> = rest.split('/').map(decode).collect();
            let call = match provider {
                Provider::Google => google_call(method, &segments),
                Provider::Zoom => zoom_call(method, &segments),
            };
            // With both prefixes empty the first segment tells the providers apart.
            let bare = options.prefix(provider).is_empty();
            if call != Call::Other || !bare {
                return Some(Route {
                    provider,
                    call,
                    segments,
                });
            }
        }
        None
    }
}

fn google_call(method: &str, segments: &[String]) -> Call {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method, parts.as_slice()) {
        ("POST", ["calendars", _, "events"]) => Call::Insert,
        ("GET", ["calendars", _, "events", _]) => Call::Get,
        ("PATCH", ["calendars", _, "events", _]) => Call::Patch,
        ("DELETE", ["calendars", _, "events", _]) => Call::Delete,
        _ => Call::Other,
    }
}

fn zoom_call(method: &str, segments: &[String]) -> Call {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method, parts.as_slice()) {
        ("POST", ["users", _, "meetings"]) => Call::Create,
        ("GET", ["users", _, "meetings"]) => Call::List,
        ("GET", ["meetings", _]) => Call::Get,
        ("PATCH", ["meetings", _]) => Call::Patch,
        ("DELETE", ["meetings", _]) => Call::Delete,
        _ => Call::Other,
    }
}

/// A request, wholly received.
#[derive(Debug)]
pub(crate) struct Request {
    pub route: Route,
    pub query: Vec<(String, String)>,
    pub authorization: Option<String>,
    pub content_type: String,
    pub raw: Bytes,
    /// The body, if it is JSON.
    pub json: Option<Value>,
    /// The body, if it is a form.
    pub form: Vec<(String, String)>,
}

impl Request {
    pub fn new(route: Route, parts: &Parts, raw: Bytes) -> Request {
        let content_type = header(parts, "content-type").unwrap_or_default();
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        let json = if is_form {
            None
        } else {
            serde_json::from_slice(&raw).ok()
        };
        let form = if is_form { pairs(&raw) } else { Vec::new() };
        let query = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let authorization = header(parts, "authorization");
        Request {
            route,
            query,
            authorization,
            content_type,
            raw,
            json,
            form,
        }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    pub fn bearer(&self) -> Option<&str> {
        bearer(self.authorization.as_deref()?)
    }

    /// The user and password of Basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = strip_scheme(self.authorization.as_deref()?, "basic")?;
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some((user.into(), password.into()))
    }

    /// The body as the journal keeps it: no secret stays readable.
    pub fn body_for_journal(&self) -> Value {
        if !self.form.is_empty() {
            let shown = self.form.iter().map(|(name, value)| {
                let secret = matches!(name.as_str(), "refresh_token" | "client_secret");
                let value = if secret {
                    hash_of(value)
                } else {
                    value.clone()
                };
                (name.clone(), Value::String(value))
            });
            return Value::Object(shown.collect::<Map<_, _>>());
        }
        match &self.json {
            Some(json) => json.clone(),
            None if self.raw.is_empty() => Value::Null,
            None => Value::String(String::from_utf8_lossy(&self.raw).into_owned()),
        }
    }
}

pub(crate) fn header(parts: &Parts, name: &str) -> Option<String> {
    let value = parts.headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    strip_scheme(authorization, "bearer")
}

fn strip_scheme<'a>(authorization: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = authorization.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn pairs(raw: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(raw).into_owned().collect()
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// Enough to tell two secrets apart, and no way back.
pub(crate) fn hash_of(secret: &str) -> String {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    format!("hash:{:016x}", hasher.finish())
}
