//! HTTP as values: what is to be sent, what came back, and how it broke.

use std::fmt;

use serde_json::Value;

use crate::domain::secret::Secret;

/// Method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Create, or ask for a token.
    Post,
    /// Change in part.
    Patch,
    /// Remove.
    Delete,
}

/// Who the request speaks for.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nobody (the secret is in the body).
    Nobody,
    /// `Authorization: Bearer`, RFC 6750.
    Bearer(Secret),
    /// `Authorization: Basic`, RFC 7617.
    Basic {
        /// Client id.
        user: String,
        /// Client secret.
        password: Secret,
    },
}

/// Body of a request.
#[derive(Clone, Debug)]
pub enum Body {
    /// No body.
    Empty,
    /// `application/json`.
    Json(Value),
    /// `application/json`, as these very bytes: they are signed.
    Text(String),
    /// `application/x-www-form-urlencoded`; values may be secrets.
    Form(Vec<(&'static str, Secret)>),
}

/// What the request does to the world if it arrives, which decides what a lost answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, or nothing more the second time: may be repeated freely.
    Repeatable,
    /// Something that the provider cannot tell from a second wish: must never be repeated blindly.
    Once,
}

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Whole URL, query included.
    pub url: String,
    /// Credentials.
    pub auth: Auth,
    /// Body.
    pub body: Body,
    /// Consequence of arriving.
    pub effect: Effect,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Request {
    /// A repeatable request without a body.
    pub fn new(method: Method, url: impl Into<String>, auth: Auth) -> Self {
        Self {
            method,
            url: url.into(),
            auth,
            body: Body::Empty,
            effect: Effect::Repeatable,
            headers: Vec::new(),
        }
    }

    /// Sets the body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Marks a request that must not be repeated blindly.
    pub fn once(mut self) -> Self {
        self.effect = Effect::Once;
        self
    }
}

/// One HTTP answer, whole and within the size cap.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// First header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

// Bodies hold tokens and host links: only their size may be printed.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

/// Whether the provider can have seen a request whose answer is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not a byte of the request was handed to the connection.
    No,
    /// At least one byte was.
    Maybe,
}

/// How an exchange broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name could not be resolved.
    Dns,
    /// Nobody listens, or no way there.
    Connect,
    /// TLS failed (certificate, protocol).
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection was reset or closed early.
    Reset,
    /// The answer is larger than the cap.
    TooLarge,
    /// The answer is not HTTP.
    NotHttp,
    /// This machine is short of something (file descriptors, memory).
    Local,
    /// The URL is not one that may be called.
    Forbidden,
}

impl Fault {
    /// For the operator, to follow "the provider".
    pub fn text(self) -> &'static str {
        match self {
            Fault::Dns => "could not be found by name (DNS)",
            Fault::Connect => "could not be connected to",
            Fault::Tls => "could not be trusted: TLS failed",
            Fault::Timeout => "did not answer within meetlink.request_timeout",
            Fault::Reset => "closed the connection before its answer was whole",
            Fault::TooLarge => "answered with more than meetlink reads",
            Fault::NotHttp => "answered with something that is not HTTP",
            Fault::Local => "was not called: this machine is short of a resource",
            Fault::Forbidden => "was not called: its URL is neither https nor loopback",
        }
    }
}

/// An exchange without a usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Whether the request may have arrived.
    pub reached: Reached,
    /// How it broke.
    pub fault: Fault,
}
