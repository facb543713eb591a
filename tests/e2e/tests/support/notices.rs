//! Looking at notifications and at how far they got.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use meetlink_e2e::app::{App, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::{Action, Call, Provider, Rule};
use serde_json::Value;
use uuid::Uuid;

/// A row of `meetlink.notifications`.
#[derive(Clone, Debug)]
pub struct Notice {
    pub id: i64,
    pub tutor: Option<Uuid>,
    pub session: Option<Uuid>,
    pub kind: String,
    pub provider: Option<String>,
    pub reason: String,
    pub message: String,
    pub action: Option<Value>,
    pub delivered: bool,
    pub resolved: bool,
}

/// All of them, oldest first.
pub fn notices(app: &App) -> Vec<Notice> {
    let rows = app.client().query(
        "SELECT id, tutor_id, session_id, kind, provider, reason, message, action,
                delivered_at IS NOT NULL, resolved_at IS NOT NULL
           FROM meetlink.notifications ORDER BY id",
        &[],
    );
    rows.expect("the notifications")
        .iter()
        .map(|row| Notice {
            id: row.get(0),
            tutor: row.get(1),
            session: row.get(2),
            kind: row.get(3),
            provider: row.get(4),
            reason: row.get(5),
            message: row.get(6),
            action: row.get(7),
            delivered: row.get(8),
            resolved: row.get(9),
        })
        .collect()
}

/// Those of one tutor.
pub fn of(app: &App, tutor: Person) -> Vec<Notice> {
    let mut found = notices(app);
    found.retain(|notice| notice.tutor == Some(tutor.0));
    found
}

/// Waits for a notification that fits.
#[track_caller]
pub fn wait_for(app: &App, what: &str, fits: impl Fn(&Notice) -> bool) -> Notice {
    wait::until(SOON, what, || notices(app).into_iter().find(&fits))
}

/// Waits until nothing is open any more; gives all there ever were.
#[track_caller]
pub fn wait_until_resolved(app: &App) -> Vec<Notice> {
    wait::until(SOON, "every notification to be resolved", || {
        let found = notices(app);
        found.iter().all(|notice| notice.resolved).then_some(found)
    })
}

/// How far a notification got on one way.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whether it is still to be tried.
    pub due: bool,
    pub attempts: i32,
    pub delivered: bool,
    pub error: Option<String>,
}

/// None where it does not go that way.
pub fn delivery(app: &App, id: i64, channel: &str) -> Option<Delivery> {
    let row = app.client().query_opt(
        "SELECT due_at IS NOT NULL, attempts, delivered_at IS NOT NULL, last_error
           FROM meetlink.deliveries WHERE notification_id = $1 AND channel = $2",
        &[&id, &channel],
    );
    row.expect("the deliveries").map(|row| Delivery {
        due: row.get(0),
        attempts: row.get(1),
        delivered: row.get(2),
        error: row.get(3),
    })
}

/// Waits until a delivery is as wanted.
#[track_caller]
pub fn wait_for_delivery(
    app: &App,
    id: i64,
    channel: &str,
    what: &str,
    fits: impl Fn(&Delivery) -> bool,
) -> Delivery {
    wait::until(SOON, what, || delivery(app, id, channel).filter(&fits))
}

/// A tutor who is not connected, with a session that waits for him, and what he is told.
#[track_caller]
pub fn parked(app: &App, name: &str) -> (Person, Uuid, Notice) {
    let tutor = app.person("tutor", name);
    let session = app.book(tutor, app.person("student", "Sam"));
    let what = format!("{name} to be told");
    let notice = wait_for(app, &what, |notice| notice.tutor == Some(tutor.0));
    (tutor, session, notice)
}

/// A session of a new tutor that its provider refuses for good.
#[track_caller]
pub fn refused(app: &App, name: &str) -> (Person, Uuid, Notice) {
    let tutor = app.tutor(Provider::Zoom, name);
    let rule = Rule::always(Provider::Zoom, Call::Create, Action::ZoomCannotSchedule);
    app.simulator.fault(rule.account(name));
    let session = app.book(tutor, app.person("student", "Sam"));
    let what = format!("{name} to be told");
    let notice = wait_for(app, &what, |notice| notice.session == Some(session));
    (tutor, session, notice)
}

/// A session with a link within this time, from a worker that goes on.
#[track_caller]
pub fn link_within(app: &App, tutor: Person, student: Person, limit: Duration) {
    let begun = std::time::Instant::now();
    app.wait_for_link(app.book(tutor, student));
    let took = begun.elapsed();
    assert!(took < limit, "a link took {took:?}");
}

/// A file of the server's own that nobody else may read.
pub fn private_file(app: &App, name: &str, contents: &str) -> String {
    let path = app.cluster.write_file(name, contents, 0o600);
    path.display().to_string()
}
