//! Connections that end, come back, are written by the application itself, or lie elsewhere.

#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/prov.rs"]
mod support;

use chrono::{DateTime, Utc};
use meetlink_e2e::app::{App, Person, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::{Account, AccountSpec, Action, Call, Options, Provider, Rule};
use support::{
    assert_no_secrets, assert_plain, connect, connection_status, creates, ledger, provider_of,
    stale_tutor,
};
use uuid::Uuid;

const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

/// Writes a connection as an application does that makes the envelopes itself.
fn write_connection(app: &App, tutor: Person, account: &Account, access: bool) {
    let provider = account.provider;
    let sealed = access.then(|| envelope::seal(&account.access_token, &tutor, provider, "access"));
    let end: Option<DateTime<Utc>> = access.then_some(account.expires_at);
    let refresh = envelope::seal(&account.refresh_token, &tutor, provider, "refresh");
    let written = app.client().execute(
        "INSERT INTO tutor_video_provider_connections AS c
                (tutor_id, provider, connection_status, access_token_encrypted,
                 refresh_token_encrypted, token_expires_at)
         VALUES ($1, $2, 'connected', $3, $4, $5)
         ON CONFLICT (tutor_id) DO UPDATE
            SET provider = EXCLUDED.provider, connection_status = 'connected', is_active = true,
                access_token_encrypted = EXCLUDED.access_token_encrypted,
                refresh_token_encrypted = EXCLUDED.refresh_token_encrypted,
                token_expires_at = EXCLUDED.token_expires_at",
        &[&tutor.0, &name_of(provider), &sealed, &refresh, &end],
    );
    assert_eq!(written.expect("a connection"), 1);
}

#[test]
fn a_withdrawn_consent_parks_the_session_until_the_tutor_connects_again() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let name = format!("{provider:?}");
        let (tutor, account) = stale_tutor(&app, provider, &name);
        app.simulator.revoke(&account);
        let sessions = [app.book(tutor, student), app.book(tutor, student)];
        for session in sessions {
            let status = app.wait_for_state(session, "needs_action");
            assert_eq!(status["action"]["kind"], "reconnect");
            assert!(status["action"]["rpc"].is_null(), "{status}");
            assert_plain(&status);
            let last = ledger(&app, session).pop().expect("an attempt");
            assert_eq!(last.class, "tutor_must_act");
        }
        assert_eq!(connection_status(&app, tutor), "needs_reauth");
        assert!(creates(&app, provider, &name).is_empty());

        // A session that is booked now does not try the dead connection again.
        let calls = app.simulator.journal_len();
        let third = app.book(tutor, student);
        let status = app.wait_for_state(third, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect");
        assert_eq!(app.simulator.journal_len(), calls);

        app.connect(tutor, provider, AccountSpec::named(&name));
        for session in sessions.into_iter().chain([third]) {
            app.wait_for_link(session);
        }
        assert_eq!(connection_status(&app, tutor), "connected");
        assert_eq!(app.simulator.meetings(provider).len(), 3);
    }
    assert_no_secrets(&app, &[(BOTH[0], "Google"), (BOTH[1], "Zoom")]);
}

/// The tutor connects again while the old token's refresh is under way; its refusal must not fall
/// on the new connection.
#[test]
fn a_refusal_of_the_old_token_does_not_mark_the_new_connection() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let (tutor, old) = stale_tutor(&app, provider, &format!("{provider:?} Old"));
        app.simulator.revoke(&old);
        let slow = Action::Delay { ms: 600 };
        let rule = app.simulator.fault(Rule::once(provider, Call::Token, slow));
        let session = app.book(tutor, student);
        wait::until_true(SOON, "the refresh to arrive", || {
            app.simulator.fired(rule) == 1
        });
        app.connect(tutor, provider, AccountSpec::named("New"));
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected");
        assert_eq!(creates(&app, provider, "New").len(), 1);
    }
}

/// The same, with a session that is booked after the tutor connected again, by way of a refresh
/// token alone: it must not wait for the old token's refresh and share its fate.
#[test]
fn a_session_of_the_new_connection_does_not_share_the_old_ones_refresh() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let (tutor, old) = stale_tutor(&app, provider, &format!("{provider:?} Old"));
        app.simulator.revoke(&old);
        let slow = Action::Delay { ms: 800 };
        let rule = app.simulator.fault(Rule::once(provider, Call::Token, slow));
        let first = app.book(tutor, student);
        wait::until_true(SOON, "the refresh to arrive", || {
            app.simulator.fired(rule) == 1
        });
        let new = app
            .simulator
            .add_account(provider, AccountSpec::named("New"));
        connect(&app, tutor, provider, &new.refresh_token, None);
        let second = app.book(tutor, student);
        for session in [first, second] {
            app.wait_for_link(session);
        }
        assert_eq!(connection_status(&app, tutor), "connected");
        assert_eq!(app.simulator.token_use(&new).killed_token_used, 0);
    }
}

#[test]
fn an_envelope_that_the_application_made_serves_and_frees_what_waits() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        for (access, kind) in [(true, "with"), (false, "without")] {
            let name = format!("{provider:?} {kind}");
            let tutor = app.person("tutor", &name);
            let session = app.book(tutor, student);
            let status = app.wait_for_state(session, "needs_action");
            assert_eq!(status["action"]["kind"], "connect");
            assert_plain(&status);
            let account = app
                .simulator
                .add_account(provider, AccountSpec::named(&name));
            write_connection(&app, tutor, &account, access);
            app.wait_for_link(session);
            assert_eq!(provider_of(&app, session), name_of(provider));
            assert_eq!(
                app.simulator.token_use(&account).refreshes,
                u64::from(!access)
            );
        }
    }
}

