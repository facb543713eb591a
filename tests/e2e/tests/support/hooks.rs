//! An application that posts its notifications to a receiver.

#![allow(dead_code, reason = "each test program uses a part of it")]

use meetlink_e2e::ClusterOptions;
use meetlink_e2e::app::App;

use crate::notices::private_file;
use crate::webhook::Receiver;

/// A secret as the specification writes it.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Another.
pub const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Everything up, and notifications go to this receiver.
pub fn posting_to(receiver: &Receiver) -> App {
    posting(&receiver.url(), |options| options)
}

/// The same to any URL, with other settings.
pub fn posting(url: &str, change: impl FnOnce(ClusterOptions) -> ClusterOptions) -> App {
    let mut app = App::with(change);
    let file = private_file(&app, "webhook.secret", SECRET);
    app.cluster.reload_with(&[
        ("meetlink.webhook_secret_file", &file),
        ("meetlink.webhook_url", url),
    ]);
    wait_for_reload(&app);
    app
}

/// Returns when the worker has taken in the settings as they are now: a session that is booked after
/// the reload is handled with them.
pub fn wait_for_reload(app: &App) {
    let tutor = app.tutor(meetlink_simulator::Provider::Google, "Reloaded");
    app.wait_for_link(app.book(tutor, app.person("student", "Reloaded Student")));
}
