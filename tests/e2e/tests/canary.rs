//! No secret is anywhere but in the worker's memory: canaries go through everything that meetlink
//! does, on a server that logs all it can, and every place is searched for them afterwards.

#[path = "support/canary.rs"]
mod canary;
#[path = "support/canary_places.rs"]
mod canary_places;
#[path = "support/canary_scene.rs"]
mod canary_scene;
#[path = "support/prov.rs"]
mod prov;

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use canary::{Hunt, random_text};
use canary_scene::{Scene, careful};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use meetlink_simulator::{Account, Action, Call, Provider, RateLimit, Rule};
use prov::retry;
use serde_json::json;

#[test]
fn connecting_refreshing_and_making_links_leaves_no_secret_anywhere() {
    let mut scene = Scene::start();
    for provider in [Google, Zoom] {
        for stale in [false, true] {
            let name = format!("{provider:?} {}", if stale { "stale" } else { "long" });
            let (tutor, account) = scene.tutor(provider, &name, stale);
            let session = scene.app.book(tutor, scene.student);
            scene.app.wait_for_link(session);
            // Refused before its time; then a new consent.
            scene.app.simulator.expire_access_tokens(&account);
            scene
                .app
                .wait_for_link(scene.app.book(tutor, scene.student));
            scene.app.simulator.revoke(&account);
            let session = scene.app.book(tutor, scene.student);
            scene.app.wait_for_state(session, "needs_action");
            let account = scene.new_tokens(provider, &name);
            scene.connect(tutor, provider, &account, stale);
            scene.app.wait_for_link(session);
            let disconnect = "SELECT meetlink_disconnect($1, $2)";
            let provider = meetlink_e2e::app::name_of(provider);
            let mut client = careful(&scene.app);
            client.execute(disconnect, &[&tutor.0, &provider]).unwrap();
        }
    }
    let log = scene.app.cluster.log();
    // Else the search proves little.
    for sign in [
        "meetlink worker  LOG:  00000: duration",
        "meetlink worker  DEBUG:",
    ] {
        assert!(
            log.contains(sign),
            "the server does not log all it can: {sign}"
        );
    }
    assert_eq!(scene.findings(), BTreeSet::new());
}

#[test]
fn the_search_knows_a_secret_in_every_form_and_in_pieces() {
    let secret = format!("1//0{}?>?>~?>~{}", random_text(40), random_text(40));
    let bytes = secret.as_bytes();
    let mut hunt = Hunt::default();
    hunt.text("secret", &secret);
    let hex = canary::hex(bytes);
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let utf16 = |first: bool| -> Vec<u8> {
        let pair = |byte: &u8| if first { [0, *byte] } else { [*byte, 0] };
        bytes.iter().flat_map(pair).collect()
    };
    // A control byte of zeros before each eight literal bytes, wherever the secret begins.
    let packed: Vec<u8> = bytes[3..]
        .chunks(8)
        .flat_map(|c| [&[0], c].concat())
        .collect();
    let forms: [(&str, Vec<u8>); 10] = [
        ("plain", bytes[30..50].to_vec()),
        (
            "base64",
            STANDARD.encode(format!("a:{secret}")).into_bytes(),
        ),
        (
            "base64url",
            URL_SAFE.encode([b"?\xff\xfe", bytes].concat()).into_bytes(),
        ),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        (
            "percent-encoded",
            format!("token={}", secret.replace('/', "%2F")).into_bytes(),
        ),
        ("utf-16le", utf16(false)),
        ("utf-16be", utf16(true)),
        ("decimal", format!("[ {} ]", numbers.join(" ")).into_bytes()),
        ("pglz", packed),
    ];
    for (form, text) in forms {
        let found = hunt.search(&[b"something ", text.as_slice(), b" else"].concat());
        assert!(
            found.iter().any(|(_, its)| *its == form),
            "{form}: {found:?}"
        );
    }
    assert_eq!(hunt.search(random_text(20_000).as_bytes()), BTreeSet::new());
}

/// What a provider that is out of its mind, or a gateway on the way, may write into an answer.
fn prose(scene: &mut Scene, account: &Account) -> String {
    let code = format!("4/0A{}", random_text(70));
    scene.secret("authorization code", &code);
    let secret = scene.app.simulator.client(account.provider).1;
    format!(
        "Bearer {} with {} of {secret} for code {code} is not good; zak={}",
        account.access_token, account.refresh_token, "?zak=eyJ.host-secret"
    )
}

