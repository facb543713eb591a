//! Faults at every request: no sequence of them may leave two meetings, nor none.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::kit::*;
use super::{Fake, check_step, fake};
use crate::domain::failure::{Class, Failure};
use crate::domain::meeting::Meeting;
use crate::provider::http::{Broken, Effect, Fault, Method, Reached, Request};
use crate::provider::{Event, Known, Provider, Step, all};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing.
    None,
    /// It never leaves.
    Unsent,
    /// It may have arrived, and did not.
    Lost,
    /// It arrives, and the answer is lost.
    Deaf,
    /// The server fails before it did anything.
    ErrorBefore,
    /// The server fails after it did everything.
    ErrorAfter,
    /// The good answer is cut off.
    Cut,
    /// The access token has run out.
    Expired,
    /// Too many requests.
    Limited,
}

const TROUBLES: [Trouble; 8] = [
    Trouble::Unsent,
    Trouble::Lost,
    Trouble::Deaf,
    Trouble::ErrorBefore,
    Trouble::ErrorAfter,
    Trouble::Cut,
    Trouble::Expired,
    Trouble::Limited,
];

fn happen(trouble: Trouble, fake: &mut dyn Fake, request: &Request, now: DateTime<Utc>) -> Event {
    let gone = |reached, fault| Event::Broken(Broken { reached, fault });
    let error = |status| Event::Answer(text(status, "<html>sorry</html>"));
    match trouble {
        Trouble::None => Event::Answer(fake.serve(request, now)),
        Trouble::Unsent => gone(Reached::No, Fault::Connect),
        Trouble::Lost => gone(Reached::Maybe, Fault::Reset),
        Trouble::Deaf => {
            fake.serve(request, now);
            gone(Reached::Maybe, Fault::Timeout)
        }
        Trouble::ErrorBefore => error(503),
        Trouble::ErrorAfter => {
            fake.serve(request, now);
            error(502)
        }
        Trouble::Cut => {
            let mut answer = fake.serve(request, now);
            answer.body.truncate(answer.body.len() / 2);
            Event::Answer(answer)
        }
        Trouble::Expired => error(401),
        Trouble::Limited => error(429),
    }
}

/// A worker, reduced to what it remembers.
struct Worker<'a> {
    provider: &'a dyn Provider,
    fake: Box<dyn Fake>,
    known: Known,
    clock: DateTime<Utc>,
    requests: usize,
    /// Comes back after this part of the wait: a person may ask for a retry at any time.
    patience: u32,
}

impl<'a> Worker<'a> {
    fn new(provider: &'a dyn Provider, slowness: u32) -> Self {
        Self {
            provider,
            fake: fake(provider, slowness),
            known: fresh(),
            clock: now(),
            requests: 0,
            patience: 1,
        }
    }

    /// Attempts until there is a meeting; `trouble` decides what happens to the nth request.
    fn work(&mut self, trouble: &mut dyn FnMut(usize) -> Trouble) -> Meeting {
        for _ in 0..60 {
            let (end, once_at) = self.attempt(trouble);
            match end {
                Ok(meeting) => {
                    assert_eq!(self.fake.alive(), [meeting.external_id.as_str()]);
                    return meeting;
                }
                Err(failure) => self.remember(&failure, once_at),
            }
        }
        panic!("no meeting: {:?}", self.known);
    }

    /// The rule for `may_exist_since`: the time of the last request that cannot be repeated, else
    /// what was known, else now.
    fn remember(&mut self, failure: &Failure, once_at: Option<DateTime<Utc>>) {
        let retried = !matches!(failure.class, Class::Permanent | Class::OperatorMustAct);
        assert!(retried, "{failure:?}");
        self.known.may_exist_since = failure
            .may_exist
            .then(|| once_at.or(self.known.may_exist_since).unwrap_or(self.clock));
        let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
        self.clock += wait / self.patience;
    }

    fn attempt(
        &mut self,
        trouble: &mut dyn FnMut(usize) -> Trouble,
    ) -> (Result<Meeting, Failure>, Option<DateTime<Utc>>) {
        let doubtful = self.known.may_exist_since.is_some();
        let mut flow = begin(self.provider, self.known.clone());
        let (mut event, mut once_at, mut looked) = (Event::Go, None, false);
        // Set when a request that cannot be repeated was lost on the way.
        let mut must_doubt = false;
        for _ in 0..100 {
            let step = flow.next(event, self.clock);
            check_step(&step);
            if must_doubt {
                match &step {
                    Step::Failed(f) => assert!(f.class == Class::InDoubt && f.may_exist, "{f:?}"),
                    other => panic!("went on after a loss: {other:?}"),
                }
            }
            event = match step {
                Step::Send(request) => {
                    let what = trouble(self.requests);
                    self.requests += 1;
                    if request.method == Method::Post {
                        assert!(looked || !doubtful, "made another without a look");
                    }
                    if request.effect == Effect::Once {
                        once_at = Some(self.clock);
                        must_doubt = matches!(what, Trouble::Lost | Trouble::Deaf);
                    }
                    // The status of a cut answer is whole.
                    let answered = matches!(what, Trouble::None | Trouble::Cut);
                    looked |= request.method == Method::Get && answered;
                    let event = happen(what, self.fake.as_mut(), &request, self.clock);
                    self.clock += Duration::from_millis(50);
                    event
                }
                Step::Pause(wait) => {
                    self.clock += wait;
                    Event::Go
                }
                Step::Done(meeting) => return (Ok(meeting), once_at),
                Step::Failed(failure) => return (Err(failure), once_at),
                Step::Removed => panic!("nobody asked for that"),
            };
        }
        panic!("no end");
    }
}

#[test]
fn two_faults_at_any_two_requests_leave_exactly_one_meeting() {
    let mut cases = 0;
    for provider in all() {
        for slowness in 0..4 {
            for first in 0..9 {
                for second in first + 1..10 {
                    for a in TROUBLES {
                        for b in TROUBLES {
                            Worker::new(*provider, slowness).work(&mut |nth| match nth {
                                n if n == first => a,
                                n if n == second => b,
                                _ => Trouble::None,
                            });
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{cases} pairs of faults");
}

#[test]
fn any_sequence_of_faults_leaves_exactly_one_meeting() {
    let mut random = Random(0x5eed);
    let cases = 5_000;
    for case in 0..cases {
        for provider in all() {
            let mut worker = Worker::new(*provider, case % 4);
            worker.patience = 1 + case % 5;
            let until = random.below(20);
            worker.work(&mut |nth| match random.below(2) {
                0 if nth < until => random.of(&TROUBLES),
                _ => Trouble::None,
            });
        }
    }
    println!("{} sequences of faults", cases as usize * all().len());
}

#[test]
fn a_tutor_who_deletes_between_attempts_still_gets_one_meeting() {
    for provider in all() {
        for slowness in 0..4 {
            for trouble in TROUBLES {
                let mut worker = Worker::new(*provider, slowness);
                let (end, once_at) = worker.attempt(&mut |nth| match nth {
                    0 => trouble,
                    _ => Trouble::None,
                });
                let failure = end.unwrap_err();
                worker.remember(&failure, once_at);
                worker.fake.delete_all();
                worker.work(&mut |_| Trouble::None);
            }
        }
    }
}
