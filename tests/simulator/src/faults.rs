//! Rules of misbehaviour: which requests they cover, and how often.

use crate::types::{Call, Conference, Provider};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Names a rule that was set.
pub type RuleId = u64;

/// One rule. It covers a request when every condition that is set holds. `Delay` and
/// `Conference` add to whatever else happens; of the other actions, the first rule wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The provider; none means both.
    #[serde(default)]
    pub provider: Option<Provider>,
    /// The call.
    #[serde(default)]
    pub call: Call,
    /// The account's name.
    #[serde(default)]
    pub account: Option<String>,
    /// Text that the path, the query or the body contains (a session's marker or event id).
    #[serde(default)]
    pub marker: Option<String>,
    /// How many covered requests are let through first.
    #[serde(default)]
    pub skip: u64,
    /// How many covered requests are hit after that; none means all.
    #[serde(default)]
    pub times: Option<u64>,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// Hits every such call.
    pub fn always(provider: Provider, call: Call, action: Action) -> Rule {
        let provider = Some(provider);
        Rule {
            provider,
            call,
            account: None,
            marker: None,
            skip: 0,
            times: None,
            action,
        }
    }

    /// Hits the next such call.
    pub fn once(provider: Provider, call: Call, action: Action) -> Rule {
        Rule::always(provider, call, action).times(1)
    }

    /// Hits so many covered requests.
    pub fn times(mut self, times: u64) -> Rule {
        self.times = Some(times);
        self
    }

    /// Lets so many covered requests through first.
    pub fn skip(mut self, skip: u64) -> Rule {
        self.skip = skip;
        self
    }

    /// Covers this account only.
    pub fn account(mut self, name: impl Into<String>) -> Rule {
        self.account = Some(name.into());
        self
    }

    /// Covers requests that contain this text only.
    pub fn marker(mut self, text: impl Into<String>) -> Rule {
        self.marker = Some(text.into());
        self
    }
}

/// What a rule does to a request. `effect` says whether the request does its work at the
/// provider before the false answer; without it the provider has done nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields say it")]
pub enum Action {
    /// The answer comes later by this much.
    Delay { ms: u64 },
    /// How the conference that this request makes goes.
    Conference { mode: Conference },
    /// Any answer.
    Status {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: String,
        #[serde(default)]
        effect: bool,
    },
    /// One of the ways to say: later.
    RateLimit { form: RateLimit },
    /// The token endpoint's refusal, such as `invalid_grant`, with or without explanation.
    TokenError {
        status: u16,
        error: String,
        why: Option<String>,
    },
    /// 401 in the provider's own words.
    Unauthorized,
    /// Google: 403 `insufficientPermissions`.
    InsufficientPermissions,
    /// Google: 400 "Invalid conference type value."
    InvalidConferenceType,
    /// Zoom: "does not contain scopes", code 4711 or 4700, status 400 or 401.
    ZoomScopes { status: u16, code: u32 },
    /// Zoom: 404 code 1001.
    ZoomNoSuchUser,
    /// Zoom: 400 code 3161.
    ZoomNotAllowed,
    /// Zoom: 400 code 3000.
    ZoomCannotSchedule,
    /// A 5xx in the provider's own words.
    ServerError { status: u16 },
    /// An error with an XML body.
    Xml { status: u16 },
    /// An answer with an HTML body.
    Html { status: u16 },
    /// 200 and `application/json`, but not JSON.
    NotJson {
        #[serde(default)]
        effect: bool,
    },
    /// The proper answer, padded to so many bytes; the effect takes place.
    BigBody { bytes: usize },
    /// 200 and a body without end; the effect takes place.
    EndlessBody,
    /// The proper answer, a byte each so many milliseconds; the effect takes place.
    SlowDrip { every_ms: u64 },
    /// The request is read and never answered.
    Stall {
        #[serde(default)]
        effect: bool,
    },
    /// A redirect.
    Redirect { status: u16, location: String },
    /// A reset as soon as the connection is accepted. Only `times` and `skip` count.
    ResetOnAccept,
    /// A reset once the head is read, before the body is.
    ResetBeforeRequest,
    /// A reset after the effect, before any answer: the client cannot know.
    ResetAfterEffect,
    /// The proper answer breaks off in the middle of its body; the effect takes place.
    CutBody,
    /// The connection is closed without an answer.
    Close {
        #[serde(default)]
        effect: bool,
    },
}

