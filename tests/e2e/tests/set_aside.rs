//! A row of the application that cannot even be read costs its own session the link, and nobody
//! else theirs; the operators hear of it.

#[path = "support/life.rs"]
mod life;
#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_simulator::{Options, Provider};
use notices::{notices as all, wait_for, wait_until_resolved};
use support::Witness;
use uuid::Uuid;

/// The status is an enum, one of whose labels is lost, as after a torn upgrade: its rows raise.
const LABELS: &str = "
    CREATE TYPE phase AS ENUM ('SCHEDULED', 'JOIN_OPEN', 'COMPLETED_ASSUMED', 'CANCELLED', 'ODD');
    ALTER TABLE sessions DROP CONSTRAINT sessions_status_check, ALTER status DROP DEFAULT,
      ALTER status TYPE phase USING status::phase, ALTER status SET DEFAULT 'SCHEDULED';
    CREATE TABLE lost AS SELECT * FROM pg_enum WHERE enumlabel = 'ODD'";
const LOSE: &str = "DELETE FROM pg_enum WHERE enumlabel = 'ODD'";
const FIND: &str = "INSERT INTO pg_enum SELECT * FROM lost";

fn start() -> App {
    let app = App::unattached(Options::default(), |options| options);
    app.cluster.psql(DATABASE, LABELS);
    app.attach();
    app
}

/// Sessions that cannot be read any more, queued while the worker is away.
fn unreadable(app: &App, count: usize) -> Vec<Uuid> {
    let (tutor, student) = (
        app.tutor(Provider::Zoom, "Zoe"),
        app.person("student", "Sam"),
    );
    app.cluster.psql(DATABASE, "SELECT meetlink_pause()");
    life::wait_for_no_worker(&app.cluster, DATABASE, SOON);
    let sessions: Vec<Uuid> = (0..count).map(|_| app.book(tutor, student)).collect();
    app.cluster.psql(
        DATABASE,
        "UPDATE sessions SET status = 'ODD' WHERE join_url IS NULL",
    );
    app.cluster.psql(DATABASE, LOSE);
    app.cluster.psql(DATABASE, "SELECT meetlink_resume()");
    sessions
}

fn set_aside(app: &App, session: Uuid) {
    app.wait_until(
        "a session that is set aside",
        &format!(
            "SELECT EXISTS (SELECT FROM meetlink.queue WHERE session_id = '{session}'
                AND state = 'failed' AND reason = 'session_unfit')"
        ),
    );
}

#[test]
fn rows_that_cannot_be_read_are_told_to_the_operators_once_until_they_can() {
    let app = start();
    let witness = Witness::new(&app, Provider::Google);
    witness.still_served(&app);
    let mark = app.cluster.log_mark();
    let sessions = unreadable(&app, 3);
    for session in &sessions {
        set_aside(&app, *session);
    }
    let notice = wait_for(&app, "the operators to be told", |n| {
        n.reason == "session_unfit"
    });
    assert_eq!((notice.kind.as_str(), notice.tutor), ("operator", None));
    assert!(notice.message.contains("meetlink.queue"), "{notice:?}");
    // The words of whatever raised are inside the database for those who may read the queue.
    assert!(!notice.message.contains("enum"), "{notice:?}");
    let log = app.cluster.log_from(mark);
    for session in &sessions {
        let line = format!("session {session}: set aside, its row cannot be read");
        assert_eq!(log.matches(&line).count(), 1, "{log}");
    }
    let bad = "SELECT string_agg(check_name, ' ' ORDER BY check_name) FROM meetlink_health()
                WHERE NOT ok AND check_name IN ('connections', 'failed', 'operator')";
    assert_eq!(app.value::<String>(bad), "connections failed operator");
    // Other people's links are no cure.
    witness.still_served(&app);
    assert_eq!(all(&app).len(), 1, "{:?}", all(&app));
    assert!(!all(&app)[0].resolved);

    app.cluster.psql(DATABASE, FIND);
    app.cluster.psql(
        DATABASE,
        &format!(
            "UPDATE sessions SET status = 'SCHEDULED' WHERE id = '{}'",
            sessions[0]
        ),
    );
    // Mended where the trigger sees it: nobody asks. As long as others are left, it is not over.
    app.wait_for_link(sessions[0]);
    assert!(!all(&app)[0].resolved);
    app.cluster.psql(
        DATABASE,
        "UPDATE sessions SET status = 'SCHEDULED' WHERE status = 'ODD'",
    );
    for session in &sessions {
        app.wait_for_link(*session);
    }
    assert_eq!(wait_until_resolved(&app).len(), 1);
}

/// Its tutor is known from before, and is told too.
#[test]
fn a_row_that_can_no_longer_be_read_is_told_to_its_tutor_as_well() {
    let app = start();
    let (tutor, session, _) = notices::parked(&app, "Ned");
    app.cluster
        .psql(DATABASE, "UPDATE sessions SET status = 'ODD'");
    app.wait_until(
        "it to be over",
        "SELECT NOT EXISTS (SELECT FROM meetlink.queue)",
    );
    app.cluster.psql(DATABASE, LOSE);
    app.cluster.psql(
        DATABASE,
        "UPDATE sessions SET scheduled_start_at = scheduled_start_at + interval '1 min'",
    );
    set_aside(&app, session);
    let failed = wait_for(&app, "the tutor to be told", |n| n.kind == "failed");
    assert_eq!(
        (failed.tutor, failed.session),
        (Some(tutor.0), Some(session))
    );
    wait_for(&app, "the operators to be told", |n| n.kind == "operator");
    app.cluster.psql(DATABASE, FIND);
    app.cluster
        .psql(DATABASE, "UPDATE sessions SET status = 'CANCELLED'");
    wait_until_resolved(&app);
}
