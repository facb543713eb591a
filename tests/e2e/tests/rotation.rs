//! Stored tokens that are encrypted anew, batch by batch, until nothing remains.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/prov.rs"]
mod prov;
#[path = "support/rotating.rs"]
mod rotating;

use applications::{GCM_HEX, OWN_KEY, PASSPHRASE, app_with_key, attach, stored};
use meetlink_e2e::app::{App, DATABASE, KEY, Person};
use meetlink_simulator::AccountSpec;
use meetlink_simulator::Provider::{Google, Zoom};
use rotating::{
    ADOPT, NEW, ROTATE, batch, connections, new_key_first, put, put_keys, tutors, with_prefix,
};
use uuid::Uuid;

#[test]
fn batches_are_as_large_as_asked_for_until_nothing_remains() {
    let app = App::start();
    let people = tutors(&app, 7);
    assert_eq!(connections(&app, ROTATE, 3), (0, 0, 0), "all is new");
    new_key_first(&app);
    let mut client = app.client();
    let rows = client.query("SELECT * FROM meetlink_rotate_keys(3)", &[]);
    let rows: Vec<(String, i64, i64, i64)> = rows
        .expect("it rotates")
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    assert_eq!(
        rows,
        [
            ("connections".to_owned(), 3, 4, 0),
            ("client secrets".to_owned(), 2, 0, 0)
        ]
    );
    assert_eq!(with_prefix(&app, "ml1.k2."), 3);
    assert_eq!(with_prefix(&app, "ml1.k1."), 4);
    assert_eq!(connections(&app, ROTATE, 3), (3, 1, 0));
    assert_eq!(connections(&app, ROTATE, 3), (1, 0, 0));
    assert_eq!(connections(&app, ROTATE, 3), (0, 0, 0));
    let secrets =
        "SELECT bool_and(client_secret_encrypted LIKE 'ml1.k2.%') FROM meetlink.providers";
    assert!(app.value::<bool>(secrets));

    // Nothing needs the old key any more, the client secrets included.
    let mut app = app;
    put_keys(&app, &[NEW]);
    app.cluster.reload();
    for (tutor, account) in people {
        app.wait_for_link(app.book(tutor, app.person("student", "Sam")));
        let uses = app.simulator.token_use(&account);
        assert_eq!((uses.refreshes, uses.killed_token_used), (1, 0));
    }
}

#[test]
fn a_thousand_rows_are_a_batch_unless_more_are_asked_for() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    app.cluster.psql(
        DATABASE,
        "INSERT INTO profiles (role) SELECT 'tutor' FROM generate_series(1, 1230);
         SELECT meetlink_connect(id, 'zoom', 'refresh', 'access') FROM profiles",
    );
    new_key_first(&app);
    let mut client = app.client();
    let mut default = || -> (i64, i64) {
        let query = "SELECT reencrypted, remaining FROM meetlink_rotate_keys() LIMIT 1";
        let row = client.query_one(query, &[]).expect("it rotates");
        (row.get(0), row.get(1))
    };
    assert_eq!(default(), (1_000, 230));
    assert_eq!(default(), (230, 0));
    assert_eq!(with_prefix(&app, "ml1.k2."), 1_230);
    put_keys(&app, &[KEY, NEW]);
    assert_eq!(connections(&app, ROTATE, 5_000), (1_230, 0, 0));
}

/// A tutor with a connection at each provider: a batch may end between the two.
#[test]
fn a_batch_may_end_between_two_connections_of_one_tutor() {
    let app = App::unattached(meetlink_simulator::Options::default(), |options| options);
    app.cluster.psql(
        DATABASE,
        "ALTER TABLE tutor_video_provider_connections
           DROP CONSTRAINT tutor_video_provider_connections_tutor_id_key,
           ADD UNIQUE (tutor_id, provider)",
    );
    app.attach();
    let tutor = app.person("tutor", "Ann");
    for of in [Google, Zoom] {
        app.connect(tutor, of, AccountSpec::named("Ann"));
    }
    new_key_first(&app);
    assert_eq!(connections(&app, ROTATE, 1), (1, 1, 0));
    assert_eq!(connections(&app, ROTATE, 1), (1, 0, 0));
    assert_eq!(with_prefix(&app, "ml1.k2."), 2);
}

