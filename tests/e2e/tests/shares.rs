//! Trouble of one tutor, or of one provider, is nobody else's.

#[path = "support/cases.rs"]
mod support;

use std::time::Duration;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Conference, Rule};
use support::prov::{book_many, connect, count, stale_tutor};
use support::trouble;
use uuid::Uuid;

/// Far less than a request may take here.
const QUICKLY: Duration = Duration::from_secs(4);

/// Few places, and requests that stall for long.
fn crowded(concurrency: &'static str) -> App {
    App::with(|options| {
        options
            .set("meetlink.concurrency", concurrency)
            .set("meetlink.request_timeout", "15s")
    })
}

fn stall(app: &App, provider: Provider, call: Call) -> meetlink_simulator::RuleId {
    let stall = Action::Stall { effect: false };
    app.simulator.fault(Rule::always(provider, call, stall))
}

fn link_comes_quickly(app: &App, session: Uuid) {
    let flights = app.cluster.psql(
        meetlink_e2e::app::DATABASE,
        "SELECT in_flight FROM meetlink.workers; SELECT lane, state, count(*) FROM meetlink.jobs
          GROUP BY 1, 2; SELECT provider, side, until - now(), error FROM meetlink.holds",
    );
    wait::until_true(QUICKLY, &format!("the link; {flights}"), || {
        app.status(session)["state"] == "ready"
    });
}

/// Waits until the worker has begun whatever it begins of so many sessions.
fn wait_until_settled(app: &App, sessions: i64) {
    let mut client = app.client();
    let mut last = (0, 0);
    wait::until_true(SOON, "the worker to settle", || {
        let row = client
            .query_one(
                "SELECT w.in_flight, (SELECT count(*) FROM meetlink.jobs) FROM meetlink.workers w",
                &[],
            )
            .expect("a worker");
        let (flights, jobs): (i32, i64) = (row.get(0), row.get(1));
        let same = flights > 0 && jobs >= sessions && flights == last.0;
        last = (flights, if same { last.1 + 1 } else { 0 });
        last.1 >= 30
    });
}

fn other(app: &App, provider: Provider) -> (Person, Person) {
    (app.tutor(provider, "Other"), app.person("student", "Sam"))
}

#[test]
fn attempts_that_wait_for_one_token_leave_room() {
    let app = crowded("4");
    let (tutor, student) = other(&app, Google);
    stall(&app, Zoom, Call::Token);
    let (busy, _) = stale_tutor(&app, Zoom, "Busy");
    book_many(&app, busy, student, 200);
    wait::until_true(SOON, "the refresh", || count(&app, Zoom, Call::Token) == 1);
    wait_until_settled(&app, 200);
    link_comes_quickly(&app, app.book(tutor, student));
}

/// The same provider's other tutors: the answer is here, and somebody has the row locked.
#[test]
fn a_token_that_cannot_be_stored_holds_up_no_other_tutor() {
    let app = crowded("4");
    let (tutor, student) = other(&app, Zoom);
    let (busy, _) = stale_tutor(&app, Zoom, "Busy");
    let mut holder = app.client();
    holder.batch_execute("BEGIN").unwrap();
    holder
        .execute(
            "SELECT FROM tutor_video_provider_connections WHERE tutor_id = $1 FOR UPDATE",
            &[&busy.0],
        )
        .unwrap();
    book_many(&app, busy, student, 100);
    wait_until_settled(&app, 100);
    link_comes_quickly(&app, app.book(tutor, student));
    holder.batch_execute("COMMIT").unwrap();
    app.wait_until(
        "all links",
        "SELECT count(*) = 101 FROM meetlink.jobs WHERE state = 'ready'",
    );
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 101);
}

/// Something that waits for tomorrow says nothing of the places that have become free.
#[test]
fn conferences_that_are_waited_for_leave_room_for_others_there() {
    let app = crowded("4");
    let (late, student) = other(&app, Zoom);
    let limit = Action::RateLimit {
        form: meetlink_simulator::RateLimit::ZoomDaily,
    };
    app.simulator.fault(Rule::once(Zoom, Call::Create, limit));
    app.wait_for_state(app.book(late, student), "retrying");
    let busy = app.tutor(Google, "Busy");
    let pending = Action::Conference {
        mode: Conference::PendingForever,
    };
    app.simulator
        .fault(Rule::always(Google, Call::Any, pending));
    book_many(&app, busy, student, 20);
    wait::until_true(QUICKLY, "a request for each", || {
        count(&app, Google, Call::Insert) == 20
    });
}

