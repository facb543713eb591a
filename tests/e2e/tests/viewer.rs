//! What tutor and student read of a session: each in words for what they can do about it.

#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;
#[path = "support/viewing.rs"]
mod viewing;

use std::time::Duration;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, RateLimit, Rule};
use support::assert_plain;
use uuid::Uuid;
use viewing::{People, SETTING_UP, ask, claim, grant, start, words};

/// What everybody must get, whoever asks in whatever way: asserts it, and gives both texts.
#[track_caller]
fn both(app: &App, people: &People, session: Uuid, tutor: (&str, &str), student: (&str, &str)) {
    let own = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
    let asked = |who, viewer| {
        let status = ask(app, session, &claim(who), viewer).expect("a status");
        assert_plain(&status);
        words(&status)
    };
    assert_eq!(asked(people.tutor, None), own(tutor), "the tutor");
    assert_eq!(asked(people.tutor, Some("tutor")), own(tutor));
    assert_eq!(
        asked(people.tutor, Some("student")),
        own(student),
        "a preview"
    );
    for viewer in [None, Some("student"), Some("tutor")] {
        assert_eq!(
            asked(people.student, viewer),
            own(student),
            "the student as {viewer:?}"
        );
    }
    // Nobody known: as asked, and as the tutor if nothing is said.
    let nobody = |viewer| words(&ask(app, session, "", viewer).expect("a status"));
    assert_eq!(nobody(None), own(tutor));
    assert_eq!(nobody(Some("tutor")), own(tutor));
    assert_eq!(nobody(Some("student")), own(student));
    // Only one of them can do anything about it.
    for kind in ["retry", "connect", "reconnect"] {
        assert_ne!(student.1, kind, "the student's action");
    }
}

const BEING_MADE: &str = "The meeting link is being created.";
const LONGER: &str = "The meeting link takes a little longer; it will appear by itself.";
const GIVEN_UP: &str = "The meeting link could not be created; your tutor or support can help.";
const INTERRUPTED: &str = "Creating meeting links is interrupted; the support team has to mend \
                           it, and your link will follow by itself.";

/// A session of a new tutor whose requests are answered so.
fn meet(app: &App, provider: Provider, action: Action, state: &str) -> (People, Uuid) {
    let name = format!(
        "{provider:?} {}",
        app.value::<i64>("SELECT count(*) FROM profiles")
    );
    let people = People {
        tutor: app.tutor(provider, &name),
        student: app.person("student", "Sam"),
    };
    let rule = Rule::always(provider, Call::Create, action).account(&name);
    app.simulator.fault(rule);
    let session = app.book(people.tutor, people.student);
    app.wait_for_state(session, state);
    (people, session)
}

#[test]
fn while_a_link_is_made_and_when_it_is_there_both_read_the_same() {
    let app = start();
    let people = People {
        tutor: app.tutor(Google, "Gia"),
        student: app.person("student", "Sam"),
    };
    let slow = Action::Delay { ms: 900 };
    app.simulator.fault(Rule::once(Google, Call::Create, slow));
    let session = app.book(people.tutor, people.student);
    app.wait_for_state(session, "creating");
    both(&app, &people, session, (BEING_MADE, ""), (BEING_MADE, ""));
    app.wait_for_link(session);
    let ready = ("The meeting link is ready.", "join");
    both(&app, &people, session, ready, ready);
    let cancelled = "UPDATE sessions SET join_url = NULL, status = 'CANCELLED' WHERE id = $1";
    let changed = app.client().execute(cancelled, &[&session]);
    assert_eq!(changed.expect("it is cancelled"), 1);
    app.wait_for_state(session, "not_needed");
    let unneeded = ("This session does not need a meeting link.", "");
    both(&app, &people, session, unneeded, unneeded);
}

