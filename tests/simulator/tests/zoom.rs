//! Zoom Meetings' rules.

mod common;
use common::*;
use meetlink_simulator::*;
use serde_json::{Value, json};

fn refused(s: &Stage, field: &str, value: Value) {
    let mut body = meeting("lesson");
    body[field] = value;
    let reply = s.zoom("POST", "/users/me/meetings", Some(body)).unwrap();
    assert_eq!(
        (reply.status, reply.code()),
        (400, 300),
        "{field}: {}",
        reply.text
    );
    assert_eq!(reply.json["errors"][0]["field"], field);
}

#[test]
fn a_creation_gives_a_meeting_with_all_its_links() {
    let s = stage();
    let reply = s.create().unwrap();
    assert_eq!(reply.status, 201);
    let id = reply.json["id"].as_u64().unwrap();
    assert!(id > u64::from(u32::MAX));
    assert!(
        reply.json["join_url"]
            .as_str()
            .unwrap()
            .contains(&format!("/j/{id}?pwd="))
    );
    assert!(reply.json["start_url"].as_str().unwrap().contains("zak="));
    assert!(reply.json["password"].is_string());
    let held = s.sim.meetings(Provider::Zoom);
    assert_eq!(
        (held[0].id.clone(), held[0].instant),
        (id.to_string(), false)
    );
    assert_eq!(held[0].body["agenda"], "lesson");
    let read = s.zoom("GET", &format!("/meetings/{id}"), None).unwrap();
    assert_eq!(
        (read.status, &read.json["join_url"]),
        (200, &reply.json["join_url"])
    );
}

#[test]
fn there_is_no_idempotency() {
    let s = stage();
    let (first, second) = (s.create().unwrap(), s.create().unwrap());
    assert_ne!(first.json["id"], second.json["id"]);
    assert_eq!(s.meetings(), 2);
}

#[test]
fn fields_out_of_bounds_are_a_validation_error() {
    let s = stage();
    refused(&s, "topic", json!("x".repeat(201)));
    refused(&s, "agenda", json!("x".repeat(2001)));
    refused(&s, "duration", json!(60.5));
    refused(&s, "duration", json!("60"));
    refused(&s, "type", json!(4));
    refused(&s, "password", json!("12345678901"));
    refused(&s, "settings", json!([]));
    for start in [
        "2030-01-01T10:00:00.000Z",
        "2030-01-01T10:00:00+00:00",
        "2030-01-01 10:00:00Z",
        "2030-13-01T10:00:00Z",
        "2030-1-01T10:00:00Z",
        "2030-01-01T10:00Z",
    ] {
        refused(&s, "start_time", json!(start));
    }
    assert_eq!(s.meetings(), 0);
    let mut longest = meeting(&"ü".repeat(2000));
    longest["topic"] = json!("ü".repeat(200));
    assert_eq!(
        s.zoom("POST", "/users/me/meetings", Some(longest))
            .unwrap()
            .status,
        201
    );
    let no_object = s
        .zoom("POST", "/users/me/meetings", Some(json!("x")))
        .unwrap();
    assert_eq!((no_object.status, no_object.code()), (400, 300));
}

#[test]
fn without_a_start_time_the_meeting_is_instant() {
    let s = stage();
    let mut body = meeting("lesson");
    body.as_object_mut().unwrap().remove("start_time");
    let reply = s.zoom("POST", "/users/me/meetings", Some(body)).unwrap();
    assert_eq!((reply.status, &reply.json["type"]), (201, &json!(1)));
    assert!(s.sim.meetings(Provider::Zoom)[0].instant);
    let list = s
        .zoom("GET", "/users/me/meetings?type=scheduled", None)
        .unwrap();
    assert_eq!(list.json["meetings"], json!([]));
}

#[test]
fn the_list_is_paged_and_cuts_agendas() {
    let s = stage();
    let long = "ä".repeat(300);
    for _ in 0..5 {
        s.zoom("POST", "/users/me/meetings", Some(meeting(&long)))
            .unwrap();
    }
    let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/users/me/meetings?type=scheduled&page_size=2&next_page_token={token}");
        let page = s.zoom("GET", &path, None).unwrap();
        assert_eq!(page.status, 200);
        for meeting in page.json["meetings"].as_array().unwrap() {
            assert_eq!(meeting["agenda"], "ä".repeat(250));
            assert!(meeting.get("start_url").is_none());
            ids.push(meeting["id"].clone());
        }
        pages += 1;
        token = page.json["next_page_token"].as_str().unwrap().into();
        if token.is_empty() {
            break;
        }
    }
    ids.dedup();
    assert_eq!((pages, ids.len()), (3, 5));
    for bad in [
        "page_size=301",
        "page_size=0",
        "next_page_token=rubbish",
        "type=other",
    ] {
        let reply = s
            .zoom("GET", &format!("/users/me/meetings?{bad}"), None)
            .unwrap();
        assert_eq!((reply.status, reply.code()), (400, 300), "{bad}");
    }
}

