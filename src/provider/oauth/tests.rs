use super::*;
use crate::provider::google::GoogleMeet;
use crate::provider::http::{Broken, Fault, Reached};
use crate::provider::zoom::Zoom;
use crate::provider::{Endpoints, Provider};
use chrono::TimeZone;
use std::time::Duration;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 10, 0, 0).unwrap()
}

fn answer(status: u16, body: &str) -> Event {
    Event::Answer(Response {
        status,
        headers: vec![("retry-after".into(), "9".into())],
        body: body.as_bytes().to_vec(),
    })
}

fn both() -> [&'static dyn Provider; 2] {
    [&GoogleMeet, &Zoom]
}

fn client_and_endpoints() -> (OAuthClient, Endpoints) {
    let client = OAuthClient {
        id: "the-id".into(),
        secret: Secret::new("canary-secret"),
    };
    let to = Endpoints {
        token_url: "https://tokens.example/t".into(),
        api_url: "https://api.example".into(),
    };
    (client, to)
}

fn form(request: &Request) -> Vec<(&'static str, &str)> {
    match &request.body {
        Body::Form(fields) => fields.iter().map(|(n, v)| (*n, v.expose())).collect(),
        other => panic!("not a form: {other:?}"),
    }
}

#[test]
fn google_gets_client_and_secret_in_the_form() {
    let (client, to) = client_and_endpoints();
    let request = GoogleMeet.refresh(&to, &client, &Secret::new("canary-refresh"));
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.url, "https://tokens.example/t");
    assert!(matches!(request.auth, Auth::Nobody));
    let wanted = [
        ("grant_type", "refresh_token"),
        ("client_id", "the-id"),
        ("client_secret", "canary-secret"),
        ("refresh_token", "canary-refresh"),
    ];
    assert_eq!(form(&request), wanted);
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn zoom_gets_basic_credentials_and_a_form() {
    let (client, to) = client_and_endpoints();
    let request = Zoom.refresh(&to, &client, &Secret::new("canary-refresh"));
    assert_eq!(request.method, Method::Post);
    match &request.auth {
        Auth::Basic { user, password } => {
            assert_eq!(user, "the-id");
            assert_eq!(password.expose(), "canary-secret");
        }
        other => panic!("{other:?}"),
    }
    let wanted = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "canary-refresh"),
    ];
    assert_eq!(form(&request), wanted);
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn a_grant_is_read_and_a_rotated_token_kept() {
    let body = r#"{"access_token":"canary-a","expires_in":3599,"scope":"x","token_type":"Bearer"}"#;
    let grant = GoogleMeet.granted(answer(200, body), now()).unwrap();
    assert_eq!(grant.access.expose(), "canary-a");
    assert!(grant.refresh.is_none());
    assert_eq!(grant.expires_at, now() + chrono::Duration::seconds(3_599));
    assert!(!format!("{grant:?}").contains("canary"));

    let body = r#"{"access_token":"a","refresh_token":"canary-next","expires_in":"3600"}"#;
    let grant = Zoom.granted(answer(200, body), now()).unwrap();
    assert_eq!(grant.refresh.unwrap().expose(), "canary-next");
}

