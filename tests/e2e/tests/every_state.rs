//! Every job that the tables allow, and everything that may happen to its session: none of it stops
//! the worker, and nothing is left due or leased. And what a long history costs.

#[path = "support/life.rs"]
mod life;
#[path = "support/cases.rs"]
mod support;

use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use support::prov::count;
use support::trouble;
use uuid::Uuid;

/// What happens to a session, `$1` its id.
const EVENTS: [&str; 8] = [
    "UPDATE sessions SET scheduled_end_at = scheduled_end_at + interval '1 min' WHERE id = $1",
    "UPDATE sessions SET join_url = 'https://x.example/1', meeting_external_id = '1' WHERE id = $1",
    "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1",
    "DELETE FROM sessions WHERE id = $1",
    "UPDATE sessions SET scheduled_start_at = now() - interval '2 h',
                         scheduled_end_at = now() - interval '1 h' WHERE id = $1",
    "SELECT meetlink_retry($1)",
    "SELECT meetlink_resolve($1, 'adopt')",
    "SELECT meetlink_resolve($1, 'repost')",
];

/// A session with a job in any shape; false where the constraints forbid it.
const SHAPE: &str = "
    CREATE FUNCTION shape(session uuid, tutor uuid, wish text, state text, doubt bool, made bool)
      RETURNS bool LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO meetlink.jobs (session_id, wish, state, provider, account_id, tutor_id, lane,
                                 queued_at, starts_at, reason, due_at, lease_holder, lease_until,
                                 may_exist_since, external_id, join_url, made_at)
      SELECT session, wish, state, 'zoom', tutor, tutor, 'zoom', now(), now(), 'interrupted',
             CASE WHEN state IN ('pending', 'retrying', 'in_doubt') THEN now() END,
             CASE WHEN state = 'creating' THEN 1 END, CASE WHEN state = 'creating' THEN now() END,
             CASE WHEN doubt THEN now() END, CASE WHEN made THEN '81234567890' END,
             CASE WHEN made THEN 'https://zoom.us/j/81234567890' END,
             CASE WHEN made THEN now() END;
      RETURN true;
    EXCEPTION WHEN check_violation THEN
      DELETE FROM sessions WHERE id = session;
      RETURN false;
    END $$";

#[test]
fn every_job_ends_whatever_happens_to_its_session() {
    let app = App::start();
    let tutor = app.tutor(Zoom, "Zoe");
    let student = app.person("student", "Sam");
    let mut client = app.client();
    client.batch_execute(SHAPE).expect("a function");
    client
        .batch_execute("SELECT meetlink_pause()")
        .expect("a pause");
    app.wait_until(
        "the worker to pause",
        "SELECT NOT EXISTS (SELECT FROM meetlink.workers WHERE pid <> 0 AND state <> 'paused')",
    );
    let make =
        "WITH booking AS (INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id)
        INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                              scheduled_end_at, duration_minutes)
        SELECT id, $1, $2, 'zoom', now() + interval '1 h', now() + interval '2 h', 60 FROM booking
        RETURNING id";
    let states = [
        "pending",
        "creating",
        "retrying",
        "needs_action",
        "in_doubt",
        "failed",
        "ready",
        "not_needed",
    ];
    let mut shapes = 0;
    for state in states {
        for wish in ["exists", "moved", "gone"] {
            for (doubt, made) in [(false, false), (false, true), (true, false), (true, true)] {
                for event in EVENTS {
                    let made_row = client.query_one(make, &[&tutor.0, &student.0]);
                    let session: Uuid = made_row.expect("a session").get(0);
                    let shaped = client.query_one(
                        "SELECT shape($1, $2, $3, $4, $5, $6)",
                        &[&session, &tutor.0, &wish, &state, &doubt, &made],
                    );
                    if !shaped.expect("a shape").get::<_, bool>(0) {
                        break;
                    }
                    shapes += 1;
                    if let Err(error) = client.execute(event, &[&session]) {
                        let text = error.as_db_error().map_or("", |e| e.message());
                        let what = format!("{state} {wish} {doubt} {made} {event}: {text}");
                        assert!(text.ends_with("is not in doubt"), "{what}");
                    }
                }
            }
        }
    }
    assert!(shapes > 500, "{shapes}");
    let mark = app.cluster.log_mark();
    client
        .batch_execute("SELECT meetlink_resume()")
        .expect("the pause ends");
    // Whom a person told to adopt waits for the meeting to turn up.
    app.wait_until(
        "every job to end",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)
            AND NOT EXISTS (SELECT FROM meetlink.jobs
                             WHERE state NOT IN ('ready', 'not_needed')
                               AND NOT (state = 'in_doubt' AND adopt))",
    );
    let log = app.cluster.log_from(mark);
    assert!(
        !log.contains("ERROR") && !log.contains("tries again by itself"),
        "{log}"
    );
}

