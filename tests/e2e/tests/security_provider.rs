//! A provider that is malicious, or whose answers somebody writes.

use meetlink_e2e::app::App;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};

fn status(status: u16, headers: &[(&str, &str)], body: String) -> Action {
    Action::Status {
        status,
        headers: headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body,
        effect: false,
    }
}

/// Everything that any role can be shown, and the server's log.
fn everything(app: &App) -> String {
    let tables: String = app.value(
        "SELECT concat_ws(' ', (SELECT string_agg(t::text, ' ') FROM meetlink.jobs t),
           (SELECT string_agg(t::text, ' ') FROM meetlink.attempts t),
           (SELECT string_agg(t::text, ' ') FROM meetlink.holds t),
           (SELECT string_agg(t::text, ' ') FROM meetlink.workers t),
           (SELECT string_agg(t::text, ' ') FROM meetlink_health() t),
           (SELECT string_agg(t::text, ' ') FROM sessions t))",
    );
    tables + &app.cluster.log()
}

#[test]
fn nothing_that_a_provider_says_is_repeated() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let canary = "Canary7Canary";
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let answers = |token: &str| -> Vec<Action> {
        vec![
            status(
                400,
                &[],
                format!("{{\"error\": \"{canary}\", \"error_description\": \"{token}\"}}"),
            ),
            status(
                400,
                &[],
                format!(
                    "{{\"code\": \"{token}\", \"message\": \"{canary}'; DROP TABLE sessions; --\"}}"
                ),
            ),
            status(
                403,
                &[],
                format!(
                    "{{\"error\": {{\"errors\": [{{\"reason\": \"{canary}\"}}], \"status\": \"{canary}\", \"message\": \"{token}\"}}}}"
                ),
            ),
            status(200, &[], deep.clone()),
            status(
                200,
                &[],
                format!(
                    "{{\"id\": 7, \"join_url\": \"javascript:{canary}\", \"start_url\": \"https://x/{canary}\"}}"
                ),
            ),
            status(
                200,
                &[],
                format!(
                    "{{\"id\": 7, \"join_url\": \"https://x/{canary}\\u0000\\r\\n\", \"start_url\": 1}}"
                ),
            ),
            status(
                429,
                &[
                    ("retry-after", "99999999999999999999"),
                    ("x-ratelimit-type", canary),
                ],
                canary.into(),
            ),
            status(
                503,
                &[
                    ("retry-after", "-1"),
                    ("location", "https://evil.example/CanaryCanary"),
                ],
                canary.into(),
            ),
            status(
                302,
                &[("location", "http://127.0.0.1:1/CanaryCanary")],
                canary.into(),
            ),
        ]
    };
    for provider in [Google, Zoom] {
        for (at, action) in answers("Canary7.Token").into_iter().enumerate() {
            let tutor = app.tutor(provider, &format!("{provider:?}{at}"));
            if at % 2 == 1 {
                app.client()
                    .execute(
                        "UPDATE tutor_video_provider_connections SET token_expires_at = now() WHERE tutor_id = $1",
                        &[&tutor.0],
                    )
                    .unwrap();
            }
            for call in [Call::Token, Call::Create, Call::Get, Call::List] {
                app.simulator
                    .fault(Rule::once(provider, call, action.clone()));
            }
            let session = app.book(tutor, student);
            app.client()
                .execute("SELECT meetlink_retry($1)", &[&session])
                .unwrap();
            app.wait_until(
                "an attempt",
                &format!(
                    "SELECT EXISTS (SELECT FROM meetlink.attempts WHERE session_id = '{session}')"
                ),
            );
        }
    }
    let all = everything(&app);
    let at = all
        .find("Canary")
        .map(|at| &all[at.saturating_sub(300)..(at + 200).min(all.len())]);
    assert_eq!(at, None);
}

/// The provider's hosts are the operator's word; the link's host is the provider's.
#[test]
fn a_link_with_another_host_and_a_user_in_front_is_no_link() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Tess"), app.person("student", "Sam"));
    app.simulator.fault(Rule::once(
        Zoom,
        Call::Create,
        status(
            201,
            &[],
            "{\"id\": 87654321987, \"join_url\": \"https://zoom.us@evil.example/j/87654321987\"}"
                .into(),
        ),
    ));
    let session = app.book(tutor, student);
    app.wait_until(
        "an attempt",
        &format!("SELECT EXISTS (SELECT FROM meetlink.attempts WHERE session_id = '{session}')"),
    );
    let url: Option<String> = app.value(&format!(
        "SELECT join_url FROM sessions WHERE id = '{session}'"
    ));
    assert!(!url.clone().unwrap_or_default().contains("evil"), "{url:?}");
}
