//! Every way to fail that people can come across.

#[path = "failing_seldom.rs"]
mod seldom;
#[path = "failing_tools.rs"]
mod tools;

use meetlink_e2e::app::{App, KEY};
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Action, Call, RateLimit};
use serde_json::json;

pub use seldom::{of_nobody, of_patience};
pub use tools::Case;
use tools::*;

/// What a tutor mends.
pub fn of_tutors() -> Vec<Case> {
    let act = "needs_action";
    let scopes = |status, code| Action::ZoomScopes { status, code };
    let on = |what, provider, action| {
        case(
            what,
            provider,
            act,
            answers(Call::Create, action),
            reconnect(),
        )
    };
    let revoke: Act = Box::new(|scene| {
        let account = scene.app.simulator.account(scene.provider, &scene.name);
        scene.app.simulator.revoke(&account.expect("an account"));
    });
    let mut unconnected = case(
        "The tutor never connected an account",
        Google,
        act,
        Box::new(|_| ()),
        reconnect(),
    );
    unconnected.connected = false;
    let refused = |status, error: &str| Action::TokenError {
        status,
        error: error.to_owned(),
        why: None,
    };
    vec![
        unconnected,
        case(
            "Consent withdrawn: token endpoint 400 `invalid_grant`",
            Google,
            act,
            revoke,
            reconnect(),
        )
        .stale(),
        case(
            "Token endpoint 400 `invalid_grant` without a reason",
            Zoom,
            act,
            answers(Call::Token, refused(400, "invalid_grant")),
            reconnect(),
        )
        .stale(),
        on(
            "Google 401 `authError`, also after a refresh",
            Google,
            Action::Unauthorized,
        ),
        on(
            "Zoom 401 code 124, also after a refresh",
            Zoom,
            Action::Unauthorized,
        ),
        on(
            "Google 403 `insufficientPermissions`",
            Google,
            Action::InsufficientPermissions,
        ),
        on(
            "Google 403 `ACCESS_TOKEN_SCOPE_INSUFFICIENT`",
            Google,
            google(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        ),
        on("Zoom 400 code 4711 (scopes)", Zoom, scopes(400, 4711)),
        on("Zoom 401 code 4700 (scopes)", Zoom, scopes(401, 4700)),
        on(
            "Google 400 \"Invalid conference type value.\"",
            Google,
            Action::InvalidConferenceType,
        ),
        on(
            "Google 404: no such calendar",
            Google,
            google(404, "notFound"),
        ),
        on(
            "Zoom 404 code 1001: no such user",
            Zoom,
            Action::ZoomNoSuchUser,
        ),
        on(
            "Zoom 400 code 3161: may not host",
            Zoom,
            Action::ZoomNotAllowed,
        ),
    ]
}

/// What the operator mends.
pub fn of_operators() -> Vec<Case> {
    let wait = "retrying";
    let rename: Act = Box::new(|scene| {
        scene
            .app
            .simulator
            .set_client(scene.provider, "other", "client")
    });
    let other_key: Act = Box::new(|scene| {
        scene.app.cluster.write_key_file(&[("k2", &"f".repeat(64))]);
        scene.app.cluster.reload();
    });
    let right_key: Act = Box::new(|scene| {
        scene.app.cluster.write_key_file(&[KEY]);
        scene.app.cluster.reload();
    });
    let too_open: Act = Box::new(|scene| {
        let line = format!("{} {}\n", KEY.0, KEY.1);
        scene.app.cluster.write_file("meetlink.keys", &line, 0o644);
        scene.app.cluster.reload();
    });
    let api = "meetlink.google_api_url";
    let redirect = Action::Redirect {
        status: 307,
        location: "https://elsewhere.example/".to_owned(),
    };
    let other_form: Act = Box::new(|scene| {
        let changed = scene.app.client().execute(
            "UPDATE tutor_video_provider_connections SET access_token_encrypted = 'v9:abc',
                    refresh_token_encrypted = 'v9:abc' WHERE tutor_id = $1",
            &[&scene.tutor.0],
        );
        changed.expect("a token of another form");
    });
    vec![
        case(
            "Token endpoint 401 `invalid_client`",
            Google,
            wait,
            rename,
            configure(),
        )
        .stale(),
        case(
            "Google 403 `CONSUMER_SUSPENDED`: the OAuth client's project is suspended",
            Google,
            wait,
            answers(Call::Create, google(403, "CONSUMER_SUSPENDED")),
            then(clear(), configure()),
        ),
        case(
            "No OAuth client is configured",
            Zoom,
            wait,
            statement("DELETE FROM meetlink.providers WHERE provider = 'zoom'"),
            configure(),
        )
        .stale(),
        case(
            "A tutor's token is encrypted with a key that the key file lacks",
            Zoom,
            wait,
            other_key,
            then(right_key, again()),
        ),
        case(
            "The key file is readable by others",
            Google,
            wait,
            too_open,
            then(
                Box::new(|scene| {
                    scene.app.cluster.write_key_file(&[KEY]);
                    scene.app.cluster.reload();
                }),
                again(),
            ),
        ),
        case(
            "A tutor's token has a form that meetlink was not told of",
            Zoom,
            wait,
            other_form,
            reconnect(),
        ),
        case(
            "A redirect",
            Google,
            "failed",
            answers(Call::Create, redirect),
            // Whatever was mended elsewhere: nobody asks for this session again.
            then(clear(), Box::new(|scene| scene.app.cluster.reload())),
        ),
        case(
            "The API's URL is wrong: 404 without a word of the provider's",
            Google,
            wait,
            setting(api, |app| format!("{}/nowhere", app.simulator.url())),
            setting(api, |app| app.simulator.google_api_url()),
        ),
        case(
            "The session ends before it starts",
            Zoom,
            "failed",
            backwards(),
            statement(
                "UPDATE sessions SET scheduled_end_at = scheduled_start_at + interval '50 min'
                  WHERE scheduled_end_at < scheduled_start_at",
            ),
        ),
    ]
}

/// What ends by itself, or by trying again.
pub fn of_providers() -> Vec<Case> {
    let wait = "retrying";
    let on = |what, provider, state, action| {
        case(
            what,
            provider,
            state,
            answers(Call::Create, action),
            again(),
        )
    };
    let down = |status| Action::ServerError { status };
    let google_url: fn(&App) -> String = |app| app.simulator.google_api_url();
    let api = "meetlink.google_api_url";
    let away = |what, url: fn(&App) -> String| {
        case(
            what,
            Google,
            wait,
            setting(api, url),
            then(setting(api, google_url), again()),
        )
    };
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'no'; END $$;
                  CREATE TRIGGER refuse BEFORE UPDATE OF join_url ON sessions
                    FOR EACH ROW EXECUTE FUNCTION refuse()";
    let mend = "DROP TRIGGER refuse ON sessions; DROP FUNCTION refuse()";
    vec![
        on(
            "Google 403 `rateLimitExceeded`, or 429",
            Google,
            wait,
            limit(RateLimit::GoogleRateLimitExceeded),
        ),
        on(
            "Google 403 `quotaExceeded`",
            Google,
            wait,
            limit(RateLimit::GoogleQuotaExceeded),
        ),
        on(
            "Google 403 `dailyLimitExceeded`: the limit of the application as a whole",
            Google,
            wait,
            limit(RateLimit::GoogleDailyLimitExceeded),
        ),
        on(
            "Zoom 429, the limit of a second",
            Zoom,
            wait,
            limit(RateLimit::ZoomPerSecond),
        ),
        on(
            "Zoom 429, the limit of a day",
            Zoom,
            wait,
            limit(RateLimit::ZoomDaily),
        ),
        on("Google 5xx", Google, wait, down(503)),
        case(
            "Zoom 5xx after a request that may have arrived",
            Zoom,
            "in_doubt",
            lost(body(503, true, &json!({}))),
            again(),
        ),
        case(
            "Google: the answer is lost",
            Google,
            wait,
            lost(Action::ResetAfterEffect),
            again(),
        ),
        case(
            "Zoom: the answer is lost",
            Zoom,
            "in_doubt",
            lost(Action::ResetAfterEffect),
            again(),
        ),
        case(
            "Zoom: the answer is cut off",
            Zoom,
            "in_doubt",
            lost(Action::CutBody),
            again(),
        ),
        case(
            "Zoom: the answer makes no sense",
            Zoom,
            "in_doubt",
            lost(Action::NotJson { effect: true }),
            again(),
        ),
        on(
            "No answer in time",
            Google,
            wait,
            Action::Stall { effect: false },
        ),
        away("The connection is refused", nobody_listens),
        away("The name is not known", |_| {
            "https://does-not-exist.invalid".to_owned()
        }),
        away("TLS fails", |app| {
            app.simulator
                .google_api_url()
                .replace("http://", "https://")
        }),
        on(
            "Google: any other 400",
            Google,
            "failed",
            google(400, "badRequest"),
        ),
        on("Zoom 400 code 300", Zoom, "failed", zoom(400, 300)),
        on(
            "Zoom 400 code 3000",
            Zoom,
            "failed",
            Action::ZoomCannotSchedule,
        ),
        case(
            "Google 5xx, until the attempts are used up",
            Google,
            "failed",
            then(
                setting("meetlink.max_attempts", |_| "1".to_owned()),
                answers(Call::Create, down(503)),
            ),
            then(
                setting("meetlink.max_attempts", |_| "10".to_owned()),
                again(),
            ),
        ),
        case(
            "Google 5xx for five tutors in a row: it is down as a whole",
            Google,
            "retrying",
            down_for_all(),
            again(),
        ),
        case(
            "The application refuses the link",
            Google,
            wait,
            statement(refuse),
            then(statement(mend), again()),
        ),
    ]
}
