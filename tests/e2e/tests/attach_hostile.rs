//! Surroundings that are not made for meetlink: settings of the database, row security that binds
//! the owner, triggers that say no without a word, sessions that vanish.

#[path = "support/life.rs"]
mod life;

use life::{link, seed, seed_one};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};

#[test]
fn settings_of_the_database_do_not_lead_the_worker_astray() {
    let app = App::start();
    let people = [Google, Zoom].map(|provider| {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        (
            tutor,
            app.person("student", &format!("{provider:?} student")),
        )
    });
    let mut client = app.client();
    for setting in [
        "search_path = ''",
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "TimeZone = 'Asia/Kolkata'",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = 'sql_standard'",
        "extra_float_digits = -15",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "transform_null_equals = on",
        "row_security = off",
        "statement_timeout = '20ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        "client_min_messages = 'error'",
        "enable_seqscan = off",
        "jit_above_cost = 0",
    ] {
        client
            .batch_execute(&format!("ALTER DATABASE app SET {setting}"))
            .unwrap();
    }
    client
        .batch_execute("SELECT pg_terminate_backend(pid) FROM meetlink.workers")
        .unwrap();
    for (people, provider) in people.into_iter().zip([Google, Zoom]) {
        app.simulator.fault(Rule::once(
            provider,
            Call::Create,
            Action::ServerError { status: 503 },
        ));
        let session = seed_one(&mut client, people, provider);
        wait::until_true(SOON, "the link", || link(&mut client, session).is_some());
        let meeting = app.simulator.meetings(provider).remove(0);
        let start = match provider {
            Google => &meeting.body["start"]["dateTime"],
            Zoom => &meeting.body["start_time"],
        };
        let same: bool = client
            .query_one(
                "SELECT abs(extract(epoch FROM scheduled_start_at - $2::text::timestamptz)) < 1
                   FROM sessions WHERE id = $1",
                &[&session, &start.as_str().unwrap()],
            )
            .unwrap()
            .get(0);
        assert!(same, "{provider:?} was told {start}");
    }
}

#[test]
fn a_database_made_read_only_is_waited_for() {
    let app = App::start();
    let people = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    client
        .batch_execute(
            "ALTER DATABASE app SET default_transaction_read_only = on;
             SELECT pg_terminate_backend(pid) FROM meetlink.workers",
        )
        .unwrap();
    let session = seed_one(&mut client, people, Google);
    // Whether the worker heeds it or not is its own affair; the link must come in the end.
    app.wait_until(
        "the link, or the reason why not",
        "SELECT EXISTS (SELECT FROM sessions WHERE join_url IS NOT NULL)
             OR EXISTS (SELECT FROM meetlink.workers WHERE last_error ~ 'read-only')",
    );
    client
        .batch_execute(
            "SET default_transaction_read_only = off;
             ALTER DATABASE app RESET default_transaction_read_only;
             SELECT pg_terminate_backend(pid) FROM meetlink.workers",
        )
        .unwrap();
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
}

#[test]
fn row_security_that_binds_the_owner_too_is_not_mistaken_for_success() {
    let app = App::start();
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    client
        .batch_execute("ALTER TABLE sessions FORCE ROW LEVEL SECURITY")
        .unwrap();
    let session = seed_one(&mut client, people, Zoom);
    app.wait_until(
        "the worker to say what it waits for",
        "SELECT EXISTS (SELECT FROM meetlink.workers WHERE last_error LIKE '%row-level security%')",
    );
    // Nobody's place is lost: the job waits for the table, not for a person.
    let state = format!("SELECT state FROM meetlink.queue WHERE session_id = '{session}'");
    assert_eq!(app.value::<String>(&state), "pending");
    // Who sees everything looks as the owner.
    let asked = client.query_one("SELECT meetlink_status($1)", &[&session]);
    let (code, _, hint) = life::refusal(asked);
    assert_eq!(code, "42501");
    assert!(hint.contains("BYPASSRLS"), "{hint}");
    client
        .batch_execute("ALTER TABLE sessions NO FORCE ROW LEVEL SECURITY")
        .unwrap();
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 1);
}

