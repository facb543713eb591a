//! Zoom Meetings: the rules. There is no idempotency here, on purpose: Zoom has none.

use crate::answer::{self, Answer, zoom_error, zoom_invalid};
use crate::journal::EffectKind;
use crate::request::Request;
use crate::state::{Name, Refused, World};
use crate::types::{Call, Clock, Meeting, Moment, Provider};
use crate::zoom_fields::{check, duration_of, start_of};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Days, NaiveTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A scheduled meeting stays in the list for this long after its start.
const LISTED_DAYS: u64 = 30;
/// The list shows so many characters of the agenda.
const LISTED_AGENDA: usize = 250;

/// A stored meeting. `body` is what the clients wrote.
#[derive(Debug)]
pub(crate) struct ZoomMeeting {
    id: u64,
    serial: u64,
    owner: Name,
    body: Map<String, Value>,
    instant: bool,
    deleted: bool,
    uuid: String,
    password: String,
    created: Moment,
    updates: u32,
}

pub(crate) fn handle(world: &mut World, request: &Request, now: Moment) -> Answer {
    let owner = match world
        .zoom
        .check_bearer(request.bearer().unwrap_or_default(), now.wall)
    {
        Ok(owner) => owner,
        Err(Refused::Unknown) => return answer::zoom_unauthorized(),
        Err(Refused::Expired) => return zoom_error(401, 124, "Access token is expired."),
    };
    if !world
        .zoom
        .owners
        .get(&owner)
        .is_some_and(|owner| owner.spec.scopes_ok)
    {
        return answer::zoom_scope_missing(400, 4711);
    }
    let answer = match request.route.call {
        Call::Create | Call::List if !is_me(request, &owner) => {
            let user = segment(request);
            zoom_error(404, 1001, &format!("User does not exist: {user}."))
        }
        Call::Create => create(world, request, &owner, now),
        Call::List => list(world, request, &owner, now),
        Call::Get | Call::Patch | Call::Delete => match find(world, request, &owner) {
            Ok(id) if request.route.call == Call::Get => world.meetings[&id].answer(200),
            Ok(id) if request.route.call == Call::Patch => patch(world, request, &owner, now, id),
            Ok(id) => delete(world, &owner, id),
            Err(refusal) => *refusal,
        },
        _ => answer::no_such_path(Provider::Zoom),
    };
    answer.with("x-zm-trackingid", "SIM")
}

fn segment(request: &Request) -> &str {
    request
        .route
        .segments
        .get(1)
        .map(String::as_str)
        .unwrap_or_default()
}

fn is_me(request: &Request, owner: &str) -> bool {
    matches!(segment(request), user if user == "me" || user == owner)
}

/// The meeting of the path, if it exists and is this account's own.
fn find(world: &World, request: &Request, owner: &Name) -> Result<u64, Box<Answer>> {
    let Ok(id) = segment(request).parse::<u64>() else {
        return Err(Box::new(zoom_error(400, 300, "Invalid meeting id.")));
    };
    match world.meetings.get(&id) {
        Some(meeting) if meeting.owner == *owner && !meeting.deleted => Ok(id),
        _ => Err(Box::new(zoom_error(
            404,
            3001,
            &format!("Meeting does not exist: {id}."),
        ))),
    }
}

/// Counts one creation or update; the answer is the refusal once the day is used up.
fn use_daily_limit(
    world: &mut World,
    owner: &Name,
    now: DateTime<Utc>,
) -> Result<u32, Box<Answer>> {
    let Some(limit) = world.daily_limit else {
        return Ok(u32::MAX);
    };
    let today = now.date_naive();
    let Some(owner) = world.zoom.owners.get_mut(owner) else {
        return Ok(u32::MAX);
    };
    if owner.day.0 != today {
        owner.day = (today, 0);
    }
    if owner.day.1 >= limit {
        return Err(Box::new(answer::zoom_daily_limit(
            limit,
            Some(next_midnight(now)),
        )));
    }
    owner.day.1 += 1;
    Ok(limit - owner.day.1)
}

/// The next 00:00 UTC, the way Zoom writes it.
pub(crate) fn next_midnight(now: DateTime<Utc>) -> String {
    let day = now.date_naive() + Days::new(1);
    iso(day.and_time(NaiveTime::MIN).and_utc())
}

pub(crate) fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn limited(world: &World, answer: Answer, remaining: u32) -> Answer {
    match world.daily_limit {
        None => answer,
        Some(limit) => answer
            .with("x-ratelimit-category", "Light")
            .with("x-ratelimit-limit", limit.to_string())
            .with("x-ratelimit-remaining", remaining.to_string()),
    }
}

