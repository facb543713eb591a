//! Who may ask what: the functions about one session, and what the install script leaves open.

#[path = "support/life.rs"]
mod life;

use std::time::{Duration, Instant};

use life::refusal;
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{Action, Call, Options, Rule};
use postgres::{Client, Error, Row};
use serde_json::Value;
use uuid::Uuid;

/// Calls one of the three functions as a person.
fn call(app: &App, person: Person, function: &str, session: Uuid) -> Result<Row, Error> {
    let mut client = app.client();
    let mut transaction = client.transaction().unwrap();
    app.act_as(&mut transaction, person);
    let text = match function {
        "meetlink_wait" => "SELECT meetlink_wait($1, '10 ms')".to_owned(),
        name => format!("SELECT {name}($1)"),
    };
    let row = transaction.query_one(&text, &[&session])?;
    transaction.commit()?;
    Ok(row)
}

const FUNCTIONS: [&str; 3] = ["meetlink_status", "meetlink_retry", "meetlink_wait"];

#[test]
fn a_hidden_session_and_a_missing_one_are_the_same() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let stranger = app.tutor(Google, "Stan Stranger");
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    let missing = Uuid::new_v4();
    for function in FUNCTIONS {
        for id in [session, missing] {
            let (code, message, hint) = refusal(call(&app, stranger, function, id));
            assert_eq!(
                (code.as_str(), message, hint.as_str()),
                ("P0002", format!("session {id} not found"), ""),
                "{function}"
            );
        }
        let (code, ..) = refusal(call(&app, tutor, function, missing));
        assert_eq!(code, "P0002");
    }
    // The same for who has no right on the application's tables at all.
    let mut client = app.client();
    client
        .batch_execute(
            "CREATE ROLE outsider;
             GRANT EXECUTE ON FUNCTION meetlink_status(uuid), meetlink_retry(uuid),
               meetlink_wait(uuid, interval) TO outsider, anon",
        )
        .unwrap();
    for role in ["outsider", "anon"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for function in FUNCTIONS {
            for id in [session, missing] {
                let text = format!("SELECT {function}('{id}')");
                let (code, message, _) = refusal(client.batch_execute(&text));
                assert_eq!(
                    (code.as_str(), message),
                    ("P0002", format!("session {id} not found")),
                    "{function} as {role}"
                );
            }
        }
        client.batch_execute("RESET ROLE").unwrap();
    }
}

#[test]
fn tutor_and_student_are_told_and_only_who_may_change_the_session_retries() {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "10min")
            .set("meetlink.backoff_max", "10min")
    });
    let (tutor, student) = (app.tutor(Google, "Gia"), app.person("student", "Sam"));
    let refuse = Action::ServerError { status: 503 };
    app.simulator
        .fault(Rule::once(Google, Call::Insert, refuse));
    let session = app.book(tutor, student);
    app.wait_for_state(session, "retrying");
    for person in [tutor, student] {
        let status = app.status_as(person, session);
        assert_eq!(status["state"], "retrying", "{status}");
        assert!(
            status["next_attempt_at"].is_string() && status["attempts"] == 1,
            "{status}"
        );
        let wait = call(&app, person, "meetlink_wait", session).unwrap();
        assert_eq!(wait.get::<_, Option<String>>(0), None);
    }
    let (code, message, _) = refusal(call(&app, student, "meetlink_retry", session));
    assert_eq!(code, "42501", "{message}");
    assert_eq!(app.simulator.calls(Google, Call::Insert).len(), 1);

    let begun = Instant::now();
    let status: Value = call(&app, tutor, "meetlink_retry", session).unwrap().get(0);
    assert_eq!(status["state"], "pending", "{status}");
    let link = app.wait_for_link(session);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "whatever the backoff says"
    );
    for person in [tutor, student] {
        assert_eq!(app.status_as(person, session)["join_url"], link.as_str());
    }
    // On a session that has its link: no new meeting.
    let status: Value = call(&app, tutor, "meetlink_retry", session).unwrap().get(0);
    assert_eq!(
        (&status["state"], &status["join_url"]),
        (&"ready".into(), &link.as_str().into())
    );
    assert_eq!(app.simulator.meetings_ever(Google).len(), 1);
}

