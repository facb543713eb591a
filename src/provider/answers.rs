//! What every adapter needs: the meaning of answers that is the same for all, and times as text.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::http::{Broken, Fault, Response};
use super::retry_after;
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::{Wish, title};

/// Who was called, for sentences to the operator.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// Its name at the start of a sentence.
    pub label: &'static str,
    /// The setting that holds its URL.
    pub setting: &'static str,
}

impl Party {
    /// What an exchange without an answer means. Whether a meeting may exist is the flow's to say.
    pub fn broken(self, broken: Broken) -> Failure {
        let Self { label, setting } = self;
        let (class, reason, hint) = match broken.fault {
            Fault::Dns | Fault::Connect | Fault::Timeout | Fault::Reset => (
                Class::Retry,
                Reason::ProviderDown,
                "meetlink tries again by itself".to_owned(),
            ),
            Fault::Tls => (
                Class::Retry,
                Reason::ProviderDown,
                "if this lasts, check the machine's clock and meetlink.ca_file".to_owned(),
            ),
            Fault::TooLarge | Fault::NotHttp => (
                Class::Retry,
                Reason::AnswerUnreadable,
                format!("if this lasts, check {setting}"),
            ),
            Fault::Local => (
                Class::Retry,
                Reason::Misconfigured,
                "free some or raise the limits of the server's user".to_owned(),
            ),
            Fault::Forbidden => (
                Class::OperatorMustAct,
                Reason::Misconfigured,
                format!("correct {setting}"),
            ),
        };
        let what = broken.fault.text();
        Failure::new(class, reason, format!("{label} {what}; {hint}."))
    }

    /// What a status means that says nothing about the request itself: redirects, passing
    /// trouble, and numbers that are no final status. `None` for the 2xx and the other 4xx.
    pub fn trouble(self, answer: &Response, now: DateTime<Utc>) -> Option<Failure> {
        let Self { label, setting } = self;
        let status = answer.status;
        let failure = match status {
            300..=399 => Failure::new(
                Class::Permanent,
                Reason::Misconfigured,
                format!(
                    "{label} answered with a redirect, which is never followed; check {setting}."
                ),
            ),
            408 | 425 => Failure::new(
                Class::Retry,
                Reason::ProviderDown,
                format!(
                    "{label} asked for the request again (status {status}); meetlink repeats it."
                ),
            ),
            500..=599 => {
                let wait = wait(answer, now);
                let class = match wait {
                    Some(_) => Class::RetryAfter,
                    None => Class::Retry,
                };
                let text = format!(
                    "{label} has trouble of its own (status {status}); meetlink tries again by itself."
                );
                Failure::new(class, Reason::ProviderDown, text).after(wait)
            }
            200..=299 | 400..=499 => return None,
            _ => self.unreadable(answer),
        };
        Some(failure.status(status))
    }

    /// An answer that should be good and cannot be read.
    pub fn unreadable(self, answer: &Response) -> Failure {
        let Self { label, setting } = self;
        let text = format!(
            "{label} gave an answer that makes no sense; meetlink tries again, and if this lasts, check {setting}."
        );
        Failure::new(Class::Retry, Reason::AnswerUnreadable, text).status(answer.status)
    }

    /// A 4xx that no better rule explains: the same request would be refused again.
    pub fn refused(self, answer: &Response) -> Failure {
        let Self { label, setting } = self;
        let text = format!(
            "{label} refused the request (status {}); look its code up in the provider's documentation and check {setting}.",
            answer.status
        );
        Failure::new(Class::Permanent, Reason::RequestRefused, text).status(answer.status)
    }

    /// A 404 or 405 without the provider's own words: somebody else answers at that URL.
    pub fn astray(self, answer: &Response) -> Failure {
        let Self { label, setting } = self;
        let status = answer.status;
        let text = format!(
            "{label} was not found where it should be (status {status}); check {setting}, and for a proxy on the way."
        );
        Failure::new(Class::OperatorMustAct, Reason::Misconfigured, text).status(status)
    }

    /// An access token that is not accepted. The worker refreshes it once; only if that does not
    /// help is the consent gone.
    pub fn stale_token(self, answer: &Response) -> Failure {
        let text = format!(
            "{} did not accept the access token; meetlink refreshes it once.",
            self.label
        );
        Failure::new(Class::RefreshToken, Reason::ConsentRevoked, text).status(answer.status)
    }

    /// A 403 without the provider's own words is rather a proxy's or a gateway's than a verdict
    /// on the tutor: nobody is told to act.
    pub fn barred(self, answer: &Response) -> Failure {
        let text = format!(
            "A 403 without a reason came instead of an answer from {}; if this lasts, look for a proxy or firewall on the way.",
            self.label
        );
        Failure::new(Class::Retry, Reason::ProviderDown, text).status(answer.status)
    }

    /// The flow went on for so long that the provider must be talking nonsense.
    pub fn endless(self) -> Failure {
        let text = format!(
            "{} took more requests than one attempt may send; meetlink starts over later.",
            self.label
        );
        Failure::new(Class::Retry, Reason::AnswerUnreadable, text)
    }

