//! The database side stands in the way of a link that is made: deadlocks, serialization failures,
//! triggers that raise. The meeting is kept, the link is written when it can be, and no request is
//! sent twice.

#[path = "support/life.rs"]
mod life;
#[path = "support/prov.rs"]
mod support;

use std::time::{Duration, Instant};

use life::link;
use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{self, Google, Zoom};
use meetlink_simulator::{Action, Call, Rule};
use support::{Witness, assert_plain, count};
use uuid::Uuid;

const BOTH: [Provider; 2] = [Google, Zoom];

/// A booked session whose request is under way, and answered in a third of a second.
fn under_way(app: &App, provider: Provider) -> Uuid {
    let tutor = app.tutor(provider, &format!("{provider:?}"));
    let student = app.person("student", "Sam");
    let slow = Action::Delay { ms: 300 };
    app.simulator
        .fault(Rule::once(provider, Call::Create, slow));
    let session = app.book(tutor, student);
    wait::until_true(SOON, "a request", || {
        app.simulator.in_flight(provider).now == 1
    });
    session
}

/// One meeting, one request that made it.
fn assert_made_once(app: &App, provider: Provider) {
    assert_eq!(
        app.simulator.meetings_ever(provider).len(),
        1,
        "{provider:?}"
    );
    assert_eq!(count(app, provider, Call::Create), 1, "{provider:?}");
}

/// The application holds a session and wants a table that the worker's write-back has touched by
/// then, through a trigger: each waits for the other. The application is never the victim.
#[test]
fn in_a_deadlock_with_the_application_the_worker_gives_way() {
    for provider in BOTH {
        // Long enough for a stop by the detector to be told from the worker's giving way.
        let app = App::with(|options| options.set("deadlock_timeout", "1s"));
        let mut client = app.client();
        client
            .batch_execute(
                "CREATE TABLE audit (id int PRIMARY KEY, seen int NOT NULL);
                 INSERT INTO audit VALUES (1, 0);
                 GRANT ALL ON audit TO PUBLIC;
                 CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN UPDATE public.audit SET seen = seen + 1 WHERE id = 1; RETURN NULL; END $$;
                 -- Before the row itself is locked.
                 CREATE TRIGGER audited BEFORE UPDATE ON sessions
                   FOR EACH STATEMENT EXECUTE FUNCTION audited();",
            )
            .expect("an audit");
        let session = under_way(&app, provider);
        // Holds the session, so that the worker takes the audit's row and waits.
        let mut holder = app.client();
        let mut person = holder.transaction().expect("a transaction");
        person
            .execute("SELECT FROM sessions WHERE id = $1 FOR UPDATE", &[&session])
            .expect("the session is locked");
        wait::until_true(SOON, "the answer", || {
            app.simulator.in_flight(provider).now == 0
        });
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity a
                                     WHERE backend_type = 'meetlink worker'
                                       AND wait_event_type = 'Lock')";
        wait::until_true(SOON, "the worker to wait for the session", || {
            client.query_one(waits, &[]).is_ok_and(|row| row.get(0))
        });
        let begun = Instant::now();
        person
            .execute("UPDATE audit SET seen = seen + 1 WHERE id = 1", &[])
            .expect("the application is not the victim");
        let waited = begun.elapsed();
        assert!(waited < Duration::from_millis(900), "waited for {waited:?}");
        person.commit().expect("the application commits");
        app.wait_for_link(session);
        assert_made_once(&app, provider);
        assert!(
            !app.cluster.log().contains("deadlock detected"),
            "the application's"
        );
    }
}

/// Two sessions whose links are written in one transaction, against an application that locks them
/// in the other order.
#[test]
fn sessions_locked_in_the_other_order_cost_the_application_nothing() {
    let app = App::start();
    let witness = Witness::new(&app, Zoom);
    let (tutor, student) = (app.tutor(Google, "Ann"), app.person("student", "Sam"));
    let slow = Action::Delay { ms: 200 };
    app.simulator
        .fault(Rule::always(Google, Call::Create, slow));
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut client = app.client();
            let mut done = 0;
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                client
                    .batch_execute(
                        "DO $$ DECLARE s record; BEGIN
                           FOR s IN SELECT id FROM sessions ORDER BY random() LOOP
                             UPDATE sessions SET updated_at = now() WHERE id = s.id;
                           END LOOP; PERFORM pg_sleep(0.02); END $$",
                    )
                    .expect("the application is never the victim");
                done += 1;
            }
            done
        });
        let sessions = support::book_many(&app, tutor, student, 30);
        for session in sessions {
            app.wait_for_link(session);
        }
        over.store(true, std::sync::atomic::Ordering::Release);
        let done = busy.join().expect("the application goes on");
        assert!(done >= 5, "{done} transactions only");
    });
    assert_eq!(app.simulator.meetings_ever(Google).len(), 30);
    assert_eq!(count(&app, Google, Call::Create), 30);
    witness.still_served(&app);
}

