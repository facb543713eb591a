//! Asking `meetlink_status` as one person or another.

#![allow(dead_code, reason = "each test program uses a part of it")]

use meetlink_e2e::app::{App, Person};
use serde_json::Value;
use uuid::Uuid;

/// What a student reads while the tutor has something to do.
pub const SETTING_UP: &str = "Your tutor is setting up the meeting room.";

/// Waits that outlast a test: a session stays in its state while both look at it.
pub fn start() -> App {
    let app = App::with(|options| {
        options
            .set("meetlink.backoff_base", "1min")
            .set("meetlink.backoff_max", "15min")
            .set("meetlink.settle_time", "10min")
    });
    grant(&app);
    app
}

/// README's grant for the form with a viewer.
pub fn grant(app: &App) {
    app.client()
        .batch_execute("GRANT EXECUTE ON FUNCTION meetlink_status(uuid, text) TO authenticated")
        .expect("the grant");
}

/// Tutor and student of a session.
pub struct People {
    pub tutor: Person,
    pub student: Person,
}

/// Message and kind of the action.
pub fn words(status: &Value) -> (String, String) {
    let kind = status["action"]["kind"].as_str().unwrap_or("").to_owned();
    let message = status["message"].as_str().expect("a message").to_owned();
    (message, kind)
}

/// `meetlink_status` after `before` (the role and settings of whoever asks); `viewer` if given.
pub fn ask(
    app: &App,
    session: Uuid,
    before: &str,
    viewer: Option<&str>,
) -> Result<Value, postgres::Error> {
    let mut client = app.client();
    let mut transaction = client.transaction().expect("a transaction");
    transaction.batch_execute(before).expect("the settings");
    let row = match viewer {
        Some(viewer) => {
            transaction.query_one("SELECT meetlink_status($1, $2)", &[&session, &viewer])
        }
        None => transaction.query_one("SELECT meetlink_status($1)", &[&session]),
    };
    row.map(|row| row.get(0))
}

/// Makes the rest of a transaction a person's.
pub fn claim(person: Person) -> String {
    format!(
        "SET LOCAL ROLE authenticated; SET LOCAL request.jwt.claim.sub = '{}'",
        person.0
    )
}
