//! What the tests of odd sequences share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use chrono::{DateTime, Timelike, Utc};
use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{Action, Call, Meeting, Provider, Rule};
use postgres::Client;
use uuid::Uuid;

#[path = "prov.rs"]
pub mod prov;

/// Both providers.
pub const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

/// A provider in trouble of its own.
pub fn trouble() -> Action {
    Action::ServerError { status: 503 }
}

/// A session of a new tutor whose request is under way, and answered in a third of a second.
pub fn under_way(app: &App, provider: Provider, name: &str) -> (Person, Uuid) {
    let tutor = app.tutor(provider, name);
    let student = app.person("student", "Sam");
    let slow = Action::Delay { ms: 350 };
    let rule = app
        .simulator
        .fault(Rule::once(provider, Call::Create, slow).account(name));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
    (tutor, session)
}

/// A session whose meeting was made and the answer lost, and for which nobody can look just now.
pub fn in_doubt(app: &App, provider: Provider, name: &str) -> Uuid {
    let tutor = app.tutor(provider, name);
    let student = app.person("student", "Sam");
    let lost = Rule::once(provider, Call::Create, Action::ResetAfterEffect);
    app.simulator.fault(lost);
    for call in [Call::Get, Call::List, Call::Delete] {
        app.simulator.fault(Rule::always(provider, call, trouble()));
    }
    let session = app.book(tutor, student);
    let doubt = "state IN ('retrying', 'in_doubt') AND may_exist_since IS NOT NULL";
    wait_for_job(app, session, doubt);
    session
}

/// A statement about one session.
pub fn change(app: &App, session: Uuid, statement: &str) {
    let done = app.client().execute(statement, &[&session]);
    assert_eq!(done.expect("the session changes"), 1);
}

/// Puts a session off by a day; gives its new start.
pub fn put_off(app: &App, session: Uuid) -> DateTime<Utc> {
    let row = app.client().query_one(
        "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 day',
                             scheduled_end_at = scheduled_end_at + interval '1 day'
          WHERE id = $1 RETURNING scheduled_start_at",
        &[&session],
    );
    let start: DateTime<Utc> = row.expect("the session is put off").get(0);
    start.with_nanosecond(0).expect("whole seconds")
}

/// When a meeting starts, as far as its provider says.
pub fn start_of(meeting: &Meeting) -> DateTime<Utc> {
    let text = match meeting.provider {
        Provider::Google => &meeting.body["start"]["dateTime"],
        Provider::Zoom => &meeting.body["start_time"],
    };
    let text = text.as_str().expect("a start");
    text.parse().expect("a time")
}

/// Waits until the job of a session is as said.
pub fn wait_for_job(app: &App, session: Uuid, condition: &str) {
    app.wait_until(
        condition,
        &format!(
            "SELECT COALESCE(({condition}), false) FROM meetlink.jobs
              WHERE session_id = '{session}'"
        ),
    );
}

/// Runs a statement in a transaction that is open until the answer could not be written.
pub fn hold_up(app: &App, client: &mut Client, session: Uuid, statement: &str) {
    let mut open = client.transaction().expect("a transaction");
    open.execute(statement, &[&session]).expect("the row");
    wait_for_job(app, session, "reason = 'write_back'");
    open.commit().expect("it commits");
}

/// Waits until nothing is left to be done.
pub fn quiet(app: &App) {
    app.wait_until(
        "nothing left to do",
        "SELECT NOT EXISTS (SELECT FROM meetlink.queue)
            AND NOT EXISTS (SELECT FROM meetlink.orphans)
            AND NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
}

/// The jobs, for messages.
pub fn jobs(app: &App) -> String {
    app.cluster.psql(
        meetlink_e2e::app::DATABASE,
        "SELECT wish, state, provider, reason, external_id, last_error FROM meetlink.jobs",
    )
}
