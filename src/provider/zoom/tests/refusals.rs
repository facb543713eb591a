//! What refusals mean.

use super::*;

/// One row for each row on Zoom in the contract's "What an answer means".
#[test]
fn refusals_mean_what_the_contract_says() {
    use Class::*;
    use Reason::*;
    #[rustfmt::skip]
    let rows: &[(u16, i64, &str, Class, Reason)] = &[
        (401, 124, "Invalid access token.", Class::RefreshToken, ConsentRevoked),
        (401, 300, "", Class::RefreshToken, ConsentRevoked),
        (401, 4_711, "", TutorMustAct, ScopeMissing),
        (400, 4_711, "Invalid access token, does not contain scopes:[meeting:write].", TutorMustAct, ScopeMissing),
        (400, 4_700, "Invalid access token, does not contain scopes:[meeting:write].", TutorMustAct, ScopeMissing),
        (401, 4_700, "Token cannot be empty.", Class::RefreshToken, ConsentRevoked),
        (404, 1_001, "User does not exist", TutorMustAct, AccountNotFound),
        (400, 3_161, "", TutorMustAct, AccountRefused),
        (403, 200, "", TutorMustAct, AccountRefused),
        (400, 300, "", Permanent, RequestRefused),
        (400, 3_000, "", Permanent, RequestRefused),
        (404, 2, "", Permanent, RequestRefused),
        (404, 2_300, "This API endpoint is not recognized.", OperatorMustAct, Misconfigured),
        (405, 2_300, "", OperatorMustAct, Misconfigured),
        (409, 4, "", Permanent, RequestRefused),
        (429, 429, "per-second", RetryAfter, TutorRateLimit),
        (429, 429, "You have exceeded the daily rate limit (100)", RetryAfter, TutorRateLimit),
        (425, 5, "", Retry, ProviderDown),
        (301, 6, "", Permanent, Misconfigured),
    ];
    for (status, code, message, class, reason) in rows {
        let body = json!({ "code": code, "message": message });
        let talk = zoom(fresh(), vec![answer(*status, body)]);
        let failure = talk.failed();
        let got = (failure.class, failure.reason, failure.status);
        assert_eq!(got, (*class, *reason, Some(*status)), "{status} {code}");
        assert!(!failure.may_exist, "{status} {code}");
        if (400..500).contains(status) && *status != 425 {
            assert_eq!(failure.code, Some(code.to_string()));
        }
    }
    let talk = zoom(fresh(), vec![Event::Answer(text(403, "<html>"))]);
    assert_eq!(
        (talk.failed().class, talk.failed().reason),
        (Retry, ProviderDown)
    );
}

#[test]
fn a_daily_limit_ends_at_midnight_and_a_limit_by_the_second_after_one() {
    let day = Some(Duration::from_secs(14 * 3_600));
    for (headers, message, reason, wait) in [
        (
            &[][..],
            "exceeded the daily rate limit (100)",
            Reason::TutorRateLimit,
            day,
        ),
        (
            &[("x-ratelimit-type", "Daily-limit")],
            "",
            Reason::TutorRateLimit,
            day,
        ),
        (
            &[("x-ratelimit-category", "Daily")],
            "",
            Reason::TutorRateLimit,
            day,
        ),
        (
            &[("retry-after", "2026-03-02T00:00:00Z")],
            "",
            Reason::TutorRateLimit,
            day,
        ),
        (
            &[("retry-after", "60"), ("x-ratelimit-type", "Daily-limit")],
            "",
            Reason::TutorRateLimit,
            Some(Duration::from_secs(60)),
        ),
        (
            &[("retry-after", "junk")],
            "daily",
            Reason::TutorRateLimit,
            day,
        ),
        (
            &[("x-ratelimit-type", "QPS")],
            "",
            Reason::TutorRateLimit,
            Some(Duration::from_secs(1)),
        ),
        (
            &[("retry-after", "3"), ("x-ratelimit-type", "QPS")],
            "",
            Reason::TutorRateLimit,
            Some(Duration::from_secs(3)),
        ),
        (
            &[("x-ratelimit-category", "Light")],
            "",
            Reason::TutorRateLimit,
            Some(Duration::from_secs(1)),
        ),
    ] {
        let mut slow = response(429, &json!({ "code": 429, "message": message }));
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        slow.headers.extend(headers.iter().map(pair));
        let talk = zoom(fresh(), vec![Event::Answer(slow)]);
        let failure = talk.failed();
        assert_eq!(failure.class, Class::RetryAfter);
        assert_eq!(
            (failure.reason, failure.retry_after),
            (reason, wait),
            "{headers:?} {message}"
        );
    }
}