#[test]
fn a_trigger_that_drops_the_link_without_a_word_is_noticed() {
    let app = App::start();
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    for body in ["RETURN NULL", "NEW.join_url := OLD.join_url; RETURN NEW"] {
        client
            .batch_execute(&format!(
                "CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql
                   AS $$ BEGIN {body}; END $$;
                 CREATE TRIGGER keep BEFORE UPDATE ON sessions
                   FOR EACH ROW EXECUTE FUNCTION keep()"
            ))
            .unwrap();
        let session = seed_one(&mut client, people, Zoom);
        app.wait_until(
            &format!("the reason why no link comes ({body})"),
            &format!(
                "SELECT EXISTS (SELECT FROM meetlink.queue
                                 WHERE session_id = '{session}' AND last_error IS NOT NULL)"
            ),
        );
        client
            .batch_execute("DROP TRIGGER keep ON sessions")
            .unwrap();
        app.wait_for_link(session);
    }
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 2);
}

#[test]
fn sessions_that_vanish_while_their_links_are_made_leave_the_worker_in_peace() {
    let app = App::start();
    let people = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    app.simulator
        .fault(Rule::always(Google, Call::Insert, Action::Delay { ms: 300 }).times(6));
    let mut client = app.client();
    let sessions = seed(&mut client, people, Google, 6);
    wait::until_true(SOON, "requests", || {
        app.simulator.in_flight(Google).now == 6
    });
    let pid = app.worker_pid();
    client
        .execute("DELETE FROM sessions WHERE id = $1", &[&sessions[0]])
        .unwrap();
    client.batch_execute("TRUNCATE sessions").unwrap();
    app.wait_until(
        "an idle worker without anything in its queue",
        "SELECT state = 'idle' AND NOT EXISTS (SELECT FROM meetlink.queue) FROM meetlink.workers",
    );
    let (tutor, student) = people;
    app.wait_for_link(app.book(tutor, student));
    assert_eq!(app.worker_pid(), pid);
    let history: i64 = app.value("SELECT count(*) FROM meetlink.attempts WHERE class = 'made'");
    assert_eq!(history, 7, "the meetings that were made are on record");
}

#[test]
fn what_the_applications_triggers_book_or_revive_in_the_worker_gets_its_link_too() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    let cancelled = seed_one(&mut client, (tutor, student), Zoom);
    app.wait_for_link(cancelled);
    client
        .execute(
            "UPDATE sessions SET status = 'CANCELLED', join_url = NULL WHERE id = $1",
            &[&cancelled],
        )
        .unwrap();
    // A series: each link brings the next lesson, and the third one revives the cancelled one.
    client
        .batch_execute(&format!(
            "SET ROLE app_owner;
             CREATE FUNCTION next_lesson() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF (SELECT count(*) FROM sessions) < 4 THEN
                 INSERT INTO bookings (tutor_id, student_id, status, confirmed_start_at,
                                       confirmed_end_at)
                 VALUES (NEW.tutor_id, NEW.student_id, 'CONFIRMED',
                         NEW.scheduled_start_at + interval '7 days',
                         NEW.scheduled_end_at + interval '7 days');
               ELSE
                 UPDATE sessions SET status = 'SCHEDULED' WHERE id = '{cancelled}';
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER next_lesson AFTER UPDATE OF join_url ON sessions FOR EACH ROW
               WHEN (OLD.join_url IS NULL AND NEW.join_url IS NOT NULL)
               EXECUTE FUNCTION next_lesson();
             RESET ROLE"
        ))
        .unwrap();
    app.book(tutor, student);
    life::wait_for_links(&app, 4, SOON);
    assert_eq!(app.simulator.meetings_ever(Zoom).len(), 4);
}

#[test]
fn a_session_without_a_tutor_fails_and_gets_its_link_once_it_has_one() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    client
        .batch_execute("ALTER TABLE sessions ALTER COLUMN tutor_id DROP NOT NULL")
        .unwrap();
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    let session = seed_one(&mut client, (tutor, student), Google);
    client
        .execute(
            "UPDATE sessions SET tutor_id = NULL WHERE id = $1",
            &[&session],
        )
        .unwrap();
    client.batch_execute("SELECT meetlink_resume()").unwrap();
    let status = app.wait_for_state(session, "failed");
    assert_eq!(status["action"]["kind"], "contact_support", "{status}");
    client
        .execute(
            "UPDATE sessions SET tutor_id = $2 WHERE id = $1",
            &[&session, &tutor.0],
        )
        .unwrap();
    app.wait_for_link(session);
}
