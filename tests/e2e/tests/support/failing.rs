//! Every way to fail that people can come across: how it comes about, and how it is cured.

use std::net::TcpListener;

use meetlink_e2e::app::{App, DATABASE, KEY, Person, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{AccountSpec, Action, Call, Provider, RateLimit, Rule};
use serde_json::json;
use uuid::Uuid;

use crate::support::stale_tutor;

/// Who meets a failure, and where.
pub struct Scene<'a> {
    pub app: &'a mut App,
    pub provider: Provider,
    pub name: String,
    pub tutor: Person,
    pub student: Person,
}

type Act = Box<dyn Fn(&mut Scene<'_>)>;

/// One of the ways.
pub struct Case {
    /// In the words of the document.
    pub what: &'static str,
    pub provider: Provider,
    /// Whether the access token is over, so that the token endpoint is asked first.
    pub stale: bool,
    /// Whether the tutor has an account at all.
    pub connected: bool,
    /// What goes wrong, set up before the booking.
    pub trouble: Act,
    /// The state that it leads to.
    pub state: &'static str,
    /// What makes it good; none where it mends itself.
    pub cure: Option<Act>,
}

fn case(
    what: &'static str,
    provider: Provider,
    state: &'static str,
    trouble: Act,
    cure: Act,
) -> Case {
    let cure = Some(cure);
    Case {
        what,
        provider,
        stale: false,
        connected: true,
        trouble,
        state,
        cure,
    }
}

impl Case {
    fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Before the booking: a tutor, his account, and the trouble.
    pub fn arrange<'a>(&self, app: &'a mut App, number: usize) -> Scene<'a> {
        let name = format!("Tutor {number}");
        let tutor = match (self.connected, self.stale) {
            (false, _) => app.person("tutor", &name),
            (true, true) => stale_tutor(app, self.provider, &name).0,
            (true, false) => app.tutor(self.provider, &name),
        };
        let student = app.person("student", &format!("Student {number}"));
        let mut scene = Scene {
            app,
            provider: self.provider,
            name,
            tutor,
            student,
        };
        (self.trouble)(&mut scene);
        scene
    }
}

/// Requests of this tutor are answered so, each time.
fn answers(call: Call, action: Action) -> Act {
    Box::new(move |scene| {
        let rule = Rule::always(scene.provider, call, action.clone());
        scene.app.simulator.fault(rule.account(&scene.name));
    })
}

/// The first request that makes a meeting is answered so, and nobody can look what became of it.
fn lost(action: Action) -> Act {
    Box::new(move |scene| {
        let simulator = &scene.app.simulator;
        simulator
            .fault(Rule::once(scene.provider, Call::Create, action.clone()).account(&scene.name));
        for call in [Call::List, Call::Get] {
            let down = Action::ServerError { status: 503 };
            simulator.fault(Rule::always(scene.provider, call, down).account(&scene.name));
        }
    })
}

fn statement(text: &'static str) -> Act {
    Box::new(move |scene| drop(scene.app.cluster.psql(DATABASE, text)))
}

/// A setting is wrong for a while.
fn setting(name: &'static str, value: impl Fn(&App) -> String + 'static) -> Act {
    Box::new(move |scene| {
        let value = value(scene.app);
        scene.app.cluster.set(name, &value);
    })
}

/// The trouble is over, the time that somebody asked for too, and somebody presses the button.
fn again() -> Act {
    Box::new(|scene| {
        scene.app.simulator.clear_faults();
        scene.app.cluster.psql(
            DATABASE,
            "UPDATE meetlink.holds SET until = now();
             SELECT meetlink_retry(session_id) FROM meetlink.jobs
              WHERE state NOT IN ('ready', 'not_needed')",
        );
    })
}

/// The tutor connects another account, or the same with a new consent.
fn reconnect() -> Act {
    Box::new(|scene| {
        scene.app.simulator.clear_faults();
        let account = AccountSpec::named(format!("{} anew", scene.name));
        scene.app.connect(scene.tutor, scene.provider, account);
    })
}

/// The operator configures the provider.
fn configure() -> Act {
    Box::new(|scene| {
        let (id, secret) = ("client".to_owned(), "its right secret".to_owned());
        scene.app.simulator.set_client(scene.provider, &id, &secret);
        let done = scene.app.client().execute(
            "SELECT meetlink_configure_provider($1, $2, $3)",
            &[&name_of(scene.provider), &id, &secret],
        );
        done.expect("the provider is configured");
    })
}

fn then(first: Act, second: Act) -> Act {
    Box::new(move |scene| {
        first(scene);
        second(scene);
    })
}

fn body(status: u16, effect: bool, body: &serde_json::Value) -> Action {
    let headers = vec![("content-type".into(), "application/json".into())];
    Action::Status {
        status,
        headers,
        body: body.to_string(),
        effect,
    }
}

fn google(status: u16, reason: &str) -> Action {
    let effect = reason == "duplicate";
    body(
        status,
        effect,
        &json!({"error": {"code": status, "errors": [{"reason": reason}]}}),
    )
}

fn zoom(status: u16, code: u32) -> Action {
    body(status, false, &json!({"code": code, "message": "As told."}))
}

fn limit(form: RateLimit) -> Action {
    Action::RateLimit { form }
}

fn nobody_listens(_: &App) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

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
    let location = || "https://elsewhere.example/".to_owned();
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
            "429 with `Retry-After`",
            Zoom,
            wait,
            limit(RateLimit::Seconds(600)),
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
        on(
            "A redirect",
            Google,
            "failed",
            Action::Redirect {
                status: 307,
                location: location(),
            },
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

/// What is no failure at all.
pub fn of_nobody() -> Vec<Case> {
    let fine = |what, provider, state, trouble: Act| Case {
        cure: None,
        ..case(what, provider, state, trouble, again())
    };
    vec![
        fine(
            "Google 409 `duplicate`: the event is there, and is taken",
            Google,
            "ready",
            Box::new(|scene| {
                let rule = Rule::once(Google, Call::Create, google(409, "duplicate"));
                scene.app.simulator.fault(rule.account(&scene.name));
            }),
        ),
        fine(
            "Google 410 at the removal of what a cancelled session left",
            Google,
            "not_needed",
            called_off(google(410, "deleted")),
        ),
        fine(
            "Zoom 404 code 3001 at the removal of what a cancelled session left",
            Zoom,
            "not_needed",
            called_off(zoom(404, 3001)),
        ),
    ]
}

/// The session is cancelled while its meeting is made, and the removal is answered so.
fn called_off(answer: Action) -> Act {
    Box::new(move |scene| {
        let (simulator, name) = (&scene.app.simulator, scene.name.clone());
        let slow =
            Rule::once(scene.provider, Call::Create, Action::Delay { ms: 350 }).account(&name);
        let slow = simulator.fault(slow);
        simulator.fault(Rule::always(scene.provider, Call::Delete, answer.clone()).account(&name));
        let session: Uuid = scene.app.book(scene.tutor, scene.student);
        wait::until_true(SOON, "the request", || scene.app.simulator.fired(slow) == 1);
        let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
        let changed = scene.app.client().execute(cancel, &[&session]);
        assert_eq!(changed.expect("it is cancelled"), 1);
        scene.app.wait_until(
            "the removal",
            "SELECT NOT EXISTS (SELECT FROM meetlink.orphans)
                AND NOT EXISTS (SELECT FROM meetlink.queue)",
        );
    })
}
