//! Finding the session's meetings in the list of all.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answers::{integer, refusal, time};
use super::{API, Api};
use crate::domain::failure::{Class, Failure};
use crate::provider::Known;
use crate::provider::http::{Request, Response};

/// Pages of a tutor's meetings that are gone through: 12 000 meetings.
const PAGES: u32 = 40;

/// Longest page token that is sent back.
const LONGEST_TOKEN: usize = 1_000;

/// How every marker begins: such a meeting is some session's.
const MARK: &str = "meetlink:";

/// Meetings with the session's marker; the first made is the one to keep, so that every attempt
/// that sees them all chooses the same.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// When it was made, and its id.
    meetings: Vec<(DateTime<Utc>, i64)>,
    /// The one meeting without a mark that looks like the session's; none if there are several.
    pub(super) like: Option<i64>,
    likes: usize,
}

/// What tells a session's meeting from others where its mark is gone.
#[derive(Debug)]
pub(super) struct Likeness {
    /// Its title.
    pub(super) topic: String,
    /// Its start.
    pub(super) start: DateTime<Utc>,
}

impl Likeness {
    fn fits(&self, entry: &Value) -> bool {
        let text = |name| entry.get(name).and_then(Value::as_str);
        text("topic") == Some(self.topic.as_str())
            && text("start_time").and_then(time) == Some(self.start)
    }
}

/// What a page of the list leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// There are more.
    Next(String),
    /// It was the last.
    Last,
}

/// The number of the meeting that an earlier attempt made. Another provider's id is none.
pub(super) fn known_id(known: &Known) -> Option<i64> {
    let id = serde_json::Value::String(known.external_id.clone()?);
    integer(&id).filter(|id| *id > 0)
}

/// Going through the list, page after page.
#[derive(Debug, Default)]
pub(super) struct Search {
    pages: u32,
    /// What was found so far.
    pub(super) found: Found,
}

impl Search {
    /// Asks for a page; `None` when there are more than are gone through.
    pub(super) fn ask(&mut self, api: &Api, page: Option<&str>) -> Option<Request> {
        if self.pages >= PAGES {
            return None;
        }
        self.pages += 1;
        Some(api.list(page))
    }

    /// Takes a page in.
    pub(super) fn take(
        &mut self,
        answer: &Response,
        marker: &str,
        like: Option<&Likeness>,
        now: DateTime<Utc>,
    ) -> Result<Page, Failure> {
        if (200..300).contains(&answer.status) {
            let page = self.found.add(answer, marker, like);
            return page.ok_or_else(|| API.unreadable(answer));
        }
        let mut failure = refusal(answer, now);
        // A page token lives 15 minutes; one that is refused must not end a search for good.
        if self.pages > 1 && failure.class == Class::Permanent {
            failure.class = Class::Retry;
        }
        Err(failure)
    }
}

impl Found {
    /// Takes the session's meetings from a page. `None` when it cannot be read as a whole: what
    /// cannot be read does not prove that nothing is there.
    ///
    /// `like` is what a meeting without the mark may look like.
    fn add(&mut self, answer: &Response, marker: &str, like: Option<&Likeness>) -> Option<Page> {
        let body = answer.json()?;
        for entry in body.get("meetings")?.as_array()? {
            let agenda = entry.get("agenda").and_then(Value::as_str);
            if !agenda.is_some_and(|text| text.contains(marker)) {
                let foreign = agenda.is_some_and(|text| text.contains(MARK));
                if !foreign && like.is_some_and(|like| like.fits(entry)) {
                    let id = integer(entry.get("id")?).filter(|id| *id > 0)?;
                    if self.like != Some(id) {
                        self.likes += 1;
                    }
                    self.like = Some(id).filter(|_| self.likes == 1);
                }
                continue;
            }
            let id = integer(entry.get("id")?).filter(|id| *id > 0)?;
            // Pages may overlap when the list changes: twice the same is no surplus.
            if self.meetings.iter().any(|(_, known)| *known == id) {
                continue;
            }
            let made = entry.get("created_at").and_then(Value::as_str);
            let made = made.and_then(time).unwrap_or(DateTime::<Utc>::MAX_UTC);
            self.meetings.push((made, id));
        }
        match body.get("next_page_token") {
            None | Some(Value::Null) => Some(Page::Last),
            Some(Value::String(token)) if token.is_empty() => Some(Page::Last),
            Some(Value::String(token)) if token.len() <= LONGEST_TOKEN => {
                Some(Page::Next(token.clone()))
            }
            Some(_) => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.meetings.is_empty()
    }

    /// Takes out the meeting to keep.
    pub(super) fn take_first(&mut self) -> Option<i64> {
        let first = self.meetings.iter().min().copied()?;
        self.meetings.retain(|meeting| *meeting != first);
        Some(first.1)
    }

    /// Takes out any, for removal.
    pub(super) fn take_any(&mut self) -> Option<i64> {
        self.meetings.pop().map(|(_, id)| id)
    }
}
