//! What is too old goes, a little at a time, and nothing else does.

#[path = "support/notices.rs"]
mod notices;
#[path = "support/prov.rs"]
mod support;

use std::time::Duration;

use meetlink_e2e::app::{App, DATABASE, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::{Google, Zoom};
use notices::parked;
use support::Witness;

/// Keeps a record of what is deleted from a table: a row a statement.
fn watch(app: &App, table: &str) {
    app.cluster.psql(
        DATABASE,
        &format!(
            "CREATE TABLE public.batches (rows bigint, xid bigint DEFAULT txid_current());
             CREATE FUNCTION public.count_gone() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               INSERT INTO public.batches SELECT count(*) FROM gone HAVING count(*) > 0;
               RETURN NULL;
             END $$;
             CREATE TRIGGER count_gone AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
               FOR EACH STATEMENT EXECUTE FUNCTION public.count_gone();"
        ),
    );
}

/// Lines of the ledger of sessions that are long over; their numbers are the smaller the older.
fn old_attempts(app: &App, count: u32, age: &str) {
    app.cluster.psql(
        DATABASE,
        &format!(
            "INSERT INTO meetlink.attempts (id, session_id, number, started_at, ended_at, class, error)
             OVERRIDING SYSTEM VALUE
             SELECT n - extract(epoch FROM interval '{age}')::bigint * 1000, gen_random_uuid(), 1, now() - interval '{age}', now() - interval '{age}',
                    'retry', 'The past.'
               FROM generate_series(1, {count}) n"
        ),
    );
}

/// An application whose worker has had the look that it begins with: none but a reload starts another.
fn start() -> App {
    let app = App::start();
    Witness::new(&app, Zoom).still_served(&app);
    app
}

fn count(app: &App, what: &str) -> i64 {
    app.value(&format!("SELECT count(*) FROM meetlink.{what}"))
}

#[test]
fn old_attempts_go_in_small_batches_while_work_goes_on() {
    let mut app = start();
    let witness = Witness::new(&app, Google);
    watch(&app, "meetlink.attempts");
    old_attempts(&app, 2_500, "100 days");
    old_attempts(&app, 300, "80 days");
    witness.still_served(&app);
    // A reload starts a look.
    app.cluster.reload();
    app.wait_until("a first batch", "SELECT count(*) > 0 FROM public.batches");
    witness.still_served(&app);
    assert!(count(&app, "attempts") > 310, "all of it went at once");
    app.wait_until(
        "the old ones to be gone",
        "SELECT NOT EXISTS (SELECT FROM meetlink.attempts
                             WHERE ended_at < now() - interval '90 days')",
    );
    let batches = "SELECT count(DISTINCT xid), max(rows), sum(rows) FROM public.batches";
    assert_eq!(app.cluster.psql(DATABASE, batches), "3|1000|2500");
    assert_eq!(count(&app, "attempts WHERE error = 'The past.'"), 300);
    assert_eq!(count(&app, "attempts WHERE class = 'made'"), 3);
}

#[test]
fn the_setting_says_how_long_attempts_are_kept_and_0_keeps_them_all() {
    let mut app = start();
    old_attempts(&app, 10, "100 days");
    old_attempts(&app, 10, "2 days");
    old_attempts(&app, 10, "2 hours");
    let marker = |app: &App| {
        app.cluster.psql(
            DATABASE,
            "INSERT INTO meetlink.notifications (kind, reason, message, created_at, resolved_at)
             VALUES ('operator', 'key_missing', 'Past.', now() - interval '1 year',
                     now() - interval '1 year')",
        );
    };
    let looked = "SELECT NOT EXISTS (SELECT FROM meetlink.notifications)";
    // What else is too old shows that the look has been.
    marker(&app);
    app.cluster.set("meetlink.keep_attempts", "0");
    app.wait_until("a look", looked);
    let past = "attempts WHERE error = 'The past.'";
    assert_eq!(count(&app, past), 30);
    marker(&app);
    app.cluster.set("meetlink.keep_attempts", "1d");
    app.wait_until("a look", looked);
    assert_eq!(count(&app, past), 10);
    marker(&app);
    app.cluster.set("meetlink.keep_attempts", "60");
    app.wait_until("a look", looked);
    assert_eq!(count(&app, past), 0);
}

