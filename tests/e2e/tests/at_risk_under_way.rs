//! `meetlink.at_risk` while people wait in front of a session that has begun without its link.

#[path = "support/life.rs"]
mod life;

use life::seed_one;
use meetlink_e2e::app::{App, Person};
use meetlink_simulator::Provider::Zoom;
use meetlink_simulator::{Action, Call, Rule};
use uuid::Uuid;

/// A session, queued as if it were to come, at these times from now.
fn book_at(app: &App, people: (Person, Person), start: &str, end: &str) -> Uuid {
    let session = seed_one(&mut app.client(), people, Zoom);
    set_times(app, session, start, end);
    session
}

fn set_times(app: &App, session: Uuid, start: &str, end: &str) {
    let moved = app.client().execute(
        &format!(
            "UPDATE sessions SET scheduled_start_at = now() + interval '{start}',
                                 scheduled_end_at = now() + interval '{end}' WHERE id = $1"
        ),
        &[&session],
    );
    assert_eq!(moved.expect("the session moves"), 1);
}

/// Sessions in the view's order.
fn shown(app: &App) -> Vec<Uuid> {
    let rows = app
        .client()
        .query("SELECT session_id FROM meetlink.at_risk", &[]);
    rows.expect("the view answers")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn a_session_that_has_begun_without_its_link_comes_first_until_it_ends() {
    let app = App::start();
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let never = Rule::always(Zoom, Call::Create, Action::ZoomCannotSchedule);
    let rule = app.simulator.fault(never);
    let coming = book_at(&app, people, "10 min", "1 h");
    let under_way = book_at(&app, people, "-10 min", "40 min");
    let long = book_at(&app, people, "-23 h", "1 h");
    let all = [coming, under_way, long];
    for session in all {
        app.wait_for_state(session, "failed");
    }
    let over = book_at(&app, people, "-2 h", "-1 h");
    app.wait_for_state(over, "not_needed");
    assert_eq!(shown(&app), [long, under_way, coming]);
    let row = app.client().query_one(
        "SELECT state, reason, who_acts FROM meetlink.at_risk WHERE session_id = $1",
        &[&under_way],
    );
    let row = row.expect("its row");
    let seen: [String; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(seen, ["failed", "request_refused", "operator"]);
    // It ends without a link: nobody waits in front of it any more.
    set_times(&app, long, "-23 h", "-1 min");
    assert_eq!(shown(&app), [under_way, coming]);
    app.simulator.remove_fault(rule);
    app.client()
        .batch_execute("SELECT meetlink_create_missing()")
        .expect("they are queued");
    for session in [coming, under_way] {
        app.wait_for_link(session);
    }
    assert_eq!(shown(&app).len(), 0);
}

/// It has its link: what becomes of the connection is of no use to those who are in it.
#[test]
fn a_session_under_way_with_its_link_is_at_no_risk() {
    let app = App::start();
    let people = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let under_way = book_at(&app, people, "-10 min", "40 min");
    let coming = book_at(&app, people, "10 min", "1 h");
    for session in [under_way, coming] {
        app.wait_for_link(session);
    }
    app.client()
        .batch_execute(
            "UPDATE tutor_video_provider_connections SET connection_status = 'needs_reauth'",
        )
        .expect("the connection ends");
    assert_eq!(shown(&app), [coming]);
}

/// A table of years is not gone through for a day: the index on the start bounds the look.
#[test]
fn the_look_at_sessions_under_way_is_bounded_by_the_index_on_their_start() {
    let app = App::start();
    let (tutor, student) = (app.tutor(Zoom, "Zoe"), app.person("student", "Sam"));
    let mut client = app.client();
    for statement in [
        "SET session_replication_role = replica",
        "SET stats_fetch_consistency = none",
    ] {
        client.batch_execute(statement).expect("a setting");
    }
    client
        .execute(
            "INSERT INTO sessions (booking_id, tutor_id, student_id, provider, status,
                                   scheduled_start_at, scheduled_end_at, duration_minutes)
             SELECT gen_random_uuid(), $1, $2, 'zoom', 'SCHEDULED', now() - interval '2 days' - n * interval '1 h',
                    now() + interval '1 h', 60 FROM generate_series(1, 20000) n",
            &[&tutor.0, &student.0],
        )
        .expect("years of sessions that nobody closed");
    client
        .batch_execute("VACUUM ANALYZE sessions")
        .expect("statistics");
    let mut read = || -> i64 {
        client
            .batch_execute("SELECT pg_stat_force_next_flush()")
            .expect("a flush");
        let row = client.query_one(
            "SELECT seq_tup_read + idx_tup_fetch, (SELECT count(*) FROM meetlink.at_risk)
               FROM pg_stat_user_tables WHERE relname = 'sessions'",
            &[],
        );
        let row = row.expect("the counts");
        assert_eq!(row.get::<_, i64>(1), 0);
        row.get(0)
    };
    // Each sees what the looks before it have read.
    let before = read();
    let rows = read() - before;
    assert!(rows < 100, "{rows} sessions were read for none");
}
