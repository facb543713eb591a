//! `meetlink_retry`: now, whatever the backoff says, and never one meeting too many.

#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{Action, Call, Provider, RateLimit, Rule};
use support::{book_many, count, retry};
use uuid::Uuid;

const BOTH: [Provider; 2] = [Provider::Google, Provider::Zoom];

#[test]
fn a_retry_does_not_wait_for_the_backoff() {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "10min")
            .set("meetlink.backoff_max", "10min")
    });
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let down = Action::ServerError { status: 500 };
    app.simulator
        .fault(Rule::once(Provider::Google, Call::Insert, down));
    let session = app.book(tutor, student);
    let status = app.wait_for_state(session, "retrying");
    assert_eq!(status["action"]["rpc"], "meetlink_retry");
    let begun = Instant::now();
    let status = retry(&app, session);
    assert_eq!(status["state"], "pending", "{status}");
    app.wait_for_link(session);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(app.simulator.meetings(Provider::Google).len(), 1);
}

/// "Tries now, whatever the backoff says": also when it is the provider that asked for the wait.
#[test]
fn a_retry_does_not_wait_for_a_limit_that_may_have_been_lifted() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for (provider, form) in [
        (Provider::Google, RateLimit::GoogleQuotaExceeded),
        (Provider::Zoom, RateLimit::ZoomDaily),
    ] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let limit = Action::RateLimit { form };
        app.simulator
            .fault(Rule::once(provider, Call::Create, limit));
        let session = app.book(tutor, student);
        app.wait_for_state(session, "retrying");
        retry(&app, session);
        app.wait_for_link(session);
        assert_eq!(app.simulator.meetings(provider).len(), 1);
    }
}

#[test]
fn a_retry_of_a_ready_session_makes_nothing() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let session = app.book(tutor, student);
        let link = app.wait_for_link(session);
        for _ in 0..3 {
            let status = retry(&app, session);
            assert_eq!(status["state"], "ready");
            assert_eq!(status["join_url"], link.as_str());
            assert_eq!(status["action"]["kind"], "join");
        }
        // Whatever a retry had queued would be done before a session that is booked after it.
        app.wait_for_link(app.book(tutor, student));
        assert_eq!(count(&app, provider, Call::Any), 2);
        assert_eq!(app.wait_for_link(session), link);
    }
}

#[test]
fn many_retries_at_once_make_one_meeting() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let slow = Action::Delay { ms: 200 };
        app.simulator
            .fault(Rule::always(provider, Call::Create, slow));
        let session = app.book(tutor, student);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..5).for_each(|_| drop(retry(&app, session))));
            }
        });
        app.wait_for_link(session);
        app.wait_for_link(app.book(tutor, student));
        assert_eq!(app.simulator.meetings_ever(provider).len(), 2);
        assert_eq!(count(&app, provider, Call::Create), 2);
    }
}

#[test]
fn a_retry_of_what_waits_for_the_tutor_looks_again() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let refused = Action::ZoomNotAllowed;
    app.simulator
        .fault(Rule::once(Provider::Zoom, Call::Create, refused));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "needs_action");
    // The tutor's administrator has given the licence back: no new connection is needed.
    retry(&app, session);
    app.wait_for_link(session);
}

#[test]
fn a_cancelled_session_is_not_retried() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let down = Action::ServerError { status: 500 };
    app.simulator
        .fault(Rule::always(Provider::Google, Call::Insert, down));
    let session = app.book(tutor, student);
    support::wait_for_attempts(&app, session, 1);
    let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
    app.client()
        .execute(cancel, &[&session])
        .expect("an update");
    assert_eq!(retry(&app, session)["state"], "not_needed");
    app.wait_until(
        "the job to end",
        &format!("SELECT state = 'not_needed' FROM meetlink.jobs WHERE session_id = '{session}'"),
    );
    app.simulator.clear_faults();
    let calls = app.simulator.journal_len();
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(app.simulator.journal_len(), calls + 1);
}

#[test]
fn an_unknown_session_is_not_found_in_every_function() {
    let app = App::start();
    let unknown = Uuid::new_v4();
    for call in [
        format!("meetlink_status('{unknown}')"),
        format!("meetlink_retry('{unknown}')"),
        format!("meetlink_wait('{unknown}', '1 s')"),
    ] {
        let error = app
            .client()
            .query(&format!("SELECT {call}"), &[])
            .expect_err("there is no such session");
        let error = error.as_db_error().expect("the server's error");
        assert_eq!(error.code().code(), "P0002", "{call}");
        assert_eq!(error.message(), format!("session {unknown} not found"));
    }
    let queued: i64 = app.value("SELECT count(*) FROM meetlink.inbox");
    assert_eq!(queued, 0);
}

