//! A session is given to another tutor before its link is there: one meeting is left, and none is
//! forgotten in the account of the tutor before.

#[path = "support/cases.rs"]
mod support;

use meetlink_e2e::app::{App, Person};
use meetlink_simulator::AccountSpec;
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Action, Call, Rule};
use support::{BOTH, change, hold_up, in_doubt, jobs, quiet, trouble, under_way, wait_for_job};
use uuid::Uuid;

fn give_to(tutor: Person) -> String {
    format!("UPDATE sessions SET tutor_id = '{}' WHERE id = $1", tutor.0)
}

/// Waits for the link; it leads to the only meeting.
fn one_meeting(app: &App, provider: meetlink_simulator::Provider, session: Uuid) {
    let link = app.wait_for_link(session);
    quiet(app);
    let meetings = app.simulator.meetings(provider);
    let links: Vec<_> = meetings.into_iter().map(|m| m.join_url).collect();
    assert_eq!(links, [Some(link)], "{provider:?} {}", jobs(app));
}

/// The booking application's transaction is open for a moment longer than the worker waits.
#[test]
fn while_the_answer_cannot_be_written() {
    let app = App::start();
    for provider in BOTH {
        let (_, session) = under_way(&app, provider, &format!("A {provider:?}"));
        let other = app.tutor(provider, &format!("B {provider:?}"));
        hold_up(&app, &mut app.client(), session, &give_to(other));
        one_meeting(&app, provider, session);
    }
}

#[test]
fn while_nobody_knows_whether_the_meeting_was_made() {
    let app = App::start();
    let session = in_doubt(&app, Zoom, "A");
    let other = app.tutor(Zoom, "B");
    change(&app, session, &give_to(other));
    app.simulator.clear_faults();
    one_meeting(&app, Zoom, session);
}

#[test]
fn together_with_another_time() {
    let app = App::start();
    for provider in BOTH {
        let (_, session) = under_way(&app, provider, &format!("A {provider:?}"));
        let other = app.tutor(provider, &format!("B {provider:?}"));
        let statement = format!(
            "UPDATE sessions SET tutor_id = '{}',
                    scheduled_start_at = scheduled_start_at + interval '1 day',
                    scheduled_end_at = scheduled_end_at + interval '1 day' WHERE id = $1",
            other.0
        );
        change(&app, session, &statement);
        one_meeting(&app, provider, session);
    }
}

#[test]
fn after_it_was_cancelled_and_before_the_removal() {
    let app = App::start();
    for provider in BOTH {
        let (_, session) = under_way(&app, provider, &format!("A {provider:?}"));
        let other = app.tutor(provider, &format!("B {provider:?}"));
        app.simulator
            .fault(Rule::always(provider, Call::Delete, trouble()));
        let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
        change(&app, session, cancel);
        wait_for_job(&app, session, "wish = 'gone' AND state = 'retrying'");
        let open = format!(
            "UPDATE sessions SET status = 'SCHEDULED', tutor_id = '{}' WHERE id = $1",
            other.0
        );
        change(&app, session, &open);
        app.simulator.clear_faults();
        one_meeting(&app, provider, session);
    }
}

/// The tutor before has left, and the provider no longer knows the account: the session does not
/// wait for a removal that can never be made.
#[test]
fn when_the_account_before_is_no_more() {
    let app = App::start();
    let session = in_doubt(&app, Zoom, "A");
    let other = app.tutor(Zoom, "B");
    app.simulator.clear_faults();
    app.simulator
        .fault(Rule::always(Zoom, Call::Any, Action::ZoomNoSuchUser).account("A"));
    change(&app, session, &give_to(other));
    app.wait_for_link(session);
}

/// Whoever teaches it is told, and is who lets it go on.
#[test]
fn to_a_tutor_who_connects_later() {
    let app = App::start();
    let session = in_doubt(&app, Zoom, "A");
    let other = app.person("tutor", "B");
    change(&app, session, &give_to(other));
    app.simulator.clear_faults();
    app.wait_for_state(session, "needs_action");
    let told: Vec<(Uuid, String)> = app
        .client()
        .query("SELECT tutor_id, kind FROM meetlink.notifications", &[])
        .expect("notifications")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(told, [(other.0, "connect".to_owned())]);
    app.connect(other, Zoom, AccountSpec::named("B"));
    one_meeting(&app, Zoom, session);
}

/// The link of whoever teaches by now waits for the removal as long as that: none is left behind.
#[test]
fn while_the_account_before_meets_a_limit_of_a_second() {
    let app = App::start();
    let (_, session) = under_way(&app, Zoom, "A");
    let other = app.tutor(Zoom, "B");
    let form = meetlink_simulator::RateLimit::ZoomPerSecond;
    let limit = Rule::once(Zoom, Call::Delete, Action::RateLimit { form });
    app.simulator.fault(limit);
    hold_up(&app, &mut app.client(), session, &give_to(other));
    one_meeting(&app, Zoom, session);
}
