//! What Google and Zoom do in their own ways, and what is stored of it.

#[path = "support/prov.rs"]
mod support;

use chrono::{DateTime, Timelike, Utc};
use meetlink_e2e::app::App;
use meetlink_simulator::{Action, Call, Conference, Provider, Rule};
use serde_json::{Value, json};
use support::{assert_no_secrets, call, count, dump, ledger};
use uuid::Uuid;

/// The stored columns of a session that meetlink writes: link, external id, provider.
fn stored(app: &App, session: Uuid) -> (String, String, String) {
    let row = app.client().query_one(
        "SELECT join_url, meeting_external_id, provider FROM sessions
          WHERE id = $1 AND meeting_created_at IS NOT NULL",
        &[&session],
    );
    let row = row.expect("a session with a meeting");
    (row.get(0), row.get(1), row.get(2))
}

fn event_url(app: &App, id: &str) -> String {
    format!(
        "{}/calendars/primary/events/{id}",
        app.simulator.google_api_url()
    )
}

/// Takes a session's link away, as an application does whose user says that it does not work.
fn empty(app: &App, session: Uuid) {
    let done = app.client().execute(
        "UPDATE sessions SET join_url = NULL, meeting_external_id = NULL WHERE id = $1",
        &[&session],
    );
    assert_eq!(done.expect("an update"), 1);
}

#[test]
fn a_pending_conference_is_polled_until_it_is_there() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    app.simulator.set_conference(Conference::PendingForMs(500));
    let session = app.book(tutor, student);
    let link = app.wait_for_link(session);
    let made = app.simulator.meetings(Provider::Google);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].join_url.as_deref(), Some(link.as_str()));
    assert_eq!(count(&app, Provider::Google, Call::Create), 1);
    let polls = count(&app, Provider::Google, Call::Get);
    assert!((1..=6).contains(&polls), "{polls} polls in half a second");
    // Waiting for Google is not an attempt of its own.
    let attempts = ledger(&app, session);
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(attempts[0].class, "made");
}

#[test]
fn a_conference_that_failed_is_asked_for_under_a_new_id() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    app.simulator.set_conference(Conference::FailureThenSuccess);
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    let id = |entry: &meetlink_simulator::Entry| {
        entry.body["conferenceData"]["createRequest"]["requestId"].to_string()
    };
    let inserts = app.simulator.calls(Provider::Google, Call::Insert);
    let patches = app.simulator.calls(Provider::Google, Call::Patch);
    assert_eq!((inserts.len(), patches.len()), (1, 1));
    assert_ne!(id(&inserts[0]), id(&patches[0]));
    assert!(patches[0].query.contains("conferenceDataVersion=1"));
    assert_eq!(app.simulator.meetings(Provider::Google).len(), 1);
}

#[test]
fn a_conference_that_goes_on_failing_is_tried_again_later_in_the_same_event() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "4"));
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    app.simulator.set_conference(Conference::Failure);
    let session = app.book(tutor, student);
    let attempts = support::wait_for_attempts(&app, session, 2);
    assert_eq!(attempts[0].class, "retry");
    app.simulator.set_conference(Conference::Immediate);
    app.wait_for_link(session);
    assert_eq!(app.simulator.meetings_ever(Provider::Google).len(), 1);
}

#[test]
fn an_event_that_exists_already_is_adopted() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let ann = app.simulator.account(Provider::Google, "Ann").expect("Ann");
    app.cluster.psql("app", "SELECT meetlink_pause()");
    let session = app.book(tutor, student);
    // As an earlier installation left it: the id is taken, the time is another, and there is no
    // conference yet.
    let id = format!("ml{}g0", session.simple());
    let start = Utc::now() + chrono::Duration::hours(30);
    let at = |time: DateTime<Utc>| json!({"dateTime": time.to_rfc3339()});
    let event = json!({"id": id, "summary": "kept", "start": at(start),
                       "end": at(start + chrono::Duration::hours(1))});
    let url = event_url(&app, "").trim_end_matches('/').to_owned();
    assert_eq!(call(&app.simulator, "POST", &url, &ann, Some(&event)), 200);
    app.simulator.clear_journal();
    app.cluster.psql("app", "SELECT meetlink_resume()");
    app.wait_for_link(session);

    let statuses: Vec<_> = app
        .simulator
        .calls(Provider::Google, Call::Insert)
        .iter()
        .map(|entry| entry.status)
        .collect();
    assert_eq!(statuses, [Some(409)]);
    let made = app.simulator.meetings(Provider::Google);
    assert_eq!((made.len(), made[0].id.as_str()), (1, id.as_str()));
    assert_eq!(stored(&app, session).1, id);
    let text = made[0].body["start"]["dateTime"].as_str().expect("a start");
    let moved: DateTime<Utc> = text.parse().expect("a time");
    assert!(moved < start, "the event is put to the session's time");
}