/// A trigger of the application's raises a serialization failure, a deadlock, a lock that is not to
/// be had: a few times each, as they come. Nothing of that uses the job's attempts up.
#[test]
fn passing_errors_of_the_write_back_are_outlived() {
    for provider in BOTH {
        for state in ["40001", "40P01", "55P03", "57014", "53100"] {
            // Fewer attempts than failures.
            let app = App::with(|options| options.set("meetlink.max_attempts", "2"));
            app.cluster.psql(
                "app",
                &format!(
                    "CREATE SEQUENCE tries;
                     GRANT USAGE ON SEQUENCE tries TO PUBLIC;
                     CREATE FUNCTION fussy() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN
                       IF nextval('public.tries') <= 4 THEN
                         RAISE EXCEPTION 'not now' USING ERRCODE = '{state}';
                       END IF;
                       RETURN NEW;
                     END $$;
                     CREATE TRIGGER fussy BEFORE UPDATE OF join_url ON sessions
                       FOR EACH ROW EXECUTE FUNCTION fussy();"
                ),
            );
            let tutor = app.tutor(provider, "Ann");
            let session = app.book(tutor, app.person("student", "Sam"));
            app.wait_for_link(session);
            assert_eq!(
                app.value::<i64>("SELECT last_value FROM tries"),
                5,
                "{state}"
            );
            assert_made_once(&app, provider);
            assert_eq!(count(&app, provider, Call::Any), 1, "{state}");
        }
    }
}

/// A trigger that never lets the link in: the meeting is kept, the session waits with a reason, its
/// neighbours have their links, and no request is sent again, however long it takes.
#[test]
fn a_trigger_that_raises_for_ever_keeps_the_meeting_and_never_asks_again() {
    let app = App::with(|options| {
        options
            .set("meetlink.max_attempts", "2")
            .set("meetlink.backoff_max", "200ms")
    });
    app.cluster.psql(
        "app",
        "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN RAISE 'the application''s own words'; END$$;
         CREATE TRIGGER never BEFORE UPDATE OF join_url ON sessions
           FOR EACH ROW WHEN (NEW.duration_minutes = 50 AND NEW.meeting_external_id IS NOT NULL)
           EXECUTE FUNCTION never();",
    );
    let student = app.person("student", "Sam");
    for provider in BOTH {
        let tutor = app.tutor(provider, &format!("{provider:?}"));
        let session = app.book(tutor, student);
        app.wait_until(
            "many vain tries",
            &format!(
                "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE session_id = '{session}'
                                AND setbacks >= 8)"
            ),
        );
        let status = app.status(session);
        assert_eq!(status["state"], "retrying", "{status}");
        assert_plain(&status);
        assert_made_once(&app, provider);
        assert_eq!(count(&app, provider, Call::Any), 1);
        let kept: bool = app.value(&format!(
            "SELECT join_url IS NOT NULL AND last_error ~ 'own words' FROM meetlink.jobs
              WHERE session_id = '{session}'"
        ));
        assert!(
            kept,
            "the meeting is in meetlink's own table, with the reason"
        );
    }
    app.cluster.psql("app", "DROP TRIGGER never ON sessions");
    app.wait_until(
        "both links",
        "SELECT count(DISTINCT join_url) = 2 FROM sessions",
    );
    for provider in BOTH {
        assert_eq!(count(&app, provider, Call::Any), 1);
    }
}

/// The link of a meeting that is kept is written by the next worker as well.
#[test]
fn a_link_that_could_not_be_written_outlives_worker_and_server() {
    let mut app = App::start();
    let session = under_way(&app, Zoom);
    let mut person = app.client();
    person
        .batch_execute(&format!(
            "BEGIN; SELECT FROM sessions WHERE id = '{session}' FOR UPDATE"
        ))
        .expect("the session is locked");
    app.wait_until(
        "a write-back that failed",
        "SELECT EXISTS (SELECT FROM meetlink.jobs WHERE reason = 'write_back')",
    );
    app.cluster.crash();
    app.cluster.start_again();
    app.wait_for_link(session);
    assert!(link(&mut app.client(), session).is_some());
    assert_made_once(&app, Zoom);
}
