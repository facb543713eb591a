//! Tokens are encrypted anew while bookings go on: nobody waits, nobody is set going.

#[path = "support/applications.rs"]
mod applications;
#[path = "support/prov.rs"]
mod prov;
#[path = "support/rotating.rs"]
mod rotating;

use std::sync::atomic::{AtomicBool, Ordering};

use applications::{
    Application, CBC_HEX, GCM_BASE64, GCM_HEX, ML1, OWN_KEY, PASSPHRASE, app_with_key, attach,
    expire_all, stored,
};
use meetlink_e2e::app::{App, KEY, Person, SOON};
use meetlink_e2e::wait;
use meetlink_simulator::Account;
use meetlink_simulator::Provider::{Google, Zoom};
use prov::{connection_status, ledger, stale_tutor};
use rotating::{
    ADOPT, NEW, ROTATE, connections, new_key_first, put, put_keys, tutors, with_prefix,
};
use uuid::Uuid;

/// Books for everybody, round after round, while `meanwhile` runs and once more after it; gives the
/// sessions.
fn booking_while(
    app: &App,
    people: &[(Person, Account)],
    student: Person,
    meanwhile: impl FnOnce(),
) -> Vec<Uuid> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let booking = scope.spawn(|| {
            let mut sessions = Vec::new();
            loop {
                let last_round = over.load(Ordering::Relaxed);
                let round = people.iter().map(|(tutor, _)| app.book(*tutor, student));
                sessions.extend(round);
                if last_round {
                    return sessions;
                }
            }
        });
        meanwhile();
        over.store(true, Ordering::Relaxed);
        booking.join().expect("bookings")
    })
}

fn asked_somebody(app: &App, session: Uuid) -> bool {
    let mut attempts = ledger(app, session).into_iter();
    attempts.any(|attempt| attempt.class.ends_with("must_act"))
}

/// All get their links, no attempt asks anybody to do anything, and no dead token is offered.
#[track_caller]
fn assert_served(app: &App, people: &[(Person, Account)], sessions: Vec<Uuid>) {
    for session in sessions {
        let what = format!("the end of session {session}");
        wait::until_true(SOON, &what, || {
            let ended =
                ["ready", "needs_action"].map(|state| app.status(session)["state"] == state);
            ended.contains(&true) || asked_somebody(app, session)
        });
        let (status, attempts) = (app.status(session), ledger(app, session));
        assert!(!asked_somebody(app, session), "{status}: {attempts:?}");
        assert_eq!(status["state"], "ready", "{status}: {attempts:?}");
    }
    for (tutor, account) in people {
        assert_eq!(connection_status(app, *tutor), "connected");
        assert_eq!(app.simulator.token_use(account).killed_token_used, 0);
    }
}

/// Everything at once, as an operator does it on a busy day.
#[test]
fn bookings_made_all_through_a_rotation_get_their_links() {
    let mut app = App::with(|options| options.set("meetlink.backoff_max", "15min"));
    let student = app.person("student", "Sam");
    let people = tutors(&app, 12);
    let (gone, account) = stale_tutor(&app, Zoom, "Gone");
    app.simulator.revoke(&account);
    let nobody = app.person("tutor", "Nobody");
    let parked = [app.book(gone, student), app.book(nobody, student)];
    let job = |session: Uuid| -> String {
        app.value(&format!(
            "SELECT j::text FROM meetlink.jobs j WHERE session_id = '{session}'"
        ))
    };
    let waiting = parked.map(|session| {
        app.wait_for_state(session, "needs_action");
        job(session)
    });

    new_key_first(&app);
    let sessions = booking_while(&app, &people, student, || {
        let mut batches = 0;
        while connections(&app, ROTATE, 1).1 > 0 {
            batches += 1;
            // Each access token is renewed again and again meanwhile.
            expire_all(&app);
        }
        assert!(batches >= 4, "{batches}");
    });
    let count = sessions.len();
    assert_served(&app, &people, sessions);
    let made = [Google, Zoom].map(|of| app.simulator.meetings_ever(of).len());
    assert_eq!(made.iter().sum::<usize>(), count);
    assert_eq!(parked.map(job), waiting, "nobody was set going");

    // A refresh may have brought a last envelope of the old key: once more, and it can go.
    while connections(&app, ROTATE, 100).1 > 0 {}
    put_keys(&app, &[NEW]);
    app.cluster.reload();
    expire_all(&app);
    for (tutor, account) in &people {
        app.wait_for_link(app.book(*tutor, student));
        assert_eq!(app.simulator.token_use(account).killed_token_used, 0);
    }
}

