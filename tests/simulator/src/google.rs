//! Calendar v3: the rules of events.

use crate::answer::{Answer, google_error, google_scope_missing, google_unauthorized};
use crate::conference::{self, Held};
use crate::journal::EffectKind;
use crate::request::Request;
use crate::state::{Name, World};
use crate::types::{Call, Clock, Conference, Meeting, Moment, Provider};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

/// A stored event. `body` is what the clients wrote, without the conference.
#[derive(Debug)]
pub(crate) struct Event {
    body: Map<String, Value>,
    conference: Option<Held>,
    attempts: u32,
    deleted: bool,
    created: Moment,
    updated: Moment,
    updates: u32,
}

/// Where and when a request is judged.
pub(crate) struct Scene {
    pub now: Moment,
    /// How a conference made by this request goes.
    pub conference: Conference,
}

pub(crate) fn handle(world: &mut World, request: &Request, scene: &Scene) -> Answer {
    let bearer = request.bearer().unwrap_or_default();
    let Ok(owner) = world.google.check_bearer(bearer, scene.now.wall) else {
        return google_unauthorized();
    };
    let Some(spec) = world.google.owners.get(&owner).map(|owner| &owner.spec) else {
        return google_unauthorized();
    };
    if !spec.scopes_ok {
        return google_scope_missing();
    }
    let meet_allowed = spec.meet_allowed;
    let calendar = request
        .route
        .segments
        .get(1)
        .map(String::as_str)
        .unwrap_or_default();
    if calendar != "primary" && calendar != &*owner {
        return google_error(404, "notFound", "Not Found");
    }
    let answer = match request.route.call {
        Call::Insert => insert(world, request, &owner, scene, meet_allowed),
        Call::Get => get(world, request, &owner, scene),
        Call::Patch => patch(world, request, &owner, scene, meet_allowed),
        Call::Delete => delete(world, request, &owner, scene),
        _ => Ok(crate::answer::no_such_path(Provider::Google)),
    };
    answer.unwrap_or_else(|refusal| *refusal)
}

/// A refusal is boxed because it is the rare way out of a function that mostly succeeds.
pub(crate) type Judged<T> = Result<T, Box<Answer>>;

pub(crate) fn refuse<T>(status: u16, reason: &str, message: &str) -> Judged<T> {
    Err(Box::new(google_error(status, reason, message)))
}

fn insert(
    world: &mut World,
    request: &Request,
    owner: &Name,
    scene: &Scene,
    meet_allowed: bool,
) -> Judged<Answer> {
    let mut body = body_of(request)?;
    check_times(&body)?;
    check_texts(&body)?;
    check_options(request)?;
    let serial = world.next_serial();
    let id = match body.get("id") {
        None | Some(Value::Null) => format!("sim{serial:023}"),
        Some(Value::String(id)) if id_is_valid(id) => id.clone(),
        Some(_) => return refuse(400, "invalid", "Invalid resource id value."),
    };
    let key = (owner.clone(), id.clone());
    if world.events.contains_key(&key) {
        return refuse(409, "duplicate", "The requested identifier already exists.");
    }
    let wanted = body.remove("conferenceData");
    let mut event = Event {
        conference: None,
        attempts: 0,
        deleted: false,
        created: scene.now,
        updated: scene.now,
        updates: 0,
        body,
    };
    if versioned(request)? {
        event.confer(wanted, serial, scene, meet_allowed)?;
    }
    event.body.insert("id".into(), json!(id));
    let answer = Answer::json(200, &event.render(owner, &id, scene.now.mono_ns));
    world.events.insert(key, event);
    Ok(answer.did(EffectKind::Created, id))
}

fn get(world: &World, request: &Request, owner: &Name, scene: &Scene) -> Judged<Answer> {
    let key = (owner.clone(), event_id(request));
    match world.events.get(&key) {
        Some(event) => Ok(Answer::json(
            200,
            &event.render(owner, &key.1, scene.now.mono_ns),
        )),
        None => refuse(404, "notFound", "Not Found"),
    }
}

