//! The tables' owner tries to have his code run as whoever looks: from the predicate of an index,
//! and from a view that takes a table's place while somebody waits for it.

#[allow(dead_code, reason = "its grants alone are of use here")]
#[path = "support/callers.rs"]
mod callers;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::Zoom;
use uuid::Uuid;

/// Everything that a superuser asks of the application's tables.
fn questions(session: Uuid) -> Vec<String> {
    let mut all: Vec<String> = [
        "SELECT * FROM meetlink.missing_links",
        "SELECT * FROM meetlink.at_risk",
        "SELECT * FROM meetlink.tutor_connections",
        "SELECT * FROM meetlink_health()",
        "SELECT meetlink_create_missing()",
    ]
    .map(str::to_owned)
    .into();
    for call in [
        "status('ID')",
        "status('ID', 'student')",
        "retry('ID')",
        "wait('ID', '1 ms')",
        "resolve('ID', 'adopt')",
    ] {
        let call = call.replace("ID", &session.to_string());
        all.push(format!("SELECT meetlink_{call}"));
    }
    all
}

/// A session that waits, and functions of the owner's that say whom they run as.
fn scene() -> (App, Uuid) {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    // Looked at before anybody looks: it changes no more.
    app.wait_until("its job", "SELECT count(*) = 1 FROM meetlink.jobs");
    app.client()
        .batch_execute(
            "GRANT CREATE ON SCHEMA public TO app_owner; SET ROLE app_owner;
             CREATE FUNCTION public.say() RETURNS void LANGUAGE plpgsql AS $$
             BEGIN RAISE WARNING 'sprung as %', current_user; END $$;
             CREATE FUNCTION public.trap(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
             BEGIN PERFORM public.say(); RETURN $1; END $$;",
        )
        .unwrap();
    (app, session)
}

#[test]
fn a_superuser_who_asks_runs_no_predicate_of_the_owner() {
    let (app, session) = scene();
    app.client()
        .batch_execute(
            "SET ROLE app_owner;
             CREATE INDEX ON sessions (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON profiles (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON tutor_video_provider_connections (id)
              WHERE public.trap('x') = 'zoom';
             RESET ROLE; CREATE ROLE above LOGIN BYPASSRLS;
             GRANT USAGE ON SCHEMA meetlink TO above;
             GRANT SELECT ON ALL TABLES IN SCHEMA meetlink TO above;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, meetlink TO above;
             GRANT ALL ON sessions, profiles, tutor_video_provider_connections TO above;",
        )
        .unwrap();
    let mut betrayed = Vec::new();
    let tables = ["sessions", "profiles", "tutor_video_provider_connections"];
    let [free, bind] = ["NO FORCE", "FORCE"]
        .map(|how| tables.map(|table| format!("ALTER TABLE {table} {how} ROW LEVEL SECURITY;")));
    for (bound, role) in [
        (false, "postgres"),
        (false, "above"),
        (true, "postgres"),
        (true, "above"),
    ] {
        let change = if bound { &bind } else { &free };
        app.client().batch_execute(&change.concat()).unwrap();
        for question in questions(session) {
            let mark = app.cluster.log_mark();
            // In a session of its own: what is planned already folds no predicate.
            let mut client = app.cluster.connect("app", role);
            if let Err(error) = client.batch_execute(&question) {
                // What is not in doubt cannot be resolved; a bound owner sees nothing.
                assert!(
                    bound || question.contains("resolve"),
                    "{question}: {error:?}"
                );
            }
            let log = app.cluster.log_from(mark);
            if log.contains(&format!("sprung as {role}")) {
                betrayed.push(format!("{role}: {question}"));
            }
        }
    }
    assert!(betrayed.is_empty(), "{betrayed:#?}");
}

/// No owner may be another: a superuser sees the same rows all the same, and runs nobody's code.
#[test]
fn tables_of_several_owners_show_a_superuser_what_tables_of_one_did() {
    let (app, session) = scene();
    let views = [
        "SELECT m::text FROM meetlink.missing_links m",
        "SELECT r::text FROM meetlink.at_risk r",
        "SELECT t::text FROM meetlink.tutor_connections t",
    ];
    let mut client = app.client();
    client
        .batch_execute(r#"UPDATE profiles SET full_name = full_name || ' O''Hara \ "ü"'"#)
        .unwrap();
    let seen = || -> Vec<Vec<String>> {
        let rows = |text: &&str| app.client().query(*text, &[]).unwrap();
        let text = |view| rows(view).iter().map(|row| row.get(0)).collect();
        views.iter().map(text).collect()
    };
    let before = seen();
    assert!(before.iter().all(|rows| !rows.is_empty()), "{before:?}");
    client
        .batch_execute(
            "CREATE ROLE second; CREATE ROLE third; GRANT USAGE ON SCHEMA public TO second, third;
             ALTER TABLE profiles OWNER TO second;
             ALTER TABLE tutor_video_provider_connections OWNER TO third;
             CREATE INDEX ON sessions (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON profiles (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON tutor_video_provider_connections (id)
              WHERE public.trap('x') = 'zoom';",
        )
        .unwrap();
    let mark = app.cluster.log_mark();
    assert_eq!(seen(), before);
    for question in questions(session) {
        app.client().batch_execute(&question).ok();
    }
    let log = app.cluster.log_from(mark);
    assert!(log.contains("sprung as second"), "{log}");
    assert!(!log.contains("sprung as postgres"), "{log}");
}

#[test]
fn a_view_that_takes_a_tables_place_is_never_read() {
    let (app, session) = scene();
    app.client()
        .batch_execute(
            "GRANT USAGE ON SCHEMA meetlink TO authenticated;
             GRANT SELECT ON ALL TABLES IN SCHEMA meetlink TO authenticated;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, meetlink TO authenticated;",
        )
        .unwrap();
    let mut betrayed = Vec::new();
    for role in ["postgres", "authenticated"] {
        for question in questions(session) {
            let mark = app.cluster.log_mark();
            let mut owner = app.client();
            owner
                .batch_execute(&format!(
                    "SET ROLE app_owner; BEGIN;
                     ALTER TABLE sessions RENAME TO aside;
                     CREATE VIEW sessions AS
                       SELECT '{session}'::uuid AS id, NULL::uuid AS tutor_id,
                              NULL::uuid AS student_id, NULL::uuid AS booking_id,
                              public.trap(id::text) AS provider, now() AS scheduled_start_at,
                              now() + interval '1 h' AS scheduled_end_at, 60 AS duration_minutes,
                              public.trap(id::text) AS join_url,
                              public.trap(id::text) AS meeting_external_id,
                              NULL::timestamptz AS meeting_created_at,
                              public.trap(status) AS status
                         FROM aside;
                     GRANT ALL ON sessions, aside TO PUBLIC;"
                ))
                .unwrap();
            let mut asker = app.cluster.connect("app", "postgres");
            let pid: i32 = asker
                .query_one("SELECT pg_backend_pid()", &[])
                .unwrap()
                .get(0);
            asker.batch_execute(&format!("SET ROLE {role}")).unwrap();
            let asked = question.clone();
            let asking = std::thread::spawn(move || asker.batch_execute(&asked).is_ok());
            let waits = format!(
                "SELECT count(*) = 0 FROM pg_stat_activity
                  WHERE pid = {pid} AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'"
            );
            let mut look = app.client();
            wait::until_true(SOON, "the question to wait for the table", || {
                look.query_one(&waits, &[]).unwrap().get(0)
            });
            owner.batch_execute("COMMIT").unwrap();
            asking.join().expect("an answer, or an error");
            let log = app.cluster.log_from(mark);
            if log.contains(&format!("sprung as {role}")) {
                betrayed.push(format!("{role}: {question}"));
            }
            owner
                .batch_execute("DROP VIEW sessions; ALTER TABLE aside RENAME TO sessions")
                .unwrap();
        }
    }
    assert!(betrayed.is_empty(), "{betrayed:#?}");
}

/// The operator's role has no login: a superuser takes it on, and must not be taken off it again.
#[test]
fn who_acts_as_the_operator_is_not_put_back_to_who_is_logged_in() {
    let (app, _) = scene();
    app.client()
        .batch_execute(
            "SET ROLE app_owner;
             CREATE OR REPLACE FUNCTION public.say() RETURNS void LANGUAGE plpgsql AS $$
             BEGIN
               PERFORM set_config('role', 'none', false);
               RAISE WARNING 'climbed to %', current_user;
             EXCEPTION WHEN OTHERS THEN RAISE WARNING 'held back';
             END $$;
             CREATE INDEX ON sessions (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON profiles (id) WHERE public.trap('x') = 'zoom';
             CREATE INDEX ON tutor_video_provider_connections (id)
              WHERE public.trap('x') = 'zoom';",
        )
        .unwrap();
    app.client()
        .batch_execute(&callers::OPERATOR.concat())
        .unwrap();
    let mark = app.cluster.log_mark();
    for view in ["missing_links", "at_risk", "tutor_connections"] {
        let mut client = app.client();
        client.batch_execute("SET ROLE meetlink_operator").unwrap();
        client
            .batch_execute(&format!("TABLE meetlink.{view}"))
            .unwrap();
    }
    let log = app.cluster.log_from(mark);
    assert!(log.contains("held back"), "its code runs as the operator");
    assert!(!log.contains("climbed"), "{log}");
}
