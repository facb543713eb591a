//! Finding a Zoom meeting again whose answer was lost, and not doubting without a reason.

#[path = "support/prov.rs"]
mod support;

use chrono::{Duration, Utc};
use meetlink_e2e::app::App;
use meetlink_simulator::{Action, Call, Options, Provider, Rule, Simulator};
use serde_json::json;
use support::{call, classes, count, creates};

fn lose_the_next_answer(app: &App) {
    let lost = Rule::once(Provider::Zoom, Call::Create, Action::ResetAfterEffect);
    app.simulator.fault(lost);
}

/// The search goes through every page, and leaves other people's meetings alone.
#[test]
fn a_lost_meeting_is_found_among_many() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let zoe = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
    let url = format!("{}/users/me/meetings", app.simulator.zoom_api_url());
    for number in 0..330 {
        let start = Utc::now() + Duration::minutes(number);
        let meeting = json!({"topic": "another", "type": 2, "duration": 60, "agenda": "meetlink:",
                             "start_time": start.format("%Y-%m-%dT%H:%M:%SZ").to_string()});
        assert_eq!(
            call(&app.simulator, "POST", &url, &zoe, Some(&meeting)),
            201
        );
    }
    app.simulator.clear_journal();
    lose_the_next_answer(&app);
    let session = app.book(tutor, student);
    let link = app.wait_for_link(session);
    assert_eq!(creates(&app, Provider::Zoom, "Zoe").len(), 1);
    assert_eq!(count(&app, Provider::Zoom, Call::List), 2);
    let meetings = app.simulator.meetings(Provider::Zoom);
    assert_eq!(meetings.len(), 331);
    let newest = meetings.last().and_then(|m| m.join_url.clone());
    assert_eq!(newest.as_deref(), Some(link.as_str()));
}

/// A meeting with the session's marker that the tutor has made of it by copying is surplus only if
/// it is not the tutor's own: of two with the marker one stays, and the session has its link.
#[test]
fn of_two_meetings_of_one_session_one_stays() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let zoe = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
    app.cluster.psql("app", "SELECT meetlink_pause()");
    let session = app.book(tutor, student);
    let url = format!("{}/users/me/meetings", app.simulator.zoom_api_url());
    let start = Utc::now() + Duration::hours(1);
    let meeting = json!({"topic": "a double", "type": 2, "duration": 50,
                         "agenda": format!("meetlink:{session}"),
                         "start_time": start.format("%Y-%m-%dT%H:%M:%SZ").to_string()});
    assert_eq!(
        call(&app.simulator, "POST", &url, &zoe, Some(&meeting)),
        201
    );
    lose_the_next_answer(&app);
    app.cluster.psql("app", "SELECT meetlink_resume()");
    let link = app.wait_for_link(session);
    let left = app.simulator.meetings(Provider::Zoom);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].join_url.as_deref(), Some(link.as_str()));
}

/// The list cannot be read for a while: the doubt lasts, and nothing is sent twice.
#[test]
fn doubt_outlives_trouble_on_the_way_to_its_answer() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    lose_the_next_answer(&app);
    for action in [
        Action::ServerError { status: 503 },
        Action::NotJson { effect: false },
        Action::Html { status: 200 },
        Action::ResetBeforeRequest,
    ] {
        app.simulator
            .fault(Rule::once(Provider::Zoom, Call::List, action));
    }
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(creates(&app, Provider::Zoom, "Zoe").len(), 1);
    assert_eq!(count(&app, Provider::Zoom, Call::List), 5);
    assert_eq!(app.simulator.meetings_ever(Provider::Zoom).len(), 1);
    assert!(classes(&app, session).len() >= 6);
}

/// A connection that was kept open and that the provider has closed meanwhile is no lost answer.
#[test]
fn a_kept_connection_that_the_provider_closed_raises_no_doubt() {
    let mut app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    let zoe = app.simulator.account(Provider::Zoom, "Zoe").expect("Zoe");
    app.wait_for_link(app.book(tutor, student));
    let listen = app.simulator.address();
    app.simulator = Simulator::start(Options::default()).expect("in between");
    let options = Options {
        listen,
        ..Options::default()
    };
    app.simulator = Simulator::start(options).expect("the same address again");
    let spec = meetlink_simulator::AccountSpec {
        access_token: Some(zoe.access_token),
        refresh_token: Some(zoe.refresh_token),
        ..meetlink_simulator::AccountSpec::named("Zoe")
    };
    app.simulator.add_account(Provider::Zoom, spec);
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    assert_eq!(classes(&app, session), ["made"]);
}
