//! The control interface under `/_sim/`, for programs that cannot use the library.

use crate::answer::Answer;
use crate::faults::Rule;
use crate::options::Latency;
use crate::server::Shared;
use crate::types::{AccountSpec, Provider};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::PoisonError;

/// Body of `POST /_sim/accounts`.
#[derive(Deserialize)]
struct NewAccount {
    provider: Provider,
    #[serde(flatten)]
    spec: AccountSpec,
}

/// Body of `POST /_sim/accounts/revoke` and `/_sim/accounts/expire`.
#[derive(Deserialize)]
struct Named {
    provider: Provider,
    name: String,
}

/// Body of `POST /_sim/latency`.
#[derive(Deserialize)]
struct NewLatency {
    provider: Provider,
    #[serde(flatten)]
    latency: Latency,
}

pub(crate) fn handle(shared: &Shared, parts: &Parts, body: &[u8]) -> Answer {
    let path = parts.uri.path().trim_start_matches("/_sim/");
    let outcome = match (parts.method.as_str(), path) {
        ("GET", "journal") => shown(&shared.journal.snapshot(&shared.clock)),
        ("DELETE", "journal") => {
            shared.clear_journal();
            shown(&json!({}))
        }
        ("GET", "meetings") => shown(&json!({
            "google": shared.world().all(Provider::Google, &shared.clock),
            "zoom": shared.world().all(Provider::Zoom, &shared.clock),
        })),
        ("GET", "urls") => shown(&shared.urls()),
        ("GET", "stats") => shown(&json!({
            "google": shared.gauge(Provider::Google).read(),
            "zoom": shared.gauge(Provider::Zoom).read(),
            "journal_entries": shared.journal.len(),
        })),
        ("POST", "faults") => {
            read::<Rule>(body).and_then(|rule| shown(&json!({"id": shared.faults.add(rule)})))
        }
        ("DELETE", "faults") => {
            shared.faults.clear();
            shown(&json!({}))
        }
        ("POST", "accounts") => read::<NewAccount>(body).and_then(|new| {
            let now = shared.clock.now().wall;
            shown(&shared.world().side_mut(new.provider).add(new.spec, now))
        }),
        ("POST", "accounts/revoke") => read::<Named>(body).and_then(|named| {
            shared.revoke(named.provider, &named.name);
            shown(&json!({}))
        }),
        ("POST", "accounts/expire") => read::<Named>(body).and_then(|named| {
            shared.expire_access_tokens(named.provider, &named.name);
            shown(&json!({}))
        }),
        ("POST", "latency") => read::<NewLatency>(body).and_then(|new| {
            shared.set_latency(new.provider, new.latency);
            shown(&json!({}))
        }),
        _ => return Answer::json(404, &json!({"error": "no such control call"})),
    };
    outcome.unwrap_or_else(|error| Answer::json(400, &json!({"error": error.to_string()})))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body)
}

fn shown<T: Serialize>(value: &T) -> serde_json::Result<Answer> {
    Ok(Answer::json(200, &serde_json::to_value(value)?))
}

/// What the library and the control interface both do.
impl Shared {
    pub fn clear_journal(&self) {
        self.journal.clear();
        for provider in [Provider::Google, Provider::Zoom] {
            self.gauge(provider).reset_max();
        }
    }

    pub fn revoke(&self, provider: Provider, name: &str) {
        if let Some(owner) = self.world().side_mut(provider).owners.get_mut(name) {
            owner.revoked = true;
        }
    }

    pub fn expire_access_tokens(&self, provider: Provider, name: &str) {
        let now = self.clock.now().wall;
        self.world().side_mut(provider).expire(name, now);
    }

    pub fn set_latency(&self, provider: Provider, latency: Latency) {
        let mut both = self.latency.write().unwrap_or_else(PoisonError::into_inner);
        both[provider as usize] = latency;
    }

    pub fn token_url(&self, provider: Provider) -> String {
        format!("{}{}", self.base_url, self.options.token_path(provider))
    }

    pub fn api_url(&self, provider: Provider) -> String {
        format!("{}{}", self.base_url, self.options.prefix(provider))
    }

    pub fn urls(&self) -> Value {
        let client = |provider| self.world().side(provider).client.clone();
        let (google, zoom) = (client(Provider::Google), client(Provider::Zoom));
        json!({
            "url": self.base_url,
            "google_token_url": self.token_url(Provider::Google),
            "google_api_url": self.api_url(Provider::Google),
            "google_client_id": google.0,
            "google_client_secret": google.1,
            "zoom_token_url": self.token_url(Provider::Zoom),
            "zoom_api_url": self.api_url(Provider::Zoom),
            "zoom_client_id": zoom.0,
            "zoom_client_secret": zoom.1,
        })
    }
}
