//! Sessions that come in other ways: through partitions, other statements, and prepared
//! transactions.

#[path = "support/life.rs"]
mod life;

use std::time::Duration;

use life::{link, seed_one};
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Options;
use meetlink_simulator::Provider::{Google, Zoom};
use postgres::Client;
use uuid::Uuid;

/// The application with its sessions in partitions: one for this year's, one for far ones, and the
/// rest.
fn partitioned() -> App {
    let app = App::unattached(Options::default(), |options| options);
    app.client()
        .batch_execute(
            "DROP TABLE sessions;
             SET ROLE app_owner;
             CREATE TABLE sessions (
               id uuid NOT NULL DEFAULT gen_random_uuid(),
               booking_id uuid NOT NULL, tutor_id uuid NOT NULL, student_id uuid NOT NULL,
               provider text NOT NULL,
               scheduled_start_at timestamptz NOT NULL, scheduled_end_at timestamptz NOT NULL,
               duration_minutes integer NOT NULL, join_url text, meeting_external_id text,
               meeting_created_at timestamptz, status text NOT NULL DEFAULT 'SCHEDULED',
               PRIMARY KEY (id, scheduled_start_at)
             ) PARTITION BY RANGE (scheduled_start_at);
             -- Made on its own: its columns stand in another order, with a gap.
             CREATE TABLE sessions_rest (
               status text NOT NULL DEFAULT 'SCHEDULED', gone text, join_url text,
               meeting_external_id text, meeting_created_at timestamptz,
               duration_minutes integer NOT NULL, scheduled_end_at timestamptz NOT NULL,
               scheduled_start_at timestamptz NOT NULL, provider text NOT NULL,
               student_id uuid NOT NULL, tutor_id uuid NOT NULL, booking_id uuid NOT NULL,
               id uuid NOT NULL DEFAULT gen_random_uuid());
             ALTER TABLE sessions_rest DROP COLUMN gone;
             ALTER TABLE sessions ATTACH PARTITION sessions_rest DEFAULT;
             DO $$ BEGIN
               EXECUTE format('CREATE TABLE sessions_soon PARTITION OF sessions
                               FOR VALUES FROM (%L) TO (%L)', now() - interval '1 day',
                                                              now() + interval '10 days');
             END $$",
        )
        .expect("the table is partitioned");
    app.attach();
    app
}

fn insert(client: &mut Client, table: &str, people: (Person, Person), ahead: &str) -> Uuid {
    client
        .query_one(
            &format!(
                "INSERT INTO {table} (booking_id, tutor_id, student_id, provider,
                   scheduled_start_at, scheduled_end_at, duration_minutes)
                 VALUES (gen_random_uuid(), $1, $2, 'google_meet', now() + interval '{ahead}',
                         now() + interval '{ahead} 50 min', 50) RETURNING id"
            ),
            &[&people.0.0, &people.1.0],
        )
        .unwrap_or_else(|error| panic!("inserting into {table}: {error}"))
        .get(0)
}

fn table_of(client: &mut Client, session: Uuid) -> String {
    client
        .query_one(
            "SELECT tableoid::regclass::text FROM sessions WHERE id = $1",
            &[&session],
        )
        .unwrap()
        .get(0)
}

#[test]
fn a_partitioned_table_queues_through_its_root_and_its_leaves() {
    let app = partitioned();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    for (table, ahead, leaf) in [
        ("sessions", "1 hour", "sessions_soon"),
        ("sessions", "30 days", "sessions_rest"),
        ("sessions_soon", "1 hour", "sessions_soon"),
        ("sessions_rest", "30 days", "sessions_rest"),
    ] {
        let session = insert(&mut client, table, people, ahead);
        app.wait_for_link(session);
        assert_eq!(table_of(&mut client, session), leaf);
    }
    assert_eq!(app.simulator.meetings_ever(Google).len(), 4);

    // Changed through the root and through the leaf itself.
    for table in ["sessions", "sessions_rest"] {
        client.batch_execute("BEGIN").unwrap();
        let session = insert(&mut client, table, people, "30 days");
        let set = |client: &mut Client, what: &str| {
            let text = format!("UPDATE {table} SET {what} WHERE id = $1");
            assert_eq!(client.execute(&text, &[&session]).unwrap(), 1);
        };
        set(&mut client, "status = 'CANCELLED'");
        client.batch_execute("COMMIT").unwrap();
        app.wait_until(
            "the cancelled session to be looked at",
            "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
        );
        set(&mut client, "status = 'SCHEDULED'");
        app.wait_for_link(session);
    }
}

#[test]
fn a_partition_that_comes_later_queues_through_the_root_and_is_attached_again() {
    let app = partitioned();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();
    client
        .batch_execute(
            "DO $$ BEGIN
               EXECUTE format('CREATE TABLE sessions_later PARTITION OF sessions
                               FOR VALUES FROM (%L) TO (%L)', now() + interval '10 days',
                                                              now() + interval '20 days');
             END $$",
        )
        .unwrap();
    let through_root = insert(&mut client, "sessions", people, "15 days");
    app.wait_for_link(through_root);
    assert_eq!(table_of(&mut client, through_root), "sessions_later");
    // Into the new leaf itself: once it is attached, too.
    client.batch_execute("SELECT meetlink_attach()").unwrap();
    let reached = insert(&mut client, "sessions_later", people, "15 days");
    app.wait_for_link(reached);
}

