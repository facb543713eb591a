//! Calendar v3's rules.

mod common;
use common::*;
use meetlink_simulator::*;
use serde_json::json;

#[test]
fn an_insert_with_version_one_gives_a_meet_link() {
    let s = stage();
    let reply = s.insert("lesson01").unwrap();
    assert_eq!(reply.status, 200);
    let link = reply.json["hangoutLink"].as_str().unwrap();
    let code = reply.json["conferenceData"]["conferenceId"]
        .as_str()
        .unwrap();
    assert_eq!(link, format!("https://meet.google.com/{code}"));
    assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [3, 4, 3]);
    let entry = &reply.json["conferenceData"]["entryPoints"][0];
    assert_eq!(
        (&entry["entryPointType"], &entry["uri"]),
        (&json!("video"), &json!(link))
    );
    let held = s.sim.meetings(Provider::Google);
    assert_eq!((held.len(), held[0].id.as_str()), (1, "lesson01"));
    assert_eq!(held[0].account, "ann@google.example");
    assert_eq!(held[0].join_url.as_deref(), Some(link));
    assert_eq!(
        s.google("GET", "/lesson01", None).unwrap().json["hangoutLink"],
        link
    );
}

#[test]
fn without_version_one_the_conference_is_silently_ignored() {
    let s = stage();
    for query in ["", "?conferenceDataVersion=0"] {
        let id = if query.is_empty() {
            "lesson01"
        } else {
            "lesson02"
        };
        let reply = s.google("POST", query, Some(event(id))).unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.json.get("conferenceData").is_none());
        assert!(reply.json.get("hangoutLink").is_none());
    }
}

#[test]
fn a_second_insert_of_an_id_is_a_duplicate() {
    let s = stage();
    s.insert("lesson01").unwrap();
    let reply = s.insert("lesson01").unwrap();
    assert_eq!((reply.status, reply.reason()), (409, "duplicate"));
    assert_eq!(s.sim.meetings(Provider::Google).len(), 1);
}

#[test]
fn ids_are_base32hex_of_5_to_1024_characters() {
    let s = stage();
    for bad in [
        "abcd",
        "lessonw1",
        "Lesson01",
        "lesson-1",
        &"a".repeat(1025),
    ] {
        assert_eq!(s.insert(bad).unwrap().status, 400, "{bad}");
    }
    for good in [
        "abcde",
        "0123456789abcdefghijklmnopqrstuv",
        &"a".repeat(1024),
    ] {
        assert_eq!(s.insert(good).unwrap().status, 200, "{good}");
    }
}

#[test]
fn a_deleted_id_is_a_tombstone() {
    let s = stage();
    s.insert("lesson01").unwrap();
    let gone = s
        .google("DELETE", "/lesson01?sendUpdates=none", None)
        .unwrap();
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    let read = s.google("GET", "/lesson01", None).unwrap();
    assert_eq!(
        (read.status, &read.json["status"]),
        (200, &json!("cancelled"))
    );
    assert_eq!(s.insert("lesson01").unwrap().status, 409);
    let change = Some(json!({"summary": "x"}));
    assert_eq!(s.google("PATCH", "/lesson01", change).unwrap().status, 403);
    let again = s.google("DELETE", "/lesson01", None).unwrap();
    assert_eq!((again.status, again.reason()), (410, "deleted"));
    assert!(s.sim.meetings(Provider::Google).is_empty());
    assert!(s.sim.meetings_ever(Provider::Google)[0].deleted);
}

#[test]
fn unknown_events_and_calendars_are_not_found() {
    let s = stage();
    for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({})))] {
        let reply = s.google(method, "/unknown1", body).unwrap();
        assert_eq!(
            (reply.status, reply.reason()),
            (404, "notFound"),
            "{method}"
        );
    }
    let url = format!(
        "{}/calendars/somebody%40else.example/events/a",
        s.sim.google_api_url()
    );
    assert_eq!(
        s.call("GET", &url, &s.google.access_token, None)
            .unwrap()
            .status,
        404
    );
    s.insert("lesson01").unwrap();
    let own = format!(
        "{}/calendars/ann%40google.example/events/lesson01",
        s.sim.google_api_url()
    );
    assert_eq!(
        s.call("GET", &own, &s.google.access_token, None)
            .unwrap()
            .status,
        200
    );
}

#[test]
fn start_and_end_are_required_and_sane() {
    let s = stage();
    let time = |text: &str| json!({"dateTime": text});
    let refused = |field: &str, value: serde_json::Value| {
        let mut body = event("lesson01");
        body[field] = value;
        let reply = s.google("POST", "", Some(body)).unwrap();
        assert_eq!(reply.status, 400, "{field}: {}", reply.text);
        reply.reason().to_string()
    };
    assert_eq!(refused("start", json!(null)), "required");
    assert_eq!(refused("end", json!({})), "required");
    assert_eq!(
        refused("end", time("2030-01-01T09:00:00+01:00")),
        "timeRangeEmpty"
    );
    assert_eq!(
        refused("end", time("2030-01-01T10:00:00+01:00")),
        "timeRangeEmpty"
    );
    assert_eq!(refused("start", time("2030-01-01T10:00:00")), "required");
    assert_eq!(refused("start", time("tomorrow")), "badRequest");
    let zone = json!({"dateTime": "2030-01-01T10:00:00Z", "timeZone": "+01:00"});
    assert_eq!(refused("start", zone), "invalid");
    assert_eq!(
        s.google("POST", "", Some(json!([1]))).unwrap().reason(),
        "parseError"
    );
    assert!(s.sim.meetings_ever(Provider::Google).is_empty());
}