#[test]
fn what_waits_in_the_queue_is_pending_for_both() {
    let app = start();
    let people = People {
        tutor: app.tutor(Google, "Gia"),
        student: app.person("student", "Sam"),
    };
    app.client()
        .batch_execute("SELECT meetlink_pause()")
        .expect("a pause");
    life::wait_for_no_worker(&app.cluster, "app", Duration::from_secs(5));
    let session = app.book(people.tutor, people.student);
    assert_eq!(app.status(session)["state"], "pending");
    both(&app, &people, session, (BEING_MADE, ""), (BEING_MADE, ""));
}

#[test]
fn passing_trouble_is_the_tutors_to_hurry_and_the_students_to_await() {
    let app = start();
    let limit = |form| Action::RateLimit { form };
    for (provider, action, text) in [
        (
            Google,
            Action::ServerError { status: 503 },
            "Google Meet could not be reached; we will try again by ourselves.",
        ),
        (
            Google,
            limit(RateLimit::GoogleQuotaExceeded),
            "Google Meet allows no more meetings for this account just now; the link will be \
             created as soon as it does.",
        ),
        (
            Zoom,
            limit(RateLimit::ZoomDaily),
            "Zoom allows no more meetings for this account just now; the link will be created as \
             soon as it does.",
        ),
        (
            Google,
            limit(RateLimit::GoogleDailyLimitExceeded),
            "Google Meet is busy; the link will be created in a moment.",
        ),
    ] {
        let (people, session) = meet(&app, provider, action, "retrying");
        both(&app, &people, session, (text, "retry"), (LONGER, ""));
    }
}

#[test]
fn doubt_is_told_to_both_and_is_nobodys_to_end() {
    let app = start();
    let (people, session) = meet(&app, Zoom, Action::ServerError { status: 503 }, "in_doubt");
    let text = "Zoom has not confirmed the meeting; we are checking whether it exists.";
    both(&app, &people, session, (text, ""), (text, ""));
}

#[test]
fn what_the_tutor_must_do_is_the_tutors_business_alone() {
    let app = start();
    let unconnected = People {
        tutor: app.person("tutor", "Ned"),
        student: app.person("student", "Sam"),
    };
    let session = app.book(unconnected.tutor, unconnected.student);
    app.wait_for_state(session, "needs_action");
    let text = "Connect Google Meet or Zoom, and the meeting link is created by itself.";
    both(
        &app,
        &unconnected,
        session,
        (text, "connect"),
        (SETTING_UP, ""),
    );
    let scopes = Action::ZoomScopes {
        status: 400,
        code: 4711,
    };
    for (provider, action, text) in [
        (
            Zoom,
            scopes,
            "Connect Zoom again and allow it to create meetings.",
        ),
        (
            Google,
            Action::InsufficientPermissions,
            "Connect Google Meet again and allow it to create meetings.",
        ),
        (
            Google,
            Action::InvalidConferenceType,
            "This calendar cannot hold Google Meet meetings; connect another account.",
        ),
        (
            Zoom,
            Action::ZoomNoSuchUser,
            "Zoom does not let this account create meetings; connect another one.",
        ),
        (
            Zoom,
            Action::ZoomNotAllowed,
            "Zoom does not let this account create meetings; connect another one.",
        ),
        (
            Google,
            Action::Unauthorized,
            "The connection to Google Meet has ended; connect it again.",
        ),
    ] {
        let (people, session) = meet(&app, provider, action, "needs_action");
        both(
            &app,
            &people,
            session,
            (text, "reconnect"),
            (SETTING_UP, ""),
        );
    }
}

#[test]
fn what_the_operator_must_mend_is_told_to_both() {
    let app = start();
    let (tutor, _) = support::stale_tutor(&app, Zoom, "Zoe");
    let people = People {
        tutor,
        student: app.person("student", "Sam"),
    };
    app.simulator.set_client(Zoom, "another", "client");
    let session = app.book(people.tutor, people.student);
    app.wait_for_state(session, "retrying");
    both(
        &app,
        &people,
        session,
        (INTERRUPTED, "retry"),
        (INTERRUPTED, ""),
    );
}