/// Rows of `meetlink.jobs` that were read so far, by a column of `pg_stat_user_tables`.
fn rows_read(app: &App, column: &str) -> i64 {
    let query =
        format!("SELECT {column} FROM pg_stat_user_tables WHERE relid = 'meetlink.jobs'::regclass");
    // The worker hands its figures over when it has nothing to do.
    let mut last = (-1, 0);
    wait::until(SOON, "the figures", || {
        let now: i64 = app.value(&query);
        let times = if now == last.0 { last.1 + 1 } else { 0 };
        last = (now, times);
        (times >= 40).then_some(now)
    })
}

/// However much waits for later, a booking finds what is due without going through it: also where the
/// table was analyzed when nothing waited, and all indexes of what is open looked alike.
#[test]
fn a_booking_reads_nothing_that_waits_for_later() {
    let wait = |count: i32| {
        format!(
            "INSERT INTO meetlink.jobs (session_id, state, lane, provider, queued_at, due_at, reason)
             SELECT gen_random_uuid(), 'retrying', 'zoom', 'zoom', now(),
                    now() + interval '30 days', 'provider_down' FROM generate_series(1, {count})"
        )
    };
    for (before, after) in [(20_000, 1), (1, 20_000)] {
        let app = App::with(|options| options.set("autovacuum", "off"));
        let tutor = app.tutor(Zoom, "Zoe");
        let student = app.person("student", "Sam");
        for _ in 0..20 {
            app.wait_for_link(app.book(tutor, student));
        }
        app.cluster.psql(DATABASE, &wait(before));
        app.cluster.psql(DATABASE, "ANALYZE meetlink.jobs");
        // A worker that saw nothing wait does not look for it.
        let old = app.worker_pid();
        app.cluster
            .psql(DATABASE, &format!("SELECT pg_terminate_backend({old})"));
        wait::until_true(SOON, "another worker", || {
            life::worker_of(&app.cluster, DATABASE).is_some_and(|pid| pid != old)
        });
        // What is planned now is kept.
        app.wait_for_link(app.book(tutor, student));
        app.cluster.psql(DATABASE, &wait(after));
        app.wait_for_link(app.book(tutor, student));
        let read = "seq_tup_read + idx_tup_fetch";
        let before = rows_read(&app, read);
        for _ in 0..3 {
            app.wait_for_link(app.book(tutor, student));
        }
        let rows = rows_read(&app, read) - before;
        assert!(rows < 1_000, "{rows} rows of meetlink.jobs were read");
    }
}

/// A booking is looked at without a walk through all that was ever done.
#[test]
fn a_booking_reads_no_history() {
    let app = App::start();
    let tutor = app.tutor(Google, "Ann");
    let student = app.person("student", "Sam");
    app.cluster.psql(
        DATABASE,
        "INSERT INTO meetlink.jobs (session_id, state, lane, provider, tutor_id, account_id,
                starts_at, queued_at, external_id, join_url, made_at)
         SELECT gen_random_uuid(), 'ready', 'zoom', 'zoom', t.id, t.id, now(), now(), n::text,
                'https://zoom.us/j/' || n, now()
           FROM generate_series(1, 50000) n, (SELECT id FROM profiles WHERE role = 'tutor') t;
         ANALYZE meetlink.jobs",
    );
    app.wait_for_link(app.book(tutor, student));
    let before = rows_read(&app, "seq_tup_read");
    for name in ["Bea", "Cleo", "Dora"] {
        app.wait_for_link(app.book(tutor, student));
        app.tutor(Google, name);
    }
    app.wait_until(
        "all to be looked at",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    let rows = rows_read(&app, "seq_tup_read") - before;
    assert!(rows < 50_000, "{rows} rows of meetlink.jobs were read");
}

/// A person says that the meeting exists, and it does not turn up: looked for, but less and less.
#[test]
fn what_is_to_be_adopted_is_looked_for_ever_less() {
    let app = App::with(|options| {
        options
            .set("meetlink.settle_time", "100ms")
            .set("meetlink.backoff_base", "2s")
            .set("meetlink.backoff_max", "900s")
    });
    let tutor = app.tutor(Zoom, "Zoe");
    let student = app.person("student", "Sam");
    let lost = Action::Close { effect: false };
    app.simulator.fault(Rule::once(Zoom, Call::Create, lost));
    app.simulator.fault(Rule::once(Zoom, Call::List, trouble()));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "in_doubt");
    let mut client = app.client();
    wait::until_true(SOON, "a decision", || {
        let decided = client.execute("SELECT meetlink_resolve($1, 'adopt')", &[&session]);
        decided.is_ok()
    });
    // settle_time would be a tenth of a second. A wait is any part of its interval, so one of the
    // first may be short; the intervals grow, so one of the next is not.
    let grown = "setbacks >= 2 AND due_at > clock_timestamp() + interval '500 ms'";
    support::wait_for_job(&app, session, grown);
    assert!(count(&app, Zoom, Call::List) <= 12);
    assert_eq!(count(&app, Zoom, Call::Create), 1);
}
