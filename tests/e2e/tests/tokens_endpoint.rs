//! What the token endpoints answer instead of a token.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::App;
use meetlink_simulator::{AccountSpec, Action, Call, Provider, RateLimit, Rule};
use support::{
    Witness, assert_plain, classes, connection_status, count, last_error, ledger, stale_tutor,
    wait_for_attempts,
};

use Provider::{Google, Zoom};

fn refusal(status: u16, error: &str, why: Option<&str>) -> Action {
    Action::TokenError {
        status,
        error: error.into(),
        why: why.map(Into::into),
    }
}

#[test]
fn every_form_of_a_dead_grant_asks_the_tutor_to_reconnect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for (index, (provider, action)) in [
        (
            Google,
            refusal(
                400,
                "invalid_grant",
                Some("Token has been expired or revoked."),
            ),
        ),
        (Google, refusal(400, "invalid_grant", None)),
        (Zoom, refusal(400, "invalid_grant", Some("Invalid Token!"))),
        (Zoom, refusal(400, "invalid_grant", None)),
        (
            Zoom,
            refusal(400, "invalid_request", Some("Invalid Token!")),
        ),
        (Zoom, refusal(401, "invalid_grant", None)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{provider:?} {index}");
        let (tutor, _) = stale_tutor(&app, provider, &name);
        app.simulator
            .fault(Rule::always(provider, Call::Token, action).account(&name));
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect", "{name}");
        assert_plain(&status);
        assert_eq!(connection_status(&app, tutor), "needs_reauth", "{name}");
        let error = last_error(&app, session).expect("an error");
        assert!(
            !error.contains("Token has been") && !error.contains('!'),
            "{error}"
        );
        assert_eq!(classes(&app, session), ["tutor_must_act"], "{name}");
        app.connect(tutor, provider, AccountSpec::named(format!("{name} again")));
        app.wait_for_link(session);
    }
}

/// Zoom says `invalid_request` of a malformed request too: no tutor is sent through a consent for it.
#[test]
fn a_request_that_zoom_calls_invalid_ends_no_consent() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for why in [None, Some("Bad Request")] {
        let name = format!("{why:?}");
        let (tutor, account) = stale_tutor(&app, Zoom, &name);
        let action = refusal(400, "invalid_request", why);
        app.simulator
            .fault(Rule::once(Zoom, Call::Token, action).account(&name));
        let session = app.book(tutor, student);
        let first = wait_for_attempts(&app, session, 1).remove(0);
        assert_eq!(first.class, "operator_must_act", "{name}");
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected", "{name}");
        assert_eq!(app.simulator.token_use(&account).refreshes, 1, "{name}");
    }
}

#[test]
fn passing_trouble_at_the_token_endpoint_parks_nobody() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "700ms"));
    let student = app.person("student", "Sam");
    let limit = |form| Action::RateLimit { form };
    for provider in [Google, Zoom] {
        for (index, action) in [
            Action::ServerError { status: 503 },
            Action::Html { status: 502 },
            Action::Xml { status: 500 },
            limit(RateLimit::NoHint),
            limit(RateLimit::Seconds(1)),
            Action::Stall { effect: false },
            Action::ResetBeforeRequest,
            Action::Close { effect: false },
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("{provider:?} {index} {action:?}");
            let (tutor, account) = stale_tutor(&app, provider, &name);
            app.simulator
                .fault(Rule::once(provider, Call::Token, action));
            let session = app.book(tutor, student);
            let first = wait_for_attempts(&app, session, 1).remove(0);
            assert!(first.class.starts_with("retry"), "{name}: {first:?}");
            assert_plain(&app.status(session));
            app.wait_for_link(session);
            assert_eq!(connection_status(&app, tutor), "connected", "{name}");
            let uses = app.simulator.token_use(&account);
            assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0), "{name}");
            // No request to make a meeting was sent, so there is no doubt about one.
            assert!(
                !classes(&app, session).contains(&"in_doubt".to_owned()),
                "{name}"
            );
        }
    }
}

/// The answer with Zoom's next refresh token is lost on the way: the old one is dead, the new one
/// unknown. Nobody but the tutor can help, and that must be said rather than tried for ever.
#[test]
fn a_lost_rotation_ends_with_the_tutor() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for action in [Action::ResetAfterEffect, Action::CutBody] {
        let name = format!("{action:?}");
        let (tutor, account) = stale_tutor(&app, Zoom, &name);
        app.simulator
            .fault(Rule::once(Zoom, Call::Token, action).account(&name));
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect");
        assert_eq!(connection_status(&app, tutor), "needs_reauth");
        assert_eq!(app.simulator.token_use(&account).killed_token_used, 1);
        assert_eq!(classes(&app, session), ["retry", "tutor_must_act"]);
        app.connect(tutor, Zoom, AccountSpec::named(format!("{name} again")));
        app.wait_for_link(session);
    }
    // Google's refresh token outlives a lost answer.
    let (tutor, _) = stale_tutor(&app, Google, "Ann");
    app.simulator
        .fault(Rule::once(Google, Call::Token, Action::CutBody));
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(classes(&app, session), ["retry", "made"]);
}

#[test]
fn a_token_is_never_sent_after_a_redirect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in [Google, Zoom] {
        let witness = Witness::new(&app, provider);
        let name = format!("{provider:?}");
        let (tutor, _) = stale_tutor(&app, provider, &name);
        let away = Action::Redirect {
            status: 307,
            location: format!("{}/elsewhere", app.simulator.url()),
        };
        app.simulator
            .fault(Rule::always(provider, Call::Token, away).account(&name));
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "failed");
        assert_eq!(status["action"]["kind"], "contact_support");
        assert_plain(&status);
        let error = last_error(&app, session).expect("an error");
        assert!(error.contains("_token_url"), "{error}");
        witness.still_served(&app);
        app.simulator.clear_faults();
        support::retry(&app, session);
        app.wait_for_link(session);
    }
    let journal = app.simulator.journal();
    assert!(
        journal
            .iter()
            .all(|entry| !entry.path.contains("elsewhere"))
    );
}

#[test]
fn an_end_of_the_token_in_the_middle_of_an_attempt_makes_no_second_meeting() {
    let app = App::start();
    let student = app.person("student", "Sam");
    // Google: the conference is pending, and the poll finds the token over.
    let tutor = app.tutor(Google, "Ann");
    app.simulator
        .set_conference(meetlink_simulator::Conference::PendingForMs(400));
    app.simulator
        .fault(Rule::once(Google, Call::Get, Action::Unauthorized));
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
    assert_eq!(count(&app, Google, Call::Token), 1);

    // Zoom: the create's answer lacks the link, and reading the meeting finds the token over.
    let tutor = app.tutor(Zoom, "Zoe");
    let partial = Action::Status {
        status: 201,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"{"id": 99999999999}"#.into(),
        effect: true,
    };
    app.simulator.fault(Rule::once(Zoom, Call::Create, partial));
    app.simulator
        .fault(Rule::once(Zoom, Call::Get, Action::Unauthorized));
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
    assert_eq!(count(&app, Zoom, Call::Create), 1);
    assert!(ledger(&app, session).len() <= 3);
}
