//! Faults on the way to a provider and in its answers that no other file shows end to end.

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/prov.rs"]
mod support;

use std::io::ErrorKind;
use std::net::TcpListener;

use chrono::Utc;
use meetlink_e2e::app::{App, name_of};
use meetlink_simulator::{AccountSpec, Action, Call, Conference, Provider, RateLimit, Rule};
use proxy::{Cut, Proxy};
use serde_json::json;
use support::{
    assert_plain, classes, connection_status, creates, last_error, ledger, meetings_of,
    stale_tutor, wait_for_attempts,
};

use Provider::{Google, Zoom};

const BOTH: [Provider; 2] = [Google, Zoom];

/// Every place at which a connection can break, from before the first byte of the request to
/// before the last byte of the answer, and whether a meeting was made by then.
const PLACES: [(&str, Cut, bool); 12] = [
    ("before a byte arrived", Cut::Request(|_, _| 0), false),
    ("in the first line", Cut::Request(|_, _| 9), false),
    ("in the head", Cut::Request(|head, _| head / 2), false),
    ("before the body", Cut::Request(|head, _| head), false),
    (
        "in the body",
        Cut::Request(|head, all| (head + all) / 2),
        false,
    ),
    (
        "before the last byte",
        Cut::Request(|_, all| all - 1),
        false,
    ),
    ("before the answer", Cut::Answer(|_, _| 0), true),
    ("in the status line", Cut::Answer(|_, _| 5), true),
    (
        "in the answer's head",
        Cut::Answer(|head, _| head / 2),
        true,
    ),
    (
        "before the answer's body",
        Cut::Answer(|head, _| head),
        true,
    ),
    (
        "in the middle of the 201",
        Cut::Answer(|head, all| (head + all) / 2),
        true,
    ),
    (
        "before the answer's last byte",
        Cut::Answer(|_, all| all - 1),
        true,
    ),
];

#[test]
fn a_reset_at_any_byte_of_request_or_answer_leaves_one_meeting() {
    let mut app = App::with(|options| options.set("meetlink.settle_time", "200ms"));
    let at = app.simulator.address();
    let proxy = Proxy::start(at);
    let google = proxy.instead_of(&app.simulator.google_api_url(), at);
    let zoom = proxy.instead_of(&app.simulator.zoom_api_url(), at);
    app.cluster.reload_with(&[
        ("meetlink.google_api_url", &google),
        ("meetlink.zoom_api_url", &zoom),
    ]);
    let student = app.person("student", "Sam");
    for provider in BOTH {
        for (place, cut, effect) in PLACES {
            let name = format!("{provider:?} {place}");
            let tutor = app.tutor(provider, &name);
            proxy.cut(cut);
            let session = app.book(tutor, student);
            let link = app.wait_for_link(session);
            assert!(!proxy.is_armed(), "{name}: nothing was cut");
            let mut ever = app.simulator.meetings_ever(provider);
            ever.retain(|meeting| meeting.account == name);
            assert_eq!(ever.len(), 1, "{name}");
            assert_eq!(ever[0].join_url.as_ref(), Some(&link), "{name}");
            let first = match provider {
                Google => "retry",
                Zoom => "in_doubt",
            };
            assert_eq!(classes(&app, session)[0], first, "{name}");
            // A request that came whole was the only one.
            let made = creates(&app, provider, &name).len();
            assert!(made == 1, "{name}: {made} requests, effect: {effect}");
        }
    }
}

/// The provider hangs up before it has read anything; a byte may have been on its way by then.
#[test]
fn a_reset_on_accept_is_tried_again() {
    for provider in BOTH {
        // One each: a connection that is open already is not accepted again.
        let app = App::start();
        let name = format!("{provider:?}");
        let tutor = app.tutor(provider, &name);
        let rule = app
            .simulator
            .fault(Rule::once(provider, Call::Any, Action::ResetOnAccept));
        let session = app.book(tutor, app.person("student", "Sam"));
        app.wait_for_link(session);
        assert_eq!(app.simulator.fired(rule), 1);
        assert_eq!(
            classes(&app, session).last().map(String::as_str),
            Some("made")
        );
        assert!(classes(&app, session).len() >= 2);
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
        assert_eq!(creates(&app, provider, &name).len(), 1);
    }
}

