//! Many sessions booked at once, and the time until the last link.

use std::time::{Duration, Instant, SystemTime};

use super::contender::Working;
use super::progress::Progress;
use super::stage::{Stage, TUTORS};

/// Without a further link for so long, a run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// Makes bookings that are not confirmed yet, for days after all that there are but those that wait
/// for another (waiting.rs): what earlier bursts left is not looked through for what is missing.
pub fn propose(stage: &Stage, sessions: usize) {
    stage
        .app
        .client()
        .execute(
            "INSERT INTO bookings (tutor_id, student_id, confirmed_start_at, confirmed_end_at)
             SELECT ('00000000-0000-4000-8000-' || lpad((1 + n % $2)::text, 12, '0'))::uuid, $3,
                    last + n * interval '1 s', last + interval '1 hour' + n * interval '1 s'
               FROM generate_series(1, $1::bigint) n,
                    (SELECT COALESCE(max(confirmed_start_at), now() + interval '1 day') AS last
                       FROM bookings WHERE confirmed_start_at < now() + interval '20 days') b",
            &[&(sessions as i64), &(TUTORS as i64), &stage.student],
        )
        .expect("bookings are made");
}

/// Confirms all of them in one transaction; seconds from its COMMIT to the last link, looked for
/// every 5 ms. NaN when links stay away.
pub fn confirm(stage: &Stage, working: &Working, sessions: usize) -> f64 {
    let mut client = stage.app.client();
    let mut watcher = stage.app.client();
    // Links are made soonest session first: backwards through the index, a look ends at once while
    // there is something left.
    watcher
        .batch_execute(
            "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off",
        )
        .expect("settings");
    let missing = watcher
        .prepare(
            "SELECT true FROM sessions
              WHERE scheduled_start_at >= $1 AND scheduled_start_at < now() + interval '20 days'
                AND join_url IS NULL
              ORDER BY scheduled_start_at DESC LIMIT 1",
        )
        .expect("a look");
    let first: SystemTime = watcher
        .query_one(
            "SELECT min(confirmed_start_at) FROM bookings WHERE status = 'PENDING'",
            &[],
        )
        .expect("a look")
        .get(0);
    let had = stage.sessions_with_link();
    let mut transaction = client.transaction().expect("a transaction");
    transaction
        .batch_execute("UPDATE bookings SET status = 'CONFIRMED' WHERE status = 'PENDING'")
        .expect("bookings are confirmed");
    transaction.commit().expect("the bookings commit");
    let begun = Instant::now();
    let mut progress = Progress::new();
    let (mut links, mut grew) = (0, begun);
    loop {
        let left = watcher.query_opt(&missing, &[&first]).expect("a look");
        let took = begun.elapsed().as_secs_f64();
        if left.is_none() {
            return took;
        }
        progress.tell(|| {
            let now = stage.sessions_with_link() - had;
            if now > links {
                (links, grew) = (now, Instant::now());
            }
            format!("{now} of {sessions} links")
        });
        if grew.elapsed() > PATIENCE {
            println!(
                "no link for {} s: this run does not count\n{}",
                PATIENCE.as_secs(),
                working.complaints()
            );
            return f64::NAN;
        }
        std::thread::sleep(LOOK);
    }
}
