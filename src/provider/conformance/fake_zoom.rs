//! A Zoom account in memory, as far as the adapter uses it.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::Fake;
use super::kit::{CANARY, json_body, line, response, text};
use crate::provider::answers::utc_text;
use crate::provider::http::{Request, Response};

struct Entry {
    id: i64,
    wish: Value,
    made: DateTime<Utc>,
    ours: bool,
}

/// The account, and by how much its list lags behind.
pub struct FakeZoom {
    entries: Vec<Entry>,
    lag: Duration,
    next: i64,
}

/// Entries on a page of the list.
const PAGE: usize = 2;

impl FakeZoom {
    pub fn new(slowness: u32) -> Self {
        // Meetings of other origin, so that there is more than one page.
        let other = |id| Entry {
            id,
            wish: json!({ "agenda": format!("meetlink:{id}"), "duration": 1 }),
            made: DateTime::UNIX_EPOCH,
            ours: false,
        };
        Self {
            entries: (1..4).map(other).collect(),
            lag: Duration::seconds(i64::from(slowness) * 30),
            next: 90_000_000_000,
        }
    }

    fn refused(status: u16, code: i64) -> Response {
        let message = format!("No: {CANARY} {code}");
        response(status, &json!({ "code": code, "message": message }))
    }

    fn full(entry: &Entry) -> Value {
        json!({
            "id": entry.id, "type": 2, "duration": entry.wish["duration"],
            "start_time": entry.wish["start_time"], "agenda": entry.wish["agenda"],
            "join_url": format!("https://zoom.us/j/{}?pwd=abc", entry.id),
            "start_url": format!("https://zoom.us/s/{}?zak={CANARY}", entry.id),
        })
    }

    fn create(&mut self, body: &Value, now: DateTime<Utc>) -> Response {
        if body["start_time"].is_null() {
            return Self::refused(400, 300);
        }
        self.next += 1;
        self.entries.push(Entry {
            id: self.next,
            wish: body.clone(),
            made: now,
            ours: true,
        });
        response(201, &self.entries.last().map(Self::full).unwrap())
    }

    fn list(&self, page: &str, now: DateTime<Utc>) -> Response {
        let from: usize = page.trim_end_matches('=').parse().unwrap_or(0);
        let shown: Vec<_> = self
            .entries
            .iter()
            .filter(|e| e.made + self.lag <= now)
            .collect();
        let entries = shown.iter().skip(from).take(PAGE).map(|e| {
            let agenda = e.wish["agenda"].as_str().unwrap_or_default();
            let agenda: String = agenda.chars().take(250).collect();
            let join_url = format!("https://zoom.us/j/{}", e.id);
            json!({ "id": e.id, "agenda": agenda, "created_at": utc_text(e.made), "join_url": join_url })
        });
        let meetings: Vec<Value> = entries.collect();
        let more = from + PAGE < shown.len();
        let next = if more {
            format!("{}=", from + PAGE)
        } else {
            String::new()
        };
        response(
            200,
            &json!({ "meetings": meetings, "next_page_token": next }),
        )
    }

    fn one(&mut self, method: &str, id: &str, request: &Request) -> Response {
        let found = self.entries.iter_mut().position(|e| e.id.to_string() == id);
        let Some(at) = found else {
            return Self::refused(404, 3_001);
        };
        match method {
            "GET" => response(200, &Self::full(&self.entries[at])),
            "DELETE" => {
                assert!(self.entries[at].ours, "deleted another's meeting");
                self.entries.remove(at);
                text(204, "")
            }
            "PATCH" => {
                for field in ["start_time", "duration"] {
                    self.entries[at].wish[field] = json_body(request)[field].clone();
                }
                text(204, "")
            }
            other => panic!("no such call: {other}"),
        }
    }
}

impl Fake for FakeZoom {
    fn serve(&mut self, request: &Request, now: DateTime<Utc>) -> Response {
        let line = line(request);
        let (method, path) = line.split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match (method, path) {
            ("POST", "/users/me/meetings") => self.create(json_body(request), now),
            ("GET", "/users/me/meetings") => {
                let page = query.split_once("next_page_token=").map_or("", |(_, t)| t);
                self.list(&page.replace("%3D", "="), now)
            }
            (method, path) => {
                let id = path.strip_prefix("/meetings/").expect("no such path");
                self.one(method, id, request)
            }
        }
    }

    fn alive(&self) -> Vec<String> {
        let ours = self.entries.iter().filter(|e| e.ours);
        ours.map(|e| e.id.to_string()).collect()
    }

    fn delete_all(&mut self) {
        self.entries.retain(|e| !e.ours);
    }
}