#[test]
fn what_was_given_up_sends_the_student_to_people() {
    let app = App::with(|options| options.set("meetlink.max_attempts", "1"));
    grant(&app);
    let (people, session) = meet(&app, Zoom, Action::ZoomCannotSchedule, "failed");
    let text = "Zoom refuses to create this meeting; support can find out why.";
    let support = "contact_support";
    both(&app, &people, session, (text, support), (GIVEN_UP, support));
    let (people, session) = meet(&app, Google, Action::ServerError { status: 503 }, "failed");
    let text = "Google Meet could not create the meeting after several tries.";
    both(&app, &people, session, (text, "retry"), (GIVEN_UP, support));
}

#[test]
fn a_link_that_cannot_be_written_yet_will_appear_in_a_moment() {
    let app = start();
    let people = People {
        tutor: app.tutor(Google, "Gia"),
        student: app.person("student", "Sam"),
    };
    app.client()
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE OF join_url ON sessions
               FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .expect("a trigger that raises");
    let session = app.book(people.tutor, people.student);
    app.wait_for_state(session, "retrying");
    let tutor = "The meeting exists; its link will appear in a moment.";
    let student = "The meeting link will appear in a moment.";
    both(&app, &people, session, (tutor, "retry"), (student, ""));
}

/// As after a dump that was loaded without triggers, or by logical replication: no link is on its way.
#[test]
fn a_session_that_nobody_queued_is_not_said_to_be_under_way() {
    let app = start();
    let people = People {
        tutor: app.tutor(Google, "Gia"),
        student: app.person("student", "Sam"),
    };
    let row = app.client().query_one(
        "WITH silent AS MATERIALIZED (
           SELECT set_config('session_replication_role', 'replica', false)),
         b AS (INSERT INTO bookings (tutor_id, student_id) SELECT $1, $2 FROM silent RETURNING id)
         INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                               scheduled_end_at, duration_minutes)
         SELECT id, $1, $2, 'google_meet', now() + interval '1 h', now() + interval '2 h', 60 FROM b
         RETURNING id",
        &[&people.tutor.0, &people.student.0],
    );
    let session: Uuid = row.expect("a session").get(0);
    assert_eq!(app.status(session)["state"], "pending");
    let tutor = "The meeting link has not been asked for yet.";
    let student = "The meeting link has not been asked for yet; your tutor can ask for it.";
    both(&app, &people, session, (tutor, "retry"), (student, ""));
}

/// Nobody is told that a link is on its way in a copy, and a student even there nothing that is
/// the tutor's business.
#[test]
fn in_a_restored_copy_a_student_still_reads_what_a_student_can_use() {
    let app = start();
    let copy = "Meeting links are not created here: this is a restored copy of the database.";
    let (people, needs) = meet(&app, Zoom, Action::ZoomNotAllowed, "needs_action");
    let (others, failed) = meet(&app, Zoom, Action::ZoomCannotSchedule, "failed");
    let (third, waits) = meet(
        &app,
        Google,
        Action::ServerError { status: 503 },
        "retrying",
    );
    app.client()
        .batch_execute("UPDATE meetlink.home SET system = '1'")
        .expect("it is elsewhere");
    wait::until_true(SOON, "the copy to be noticed", || {
        app.status(waits)["message"] == copy
    });
    let student = |people: &People, session| {
        words(&ask(&app, session, &claim(people.student), None).expect("a status"))
    };
    assert_eq!(student(&third, waits), (copy.to_owned(), String::new()));
    for (people, session) in [(&people, needs), (&others, failed)] {
        let (message, kind) = student(people, session);
        assert!(
            !["connect", "reconnect", "retry"].contains(&kind.as_str()),
            "{message} {kind}"
        );
        assert!(!message.contains("onnect"), "{message}");
    }
}
