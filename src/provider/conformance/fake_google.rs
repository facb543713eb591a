//! A calendar in memory, as far as the adapter uses it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::Fake;
use super::kit::{CANARY, json_body, line, response, text};
use crate::provider::http::{Request, Response};

/// One event.
struct Entry {
    fields: Map<String, Value>,
    cancelled: bool,
    request_id: String,
    /// Reads until the conference request is decided.
    pending: u32,
    /// Whether it is decided against.
    fails: bool,
}

/// The calendar, and how slow and unlucky its conferences are.
pub struct FakeGoogle {
    entries: BTreeMap<String, Entry>,
    pending: u32,
    failures: u32,
}

impl FakeGoogle {
    pub fn new(slowness: u32) -> Self {
        Self {
            entries: BTreeMap::new(),
            pending: slowness,
            failures: slowness.min(2),
        }
    }

    fn refused(status: u16, reason: &str) -> Response {
        let message = format!("No: {CANARY} {reason}");
        let errors = json!([{ "reason": reason, "message": message }]);
        let body = json!({ "error": { "code": status, "message": message, "errors": errors } });
        response(status, &body)
    }

    fn insert(&mut self, body: &Value) -> Response {
        let Some(id) = body["id"].as_str().map(str::to_owned) else {
            return Self::refused(400, "required");
        };
        if self.entries.contains_key(&id) {
            return Self::refused(409, "duplicate");
        }
        let entry = Entry {
            fields: body.as_object().cloned().unwrap_or_default(),
            cancelled: false,
            request_id: String::new(),
            pending: 0,
            fails: false,
        };
        self.entries.insert(id.clone(), entry);
        self.patch(&id, body)
    }

    fn patch(&mut self, id: &str, body: &Value) -> Response {
        let Some(entry) = self.entries.get_mut(id) else {
            return Self::refused(404, "notFound");
        };
        if entry.cancelled {
            return Self::refused(403, "forbidden");
        }
        for side in ["start", "end"] {
            if let Some(time) = body.get(side) {
                entry.fields.insert(side.into(), time.clone());
            }
        }
        let wanted = body["conferenceData"]["createRequest"]["requestId"].as_str();
        // The same request again is ignored.
        if let Some(new) = wanted.filter(|new| *new != entry.request_id) {
            entry.request_id = new.into();
            entry.pending = self.pending;
            entry.fails = self.failures > 0;
            self.failures = self.failures.saturating_sub(1);
        }
        self.get(id)
    }

    fn delete(&mut self, id: &str) -> Response {
        match self.entries.get_mut(id) {
            None => Self::refused(404, "notFound"),
            Some(entry) if entry.cancelled => Self::refused(410, "deleted"),
            Some(entry) => {
                entry.cancelled = true;
                text(204, "")
            }
        }
    }

    fn get(&mut self, id: &str) -> Response {
        let Some(entry) = self.entries.get_mut(id) else {
            return Self::refused(404, "notFound");
        };
        let mut event = entry.fields.clone();
        let status = if entry.cancelled {
            "cancelled"
        } else {
            "confirmed"
        };
        event.insert("status".into(), status.into());
        let code = match (entry.pending, entry.fails) {
            (1.., _) => "pending",
            (0, true) => "failure",
            (0, false) => "success",
        };
        entry.pending = entry.pending.saturating_sub(1);
        let request = json!({ "requestId": entry.request_id, "status": { "statusCode": code } });
        let mut conference = json!({ "createRequest": request });
        if code == "success" {
            let uri = "https://meet.google.com/abc-defg-hij";
            conference["entryPoints"] = json!([{ "entryPointType": "video", "uri": uri }]);
            event.insert("hangoutLink".into(), uri.into());
        }
        event.insert("conferenceData".into(), conference);
        response(200, &Value::Object(event))
    }
}

impl Fake for FakeGoogle {
    fn serve(&mut self, request: &Request, _now: DateTime<Utc>) -> Response {
        let line = line(request);
        let path = line.replace("?conferenceDataVersion=1&sendUpdates=none", "");
        let changes = path != line;
        let (method, path) = path.split_once(" /calendars/primary/events").unwrap();
        let id = path.trim_start_matches('/');
        match (method, changes, id) {
            ("POST", true, "") => self.insert(json_body(request)),
            ("PATCH", true, id) => self.patch(id, json_body(request)),
            ("GET", false, id) => self.get(id),
            ("DELETE", false, id) => self.delete(id.trim_end_matches("?sendUpdates=none")),
            other => panic!("no such call: {other:?}"),
        }
    }

    fn alive(&self) -> Vec<String> {
        let alive = self.entries.iter().filter(|(_, e)| !e.cancelled);
        alive.map(|(id, _)| id.clone()).collect()
    }

    fn delete_all(&mut self) {
        for entry in self.entries.values_mut() {
            entry.cancelled = true;
        }
    }
}
