//! Who is told what: one row for a cause, which goes with it.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Rule};
use notices::{notices as all, of, parked, refused, wait_for, wait_until_resolved};
use postgres::fallible_iterator::FallibleIterator;
use serde_json::{Value, json};

#[test]
fn a_tutor_who_must_act_is_told_once_however_many_sessions_and_retries() {
    let app = App::start();
    let (tutor, session, first) = parked(&app, "Ned");
    assert_eq!(
        (first.kind.as_str(), first.reason.as_str()),
        ("connect", "not_connected")
    );
    assert_eq!(
        (first.session, first.provider.as_deref()),
        (Some(session), None)
    );
    assert_eq!(first.message, app.status(session)["message"]);
    assert_eq!(first.action.as_ref(), Some(&app.status(session)["action"]));
    let student = app.person("student", "Sue");
    let more: Vec<_> = (0..20).map(|_| app.book(tutor, student)).collect();
    for session in &more {
        app.wait_for_state(*session, "needs_action");
    }
    for _ in 0..3 {
        let before = support::ledger(&app, session).len();
        support::retry(&app, session);
        support::wait_for_attempts(&app, session, before + 1);
        app.wait_for_state(session, "needs_action");
    }
    assert_eq!(all(&app).len(), 1, "{:?}", all(&app));
    assert!(!all(&app)[0].resolved);
    // Somebody else is told of his own.
    let (_, _, other) = parked(&app, "Nina");
    assert_ne!(other.id, first.id);
    assert_eq!(all(&app).len(), 2);
}

#[test]
fn a_tutor_who_connects_is_told_no_more() {
    let app = App::start();
    let (tutor, session, first) = parked(&app, "Ned");
    app.connect(tutor, Google, AccountSpec::named("Ned"));
    app.wait_for_link(session);
    let resolved = wait_until_resolved(&app);
    assert_eq!(resolved.len(), 1);
    assert_eq!(resolved[0].id, first.id);

    // A new cause after the cure is told anew.
    let account = app.simulator.account(Google, "Ned").expect("an account");
    app.simulator.revoke(&account);
    let student = app.person("student", "Sue");
    let next = app.book(tutor, student);
    app.wait_for_state(next, "needs_action");
    let second = wait_for(&app, "the next cause", |n| n.id != first.id);
    assert_eq!(
        (second.kind.as_str(), second.reason.as_str()),
        ("reconnect", "consent_revoked")
    );
    assert_eq!(second.provider.as_deref(), Some("google_meet"));
    assert!(!second.resolved);
    app.connect(tutor, Google, AccountSpec::named("Ned again"));
    app.wait_for_link(next);
    assert_eq!(wait_until_resolved(&app).len(), 2);
}

/// As an application does that encrypts tokens itself, in the statement that README prints.
#[test]
fn the_applications_own_update_that_says_connected_counts_as_reconnecting() {
    let app = App::start();
    let (tutor, account) = support::stale_tutor(&app, Zoom, "Zoe");
    let donor = app.person("tutor", "Donor");
    app.simulator.revoke(&account);
    let session = app.book(tutor, app.person("student", "Sam"));
    app.wait_for_state(session, "needs_action");
    wait_for(&app, "Zoe to be told", |n| {
        n.tutor == Some(tutor.0) && n.kind == "reconnect"
    });

    // An envelope belongs to its row, so that meetlink makes one for this very row, held back from
    // the worker; the application's statement then is the one that brings it.
    let fresh = app
        .simulator
        .add_account(Zoom, AccountSpec::named("Zoe anew"));
    let mut client = app.client();
    let mut aside = client.transaction().expect("a transaction");
    aside
        .execute(
            "SELECT meetlink_connect($1, 'zoom', $2, $3, $4)",
            &[
                &tutor.0,
                &fresh.refresh_token,
                &fresh.access_token,
                &fresh.expires_at,
            ],
        )
        .expect("connected");
    let row = aside
        .query_one(
            "SELECT access_token_encrypted, refresh_token_encrypted
               FROM tutor_video_provider_connections WHERE tutor_id = $1",
            &[&tutor.0],
        )
        .expect("a row");
    let (access, refresh): (String, String) = (row.get(0), row.get(1));
    aside.rollback().expect("undone");
    assert!(!of(&app, tutor)[0].resolved);
    let changed = client.execute(
        "UPDATE tutor_video_provider_connections
            SET access_token_encrypted = $2, refresh_token_encrypted = $3, token_expires_at = $4,
                connection_status = 'connected', is_active = true WHERE tutor_id = $1",
        &[&tutor.0, &access, &refresh, &fresh.expires_at],
    );
    assert_eq!(changed.expect("an update"), 1);
    wait_until_resolved(&app);
    app.wait_for_link(session);
    assert!(of(&app, donor).is_empty());
}

