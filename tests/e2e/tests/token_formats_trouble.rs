//! Stored tokens that do not open: what the operator has to mend is not asked of the tutor.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod prov;

use applications::{
    Application, CBC_HEX, Form, GCM_BASE64, GCM_HEX, HEX, ML1, OWN_KEY, PASSPHRASE, SLOTS,
    app_with_key, attach, store, stored,
};
use chrono::Utc;
use life::{listening, refusal};
use meetlink_e2e::app::{App, DATABASE, KEY, Person};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{AccountSpec, Call};
use prov::{assert_plain, connection_status, count, ledger, wait_for_attempts};
use serde_json::json;
use uuid::Uuid;

const OWN: [Form; 3] = [GCM_HEX, GCM_BASE64, CBC_HEX];
const OTHER_HEX: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// The session waits for the operator, and the tutor hears nothing of it.
#[track_caller]
fn assert_waits_for_operator(app: &App, tutor: Person, session: Uuid, reason: &str) {
    let last = wait_for_attempts(app, session, 1).pop().expect("one");
    let error = last.error.unwrap_or_default();
    assert_eq!(last.class, "operator_must_act", "{error}");
    let waits: String = app.value(&format!(
        "SELECT reason FROM meetlink.jobs WHERE session_id = '{session}'"
    ));
    assert_eq!(waits, reason, "{error}");
    let status = app.status_as(tutor, session);
    assert_eq!(status["state"], "retrying");
    assert_plain(&status);
    let kind = &status["action"]["kind"];
    assert!(kind != "connect" && kind != "reconnect", "{status}");
    assert_eq!(connection_status(app, tutor), "connected");
    for stored in stored(app, tutor) {
        assert!(!error.contains(&stored), "{error}");
    }
    let told: i64 = app.value("SELECT count(*) FROM notifications");
    assert_eq!(told, 0, "nobody is told to reconnect");
}

/// A tutor with tokens of one form, and a session of his.
fn tutor_with(app: &App, program: &Application, form: Form, of: Provider) -> (Person, Uuid) {
    let name = format!("{} {form:?} {of:?}", program.language);
    let tutor = program.stale_tutor(app, form, of, &name);
    let student = app.person("student", "Sam");
    (tutor, app.book(tutor, student))
}

#[test]
fn a_form_that_meetlink_was_not_told_of_waits_for_the_operator() {
    let app = app_with_key(HEX);
    for program in Application::all(&app) {
        for (form, of) in OWN.into_iter().zip([Google, Zoom, Zoom]) {
            for told in [ML1]
                .into_iter()
                .chain(OWN.into_iter().filter(|f| *f != form))
            {
                attach(&app, &told.options());
                let witness = prov::Witness::new(&app, of);
                let (tutor, session) = tutor_with(&app, &program, form, of);
                assert_waits_for_operator(&app, tutor, session, "token_format");
                witness.still_served(&app);
                assert_eq!(ledger(&app, session).len(), 1);
                attach(&app, &form.options());
                app.wait_for_link(session);
                app.cluster
                    .psql(DATABASE, "DELETE FROM tutor_video_provider_connections");
            }
        }
    }
}

#[test]
fn a_wrong_key_waits_for_the_operator_and_a_reload_mends_it() {
    let app = app_with_key(OTHER_HEX);
    let mut app = app;
    for form in OWN {
        attach(&app, &form.options());
        for program in Application::all(&app) {
            app.cluster.write_key_file(&[KEY, (OWN_KEY, PASSPHRASE)]);
            let name = format!("{} {form:?}", program.language);
            let tutor = program.stale_tutor(&app, form, Zoom, &name);
            app.cluster.write_key_file(&[KEY, (OWN_KEY, OTHER_HEX)]);
            app.cluster.reload();
            let student = app.person("student", "Sam");
            let calls = count(&app, Zoom, Call::Token);
            let session = app.book(tutor, student);
            assert_waits_for_operator(&app, tutor, session, "token_format");
            assert_eq!(count(&app, Zoom, Call::Token), calls, "nothing was sent");

            app.cluster.write_key_file(&[KEY, (OWN_KEY, PASSPHRASE)]);
            app.cluster.reload();
            app.wait_for_link(session);
            program.assert_reads(&app, form, tutor, Zoom, &name);
        }
    }
}

/// The application was to encrypt, and does not.
#[test]
fn a_plaintext_token_waits_for_the_operator_and_is_never_used() {
    let app = app_with_key(HEX);
    let student = app.person("student", "Sam");
    for form in [ML1, GCM_HEX, GCM_BASE64, CBC_HEX] {
        attach(&app, &form.options());
        let name = format!("{form:?}");
        let tutor = app.person("tutor", &name);
        let account = app.simulator.add_account(Zoom, AccountSpec::named(&name));
        let (access, refresh) = (&account.access_token, &account.refresh_token);
        store(&app, tutor, Zoom, [access, refresh], account.expires_at);
        let session = app.book(tutor, student);
        assert_waits_for_operator(&app, tutor, session, "token_format");
        let log = app.cluster.log();
        assert!(!log.contains(refresh) && !log.contains(access));

        // The tutor's next token is written as it should be, and the waiting session goes on.
        prov::connect(&app, tutor, Zoom, refresh, None);
        app.wait_for_link(session);
    }
}