/// Thousands may be due before it, and every place be taken.
#[test]
fn retries_go_before_all_that_waits() {
    let latency = meetlink_simulator::Latency {
        api_ms: 1_000,
        token_ms: 0,
    };
    let options = meetlink_simulator::Options {
        zoom_latency: latency,
        ..meetlink_simulator::Options::default()
    };
    let app = App::with_simulator(options, |options| options.set("meetlink.concurrency", "2"));
    app.client()
        .batch_execute("DELETE FROM meetlink.providers WHERE provider <> 'zoom'")
        .unwrap();
    let student = app.person("student", "Sam");
    let (tutor, busy) = (
        app.tutor(Provider::Zoom, "Zoe"),
        app.tutor(Provider::Zoom, "Zac"),
    );
    let refuse = Action::ZoomCannotSchedule;
    let refuse = Rule::always(Provider::Zoom, Call::Create, refuse);
    app.simulator.fault(refuse.account("Zoe"));
    let rows = app
        .client()
        .query(
            "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                        SELECT $1, $2 FROM generate_series(1, 20) RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT id, $1, $2, 'zoom', now() + interval '30 d', now() + interval '31 d', 60 FROM b
             RETURNING id",
            &[&tutor.0, &student.0],
        )
        .expect("sessions in a month");
    let sessions: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    for session in &sessions {
        app.wait_for_state(*session, "failed");
    }
    app.simulator.clear_faults();
    book_many(&app, busy, student, 120);
    app.wait_until(
        "all places to be taken",
        "SELECT count(*) >= 2 FROM meetlink.jobs WHERE state = 'creating'",
    );
    let begun = Instant::now();
    app.client()
        .execute(
            "SELECT meetlink_retry(u) FROM unnest($1::uuid[]) u",
            &[&sessions],
        )
        .unwrap();
    for session in &sessions {
        app.wait_for_link(*session);
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(9),
        "{took:?} behind a minute of others"
    );
}

/// Sessions that their provider refused, and that are retried by hand in one statement.
fn retry_many(app: &App, account: &str, count: i64, before: impl FnOnce()) {
    let (tutor, student) = (
        app.tutor(Provider::Zoom, account),
        app.person("student", "Sam"),
    );
    let refuse = Rule::always(Provider::Zoom, Call::Create, Action::ZoomCannotSchedule);
    app.simulator.fault(refuse.account(account));
    let sessions = book_many(app, tutor, student, count);
    for session in &sessions {
        app.wait_for_state(*session, "failed");
    }
    app.simulator.clear_faults();
    before();
    app.client()
        .execute(
            "SELECT meetlink_retry(u) FROM unnest($1::uuid[]) u",
            &[&sessions],
        )
        .unwrap();
}

/// A session that waits for long, and is retried by hand: its link comes.
fn one_more_comes_at_once(app: &App) {
    let (tutor, student) = (
        app.tutor(Provider::Google, "Gia"),
        app.person("student", "Sue"),
    );
    let down = Action::ServerError { status: 500 };
    app.simulator
        .fault(Rule::once(Provider::Google, Call::Insert, down));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    let begun = Instant::now();
    retry(app, session);
    app.wait_for_link(session);
    assert!(begun.elapsed() < Duration::from_secs(4));
}

fn patient() -> App {
    App::with(|options| {
        options
            .set("meetlink.backoff_base", "10min")
            .set("meetlink.backoff_max", "10min")
            .set("meetlink.request_timeout", "15s")
    })
}

#[test]
fn retries_at_a_provider_that_hangs_hold_up_no_retry_at_the_other() {
    let app = patient();
    retry_many(&app, "Zoe", 20, || {
        let stall = Action::Stall { effect: false };
        app.simulator
            .fault(Rule::always(Provider::Zoom, Call::Create, stall));
    });
    wait::until_true(SOON, "some to hang", || {
        app.simulator.in_flight(Provider::Zoom).now >= 4
    });
    one_more_comes_at_once(&app);
}

/// Sessions that were never tried: no provider is known of them.
#[test]
fn retries_behind_a_provider_that_hangs_take_no_place_from_the_other() {
    let app = patient();
    let stall = Action::Stall { effect: false };
    app.simulator
        .fault(Rule::always(Provider::Zoom, Call::Create, stall));
    let (tutor, student) = (
        app.tutor(Provider::Zoom, "Zoe"),
        app.person("student", "Sam"),
    );
    book_many(&app, tutor, student, 150);
    wait::until_true(SOON, "a share to hang", || {
        app.simulator.in_flight(Provider::Zoom).now >= 30
    });
    app.client()
        .batch_execute("SELECT meetlink_retry(id) FROM sessions")
        .unwrap();
    one_more_comes_at_once(&app);
    let most = app.simulator.in_flight(Provider::Zoom).max;
    assert!(most <= 30 + 12, "{most} at once");
}

#[test]
fn retries_that_wait_for_a_tutors_token_hold_up_no_other_retry() {
    let app = patient();
    let mut holder = app.client();
    retry_many(&app, "Zoe", 20, || {
        let zoe = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
        app.simulator.expire_access_tokens(&zoe);
        holder
            .batch_execute("BEGIN; SELECT FROM tutor_video_provider_connections FOR UPDATE")
            .unwrap();
    });
    wait::until_true(SOON, "a token that cannot be stored", || {
        count(&app, Provider::Zoom, Call::Token) == 1
    });
    one_more_comes_at_once(&app);
    holder.batch_execute("COMMIT").unwrap();
    app.wait_until(
        "all links",
        "SELECT count(*) = 21 FROM meetlink.jobs WHERE state = 'ready'",
    );
}