#[test]
fn an_event_that_its_tutor_deleted_gets_a_successor() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let ann = app.simulator.account(Provider::Google, "Ann").expect("Ann");
    let session = app.book(tutor, student);
    let first = app.wait_for_link(session);
    for generation in 1..=2 {
        let (_, id, _) = stored(&app, session);
        let gone = call(&app.simulator, "DELETE", &event_url(&app, &id), &ann, None);
        assert_eq!(gone, 204);
        empty(&app, session);
        app.wait_until(
            "the session to have a link again",
            &format!("SELECT join_url IS NOT NULL FROM sessions WHERE id = '{session}'"),
        );
        let (url, id, _) = stored(&app, session);
        assert_eq!(id, format!("ml{}g{generation}", session.simple()));
        assert_ne!(url, first);
        assert_eq!(app.simulator.meetings(Provider::Google).len(), 1);
    }
}

#[test]
fn a_link_that_was_emptied_comes_back_without_a_second_meeting() {
    let app = App::start();
    let student = app.person("student", "Sam");
    for provider in [Provider::Google, Provider::Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        let before = stored(&app, session);
        empty(&app, session);
        app.wait_until(
            "the session to have a link again",
            &format!("SELECT join_url IS NOT NULL FROM sessions WHERE id = '{session}'"),
        );
        assert_eq!(stored(&app, session), before);
        assert_eq!(app.simulator.meetings_ever(provider).len(), 1);
    }
}

#[test]
fn zooms_id_is_kept_whole_and_its_hosts_link_is_kept_nowhere() {
    let app = App::with(|options| options.set("log_min_messages", "debug1"));
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    // The first answer is lost, so that the meeting is read from the list and by its id as well.
    app.simulator.fault(Rule::once(
        Provider::Zoom,
        Call::Create,
        Action::ResetAfterEffect,
    ));
    for session in [app.book(tutor, student), app.book(tutor, student)] {
        app.wait_for_link(session);
        let (url, id, provider) = stored(&app, session);
        assert!(
            id.parse::<i64>().expect("a number") > i64::from(u32::MAX),
            "{id}"
        );
        assert!(
            app.simulator
                .meetings(Provider::Zoom)
                .iter()
                .any(|m| m.id == id)
        );
        assert!(url.contains("/j/"), "{url}");
        assert_eq!(provider, "zoom");
    }
    let (dumped, log) = (dump(&app.cluster), app.cluster.log());
    assert!(dumped.contains("/j/"), "the dump holds the sessions");
    for sign in ["start_url", "zak="] {
        assert!(!dumped.contains(sign), "{sign} is in the database");
        assert!(!log.contains(sign), "{sign} is in the log");
    }
    assert_no_secrets(&app, &[(Provider::Zoom, "Zoe")]);
}

/// Times reach the providers in UTC, whatever the clocks of server and application are set to.
#[test]
fn a_meeting_is_at_the_sessions_time_whatever_the_servers_time_zone() {
    let app = App::with(|options| options.set("timezone", "Asia/Kathmandu"));
    let student = app.person("student", "Sam");
    for provider in [Provider::Google, Provider::Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let session = app.book(tutor, student);
        app.wait_for_link(session);
        let row = app.client().query_one(
            "SELECT scheduled_start_at, scheduled_end_at FROM sessions WHERE id = $1",
            &[&session],
        );
        let row = row.expect("a session");
        let (start, end): (DateTime<Utc>, DateTime<Utc>) = (row.get(0), row.get(1));
        let start = start.with_nanosecond(0).expect("whole seconds");
        let body = app.simulator.meetings(provider)[0].body.clone();
        let time = |value: &Value| value.as_str().expect("a time").parse::<DateTime<Utc>>();
        match provider {
            Provider::Google => {
                assert_eq!(time(&body["start"]["dateTime"]), Ok(start));
                let end = end.with_nanosecond(0).expect("whole seconds");
                assert_eq!(time(&body["end"]["dateTime"]), Ok(end));
                assert_eq!(body["start"]["timeZone"], "UTC");
            }
            Provider::Zoom => {
                assert_eq!(time(&body["start_time"]), Ok(start));
                let minutes = (end - start).num_minutes();
                assert_eq!(body["duration"], json!(minutes), "{body}");
                assert_eq!(
                    (&body["timezone"], &body["type"]),
                    (&json!("UTC"), &json!(2))
                );
                assert!(!app.simulator.meetings(provider)[0].instant);
            }
        }
    }
}