#[test]
fn nobody_may_call_anything_until_it_is_granted() {
    // Other tests begin with README's grants; here there are none.
    let app = App::unattached(Options::default(), |options| options);
    let mut client = app.client();
    client
        .batch_execute("CREATE EXTENSION meetlink; SELECT meetlink_attach()")
        .unwrap();
    let calls = [
        "SELECT meetlink_attach()",
        "SELECT meetlink_detach()",
        "SELECT meetlink_configure_provider('zoom', 'a', 'b')",
        "SELECT meetlink_connect(gen_random_uuid(), 'zoom', 'b')",
        "SELECT meetlink_disconnect(gen_random_uuid(), 'zoom')",
        "SELECT meetlink_retry(gen_random_uuid())",
        "SELECT meetlink_create_missing()",
        "SELECT meetlink_status(gen_random_uuid())",
        "SELECT meetlink_wait(gen_random_uuid())",
        "SELECT meetlink_pause()",
        "SELECT meetlink_resume()",
        "SELECT meetlink_status(gen_random_uuid(), 'tutor')",
        "SELECT meetlink_resolve(gen_random_uuid(), 'adopt')",
        "SELECT meetlink_health()",
        "SELECT meetlink_rotate_keys()",
        "SELECT meetlink_adopt_tokens()",
        "TABLE meetlink.queue",
        "TABLE meetlink.jobs",
        "TABLE meetlink.providers",
        "SELECT * FROM meetlink.read_tutors()",
    ];
    for role in ["anon", "authenticated", "service_role", "app_owner"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for text in calls {
            let (code, ..) = refusal(client.batch_execute(text));
            assert_eq!(code, "42501", "{text} as {role}");
        }
    }
}

/// Members of the extension, as `\dx+` lists them.
const MEMBERS: &str = "
    SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
     WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
       AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'meetlink')";

fn names(client: &mut Client, query: &str) -> Vec<String> {
    let rows = client
        .query(query, &[])
        .unwrap_or_else(|error| panic!("{query}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn every_object_has_a_comment() {
    let app = App::start();
    let mut client = app.client();
    let members = names(&mut client, MEMBERS);
    assert!(members.len() > 25, "{members:#?}");
    let silent = names(
        &mut client,
        &format!("{MEMBERS} AND obj_description(objid, classid::regclass::name) IS NULL"),
    );
    assert_eq!(silent, Vec::<String>::new());
    let silent: i64 = app.value(
        "SELECT count(*) FROM pg_extension
          WHERE extname = 'meetlink' AND obj_description(oid, 'pg_extension') IS NULL",
    );
    assert_eq!(
        silent, 0,
        "the extension itself (comment in the control file)"
    );
}

#[test]
fn every_function_is_revoked_from_public_and_pins_its_search_path() {
    let app = App::start();
    let mut client = app.client();
    client
        .batch_execute(
            "CREATE TEMP VIEW ours AS SELECT p.* FROM pg_proc p JOIN pg_depend d
               ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
             JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'meetlink'",
        )
        .unwrap();
    assert!(names(&mut client, "SELECT proname::text FROM ours").len() > 12);
    let open = names(
        &mut client,
        "SELECT oid::regprocedure::text FROM ours
          WHERE EXISTS (SELECT FROM aclexplode(COALESCE(proacl, acldefault('f', proowner)))
                         WHERE grantee = 0)",
    );
    assert_eq!(open, Vec::<String>::new(), "PUBLIC may call them");
    let loose = names(
        &mut client,
        "SELECT oid::regprocedure::text FROM ours
          WHERE NOT COALESCE(proconfig, '{}') @> '{\"search_path=pg_catalog, pg_temp\"}'",
    );
    assert_eq!(
        loose,
        ["meetlink.enqueue()"],
        "but for the trigger function"
    );
    let definer = names(
        &mut client,
        "SELECT oid::regprocedure::text FROM ours WHERE prosecdef",
    );
    assert_eq!(definer, Vec::<String>::new(), "none runs as its owner");
    let open = names(
        &mut client,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'meetlink'::regnamespace
            AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0)
         UNION ALL
         SELECT nspname::text FROM pg_namespace WHERE nspname = 'meetlink'
            AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)",
    );
    assert_eq!(open, Vec::<String>::new(), "PUBLIC may read them");
}
