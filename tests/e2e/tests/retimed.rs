//! A session is moved while its meeting is being made: it ends with one meeting, at the new time.

#[path = "support/prov.rs"]
mod support;

use chrono::{DateTime, Timelike, Utc};
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Meeting, Rule};
use support::count;
use uuid::Uuid;

const BOTH: [Provider; 2] = [Google, Zoom];

/// A session whose request is under way, and answered in a third of a second.
fn under_way(app: &App, provider: Provider) -> Uuid {
    let name = format!("{provider:?}");
    let tutor = app.tutor(provider, &name);
    let student = app.person("student", "Sam");
    let slow = Action::Delay { ms: 300 };
    let rule = app
        .simulator
        .fault(Rule::once(provider, Call::Create, slow).account(&name));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "the request", || app.simulator.fired(rule) == 1);
    session
}

/// Moves a session; gives its new times in whole seconds.
fn move_by(app: &App, session: Uuid, start: &str, end: &str) -> (DateTime<Utc>, DateTime<Utc>) {
    let row = app.client().query_one(
        &format!(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '{start}',
                                 scheduled_end_at = scheduled_end_at + interval '{end}'
              WHERE id = $1 RETURNING scheduled_start_at, scheduled_end_at"
        ),
        &[&session],
    );
    let row = row.expect("the session moves");
    let whole = |at: DateTime<Utc>| at.with_nanosecond(0).expect("whole seconds");
    (whole(row.get(0)), whole(row.get(1)))
}

/// When a meeting is, as far as its provider says: Zoom has a start and whole minutes.
fn times(meeting: &Meeting) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let at = |text: &serde_json::Value| text.as_str()?.parse::<DateTime<Utc>>().ok();
    match meeting.provider {
        Google => (
            at(&meeting.body["start"]["dateTime"]),
            at(&meeting.body["end"]["dateTime"]),
        ),
        Zoom => {
            let start = at(&meeting.body["start_time"]);
            let minutes = meeting.body["duration"].as_i64().unwrap_or(0);
            (start, start.map(|s| s + chrono::Duration::minutes(minutes)))
        }
    }
}

/// Waits until the session's one meeting is at a time and its link in the session.
fn ends_at(app: &App, provider: Provider, session: Uuid, at: (DateTime<Utc>, DateTime<Utc>)) {
    let wanted = (Some(at.0), Some(at.1));
    wait::until_true(SOON, &format!("the meeting to be at {wanted:?}"), || {
        app.simulator
            .meetings(provider)
            .iter()
            .any(|m| times(m) == wanted)
    });
    let link = app.wait_for_link(session);
    app.wait_until(
        "nothing left to do",
        "SELECT NOT EXISTS (SELECT FROM meetlink.queue)",
    );
    let ever = app.simulator.meetings_ever(provider);
    assert_eq!(ever.len(), 1, "{provider:?}");
    assert_eq!(times(&ever[0]), wanted, "{provider:?}");
    assert_eq!(ever[0].join_url, Some(link), "{provider:?}");
    assert_eq!(count(app, provider, Call::Create), 1, "{provider:?}");
}

#[test]
fn a_session_moved_while_its_meeting_is_made_has_it_at_the_new_time() {
    for provider in BOTH {
        for (start, end) in [
            ("1 day", "1 day"),
            // Longer, and shorter.
            ("0", "30 min"),
            ("10 min", "0"),
        ] {
            let app = App::start();
            let session = under_way(&app, provider);
            let at = move_by(&app, session, start, end);
            ends_at(&app, provider, session, at);
        }
    }
}

#[test]
fn a_session_moved_twice_while_its_meeting_is_made_has_it_at_the_last_time() {
    for provider in BOTH {
        let app = App::start();
        let session = under_way(&app, provider);
        move_by(&app, session, "1 day", "1 day");
        let slow = Action::Delay { ms: 300 };
        let rule = app.simulator.fault(Rule::once(provider, Call::Patch, slow));
        wait::until_true(SOON, "the first move", || app.simulator.fired(rule) == 1);
        let at = move_by(&app, session, "1 hour", "2 hours");
        ends_at(&app, provider, session, at);
    }
}

/// Moved there and back again: what was made is right.
#[test]
fn a_session_moved_and_moved_back_costs_nothing_more() {
    for provider in BOTH {
        let app = App::start();
        let session = under_way(&app, provider);
        move_by(&app, session, "1 day", "1 day");
        let at = move_by(&app, session, "-1 day", "-1 day");
        ends_at(&app, provider, session, at);
        assert_eq!(app.simulator.meetings(provider)[0].updates, 0);
    }
}

/// The server dies with the move under way: the link is there or comes, and the meeting moves.
#[test]
fn a_crash_between_link_and_move_loses_neither() {
    for provider in BOTH {
        for effect in [false, true] {
            let mut app = App::start();
            let session = under_way(&app, provider);
            let stall = Action::Stall { effect };
            let rule = app
                .simulator
                .fault(Rule::once(provider, Call::Patch, stall));
            let at = move_by(&app, session, "1 day", "1 day");
            wait::until_true(SOON, "the move", || app.simulator.fired(rule) == 1);
            app.cluster.crash();
            app.cluster.start_again();
            ends_at(&app, provider, session, at);
        }
    }
}

#[test]
fn a_move_that_fails_is_tried_again() {
    for provider in BOTH {
        let app = App::start();
        for action in [
            Action::ServerError { status: 503 },
            Action::ResetAfterEffect,
            Action::Unauthorized,
        ] {
            app.simulator
                .fault(Rule::once(provider, Call::Patch, action));
        }
        let session = under_way(&app, provider);
        let at = move_by(&app, session, "1 day", "1 day");
        ends_at(&app, provider, session, at);
    }
}

/// Moved by somebody who keeps the row locked for a while, so that the link cannot be written.
#[test]
fn a_session_moved_in_an_open_transaction_has_its_meeting_at_the_new_time() {
    for provider in BOTH {
        let app = App::start();
        let session = under_way(&app, provider);
        let mut client = app.client();
        let mut person = client.transaction().expect("a transaction");
        let row = person.query_one(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 day',
                                 scheduled_end_at = scheduled_end_at + interval '1 day'
              WHERE id = $1 RETURNING scheduled_start_at, scheduled_end_at",
            &[&session],
        );
        let row = row.expect("the session moves");
        let whole = |at: DateTime<Utc>| at.with_nanosecond(0).expect("whole seconds");
        let at = (whole(row.get(0)), whole(row.get(1)));
        app.wait_until(
            "a write-back that waits",
            "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE reason = 'write_back')",
        );
        person.commit().expect("the move commits");
        ends_at(&app, provider, session, at);
    }
}
