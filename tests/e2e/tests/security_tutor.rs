//! A tutor, as the reference application's policies let one be, tries to hold others up.

use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::Zoom;
use uuid::Uuid;

/// Writes tokens into one's own row, as `authenticated`.
fn write_own(app: &App, tutor: Person, refresh: &str) {
    let mut client = app.client();
    let mut transaction = client.transaction().unwrap();
    app.act_as(&mut transaction, tutor);
    let changed = transaction
        .execute(
            "UPDATE tutor_video_provider_connections
                SET refresh_token_encrypted = $1, access_token_encrypted = NULL,
                    connection_status = 'connected'",
            &[&refresh],
        )
        .unwrap();
    assert_eq!(changed, 1);
    transaction.commit().unwrap();
}

fn tried(app: &App, session: Uuid) {
    app.wait_until(
        "an attempt",
        &format!("SELECT EXISTS (SELECT FROM meetlink.attempts WHERE session_id = '{session}')"),
    );
}

#[test]
fn tokens_of_ones_own_making_hold_up_nobody_else() {
    let junk = [
        "ml1.nokey.AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAA",
        "ml1.k1.AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAA",
        "no envelope at all",
        "ml1.",
        "ml1.k1..",
        " ",
    ];
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "5s")
            .set("meetlink.backoff_max", "1min")
    });
    let student = app.person("student", "Sam");
    let good = app.tutor(Zoom, "Gus");
    app.wait_for_link(app.book(good, student));
    let mut held = Vec::new();
    for (at, text) in junk.iter().enumerate() {
        let mallory = app.tutor(Zoom, &format!("Mallory{at}"));
        write_own(&app, mallory, text);
        tried(&app, app.book(mallory, student));
        let all: Option<String> = app
            .value("SELECT string_agg(h::text, ' ') FROM meetlink.holds h WHERE tutor_id IS NULL");
        if let Some(all) = all {
            held.push(format!("{text}: {all}"));
        }
        app.client()
            .batch_execute("DELETE FROM meetlink.holds")
            .unwrap();
    }
    assert!(held.is_empty(), "{held:#?}");
}

/// Google's answer to a refresh token that was issued to another OAuth client.
#[test]
fn a_token_of_another_oauth_client_is_one_tutors_matter() {
    use meetlink_simulator::Provider::Google;
    use meetlink_simulator::{Action, Call, Rule};
    let app = App::with(|options| options.set("meetlink.backoff_max", "1min"));
    let student = app.person("student", "Sam");
    let (good, other) = (app.tutor(Google, "Gus"), app.tutor(Google, "Mallory"));
    app.wait_for_link(app.book(good, student));
    let error = Action::TokenError {
        status: 401,
        error: "unauthorized_client".to_owned(),
        why: Some("Unauthorized".to_owned()),
    };
    app.simulator.fault(Rule::once(Google, Call::Token, error));
    app.client()
        .execute(
            "UPDATE tutor_video_provider_connections SET token_expires_at = now() WHERE tutor_id = $1",
            &[&other.0],
        )
        .unwrap();
    tried(&app, app.book(other, student));
    let holds: Option<String> =
        app.value("SELECT string_agg(h::text, ' ') FROM meetlink.holds h WHERE tutor_id IS NULL");
    assert_eq!(holds, None, "others are held up");
    app.wait_for_link(app.book(good, student));
}
