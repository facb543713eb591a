//! Requests that do not arrive, and answers that do not come back: one meeting in the end, always.

#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use meetlink_e2e::app::App;
use meetlink_e2e::free_address;
use meetlink_simulator::{Action, Call, Options, Provider, Rule, Tls};
use support::{
    Witness, assert_plain, classes, count, last_error, meetings_of, stale_tutor, wait_for_attempts,
};

const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

/// A port on which nobody listens.
fn closed_port() -> String {
    format!("http://{}", free_address())
}

/// Points a provider's interface somewhere else.
fn point(app: &mut App, provider: Provider, url: &str) {
    let name = match provider {
        Provider::Google => "meetlink.google_api_url",
        Provider::Zoom => "meetlink.zoom_api_url",
    };
    app.cluster.set(name, url);
}

fn api_url(app: &App, provider: Provider) -> String {
    match provider {
        Provider::Google => app.simulator.google_api_url(),
        Provider::Zoom => app.simulator.zoom_api_url(),
    }
}

/// Sessions fail at an address where nothing can be sent, and go on once the address is right. A
/// request of which no byte was sent leaves no doubt behind.
fn nothing_is_sent_to(app: &mut App, url: &str, expected: &str) {
    let student = app.person("student", "Sam");
    for (provider, other) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let witness = Witness::new(app, other);
        point(app, provider, url);
        let name = format!("{provider:?} tutor");
        let tutor = app.tutor(provider, &name);
        let session = app.book(tutor, student);
        let attempts = wait_for_attempts(app, session, 2);
        for attempt in &attempts {
            assert_eq!((attempt.class.as_str(), attempt.status), ("retry", None));
            let error = attempt.error.as_deref().expect("an error");
            assert!(error.contains(expected), "{error}");
        }
        assert_plain(&app.status(session));
        witness.still_served(app);
        let right = api_url(app, provider);
        point(app, provider, &right);
        app.wait_for_link(session);
        assert!(!classes(app, session).contains(&"in_doubt".to_owned()));
        assert_eq!(meetings_of(app, provider, &name), 1);
    }
}

#[test]
fn a_refused_connection_is_tried_again_until_the_address_is_right() {
    let mut app = App::with(|options| options.set("meetlink.max_attempts", "1000"));
    nothing_is_sent_to(&mut app, &closed_port(), "connect");
}

#[test]
fn a_name_that_does_not_exist_is_tried_again_until_the_address_is_right() {
    let mut app = App::with(|options| options.set("meetlink.max_attempts", "1000"));
    nothing_is_sent_to(&mut app, "https://does-not-exist.invalid", "name");
}

