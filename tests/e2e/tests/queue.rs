//! What gets into the queue, and what it costs the booking: the trigger and its transaction.

#[path = "support/life.rs"]
mod life;

use std::io::Write;
use std::time::Duration;

use life::{is_queued, link, listening, seed, seed_one};
use meetlink_e2e::app::App;
use meetlink_simulator::Provider::{Google, Zoom};
use postgres::Client;
use uuid::Uuid;

/// Calls of the trigger function so far, as the statistics have them.
fn trigger_calls(client: &mut Client) -> i64 {
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .expect("statistics are flushed");
    client
        .query_opt(
            "SELECT calls FROM pg_stat_user_functions
              WHERE schemaname = 'meetlink' AND funcname = 'enqueue'",
            &[],
        )
        .expect("statistics are there")
        .map_or(0, |row| row.get(0))
}

fn inbox_size(client: &mut Client) -> i64 {
    client
        .query_one(
            "SELECT count(*) FROM meetlink.inbox WHERE session_id IS NOT NULL",
            &[],
        )
        .expect("the inbox is there")
        .get(0)
}

/// Keeps the worker away, so that the inbox stays as the triggers filled it.
fn paused() -> App {
    let app = App::start();
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .expect("meetlink is paused");
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    app
}

#[test]
fn a_rolled_back_booking_leaves_no_job_and_a_committed_one_always_has_one() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    let insert = |client: &mut Client| seed_one(client, people, Google);

    client.batch_execute("BEGIN").unwrap();
    let rolled_back = insert(&mut client);
    client.batch_execute("ROLLBACK").unwrap();

    client.batch_execute("BEGIN; SAVEPOINT a").unwrap();
    let undone = insert(&mut client);
    client.batch_execute("ROLLBACK TO a; SAVEPOINT b").unwrap();
    let kept = insert(&mut client);
    client.batch_execute("RELEASE b; COMMIT").unwrap();

    // Only undone work after one that stays: the wake at commit must not be lost with it.
    client.batch_execute("BEGIN").unwrap();
    let first = insert(&mut client);
    client.batch_execute("SAVEPOINT c").unwrap();
    let undone_too = insert(&mut client);
    client.batch_execute("ROLLBACK TO c; COMMIT").unwrap();

    app.wait_for_link(kept);
    app.wait_for_link(first);
    for gone in [rolled_back, undone, undone_too] {
        assert!(!is_queued(&mut client, gone), "{gone} was rolled back");
    }
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
    assert_eq!(inbox_size(&mut client), 0);
}

#[test]
fn every_role_that_may_insert_a_session_queues_it() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    // As one who has no right on anything of meetlink's.
    for role in ["authenticated", "service_role", "app_owner", "postgres"] {
        let booking: Uuid = client
            .query_one(
                "INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id",
                &[&tutor.0, &student.0],
            )
            .unwrap()
            .get(0);
        let mut transaction = client.transaction().unwrap();
        app.act_as(&mut transaction, tutor);
        transaction
            .batch_execute(&format!("SET LOCAL ROLE {role}"))
            .unwrap();
        let session: Uuid = transaction
            .query_one(
                "INSERT INTO sessions (booking_id, tutor_id, student_id, provider,
                   scheduled_start_at, scheduled_end_at, duration_minutes)
                 VALUES ($1, $2, $3, 'zoom', now() + interval '1 h', now() + interval '2 h', 60)
                 RETURNING id",
                &[&booking, &tutor.0, &student.0],
            )
            .unwrap_or_else(|error| panic!("inserting as {role}: {error}"))
            .get(0);
        transaction.commit().unwrap();
        app.wait_for_link(session);
    }
    assert_eq!(app.simulator.meetings(Zoom).len(), 4);
}

