//! Who asks `meetlink_status`: known by the application's own setting, and by nothing else.

#[path = "support/life.rs"]
mod life;
#[path = "support/viewing.rs"]
mod viewing;

use meetlink_e2e::app::App;
use serde_json::Value;
use uuid::Uuid;
use viewing::{People, SETTING_UP, ask, claim, start, words};

/// A session that needs its tutor, whose two texts are easily told apart.
fn needing_its_tutor(app: &App) -> (People, Uuid) {
    let people = People {
        tutor: app.person("tutor", "Ned"),
        student: app.person("student", "Sam"),
    };
    let session = app.book(people.tutor, people.student);
    app.wait_for_state(session, "needs_action");
    (people, session)
}

/// For whom the words are that a superuser gets after `before`.
fn told_as(app: &App, session: Uuid, before: &str, viewer: Option<&str>) -> &'static str {
    let (message, kind) = words(&ask(app, session, before, viewer).expect("a status"));
    match (message.as_str(), kind.as_str()) {
        (SETTING_UP, "") => "student",
        (_, "connect") => "tutor",
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_caller_is_known_by_the_claims_of_the_token_in_either_form() {
    let app = start();
    let (people, session) = needing_its_tutor(&app);
    let (tutor, student) = (people.tutor.0, people.student.0);
    let parent = app.person("parent", "Pia").0;
    let sub = |id: Uuid| format!("SET LOCAL request.jwt.claim.sub = '{id}'");
    let json = |id: Uuid| {
        format!(
            "SET LOCAL request.jwt.claims = '{{\"role\": \"authenticated\", \"sub\": \"{id}\"}}'"
        )
    };
    // Empty, as a pooled connection keeps it from an earlier transaction.
    let left_over = |id: Uuid| format!("SET LOCAL request.jwt.claim.sub = ''; {}", json(id));
    for how in [&sub as &dyn Fn(Uuid) -> String, &json, &left_over] {
        for (caller, asked, told) in [
            (tutor, None, "tutor"),
            (tutor, Some("tutor"), "tutor"),
            (tutor, Some("student"), "student"),
            (student, None, "student"),
            (student, Some("student"), "student"),
            (student, Some("tutor"), "student"),
            // Neither: waits for the link as a student does, unless the page asks for the tutor's.
            (parent, None, "student"),
            (parent, Some("student"), "student"),
            (parent, Some("tutor"), "tutor"),
        ] {
            let before = how(caller);
            let got = told_as(&app, session, &before, asked);
            assert_eq!(got, told, "{before}, asked as {asked:?}");
        }
    }
    for nobody in [
        "",
        "SET LOCAL request.jwt.claims = '{}'",
        "SET LOCAL request.jwt.claims = 'no json'",
        "SET LOCAL request.jwt.claims = '{\"sub\": null}'",
        "SET LOCAL request.jwt.claim.sub = 'service'",
    ] {
        assert_eq!(told_as(&app, session, nobody, None), "tutor", "{nobody}");
        assert_eq!(told_as(&app, session, nobody, Some("student")), "student");
    }
}

#[test]
fn an_application_names_the_setting_that_holds_its_caller() {
    let app = start();
    let (people, session) = needing_its_tutor(&app);
    let attach = "SELECT meetlink_attach(options => $1)";
    let named = |name: &str| serde_json::json!({"caller_setting": name});
    for odd in ["user", "app.user id", "app.", ""] {
        let refused = app.client().execute(attach, &[&named(odd)]);
        let (code, message, _) = life::refusal(refused);
        assert!(message.contains("caller_setting"), "{code} {message}");
    }
    app.client()
        .execute(attach, &[&named("app.user_id")])
        .expect("the mapping changes");
    let set = |id: Uuid| format!("SET LOCAL app.user_id = '{id}'");
    let (tutor, student) = (people.tutor.0, people.student.0);
    assert_eq!(told_as(&app, session, &set(tutor), None), "tutor");
    assert_eq!(told_as(&app, session, &set(student), None), "student");
    assert_eq!(
        told_as(&app, session, &set(student), Some("tutor")),
        "student"
    );
    // The others say nothing any more.
    let claims = format!("SET LOCAL request.jwt.claim.sub = '{student}'");
    assert_eq!(told_as(&app, session, &claims, None), "tutor");
    let both = format!("{}; {claims}", set(tutor));
    assert_eq!(told_as(&app, session, &both, None), "tutor");
}

#[test]
fn any_other_viewer_is_refused_and_says_nothing_about_the_session() {
    let app = start();
    let (people, session) = needing_its_tutor(&app);
    for nonsense in [
        "",
        "Tutor",
        "admin",
        "student ",
        "tutor; DROP TABLE sessions",
    ] {
        for session in [session, Uuid::new_v4()] {
            let refused = ask(&app, session, &claim(people.tutor), Some(nonsense));
            let (code, message, hint) = life::refusal(refused);
            assert_eq!(code, "22023", "{message}");
            assert!(message.contains("viewer") && !hint.is_empty());
        }
    }
    let stranger = claim(app.person("student", "Uwe"));
    for viewer in [None, Some("tutor"), Some("student")] {
        let (code, message, _) = life::refusal(ask(&app, session, &stranger, viewer));
        assert_eq!(code, "P0002");
        assert_eq!(message, format!("session {session} not found"));
    }
}

#[test]
fn a_retry_answers_its_caller_in_the_same_words() {
    let app = start();
    let (people, session) = needing_its_tutor(&app);
    let mut client = app.client();
    let mut retry = |person| {
        let mut transaction = client.transaction().expect("a transaction");
        app.act_as(&mut transaction, person);
        let row = transaction.query_one("SELECT meetlink_retry($1)", &[&session]);
        row.map(|row| row.get::<_, Value>(0))
    };
    let (code, ..) = life::refusal(retry(people.student));
    assert_eq!(code, "42501", "a student may look, not push");
    assert_eq!(retry(people.tutor).expect("a status")["state"], "pending");
}
