//! Access tokens that are over or refused, and refresh tokens that can be used once.

#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{AccountSpec, Action, Call, Latency, Provider, Rule};
use support::{
    assert_no_secrets, assert_plain, book_many, connect, connection_status, count, creates, ledger,
    stale_tutor,
};

const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

/// The stored envelopes of a tutor: access, refresh.
fn envelopes(app: &App, tutor: Person) -> (Option<String>, String) {
    let row = app.client().query_one(
        "SELECT access_token_encrypted, refresh_token_encrypted
           FROM tutor_video_provider_connections
          WHERE tutor_id = $1",
        &[&tutor.0],
    );
    let row = row.expect("a connection");
    (row.get(0), row.get(1))
}

#[test]
fn a_stale_access_token_is_refreshed_before_it_is_used() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let (tutor, account) = stale_tutor(&app, provider, &name);
        let before = envelopes(&app, tutor);
        let session = app.book(tutor, student);
        app.wait_for_link(session);

        let statuses: Vec<_> = creates(&app, provider, &name)
            .iter()
            .map(|entry| entry.status.unwrap_or(0))
            .collect();
        assert_eq!(statuses.len(), 1, "{statuses:?}");
        assert_eq!(app.simulator.token_use(&account).refreshes, 1);
        let after = envelopes(&app, tutor);
        assert_ne!(after.0, before.0, "the new access token is stored");
        let now = app.simulator.account(provider, &name).expect("an account");
        let refresh = envelope::open(&after.1, &tutor, provider, "refresh");
        assert_eq!(refresh, now.refresh_token);
        assert_eq!(after.1 == before.1, provider == Provider::Google);

        app.wait_for_link(app.book(tutor, student));
        let uses = app.simulator.token_use(&account);
        assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
    }
    assert_no_secrets(&app, &[(BOTH[0], "Google"), (BOTH[1], "Zoom")]);
}

#[test]
fn a_refused_access_token_is_refreshed_once() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let tutor = app.tutor(provider, &name);
        let account = app.simulator.account(provider, &name).expect("an account");
        app.simulator.expire_access_tokens(&account);
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        assert_eq!(creates(&app, provider, &name).len(), 2);
        assert_eq!(app.simulator.token_use(&account).refreshes, 1);
        assert_eq!(app.simulator.meetings(provider).len(), 1);
        let attempts = ledger(&app, session);
        assert_eq!(attempts.len(), 1, "{attempts:?}");
    }
}

#[test]
fn a_second_refusal_asks_the_tutor_to_reconnect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let tutor = app.tutor(provider, &name);
        let rule = Rule::always(provider, Call::Create, Action::Unauthorized);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect");
        assert_plain(&status);
        assert_eq!(connection_status(&app, tutor), "needs_reauth");
        assert_eq!(count(&app, provider, Call::Create), 2);
        assert_eq!(count(&app, provider, Call::Token), 1);
        let last = ledger(&app, session).pop().expect("an attempt");
        assert_eq!(
            (last.class.as_str(), last.status),
            ("tutor_must_act", Some(401))
        );

        app.simulator.clear_faults();
        app.connect(tutor, provider, AccountSpec::named("again"));
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected");
    }
}

#[test]
fn twenty_sessions_of_one_tutor_share_one_refresh() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let latency = Latency {
            api_ms: 20,
            token_ms: 200,
        };
        app.simulator.set_latency(provider, latency);
        let (tutor, account) = stale_tutor(&app, provider, &format!("{provider:?}"));
        for session in book_many(&app, tutor, student, 20) {
            app.wait_for_link(session);
        }
        let uses = app.simulator.token_use(&account);
        assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
        assert_eq!(count(&app, provider, Call::Token), 1);
        assert_eq!(app.simulator.meetings(provider).len(), 20);
    }
}

/// One session's 401 arrives when the refresh that another's 401 began is already over: the token
/// has been renewed, and the refresh token that the late session knows is dead.
#[test]
fn a_late_refusal_finds_the_token_that_was_renewed_meanwhile() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let zoe = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
    app.simulator.expire_access_tokens(&zoe);
    let late = Action::Delay { ms: 600 };
    app.simulator
        .fault(Rule::once(Provider::Zoom, Call::Create, late));
    for session in book_many(&app, tutor, student, 2) {
        app.wait_for_link(session);
    }
    let uses = app.simulator.token_use(&zoe);
    assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
    assert_eq!(count(&app, Provider::Zoom, Call::Token), 1);
}

