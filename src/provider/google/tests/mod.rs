mod refusals;

use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::domain::failure::{Class, Reason};
use crate::provider::conformance::kit::*;
use crate::provider::http::{Effect, Fault, Reached};

const LINK: &str = "https://meet.google.com/abc-defg-hij";

fn id(generation: u32) -> String {
    event_id(wish().session_id, generation)
}

/// The event of a generation, at the wished time, with these further fields.
fn event(generation: u32, more: Value) -> Value {
    let (start, end) = span(&wish());
    let mut event = json!({
        "id": id(generation), "status": "confirmed", "start": time(start), "end": time(end),
    });
    let fields = event.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    event
}

fn linked(generation: u32) -> Event {
    answer(200, event(generation, json!({ "hangoutLink": LINK })))
}

fn conference_is(code: &str, request_id: &str) -> Value {
    json!({ "conferenceData": { "createRequest": {
        "requestId": request_id, "status": { "statusCode": code },
    }}})
}

fn pending() -> Event {
    answer(200, event(0, conference_is("pending", "r")))
}

fn cancelled(generation: u32) -> Event {
    answer(200, json!({ "id": id(generation), "status": "cancelled" }))
}

fn refused(status: u16, reason: &str) -> Event {
    answer(status, refusal_body(status, reason, "No."))
}

fn refusal_body(status: u16, reason: &str, message: &str) -> Value {
    json!({ "error": {
        "code": status, "message": message,
        "errors": [{ "domain": "global", "reason": reason, "message": message }],
    }})
}

fn google(known: Known, script: Vec<Event>) -> Talk {
    run(begin(&GoogleMeet, known), script)
}

fn insert_line() -> String {
    "POST /calendars/primary/events?conferenceDataVersion=1&sendUpdates=none".into()
}

fn get_line(generation: u32) -> String {
    format!("GET /calendars/primary/events/{}", id(generation))
}

fn patch_line(generation: u32) -> String {
    let id = id(generation);
    format!("PATCH /calendars/primary/events/{id}?conferenceDataVersion=1&sendUpdates=none")
}

#[test]
fn an_event_with_a_conference_is_made() {
    let talk = google(fresh(), vec![linked(0)]);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.done().external_id, id(0));
    assert_eq!(talk.lines(), [insert_line()]);
    assert_eq!(talk.sent[0].effect, Effect::Repeatable);
    let body = json_body(&talk.sent[0]);
    assert_eq!(body["id"], id(0));
    assert_eq!(body["summary"], "Tutoring session: Ada and Bo");
    assert!(
        body["description"]
            .as_str()
            .unwrap()
            .contains(&wish().marker())
    );
    let start = json!({ "dateTime": "2026-03-03T10:00:00Z", "timeZone": "UTC" });
    let end = json!({ "dateTime": "2026-03-03T10:50:00Z", "timeZone": "UTC" });
    assert_eq!((&body["start"], &body["end"]), (&start, &end));
    let request = &body["conferenceData"]["createRequest"];
    assert_eq!(request["conferenceSolutionKey"]["type"], "hangoutsMeet");
    assert_eq!(request["requestId"], format!("{}-0", id(0)));
}

#[test]
fn an_id_is_base32hex_and_read_back() {
    let session = wish().session_id;
    for generation in [0, 1, 19] {
        let id = event_id(session, generation);
        assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v')));
        assert_eq!(generation_of(&id, session), Some(generation));
        assert_eq!(generation_of(&id, Uuid::nil()), None);
    }
    for bad in [
        "",
        "ml",
        "85746065",
        &format!("{}1x", id(0)),
        &id(0).replace("g0", "g+0"),
    ] {
        assert_eq!(generation_of(bad, session), None, "{bad}");
    }
}

#[test]
fn a_pending_conference_is_waited_for() {
    let ready = json!({ "conferenceData": { "entryPoints": [
        { "entryPointType": "phone", "uri": "tel:+1" },
        { "entryPointType": "video", "uri": LINK },
    ]}});
    let script = vec![pending(), pending(), answer(200, event(0, ready))];
    let talk = google(fresh(), script);
    assert_eq!(talk.done().join_url.as_str(), LINK);
    assert_eq!(talk.pauses, [200, 400].map(Duration::from_millis));
    assert_eq!(talk.lines(), [insert_line(), get_line(0), get_line(0)]);
}

#[test]
fn a_conference_that_stays_pending_is_looked_for_later() {
    let talk = google(fresh(), (0..40).map(|_| pending()).collect());
    let failure = talk.failed();
    assert_eq!(
        (failure.class, failure.reason),
        (Class::Retry, Reason::ConferencePending)
    );
    assert!(failure.may_exist);
    assert_eq!(
        talk.pauses.iter().sum::<Duration>(),
        Duration::from_secs(15)
    );
    assert!(
        talk.pauses
            .iter()
            .all(|wait| *wait <= Duration::from_secs(2))
    );
}

