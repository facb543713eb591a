mod adopt;
mod refusals;
mod search;

use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::domain::failure::{Class, Reason};
use crate::provider::conformance::kit::*;
use crate::provider::http::{Effect, Fault, Reached};

/// More than 32 bits, and more than a float's 53 as well.
const ID: i64 = 9_007_199_254_740_993;
const LINK: &str = "https://us02web.zoom.us/j/9007199254740993?pwd=abc";

fn meeting(id: i64) -> Value {
    json!({
        "id": id, "join_url": LINK, "type": 2, "duration": 50, "timezone": "UTC",
        "start_time": "2026-03-03T10:00:00Z", "start_url": format!("https://zoom.us/s/1?zak={CANARY}"),
    })
}

fn with(mut value: Value, field: &str, new: Value) -> Value {
    value[field] = new;
    value
}

fn refused(status: u16, code: i64) -> Event {
    answer(status, json!({ "code": code, "message": "No." }))
}

fn entry(id: i64, made: &str, agenda: &str) -> Value {
    json!({ "id": id, "created_at": made, "agenda": agenda, "type": 2, "join_url": "https://zoom.us/j/1" })
}

fn ours(id: i64, made: &str) -> Value {
    entry(id, made, &wish().marker())
}

fn page(meetings: Value, next: &str) -> Event {
    answer(
        200,
        json!({ "meetings": meetings, "next_page_token": next }),
    )
}

fn none() -> Event {
    page(json!([]), "")
}

fn zoom(known: Known, script: Vec<Event>) -> Talk {
    run(begin(&Zoom, known), script)
}

const CREATE: &str = "POST /users/me/meetings";
const LIST: &str = "GET /users/me/meetings?type=scheduled&page_size=300";

fn get_line(id: i64) -> String {
    format!("GET /meetings/{id}")
}

fn delete_line(id: i64) -> String {
    format!("DELETE /meetings/{id}?schedule_for_reminder=false")
}

#[test]
fn a_meeting_is_made_once() {
    let talk = zoom(fresh(), vec![answer(201, meeting(ID))]);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.done().external_id, "9007199254740993");
    assert_eq!(talk.lines(), [CREATE]);
    assert_eq!(talk.sent[0].effect, Effect::Once);
    let body = json_body(&talk.sent[0]);
    assert_eq!(body["topic"], "Tutoring session: Ada and Bo");
    assert_eq!(body["type"], 2);
    assert_eq!(body["start_time"], "2026-03-03T10:00:00Z");
    assert_eq!(
        (&body["duration"], &body["timezone"]),
        (&json!(50), &json!("UTC"))
    );
    assert!(!format!("{talk:?}").contains(CANARY));
}

#[test]
fn the_marker_survives_the_cut_at_250_characters() {
    let talk = zoom(fresh(), vec![]);
    let agenda = json_body(&talk.sent[0])["agenda"].as_str().unwrap();
    let shown: String = agenda.chars().take(250).collect();
    assert!(shown.starts_with(&wish().marker()) && agenda.chars().count() <= 2_000);
}

#[test]
fn odd_wishes_are_valid_requests() {
    let mut odd = wish();
    odd.title = "é".repeat(500);
    odd.starts_at = now() - chrono::Duration::days(400) + chrono::Duration::milliseconds(1_500);
    odd.ends_at = now();
    let talk = run(Zoom.ensure(&endpoints(), token(), odd, fresh()), vec![]);
    let body = json_body(&talk.sent[0]);
    assert_eq!(body["topic"].as_str().unwrap().chars().count(), 200);
    assert_eq!(body["start_time"], "2025-01-25T10:00:01Z");
    assert_eq!(body["duration"], 1_440);
}

#[test]
fn a_lost_create_is_in_doubt() {
    for event in [
        broken(Reached::Maybe, Fault::Timeout),
        broken(Reached::Maybe, Fault::Local),
        answer(500, json!({})),
        answer(408, json!({})),
        answer(101, json!({})),
        answer(201, json!([])),
        answer(200, json!({ "join_url": LINK })),
        answer(201, with(meeting(ID), "id", json!(1.5))),
        Event::Answer(text(201, "{\"id\": 1, \"join_")),
        Event::Go,
    ] {
        let label = format!("{event:?}");
        let talk = zoom(fresh(), vec![event]);
        let failure = talk.failed();
        assert_eq!(
            (failure.class, failure.reason),
            (Class::InDoubt, Reason::AnswerLost),
            "{label}"
        );
        assert_eq!(
            (failure.retry_after, failure.may_exist),
            (Some(SETTLE), true),
            "{label}"
        );
    }
}

#[test]
fn a_create_that_never_left_is_simply_repeated() {
    for fault in [Fault::Dns, Fault::Connect, Fault::Tls, Fault::Timeout] {
        let talk = zoom(fresh(), vec![broken(Reached::No, fault)]);
        assert_eq!(
            (talk.failed().class, talk.failed().may_exist),
            (Class::Retry, false)
        );
    }
}