#[test]
fn a_patch_merges_and_keeps_the_link() {
    let s = stage();
    let link = s.insert("lesson01").unwrap().json["hangoutLink"].clone();
    let later = json!({
        "start": {"dateTime": "2030-01-02T10:00:00+01:00"},
        "end": {"dateTime": "2030-01-02T11:00:00+01:00"},
    });
    let reply = s
        .google("PATCH", "/lesson01?conferenceDataVersion=1", Some(later))
        .unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json["hangoutLink"], link);
    assert_eq!(reply.json["summary"], "Lesson");
    assert_eq!(reply.json["start"]["timeZone"], "Europe/Berlin");
    let wrong = json!({"end": {"dateTime": "2029-01-02T11:00:00+01:00"}});
    assert_eq!(
        s.google("PATCH", "/lesson01", Some(wrong)).unwrap().status,
        400
    );
    assert_eq!(s.sim.meetings(Provider::Google)[0].updates, 1);
}

#[test]
fn a_pending_conference_succeeds_after_its_time() {
    let s = stage();
    s.sim.set_conference(Conference::PendingForMs(30));
    let reply = s.insert("lesson01").unwrap();
    let status = |reply: &Reply| {
        reply.json["conferenceData"]["createRequest"]["status"]["statusCode"].clone()
    };
    assert_eq!(status(&reply), "pending");
    assert!(reply.json.get("hangoutLink").is_none());
    let mut reply = reply;
    while status(&reply) == "pending" {
        reply = s.google("GET", "/lesson01", None).unwrap();
    }
    assert_eq!(status(&reply), "success");
    assert!(reply.json["hangoutLink"].is_string());
    let entries = s.sim.journal();
    let took = entries.last().unwrap().received_at.mono_ns - entries[0].received_at.mono_ns;
    assert!(took >= 30_000_000);
}

#[test]
fn after_a_failure_only_a_new_request_id_makes_a_conference() {
    let s = stage();
    let insert = Action::Conference {
        mode: Conference::Failure,
    };
    s.sim
        .fault(Rule::once(Provider::Google, Call::Insert, insert));
    let failed = s.insert("lesson01").unwrap();
    let path = "/lesson01?conferenceDataVersion=1";
    let status = |reply: &Reply| {
        reply.json["conferenceData"]["createRequest"]["status"]["statusCode"].clone()
    };
    assert_eq!((failed.status, status(&failed)), (200, json!("failure")));
    assert!(failed.json["conferenceData"].get("entryPoints").is_none());
    let same = s
        .google("PATCH", path, Some(new_request("lesson01-1")))
        .unwrap();
    assert_eq!(status(&same), "failure");
    let unversioned = s
        .google("PATCH", "/lesson01", Some(new_request("lesson01-2")))
        .unwrap();
    assert_eq!(status(&unversioned), "failure");
    let fresh = s
        .google("PATCH", path, Some(new_request("lesson01-2")))
        .unwrap();
    assert_eq!(status(&fresh), "success");
    let again = s
        .google("PATCH", path, Some(new_request("lesson01-2")))
        .unwrap();
    assert_eq!(again.json["hangoutLink"], fresh.json["hangoutLink"]);
}

#[test]
fn other_conference_modes_behave_as_named() {
    let s = stage();
    let path = |id: &str| format!("/{id}?conferenceDataVersion=1");
    s.sim.set_conference(Conference::PendingForever);
    assert!(
        s.insert("lesson01")
            .unwrap()
            .json
            .get("hangoutLink")
            .is_none()
    );
    s.sim.set_conference(Conference::FailureThenSuccess);
    assert!(
        s.insert("lesson02")
            .unwrap()
            .json
            .get("hangoutLink")
            .is_none()
    );
    let second = s
        .google("PATCH", &path("lesson02"), Some(new_request("other")))
        .unwrap();
    assert!(second.json["hangoutLink"].is_string());
    s.sim.set_conference(Conference::FailureAfterMs(0));
    assert!(
        s.insert("lesson03")
            .unwrap()
            .json
            .get("hangoutLink")
            .is_none()
    );
    assert!(s.sim.meetings(Provider::Google)[0].join_url.is_none());
}

#[test]
fn a_calendar_without_meet_refuses_the_conference_type() {
    let s = stage();
    let mut body = event("lesson01");
    body["conferenceData"]["createRequest"]["conferenceSolutionKey"]["type"] = json!("other");
    let wrong = s
        .google("POST", "?conferenceDataVersion=1", Some(body))
        .unwrap();
    assert_eq!(
        wrong.json["error"]["message"],
        "Invalid conference type value."
    );
    let spec = AccountSpec {
        meet_allowed: false,
        ..AccountSpec::default()
    };
    let account = s.sim.add_account(Provider::Google, spec);
    let url = format!(
        "{}/calendars/primary/events?conferenceDataVersion=1",
        s.sim.google_api_url()
    );
    let body = event("lesson01").to_string();
    let reply = s
        .call("POST", &url, &account.access_token, Some(&body))
        .unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.json["error"]["message"],
        "Invalid conference type value."
    );
}

#[test]
fn accounts_do_not_see_each_others_events() {
    let s = stage();
    s.insert("lesson01").unwrap();
    let other = s.sim.add_account(Provider::Google, AccountSpec::default());
    let url = format!(
        "{}/calendars/primary/events/lesson01",
        s.sim.google_api_url()
    );
    assert_eq!(
        s.call("GET", &url, &other.access_token, None)
            .unwrap()
            .status,
        404
    );
}