#[test]
fn a_key_that_is_missing_waits_for_the_operator_who_reads_where() {
    let mut app = app_with_key(HEX);
    for form in OWN {
        for program in Application::all(&app) {
            app.cluster.write_key_file(&[KEY, (OWN_KEY, HEX)]);
            let name = format!("{} {form:?}", program.language);
            let tutor = program.stale_tutor(&app, form, Zoom, &name);
            app.cluster.write_key_file(&[KEY]);
            app.cluster.reload();

            let (mut client, notices) = listening(&app.cluster, DATABASE);
            client
                .execute("SELECT meetlink_attach(options => $1)", &[&form.options()])
                .expect("it is attached all the same");
            let warned = notices.lock().expect("nobody panicked").join("\n");
            assert!(
                warned.contains("WARNING") && warned.contains("\"app\""),
                "{warned}"
            );
            let (ok, detail, hint) = keys_check(&app);
            assert!(!ok && detail.contains("\"app\""), "{detail}");
            assert!(hint.contains("reload"), "{hint}");

            let student = app.person("student", "Sam");
            let session = app.book(tutor, student);
            assert_waits_for_operator(&app, tutor, session, "key_missing");
            let refused = app.client().execute(
                "SELECT meetlink_connect($1, 'zoom', 'a canary token')",
                &[&tutor.0],
            );
            let (state, message, hint) = refusal(refused);
            assert_eq!(state, "F0000", "{message}");
            assert!(hint.contains("meetlink_health"), "{hint}");

            app.cluster.write_key_file(&[KEY, (OWN_KEY, HEX)]);
            app.cluster.reload();
            app.wait_for_link(session);
            program.assert_reads(&app, form, tutor, Zoom, &name);
            assert!(keys_check(&app).0);
        }
    }
}

fn keys_check(app: &App) -> (bool, String, String) {
    let row = app.client().query_one(
        "SELECT ok, detail, COALESCE(hint, '') FROM meetlink_health() WHERE check_name = 'keys'",
        &[],
    );
    let row = row.expect("the check");
    (row.get(0), row.get(1), row.get(2))
}

/// Only an envelope can tell that it was damaged or belongs to somebody else; then a new consent
/// is the one thing that helps.
#[test]
fn a_damaged_envelope_asks_the_tutor_whatever_form_is_configured() {
    let app = app_with_key(HEX);
    let student = app.person("student", "Sam");
    let programs = Application::all(&app);
    for form in OWN {
        attach(&app, &form.options());
        for program in &programs {
            let name = format!("{} {form:?}", program.language);
            let account = app.simulator.add_account(Zoom, AccountSpec::named(&name));
            let tutor = app.person("tutor", &name);
            let other = app.person("tutor", &format!("{name} other"));
            let [access, refresh] = SLOTS.map(|slot| {
                let token = &account.refresh_token;
                program.encrypt(ML1, other, Zoom, slot, token)
            });
            store(&app, tutor, Zoom, [&access, &refresh], Utc::now());
            let session = app.book(tutor, student);
            let status = app.wait_for_state(session, "needs_action");
            assert_eq!(status["action"]["kind"], "reconnect");
            assert_eq!(connection_status(&app, tutor), "needs_reauth");
            prov::connect(&app, tutor, Zoom, &account.refresh_token, None);
            app.wait_for_link(session);
            program.assert_reads(&app, form, tutor, Zoom, &name);
        }
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_everything_that_is_wrong() {
    let app = App::start();
    let before: String = app.value("SELECT c::text FROM meetlink.config c");
    let refused = |options: serde_json::Value| {
        let columns = json!({"sessions": {"join_url": "no_such_column"}});
        let attached = app.client().execute(
            "SELECT meetlink_attach(columns => $1, options => $2)",
            &[&columns, &options],
        );
        let (state, message, hint) = refusal(attached);
        format!("{state} {message} {hint}")
    };
    for (options, words) in [
        (
            json!({"token_format": "rot13", "token_key": OWN_KEY, "speed": 9, "open_statuses": 7}),
            ["token_format", "open_statuses", "speed", "no_such_column"],
        ),
        (
            json!({"token_format": "gcm_hex", "speed": 9, "open_statuses": []}),
            ["token_key", "open_statuses", "speed", "no_such_column"],
        ),
        (
            json!({"token_key": OWN_KEY, "speed": 9, "open_statuses": 7}),
            ["token_key", "open_statuses", "speed", "no_such_column"],
        ),
        (
            json!({"token_format": ["ml1"], "speed": 9, "open_statuses": 7}),
            ["token_format", "open_statuses", "speed", "no_such_column"],
        ),
        (
            json!({"token_format": "rot13", "token_key": "a b.c", "speed": 9}),
            ["token_format", "token_key", "speed", "no_such_column"],
        ),
    ] {
        let said = refused(options.clone());
        for word in words {
            assert!(said.contains(word), "{options}: {word}: {said}");
        }
    }
    let after: String = app.value("SELECT c::text FROM meetlink.config c");
    assert_eq!(after, before);
}

/// Nothing was told of the application's form, and sessions wait; the operator may also take the
/// other way and have the tutor's tokens written by meetlink.
#[test]
fn everybody_who_waits_goes_on_once_the_options_are_right() {
    let app = app_with_key(PASSPHRASE);
    let programs = Application::all(&app);
    let mut waiting = Vec::new();
    for program in &programs {
        for of in [Google, Zoom] {
            let (tutor, session) = tutor_with(&app, program, CBC_HEX, of);
            assert_waits_for_operator(&app, tutor, session, "token_format");
            waiting.push((tutor, session));
        }
    }
    attach(&app, &CBC_HEX.options());
    let mut client = app.client();
    wait::until_true(meetlink_e2e::app::SOON, "all links", || {
        let query = "SELECT bool_and(join_url IS NOT NULL) FROM sessions";
        client.query_one(query, &[]).is_ok_and(|row| row.get(0))
    });
    for (tutor, session) in waiting {
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected");
    }
}
