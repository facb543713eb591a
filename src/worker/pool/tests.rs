//! What starts when.

use std::sync::mpsc::{Receiver, Sender, channel};

use chrono::{DateTime, Utc};

use super::*;
use crate::provider::http::{Auth, Method};
use crate::provider::{Event, Step};

const PATIENCE: Duration = Duration::from_secs(10);

/// Tells that it begins, and ends when it is told how: well, or not.
struct Held {
    name: &'static str,
    began: Sender<&'static str>,
    go: Receiver<bool>,
}

impl Flow for Held {
    fn next(&mut self, _: Event, _: DateTime<Utc>) -> Step {
        self.began.send(self.name).expect("somebody listens");
        if self.go.recv_timeout(PATIENCE).expect("a word") {
            Step::Removed
        } else {
            Step::Failed(internal_fault())
        }
    }
}

fn id(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(0, |id, byte| id << 8 | u128::from(byte)))
}

struct Stage {
    pool: Pool,
    client: Arc<Client>,
    places: Places,
    began: (Sender<&'static str>, Receiver<&'static str>),
}

impl Stage {
    fn new(all: usize, each: usize) -> Self {
        let client = Client::new(Duration::from_secs(1), 1, None).expect("a client");
        Self {
            pool: Pool::new().expect("a pool"),
            client: Arc::new(client),
            places: Places { all, each },
            began: channel(),
        }
    }

    /// Hands an attempt over; what is sent on the channel lets it end.
    fn submit(&self, name: &'static str, provider: &'static str, turn: Turn) -> Sender<bool> {
        self.hand_over((name, provider), turn, false)
    }

    /// The same for which somebody waits.
    fn hurry(&self, name: &'static str, provider: &'static str) -> Sender<bool> {
        self.hand_over((name, provider), Turn::New, true)
    }

    fn hand_over(
        &self,
        (name, provider): (&'static str, &'static str),
        turn: Turn,
        hurried: bool,
    ) -> Sender<bool> {
        let (word, go) = channel();
        let flow = Held {
            name,
            began: self.began.0.clone(),
            go,
        };
        let work = Work::Attempt {
            session: id(name),
            provider,
            turn,
            hurried,
            flow: Box::new(flow),
        };
        self.pool
            .submit(work, Arc::clone(&self.client), self.places);
        word
    }

    fn next(&self) -> &'static str {
        self.began.1.recv_timeout(PATIENCE).expect("one begins")
    }

    fn next_few(&self, count: usize) -> Vec<&'static str> {
        let mut began: Vec<_> = (0..count).map(|_| self.next()).collect();
        began.sort_unstable();
        began
    }

    /// Names of those that came back before they began.
    fn untouched(&self) -> Vec<Uuid> {
        let reports = self.pool.reports().into_iter();
        let untouched = reports.filter_map(|report| match report {
            Report::Attempt {
                session,
                end: End::Untouched,
                ..
            } => Some(session),
            _ => None,
        });
        untouched.collect()
    }

    fn active(&self) -> usize {
        lock(&self.pool.inner.queue).active.total_up_to(usize::MAX)
    }
}

#[test]
fn a_place_that_becomes_free_is_taken_by_the_next_that_waits() {
    let stage = Stage::new(2, 2);
    let words: Vec<_> = ["1", "2", "3", "4"]
        .map(|name| stage.submit(name, "zoom", Turn::New))
        .into();
    assert_eq!(stage.next_few(2), ["1", "2"]);
    for (ends, begins) in [(0, "3"), (1, "4")] {
        assert_eq!(stage.active(), 2);
        words[ends].send(true).expect("it listens");
        // Nobody has taken a report: no step of the worker is needed for it.
        assert_eq!(stage.next(), begins);
    }
    assert_eq!(stage.active(), 2);
}

#[test]
fn what_waits_for_one_provider_holds_up_no_other() {
    let stage = Stage::new(3, 2);
    let words = ["z1", "z2", "z3"].map(|name| stage.submit(name, "zoom", Turn::New));
    let _google = stage.submit("g1", "google_meet", Turn::New);
    assert_eq!(stage.next_few(3), ["g1", "z1", "z2"]);
    words[0].send(true).expect("it listens");
    assert_eq!(stage.next(), "z3");
}

