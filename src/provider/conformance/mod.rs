//! One suite that every registered provider passes: a new one needs a fake of its API here.

pub mod kit;

mod fake_google;
mod fake_zoom;
mod faults;
mod garbage;
mod removal;

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::http::{Auth, Request, Response};
use super::{Event, Flow, Known, OAuthClient, Provider, Step, all, by_name};
use crate::domain::failure::Class;
use crate::domain::secret::Secret;
use kit::*;

/// A provider's API in memory.
pub trait Fake {
    /// Answers a request.
    fn serve(&mut self, request: &Request, now: DateTime<Utc>) -> Response;
    /// Ids of the session's meetings that exist.
    fn alive(&self) -> Vec<String>;
    /// The tutor deletes them.
    fn delete_all(&mut self);
}

/// The fake of a provider; `slowness` from 0 to 3 makes its answers come late.
fn fake(provider: &dyn Provider, slowness: u32) -> Box<dyn Fake> {
    match provider.name() {
        "google_meet" => Box::new(fake_google::FakeGoogle::new(slowness)),
        "zoom" => Box::new(fake_zoom::FakeZoom::new(slowness)),
        other => panic!("write a fake for {other}"),
    }
}

/// What every request of a flow has to be like.
fn check_request(request: &Request) {
    assert!(request.url.starts_with(API), "{}", request.url);
    let printable = request.url.bytes().all(|b| b.is_ascii_graphic());
    assert!(printable && request.url.len() < 4_000, "{}", request.url);
    assert!(!request.url.contains(CANARY));
    match &request.auth {
        Auth::Bearer(secret) => assert_eq!(secret.expose(), token().expose()),
        other => panic!("no bearer: {other:?}"),
    }
}

/// What every step has to be like.
fn check_step(step: &Step) {
    assert!(!format!("{step:?}").contains(CANARY), "{step:?}");
    match step {
        Step::Send(request) => check_request(request),
        Step::Removed => {}
        Step::Pause(wait) => assert!(*wait <= std::time::Duration::from_secs(5)),
        Step::Done(meeting) => {
            assert!(meeting.join_url.as_str().starts_with("https://"));
            assert!(!meeting.external_id.is_empty());
        }
        Step::Failed(failure) => {
            assert!(
                failure.text.ends_with('.') && failure.text.len() < 300,
                "{failure:?}"
            );
        }
    }
}

/// Runs a flow against a fake to its end.
fn talk(mut flow: Box<dyn Flow>, fake: &mut dyn Fake) -> End {
    let mut event = Event::Go;
    let mut clock = now();
    for _ in 0..100 {
        let step = flow.next(event, clock);
        check_step(&step);
        event = match step {
            Step::Send(request) => Event::Answer(fake.serve(&request, clock)),
            Step::Pause(wait) => {
                clock += wait;
                Event::Go
            }
            Step::Done(meeting) => return End::Done(meeting),
            Step::Removed => return End::Removed,
            Step::Failed(failure) => return End::Failed(failure),
        };
    }
    panic!("no end");
}

#[test]
fn names_and_labels_are_unique_and_sane() {
    let mut seen = HashSet::new();
    for provider in all() {
        let (name, label) = (provider.name(), provider.label());
        let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
        assert!(
            !name.is_empty() && name.len() <= 40 && name.bytes().all(plain),
            "{name}"
        );
        assert!(!label.is_empty() && label.trim() == label, "{label}");
        assert!(seen.insert(name) && seen.insert(label));
        assert_eq!(by_name(name).map(|p| p.label()), Some(label));
    }
    assert!(by_name("nobody").is_none());
}

#[test]
fn a_wish_ends_in_one_meeting_with_a_link() {
    for provider in all() {
        for slowness in 0..4 {
            let mut fake = fake(*provider, slowness);
            let end = talk(begin(*provider, fresh()), fake.as_mut());
            let End::Done(meeting) = end else {
                panic!("{end:?}");
            };
            assert_eq!(fake.alive(), [meeting.external_id]);
        }
    }
}

#[test]
fn a_second_attempt_finds_the_meeting_of_the_first() {
    for provider in all() {
        let mut fake = fake(*provider, 0);
        let End::Done(first) = talk(begin(*provider, fresh()), fake.as_mut()) else {
            panic!("{}", provider.name());
        };
        for known in [known_id(&first.external_id), in_doubt(10), in_doubt(9_999)] {
            let End::Done(again) = talk(begin(*provider, known), fake.as_mut()) else {
                panic!("{}", provider.name());
            };
            assert_eq!(again, first);
        }
        assert_eq!(fake.alive().len(), 1);
        // Deleted by the tutor, it is made anew.
        fake.delete_all();
        let End::Done(anew) = talk(
            begin(*provider, known_id(&first.external_id)),
            fake.as_mut(),
        ) else {
            panic!("{}", provider.name());
        };
        assert_eq!(fake.alive(), [anew.external_id.as_str()]);
        assert_ne!(anew.external_id, first.external_id);
    }
}

#[test]
fn nothing_is_made_where_a_person_says_that_the_meeting_exists() {
    for provider in all() {
        // However long ago the request was.
        let adopt = Known {
            adopt: true,
            ..in_doubt(9_999)
        };
        let mut fake = fake(*provider, 0);
        match talk(begin(*provider, adopt.clone()), fake.as_mut()) {
            End::Failed(failure) => {
                assert_eq!((failure.class, failure.may_exist), (Class::InDoubt, true));
            }
            other => panic!("{} {other:?}", provider.name()),
        }
        assert!(fake.alive().is_empty(), "{}", provider.name());
        let End::Done(made) = talk(begin(*provider, fresh()), fake.as_mut()) else {
            panic!("{}", provider.name());
        };
        let End::Done(adopted) = talk(begin(*provider, adopt), fake.as_mut()) else {
            panic!("{}", provider.name());
        };
        assert_eq!(adopted, made);
    }
}

#[test]
fn refreshes_go_to_the_token_endpoint_without_a_bearer() {
    let client = OAuthClient {
        id: "id".into(),
        secret: Secret::new(format!("{CANARY}-secret")),
    };
    for provider in all() {
        let request = provider.refresh(&endpoints(), &client, &token());
        assert_eq!(request.url, endpoints().token_url);
        assert!(!matches!(request.auth, Auth::Bearer(_)));
        assert!(!format!("{request:?}").contains(CANARY));
    }
}

#[test]
fn a_flow_that_is_over_or_fed_nonsense_sends_nothing() {
    for provider in all() {
        let mut over = begin(*provider, fresh());
        // An answer to nothing.
        let step = over.next(answer(200, serde_json::json!({})), now());
        assert!(matches!(step, Step::Failed(_)));
        for _ in 0..3 {
            assert!(matches!(over.next(Event::Go, now()), Step::Failed(_)));
        }
        // Woken while a request is under way, whose outcome is then unknown.
        let mut woken = begin(*provider, fresh());
        assert!(matches!(woken.next(Event::Go, now()), Step::Send(_)));
        match woken.next(Event::Go, now()) {
            Step::Failed(failure) => assert!(failure.may_exist),
            other => panic!("{other:?}"),
        }
    }
}
