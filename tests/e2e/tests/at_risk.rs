//! `meetlink.at_risk`: sessions that may not take place, soonest first, with the reason and the one
//! who can act; and nobody shown more than they may see.

#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use life::seed_one;
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, RateLimit, Rule};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What the view says of a session: state, reason, who acts. The outer `None`: it does not show it.
fn risk(app: &App, session: Uuid) -> Option<(String, Option<String>, String)> {
    let rows = app.client().query(
        "SELECT state, reason, who_acts FROM meetlink.at_risk WHERE session_id = $1",
        &[&session],
    );
    let rows = rows.expect("the view answers");
    assert!(rows.len() <= 1, "one row a session");
    rows.first().map(|row| (row.get(0), row.get(1), row.get(2)))
}

#[track_caller]
fn assert_risk(app: &App, session: Uuid, state: &str, reason: Option<&str>, who: &str) {
    let expected = (state.to_owned(), reason.map(str::to_owned), who.to_owned());
    assert_eq!(risk(app, session), Some(expected));
}

#[track_caller]
fn assert_no_risk(app: &App, session: Uuid) {
    assert_eq!(risk(app, session), None);
}

fn pause(app: &App) {
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .expect("a pause");
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
}

fn set_connection(app: &App, tutor: Person, change: &str) {
    let done = app.client().execute(
        &format!("UPDATE tutor_video_provider_connections SET {change} WHERE tutor_id = $1"),
        &[&tutor.0],
    );
    assert_eq!(done.expect("the connection changes"), 1);
}

#[test]
fn a_session_that_is_being_made_is_meetlinks_own_business_until_it_has_its_link() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let rule = app
        .simulator
        .fault(Rule::once(Google, Call::Create, Action::Delay { ms: 700 }));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
    assert_risk(&app, session, "creating", None, "meetlink");
    app.wait_for_link(session);
    assert_no_risk(&app, session);
}

#[test]
fn a_session_that_waits_for_its_provider_is_meetlinks_business_until_it_has_its_link() {
    // Long waits: it stays as it is while it is looked at.
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "1min")
            .set("meetlink.backoff_max", "15min")
            .set("meetlink.settle_time", "10min")
    });
    let student = app.person("student", "Sam");
    let tutors = [app.tutor(Google, "Gia"), app.tutor(Zoom, "Zoe")];
    let down = |provider| {
        let action = Action::ServerError { status: 503 };
        app.simulator
            .fault(Rule::once(provider, Call::Create, action));
    };
    down(Google);
    let retrying = app.book(tutors[0], student);
    app.wait_for_state(retrying, "retrying");
    assert_risk(
        &app,
        retrying,
        "retrying",
        Some("provider_down"),
        "meetlink",
    );
    down(Zoom);
    let doubtful = app.book(tutors[1], student);
    app.wait_for_state(doubtful, "in_doubt");
    assert_risk(&app, doubtful, "in_doubt", Some("answer_lost"), "meetlink");
    support::retry(&app, retrying);
    app.wait_for_link(retrying);
    assert_no_risk(&app, retrying);
    app.client()
        .query("SELECT meetlink_resolve($1, 'repost')", &[&doubtful])
        .expect("a decision");
    app.wait_for_link(doubtful);
    assert_no_risk(&app, doubtful);
}

#[test]
fn a_session_whose_provider_must_not_be_called_is_at_risk_for_that_reason() {
    let app = App::with(|options| options.set("meetlink.backoff_max", "15min"));
    let student = app.person("student", "Sam");
    let tutors = [app.tutor(Zoom, "Zoe"), app.tutor(Zoom, "Zac")];
    // A worker with nothing to wait for knows that nobody is held: it looks again when something is.
    let form = RateLimit::ZoomDaily;
    let limit = Rule::always(Zoom, Call::Create, Action::RateLimit { form });
    app.simulator.fault(limit.account("Zac"));
    let limited = app.book(tutors[1], student);
    app.wait_for_state(limited, "retrying");
    let mut client = app.client();
    client
        .batch_execute(
            "INSERT INTO meetlink.holds (provider, until, reason, error)
             VALUES ('zoom', now() + interval '10 min', 'oauth_client', 'Zoom refuses the client.')",
        )
        .expect("a hold");
    let session = app.book(tutors[0], student);
    app.wait_until(
        "a job",
        &format!("SELECT EXISTS (SELECT FROM meetlink.jobs WHERE session_id = '{session}')"),
    );
    // As meetlink_status and meetlink.missing_links tell it.
    assert_eq!(app.status(session)["state"], "retrying");
    assert_risk(&app, session, "retrying", Some("oauth_client"), "operator");
    client
        .batch_execute("UPDATE meetlink.holds SET reason = 'provider_down'")
        .expect("another reason");
    assert_risk(&app, session, "retrying", Some("provider_down"), "meetlink");
}

