//! Provider answers, envelopes, settings and arguments that make no sense: clear errors, nothing
//! lost, and the worker goes on.

#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, Person, name_of};
use meetlink_simulator::{AccountSpec, Action, Call, Provider, Rule};
use support::{
    Witness, assert_plain, classes, connection_status, last_error, meetings_of, stale_tutor,
    wait_for_attempts,
};

use Provider::{Google, Zoom};

const BOTH: [Provider; 2] = [Google, Zoom];

/// Good answers that cannot be read; `effect` says whether a meeting was made all the same.
fn nonsense() -> Vec<Action> {
    let text = |kind: &str, body: &str| Action::Status {
        status: 200,
        headers: vec![("content-type".into(), kind.into())],
        body: body.into(),
        effect: true,
    };
    vec![
        Action::NotJson { effect: true },
        Action::Xml { status: 200 },
        Action::Html { status: 200 },
        Action::BigBody { bytes: 10 << 20 },
        Action::EndlessBody,
        Action::SlowDrip { every_ms: 50 },
        text("application/json", ""),
        text("application/json", "null"),
        text(
            "application/json",
            r#"{"id": 0, "join_url": "javascript:alert(1)"}"#,
        ),
        text("application/json", &"[".repeat(100_000)),
        text("application/json", "\u{0}\u{1}\u{fffd}"),
    ]
}

#[test]
fn an_answer_that_makes_no_sense_costs_one_attempt_and_no_second_meeting() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "800ms"));
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let witness = Witness::new(&app, provider);
        for (index, action) in nonsense().into_iter().enumerate() {
            let name = format!("{provider:?} {index}");
            let shown: String = format!("{action:?}").chars().take(60).collect();
            let tutor = app.tutor(provider, &name);
            let rule = Rule::once(provider, Call::Create, action).account(&name);
            app.simulator.fault(rule);
            let session = app.book(tutor, student);
            wait_for_attempts(&app, session, 1);
            assert_plain(&app.status(session));
            app.wait_for_link(session);
            let first = match provider {
                Google => "retry",
                Zoom => "in_doubt",
            };
            assert_eq!(classes(&app, session)[0], first, "{name} {shown}");
            assert_eq!(meetings_of(&app, provider, &name), 1, "{name} {shown}");
        }
        witness.still_served(&app);
    }
}

#[test]
fn a_token_answer_that_makes_no_sense_is_asked_for_again() {
    let app = App::with(|options| options.set("meetlink.request_timeout", "800ms"));
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Google);
    for (index, action) in nonsense().into_iter().enumerate() {
        let name = format!("tutor {index}");
        let shown: String = format!("{action:?}").chars().take(60).collect();
        let (tutor, _) = stale_tutor(&app, Google, &name);
        let rule = Rule::once(Google, Call::Token, action).account(&name);
        app.simulator.fault(rule);
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        assert_eq!(classes(&app, session), ["retry", "made"], "{name} {shown}");
        assert_eq!(
            connection_status(&app, tutor),
            "connected",
            "{name} {shown}"
        );
    }
    witness.still_served(&app);
}

/// Puts text where a tutor's tokens belong, as a broken application or a thief of rows does.
fn put_tokens(app: &App, tutor: Person, access: Option<&str>, refresh: &str) {
    let done = app.client().execute(
        "UPDATE tutor_video_provider_connections
            SET access_token_encrypted = $2, refresh_token_encrypted = $3,
                connection_status = 'connected'
          WHERE tutor_id = $1",
        &[&tutor.0, &access, &refresh],
    );
    assert_eq!(done.expect("an update"), 1);
}

#[test]
fn an_envelope_that_does_not_open_asks_the_tutor_to_reconnect() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let witness = Witness::new(&app, provider);
        let other = app.tutor(provider, "Somebody else");
        let tutor = app.tutor(provider, "Ann");
        let sealed = |token, owner, provider, slot| envelope::seal(token, owner, provider, slot);
        let wrong = match provider {
            Google => Zoom,
            Zoom => Google,
        };
        let good = sealed("token", &tutor, provider, "refresh");
        let damaged = format!("{}{}", &good[..good.len() - 4], "AAAA");
        for (what, text) in [
            ("damaged", damaged),
            ("cut off", good[..good.len() / 2].to_owned()),
            (
                "another tutor's",
                sealed("token", &other, provider, "refresh"),
            ),
            (
                "another provider's",
                sealed("token", &tutor, wrong, "refresh"),
            ),
            (
                "another column's",
                sealed("token", &tutor, provider, "access"),
            ),
            ("not base64", "ml1.k1.!!!!.????".to_owned()),
            ("huge", format!("ml1.k1.AAAA.{}", "A".repeat(1 << 20))),
        ] {
            put_tokens(&app, tutor, None, &text);
            let session = app.book(tutor, student);
            let status = app.wait_for_state(session, "needs_action");
            assert_eq!(status["action"]["kind"], "reconnect", "{what}: {status}");
            assert_plain(&status);
            let error = last_error(&app, session).expect("an error");
            assert!(!error.contains("ml1."), "{error}");
            assert_eq!(connection_status(&app, tutor), "needs_reauth", "{what}");
            witness.still_served(&app);
            app.connect(tutor, provider, AccountSpec::named("Ann"));
            app.wait_for_link(session);
        }
        assert!(!app.cluster.log().contains("a-token-in-plain-text"));
    }
}