fn patch(
    world: &mut World,
    request: &Request,
    owner: &Name,
    scene: &Scene,
    meet_allowed: bool,
) -> Judged<Answer> {
    let mut change = body_of(request)?;
    check_options(request)?;
    let versioned = versioned(request)?;
    let serial = world.next_serial();
    let key = (owner.clone(), event_id(request));
    let Some(event) = world.events.get_mut(&key) else {
        return refuse(404, "notFound", "Not Found");
    };
    if event.deleted {
        return refuse(403, "forbidden", "Forbidden");
    }
    let wanted = change.remove("conferenceData");
    change.remove("id");
    let mut merged = event.body.clone();
    merge(&mut merged, &change);
    check_times(&merged)?;
    check_texts(&merged)?;
    if versioned {
        event.confer(wanted, serial, scene, meet_allowed)?;
    }
    event.body = merged;
    event.updated = scene.now;
    event.updates += 1;
    event.deleted = event.body.get("status") == Some(&json!("cancelled"));
    let answer = Answer::json(200, &event.render(owner, &key.1, scene.now.mono_ns));
    Ok(answer.did(EffectKind::Updated, key.1))
}

fn delete(world: &mut World, request: &Request, owner: &Name, scene: &Scene) -> Judged<Answer> {
    check_options(request)?;
    let key = (owner.clone(), event_id(request));
    match world.events.get_mut(&key) {
        None => refuse(404, "notFound", "Not Found"),
        Some(event) if event.deleted => refuse(410, "deleted", "Resource has been deleted"),
        Some(event) => {
            event.deleted = true;
            event.updated = scene.now;
            Ok(Answer::empty(204).did(EffectKind::Deleted, key.1))
        }
    }
}

fn event_id(request: &Request) -> String {
    request.route.segments.get(3).cloned().unwrap_or_default()
}

/// RFC 2938's base32hex alphabet, 5 to 1024 characters.
fn id_is_valid(id: &str) -> bool {
    let in_alphabet = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'v');
    (5..=1024).contains(&id.len()) && id.bytes().all(in_alphabet)
}

fn body_of(request: &Request) -> Judged<Map<String, Value>> {
    match &request.json {
        Some(Value::Object(body)) if request.content_type.starts_with("application/json") => {
            Ok(body.clone())
        }
        _ => refuse(400, "parseError", "Parse Error"),
    }
}

fn versioned(request: &Request) -> Judged<bool> {
    match request.query("conferenceDataVersion") {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => refuse(400, "invalid", "Invalid value for conferenceDataVersion."),
    }
}

fn check_options(request: &Request) -> Judged<()> {
    match request.query("sendUpdates") {
        None | Some("all" | "externalOnly" | "none") => Ok(()),
        Some(_) => refuse(400, "invalid", "Invalid value for sendUpdates."),
    }
}

fn check_texts(body: &Map<String, Value>) -> Judged<()> {
    for field in ["summary", "description", "location", "status"] {
        if !matches!(body.get(field), None | Some(Value::Null | Value::String(_))) {
            return refuse(400, "invalid", &format!("Invalid value for: {field}"));
        }
    }
    let attendees = match body.get("attendees") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(attendees)) => attendees,
        Some(_) => return refuse(400, "invalid", "Invalid value for: attendees"),
    };
    let has_email = |attendee: &Value| attendee["email"].as_str().is_some_and(|e| e.contains('@'));
    if attendees.iter().all(has_email) {
        Ok(())
    } else {
        refuse(400, "invalid", "Invalid attendee email.")
    }
}

fn check_times(body: &Map<String, Value>) -> Judged<()> {
    let start = time_of(body, "start")?;
    let end = time_of(body, "end")?;
    if start < end {
        Ok(())
    } else {
        refuse(400, "timeRangeEmpty", "The specified time range is empty.")
    }
}