#[test]
fn what_somebody_waits_for_begins_although_every_place_is_taken() {
    let stage = Stage::new(1, 1);
    let words = ["first", "second"].map(|name| stage.submit(name, "zoom", Turn::New));
    assert_eq!(stage.next(), "first");
    let hurried = stage.hurry("hurried", "zoom");
    assert_eq!(stage.next(), "hurried");
    hurried.send(true).expect("it listens");
    words[0].send(true).expect("it listens");
    assert_eq!(stage.next(), "second");
}

#[test]
fn tries_by_hand_at_one_provider_hold_up_no_other() {
    let stage = Stage::new(3, 2);
    let _zoom = ["z1", "z2"].map(|name| stage.submit(name, "zoom", Turn::New));
    assert_eq!(stage.next_few(2), ["z1", "z2"]);
    let _hurried = ["h1", "h2", "h3"].map(|name| stage.hurry(name, "zoom"));
    let _google = stage.submit("g1", "google_meet", Turn::New);
    assert_eq!(stage.next_few(4), ["g1", "h1", "h2", "h3"]);
}

#[test]
fn tries_by_hand_that_have_no_thread_are_taken_back_too() {
    let stage = Stage::new(1, 1);
    let all = 1 + HURRIED * (lanes().len() + 1) + deliver::THREADS;
    let _busy: Vec<_> = (0..all).map(|_| stage.hurry("busy", "zoom")).collect();
    assert_eq!(stage.next_few(all).len(), all);
    let _waiting = stage.hurry("waiting", "zoom");
    stage.pool.recall(Some("zoom"));
    assert!(stage.untouched().is_empty(), "what failed was not theirs");
    stage.pool.recall(None);
    assert_eq!(stage.untouched(), [id("waiting")]);
}

#[test]
fn a_refresh_that_waits_begins_once_somebody_waits_for_it() {
    let stage = Stage::new(1, 1);
    let _first = stage.submit("first", "zoom", Turn::New);
    assert_eq!(stage.next(), "first");
    let account = (id("tutor"), "zoom");
    let nowhere = Request::new(Method::Post, "http://127.0.0.1:1/", Auth::Nobody);
    let refresh = Work::Refresh {
        account,
        hurried: false,
        provider: crate::provider::by_name("zoom").expect("Zoom"),
        request: nowhere,
    };
    let client = Arc::clone(&stage.client);
    stage.pool.submit(refresh, client, stage.places);
    stage.pool.hurry((id("other"), "zoom"));
    assert_eq!(stage.active(), 1, "there is no place for it");
    stage.pool.hurry(account);
    let begun = Instant::now();
    let mut ended = Vec::new();
    while ended.is_empty() && begun.elapsed() < PATIENCE {
        ended = stage.pool.reports();
        std::thread::yield_now();
    }
    let [report] = &ended[..] else {
        panic!("one report");
    };
    assert!(report.is_of_refresh() && report.is_failure());
}

#[test]
fn what_has_not_begun_is_taken_back() {
    let stage = Stage::new(1, 1);
    let _first = stage.submit("first", "zoom", Turn::New);
    assert_eq!(stage.next(), "first");
    let _waiting = ["z", "g"].map(|name| stage.submit(name, "zoom", Turn::New));
    let _rested = stage.submit("rested", "zoom", Turn::Begun);
    stage.pool.recall(None);
    assert_eq!(stage.untouched(), [id("z"), id("g")]);
    let left = lock(&stage.pool.inner.queue).tasks.len();
    assert_eq!(left, 1, "one that has begun goes on");
}

#[test]
fn after_a_failure_nothing_more_begins_at_that_provider() {
    let stage = Stage::new(2, 1);
    let failing = stage.submit("z1", "zoom", Turn::New);
    let good = stage.submit("g1", "google_meet", Turn::New);
    assert_eq!(stage.next_few(2), ["g1", "z1"]);
    let _more = [("z2", "zoom"), ("g2", "google_meet"), ("z3", "zoom")]
        .map(|(name, provider)| stage.submit(name, provider, Turn::New));
    failing.send(false).expect("it listens");
    let mut back = Vec::new();
    let begun = Instant::now();
    while back.len() < 2 && begun.elapsed() < PATIENCE {
        back.extend(stage.untouched());
        std::thread::yield_now();
    }
    assert_eq!(back, [id("z2"), id("z3")]);
    good.send(true).expect("it listens");
    assert_eq!(stage.next(), "g2");
}
