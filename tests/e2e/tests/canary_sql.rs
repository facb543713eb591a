//! What PostgreSQL itself shows of a secret in SQL, and the ways in which it shows nothing: each
//! sentence of README's paragraph about it.

#[path = "support/canary.rs"]
mod canary;
#[path = "support/envelope.rs"]
mod envelope;

use std::collections::{BTreeMap, BTreeSet};

use canary::{Hunt, random_text};
use meetlink_e2e::app::{App, DATABASE, Person};
use meetlink_simulator::Provider::Zoom;
use postgres::Client;
use postgres::types::ToSql;

/// A server that could tell on people, and tells nothing until a session asks it to.
fn start() -> App {
    let libraries = "meetlink,auto_explain,pg_stat_statements";
    let app = App::with(|options| {
        options
            .without_preload()
            .set("shared_preload_libraries", libraries)
            .set("pg_stat_statements.track", "all")
            .set("track_activity_query_size", "10kB")
    });
    app.cluster
        .psql(DATABASE, "CREATE EXTENSION pg_stat_statements");
    app
}

/// A session that hands a secret over, with what others could see of it.
struct Session<'a> {
    app: &'a App,
    client: Client,
    tutor: Person,
    secret: String,
    activity: String,
    fails: bool,
}

impl Session<'_> {
    fn pid(&mut self) -> i32 {
        let row = self.client.query_one("SELECT pg_backend_pid()", &[]);
        row.expect("a pid").get(0)
    }

    /// A statement as it stands; another session looks at it before its transaction ends.
    fn plain(&mut self, sql: &str) {
        let own = self.pid();
        let _ = self.client.batch_execute(sql);
        self.look_at(own);
    }

    /// A statement with bind parameters.
    fn bound(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        let own = self.pid();
        let _ = self.client.execute(sql, parameters);
        self.look_at(own);
    }

    /// The last statement of a session stays in the list until its next one.
    fn look_at(&mut self, pid: i32) {
        let query = "SELECT query FROM pg_stat_activity WHERE pid = $1";
        let row = self.app.client().query_one(query, &[&pid]);
        self.activity += row.expect("the session is there").get(0);
    }

    fn connect_bound(&mut self) {
        let (tutor, secret) = (self.tutor.0, self.secret.clone());
        self.bound(
            "SELECT meetlink_connect($1, 'zoom', $2)",
            &[&tutor, &secret],
        );
    }
}

/// Hands a secret over in a session with these settings; gives the places where it shows.
fn shown(
    app: &App,
    settings: &[(&str, &str)],
    hand_over: impl FnOnce(&mut Session<'_>),
) -> BTreeSet<&'static str> {
    let (hunt, mut places) = handed_over(app, settings, hand_over);
    places.retain(|_, text| !hunt.search(text.as_bytes()).is_empty());
    places.into_keys().collect()
}

/// The same, and the server's files are searched too.
fn shown_or_stored(
    app: &App,
    settings: &[(&str, &str)],
    hand_over: impl FnOnce(&mut Session<'_>),
) -> BTreeSet<&'static str> {
    let (hunt, mut places) = handed_over(app, settings, hand_over);
    places.retain(|_, text| !hunt.search(text.as_bytes()).is_empty());
    let mut places: BTreeSet<_> = places.into_keys().collect();
    app.cluster.psql(DATABASE, "CHECKPOINT");
    let (found, _) = hunt.search_folder("data", &app.cluster.data_dir());
    if !found.is_empty() {
        places.insert("disk");
    }
    places
}

/// Hands a secret over; gives what was shown in each place.
fn handed_over(
    app: &App,
    settings: &[(&str, &str)],
    hand_over: impl FnOnce(&mut Session<'_>),
) -> (Hunt, BTreeMap<&'static str, String>) {
    let secret = random_text(60);
    let mut hunt = Hunt::default();
    hunt.text("secret", &secret);
    let mut client = app.client();
    for (name, value) in settings {
        client
            .batch_execute(&format!("SET {name} = '{value}'"))
            .expect("a setting");
    }
    let mark = app.cluster.log_mark();
    let mut session = Session {
        app,
        client,
        tutor: app.person("tutor", "Ann"),
        secret,
        activity: String::new(),
        fails: false,
    };
    hand_over(&mut session);
    let stored = "SELECT refresh_token_encrypted FROM tutor_video_provider_connections
                   WHERE tutor_id = $1";
    let row = app.client().query_opt(stored, &[&session.tutor.0]);
    let arrived = row.expect("an answer").map(|row| {
        let sealed: String = row.get(0);
        envelope::open(&sealed, &session.tutor, Zoom, "refresh")
    });
    let wanted = (!session.fails).then(|| session.secret.clone());
    assert_eq!(arrived, wanted, "what has arrived");
    let statements = "SELECT string_agg(query, ' ') FROM pg_stat_statements";
    let places = BTreeMap::from([
        ("log", app.cluster.log_from(mark)),
        ("activity", session.activity.clone()),
        ("statements", app.value(statements)),
    ]);
    (hunt, places)
}

const LOGGED: (&str, &str) = ("log_statement", "all");
const TIMED: (&str, &str) = ("log_min_duration_statement", "0");
const NO_PARAMETERS: (&str, &str) = ("log_parameter_max_length", "0");
const EXPLAINED: (&str, &str) = ("auto_explain.log_min_duration", "0");
const VERBOSE: (&str, &str) = ("auto_explain.log_verbose", "on");
const GENERIC: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

#[track_caller]
fn assert_shown(places: BTreeSet<&'static str>, wanted: &[&'static str]) {
    assert_eq!(places, wanted.iter().copied().collect());
}

