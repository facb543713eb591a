//! Removing a session's event, so that none is left in the tutor's calendar.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::answers::{is_gone, refusal};
use super::flow::GENERATIONS;
use super::{API, event_id, generation_of};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::secret::Secret;
use crate::provider::http::{Auth, Method, Request, Response};
use crate::provider::{Event, Flow, Known, Step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Removing,
    Over,
}

/// The flow. An id names one event for good, so a delete may be repeated freely.
pub(super) struct RemoveEvent {
    events: String,
    token: Secret,
    session: Uuid,
    known: Known,
    generation: u32,
    /// What is left of the settling time; taken at the beginning.
    unsettled: Option<Duration>,
    state: State,
}

impl RemoveEvent {
    pub(super) fn new(events: String, token: Secret, session: Uuid, known: Known) -> Self {
        let id = known.external_id.as_deref();
        Self {
            events,
            token,
            session,
            generation: id.and_then(|id| generation_of(id, session)).unwrap_or(0),
            known,
            unsettled: None,
            state: State::Start,
        }
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failed(failure.may_exist(self.known.may_exist_since.is_some()))
    }

    fn delete(&mut self) -> Step {
        let id = event_id(self.session, self.generation);
        let url = format!("{}/{id}?sendUpdates=none", self.events);
        self.state = State::Removing;
        let auth = Auth::Bearer(self.token.clone());
        Step::Send(Request::new(Method::Delete, url, auth))
    }

    fn after_delete(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        let in_doubt = self.known.may_exist_since.is_some();
        match answer.status {
            200..=299 => Step::Removed,
            _ if !is_gone(answer) => self.fail(refusal(answer, now)),
            // Deleted before, by whomever: what is in doubt would have the next generation's id.
            410 if in_doubt && self.generation + 1 < GENERATIONS => {
                self.generation += 1;
                self.delete()
            }
            404 | 410 => match self.unsettled {
                None => Step::Removed,
                Some(left) => {
                    let text = "Google Calendar shows no event of this session yet, but one may have been made; meetlink looks again.";
                    let failure = Failure::new(Class::InDoubt, Reason::AnswerLost, text);
                    self.fail(failure.status(answer.status).after(Some(left)))
                }
            },
            _ => self.fail(refusal(answer, now)),
        }
    }
}

impl Flow for RemoveEvent {
    fn next(&mut self, event: Event, now: DateTime<Utc>) -> Step {
        match (std::mem::replace(&mut self.state, State::Over), event) {
            (State::Start, Event::Go) => {
                self.unsettled = self.known.unsettled(now);
                self.delete()
            }
            (State::Removing, Event::Answer(answer)) => self.after_delete(&answer, now),
            (State::Removing, Event::Broken(broken)) => self.fail(API.broken(broken)),
            _ => self.fail(API.interrupted()),
        }
    }
}
