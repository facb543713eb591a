//! What a thread does: requests, one after another, until there is something to report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{End, Report, Work};
use crate::domain::failure::{Class, Failure, Reason};
use crate::net::Client;
use crate::provider::http::Request;
use crate::provider::{Event, Flow, Grant, Provider, Step};
use crate::worker::deliver::Parcel;

/// Requests in one attempt at most; a flow that asks for more is at fault.
const REQUESTS: usize = 200;

/// A panic is a fault of ours; it ends one attempt, not the worker.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

/// What a panic comes to: nobody knows how far the attempt got.
pub fn internal_fault() -> Failure {
    Failure::new(
        Class::InDoubt,
        Reason::AnswerLost,
        "An internal fault of meetlink ended the attempt; please report it with the server log.",
    )
    .may_exist(true)
}

/// What work comes to that no thread could be found for.
pub fn undone(work: Work, failure: Failure) -> Report {
    match work {
        // An earlier doubt stays one.
        Work::Attempt {
            session, provider, ..
        } => Report::Attempt {
            session,
            provider,
            end: End::Failed(failure.may_exist(true)),
            took: Duration::ZERO,
        },
        Work::Refresh { account, .. } => Report::Refreshed {
            account,
            result: Err(failure),
        },
        Work::Deliver { id, channel, .. } => Report::Delivered {
            id,
            channel,
            result: Err(failure),
        },
    }
}

fn now() -> DateTime<Utc> {
    Utc::now()
}

fn exchange(client: &Client, request: &Request) -> Event {
    match client.exchange(request) {
        Ok(response) => Event::Answer(response),
        Err(broken) => Event::Broken(broken),
    }
}

/// Goes on with an attempt until it ends, or wants a pause.
pub fn advance(client: &Client, mut flow: Box<dyn Flow>) -> End {
    let mut event = Event::Go;
    for _ in 0..REQUESTS {
        match flow.next(event, now()) {
            Step::Send(request) => event = exchange(client, &request),
            Step::Pause(time) => return End::Paused(flow, time),
            Step::Done(meeting) => return End::Made(meeting),
            Step::Removed => return End::Removed,
            Step::Failed(failure) => return End::Failed(failure),
        }
    }
    End::Failed(internal_fault())
}

/// Trades a refresh token.
pub fn refresh(
    client: &Client,
    provider: &'static dyn Provider,
    request: &Request,
) -> Result<Grant, Failure> {
    provider.granted(exchange(client, request), now())
}

/// Delivers a notification.
pub fn send(client: &Client, parcel: &Parcel) -> Result<(), Failure> {
    parcel.send(|request| {
        client.exchange(request).map_err(|_| {
            let text = "The receiver could not be reached; check meetlink.webhook_url.";
            Failure::new(Class::Retry, Reason::ProviderDown, text)
        })
    })
}