#[test]
fn a_session_that_waits_for_the_operator_names_the_operator() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, _) = support::stale_tutor(&app, Zoom, "Zoe");
    let (id, secret) = app.simulator.client(Zoom);
    app.simulator.set_client(Zoom, "another", "client");
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    assert_risk(&app, session, "retrying", Some("oauth_client"), "operator");
    app.simulator.set_client(Zoom, &id, &secret);
    app.client()
        .execute(
            "SELECT meetlink_configure_provider('zoom', $1, $2)",
            &[&id, &secret],
        )
        .expect("the client is configured");
    app.wait_for_link(session);
    assert_no_risk(&app, session);
}

#[test]
fn a_session_that_was_given_up_is_the_operators() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let never = Rule::always(Zoom, Call::Create, Action::ZoomCannotSchedule);
    let rule = app.simulator.fault(never);
    let session = app.book(tutor, student);
    let later = app.book_in(tutor, student, 2 * DAY);
    for session in [session, later] {
        app.wait_for_state(session, "failed");
    }
    assert_risk(&app, session, "failed", Some("request_refused"), "operator");
    assert_no_risk(&app, later);
    app.simulator.remove_fault(rule);
    support::retry(&app, session);
    app.wait_for_link(session);
    assert_no_risk(&app, session);
}

#[test]
fn a_tutor_who_is_connected_nowhere_must_act_however_far_the_session_is() {
    let app = App::start();
    let (tutor, student) = (app.person("tutor", "Ned"), app.person("student", "Sam"));
    let sessions = [HOUR, 20 * DAY].map(|ahead| app.book_in(tutor, student, ahead));
    for session in sessions {
        app.wait_for_state(session, "needs_action");
        assert_risk(
            &app,
            session,
            "needs_action",
            Some("not_connected"),
            "tutor",
        );
    }
    app.connect(tutor, Google, AccountSpec::named("Ned"));
    for session in sessions {
        app.wait_for_link(session);
        assert_no_risk(&app, session);
    }
}

#[test]
fn a_connection_that_ended_is_its_tutors_business() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let (tutor, account) = support::stale_tutor(&app, Zoom, "Zoe");
    app.simulator.revoke(&account);
    let sessions = [HOUR, 20 * DAY].map(|ahead| app.book_in(tutor, student, ahead));
    for session in sessions {
        app.wait_for_state(session, "needs_action");
        assert_risk(
            &app,
            session,
            "needs_action",
            Some("consent_revoked"),
            "tutor",
        );
    }
    app.connect(tutor, Zoom, AccountSpec::named("Zoe again"));
    for session in sessions {
        app.wait_for_link(session);
        assert_no_risk(&app, session);
    }
}

/// The connection lives, but this account cannot make meetings.
#[test]
fn what_only_the_tutor_can_mend_names_the_tutor_though_connected() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let rule = app
        .simulator
        .fault(Rule::always(Zoom, Call::Create, Action::ZoomNotAllowed));
    let [soon, later] = [HOUR, 2 * DAY].map(|ahead| app.book_in(tutor, student, ahead));
    for session in [soon, later] {
        app.wait_for_state(session, "needs_action");
    }
    assert_eq!(support::connection_status(&app, tutor), "connected");
    assert_risk(&app, soon, "needs_action", Some("account_refused"), "tutor");
    assert_no_risk(&app, later);
    app.simulator.remove_fault(rule);
    app.connect(tutor, Zoom, AccountSpec::named("Zoe again"));
    app.wait_for_link(soon);
    assert_no_risk(&app, soon);
}

#[test]
fn a_session_with_its_link_is_at_risk_when_its_tutors_connection_is_dead() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let [soon, later] = [HOUR, 2 * DAY].map(|ahead| app.book_in(tutor, student, ahead));
    for session in [soon, later] {
        app.wait_for_link(session);
        assert_no_risk(&app, session);
    }
    for (dead, mended) in [
        (
            "connection_status = 'needs_reauth'",
            "connection_status = 'connected'",
        ),
        (
            "connection_status = 'disconnected'",
            "connection_status = 'connected'",
        ),
        ("is_active = false", "is_active = true"),
    ] {
        set_connection(&app, tutor, dead);
        assert_risk(&app, soon, "ready", Some("not_connected"), "tutor");
        // It has its link, and there is time.
        assert_no_risk(&app, later);
        set_connection(&app, tutor, mended);
        assert_no_risk(&app, soon);
    }
    let mut client = app.client();
    client
        .batch_execute("DELETE FROM tutor_video_provider_connections")
        .expect("the connection goes");
    assert_risk(&app, soon, "ready", Some("not_connected"), "tutor");
}