#[test]
fn names_of_every_kind_make_a_title() {
    let app = App::start();
    let long = "é".repeat(300);
    let names = [
        r#"Seán "Quote" O'Brien \ $1 %s"#,
        "山田 太郎 🎓 נועה",
        "Two\nLines\tand\u{7}more",
        long.as_str(),
        "'; DROP TABLE sessions; --",
    ];
    for provider in [Provider::Google, Provider::Zoom] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        for name in names {
            let known = app.simulator.meetings(provider).len();
            let student = app.person("student", name);
            app.wait_for_link(app.book(tutor, student));
            let made = app.simulator.meetings(provider);
            assert_eq!(made.len(), known + 1);
            let newest = made.last().expect("a meeting");
            let field = match provider {
                Provider::Google => "summary",
                Provider::Zoom => "topic",
            };
            let title = newest.body[field].as_str().expect("a title");
            assert!(
                title.chars().count() <= 200 && !title.contains('\n'),
                "{title}"
            );
            let start: String = name
                .chars()
                .take_while(|c| !c.is_control())
                .take(100)
                .collect();
            assert!(title.contains(&start), "{title} lacks {start}");
        }
    }
}

#[test]
fn the_ledger_tells_what_happened_in_order() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Google, "Ann");
    let busy = Action::ServerError { status: 503 };
    app.simulator
        .fault(Rule::always(Provider::Google, Call::Insert, busy).times(2));
    let before = Utc::now();
    let session = app.book(tutor, student);
    app.wait_for_link(session);
    let attempts = ledger(&app, session);
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt.number as usize, index + 1);
        assert_eq!(attempt.provider.as_deref(), Some("google_meet"));
        assert!(before <= attempt.started_at && attempt.started_at <= attempt.ended_at);
        assert!(attempt.ended_at <= Utc::now());
    }
    assert!(attempts[1].started_at >= attempts[0].ended_at);
    for failed in &attempts[..2] {
        assert_eq!((failed.class.as_str(), failed.status), ("retry", Some(503)));
        let error = failed.error.as_deref().expect("an error");
        assert!(!error.contains("Backend Error"), "{error}");
    }
    let made = &attempts[2];
    assert_eq!((made.class.as_str(), made.error.as_deref()), ("made", None));
    assert_eq!(app.status(session)["attempts"], 3);
}

/// The session is moved while the first answer is lost: the meeting that was made all the same is
/// put to the new time.
#[test]
fn a_session_that_moves_under_way_has_its_meeting_at_the_new_time() {
    let app = App::with(|options| options.set("meetlink.backoff_base", "1s"));
    let student = app.person("student", "Sam");
    for (provider, waiting) in [(Provider::Google, "retrying"), (Provider::Zoom, "in_doubt")] {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        app.simulator
            .fault(Rule::once(provider, Call::Create, Action::ResetAfterEffect));
        let session = app.book(tutor, student);
        app.wait_for_state(session, waiting);
        let moved = app.client().query_one(
            "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 day',
                                 scheduled_end_at = scheduled_end_at + interval '1 day'
              WHERE id = $1 RETURNING scheduled_start_at",
            &[&session],
        );
        let start: DateTime<Utc> = moved.expect("the session moves").get(0);
        app.wait_for_link(session);
        let made = app.simulator.meetings_ever(provider);
        assert_eq!(made.len(), 1);
        let text = match provider {
            Provider::Google => &made[0].body["start"]["dateTime"],
            Provider::Zoom => &made[0].body["start_time"],
        };
        let at: DateTime<Utc> = text.as_str().expect("a start").parse().expect("a time");
        assert_eq!(Some(at), start.with_nanosecond(0));
    }
}