#[test]
fn a_row_that_moves_to_another_partition_keeps_its_claim_to_a_link() {
    let app = partitioned();
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut client = app.client();

    // Moved while it waits.
    client.batch_execute("BEGIN").unwrap();
    let moved = insert(&mut client, "sessions", people, "1 hour");
    client
        .execute(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '30 days',
                    scheduled_end_at = scheduled_end_at + interval '30 days' WHERE id = $1",
            &[&moved],
        )
        .unwrap();
    client.batch_execute("COMMIT").unwrap();
    app.wait_for_link(moved);
    assert_eq!(table_of(&mut client, moved), "sessions_rest");

    // Cancelled, and taken up again at another time in one statement.
    client.batch_execute("BEGIN").unwrap();
    let revived = insert(&mut client, "sessions", people, "1 hour");
    client
        .execute(
            "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1",
            &[&revived],
        )
        .unwrap();
    client.batch_execute("COMMIT").unwrap();
    app.wait_until(
        "the cancelled session to be looked at",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    client
        .execute(
            "UPDATE sessions SET status = 'SCHEDULED',
                    scheduled_start_at = scheduled_start_at + interval '30 days',
                    scheduled_end_at = scheduled_end_at + interval '30 days' WHERE id = $1",
            &[&revived],
        )
        .unwrap();
    app.wait_for_link(revived);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 2);
}

#[test]
fn every_statement_that_brings_a_session_queues_it() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    let columns =
        "booking_id, tutor_id, student_id, provider, scheduled_start_at, scheduled_end_at,
                   duration_minutes";
    let values = format!(
        "$1, '{}', '{}', 'zoom', now() + interval '1 h', now() + interval '2 h', 60",
        tutor.0, student.0
    );
    for statement in [
        format!("INSERT INTO sessions ({columns}) VALUES ({values})"),
        format!(
            "INSERT INTO sessions ({columns}) VALUES ({values}) ON CONFLICT (booking_id) DO UPDATE
             SET status = 'SCHEDULED'"
        ),
        format!(
            "MERGE INTO sessions s USING (SELECT $1::uuid AS b) x ON s.booking_id = x.b
             WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
        ),
        format!(
            "WITH new AS (INSERT INTO sessions ({columns}) VALUES ({values}) RETURNING id)
             SELECT FROM new"
        ),
    ] {
        let booking: Uuid = client
            .query_one(
                "INSERT INTO bookings (tutor_id, student_id) VALUES ($1, $2) RETURNING id",
                &[&tutor.0, &student.0],
            )
            .unwrap()
            .get(0);
        client
            .execute(&statement, &[&booking])
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        let session: Uuid = client
            .query_one("SELECT id FROM sessions WHERE booking_id = $1", &[&booking])
            .unwrap()
            .get(0);
        app.wait_for_link(session);
    }
    // The other branch of an upsert.
    client
        .batch_execute("UPDATE sessions SET status = 'CANCELLED', join_url = NULL")
        .unwrap();
    client
        .batch_execute(
            "INSERT INTO sessions SELECT * FROM sessions
             ON CONFLICT (id) DO UPDATE SET status = 'SCHEDULED'",
        )
        .unwrap();
    life::wait_for_links(&app, 4, meetlink_e2e::app::SOON);
}

#[test]
fn a_prepared_transaction_gets_its_link_once_it_is_committed_by_whomever() {
    let app = App::with(|options| options.set("max_prepared_transactions", "5"));
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let prepare = |name: &str| {
        let mut client = app.client();
        client.batch_execute("BEGIN").unwrap();
        let session = seed_one(&mut client, people, Zoom);
        client
            .batch_execute(&format!("PREPARE TRANSACTION '{name}'"))
            .unwrap();
        session
    };
    let kept = prepare("kept");
    let dropped = prepare("dropped");
    // The worker has nothing else to do, and is asleep again by then.
    app.wait_until(
        "an idle worker",
        "SELECT state = 'idle' FROM meetlink.workers",
    );
    let mut client = app.client();
    client.batch_execute("COMMIT PREPARED 'kept'").unwrap();
    client.batch_execute("ROLLBACK PREPARED 'dropped'").unwrap();
    meetlink_e2e::wait::until_true(
        Duration::from_secs(8),
        "the prepared booking's link",
        || link(&mut client, kept).is_some(),
    );
    assert!(!life::is_queued(&mut client, dropped));
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
}

#[test]
fn a_transaction_prepared_before_a_restart_gets_its_link() {
    let mut app = App::with(|options| options.set("max_prepared_transactions", "5"));
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    client.batch_execute("BEGIN").unwrap();
    let session = seed_one(&mut client, people, Zoom);
    client.batch_execute("PREPARE TRANSACTION 'kept'").unwrap();
    drop(client);
    app.cluster.restart(meetlink_e2e::StopMode::Fast);
    app.wait_until(
        "an idle worker",
        "SELECT state = 'idle' FROM meetlink.workers",
    );
    let mut client = app.client();
    client.batch_execute("COMMIT PREPARED 'kept'").unwrap();
    meetlink_e2e::wait::until_true(
        Duration::from_secs(8),
        "the prepared booking's link",
        || link(&mut client, session).is_some(),
    );
}
