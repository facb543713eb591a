//! What listeners hear, and in which order.

use std::time::Duration;

use meetlink_e2e::app::{App, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Provider::Zoom;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use uuid::Uuid;

/// The states of a session in the order in which they are told, up to this one.
fn told(listener: &mut Client, session: Uuid, last: &str) -> Vec<String> {
    let mut states = Vec::new();
    wait::until_true(SOON, last, || {
        let mut all = listener.notifications();
        let mut new = all.timeout_iter(Duration::from_millis(50));
        while let Some(notification) = new.next().expect("notifications are read") {
            let event: serde_json::Value =
                serde_json::from_str(notification.payload()).expect("JSON");
            if event["session_id"] == session.to_string() {
                states.push(event["state"].as_str().expect("a state").to_owned());
            }
        }
        states.iter().any(|state| state == last)
    });
    states
}

/// Whoever shows what was told last shows what is.
#[test]
fn a_session_is_pending_before_it_is_anything_else() {
    let app = App::start();
    let student = app.person("student", "Sam");
    let connected = app.tutor(Zoom, "Zoe");
    let alone = app.person("tutor", "Ned");
    let mut listener = app.client();
    listener.batch_execute("LISTEN meetlink").expect("LISTEN");
    for _ in 0..3 {
        for (tutor, last) in [(connected, "ready"), (alone, "needs_action")] {
            let session = app.book(tutor, student);
            let states = told(&mut listener, session, last);
            assert_eq!(states, ["pending", last]);
        }
    }
}
