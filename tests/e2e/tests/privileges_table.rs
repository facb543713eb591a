//! Who may do what, cell by cell, over everything that the extension makes. What exists is asked of
//! the catalog: a new object without a line here fails.

#[path = "support/callers.rs"]
mod callers;

use std::collections::BTreeSet;

use callers::{APPLICATION, CALLERS, OPERATOR, OWNER, Stage};
use meetlink_e2e::app::App;
use postgres::{Client, SimpleQueryMessage};

const README: &str = include_str!("../../../README.md");
const HEALTH: &str = concat!(
    include_str!("../../../src/api/health.rs"),
    include_str!("../../../src/api/health/connections.rs")
);

// + works, for every row and session      - refused for want of a privilege
// o shows own rows, acts on own sessions; all others are not there
// c some columns

/// Signature; a call of it, for the tutor's own session (`OWN`) and for another's (`OTHER`) where
/// it is about one; who may.
const FUNCTIONS: [(&str, &str, &str); 23] = [
    (
        "meetlink_attach(regclass,regclass,regclass,jsonb,jsonb)",
        "SELECT meetlink_attach()",
        "--+--+",
    ),
    ("meetlink_detach()", "SELECT meetlink_detach()", "-----+"),
    (
        "meetlink_configure_provider(text,text,text,jsonb)",
        "SELECT meetlink_configure_provider('zoom', 'a', 'b')",
        "-----+",
    ),
    (
        "meetlink_connect(uuid,text,text,text,timestamp with time zone)",
        "SELECT meetlink_connect('TUTOR', 'zoom', 'a')",
        "-----+",
    ),
    (
        "meetlink_disconnect(uuid,text)",
        "SELECT meetlink_disconnect('TUTOR', 'zoom')",
        "-----+",
    ),
    (
        "meetlink_status(uuid)",
        "SELECT meetlink_status('OWN')",
        "-o--++",
    ),
    (
        "meetlink_status(uuid,text)",
        "SELECT meetlink_status('OWN', 'student')",
        "-o---+",
    ),
    (
        "meetlink_retry(uuid)",
        "SELECT meetlink_retry('OWN')",
        "-o--++",
    ),
    (
        "meetlink_wait(uuid,interval)",
        "SELECT meetlink_wait('OWN', '1 ms')",
        "-o---+",
    ),
    (
        "meetlink_resolve(uuid,text)",
        "SELECT meetlink_resolve('OWN', 'adopt')",
        "----++",
    ),
    (
        "meetlink_rotate_keys(integer)",
        "SELECT meetlink_rotate_keys()",
        "-----+",
    ),
    (
        "meetlink_adopt_tokens(integer)",
        "SELECT meetlink_adopt_tokens()",
        "-----+",
    ),
    ("meetlink_health()", "TABLE_OF meetlink_health()", "---+++"),
    (
        "meetlink_create_missing(integer)",
        "SELECT meetlink_create_missing()",
        "----++",
    ),
    ("meetlink_pause()", "SELECT meetlink_pause()", "----++"),
    ("meetlink_resume()", "SELECT meetlink_resume()", "----++"),
    (
        "meetlink.enqueue()",
        "CREATE TEMP TABLE t (); CREATE TRIGGER x AFTER INSERT ON t
         FOR EACH STATEMENT EXECUTE FUNCTION meetlink.enqueue('config')",
        "--+--+",
    ),
    (
        "meetlink.read_missing_sessions()",
        "TABLE_OF meetlink.read_missing_sessions()",
        "-o--++",
    ),
    (
        "meetlink.read_at_risk()",
        "TABLE_OF meetlink.read_at_risk()",
        "-o--++",
    ),
    (
        "meetlink.read_tutors()",
        "TABLE_OF meetlink.read_tutors()",
        "-o--++",
    ),
    (
        "meetlink.read_visible(uuid[])",
        "TABLE_OF meetlink.read_visible(ARRAY['TUTORS', 'OTHERS']::uuid[])",
        "-o--++",
    ),
    (
        "meetlink.read_worker()",
        "TABLE_OF meetlink.read_worker()",
        "---+++",
    ),
    (
        "meetlink.announce_extension()",
        "SELECT meetlink.announce_extension()",
        "-----+",
    ),
];

