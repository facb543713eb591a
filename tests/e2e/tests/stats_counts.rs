//! What `meetlink.stats` counts, what it does not, and over which time.

#[path = "support/prov.rs"]
mod support;

use chrono::{Datelike, Utc};
use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use uuid::Uuid;

/// Sessions, links, failures of the last hour in all; those of a day and of 30 days are the same.
#[track_caller]
fn assert_counts(app: &App, expected: (i64, i64, i64)) {
    for period in ["hour", "day", "month"] {
        let row = app.client().query_one(
            "SELECT sessions, links, failures FROM meetlink.stats
              WHERE provider = 'all' AND period = $1",
            &[&period],
        );
        let row = row.expect("a row in all");
        assert_eq!((row.get(0), row.get(1), row.get(2)), expected, "{period}");
    }
}

/// Waits until nothing is left to be done, removals included.
fn settle(app: &App) {
    app.wait_until(
        "everything to end",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)
            AND NOT EXISTS (SELECT FROM meetlink.queue
                             WHERE state NOT IN ('needs_action', 'failed'))",
    );
}

#[test]
fn before_anything_happens_there_is_a_row_of_noughts_for_each_period() {
    let app = App::start();
    let text = app.cluster.psql(DATABASE, "SELECT * FROM meetlink.stats");
    let expected = ["hour", "day", "month"].map(|period| format!("{period}|all|0|0|0|||||"));
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

/// The longest columns that months can bring, as psql draws them.
#[test]
fn psql_shows_it_within_a_hundred_columns() {
    let app = App::start();
    app.client()
        .batch_execute(
            "INSERT INTO meetlink.tallies (grain, since, provider, what, bucket, count, seconds)
             SELECT grain, date_trunc('hour', now()), provider, what, bucket, 1234567, 1234567::bigint * s
               FROM unnest(ARRAY['minute', 'hour']) grain,
                    unnest(ARRAY['google_meet', 'zoom']) provider,
                    (VALUES ('session', 0, 0), ('made', 0, 0), ('retry', 0, 0),
                            ('link', 281, 900), ('link', 310, 3700)) v(what, bucket, s)",
        )
        .expect("busy months");
    let output = app
        .cluster
        .psql_command(DATABASE, "postgres")
        .args(["-c", "SELECT * FROM meetlink.stats"])
        .output()
        .expect("psql runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().count() > 9, "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?} columns:\n{text}");
}

#[test]
fn each_period_reaches_back_as_far_as_it_says() {
    let app = App::start();
    app.client()
        .batch_execute(
            "INSERT INTO meetlink.tallies (grain, since, provider, what, count)
             SELECT 'minute', date_trunc('minute', now() - ago), 'zoom', 'session', n
               FROM (VALUES (interval '1 min', 1), ('55 min', 10), ('62 min', 100)) v(ago, n)
             UNION ALL
             SELECT 'hour', date_trunc('hour', now() - ago, 'UTC'), 'zoom', 'session', n
               FROM (VALUES (interval '1 h', 1), ('23 h', 10), ('25 h', 100), ('29 days', 1000),
                            ('721 h', 10000)) v(ago, n)
             UNION ALL
             SELECT grain, '-infinity', 'zoom', 'session', 100000
               FROM unnest(ARRAY['minute', 'hour']) grain",
        )
        .expect("a history");
    // The figures are the same for everybody, also where the clocks were put back today.
    let today = Utc::now().ordinal().min(365);
    let put_back = format!("XST0XDT,J{},J{today}/0", (today + 265) % 365 + 1);
    for zone in ["UTC", "Asia/Kathmandu", &put_back] {
        let text = app.cluster.psql(
            DATABASE,
            &format!(
                "SET timezone = '{zone}';
                 SELECT period, sessions FROM meetlink.stats WHERE provider = 'zoom'"
            ),
        );
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows, ["hour|11", "day|11", "month|1111"], "{zone}");
    }
}

#[test]
fn a_booking_that_is_rolled_back_counts_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    let mut transaction = client.transaction().expect("a transaction");
    let session = transaction.execute(
        "INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at, confirmed_end_at)
         VALUES ($1, $2, 'CONFIRMED', now() + interval '1 h', now() + interval '2 h')",
        &[&tutor.0, &student.0],
    );
    assert_eq!(session.expect("a booking"), 1);
    transaction.rollback().expect("it is rolled back");
    // The next one shows that the worker has been there since.
    app.wait_for_link(app.book(tutor, student));
    assert_counts(&app, (1, 1, 0));
}

