//! The server's log: one line for each outcome that matters, and none while all goes well.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::LogMark;
use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Provider, Rule};
use notices::{parked, refused};
use serde_json::json;
use uuid::Uuid;

const LINE: &str = "meetlink: session ";

/// The level and text of every line about a session, milliseconds made `N`.
fn lines(app: &App, mark: LogMark, session: Uuid) -> Vec<(String, String)> {
    let log = app.cluster.log_from(mark);
    let ours = log.lines().filter_map(|line| {
        let (head, text) = line.split_once(LINE)?;
        let text = text
            .strip_prefix(&session.to_string())?
            .strip_prefix(": ")?;
        let level = head.trim_end().trim_end_matches(':').rsplit(' ').next()?;
        let (before, after) = text.split_once(" ms").expect("milliseconds");
        let (before, took) = before.rsplit_once(' ').expect("a number");
        let took: u64 = took.parse().expect("a number");
        assert!(took < 60_000, "{line}");
        Some((level.to_owned(), format!("{before} N ms{after}")))
    });
    ours.collect()
}

/// Waits for a session's first lines, so many.
#[track_caller]
fn wait_for(app: &App, mark: LogMark, session: Uuid, count: usize) -> Vec<(String, String)> {
    wait::until(SOON, &format!("{count} lines about {session}"), || {
        let found = lines(app, mark, session);
        (found.len() >= count).then_some(found)
    })
}

fn one(level: &str, text: &str) -> Vec<(String, String)> {
    vec![(level.to_owned(), text.to_owned())]
}

#[test]
fn nothing_is_logged_at_the_default_level_while_all_goes_well() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutors = [Google, Zoom].map(|provider| {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        app.wait_for_link(app.book(tutor, student));
        tutor
    });
    let mark = app.cluster.log_mark();
    for _ in 0..5 {
        let sessions = tutors.map(|tutor| app.book(tutor, student));
        for session in sessions {
            app.wait_for_link(session);
        }
    }
    // A refresh of a token is all in order too.
    let (stale, _) = support::stale_tutor(&app, Zoom, "Stale");
    app.wait_for_link(app.book(stale, student));
    let said = app.cluster.log_from(mark);
    assert!(!said.contains("meetlink"), "{said}");
}

#[test]
fn links_are_logged_for_whoever_wants_to_see_them() {
    let app = App::with(|options| options.set("log_min_messages", "debug1"));
    let mark = app.cluster.log_mark();
    let session = app.book(app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    app.wait_for_link(session);
    let found = wait_for(&app, mark, session, 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.starts_with("DEBUG"), "{found:?}");
    assert_eq!(found[0].1, "made at zoom, attempt 1, N ms");
}

#[test]
fn each_outcome_that_matters_has_one_line_at_a_fitting_level() {
    let app = App::with(|options| options.set("meetlink.backoff_max", "1h"));
    let mark = app.cluster.log_mark();
    let (_, session, _) = parked(&app, "Ned");
    assert_eq!(
        wait_for(&app, mark, session, 1),
        one(
            "LOG",
            "tutor_must_act at no provider, attempt 1, N ms, reason not_connected"
        )
    );

    let (_, session, _) = refused(&app, "Zoe");
    let text = "permanent at zoom, attempt 1, N ms, reason request_refused, status 400";
    assert_eq!(wait_for(&app, mark, session, 1), one("WARNING", text));
    support::retry(&app, session);
    let again = wait_for(&app, mark, session, 2);
    assert!(again[1].1.contains(", attempt 2, "), "{again:?}");

    let tutor = app.tutor(Zoom, "Doubt");
    let lost = Rule::once(Zoom, Call::Create, Action::ResetAfterEffect).account("Doubt");
    app.simulator.fault(lost);
    let session = app.book(tutor, app.person("student", "Sam"));
    let text = "in_doubt at zoom, attempt 1, N ms, reason answer_lost";
    assert_eq!(wait_for(&app, mark, session, 1)[0], one("LOG", text)[0]);
    app.wait_for_link(session);

    app.cluster.psql(
        DATABASE,
        "DELETE FROM meetlink.providers WHERE provider = 'google_meet'",
    );
    let (tutor, _) = support::stale_tutor(&app, Google, "Ann");
    let session = app.book(tutor, app.person("student", "Sam"));
    let text = "operator_must_act at google_meet, attempt 1, N ms, reason oauth_client";
    assert_eq!(wait_for(&app, mark, session, 1), one("WARNING", text));
}

/// Passing trouble is silent, until it is what a session goes without a link for.
#[test]
fn attempts_that_are_used_up_are_logged_when_the_session_is_given_up() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
    let tutor = app.tutor(Google, "Ann");
    let mark = app.cluster.log_mark();
    let down = Rule::always(Google, Call::Any, Action::ServerError { status: 503 });
    app.simulator.fault(down);
    let session = app.book(tutor, app.person("student", "Sam"));
    app.wait_for_state(session, "failed");
    let text = "retry at google_meet, attempt 2, N ms, reason provider_down, status 503";
    assert_eq!(wait_for(&app, mark, session, 1), one("WARNING", text));
}

