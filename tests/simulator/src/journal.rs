//! The journal: what was received, what came of it, and when.

use crate::faults::RuleId;
use crate::types::{Call, Clock, Moment, Provider};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What became of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Sent whole.
    Answered,
    /// The connection was reset instead.
    Reset,
    /// The connection was closed instead.
    Closed,
    /// Broken off in the middle of the body.
    Cut,
    /// Never sent.
    Stalled,
    /// Sent without end.
    Endless,
    /// Sent a byte at a time.
    Dripped,
}

/// What a request changed at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The kind of change.
    pub kind: EffectKind,
    /// The event, the meeting or (for a refresh) the account.
    pub id: String,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// An event or meeting was made.
    Created,
    /// It was changed.
    Updated,
    /// It was deleted.
    Deleted,
    /// A refresh was granted.
    Refreshed,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, in the order of full receipt.
    pub seq: u64,
    /// The provider; none for a path that belongs to neither.
    pub provider: Option<Provider>,
    /// The call.
    pub call: Call,
    /// The HTTP method.
    pub method: String,
    /// The path, still encoded and with its prefix.
    pub path: String,
    /// The query, still encoded.
    pub query: String,
    /// The account that the bearer or the refresh token resolved to, even if it was refused.
    pub account: Option<String>,
    /// A hash of the bearer token, so that two requests can be compared.
    pub bearer_hash: Option<String>,
    /// The body as JSON (a form becomes an object, its secrets hashed), else as a string.
    pub body: Value,
    /// `content-type`, `user-agent` and `content-length`.
    pub headers: Vec<(String, String)>,
    /// The status sent, or being sent; none when no answer was meant to start.
    pub status: Option<u16>,
    /// What became of the answer.
    pub fate: Fate,
    /// What the request changed.
    pub effect: Option<Effect>,
    /// The rules that had a hand in it.
    pub faults: Vec<RuleId>,
    /// When the request was wholly received.
    pub received_at: Moment,
    /// When the last byte of the answer so far was handed to the socket; none if no byte was.
    pub answered_at: Option<Moment>,
}

impl Entry {
    /// The time between the request's receipt and the answer: the provider's own time.
    pub fn provider_time(&self) -> Option<Duration> {
        let answered = self.answered_at?.mono_ns;
        Some(Duration::from_nanos(
            answered.saturating_sub(self.received_at.mono_ns),
        ))
    }
}

/// Where the socket notes the time of its last write.
#[derive(Debug, Default)]
pub(crate) struct Stamp(AtomicU64);

impl Stamp {
    pub fn set(&self, mono_ns: u64) {
        self.0.store(mono_ns, Ordering::Release);
    }

    fn get(&self) -> Option<u64> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            at => Some(at),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Mutex<Vec<(Entry, Arc<Stamp>)>>,
    next: AtomicU64,
}

impl Journal {
    /// Files an entry and gives the stamp that its answer is to set.
    pub fn file(&self, mut entry: Entry) -> Arc<Stamp> {
        let stamp = Arc::new(Stamp::default());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entry.seq = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        entries.push((entry, stamp.clone()));
        stamp
    }

    pub fn snapshot(&self, clock: &Clock) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = entries.iter().map(|(entry, stamp)| {
            let mut entry = entry.clone();
            entry.answered_at = stamp.get().map(|at| clock.moment(at));
            entry
        });
        filled.collect()
    }

    pub fn len(&self) -> usize {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub fn clear(&self) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// Requests being handled at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Now.
    pub now: usize,
    /// The most there were since the start or since the journal was cleared.
    pub max: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl Gauge {
    pub fn enter(self: &Arc<Self>) -> InFlightGuard {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.max.fetch_max(now, Ordering::AcqRel);
        InFlightGuard(self.clone())
    }

    pub fn read(&self) -> InFlight {
        InFlight {
            now: self.now.load(Ordering::Acquire),
            max: self.max.load(Ordering::Acquire),
        }
    }

    pub fn reset_max(&self) {
        self.max
            .store(self.now.load(Ordering::Acquire), Ordering::Release);
    }
}

/// Counts a request until its answer has been handed over or given up.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<Gauge>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::AcqRel);
    }
}