#[test]
fn a_literal_is_seen_in_the_list_of_sessions_and_in_logs_of_statements() {
    let app = start();
    let literal = |session: &mut Session<'_>| {
        let (tutor, secret) = (session.tutor.0, session.secret.clone());
        session.plain(&format!(
            "SELECT meetlink_connect('{tutor}', 'zoom', '{secret}')"
        ));
    };
    assert_shown(shown(&app, &[], literal), &["activity"]);
    for setting in [LOGGED, TIMED, EXPLAINED] {
        assert_shown(shown(&app, &[setting], literal), &["activity", "log"]);
    }
    // A statement that fails is logged as it stands.
    let failing = |session: &mut Session<'_>| {
        session.fails = true;
        let secret = session.secret.clone();
        session.plain(&format!(
            "SELECT meetlink_connect('no id', 'zoom', '{secret}')"
        ));
    };
    assert_shown(shown(&app, &[], failing), &["activity", "log"]);
    // pg_stat_statements puts $1 in the place of a query's constants, not of a command's.
    let block = |session: &mut Session<'_>| {
        let (tutor, secret) = (session.tutor.0, session.secret.clone());
        session.plain(&format!(
            "DO $$ BEGIN PERFORM meetlink_connect('{tutor}', 'zoom', '{secret}'); END $$"
        ));
    };
    assert_shown(shown(&app, &[], block), &["activity", "statements"]);
    let prepared = |session: &mut Session<'_>| {
        let (tutor, secret) = (session.tutor.0, session.secret.clone());
        session.plain("PREPARE p AS SELECT meetlink_connect($1, 'zoom', $2)");
        session.plain(&format!("EXECUTE p ('{tutor}', '{secret}')"));
    };
    assert_shown(shown(&app, &[LOGGED], prepared), &["activity", "log"]);
}

#[test]
fn superusers_and_monitoring_see_the_last_statement_of_a_session() {
    let app = start();
    let mut session = app.client();
    let own: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .unwrap()
        .get(0);
    let secret = random_text(60);
    session
        .batch_execute(&format!("SELECT '{secret}'"))
        .unwrap();
    let mut looker = app.client();
    let roles = "CREATE ROLE monitor; GRANT pg_monitor TO monitor; CREATE ROLE nobody";
    looker.batch_execute(roles).unwrap();
    let mut seen_by = |role: &str| -> bool {
        looker.batch_execute(&format!("SET ROLE {role}")).unwrap();
        let query = "SELECT query FROM pg_stat_activity WHERE pid = $1";
        let text: String = looker.query_one(query, &[&own]).unwrap().get(0);
        looker.batch_execute("RESET ROLE").unwrap();
        text.contains(&secret)
    };
    assert!(seen_by("postgres") && seen_by("monitor") && !seen_by("nobody"));
    session.batch_execute("SELECT 1").unwrap();
    assert!(!seen_by("postgres"));
}

#[test]
fn a_variable_of_psql_is_a_literal_to_the_server() {
    let app = start();
    let places = shown(&app, &[], |session| {
        let script = format!(
            "\\set token '{}'\nSET log_statement = 'all';\n\
             SELECT meetlink_connect('{}', 'zoom', :'token');",
            session.secret, session.tutor.0
        );
        session.app.cluster.psql(DATABASE, &script);
    });
    assert_shown(places, &["log"]);
}

