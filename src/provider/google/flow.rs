//! One attempt at an event with a conference.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::answers::{Conference, Resource, Times, is_duplicate, is_gone, refusal};
use super::{API, Calendar, generation_of};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::Meeting;
use crate::provider::answers::{may_have_worked, span};
use crate::provider::http::{Reached, Request, Response};
use crate::provider::{Event, Flow, Known, Step};

/// Deleted events that are passed over before something must be wrong.
pub(super) const GENERATIONS: u32 = 20;
/// Requests in one attempt.
const REQUESTS: u32 = 40;
/// Waits for a pending conference: the first, the longest, and all of them together.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(15);
/// Conferences that are asked for anew in one attempt.
const ASKS: u32 = 2;
/// An insert that finds its id taken is ahead of the reads; this lets them catch up.
const LAG: Duration = Duration::from_secs(1);

/// Why the event is read, which decides what its absence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// It may be there: absence means that it can be made.
    Unknown,
    /// An insert said that its id is taken: absence may be a lag.
    Taken,
    /// The same, and the lag was waited for: the id cannot be had.
    TakenForGood,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start { look: bool },
    Reading(Because),
    Pausing(Because),
    Inserting,
    Moving,
    Asking,
    Over,
}

/// The flow.
pub(super) struct EnsureEvent {
    calendar: Calendar,
    state: State,
    generation: u32,
    /// Whether the event may exist as far as this attempt knows.
    may_exist: bool,
    /// What was known at the beginning, and whether an event in doubt had settled then.
    known: Known,
    settled: bool,
    /// Whether the event was put to the session's time already; it is not fought over.
    moved: bool,
    sent: u32,
    asks: u32,
    wait: Duration,
    waited: Duration,
    /// A change that was refused, until another look shows whether that matters.
    refused: Option<Failure>,
}

