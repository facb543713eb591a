//! Threads for HTTP. No Postgres here, ever: values go in, values come out.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

mod queue;
#[cfg(test)]
mod tests;
mod work;
use queue::{Queue, Task};
use work::{advance, guarded, internal_fault, refresh, send, undone};

use super::deliver::{self, Parcel};
use super::pace::HURRIED;
use super::rooms::{Places, lanes};
use crate::domain::failure::{Class, Failure, Reason};
use crate::domain::meeting::Meeting;
use crate::domain::notice::Channel;
use crate::net::Client;
use crate::pg::signals;
use crate::provider::http::Request;
use crate::provider::{Flow, Grant, Provider};

/// Stack of a thread, in bytes: TLS and JSON need far less.
const STACK: usize = 512 * 1024;

/// A tutor at a provider: what a refresh is for.
pub type Account = (Uuid, &'static str);

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has begun, and goes on.
    Begun,
    /// Nothing of it was sent: it can be taken back.
    New,
}

/// Something to do for a thread.
pub enum Work {
    /// Go on with an attempt.
    Attempt {
        /// The session.
        session: Uuid,
        /// Where.
        provider: &'static str,
        /// How far it is.
        turn: Turn,
        /// Whether somebody waits for it: at once then, whatever else is under way.
        hurried: bool,
        /// The attempt.
        flow: Box<dyn Flow>,
    },
    /// Trade a refresh token.
    Refresh {
        /// Whose.
        account: Account,
        /// Whether somebody waits for it.
        hurried: bool,
        /// Who reads the answer.
        provider: &'static dyn Provider,
        /// The request.
        request: Request,
    },
    /// Deliver a notification.
    Deliver {
        /// Its number.
        id: i64,
        /// The way.
        channel: Channel,
        /// What is sent.
        parcel: Parcel,
    },
}

/// How an attempt left its thread.
pub enum End {
    /// The meeting exists.
    Made(Meeting),
    /// No meeting of the session is left.
    Removed,
    /// It failed.
    Failed(Failure),
    /// It was taken back before it began.
    Untouched,
    /// It wants to go on after a while.
    Paused(Box<dyn Flow>, Duration),
}

/// What a thread brings back.
pub enum Report {
    /// Of an attempt.
    Attempt {
        /// The session.
        session: Uuid,
        /// Where.
        provider: &'static str,
        /// Its end.
        end: End,
        /// How long it was at its thread.
        took: Duration,
    },
    /// Of a refresh.
    Refreshed {
        /// Whose.
        account: Account,
        /// What the token endpoint granted.
        result: Result<Grant, Failure>,
    },
    /// Of a refresh that was taken back before it began.
    NotRefreshed {
        /// Whose.
        account: Account,
    },
    /// Of a delivery.
    Delivered {
        /// Number of the notification.
        id: i64,
        /// The way.
        channel: Channel,
        /// Whether it was taken.
        result: Result<(), Failure>,
    },
}

struct Inner {
    queue: Mutex<Queue>,
    filled: Condvar,
    reports: Mutex<Vec<Report>>,
    bell: UnixStream,
}

/// The threads, started as they are needed.
pub struct Pool {
    inner: Arc<Inner>,
    ear: UnixStream,
}

// A thread that panicked while it held a lock left nothing half done in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report {
    /// Of an attempt that was taken back before it began.
    pub fn untouched(session: Uuid, provider: &'static str) -> Self {
        Self::Attempt {
            session,
            provider,
            end: End::Untouched,
            took: Duration::ZERO,
        }
    }

    /// Whether it is about a refresh.
    pub fn is_of_refresh(&self) -> bool {
        matches!(self, Self::Refreshed { .. } | Self::NotRefreshed { .. })
    }

    /// Whether it tells of a failure.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Attempt { end, .. } => matches!(end, End::Failed(_)),
            Self::Refreshed { result, .. } => result.is_err(),
            Self::NotRefreshed { .. } => false,
            Self::Delivered { result, .. } => result.is_err(),
        }
    }

    /// The provider that was called, if one was.
    pub fn provider(&self) -> Option<&'static str> {
        match self {
            Report::Attempt { provider, .. } => Some(provider),
            Report::Refreshed { account, .. } | Report::NotRefreshed { account } => Some(account.1),
            Report::Delivered { .. } => None,
        }
    }
}