#[test]
fn zooms_rotated_token_is_stored_before_the_access_token_is_used() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, zoe) = stale_tutor(&app, Provider::Zoom, "Zoe");
    let slow = Action::Delay { ms: 1_500 };
    let rule = app
        .simulator
        .fault(Rule::once(Provider::Zoom, Call::Create, slow));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the create to arrive", || {
        app.simulator.fired(rule) == 1
    });
    let (_, stored) = envelopes(&app, tutor);
    let now = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
    assert_ne!(now.refresh_token, zoe.refresh_token);
    assert_eq!(
        envelope::open(&stored, &tutor, Provider::Zoom, "refresh"),
        now.refresh_token
    );

    // Stored means that a crash does not lose it.
    app.cluster.crash();
    app.cluster.start_again();
    assert_eq!(envelopes(&app, tutor).1, stored);
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings(Provider::Zoom).len(), 1);
    assert_eq!(app.simulator.token_use(&zoe).killed_token_used, 0);
}

#[test]
fn a_dead_refresh_token_is_never_offered_however_often_it_is_rotated() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let spec = AccountSpec {
            // So short that every session finds it over.
            access_lifetime_s: 30,
            ..AccountSpec::named(&name)
        };
        let tutor = app.person("tutor", &name);
        app.connect(tutor, provider, spec);
        let account = app.simulator.account(provider, &name).expect("an account");
        for round in 1..=6 {
            app.wait_for_link(app.book(tutor, student));
            let over = "UPDATE tutor_video_provider_connections SET token_expires_at = now()";
            app.client().execute(over, &[]).expect("the token is over");
            assert_eq!(app.simulator.token_use(&account).refreshes, round);
        }
        assert_eq!(app.simulator.token_use(&account).killed_token_used, 0);
    }
}

/// A person has the row locked at the moment when the new token must be written: it cannot be lost
/// for that, nor used before, and nobody else waits for it.
#[test]
fn a_rotated_token_waits_for_a_locked_row() {
    let app = App::start();
    let witness = support::Witness::new(&app, Provider::Zoom);
    let student = app.person("student", "Sam");
    let (tutor, zoe) = stale_tutor(&app, Provider::Zoom, "Zoe");
    let mut person = app.client();
    let mut transaction = person.transaction().expect("a transaction");
    transaction
        .execute(
            "SELECT FROM tutor_video_provider_connections WHERE tutor_id = $1 FOR UPDATE",
            &[&tutor.0],
        )
        .expect("the row is locked");
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the refresh", || {
        app.simulator.token_use(&zoe).refreshes == 1
    });
    witness.still_served(&app);
    assert_eq!(creates(&app, Provider::Zoom, "Zoe").len(), 0);
    transaction.rollback().expect("the row is free");
    app.wait_for_link(session);
    let uses = app.simulator.token_use(&zoe);
    assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
}

/// The key file breaks between the request for a new token and its answer. Zoom's old token is
/// dead by then: the new one must be kept until it can be stored.
#[test]
fn a_rotated_token_outlives_a_key_file_that_is_broken_for_a_while() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, zoe) = stale_tutor(&app, Provider::Zoom, "Zoe");
    let slow = Action::Delay { ms: 700 };
    let rule = app
        .simulator
        .fault(Rule::once(Provider::Zoom, Call::Token, slow));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the refresh to arrive", || {
        app.simulator.fired(rule) == 1
    });
    app.cluster.write_file("meetlink.keys", "broken", 0o600);
    app.cluster.reload();
    wait::until_true(SOON, "the refresh to be answered", || {
        let calls = app.simulator.calls(Provider::Zoom, Call::Token);
        calls.iter().any(|entry| entry.answered_at.is_some())
    });
    // Time for the worker to make the mistake; nothing tells when it has not.
    std::thread::sleep(Duration::from_millis(300));
    let (id, hex) = meetlink_e2e::app::KEY;
    app.cluster.write_key_file(&[(id, hex)]);
    app.cluster.reload();
    app.wait_for_link(session);
    let uses = app.simulator.token_use(&zoe);
    assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
}

#[test]
fn without_a_refresh_token_that_opens_a_fresh_access_token_still_serves() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.person("tutor", "Ann");
    let account = app
        .simulator
        .add_account(Provider::Google, AccountSpec::named("Ann"));
    let access = Some((account.access_token.as_str(), account.expires_at));
    connect(
        &app,
        tutor,
        Provider::Google,
        "a token of no account",
        access,
    );
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(count(&app, Provider::Google, Call::Token), 0);
}