const RELATIONS: [(&str, &str); 22] = [
    ("at_risk", "-o--++"),
    ("deliveries", "----++"),
    ("mail_templates", "-----+"),
    ("metrics", "---+++"),
    ("notifications", "----++"),
    ("notifications_id_seq", "-----+"),
    ("stats", "---+++"),
    ("tallies", "-----+"),
    ("attempts", "---c++"),
    ("attempts_id_seq", "-----+"),
    ("config", "----++"),
    ("holds", "---+++"),
    ("home", "-----+"),
    ("inbox", "-----+"),
    ("jobs", "-----+"),
    ("missing_links", "-o--++"),
    ("orphans", "----++"),
    ("pause", "-----+"),
    ("providers", "-----+"),
    ("queue", "---c++"),
    ("tutor_connections", "-o--++"),
    ("workers", "---+++"),
];

/// Columns that monitoring may not read where the table says `c`.
const HIDDEN_FROM_MONITORING: [&str; 2] = ["attempts.error", "queue.last_error"];

fn texts(client: &mut Client, query: &str) -> BTreeSet<String> {
    let rows = client.query(query, &[]).expect("the catalog answers");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Compares the cells, and says all that differ at once.
fn compare(expected: &[(&str, &str)], seen: &[(String, String)]) {
    let wrong: Vec<String> = expected
        .iter()
        .zip(seen)
        .filter(|(expected, seen)| expected.1 != seen.1)
        .map(|(expected, seen)| format!("{}: {} expected, {} seen", seen.0, expected.1, seen.1))
        .collect();
    assert!(wrong.is_empty(), "{CALLERS:?}\n{}", wrong.join("\n"));
}

const RELATIONS_OF_OURS: &str = "
    SELECT c.oid, c.relname::text FROM pg_class c
     WHERE c.relkind NOT IN ('i', 't', 'I')
       AND (c.relnamespace = 'meetlink'::regnamespace
            OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e' AND e.extname = 'meetlink'))";

#[test]
fn every_function_is_for_those_in_the_table_and_nobody_else() {
    let stage = Stage::new();
    let there = texts(
        &mut stage.app.client(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p
           JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
            AND d.deptype = 'e'
           JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'meetlink'",
    );
    let listed: BTreeSet<String> = FUNCTIONS.iter().map(|f| f.0.to_owned()).collect();
    assert_eq!(there, listed, "each function has its line in FUNCTIONS");
    let mut clients = CALLERS.map(|role| stage.connect(role));
    let mut seen = Vec::new();
    for (name, call, _) in FUNCTIONS {
        let all = if call.starts_with("TABLE_OF") {
            stage.rows(&mut stage.app.client(), call).ok()
        } else {
            None
        };
        let cells = clients.iter_mut().map(|client| match all {
            Some(all) => stage.of_rows(client, call, all),
            None => stage.of_call(client, call),
        });
        seen.push((name.to_owned(), cells.collect()));
    }
    compare(&FUNCTIONS.map(|f| (f.0, f.2)), &seen);
}

#[test]
fn every_relation_is_for_those_in_the_table_and_written_by_nobody() {
    let stage = Stage::new();
    let mut client = stage.app.client();
    let query = format!("SELECT relname FROM ({RELATIONS_OF_OURS}) r");
    let there = texts(&mut client, &query);
    let listed: BTreeSet<String> = RELATIONS.iter().map(|r| r.0.to_owned()).collect();
    assert_eq!(there, listed, "each relation has its line in RELATIONS");
    let mut clients = CALLERS.map(|role| stage.connect(role));
    let mut seen = Vec::new();
    for (name, _) in RELATIONS {
        let text = format!("SELECT * FROM meetlink.{name}");
        let all = stage.rows(&mut client, &text).expect("a superuser may");
        let mut cells = String::new();
        for (role, client) in CALLERS.iter().zip(&mut clients) {
            let cell = stage.of_rows(client, &text, all);
            let some: bool = stage.app.value(&format!(
                "SELECT has_any_column_privilege('{role}', 'meetlink.{name}', 'SELECT')"
            ));
            cells.push(if cell == '-' && some { 'c' } else { cell });
        }
        seen.push((name.to_owned(), cells));
    }
    compare(&RELATIONS, &seen);

    let hidden = texts(
        &mut client,
        &format!(
            "SELECT r.relname || '.' || a.attname FROM ({RELATIONS_OF_OURS}) r
               JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
              WHERE has_any_column_privilege('monitor', r.oid, 'SELECT')
                AND NOT has_column_privilege('monitor', r.oid, a.attnum, 'SELECT')"
        ),
    );
    let expected = BTreeSet::from(HIDDEN_FROM_MONITORING.map(str::to_owned));
    assert_eq!(hidden, expected);

    let written = texts(
        &mut client,
        &format!(
            "SELECT role || ' ' || relname FROM ({RELATIONS_OF_OURS}) r,
                    unnest('{{{}}}'::text[]) role
              WHERE has_table_privilege(role, r.oid,
                      'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                 OR has_any_column_privilege(role, r.oid, 'INSERT, UPDATE, REFERENCES')
                 OR has_schema_privilege(role, 'meetlink', 'CREATE')",
            CALLERS[..5].join(",")
        ),
    );
    assert_eq!(written, BTreeSet::new(), "may write");
}

/// What `meetlink_health()` sends somebody to is no use to who must not look there.
#[test]
fn the_operator_reads_in_full_whatever_health_points_at() {
    let stage = Stage::new();
    let mut superuser = stage.app.client();
    let there = texts(
        &mut superuser,
        &format!("SELECT relname FROM ({RELATIONS_OF_OURS}) r"),
    );
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let pointed_at: BTreeSet<&str> = HEALTH
        .split("meetlink.")
        .skip(1)
        .map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default())
        .filter(|name| there.contains(*name))
        .collect();
    for name in ["at_risk", "deliveries", "notifications", "queue"] {
        assert!(pointed_at.contains(name), "{pointed_at:?} lack {name}");
    }
    let mut operator = stage.connect("meetlink_operator");
    for name in pointed_at {
        let text = format!("SELECT * FROM meetlink.{name}");
        let all = stage.rows(&mut superuser, &text).expect("a superuser may");
        assert_eq!(stage.rows(&mut operator, &text), Ok(all), "{name}");
    }
    let text = "SELECT refresh_token_encrypted FROM tutor_video_provider_connections";
    let refused = stage.rows(&mut operator, text);
    assert_eq!(refused, Err("42501".to_owned()), "README grants no token");
}

#[test]
fn monitoring_reads_nothing_that_names_a_person_opens_a_meeting_or_is_a_secret() {
    let stage = Stage::new();
    let mut client = stage.connect("monitor");
    let columns = texts(
        &mut stage.app.client(),
        &format!(
            "SELECT 'SELECT ' || string_agg(quote_ident(attname), ', ') || ' FROM meetlink.' || relname
               FROM ({RELATIONS_OF_OURS}) r JOIN pg_attribute a ON a.attrelid = r.oid
                AND a.attnum > 0 AND has_column_privilege('monitor', r.oid, a.attnum, 'SELECT')
              GROUP BY relname"
        ),
    );
    assert!(columns.len() >= 4, "{columns:?}");
    let mut shown = String::new();
    let mut rows = 0;
    for text in columns
        .iter()
        .map(String::as_str)
        .chain(["SELECT * FROM meetlink_health()"])
    {
        for message in client.simple_query(text).expect("monitoring may") {
            if let SimpleQueryMessage::Row(row) = message {
                rows += 1;
                for at in 0..row.len() {
                    shown.push_str(row.get(at).unwrap_or_default());
                    shown.push('\n');
                }
            }
        }
    }
    assert!(rows > 10, "there is something to read: {shown}");
    for never in ["canary", "quartermain", "@example", "https://", "ml1."] {
        assert!(!shown.to_lowercase().contains(never), "{never} in {shown}");
    }
}

#[test]
fn the_verbs_land_where_they_are_put_and_the_session_keeps_its_search_path() {
    let app = App::start();
    app.cluster.create_database("elsewhere");
    let seen = app.cluster.psql(
        "elsewhere",
        "CREATE SCHEMA \"Odd place\"; SET search_path = public, \"Odd place\";
         CREATE EXTENSION meetlink SCHEMA \"Odd place\";
         SHOW search_path;
         SELECT DISTINCT pronamespace::regnamespace FROM pg_proc WHERE proname LIKE 'meetlink%'",
    );
    assert_eq!(seen, "public, \"Odd place\"\n\"Odd place\"");
}

#[test]
fn readme_grants_just_what_is_tested_here() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = words(README);
    for grant in APPLICATION.iter().chain(&OWNER).chain(&OPERATOR) {
        assert!(readme.contains(&words(grant)), "README lacks: {grant}");
    }
}