#[test]
fn the_list_leaves_out_expired_deleted_and_foreign_meetings() {
    let s = stage();
    let mut past = meeting("past");
    past["start_time"] = json!("2020-01-01T10:00:00Z");
    s.zoom("POST", "/users/me/meetings", Some(past)).unwrap();
    let gone = s.create().unwrap().json["id"].as_u64().unwrap();
    s.zoom("DELETE", &format!("/meetings/{gone}"), None)
        .unwrap();
    let other = s.sim.add_account(Provider::Zoom, AccountSpec::default());
    let url = format!("{}/users/me/meetings", s.sim.zoom_api_url());
    let body = meeting("foreign").to_string();
    let foreign = s
        .call("POST", &url, &other.access_token, Some(&body))
        .unwrap();
    let list = s.zoom("GET", "/users/me/meetings", None).unwrap();
    assert_eq!(list.json["meetings"], json!([]));
    let path = format!("/meetings/{}", foreign.json["id"]);
    assert_eq!(s.zoom("GET", &path, None).unwrap().code(), 3001);
}

#[test]
fn a_patch_changes_and_a_delete_deletes_without_a_body() {
    let s = stage();
    let path = format!("/meetings/{}", s.create().unwrap().json["id"]);
    let change = json!({"start_time": "2030-02-01T10:00:00Z", "duration": 90});
    let reply = s.zoom("PATCH", &path, Some(change)).unwrap();
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    let read = s.zoom("GET", &path, None).unwrap();
    assert_eq!(read.json["start_time"], "2030-02-01T10:00:00Z");
    assert_eq!(
        (&read.json["duration"], &read.json["topic"]),
        (&json!(90), &json!("Lesson"))
    );
    let bad = s
        .zoom("PATCH", &path, Some(json!({"duration": 1.5})))
        .unwrap();
    assert_eq!((bad.status, bad.code()), (400, 300));
    assert_eq!(s.zoom("DELETE", &path, None).unwrap().status, 204);
    for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({})))] {
        let reply = s.zoom(method, &path, body).unwrap();
        assert_eq!((reply.status, reply.code()), (404, 3001), "{method}");
    }
    assert!(s.sim.meetings_ever(Provider::Zoom)[0].deleted);
}

#[test]
fn other_users_do_not_exist() {
    let s = stage();
    let reply = s
        .zoom("GET", "/users/bob%40zoom.example/meetings", None)
        .unwrap();
    assert_eq!((reply.status, reply.code()), (404, 1001));
    assert_eq!(
        s.zoom("GET", "/users/ann%40zoom.example/meetings", None)
            .unwrap()
            .status,
        200
    );
}

#[test]
fn the_daily_limit_counts_creations_and_updates_of_one_account() {
    let s = stage_with(Options {
        zoom_daily_limit: Some(3),
        ..Options::default()
    });
    let first = s.create().unwrap();
    assert_eq!(first.header("x-ratelimit-remaining"), "2");
    s.create().unwrap();
    let path = format!("/meetings/{}", first.json["id"]);
    assert_eq!(
        s.zoom("PATCH", &path, Some(json!({"duration": 30})))
            .unwrap()
            .status,
        204
    );
    let refused = s.create().unwrap();
    assert_eq!((refused.status, refused.code()), (429, 429));
    assert_eq!(refused.header("x-ratelimit-type"), "Daily-limit");
    assert_eq!(refused.header("x-ratelimit-limit"), "3");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    let until = chrono::DateTime::parse_from_rfc3339(refused.header("retry-after")).unwrap();
    assert!(until > chrono::Utc::now() && refused.header("retry-after").ends_with("T00:00:00Z"));
    assert_eq!(s.zoom("DELETE", &path, None).unwrap().status, 204);
    let other = s.sim.add_account(Provider::Zoom, AccountSpec::default());
    let url = format!("{}/users/me/meetings", s.sim.zoom_api_url());
    let body = meeting("other").to_string();
    let reply = s
        .call("POST", &url, &other.access_token, Some(&body))
        .unwrap();
    assert_eq!(reply.status, 201);
    s.sim.set_zoom_daily_limit(None);
    assert_eq!(s.create().unwrap().status, 201);
}
