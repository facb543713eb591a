//! A wake is never lost, also while the worker waits for a lock.

use std::time::{Duration, Instant};

use meetlink_e2e::app::App;
use meetlink_simulator::{Latency, Provider};

/// Postgres waits for a lock on the same latch that a booking sets, and resets it: the worker must
/// not take that for having looked.
#[test]
fn a_booking_made_while_the_worker_waits_for_a_lock_gets_its_link() {
    // The alarms that a wait for a lock leaves behind set the latch, too, and bring a lost wake back
    // by accident: the deadlock detector's, and after 2 s that of the worker's own lock_timeout.
    let app = App::with(|options| options.set("deadlock_timeout", "60s"));
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
    // No condition tells that the wait for the lock has reset the latch; it does so at once.
    std::thread::sleep(Duration::from_millis(100));
    lock.rollback().expect("the lock is given back");
    let free = Instant::now();

    app.wait_for_link(first);
    app.wait_for_link(second);
    let took = free.elapsed();
    assert!(took < Duration::from_millis(1_500), "only after {took:?}");
}