/// A tutor with two sessions that wait for him; each comes to this end, and a reload after the second
/// if what is seen by a look alone needs one.
fn end_both(app: &mut App, end: &str, reload: bool) {
    let (tutor, session, notice) = parked(app, "Ned");
    let second = app.book(tutor, app.person("student", "Sue"));
    app.wait_for_state(second, "needs_action");
    let mut client = app.client();
    assert_eq!(client.execute(end, &[&session]).expect("an end"), 1);
    // Somebody else's session that was booked later shows that the end of the first has been seen.
    let (other, _, _) = parked(app, "Nina");
    assert!(!of(app, tutor)[0].resolved, "one session still waits");
    assert_eq!(client.execute(end, &[&second]).expect("an end"), 1);
    if reload {
        app.cluster.reload();
    }
    wait_for(app, end, |n| n.id == notice.id && n.resolved);
    assert!(!of(app, other)[0].resolved);
}

#[test]
fn nobody_is_told_of_sessions_that_are_cancelled() {
    let end = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
    end_both(&mut App::start(), end, false);
}

#[test]
fn nobody_is_told_of_sessions_that_have_another_link() {
    let end = "UPDATE sessions SET join_url = 'https://own.example/1', meeting_external_id = 'own'
                WHERE id = $1";
    end_both(&mut App::start(), end, false);
}

#[test]
fn nobody_is_told_of_sessions_that_are_deleted() {
    end_both(
        &mut App::start(),
        "DELETE FROM sessions WHERE id = $1",
        true,
    );
}

/// Time passes without any trigger: here it has passed in a statement that fires none.
#[test]
fn nobody_is_told_of_sessions_that_are_over() {
    let mut app = App::start();
    let over = "WITH quiet AS (SELECT set_config('session_replication_role', 'replica', true))
                UPDATE sessions SET scheduled_start_at = now() - interval '2 h',
                       scheduled_end_at = now() - interval '1 h'
                  FROM quiet WHERE id = $1";
    end_both(&mut app, over, true);
}

#[test]
fn a_link_in_another_account_is_a_cure_too() {
    let app = App::start();
    let (tutor, session) = {
        let tutor = app.tutor(Google, "Ann");
        let rule = Rule::always(Google, Call::Create, Action::InvalidConferenceType);
        app.simulator.fault(rule.account("Ann"));
        (tutor, app.book(tutor, app.person("student", "Sam")))
    };
    let told = wait_for(&app, "Ann to be told", |n| n.tutor == Some(tutor.0));
    assert_eq!(
        (told.kind.as_str(), told.reason.as_str()),
        ("reconnect", "no_meet_in_calendar")
    );
    // The calendar was mended at Google, and somebody pressed the button: no connection changed.
    app.simulator.clear_faults();
    support::retry(&app, session);
    app.wait_for_link(session);
    assert_eq!(wait_until_resolved(&app).len(), 1);
}

/// The connection itself is in order, and its row is written for reasons of the application's own.
#[test]
fn a_connection_that_changes_without_a_cure_is_not_told_anew() {
    let app = App::start();
    let tutor = app.tutor(Google, "Ann");
    let rule = Rule::always(Google, Call::Create, Action::InvalidConferenceType);
    app.simulator.fault(rule.account("Ann"));
    let session = app.book(tutor, app.person("student", "Sam"));
    wait_for(&app, "Ann to be told", |n| n.tutor == Some(tutor.0));
    for n in 0..3 {
        let before = support::ledger(&app, session).len();
        let touched = app.client().execute(
            "UPDATE tutor_video_provider_connections
                SET updated_at = now(), token_expires_at = token_expires_at + interval '1 s'
              WHERE tutor_id = $1",
            &[&tutor.0],
        );
        assert_eq!(touched.expect("an update"), 1);
        support::retry(&app, session);
        support::wait_for_attempts(&app, session, before + 1);
        app.wait_for_state(session, "needs_action");
        assert_eq!(of(&app, tutor).len(), 1, "after {n}: {:?}", of(&app, tutor));
    }
}