#[test]
fn a_failed_conference_is_asked_for_under_a_new_id() {
    let last = format!("{}-0", id(0));
    let script = vec![
        answer(200, event(0, conference_is("failure", &last))),
        linked(0),
    ];
    let talk = google(fresh(), script);
    talk.done();
    assert_eq!(talk.lines(), [insert_line(), patch_line(0)]);
    let request = &json_body(&talk.sent[1])["conferenceData"]["createRequest"];
    assert_eq!(request["requestId"], format!("{}-1", id(0)));
}

#[test]
fn a_conference_that_keeps_failing_is_left_for_later() {
    let failing = || answer(200, event(0, conference_is("failure", "another's")));
    let talk = google(fresh(), vec![failing(), failing(), failing(), failing()]);
    let failure = talk.failed();
    assert_eq!((failure.class, failure.may_exist), (Class::Retry, true));
    assert_eq!(talk.lines(), [insert_line(), patch_line(0), patch_line(0)]);
    let used = |i: usize| json_body(&talk.sent[i])["conferenceData"].to_string();
    assert_ne!(used(1), used(2));
}

#[test]
fn a_missing_conference_is_added() {
    let talk = google(
        known_id(&id(0)),
        vec![answer(200, event(0, json!({}))), pending(), linked(0)],
    );
    talk.done();
    assert_eq!(talk.lines(), [get_line(0), patch_line(0), get_line(0)]);
}

#[test]
fn a_taken_id_is_adopted() {
    let talk = google(fresh(), vec![refused(409, "duplicate"), linked(0)]);
    assert_eq!(talk.done().external_id, id(0));
    assert_eq!(talk.lines(), [insert_line(), get_line(0)]);
}

#[test]
fn a_taken_id_that_cannot_be_read_is_waited_for_once() {
    let taken = || vec![refused(409, "duplicate"), refused(404, "notFound")];
    let mut script = taken();
    script.push(linked(0));
    let talk = google(fresh(), script);
    assert_eq!(talk.done().external_id, id(0));
    assert_eq!(talk.pauses, [Duration::from_secs(1)]);

    // Still not there: another attempt looks, until that has gone on for long.
    let never = || -> Vec<_> {
        taken()
            .into_iter()
            .chain([refused(404, "notFound")])
            .collect()
    };
    let talk = google(fresh(), never());
    let failure = talk.failed();
    assert_eq!((failure.class, failure.may_exist), (Class::Retry, true));
    let again = || std::iter::once(refused(404, "notFound")).chain(never());
    assert_eq!(
        google(in_doubt(30), again().collect()).failed().class,
        Class::Retry
    );
    let talk = google(
        in_doubt(500),
        again().chain([refused(404, "x"), linked(1)]).collect(),
    );
    assert_eq!(talk.done().external_id, id(1));

    let mut script = taken();
    script.extend([refused(410, "deleted"), refused(404, "notFound"), linked(1)]);
    let talk = google(fresh(), script);
    assert_eq!(talk.done().external_id, id(1));
    let lines = [
        insert_line(),
        get_line(0),
        get_line(0),
        get_line(1),
        insert_line(),
    ];
    assert_eq!(talk.lines(), lines);
}

#[test]
fn a_taken_id_may_be_the_meeting_even_if_reading_it_fails() {
    for event in [
        answer(500, json!({})),
        refused(401, "authError"),
        broken(Reached::No, Fault::Dns),
    ] {
        let talk = google(fresh(), vec![refused(409, "duplicate"), event]);
        assert!(talk.failed().may_exist);
    }
}

#[test]
fn a_conflict_of_writers_is_not_a_taken_id() {
    let talk = google(fresh(), vec![refused(409, "conflict")]);
    assert_eq!(talk.failed().class, Class::Retry);
}

#[test]
fn a_deleted_event_is_followed_by_the_next_generation() {
    let script = vec![
        refused(409, "duplicate"),
        cancelled(0),
        refused(404, "notFound"),
        linked(1),
    ];
    let talk = google(fresh(), script);
    assert_eq!(talk.done().external_id, id(1));
    assert_eq!(
        talk.lines(),
        [insert_line(), get_line(0), get_line(1), insert_line()]
    );
    // An earlier attempt was there already.
    let talk = google(in_doubt(5), vec![cancelled(0), cancelled(1), linked(2)]);
    assert_eq!(talk.lines(), [get_line(0), get_line(1), get_line(2)]);
}

