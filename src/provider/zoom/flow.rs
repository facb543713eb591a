//! One attempt at a meeting.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::answers::{Resource, is_gone, refusal};
use super::found::{Page, Search, known_id};
use super::{API, Account};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::Meeting;
use crate::provider::answers::{may_have_worked, wait};
use crate::provider::http::{Broken, Reached, Request, Response};
use crate::provider::{Event, Flow, Known, Step};

/// Requests in one attempt.
pub(super) const REQUESTS: u32 = 200;
/// Times that differ by less are the same: a PATCH costs one of the tutor's hundred changes a day.
const CLOSE: chrono::Duration = chrono::Duration::minutes(1);

/// How a meeting's id became known, which decides what its absence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From an earlier attempt.
    Known,
    /// From the list.
    List,
    /// From the create a moment ago.
    Create,
}

#[derive(Debug)]
enum State {
    Start,
    Reading(Source, i64),
    Moving(Source, Meeting),
    Listing,
    Creating,
    Removing(Meeting),
    Over,
}

/// The flow.
pub(super) struct EnsureMeeting {
    account: Account,
    state: State,
    /// What was known at the beginning.
    known: Known,
    /// Where a meeting may exist that was not seen: what is left of the settling time. Taken at the
    /// beginning, so that a clock that is stepped meanwhile does not matter.
    doubt: Option<Duration>,
    sent: u32,
    /// Looks for meetings with the session's marker; the one that is being kept is taken out.
    search: Search,
}