#[test]
fn passing_trouble_is_logged_at_notice() {
    let app = App::with(|options| options.set("log_min_messages", "notice"));
    let mark = app.cluster.log_mark();
    let down = Rule::once(Google, Call::Create, Action::ServerError { status: 503 });
    app.simulator.fault(down);
    let session = app.book(app.tutor(Google, "Ann"), app.person("student", "Sam"));
    app.wait_for_link(session);
    let text = "retry at google_meet, attempt 1, N ms, reason provider_down, status 503";
    assert_eq!(wait_for(&app, mark, session, 1), one("NOTICE", text));
}

/// Neither of a provider, nor of the application, nor of people, nor a token.
#[test]
fn no_line_carries_text_of_anybody_else() {
    let app = App::with(|options| options.set("log_min_messages", "debug1"));
    let mark = app.cluster.log_mark();
    let prose = "Canary prose";
    let refusal = |status: u16, body: serde_json::Value| Action::Status {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string(),
        effect: false,
    };
    let answers: [(Provider, Action); 3] = [
        (
            Google,
            refusal(
                400,
                json!({"error": {"code": 400, "message": prose,
             "errors": [{"reason": "Canary reason", "message": prose}]}}),
            ),
        ),
        (Zoom, refusal(400, json!({"code": 300, "message": prose}))),
        (Zoom, refusal(418, json!(prose))),
    ];
    for (n, (provider, action)) in answers.into_iter().enumerate() {
        let name = format!("Canary Tutor {n}");
        app.simulator
            .fault(Rule::once(provider, Call::Create, action).account(&name));
        let session = app.book(
            app.tutor(provider, &name),
            app.person("student", "Canary Student"),
        );
        wait_for(&app, mark, session, 1);
    }
    app.cluster.psql(
        DATABASE,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'Canary of the application: %', NEW.join_url; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON sessions FOR EACH ROW
           WHEN (NEW.join_url IS NOT NULL) EXECUTE FUNCTION public.refuse();",
    );
    let session = app.book(
        app.tutor(Google, "Canary Last"),
        app.person("student", "Canary"),
    );
    app.wait_until(
        "the refusal",
        &format!(
            "SELECT COALESCE(bool_or(reason = 'write_back'), false) FROM meetlink.jobs
              WHERE session_id = '{session}'"
        ),
    );
    let log = app.cluster.log_from(mark);
    let ours: Vec<&str> = log.lines().filter(|line| line.contains(LINE)).collect();
    assert!(ours.len() >= 4, "{ours:?}");
    for line in ours {
        for text in ["Canary", "canary", "http", "meet.google", "ml1."] {
            assert!(!line.contains(text), "{line}");
        }
    }
    support::assert_no_secrets(
        &app,
        &[(Google, "Canary Tutor 0"), (Zoom, "Canary Tutor 1")],
    );
}