/// The same happens again after it was rolled back, and is counted once.
#[test]
fn what_the_worker_rolls_back_counts_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    let refuse = |class: &str| {
        format!(
            "ALTER TABLE meetlink.attempts ADD CONSTRAINT refused CHECK (class <> '{class}') NOT VALID"
        )
    };
    let down = Action::ServerError { status: 503 };
    app.simulator.fault(Rule::once(Google, Call::Create, down));
    let mut counts = (0, 0, 0);
    for (class, after) in [("retry", (1, 1, 1)), ("made", (2, 2, 1))] {
        client.batch_execute(&refuse(class)).expect("a constraint");
        let session = app.book(tutor, student);
        app.wait_until(
            "the worker to complain",
            "SELECT COALESCE(last_error, '') LIKE '%refused%' FROM meetlink.workers",
        );
        counts.0 += 1;
        assert_counts(&app, counts);
        client
            .batch_execute("ALTER TABLE meetlink.attempts DROP CONSTRAINT refused")
            .expect("it is mended");
        app.wait_for_link(session);
        counts = after;
        assert_counts(&app, counts);
    }
}

fn write_by_hand(app: &App, session: Uuid) {
    let written = app.client().execute(
        "UPDATE sessions SET join_url = 'https://zoom.us/j/81234567890',
                             meeting_external_id = '81234567890' WHERE id = $1",
        &[&session],
    );
    assert_eq!(written.expect("a link"), 1);
}

#[test]
fn links_written_by_hand_count_nothing() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    // With its link from the beginning.
    client
        .execute(
            "WITH b AS (INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes, join_url,
                                   meeting_external_id)
             SELECT id, $1, $2, 'zoom', now() + interval '1 h', now() + interval '2 h', 60,
                    'https://zoom.us/j/8', '8' FROM b",
            &[&tutor.0, &student.0],
        )
        .expect("a session with its link");
    // While its tutor is awaited.
    let unconnected = app.person("tutor", "Ned");
    let waiting = app.book(unconnected, student);
    app.wait_for_state(waiting, "needs_action");
    write_by_hand(&app, waiting);
    // While its meeting is being made, which is then removed.
    let slow = Action::Delay { ms: 500 };
    let rule = app.simulator.fault(Rule::once(Google, Call::Create, slow));
    let under_way = app.book(tutor, student);
    wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
    write_by_hand(&app, under_way);
    wait::until_true(SOON, "the meeting to be removed", || {
        app.simulator.meetings_ever(Google).len() == 1 && app.simulator.meetings(Google).is_empty()
    });
    settle(&app);
    // The tutor who is connected nowhere is the one failure.
    assert_counts(&app, (2, 0, 1));
    // And one of ours, so that noughts mean something.
    app.wait_for_link(app.book(tutor, student));
    assert_counts(&app, (3, 1, 1));
}

#[test]
fn a_tutor_without_a_connection_fails_at_no_provider() {
    let app = App::start();
    let session = app.book(app.person("tutor", "Ned"), app.person("student", "Sam"));
    app.wait_for_state(session, "needs_action");
    let rows = app.cluster.psql(
        DATABASE,
        "SELECT provider, sessions, links, failures, success_rate FROM meetlink.stats
          WHERE period = 'hour'",
    );
    // The application guesses a provider; meetlink had none to ask.
    let expected = ["all|1|0|1|0.0", "google_meet|1|0|0|", "none|0|0|1|0.0"];
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_session_put_to_another_time_while_its_meeting_is_made_counts_one_link() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for (turn, provider) in [Google, Zoom].into_iter().enumerate() {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let slow = Action::Delay { ms: 400 };
        let rule = app
            .simulator
            .fault(Rule::once(provider, Call::Create, slow));
        let session = app.book(tutor, student);
        wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
        let moved = app.client().execute(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 h',
                                 scheduled_end_at = scheduled_end_at + interval '1 h' WHERE id = $1",
            &[&session],
        );
        assert_eq!(moved.expect("it moves"), 1);
        app.wait_for_link(session);
        wait::until_true(SOON, "the meeting to follow", || {
            support::count(&app, provider, Call::Patch) == 1
        });
        settle(&app);
        let so_far = i64::try_from(turn).unwrap() + 1;
        assert_counts(&app, (so_far, so_far, 0));
    }
}

#[test]
fn a_link_that_could_not_be_written_at_first_counts_once_and_its_whole_time() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    client
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE OF join_url ON sessions
               FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .expect("a trigger that raises");
    let session = app.book(tutor, student);
    app.wait_until(
        "some tries to write",
        "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE setbacks >= 3)",
    );
    assert_counts(&app, (1, 0, 0));
    client
        .batch_execute("DROP TRIGGER refuse ON sessions")
        .expect("it goes");
    app.wait_for_link(session);
    assert_counts(&app, (1, 1, 0));
    let agree = app.value::<bool>(
        "SELECT mean >= extract(epoch FROM s.meeting_created_at - s.created_at) - 0.0005
           FROM sessions s, meetlink.stats WHERE period = 'hour' AND stats.provider = 'all'",
    );
    assert!(agree, "the time that it waited for the trigger is in it");
}
