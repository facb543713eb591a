//! The application's own table of notifications: tutors are told where they look.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use meetlink_e2e::app::{App, DATABASE, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Rule};
use notices::{delivery, link_within, notices as all, of, parked, refused, wait_for_delivery};
use serde_json::{Value, json};

fn attach(app: &App, columns: &Value, options: &Value) -> Result<Value, postgres::Error> {
    let attached = app.client().query_one(
        "SELECT meetlink_attach(columns => $1, options => $2)",
        &[columns, options],
    );
    attached.map(|row| row.get(0))
}

/// The application's rows of a tutor: type, title, message, link.
fn rows(app: &App, tutor: Person) -> Vec<(String, String, String, Option<String>)> {
    let rows = app.client().query(
        "SELECT type, title, message, link FROM notifications WHERE user_id = $1 ORDER BY created_at",
        &[&tutor.0],
    );
    rows.expect("the application's table")
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

#[test]
fn the_applications_own_table_gets_a_row_with_the_way_back() {
    let app = App::start();
    let page = "https://app.example/settings?video=1";
    let mapped = attach(&app, &json!({}), &json!({"reconnect_url": page})).unwrap();
    assert_eq!(mapped["notifications"], "public.notifications");
    let (tutor, session, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "application", "a row", |d| d.delivered);
    let [(kind, title, message, link)] = <[_; 1]>::try_from(rows(&app, tutor)).expect("one row");
    assert_eq!(kind, "meetlink_connect");
    assert!(!title.is_empty() && !title.contains('_'), "{title}");
    assert_eq!(message, notice.message);
    assert_eq!(link.as_deref(), Some(page));
    assert!(all(&app)[0].delivered);

    // The cure takes nothing out of a table that is the application's, and puts nothing in.
    app.connect(tutor, Google, AccountSpec::named("Ned"));
    app.wait_for_link(session);
    assert_eq!(rows(&app, tutor).len(), 1);

    let (zoe, _, failed) = refused(&app, "Zoe");
    wait_for_delivery(&app, failed.id, "application", "a row", |d| d.delivered);
    let [(kind, _, message, _)] = <[_; 1]>::try_from(rows(&app, zoe)).expect("one row");
    assert_eq!(kind, "meetlink_failed");
    // Which of many lessons, as its start is written where the database is.
    let start: String = app.value(&format!(
        "SELECT to_char(scheduled_start_at, 'FMDD FMMonth YYYY, HH24:MI TZ') FROM sessions
          WHERE tutor_id = '{}'",
        zoe.0
    ));
    assert_eq!(message, format!("{} (Lesson of {start}.)", failed.message));
    // As the application's policies have it, a tutor reads his own.
    let mut client = app.client();
    let mut transaction = client.transaction().unwrap();
    app.act_as(&mut transaction, zoe);
    let seen = transaction.query_one("SELECT count(*) FROM notifications", &[]);
    assert_eq!(seen.unwrap().get::<_, i64>(0), 1);
}

#[test]
fn operators_have_no_row_in_the_applications_table() {
    let app = App::start();
    app.cluster.psql(
        DATABASE,
        "DELETE FROM meetlink.providers WHERE provider = 'zoom'",
    );
    let (tutor, _) = support::stale_tutor(&app, Zoom, "Zoe");
    app.book(tutor, app.person("student", "Sam"));
    let notice = notices::wait_for(&app, "the operators", |n| n.kind == "operator");
    assert!(delivery(&app, notice.id, "application").is_none());
    parked(&app, "Ned");
    app.wait_until("Ned's row", "SELECT count(*) = 1 FROM notifications");
}

/// A trigger of the application runs as its owner, and can get nowhere from there.
#[test]
fn a_trigger_on_the_applications_table_runs_as_its_owner() {
    let app = App::start();
    app.cluster.psql(
        DATABASE,
        "CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO app_owner;
         CREATE TABLE trap.seen (what text, who text, went text); GRANT ALL ON trap.seen TO PUBLIC;
         SET ROLE app_owner;
         CREATE FUNCTION trap.spring() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
           try text;
         BEGIN
           FOREACH try IN ARRAY ARRAY[
             'SET ROLE postgres', 'RESET ROLE', 'RESET SESSION AUTHORIZATION',
             'ALTER ROLE app_owner SUPERUSER', 'SELECT * FROM meetlink.notifications',
             'UPDATE meetlink.config SET paused = true', 'CREATE TEMP TABLE t (n int)',
             'SET log_statement_stats = on', 'SHOW meetlink.key_file'] LOOP
             BEGIN
               EXECUTE try;
               INSERT INTO trap.seen VALUES (try, current_user, 'ran');
             EXCEPTION WHEN OTHERS THEN
               INSERT INTO trap.seen VALUES (try, current_user, SQLERRM);
             END;
           END LOOP;
           PERFORM set_config('search_path', 'trap', false);
           RETURN NEW;
         END $$;
         CREATE TRIGGER spring BEFORE INSERT ON public.notifications
           FOR EACH ROW EXECUTE FUNCTION trap.spring();",
    );
    let (tutor, _, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "application", "a row", |d| d.delivered);
    assert_eq!(rows(&app, tutor).len(), 1);
    let seen = app.cluster.psql(
        DATABASE,
        "SELECT what, who, went FROM trap.seen WHERE went = 'ran' OR who <> 'app_owner'",
    );
    assert_eq!(seen, "");
    let tried: i64 = app.value("SELECT count(*) FROM trap.seen");
    assert_eq!(tried, 9);
    support::Witness::new(&app, Google).still_served(&app);
}

#[test]
fn other_names_of_columns_are_mapped() {
    let app = App::start();
    app.cluster.psql(
        DATABASE,
        "CREATE SCHEMA inbox AUTHORIZATION app_owner; SET ROLE app_owner;
         CREATE TYPE inbox.sort AS ENUM ('meetlink_connect', 'meetlink_failed', 'other');
         CREATE TABLE inbox.news (\"for Whom\" uuid NOT NULL, body varchar(500) NOT NULL,
           sort inbox.sort NOT NULL, at timestamptz DEFAULT now());",
    );
    let columns = json!({"notifications":
        {"user_id": "for Whom", "message": "body", "type": "sort"}});
    let mapped = attach(&app, &columns, &json!({"notifications": "inbox.news"})).unwrap();
    assert_eq!(mapped["notifications"], "inbox.news");
    let (tutor, _, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "application", "a row", |d| d.delivered);
    let row = app
        .cluster
        .psql(DATABASE, "SELECT \"for Whom\", sort, body FROM inbox.news");
    assert_eq!(
        row,
        format!("{}|meetlink_connect|{}", tutor.0, notice.message)
    );
    assert!(
        rows(&app, tutor).is_empty(),
        "the other table is left alone"
    );
}

#[test]
fn misfits_are_named_where_the_table_was_asked_for() {
    let app = App::start();
    app.cluster.psql(
        DATABASE,
        "CREATE TABLE public.odd (user_id bigint, message text)",
    );
    for (columns, options, expected) in [
        (json!({}), json!({"notifications": "public.odd"}), "user_id"),
        (
            json!({}),
            json!({"notifications": "public.nowhere"}),
            "no such table",
        ),
        (
            json!({}),
            json!({"notifications": 1}),
            "options.notifications",
        ),
        (
            json!({"notifications": {"message": "txt"}}),
            json!({}),
            "\"txt\" (message) is not there",
        ),
        (
            json!({}),
            json!({"reconnect_url": "javascript:alert(1)"}),
            "options.reconnect_url",
        ),
        (
            json!({}),
            json!({"reconnect_url": "//evil.example/"}),
            "options.reconnect_url",
        ),
        (
            json!({}),
            json!({"reconnect_url": "/a\nb"}),
            "options.reconnect_url",
        ),
    ] {
        let error = attach(&app, &columns, &options).expect_err(expected);
        let error = error.as_db_error().expect("an error of the server");
        let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(text.contains(expected), "{options}: {text}");
    }
}

#[test]
fn a_table_that_only_has_the_name_or_is_not_wanted_is_left_alone() {
    let app = App::start();
    let mapped = attach(&app, &json!({}), &json!({"notifications": false})).unwrap();
    assert_eq!(mapped["notifications"], Value::Null);
    let (ned, _, notice) = parked(&app, "Ned");
    assert!(delivery(&app, notice.id, "application").is_none());

    app.cluster.psql(
        DATABASE,
        "ALTER TABLE notifications RENAME TO old_notifications;
         CREATE TABLE notifications (user_id uuid, subject text)",
    );
    let mapped = attach(&app, &json!({}), &json!({})).unwrap();
    assert_eq!(mapped["notifications"], Value::Null);
    let (_, _, notice) = parked(&app, "Nina");
    assert!(delivery(&app, notice.id, "application").is_none());
    let count: i64 = app.value(
        "SELECT (SELECT count(*) FROM notifications) +
                                       (SELECT count(*) FROM old_notifications)",
    );
    assert_eq!(count, 0, "{ned:?}");
}

#[test]
fn a_table_that_refuses_a_row_is_tried_again_and_stops_nothing() {
    let app = App::start();
    app.cluster.psql(
        DATABASE,
        "SET ROLE app_owner;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'no, says the application'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON notifications
           FOR EACH ROW EXECUTE FUNCTION refuse();",
    );
    let witness = support::Witness::new(&app, Google);
    let (tutor, session, notice) = parked(&app, "Ned");
    let failed = wait_for_delivery(&app, notice.id, "application", "two tries", |d| {
        d.attempts >= 2
    });
    assert!(failed.due && !failed.delivered, "{failed:?}");
    assert!(failed.error.is_some());
    witness.still_served(&app);
    app.wait_for_state(session, "needs_action");
    app.cluster
        .psql(DATABASE, "DROP TRIGGER refuse ON notifications");
    wait_for_delivery(&app, notice.id, "application", "a row", |d| d.delivered);
    assert_eq!(rows(&app, tutor).len(), 1);
}

#[test]
fn a_table_that_refuses_for_good_is_given_up_in_the_end() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "3"));
    app.cluster.psql(
        DATABASE,
        "ALTER TABLE notifications ADD CHECK (type <> 'meetlink_connect')",
    );
    let (_, _, notice) = parked(&app, "Ned");
    let failed = wait_for_delivery(&app, notice.id, "application", "its end", |d| !d.due);
    assert_eq!(
        (failed.attempts, failed.delivered),
        (3, false),
        "{failed:?}"
    );
}

