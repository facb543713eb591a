//! What a person is told: one sentence, and at most one thing to press.

use serde::Serialize;
use uuid::Uuid;

use super::failure::Reason;
use super::state::State;

/// What to press.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `join`, `retry`, `connect`, `reconnect` or `contact_support`.
    pub kind: &'static str,
    /// Text of the button.
    pub label: &'static str,
    /// Function that the page itself may call, where there is one. Connecting is not: that takes the
    /// provider's consent first, and then the application's server.
    pub rpc: Option<&'static str>,
}

const JOIN: Action = Action {
    kind: "join",
    label: "Join the meeting",
    rpc: None,
};
const RETRY: Action = Action {
    kind: "retry",
    label: "Try again now",
    rpc: Some("meetlink_retry"),
};
const CONNECT: Action = Action {
    kind: "connect",
    label: "Connect an account",
    rpc: None,
};
const RECONNECT: Action = Action {
    kind: "reconnect",
    label: "Connect again",
    rpc: None,
};
const SUPPORT: Action = Action {
    kind: "contact_support",
    label: "Contact support",
    rpc: None,
};

/// Who reads. What only the tutor can mend is the tutor's business alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// The session's tutor, or somebody who looks after the application.
    Tutor,
    /// The session's student, or anybody else who is waiting for the link.
    Student,
}

impl Viewer {
    /// Its name in the `viewer` argument of `meetlink_status`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "tutor" => Some(Self::Tutor),
            "student" => Some(Self::Student),
            _ => None,
        }
    }

    /// Who reads, given who calls, if the application says that, and as whom he asks to be
    /// answered. A student is never answered as the tutor.
    pub fn of(
        caller: Option<Uuid>,
        tutor: Option<Uuid>,
        student: Option<Uuid>,
        asked: Option<Self>,
    ) -> Self {
        match caller {
            Some(id) if student == Some(id) && tutor != Some(id) => Self::Student,
            _ if asked.is_some() => asked.unwrap_or(Self::Tutor),
            Some(id) if tutor != Some(id) => Self::Student,
            _ => Self::Tutor,
        }
    }
}

/// Why a job stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation<'a> {
    /// State of the job.
    pub state: State,
    /// Cause of the last failure, when there was one.
    pub reason: Option<Reason>,
    /// The provider's name for people, or "the meeting service".
    pub provider: &'a str,
    /// Whether a job stands behind the state, or only the session that wants a link.
    pub queued: bool,
    /// Whether this is a restored copy, in which nothing is created until somebody says so.
    pub copy: bool,
    /// Who reads.
    pub viewer: Viewer,
}

/// The sentence and the action for a situation. The sentence holds no codes and nothing that a
/// provider wrote.
pub fn explain(situation: Situation<'_>) -> (String, Option<Action>) {
    let Situation {
        state,
        reason,
        provider,
        queued,
        copy,
        viewer,
    } = situation;
    let is_open = matches!(
        state,
        State::Pending | State::Creating | State::Retrying | State::InDoubt
    );
    if viewer == Viewer::Student
        && !(copy && is_open)
        && let Some(text) = for_student(state, reason, queued)
    {
        let action = (state == State::Failed).then_some(SUPPORT);
        return (text.to_owned(), action);
    }
    match state {
        State::Ready => ("The meeting link is ready.".to_owned(), Some(JOIN)),
        State::Pending | State::Creating | State::Retrying | State::InDoubt if copy => (
            "Meeting links are not created here: this is a restored copy of the database."
                .to_owned(),
            None,
        ),
        State::Pending if !queued => (
            "The meeting link has not been asked for yet.".to_owned(),
            Some(RETRY),
        ),
        State::Pending | State::Creating => ("The meeting link is being created.".to_owned(), None),
        State::InDoubt => (
            format!("{provider} has not confirmed the meeting; we are checking whether it exists."),
            None,
        ),
        State::NotNeeded => (
            "This session does not need a meeting link.".to_owned(),
            None,
        ),
        State::Retrying => (retrying(reason, provider), Some(RETRY)),
        State::NeedsAction => needs_action(reason, provider),
        State::Failed => failed(reason, provider),
    }
}

/// What a student reads where a tutor reads something else.
fn for_student(state: State, reason: Option<Reason>, queued: bool) -> Option<&'static str> {
    match (state, reason) {
        (State::Pending, _) if !queued => {
            Some("The meeting link has not been asked for yet; your tutor can ask for it.")
        }
        (State::NeedsAction, _) => Some("Your tutor is setting up the meeting room."),
        (State::Pending, _) => Some("The meeting link is being created."),
        (
            State::Retrying,
            Some(
                Reason::OAuthClient
                | Reason::KeyMissing
                | Reason::TokenFormat
                | Reason::Misconfigured,
            ),
        ) => Some(
            "Creating meeting links is interrupted; the support team has to mend it, and your link \
             will follow by itself.",
        ),
        (State::Retrying, Some(Reason::WriteBack | Reason::SessionMoved)) => {
            Some("The meeting link will appear in a moment.")
        }
        (State::Retrying, _) => {
            Some("The meeting link takes a little longer; it will appear by itself.")
        }
        (State::Failed, _) => {
            Some("The meeting link could not be created; your tutor or support can help.")
        }
        _ => None,
    }
}