    /// The flow was fed with an event that does not fit, as after a stop in the middle.
    pub fn interrupted(self) -> Failure {
        let text = format!(
            "The attempt with {} was interrupted; meetlink starts it over.",
            self.label
        );
        Failure::new(Class::Retry, Reason::Interrupted, text)
    }
}

/// Whether a request that changes something may have done so although it was answered like this.
pub fn may_have_worked(status: u16) -> bool {
    !(300..500).contains(&status) || status == 408
}

/// The wait in the answer's `Retry-After`.
pub fn wait(answer: &Response, now: DateTime<Utc>) -> Option<Duration> {
    answer
        .header("retry-after")
        .and_then(|value| retry_after::parse(value, now))
}

/// Start and end as every provider takes them: whole seconds, four-digit years, end after start.
pub fn span(wish: &Wish) -> (DateTime<Utc>, DateTime<Utc>) {
    let first = DateTime::UNIX_EPOCH;
    // 9999-12-30T23:59:59Z: room for the end.
    let last = DateTime::from_timestamp(253_402_214_399, 0).unwrap_or(first);
    let start = wish.starts_at.trunc_subsecs(0).clamp(first, last);
    let day = chrono::Duration::days(1);
    let end = wish.ends_at.trunc_subsecs(0).min(last + day);
    if end > start {
        (start, end)
    } else {
        (start, start + chrono::Duration::minutes(1))
    }
}

/// A time as RFC 3339 without fractions, in UTC: the one form that Google and Zoom both take.
pub fn utc_text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The title, within `limit` characters and never blank.
pub fn heading(wish: &Wish, limit: usize) -> String {
    let given = wish.title.trim();
    if given.is_empty() {
        title(None, None)
    } else {
        given.chars().take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::http::Reached;
    use chrono::TimeZone;
    use uuid::Uuid;

    const PARTY: Party = Party {
        label: "Somebody",
        setting: "meetlink.some_api_url",
    };

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, 10, 0, 0).unwrap()
    }

    #[test]
    fn every_fault_has_its_treatment() {
        for (fault, class, reason) in [
            (Fault::Dns, Class::Retry, Reason::ProviderDown),
            (Fault::Connect, Class::Retry, Reason::ProviderDown),
            (Fault::Tls, Class::Retry, Reason::ProviderDown),
            (Fault::Timeout, Class::Retry, Reason::ProviderDown),
            (Fault::Reset, Class::Retry, Reason::ProviderDown),
            (Fault::TooLarge, Class::Retry, Reason::AnswerUnreadable),
            (Fault::NotHttp, Class::Retry, Reason::AnswerUnreadable),
            (Fault::Local, Class::Retry, Reason::Misconfigured),
            (
                Fault::Forbidden,
                Class::OperatorMustAct,
                Reason::Misconfigured,
            ),
        ] {
            let reached = Reached::No;
            let failure = PARTY.broken(Broken { reached, fault });
            assert_eq!(
                (failure.class, failure.reason),
                (class, reason),
                "{fault:?}"
            );
            assert!(failure.text.starts_with("Somebody ") && failure.text.ends_with('.'));
        }
    }

    #[test]
    fn a_server_in_trouble_may_name_the_wait() {
        let mut answer = Response {
            status: 503,
            headers: vec![],
            body: vec![],
        };
        let failure = PARTY.trouble(&answer, now()).unwrap();
        assert_eq!((failure.class, failure.retry_after), (Class::Retry, None));
        answer.headers.push(("retry-after".into(), "7".into()));
        let failure = PARTY.trouble(&answer, now()).unwrap();
        assert_eq!(failure.class, Class::RetryAfter);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn only_a_clear_refusal_proves_that_nothing_happened() {
        for status in [0, 100, 200, 201, 299, 408, 500, 503, 599, 600, 999] {
            assert!(may_have_worked(status), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 409, 425, 429, 499] {
            assert!(!may_have_worked(status), "{status}");
        }
    }

    #[test]
    fn odd_times_become_valid_ones() {
        let mut wish = Wish {
            session_id: Uuid::nil(),
            title: "  ".into(),
            starts_at: DateTime::<Utc>::MIN_UTC,
            ends_at: DateTime::<Utc>::MAX_UTC,
        };
        let (start, end) = span(&wish);
        assert_eq!(utc_text(start), "1970-01-01T00:00:00Z");
        assert_eq!(utc_text(end), "9999-12-31T23:59:59Z");
        assert_eq!(heading(&wish, 200), "Tutoring session");
        wish.starts_at = DateTime::<Utc>::MAX_UTC;
        let (start, end) = span(&wish);
        assert!(utc_text(start).starts_with("9999-12-30T") && end > start);
        wish.starts_at = now() + chrono::Duration::milliseconds(999);
        wish.ends_at = now();
        let (start, end) = span(&wish);
        assert_eq!((start, end), (now(), now() + chrono::Duration::minutes(1)));
    }
}
