//! The meeting is made, and then something of the application's stands in the way.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::{AccountSpec, Action, Call, Provider, Rule};
use support::{Witness, assert_plain, count, provider_of};

const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

#[test]
fn a_link_that_the_application_refuses_is_kept_until_it_is_taken() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let sessions = BOTH.map(|provider| {
        app.cluster.psql(
            "app",
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$BEGIN RAISE 'the application''s own words'; END$$;
             CREATE OR REPLACE TRIGGER refuse BEFORE UPDATE OF join_url ON sessions
               FOR EACH ROW WHEN (NEW.join_url IS NOT NULL) EXECUTE FUNCTION refuse()",
        );
        let session = app.book(app.tutor(provider, &format!("{provider:?}")), student);
        app.wait_until(
            "a refused link",
            &format!("SELECT reason IS NOT DISTINCT FROM 'write_back' FROM meetlink.jobs WHERE session_id = '{session}'"),
        );
        let status = app.status(session);
        assert_plain(&status);
        let message = status["message"].as_str().expect("a message");
        assert!(!message.contains("own words"), "{message}");
        session
    });
    app.cluster.psql("app", "DROP TRIGGER refuse ON sessions");
    for (session, provider) in sessions.into_iter().zip(BOTH) {
        app.wait_for_link(session);
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
        assert_eq!(count(&app, provider, Call::Any), 1);
    }
}

#[test]
fn a_session_that_somebody_has_locked_waits_alone() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Provider::Google);
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let slow = Action::Delay { ms: 300 };
    let rule = app
        .simulator
        .fault(Rule::once(Provider::Zoom, Call::Create, slow));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the create", || app.simulator.fired(rule) == 1);
    let mut person = app.client();
    let mut transaction = person.transaction().expect("a transaction");
    transaction
        .execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", &[&session])
        .expect("the session is locked");
    app.wait_until(
        "the lock to be met",
        &format!("SELECT reason IS NOT DISTINCT FROM 'write_back' FROM meetlink.jobs WHERE session_id = '{session}'"),
    );
    witness.still_served(&app);
    transaction.rollback().expect("the session is free");
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Provider::Zoom).len(), 1);
}

#[test]
fn a_session_that_goes_away_under_way_is_let_go() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let witness = Witness::new(&app, provider);
        for statement in [
            "DELETE FROM sessions WHERE id = $1",
            "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1",
        ] {
            let tutor = app.tutor(provider, "Ann");
            let slow = Action::Delay { ms: 300 };
            let rule = app
                .simulator
                .fault(Rule::once(provider, Call::Create, slow));
            let session = app.book(tutor, student);
            wait::until_true(SOON, "the create", || app.simulator.fired(rule) == 1);
            app.client()
                .execute(statement, &[&session])
                .expect("it goes");
            app.wait_until(
                "the job to end",
                &format!(
                    "SELECT NOT EXISTS (SELECT FROM meetlink.jobs WHERE session_id = '{session}'
                       AND state NOT IN ('not_needed', 'ready'))"
                ),
            );
            witness.still_served(&app);
        }
    }
}

/// The provider had trouble and the tutor went to another one: the old connection is gone for
/// good, and nothing can be found out there any more.
#[test]
fn a_tutor_who_changes_the_provider_in_the_middle_is_served_there() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for (from, to) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let name = format!("from {from:?}");
        let tutor = app.tutor(from, &name);
        let down = Action::ServerError { status: 503 };
        app.simulator
            .fault(Rule::always(from, Call::Any, down).account(&name));
        let session = app.book(tutor, student);
        support::wait_for_attempts(&app, session, 1);
        app.connect(tutor, to, AccountSpec::named(&name));
        app.wait_for_link(session);
        assert_eq!(provider_of(&app, session), name_of(to));
    }
}

/// A tutor connects another account of the same provider while a lost answer is being looked for.
#[test]
fn a_tutor_who_changes_the_account_in_doubt_gets_a_meeting_in_the_new_one() {
    let app = App::with(|options| options.set("meetlink.settle_time", "1s"));
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Old");
    let lost = Action::ResetAfterEffect;
    app.simulator
        .fault(Rule::once(Provider::Zoom, Call::Create, lost));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    app.connect(tutor, Provider::Zoom, AccountSpec::named("New"));
    let link = app.wait_for_link(session);
    let meetings = app.simulator.meetings(Provider::Zoom);
    let mine = meetings
        .iter()
        .find(|m| m.join_url.as_deref() == Some(link.as_str()));
    assert_eq!(mine.expect("its meeting").account, "New");
}

/// A renewed token is not used before it is stored; when the application does not let it be
/// stored, its operator must learn of it, for Zoom's old token is dead.
#[test]
fn a_renewed_token_that_cannot_be_stored_is_told_to_the_operator() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Provider::Google);
    let (tutor, zoe) = support::stale_tutor(&app, Provider::Zoom, "Zoe");
    app.cluster.psql(
        "app",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN RAISE 'the application says no'; END$$;
         CREATE TRIGGER refuse BEFORE UPDATE ON tutor_video_provider_connections
           FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the refresh", || {
        app.simulator.token_use(&zoe).refreshes == 1
    });
    witness.still_served(&app);
    wait::until_true(SOON, "the operator to be told", || {
        let said = "SELECT COALESCE(string_agg(last_error, ' '), '') FROM meetlink.workers";
        app.value::<String>(said)
            .contains("the application's table refuses it")
    });
    // Its own words may quote the row.
    assert!(!app.cluster.log().contains("the application says no"));
    assert_eq!(count(&app, Provider::Zoom, Call::Create), 0);
    app.cluster.psql(
        "app",
        "DROP TRIGGER refuse ON tutor_video_provider_connections",
    );
    app.wait_for_link(session);
    let uses = app.simulator.token_use(&zoe);
    assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
}