#[test]
fn a_certificate_that_proves_nothing_is_never_talked_to() {
    for tls in [Tls::Untrusted, Tls::Expired, Tls::WrongName] {
        let options = Options {
            tls,
            ..Options::default()
        };
        let mut app = App::with_simulator(options, |options| {
            options.set("meetlink.max_attempts", "1000")
        });
        let pem = app.simulator.ca_pem().expect("an authority").to_owned();
        let file = app.cluster.write_file("ca.pem", &pem, 0o644);
        app.cluster
            .set("meetlink.ca_file", &file.display().to_string());
        let student = app.person("student", "Sam");
        for provider in BOTH {
            for tutor in [
                app.tutor(provider, "Fresh"),
                stale_tutor(&app, provider, "Stale").0,
            ] {
                let session = app.book(tutor, student);
                let attempts = wait_for_attempts(&app, session, 2);
                for attempt in attempts {
                    assert_eq!((attempt.class.as_str(), attempt.status), ("retry", None));
                    let error = attempt.error.expect("an error");
                    assert!(error.contains("meetlink.ca_file"), "{tls:?}: {error}");
                }
                let status = app.status(session);
                assert!(status["state"] != "in_doubt", "{tls:?}: {status}");
                assert_plain(&status);
            }
        }
        assert_eq!(
            app.simulator.journal_len(),
            0,
            "{tls:?}: a request was sent"
        );
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_once_ca_file_names_it() {
    let options = Options {
        tls: Tls::Trusted,
        ..Options::default()
    };
    let mut app = App::with_simulator(options, |options| {
        options.set("meetlink.max_attempts", "1000")
    });
    let student = app.person("student", "Sam");
    let sessions = BOTH.map(|provider| {
        let (tutor, _) = stale_tutor(&app, provider, &format!("{provider:?}"));
        app.book(tutor, student)
    });
    for session in sessions {
        wait_for_attempts(&app, session, 1);
    }
    assert_eq!(app.simulator.journal_len(), 0);

    // A file that cannot be used stops everything, says so, and loses nothing.
    let pem = app.simulator.ca_pem().expect("an authority").to_owned();
    let junk = app.cluster.write_file("ca.pem", "not a certificate", 0o644);
    app.cluster
        .set("meetlink.ca_file", &junk.display().to_string());
    app.wait_until(
        "the worker to complain",
        "SELECT bool_or(last_error LIKE '%ca_file%') FROM meetlink.workers",
    );
    app.cluster.write_file("ca.pem", &pem, 0o644);
    app.cluster.reload();
    for session in sessions {
        app.wait_for_link(session);
    }
    for provider in BOTH {
        assert_eq!(app.simulator.meetings(provider).len(), 1);
        assert_eq!(app.simulator.total_token_use(provider).killed_token_used, 0);
    }
}

/// A conference is being waited for while the file of authorities cannot be read for a moment.
#[test]
fn a_session_that_rests_survives_a_ca_file_that_is_broken_for_a_while() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    app.simulator
        .set_conference(meetlink_simulator::Conference::PendingForMs(1_000));
    let session = app.book(tutor, student);
    meetlink_e2e::wait::until_true(Duration::from_secs(10), "the first poll", || {
        count(&app, Provider::Google, Call::Get) >= 1
    });
    app.cluster.set("meetlink.ca_file", "/nonexistent/ca.pem");
    app.wait_until(
        "the worker to complain",
        "SELECT bool_or(last_error LIKE '%ca_file%') FROM meetlink.workers",
    );
    // Longer than the longest rest between two polls that are due by now.
    std::thread::sleep(Duration::from_millis(1_200));
    app.cluster.unset("meetlink.ca_file");
    app.wait_for_link(session);
}

/// What may happen to a request that makes a meeting, and whether it did its work.
fn mishaps() -> Vec<(Action, bool)> {
    let garbled = |effect| Action::NotJson { effect };
    vec![
        (Action::ResetBeforeRequest, false),
        (Action::ResetAfterEffect, true),
        (Action::CutBody, true),
        (Action::Close { effect: true }, true),
        (Action::Close { effect: false }, false),
        (Action::Stall { effect: true }, true),
        (Action::Stall { effect: false }, false),
        (garbled(true), true),
        (garbled(false), false),
    ]
}

#[test]
fn a_lost_answer_of_google_costs_no_second_event() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "700ms"));
    let student = app.person("student", "Sam");
    for (index, (action, effect)) in mishaps().into_iter().enumerate() {
        let name = format!("{index} {action:?}");
        let tutor = app.tutor(Provider::Google, &name);
        let rule = Rule::once(Provider::Google, Call::Insert, action).account(&name);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        let mut ever = app.simulator.meetings_ever(Provider::Google);
        ever.retain(|meeting| meeting.account == name);
        assert_eq!(ever.len(), 1, "{name}");
        // An event that may be there is looked for before it is sent again.
        let inserts = support::creates(&app, Provider::Google, &name).len();
        assert!(
            inserts <= 2 - usize::from(effect),
            "{name}: {inserts} inserts"
        );
        assert_eq!(classes(&app, session), ["retry", "made"], "{name}");
    }
}

