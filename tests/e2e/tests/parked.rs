//! Whatever is parked has somebody who can set it going, and nobody can stop the worker for others.

#[path = "support/cases.rs"]
mod support;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Rule};
use support::prov::{meetings_of, retry};
use support::{change, in_doubt, trouble, under_way, wait_for_job};

fn redirect() -> Action {
    Action::Redirect {
        status: 302,
        location: "https://example.org/".to_owned(),
    }
}

/// An orphan waits for the tutor in whose account it is, whoever the session names by then.
#[test]
fn an_orphan_goes_when_its_own_tutor_connects() {
    let app = App::start();
    let (tutor, session) = under_way(&app, Zoom, "Ann");
    let other = app.tutor(Zoom, "Bob");
    let account = app.simulator.account(Zoom, "Ann").expect("an account");
    let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
    change(&app, session, cancel);
    wait::until_true(SOON, "the meeting", || meetings_of(&app, Zoom, "Ann") == 1);
    app.simulator.revoke(&account);
    wait_for_job(&app, session, "wish = 'gone' AND state = 'needs_action'");
    let give = format!("UPDATE sessions SET tutor_id = '{}' WHERE id = $1", other.0);
    change(&app, session, &give);
    app.wait_until(
        "the change to be looked at",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    wait_for_job(&app, session, "state = 'needs_action'");
    app.connect(tutor, Zoom, AccountSpec::named("Ann"));
    wait::until_true(SOON, "the removal", || meetings_of(&app, Zoom, "Ann") == 0);
}

/// Something on the way refuses what is asked, for a while.
#[test]
fn a_removal_that_was_refused_is_not_given_up() {
    let app = App::start();
    let rule = app
        .simulator
        .fault(Rule::always(Zoom, Call::Delete, redirect()));
    let (_, session) = under_way(&app, Zoom, "Ann");
    change(&app, session, "DELETE FROM sessions WHERE id = $1");
    wait::until_true(SOON, "a refusal", || app.simulator.fired(rule) >= 1);
    app.simulator.clear_faults();
    wait::until_true(SOON, "the removal", || meetings_of(&app, Zoom, "Ann") == 0);
}

/// The same while a meeting in doubt is looked for, and its session is deleted: no trigger tells.
#[test]
fn a_doubt_whose_look_was_refused_outlives_its_session() {
    let app = App::start();
    let session = in_doubt(&app, Zoom, "Ann");
    app.simulator.clear_faults();
    let rule = app
        .simulator
        .fault(Rule::always(Zoom, Call::List, redirect()));
    wait::until_true(SOON, "a refusal", || app.simulator.fired(rule) >= 1);
    change(&app, session, "DELETE FROM sessions WHERE id = $1");
    app.simulator.clear_faults();
    let tutor: uuid::Uuid = app.value("SELECT id FROM profiles WHERE full_name = 'Ann'");
    app.connect(
        meetlink_e2e::app::Person(tutor),
        Zoom,
        AccountSpec::named("Ann"),
    );
    wait::until_true(SOON, "the removal", || meetings_of(&app, Zoom, "Ann") == 0);
}

/// The worker says what to do, and that helps.
#[test]
fn a_lost_home_is_mended_by_the_word() {
    let app = App::start();
    let tutor = app.tutor(Google, "Ann");
    let student = app.person("student", "Sam");
    app.client()
        .batch_execute("DELETE FROM meetlink.home")
        .expect("the row goes");
    app.wait_until(
        "the worker to say so",
        "SELECT COALESCE(last_error ~ 'meetlink_resume', false) FROM meetlink.workers",
    );
    assert!(app.value::<bool>("SELECT meetlink_resume()"));
    app.wait_for_link(app.book(tutor, student));
}

/// A person decides in a transaction that stays open, and asks for a try from elsewhere.
#[test]
fn a_decision_in_an_open_transaction_stops_nobody() {
    let app = App::start();
    app.client()
        .batch_execute("GRANT EXECUTE ON FUNCTION meetlink_resolve(uuid, text) TO authenticated")
        .expect("a grant");
    let tutor = app.tutor(Zoom, "Ann");
    let other = app.tutor(Zoom, "Bob");
    let student = app.person("student", "Sam");
    let lost = Rule::once(Zoom, Call::Create, Action::ResetAfterEffect);
    app.simulator.fault(lost);
    app.simulator
        .fault(Rule::always(Zoom, Call::List, trouble()));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    let mut client = app.client();
    let mut open = client.transaction().expect("a transaction");
    app.act_as(&mut open, tutor);
    wait::until_true(SOON, "a moment without an attempt", || {
        let mut inner = open.transaction().expect("a savepoint");
        let decided = inner.execute("SELECT meetlink_resolve($1, 'adopt')", &[&session]);
        decided.is_ok() && inner.commit().is_ok()
    });
    retry(&app, session);
    app.wait_for_link(app.book(other, student));
    open.commit().expect("it commits");
}