#[test]
fn notifications_go_that_are_resolved_and_old_with_their_deliveries() {
    let mut app = start();
    let (_, _, open) = parked(&app, "Ned");
    app.wait_until(
        "its row",
        "SELECT bool_and(due_at IS NULL) FROM meetlink.deliveries",
    );
    app.cluster.psql(
        DATABASE,
        "UPDATE meetlink.notifications SET created_at = now() - interval '1 year';
         INSERT INTO meetlink.notifications
                (kind, tutor_id, session_id, reason, message, created_at, resolved_at)
         SELECT 'failed', gen_random_uuid(), gen_random_uuid(), 'request_refused', a.age,
                now() - interval '1 year', now() - a.age::interval
           FROM (VALUES ('100 days'), ('80 days'), ('2 hours')) a(age), generate_series(1, 5);
         INSERT INTO meetlink.deliveries (notification_id, channel, delivered_at)
         SELECT id, 'application', now() FROM meetlink.notifications ON CONFLICT DO NOTHING;",
    );
    assert_eq!(count(&app, "deliveries"), 16);
    app.cluster.reload();
    app.wait_until(
        "the old ones to be gone",
        "SELECT NOT EXISTS (SELECT FROM meetlink.notifications WHERE message = '100 days')",
    );
    assert_eq!(
        (count(&app, "notifications"), count(&app, "deliveries")),
        (11, 11)
    );
    app.cluster.set("meetlink.keep_notifications", "1h");
    app.wait_until(
        "all that is over",
        "SELECT count(*) = 1 FROM meetlink.notifications",
    );
    // However old: nobody has mended it.
    let left: i64 = app.value("SELECT id FROM meetlink.notifications WHERE resolved_at IS NULL");
    assert_eq!(left, open.id);

    let mark = "INSERT INTO meetlink.notifications (kind, reason, message, resolved_at)
                VALUES ('operator', 'key_missing', 'Past.', now() - interval '9 years')";
    app.cluster.set("meetlink.keep_notifications", "0");
    app.cluster.psql(DATABASE, mark);
    old_attempts(&app, 1, "100 days");
    app.cluster.reload();
    app.wait_until(
        "a look",
        "SELECT NOT EXISTS (SELECT FROM meetlink.attempts WHERE error = 'The past.')",
    );
    assert_eq!(count(&app, "notifications"), 2);
}

/// Counters of monitoring never go back, also for somebody who looks in the middle of it.
#[test]
fn old_tallies_are_added_up_and_the_counters_do_not_change() {
    let mut app = start();
    Witness::new(&app, Google).still_served(&app);
    app.wait_until(
        "two links to be counted",
        "SELECT sum(count) = 2 FROM meetlink.tallies WHERE what = 'link' AND grain = 'hour'",
    );
    let hours = "INSERT INTO meetlink.tallies
             SELECT 'hour', date_trunc('hour', now()) - (744 + n) * interval '1 hour', p.provider,
                    w.what, w.bucket, n, CASE w.what WHEN 'link' THEN n / 4.0 ELSE 0 END
               FROM generate_series(2, 301) n,
                    (VALUES ('google_meet'), ('zoom')) p(provider),
                    (VALUES ('session', 0), ('link', 100), ('link', 120), ('made', 0)) w(what, bucket)";
    let minutes = "INSERT INTO meetlink.tallies
         SELECT 'minute', date_trunc('minute', now()) - n * interval '1 minute', 'zoom', 'made', 0, 1, 0
           FROM generate_series(5, 1504) n ON CONFLICT DO NOTHING";
    let counters = "SELECT string_agg(name || labels || value, ' ' ORDER BY name, labels::text)
                      FROM meetlink.metrics
                     WHERE name LIKE '%\\_total' OR name LIKE 'meetlink\\_link\\_seconds%'";
    let old = "SELECT count(*) FROM meetlink.tallies WHERE grain = 'hour' AND since > '-infinity'
                  AND since < now() - interval '744 hours'";
    // The second time they are added to what was folded before.
    let mut client = app.client();
    let mut last = String::new();
    for round in 1..=2 {
        app.cluster.psql(DATABASE, hours);
        app.cluster.psql(DATABASE, minutes);
        let before: String = app.value(counters);
        assert_ne!(before, last, "counters that count");
        app.cluster.reload();
        let mut looks = 0;
        wait::until_true(
            Duration::from_secs(30),
            "the old hours to be folded",
            || {
                let now: String = client.query_one(counters, &[]).expect("counters").get(0);
                assert_eq!(now, before, "after {looks} looks of round {round}");
                looks += 1;
                client
                    .query_one(old, &[])
                    .expect("a count")
                    .get::<_, i64>(0)
                    == 0
            },
        );
        let folded: i64 =
            app.value("SELECT count(*) FROM meetlink.tallies WHERE since = '-infinity'");
        assert_eq!(folded, 8, "a row for each provider, thing and bucket");
        app.wait_until(
            "old minutes to be gone",
            "SELECT count(*) BETWEEN 170 AND 182 FROM meetlink.tallies
              WHERE grain = 'minute' AND since < date_trunc('minute', now()) - interval '4 min'",
        );
        last = before;
    }
}

/// A batch that fails, for somebody holds the table, costs no link.
#[test]
fn a_ledger_that_cannot_be_trimmed_now_stops_no_links() {
    let mut app = start();
    let witness = Witness::new(&app, Zoom);
    old_attempts(&app, 10, "100 days");
    app.cluster.psql(
        DATABASE,
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'not now'; END $$;
         CREATE TRIGGER refuse BEFORE DELETE ON meetlink.attempts
           FOR EACH STATEMENT EXECUTE FUNCTION public.refuse();",
    );
    app.cluster.reload();
    for _ in 0..2 {
        witness.still_served(&app);
    }
    app.cluster
        .psql(DATABASE, "DROP TRIGGER refuse ON meetlink.attempts");
    app.cluster.reload();
    wait::until_true(SOON, "the old ones to be gone", || {
        count(&app, "attempts WHERE error = 'The past.'") == 0
    });
}