#[test]
fn a_session_that_nobody_queued_is_the_operators() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    // As sessions from before meetlink, or loaded past its triggers.
    client
        .batch_execute("SET session_replication_role = replica")
        .expect("triggers are off");
    let [soon, later, emptied] = [0; 3].map(|_| seed_one(&mut client, (tutor, student), Google));
    client
        .execute(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '2 days',
                                 scheduled_end_at = scheduled_end_at + interval '2 days'
              WHERE id = $1",
            &[&later],
        )
        .expect("it is later");
    assert_risk(&app, soon, "unknown", Some("not_queued"), "operator");
    assert_no_risk(&app, later);
    app.client()
        .batch_execute("SELECT meetlink_create_missing()")
        .expect("they are queued");
    for session in [soon, later, emptied] {
        app.wait_for_link(session);
        assert_no_risk(&app, session);
    }
    // Emptied by hand past the triggers: its job knows nothing of it.
    client
        .execute(
            "UPDATE sessions SET join_url = NULL WHERE id = $1",
            &[&emptied],
        )
        .expect("it is emptied");
    let (state, reason, who) = risk(&app, emptied).expect("it has no link");
    assert_eq!(
        (reason.as_deref(), who.as_str()),
        (Some("not_queued"), "operator")
    );
    assert_ne!(state, "ready", "it has no link");
}

/// `meetlink_status` and `meetlink.queue` say pending then.
#[test]
fn what_the_worker_has_not_looked_at_yet_is_queued_all_the_same() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    pause(&app);
    let session = app.book(tutor, student);
    assert_eq!(app.status(session)["state"], "pending");
    let (state, reason, _) = risk(&app, session).expect("it has no link");
    assert_eq!((state.as_str(), reason), ("pending", None));
    app.client()
        .batch_execute("SELECT meetlink_resume()")
        .expect("the pause ends");
    app.wait_for_link(session);
    assert_no_risk(&app, session);
}

#[test]
fn only_sessions_that_may_still_take_place_are_shown_soonest_first() {
    let app = App::start();
    let (tutor, student) = (app.person("tutor", "Ned"), app.person("student", "Sam"));
    let hours = [5, 1, 23, 40, 3];
    let sessions = hours.map(|h| app.book_in(tutor, student, h * HOUR));
    let others = [HOUR; 3].map(|ahead| app.book_in(tutor, student, ahead));
    for session in sessions.iter().chain(&others) {
        app.wait_for_state(*session, "needs_action");
    }
    for (session, change) in others.iter().zip([
        "status = 'CANCELLED'",
        "status = 'COMPLETED_ASSUMED'",
        "scheduled_start_at = now() - interval '9 h', scheduled_end_at = now() - interval '8 h'",
    ]) {
        app.client()
            .execute(
                &format!("UPDATE sessions SET {change} WHERE id = $1"),
                &[session],
            )
            .expect("a session changes");
    }
    let rows = app.client().query(
        "SELECT r.session_id, r.tutor_id, r.tutor_name, r.scheduled_start_at = s.scheduled_start_at
           FROM meetlink.at_risk r JOIN sessions s ON s.id = r.session_id",
        &[],
    );
    for row in &rows.expect("the view answers") {
        assert_eq!(row.get::<_, Uuid>(1), tutor.0);
        assert_eq!(row.get::<_, &str>(2), "Ned");
        assert!(row.get::<_, bool>(3));
    }
    let shown = app
        .cluster
        .psql("app", "SELECT session_id FROM meetlink.at_risk");
    let mut expected: Vec<_> = hours.iter().zip(sessions).collect();
    expected.sort();
    let expected: Vec<String> = expected.iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nothing_is_at_risk_without_a_mapping() {
    let app = App::start();
    let (tutor, student) = (app.person("tutor", "Ned"), app.person("student", "Sam"));
    app.book(tutor, student);
    let count = "SELECT count(*) FROM meetlink.at_risk";
    assert_eq!(app.value::<i64>(count), 1);
    app.client()
        .batch_execute("SELECT meetlink_detach()")
        .expect("meetlink is detached");
    assert_eq!(app.value::<i64>(count), 0);
}
