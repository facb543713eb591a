//! Standbys that follow over the Unix socket, and failing over to them.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::{Duration, Instant};

use meetlink_e2e::app::{App, SOON, options_for};
use meetlink_e2e::{Cluster, wait};
use meetlink_simulator::{Call, Entry, Meeting, Provider};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

/// How soon a promoted server must have made the link of a new session. About a second is
/// promised; the machine may be busy.
pub const AT_ONCE: Duration = Duration::from_secs(3);

/// A standby of the application's server that streams, started.
pub fn standby_of(app: &App) -> Cluster {
    let source = format!(
        "host={} port={} user=postgres",
        app.cluster.socket_dir().display(),
        Cluster::PORT
    );
    let options = options_for(&app.simulator)
        .set("primary_conninfo", &source)
        .set("wal_retrieve_retry_interval", "100ms");
    let mut standby = Cluster::base_backup(&app.cluster, options);
    standby.write_signal_file("standby.signal");
    standby.start_again();
    standby
}

/// Waits until a standby has replayed all that the application's server has done so far: what was
/// committed lazily is flushed by the commit of this message.
pub fn catch_up(app: &App, standby: &Cluster) {
    let position = app
        .cluster
        .psql("postgres", "SELECT pg_logical_emit_message(true, '', '')");
    let query = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
    wait::until_true(SOON, "the standby to catch up", || {
        standby.psql("postgres", &query) == "t"
    });
}

/// Cuts a standby off: from here on it gets nothing.
pub fn cut_off(standby: &mut Cluster) {
    standby.unset("primary_conninfo");
    wait::until_true(SOON, "the stream to end", || {
        let query = "SELECT count(*) FROM pg_stat_wal_receiver";
        standby.psql("postgres", query) == "0"
    });
}

/// The application's server dies, and the standby takes its place; gives the moment when it was
/// promoted.
pub fn fail_over(app: &mut App, standby: Cluster) -> Instant {
    app.cluster.crash();
    take_over(app, standby)
}

/// The same for a server that is dead already.
pub fn take_over(app: &mut App, standby: Cluster) -> Instant {
    app.cluster = standby;
    let promoted = app.cluster.psql("postgres", "SELECT pg_promote(true, 30)");
    assert_eq!(promoted, "t", "the standby is promoted");
    Instant::now()
}

/// What the application's own list of processes says about meetlink.
pub fn processes(cluster: &Cluster) -> String {
    cluster.psql(
        "postgres",
        "SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'meetlink%' ORDER BY 1",
    )
}

/// The calls of a provider after its token endpoint, in order.
pub fn calls(app: &App, provider: Provider) -> Vec<Call> {
    let entries = app.simulator.calls(provider, Call::Any).into_iter();
    entries
        .map(|entry: Entry| entry.call)
        .filter(|call| *call != Call::Token)
        .collect()
}

/// Waits for a session's link, and wants it to be that of the only meeting that the provider ever
/// made.
#[track_caller]
pub fn assert_only_meeting(app: &App, provider: Provider, session: Uuid) -> Meeting {
    let link = app.wait_for_link(session);
    let meetings = app.simulator.meetings_ever(provider);
    assert_eq!(
        meetings.len(),
        1,
        "{provider:?}: no second meeting: {:?}",
        calls(app, provider)
    );
    assert_eq!(meetings[0].join_url.as_deref(), Some(link.as_str()));
    assert!(!meetings[0].deleted);
    meetings[0].clone()
}

/// Stops a process from running, until [`thaw`].
pub fn freeze(pid: i32) {
    send(pid, Signal::STOP);
}

/// Lets a process run on.
pub fn thaw(pid: i32) {
    send(pid, Signal::CONT);
}

fn send(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid");
    kill_process(pid, signal).expect("the process is there");
}
