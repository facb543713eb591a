//! Why an attempt did not end in a link, and what that asks of whom.

use std::time::Duration;

/// Declares [`Reason`] with its stored name, so that the two lists cannot drift apart.
macro_rules! names {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, for tests that must not forget one.
            #[cfg(test)]
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name as it is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The variant of a stored name. Not every list is read back.
            #[allow(dead_code)]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use names;

names! {
    /// How a failure is treated. The `attempts` view shows it as the outcome's class.
    Class {
        /// Passing trouble: try again after a backoff.
        Retry = "retry",
        /// The provider said when to come back.
        RetryAfter = "retry_after",
        /// The access token was refused: refresh it once, then try again.
        RefreshToken = "refresh_token",
        /// Only the tutor can help.
        TutorMustAct = "tutor_must_act",
        /// Only the operator can help; no attempt is used up meanwhile.
        OperatorMustAct = "operator_must_act",
        /// The provider will never accept this request.
        Permanent = "permanent",
        /// A request that cannot be repeated may have arrived; its answer is lost.
        InDoubt = "in_doubt",
    }
}

names! {
    /// What happened, in the terms of the person who has to know. Stored with the job; the
    /// sentence that people read is made from it in [`crate::domain::status`].
    Reason {
        /// No connection to any provider.
        NotConnected = "not_connected",
        /// The tutor's consent was withdrawn or has run out.
        ConsentRevoked = "consent_revoked",
        /// The consent does not cover making meetings.
        ScopeMissing = "scope_missing",
        /// The stored token cannot be read (damaged, or made for another row).
        TokenUnreadable = "token_unreadable",
        /// The tutor's calendar cannot hold Google Meet conferences.
        NoMeetInCalendar = "no_meet_in_calendar",
        /// The provider does not know this person's account or calendar.
        AccountNotFound = "account_not_found",
        /// The account is not allowed to hold meetings.
        AccountRefused = "account_refused",
        /// The tutor has used up a limit of the provider.
        TutorRateLimit = "tutor_rate_limit",
        /// The application as a whole has used up a limit of the provider.
        ProviderRateLimit = "provider_rate_limit",
        /// The provider does not answer, or answers with a fault of its own.
        ProviderDown = "provider_down",
        /// The provider's answer makes no sense to us.
        AnswerUnreadable = "answer_unreadable",
        /// The conference is still being made at the provider.
        ConferencePending = "conference_pending",
        /// The provider refused the request as such.
        RequestRefused = "request_refused",
        /// The answer to a request that may have arrived is lost.
        AnswerLost = "answer_lost",
        /// The operator's OAuth client is missing or refused.
        OAuthClient = "oauth_client",
        /// The stored token has another form, or another key, than meetlink was told.
        TokenFormat = "token_format",
        /// The key for the tutor's tokens is missing or the key file cannot be used.
        KeyMissing = "key_missing",
        /// A setting is malformed or the machine is short of something.
        Misconfigured = "misconfigured",
        /// The link could not be written into the application's session.
        WriteBack = "write_back",
        /// The session's own data make no meeting possible.
        SessionUnfit = "session_unfit",
        /// The server or the worker stopped in the middle of the attempt.
        Interrupted = "interrupted",
        /// The session's time changed while its meeting was made.
        SessionMoved = "session_moved",
        /// The session was deleted or cancelled while its meeting was made: the meeting has to go.
        SessionGone = "session_gone",
    }
}

/// One failed attempt, as values. Carries nothing that the provider wrote as prose, and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The treatment.
    pub class: Class,
    /// The cause.
    pub reason: Reason,
    /// HTTP status, when there was one.
    pub status: Option<u16>,
    /// The provider's machine-readable code, cleaned by [`clean_code`].
    pub code: Option<String>,
    /// One plain sentence for the operator.
    pub text: String,
    /// How long the provider asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether a meeting may exist at the provider although none was seen.
    pub may_exist: bool,
}

impl Failure {
    /// A failure with nothing but its kind, cause and sentence.
    pub fn new(class: Class, reason: Reason, text: impl Into<String>) -> Self {
        Self {
            class,
            reason,
            status: None,
            code: None,
            text: text.into(),
            retry_after: None,
            may_exist: false,
        }
    }

    /// Adds the HTTP status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds the provider's code.
    pub fn code(mut self, code: Option<&str>) -> Self {
        self.code = code.and_then(clean_code);
        self
    }

    /// Adds the wait that the provider asked for.
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Says that a meeting may exist all the same.
    pub fn may_exist(mut self, may_exist: bool) -> Self {
        self.may_exist = may_exist;
        self
    }
}

/// A provider's code, if it looks like one: outside text is never passed on as it came.
pub fn clean_code(code: &str) -> Option<String> {
    // A number, or words without a digit: what may be a token, or a part of one, is neither.
    let number = code.len() <= 6 && code.bytes().all(|b| b.is_ascii_digit());
    let words = code.len() <= 48
        && code
            .bytes()
            .all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.'));
    (!code.is_empty() && (number || words)).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_are_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(*class));
        }
        assert_eq!(Reason::parse("nonsense"), None);
    }

    #[test]
    fn prose_is_not_a_code() {
        assert_eq!(
            clean_code("invalid_grant").as_deref(),
            Some("invalid_grant")
        );
        assert_eq!(clean_code("4711").as_deref(), Some("4711"));
        assert_eq!(clean_code("Bearer ya29 abc"), None);
        assert_eq!(clean_code("ya29.a0AfH6SMBx7"), None);
        assert_eq!(clean_code("eyJhbGciOiJIUzI1NiJ9"), None);
        assert_eq!(clean_code("1234567"), None);
        assert_eq!(clean_code(&"x".repeat(65)), None);
        assert_eq!(clean_code(""), None);
    }
}
