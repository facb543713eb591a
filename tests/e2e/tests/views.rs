//! The views: the application's own questions answered alike, and nobody shown more than they may
//! see.

#[path = "support/life.rs"]
mod life;

use std::collections::BTreeSet;

use life::{seed, seed_one};
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use postgres::Client;

/// The two questions of the application, as they stand there.
const TUTORS: &str = "SELECT t.id, t.full_name, t.email, vpc.provider, vpc.connection_status, vpc.token_expires_at FROM profiles t LEFT JOIN tutor_video_provider_connections vpc ON vpc.tutor_id = t.id WHERE t.role = 'tutor' ORDER BY t.full_name;";
const MISSING: &str = "SELECT s.id AS session_id, s.booking_id, t.full_name AS tutor_name, st.full_name AS student_name, s.scheduled_start_at, s.provider, s.join_url, s.meeting_external_id, s.status FROM sessions s INNER JOIN profiles t ON t.id = s.tutor_id INNER JOIN profiles st ON st.id = s.student_id WHERE (s.join_url IS NULL OR s.meeting_external_id IS NULL) AND s.scheduled_start_at > NOW() AND s.status IN ('SCHEDULED', 'JOIN_OPEN') ORDER BY s.scheduled_start_at;";

/// Rows as Postgres prints them; psql leaves no type out.
fn rows(app: &App, query: &str) -> Vec<String> {
    let text = app.cluster.psql("app", query);
    text.lines().map(str::to_owned).collect()
}

/// Sessions in every condition, and tutors too.
fn mixed() -> App {
    let app = App::start();
    let mut client = app.client();
    let student = app.person("student", "Sam");
    let other = app.person("student", "Olga");
    let tutors = [
        app.tutor(Google, "Gia"),
        app.tutor(Zoom, "Zoe"),
        app.person("tutor", "Ned Nowhere"),
        app.tutor(Zoom, "Rita Revoked"),
    ];
    client
        .execute(
            "UPDATE tutor_video_provider_connections SET connection_status = 'needs_reauth'
              WHERE tutor_id = $1",
            &[&tutors[3].0],
        )
        .unwrap();
    client
        .batch_execute(
            "INSERT INTO profiles (full_name, email, role)
             VALUES (NULL, NULL, 'tutor'), ('Ümit, \"the\" tutor', '', 'tutor'), ('Ada', 'a@b.c', 'admin')",
        )
        .unwrap();
    for tutor in [tutors[0], tutors[1]] {
        let session = app.book(tutor, student);
        app.wait_for_link(session);
    }
    client.batch_execute("SELECT meetlink_pause()").unwrap();
    life::wait_for_no_worker(&app.cluster, "app", std::time::Duration::from_secs(5));
    for (number, tutor) in tutors.into_iter().enumerate() {
        for (turn, change) in [
            "id = id",
            "status = 'CANCELLED'",
            "status = 'JOIN_OPEN'",
            "status = 'COMPLETED_ASSUMED'",
            "join_url = 'https://zoom.us/j/1'",
            "meeting_external_id = 'abc'",
            "scheduled_start_at = now() - interval '10 min'",
            "scheduled_start_at = now() - interval '9 h', scheduled_end_at = now() - interval '8 h'",
        ]
        .into_iter()
        .enumerate()
        {
            let people = (tutor, if turn % 2 == 0 { student } else { other });
            let session = seed_one(&mut client, people, Zoom);
            let ahead = i32::try_from(number * 100 + turn).unwrap();
            client
                .execute(
                    "UPDATE sessions SET scheduled_start_at = scheduled_start_at + $2 * interval '1 s'
                      WHERE id = $1",
                    &[&session, &f64::from(ahead)],
                )
                .unwrap();
            client
                .execute(&format!("UPDATE sessions SET {change} WHERE id = $1"), &[&session])
                .unwrap();
        }
    }
    app
}

#[test]
fn the_applications_own_two_questions_agree_with_the_views_row_by_row() {
    let app = mixed();
    let check = |when: &str| {
        let asked = rows(&app, TUTORS);
        let shown = rows(
            &app,
            "SELECT id, full_name, email, provider, connection_status, token_expires_at
               FROM meetlink.tutor_connections",
        );
        assert_eq!(asked, shown, "{when}");
        assert_eq!(asked.len(), 6, "{when}: {asked:#?}");
        let asked = rows(&app, MISSING);
        let shown = rows(
            &app,
            "SELECT session_id, booking_id, tutor_name, student_name, scheduled_start_at, provider,
                    join_url, meeting_external_id, status FROM meetlink.missing_links",
        );
        assert_eq!(asked, shown, "{when}");
        asked.len()
    };
    assert_eq!(check("before"), 16);
    let mut client = app.client();
    client
        .batch_execute("SELECT meetlink_create_missing(); SELECT meetlink_resume()")
        .unwrap();
    app.wait_until(
        "everything possible to be done",
        "SELECT NOT EXISTS (SELECT FROM meetlink.queue WHERE state <> 'needs_action')",
    );
    // Half of them belong to tutors without a working connection.
    assert_eq!(check("after"), 8);
    let states = rows(&app, "SELECT DISTINCT state FROM meetlink.missing_links");
    assert_eq!(states, ["needs_action"]);
    let waiting = rows(
        &app,
        "SELECT full_name, waiting_sessions FROM meetlink.tutor_connections
          WHERE waiting_sessions > 0",
    );
    // Five each: four as above, and the one that has begun and is not over.
    assert_eq!(waiting, ["Ned Nowhere|5", "Rita Revoked|5"]);
}