#[test]
fn an_odd_lifetime_is_made_sane() {
    for (field, seconds) in [
        ("", 3_600),
        (r#","expires_in":null"#, 3_600),
        (r#","expires_in":"soon""#, 3_600),
        (r#","expires_in":0"#, 60),
        (r#","expires_in":-5"#, 60),
        (r#","expires_in":1799.5"#, 1_799),
        (r#","expires_in":1e300"#, 86_400),
        (r#","expires_in":99999999999999999999"#, 86_400),
    ] {
        let body = format!(r#"{{"access_token":"a"{field}}}"#);
        let grant = Zoom.granted(answer(200, &body), now()).unwrap();
        let wanted = now() + chrono::Duration::seconds(seconds);
        assert_eq!(grant.expires_at, wanted, "{field}");
    }
}

/// One row for each row on token endpoints in the contract's "What an answer means".
#[test]
fn refusals_mean_what_the_contract_says() {
    use Class::*;
    use Reason::*;
    let google_only = 0;
    let zoom_only = 1;
    let either = 2;
    #[rustfmt::skip]
    let rows: &[(usize, u16, &str, Class, Reason)] = &[
        (either, 400, r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#, TutorMustAct, ConsentRevoked),
        (zoom_only, 400, r#"{"reason":"Invalid Token!","error":"invalid_grant"}"#, TutorMustAct, ConsentRevoked),
        (zoom_only, 400, r#"{"reason":"Invalid Token!","error":"invalid_request"}"#, TutorMustAct, ConsentRevoked),
        (zoom_only, 400, r#"{"reason":"INVALID TOKEN!","error":"invalid_request"}"#, TutorMustAct, ConsentRevoked),
        (zoom_only, 400, r#"{"reason":"Bad Request","error":"invalid_request"}"#, OperatorMustAct, Misconfigured),
        (zoom_only, 401, r#"{"reason":"Invalid Token!"}"#, TutorMustAct, ConsentRevoked),
        (either, 400, r#"{"error":"invalid_request"}"#, OperatorMustAct, Misconfigured),
        (google_only, 400, r#"{"reason":"Invalid Token!","error":"invalid_request"}"#, OperatorMustAct, Misconfigured),
        (either, 401, r#"{"error":"invalid_client"}"#, OperatorMustAct, OAuthClient),
        (either, 400, r#"{"reason":"Invalid client_id or client_secret","error":"invalid_client"}"#, OperatorMustAct, OAuthClient),
        (either, 401, r#"{"error":"unauthorized_client"}"#, OperatorMustAct, Misconfigured),
        (either, 400, r#"{"error":"unsupported_grant_type"}"#, OperatorMustAct, Misconfigured),
        (either, 404, "<html>no such page</html>", OperatorMustAct, Misconfigured),
        (either, 403, r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#, OperatorMustAct, Misconfigured),
        (either, 429, "{}", RetryAfter, ProviderRateLimit),
        (either, 500, "", RetryAfter, ProviderDown),
        (either, 503, "<html>", RetryAfter, ProviderDown),
        (either, 408, "", Retry, ProviderDown),
        (either, 302, "", Permanent, Misconfigured),
        (either, 200, "", Retry, AnswerUnreadable),
        (either, 200, "[1]", Retry, AnswerUnreadable),
        (either, 200, r#"{"access_tok"#, Retry, AnswerUnreadable),
        (either, 200, r#"{"access_token":7}"#, Retry, AnswerUnreadable),
        (either, 200, r#"{"access_token":""}"#, Retry, AnswerUnreadable),
        (either, 200, r#"{"access_token":"a\r\nX: y"}"#, Retry, AnswerUnreadable),
        (either, 101, "", Retry, AnswerUnreadable),
        (either, 0, "", Retry, AnswerUnreadable),
    ];
    for (who, status, body, class, reason) in rows {
        for (i, provider) in both().iter().enumerate() {
            if *who != either && *who != i {
                continue;
            }
            let failure = provider.granted(answer(*status, body), now()).unwrap_err();
            let got = (failure.class, failure.reason);
            assert_eq!(
                got,
                (*class, *reason),
                "{} {status} {body}",
                provider.name()
            );
            assert_eq!(failure.status, Some(*status));
            assert!(!failure.may_exist && failure.text.ends_with('.'));
        }
    }
}

#[test]
fn the_code_and_the_wait_are_passed_on() {
    let failure = Zoom.granted(answer(429, r#"{"error":"slow_down"}"#), now());
    let failure = failure.unwrap_err();
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
    assert_eq!(failure.code.as_deref(), Some("slow_down"));
    let failure = GoogleMeet.granted(answer(400, r#"{"error":"not a code, prose"}"#), now());
    assert_eq!(failure.unwrap_err().code, None);
}

#[test]
fn a_refresh_without_an_answer_is_tried_again() {
    for provider in both() {
        for reached in [Reached::No, Reached::Maybe] {
            let fault = Fault::Timeout;
            let event = Event::Broken(Broken { reached, fault });
            let failure = provider.granted(event, now()).unwrap_err();
            assert_eq!(failure.class, Class::Retry);
            assert_eq!(failure.reason, Reason::ProviderDown);
        }
        let failure = provider.granted(Event::Go, now()).unwrap_err();
        assert_eq!(failure.reason, Reason::Interrupted);
    }
}