#[test]
fn a_lost_answer_of_zoom_is_cleared_up_before_anything_is_sent_again() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "700ms"));
    let student = app.person("student", "Sam");
    for (index, (action, effect)) in mishaps().into_iter().enumerate() {
        let name = format!("{index} {action:?}");
        let tutor = app.tutor(Provider::Zoom, &name);
        let rule = Rule::once(Provider::Zoom, Call::Create, action).account(&name);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "in_doubt");
        assert_plain(&status);
        assert_eq!(status["action"], serde_json::Value::Null);
        app.wait_for_link(session);
        let mut ever = app.simulator.meetings_ever(Provider::Zoom);
        ever.retain(|meeting| meeting.account == name);
        assert_eq!(ever.len(), 1, "{name}");
        let mut calls = app.simulator.calls(Provider::Zoom, Call::Any);
        calls.retain(|entry| entry.account.as_deref() == Some(name.as_str()));
        let kinds: Vec<_> = calls.iter().map(|entry| entry.call).collect();
        assert_eq!(kinds[..2], [Call::Create, Call::List], "{name}");
        let creates = kinds.iter().filter(|call| **call == Call::Create).count();
        assert_eq!(creates, 2 - usize::from(effect), "{name}: {kinds:?}");
        // Zoom's list may lag: half a second in this test.
        let pause = calls[1].received_at.mono_ns - calls[0].received_at.mono_ns;
        assert!(pause >= 450_000_000, "{name}: asked after {pause} ns");
    }
}

/// `meetlink_retry` of a person who is in a hurry must not make a second meeting.
#[test]
fn a_retry_in_doubt_looks_before_it_sends() {
    let app = App::with(|options| options.set("meetlink.settle_time", "1500ms"));
    let student = app.person("student", "Sam");
    for (effect, action) in [
        (true, Action::ResetAfterEffect),
        (false, Action::Close { effect: false }),
    ] {
        let name = format!("{effect}");
        let tutor = app.tutor(Provider::Zoom, &name);
        let rule = Rule::once(Provider::Zoom, Call::Create, action).account(&name);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        app.wait_for_state(session, "in_doubt");
        for _ in 0..3 {
            support::retry(&app, session);
        }
        app.wait_for_link(session);
        assert_eq!(meetings_of(&app, Provider::Zoom, &name), 1);
        let creates = support::creates(&app, Provider::Zoom, &name);
        if let [first, second] = &creates[..] {
            let gap = second.received_at.mono_ns - first.received_at.mono_ns;
            assert!(gap >= 1_400_000_000, "sent again after {gap} ns");
        }
        assert_eq!(creates.len(), 2 - usize::from(effect));
    }
}

#[test]
fn a_stall_ends_with_the_time_out_and_holds_nobody_up() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "3s"));
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Provider::Google);
    let tutor = app.tutor(Provider::Google, "Ann");
    let stall = Action::Stall { effect: false };
    let rule = Rule::once(Provider::Google, Call::Any, stall).account("Ann");
    app.simulator.fault(rule);
    let session = app.book(tutor, student);
    let begun = Instant::now();
    witness.still_served(&app);
    assert!(
        begun.elapsed() < Duration::from_millis(2_500),
        "the witness waited"
    );
    let first = wait_for_attempts(&app, session, 1).remove(0);
    let took = (first.ended_at - first.started_at).num_milliseconds();
    assert!((2_900..6_000).contains(&took), "gave up after {took} ms");
    app.wait_for_link(session);
    assert_eq!(last_error(&app, session), None);
}

/// Whether an id is given up for lost depends on how long ago the event may have been made.
#[test]
fn a_doubt_at_google_is_as_old_as_the_last_request_that_may_have_arrived() {
    let app = App::start();
    let lost = Action::Close { effect: false };
    app.simulator
        .fault(Rule::always(Provider::Google, Call::Insert, lost));
    let session = app.book(
        app.tutor(Provider::Google, "Gus"),
        app.person("student", "Sam"),
    );
    let since = |calls: usize| -> chrono::DateTime<chrono::Utc> {
        meetlink_e2e::wait::until_true(meetlink_e2e::app::SOON, "a request", || {
            app.simulator.calls(Provider::Google, Call::Insert).len() >= calls
        });
        let query = "SELECT may_exist_since FROM meetlink.jobs WHERE session_id = $1";
        app.client().query_one(query, &[&session]).unwrap().get(0)
    };
    let first = since(1);
    assert!(since(3) > first);
}
