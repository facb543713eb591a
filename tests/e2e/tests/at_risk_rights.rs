//! `meetlink.at_risk` shows people their own sessions, for the reason that the tutor sees.

#[path = "support/life.rs"]
mod life;

use std::time::Duration;

use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Action, Call, Rule};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(86_400);

const GRANTS: &str = "GRANT USAGE ON SCHEMA meetlink TO authenticated;
    GRANT SELECT ON meetlink.at_risk TO authenticated;
    GRANT EXECUTE ON FUNCTION meetlink.read_at_risk() TO authenticated;";

/// Session and reason, as a person of the application sees them.
fn seen_by(app: &App, person: Person) -> Result<Vec<(Uuid, String)>, postgres::Error> {
    let mut client = app.client();
    let mut transaction = client.transaction().expect("a transaction");
    app.act_as(&mut transaction, person);
    let query = "SELECT session_id, COALESCE(reason, '') FROM meetlink.at_risk";
    let rows = transaction.query(query, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[test]
fn people_see_their_own_sessions_and_roles_without_the_grants_nothing() {
    let app = App::start();
    let tutors = ["Ned", "Nora"].map(|name| app.person("tutor", name));
    let students = ["Sam", "Olga"].map(|name| app.person("student", name));
    let (neds, noras) = (
        app.book(tutors[0], students[0]),
        app.book(tutors[1], students[1]),
    );
    for session in [neds, noras] {
        app.wait_for_state(session, "needs_action");
    }
    let mut client = app.client();
    let mut grants = GRANTS.split_inclusive(';');
    for _ in 0..3 {
        let (code, ..) = life::refusal(seen_by(&app, tutors[0]));
        assert_eq!(code, "42501", "one of the grants is still missing");
        client
            .batch_execute(grants.next().expect("a grant"))
            .expect("it is given");
    }
    for (person, session) in [
        (tutors[0], neds),
        (students[0], neds),
        (tutors[1], noras),
        (students[1], noras),
    ] {
        let seen = seen_by(&app, person).expect("an answer");
        assert_eq!(seen, [(session, "not_connected".to_owned())]);
    }
    let stranger = app.person("student", "Uwe");
    assert_eq!(seen_by(&app, stranger).expect("an answer"), []);
    let all: i64 = app.value("SELECT count(*) FROM meetlink.at_risk");
    assert_eq!(all, 2);
}

/// He cannot see the connections of his tutors: what he cannot see is no reason for alarm.
#[test]
fn a_student_is_not_alarmed_by_a_connection_that_he_may_not_see() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.client().batch_execute(GRANTS).expect("README's grants");
    let ready = app.book(tutor, student);
    app.wait_for_link(ready);
    let rule = app
        .simulator
        .fault(Rule::always(Zoom, Call::Create, Action::ZoomCannotSchedule));
    let (soon, later) = (
        app.book(tutor, student),
        app.book_in(tutor, student, 2 * DAY),
    );
    for session in [soon, later] {
        app.wait_for_state(session, "failed");
    }
    let expected = [(soon, "request_refused".to_owned())];
    assert_eq!(seen_by(&app, tutor).expect("an answer"), expected);
    assert_eq!(seen_by(&app, student).expect("an answer"), expected);
    let who: String = {
        let mut client = app.client();
        let mut transaction = client.transaction().expect("a transaction");
        app.act_as(&mut transaction, student);
        let query = "SELECT who_acts FROM meetlink.at_risk WHERE session_id = $1";
        transaction
            .query_one(query, &[&soon])
            .expect("a row")
            .get(0)
    };
    assert_eq!(who, "operator", "the tutor's connection is well");
    app.simulator.remove_fault(rule);
}
