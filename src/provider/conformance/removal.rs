//! Removing meetings, whatever happens on the way.

use super::kit::*;
use super::{Fake, fake, talk};
use crate::domain::failure::Class;
use crate::provider::http::{Fault, Method, Reached};
use crate::provider::{Event, Flow, Known, Provider, Step, all};

fn remove(provider: &dyn Provider, known: Known) -> Box<dyn Flow> {
    provider.remove(&endpoints(), token(), wish().session_id, known)
}

fn made(provider: &dyn Provider, fake: &mut dyn Fake) -> String {
    match talk(begin(provider, fresh()), fake) {
        End::Done(meeting) => meeting.external_id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_meeting_that_is_known_or_in_doubt_is_removed_and_a_second_time_is_no_failure() {
    for provider in all() {
        for known in ["id", "doubt", "both"] {
            let mut fake = fake(*provider, 0);
            let id = made(*provider, fake.as_mut());
            let known = match known {
                "id" => known_id(&id),
                "doubt" => in_doubt(5),
                _ => Known {
                    may_exist_since: in_doubt(5).may_exist_since,
                    ..known_id(&id)
                },
            };
            let in_doubt = known.may_exist_since.is_some();
            let end = talk(remove(*provider, known.clone()), fake.as_mut());
            // Where an id is known and another meeting in doubt, absence has to settle first.
            let settled = matches!(end, End::Removed);
            assert!(
                settled || known.external_id.is_some() && in_doubt,
                "{end:?}"
            );
            assert!(fake.alive().is_empty(), "{}", provider.name());
            let late = Known {
                may_exist_since: known.may_exist_since.map(|t| t - SETTLE),
                ..known
            };
            let end = talk(remove(*provider, late), fake.as_mut());
            assert!(matches!(end, End::Removed), "{end:?}");
        }
    }
}

#[test]
fn what_was_never_made_is_believed_to_be_absent_only_after_the_settling_time() {
    for provider in all() {
        let mut fake = fake(*provider, 0);
        match talk(remove(*provider, in_doubt(5)), fake.as_mut()) {
            End::Failed(failure) => {
                assert_eq!((failure.class, failure.may_exist), (Class::InDoubt, true));
                assert_eq!(
                    failure.retry_after,
                    Some(SETTLE - std::time::Duration::from_secs(5))
                );
            }
            other => panic!("{other:?}"),
        }
        let end = talk(remove(*provider, in_doubt(9_999)), fake.as_mut());
        assert!(matches!(end, End::Removed), "{end:?}");
    }
}

/// A gateway says 404 of anything: what may exist is neither forgotten nor made a second time.
#[test]
fn a_page_of_somebody_elses_is_no_proof_that_a_meeting_is_gone() {
    for provider in all() {
        for status in [404, 410] {
            for body in [
                "<html>no such page</html>",
                "",
                "{}",
                r#"{"error":"not found"}"#,
            ] {
                let mut fake = fake(*provider, 0);
                let id = made(*provider, fake.as_mut());
                for known in [known_id(&id), in_doubt(5), in_doubt(9_999)] {
                    let label = format!("{} {status} {body} {known:?}", provider.name());
                    let doubt = known.may_exist_since.is_some();
                    for flow in [
                        remove(*provider, known.clone()),
                        begin(*provider, known.clone()),
                    ] {
                        let talk = run(flow, vec![Event::Answer(text(status, body))]);
                        let failure = talk.failed();
                        assert!(failure.may_exist || !doubt, "{label}: {failure:?}");
                        assert_eq!(talk.sent.len(), 1, "{label}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_removal_changes_nothing_but_by_deletes_and_survives_a_loss_at_every_request() {
    for provider in all() {
        for lost_at in 0..4 {
            for reached in [Reached::No, Reached::Maybe] {
                let mut fake = fake(*provider, 0);
                made(*provider, fake.as_mut());
                let mut attempts = 0;
                let mut requests = 0;
                loop {
                    let mut flow = remove(*provider, in_doubt(5));
                    let mut event = Event::Go;
                    let removed = loop {
                        event = match flow.next(event, now()) {
                            Step::Send(request) => {
                                assert!(matches!(request.method, Method::Get | Method::Delete));
                                requests += 1;
                                if reached == Reached::Maybe || requests - 1 != lost_at {
                                    let answer = fake.serve(&request, now());
                                    if requests - 1 == lost_at {
                                        broken(reached, Fault::Reset)
                                    } else {
                                        Event::Answer(answer)
                                    }
                                } else {
                                    broken(reached, Fault::Reset)
                                }
                            }
                            Step::Removed => break true,
                            Step::Failed(failure) => {
                                assert!(failure.may_exist, "{failure:?}");
                                break false;
                            }
                            other => panic!("{other:?}"),
                        };
                    };
                    attempts += 1;
                    // A delete that arrived leaves nothing to be found: that has to settle.
                    if removed || fake.alive().is_empty() || attempts > 3 {
                        break;
                    }
                }
                assert!(fake.alive().is_empty(), "{} {lost_at}", provider.name());
            }
        }
    }
}
