//! A small client, and a simulator with one account of each provider.
#![allow(dead_code, reason = "each test program uses its own part")]

use meetlink_simulator::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn reason(&self) -> &str {
        self.json["error"]["errors"][0]["reason"]
            .as_str()
            .unwrap_or_default()
    }

    pub fn code(&self) -> u64 {
        self.json["code"].as_u64().unwrap_or_default()
    }
}

pub struct Stage {
    pub sim: Simulator,
    pub google: Account,
    pub zoom: Account,
    pub agent: ureq::Agent,
}

/// Waits for something that is bound to happen soon.
pub fn until(holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(Duration::from_secs(10)));
    config.build().into()
}

pub fn stage() -> Stage {
    stage_with(Options::default())
}

pub fn stage_with(options: Options) -> Stage {
    let sim = Simulator::start(options).unwrap();
    let google = sim.add_account(Provider::Google, AccountSpec::named("ann@google.example"));
    let zoom = sim.add_account(Provider::Zoom, AccountSpec::named("ann@zoom.example"));
    Stage {
        sim,
        google,
        zoom,
        agent: agent(),
    }
}

pub type Outcome = Result<Reply, ureq::Error>;

impl Stage {
    pub fn call(&self, method: &str, url: &str, token: &str, body: Option<&str>) -> Outcome {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {token}"));
        let response = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).unwrap())?
            }
            None => self.agent.run(request.body(()).unwrap())?,
        };
        read(response)
    }

    pub fn google(&self, method: &str, path: &str, body: Option<Value>) -> Outcome {
        let url = format!(
            "{}/calendars/primary/events{path}",
            self.sim.google_api_url()
        );
        let body = body.map(|body| body.to_string());
        self.call(method, &url, &self.google.access_token, body.as_deref())
    }

    pub fn zoom(&self, method: &str, path: &str, body: Option<Value>) -> Outcome {
        let url = format!("{}{path}", self.sim.zoom_api_url());
        let body = body.map(|body| body.to_string());
        self.call(method, &url, &self.zoom.access_token, body.as_deref())
    }

    pub fn insert(&self, id: &str) -> Outcome {
        self.google(
            "POST",
            "?conferenceDataVersion=1&sendUpdates=none",
            Some(event(id)),
        )
    }

    pub fn create(&self) -> Outcome {
        self.zoom("POST", "/users/me/meetings", Some(meeting("lesson")))
    }

    pub fn google_token(&self, fields: &[(&str, &str)]) -> Outcome {
        let (id, secret) = self.sim.client(Provider::Google);
        let mut form = vec![("client_id", &*id), ("client_secret", &*secret)];
        form.retain(|(name, _)| fields.iter().all(|(given, _)| given != name));
        form.extend(fields);
        read(
            self.agent
                .post(self.sim.google_token_url())
                .send_form(form)?,
        )
    }

    pub fn google_refresh(&self, token: &str) -> Outcome {
        self.google_token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    pub fn zoom_token(&self, client: (&str, &str), fields: &[(&str, &str)]) -> Outcome {
        use base64::Engine;
        let basic = format!("{}:{}", client.0, client.1);
        let basic = base64::engine::general_purpose::STANDARD.encode(basic);
        let request = self.agent.post(self.sim.zoom_token_url());
        let request = request.header("authorization", format!("Basic {basic}"));
        read(request.send_form(fields.iter().copied())?)
    }

    pub fn zoom_refresh(&self, token: &str) -> Outcome {
        let (id, secret) = self.sim.client(Provider::Zoom);
        let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.zoom_token((&id, &secret), &fields)
    }

    /// The raw bytes of a GET that closes the connection, and how the reading ended.
    pub fn raw(&self, head: &str) -> (Vec<u8>, std::io::Result<usize>) {
        let mut tcp = TcpStream::connect(self.sim.address()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        tcp.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let end = tcp.read_to_end(&mut bytes);
        (bytes, end)
    }

    /// A whole HTTP request that creates a Zoom meeting.
    pub fn raw_create(&self) -> String {
        let body = meeting("raw").to_string();
        format!(
            "POST /zoom/v2/users/me/meetings HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\
             authorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.zoom.access_token,
            body.len()
        )
    }

    pub fn meetings(&self) -> usize {
        self.sim.meetings(Provider::Zoom).len()
    }

    pub fn last(&self) -> Entry {
        self.sim.journal().pop().unwrap()
    }
}

pub fn read(mut response: ureq::http::Response<ureq::Body>) -> Outcome {
    let text = response
        .body_mut()
        .with_config()
        .limit(64 << 20)
        .read_to_string()?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    let status = response.status().as_u16();
    Ok(Reply {
        status,
        headers: response.headers().clone(),
        text,
        json,
    })
}

pub fn event(id: &str) -> Value {
    json!({
        "id": id,
        "summary": "Lesson",
        "description": "A lesson",
        "start": {"dateTime": "2030-01-01T10:00:00+01:00", "timeZone": "Europe/Berlin"},
        "end": {"dateTime": "2030-01-01T11:00:00+01:00", "timeZone": "Europe/Berlin"},
        "conferenceData": {"createRequest": {
            "requestId": format!("{id}-1"),
            "conferenceSolutionKey": {"type": "hangoutsMeet"},
        }},
    })
}

pub fn new_request(id: &str) -> Value {
    json!({"conferenceData": {"createRequest": {
        "requestId": id, "conferenceSolutionKey": {"type": "hangoutsMeet"},
    }}})
}

pub fn meeting(agenda: &str) -> Value {
    json!({
        "topic": "Lesson", "type": 2, "start_time": "2030-01-01T10:00:00Z", "duration": 60,
        "timezone": "UTC", "agenda": agenda, "settings": {"join_before_host": true},
    })
}
