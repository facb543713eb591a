//! `meetlink_resolve`: a person decides what meetlink cannot know.

#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use life::refusal;
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use serde_json::{Value, json};
use support::{assert_plain, call, count, ledger};
use uuid::Uuid;

/// Nothing is settled by waiting within a test.
const LONG: &str = "1h";

fn resolve(app: &App, session: Uuid, decision: &str) -> Value {
    let row = app
        .client()
        .query_one("SELECT meetlink_resolve($1, $2)", &[&session, &decision]);
    row.expect("it is resolved").get(0)
}

/// A session in doubt at Zoom, whose meeting was made or not.
fn in_doubt(app: &App, effect: bool) -> (Person, Uuid) {
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let lost = Action::Close { effect };
    app.simulator.fault(Rule::once(Zoom, Call::Create, lost));
    // Not found until a person says so.
    let blind = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::once(Zoom, Call::List, blind));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    (tutor, session)
}

/// The tutor edits the meeting, so that meetlink's marker is gone.
fn without_marker(app: &App, change: &Value) -> String {
    let zoe = app.simulator.account(Zoom, "Zoe").expect("Zoe");
    let meeting = app.simulator.meetings(Zoom).remove(0);
    let url = format!("{}/meetings/{}", app.simulator.zoom_api_url(), meeting.id);
    assert_eq!(call(&app.simulator, "PATCH", &url, &zoe, Some(change)), 204);
    meeting.join_url.expect("a link")
}

#[test]
fn repost_makes_exactly_one_more_at_once() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, false);
    assert_eq!(count(&app, Zoom, Call::Create), 1);
    let begun = Instant::now();
    let status = resolve(&app, session, "repost");
    assert_eq!(status["session_id"], session.to_string(), "{status}");
    app.wait_for_link(session);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(count(&app, Zoom, Call::Create), 2);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
}

/// The answer to the second is lost as well: it is in doubt again, and not sent a third time.
#[test]
fn a_repost_whose_answer_is_lost_is_in_doubt_again() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, false);
    app.simulator
        .fault(Rule::once(Zoom, Call::Create, Action::ResetAfterEffect));
    resolve(&app, session, "repost");
    wait::until_true(SOON, "the second", || count(&app, Zoom, Call::Create) == 2);
    app.wait_for_state(session, "in_doubt");
    resolve(&app, session, "adopt");
    app.wait_for_link(session);
    assert_eq!(count(&app, Zoom, Call::Create), 2);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
}

#[test]
fn adopt_takes_the_meeting_that_has_the_marker() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, true);
    resolve(&app, session, "adopt");
    let link = app.wait_for_link(session);
    let made = app.simulator.meetings_ever(Zoom);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].join_url, Some(link));
    assert_eq!(count(&app, Zoom, Call::Create), 1);
}

/// A person has rewritten the meeting's description: its time and title still tell which it is.
#[test]
fn adopt_finds_a_meeting_whose_marker_is_gone_by_time_and_title() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, true);
    let link = without_marker(&app, &json!({"agenda": "Please bring your homework."}));
    resolve(&app, session, "adopt");
    assert_eq!(app.wait_for_link(session), link);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
    assert_eq!(count(&app, Zoom, Call::Create), 1);
}

/// There is nothing to adopt: meetlink says so, waits for a decision, and never posts by itself,
/// not even when the settling time is over.
#[test]
fn adopt_with_nothing_there_never_posts() {
    let app = App::with(|options| options.set("meetlink.settle_time", "300ms"));
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let lost = Action::Close { effect: false };
    app.simulator.fault(Rule::once(Zoom, Call::Create, lost));
    let down = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::always(Zoom, Call::List, down));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    // Another's meeting at another time is no find.
    let zoe = app.simulator.account(Zoom, "Zoe").expect("Zoe");
    let url = format!("{}/users/me/meetings", app.simulator.zoom_api_url());
    let start = (chrono::Utc::now() + chrono::Duration::hours(9)).format("%Y-%m-%dT%H:%M:%SZ");
    let other = json!({"topic": "Another", "type": 2, "duration": 50,
                       "start_time": start.to_string()});
    assert_eq!(call(&app.simulator, "POST", &url, &zoe, Some(&other)), 201);
    resolve(&app, session, "adopt");
    app.simulator.clear_faults();
    // Looked at after the settling time, and more than once if it looks more than once.
    wait::until_true(SOON, "a look at the list", || {
        let lists = app.simulator.calls(Zoom, Call::List);
        lists.iter().any(|entry| entry.status == Some(200))
    });
    let begun = Instant::now();
    wait::until_true(SOON, "three settling times", || {
        begun.elapsed() > Duration::from_millis(900)
    });
    assert_eq!(
        count(&app, Zoom, Call::Create),
        2,
        "the first and the other's"
    );
    let status = app.status(session);
    assert_ne!(status["state"], "ready", "{status}");
    assert_ne!(status["state"], "creating", "{status}");
    assert_plain(&status);
    // The way out.
    resolve(&app, session, "repost");
    app.wait_for_link(session);
    assert_eq!(count(&app, Zoom, Call::Create), 3);
    assert!(ledger(&app, session).len() >= 3);
}