#[test]
fn a_broken_access_envelope_is_mended_by_a_refresh() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let tutor = app.tutor(provider, "Ann");
        let ann = app.simulator.account(provider, "Ann").expect("Ann");
        let refresh = envelope::seal(&ann.refresh_token, &tutor, provider, "refresh");
        put_tokens(&app, tutor, Some("not an envelope"), &refresh);
        app.wait_for_link(app.book(tutor, student));
        assert_eq!(app.simulator.token_use(&ann).refreshes, 1);
    }
}

/// The key is the operator's to bring: nobody is parked, no attempt is used up, and a reload with
/// the key in place sets the session going.
#[test]
fn an_unknown_key_id_waits_for_the_operator() {
    let mut app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let student = app.person("student", "Sam");
    let witness = Witness::new(&app, Google);
    let new = ("k2", "ff".repeat(32));
    for provider in BOTH {
        let tutor = app.tutor(provider, "Ann");
        let ann = app.simulator.account(provider, "Ann").expect("Ann");
        let key = (new.0, new.1.as_str());
        let sealed = envelope::seal_with(key, &ann.refresh_token, &tutor, provider, "refresh");
        put_tokens(&app, tutor, None, &sealed);
        let session = app.book(tutor, student);
        let status = app.wait_for_state(session, "retrying");
        assert_eq!(status["attempts"], 0, "{status}");
        assert_plain(&status);
        let error = last_error(&app, session).expect("an error");
        assert!(
            error.contains("k2") && error.contains("meetlink.key_file"),
            "{error}"
        );
        assert_eq!(connection_status(&app, tutor), "connected");
        witness.still_served(&app);

        app.cluster.write_key_file(&[meetlink_e2e::app::KEY, key]);
        app.cluster.reload();
        app.wait_for_link(session);
        app.cluster.write_key_file(&[meetlink_e2e::app::KEY]);
        app.cluster.reload();
    }
}

#[test]
fn an_unknown_provider_is_refused_with_the_known_ones() {
    let app = App::start();
    let tutor = app.person("tutor", "Ann").0;
    let mut client = app.client();
    let mut refused = |call: &str| {
        let refusal = life::refusal(client.batch_execute(&format!("SELECT {call}")));
        let (code, message, hint) = &refusal;
        assert_eq!(code, "22023", "{call}: {message}");
        assert!(!format!("{message}{hint}").contains("a-secret"), "{call}");
        (message.clone(), hint.clone())
    };
    for call in [
        "meetlink_configure_provider('teams', 'id', 'a-secret')".to_owned(),
        format!("meetlink_connect('{tutor}', 'teams', 'a-secret')"),
        format!("meetlink_disconnect('{tutor}', 'teams')"),
    ] {
        let (message, hint) = refused(&call);
        assert_eq!(message, "unknown provider \"teams\"", "{call}");
        assert_eq!(hint, "Providers are: google_meet, zoom.", "{call}");
    }
    let client_is_empty = "client_id and client_secret must not be empty";
    for (call, words) in [
        (
            "meetlink_configure_provider('zoom', ' ', 'a-secret')".to_owned(),
            client_is_empty,
        ),
        (
            "meetlink_configure_provider('zoom', 'id', '')".to_owned(),
            client_is_empty,
        ),
        (
            "meetlink_configure_provider('zoom', 'id', 'a-secret', '[]')".to_owned(),
            "options must be a JSON object",
        ),
        (
            format!("meetlink_connect('{tutor}', 'zoom', '')"),
            "refresh_token must not be empty",
        ),
        (
            format!("meetlink_connect('{tutor}', 'zoom', E'a-secret\\n')"),
            "a token is up to 8192 characters of printable ASCII",
        ),
    ] {
        assert_eq!(refused(&call).0, words, "{call}");
    }
    for call in [
        format!("meetlink_connect('{tutor}', 'zoom', NULL)"),
        "meetlink_connect(NULL, 'zoom', 'a-secret')".to_owned(),
        format!("meetlink_connect('{tutor}', NULL, 'a-secret')"),
    ] {
        let error = app
            .cluster
            .try_psql("app", "postgres", &format!("SELECT {call}"));
        let error = error.expect_err(&call).to_string();
        assert!(!error.contains("a-secret"), "{error}");
        assert!(!error.contains("panicked"), "{call}: {error}");
    }
    Witness::new(&app, Zoom).still_served(&app);
}

/// A provider that the application allows and meetlink does not know: the tutor's own connection
/// decides.
#[test]
fn a_session_with_a_provider_that_nobody_knows_goes_where_its_tutor_is() {
    let app = App::start();
    app.cluster.psql(
        "app",
        "ALTER TABLE sessions DROP CONSTRAINT sessions_provider_check",
    );
    let student = app.person("student", "Sam");
    let tutor = app.person("tutor", "Ann");
    let session = app.book(tutor, student);
    app.wait_for_state(session, "needs_action");
    let teams = "UPDATE sessions SET provider = 'teams' WHERE id = $1";
    app.client().execute(teams, &[&session]).expect("an update");
    app.connect(tutor, Zoom, AccountSpec::named("Ann"));
    app.wait_for_link(session);
    assert_eq!(support::provider_of(&app, session), name_of(Zoom));
}
