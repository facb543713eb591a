//! People fill in links by themselves while meetlink is at it: what is used stays, what is not goes.

#[path = "support/cases.rs"]
mod support;

use meetlink_e2e::app::{App, SOON, name_of};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{Action, Call, Rule};
use support::{BOTH, change, hold_up, in_doubt, jobs, quiet, under_way, wait_for_job};

const ANOTHER: &str = "UPDATE sessions SET join_url = 'https://teams.example/x',
                              meeting_external_id = 'x' WHERE id = $1";

#[test]
fn a_meeting_whose_session_has_another_link_by_then_is_removed() {
    let app = App::start();
    for provider in BOTH {
        let (_, session) = under_way(&app, provider, &format!("{provider:?}"));
        hold_up(&app, &mut app.client(), session, ANOTHER);
        app.wait_until(
            "it to be looked at",
            "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
        );
        quiet(&app);
        let left = app.simulator.meetings(provider).len();
        assert_eq!(left, 0, "{provider:?} {}", jobs(&app));
    }
}

/// A meeting in doubt was found by a person, who fills its link in: it is not removed, although
/// the session was cancelled in between.
#[test]
fn a_meeting_in_doubt_that_a_person_found_is_kept() {
    let app = App::start();
    for provider in BOTH {
        let session = in_doubt(&app, provider, &format!("{provider:?}"));
        let cancel = "UPDATE sessions SET status = 'CANCELLED' WHERE id = $1";
        change(&app, session, cancel);
        // Not while a removal is on its way: that one cannot be called back.
        let between = "wish = 'gone' AND due_at > clock_timestamp() + interval '0.4 s'";
        wait_for_job(&app, session, between);
        let meeting = app.simulator.meetings(provider)[0].clone();
        let opened = app.client().execute(
            "UPDATE sessions SET status = 'SCHEDULED', join_url = $2, meeting_external_id = $3
              WHERE id = $1",
            &[&session, &meeting.join_url, &meeting.id],
        );
        assert_eq!(opened.expect("it is opened again"), 1);
        app.simulator.clear_faults();
        quiet(&app);
        let left = app.simulator.meetings(provider).len();
        assert_eq!(left, 1, "{provider:?} {}", jobs(&app));
    }
}

/// The event is in the tutor's calendar before its answer is here; what the tutor copies from the
/// browser is not the link's exact text.
#[test]
fn our_own_link_in_other_words_is_ours() {
    let app = App::start();
    let tutor = app.tutor(Google, "Ann");
    let student = app.person("student", "Sam");
    let slowly = Action::SlowDrip { every_ms: 2 };
    app.simulator
        .fault(Rule::once(Google, Call::Create, slowly));
    let session = app.book(tutor, student);
    let link = wait::until(SOON, "the event", || {
        let meetings = app.simulator.meetings(Google);
        meetings.into_iter().find_map(|meeting| meeting.join_url)
    });
    let code = link.rsplit('/').next().expect("a code").to_owned();
    let pasted = format!("{link}?authuser=0");
    let done = app.client().execute(
        "UPDATE sessions SET join_url = $2, meeting_external_id = $3 WHERE id = $1",
        &[&session, &pasted, &code],
    );
    assert_eq!(done.expect("the link is pasted"), 1);
    wait_for_job(&app, session, "state NOT IN ('pending', 'creating')");
    quiet(&app);
    assert_eq!(app.simulator.meetings(Google).len(), 1, "{}", jobs(&app));
}

/// Writing a link takes no provider.
#[test]
fn a_kept_link_is_written_without_a_connection() {
    let app = App::start();
    for provider in BOTH {
        let (tutor, session) = under_way(&app, provider, &format!("{provider:?}"));
        let mut client = app.client();
        let mut open = client.transaction().expect("a transaction");
        let lock = "SELECT FROM sessions WHERE id = $1 FOR UPDATE";
        open.execute(lock, &[&session]).expect("the row");
        wait_for_job(&app, session, "reason = 'write_back'");
        app.client()
            .execute(
                "SELECT meetlink_disconnect($1, $2)",
                &[&tutor.0, &name_of(provider)],
            )
            .expect("the tutor disconnects");
        open.commit().expect("it commits");
        app.wait_for_link(session);
    }
}