#[test]
fn an_update_that_makes_a_session_want_a_link_counts() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in [Google, Zoom] {
        let people = (app.tutor(provider, &format!("{provider:?}")), student);
        let mut client = app.client();
        let session: Uuid = client
            .query_one(
                "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                                VALUES ($1, $2) RETURNING id)
                     INSERT INTO sessions (booking_id, tutor_id, student_id, provider, status,
                       scheduled_start_at, scheduled_end_at, duration_minutes)
                     SELECT id, $1, $2, $3, 'CANCELLED', now() + interval '1 h',
                            now() + interval '2 h', 60 FROM b RETURNING id",
                &[
                    &people.0.0,
                    &people.1.0,
                    &meetlink_e2e::app::name_of(provider),
                ],
            )
            .unwrap()
            .get(0);
        let before = app.book(people.0, people.1);
        app.wait_for_link(before);
        assert_eq!(link(&mut client, session), None, "it is cancelled");

        let set = |client: &mut Client, what: &str| {
            let text = format!("UPDATE sessions SET {what} WHERE id = $1");
            assert_eq!(client.execute(&text, &[&session]).unwrap(), 1);
        };
        set(&mut client, "status = 'SCHEDULED'");
        app.wait_for_link(session);
        set(&mut client, "join_url = NULL, meeting_external_id = NULL");
        app.wait_for_link(session);
        set(&mut client, "join_url = NULL");
        app.wait_for_link(session);
        let meetings = app.simulator.meetings_ever(provider).len();
        assert_eq!(
            meetings, 2,
            "an emptied link is no reason for a second meeting"
        );
    }
}

#[test]
fn an_update_that_changes_nothing_of_interest_does_not_queue() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let ready = app.book(people.0, people.1);
    app.wait_for_link(ready);
    let mut client = app.client();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let waiting = seed_one(&mut client, people, Google);
    assert_eq!(inbox_size(&mut client), 1);
    for what in [
        "created_at = now()",
        "status = status, join_url = join_url, scheduled_start_at = scheduled_start_at",
    ] {
        let text = format!("UPDATE sessions SET {what} WHERE id = ANY ($1)");
        let changed = client.execute(&text, &[&vec![waiting, ready]]).unwrap();
        assert_eq!((changed, inbox_size(&mut client)), (2, 1), "{what}");
    }
    // So that the numbers above can be trusted: this one counts.
    client
        .execute(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 min'
              WHERE id = ANY ($1)",
            &[&vec![waiting, ready]],
        )
        .unwrap();
    assert_eq!(inbox_size(&mut client), 2, "the one with a link needs none");
}

