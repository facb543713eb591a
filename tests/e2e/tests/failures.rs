//! Every row of "What an answer means": state, sentence, action, ledger, and the way back.

#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, Person};
use meetlink_simulator::{AccountSpec, Action, Call, Provider, RateLimit, Rule};
use serde_json::{Value, json};
use support::{
    Witness, assert_no_secrets, assert_plain, connection_status, last_error, ledger, meetings_of,
    wait_for_attempts,
};

use Provider::{Google, Zoom};

/// An answer, and what it must lead to.
struct Row {
    provider: Provider,
    action: Action,
    class: &'static str,
    status: u16,
    code: Option<&'static str>,
}

fn row(
    provider: Provider,
    action: Action,
    class: &'static str,
    status: u16,
    code: impl Into<Option<&'static str>>,
) -> Row {
    let code = code.into();
    Row {
        provider,
        action,
        class,
        status,
        code,
    }
}

fn answer(status: u16, body: &Value) -> Action {
    Action::Status {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string(),
        effect: false,
    }
}

fn google(status: u16, reason: &str) -> Action {
    let prose = "Backend prose with a secret";
    answer(
        status,
        &json!({"error": {"code": status, "message": prose,
                          "errors": [{"reason": reason, "message": prose}]}}),
    )
}

fn zoom(status: u16, code: u32) -> Action {
    answer(
        status,
        &json!({"code": code, "message": "Validation prose with a secret"}),
    )
}

/// A tutor whose requests that make a meeting are answered so, and the session that fails by it.
fn meet(app: &App, row: &Row, name: &str) -> (Person, uuid::Uuid) {
    let student = app.person("student", "Sam");
    let tutor = app.tutor(row.provider, name);
    let rule = Rule::always(row.provider, Call::Create, row.action.clone()).account(name);
    app.simulator.fault(rule);
    let session = app.book(tutor, student);
    let first = wait_for_attempts(app, session, 1).remove(0);
    let seen = (first.class.as_str(), first.status, first.code.as_deref());
    assert_eq!(
        seen,
        (row.class, Some(i32::from(row.status)), row.code),
        "{name}"
    );
    let error = first.error.expect("an error");
    for prose in [
        "prose",
        "secret",
        "Backend Error",
        "Validation Failed",
        "<",
        "{",
    ] {
        assert!(!error.contains(prose), "{name}: {error}");
    }
    (tutor, session)
}

fn name(index: usize, row: &Row) -> String {
    format!("{:?} {index}", row.provider)
}