fn body_of(request: &Request) -> Result<Map<String, Value>, Box<Answer>> {
    match &request.json {
        Some(Value::Object(body)) if request.content_type.starts_with("application/json") => {
            check(body)?;
            Ok(body.clone())
        }
        _ => {
            let message = "Request Body should be a valid JSON object.";
            Err(Box::new(zoom_error(400, 300, message)))
        }
    }
}

fn create(world: &mut World, request: &Request, owner: &Name, now: Moment) -> Answer {
    let judged = body_of(request)
        .and_then(|body| use_daily_limit(world, owner, now.wall).map(|left| (body, left)));
    let (body, remaining) = match judged {
        Ok(judged) => judged,
        Err(refusal) => return *refusal,
    };
    let serial = world.next_serial();
    let instant = match body.get("type").and_then(Value::as_u64).unwrap_or(2) {
        1 => true,
        2 => start_of(&body).is_none(),
        _ => false,
    };
    let password = body
        .get("password")
        .and_then(Value::as_str)
        .map(String::from);
    let meeting = ZoomMeeting {
        id: meeting_id(serial),
        serial,
        owner: owner.clone(),
        instant,
        deleted: false,
        uuid: STANDARD.encode(Uuid::new_v4().as_bytes()),
        password: password.unwrap_or_else(|| format!("{:06}", serial * 7_919 % 1_000_000)),
        created: now,
        updates: 0,
        body,
    };
    let answer = meeting
        .answer(201)
        .did(EffectKind::Created, meeting.id.to_string());
    world
        .by_owner
        .entry(owner.clone())
        .or_default()
        .insert(serial, meeting.id);
    world.meetings.insert(meeting.id, meeting);
    limited(world, answer, remaining)
}

/// Eleven digits, above 32 bits, and each serial has its own: 10^10 and the factor are coprime.
fn meeting_id(serial: u64) -> u64 {
    let scattered = u128::from(serial) * 7_654_321_987 % 10_000_000_000;
    80_000_000_000 + scattered as u64
}

fn patch(world: &mut World, request: &Request, owner: &Name, now: Moment, id: u64) -> Answer {
    let judged = body_of(request)
        .and_then(|body| use_daily_limit(world, owner, now.wall).map(|left| (body, left)));
    let (change, remaining) = match judged {
        Ok(judged) => judged,
        Err(refusal) => return *refusal,
    };
    if let Some(meeting) = world.meetings.get_mut(&id) {
        for (name, value) in change {
            match (meeting.body.get_mut(&name), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                (_, value) => drop(meeting.body.insert(name, value)),
            }
        }
        if let Some(password) = meeting.body.get("password").and_then(Value::as_str) {
            meeting.password = password.into();
        }
        meeting.updates += 1;
    }
    let answer = Answer::empty(204).did(EffectKind::Updated, id.to_string());
    limited(world, answer, remaining)
}

fn delete(world: &mut World, owner: &Name, id: u64) -> Answer {
    if let Some(meeting) = world.meetings.get_mut(&id) {
        meeting.deleted = true;
        if let Some(listed) = world.by_owner.get_mut(owner) {
            listed.remove(&meeting.serial);
        }
    }
    Answer::empty(204).did(EffectKind::Deleted, id.to_string())
}

fn list(world: &World, request: &Request, owner: &Name, now: Moment) -> Answer {
    let wanted = request.query("type").unwrap_or("scheduled");
    let known = [
        "scheduled",
        "live",
        "upcoming",
        "upcoming_meetings",
        "previous_meetings",
    ];
    if !known.contains(&wanted) {
        return zoom_invalid("type", "Invalid field.");
    }
    let page_size = match request
        .query("page_size")
        .map_or(Ok(30), str::parse::<usize>)
    {
        Ok(size @ 1..=300) => size,
        _ => return zoom_invalid("page_size", "Must be between 1 and 300."),
    };
    let token = request
        .query("next_page_token")
        .filter(|token| !token.is_empty());
    let after = match token.map_or(Some(0), |token| page_start(token, owner)) {
        Some(after) => after,
        None => return zoom_error(400, 300, "The next page token is invalid or expired."),
    };
    let unexpired = |meeting: &&ZoomMeeting| match wanted {
        "scheduled" => meeting.ends(LISTED_DAYS).is_some_and(|end| end > now.wall),
        "upcoming" | "upcoming_meetings" => meeting.ends(0).is_some_and(|end| end > now.wall),
        _ => false,
    };
    let listed = world.by_owner.get(owner);
    let all = listed.into_iter().flat_map(|listed| listed.values());
    let all: Vec<&ZoomMeeting> = all
        .filter_map(|id| world.meetings.get(id))
        .filter(unexpired)
        .collect();
    let rest = all.iter().filter(|meeting| meeting.serial > after);
    let page: Vec<&&ZoomMeeting> = rest.clone().take(page_size).collect();
    let more = rest.count() > page.len();
    let next = match page.last() {
        Some(last) if more => URL_SAFE_NO_PAD.encode(format!("{}/{owner}", last.serial)),
        _ => String::new(),
    };
    let body = json!({
        "page_size": page_size,
        "total_records": all.len(),
        "next_page_token": next,
        "meetings": page.iter().map(|meeting| meeting.listed()).collect::<Vec<_>>(),
    });
    Answer::json(200, &body)
}

