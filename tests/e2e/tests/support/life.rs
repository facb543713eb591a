//! What the tests of the database side share.

// Each test file uses some of it.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meetlink_e2e::app::{App, Person, name_of};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::Provider;
use postgres::{Client, NoTls};
use uuid::Uuid;

/// The application's tables, for databases besides the one that [`App`] makes.
pub const REFERENCE_APP: &str = include_str!("../../../../sql/reference_app.sql");

/// Sessions of a tutor and a student in one statement, without the application's trigger: their
/// bookings stay PENDING. They start in an hour, and each a second after the other.
pub fn seed(
    client: &mut Client,
    people: (Person, Person),
    provider: Provider,
    n: i32,
) -> Vec<Uuid> {
    let rows = client
        .query(
            "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                        SELECT $1, $2 FROM generate_series(1, $4) RETURNING id)
             INSERT INTO sessions (booking_id, tutor_id, student_id, provider, scheduled_start_at,
                                   scheduled_end_at, duration_minutes)
             SELECT id, $1, $2, $3, t, t + interval '50 minutes', 50
               FROM (SELECT id, now() + interval '1 hour' + row_number() OVER () * interval '1 s' AS t
                       FROM b) x
             RETURNING id",
            &[&people.0.0, &people.1.0, &name_of(provider), &n],
        )
        .expect("sessions are inserted");
    rows.iter().map(|row| row.get(0)).collect()
}

/// One of them.
pub fn seed_one(client: &mut Client, people: (Person, Person), provider: Provider) -> Uuid {
    seed(client, people, provider, 1)[0]
}

/// Whether a session is known to the queue, looked at or not.
pub fn is_queued(client: &mut Client, session: Uuid) -> bool {
    client
        .query_one(
            "SELECT EXISTS (SELECT FROM meetlink.inbox WHERE session_id = $1)
                 OR EXISTS (SELECT FROM meetlink.jobs WHERE session_id = $1)",
            &[&session],
        )
        .expect("the queue is there")
        .get(0)
}

/// A connection that keeps the notices and warnings that it is sent, with their hints.
pub fn listening(cluster: &Cluster, database: &str) -> (Client, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&notices);
    let mut config = cluster.config(database, "postgres");
    config.notice_callback(move |notice| {
        let text = format!(
            "{}: {} HINT: {}",
            notice.severity(),
            notice.message(),
            notice.hint().unwrap_or_default()
        );
        kept.lock().expect("nobody panicked").push(text);
    });
    (config.connect(NoTls).expect("a connection"), notices)
}

/// SQLSTATE, message and hint of a refusal.
pub fn refusal<T>(result: Result<T, postgres::Error>) -> (String, String, String) {
    let error = result.err().expect("it is refused");
    let error = error
        .as_db_error()
        .unwrap_or_else(|| panic!("not an error of the server: {error:?}"));
    let hint = error.hint().unwrap_or_default().to_owned();
    (
        error.code().code().to_owned(),
        error.message().to_owned(),
        hint,
    )
}

/// Pid of a database's worker as the server lists its processes.
pub fn worker_of(cluster: &Cluster, database: &str) -> Option<i32> {
    cluster
        .connect("postgres", "postgres")
        .query_opt(
            "SELECT pid FROM pg_stat_activity
              WHERE backend_type = 'meetlink worker' AND datname = $1",
            &[&database],
        )
        .expect("one worker at most")
        .map(|row| row.get(0))
}

/// Waits for a database's worker to be there, and to have looked around.
pub fn wait_for_worker(cluster: &Cluster, database: &str) -> i32 {
    wait::until(
        Duration::from_secs(5),
        &format!("a worker in {database}"),
        || worker_of(cluster, database),
    )
}

/// Waits until a database has no worker.
pub fn wait_for_no_worker(cluster: &Cluster, database: &str, deadline: Duration) {
    wait::until_true(deadline, &format!("{database} to have no worker"), || {
        worker_of(cluster, database).is_none()
    });
}

/// Pid of the launcher.
pub fn launcher(cluster: &Cluster) -> Option<i32> {
    cluster
        .connect("postgres", "postgres")
        .query_opt(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'meetlink launcher'",
            &[],
        )
        .expect("one launcher at most")
        .map(|row| row.get(0))
}

/// Waits until so many sessions have their links, all different.
pub fn wait_for_links(app: &App, n: i64, deadline: Duration) {
    let mut client = app.client();
    wait::until_true(deadline, &format!("{n} links"), || {
        let query = "SELECT count(DISTINCT join_url) FROM sessions";
        client
            .query_one(query, &[])
            .is_ok_and(|row| row.get::<_, i64>(0) == n)
    });
}

/// A session's link, if it is there.
pub fn link(client: &mut Client, session: Uuid) -> Option<String> {
    client
        .query_one("SELECT join_url FROM sessions WHERE id = $1", &[&session])
        .expect("the session is there")
        .get(0)
}