#[test]
fn what_only_the_tutor_can_mend_waits_for_the_tutor() {
    let app = App::start();
    let scopes = |status, code| Action::ZoomScopes { status, code };
    let act = "tutor_must_act";
    // The last column: whether the connection itself has ended.
    let rows = [
        (
            row(
                Google,
                Action::InsufficientPermissions,
                act,
                403,
                "insufficientPermissions",
            ),
            true,
        ),
        (
            row(
                Google,
                google(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
                act,
                403,
                "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            ),
            true,
        ),
        (
            row(Google, Action::InvalidConferenceType, act, 400, "invalid"),
            false,
        ),
        (
            row(Google, google(404, "notFound"), act, 404, "notFound"),
            false,
        ),
        (row(Zoom, scopes(400, 4711), act, 400, "4711"), true),
        (row(Zoom, scopes(401, 4711), act, 401, "4711"), true),
        (row(Zoom, scopes(401, 4700), act, 401, "4700"), true),
        (row(Zoom, Action::ZoomNoSuchUser, act, 404, "1001"), false),
        (row(Zoom, Action::ZoomNotAllowed, act, 400, "3161"), false),
    ];
    for (index, (row, ended)) in rows.iter().enumerate() {
        let name = name(index, row);
        let (tutor, session) = meet(&app, row, &name);
        let status = app.wait_for_state(session, "needs_action");
        assert_eq!(status["action"]["kind"], "reconnect", "{name}: {status}");
        assert_eq!(status["next_attempt_at"], Value::Null);
        assert_plain(&status);
        assert!(last_error(&app, session).is_some());
        let expected = if *ended { "needs_reauth" } else { "connected" };
        assert_eq!(connection_status(&app, tutor), expected, "{name}");
        assert_eq!(ledger(&app, session).len(), 1, "{name}");

        app.connect(
            tutor,
            row.provider,
            AccountSpec::named(format!("{name} mended")),
        );
        app.wait_for_link(session);
        assert_eq!(connection_status(&app, tutor), "connected");
    }
}

#[test]
fn what_is_refused_for_good_is_given_up_and_can_be_asked_for_again() {
    let app = App::start();
    let location = format!("{}/elsewhere", app.simulator.url());
    let redirect = |status| Action::Redirect {
        status,
        location: location.clone(),
    };
    let no = "permanent";
    let rows = [
        row(Google, google(400, "badRequest"), no, 400, "badRequest"),
        row(Google, redirect(302), no, 302, None),
        row(Google, redirect(307), no, 307, None),
        row(Zoom, zoom(400, 300), no, 400, "300"),
        row(Zoom, Action::ZoomCannotSchedule, no, 400, "3000"),
        row(Zoom, redirect(301), no, 301, None),
        row(Zoom, redirect(308), no, 308, None),
    ];
    for (index, row) in rows.iter().enumerate() {
        let name = name(index, row);
        let (tutor, session) = meet(&app, row, &name);
        let status = app.wait_for_state(session, "failed");
        assert_eq!(status["action"]["kind"], "contact_support", "{name}");
        assert_plain(&status);
        assert_eq!(connection_status(&app, tutor), "connected");
        assert_eq!(ledger(&app, session).len(), 1, "{name}");

        app.simulator.clear_faults();
        support::retry(&app, session);
        app.wait_for_link(session);
        assert_eq!(meetings_of(&app, row.provider, &name), 1, "{name}");
    }
    // A redirect is never followed, whoever it comes from.
    let journal = app.simulator.journal();
    assert!(
        journal
            .iter()
            .all(|entry| !entry.path.contains("elsewhere"))
    );
}

#[test]
fn passing_trouble_is_tried_again_by_itself() {
    let app = App::start();
    let server = |status| Action::ServerError { status };
    let rows = [
        row(Google, server(500), "retry", 500, None),
        row(Google, server(503), "retry", 503, None),
        row(Google, google(409, "conflict"), "retry", 409, "conflict"),
        row(Google, Action::Xml { status: 502 }, "retry", 502, None),
        row(Zoom, server(500), "in_doubt", 500, None),
        row(Zoom, server(503), "in_doubt", 503, None),
        row(Zoom, Action::Html { status: 502 }, "in_doubt", 502, None),
    ];
    for (index, row) in rows.iter().enumerate() {
        let name = name(index, row);
        let (tutor, session) = meet(&app, row, &name);
        assert_plain(&app.status(session));
        app.simulator.clear_faults();
        app.wait_for_link(session);
        assert_eq!(meetings_of(&app, row.provider, &name), 1, "{name}");
        assert_eq!(connection_status(&app, tutor), "connected");
        assert_eq!(last_error(&app, session), None, "{name}");
    }
}

#[test]
fn a_limit_of_one_tutor_holds_nobody_else_up() {
    let app = App::start();
    let limit = |form| Action::RateLimit { form };
    let later = "retry_after";
    let rows = [
        row(
            Google,
            limit(RateLimit::GoogleQuotaExceeded),
            later,
            403,
            "quotaExceeded",
        ),
        row(Zoom, limit(RateLimit::ZoomDaily), later, 429, "429"),
        row(Zoom, limit(RateLimit::ZoomDailyNoHint), later, 429, "429"),
    ];
    for (index, row) in rows.iter().enumerate() {
        let witness = Witness::new(&app, row.provider);
        let name = name(index, row);
        let (tutor, session) = meet(&app, row, &name);
        let status = app.wait_for_state(session, "retrying");
        assert_eq!(status["action"]["kind"], "retry");
        assert_plain(&status);
        assert_eq!(status["attempts"], 0, "a limit uses up no attempt");
        let due: bool = app.value(&format!(
            "SELECT CASE provider
                      WHEN 'zoom' THEN due_at >= date_trunc('day', now(), 'UTC') + interval '1 day'
                                   AND due_at < date_trunc('day', now(), 'UTC') + interval '25 h'
                      ELSE due_at BETWEEN now() + interval '50 min' AND now() + interval '12 h' END
               FROM meetlink.jobs WHERE session_id = '{session}'"
        ));
        assert!(due, "{name}: {status}");
        witness.still_served(&app);
        assert_eq!(connection_status(&app, tutor), "connected");

        // The tutor's next session does not ask either.
        let calls = support::creates(&app, row.provider, &name).len();
        let student = app.person("student", "Sam");
        let next = app.book(tutor, student);
        let status = app.wait_for_state(next, "retrying");
        assert_plain(&status);
        assert_eq!(support::creates(&app, row.provider, &name).len(), calls);

        // Another account has limits of its own.
        app.connect(
            tutor,
            row.provider,
            AccountSpec::named(format!("{name} other")),
        );
        support::retry(&app, session);
        app.wait_for_link(session);
    }
}

#[test]
fn googles_short_limits_end_by_themselves() {
    let app = App::start();
    let limit = |form| Action::RateLimit { form };
    let rows = [
        row(
            Google,
            limit(RateLimit::GoogleRateLimitExceeded),
            "retry_after",
            403,
            "rateLimitExceeded",
        ),
        row(
            Google,
            limit(RateLimit::GoogleUserRateLimitExceeded),
            "retry_after",
            403,
            "userRateLimitExceeded",
        ),
        row(
            Google,
            limit(RateLimit::GoogleTooManyRequests),
            "retry_after",
            429,
            "rateLimitExceeded",
        ),
        row(
            Zoom,
            limit(RateLimit::ZoomPerSecond),
            "retry_after",
            429,
            "429",
        ),
    ];
    for (index, row) in rows.iter().enumerate() {
        let name = name(index, row);
        let (_, session) = meet(&app, row, &name);
        assert_plain(&app.status(session));
        app.simulator.clear_faults();
        app.wait_for_link(session);
        assert_eq!(app.status(session)["attempts"], 1, "{name}");
    }
}

#[test]
fn no_failure_leaves_a_secret_behind() {
    let app = App::with(|options| options.set("log_min_messages", "debug1"));
    for (index, row) in [
        row(
            Google,
            Action::InsufficientPermissions,
            "tutor_must_act",
            403,
            "insufficientPermissions",
        ),
        row(Zoom, zoom(400, 300), "permanent", 400, "300"),
    ]
    .iter()
    .enumerate()
    {
        meet(&app, row, &name(index, row));
    }
    assert_no_secrets(&app, &[(Google, "Google 0"), (Zoom, "Zoom 1")]);
}