#[test]
fn conferences_that_are_waited_for_leave_room() {
    let app = crowded("4");
    let (tutor, student) = other(&app, Zoom);
    let busy = app.tutor(Google, "Busy");
    let pending = Action::Conference {
        mode: Conference::PendingForever,
    };
    app.simulator
        .fault(Rule::always(Google, Call::Any, pending));
    book_many(&app, busy, student, 200);
    wait_until_settled(&app, 200);
    link_comes_quickly(&app, app.book(tutor, student));
}

/// The application guesses google_meet for a tutor without a connection.
#[test]
fn sessions_that_name_another_provider_keep_to_the_share_of_theirs() {
    let app = crowded("8");
    let (tutor, student) = other(&app, Google);
    let late = app.person("tutor", "Late");
    book_many(&app, late, student, 40);
    app.wait_until(
        "all to be parked",
        "SELECT count(*) = 40 FROM meetlink.queue WHERE state = 'needs_action'",
    );
    let rule = stall(&app, Zoom, Call::Any);
    app.connect(late, Zoom, AccountSpec::named("Late"));
    wait::until_true(SOON, "the stall", || app.simulator.fired(rule) >= 7);
    link_comes_quickly(&app, app.book(tutor, student));
}

/// Jobs that were under way and jobs that were never tried are due at once then.
#[test]
fn the_share_holds_after_a_restart() {
    let app = crowded("8");
    let (tutor, student) = other(&app, Google);
    let busy = app.tutor(Zoom, "Busy");
    let rule = stall(&app, Zoom, Call::Any);
    book_many(&app, busy, student, 40);
    wait::until_true(SOON, "the stall", || app.simulator.fired(rule) >= 7);
    let pid = app.worker_pid();
    app.client()
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .expect("the worker ends");
    wait::until_true(SOON, "the next stall", || app.simulator.fired(rule) >= 14);
    link_comes_quickly(&app, app.book(tutor, student));
}

/// One tutor's calendar makes no conferences; Google is well.
#[test]
fn one_tutors_trouble_holds_nobody_else() {
    let app = App::with(|options| options.set("meetlink.backoff_base", "20s"));
    let (tutor, student) = other(&app, Google);
    let poor = app.tutor(Google, "Poor");
    let fails = Action::Conference {
        mode: Conference::Failure,
    };
    app.simulator
        .fault(Rule::always(Google, Call::Any, fails).account("Poor"));
    book_many(&app, poor, student, 6);
    app.wait_until(
        "six failures",
        "SELECT count(*) >= 6 FROM meetlink.attempts WHERE class = 'retry'",
    );
    link_comes_quickly(&app, app.book(tutor, student));
}

/// Zoom is down, and a tutor connects Google instead, to have links at once.
#[test]
fn who_leaves_a_provider_that_is_down_waits_no_longer() {
    let app = App::with(|options| options.set("meetlink.backoff_base", "20s"));
    let student = app.person("student", "Sam");
    app.simulator
        .fault(Rule::always(Zoom, Call::Any, trouble()));
    let tutors: Vec<Person> = (0..6)
        .map(|n| app.tutor(Zoom, &format!("Tutor {n}")))
        .collect();
    for tutor in &tutors {
        app.book(*tutor, student);
    }
    app.wait_until(
        "Zoom to be held",
        "SELECT EXISTS (SELECT FROM meetlink.holds WHERE side = 'meetings')",
    );
    let leaving = app.tutor(Zoom, "Leaving");
    let session = app.book(leaving, student);
    support::wait_for_job(&app, session, "state = 'pending'");
    app.connect(leaving, Google, AccountSpec::named("Leaving"));
    link_comes_quickly(&app, session);
}

/// The two together: a tutor who connected late, and without an access token.
#[test]
fn sessions_that_name_another_provider_wait_for_a_token_within_the_share_of_theirs() {
    let app = crowded("4");
    let (tutor, student) = other(&app, Google);
    let late = app.person("tutor", "Late");
    book_many(&app, late, student, 100);
    app.wait_until(
        "all to be parked",
        "SELECT count(*) = 100 FROM meetlink.queue WHERE state = 'needs_action'",
    );
    stall(&app, Zoom, Call::Token);
    let account = app.simulator.add_account(Zoom, AccountSpec::named("Late"));
    connect(&app, late, Zoom, &account.refresh_token, None);
    wait::until_true(SOON, "the refresh", || count(&app, Zoom, Call::Token) == 1);
    wait_until_settled(&app, 100);
    link_comes_quickly(&app, app.book(tutor, student));
}