#[test]
fn what_is_not_in_doubt_is_not_resolved() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let ready = app.book(app.tutor(Google, "Gia"), student);
    app.wait_for_link(ready);
    let zoom = app.book(app.tutor(Zoom, "Zoe"), student);
    app.wait_for_link(zoom);
    let waiting = app.book(app.person("tutor", "Una"), student);
    app.wait_for_state(waiting, "needs_action");
    let mut client = app.client();
    for session in [ready, zoom, waiting] {
        for decision in ["adopt", "repost"] {
            let (code, message, _) = refusal(
                client.query_one("SELECT meetlink_resolve($1, $2)", &[&session, &decision]),
            );
            assert_eq!(code, "55000", "{decision}: {message}");
        }
    }
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
}

#[test]
fn a_wrong_call_is_refused_and_changes_nothing() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, false);
    let mut client = app.client();
    for decision in ["", "Adopt", "delete", "repost "] {
        let (code, message, _) =
            refusal(client.query_one("SELECT meetlink_resolve($1, $2)", &[&session, &decision]));
        assert_eq!(code, "22023", "{decision}: {message}");
    }
    let nobody = Uuid::new_v4();
    let (code, message, _) =
        refusal(client.query_one("SELECT meetlink_resolve($1, 'adopt')", &[&nobody]));
    assert_eq!(
        (code.as_str(), message),
        ("P0002", format!("session {nobody} not found"))
    );
    assert_eq!(app.status(session)["state"], "in_doubt");
    assert_eq!(count(&app, Zoom, Call::Create), 1);
}

#[test]
fn only_who_may_change_the_session_resolves_it() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (tutor, session) = in_doubt(&app, false);
    let student: Uuid = app.value("SELECT student_id FROM sessions");
    let outsider = app.person("student", "Ola");
    let call = |person: Person| {
        let mut client = app.client();
        let mut transaction = client.transaction().expect("a transaction");
        app.act_as(&mut transaction, person);
        let row = transaction.query_one("SELECT meetlink_resolve($1, 'repost')", &[&session])?;
        transaction.commit()?;
        Ok(row.get::<_, Value>(0))
    };
    let (code, message, _) = refusal(call(tutor));
    assert_eq!(code, "42501", "not granted: {message}");
    app.cluster.psql(
        "app",
        "GRANT EXECUTE ON FUNCTION meetlink_resolve(uuid, text) TO authenticated",
    );
    let (code, message, _) = refusal(call(outsider));
    assert_eq!(
        (code.as_str(), message),
        ("P0002", format!("session {session} not found"))
    );
    let (code, message, hint) = refusal(call(Person(student)));
    assert_eq!(code, "42501", "may only look: {message}");
    assert!(hint.starts_with("meetlink_resolve asks"), "{hint}");
    assert_eq!(count(&app, Zoom, Call::Create), 1);
    call(tutor).expect("the tutor decides");
    app.wait_for_link(session);
    assert_eq!(count(&app, Zoom, Call::Create), 2);
}

/// Two meetings could be the one: no guess is made.
#[test]
fn adopt_does_not_choose_between_two_that_have_no_marker() {
    let app = App::with(|options| options.set("meetlink.settle_time", LONG));
    let (_, session) = in_doubt(&app, true);
    without_marker(&app, &json!({"agenda": "Please bring your homework."}));
    let zoe = app.simulator.account(Zoom, "Zoe").expect("Zoe");
    let url = format!("{}/users/me/meetings", app.simulator.zoom_api_url());
    let mut twin = app.simulator.meetings(Zoom)[0].body.clone();
    twin["agenda"] = json!("Another of the same time and title.");
    assert_eq!(call(&app.simulator, "POST", &url, &zoe, Some(&twin)), 201);
    resolve(&app, session, "adopt");
    wait::until_true(SOON, "a look at the list", || {
        let lists = app.simulator.calls(Zoom, Call::List);
        lists.iter().any(|entry| entry.status == Some(200))
    });
    app.wait_until(
        "the look to be over",
        "SELECT NOT EXISTS (SELECT FROM meetlink.jobs WHERE state = 'creating')
            AND (SELECT count(*) >= 2 FROM meetlink.attempts)",
    );
    let status = app.status(session);
    assert_ne!(status["state"], "ready", "{status}");
    assert_plain(&status);
    assert_eq!(app.simulator.meetings(Zoom).len(), 2, "nothing is removed");
    assert_eq!(count(&app, Zoom, Call::Create), 2);
}

/// Somebody says that the event exists, and its tutor has deleted it: a question for a person, and
/// no reason to stop everybody else's links.
#[test]
fn adopt_of_an_event_that_was_deleted_is_in_doubt_and_stops_nobody() {
    let app = App::with(|options| options.set("meetlink.backoff_base", LONG));
    let (tutor, student) = (app.tutor(Google, "Gus"), app.person("student", "Sam"));
    let lost = Action::Close { effect: true };
    app.simulator.fault(Rule::once(Google, Call::Insert, lost));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    let gus = app.simulator.account(Google, "Gus").expect("Gus");
    let event = app.simulator.meetings(Google).remove(0).id;
    let url = format!(
        "{}/calendars/primary/events/{event}",
        app.simulator.google_api_url()
    );
    assert_eq!(call(&app.simulator, "DELETE", &url, &gus, None), 204);
    resolve(&app, session, "adopt");
    app.wait_for_state(session, "in_doubt");
    app.wait_for_link(app.book(app.tutor(Google, "Gia"), student));
    resolve(&app, session, "repost");
    app.wait_for_link(session);
}
