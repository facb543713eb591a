//! What a tutor or an operator is told when a link cannot be had, and on which ways.

use serde_json::{Value, json};
use uuid::Uuid;

use super::failure::{Class, Failure, Reason, names};
use super::state::State;
use super::status::{Action, Situation, Viewer, explain};

names! {
    /// What somebody is to do.
    Kind {
        /// The tutor: connect an account.
        Connect = "connect",
        /// The tutor: connect it again, or another one.
        Reconnect = "reconnect",
        /// The tutor: know that a session has no link, and try again.
        Failed = "failed",
        /// The operator: mend a setting, a key, an OAuth client or a session's own details.
        Operator = "operator",
    }
}

names! {
    /// A way on which a notification goes out.
    Channel {
        /// A row in the application's own table.
        Application = "application",
        /// An HTTP POST to the operator's URL.
        Webhook = "webhook",
        /// A letter.
        Mail = "mail",
    }
}

/// Something that somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What to do.
    pub kind: Kind,
    /// Who is told; `None`: the operators.
    pub tutor: Option<Uuid>,
    /// The session that could not be had.
    pub session: Option<Uuid>,
    /// Provider, where one was chosen.
    pub provider: Option<String>,
    /// The cause.
    pub reason: Reason,
    /// One plain sentence.
    pub message: String,
    /// What to press.
    pub action: Option<Action>,
}

/// What an attempt's end gives cause to say: to the tutor, about a job in this state, and to the
/// operators.
pub fn notices(
    state: State,
    failure: &Failure,
    (tutor, session): (Option<Uuid>, Uuid),
    (provider, label): (Option<&str>, &str),
) -> Vec<Notice> {
    let mut told = Vec::new();
    let provider = provider.map(str::to_owned);
    if matches!(state, State::NeedsAction | State::Failed) && tutor.is_some() {
        let (message, action) = explain(Situation {
            state,
            reason: Some(failure.reason),
            provider: label,
            queued: true,
            copy: false,
            viewer: Viewer::Tutor,
        });
        let kind = match (state, action.map(|action| action.kind)) {
            (State::Failed, _) => Kind::Failed,
            (_, Some("connect")) => Kind::Connect,
            _ => Kind::Reconnect,
        };
        told.push(Notice {
            kind,
            tutor,
            session: Some(session),
            provider: provider.clone(),
            reason: failure.reason,
            message,
            action,
        });
    }
    told.extend(for_operators(state, failure, provider));
    told
}

/// What only an operator can mend. What is wrong with single sessions is told of all of them at
/// once, and stays inside the database: it may be said in the application's words.
fn for_operators(state: State, failure: &Failure, provider: Option<String>) -> Option<Notice> {
    let (provider, text) = match (failure.class, failure.reason) {
        (Class::Permanent, Reason::Misconfigured) => {
            let again = "Sessions that were given up for it are taken up again at the next reload, \
                         or by meetlink_create_missing().";
            (provider, format!("{} {again}", failure.text))
        }
        (Class::OperatorMustAct, _) | (_, Reason::Misconfigured) => {
            (provider, failure.text.clone())
        }
        (_, Reason::SessionUnfit) if state == State::Failed => {
            let text = "There are sessions whose own details allow no meeting; meetlink.queue shows \
                        which and why (reason = 'session_unfit'). Once mended, they are taken up \
                        again by themselves, or by meetlink_create_missing().";
            (None, text.to_owned())
        }
        _ => return None,
    };
    Some(of_operator(provider, failure.reason, &text))
}

/// What the operators are told.
pub fn of_operator(provider: Option<String>, reason: Reason, text: &str) -> Notice {
    Notice {
        kind: Kind::Operator,
        tutor: None,
        session: None,
        provider,
        reason,
        message: text.to_owned(),
        action: None,
    }
}

impl Kind {
    /// A few words for the head of a notification.
    pub fn title(self) -> &'static str {
        match self {
            Self::Connect => "Connect an account for your online lessons",
            Self::Reconnect => "Connect your account for online lessons again",
            Self::Failed => "A lesson has no meeting link",
            Self::Operator => "meetlink needs you",
        }
    }

    /// `type` of the row in the application's own table.
    pub fn row_type(self) -> String {
        format!("meetlink_{}", self.as_str())
    }

    /// The built-in text of a mail.
    pub fn mail_text(self) -> &'static str {
        match self {
            Self::Operator => "{message}\n",
            Self::Failed => "Hello {name},\n\n{message}\n\nSession: {session}\n{link}\n",
            Self::Connect | Self::Reconnect => "Hello {name},\n\n{message}\n\n{link}\n",
        }
    }
}