#[test]
fn every_form_of_retry_after_is_respected_at_both_providers() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let daily = |value: String| Action::Status {
        status: 429,
        headers: vec![("retry-after".into(), value)],
        body: json!({"code": 429, "message": "You have reached the daily rate limit."}).to_string(),
        effect: false,
    };
    let limit = |form| Action::RateLimit { form };
    // Whole seconds, and some time passes before it is sent.
    let soon = || Utc::now() + chrono::Duration::seconds(5);
    let http_date = soon().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let iso = soon().format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let sessions = [
        (Google, "Ann", limit(RateLimit::Seconds(2)), 2.0),
        (Google, "Bea", limit(RateLimit::HttpDate(3)), 2.0),
        (Google, "Cid", limit(RateLimit::Iso8601(3)), 2.0),
        (Google, "Dan", limit(RateLimit::NoHint), 0.0),
        (Zoom, "Eve", daily("2".into()), 2.0),
        (Zoom, "Fay", daily(http_date), 1.5),
        (Zoom, "Gus", daily(iso), 1.5),
        (Zoom, "Hal", limit(RateLimit::NoHint), 0.9),
    ]
    .map(|(provider, name, action, least)| {
        let tutor = app.tutor(provider, name);
        let rule = Rule::once(provider, Call::Create, action).account(name);
        app.simulator.fault(rule);
        (provider, name, app.book(tutor, student), least)
    });
    for (provider, name, session, least) in sessions {
        app.wait_for_link(session);
        let calls = creates(&app, provider, name);
        assert_eq!(calls.len(), 2, "{name}");
        let gap = calls[1].received_at.mono_ns - calls[0].received_at.mono_ns;
        let gap = gap as f64 / 1e9;
        assert!(gap >= least && gap < 8.0, "{name}: after {gap} s");
        let attempts = ledger(&app, session);
        let seen: Vec<_> = attempts.iter().map(|a| a.class.as_str()).collect();
        assert_eq!(seen, ["retry_after", "made"], "{name}");
        assert_eq!(app.status(session)["attempts"], 1, "{name}");
        assert_eq!(
            app.simulator
                .meetings_ever(provider)
                .iter()
                .filter(|m| m.account == name)
                .count(),
            1
        );
    }
}

/// A 403 of each kind that is neither a limit nor a missing scope.
#[test]
fn a_403_waits_for_whom_it_concerns() {
    let app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let student = app.person("student", "Sam");
    let google = |reason: &str| {
        json!({"error": {"code": 403, "errors": [{"reason": reason}], "message": "prose"}})
            .to_string()
    };
    let zoom = json!({"code": 200, "message": "prose"}).to_string();
    let page = "<html><h1>Forbidden</h1></html>".to_owned();
    for (provider, body, class, state) in [
        (
            Google,
            google("forbidden"),
            "tutor_must_act",
            "needs_action",
        ),
        (Google, page.clone(), "retry", "ready"),
        (Google, String::new(), "retry", "ready"),
        (
            Google,
            google("accessNotConfigured"),
            "operator_must_act",
            "retrying",
        ),
        (Zoom, zoom, "tutor_must_act", "needs_action"),
        (Zoom, page, "retry", "ready"),
        (Zoom, String::new(), "retry", "ready"),
    ] {
        let name = format!("{provider:?} {class} {}", body.len());
        let tutor = app.tutor(provider, &name);
        let action = Action::Status {
            status: 403,
            headers: Vec::new(),
            body,
            effect: false,
        };
        let rule = Rule::once(provider, Call::Create, action).account(&name);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        let first = wait_for_attempts(&app, session, 1).remove(0);
        assert_eq!(
            (first.class.as_str(), first.status),
            (class, Some(403)),
            "{name}"
        );
        let status = app.wait_for_state(session, state);
        if state != "ready" {
            assert_plain(&status);
            assert!(
                !last_error(&app, session)
                    .expect("an error")
                    .contains("prose")
            );
            assert_eq!(connection_status(&app, tutor), "connected", "{name}");
            match class {
                "tutor_must_act" => app.connect(tutor, provider, AccountSpec::named(&name)),
                // The operator has put it right, and says so.
                _ => {
                    let (id, secret) = app.simulator.client(provider);
                    let provider = name_of(provider);
                    let sql = format!(
                        "SELECT meetlink_configure_provider('{provider}', '{id}', '{secret}')"
                    );
                    app.cluster.psql("app", &sql);
                }
            }
            app.wait_for_link(session);
        }
        assert_eq!(meetings_of(&app, provider, &name), 1, "{name}");
        assert_eq!(creates(&app, provider, &name).len(), 2, "{name}");
    }
}