/// Tokens alone are no word that the connection works: README prints the whole statement.
#[test]
fn an_application_that_renews_an_ended_connection_itself_has_to_say_that_it_is_connected() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let (tutor, old) = stale_tutor(&app, provider, &format!("{provider:?} Old"));
        let other = app.tutor(provider, &format!("{provider:?} Other"));
        app.simulator.revoke(&old);
        let session = app.book(tutor, student);
        app.wait_for_state(session, "needs_action");
        let new = app
            .simulator
            .add_account(provider, AccountSpec::named("New"));
        let changed = app.client().execute(
            "UPDATE tutor_video_provider_connections SET refresh_token_encrypted = $2
              WHERE tutor_id = $1",
            &[
                &tutor.0,
                &envelope::seal(&new.refresh_token, &tutor, provider, "refresh"),
            ],
        );
        assert_eq!(changed.expect("an update"), 1);
        // Whatever came of it has come once a later booking of somebody else has its link.
        app.wait_for_link(app.book(other, student));
        assert_eq!(connection_status(&app, tutor), "needs_reauth");
        assert_eq!(app.status(session)["state"], "needs_action");

        write_connection(&app, tutor, &new, false);
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected");
    }
}

#[test]
fn a_guessed_provider_gives_way_to_the_one_the_tutor_is_connected_to() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.person("tutor", "Zoe");
    let session = app.book(tutor, student);
    app.wait_for_state(session, "needs_action");
    assert_eq!(provider_of(&app, session), "google_meet");
    app.connect(tutor, Provider::Zoom, AccountSpec::named("Zoe"));
    let link = app.wait_for_link(session);
    let made = app.simulator.meetings(Provider::Zoom);
    assert_eq!(made[0].join_url.as_deref(), Some(link.as_str()));
    assert_eq!(provider_of(&app, session), "zoom");
    assert_eq!(app.status(session)["provider"], "zoom");
    assert_eq!(
        ledger(&app, session).pop().unwrap().provider.as_deref(),
        Some("zoom")
    );
    assert!(app.simulator.calls(Provider::Google, Call::Any).is_empty());
}

/// A session with a provider that the application names, past its own trigger's guess.
fn session_at(app: &App, tutor: Person, student: Person, provider: Provider) -> Uuid {
    let row = app.client().query_one(
        "WITH b AS (
           INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id)
         INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes)
         SELECT b.id, $1, $2, $3, now() + interval '1 h', now() + interval '2 h', 60 FROM b
         RETURNING id",
        &[&tutor.0, &student.0, &name_of(provider)],
    );
    row.expect("a session").get(0)
}

#[test]
fn a_tutor_may_have_a_connection_at_each_provider() {
    let app = App::unattached(Options::default(), |options| options);
    app.cluster.psql(
        "app",
        "ALTER TABLE tutor_video_provider_connections
           DROP CONSTRAINT tutor_video_provider_connections_tutor_id_key,
           ADD UNIQUE (tutor_id, provider)",
    );
    app.attach();
    let student = app.person("student", "Sam");
    let tutor = app.person("tutor", "Ann");
    for provider in BOTH {
        app.connect(tutor, provider, AccountSpec::named("Ann"));
    }
    for provider in BOTH {
        let session = session_at(&app, tutor, student, provider);
        app.wait_for_link(session);
        assert_eq!(provider_of(&app, session), name_of(provider));
        assert_eq!(app.simulator.meetings(provider).len(), 1);
    }

    // One connection ends: the other is none the worse, and takes over what comes.
    let google = app.simulator.account(Provider::Google, "Ann").expect("Ann");
    app.simulator.revoke(&google);
    let session = session_at(&app, tutor, student, Provider::Google);
    let status = app.wait_for_state(session, "needs_action");
    assert_eq!(status["provider"], "google_meet");
    let states = app.cluster.psql(
        "app",
        "SELECT provider, connection_status FROM tutor_video_provider_connections ORDER BY 1",
    );
    assert_eq!(states, "google_meet|needs_reauth\nzoom|connected");
    let next = session_at(&app, tutor, student, Provider::Google);
    app.wait_for_link(next);
    assert_eq!(provider_of(&app, next), "zoom");

    // Coming back to one leaves the other as it is.
    app.connect(tutor, Provider::Google, AccountSpec::named("Ann"));
    app.wait_for_link(session);
    assert_eq!(provider_of(&app, session), "google_meet");
    assert_eq!(app.simulator.meetings(Provider::Zoom).len(), 2);
}

#[test]
fn a_disconnected_tutor_is_asked_to_connect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let gone: bool = app.value(&format!(
        "SELECT meetlink_disconnect('{}', 'zoom')",
        tutor.0
    ));
    assert!(gone);
    let session = app.book(tutor, student);
    let status = app.wait_for_state(session, "needs_action");
    assert_eq!(status["action"]["kind"], "connect");
    assert!(app.simulator.journal().is_empty());
    let stored: bool = app.value(
        "SELECT bool_or(access_token_encrypted IS NOT NULL OR refresh_token_encrypted IS NOT NULL)
           FROM tutor_video_provider_connections",
    );
    assert!(!stored, "the tokens are forgotten");
    app.connect(tutor, Provider::Google, AccountSpec::named("Zoe"));
    app.wait_for_link(session);
    assert_eq!(provider_of(&app, session), "google_meet");
}