#[test]
fn generations_come_to_an_end() {
    let talk = google(in_doubt(5), (0..40).map(cancelled).collect());
    assert_eq!(talk.sent.len(), 20);
    assert_eq!(talk.failed().class, Class::Permanent);
    assert!(!talk.failed().may_exist);
}

#[test]
fn requests_come_to_an_end() {
    let around = || {
        [
            refused(409, "duplicate"),
            refused(404, "notFound"),
            refused(404, "notFound"),
            refused(404, "notFound"),
        ]
    };
    let absent = std::iter::once(refused(404, "notFound"));
    let script = absent.chain((0..20).flat_map(|_| around())).collect();
    let talk = google(in_doubt(500), script);
    assert_eq!(talk.sent.len(), 40);
    assert_eq!(talk.failed().class, Class::Retry);
}

/// Only Google's own words say that an event is gone.
#[test]
fn a_page_is_no_proof_of_absence() {
    let page = |status| Event::Answer(text(status, "<html>no</html>"));
    for status in [404, 410] {
        let taken = || [refused(404, "notFound"), refused(409, "duplicate")];
        for script in [
            taken().into_iter().chain([page(status)]).collect(),
            taken()
                .into_iter()
                .chain([refused(404, "notFound"), page(status)])
                .collect(),
        ] {
            let talk = google(in_doubt(9_999), script);
            let failure = talk.failed();
            let got = (failure.class, failure.reason, failure.may_exist);
            let astray = (Class::OperatorMustAct, Reason::Misconfigured, true);
            assert_eq!(got, astray, "{status}");
        }
    }
}

#[test]
fn what_may_exist_is_looked_for_first() {
    assert_eq!(google(in_doubt(5), vec![]).lines(), [get_line(0)]);
    assert_eq!(google(known_id(&id(3)), vec![]).lines(), [get_line(3)]);
    assert_eq!(google(known_id("85746065"), vec![]).lines(), [get_line(0)]);
    let talk = google(in_doubt(5), vec![refused(404, "notFound"), linked(0)]);
    assert_eq!(talk.lines(), [get_line(0), insert_line()]);
    talk.done();
}

#[test]
fn a_session_that_moved_takes_its_event_along() {
    let elsewhen = |start: Value| {
        answer(
            200,
            event(0, json!({ "hangoutLink": LINK, "start": start })),
        )
    };
    // The same moment in another zone is the same.
    let same = elsewhen(json!({ "dateTime": "2026-03-03T05:00:00-05:00" }));
    assert_eq!(google(known_id(&id(0)), vec![same]).lines(), [get_line(0)]);

    let earlier = elsewhen(json!({ "dateTime": "2026-03-03T09:00:00Z" }));
    let talk = google(known_id(&id(0)), vec![earlier, linked(0)]);
    talk.done();
    assert_eq!(talk.lines(), [get_line(0), patch_line(0)]);
    let body = json_body(&talk.sent[1]);
    assert_eq!(body["start"]["dateTime"], "2026-03-03T10:00:00Z");
    assert_eq!(body["end"]["dateTime"], "2026-03-03T10:50:00Z");
    assert!(body["start"].get("date").is_none());

    let all_day = elsewhen(json!({ "date": "2026-03-03" }));
    let talk = google(known_id(&id(0)), vec![all_day, linked(0)]);
    assert_eq!(
        json_body(&talk.sent[1])["start"].get("date"),
        Some(&Value::Null)
    );
}

#[test]
fn an_event_that_will_not_move_keeps_its_link() {
    let earlier = || answer(200, event(0, json!({ "hangoutLink": LINK, "start": {} })));
    for refusal in [
        refused(400, "invalid"),
        refused(403, "forbiddenForNonOrganizer"),
    ] {
        let talk = google(known_id(&id(0)), vec![earlier(), refusal, earlier()]);
        assert_eq!(talk.done().join_url.as_str(), LINK);
    }
    // And it is not fought over when Google says yes and does not do it.
    google(known_id(&id(0)), vec![earlier(), earlier()]).done();
}

#[test]
fn a_change_of_an_event_that_was_just_deleted_starts_the_next_generation() {
    let bare = || answer(200, event(0, json!({})));
    for refusal in [
        refused(403, "forbidden"),
        refused(404, "notFound"),
        refused(410, "deleted"),
    ] {
        let script = vec![
            bare(),
            refusal,
            cancelled(0),
            refused(404, "notFound"),
            linked(1),
        ];
        assert_eq!(google(known_id(&id(0)), script).done().external_id, id(1));
    }
    let talk = google(
        known_id(&id(0)),
        vec![bare(), refused(403, "forbidden"), bare()],
    );
    assert_eq!(talk.failed().reason, Reason::AccountRefused);
}