impl EnsureEvent {
    pub(super) fn new(calendar: Calendar, known: Known) -> Self {
        let session = calendar.wish.session_id;
        let id = known.external_id.as_deref();
        let look = id.is_some() || known.may_exist_since.is_some() || known.adopt;
        Self {
            state: State::Start { look },
            generation: id.and_then(|id| generation_of(id, session)).unwrap_or(0),
            may_exist: look,
            settled: false,
            known,
            calendar,
            moved: false,
            sent: 0,
            asks: 0,
            wait: FIRST_WAIT,
            waited: Duration::ZERO,
            refused: None,
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
        Step::Failed(failure.may_exist(self.may_exist))
    }

    fn read(&mut self, because: Because) -> Step {
        let request = self.calendar.get(self.generation);
        self.send(State::Reading(because), request)
    }

    fn insert(&mut self) -> Step {
        let request = self.calendar.insert(self.generation);
        self.send(State::Inserting, request)
    }

    fn after_read(&mut self, because: Because, answer: &Response, now: DateTime<Utc>) -> Step {
        match (answer.status, because) {
            (200..=299, _) => self.look(answer, now),
            _ if !is_gone(answer) => self.fail(refusal(answer, now)),
            (404 | 410, Because::Unknown) if self.known.adopt => {
                let text = "Google Calendar shows no event of this session; meetlink_resolve(..., 'repost') makes one.";
                let failure = Failure::new(Class::InDoubt, Reason::AnswerLost, text);
                // Somebody says that it exists, whatever was seen of events that were deleted.
                self.may_exist = true;
                self.fail(failure.status(answer.status).after(Some(self.known.settle)))
            }
            (404 | 410, Because::Unknown) => {
                self.may_exist = false;
                self.refused = None;
                self.insert()
            }
            (404 | 410, Because::Taken) => {
                self.state = State::Pausing(Because::TakenForGood);
                Step::Pause(LAG)
            }
            (410, Because::TakenForGood) => self.next_generation(),
            // Taken, and not there: a deleted event whose id is spent, or a calendar whose copies
            // disagree. Only time tells, so an id is given up for lost when it was for long.
            (404, Because::TakenForGood) if self.settled => self.next_generation(),
            (404, Because::TakenForGood) => {
                let text = "Google Calendar says that the session's event exists and that it does not; meetlink looks again.";
                let failure = Failure::new(Class::Retry, Reason::AnswerUnreadable, text);
                self.fail(failure.status(answer.status))
            }
            _ => self.fail(refusal(answer, now)),
        }
    }

    fn after_insert(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        if is_duplicate(answer) {
            self.may_exist = true;
            return self.read(Because::Taken);
        }
        if may_have_worked(answer.status) {
            self.may_exist = true;
        }
        match answer.status {
            200..=299 => {
                // It was made at the session's time just now.
                self.moved = true;
                self.look(answer, now)
            }
            _ => self.fail(refusal(answer, now)),
        }
    }

    /// A change of an event that was there a moment ago.
    fn after_change(&mut self, moving: bool, answer: &Response, now: DateTime<Utc>) -> Step {
        if (200..300).contains(&answer.status) {
            return self.look(answer, now);
        }
        let failure = refusal(answer, now);
        match answer.status {
            404 | 410 => self.read(Because::Unknown),
            // A deleted event refuses changes with 403. And an event that may not be moved still
            // has a link, which is worth more than its time in the tutor's calendar.
            400..=499
                if (moving || answer.status == 403)
                    && matches!(failure.class, Class::Permanent | Class::TutorMustAct) =>
            {
                self.refused = Some(failure);
                self.read(Because::Unknown)
            }
            _ => self.fail(failure),
        }
    }

    /// Decides by the event as it stands.
    fn look(&mut self, answer: &Response, now: DateTime<Utc>) -> Step {
        let id = self.calendar.id(self.generation);
        let Some(event) = Resource::read(answer, &id) else {
            return self.fail(API.unreadable(answer));
        };
        if event.is_cancelled() {
            return self.next_generation();
        }
        self.may_exist = true;
        let times = event.times();
        if !self.moved && self.is_elsewhen(&times) {
            self.moved = true;
            let request = self.calendar.patch_times(self.generation, times.all_day);
            return self.send(State::Moving, request);
        }
        match (event.conference(), self.refused.take()) {
            (Conference::Link(join_url), _) => {
                self.state = State::Over;
                Step::Done(Meeting {
                    external_id: id,
                    join_url,
                })
            }
            (_, Some(refused)) => self.fail(refused),
            (Conference::Pending, None) => self.pause(),
            (Conference::Failed(last), None) => self.ask(last.as_deref(), now),
            (Conference::Missing, None) => self.ask(None, now),
            (Conference::Odd, None) => self.fail(API.unreadable(answer)),
        }
    }

    fn is_elsewhen(&self, times: &Times) -> bool {
        let (start, end) = span(&self.calendar.wish);
        (times.start, times.end) != (Some(start), Some(end))
    }

    /// The event was deleted, and its id with it.
    fn next_generation(&mut self) -> Step {
        self.may_exist = false;
        self.moved = false;
        self.refused = None;
        self.generation = self.generation.saturating_add(1);
        if self.generation >= GENERATIONS {
            let text = format!(
                "The session's event was deleted from the tutor's calendar {GENERATIONS} times; ask the tutor what deletes it."
            );
            return self.fail(Failure::new(Class::Permanent, Reason::RequestRefused, text));
        }
        self.read(Because::Unknown)
    }

    /// The conference is being made; Google names no time for that.
    fn pause(&mut self) -> Step {
        let wait = self.wait;
        if self.waited + wait > PATIENCE {
            let text = "Google is still making the conference; meetlink looks again later.";
            return self.fail(Failure::new(Class::Retry, Reason::ConferencePending, text));
        }
        self.waited += wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        self.state = State::Pausing(Because::Unknown);
        Step::Pause(wait)
    }

    /// Asks for the conference again, under a new id: one that was seen is ignored.
    fn ask(&mut self, last: Option<&str>, now: DateTime<Utc>) -> Step {
        if self.asks >= ASKS {
            let text = "Google could not make the conference although it was asked again; meetlink tries again later.";
            let failure = Failure::new(Class::Retry, Reason::ProviderDown, text);
            return self.fail(failure.status(200));
        }
        self.asks += 1;
        self.wait = FIRST_WAIT;
        let event = self.calendar.id(self.generation);
        let count = last
            .and_then(|id| {
                id.strip_prefix(event.as_str())?
                    .strip_prefix('-')?
                    .parse()
                    .ok()
            })
            .and_then(|count: i64| count.checked_add(1))
            // Earlier attempts may have used any small number: the time was not used before.
            .unwrap_or_else(|| now.timestamp() + i64::from(self.asks));
        let request = self
            .calendar
            .patch_conference(self.generation, &format!("{event}-{count}"));
        self.send(State::Asking, request)
    }
}

impl Flow for EnsureEvent {
    fn next(&mut self, event: Event, now: DateTime<Utc>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Over);
        if matches!(state, State::Start { .. }) {
            // Now: a clock that is stepped later does not matter.
            let in_doubt = self.known.may_exist_since.is_some();
            self.settled = in_doubt && self.known.unsettled(now).is_none();
        }
        match (state, event) {
            (State::Start { look: true }, Event::Go) => self.read(Because::Unknown),
            (State::Start { look: false }, Event::Go) => self.insert(),
            (State::Pausing(because), Event::Go) => self.read(because),
            (State::Reading(because), Event::Answer(answer)) => {
                self.after_read(because, &answer, now)
            }
            (State::Inserting, Event::Answer(answer)) => self.after_insert(&answer, now),
            (State::Moving, Event::Answer(answer)) => self.after_change(true, &answer, now),
            (State::Asking, Event::Answer(answer)) => self.after_change(false, &answer, now),
            (State::Reading(_) | State::Moving | State::Asking, Event::Broken(broken)) => {
                self.fail(API.broken(broken))
            }
            (State::Inserting, Event::Broken(broken)) => {
                if broken.reached == Reached::Maybe {
                    self.may_exist = true;
                }
                self.fail(API.broken(broken))
            }
            (state, _) => {
                if matches!(state, State::Inserting) {
                    self.may_exist = true;
                }
                self.fail(API.interrupted())
            }
        }
    }
}