#[test]
fn ten_thousand_sessions_in_one_statement_cost_one_pass() {
    let app = paused();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    client.batch_execute("SET track_functions = 'all'").unwrap();
    let sessions = seed(&mut client, people, Google, 10_000);
    assert_eq!(sessions.len(), 10_000);
    assert_eq!(
        (trigger_calls(&mut client), inbox_size(&mut client)),
        (1, 10_000),
        "INSERT"
    );

    let bookings: Vec<Uuid> = client
        .query(
            "INSERT INTO bookings (tutor_id, student_id)
             SELECT $1, $2 FROM generate_series(1, 10000) RETURNING id",
            &[&people.0.0, &people.1.0],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let start = (chrono::Utc::now() + Duration::from_secs(7_200)).to_rfc3339();
    let mut copy = client
        .copy_in(
            "COPY sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                            scheduled_end_at, duration_minutes) FROM STDIN",
        )
        .unwrap();
    let (tutor, student) = (people.0.0, people.1.0);
    for booking in &bookings {
        let end = (chrono::Utc::now() + Duration::from_secs(10_800)).to_rfc3339();
        writeln!(
            copy,
            "{booking}\t{tutor}\t{student}\tzoom\t{start}\t{end}\t60"
        )
        .unwrap();
    }
    assert_eq!(copy.finish().unwrap(), 10_000);
    assert_eq!(
        (trigger_calls(&mut client), inbox_size(&mut client)),
        (2, 20_000),
        "COPY"
    );
    let missed: i64 = app.value(
        "SELECT count(*) FROM sessions s
          WHERE NOT EXISTS (SELECT FROM meetlink.inbox i WHERE i.session_id = s.id)",
    );
    assert_eq!(missed, 0);
}

#[test]
fn an_open_booking_blocks_nobody_and_sends_no_notification() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut listener = app.client();
    listener.batch_execute("LISTEN meetlink").unwrap();
    let mut open = app.client();
    open.batch_execute("BEGIN").unwrap();
    let pid: i32 = open
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let held = seed_one(&mut open, people, Google);

    let locks: Vec<String> = app
        .client()
        .query(
            "SELECT DISTINCT format('%s %s %s', locktype, relation::regclass, mode) FROM pg_locks
              WHERE pid = $1 AND granted
                AND (locktype NOT IN ('relation', 'virtualxid', 'transactionid')
                     OR mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
                AND locktype NOT IN ('virtualxid', 'transactionid')",
            &[&pid],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        locks,
        Vec::<String>::new(),
        "locks that others may wait for"
    );

    let other = app.book(people.0, people.1);
    app.wait_for_link(other);
    // A table's own maintenance is not kept out either.
    let mut client = app.client();
    client.batch_execute("SET lock_timeout = '2 s'").unwrap();
    client.batch_execute("VACUUM meetlink.inbox").unwrap();
    open.batch_execute("COMMIT").unwrap();
    app.wait_for_link(held);

    client.batch_execute("NOTIFY meetlink, 'the end'").unwrap();
    let mut senders = Vec::new();
    meetlink_e2e::wait::until_true(Duration::from_secs(5), "the last notification", || {
        listener.batch_execute("SELECT 1").unwrap();
        let mut notifications = listener.notifications();
        let mut iterator = notifications.iter();
        let mut ended = false;
        while let Some(notification) = fallible_next(&mut iterator) {
            ended |= notification.payload() == "the end";
            senders.push(notification.process_id());
        }
        ended
    });
    assert!(senders.contains(&app.worker_pid()), "the worker tells");
    assert!(
        !senders.contains(&pid),
        "the booking's transaction does not"
    );
}

fn fallible_next(
    iterator: &mut impl postgres::fallible_iterator::FallibleIterator<
        Item = postgres::Notification,
        Error = postgres::Error,
    >,
) -> Option<postgres::Notification> {
    iterator.next().expect("notifications are read")
}

#[test]
fn a_broken_meetlink_costs_a_warning_and_not_the_booking() {
    let app = App::start();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let (mut client, notices) = listening(&app.cluster, "app");
    let take = || std::mem::take(&mut *notices.lock().unwrap());
    for (damage, repair) in [
        (
            "ALTER TABLE meetlink.inbox RENAME TO outbox",
            "ALTER TABLE meetlink.outbox RENAME TO inbox",
        ),
        (
            "ALTER SCHEMA meetlink RENAME TO elsewhere",
            "ALTER SCHEMA elsewhere RENAME TO meetlink",
        ),
    ] {
        client.batch_execute(damage).unwrap();
        take();
        let booked = seed_one(&mut client, people, Google);
        let said = take();
        assert!(
            said.iter()
                .any(|text| text.starts_with("WARNING: meetlink did not queue")
                    && text.contains("meetlink_create_missing")),
            "{damage}: {said:?}"
        );
        assert_eq!(link(&mut client, booked), None);
        // Through the application's own trigger too, which swallows errors.
        let confirmed = app.book(people.0, people.1);
        assert_eq!(link(&mut client, confirmed), None, "{damage}");
        client.batch_execute(repair).unwrap();
    }
    client
        .batch_execute("SELECT meetlink_create_missing()")
        .unwrap();
    life::wait_for_links(&app, 4, meetlink_e2e::app::SOON);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 4);
}

#[test]
fn a_session_that_changed_three_times_is_one_row_of_the_queue() {
    let app = paused();
    let mut client = app.client();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let session = seed_one(&mut client, people, Google);
    for minutes in [10, 20] {
        let moved = "UPDATE sessions SET scheduled_start_at = scheduled_start_at
                       + $2 * interval '1 min' WHERE id = $1";
        let rows = client.execute(moved, &[&session, &f64::from(minutes)]);
        assert_eq!(rows.unwrap(), 1);
    }
    assert_eq!(inbox_size(&mut client), 3);
    let first = "SELECT state, due_at = (SELECT min(queued_at) FROM meetlink.inbox
                                         WHERE session_id IS NOT NULL) FROM meetlink.queue";
    let rows = client.query(first, &[]).unwrap();
    let rows: Vec<(String, bool)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(rows, [("pending".to_owned(), true)]);
}