#[test]
fn a_session_that_is_given_up_is_told_once_until_it_has_its_link() {
    let app = App::start();
    let (tutor, session, told) = refused(&app, "Zoe");
    assert_eq!(
        (told.kind.as_str(), told.reason.as_str()),
        ("failed", "request_refused")
    );
    assert_eq!(
        (told.tutor, told.provider.as_deref()),
        (Some(tutor.0), Some("zoom"))
    );
    assert_eq!(told.message, app.status(session)["message"]);
    support::retry(&app, session);
    support::wait_for_attempts(&app, session, 2);
    app.wait_for_state(session, "failed");
    assert_eq!(all(&app).len(), 1);
    // Each session is a matter of its own.
    let other = app.book(tutor, app.person("student", "Sue"));
    app.wait_for_state(other, "failed");
    wait_for(&app, "the other session", |n| n.session == Some(other));
    assert_eq!(all(&app).len(), 2);

    app.simulator.clear_faults();
    support::retry(&app, session);
    app.wait_for_link(session);
    wait_for(&app, "the first to be resolved", |n| {
        n.id == told.id && n.resolved
    });
    assert!(
        of(&app, tutor)
            .iter()
            .any(|n| n.session == Some(other) && !n.resolved)
    );
    app.cluster.psql(
        DATABASE,
        &format!("UPDATE sessions SET status = 'CANCELLED' WHERE id = '{other}'"),
    );
    assert_eq!(wait_until_resolved(&app).len(), 2);
}

#[test]
fn attempts_that_are_used_up_are_told() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
    let tutor = app.tutor(Google, "Ann");
    let down = Rule::always(Google, Call::Any, Action::ServerError { status: 503 });
    app.simulator.fault(down);
    let session = app.book(tutor, app.person("student", "Sam"));
    let told = wait_for(&app, "Ann to be told", |n| n.tutor == Some(tutor.0));
    assert_eq!(
        (told.kind.as_str(), told.session),
        ("failed", Some(session))
    );
    assert_eq!(told.action.as_ref().expect("an action")["kind"], "retry");
    app.simulator.clear_faults();
    support::retry(&app, session);
    app.wait_for_link(session);
    wait_until_resolved(&app);
}

#[test]
fn passing_trouble_is_told_to_nobody() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let down = Action::ServerError { status: 503 };
    for provider in [Google, Zoom] {
        app.simulator
            .fault(Rule::once(provider, Call::Create, down.clone()));
        let session = app.book(app.tutor(provider, &format!("{provider:?}")), student);
        app.wait_for_link(session);
        assert!(support::ledger(&app, session).len() > 1);
    }
    assert!(all(&app).is_empty(), "{:?}", all(&app));
}

#[test]
fn listeners_hear_of_each_notification_once_it_is_there() {
    let app = App::start();
    let mut listener = app.client();
    listener
        .batch_execute("LISTEN meetlink_notifications")
        .unwrap();
    let (tutor, _, notice) = parked(&app, "Ned");
    app.book(tutor, app.person("student", "Sue"));
    let (zoe, _, failed) = refused(&app, "Zoe");
    let mut heard: Vec<Value> = Vec::new();
    wait::until_true(SOON, "both to be heard of", || {
        let mut iterator = listener.notifications();
        let mut pause = iterator.timeout_iter(Duration::from_millis(50));
        while let Ok(Some(notification)) = pause.next() {
            heard.push(serde_json::from_str(notification.payload()).expect("JSON"));
        }
        heard.len() >= 2
    });
    assert_eq!(
        heard,
        [
            json!({"id": notice.id, "tutor_id": tutor.0.to_string(), "kind": "connect"}),
            json!({"id": failed.id, "tutor_id": zoe.0.to_string(), "kind": "failed"}),
        ]
    );
}

/// Sentences and ids of people are no business of monitoring or of the application's roles.
#[test]
fn only_superusers_read_what_people_are_told() {
    let app = App::start();
    parked(&app, "Ned");
    app.cluster.psql(
        DATABASE,
        "CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor; CREATE ROLE passer_by LOGIN;
         ALTER ROLE authenticated LOGIN; ALTER ROLE app_owner LOGIN; ALTER ROLE service_role LOGIN;
         GRANT USAGE ON SCHEMA meetlink TO authenticated, app_owner, service_role, passer_by;",
    );
    for role in [
        "monitor",
        "passer_by",
        "authenticated",
        "app_owner",
        "service_role",
    ] {
        let mut client = app.cluster.connect(DATABASE, role);
        for table in ["notifications", "deliveries", "mail_templates"] {
            for statement in [
                format!("SELECT count(*) FROM meetlink.{table}"),
                format!("DELETE FROM meetlink.{table}"),
            ] {
                let error = client.batch_execute(&statement).expect_err(&statement);
                let code = error.as_db_error().expect("an error").code().code();
                assert_eq!(code, "42501", "{role}: {statement}: {error}");
            }
        }
    }
    let mut monitor = app.cluster.connect(DATABASE, "monitor");
    let open = monitor.query_one(
        "SELECT value FROM meetlink.metrics
          WHERE name = 'meetlink_notifications_open' AND labels->>'kind' = 'connect'",
        &[],
    );
    assert_eq!(
        open.expect("a figure").get::<_, f64>(0),
        1.0,
        "their number is"
    );
}
