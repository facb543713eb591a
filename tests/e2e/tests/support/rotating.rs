//! What the tests of `meetlink_rotate_keys` and `meetlink_adopt_tokens` share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use meetlink_e2e::app::{App, KEY, Person};
use meetlink_simulator::Account;
use meetlink_simulator::Provider::{Google, Zoom};
use postgres::Client;
use uuid::Uuid;

use super::prov::stale_tutor;

/// A key that comes after the fixture's.
pub const NEW: (&str, &str) = (
    "k2",
    "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f",
);
pub const ROTATE: &str = "meetlink_rotate_keys";
pub const ADOPT: &str = "meetlink_adopt_tokens";

/// Reencrypted, remaining, unreadable.
pub type Counts = (i64, i64, i64);

/// One batch; what it says about `what`.
pub fn batch(client: &mut Client, function: &str, most: i32, what: &str) -> Counts {
    let query =
        format!("SELECT reencrypted, remaining, unreadable FROM {function}($1) WHERE what = $2");
    let row = client.query_one(&query, &[&most, &what]);
    let row = row.unwrap_or_else(|error| panic!("{function}: {error:?}"));
    (row.get(0), row.get(1), row.get(2))
}

pub fn connections(app: &App, function: &str, most: i32) -> Counts {
    batch(&mut app.client(), function, most, "connections")
}

/// How many connections have tokens that begin like this, both of them.
pub fn with_prefix(app: &App, prefix: &str) -> i64 {
    app.value(&format!(
        "SELECT count(*) FROM tutor_video_provider_connections
          WHERE starts_with(access_token_encrypted, '{prefix}')
            AND starts_with(refresh_token_encrypted, '{prefix}')"
    ))
}

pub fn tutors(app: &App, count: usize) -> Vec<(Person, Account)> {
    let of = |n| if n % 2 == 0 { Zoom } else { Google };
    let made = (0..count).map(|n| stale_tutor(app, of(n), &format!("Tutor {n}")));
    made.collect()
}

/// Puts another key file in place, in one step: the worker may read it at any moment.
pub fn put_keys(app: &App, keys: &[(&str, &str)]) {
    let lines: Vec<String> = keys
        .iter()
        .map(|(id, key)| format!("{id} {key}\n"))
        .collect();
    let aside = app
        .cluster
        .write_file("meetlink.keys.new", &lines.concat(), 0o600);
    std::fs::rename(&aside, app.cluster.base().join("meetlink.keys")).expect("the file is moved");
}

/// The new key comes first, and nobody reloads.
pub fn new_key_first(app: &App) {
    put_keys(app, &[NEW, KEY]);
}

/// Puts text in place of a tutor's tokens.
pub fn put(app: &App, tutor: Uuid, access: &str, refresh: &str) {
    let done = app.client().execute(
        "UPDATE tutor_video_provider_connections
            SET access_token_encrypted = $2, refresh_token_encrypted = $3 WHERE tutor_id = $1",
        &[&tutor, &access, &refresh],
    );
    assert_eq!(done.expect("an update"), 1);
}
