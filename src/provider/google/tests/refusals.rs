//! What answers mean that are no events.

use super::*;

#[test]
fn a_lost_insert_may_have_worked() {
    for (event, may_exist) in [
        (broken(Reached::No, Fault::Connect), false),
        (broken(Reached::Maybe, Fault::Timeout), true),
        (answer(500, json!({})), true),
        (answer(408, json!({})), true),
        (answer(200, json!([])), true),
        (answer(200, json!({ "id": "another" })), true),
        (answer(425, json!({})), false),
        (refused(429, "rateLimitExceeded"), false),
    ] {
        let label = format!("{event:?}");
        let talk = google(fresh(), vec![event]);
        assert_eq!(talk.failed().may_exist, may_exist, "{label}");
        assert!(
            matches!(talk.failed().class, Class::Retry | Class::RetryAfter),
            "{label}"
        );
    }
}

#[test]
fn a_link_that_is_none_is_not_handed_over() {
    let insecure = json!({ "hangoutLink": "http://meet.google.com/a" });
    let script = json!({ "conferenceData": { "entryPoints": [
        { "entryPointType": "video", "uri": "javascript:alert(1)" },
    ]}});
    for odd in [insecure, script, conference_is("success", "r")] {
        let talk = google(fresh(), vec![answer(200, event(0, odd))]);
        let failure = talk.failed();
        assert_eq!(
            (failure.class, failure.reason),
            (Class::Retry, Reason::AnswerUnreadable)
        );
        assert!(failure.may_exist);
    }
}

/// One row for each row on Google in the contract's "What an answer means".
#[test]
fn refusals_mean_what_the_contract_says() {
    use Class::*;
    use Reason::*;
    #[rustfmt::skip]
    let rows: &[(u16, &str, Class, Reason, Option<u64>)] = &[
        (401, "authError", Class::RefreshToken, ConsentRevoked, None),
        (403, "rateLimitExceeded", RetryAfter, TutorRateLimit, None),
        (403, "userRateLimitExceeded", RetryAfter, TutorRateLimit, None),
        (429, "rateLimitExceeded", RetryAfter, TutorRateLimit, None),
        (403, "quotaExceeded", RetryAfter, TutorRateLimit, Some(3_600)),
        (403, "dailyLimitExceeded", RetryAfter, ProviderRateLimit, Some(3_600)),
        (403, "insufficientPermissions", TutorMustAct, ScopeMissing, None),
        (403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", TutorMustAct, ScopeMissing, None),
        (403, "accessNotConfigured", OperatorMustAct, OAuthClient, None),
        (403, "domainPolicy", TutorMustAct, AccountRefused, None),
        (400, "invalid", Permanent, RequestRefused, None),
        (404, "notFound", TutorMustAct, AccountNotFound, None),
        (413, "tooLarge", Permanent, RequestRefused, None),
        (500, "backendError", Retry, ProviderDown, None),
        (503, "backendError", Retry, ProviderDown, None),
        (302, "moved", Permanent, Misconfigured, None),
        (408, "timeout", Retry, ProviderDown, None),
    ];
    for (status, reason, class, cause, wait) in rows {
        let talk = google(fresh(), vec![refused(*status, reason)]);
        let failure = talk.failed();
        let got = (failure.class, failure.reason, failure.status);
        assert_eq!(got, (*class, *cause, Some(*status)), "{status} {reason}");
        assert_eq!(
            failure.retry_after,
            wait.map(Duration::from_secs),
            "{status} {reason}"
        );
        if (400..500).contains(status) && *status != 408 {
            assert_eq!(failure.code.as_deref(), Some(*reason));
        }
        assert_eq!(talk.sent.len(), 1);
    }
}

#[test]
fn a_calendar_without_meet_is_the_tutors_to_change() {
    let body = refusal_body(400, "invalid", "Invalid conference type value.");
    let failure = google(fresh(), vec![answer(400, body)]);
    let failure = failure.failed();
    assert_eq!(
        (failure.class, failure.reason),
        (Class::TutorMustAct, Reason::NoMeetInCalendar)
    );
}

#[test]
fn a_missing_scope_is_seen_in_the_details_too() {
    let body = json!({ "error": { "code": 403, "status": "PERMISSION_DENIED", "details": [
        { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT" },
    ]}});
    let talk = google(fresh(), vec![answer(403, body)]);
    assert_eq!(talk.failed().reason, Reason::ScopeMissing);
}

/// What Google's front end says of the OAuth client's project, whoever asks.
#[test]
fn a_project_that_is_not_served_is_the_operators() {
    for reason in [
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "USER_PROJECT_DENIED",
        "BILLING_DISABLED",
        "SECURITY_POLICY_VIOLATED",
        "SERVICE_DISABLED",
    ] {
        let body = json!({ "error": {
            "code": 403, "status": "PERMISSION_DENIED", "message": "Permission denied on resource project.",
            "errors": [{ "domain": "global", "reason": "forbidden" }],
            "details": [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason }],
        }});
        let talk = google(fresh(), vec![answer(403, body)]);
        let failure = talk.failed();
        assert_eq!(
            (failure.class, failure.reason),
            (Class::OperatorMustAct, Reason::OAuthClient),
            "{reason}"
        );
        assert!(!failure.text.contains("Permission denied"));
    }
}

#[test]
fn a_page_instead_of_an_answer_blames_nobody_in_particular() {
    for (status, class, reason) in [
        (403, Class::Retry, Reason::ProviderDown),
        (404, Class::OperatorMustAct, Reason::Misconfigured),
        (405, Class::OperatorMustAct, Reason::Misconfigured),
        (410, Class::OperatorMustAct, Reason::Misconfigured),
    ] {
        let talk = google(
            fresh(),
            vec![Event::Answer(text(status, "<html>no</html>"))],
        );
        assert_eq!((talk.failed().class, talk.failed().reason), (class, reason));
    }
}

#[test]
fn retry_after_is_honoured() {
    let mut slow = response(403, &refusal_body(403, "quotaExceeded", "No."));
    slow.headers.push(("retry-after".into(), "90".into()));
    let talk = google(fresh(), vec![Event::Answer(slow)]);
    assert_eq!(talk.failed().retry_after, Some(Duration::from_secs(90)));
}

/// What is certain of events that were deleted says nothing of the one that somebody knows of.
#[test]
fn adopting_an_event_that_was_deleted_stays_in_doubt() {
    let adopt = Known {
        adopt: true,
        ..in_doubt(5)
    };
    let talk = google(adopt, vec![cancelled(0), refused(404, "notFound")]);
    let failure = talk.failed();
    assert_eq!((failure.class, failure.may_exist), (Class::InDoubt, true));
    assert_eq!(talk.lines(), [get_line(0), get_line(1)]);
}
