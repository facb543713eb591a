//! Token endpoints and bearer tokens.

mod common;
use common::*;
use meetlink_simulator::*;
use serde_json::json;

#[test]
fn google_refreshes_without_a_new_refresh_token() {
    let s = stage();
    for count in 1..=2 {
        let reply = s.google_refresh(&s.google.refresh_token).unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.json.get("refresh_token").is_none());
        assert_eq!(
            (&reply.json["expires_in"], &reply.json["token_type"]),
            (&json!(3599), &json!("Bearer"))
        );
        assert_eq!(s.sim.token_use(&s.google).refreshes, count);
        let url = format!(
            "{}/calendars/primary/events/unknown1",
            s.sim.google_api_url()
        );
        let token = reply.json["access_token"].as_str().unwrap();
        assert_eq!(s.call("GET", &url, token, None).unwrap().status, 404);
    }
}

#[test]
fn zoom_refresh_tokens_are_single_use() {
    let s = stage();
    let first = s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    assert_eq!(first.status, 200);
    let next = first.json["refresh_token"].as_str().unwrap();
    assert_ne!(next, s.zoom.refresh_token);
    assert_eq!(
        s.sim
            .account(Provider::Zoom, &s.zoom.name)
            .unwrap()
            .refresh_token,
        next
    );
    let killed = s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    assert_eq!(killed.status, 400);
    assert_eq!(
        killed.json,
        json!({"reason": "Invalid Token!", "error": "invalid_grant"})
    );
    assert_eq!(s.zoom_refresh(next).unwrap().status, 200);
    let used = TokenUse {
        refreshes: 2,
        killed_token_used: 1,
    };
    assert_eq!(s.sim.token_use(&s.zoom), used);
    assert_eq!(s.sim.total_token_use(Provider::Zoom), used);
}

#[test]
fn zoom_server_to_server_apps_get_no_refresh_token() {
    let s = stage();
    let (id, secret) = s.sim.client(Provider::Zoom);
    let fields = [
        ("grant_type", "account_credentials"),
        ("account_id", s.zoom.name.as_str()),
    ];
    let reply = s.zoom_token((&id, &secret), &fields).unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.json.get("refresh_token").is_none());
}

#[test]
fn a_wrong_client_is_refused() {
    let s = stage();
    let wrong = [("client_secret", "wrong"), ("grant_type", "refresh_token")];
    let google = s.google_token(&wrong).unwrap();
    assert_eq!(
        (google.status, &google.json["error"]),
        (401, &json!("invalid_client"))
    );
    let (id, _) = s.sim.client(Provider::Zoom);
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &*s.zoom.refresh_token),
    ];
    let zoom = s.zoom_token((&id, "wrong"), &fields).unwrap();
    assert_eq!(
        (zoom.status, &zoom.json["error"]),
        (401, &json!("invalid_client"))
    );
    assert_eq!(s.sim.token_use(&s.zoom), TokenUse::default());
}

#[test]
fn malformed_token_requests_are_refused() {
    let s = stage();
    let grant = s.google_token(&[("grant_type", "password")]).unwrap();
    assert_eq!(
        (grant.status, &grant.json["error"]),
        (400, &json!("unsupported_grant_type"))
    );
    let missing = s.google_token(&[("grant_type", "refresh_token")]).unwrap();
    assert_eq!(
        (missing.status, &missing.json["error"]),
        (400, &json!("invalid_request"))
    );
    let json = s
        .call("POST", &s.sim.zoom_token_url(), "x", Some("{}"))
        .unwrap();
    assert_eq!(
        (json.status, &json.json["error"]),
        (400, &json!("invalid_request"))
    );
    let unknown = s.google_refresh("never issued").unwrap();
    assert_eq!(
        (unknown.status, &unknown.json["error"]),
        (400, &json!("invalid_grant"))
    );
}

#[test]
fn a_revoked_account_can_neither_refresh_nor_call() {
    let s = stage();
    s.sim.revoke(&s.google);
    s.sim.revoke(&s.zoom);
    let google = s.google_refresh(&s.google.refresh_token).unwrap();
    assert_eq!(google.json["error"], "invalid_grant");
    assert_eq!(
        google.json["error_description"],
        "Token has been expired or revoked."
    );
    assert_eq!(s.zoom_refresh(&s.zoom.refresh_token).unwrap().status, 400);
    assert_eq!(s.insert("lesson01").unwrap().status, 401);
    assert_eq!(s.create().unwrap().status, 401);
}

