//! False answers, and which requests a rule covers.

mod common;
use common::*;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn zoom_once(s: &Stage, action: Action) -> Reply {
    s.sim.fault(Rule::once(Zoom, Call::Create, action));
    s.create().unwrap()
}

fn google_once(s: &Stage, action: Action) -> Reply {
    s.sim.fault(Rule::once(Google, Call::Insert, action));
    s.insert("lesson01").unwrap()
}

#[test]
fn a_rule_skips_first_and_then_hits_so_many() {
    let s = stage();
    let rule = Rule::always(Zoom, Call::Any, Action::Unauthorized)
        .skip(1)
        .times(2);
    let id = s.sim.fault(rule);
    let seen: Vec<u16> = (0..4).map(|_| s.create().unwrap().status).collect();
    assert_eq!(seen, [201, 401, 401, 201]);
    assert_eq!(s.sim.fired(id), 2);
    assert_eq!(s.sim.journal()[1].faults, [id]);
    assert_eq!(s.meetings(), 2);
}

#[test]
fn a_rule_keeps_to_its_provider_call_account_and_marker() {
    let s = stage();
    let unauthorized = || Action::Unauthorized;
    s.sim.fault(Rule::always(Google, Call::Any, unauthorized()));
    s.sim
        .fault(Rule::always(Zoom, Call::Delete, unauthorized()));
    s.sim
        .fault(Rule::always(Zoom, Call::Any, unauthorized()).account("bob@zoom.example"));
    s.sim
        .fault(Rule::always(Zoom, Call::Any, unauthorized()).marker("session-7"));
    assert_eq!(s.create().unwrap().status, 201);
    let marked = s
        .zoom("POST", "/users/me/meetings", Some(meeting("for session-7")))
        .unwrap();
    assert_eq!(marked.status, 401);
    assert_eq!(
        s.zoom("DELETE", "/meetings/81234567890", None)
            .unwrap()
            .status,
        401
    );
    assert_eq!(s.insert("lesson01").unwrap().status, 401);
    s.sim.clear_faults();
    s.sim
        .fault(Rule::always(Google, Call::Get, unauthorized()).marker("lesson01"));
    assert_eq!(s.google("GET", "/lesson01", None).unwrap().status, 401);
    assert_eq!(s.google("GET", "/lesson02", None).unwrap().status, 404);
    let token = Rule::always(Zoom, Call::Token, Action::ServerError { status: 503 });
    let id = s.sim.fault(token.account(s.zoom.name.clone()));
    assert_eq!(s.zoom_refresh(&s.zoom.refresh_token).unwrap().status, 503);
    assert!(s.sim.remove_fault(id) && !s.sim.remove_fault(id));
    assert_eq!(s.zoom_refresh(&s.zoom.refresh_token).unwrap().status, 200);
}

#[test]
fn any_status_with_or_without_the_effect() {
    let s = stage();
    let action = |effect| Action::Status {
        status: 418,
        headers: vec![("x-odd".into(), "1".into())],
        body: "odd".into(),
        effect,
    };
    let reply = zoom_once(&s, action(false));
    assert_eq!(
        (reply.status, reply.header("x-odd"), &*reply.text),
        (418, "1", "odd")
    );
    assert_eq!((s.meetings(), s.last().effect), (0, None));
    zoom_once(&s, action(true));
    assert_eq!(s.meetings(), 1);
    assert_eq!(s.last().effect.unwrap().id, s.sim.meetings(Zoom)[0].id);
}

#[test]
fn every_form_of_rate_limit() {
    let s = stage();
    let limit = |form| Action::RateLimit { form };
    let reply = zoom_once(&s, limit(RateLimit::Seconds(7)));
    assert_eq!((reply.status, reply.header("retry-after")), (429, "7"));
    let date = zoom_once(&s, limit(RateLimit::HttpDate(60)))
        .header("retry-after")
        .to_string();
    let at = chrono::DateTime::parse_from_rfc2822(&date).unwrap();
    assert!(date.ends_with(" GMT") && at > chrono::Utc::now());
    let iso = zoom_once(&s, limit(RateLimit::Iso8601(60)))
        .header("retry-after")
        .to_string();
    assert!(chrono::DateTime::parse_from_rfc3339(&iso).unwrap() > chrono::Utc::now());
    let second = zoom_once(&s, limit(RateLimit::ZoomPerSecond));
    assert_eq!(
        (second.code(), second.header("x-ratelimit-type")),
        (429, "QPS")
    );
    assert_eq!(second.header("retry-after"), "");
    let day = zoom_once(&s, limit(RateLimit::ZoomDaily));
    assert_eq!(day.header("x-ratelimit-type"), "Daily-limit");
    assert!(day.header("retry-after").ends_with("T00:00:00Z"));
    assert_eq!(
        zoom_once(&s, limit(RateLimit::ZoomDailyNoHint)).header("retry-after"),
        ""
    );
    for (form, status, reason) in [
        (RateLimit::NoHint, 429, "rateLimitExceeded"),
        (RateLimit::GoogleTooManyRequests, 429, "rateLimitExceeded"),
        (RateLimit::GoogleRateLimitExceeded, 403, "rateLimitExceeded"),
        (
            RateLimit::GoogleUserRateLimitExceeded,
            403,
            "userRateLimitExceeded",
        ),
        (RateLimit::GoogleQuotaExceeded, 403, "quotaExceeded"),
        (
            RateLimit::GoogleDailyLimitExceeded,
            403,
            "dailyLimitExceeded",
        ),
    ] {
        let reply = google_once(&s, limit(form));
        assert_eq!((reply.status, reply.reason()), (status, reason), "{form:?}");
        assert_eq!(reply.json["error"]["errors"][0]["domain"], "usageLimits");
    }
    assert_eq!(s.meetings() + s.sim.meetings(Google).len(), 0);
}

