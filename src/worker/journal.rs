//! One line of the server's log for each outcome that matters.

use chrono::Utc;
use uuid::Uuid;

use crate::domain::breaker::Side;
use crate::domain::failure::{Class, Reason};
use crate::pg::journal::{self, Weight};
use crate::store::jobs::{Claimed, Outcome};

/// A line of the server's log: who, where, what, and how long it took. No text of anybody else.
pub fn note(claimed: &Claimed, provider: Option<&str>, outcome: &Outcome<'_>, given_up: bool) {
    let failure = match outcome {
        Outcome::Made | Outcome::Removed => None,
        Outcome::Failed(failure) => Some(failure),
    };
    let weight = match failure.map(|failure| failure.class) {
        None => Weight::Fine,
        Some(_) if given_up => Weight::Grave,
        Some(Class::Retry | Class::RetryAfter | Class::RefreshToken) => Weight::Passing,
        Some(Class::TutorMustAct | Class::InDoubt) => Weight::Telling,
        Some(Class::OperatorMustAct | Class::Permanent) => Weight::Grave,
    };
    journal::line(weight, || {
        let took = Utc::now().timestamp_micros() - claimed.started_at;
        let mut line = format!(
            "meetlink: session {}: {} at {}, attempt {}, {} ms",
            claimed.session.hyphenated(),
            outcome.class(),
            provider.unwrap_or("no provider"),
            claimed.number,
            took / 1_000,
        );
        if let Some(failure) = failure {
            line.push_str(&format!(", reason {}", failure.reason.as_str()));
            if let Some(status) = failure.status {
                line.push_str(&format!(", status {status}"));
            }
        }
        line
    });
}

/// A line for a session whose row cannot be read: nothing was attempted.
pub fn set_aside(session: Uuid, reason: Reason) {
    journal::line(Weight::Grave, || {
        format!(
            "meetlink: session {}: set aside, its row cannot be read, reason {}",
            session.hyphenated(),
            reason.as_str()
        )
    });
}

/// A line for a provider that is down as a whole.
pub fn down(provider: &str, side: Side) {
    journal::line(Weight::Grave, || {
        format!(
            "meetlink: {provider} ({}) is down, and not called but for a try now and then",
            side.as_str()
        )
    });
}