/// A lock on the table costs nobody a link, however many wait for their row.
#[test]
fn a_table_that_is_locked_stops_nothing() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "100"));
    let (tutor, student) = (app.tutor(Google, "Ann"), app.person("student", "Sam"));
    app.wait_for_link(app.book(tutor, student));
    let mut client = app.client();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("LOCK notifications IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let parked = (0..60).map(|n| (app.person("tutor", &format!("Ned {n}")), student));
    let waiting: Vec<_> = parked
        .map(|(tutor, student)| app.book(tutor, student))
        .collect();
    wait::until_true(SOON, "all to be told", || all(&app).len() == waiting.len());
    for _ in 0..3 {
        link_within(&app, tutor, student, Duration::from_millis(1_000));
    }
    lock.rollback().unwrap();
    app.wait_until("every row", "SELECT count(*) = 60 FROM notifications");
    assert!(of(&app, tutor).is_empty());
    let failures: i64 = app.value(
        "SELECT count(*) FROM meetlink.attempts WHERE class NOT IN ('made', 'tutor_must_act')",
    );
    assert_eq!(failures, 0);
}

/// The table may go away, or lose a column, after it was mapped.
#[test]
fn a_table_that_is_gone_stops_nothing() {
    let app = App::start();
    let witness = support::Witness::new(&app, Zoom);
    app.cluster
        .psql(DATABASE, "ALTER TABLE notifications DROP COLUMN title");
    let (_, _, notice) = parked(&app, "Ned");
    wait_for_delivery(&app, notice.id, "application", "a try", |d| d.attempts > 0);
    witness.still_served(&app);
    app.cluster.psql(DATABASE, "DROP TABLE notifications");
    wait_for_delivery(&app, notice.id, "application", "its end", |d| {
        !d.due && !d.delivered
    });
    witness.still_served(&app);
    let (_, _, later) = parked(&app, "Nina");
    assert!(delivery(&app, later.id, "application").is_none_or(|d| !d.delivered));
    let limit = Rule::once(Zoom, Call::Create, Action::ServerError { status: 503 });
    app.simulator.fault(limit);
    witness.still_served(&app);
}
