//! Removing a session's meeting, and any other that has its marker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::answers::{is_gone, refusal};
use super::flow::REQUESTS;
use super::found::{Page, Search, known_id};
use super::{API, Api};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting;
use crate::provider::http::{Request, Response};
use crate::provider::{Event, Flow, Known, Step};

#[derive(Debug)]
enum State {
    Start,
    Removing,
    Listing,
    Over,
}

/// The flow.
pub(super) struct RemoveMeeting {
    api: Api,
    marker: String,
    known: Known,
    /// What is left of the settling time; taken at the beginning.
    unsettled: Option<Duration>,
    state: State,
    sent: u32,
    /// Whether the list was gone through, or need not be.
    listed: bool,
    /// Whether a meeting in doubt was found.
    cleared: bool,
    search: Search,
}

impl RemoveMeeting {
    pub(super) fn new(api: Api, session: Uuid, known: Known) -> Self {
        Self {
            api,
            marker: meeting::marker(session),
            listed: known.may_exist_since.is_none(),
            known,
            unsettled: None,
            state: State::Start,
            sent: 0,
            cleared: false,
            search: Search::default(),
        }
    }

    fn send(&mut self, state: State, request: Request) -> Step {
        if self.sent >= REQUESTS {
            return self.fail(API.endless());
        }
        self.sent += 1;
        self.state = state;
        Step::Send(request)
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failed(failure.may_exist(self.known.may_exist_since.is_some()))
    }

    fn begin(&mut self, now: DateTime<Utc>) -> Step {
        self.unsettled = self.known.unsettled(now);
        match known_id(&self.known) {
            Some(id) => self.remove(id),
            None => self.go_on(),
        }
    }

    fn remove(&mut self, id: i64) -> Step {
        let request = self.api.delete(id);
        self.send(State::Removing, request)
    }

    fn list(&mut self, page: Option<&str>) -> Step {
        match self.search.ask(&self.api, page) {
            Some(request) => self.send(State::Listing, request),
            None if self.search.found.is_empty() => {
                let text = "The tutor has more Zoom meetings than can be searched for the one to be removed.";
                let failure = Failure::new(Class::Retry, Reason::AnswerUnreadable, text);
                self.fail(failure)
            }
            None => {
                self.listed = true;
                self.go_on()
            }
        }
    }

    fn go_on(&mut self) -> Step {
        if !self.listed {
            return self.list(None);
        }
        if let Some(id) = self.search.found.take_any() {
            self.cleared = true;
            return self.remove(id);
        }
        match self.unsettled.filter(|_| !self.cleared) {
            None => Step::Removed,
            Some(left) => {
                let text = "Zoom does not show a meeting for this session yet, but one may have been made; meetlink looks again.";
                let failure = Failure::new(Class::InDoubt, Reason::AnswerLost, text);
                self.fail(failure.status(200).after(Some(left)))
            }
        }
    }

    fn after_remove(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        if (200..300).contains(&answer.status) || is_gone(answer) {
            return self.go_on();
        }
        self.fail(refusal(answer, now))
    }

    fn after_list(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        match self.search.take(answer, &self.marker, None, now) {
            Err(failure) => self.fail(failure),
            Ok(Page::Next(token)) => self.list(Some(&token)),
            Ok(Page::Last) => {
                self.listed = true;
                self.go_on()
            }
        }
    }
}

impl Flow for RemoveMeeting {
    fn next(&mut self, event: Event, now: DateTime<Utc>) -> Step {
        match (std::mem::replace(&mut self.state, State::Over), event) {
            (State::Start, Event::Go) => self.begin(now),
            (State::Removing, Event::Answer(answer)) => self.after_remove(&answer, now),
            (State::Listing, Event::Answer(answer)) => self.after_list(&answer, now),
            (State::Removing | State::Listing, Event::Broken(broken)) => {
                self.fail(API.broken(broken))
            }
            _ => self.fail(API.interrupted()),
        }
    }
}