impl Pool {
    /// A pool without threads.
    pub fn new() -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let inner = Inner {
            queue: Mutex::new(Queue::new()),
            filled: Condvar::new(),
            reports: Mutex::new(Vec::new()),
            bell,
        };
        Ok(Self {
            inner: Arc::new(inner),
            ear,
        })
    }

    /// Becomes readable when there are reports.
    pub fn descriptor(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// Hands work over; never waits. What has no place among `places` queues.
    pub fn submit(&self, work: Work, client: Arc<Client>, places: Places) {
        let start = {
            let mut queue = lock(&self.inner.queue);
            queue.add(Task { work, client });
            if queue.places != places {
                queue.places = places;
                self.inner.filled.notify_all();
            }
            let threads = places.all + HURRIED * (lanes().len() + 1) + deliver::THREADS;
            let start = queue.tasks.len() > queue.idle && queue.threads < threads;
            if start {
                queue.threads += 1;
            }
            start
        };
        if start && self.start_thread().is_err() {
            let none_left = {
                let mut queue = lock(&self.inner.queue);
                queue.threads -= 1;
                queue.threads == 0
            };
            if none_left {
                self.refuse_all();
            }
        }
        self.inner.filled.notify_one();
    }

    fn start_thread(&self) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        // Detached: at the end of the process they are left where they are.
        signals::spawn_deaf("meetlink http".to_owned(), STACK, move || serve(&inner)).map(drop)
    }

    /// Without a single thread the work comes back undone, to be tried again later.
    fn refuse_all(&self) {
        let tasks: Vec<Task> = lock(&self.inner.queue).tasks.drain(..).collect();
        for task in tasks {
            let failure = Failure::new(
                Class::Retry,
                Reason::Misconfigured,
                "No thread could be started for the request; the machine is short of memory or \
                 processes.",
            );
            self.inner.report(undone(task.work, failure));
        }
    }

    /// Somebody waits for a refresh now: it waits for no place any more.
    pub fn hurry(&self, account: Account) {
        if lock(&self.inner.queue).hurry(account) {
            self.inner.filled.notify_one();
        }
    }

    /// Takes back what waits for a place: attempts at one provider, or at all and refreshes too. It
    /// comes in as [`End::Untouched`] and [`Report::NotRefreshed`].
    pub fn recall(&self, provider: Option<&'static str>) {
        let back = lock(&self.inner.queue).recall(provider);
        self.inner.give_back(back);
    }

    /// Takes the reports that have come in.
    pub fn reports(&self) -> Vec<Report> {
        let mut sink = [0u8; 64];
        while matches!((&self.ear).read(&mut sink), Ok(n) if n == sink.len()) {}
        std::mem::take(&mut *lock(&self.inner.reports))
    }
}

impl Inner {
    fn report(&self, report: Report) {
        let mut reports = lock(&self.reports);
        reports.push(report);
        if reports.len() == 1 {
            // A full pipe means that the main thread has been told already.
            let _ = (&self.bell).write(&[1]);
        }
    }

    fn give_back(&self, untouched: Vec<Work>) {
        for work in untouched {
            match work {
                Work::Attempt {
                    session, provider, ..
                } => self.report(Report::untouched(session, provider)),
                Work::Refresh { account, .. } => self.report(Report::NotRefreshed { account }),
                Work::Deliver { .. } => {}
            }
        }
    }

    /// Brings a report, and makes its place free. What went wrong may say that nothing should be
    /// sent to that provider: what waits for the place comes back first.
    fn end(&self, provider: Option<&'static str>, report: Report) {
        let (more, back) = {
            let mut queue = lock(&self.queue);
            let mut back = Vec::new();
            if let Some(provider) = provider {
                if report.is_failure() {
                    back = queue.recall(Some(provider));
                }
                queue.active.remove(provider);
            }
            (!queue.tasks.is_empty(), back)
        };
        if more {
            self.filled.notify_one();
        }
        self.report(report);
        self.give_back(back);
    }

    fn take(&self) -> Task {
        let mut queue = lock(&self.queue);
        queue.idle += 1;
        loop {
            if let Some(task) = queue.next() {
                queue.idle -= 1;
                return task;
            }
            queue = self
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn serve(inner: &Inner) {
    loop {
        let task = inner.take();
        let provider = task.work.provider();
        let report = match task.work {
            Work::Attempt {
                session,
                provider,
                flow,
                ..
            } => {
                let begun = Instant::now();
                let end = guarded(|| advance(&task.client, flow))
                    .unwrap_or_else(|| End::Failed(internal_fault()));
                let took = begun.elapsed();
                Report::Attempt {
                    session,
                    provider,
                    end,
                    took,
                }
            }
            Work::Refresh {
                account,
                provider,
                request,
                ..
            } => {
                let result = guarded(|| refresh(&task.client, provider, &request))
                    .unwrap_or_else(|| Err(internal_fault()));
                Report::Refreshed { account, result }
            }
            Work::Deliver {
                id,
                channel,
                parcel,
            } => {
                let result = guarded(|| send(&task.client, &parcel))
                    .unwrap_or_else(|| Err(internal_fault()));
                Report::Delivered {
                    id,
                    channel,
                    result,
                }
            }
        };
        inner.end(provider, report);
    }
}