#[test]
fn expired_and_foreign_bearers_get_the_providers_own_401() {
    let s = stage();
    s.sim.expire_access_tokens(&s.google);
    s.sim.expire_access_tokens(&s.zoom);
    let google = s.insert("lesson01").unwrap();
    assert_eq!((google.status, google.reason()), (401, "authError"));
    assert_eq!(google.json["error"]["status"], "UNAUTHENTICATED");
    let zoom = s.create().unwrap();
    assert_eq!((zoom.status, zoom.code()), (401, 124));
    assert_eq!(s.last().account.as_deref(), Some("ann@zoom.example"));
    let url = format!("{}/users/me/meetings", s.sim.zoom_api_url());
    for token in ["rubbish", &s.google.access_token] {
        let reply = s.call("GET", &url, token, None).unwrap();
        assert_eq!(
            reply.json,
            json!({"code": 124, "message": "Invalid access token."})
        );
    }
    let fresh = s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    let token = fresh.json["access_token"].as_str().unwrap();
    assert_eq!(s.call("GET", &url, token, None).unwrap().status, 200);
}

#[test]
fn a_grant_without_the_scopes_is_refused_in_the_providers_words() {
    let s = stage();
    let spec = || AccountSpec {
        scopes_ok: false,
        ..AccountSpec::default()
    };
    let google = s.sim.add_account(Provider::Google, spec());
    let url = format!(
        "{}/calendars/primary/events/unknown1",
        s.sim.google_api_url()
    );
    let reply = s.call("GET", &url, &google.access_token, None).unwrap();
    assert_eq!(
        (reply.status, reply.reason()),
        (403, "insufficientPermissions")
    );
    let details = &reply.json["error"]["details"][0]["reason"];
    assert_eq!(details, "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    let zoom = s.sim.add_account(Provider::Zoom, spec());
    let url = format!("{}/users/me/meetings", s.sim.zoom_api_url());
    let reply = s.call("GET", &url, &zoom.access_token, None).unwrap();
    assert_eq!((reply.status, reply.code()), (400, 4711));
}

#[test]
fn given_tokens_and_lifetimes_are_used() {
    let s = stage();
    let account = s.sim.add_account(
        Provider::Google,
        AccountSpec {
            refresh_token: Some("known-refresh".into()),
            access_token: Some("known-access".into()),
            access_lifetime_s: 0,
            ..AccountSpec::default()
        },
    );
    assert_eq!(
        (&*account.refresh_token, &*account.access_token),
        ("known-refresh", "known-access")
    );
    let url = format!(
        "{}/calendars/primary/events/unknown1",
        s.sim.google_api_url()
    );
    assert_eq!(
        s.call("GET", &url, "known-access", None).unwrap().status,
        401
    );
    assert_eq!(s.google_refresh("known-refresh").unwrap().status, 200);
}

#[test]
fn the_journal_tells_all_but_the_secrets() {
    let s = stage();
    s.google_refresh(&s.google.refresh_token).unwrap();
    s.insert("lesson01").unwrap();
    s.zoom_refresh(&s.zoom.refresh_token).unwrap();
    s.create().unwrap();
    let entries = s.sim.journal();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let text = serde_json::to_string(&entries).unwrap();
    for account in [&s.google, &s.zoom] {
        assert!(!text.contains(&account.access_token) && !text.contains(&account.refresh_token));
        assert!(!text.contains(&s.sim.client(account.provider).1));
    }
    let insert = &s.sim.calls(Provider::Google, Call::Insert)[0];
    assert_eq!(insert.account.as_deref(), Some("ann@google.example"));
    assert_eq!(
        (insert.method.as_str(), insert.status, insert.fate),
        ("POST", Some(200), Fate::Answered)
    );
    assert_eq!(insert.query, "conferenceDataVersion=1&sendUpdates=none");
    assert_eq!(insert.path, "/google/calendar/v3/calendars/primary/events");
    assert_eq!(insert.body["summary"], "Lesson");
    let effect = Effect {
        kind: EffectKind::Created,
        id: "lesson01".into(),
    };
    assert_eq!(insert.effect, Some(effect));
    assert!(
        insert
            .headers
            .contains(&("content-type".into(), "application/json".into()))
    );
    assert!(insert.answered_at.unwrap().mono_ns >= insert.received_at.mono_ns);
    let refresh = &s.sim.calls(Provider::Zoom, Call::Token)[0];
    assert_eq!(refresh.effect.as_ref().unwrap().kind, EffectKind::Refreshed);
    assert_eq!(refresh.account.as_deref(), Some("ann@zoom.example"));
    s.sim.clear_journal();
    assert_eq!(s.sim.journal_len(), 0);
    assert_eq!(s.sim.meetings(Provider::Google).len(), 1);
}