/// A template with `{name}`, `{message}`, `{link}` and `{session}` filled in. What is filled in is
/// not looked at again.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let tail = after.strip_prefix(name)?.strip_prefix('}')?;
            Some((*value, tail))
        });
        match known {
            Some((value, tail)) => {
                text.push_str(value);
                rest = tail;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text + rest
}

/// Body of a webhook: `type`, `timestamp` and `data`, as the Standard Webhooks specification has it.
pub fn webhook_body(id: i64, notice: &StoredNotice) -> Value {
    json!({
        "type": format!("meetlink.{}", notice.kind.as_str()),
        "timestamp": notice.created_at,
        "data": {
            "notification_id": id,
            "kind": notice.kind.as_str(),
            "tutor_id": notice.tutor.map(|id| id.hyphenated().to_string()),
            "session_id": notice.session.map(|id| id.hyphenated().to_string()),
            "provider": notice.provider,
            "reason": notice.reason,
            "message": notice.message,
            "action": notice.action,
        },
    })
}

/// A notification as it stands in its table.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredNotice {
    /// What to do.
    pub kind: Kind,
    /// Who is told.
    pub tutor: Option<Uuid>,
    /// The session that could not be had.
    pub session: Option<Uuid>,
    /// Provider.
    pub provider: Option<String>,
    /// The cause.
    pub reason: String,
    /// One plain sentence.
    pub message: String,
    /// What to press.
    pub action: Value,
    /// When it was written, as JSON has it.
    pub created_at: String,
    /// When the one lesson that it is about begins, as people write it.
    pub lesson: Option<String>,
}

impl StoredNotice {
    /// What a person reads: the sentence, and which lesson it is about.
    pub fn text(&self) -> String {
        match &self.lesson {
            Some(lesson) => format!("{} (Lesson of {lesson}.)", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
        for channel in Channel::ALL {
            assert_eq!(Channel::parse(channel.as_str()), Some(*channel));
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let values = [
            ("name", "{link} O'Hara"),
            ("link", "/a?b={c}"),
            ("message", ""),
        ];
        assert_eq!(
            fill("{name}: {link}{message}! {other} {", &values),
            "{link} O'Hara: /a?b={c}! {other} {"
        );
        assert_eq!(fill("", &values), "");
    }

    #[test]
    fn a_tutor_is_told_what_only_he_can_do_and_the_operators_the_rest() {
        let tutor = Some(Uuid::from_u128(7));
        let session = Uuid::from_u128(8);
        let of = |state, class, reason| {
            let failure = Failure::new(class, reason, "Text.");
            let told = notices(state, &failure, (tutor, session), (Some("zoom"), "Zoom"));
            told.into_iter()
                .map(|n| (n.kind, n.tutor.is_some()))
                .collect::<Vec<_>>()
        };
        use State::{Failed, NeedsAction, Pending, Retrying};
        assert_eq!(
            of(NeedsAction, Class::TutorMustAct, Reason::NotConnected),
            [(Kind::Connect, true)]
        );
        assert_eq!(
            of(NeedsAction, Class::TutorMustAct, Reason::ScopeMissing),
            [(Kind::Reconnect, true)]
        );
        assert_eq!(
            of(Failed, Class::Permanent, Reason::RequestRefused),
            [(Kind::Failed, true)]
        );
        assert_eq!(
            of(Retrying, Class::OperatorMustAct, Reason::KeyMissing),
            [(Kind::Operator, false)]
        );
        assert_eq!(of(Retrying, Class::Retry, Reason::ProviderDown), []);
        // The tutor is told that support has to mend it: so support is told too.
        let both = [(Kind::Failed, true), (Kind::Operator, false)];
        assert_eq!(of(Failed, Class::Permanent, Reason::Misconfigured), both);
        assert_eq!(of(Failed, Class::Permanent, Reason::SessionUnfit), both);
        // The session changed meanwhile, and is looked at once more.
        assert_eq!(of(Pending, Class::Permanent, Reason::SessionUnfit), []);
    }
}