fn retrying(reason: Option<Reason>, provider: &str) -> String {
    match reason {
        Some(Reason::TutorRateLimit) => format!(
            "{provider} allows no more meetings for this account just now; the link will be \
             created as soon as it does."
        ),
        Some(Reason::ProviderRateLimit) => {
            format!("{provider} is busy; the link will be created in a moment.")
        }
        Some(Reason::ConferencePending) => {
            format!("{provider} is still preparing the meeting; the link will follow.")
        }
        Some(
            Reason::OAuthClient | Reason::KeyMissing | Reason::TokenFormat | Reason::Misconfigured,
        ) => {
            "Creating meeting links is interrupted; the support team has to mend it, and your link \
             will follow by itself."
                .to_owned()
        }
        Some(Reason::WriteBack) => {
            "The meeting exists; its link will appear in a moment.".to_owned()
        }
        Some(Reason::SessionMoved) => {
            "The meeting is being moved to the session's new time.".to_owned()
        }
        Some(Reason::Interrupted | Reason::SessionGone) | None => {
            "The meeting link is being created.".to_owned()
        }
        Some(_) => format!("{provider} could not be reached; we will try again by ourselves."),
    }
}

fn needs_action(reason: Option<Reason>, provider: &str) -> (String, Option<Action>) {
    let (text, action) = match reason {
        Some(Reason::NotConnected) | None => (
            "Connect Google Meet or Zoom, and the meeting link is created by itself.".to_owned(),
            CONNECT,
        ),
        Some(Reason::ScopeMissing) => (
            format!("Connect {provider} again and allow it to create meetings."),
            RECONNECT,
        ),
        Some(Reason::NoMeetInCalendar) => (
            "This calendar cannot hold Google Meet meetings; connect another account.".to_owned(),
            RECONNECT,
        ),
        Some(Reason::AccountNotFound | Reason::AccountRefused) => (
            format!("{provider} does not let this account create meetings; connect another one."),
            RECONNECT,
        ),
        Some(_) => (
            format!("The connection to {provider} has ended; connect it again."),
            RECONNECT,
        ),
    };
    (text, Some(action))
}

fn failed(reason: Option<Reason>, provider: &str) -> (String, Option<Action>) {
    match reason {
        Some(Reason::SessionUnfit) => (
            "The session's own details (its time or its tutor) allow no meeting; support can mend \
             them."
                .to_owned(),
            Some(SUPPORT),
        ),
        Some(Reason::RequestRefused) => (
            format!("{provider} refuses to create this meeting; support can find out why."),
            Some(SUPPORT),
        ),
        Some(
            Reason::Misconfigured | Reason::OAuthClient | Reason::KeyMissing | Reason::TokenFormat,
        ) => (
            "Creating meeting links is interrupted; the support team has to mend it.".to_owned(),
            Some(SUPPORT),
        ),
        _ => (
            format!("{provider} could not create the meeting after several tries."),
            Some(RETRY),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_situation() -> impl Iterator<Item = (State, Option<Reason>)> {
        let reasons = Reason::ALL.iter().copied().map(Some).chain([None]);
        let states = State::ALL.iter().copied();
        states.flat_map(move |s| reasons.clone().map(move |r| (s, r)))
    }

    #[test]
    fn every_situation_has_one_plain_sentence() {
        for (state, reason) in every_situation() {
            let situation = Situation {
                state,
                reason,
                provider: "Zoom",
                queued: true,
                copy: false,
                viewer: Viewer::Tutor,
            };
            let (text, _) = explain(situation);
            assert!(text.ends_with('.') && text.len() < 130, "{text}");
            assert!(!text.contains('_') && !text.contains("OAuth"), "{text}");
        }
    }

    #[test]
    fn the_action_is_of_the_kind_that_the_state_allows() {
        for (state, reason) in every_situation() {
            let situation = Situation {
                state,
                reason,
                provider: "Zoom",
                queued: true,
                copy: false,
                viewer: Viewer::Tutor,
            };
            let kind = explain(situation).1.map(|action| action.kind);
            let allowed: &[Option<&str>] = match state {
                State::Ready => &[Some("join")],
                State::Retrying => &[Some("retry")],
                State::NeedsAction => &[Some("connect"), Some("reconnect")],
                State::Failed => &[Some("retry"), Some("contact_support")],
                _ => &[None],
            };
            assert!(allowed.contains(&kind), "{state:?} {reason:?} {kind:?}");
        }
    }

    #[test]
    fn a_page_is_sent_to_no_function_that_only_a_server_may_call() {
        let granted = [None, Some("meetlink_retry")];
        for action in [JOIN, RETRY, CONNECT, RECONNECT, SUPPORT] {
            assert!(granted.contains(&action.rpc), "{action:?}");
        }
    }

    #[test]
    fn a_copy_promises_nothing() {
        for state in [State::Pending, State::Retrying, State::InDoubt] {
            let situation = Situation {
                state,
                reason: None,
                provider: "Zoom",
                queued: true,
                copy: true,
                viewer: Viewer::Tutor,
            };
            let (text, action) = explain(situation);
            assert!(text.contains("copy") && action.is_none(), "{text}");
        }
    }
}