#[test]
fn errors_in_xml_and_html_are_read_as_the_errors_they_are() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let passing = match provider {
            Google => "retry",
            Zoom => "in_doubt",
        };
        for (action, class) in [
            (Action::Xml { status: 400 }, "permanent"),
            (Action::Html { status: 404 }, "operator_must_act"),
            (Action::Xml { status: 502 }, passing),
            (Action::Html { status: 500 }, passing),
        ] {
            let name = format!("{provider:?} {action:?}");
            let tutor = app.tutor(provider, &name);
            let rule = Rule::once(provider, Call::Create, action).account(&name);
            app.simulator.fault(rule);
            let session = app.book(tutor, student);
            let first = wait_for_attempts(&app, session, 1).remove(0);
            assert_eq!(first.class, class, "{name}");
            let error = first.error.expect("an error");
            assert!(
                !error.contains('<') && !error.contains("went wrong"),
                "{error}"
            );
            if class == "permanent" {
                assert_plain(&app.wait_for_state(session, "failed"));
                support::retry(&app, session);
            }
            app.wait_for_link(session);
            assert_eq!(meetings_of(&app, provider, &name), 1, "{name}");
        }
    }
}

/// A redirect to a host of somebody else's must not take the tutor's token there.
#[test]
fn nobody_is_called_after_a_redirect_to_another_host() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    stranger.set_nonblocking(true).expect("a listener");
    let at = stranger.local_addr().expect("its address");
    for (index, (provider, call, status)) in [
        (Google, Call::Create, 302),
        (Google, Call::Create, 308),
        (Google, Call::Token, 307),
        (Zoom, Call::Create, 301),
        (Zoom, Call::Create, 307),
        (Zoom, Call::Token, 303),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{provider:?} {index}");
        let (tutor, _) = stale_tutor(&app, provider, &name);
        let location = format!("http://{at}/v2/users/me/meetings");
        let away = Action::Redirect { status, location };
        app.simulator
            .fault(Rule::always(provider, call, away).account(&name));
        let session = app.book(tutor, student);
        assert_plain(&app.wait_for_state(session, "failed"));
        assert_eq!(classes(&app, session), ["permanent"], "{name}");
        app.simulator.clear_faults();
        support::retry(&app, session);
        app.wait_for_link(session);
        assert_eq!(meetings_of(&app, provider, &name), 1, "{name}");
    }
    let called = stranger.accept().map_err(|error| error.kind());
    assert_eq!(called.err(), Some(ErrorKind::WouldBlock), "it was called");
    // It would have been heard.
    std::net::TcpStream::connect(at).expect("the stranger listens");
    stranger.accept().expect("a call is heard");
}

/// The conference never comes, or fails after a while: the event stays the only one, and a further
/// attempt asks in it.
#[test]
fn a_conference_that_never_comes_or_fails_late_makes_no_second_event() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "1"));
    let student = app.person("student", "Sam");
    for (name, mode) in [
        ("Ann", Conference::PendingForever),
        ("Bea", Conference::FailureAfterMs(300)),
    ] {
        let action = Action::Conference { mode };
        app.simulator
            .fault(Rule::always(Google, Call::Any, action).account(name));
    }
    let sessions = ["Ann", "Bea"].map(|name| {
        let tutor = app.tutor(Google, name);
        app.book(tutor, student)
    });
    // An attempt waits for a conference 15 seconds long at most.
    for session in sessions {
        assert_plain(&app.wait_for_state(session, "failed"));
        assert_eq!(classes(&app, session), ["retry"]);
    }
    app.simulator.clear_faults();
    support::retry(&app, sessions[1]);
    app.wait_for_link(sessions[1]);
    for name in ["Ann", "Bea"] {
        let mut ever = app.simulator.meetings_ever(Google);
        ever.retain(|meeting| meeting.account == name);
        assert_eq!(ever.len(), 1, "{name}");
    }
}
