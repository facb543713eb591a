//! How long meetlink waits: as the provider says, or a growing while, or until somebody has acted.

#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{Action, Call, Provider, RateLimit, Rule};
use serde_json::Value;
use support::{
    Witness, assert_plain, count, creates, last_error, ledger, stale_tutor, wait_for_attempts,
};

/// Seconds between the first and the second request of an account that make a meeting.
fn gap(app: &App, provider: Provider, account: &str) -> f64 {
    let calls = creates(app, provider, account);
    let at = |index: usize| calls[index].received_at.mono_ns;
    (at(1) - at(0)) as f64 / 1e9
}

#[test]
fn the_three_forms_of_retry_after_are_respected() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let forms = [
        ("Seconds", RateLimit::Seconds(2), 2.0),
        // Dates have whole seconds, so that up to one is lost.
        ("HttpDate", RateLimit::HttpDate(3), 2.0),
        ("Iso8601", RateLimit::Iso8601(3), 2.0),
    ];
    let sessions = forms.map(|(name, form, least)| {
        let tutor = app.tutor(Provider::Google, name);
        let limit = Action::RateLimit { form };
        app.simulator
            .fault(Rule::once(Provider::Google, Call::Create, limit).account(name));
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "retrying");
        let next = status["next_attempt_at"].as_str().expect("a time");
        let away: f64 = app.value(&format!(
            "SELECT extract(epoch FROM timestamptz '{next}' - now())::float8"
        ));
        assert!(away > least - 1.0 && away < 4.5, "{name}: in {away} s");
        (session, name, least)
    });
    for (session, name, least) in sessions {
        app.wait_for_link(session);
        let gap = gap(&app, Provider::Google, name);
        assert!(gap >= least && gap < 5.0, "{name}: after {gap} s");
        assert_eq!(creates(&app, Provider::Google, name).len(), 2);
    }
}

#[test]
fn a_server_in_trouble_may_name_the_wait() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in [Provider::Google, Provider::Zoom] {
        let name = format!("{provider:?}");
        let tutor = app.tutor(provider, &name);
        let closed = Action::Status {
            status: 503,
            headers: vec![("retry-after".into(), "2".into())],
            body: String::new(),
            effect: false,
        };
        app.simulator
            .fault(Rule::once(provider, Call::Create, closed));
        app.wait_for_link(app.book(tutor, student));
        let gap = gap(&app, provider, &name);
        assert!((2.0..5.0).contains(&gap), "{name}: after {gap} s");
    }
}

/// "Now", or a date that has passed, as a clock that is ahead reads it: no reason to come at once.
#[test]
fn a_server_that_asks_for_no_wait_at_all_is_not_hurried() {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "2s")
            .set("meetlink.backoff_max", "4s")
    });
    let student = app.person("student", "Sam");
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    let sessions = [
        (Provider::Google, 503, "0", "backendError"),
        (Provider::Google, 403, past, "userRateLimitExceeded"),
    ]
    .map(|(provider, status, asked, reason)| {
        let name = format!("{provider:?} {status}");
        let action = Action::Status {
            status,
            headers: vec![("retry-after".into(), asked.into())],
            body: format!(r#"{{"error": {{"errors": [{{"reason": "{reason}"}}]}}}}"#),
            effect: false,
        };
        app.simulator
            .fault(Rule::always(provider, Call::Create, action).account(&name));
        let session = app.book(app.tutor(provider, &name), student);
        (provider, name, session)
    });
    let begun = Instant::now();
    wait::until_true(SOON, "three seconds of it", || {
        begun.elapsed() >= Duration::from_secs(3)
    });
    for (provider, name, _) in &sessions {
        let tried = creates(&app, *provider, name).len();
        assert!((1..10).contains(&tried), "{name}: {tried} tries");
    }
    app.simulator.clear_faults();
    for (_, _, session) in sessions {
        app.wait_for_link(session);
    }
}

/// Waits grow with each refusal also when refusals use up no attempt.
#[test]
fn a_limit_without_a_hint_is_met_with_growing_waits() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let form = RateLimit::NoHint;
    let limit = Action::RateLimit { form };
    app.simulator
        .fault(Rule::always(Provider::Google, Call::Create, limit).times(10));
    let begun = Instant::now();
    app.wait_for_link(app.book(tutor, student));
    // The bounds of the waits grow from 0.05 to 2 s: all of them together fall below this less than
    // once in a thousand runs. Waits that do not grow take half a second.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900), "only {took:?}");
}

