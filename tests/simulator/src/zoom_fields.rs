//! Zoom Meetings: what each field of a request may hold.

use crate::answer::{Answer, zoom_invalid};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

const TOPIC: usize = 200;
const AGENDA: usize = 2000;
const PASSWORD: usize = 10;
const DEFAULT_MINUTES: i64 = 60;

/// Judges the fields of a creation or a change.
pub(crate) fn check(body: &Map<String, Value>) -> Result<(), Box<Answer>> {
    text(body, "topic", TOPIC)?;
    text(body, "agenda", AGENDA)?;
    text(body, "password", PASSWORD)?;
    text(body, "timezone", usize::MAX)?;
    let whole = |value: &Value| value.as_i64().is_some_and(|minutes| minutes >= 0);
    rule(
        body,
        "duration",
        "Must be a whole number of minutes.",
        whole,
    )?;
    let kind = |value: &Value| matches!(value.as_u64(), Some(1 | 2 | 3 | 8 | 10));
    rule(body, "type", "Invalid field.", kind)?;
    rule(body, "settings", "Invalid field.", Value::is_object)?;
    let time = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| parse_start(text).is_some())
    };
    rule(body, "start_time", "Must be yyyy-MM-ddTHH:mm:ssZ.", time)
}

fn text(body: &Map<String, Value>, field: &str, most: usize) -> Result<(), Box<Answer>> {
    rule(body, field, "Invalid field.", Value::is_string)?;
    let message = format!("Length must be no more than {most} characters.");
    let short = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.chars().count() <= most)
    };
    rule(body, field, &message, short)
}

fn rule(
    body: &Map<String, Value>,
    field: &str,
    message: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<(), Box<Answer>> {
    match body.get(field) {
        Some(value) if !holds(value) => Err(Box::new(zoom_invalid(field, message))),
        _ => Ok(()),
    }
}

/// Only `yyyy-MM-ddTHH:mm:ssZ`: no fractions, no offset, two digits each.
fn parse_start(text: &str) -> Option<DateTime<Utc>> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ").ok()?;
    (text.len() == "2026-01-01T00:00:00Z".len()).then(|| time.and_utc())
}

/// The start of a stored body.
pub(crate) fn start_of(body: &Map<String, Value>) -> Option<DateTime<Utc>> {
    parse_start(body.get("start_time")?.as_str()?)
}

/// The minutes of a stored body.
pub(crate) fn duration_of(body: &Map<String, Value>) -> i64 {
    body.get("duration")
        .and_then(Value::as_i64)
        .unwrap_or(DEFAULT_MINUTES)
}