/// Failures of the calls that make meetings, each with as many secrets as its answer has room for.
fn failures(provider: Provider, prose: &str, token: &str) -> Vec<Action> {
    let answer = |status: u16, headers: &[(&str, &str)], body: String| Action::Status {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body,
        effect: false,
    };
    let json_type = ("content-type", "application/json");
    let error = |status: u16, code: &str| match provider {
        Google => json!({"error": {"code": status, "message": prose, "status": code,
            "errors": [{"domain": prose, "reason": code, "message": prose}]}}),
        Zoom => {
            json!({"code": code, "message": prose, "errors": [{"field": code, "message": prose}]})
        }
    };
    // As a code, which is short: as many of its characters as would be let through.
    let as_code = &token.replace('/', "_")[..40];
    let mut all = vec![
        Action::RateLimit {
            form: RateLimit::NoHint,
        },
        answer(
            401,
            &[json_type, ("www-authenticate", prose)],
            error(401, as_code).to_string(),
        ),
        answer(429, &[("retry-after", prose)], prose.to_owned()),
        answer(
            302,
            &[("location", &format!("https://127.0.0.1:9/{token}"))],
            prose.to_owned(),
        ),
        answer(200, &[json_type], format!("{{\"{token}\": ")),
        answer(
            200,
            &[json_type],
            json!({"id": token, "start_url": prose}).to_string(),
        ),
        answer(
            200,
            &[json_type],
            json!({"id": 1, "join_url": prose, "hangoutLink": prose}).to_string(),
        ),
        Action::ResetAfterEffect,
        Action::CutBody,
        Action::Close { effect: true },
        Action::Stall { effect: true },
        Action::EndlessBody,
    ];
    for status in [400, 403, 404, 409, 410, 422, 500, 503] {
        all.push(answer(
            status,
            &[json_type],
            error(status, as_code).to_string(),
        ));
        all.push(answer(
            status,
            &[("content-type", "text/html")],
            format!("<b>{prose}</b>"),
        ));
    }
    all
}

/// Failures of the token endpoint.
fn token_failures(prose: &str, token: &str) -> Vec<Action> {
    let as_code = &token.replace('/', "_")[..40];
    let refusal = |status, error: &str| Action::TokenError {
        status,
        error: error.to_owned(),
        why: Some(prose.to_owned()),
    };
    let odd = |body: String| Action::Status {
        status: 200,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body,
        effect: true,
    };
    vec![
        refusal(400, as_code),
        refusal(400, prose),
        refusal(429, as_code),
        refusal(500, as_code),
        odd(prose.to_owned()),
        odd(json!({"access_token": prose, "refresh_token": prose}).to_string()),
        odd(json!({"access_token": [token], "expires_in": token}).to_string()),
        Action::ResetAfterEffect,
        Action::CutBody,
        refusal(400, "invalid_grant"),
        refusal(401, "invalid_client"),
    ]
}

/// One tutor for each failure, so that none waits for what happened to another.
fn meet(scene: &mut Scene, provider: Provider, call: Call, number: usize, refresh: bool) {
    let name = format!("{provider:?} {call:?} {number}");
    let (tutor, account) = scene.tutor(provider, &name, refresh);
    let prose = prose(scene, &account);
    let actions = match call {
        Call::Token => token_failures(&prose, &account.refresh_token),
        _ => failures(provider, &prose, &account.access_token),
    };
    let rule = Rule::once(provider, call, actions[number].clone()).account(&name);
    let rule = scene.app.simulator.fault(rule);
    let session = scene.app.book(tutor, scene.student);
    let what = format!("{name} to fail: {:?}", actions[number]);
    wait::until_true(Duration::from_secs(10), &what, || {
        scene.app.simulator.fired(rule) > 0
    });
    wait::until_true(Duration::from_secs(10), &what, || {
        !prov::ledger(&scene.app, session).is_empty()
    });
    // What one failure holds up must not keep the next from happening.
    let forget = "DELETE FROM meetlink.holds";
    scene.app.client().execute(forget, &[]).unwrap();
    let status = scene.app.status(session).to_string();
    scene.heard("meetlink_status", &status);
    scene.heard("meetlink_retry", &retry(&scene.app, session).to_string());
}

#[test]
fn failures_of_every_kind_leave_no_secret_anywhere() {
    let mut scene = Scene::start();
    for provider in [Google, Zoom] {
        for number in 0..failures(provider, "", &"x".repeat(40)).len() {
            meet(&mut scene, provider, Call::Create, number, false);
        }
        for number in 0..token_failures("", &"x".repeat(40)).len() {
            meet(&mut scene, provider, Call::Token, number, true);
        }
    }
    assert_eq!(scene.findings(), BTreeSet::new());
}