const GRANTS: &str = "
    GRANT USAGE ON SCHEMA meetlink TO authenticated, anon;
    GRANT SELECT ON meetlink.missing_links, meetlink.tutor_connections TO authenticated, anon;
    GRANT EXECUTE ON FUNCTION meetlink.read_missing_sessions(), meetlink.read_tutors(),
      meetlink.read_visible(uuid[])
      TO authenticated, anon";

/// A person's answer to a query.
fn seen_by(app: &App, person: Person, query: &str) -> BTreeSet<String> {
    let mut client = app.client();
    let mut transaction = client.transaction().unwrap();
    app.act_as(&mut transaction, person);
    let rows = transaction
        .query(query, &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn nobody_sees_more_through_the_views_than_row_security_allows() {
    let app = mixed();
    let mut client = app.client();
    client.batch_execute(GRANTS).unwrap();
    let people: Vec<Person> = client
        .query("SELECT id FROM profiles ORDER BY id", &[])
        .unwrap()
        .iter()
        .map(|row| Person(row.get(0)))
        .collect();
    let everything = rows(&app, "SELECT session_id FROM meetlink.missing_links").len();
    let mut answers = BTreeSet::new();
    for person in people {
        let sessions = seen_by(
            &app,
            person,
            "SELECT session_id::text FROM meetlink.missing_links",
        );
        let own = MISSING.replacen("s.id AS session_id", "s.id::text", 1);
        assert_eq!(sessions, seen_by(&app, person, &own));
        answers.insert(sessions.len());
        assert!(sessions.len() < everything, "{} sees all", person.0);
        let tutors = seen_by(
            &app,
            person,
            "SELECT format('%s %s %s', id, provider, connection_status)
               FROM meetlink.tutor_connections",
        );
        let own = TUTORS.replacen(
            "SELECT t.id, t.full_name, t.email, vpc.provider, vpc.connection_status, vpc.token_expires_at",
            "SELECT format('%s %s %s', t.id, vpc.provider, vpc.connection_status)",
            1,
        );
        assert_eq!(tutors, seen_by(&app, person, &own));
    }
    assert!(
        answers.len() > 2,
        "people see different things: {answers:?}"
    );
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("SET LOCAL ROLE anon").unwrap();
    let (code, ..) = life::refusal(transaction.query("TABLE meetlink.missing_links", &[]));
    assert_eq!(
        code, "42501",
        "anon has no right on the application's tables"
    );
}

#[test]
fn a_student_learns_nothing_about_a_tutors_other_students() {
    let app = App::start();
    let mut client = app.client();
    client.batch_execute(GRANTS).unwrap();
    let tutor = app.person("tutor", "Ned Nowhere");
    let (student, other) = (app.person("student", "Sam"), app.person("student", "Olga"));
    let own = app.book(tutor, student);
    let foreign = seed(&mut client, (tutor, other), Zoom, 4);
    app.wait_for_state(own, "needs_action");
    for session in foreign {
        app.wait_for_state(session, "needs_action");
    }
    let count = "SELECT waiting_sessions::text FROM meetlink.tutor_connections";
    assert_eq!(
        seen_by(&app, tutor, count),
        BTreeSet::from(["5".to_owned()])
    );
    assert_eq!(
        seen_by(&app, student, count),
        BTreeSet::from(["1".to_owned()]),
        "his own; the other four are hidden from him"
    );
}

fn one(client: &mut Client, query: &str) -> postgres::Row {
    client
        .query_one(query, &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"))
}

#[test]
fn queue_attempts_and_workers_tell_what_is_going_on() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let mut client = app.client();
    app.simulator.fault(Rule::once(
        Google,
        Call::Insert,
        Action::ServerError { status: 503 },
    ));
    app.simulator
        .fault(Rule::once(Google, Call::Insert, Action::Delay { ms: 600 }).skip(1));
    let session = app.book(tutor, student);
    meetlink_e2e::wait::until_true(meetlink_e2e::app::SOON, "the second request", || {
        app.simulator.calls(Google, Call::Insert).len() == 2
    });
    let row = one(
        &mut client,
        "SELECT session_id, state, provider, attempts, lease_holder, lease_until > now()
           FROM meetlink.queue",
    );
    assert_eq!(row.get::<_, uuid::Uuid>(0), session);
    assert_eq!(row.get::<_, String>(1), "creating");
    assert_eq!(row.get::<_, String>(2), "google_meet");
    assert_eq!(row.get::<_, i32>(3), 2);
    assert_eq!(row.get::<_, i32>(4), app.worker_pid());
    assert!(row.get::<_, bool>(5), "the lease lasts longer");
    let row = one(&mut client, "SELECT state, in_flight FROM meetlink.workers");
    assert_eq!(
        (row.get::<_, String>(0).as_str(), row.get::<_, i32>(1)),
        ("busy", 1)
    );
    app.wait_for_link(session);
    app.wait_until(
        "an idle worker",
        "SELECT state = 'idle' AND in_flight = 0 AND last_error IS NULL FROM meetlink.workers",
    );
    assert_eq!(
        one(&mut client, "SELECT count(*) FROM meetlink.queue").get::<_, i64>(0),
        0
    );
    let attempts = rows(
        &app,
        "SELECT session_id, provider, number, class, http_status, ended_at >= started_at,
                error IS NOT NULL FROM meetlink.attempts ORDER BY id",
    );
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert!(
        attempts[0].contains("|google_meet|1|") && attempts[0].contains("|503|t|t"),
        "{attempts:?}"
    );
    assert_eq!(attempts[1], format!("{session}|google_meet|2|made||t|f"));
}
