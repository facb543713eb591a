//! Attaching while the application is at work: neither gets into the other's way.

#[path = "support/life.rs"]
mod life;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use meetlink_e2e::app::{App, Person};
use meetlink_e2e::wait;
use meetlink_simulator::Options;
use meetlink_simulator::Provider::{Google, Zoom};
use postgres::error::SqlState;

/// Tutors of both providers, and their student.
fn people(app: &App) -> [(Person, Person); 2] {
    let student = app.person("student", "Sam");
    [(Google, "Gia"), (Zoom, "Zoe")].map(|(provider, name)| (app.tutor(provider, name), student))
}

/// Confirms bookings from four connections while `meanwhile` runs; gives how many.
fn book_while(app: &App, people: [(Person, Person); 2], meanwhile: impl FnOnce()) -> i64 {
    let (stop, booked) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut client = app.client();
            let (tutor, student) = people[thread % 2];
            let (stop, booked) = (&stop, &booked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut transaction = client.transaction().unwrap();
                    app.act_as(&mut transaction, tutor);
                    transaction
                        .execute(
                            "INSERT INTO bookings (tutor_id, student_id, status,
                                                   confirmed_start_at, confirmed_end_at)
                             VALUES ($1, $2, 'CONFIRMED', now() + interval '1 h',
                                     now() + interval '2 h')",
                            &[&tutor.0, &student.0],
                        )
                        .expect("a booking is never refused");
                    transaction.commit().unwrap();
                    booked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Ends the threads also when it panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        meanwhile();
    });
    booked.load(Ordering::Relaxed)
}

fn everybody_gets_a_link(app: &App, booked: i64) {
    let sessions: i64 = app.value("SELECT count(*) FROM sessions");
    assert_eq!(sessions, booked, "a booking lost its session");
    life::wait_for_links(app, booked, Duration::from_secs(60));
    let made = app.simulator.meetings_ever(Google).len() + app.simulator.meetings_ever(Zoom).len();
    assert_eq!(i64::try_from(made).unwrap(), booked);
}

#[test]
fn attaching_again_under_load_costs_no_booking_and_no_link() {
    let app = App::start();
    let booked = book_while(&app, people(&app), || {
        let mut client = app.client();
        for turn in 0..15 {
            client
                .batch_execute("SELECT meetlink_attach()")
                .unwrap_or_else(|error| panic!("attaching for the {turn}. time: {error:?}"));
        }
    });
    println!("{booked} bookings while meetlink was attached 15 times");
    everybody_gets_a_link(&app, booked);
    let log = app.cluster.log();
    assert!(!log.contains("deadlock detected"), "{log}");
}

#[test]
fn detaching_and_dropping_the_extension_under_load_cost_no_booking() {
    let app = App::start();
    let booked = book_while(&app, people(&app), || {
        let mut client = app.client();
        for turn in 0..8 {
            for verb in ["detach", "attach"] {
                client
                    .batch_execute(&format!("SELECT meetlink_{verb}()"))
                    .unwrap_or_else(|error| panic!("{verb} for the {turn}. time: {error:?}"));
            }
        }
        client.batch_execute("SELECT meetlink_detach()").unwrap();
        // It may meet the worker's last results; what must not be is a booking that pays for it.
        let dropped = (0..3).any(|_| match client.batch_execute("DROP EXTENSION meetlink") {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED));
                false
            }
        });
        assert!(dropped);
    });
    let sessions: i64 = app.value("SELECT count(*) FROM sessions");
    assert_eq!(sessions, booked, "a booking lost its session");
}

#[test]
fn slow_commits_do_not_keep_detach_and_attach_from_their_locks() {
    // Every commit holds its locks for longer than a first try waits.
    let app = App::with(|options| {
        options
            .set("commit_delay", "100000")
            .set("commit_siblings", "0")
    });
    let booked = book_while(&app, people(&app), || {
        let mut client = app.client();
        for verb in ["detach", "attach", "detach", "attach"] {
            client
                .batch_execute(&format!("SELECT meetlink_{verb}()"))
                .unwrap_or_else(|error| panic!("{verb}: {error:?}"));
        }
    });
    let sessions: i64 = app.value("SELECT count(*) FROM sessions");
    assert_eq!(sessions, booked, "a booking lost its session");
}

#[test]
fn the_first_attach_and_the_extension_itself_may_come_under_load() {
    let app = App::unattached(Options::default(), |options| options);
    let student = app.person("student", "Sam");
    let tutors = [app.person("tutor", "Gia"), app.person("tutor", "Zoe")];
    let people = tutors.map(|tutor| (tutor, student));
    let booked = book_while(&app, people, || {
        app.attach();
        for (tutor, provider) in tutors.into_iter().zip([Google, Zoom]) {
            let name = format!("{provider:?}");
            app.connect(
                tutor,
                provider,
                meetlink_simulator::AccountSpec::named(name),
            );
        }
    });
    app.client()
        .batch_execute("SELECT meetlink_create_missing()")
        .unwrap();
    everybody_gets_a_link(&app, booked);
}

/// Who cancels a large statement is not to wait until all of it is queued.
#[test]
fn a_large_statement_can_be_cancelled_while_it_is_queued() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let people = (app.tutor(Google, "Tia"), app.person("student", "Sam"));
    let mut booking = app.client();
    let (cancel, size) = (booking.cancel_token(), "pg_relation_size('meetlink.inbox')");
    let before: i64 = app.value(&format!("SELECT {size}"));
    let rows = 300_000;
    let inserting = std::thread::spawn(move || {
        booking
            .execute(
                "WITH b AS (INSERT INTO bookings (tutor_id, student_id)
                            SELECT $1, $2 FROM generate_series(1, $3) RETURNING id)
                 INSERT INTO sessions (booking_id, tutor_id, student_id, provider,
                        scheduled_start_at, scheduled_end_at, duration_minutes)
                 SELECT id, $1, $2, 'google_meet', now(), now() + interval '1 h', 60 FROM b",
                &[&people.0.0, &people.1.0, &rows],
            )
            .expect_err("it is cancelled")
    });
    let mut client = app.client();
    let size = client.prepare(&format!("SELECT {size}")).unwrap();
    wait::until_true(Duration::from_secs(120), "the queueing", || {
        client.query_one(&size, &[]).unwrap().get::<_, i64>(0) > before
    });
    cancel
        .cancel_query(postgres::NoTls)
        .expect("a cancel request");
    let error = inserting.join().expect("no panic");
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
    // A row takes 56 bytes at least.
    let after: i64 = client.query_one(&size, &[]).unwrap().get(0);
    assert!(
        after < i64::from(rows) * 56 / 2,
        "{after} bytes were written"
    );
}