/// The worker meets the first envelope of a new key in the instant when it is committed, and must
/// have the key by then.
#[test]
fn a_new_key_is_known_in_time_however_often_one_comes() {
    let app = App::with(|options| options.set("meetlink.backoff_max", "15min"));
    let student = app.person("student", "Sam");
    let people = tutors(&app, 4);
    let names: Vec<String> = (2..=16).rev().map(|n| format!("k{n}")).collect();
    let secrets: Vec<String> = (2..=16).rev().map(|n| format!("{n:064x}")).collect();
    let keys: Vec<(&str, &str)> = names
        .iter()
        .zip(&secrets)
        .map(|(name, secret)| (name.as_str(), secret.as_str()))
        .chain([KEY])
        .collect();
    let sessions = booking_while(&app, &people, student, || {
        for newest in (0..keys.len() - 1).rev() {
            put_keys(&app, &keys[newest..]);
            while connections(&app, ROTATE, 100).1 > 0 {}
            expire_all(&app);
        }
    });
    assert_served(&app, &people, sessions);
}

#[test]
fn no_job_is_queued_by_a_rotation_or_an_adoption() {
    let app = app_with_key(PASSPHRASE);
    tutors(&app, 3);
    attach(&app, &CBC_HEX.options());
    tutors(&app, 3);
    put_keys(&app, &[NEW, KEY, (OWN_KEY, PASSPHRASE)]);
    app.wait_until(
        "an empty inbox",
        "SELECT NOT EXISTS (SELECT FROM meetlink.inbox)",
    );
    let mut client = app.client();
    let queued = |transaction: &mut postgres::Transaction<'_>| -> i64 {
        let row = transaction.query_one("SELECT count(*) FROM meetlink.inbox", &[]);
        row.expect("the inbox").get(0)
    };
    for function in [ROTATE, ADOPT] {
        let mut transaction = client.transaction().expect("a transaction");
        let query = format!("SELECT reencrypted FROM {function}() LIMIT 1");
        let row = transaction.query_one(&query, &[]).expect(function);
        assert_eq!(row.get::<_, i64>(0), 3);
        assert_eq!(queued(&mut transaction), 0, "{function}");
        // The same process notices others' writes again.
        let by_hand = "UPDATE tutor_video_provider_connections SET refresh_token_encrypted = 'x'";
        transaction.execute(by_hand, &[]).expect("an update");
        assert_eq!(queued(&mut transaction), 6, "{function}");
        transaction.rollback().expect("as it was");
    }
}

/// Adopted by batches while sessions come; what cannot be read stays as it is.
#[test]
fn tokens_are_adopted_while_bookings_go_on() {
    for form in [GCM_HEX, GCM_BASE64, CBC_HEX] {
        let mut app = app_with_key(PASSPHRASE);
        let student = app.person("student", "Sam");
        // A passphrase encrypts no envelope, wherever it stands.
        put_keys(&app, &[(OWN_KEY, PASSPHRASE), KEY]);
        attach(&app, &form.options());
        let programs = Application::all(&app);
        let mut people: Vec<Person> = Vec::new();
        for program in &programs {
            for of in [Google, Zoom] {
                let name = format!("{} {of:?}", program.language);
                people.push(program.stale_tutor(&app, form, of, &name));
            }
        }
        people.extend(tutors(&app, 4).into_iter().map(|(tutor, _)| tutor));
        let bad = app.tutor(Zoom, "Bad");
        put(&app, bad.0, "not encrypted", "at all");
        let count = i64::try_from(people.len()).expect("a few");

        let mut adopted = 0;
        let mut sessions = Vec::new();
        loop {
            sessions.extend(people.iter().map(|tutor| app.book(*tutor, student)));
            let (done, remaining, unreadable) = connections(&app, ADOPT, 2);
            assert!(done <= 2 && unreadable <= 1);
            adopted += done;
            expire_all(&app);
            if remaining == 0 {
                break;
            }
        }
        assert_eq!(adopted, count);
        assert_eq!(connections(&app, ADOPT, 2), (0, 0, 1));
        assert_eq!(with_prefix(&app, "ml1.k1."), count);
        assert_eq!(stored(&app, bad), ["not encrypted", "at all"]);

        attach(&app, &ML1.options());
        put_keys(&app, &[KEY]);
        app.cluster.reload();
        expire_all(&app);
        sessions.extend(people.iter().map(|tutor| app.book(*tutor, student)));
        for session in sessions {
            app.wait_for_link(session);
        }
        for of in [Google, Zoom] {
            assert_eq!(app.simulator.total_token_use(of).killed_token_used, 0);
        }
        for tutor in people {
            assert_eq!(connection_status(&app, tutor), "connected");
        }
    }
}