impl EnsureMeeting {
    pub(super) fn new(account: Account, known: Known) -> Self {
        Self {
            account,
            state: State::Start,
            doubt: known.may_exist_since.map(|_| known.settle),
            sent: 0,
            search: Search::default(),
            known,
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
        Step::Failed(failure.may_exist(self.doubt.is_some()))
    }

    fn begin(&mut self, now: DateTime<Utc>) -> Step {
        if self.doubt.is_some() {
            self.doubt = Some(self.known.unsettled(now).unwrap_or_default());
        }
        match known_id(&self.known) {
            Some(id) => self.read(Source::Known, id),
            None => self.find_or_create(),
        }
    }

    fn find_or_create(&mut self) -> Step {
        let looks = (self.doubt.is_some() || self.known.adopt) && !cfg!(feature = "blind_repost");
        if looks {
            self.list(None)
        } else {
            self.create()
        }
    }

    fn read(&mut self, from: Source, id: i64) -> Step {
        let request = self.account.api.get(id);
        self.send(State::Reading(from, id), request)
    }

    fn create(&mut self) -> Step {
        let request = self.account.create();
        self.send(State::Creating, request)
    }

    fn list(&mut self, page: Option<&str>) -> Step {
        match self.search.ask(&self.account.api, page) {
            Some(request) => self.send(State::Listing, request),
            // What was found so far is the session's; without it, nothing is proven.
            None if !self.search.found.is_empty() => self.choose(),
            None => {
                let text = "The tutor has more Zoom meetings than can be searched for the one that may have been made; meetlink looks again later.";
                self.in_doubt(text, self.known.settle, Some(200))
            }
        }
    }

    fn after_list(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        let like = self.known.adopt.then(|| self.account.likeness());
        let marker = self.account.wish.marker();
        match self.search.take(answer, &marker, like.as_ref(), now) {
            Err(failure) => self.fail(failure),
            Ok(Page::Next(token)) => self.list(Some(&token)),
            Ok(Page::Last) => self.choose(),
        }
    }

    /// Goes on with the first meeting of those found. It is read in full before the others are
    /// removed: the list may show one that is gone, and its links may lack the passcode.
    fn choose(&mut self) -> Step {
        let like = self.search.found.like.take();
        match self.search.found.take_first().or(like) {
            Some(id) => self.read(Source::List, id),
            None => self.none_found(),
        }
    }

    /// The list shows no meeting of this session: proof, once it had time to catch up.
    ///
    /// With the proof the attempt ends, and the next one creates: the time of its request is then
    /// on record before the request is sent, so that a crash in between is not taken for old doubt.
    fn none_found(&mut self) -> Step {
        if self.known.adopt {
            let text = "Zoom shows no single meeting with this session's mark, or with its time and title; meetlink_resolve(..., 'repost') makes one.";
            self.doubt.get_or_insert(self.known.settle);
            return self.in_doubt(text, self.known.settle, Some(200));
        }
        let Some(left) = self.doubt else {
            return self.create();
        };
        if left.is_zero() {
            self.doubt = None;
            let text =
                "Zoom's list shows that no meeting was made for this session; it is made anew.";
            let failure = Failure::new(Class::Retry, Reason::AnswerLost, text);
            return self.fail(failure.status(200));
        }
        let text = "Zoom does not show a meeting for this session yet, but one may have been made; meetlink looks again before it makes another.";
        self.in_doubt(text, left, Some(200))
    }

    fn after_read(&mut self, from: Source, id: i64, answer: &Response, now: DateTime<Utc>) -> Step {
        if is_gone(answer) {
            return self.gone(from);
        }
        if !(200..300).contains(&answer.status) {
            return self.fail(refusal(answer, now));
        }
        let read = Resource::read(answer).filter(|meeting| meeting.id == Some(id));
        let Some((resource, join_url)) = read.and_then(|r| r.join_url.clone().map(|url| (r, url)))
        else {
            return self.fail(API.unreadable(answer));
        };
        let meeting = Meeting {
            external_id: id.to_string(),
            join_url,
        };
        if self.is_elsewhen(&resource, now) {
            let request = self.account.reschedule(id);
            return self.send(State::Moving(from, meeting), request);
        }
        self.finish(meeting)
    }

    fn gone(&mut self, from: Source) -> Step {
        match from {
            Source::Known => self.find_or_create(),
            Source::List => self.choose(),
            Source::Create => self.lost(None, None),
        }
    }

    fn is_elsewhen(&self, meeting: &Resource, now: DateTime<Utc>) -> bool {
        let wanted = self.account.start();
        // Zoom takes no start in the past ("Update a meeting").
        let start = wanted > now && meeting.start.is_some_and(|at| (at - wanted).abs() >= CLOSE);
        let duration = meeting
            .duration
            .is_some_and(|minutes| minutes != self.account.duration());
        meeting.scheduled && (start || duration)
    }

    fn after_move(
        &mut self,
        from: Source,
        meeting: Meeting,
        answer: &Response,
        now: DateTime<Utc>,
    ) -> Step {
        if (200..300).contains(&answer.status) {
            return self.finish(meeting);
        }
        if is_gone(answer) {
            return self.gone(from);
        }
        let failure = refusal(answer, now);
        // The link works at any time: a change that is refused for good, or until tomorrow, must
        // not cost it.
        let settled = matches!(failure.class, Class::Permanent | Class::TutorMustAct)
            || failure.reason == Reason::TutorRateLimit;
        if settled {
            self.finish(meeting)
        } else {
            self.fail(failure)
        }
    }

    /// The meeting stands; what is left over from earlier attempts goes.
    fn finish(&mut self, meeting: Meeting) -> Step {
        match self.search.found.take_any() {
            None => {
                self.state = State::Over;
                Step::Done(meeting)
            }
            Some(id) => {
                let request = self.account.api.delete(id);
                self.send(State::Removing(meeting), request)
            }
        }
    }

    fn after_remove(&mut self, meeting: Meeting, answer: &Response, now: DateTime<Utc>) -> Step {
        if (200..300).contains(&answer.status) || is_gone(answer) {
            return self.finish(meeting);
        }
        let mut failure = refusal(answer, now);
        if failure.class == Class::Permanent {
            failure.class = Class::Retry;
        }
        self.fail(failure)
    }

    fn after_create(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        if !may_have_worked(answer.status) {
            return self.fail(refusal(answer, now));
        }
        let made = Resource::read(answer).filter(|_| (200..300).contains(&answer.status));
        match made.map(|meeting| (meeting.id, meeting.join_url)) {
            Some((Some(id), Some(join_url))) => self.finish(Meeting {
                external_id: id.to_string(),
                join_url,
            }),
            Some((Some(id), None)) => {
                self.doubt = Some(self.known.settle);
                self.read(Source::Create, id)
            }
            _ => self.lost(Some(answer.status), wait(answer, now)),
        }
    }

    fn after_broken_create(&mut self, broken: Broken) -> Step {
        match broken.reached {
            Reached::No => self.fail(API.broken(broken)),
            Reached::Maybe => self.lost(None, None),
        }
    }

    /// The create may have made a meeting of which nothing usable was seen.
    fn lost(&mut self, status: Option<u16>, asked: Option<Duration>) -> Step {
        self.doubt = Some(self.known.settle);
        let text = "Zoom may have made the meeting, but its answer was lost; meetlink looks for it before it makes another.";
        let wait = self.known.settle.max(asked.unwrap_or_default());
        self.in_doubt(text, wait, status)
    }

    fn in_doubt(&mut self, text: &str, wait: Duration, status: Option<u16>) -> Step {
        let failure = Failure::new(Class::InDoubt, Reason::AnswerLost, text).after(Some(wait));
        self.fail(Failure { status, ..failure })
    }
}

impl Flow for EnsureMeeting {
    fn next(&mut self, event: Event, now: DateTime<Utc>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, event) {
            (State::Start, Event::Go) => self.begin(now),
            (State::Reading(from, id), Event::Answer(answer)) => {
                self.after_read(from, id, &answer, now)
            }
            (State::Moving(from, meeting), Event::Answer(answer)) => {
                self.after_move(from, meeting, &answer, now)
            }
            (State::Listing, Event::Answer(answer)) => self.after_list(&answer, now),
            (State::Creating, Event::Answer(answer)) => self.after_create(&answer, now),
            (State::Removing(meeting), Event::Answer(answer)) => {
                self.after_remove(meeting, &answer, now)
            }
            (State::Creating, Event::Broken(broken)) => self.after_broken_create(broken),
            // The create is under way and its outcome will not be seen.
            (State::Creating, Event::Go) => self.lost(None, None),
            (
                State::Reading(..) | State::Moving(..) | State::Listing | State::Removing(_),
                Event::Broken(broken),
            ) => self.fail(API.broken(broken)),
            (State::Start | State::Over, _) | (_, Event::Go) => self.fail(API.interrupted()),
        }
    }
}