#[test]
fn a_refused_oauth_client_pauses_its_provider_until_it_is_configured() {
    // So long that nothing but the operator's act can end it within the test.
    let app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let student = app.person("student", "Sam");
    let others = Witness::new(&app, Provider::Google);
    for provider in [Provider::Zoom, Provider::Google] {
        let name = match provider {
            Provider::Google => "google_meet",
            Provider::Zoom => "zoom",
        };
        let (id, secret) = app.simulator.client(provider);
        let configure = |secret: &str| {
            let arguments: [&(dyn postgres::types::ToSql + Sync); 3] = [&name, &id, &secret];
            let done = app
                .client()
                .execute("SELECT meetlink_configure_provider($1, $2, $3)", &arguments);
            done.expect("the provider is configured");
        };
        configure("not the secret");
        let (tutor, account) = stale_tutor(&app, provider, name);
        // The second is booked when the client is known to be refused.
        let sessions = [1, 2].map(|_| {
            let session = app.book(tutor, student);
            app.wait_for_state(session, "retrying");
            session
        });
        for session in sessions {
            let status = app.status(session);
            assert_eq!(status["attempts"], 0, "{status}");
            assert_plain(&status);
            let error = last_error(&app, session).expect("an error");
            assert!(!error.contains("not the secret"), "{error}");
        }
        let classes: Vec<_> = sessions.map(|s| support::classes(&app, s)).concat();
        assert!(
            classes.contains(&"operator_must_act".to_owned()),
            "{classes:?}"
        );
        let error = last_error(&app, sessions[0]).expect("an error");
        assert!(
            error.contains("meetlink_configure_provider"),
            "the operator is not told what to do: {error}"
        );
        let asked = count(&app, provider, Call::Token);
        assert!(asked == 1, "{asked} requests with a refused client");
        if provider == Provider::Zoom {
            others.still_served(&app);
        }
        configure(&secret);
        for session in sessions {
            app.wait_for_link(session);
        }
        assert_eq!(app.simulator.token_use(&account).refreshes, 1);
    }
}

#[test]
fn a_provider_that_was_never_configured_waits_for_its_operator() {
    let app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let student = app.person("student", "Sam");
    app.cluster.psql(
        "app",
        "DELETE FROM meetlink.providers WHERE provider = 'zoom'",
    );
    let (tutor, _) = stale_tutor(&app, Provider::Zoom, "Zoe");
    let session = app.book(tutor, student);
    let status = app.wait_for_state(session, "retrying");
    assert_plain(&status);
    let error = last_error(&app, session).expect("an error");
    assert!(error.contains("meetlink_configure_provider"), "{error}");
    let (id, secret) = app.simulator.client(Provider::Zoom);
    app.cluster.psql(
        "app",
        &format!("SELECT meetlink_configure_provider('zoom', '{id}', '{secret}')"),
    );
    app.wait_for_link(session);
}

#[test]
fn trouble_without_end_is_given_up_after_the_last_attempt_and_can_be_asked_for_again() {
    let app = App::with(|options| {
        options
            .set("meetlink.max_attempts", "3")
            .set("meetlink.settle_time", "100ms")
    });
    let student = app.person("student", "Sam");
    for provider in [Provider::Google, Provider::Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        // Refused by the gateway before anything could have been made.
        let down = Action::ServerError { status: 503 };
        app.simulator.fault(Rule::always(provider, Call::Any, down));
        let session = app.book(tutor, student);
        if provider == Provider::Zoom {
            // While the list does not answer either, nobody knows whether a meeting was made.
            wait_for_attempts(&app, session, 6);
            assert_eq!(app.status(session)["state"], "in_doubt");
            assert_eq!(count(&app, provider, Call::Create), 1);
        } else {
            let status = app.wait_for_state(session, "failed");
            assert_eq!(
                (&status["attempts"], &status["action"]["kind"]),
                (&3.into(), &"retry".into())
            );
            assert_eq!(status["next_attempt_at"], Value::Null);
            assert_plain(&status);
            assert_eq!(ledger(&app, session).len(), 3);
            let waiting: i64 =
                app.value("SELECT count(*) FROM meetlink.jobs WHERE due_at IS NOT NULL");
            assert_eq!(waiting, 0);
        }
        app.simulator.clear_faults();
        support::retry(&app, session);
        app.wait_for_link(session);
        assert_eq!(app.simulator.meetings(provider).len(), 1);
    }
}

/// Zoom's list proves each time that nothing was made: that is a failed attempt like any other.
#[test]
fn creates_that_zoom_fails_without_end_are_given_up_too() {
    let app = App::with(|options| {
        options
            .set("meetlink.max_attempts", "3")
            .set("meetlink.settle_time", "100ms")
    });
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let down = Action::ServerError { status: 503 };
    app.simulator
        .fault(Rule::always(Provider::Zoom, Call::Create, down));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the session to be given up", || {
        let calls = count(&app, Provider::Zoom, Call::Create);
        assert!(calls <= 6, "{calls} creates, and it goes on");
        app.status(session)["state"] == "failed"
    });
    assert_eq!(app.status(session)["action"]["kind"], "retry");
    app.simulator.clear_faults();
    support::retry(&app, session);
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings(Provider::Zoom).len(), 1);
}