/// What does not open where it lies must not be made to: a rotation that encrypted it anew would
/// make a stolen row a good one.
#[test]
fn what_does_not_open_is_counted_left_alone_and_in_nobodys_way() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let mut people: Vec<Uuid> = tutors(&app, 9).iter().map(|(tutor, _)| tutor.0).collect();
    // The order in which they are gone through: the bad ones first.
    people.sort_unstable();
    let of = |tutor: Uuid| stored(&app, Person(tutor));
    let [access, refresh] = of(people[8]);
    let flip = |text: &str| {
        let (head, tail) = text.split_at(text.len() - 6);
        let first = if tail.starts_with('A') { 'B' } else { 'A' };
        format!("{head}{first}{}", &tail[1..])
    };
    put(&app, people[0], &access, &refresh);
    let own = of(people[1]);
    put(&app, people[1], &own[1], &own[0]);
    let own = of(people[2]);
    put(&app, people[2], &flip(&own[0]), &flip(&own[1]));
    put(&app, people[3], "ml1.gone.AAAA.AAAA", "ml1.");
    let exchange = "UPDATE tutor_video_provider_connections SET provider =
                      CASE provider WHEN 'zoom' THEN 'google_meet' ELSE 'zoom' END
                     WHERE tutor_id = $1";
    app.client()
        .execute(exchange, &[&people[4]])
        .expect("an update");
    // Half of it opens: that half is encrypted anew, once.
    let own = of(people[5]);
    put(&app, people[5], &access, &own[1]);
    // Nothing to do with keys, and left to those who know what it is.
    put(&app, people[6], "of the application", "");

    let before: Vec<_> = people[..5].iter().map(|tutor| of(*tutor)).collect();
    new_key_first(&app);
    assert_eq!(connections(&app, ROTATE, 1).0, 1);
    assert_eq!(connections(&app, ROTATE, 1).0, 1);
    assert_eq!(connections(&app, ROTATE, 1), (1, 0, 6));
    assert_eq!(
        connections(&app, ROTATE, 1),
        (0, 0, 6),
        "it comes to an end"
    );
    assert_eq!(connections(&app, ROTATE, 1_000), (0, 0, 6));

    let after: Vec<_> = people[..5].iter().map(|tutor| of(*tutor)).collect();
    assert_eq!(after, before);
    let half = of(people[5]);
    assert!(half[0] == access && half[1].starts_with("ml1.k2."));
    assert_eq!(of(people[6]), ["of the application", ""]);
    assert_eq!(with_prefix(&app, "ml1.k2."), 2);
}

#[test]
fn a_client_secret_that_does_not_open_is_counted_and_left() {
    let app = App::start();
    let foreign = "UPDATE meetlink.providers SET client_secret_encrypted =
                     (SELECT client_secret_encrypted FROM meetlink.providers WHERE provider = 'zoom')
                    WHERE provider = 'google_meet'";
    app.cluster.psql(DATABASE, foreign);
    new_key_first(&app);
    let mut client = app.client();
    assert_eq!(batch(&mut client, ROTATE, 9, "client secrets"), (1, 0, 1));
    assert_eq!(batch(&mut client, ROTATE, 9, "client secrets"), (0, 0, 1));
}

#[test]
fn a_locked_row_is_passed_over_and_still_remains() {
    let app = app_with_key(PASSPHRASE);
    let people = tutors(&app, 4);
    attach(&app, &GCM_HEX.options());
    let own = tutors(&app, 4);
    for (function, person, prefix) in [(ROTATE, people[1].0, "ml1.k2."), (ADOPT, own[2].0, "ml1.")]
    {
        put_keys(&app, &[NEW, KEY, (OWN_KEY, PASSPHRASE)]);
        let mut client = app.client();
        client
            .batch_execute("SET statement_timeout = '10s'")
            .expect("it does not wait");
        let mut somebody = app.client();
        let mut transaction = somebody.transaction().expect("a transaction");
        let lock = "SELECT FROM tutor_video_provider_connections WHERE tutor_id = $1 FOR UPDATE";
        transaction.execute(lock, &[&person.0]).expect("a lock");
        for round in 0..2 {
            let done = if round == 0 { 3 } else { 0 };
            let counts = batch(&mut client, function, 100, "connections");
            assert_eq!(counts, (done, 1, 0), "{function}");
        }
        transaction.rollback().expect("the row is free");
        assert_eq!(
            batch(&mut client, function, 100, "connections"),
            (1, 0, 0),
            "{function}"
        );
        assert!(
            stored(&app, person)
                .iter()
                .all(|text| text.starts_with(prefix))
        );
    }
}

#[test]
fn two_who_rotate_at_once_share_the_work() {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    app.cluster.psql(
        DATABASE,
        "INSERT INTO profiles (role) SELECT 'tutor' FROM generate_series(1, 60);
         SELECT meetlink_connect(id, 'zoom', 'refresh', 'access') FROM profiles",
    );
    new_key_first(&app);
    let rotate = || {
        let mut client = app.client();
        let mut done = 0;
        loop {
            let (reencrypted, remaining, unreadable) = batch(&mut client, ROTATE, 3, "connections");
            assert_eq!(unreadable, 0);
            done += reencrypted;
            if remaining == 0 {
                return done;
            }
        }
    };
    let done = std::thread::scope(|scope| {
        let other = scope.spawn(rotate);
        rotate() + other.join().expect("the other one")
    });
    assert_eq!(done, 60);
}

/// A rotation of five rows, with a rule of the application's own against the first of them.
fn rotate_against(rule: &str) {
    let app = App::with(|options| options.set("meetlink.enabled", "off"));
    let mut people: Vec<Uuid> = tutors(&app, 5).iter().map(|(tutor, _)| tutor.0).collect();
    people.sort_unstable();
    new_key_first(&app);
    app.cluster.psql(
        DATABASE,
        &format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               IF NEW.tutor_id = '{}' THEN {rule}; END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE UPDATE
               ON tutor_video_provider_connections FOR EACH ROW EXECUTE FUNCTION refuse()",
            people[0]
        ),
    );
    for _ in 0..5 {
        let done = connections(&app, ROTATE, 1).0;
        assert!(done <= 1);
    }
    assert_eq!(with_prefix(&app, "ml1.k2."), 4);
    assert_eq!(stored(&app, Person(people[0]))[0].get(..7), Some("ml1.k1."));
}

#[test]
fn a_row_whose_change_the_application_drops_is_in_nobodys_way() {
    rotate_against("RETURN NULL");
}

#[test]
fn a_row_whose_change_the_application_refuses_is_in_nobodys_way() {
    rotate_against("RAISE 'not this one'");
}
