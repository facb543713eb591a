//! Where a publication takes in every table: logical replication, Debezium, a managed copy.

use meetlink_e2e::app::{App, DATABASE};
use meetlink_simulator::{AccountSpec, Action, Call, Provider, RateLimit, Rule};

/// PostgreSQL forbids to change or delete rows of a published table that nothing identifies.
#[test]
fn a_publication_for_all_tables_stops_nothing() {
    let app = App::with(|options| options.set("wal_level", "logical"));
    let publication = "CREATE PUBLICATION everything FOR ALL TABLES";
    app.cluster.psql(DATABASE, publication);
    let student = app.person("student", "Sam");
    let tutor = app.tutor(Provider::Zoom, "Zoe");
    app.wait_for_link(app.book(tutor, student));

    let form = RateLimit::ZoomDaily;
    let limit = Rule::always(Provider::Zoom, Call::Create, Action::RateLimit { form });
    app.simulator.fault(limit);
    let session = app.book(tutor, student);
    app.wait_until(
        "the tutor to be held",
        "SELECT EXISTS (SELECT FROM meetlink.holds WHERE tutor_id IS NOT NULL)",
    );
    app.simulator.clear_faults();
    // Another connection has limits of its own.
    app.connect(tutor, Provider::Zoom, AccountSpec::named("Zora"));
    app.wait_for_link(session);
    app.wait_until(
        "nobody to be held",
        "SELECT NOT EXISTS (SELECT FROM meetlink.holds)",
    );
    app.cluster.psql(DATABASE, "SELECT meetlink_detach()");
}

/// What is not published with its rows' identity cannot be changed: no table of ours is without.
#[test]
fn every_table_of_ours_identifies_its_rows() {
    let app = App::start();
    let without: Option<String> = app.value(
        "SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
          WHERE c.relnamespace = 'meetlink'::regnamespace AND c.relkind = 'r'
            AND c.relreplident = 'd'
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    );
    assert_eq!(without, None);
}

/// Cutting off a table's end takes a lock that standbys replay: there it waits for whoever reads, or
/// ends what reads.
#[test]
fn a_vacuum_of_the_inbox_takes_no_lock_that_standbys_replay() {
    let app = App::start();
    let (tutor, student) = (
        app.tutor(Provider::Google, "Gia"),
        app.person("student", "Sam"),
    );
    app.wait_for_link(app.book(tutor, student));
    let size = || -> i64 { app.value("SELECT pg_relation_size('meetlink.inbox')") };
    assert!(size() > 0);
    app.client().batch_execute("VACUUM meetlink.inbox").unwrap();
    assert!(size() > 0, "it was cut off");
}