#[test]
fn bind_parameters_show_nothing_once_their_logging_is_off() {
    let app = start();
    let bound = |session: &mut Session<'_>| session.connect_bound();
    assert_shown(shown(&app, &[], bound), &[]);
    // By default they are logged together with their statement.
    for setting in [LOGGED, TIMED] {
        assert_shown(shown(&app, &[setting], bound), &["log"]);
        assert_shown(shown(&app, &[setting, NO_PARAMETERS], bound), &[]);
    }
    assert_shown(shown(&app, &[EXPLAINED, NO_PARAMETERS], bound), &[]);
    // A plan made for these very values shows them.
    let verbose = [EXPLAINED, VERBOSE, NO_PARAMETERS];
    assert_shown(shown(&app, &verbose, bound), &["log"]);
    let generic = [EXPLAINED, VERBOSE, NO_PARAMETERS, GENERIC];
    assert_shown(shown(&app, &generic, bound), &[]);
    let printed = ("debug_print_plan", "on");
    assert_shown(shown(&app, &[printed, NO_PARAMETERS], bound), &["log"]);
    assert_shown(shown(&app, &[printed, NO_PARAMETERS, GENERIC], bound), &[]);
    // A superuser can have it so for a role alone.
    let own = "ALTER ROLE postgres IN DATABASE app SET log_parameter_max_length = 0";
    app.cluster.psql(DATABASE, own);
    assert_shown(shown(&app, &[LOGGED], bound), &[]);
    // A statement that fails shows them if it is told to, which it is not by default.
    let failing = |session: &mut Session<'_>| {
        session.fails = true;
        let (tutor, secret) = (session.tutor.0, session.secret.clone());
        let text = "SELECT meetlink_connect($1, 'teams', $2)";
        session.bound(text, &[&tutor, &secret]);
    };
    assert_shown(shown(&app, &[], failing), &[]);
    let told = ("log_parameter_max_length_on_error", "-1");
    assert_shown(shown(&app, &[told], failing), &["log"]);
}

/// Everything at once, but for the parameters.
const ALL: [(&str, &str); 6] = [
    LOGGED,
    TIMED,
    EXPLAINED,
    VERBOSE,
    ("debug_print_plan", "on"),
    NO_PARAMETERS,
];

#[test]
fn copied_rows_files_and_envelopes_show_nothing_whatever_is_logged() {
    let app = start();
    // COPY's data are no part of any statement: what psql of every version can do.
    let copied = |session: &mut Session<'_>| {
        session.plain("CREATE TEMP TABLE handover (tutor uuid, token text)");
        let row = format!("{}\t{}\n", session.tutor.0, session.secret);
        let text = "COPY handover FROM STDIN";
        let mut writer = session.client.copy_in(text).expect("copying in");
        std::io::Write::write_all(&mut writer, row.as_bytes()).expect("a row");
        writer.finish().expect("copied");
        session.plain("SELECT meetlink_connect(tutor, 'zoom', token) FROM handover");
        session.plain("DROP TABLE handover");
    };
    assert_shown(shown_or_stored(&app, &ALL, copied), &[]);
    let from_psql = |session: &mut Session<'_>| {
        let row = format!("{}\t{}\n", session.tutor.0, session.secret);
        let path = session.app.cluster.write_file("row", &row, 0o600);
        let settings = ALL.map(|(name, value)| format!("SET {name} = '{value}';"));
        let script = format!(
            "{}
             CREATE TEMP TABLE handover (tutor uuid, token text);
             \\copy handover FROM '{}'
             SELECT meetlink_connect(tutor, 'zoom', token) FROM handover;
             DROP TABLE handover;",
            settings.concat(),
            path.display()
        );
        session.app.cluster.psql(DATABASE, &script);
    };
    assert_shown(shown_or_stored(&app, &ALL, from_psql), &[]);
    // Into a table that is not temporary, it would be written to disk.
    let kept = |session: &mut Session<'_>| {
        session.plain("CREATE TABLE handover (token text)");
        let mut writer = session
            .client
            .copy_in("COPY handover FROM STDIN")
            .expect("copying");
        std::io::Write::write_all(&mut writer, session.secret.as_bytes()).expect("a row");
        writer.finish().expect("copied");
        let tutor = session.tutor.0;
        session.plain(&format!(
            "SELECT meetlink_connect('{tutor}', 'zoom', token) FROM handover; DROP TABLE handover"
        ));
    };
    assert_shown(shown_or_stored(&app, &ALL, kept), &["disk"]);
    let filed = |session: &mut Session<'_>| {
        let path = session
            .app
            .cluster
            .write_file("token", &format!("{}\n", session.secret), 0o600);
        let (tutor, path) = (session.tutor.0, path.display());
        session.plain(&format!(
            "SELECT meetlink_connect('{tutor}', 'zoom', rtrim(pg_read_file('{path}'), E'\\n'))"
        ));
    };
    assert_shown(shown_or_stored(&app, &ALL, filed), &[]);
    let enveloped = |session: &mut Session<'_>| {
        let sealed = envelope::seal(&session.secret, &session.tutor, Zoom, "refresh");
        let tutor = session.tutor.0;
        session.plain(&format!(
            "INSERT INTO tutor_video_provider_connections
               (tutor_id, provider, connection_status, refresh_token_encrypted)
             VALUES ('{tutor}', 'zoom', 'connected', '{sealed}')"
        ));
    };
    assert_shown(shown_or_stored(&app, &ALL, enveloped), &[]);
}
