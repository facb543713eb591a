//! What README says in passing, of PostgreSQL most of all, seen.

use meetlink_e2e::app::{App, DATABASE, SOON};
use postgres::fallible_iterator::FallibleIterator;
use serde_json::Value;

const COMMAND: &str = "printf 'k1 %064d\\n' 0";

/// What a call gives where somebody has made a function of the same name beside ours.
fn answered_by(app: &App, signature: &str, call: &str) -> Result<String, String> {
    let text = format!(
        "BEGIN;
         CREATE FUNCTION public.meetlink_connect({signature}) RETURNS text LANGUAGE sql AS
           'SELECT ''theirs''::text';
         SELECT meetlink_connect({call});
         ROLLBACK;"
    );
    let answer = app.cluster.try_psql(DATABASE, "postgres", &text);
    answer.map_err(|complaint| complaint.to_string())
}

#[test]
fn a_function_of_the_same_name_takes_calls_with_untyped_literals_and_no_typed_ones() {
    let app = App::start();
    let id = app.person("tutor", "Zoe").0;
    let untyped = format!("'{id}', 'zoom', 'token'");
    let typed = format!("'{id}'::uuid, 'zoom', 'token'");
    let texts = "text, text, text";
    assert_eq!(answered_by(&app, texts, &untyped).as_deref(), Ok("theirs"));
    // Ours gives nothing back.
    assert_eq!(answered_by(&app, texts, &typed).as_deref(), Ok(""));
    let complaint = answered_by(&app, "uuid, text, text", &typed).expect_err("neither");
    assert!(complaint.contains("is not unique"), "{complaint}");
}

#[test]
fn monitoring_reads_the_text_of_the_key_command_and_others_do_not() {
    let mut app = App::start();
    app.cluster
        .reload_with(&[("meetlink.key_command", COMMAND), ("meetlink.key_file", "")]);
    app.cluster.psql(
        DATABASE,
        "CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE passer_by LOGIN",
    );
    let show = "SHOW meetlink.key_command";
    let seen = app.cluster.try_psql(DATABASE, "watcher", show);
    assert_eq!(seen.expect("it may"), COMMAND);
    let seen = app.cluster.try_psql(DATABASE, "passer_by", show);
    seen.expect_err("it may not");
}

#[test]
fn everybody_who_can_connect_may_listen_and_learns_ids_and_states_only() {
    let app = App::start();
    app.cluster.psql(DATABASE, "CREATE ROLE passer_by LOGIN");
    let mut client = app.cluster.connect(DATABASE, "passer_by");
    let listening = client.batch_execute("LISTEN meetlink");
    listening.expect("nothing forbids it");
    let (tutor, student) = (app.person("tutor", "Ned"), app.person("student", "Sam"));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "needs_action");
    let mut notifications = client.notifications();
    let told = notifications.timeout_iter(SOON).next();
    let told = told.expect("a connection").expect("a notification");
    assert_eq!(told.channel(), "meetlink");
    let payload: Value = serde_json::from_str(told.payload()).expect("JSON");
    let keys: Vec<_> = payload.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["session_id", "state"]);
    assert_eq!(payload["session_id"], session.to_string());
}

#[test]
fn attaching_again_forgets_what_it_is_not_told_again() {
    let app = App::start();
    let options = "options => '{\"caller_setting\": \"app.user_id\"}'";
    let columns = "columns => '{\"connections\": {\"is_active\": null}}'";
    let holds = || -> Value {
        app.value(
            "SELECT jsonb_build_array(options, columns #> '{connections,is_active,column}')
               FROM meetlink.config",
        )
    };
    let attach = |arguments: &str| {
        let call = format!("SELECT meetlink_attach({arguments})");
        app.cluster.psql(DATABASE, &call);
    };
    attach(&format!("{columns}, {options}"));
    assert_eq!(
        holds(),
        serde_json::json!([{"caller_setting": "app.user_id"}, null])
    );
    attach(columns);
    assert_eq!(holds(), serde_json::json!([{}, null]));
    attach("");
    assert_eq!(holds(), serde_json::json!([{}, "is_active"]));
}

#[test]
fn an_insert_of_very_many_sessions_is_kept_until_its_triggers_have_run() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let (tutor, student) = (app.person("tutor", "Ned"), app.person("student", "Sam"));
    let insert = format!(
        "BEGIN; SET LOCAL work_mem = '64kB'; SET LOCAL temp_file_limit = '1MB';
         CREATE TEMP TABLE made ON COMMIT DROP AS SELECT gen_random_uuid() AS id
           FROM generate_series(1, 10000);
         INSERT INTO bookings (id, tutor_id, student_id)
         SELECT id, '{tutor}', '{student}' FROM made;
         INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes)
         SELECT id, '{tutor}', '{student}', 'zoom', now() + interval '1 h',
                now() + interval '2 h', 60 FROM made;
         ROLLBACK",
        tutor = tutor.0,
        student = student.0
    );
    let refused = app.cluster.try_psql(DATABASE, "postgres", &insert);
    let complaint = refused.expect_err("it is too much").to_string();
    assert!(complaint.contains("temp_file_limit"), "{complaint}");
    app.cluster.psql(DATABASE, "SELECT meetlink_detach()");
    app.cluster.psql(DATABASE, &insert);
}
