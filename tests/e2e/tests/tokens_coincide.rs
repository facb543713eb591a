//! What ends in the same moment: a refresh, and an attempt that needs one. The worker is kept from
//! looking by a slow trigger of the application, so that it finds both at once.

use meetlink_e2e::app::{App, DATABASE, Person};
use meetlink_simulator::Provider::Google;
use meetlink_simulator::{Action, Call, Rule};

/// An application whose links of one tutor's sessions take so long to be written; that tutor, another
/// one, and a student.
fn slow(seconds: f64) -> (App, [Person; 3]) {
    let app = App::start();
    let student = app.person("student", "Sam");
    let [slow, other] = ["Dan", "Zoe"].map(|name| app.tutor(Google, name));
    for tutor in [slow, other] {
        app.wait_for_link(app.book(tutor, student));
    }
    app.cluster.psql(
        DATABASE,
        &format!(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.tutor_id = '{}' AND NEW.join_url IS DISTINCT FROM OLD.join_url THEN
                 PERFORM pg_sleep({seconds});
               END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER dawdle BEFORE UPDATE ON sessions
               FOR EACH ROW EXECUTE FUNCTION dawdle()",
            slow.0
        ),
    );
    (app, [slow, other, student])
}

/// One answer that comes so much later.
fn late(call: Call, ms: u64) -> Rule {
    Rule::always(Google, call, Action::Delay { ms }).times(1)
}

#[test]
fn a_refresh_and_a_refused_token_that_end_together_leave_nobody_waiting() {
    let (app, [dan, zoe, student]) = slow(2.5);
    let account = app.simulator.account(Google, "Zoe").expect("an account");
    app.simulator.expire_access_tokens(&account);
    // The first of two is refused at once, the second while the refresh for the first goes on.
    for rule in [
        late(Call::Create, 1_600).account("Zoe").skip(1),
        late(Call::Token, 1_200),
        late(Call::Create, 500).account("Dan"),
    ] {
        app.simulator.fault(rule);
    }
    let sessions = [(zoe, student), (zoe, student), (dan, student)];
    for session in sessions.map(|(tutor, student)| app.book(tutor, student)) {
        app.wait_for_link(session);
    }
    app.simulator.expire_access_tokens(&account);
    app.wait_for_link(app.book(zoe, student));
}

#[test]
fn a_session_that_comes_while_a_refresh_fails_does_not_wait_for_it() {
    let (app, [dan, zoe, student]) = slow(1.5);
    app.cluster.psql(
        DATABASE,
        &format!(
            "UPDATE tutor_video_provider_connections SET token_expires_at = now() - interval '1 h'
              WHERE tutor_id = '{}'",
            zoe.0
        ),
    );
    app.wait_until(
        "it to be seen",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    let down = Action::ServerError { status: 503 };
    for rule in [
        late(Call::Token, 1_000),
        Rule::always(Google, Call::Token, down).times(1),
        late(Call::Create, 300).account("Dan"),
    ] {
        app.simulator.fault(rule);
    }
    let mut sessions = vec![app.book(zoe, student), app.book(dan, student)];
    // Dan's link is being written, and holds the worker up.
    app.wait_until(
        "the worker to be held up",
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')",
    );
    sessions.push(app.book(zoe, student));
    for session in sessions {
        app.wait_for_link(session);
    }
    assert_eq!(app.simulator.meetings_ever(Google).len(), 5);
}
