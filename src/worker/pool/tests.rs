//! What starts when.

use std::sync::mpsc::{Receiver, Sender, channel};

use chrono::{DateTime, Utc};

use super::*;
use crate::provider::{Event, Step};

const PATIENCE: Duration = Duration::from_secs(10);

/// Tells that it begins, and goes on when it is told to.
struct Held {
    name: &'static str,
    began: Sender<&'static str>,
    go: Receiver<()>,
}

impl Flow for Held {
    fn next(&mut self, _: Event, _: DateTime<Utc>) -> Step {
        self.began.send(self.name).expect("somebody listens");
        self.go.recv_timeout(PATIENCE).expect("a word");
        Step::Removed
    }
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
    fn submit(&self, name: &'static str, provider: &'static str, hurried: bool) -> Sender<()> {
        let (word, go) = channel();
        let flow = Held {
            name,
            began: self.began.0.clone(),
            go,
        };
        let work = Work::Attempt {
            session: Uuid::nil(),
            provider,
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

    fn active(&self) -> usize {
        lock(&self.pool.inner.queue).active.total()
    }
}

#[test]
fn a_place_that_becomes_free_is_taken_by_the_next_that_waits() {
    let stage = Stage::new(2, 2);
    let words: Vec<_> = ["1", "2", "3", "4"]
        .map(|name| stage.submit(name, "zoom", false))
        .into();
    assert_eq!(stage.next_few(2), ["1", "2"]);
    for (ends, begins) in [(0, "3"), (1, "4")] {
        assert_eq!(stage.active(), 2);
        words[ends].send(()).expect("it listens");
        // Nobody has taken a report: no step of the worker is needed for it.
        assert_eq!(stage.next(), begins);
    }
    assert_eq!(stage.active(), 2);
}

#[test]
fn what_waits_for_one_provider_holds_up_no_other() {
    let stage = Stage::new(3, 2);
    let words = ["z1", "z2", "z3"].map(|name| stage.submit(name, "zoom", false));
    let _google = stage.submit("g1", "google_meet", false);
    assert_eq!(stage.next_few(3), ["g1", "z1", "z2"]);
    words[0].send(()).expect("it listens");
    assert_eq!(stage.next(), "z3");
}

#[test]
fn what_somebody_waits_for_begins_although_every_place_is_taken() {
    let stage = Stage::new(1, 1);
    let words = ["first", "second"].map(|name| stage.submit(name, "zoom", false));
    assert_eq!(stage.next(), "first");
    let hurried = stage.submit("hurried", "zoom", true);
    assert_eq!(stage.next(), "hurried");
    hurried.send(()).expect("it listens");
    words[0].send(()).expect("it listens");
    assert_eq!(stage.next(), "second");
}