#[test]
fn a_made_meeting_without_a_link_is_read() {
    let bare = || answer(201, with(meeting(ID), "join_url", json!(null)));
    let talk = zoom(fresh(), vec![bare(), answer(200, meeting(ID))]);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.lines(), [CREATE.to_owned(), get_line(ID)]);
    // However the reading ends: the meeting may be there.
    for event in [
        refused(404, 3_001),
        answer(500, json!({})),
        refused(401, 124),
        answer(200, json!([])),
    ] {
        assert!(zoom(fresh(), vec![bare(), event]).failed().may_exist);
    }
}

#[test]
fn a_known_meeting_is_read_and_kept() {
    let talk = zoom(known_id("9007199254740993"), vec![answer(200, meeting(ID))]);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.lines(), [get_line(ID)]);
    // An event's id is none of Zoom's.
    assert_eq!(zoom(known_id("ml0123g0"), vec![]).lines(), [CREATE]);
}

#[test]
fn a_known_meeting_that_is_gone_is_made_anew() {
    let talk = zoom(
        known_id("5"),
        vec![refused(404, 3_001), answer(201, meeting(ID))],
    );
    talk.done();
    assert_eq!(talk.lines(), [get_line(5), CREATE.into()]);
    let xml = "<?xml version=\"1.0\"?><error><code>3001</code><message>x</message></error>";
    let talk = zoom(known_id("5"), vec![Event::Answer(text(404, xml))]);
    assert_eq!(talk.lines().len(), 2);
    // Only a 404 says so, with Zoom's code in it: a gateway's proves nothing.
    let talk = zoom(known_id("5"), vec![refused(400, 3_001)]);
    assert_eq!(
        (talk.failed().class, talk.sent.len()),
        (Class::Permanent, 1)
    );
    let talk = zoom(known_id("5"), vec![Event::Answer(text(404, "<html>"))]);
    assert_eq!(
        (talk.failed().class, talk.sent.len()),
        (Class::OperatorMustAct, 1)
    );
    // With an answer lost since, the list comes first.
    let both = Known {
        external_id: Some("5".into()),
        ..in_doubt(500)
    };
    let talk = zoom(both, vec![refused(404, 3_001), none()]);
    assert_eq!(talk.lines(), [get_line(5), LIST.to_owned()]);
    assert!(!talk.failed().may_exist);
}

#[test]
fn a_session_that_moved_takes_its_meeting_along() {
    let moved = |field, value| answer(200, with(meeting(ID), field, value));
    let patch = format!("PATCH /meetings/{ID}");
    for change in [
        moved("start_time", json!("2026-03-03T09:00:00Z")),
        moved("duration", json!(60)),
    ] {
        let talk = zoom(
            known_id(&ID.to_string()),
            vec![change, Event::Answer(text(204, ""))],
        );
        assert_eq!(talk.done().join_url.as_str(), LINK);
        assert_eq!(talk.lines(), [get_line(ID), patch.clone()]);
        let body =
            json!({ "start_time": "2026-03-03T10:00:00Z", "duration": 50, "timezone": "UTC" });
        assert_eq!(json_body(&talk.sent[1]), &body);
        assert_eq!(talk.sent[1].effect, Effect::Repeatable);
    }
    // A recurring meeting is left alone, and seconds are not worth one of a hundred changes.
    let recurring = with(with(meeting(ID), "type", json!(8)), "duration", json!(60));
    for same in [
        answer(200, recurring),
        moved("start_time", json!("2026-03-03T10:00:30Z")),
    ] {
        assert_eq!(
            zoom(known_id(&ID.to_string()), vec![same]).lines(),
            [get_line(ID)]
        );
    }
}

#[test]
fn a_session_that_has_begun_is_not_moved() {
    let mut begun = wish();
    begun.starts_at = now() - chrono::Duration::minutes(5);
    begun.ends_at = begun.starts_at + chrono::Duration::minutes(50);
    let flow = Zoom.ensure(&endpoints(), token(), begun, known_id(&ID.to_string()));
    let talk = run(flow, vec![answer(200, meeting(ID))]);
    assert_eq!(talk.lines(), [get_line(ID)]);
}

#[test]
fn a_move_that_fails_costs_no_link() {
    let moved = || answer(200, with(meeting(ID), "duration", json!(60)));
    let talk = |event| {
        zoom(
            known_id(&ID.to_string()),
            vec![moved(), event, answer(201, meeting(7))],
        )
    };
    let daily = json!({ "code": 429, "message": "You have exceeded the daily rate limit" });
    for refusal in [refused(400, 300), refused(400, 4_711), answer(429, daily)] {
        assert_eq!(talk(refusal).done().external_id, ID.to_string());
    }
    for passing in [
        answer(502, json!({})),
        refused(401, 124),
        broken(Reached::Maybe, Fault::Reset),
    ] {
        talk(passing).failed();
    }
    // Gone in the meantime: made anew.
    assert_eq!(talk(refused(404, 3_001)).done().external_id, "7");
}
