//! Helpers for the tests of providers: made-up worlds, scripted talks, a random generator.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::failure::Failure;
use crate::domain::meeting::{Meeting, Wish};
pub use crate::domain::random::Random;
use crate::domain::secret::Secret;
use crate::provider::http::{Body, Broken, Fault, Method, Reached, Request, Response};
use crate::provider::{Endpoints, Event, Flow, Known, Provider, Step};

/// In every secret of a test; must never be printed.
pub const CANARY: &str = "canary";
pub const API: &str = "https://api.example/base";
pub const SETTLE: Duration = Duration::from_secs(120);

pub fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 10, 0, 0).unwrap()
}

pub fn wish() -> Wish {
    Wish {
        session_id: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        title: "Tutoring session: Ada and Bo".into(),
        starts_at: now() + chrono::Duration::days(2),
        ends_at: now() + chrono::Duration::days(2) + chrono::Duration::minutes(50),
    }
}

pub fn endpoints() -> Endpoints {
    Endpoints {
        token_url: "https://tokens.example/token".into(),
        api_url: API.into(),
    }
}

pub fn token() -> Secret {
    Secret::new(format!("{CANARY}-access"))
}

pub fn begin(provider: &dyn Provider, known: Known) -> Box<dyn Flow> {
    provider.ensure(&endpoints(), token(), wish(), known)
}

/// Nothing is known.
pub fn fresh() -> Known {
    Known {
        settle: SETTLE,
        ..Known::default()
    }
}

/// An earlier attempt made this meeting.
pub fn known_id(id: &str) -> Known {
    Known {
        external_id: Some(id.into()),
        ..fresh()
    }
}

/// An earlier attempt lost an answer, so many seconds ago.
pub fn in_doubt(seconds: i64) -> Known {
    Known {
        may_exist_since: Some(now() - chrono::Duration::seconds(seconds)),
        ..fresh()
    }
}

pub fn response(status: u16, body: &Value) -> Response {
    text(status, &body.to_string())
}

pub fn text(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: vec![],
        body: body.as_bytes().to_vec(),
    }
}

pub fn answer(status: u16, body: Value) -> Event {
    Event::Answer(response(status, &body))
}

pub fn broken(reached: Reached, fault: Fault) -> Event {
    Event::Broken(Broken { reached, fault })
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    Done(Meeting),
    Failed(Failure),
    Removed,
    /// It asked for more than the script held.
    Waiting,
}

/// What was said in an attempt.
#[derive(Debug)]
pub struct Talk {
    pub sent: Vec<Request>,
    pub pauses: Vec<Duration>,
    pub end: End,
}

impl Talk {
    pub fn done(&self) -> &Meeting {
        match &self.end {
            End::Done(meeting) => meeting,
            other => panic!("not done: {other:?}"),
        }
    }

    pub fn failed(&self) -> &Failure {
        match &self.end {
            End::Failed(failure) => failure,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// `GET /path` of each request, without the base.
    pub fn lines(&self) -> Vec<String> {
        self.sent.iter().map(line).collect()
    }
}

pub fn line(request: &Request) -> String {
    let path = request.url.strip_prefix(API).expect("another base");
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    };
    format!("{method} {path}")
}

pub fn json_body(request: &Request) -> &Value {
    match &request.body {
        Body::Json(value) => value,
        other => panic!("no JSON: {other:?}"),
    }
}

/// Runs the flow against scripted answers; pauses pass at once.
pub fn run(mut flow: Box<dyn Flow>, script: Vec<Event>) -> Talk {
    let mut script = VecDeque::from(script);
    let mut event = Event::Go;
    let mut clock = now();
    let (mut sent, mut pauses) = (vec![], vec![]);
    let end = loop {
        event = match flow.next(event, clock) {
            Step::Send(request) => {
                sent.push(request);
                match script.pop_front() {
                    Some(event) => event,
                    None => break End::Waiting,
                }
            }
            Step::Pause(wait) => {
                pauses.push(wait);
                clock += wait;
                Event::Go
            }
            Step::Done(meeting) => break End::Done(meeting),
            Step::Removed => break End::Removed,
            Step::Failed(failure) => break End::Failed(failure),
        };
    };
    Talk { sent, pauses, end }
}