fn time_of(body: &Map<String, Value>, field: &str) -> Judged<DateTime<chrono::FixedOffset>> {
    let Some(Value::Object(time)) = body.get(field) else {
        return refuse(400, "required", &format!("Missing {field} time."));
    };
    let zone_ok = match time.get("timeZone") {
        None | Some(Value::Null) => true,
        Some(Value::String(zone)) => zone_looks_real(zone),
        Some(_) => false,
    };
    if !zone_ok {
        let message = format!("Invalid time zone definition for {field} time.");
        return refuse(400, "invalid", &message);
    }
    let Some(Value::String(text)) = time.get("dateTime") else {
        return refuse(400, "required", &format!("Missing {field} time."));
    };
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time),
        // Google would take a local time along with a time zone; a client that leaves the
        // offset out has most likely lost it, so the simulator is the stricter one.
        Err(_) if text.parse::<chrono::NaiveDateTime>().is_ok() => {
            let message = format!("Missing time zone definition for {field} time.");
            refuse(400, "required", &message)
        }
        Err(_) => refuse(400, "badRequest", "Bad Request"),
    }
}

/// IANA names without their table: it catches empty ones and things like `+02:00`.
fn zone_looks_real(zone: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    zone.starts_with(|c: char| c.is_ascii_alphabetic()) && zone.chars().all(known)
}

/// JSON merge patch: null removes, objects merge, all else replaces.
fn merge(target: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (name, value) in change {
        match (target.get_mut(name), value) {
            (_, Value::Null) => {
                target.remove(name);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

impl Event {
    fn confer(
        &mut self,
        wanted: Option<Value>,
        serial: u64,
        scene: &Scene,
        meet_allowed: bool,
    ) -> Judged<()> {
        let wanted = match wanted {
            None => return Ok(()),
            Some(Value::Null) => {
                self.conference = None;
                return Ok(());
            }
            Some(wanted) => wanted,
        };
        let Some(request_id) = conference::request_id(&wanted, meet_allowed)? else {
            return Ok(());
        };
        // Known ids are ignored: neither a lost answer nor a failure makes them run again.
        if self
            .conference
            .as_ref()
            .is_some_and(|held| held.request_id == request_id)
        {
            return Ok(());
        }
        self.attempts += 1;
        let held = Held::new(request_id, serial, scene, self.attempts);
        self.conference = Some(held);
        Ok(())
    }

    fn render(&self, owner: &str, id: &str, now_ns: u64) -> Value {
        let stamp = |moment: &Moment| moment.wall.to_rfc3339_opts(SecondsFormat::Millis, true);
        let person = json!({"email": owner, "self": true});
        let mut shown = self.body.clone();
        let status = match self.body.get("status") {
            _ if self.deleted => "cancelled",
            Some(Value::String(status)) => status,
            _ => "confirmed",
        };
        let mut put = |name: &str, value: Value| shown.insert(name.into(), value);
        put("kind", json!("calendar#event"));
        put("etag", json!(format!("\"{}\"", self.updated.mono_ns)));
        put("id", json!(id));
        put("status", json!(status));
        put(
            "htmlLink",
            json!(format!("https://www.google.com/calendar/event?eid={id}")),
        );
        put("created", json!(stamp(&self.created)));
        put("updated", json!(stamp(&self.updated)));
        put("creator", person.clone());
        put("organizer", person);
        put("iCalUID", json!(format!("{id}@google.com")));
        put("sequence", json!(self.updates));
        put("eventType", json!("default"));
        if let Some(held) = &self.conference {
            held.render(&mut shown, now_ns);
        }
        shown
            .entry("reminders")
            .or_insert_with(|| json!({"useDefault": true}));
        Value::Object(shown)
    }

    pub fn report(&self, owner: &str, id: &str, now_ns: u64, clock: &Clock) -> Meeting {
        Meeting {
            provider: Provider::Google,
            account: owner.into(),
            id: id.into(),
            body: Value::Object(self.body.clone()),
            join_url: self.conference.as_ref().and_then(|held| held.link(now_ns)),
            instant: false,
            deleted: self.deleted,
            created_at: clock.moment(self.created.mono_ns),
            updates: self.updates,
        }
    }
}
