//! Settings of a simulator.

use crate::types::{Conference, Provider};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// How the simulator is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; loopback only. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether to speak TLS, and how good the certificate is.
    pub tls: Tls,
    /// The path that stands for `https://www.googleapis.com/calendar/v3`; may be empty.
    pub google_prefix: String,
    /// The path that stands for `https://api.zoom.us/v2`; may be empty.
    pub zoom_prefix: String,
    /// The path of Google's token endpoint.
    pub google_token_path: String,
    /// The path of Zoom's token endpoint.
    pub zoom_token_path: String,
    /// The time that Google's calls take.
    pub google_latency: Latency,
    /// The time that Zoom's calls take.
    pub zoom_latency: Latency,
    /// Zoom: creations and updates allowed per account and UTC day; none means unlimited.
    pub zoom_daily_limit: Option<u32>,
    /// Google: how conference creation goes when no rule says otherwise.
    pub conference: Conference,
    /// Whether the journal keeps request bodies. A long load test has no use for them.
    pub keep_bodies: bool,
    /// Whether the control interface under `/_sim/` is offered.
    pub control: bool,
    /// Threads that serve.
    pub workers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: Tls::Off,
            google_prefix: "/google/calendar/v3".into(),
            zoom_prefix: "/zoom/v2".into(),
            google_token_path: "/google/token".into(),
            zoom_token_path: "/zoom/token".into(),
            google_latency: Latency::default(),
            zoom_latency: Latency::default(),
            zoom_daily_limit: None,
            conference: Conference::default(),
            keep_bodies: true,
            control: false,
            workers: 2,
        }
    }
}

/// TLS, and what is wrong with the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Plain HTTP.
    #[default]
    Off,
    /// A certificate for `localhost` and `127.0.0.1`, signed by the simulator's own authority.
    Trusted,
    /// Signed by another authority than the one that `ca_pem` gives.
    Untrusted,
    /// Signed by the right authority, but over.
    Expired,
    /// Signed by the right authority, for another name.
    WrongName,
}

/// The time that calls take, counted from the moment the request is wholly received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Every call of the interface, in milliseconds.
    pub api_ms: u64,
    /// Calls of the token endpoint, in milliseconds.
    pub token_ms: u64,
}

impl Options {
    pub(crate) fn prefix(&self, provider: Provider) -> &str {
        match provider {
            Provider::Google => &self.google_prefix,
            Provider::Zoom => &self.zoom_prefix,
        }
    }

    pub(crate) fn token_path(&self, provider: Provider) -> &str {
        match provider {
            Provider::Google => &self.google_token_path,
            Provider::Zoom => &self.zoom_token_path,
        }
    }

    pub(crate) fn latency(&self, provider: Provider) -> Latency {
        match provider {
            Provider::Google => self.google_latency,
            Provider::Zoom => self.zoom_latency,
        }
    }
}