/// The ways of saying: later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimit {
    /// 429 without a hint.
    NoHint,
    /// 429, `Retry-After` in seconds.
    Seconds(u32),
    /// 429, `Retry-After` as an HTTP date, so many seconds from now.
    HttpDate(u32),
    /// 429, `Retry-After` as an ISO-8601 date-time, so many seconds from now.
    Iso8601(u32),
    /// Zoom: 429 for the second.
    ZoomPerSecond,
    /// Zoom: 429 for the day, `Retry-After` the next 00:00 UTC.
    ZoomDaily,
    /// Zoom: 429 for the day, without `Retry-After`, as has been seen.
    ZoomDailyNoHint,
    /// Google: 403 `rateLimitExceeded`.
    GoogleRateLimitExceeded,
    /// Google: 403 `userRateLimitExceeded`.
    GoogleUserRateLimitExceeded,
    /// Google: 403 `quotaExceeded`.
    GoogleQuotaExceeded,
    /// Google: 403 `dailyLimitExceeded`, the limit of the whole project.
    GoogleDailyLimitExceeded,
    /// Google: 429 `rateLimitExceeded`.
    GoogleTooManyRequests,
}

/// What a request is, for the rules.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub provider: Provider,
    pub call: Call,
    pub account: Option<&'a str>,
    pub path_and_query: &'a str,
    pub body: &'a [u8],
}

/// What the rules make of a request.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub delay: Duration,
    pub conference: Option<Conference>,
    pub action: Option<Action>,
    pub fired: Vec<RuleId>,
}

#[derive(Debug)]
struct Armed {
    id: RuleId,
    rule: Rule,
    seen: u64,
    fired: u64,
}

/// The moments at which rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Accept,
    Head,
    Whole,
}

impl Armed {
    fn stage(&self) -> Stage {
        match self.rule.action {
            Action::ResetOnAccept => Stage::Accept,
            Action::ResetBeforeRequest => Stage::Head,
            _ => Stage::Whole,
        }
    }

    fn covers(&self, facts: &Facts) -> bool {
        let rule = &self.rule;
        rule.provider
            .is_none_or(|provider| provider == facts.provider)
            && rule.call.covers(facts.call)
            && rule
                .account
                .as_deref()
                .is_none_or(|name| Some(name) == facts.account)
            && rule.marker.as_deref().is_none_or(|text| {
                facts.path_and_query.contains(text) || contains(facts.body, text.as_bytes())
            })
    }

    /// Counts a covered request and says whether it is to be hit.
    fn hit(&mut self) -> bool {
        self.seen += 1;
        let due = self.seen > self.rule.skip;
        let hit = due && self.rule.times.is_none_or(|times| self.fired < times);
        self.fired += u64::from(hit);
        hit
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[derive(Debug, Default)]
pub(crate) struct FaultBook {
    rules: Mutex<Vec<Armed>>,
    /// Lets the normal path skip the lock.
    armed: AtomicUsize,
    next: AtomicUsize,
}

impl FaultBook {
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.next.fetch_add(1, Ordering::Relaxed) as RuleId + 1;
        rules.push(Armed {
            id,
            rule,
            seen: 0,
            fired: 0,
        });
        self.armed.store(rules.len(), Ordering::Release);
        id
    }

    pub fn remove(&self, id: RuleId) -> bool {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let before = rules.len();
        rules.retain(|armed| armed.id != id);
        self.armed.store(rules.len(), Ordering::Release);
        rules.len() < before
    }

    pub fn clear(&self) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clear();
        self.armed.store(0, Ordering::Release);
    }

    pub fn fired(&self, id: RuleId) -> u64 {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules
            .iter()
            .find(|armed| armed.id == id)
            .map_or(0, |armed| armed.fired)
    }

    /// Whether a connection just accepted is to be reset.
    pub fn at_accept(&self) -> bool {
        self.judge(Stage::Accept, None).action.is_some()
    }

    /// The rule, if any, that resets the connection before the body is read.
    pub fn at_head(&self, facts: &Facts) -> Option<RuleId> {
        self.judge(Stage::Head, Some(facts)).fired.pop()
    }

    pub fn at_request(&self, facts: &Facts) -> Verdict {
        self.judge(Stage::Whole, Some(facts))
    }

    fn judge(&self, stage: Stage, facts: Option<&Facts>) -> Verdict {
        let mut verdict = Verdict::default();
        if self.armed.load(Ordering::Acquire) == 0 {
            return verdict;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for armed in rules.iter_mut().filter(|armed| armed.stage() == stage) {
            let adds = matches!(
                armed.rule.action,
                Action::Delay { .. } | Action::Conference { .. }
            );
            if (!adds && verdict.action.is_some()) || !facts.is_none_or(|facts| armed.covers(facts))
            {
                continue;
            }
            if !armed.hit() {
                continue;
            }
            verdict.fired.push(armed.id);
            match armed.rule.action {
                Action::Delay { ms } => verdict.delay += Duration::from_millis(ms),
                Action::Conference { mode } => verdict.conference = Some(mode),
                ref action => verdict.action = Some(action.clone()),
            }
        }
        verdict
    }
}
