//! A wake is never lost, also while the worker waits for a lock.

use std::time::Duration;

use meetlink_e2e::app::App;
use meetlink_simulator::{Latency, Provider};

/// Postgres waits for a lock on the same latch that a booking sets, and resets it: the worker must
/// not take that for having looked.
#[test]
fn a_booking_made_while_the_worker_waits_for_a_lock_gets_its_link() {
    let app = App::start();
    let student = app.person("student", "Sam Student");
    let tutor = app.tutor(Provider::Google, "Greta Google");
    let slow = Latency {
        api_ms: 300,
        token_ms: 0,
    };
    app.simulator.set_latency(Provider::Google, slow);

    let first = app.book(tutor, student);
    let mut holder = app.client();
    let mut lock = holder.transaction().expect("a transaction");
    lock.batch_execute("LOCK TABLE meetlink.attempts IN EXCLUSIVE MODE")
        .expect("the ledger is locked");
    // The provider has answered, and the worker cannot write the attempt down.
    app.wait_until(
        "the worker to wait for the lock",
        "SELECT EXISTS (SELECT FROM pg_stat_activity
          WHERE backend_type = 'meetlink worker' AND wait_event_type = 'Lock')",
    );
    let second = app.book(tutor, student);
    // Long enough for the latch that the booking has set to be reset by the wait for the lock.
    app.client()
        .execute(
            "SELECT pg_sleep($1)",
            &[&Duration::from_millis(100).as_secs_f64()],
        )
        .expect("a moment passes");
    lock.rollback().expect("the lock is given back");

    app.wait_for_link(first);
    app.wait_for_link(second);
}