/// The serial after which the page starts; a token is good for its own account only.
fn page_start(token: &str, owner: &str) -> Option<u64> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (serial, name) = decoded.split_once('/')?;
    if name == owner {
        serial.parse().ok()
    } else {
        None
    }
}

impl ZoomMeeting {
    fn ends(&self, grace_days: u64) -> Option<DateTime<Utc>> {
        if self.instant {
            return None;
        }
        let end = start_of(&self.body)? + TimeDelta::minutes(duration_of(&self.body));
        end.checked_add_days(Days::new(grace_days))
    }

    fn join_url(&self) -> String {
        format!(
            "https://us05web.zoom.us/j/{}?pwd={}",
            self.id,
            self.encrypted_password()
        )
    }

    fn encrypted_password(&self) -> String {
        let seed = format!("{}:{}", self.id, self.password);
        format!("{}.1", URL_SAFE_NO_PAD.encode(seed))
    }

    fn kind(&self) -> Value {
        if self.instant {
            json!(1)
        } else {
            self.body.get("type").cloned().unwrap_or(json!(2))
        }
    }

    fn common(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| shown.insert(name.into(), value);
        let text = |name: &str, otherwise: &str| match self.body.get(name) {
            Some(Value::String(text)) => json!(text),
            _ => json!(otherwise),
        };
        put("uuid", json!(self.uuid));
        put("id", json!(self.id));
        put("host_id", json!("SimHostId00000000000AA"));
        put("topic", text("topic", "Zoom Meeting"));
        put("type", self.kind());
        if let Some(start) = start_of(&self.body).filter(|_| !self.instant) {
            put("start_time", json!(iso(start)));
        }
        put("duration", json!(duration_of(&self.body)));
        put("timezone", text("timezone", "UTC"));
        put("created_at", json!(iso(self.created.wall)));
        put("join_url", json!(self.join_url()));
        put("agenda", text("agenda", ""));
        shown
    }

    fn listed(&self) -> Value {
        let mut shown = self.common();
        if let Some(Value::String(agenda)) = shown.get_mut("agenda")
            && let Some((cut, _)) = agenda.char_indices().nth(LISTED_AGENDA)
        {
            agenda.truncate(cut);
        }
        Value::Object(shown)
    }

    fn answer(&self, status: u16) -> Answer {
        let mut shown = self.common();
        let start_url = format!("https://us05web.zoom.us/s/{}?zak=eyJ.host-secret", self.id);
        let settings = self
            .body
            .get("settings")
            .cloned()
            .unwrap_or_else(|| json!({}));
        shown.insert("host_email".into(), json!(&*self.owner));
        shown.insert("status".into(), json!("waiting"));
        shown.insert("start_url".into(), json!(start_url));
        shown.insert("password".into(), json!(self.password));
        shown.insert(
            "encrypted_password".into(),
            json!(self.encrypted_password()),
        );
        shown.insert("pre_schedule".into(), json!(false));
        shown.insert("settings".into(), settings);
        Answer::json(status, &Value::Object(shown))
    }

    pub fn report(&self, clock: &Clock) -> Meeting {
        Meeting {
            provider: Provider::Zoom,
            account: self.owner.to_string(),
            id: self.id.to_string(),
            body: Value::Object(self.body.clone()),
            join_url: Some(self.join_url()),
            instant: self.instant,
            deleted: self.deleted,
            created_at: clock.moment(self.created.mono_ns),
            updates: self.updates,
        }
    }
}