#[test]
fn the_providers_own_refusals() {
    let s = stage();
    for (action, status, code) in [
        (Action::Unauthorized, 401, 124),
        (
            Action::ZoomScopes {
                status: 400,
                code: 4711,
            },
            400,
            4711,
        ),
        (
            Action::ZoomScopes {
                status: 401,
                code: 4700,
            },
            401,
            4700,
        ),
        (Action::ZoomNoSuchUser, 404, 1001),
        (Action::ZoomNotAllowed, 400, 3161),
        (Action::ZoomCannotSchedule, 400, 3000),
        (Action::ServerError { status: 502 }, 502, 502),
    ] {
        let reply = zoom_once(&s, action);
        assert_eq!((reply.status, reply.code()), (status, code));
    }
    for (action, status, reason) in [
        (Action::Unauthorized, 401, "authError"),
        (
            Action::InsufficientPermissions,
            403,
            "insufficientPermissions",
        ),
        (Action::InvalidConferenceType, 400, "invalid"),
        (Action::ServerError { status: 503 }, 503, "backendError"),
    ] {
        let reply = google_once(&s, action);
        assert_eq!((reply.status, reply.reason()), (status, reason));
    }
    let error = |why: Option<&str>| Action::TokenError {
        status: 400,
        error: "invalid_grant".into(),
        why: why.map(String::from),
    };
    s.sim.fault(Rule::once(Zoom, Call::Token, error(None)));
    let bare = s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    assert_eq!(
        (bare.status, bare.json),
        (400, json!({"error": "invalid_grant"}))
    );
    s.sim
        .fault(Rule::once(Google, Call::Token, error(Some("gone"))));
    let told = s.google_refresh(&s.google.refresh_token).unwrap();
    assert_eq!(told.json["error_description"], "gone");
}

#[test]
fn bodies_that_are_not_what_they_should_be() {
    let s = stage();
    let xml = zoom_once(&s, Action::Xml { status: 500 });
    assert!(xml.status == 500 && xml.text.starts_with("<?xml"));
    let html = zoom_once(&s, Action::Html { status: 503 });
    assert!(html.status == 503 && html.text.starts_with("<!DOCTYPE html>"));
    let junk = zoom_once(&s, Action::NotJson { effect: true });
    assert!(junk.status == 200 && junk.json.is_null());
    assert_eq!(s.meetings(), 1);
    zoom_once(&s, Action::NotJson { effect: false });
    assert_eq!(s.meetings(), 1);
}

#[test]
fn a_big_body_is_valid_and_of_the_exact_size() {
    let s = stage();
    let reply = zoom_once(&s, Action::BigBody { bytes: 10_000_000 });
    assert_eq!((reply.status, reply.text.len()), (201, 10_000_000));
    assert!(reply.json["id"].is_u64());
}

#[test]
fn redirects_are_sent_and_followed_ones_would_be_seen() {
    let s = stage();
    let location = format!("{}/elsewhere", s.sim.url());
    let reply = zoom_once(
        &s,
        Action::Redirect {
            status: 302,
            location: location.clone(),
        },
    );
    assert_eq!((reply.status, reply.header("location")), (302, &*location));
    s.call("GET", &location, "x", None).unwrap();
    let last = s.last();
    assert_eq!(
        (last.provider, last.path.as_str(), last.status),
        (None, "/elsewhere", Some(404))
    );
}

#[test]
fn a_delay_adds_to_the_normal_answer_and_to_other_faults() {
    let s = stage();
    s.sim
        .fault(Rule::always(Zoom, Call::Create, Action::Delay { ms: 30 }));
    let began = Instant::now();
    assert_eq!(s.create().unwrap().status, 201);
    assert!(began.elapsed() >= Duration::from_millis(30));
    let began = Instant::now();
    assert_eq!(zoom_once(&s, Action::Unauthorized).status, 401);
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(s.last().faults.len(), 2);
}

#[test]
fn latency_is_kept_to_and_token_calls_have_their_own() {
    let s = stage();
    s.sim.set_latency(
        Zoom,
        Latency {
            api_ms: 100,
            token_ms: 200,
        },
    );
    s.create().unwrap();
    s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    s.insert("lesson01").unwrap();
    let took: Vec<u128> = s
        .sim
        .journal()
        .iter()
        .map(|entry| entry.provider_time().unwrap().as_millis())
        .collect();
    assert!(
        took[0] >= 100 && took[1] >= 200 && took[2] < 100,
        "{took:?}"
    );
}

#[test]
fn the_work_is_done_even_if_the_client_gives_up_waiting() {
    let s = stage();
    s.sim.set_latency(
        Zoom,
        Latency {
            api_ms: 60_000,
            token_ms: 0,
        },
    );
    let url = format!("{}/users/me/meetings", s.sim.zoom_api_url());
    let request = s
        .agent
        .post(url)
        .config()
        .timeout_global(Some(Duration::from_millis(50)));
    let request = request.build().header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", s.zoom.access_token));
    assert!(request.send(meeting("lesson").to_string()).is_err());
    until(|| s.meetings() == 1);
    until(|| s.sim.journal_len() == 1);
    let last = s.last();
    assert_eq!((last.status, last.answered_at), (Some(201), None));
}
